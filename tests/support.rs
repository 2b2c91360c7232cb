//! What all tests on real processes share: running the binary and reading its JSON.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pydefrag_harness::interpreters::in_ci;
use pydefrag_harness::{Target, repository};
use serde_json::Value;

/// The terms of an account that sum to the owner's resident bytes.
pub(crate) const TERMS: [&str; 9] =
    ["live", "metadata", "virgin", "free_spans", "holes", "pinned_free", "top", "cached", "unread"];

/// A command of the binary under test.
pub(crate) fn pydefrag(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pydefrag"));
    command.args(args).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

/// Runs the binary to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    pydefrag(args).output().expect("the binary starts")
}

/// The JSON of a snapshot of `pid`, the account alone, which must succeed.
pub(crate) fn snapshot(pid: u32) -> Value {
    json_of(pid, &["--no-objects"])
}

/// The same with what holds the memory.
pub(crate) fn explained(pid: u32) -> Value {
    json_of(pid, &[])
}

fn json_of(pid: u32, more: &[&str]) -> Value {
    let out = run(&[&["snapshot", &pid.to_string(), "--json"], more].concat());
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "snapshot {pid}: {said}");
    serde_json::from_slice(&out.stdout).expect("stdout is JSON")
}

/// The JSON of a snapshot of a target at rest.
pub(crate) fn snapshot_at_rest(target: &Target) -> Value {
    target.wait_blocked();
    snapshot(target.pid())
}

/// A snapshot without its owners' shares of PSS, which depend on who else maps the same libraries.
pub(crate) fn without_pss(mut snapshot: Value) -> Value {
    for owner in snapshot["owners"].as_array_mut().expect("owners") {
        owner.as_object_mut().expect("an owner").remove("pss").expect("its share");
    }
    snapshot
}

/// Both streams as text.
pub(crate) fn text(out: &Output) -> (String, String) {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (text(&out.stdout), text(&out.stderr))
}

/// Says that a test does not run, or not wholly, for the lack of something.
pub(crate) fn lacking(what: &str) {
    assert!(!in_ci(), "CI lacks {what}");
    eprintln!("not run: {what} is lacking");
}

/// Compiles a C program of `tests/targets` (or one file of a few lines) with the system's compiler.
pub(crate) fn compile(folder: &Path, name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    let program = folder.join(name);
    let built = Command::new("cc")
        .args(["-O1", "-w", "-o"])
        .arg(&program)
        .arg(repository().join("tests/targets").join(source))
        .args(flags)
        .output();
    match built {
        Ok(out) if out.status.success() => Some(program),
        Ok(out) => {
            eprintln!("{}", text(&out).1);
            lacking(&format!("a C compiler that takes {}", flags.join(" ")));
            None
        }
        Err(_) => {
            lacking("a C compiler");
            None
        }
    }
}
