//! From the program's start to its end: who is looked at, when, and how.
//!
//! Owns which process is the main one: the first that says hello; without a hello the program itself if
//! there is a Python in it, else its largest descendant in which there is one. One thread attends to signals
//! and the end, one to the hook's conversation; all looks are taken by the thread that calls [`follow`].

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use pydefrag_heap::{Child, Ended, Sample};
use pydefrag_image::Glance;
use pydefrag_walk::Looked;

use super::budget::{BEGINNING, Budget};
use super::environment::Environment;
use super::family::Family;
use super::hook::{Hook, Said, listen, reply};
use super::launch::{Signals, launch};
use super::program::Program;
use super::series::Series;
use super::watched::{Seen, Watched};
use crate::look::look;

/// How often RSS is read: in the beginning, and later.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(20));
/// How long the program may be made to wait at its end; it goes on by itself a little later.
const PATIENCE: Duration = Duration::from_secs(25);
/// For looks at children that were not looked at before, when the main process ends.
const FOR_CHILDREN: Duration = Duration::from_millis(100);
/// `--at-peak`: by how much RSS must exceed that of the last account.
const PEAK_STEP: u64 = 4 << 20;

/// What was seen of a program.
pub(crate) struct Followed {
    pub(crate) ended: Ended,
    pub(crate) seconds: f64,
    /// The command's own process.
    pub(crate) program: i32,
    /// The main process.
    pub(crate) main: i32,
    /// What was last seen of it.
    pub(crate) last: Option<Seen>,
    /// Why no hook was laid, if none was.
    pub(crate) no_hook: Option<String>,
    pub(crate) hello: bool,
    /// The main process still runs.
    pub(crate) main_runs: bool,
    /// The account at its end, if it said that it ends.
    pub(crate) at_end: Option<anyhow::Result<Looked>>,
    /// The account at the highest RSS, and when it was taken.
    pub(crate) at_peak: Option<(Looked, f64)>,
    pub(crate) samples: Vec<Sample>,
    /// Whether free bytes could be told in any sample.
    pub(crate) free_known: bool,
    pub(crate) children: Vec<Child>,
    pub(crate) children_left_out: u64,
}

enum Event {
    Said(Said),
    Ended(Ended),
}

/// Starts the program and follows it to its end.
pub(crate) fn follow(program: &Program, at_peak: bool) -> anyhow::Result<Followed> {
    let signals = Signals::catch()?;
    let mut environment = Environment::ours();
    let (hook, no_hook) = match Hook::make(environment.former()) {
        Ok(hook) => (Some(hook), None),
        Err(why) => (None, Some(why)),
    };
    if let Some(hook) = &hook {
        environment.put_first(hook.folder.path());
    }
    let start = Instant::now();
    let pid = launch(program, &environment, hook.as_ref(), &signals)?;
    let (send, events) = channel();
    let hook = hook.map(|hook| {
        let (ours, send) = (Arc::clone(&hook.ours), send.clone());
        std::thread::spawn(move || listen(&ours, |said| drop(send.send(Event::Said(said)))));
        // Only the program holds its end now: when it is gone, so is the conversation.
        drop(hook.theirs);
        (hook.folder, hook.ours, hook.fd, hook.socket)
    });
    let attending = std::thread::spawn(move || {
        let ended = signals.attend(pid);
        drop(send.send(Event::Ended(ended)));
        signals
    });
    let mut following = Following::new(pid.as_raw(), start, at_peak);
    let ended = following.until_end(&events, hook.as_ref().map(|h| &h.1));
    let seconds = start.elapsed().as_secs_f64();
    let main_runs = following.main.pid != following.program
        && following.hello
        && Glance::of(following.main.pid).is_some_and(|g| !g.ended);
    let socket = hook.as_ref().map(|h| (h.2, h.3.as_path()));
    let (children, children_left_out) = following.family.end(following.main.pid, socket);
    // Its blocked signals are let in again by this thread, which has them blocked.
    drop(attending.join());
    Ok(Followed {
        ended,
        seconds,
        program: following.program,
        main: following.main.pid,
        last: following.last,
        no_hook,
        hello: following.hello,
        main_runs,
        at_end: following.at_end,
        at_peak: following.peak,
        samples: following.series.into_samples(),
        free_known: following.free_known,
        children,
        children_left_out,
    })
}

struct Following {
    start: Instant,
    program: i32,
    main: Watched,
    hello: bool,
    budget: Budget,
    family: Family,
    series: Series,
    last: Option<Seen>,
    free_known: bool,
    at_end: Option<anyhow::Result<Looked>>,
    /// Whether accounts are taken at new peaks, and the last such.
    at_peak: bool,
    peak: Option<(Looked, f64)>,
    /// RSS when such an account was last tried.
    peak_tried: u64,
    /// Whose turn it is to be looked at: the main process's and its children's alternate.
    childrens_turn: bool,
}

impl Following {
    fn new(program: i32, start: Instant, at_peak: bool) -> Following {
        Following {
            start,
            program,
            main: Watched::new(program),
            hello: false,
            budget: Budget::new(start),
            family: Family::new(program, start),
            series: Series::default(),
            last: None,
            free_known: false,
            at_end: None,
            at_peak,
            peak: None,
            peak_tried: 0,
            childrens_turn: false,
        }
    }

    fn until_end(&mut self, events: &Receiver<Event>, ours: Option<&Arc<OwnedFd>>) -> Ended {
        loop {
            let tick = if self.start.elapsed() < BEGINNING { TICK.0 } else { TICK.1 };
            match events.recv_timeout(tick) {
                Ok(Event::Ended(ended)) => {
                    self.late_hello(events);
                    return ended;
                }
                Ok(Event::Said(Said::Hello(pid))) => self.hello(pid),
                Ok(Event::Said(Said::End(name))) => {
                    self.end();
                    if let Some(ours) = ours {
                        reply(ours, &name);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tick(Instant::now()),
                // The thread that attends to the end never goes without telling it.
                Err(RecvTimeoutError::Disconnected) => return Ended::Unknown,
            }
        }
    }

    /// What a program said just before its end may be told after it.
    fn late_hello(&mut self, events: &Receiver<Event>) {
        while !self.hello
            && let Ok(event) = events.recv_timeout(TICK.1)
        {
            if let Event::Said(Said::Hello(_)) = event {
                self.hello = true;
            }
        }
    }

    fn hello(&mut self, pid: i32) {
        self.hello = true;
        self.follow(pid);
        // Whatever it was taken for before, there is a Python in it now.
        self.main = Watched::new(pid);
    }

    /// From now on `pid` is the main process.
    fn follow(&mut self, pid: i32) {
        if self.main.pid != pid {
            self.main = Watched::new(pid);
            self.series.clear();
            self.last = None;
            self.peak = None;
            self.peak_tried = 0;
            self.free_known = false;
        }
    }

    fn tick(&mut self, now: Instant) {
        self.family.round(now);
        if self.at_end.is_none() {
            let rss = Glance::of(self.main.pid).filter(|g| !g.ended).map_or(0, |g| g.rss);
            if self.at_peak {
                self.account_of_peak(rss);
            }
            let grown = rss > self.series.highest() / 20 * 21;
            let due = self.main.due(now) && (grown || !self.childrens_turn);
            if due && self.budget.allows(now, grown) {
                self.childrens_turn = true;
                self.sample();
                return;
            }
        }
        if self.budget.allows(now, self.family.any_new(self.main.pid)) {
            self.childrens_turn = false;
            let (family, main) = (&mut self.family, self.main.pid);
            // Looking at nobody costs nothing.
            if family.any(main) {
                self.budget.spend(|| family.look_at_one(main));
            }
        }
    }

    /// A light look at the main process.
    fn sample(&mut self) {
        let at = self.start.elapsed().as_secs_f64();
        let main = &mut self.main;
        let seen = self.budget.spend(|| main.look());
        let Some(seen) = seen else { return };
        if !seen.python && !self.hello {
            self.elsewhere(seen);
            return;
        }
        // A Python whose heap is not there yet has no free byte; in one that is never understood none is
        // known, which the report says.
        self.free_known |= seen.free.is_some();
        if seen.free.is_some() || !self.free_known {
            self.series.push(Sample { at, rss: seen.memory.rss, free: seen.free.unwrap_or(0) });
        }
        self.last = Some(seen);
    }

    /// Without a hello, and without a Python in the program: is there one among its descendants?
    fn elsewhere(&mut self, seen: Seen) {
        self.last = Some(seen);
        let at = self.main.pid;
        for pid in self.family.running().into_iter().filter(|pid| *pid != at).take(8) {
            let mut other = Watched::new(pid);
            if self.budget.spend(|| other.look()).is_some_and(|s| s.python) {
                self.follow(pid);
                return;
            }
        }
        // The one that was followed has become something else.
        self.follow(self.program);
    }

    fn account_of_peak(&mut self, rss: u64) {
        let step = (self.peak_tried / 10).max(PEAK_STEP);
        // Before the first sample nothing is known to be Python.
        let understood = self.last.as_ref().is_some_and(|s| s.python && s.free.is_some());
        if !understood || rss <= self.peak_tried + step {
            return;
        }
        self.peak_tried = rss;
        if let Ok(looked) = look(self.main.pid)
            && looked.snapshot.partial.is_none()
        {
            self.peak_tried = rss.max(looked.snapshot.memory.rss);
            self.peak = Some((looked, self.start.elapsed().as_secs_f64()));
        }
    }

    /// The main process waits at its end.
    fn end(&mut self) {
        let pid = self.main.pid;
        self.sample();
        let (send, result) = channel();
        std::thread::spawn(move || drop(send.send(Box::new(look(pid)))));
        let looked = match result.recv_timeout(PATIENCE) {
            Ok(looked) => *looked,
            Err(_) => Err(anyhow::anyhow!("it took longer than {} s", PATIENCE.as_secs())),
        };
        if let (true, Ok(looked)) = (self.at_peak, &looked) {
            // The end may be the peak as well, and then this one is nearer.
            let end = looked.snapshot.memory.rss + PEAK_STEP;
            let higher = |(peak, _): &(Looked, f64)| peak.snapshot.memory.rss < end;
            if self.peak.as_ref().is_some_and(higher) {
                self.peak = None;
            }
        }
        self.at_end = Some(looked);
        self.family.look();
        let until = Instant::now() + FOR_CHILDREN;
        while self.family.any_new(pid) && Instant::now() < until {
            self.family.look_at_one(pid);
        }
    }
}
