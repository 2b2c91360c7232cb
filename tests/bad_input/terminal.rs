//! Command lines of targets are untrusted text: they do not reach the terminal raw, and what looks
//! secret in them is not shown.

use std::os::unix::process::CommandExt;

use super::{Stranger, account, look, python, python_says, run};
use crate::support::text;

const HOSTILE: [&str; 4] =
    ["--title=\x1b]0;owned\x07", "a\nb\r\x1b[2J", "--token", "do-not-show-me"];

fn hostile() -> Stranger {
    let mut command = python_says(python(), "ready()");
    command.args(HOSTILE).arg("DB_PASSWORD=do-not-show-me").arg("--url=pg://u:do-not-show-me@h/d");
    Stranger::ready(&mut command)
}

#[test]
fn what_a_target_calls_itself_does_not_reach_the_terminal_raw() {
    let target = hostile();
    let pid = target.pid().to_string();
    for args in [&["snapshot", &pid][..], &["ps"], &["snapshot", &pid, "--json"], &["ps", "--json"]]
    {
        let (stdout, stderr) = text(&run(args));
        for bad in ["\x1b", "\x07", "\r"] {
            assert!(!stdout.contains(bad) && !stderr.contains(bad), "{args:?}: {stdout:?}");
        }
        assert!(stdout.contains(&pid), "{args:?}: {stdout}");
    }
    // A line of its own would look like a row or a finding of ours.
    let (report, _) = text(&run(&["snapshot", "--no-objects", &pid]));
    assert!(!report.lines().any(|l| l.starts_with('b')), "{report}");
}

#[test]
fn what_looks_secret_is_shown_nowhere() {
    let target = hostile();
    let folder = super::open_folder();
    let pid = target.pid().to_string();
    let file = folder.path().join("kept.pdsnap").display().to_string();
    let json = account(&look(target.pid()), "hostile");
    assert!(json["process"]["command"].as_str().is_some_and(|c| c.contains("--token ***")));
    for args in [
        &["snapshot", &pid, "--json", "-o", &file][..],
        &["snapshot", &pid],
        &["report", &file],
        &["report", &file, "--json"],
        &["ps"],
        &["ps", "--json"],
    ] {
        let (stdout, stderr) = text(&run(args));
        assert!(!format!("{stdout}{stderr}").contains("do-not-show-me"), "{args:?}: {stdout}");
    }
}

/// argv[0] is the caller's choice, and need not be text.
#[test]
fn any_argv0_will_do() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let plain = python_says(python(), "ready()");
    for name in [&b""[..], b"\xff\xfe", b"\x1b[31m"] {
        let mut command = std::process::Command::new(plain.get_program());
        command.args(plain.get_args()).arg0(OsStr::from_bytes(name));
        command.envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
        if python().env.iter().all(|(k, _)| k != "PYTHONHOME")
            && let Some(prefix) = python().program.parent().and_then(|bin| bin.parent())
        {
            // Without its own name it does not find its library.
            command.env("PYTHONHOME", prefix);
        }
        let target = Stranger::ready(&mut command);
        account(&look(target.pid()), "argv0");
        let (table, _) = text(&run(&["ps"]));
        assert!(table.contains(&target.pid().to_string()) && !table.contains('\x1b'), "{table}");
    }
}

/// A `.pdsnap` may come from anywhere, and its texts are whatever somebody wrote.
#[test]
fn what_a_file_says_does_not_reach_the_terminal_raw() {
    use pydefrag_heap::{Partial, pdsnap};
    let folder = super::open_folder();
    let target = Stranger::ready(&mut python_says(python(), "ready()"));
    let file = folder.path().join("a.pdsnap").display().to_string();
    let out = run(&["snapshot", &target.pid().to_string(), "-o", &file]);
    assert!(out.status.success(), "{out:?}");
    let mut kept = pdsnap::decode(&std::fs::read(&file).expect("the file")).expect("whole");
    let bad = || "\x1b[2J\x07\r\u{9b}31m\nrow".to_owned();
    let s = &mut kept.snapshot;
    s.tool = bad();
    s.process.command = bad();
    s.notes.push(bad());
    for owner in &mut s.owners {
        owner.name += &bad();
    }
    if let Some(python) = &mut s.process.python {
        (python.version, python.allocator, python.image) = (bad(), bad(), bad());
        python.foreign_hook = Some(bad());
    }
    if let Some(libc) = &mut s.process.libc {
        (libc.name, libc.version) = (bad(), Some(bad()));
    }
    for partial in [None, Some(Partial { reason: bad(), hint: Some(bad()) })] {
        kept.snapshot.partial = partial;
        let bytes = pdsnap::encode(&kept.snapshot, &kept.detail).expect("it can be encoded");
        std::fs::write(&file, bytes).expect("our own folder");
        let (report, stderr) = text(&run(&["report", &file]));
        let raw = report.chars().chain(stderr.chars()).find(|c| c.is_control() && *c != '\n');
        assert_eq!(raw, None, "{report:?}{stderr:?}");
        assert!(!report.lines().any(|l| l.starts_with("row")), "{report}");
    }
}

/// Runs the binary on a pseudo-terminal of Python's making.
fn on_a_terminal(args: &[&str], term: &str) -> String {
    const SPAWN: &str =
        "import os, pty, sys\nstatus = pty.spawn(sys.argv[1:])\nsys.exit(status >> 8)";
    let mut command = std::process::Command::new(&python().program);
    command.envs(python().env.iter().cloned());
    command.args(["-c", SPAWN, env!("CARGO_BIN_EXE_pydefrag")]).args(args);
    command.env("TERM", term).env("LC_ALL", "C.UTF-8");
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    let out = super::within(command, super::LIMIT);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    text(&out).0
}

#[test]
fn a_colour_terminal_gets_a_picture_and_nothing_else_does() {
    let target = hostile();
    let pid = target.pid().to_string();
    let legend = "of its blocks live";
    let folder = super::open_folder();
    let file = folder.path().join("kept.pdsnap").display().to_string();
    let shown = on_a_terminal(&["snapshot", &pid, "-o", &file], "xterm");
    assert!(shown.contains(legend) && shown.contains("█") && shown.contains("\x1b["), "{shown}");
    assert!(on_a_terminal(&["report", &file], "xterm").contains(legend));
    for (args, term) in [
        (&["snapshot", &pid, "--no-map"][..], "xterm"),
        (&["report", &file, "--no-map"], "xterm"),
        (&["snapshot", &pid], "dumb"),
        (&["snapshot", &pid, "--json"], "xterm"),
    ] {
        let shown = on_a_terminal(args, term);
        assert!(shown.contains(&pid) && !shown.contains(legend), "{args:?}: {shown}");
    }
    assert!(!text(&run(&["snapshot", &pid])).0.contains(legend));
}
