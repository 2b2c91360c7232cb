//! `pydefrag fix` and `pydefrag run --fix`: that memory comes back by each way in, and that where there is none, or
//! something goes wrong, it is said in a sentence and the process goes on as if nothing had happened.

mod asked;
mod refused;
mod remote;
mod run;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pydefrag_harness::{Interpreter, Interpreters, Target};
use serde_json::Value;

use crate::support::{pydefrag, text};

/// The agent's library, which the command line carries: built with it.
fn library() -> String {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_pydefrag"));
    let folder = binary.parent().expect("a binary is in a folder");
    folder.join("deps/libpydefrag_agent.so").display().to_string()
}

/// `given.py` on an interpreter.
fn target(of: &Interpreter, args: &[&str]) -> Target {
    target_with(of, args, &[])
}

fn target_with(of: &Interpreter, args: &[&str], envs: &[(&str, &str)]) -> Target {
    let library = library();
    let envs = [&[("PYDEFRAG_AGENT", library.as_str())], envs].concat();
    Target::spawn(of, "given.py", args, &envs)
}

/// The interpreters of these minors.
fn minors(wanted: std::ops::RangeInclusive<u32>) -> Vec<&'static Interpreter> {
    let all = Interpreters::load().minors().into_iter();
    all.filter(|i| i.major == 3 && wanted.contains(&i.minor)).collect()
}

/// `pydefrag fix PID …`.
fn fix(pid: u32, args: &[&str]) -> Command {
    pydefrag(&[&["fix", &pid.to_string()], args].concat())
}

/// Its JSON, without waiting whether what came back stays away; it must succeed.
fn healed(pid: u32, args: &[&str]) -> Value {
    let args = [args, &["--json", "--settle", "0", "--timeout", "60"]].concat();
    let out = fix(pid, &args).output().expect("the binary starts");
    assert!(out.status.success(), "{}", text(&out).1);
    serde_json::from_slice(&out.stdout).expect("stdout is JSON")
}

/// Fails with 1, one sentence with this in it and a hint; nothing on stdout. Returns what it said.
fn refused(out: &Output, sentence: &str) -> String {
    let (stdout, stderr) = text(out);
    assert_eq!(out.status.code(), Some(1), "{stderr}");
    assert_eq!(stdout, "");
    let lines: Vec<_> = stderr.lines().collect();
    assert!(lines[0].starts_with("pydefrag: ") && lines[0].contains(sentence), "{stderr}");
    assert!(lines[1].starts_with("hint: "), "{stderr}");
    assert!(lines[2..].iter().all(|l| l.starts_with("      ")), "{stderr}");
    stderr
}

/// Whether a library of ours is in a process.
fn has_agent(pid: u32) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    maps.contains("pydefrag_agent")
}

/// Folders of `fix` that lie about for that script: those that name the process in their script do not exist.
fn folders() -> Vec<PathBuf> {
    let places = ["/tmp", "/var/tmp", "/dev/shm", "/run"];
    let entries = places.iter().flat_map(std::fs::read_dir).flatten().flatten();
    let ours = |p: &PathBuf| p.to_string_lossy().contains("pydefrag-fix-");
    entries.map(|e| e.path()).filter(ours).collect()
}

/// Waits until that many more folders are there than `before`.
fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn spawn(mut command: Command) -> Child {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    piped.spawn().expect("the binary starts")
}

fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(done.expect("kill is there").success());
}

/// What must be the same before and after, whatever was done to it.
struct Unchanged(String);

impl Unchanged {
    fn of(target: &mut Target) -> Unchanged {
        Unchanged(target.ask("digest"))
    }

    fn check(&self, target: &mut Target) {
        assert_eq!(target.ask("digest"), self.0);
        assert_eq!(target.stderr(), "");
    }
}
