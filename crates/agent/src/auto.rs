//! The policy that may be left on: heals in troughs, gives up what does not last, and counts what it costs.
//!
//! Owns when. A heal is due when memory in use has fallen since its last peak and no longer moves; it does not
//! come again before the program has used more, and less, once more. Where what a heal gave back was faulted in
//! again, the next one waits twice as long. Its own processor time stays under a hundredth.

use std::time::{Duration, Instant};

use crate::heal::{Healed, Level, Order, heal};
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
/// RSS that moved by less than this between two looks is at rest.
const REST: f64 = 0.02;
/// A pass must promise this much: RSS fell by it since the peak, or the heap was never purged.
const WORTH: u64 = 8 << 20;
/// Of what was given back, more than this in RSS again at the next looks: it was wanted.
const REFAULTED: f64 = 0.5;
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// What it remembers.
#[derive(Default)]
pub(crate) struct State {
    looked: Option<Instant>,
    rss: u64,
    /// Faults of the process at the last look.
    faults: u64,
    /// Processor time that heals have used, and since when.
    used: Duration,
    since: Option<Instant>,
    not_before: Option<Instant>,
    wait: Duration,
    /// What the last heal gave back, and RSS behind it.
    last: Option<(u64, u64, Instant)>,
    /// Faults since the last heal: memory was used in between.
    worked: u64,
}

impl State {
    /// Looks, and heals if it is due.
    pub(crate) fn tick(&mut self, policy: &Auto, attachment: &Attachment, stop: &dyn Fn() -> bool) {
        let now = Instant::now();
        if self.looked.is_some_and(|at| now - at < policy.every) {
            return;
        }
        let Some((rss, faults)) = resident() else { return };
        let first = self.looked.is_none();
        let moved = rss.abs_diff(self.rss) as f64 > REST * rss.max(1) as f64;
        let faulted = faults.saturating_sub(self.faults) * OS_PAGE;
        self.looked = Some(now);
        self.rss = rss;
        self.faults = faults;
        self.since.get_or_insert(now);
        self.worked += faulted;
        self.judge(now, rss, policy);
        let busy = faulted as f64 > REST * rss as f64;
        if !policy.always {
            let early = self.not_before.is_some_and(|at| now < at);
            let broke = self.used.as_secs_f64()
                > SHARE * (now - self.since.unwrap_or(now)).as_secs_f64().max(1.0);
            if first || moved || busy || early || broke || self.worked < WORTH {
                return;
            }
        }
        let order = Order { level: Level::Purge, collect: false, slice: policy.slice };
        match heal(order, attachment, stop) {
            Ok(healed) => self.healed(&healed, rss, policy),
            Err(why) => {
                self.not_before = Some(now + Duration::from_secs(60));
                log(policy, &format!("nothing was done: {why}"));
            }
        }
    }

    /// What came of the last heal.
    fn judge(&mut self, now: Instant, rss: u64, policy: &Auto) {
        let Some((back, after, at)) = self.last else { return };
        if rss.saturating_sub(after) as f64 > REFAULTED * back as f64 && back >= WORTH / 2 {
            self.wait = (self.wait * 2).clamp(policy.every * 4, LONGEST_WAIT);
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
        let Some((after, faults)) = resident() else { return };
        self.used += Duration::from_secs_f64(healed.cpu_ms / 1e3);
        (self.rss, self.faults, self.worked) = (after, faults, 0);
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

/// RSS in bytes and page faults so far.
fn resident() -> Option<(u64, u64)> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the structure; zeros are a value of it.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    Some((pages * OS_PAGE, usage.ru_minflt as u64))
}
