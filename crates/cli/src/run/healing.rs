//! Memory given back while a program runs: when it is asked for, and what all of it comes to.
//!
//! Owns the plan of `--fix` and its sum. Asking is `fix::mailbox`'s; it takes a thread of its own, for the program may take
//! its time. Invariant: no two heals at once.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use pydefrag_heap::{HealLevel, HealWork, Healed};
use pydefrag_image::Glance;

use crate::fix::agent::{self, Agent};

use crate::fix::mailbox::{Question, ask};
use crate::fix::options::When;
use crate::fix::theirs::Theirs;
use crate::fix::{asked, work};

/// A condition that goes on being true is acted on again after so long.
const AGAIN: Duration = Duration::from_secs(30);
/// Longest time that the GIL is held.
const SLICE: Duration = Duration::from_millis(5);
/// A program that does not let the agent begin within this time is asked again next time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// When memory is asked back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Schedule {
    /// The agent decides.
    Auto,
    Every(HealLevel, Duration),
    When(HealLevel, When),
}

impl Schedule {
    /// What the agent is asked for when it is loaded.
    pub(super) fn first(self) -> &'static str {
        match self {
            Schedule::Auto => r#"{"do":"auto"}"#,
            Schedule::Every(..) | Schedule::When(..) => r#"{"do":"start"}"#,
        }
    }
}

/// What came of one heal.
struct Outcome {
    work: Option<HealWork>,
    returned: i64,
}

/// The heals of one program.
pub(super) struct Healing {
    schedule: Schedule,
    next: Instant,
    /// The condition was false since it was last acted on.
    armed: bool,
    under_way: Option<Receiver<Outcome>>,
    healed: Healed,
}

impl Healing {
    pub(super) fn new(schedule: Schedule, now: Instant) -> Healing {
        let next = match schedule {
            Schedule::Every(_, every) => now + every,
            _ => now,
        };
        let known = schedule != Schedule::Auto;
        let healed = Healed {
            returned: known.then_some(0),
            longest_slice_us: known.then_some(0.0),
            cpu_ms: known.then_some(0.0),
            ..Healed::default()
        };
        Healing { schedule, next, armed: true, under_way: None, healed }
    }

    /// Asks for memory if it is time; `seen` is free and resident bytes as last seen.
    pub(super) fn tick(&mut self, now: Instant, pid: i32, seen: Option<(u64, u64)>) {
        self.collect();
        if self.under_way.is_none()
            && let Some(level) = self.due(now, seen)
        {
            let (send, outcome) = channel();
            std::thread::spawn(move || {
                if let Some(done) = once(pid, level) {
                    drop(send.send(done));
                }
            });
            self.under_way = Some(outcome);
        }
    }

    /// What is to be asked for now.
    fn due(&mut self, now: Instant, seen: Option<(u64, u64)>) -> Option<HealLevel> {
        match self.schedule {
            Schedule::Auto => None,
            Schedule::Every(level, every) => (now >= self.next).then(|| {
                self.next = now + every;
                level
            }),
            Schedule::When(level, when) => {
                let (free, resident) = seen?;
                if !when.holds(free, resident) {
                    self.armed = true;
                    return None;
                }
                (self.armed || now >= self.next).then(|| {
                    self.armed = false;
                    self.next = now + AGAIN;
                    level
                })
            }
        }
    }

    fn collect(&mut self) {
        let Some(outcome) = &self.under_way else { return };
        match outcome.try_recv() {
            Ok(outcome) => self.add(outcome),
            Err(TryRecvError::Empty) => return,
            // The process has no agent yet, or none any more.
            Err(TryRecvError::Disconnected) => {}
        }
        self.under_way = None;
    }

    fn add(&mut self, outcome: Outcome) {
        let healed = &mut self.healed;
        let Some(work) = outcome.work else {
            healed.refused += 1;
            return;
        };
        healed.times += 1;
        healed.returned = healed.returned.map(|r| r.saturating_add(outcome.returned));
        healed.longest_slice_us = healed.longest_slice_us.map(|l| l.max(work.longest_slice_us));
        healed.cpu_ms = healed.cpu_ms.map(|c| c + work.cpu_ms);
    }

    /// What the agent itself counted, while the process is there.
    pub(super) fn last_look(&mut self, pid: i32) {
        // The account that follows is of a heap that nobody changes.
        if let Some(Ok(outcome)) = self.under_way.take().map(|u| u.recv_timeout(TIMEOUT)) {
            self.add(outcome);
        }
        if let Some(Agent { head, .. }) = agent::find_in(pid).ok().flatten() {
            self.healed.pools_unparked = head.unparked;
            if self.schedule == Schedule::Auto {
                self.healed.times = head.heals;
            }
        }
    }

    pub(super) fn into_healed(mut self) -> Healed {
        self.collect();
        self.healed
    }
}

/// One heal; `None` where there is no agent that listens.
fn once(pid: i32, level: HealLevel) -> Option<Outcome> {
    let agent = agent::find_in(pid).ok()?.filter(|a| a.listens(pid))?;
    let theirs = Theirs::open(pid).ok()?;
    let before = Glance::of(pid)?.rss;
    let question = Question { ask: asked(level), collect: false, slice: SLICE, timeout: TIMEOUT };
    let answer = ask(&theirs, &agent, question, None);
    let work = answer.ok().map(|text| work(&text).unwrap_or_default());
    let after = Glance::of(pid).map_or(before, |g| g.rss);
    Some(Outcome { work, returned: before as i64 - after as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fix::options::when;

    #[test]
    fn a_condition_is_acted_on_again_after_it_was_false_or_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let schedule = Schedule::When(HealLevel::Trim, when("fragmentation>30%").unwrap());
        let mut healing = Healing::new(schedule, start);
        let mut fires = |s, free| healing.due(at(s), Some((free, 100))).is_some();
        assert!(!fires(0, 30) && fires(1, 31) && !fires(2, 90) && !fires(30, 90));
        assert!(fires(31, 90), "after 30 s");
        assert!(!fires(32, 90) && !fires(33, 10) && fires(34, 40), "it was false");
        assert!(healing.due(at(99), None).is_none(), "nothing was seen");
    }

    #[test]
    fn a_period_is_kept_and_auto_never_asks() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let every = Schedule::Every(HealLevel::Purge, Duration::from_secs(30));
        let mut healing = Healing::new(every, start);
        assert_eq!(healing.due(at(29), None), None);
        assert_eq!(healing.due(at(30), None), Some(HealLevel::Purge));
        assert_eq!(healing.due(at(31), None), None);
        assert_eq!(Healing::new(Schedule::Auto, start).due(at(99), Some((99, 100))), None);
    }
}
