//! The agent inside real processes: what it gives back, and that nothing comes to harm by it.
//!
//! `tests/targets/healed.py` has the scenarios, each of which checks itself from inside; here they run on every
//! interpreter that can be purged, and what the kernel says is compared from outside.

use std::path::PathBuf;
use std::process::{Command, Output};

use pydefrag_harness::{Interpreter, Interpreters, repository};

use crate::support::{lacking, text};

mod forked;
mod scenarios;

/// The agent's library, which the command line carries: built with it.
pub(crate) fn library() -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_pydefrag"));
    let folder = binary.parent().expect("a binary is in a folder");
    folder.join("deps/libpydefrag_agent.so")
}

/// The interpreters that a purge is for: 3.10 and later.
pub(crate) fn purged() -> Vec<&'static Interpreter> {
    let all = Interpreters::load().all();
    all.into_iter().filter(|i| i.minor >= 10).collect()
}

/// Python on a file of `tests/targets`, with the agent at hand.
pub(crate) fn python(on: &Interpreter, script: &str, args: &[&str]) -> Command {
    let mut command = Command::new(&on.program);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("PYTHON") {
            command.env_remove(key);
        }
    }
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYDEFRAG_AGENT", library())
        .envs(on.env.iter().map(|(key, value)| (key, value)))
        .args(&on.args)
        .arg(repository().join("tests/targets").join(script))
        .args(args);
    command
}

/// Runs a scenario to its end, which must be OK; returns what it printed before.
fn scenario(on: &Interpreter, args: &[&str], envs: &[(&str, &str)]) -> String {
    let out = python(on, "healed.py", args).envs(envs.iter().copied()).output();
    let out: Output = out.expect("an interpreter starts");
    let (said, errors) = text(&out);
    let what = format!("{} on {}", args.join(" "), on.name);
    assert!(out.status.success(), "{what}: {:?}\n{said}{errors}", out.status);
    let before = said.strip_suffix("OK\n");
    before.unwrap_or_else(|| panic!("{what} ended early:\n{said}{errors}")).to_owned()
}

/// Swap that this process has made, where the machine has none: taken away when dropped.
struct Swap(Option<tempfile::TempDir>);

impl Swap {
    /// Swap to page out to; none where it may not be made.
    fn some() -> Option<Swap> {
        let swaps = std::fs::read_to_string("/proc/swaps").ok()?;
        if swaps.lines().count() > 1 {
            return Some(Swap(None));
        }
        // Not in memory: a file on tmpfs cannot be swapped to.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).ok()?;
        let file = folder.path().join("swap");
        let run = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
        let made = run(Command::new("dd")
            .args(["if=/dev/zero", "bs=1M", "count=256"])
            .arg(format!("of={}", file.display())))
            && run(Command::new("chmod").arg("600").arg(&file))
            && run(Command::new("/sbin/mkswap").arg(&file))
            && run(Command::new("/sbin/swapon").arg(&file));
        made.then_some(Swap(Some(folder)))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            let _ = Command::new("/sbin/swapoff").arg(folder.path().join("swap")).output();
        }
    }
}

/// A heal swaps nothing in.
#[test]
fn what_is_swapped_out_stays_there() {
    let Some(_swap) = Swap::some() else { return lacking("swap, or the right to make some") };
    for on in purged() {
        let said = scenario(on, &["swap"], &[]);
        assert_eq!(said, "", "{}", on.name);
    }
}
