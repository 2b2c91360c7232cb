//! The agent's thread: answers the mailbox, carries out the policy, and is not there during a fork or an exit.
//!
//! Python runs nothing in it: it has a thread state, takes the GIL only to heal, has all signals blocked, and no
//! Python object. It is stopped before `os.fork` and started again on both sides (a process of several threads that forks is
//! warned of by CPython 3.12+, and a fork in the middle of a slice must not be), and stopped for good by an
//! exit callback, before the interpreter ends.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pydefrag_layout::agent::Stage;

use crate::auto::{self, Auto};
use crate::heal::{Order, heal};
use crate::own;
use crate::python::{Attachment, Python, python};
use crate::table::{asked, table};
use crate::wanted;

/// How often the mailbox is looked into, at least.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is seen whether Python has started.
const START: Duration = Duration::from_millis(5);
const STACK: usize = 512 << 10;

struct Running {
    thread: JoinHandle<()>,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);
/// Somebody wants the thread: it is started again after a fork.
static STARTED: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);
/// Forks that are under way.
static FORKS: AtomicU32 = AtomicU32::new(0);
/// What [`auto`] was told; kept over a fork.
static AUTO: Mutex<Option<Auto>> = Mutex::new(None);

/// Sets the policy; none ends it.
pub(crate) fn set_auto(auto: Option<Auto>) {
    *AUTO.lock().unwrap_or_else(|e| e.into_inner()) = auto;
}

/// Starts the thread, if it does not run.
pub(crate) fn start() -> Result<(), String> {
    STARTED.store(true, Ordering::Release);
    if FORKS.load(Ordering::Acquire) > 0 {
        return Ok(());
    }
    let mut running = RUNNING.lock().unwrap_or_else(|e| e.into_inner());
    if running.is_some() {
        return Ok(());
    }
    STOP.store(false, Ordering::Release);
    let signals = Signals::block();
    let thread = std::thread::Builder::new().name("pydefrag".into()).stack_size(STACK).spawn(run);
    drop(signals);
    let thread = thread.map_err(|e| format!("no thread could be started ({e})"))?;
    *running = Some(Running { thread });
    Ok(())
}

/// Stops it and waits for its end. The GIL must not be held: it may be waiting for it.
fn halt() {
    STOP.store(true, Ordering::Release);
    let running = RUNNING.lock().unwrap_or_else(|e| e.into_inner()).take();
    if let Some(running) = running {
        running.thread.thread().unpark();
        let _ = running.thread.join();
    }
    table().set_listening(std::process::id(), false);
}

/// Runs `work` with the GIL released.
pub(crate) fn released<R>(python: &Python, work: impl FnOnce() -> R) -> R {
    // SAFETY: called from Python, so this thread holds the GIL with its thread state.
    let state = unsafe { (python.PyEval_SaveThread)() };
    let done = work();
    // SAFETY: the state that was just saved, on the same thread.
    unsafe { (python.PyEval_RestoreThread)(state) };
    done
}

/// Stops it for good, from Python.
pub(crate) fn stop(python: &Python) {
    STARTED.store(false, Ordering::Release);
    released(python, halt);
}

/// `os.register_at_fork(before=…)`.
pub(crate) fn before_fork(python: &Python) {
    FORKS.fetch_add(1, Ordering::AcqRel);
    released(python, halt);
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

fn run() {
    let Ok(python) = python() else { return };
    let stop = || STOP.load(Ordering::Acquire);
    // Loaded by a sitecustomize: 3.15 says only after it that it has started.
    while !python.has_started() && !stop() {
        std::thread::park_timeout(START);
    }
    let Some(attachment) = Attachment::foreign(python) else { return };
    table().set_listening(std::process::id(), true);
    let mut answered = table().request().map_or(0, |r| r.token);
    let mut auto = auto::State::default();
    while !stop() {
        let policy = *AUTO.lock().unwrap_or_else(|e| e.into_inner());
        std::thread::park_timeout(policy.map_or(LOOK, |policy| policy.every.min(LOOK)));
        if stop() || python.is_down() {
            break;
        }
        if let Some(request) = table().request().filter(|r| r.token != answered) {
            answered = request.token;
            if now() <= request.deadline_ns {
                table().answer(request.token, Stage::Begun, "");
                let order = Order {
                    level: asked(request.ask),
                    collect: request.collect,
                    slice: Duration::from_micros(request.slice_us),
                };
                match heal(order, &attachment, &stop) {
                    Ok(healed) => {
                        let text = serde_json::to_string(&healed).unwrap_or_default();
                        table().answer(request.token, Stage::Done, &text);
                    }
                    Err(why) => table().answer(request.token, Stage::Refused, &why),
                }
            }
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

/// CLOCK_MONOTONIC in nanoseconds, as the command line reads it.
pub(crate) fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
