//! Having CPython 3.14+ load the agent: PEP 768, spoken from outside.
//!
//! Owns the conditions, what is written in which order, and how it is taken back. The offsets are
//! `pydefrag_layout::remote`'s, the script is `start.py`.
//!
//! The main thread runs the script between two bytecodes; where it waits in C, that may be never. So the script claims a
//! token first, a file that whoever removes it has: the script, once, or we, when we do not wait any longer.

use std::path::Path;
use std::time::{Duration, Instant};

use pydefrag_image::{Image, ProcessFacts};
use pydefrag_layout::remote::{self, Support};
use pydefrag_walk::Runtime;

use super::agent::{self, Agent};
use super::folder::Folder;
use super::interrupt::Interrupt;
use super::theirs::Theirs;

const POLL: Duration = Duration::from_millis(10);
/// For a script that has claimed the token to say what came of it, and for the agent's thread to start.
const TO_START: Duration = Duration::from_secs(20);
/// A script that a thread has just been about to open stays there for so long after it was taken back.
const STRAY: Duration = Duration::from_millis(200);

/// A thread that can be asked to run a script.
#[derive(Debug)]
pub(crate) struct Thread {
    support: Support,
    /// Address of its `PyThreadState`.
    state: u64,
}

/// Why there is no way in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// CPython before 3.14.
    Older,
    /// One without the GIL, which the agent does not heal.
    FreeThreaded,
    /// It was switched off in that process.
    SwitchedOff,
    /// A debugger's script waits to be run.
    Taken,
    /// A validation failed, or it could not be read: which.
    NotUnderstood(String),
    /// No folder for the script: why.
    NoFolder(String),
    /// The process ended.
    Gone,
    /// The main thread did not come by in time, and nothing will happen any more; its state.
    NotRun(Option<char>),
    /// It was run, and said why not.
    Refused(String),
    /// Somebody wants us to end; nothing will happen any more.
    Interrupted,
}

impl Closed {
    fn not_understood(what: impl std::fmt::Display) -> Closed {
        Closed::NotUnderstood(what.to_string())
    }
}

impl Thread {
    /// The main thread of the main interpreter, if all that it takes is as it should be.
    pub(crate) fn find(image: &Image, runtime: &Runtime) -> Result<Thread, Closed> {
        if runtime.version.major == 3 && runtime.version.minor < 14 {
            return Err(Closed::Older);
        }
        if runtime.free_threaded() {
            return Err(Closed::FreeThreaded);
        }
        let read = |e| Closed::not_understood(format!("its interpreter could not be read: {e}"));
        let base = runtime.address.ok_or_else(|| Closed::not_understood("no _PyRuntime"))?;
        let offsets = runtime.debug_offsets.ok_or_else(|| Closed::not_understood("no offsets"))?;
        let mut head = [0; remote::HEAD];
        image.read(base, &mut head).map_err(read)?;
        let support = remote::support(runtime.version, &head).ok_or_else(|| {
            Closed::not_understood(format!(
                "what _Py_DebugOffsets of CPython {} says of debugger_support is not valid",
                runtime.version
            ))
        })?;
        // The newest comes first, the main one has number 0.
        let mut interpreter = image.word(base + offsets.interpreters_head).map_err(read)?;
        for _ in 0..10_000 {
            if interpreter == 0 || image.word(interpreter + offsets.interp_id).map_err(read)? == 0 {
                break;
            }
            interpreter = image.word(interpreter + offsets.interp_next).map_err(read)?;
        }
        if interpreter == 0 {
            return Err(Closed::not_understood("it has no main interpreter"));
        }
        let mut enabled = [0; 4];
        image.read(interpreter + support.enabled, &mut enabled).map_err(read)?;
        match i32::from_le_bytes(enabled) {
            1 => {}
            0 => return Err(Closed::SwitchedOff),
            n => return Err(Closed::not_understood(format!("config.remote_debug is {n}"))),
        }
        let state = image.word(interpreter + support.threads_main).map_err(read)?;
        if state == 0 || !state.is_multiple_of(8) {
            return Err(Closed::not_understood("its main interpreter has no main thread"));
        }
        let mut pending = [0; 4];
        image.read(state + support.pending, &mut pending).map_err(read)?;
        match i32::from_le_bytes(pending) {
            0 => Ok(Thread { support, state }),
            1 => Err(Closed::Taken),
            n => Err(Closed::not_understood(format!("debugger_pending_call is {n}"))),
        }
    }

    fn pending(&self) -> u64 {
        self.state + self.support.pending
    }

    fn path(&self) -> u64 {
        self.state + self.support.path
    }

    /// Has it run the script at this path.
    fn run(&self, theirs: &Theirs, script: &Path) -> std::io::Result<bool> {
        let mut path = script.as_os_str().as_encoded_bytes().to_vec();
        path.push(0);
        if path.len() as u64 > self.support.path_size || theirs.int(self.pending())? != 0 {
            return Ok(false);
        }
        theirs.write(self.path(), &path)?;
        theirs.write(self.pending(), &1i32.to_le_bytes())?;
        let breaker = self.state + self.support.eval_breaker;
        let mut events = [0];
        theirs.read(breaker, &mut events)?;
        theirs.write(breaker, &[remote::breaker(events[0])])?;
        Ok(true)
    }

    /// Takes the flag back, if it stands for that script still.
    fn withdraw(&self, theirs: &Theirs, script: &Path) {
        let wanted = script.as_os_str().as_encoded_bytes();
        let mut there = vec![0; wanted.len() + 1];
        if theirs.int(self.pending()).is_ok_and(|n| n == 1)
            && theirs.read(self.path(), &mut there).is_ok()
            && there.strip_suffix(&[0]) == Some(wanted)
        {
            let _ = theirs.write(self.pending(), &0i32.to_le_bytes());
        }
    }
}

/// Has the process load the agent, or start the one that it has at `there`; returns it when it listens.
pub(crate) fn start(
    theirs: &Theirs,
    thread: &Thread,
    library: &'static [u8],
    there: Option<&Path>,
    timeout: Duration,
    interrupt: &Interrupt,
) -> Result<Agent, Closed> {
    let pid = theirs.pid;
    let facts = ProcessFacts::of(pid).map_err(|_| Closed::Gone)?;
    let folder = Folder::make(pid, facts.uid, there.is_none().then_some(library))
        .map_err(Closed::NoFolder)?;
    let deadline = theirs.clock() as f64 / 1e9 + timeout.as_secs_f64();
    let text =
        script(folder.inside(), &there.map_or_else(|| folder.library(), Path::to_owned), deadline)
            .ok_or_else(|| Closed::not_understood("its agent's path is not UTF-8"))?;
    let path = folder.script(&text).map_err(|e| Closed::NoFolder(e.to_string()))?;
    if !theirs.is_there() {
        return Err(Closed::Gone);
    }
    match thread.run(theirs, &path) {
        Ok(true) => {}
        Ok(false) => return Err(Closed::Taken),
        Err(_) if !theirs.is_there() => return Err(Closed::Gone),
        Err(e) => {
            thread.withdraw(theirs, &path);
            return Err(Closed::not_understood(format!("its memory could not be written: {e}")));
        }
    }
    let begin = Instant::now();
    let mut late = false;
    while folder.token_is_there() {
        late = begin.elapsed() > timeout;
        if !theirs.is_there() {
            return Err(Closed::Gone);
        }
        // Who removes the token decides what happens.
        if (late || interrupt.came()) && folder.take_token() {
            thread.withdraw(theirs, &path);
            std::thread::sleep(STRAY);
            return Err(match late {
                true => Closed::NotRun(theirs.state()),
                false => Closed::Interrupted,
            });
        }
        std::thread::sleep(POLL);
    }
    started(theirs, &folder, late)
}

/// Waits until the script has said what came of it, and the agent listens.
fn started(theirs: &Theirs, folder: &Folder, late: bool) -> Result<Agent, Closed> {
    let since = Instant::now();
    while since.elapsed() < TO_START {
        if !theirs.is_there() {
            return Err(Closed::Gone);
        }
        let Some(said) = folder.said() else {
            std::thread::sleep(POLL);
            continue;
        };
        if let Some(why) = refusal(&said) {
            return Err(Closed::Refused(why));
        }
        match agent::find_in(theirs.pid) {
            Ok(Some(agent)) if agent.listens(theirs.pid) => return Ok(agent),
            Ok(_) => std::thread::sleep(POLL),
            Err(e) => return Err(Closed::Refused(e.to_string())),
        }
    }
    match late {
        true => Err(Closed::NotRun(theirs.state())),
        false => Err(Closed::Refused(format!("it did not start in {} s", TO_START.as_secs()))),
    }
}

/// Why the agent was not started; `None` if it was.
fn refusal(said: &str) -> Option<String> {
    if let Some(why) = said.strip_prefix("refused: ") {
        return Some(why.to_owned());
    }
    let reply: serde_json::Value = serde_json::from_str(said).ok()?;
    reply.get("refused").map(|why| why.as_str().unwrap_or("it said no reason").to_owned())
}

/// The script for that folder and library.
fn script(folder: &Path, library: &Path, deadline: f64) -> Option<String> {
    // JSON's strings are Python's, too.
    let literal = |path: &Path| serde_json::to_string(path.to_str()?).ok();
    Some(format!(
        "FOLDER = {}\nLIBRARY = {}\nDEADLINE = {deadline:.3}\n\n{}",
        literal(folder)?,
        literal(library)?,
        include_str!("start.py")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_said_is_understood() {
        assert_eq!(refusal(r#"{"done":{}}"#), None);
        assert_eq!(refusal(r#"{"refused":"no pymalloc"}"#).as_deref(), Some("no pymalloc"));
        assert_eq!(refusal("refused: ImportError: x").as_deref(), Some("ImportError: x"));
    }

    #[test]
    fn the_script_has_its_names() {
        let text = script(Path::new("/tmp/a"), Path::new("/opt/b \"c\"/d.so"), 7.25).unwrap();
        let head =
            "FOLDER = \"/tmp/a\"\nLIBRARY = \"/opt/b \\\"c\\\"/d.so\"\nDEADLINE = 7.250\n\n#";
        assert!(text.starts_with(head), "{text}");
    }
}
