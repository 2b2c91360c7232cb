//! The agent's thread: answers the mailbox, carries out the policy, and is not there during a fork or an exit.
//!
//! Python runs nothing in it: it has a thread state, takes the GIL only to heal, has all signals blocked, and no
//! Python object. It is stopped before `os.fork` and started again on both sides (a process of several threads that forks is
//! warned of by CPython 3.12+, and a fork in the middle of a slice must not be), and stopped for good by an
//! exit callback, before the interpreter ends.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pydefrag_layout::agent::{Ask, Request, Stage};

use crate::auto::{self, Auto};
use crate::heal::{Order, heal};
use crate::own;
use crate::python::{Attachment, Python, python};
use crate::table::{asked, table};
use crate::{wanted, weight};

/// How often the mailbox is looked into, at least.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is seen whether Python has started.
const START: Duration = Duration::from_millis(5);
const STACK: usize = 512 << 10;

/// A thread, and its own sign to stop: the next one may be started before it has seen it.
struct Running {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

/// Locked by whoever holds the GIL, or by nobody: a fork, which holds it too, never finds it locked.
static RUNNING: Mutex<Option<Running>> = Mutex::new(None);
/// Somebody wants the thread: it is started again after a fork.
static STARTED: AtomicBool = AtomicBool::new(false);
/// The interpreter ends: nothing is started any more.
static ENDED: AtomicBool = AtomicBool::new(false);
/// Forks that are under way.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// What [`auto`] was told; kept over a fork. Locked as `RUNNING`, and by the thread.
static AUTO: Mutex<Option<Auto>> = Mutex::new(None);
/// The last request that was taken out of the mailbox.
static ANSWERED: AtomicU64 = AtomicU64::new(0);
/// 1 when the thread is to look at once.
static WAKE: AtomicU32 = AtomicU32::new(0);

/// Sets the policy; none ends it.
pub(crate) fn set_auto(auto: Option<Auto>) {
    *AUTO.lock().unwrap_or_else(|e| e.into_inner()) = auto;
    wake();
}

/// Has the thread look at once. Takes no lock and does not wait.
pub(crate) fn wake() {
    if WAKE.swap(1, Ordering::AcqRel) == 0 {
        // SAFETY: wakes who waits for this word; FUTEX_WAKE reads no memory.
        unsafe {
            libc::syscall(libc::SYS_futex, &WAKE, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1)
        };
    }
}

/// Waits until [`wake`], or for so long.
fn sleep(most: Duration) {
    let time = libc::timespec {
        tv_sec: most.as_secs() as libc::time_t,
        tv_nsec: most.subsec_nanos().into(),
    };
    // SAFETY: waits on a static word, for at most `time`.
    unsafe {
        libc::syscall(libc::SYS_futex, &WAKE, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 0, &time)
    };
    WAKE.store(0, Ordering::Release);
}

/// Starts the thread, if it does not run. With the GIL held.
pub(crate) fn start() -> Result<(), String> {
    if ENDED.load(Ordering::Acquire) {
        return Err("the interpreter is ending".into());
    }
    STARTED.store(true, Ordering::Release);
    if FORKS.load(Ordering::Acquire) > 0 {
        return Ok(());
    }
    let mut running = RUNNING.lock().unwrap_or_else(|e| e.into_inner());
    if running.is_some() {
        return Ok(());
    }
    let stop = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&stop);
    let signals = Signals::block();
    let builder = std::thread::Builder::new().name("pydefrag".into()).stack_size(STACK);
    let thread = builder.spawn(move || run(&its));
    drop(signals);
    let thread = thread.map_err(|e| format!("no thread could be started ({e})"))?;
    *running = Some(Running { thread, stop });
    Ok(())
}

/// Stops it and waits for its end, with the GIL released meanwhile: it may be waiting for it.
fn halt(python: &Python) {
    let running = RUNNING.lock().unwrap_or_else(|e| e.into_inner()).take();
    if let Some(Running { thread, stop }) = running {
        stop.store(true, Ordering::Release);
        wake();
        let state = python.save();
        let _ = thread.join();
        python.restore(state);
    }
}

/// Runs `work` with the GIL released. From a call of Python's.
pub(crate) fn released<R>(python: &Python, work: impl FnOnce() -> R) -> R {
    let state = python.save();
    // A panic goes on only when the GIL is held again: whoever catches it answers Python.
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    python.restore(state);
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Stops it for good, from Python.
pub(crate) fn stop(python: &Python) {
    STARTED.store(false, Ordering::Release);
    halt(python);
}

/// `atexit.register(…)`: before the interpreter ends.
pub(crate) fn at_exit(python: &Python) {
    ENDED.store(true, Ordering::Release);
    stop(python);
}

/// `os.register_at_fork(before=…)`.
pub(crate) fn before_fork(python: &Python) {
    FORKS.fetch_add(1, Ordering::AcqRel);
    halt(python);
}

/// `os.register_at_fork(after_in_parent=…)`.
pub(crate) fn after_fork_in_parent() {
    if FORKS.fetch_sub(1, Ordering::AcqRel) == 1 && STARTED.load(Ordering::Acquire) {
        let _ = start();
    }
}

/// `os.register_at_fork(after_in_child=…)`: no other thread is here.
pub(crate) fn after_fork_in_child() {
    FORKS.store(0, Ordering::Release);
    crate::heal::forget_turn();
    // A parent's thread is not ours to join; it was stopped before, or another thread's fork lost it.
    std::mem::forget(RUNNING.lock().unwrap_or_else(|e| e.into_inner()).take());
    table().set_listening(std::process::id(), false);
    // What the parent was asked is not asked of us.
    ANSWERED.store(table().request().map_or(0, |r| r.token), Ordering::Release);
    table().withdraw_answer();
    if STARTED.load(Ordering::Acquire) {
        let _ = start();
    }
}

/// All signals blocked, until dropped: they are the program's.
struct Signals(libc::sigset_t);

impl Signals {
    fn block() -> Signals {
        let mut all = std::mem::MaybeUninit::zeroed();
        let mut before = std::mem::MaybeUninit::zeroed();
        // SAFETY: sigfillset and pthread_sigmask fill what they are given.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Signals(before.assume_init())
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the mask that was there before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

fn run(stop: &AtomicBool) {
    let Ok(python) = python() else { return };
    let stop = || stop.load(Ordering::Acquire);
    // Loaded by a sitecustomize: 3.15 says only after it that it has started.
    while !python.has_started() && !stop() {
        sleep(START);
    }
    // After whoever started us has laid the code down, too.
    weight::take_up();
    let Some(attachment) = Attachment::foreign(python) else { return };
    table().set_listening(std::process::id(), true);
    let mut auto = auto::State::default();
    while !stop() {
        idle(python, &stop);
        weight::take_up();
        if stop() || python.is_down() {
            break;
        }
        let request = table().request();
        let new = request.filter(|r| ANSWERED.swap(r.token, Ordering::AcqRel) != r.token);
        if let Some(request) = new.filter(|r| in_time(r, &attachment)) {
            carry_out(&request, &attachment, &stop);
        }
        if wanted::is_wanted() {
            attachment.held(wanted::serve);
        }
        own::on_signal();
        let policy = *AUTO.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(policy) = policy {
            auto.tick(&policy, &attachment, &stop);
        }
    }
    table().set_listening(std::process::id(), false);
}

/// Waits until there may be something to do.
#[unsafe(link_section = "pydefrag_idle")]
#[inline(never)]
fn idle(python: &Python, stop: &dyn Fn() -> bool) {
    weight::lay_down();
    loop {
        let policy = *AUTO.lock().unwrap_or_else(|e| e.into_inner());
        sleep(policy.map_or(LOOK, |policy| policy.every.min(LOOK)));
        let asked = table().request_token() != ANSWERED.load(Ordering::Acquire);
        if policy.is_some() || asked || wanted::is_wanted() || own::is_signalled() {
            return;
        }
        if stop() || python.is_down() {
            return;
        }
    }
}

/// Heals as it was asked to, and answers.
fn carry_out(request: &Request, attachment: &Attachment, stop: &dyn Fn() -> bool) {
    table().answer(request.token, Stage::Begun, "");
    let order = Order {
        level: asked(request.ask),
        collect: request.collect,
        slice: Duration::from_micros(request.slice_us),
    };
    match heal(order, attachment, stop) {
        Ok(healed) => {
            let text = serde_json::to_string(&healed).unwrap_or_default();
            table().answer(request.token, Stage::Done, &text);
        }
        Err(why) => table().answer(request.token, Stage::Refused, &why),
    }
}

/// Whether a request may be begun. Waiting for the GIL may take until after its deadline, or until it was taken back:
/// it is asked for first.
fn in_time(request: &Request, attachment: &Attachment) -> bool {
    let had = request.ask == Ask::Trim || attachment.held(|_| ()).is_some();
    let there = table().request().is_some_and(|r| r.token == request.token);
    had && there && now() <= request.deadline_ns
}

/// CLOCK_MONOTONIC in nanoseconds, as the command line reads it.
pub(crate) fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
