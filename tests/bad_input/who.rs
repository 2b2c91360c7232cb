//! Who can be looked at at all: pids that are none, and processes that are not Python.

use std::process::Command;

use super::{Stranger, account, look, python, python_says, refused, run};
use crate::support::text;

#[test]
fn a_pid_that_nobody_has_is_said() {
    // Above the largest pid that Linux ever gives (PID_MAX_LIMIT).
    let (sentence, hint) = refused(&look(4_194_305));
    assert_eq!(sentence, "no process has pid 4194305");
    assert!(hint.starts_with("pydefrag ps"));
}

#[test]
fn what_is_no_pid_is_wrong_usage() {
    for bad in ["0", "-7", "python", "1.5", "99999999999", ""] {
        let out = run(&["snapshot", "--", bad]);
        let (stdout, stderr) = text(&out);
        assert_eq!(out.status.code(), Some(2), "{bad}: {stderr}");
        assert!(stdout.is_empty() && stderr.starts_with("error: invalid value"), "{stderr}");
    }
}

#[test]
fn a_thread_of_the_kernel_is_named() {
    let kthreadd = std::fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if kthreadd.trim() != "kthreadd" {
        // A pid namespace of a container has none.
        eprintln!("not run: no thread of the kernel can be seen");
        return;
    }
    let (sentence, _) = refused(&look(2));
    assert_eq!(
        sentence,
        "process 2 (kthreadd) is a thread of the kernel, without memory of its own"
    );
}

#[test]
fn a_program_that_is_not_python_is_named() {
    let sleep = Stranger::silent(Command::new("sleep").arg("60"));
    sleep.wait_state('S');
    let (sentence, hint) = refused(&look(sleep.pid()));
    let pid = sleep.pid();
    assert!(sentence.starts_with(&format!("process {pid} is not a Python process: it runs /")));
    assert!(sentence.ends_with("/sleep"), "{sentence}");
    assert!(hint.starts_with("pydefrag ps"));
    let (table, _) = text(&run(&["ps"]));
    assert!(!table.contains(&format!(" {pid} ")), "{table}");
}

#[test]
fn a_zombie_is_said_to_have_ended() {
    let mut python = python_says(python(), "ready(); os._exit(0)");
    let mut zombie = Stranger::ready(&mut python);
    drop(zombie.child.stdin.take());
    zombie.wait_state('Z');
    let (sentence, hint) = refused(&look(zombie.pid()));
    let pid = zombie.pid();
    assert_eq!(
        sentence,
        format!("process {pid} is a zombie: it has ended and has no memory any more")
    );
    assert!(hint.starts_with("pydefrag ps"));
    let (table, _) = text(&run(&["ps"]));
    let row = table.lines().find(|l| l.contains(&pid.to_string())).expect("a row of the zombie");
    assert!(row.contains("zombie"), "{row}");
}

#[test]
fn a_stopped_process_is_looked_at_and_stays_stopped() {
    let target = Stranger::ready(&mut python_says(python(), "ready()"));
    super::signal(target.pid(), "STOP");
    target.wait_state('T');
    let json = account(&look(target.pid()), "stopped");
    assert!(json["pymalloc"]["arenas"].as_u64() > Some(0));
    target.wait_state('T');
    let (table, _) = text(&run(&["ps"]));
    assert!(table.contains(&target.pid().to_string()));
    target.wait_state('T');
}

/// A thread may give itself any name; the kernel does not ask whether it is UTF-8.
#[test]
fn a_name_that_is_not_utf8_hides_nothing() {
    let rename =
        "import ctypes\nctypes.CDLL(None).prctl(15, b'\\xff\\xfe:\\x1b[31m', 0, 0, 0)\nready()";
    let target = Stranger::ready(&mut python_says(python(), rename));
    account(&look(target.pid()), "renamed");
    let (table, _) = text(&run(&["ps"]));
    assert!(table.contains(&target.pid().to_string()) && !table.contains('\x1b'), "{table}");
}
