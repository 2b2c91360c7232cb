//! From the program's start to its end: who is looked at, when, and how.
//!
//! Owns which process is the main one: the first that says hello; without a hello the program itself if
//! there is a Python in it, else its largest descendant in which there is one. One thread attends to signals
//! and the end, one to the hook's conversation. A look is taken by a thread of its own, for on a large or busy
//! program it may take seconds, and what the hook says must not wait behind it. Invariant: no two light looks
//! at once.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use pydefrag_heap::{Child, Ended, Healed, Sample};
use pydefrag_image::Glance;
use pydefrag_walk::Looked;

use super::budget::{BEGINNING, Budget, thread_time};
use super::environment::Environment;
use super::family::{Family, Key};
use super::healing::{Healing, Schedule};
use super::hook::{self, Hook, Said, listen, reply};
use super::launch::{Signals, launch};
use super::program::Program;
use super::series::Series;
use super::watched::{Seen, Watched};
use crate::look::{account, look};
use crate::objects::Objects;
use crate::progress::Progress;

/// How often RSS is read: in the beginning, and later.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(20));
/// How long the program may be made to wait at its end; it goes on by itself a little later.
const PATIENCE: Duration = Duration::from_secs(25);
/// A look that takes no longer is waited for.
const SHORT: Duration = Duration::from_millis(20);
/// For a look that is under way when the main process ends, and for the last.
const AT_END: Duration = Duration::from_millis(50);
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
    /// Looks that are no samples, for free bytes could not be told as they could before.
    pub(crate) left_out: u64,
    /// The last look was one of these.
    pub(crate) last_left_out: bool,
    pub(crate) children: Vec<Child>,
    pub(crate) children_left_out: u64,
    /// Memory given back meanwhile, if that was asked for.
    pub(crate) healed: Option<Healed>,
}

/// What a look of a thread of its own has shown.
enum Shown {
    Main(Watched, Option<Seen>),
    Child(Key, Watched, Option<Seen>),
    /// A descendant in which there is a Python, if there is one.
    Elsewhere(Option<i32>),
    /// The account of what may be the peak.
    Peak(Option<Box<Looked>>),
}

/// A look that is under way.
struct Looking {
    /// Seconds from the program's start to that of the look.
    at: f64,
    /// What it shows and what it cost.
    shown: Receiver<(Shown, f64)>,
    /// An account, which takes longer, and is not paid for.
    account: bool,
    /// Another process is the main one since.
    stale: bool,
}

enum Event {
    Said(Said),
    Ended(Ended),
}

/// Starts the program and follows it to its end.
pub(crate) fn follow(
    program: &Program,
    at_peak: bool,
    objects: Objects,
    heal: Option<Schedule>,
) -> anyhow::Result<Followed> {
    let signals = Signals::catch()?;
    let mut environment = Environment::ours();
    let (hook, no_hook) = match Hook::make(environment.former(), heal) {
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
    let mut following = Following::new(pid.as_raw(), start, at_peak, objects, heal);
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
        left_out: following.left_out,
        last_left_out: following.last_left_out,
        children,
        children_left_out,
        healed: following.healing.map(Healing::into_healed),
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
    /// The look that is under way.
    looking: Option<Looking>,
    /// Most resident bytes that a look has shown, be it a sample or not.
    highest: u64,
    free_known: bool,
    left_out: u64,
    last_left_out: bool,
    at_end: Option<anyhow::Result<Looked>>,
    /// Whether accounts are taken at new peaks, and the last such.
    at_peak: bool,
    /// What is wanted of the objects at the end.
    objects: Objects,
    peak: Option<(Looked, f64)>,
    /// RSS when such an account was last tried.
    peak_tried: u64,
    /// Whose turn it is to be looked at: the main process's and its children's alternate.
    childrens_turn: bool,
    healing: Option<Healing>,
}

impl Following {
    fn new(
        program: i32,
        start: Instant,
        at_peak: bool,
        objects: Objects,
        heal: Option<Schedule>,
    ) -> Following {
        Following {
            start,
            program,
            main: Watched::new(program),
            hello: false,
            budget: Budget::new(start),
            family: Family::new(program, start),
            series: Series::default(),
            last: None,
            looking: None,
            highest: 0,
            free_known: false,
            left_out: 0,
            last_left_out: false,
            at_end: None,
            at_peak,
            objects,
            peak: None,
            peak_tried: 0,
            childrens_turn: false,
            healing: heal.map(|schedule| Healing::new(schedule, start)),
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
                Ok(Event::Said(Said::End(name, since))) => {
                    self.end(since);
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
        self.forget_look();
        self.main = Watched::new(pid);
    }

    /// From now on `pid` is the main process.
    fn follow(&mut self, pid: i32) {
        if self.main.pid != pid {
            self.forget_look();
            self.main = Watched::new(pid);
            self.series.clear();
            self.highest = 0;
            self.left_out = 0;
            self.last_left_out = false;
            self.last = None;
            self.peak = None;
            self.peak_tried = 0;
            self.free_known = false;
        }
    }

    /// What a look under way shows is of another program than the one that is followed now.
    fn forget_look(&mut self) {
        if let Some(looking) = &mut self.looking {
            looking.stale = true;
        }
    }

    /// Takes a look; what it shows is attended to now if it is short, else when it comes.
    fn begin(&mut self, account: bool, look: impl FnOnce() -> Shown + Send + 'static) {
        let (send, shown) = channel();
        let at = self.at();
        std::thread::spawn(move || {
            let before = thread_time();
            let shown = look();
            drop(send.send((shown, (thread_time() - before).max(0.0))));
        });
        self.looking = Some(Looking { at, shown, account, stale: false });
        self.finish(SHORT);
    }

    /// Attends to the look that is under way, if it ends within that time. False if it goes on.
    fn finish(&mut self, within: Duration) -> bool {
        let Some(looking) = self.looking.take() else { return true };
        match looking.shown.recv_timeout(within) {
            Ok((shown, cost)) => {
                if !looking.account {
                    self.budget.pay(cost);
                }
                self.shown(shown, &looking);
                self.looking.is_none()
            }
            Err(RecvTimeoutError::Timeout) => {
                self.looking = Some(looking);
                false
            }
            Err(RecvTimeoutError::Disconnected) => true,
        }
    }

    fn shown(&mut self, shown: Shown, looking: &Looking) {
        match shown {
            Shown::Child(key, watched, seen) => self.family.looked(key, watched, seen),
            _ if looking.stale => {}
            Shown::Main(watched, seen) => {
                self.main = watched;
                if let Some(seen) = seen {
                    self.sampled(looking.at, seen);
                }
            }
            Shown::Elsewhere(pid) => {
                // With none, the one that was followed has become something else.
                self.follow(pid.unwrap_or(self.program));
            }
            Shown::Peak(Some(looked)) => {
                self.peak_tried = self.peak_tried.max(looked.snapshot.memory.rss);
                self.peak = Some((*looked, self.at()));
            }
            Shown::Peak(None) => {}
        }
    }

    /// Seconds since the program's start.
    fn at(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    fn tick(&mut self, now: Instant) {
        self.family.round(now);
        if let (Some(healing), None) = (&mut self.healing, &self.at_end) {
            let seen = self.last.as_ref().and_then(|s| Some((s.free?, s.memory.rss)));
            healing.tick(now, self.main.pid, seen);
        }
        if !self.finish(Duration::ZERO) {
            return;
        }
        if self.at_end.is_none() {
            let rss = Glance::of(self.main.pid).filter(|g| !g.ended).map_or(0, |g| g.rss);
            if self.at_peak && self.account_of_peak(rss) {
                return;
            }
            let grown = rss > self.highest / 20 * 21;
            let due = self.main.due(now) && (grown || !self.childrens_turn);
            if due && self.budget.allows(now, grown) {
                self.childrens_turn = true;
                self.sample();
                return;
            }
        }
        if self.budget.allows(now, self.family.any_new(self.main.pid)) {
            self.childrens_turn = false;
            self.look_at_child();
        }
    }

    /// A light look at the main process.
    fn sample(&mut self) {
        let pid = self.main.pid;
        let mut main = std::mem::replace(&mut self.main, Watched::new(pid));
        self.begin(false, move || {
            let seen = main.look();
            Shown::Main(main, seen)
        });
    }

    /// A light look at one of the children. Looking at nobody costs nothing.
    fn look_at_child(&mut self) {
        if let Some((key, mut child)) = self.family.take_one(self.main.pid) {
            self.begin(false, move || {
                let seen = child.look();
                Shown::Child(key, child, seen)
            });
        }
    }

    /// What a light look at the main process has shown.
    fn sampled(&mut self, at: f64, seen: Seen) {
        if !seen.python && !self.hello {
            self.elsewhere(seen);
            return;
        }
        // A Python whose heap is not there yet has no free byte; in one that is never understood none is
        // known, which the report says.
        self.free_known |= seen.free.is_some();
        let sample = seen.free.is_some() || !self.free_known;
        // What has become no Python has nothing to tell.
        self.last_left_out = !sample && seen.python;
        self.left_out += u64::from(self.last_left_out);
        if sample {
            self.series.push(Sample { at, rss: seen.memory.rss, free: seen.free.unwrap_or(0) });
        }
        self.highest = self.highest.max(seen.memory.rss);
        self.last = Some(seen);
    }

    /// Without a hello, and without a Python in the program: is there one among its descendants?
    fn elsewhere(&mut self, seen: Seen) {
        self.last = Some(seen);
        let at = self.main.pid;
        let others = self.family.running().into_iter().filter(|pid| *pid != at).take(8);
        let others: Vec<i32> = others.collect();
        if others.is_empty() {
            self.follow(self.program);
            return;
        }
        self.begin(false, move || {
            let python = |pid: &i32| Watched::new(*pid).look().is_some_and(|s| s.python);
            Shown::Elsewhere(others.into_iter().find(python))
        });
    }

    /// False if there is none to be taken.
    fn account_of_peak(&mut self, rss: u64) -> bool {
        let step = (self.peak_tried / 10).max(PEAK_STEP);
        // Before the first sample nothing is known to be Python.
        let understood = self.last.as_ref().is_some_and(|s| s.python && s.free.is_some());
        if !understood || rss <= self.peak_tried + step {
            return false;
        }
        self.peak_tried = rss;
        let pid = self.main.pid;
        self.begin(true, move || {
            let whole = |l: &Looked| l.snapshot.partial.is_none();
            Shown::Peak(account(pid).ok().filter(whole).map(Box::new))
        });
        true
    }

    /// The main process waits at its end, since then.
    fn end(&mut self, since: Instant) {
        let pid = self.main.pid;
        let until = since + PATIENCE;
        if let Some(healing) = &mut self.healing {
            healing.last_look(pid);
        }
        // An account of the peak is nearly that of the end, and two at once take twice the memory.
        let account = self.looking.as_ref().is_some_and(|l| l.account);
        if self.finish(if account { left(until) / 2 } else { AT_END }) {
            self.sample();
        }
        let (send, result) = channel();
        // What comes after reading takes about as long again.
        let within = Some(left(until) / 3);
        let objects = Objects { within, ..self.objects.clone() };
        let progress = Arc::new(Progress::shares("looking at objects"));
        let bar = Arc::clone(&progress);
        std::thread::spawn(move || {
            let report = |done, total| bar.set(done, total);
            drop(send.send(Box::new(look(pid, &objects, &report))));
        });
        let result = result.recv_timeout(left(until));
        // A look that comes too late goes on, unseen.
        progress.finish();
        let looked = match result {
            Ok(_) if since.elapsed() >= hook::PATIENCE => {
                Err(anyhow::anyhow!("it came too late, when the program had stopped waiting"))
            }
            Ok(looked) if looked.is_err() && Glance::of(pid).is_none_or(|g| g.ended) => {
                Err(anyhow::anyhow!("the program stopped waiting before it was taken"))
            }
            Ok(looked) => *looked,
            Err(_) => Err(anyhow::anyhow!(
                "it came too late: the program waited for {} s",
                PATIENCE.as_secs()
            )),
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
        self.finish(AT_END);
        self.family.look();
        let until = Instant::now() + FOR_CHILDREN;
        while self.family.any_new(pid) && Instant::now() < until {
            if self.finish(left(until)) {
                self.look_at_child();
            }
        }
        self.finish(left(until).min(AT_END));
    }
}

/// How long it is until then.
fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
