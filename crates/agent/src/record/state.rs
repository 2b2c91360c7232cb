//! Whether this process is recorded, how, and into which file.
//!
//! Invariant: what fails ends the recording and says so in the file, as far as that can be written; the program goes on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use pydefrag_trace::chunk::{Begin, End, Tag};
use serde::Deserialize;

use super::file::File;
use super::lane::Shared;

/// The variable that says what is wanted.
pub(super) const VARIABLE: &str = "PYDEFRAG_RECORD";

/// What is wanted, as the command line writes it into the environment.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Wanted {
    /// The file of the first process.
    pub(super) path: PathBuf,
    /// Name and version of the tool that wants it.
    pub(super) tool: String,
    /// This library, as LD_PRELOAD names it.
    pub(super) library: String,
    /// Forks, and what they become, are recorded too.
    #[serde(default)]
    pub(super) children: bool,
    /// Mean of the bytes between two samples; all is recorded without.
    #[serde(default)]
    pub(super) every: Option<u64>,
    /// Put native frames below each stack.
    #[serde(default)]
    pub(super) native: bool,
    /// Walk every stack twice and compare.
    #[serde(default)]
    pub(super) check: bool,
    /// Nothing is recorded until somebody asks.
    #[serde(default)]
    pub(super) wait: bool,
    /// How long it is recorded.
    #[serde(default)]
    pub(super) seconds: Option<f64>,
    /// Take it that Python has no GIL: for tests.
    #[serde(default)]
    pub(super) free_threaded: bool,
}

/// Nothing is recorded, and nothing will be.
const OFF: u8 = 0;
/// Events are recorded.
pub(super) const ON: u8 = 1;
/// Nothing is recorded until somebody asks.
pub(super) const WAITING: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(OFF);
/// When recording ends by itself, in nanoseconds since it began; 0 for never.
static OVER_NS: AtomicU64 = AtomicU64::new(0);
/// The process whose recording this is: a fork begins its own.
static PID: AtomicU32 = AtomicU32::new(0);
static BEGAN_NS: AtomicU64 = AtomicU64::new(0);
static LOCK: AtomicBool = AtomicBool::new(false);
static FILE: Shared<Option<File>> = Shared::new(None);
static WANTED: Shared<Option<Wanted>> = Shared::new(None);

/// Whether events are recorded.
#[inline(always)]
pub(super) fn is_active() -> bool {
    mode() == ON
}

/// [`ON`], [`WAITING`], or neither.
#[inline(always)]
pub(super) fn mode() -> u8 {
    MODE.load(Ordering::Relaxed)
}

/// Records nothing until somebody asks.
pub(super) fn wait(wanted: Wanted) {
    // SAFETY: the program has not begun.
    unsafe { *WANTED.get() = Some(wanted) };
    MODE.store(WAITING, Ordering::Release);
}

/// What follows a recording.
fn after() -> u8 {
    if wanted().is_some_and(|w| w.wait) { WAITING } else { OFF }
}

/// Whether recording is to end now, so long after its begin.
pub(super) fn is_over(ns: u64) -> bool {
    let over = OVER_NS.load(Ordering::Relaxed);
    over != 0 && ns >= over
}

/// Recording ends at the next tick.
pub(super) fn be_over() {
    OVER_NS.store(1, Ordering::Relaxed);
}

/// The pid that the recording is of.
pub(super) fn pid() -> u32 {
    PID.load(Ordering::Relaxed)
}

/// What is wanted; known from the begin, and what is asked for later.
pub(super) fn wanted() -> Option<&'static Wanted> {
    // SAFETY: written by `begin` and `wait`, while nothing is recorded.
    unsafe { (*WANTED.get()).as_ref() }
}

/// Nanoseconds since the recording began.
pub(super) fn now() -> u64 {
    clock().saturating_sub(BEGAN_NS.load(Ordering::Relaxed))
}

fn clock() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills what it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The file, under its lock.
pub(super) struct State(());

/// Takes the file's lock. The caller is busy ([`super::own::busy`]).
pub(super) fn state() -> State {
    while LOCK.swap(true, Ordering::Acquire) {
        std::thread::yield_now();
    }
    State(())
}

impl Drop for State {
    fn drop(&mut self) {
        LOCK.store(false, Ordering::Release);
    }
}

impl State {
    /// The file, where it is this process's: one that was cloned past `fork`, or by `vfork`, has its parent's here.
    fn file(&mut self) -> Option<&mut File> {
        if pid() != std::process::id() {
            return None;
        }
        // SAFETY: the lock.
        unsafe { (*FILE.get()).as_mut() }
    }

    /// Appends bytes; false where nothing is recorded any more.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        let Some(file) = self.file() else { return false };
        match file.write(bytes, now()) {
            Ok(()) => true,
            Err(why) => {
                self.end(Some(why));
                false
            }
        }
    }

    /// What was appended is in the file, for whoever reads it.
    pub(super) fn flush(&mut self) {
        if let Some(file) = self.file()
            && let Err(why) = file.flush()
        {
            self.end(Some(why));
        }
    }

    /// Appends a chunk that is no lane's.
    pub(super) fn chunk(&mut self, tag: Tag, plain: &[u8]) {
        if let Some(file) = self.file()
            && let Err(why) = file.chunk(tag, plain, now())
        {
            self.end(Some(why));
        }
    }

    /// Nothing more is recorded; `why`, where the program goes on.
    pub(super) fn end(&mut self, why: Option<String>) {
        if pid() != std::process::id() {
            return;
        }
        MODE.store(after(), Ordering::Relaxed);
        // SAFETY: the lock.
        let Some(mut file) = (unsafe { (*FILE.get()).take() }) else { return };
        // Where that fails, why may still be told.
        let why = file.flush().err().or(why);
        let (checked, wrong) = super::stack::checked();
        let checks = wanted().is_some_and(|w| w.check);
        let end = End {
            why,
            checked_stacks: checks.then_some(checked),
            wrong_stacks: checks.then_some(wrong),
            notes: super::stack::notes(),
        };
        if let Ok(text) = serde_json::to_vec(&end) {
            let _ = file.chunk(Tag::End, &text, now()).and_then(|()| file.flush());
        }
        file.close();
        if after() == WAITING {
            super::wait::ended();
        }
    }
}

/// Begins a file for this process; `false` where another has it and only one is wanted.
pub(super) fn begin(wanted: Wanted, parent: Option<u32>) -> Result<bool, String> {
    let pid = std::process::id();
    let file = match parent {
        None => File::make(&wanted.path)?,
        Some(_) => None,
    };
    let file = match file {
        Some(file) => Some(file),
        None if wanted.children => beside(&wanted.path, pid)?,
        None => None,
    };
    let Some(mut file) = file else { return Ok(false) };
    BEGAN_NS.store(clock(), Ordering::Relaxed);
    PID.store(pid, Ordering::Relaxed);
    let over = wanted.seconds.map_or(0, |s| ((s * 1e9) as u64).max(1));
    OVER_NS.store(over, Ordering::Relaxed);
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let begin = Begin {
        tool: wanted.tool.clone(),
        started_at: unix.map_or(0.0, |d| d.as_secs_f64()),
        pid,
        parent,
        command: command(),
        python: super::python::version(),
        every: wanted.every,
        notes: super::python::notes(),
    };
    let text = serde_json::to_vec(&begin).map_err(|e| e.to_string())?;
    if let Err(why) = file.chunk(Tag::Head, &text, 0).and_then(|()| file.flush()) {
        file.close();
        return Err(why);
    }
    LOCK.store(false, Ordering::Release);
    // SAFETY: nothing is recorded yet, or any more: no other thread looks.
    unsafe {
        *FILE.get() = Some(file);
        *WANTED.get() = Some(wanted);
    }
    Ok(true)
}

/// Begins to record.
pub(super) fn activate() {
    MODE.store(ON, Ordering::Release);
}

/// In a fork: the parent's file is the parent's.
pub(super) fn forget() {
    MODE.store(after(), Ordering::Relaxed);
    LOCK.store(false, Ordering::Release);
    // SAFETY: a fork has one thread.
    if let Some(mut file) = unsafe { (*FILE.get()).take() } {
        file.close();
    }
}

/// A child's file: `app.4242.pdtrace.part` beside `app.pdtrace.part`; with a number more where that is there already.
fn beside(path: &std::path::Path, pid: u32) -> Result<Option<File>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = name.strip_suffix(".part").unwrap_or(&name);
    let stem = stem.strip_suffix(".pdtrace").unwrap_or(stem);
    for n in 1..1000 {
        let more = if n == 1 { String::new() } else { format!("-{n}") };
        let file = path.with_file_name(format!("{stem}.{pid}{more}.pdtrace.part"));
        if let Some(file) = File::make(&file)? {
            return Ok(Some(file));
        }
    }
    Err("there are a thousand files of its name".into())
}

fn command() -> String {
    let bytes = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let words = bytes.split(|b| *b == 0).filter(|w| !w.is_empty());
    let words: Vec<String> = words.map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    pydefrag_image::command_line(words.iter().map(String::as_str))
}

/// RSS in OS pages (proc_pid_statm(5)).
pub(super) fn rss_pages() -> Option<u64> {
    let text = super::file::contents(c"/proc/self/statm", 256)?;
    std::str::from_utf8(&text).ok()?.split(' ').nth(1)?.parse().ok()
}

/// Zeroed pages of our own.
pub(super) fn pages(length: usize) -> Result<*mut u8, String> {
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    );
    // SAFETY: a new mapping, which touches nothing that is there.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(format!("no memory for its buffers ({})", std::io::Error::last_os_error()));
    }
    Ok(at.cast())
}
