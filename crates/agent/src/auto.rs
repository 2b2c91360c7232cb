//! The policy that may be left on: heals in troughs, gives up what does not last, and counts what it costs.
//!
//! Owns when. A heal is due when pools of pymalloc lie free, or what malloc has in use has fallen since its last peak,
//! and use no longer moves; it does not come again before the program has used more, and less, once more. Where what a heal gave
//! back was faulted in again, the next one waits, each time twice as long. Its own processor time, looks included, stays
//! under a hundredth.

use std::time::{Duration, Instant};

use crate::heal::{Healed, Level, Order, cpu, heal};
use crate::pages::OS_PAGE;
use crate::python::Attachment;

/// What the policy was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Auto {
    /// How often it looks.
    pub(crate) every: Duration,
    /// Longest time that the GIL is held.
    pub(crate) slice: Duration,
    /// A line on stderr for each heal.
    pub(crate) log: bool,
    /// Heals at every look, whatever the trough: for tests and for those who know better.
    pub(crate) always: bool,
}

/// At most this part of one processor's time.
const SHARE: f64 = 0.01;
/// Use has fallen when it is at most this part of its peak since the last heal; of pymalloc's pools, of those that were
/// ever used.
const TROUGH: f64 = 0.75;
/// Use that moved by less than this between two looks is at rest.
const REST: f64 = 0.02;
/// So many looks in a row at rest are a trough.
const CALM: u32 = 3;
/// So many bytes must be free since the peak.
const WORTH: u64 = 8 << 20;
/// Of what was given back, more than this in RSS again at the next looks: it was wanted.
const REFAULTED: f64 = 0.5;
/// How long nothing is done then, in looks; twice as long each time that follows.
const FIRST_WAIT: u32 = 30;
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Use of one allocator, over time.
#[derive(Default)]
struct Use {
    now: u64,
    /// Since the last heal.
    peak: u64,
    calm: u32,
}

impl Use {
    fn look(&mut self, used: u64) {
        let rest = used.abs_diff(self.now) as f64 <= REST * used.max(1) as f64;
        self.calm = if rest { self.calm + 1 } else { 0 };
        self.now = used;
        self.peak = self.peak.max(used);
    }

    /// It has fallen, and no longer moves.
    fn is_trough(&self) -> bool {
        self.calm >= CALM
            && self.now as f64 <= TROUGH * self.peak as f64
            && self.peak - self.now >= WORTH
    }
}

/// What it remembers.
#[derive(Default)]
pub(crate) struct State {
    looked: Option<Instant>,
    pymalloc: Use,
    malloc: Use,
    /// Bytes of free pools that the last heal had to leave: a fork shares them, or they serve the next requests.
    left: u64,
    /// Processor time that looks and heals have used, in milliseconds, and since when.
    used_ms: f64,
    since: Option<Instant>,
    not_before: Option<Instant>,
    wait: Duration,
    /// What the last heal gave back, RSS behind it, and when.
    last: Option<(u64, u64, Instant)>,
}

impl State {
    /// Looks, and heals if it is due.
    pub(crate) fn tick(&mut self, policy: &Auto, attachment: &Attachment, stop: &dyn Fn() -> bool) {
        let now = Instant::now();
        if self.looked.is_some_and(|at| now - at < policy.every) {
            return;
        }
        self.looked = Some(now);
        let begun = cpu();
        let since = *self.since.get_or_insert(now);
        let Some(rss) = resident() else { return };
        self.judge(now, rss, policy);
        let due = policy.always || self.is_due(now, since, attachment);
        if due && !stop() {
            let order = Order { level: Level::Purge, collect: false, slice: policy.slice };
            match heal(order, attachment, stop) {
                Ok(healed) => {
                    self.left = crate::heal::pools(attachment).map_or(0, |(_, free)| free);
                    self.healed(&healed, rss, policy);
                }
                Err(why) => {
                    self.not_before = Some(now + Duration::from_secs(60));
                    log(policy, &format!("nothing was done: {why}"));
                }
            }
        }
        self.used_ms += cpu() - begun;
    }

    fn is_due(&mut self, now: Instant, since: Instant, attachment: &Attachment) -> bool {
        // Looking costs too.
        let spent = (now - since).as_secs_f64().max(10.0) * 1e3;
        if self.used_ms > SHARE * spent || self.not_before.is_some_and(|at| now < at) {
            return false;
        }
        let mut pools_free = false;
        if let Some((used, free)) = crate::heal::pools(attachment) {
            self.pymalloc.look(used);
            // What could be parked at the last heal is: no peak need be remembered.
            self.left = self.left.min(free);
            pools_free = self.pymalloc.calm >= CALM
                && free - self.left >= WORTH
                && used as f64 <= TROUGH * (used + free) as f64;
        }
        if let Some(used) = crate::trim::in_use() {
            self.malloc.look(used);
        }
        pools_free || self.malloc.is_trough()
    }

    /// What came of the last heal.
    fn judge(&mut self, now: Instant, rss: u64, policy: &Auto) {
        let Some((back, after, at)) = self.last else { return };
        if rss.saturating_sub(after) as f64 > REFAULTED * back as f64 && back >= WORTH / 2 {
            self.wait = (self.wait * 2).clamp(policy.every * FIRST_WAIT, LONGEST_WAIT);
            self.not_before = Some(now + self.wait);
            self.last = None;
            let again = (rss - after) as f64 / (1 << 20) as f64;
            log(
                policy,
                &format!(
                    "{again:.1} MiB were wanted again within {:.0} s; the next heal waits {:.0} s",
                    (now - at).as_secs_f64(),
                    self.wait.as_secs_f64()
                ),
            );
        } else if now - at > policy.every * 10 {
            self.wait /= 2;
            self.last = None;
        }
    }

    fn healed(&mut self, healed: &Healed, before: u64, policy: &Auto) {
        let Some(after) = resident() else { return };
        for of in [&mut self.pymalloc, &mut self.malloc] {
            (of.peak, of.calm) = (of.now, 0);
        }
        let back = before.saturating_sub(after);
        self.last = Some((back, after, Instant::now()));
        let mib = |b: u64| b as f64 / (1 << 20) as f64;
        log(
            policy,
            &format!(
                "{:.1} MiB given back, RSS {:.1} -> {:.1} MiB; {} slices, longest {:.1} ms, CPU {:.1} ms",
                mib(back),
                mib(before),
                mib(after),
                healed.purged.slices,
                healed.purged.longest_slice_us as f64 / 1e3,
                healed.cpu_ms
            ),
        );
    }
}

fn log(policy: &Auto, line: &str) {
    if policy.log {
        // Not `eprintln`, which panics where stderr is closed.
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "pydefrag: {line}");
    }
}

/// RSS in bytes.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * OS_PAGE)
}
