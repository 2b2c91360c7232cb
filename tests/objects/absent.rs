//! Where objects cannot be looked at: the account is there, and a note says why.

use std::process::Command;

use pydefrag_harness::{Interpreters, Target};
use serde_json::Value;

use super::{accounts_balance, list, look};
use crate::support::lacking;

/// The note that speaks of objects.
fn why(s: &Value) -> String {
    assert!(s.get("objects").is_none() && s.get("pins").is_none(), "there are objects: {s:#}");
    let notes = list(s, "/notes").iter().filter_map(Value::as_str);
    let mut notes = notes.filter(|n| n.starts_with("objects were not looked at"));
    notes.next().unwrap_or_else(|| panic!("no note: {:#}", s["notes"])).to_owned()
}

#[test]
fn in_mimalloc() {
    let Some(interpreter) = Interpreters::load().get("3.14").cloned() else {
        return lacking("3.14");
    };
    let target = Target::spawn(&interpreter, "idle.py", &[], &[("PYTHONMALLOC", "mimalloc")]);
    assert!(why(&look(&target, &[])).contains("mimalloc"));
}

/// A disk without room, by a limit on the size of files.
#[test]
fn without_room_for_a_temporary_file() {
    let interpreters = Interpreters::load();
    for interpreter in interpreters.minors() {
        let target = Target::spawn(interpreter, "records.py", &["20000"], &[]);
        target.wait_blocked();
        // In blocks of 512 bytes. The signal that tells of it is for programs that know nothing else.
        for limit in [0, 8, 400] {
            let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$@\"");
            let snapshot = ["snapshot", &target.pid().to_string(), "--json"];
            let mut command = Command::new("sh");
            command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_pydefrag")]).args(snapshot);
            let out = command.output().expect("it starts");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let s: Value = serde_json::from_slice(&out.stdout).expect("stdout is JSON");
            assert!(why(&s).contains("temporary file"), "{}: {:#}", interpreter.name, s["notes"]);
            accounts_balance(&s);
        }
    }
}
