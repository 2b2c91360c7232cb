//! `pydefrag diff` on programs that leak, fragment or rest between two looks, and on what cannot be
//! compared.

use std::fs;
use std::path::Path;

use pydefrag_harness::{Interpreter, Interpreters, Target};
use pydefrag_heap::{Partial, pdsnap};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{run, text};

const MIB: i64 = 1 << 20;

/// The oldest interpreter, the newest, and one in between.
fn few(all: &Interpreters) -> Vec<&Interpreter> {
    let minors = all.minors();
    let (last, middle) = (minors.len() - 1, minors.len() / 2);
    minors
        .into_iter()
        .enumerate()
        .filter(|(i, _)| [0, middle, last].contains(i))
        .map(|m| m.1)
        .collect()
}

/// A program with a small heap.
fn target(of: &Interpreter) -> Target {
    Target::spawn(of, "fragmented.py", &["1000"], &[])
}

/// Looks at a target at rest and keeps what is seen.
fn keep(target: &Target, folder: &Path, name: &str) -> String {
    target.wait_blocked();
    let file = folder.join(name).display().to_string();
    let out = run(&["snapshot", &target.pid().to_string(), "-o", &file]);
    assert!(out.status.success(), "{}", text(&out).1);
    file
}

/// The JSON of a difference, after its report was seen to fit a screen.
fn diff(a: &str, b: &str) -> Value {
    let (report, stderr) = text(&run(&["diff", a, b]));
    assert_eq!(stderr, "");
    assert!(report.lines().count() <= 40, "{report}");
    assert!(report.lines().all(|l| l.chars().count() <= 80), "{report}");
    let out = run(&["diff", a, b, "--json"]);
    let (stdout, stderr) = text(&out);
    assert!(out.status.success(), "{stderr}");
    serde_json::from_str(&stdout).expect("stdout is JSON")
}

fn grown(change: &Value) -> i64 {
    change["after"].as_i64().expect("bytes") - change["before"].as_i64().expect("bytes")
}

#[test]
fn a_leak_grows() {
    let (all, folder) = (Interpreters::load(), TempDir::new().unwrap());
    for interpreter in few(all) {
        let mut target = target(interpreter);
        let a = keep(&target, folder.path(), "a.pdsnap");
        target.ask("eval globals().update(leak=[b'%09d'%i+b'x'*90 for i in range(400000)])");
        target.wait_blocked();
        // The second look is at the process itself.
        let d = diff(&a, &target.pid().to_string());
        assert_eq!(d["verdict"]["kind"], "growing", "{}: {d:#}", interpreter.name);
        let live = grown(&d["heaps"]["live"]);
        assert!((50 * MIB..64 * MIB).contains(&live), "{}: {live}", interpreter.name);
        assert_eq!(d["owners"][0]["kind"], "pymalloc", "it changed most");
    }
}

#[test]
fn scattered_survivors_fragment() {
    let (all, folder) = (Interpreters::load(), TempDir::new().unwrap());
    for interpreter in few(all) {
        let mut target = target(interpreter);
        let a = keep(&target, folder.path(), "a.pdsnap");
        target.ask("eval globals().update(many=[b'%09d'%i+b'x'*90 for i in range(400000)])");
        target.ask("eval globals().update(kept=many[::97])");
        target.ask("eval many.clear()");
        let b = keep(&target, folder.path(), "b.pdsnap");
        let d = diff(&a, &b);
        assert_eq!(d["verdict"]["kind"], "fragmented", "{}: {d:#}", interpreter.name);
        let (live, external) = (grown(&d["heaps"]["live"]), grown(&d["heaps"]["external"]));
        assert!(live < 4 * MIB && external > 40 * MIB, "{}: {live} {external}", interpreter.name);
        // The way back: what became free was let go.
        let back = diff(&b, &a);
        assert_eq!(back["verdict"], Value::Null);
        assert!(back["seconds"].as_f64().unwrap() < 0.0);
    }
}

/// What malloc keeps above its last chunk, because it was told to, is slack: nothing holds it open.
#[test]
fn what_malloc_keeps_at_its_top_is_slack() {
    let (all, folder) = (Interpreters::load(), TempDir::new().unwrap());
    for interpreter in few(all) {
        let kept = [("MALLOC_TRIM_THRESHOLD_", "1000000000")];
        let mut target = Target::spawn(interpreter, "fragmented.py", &["1000"], &kept);
        let a = keep(&target, folder.path(), "a.pdsnap");
        target.ask("eval globals().update(many=[bytes(3000) + b'x' for i in range(20000)])");
        target.ask("eval many.clear()");
        let b = keep(&target, folder.path(), "b.pdsnap");
        let d = diff(&a, &b);
        let (slack, external) = (grown(&d["heaps"]["slack"]), grown(&d["heaps"]["external"]));
        assert!(slack > 40 * MIB && external < 8 * MIB, "{}: {d:#}", interpreter.name);
        assert!(grown(&d["heaps"]["live"]).abs() < MIB, "{}: {d:#}", interpreter.name);
        assert_ne!(d["verdict"]["kind"], "growing", "{}: {d:#}", interpreter.name);
    }
}

#[test]
fn a_program_at_rest_has_not_changed() {
    let (all, folder) = (Interpreters::load(), TempDir::new().unwrap());
    for interpreter in few(all) {
        let target = target(interpreter);
        let a = keep(&target, folder.path(), "a.pdsnap");
        let b = keep(&target, folder.path(), "b.pdsnap");
        for other in [&a, &b, &target.pid().to_string()] {
            let d = diff(&a, other);
            assert_eq!(d["verdict"]["kind"], "healthy", "{d:#}");
            assert_eq!(d["unlike"], Value::Array(vec![]), "{d:#}");
            assert!(grown(&d["rss"]).abs() <= 64 << 10, "{}: {d:#}", interpreter.name);
            assert_eq!(grown(&d["heaps"]["live"]), 0, "{}: {d:#}", interpreter.name);
        }
    }
}

#[test]
fn what_is_unlike_is_said_and_not_refused() {
    let (all, folder) = (Interpreters::load(), TempDir::new().unwrap());
    let minors = all.minors();
    let (old, new) = (target(minors[0]), target(minors[minors.len() - 1]));
    let idle = Target::spawn(minors[0], "idle.py", &[], &[]);
    let a = keep(&old, folder.path(), "old.pdsnap");
    let said = |other: &str| {
        let d = diff(&a, other);
        assert_eq!(d["verdict"], Value::Null, "{d:#}");
        let said: Vec<_> = d["unlike"]
            .as_array()
            .unwrap()
            .iter()
            .map(|u| u.as_str().unwrap().to_owned())
            .collect();
        let (report, _) = text(&run(&["diff", &a, other]));
        assert!(report.contains("No verdict"), "{report}");
        said
    };
    assert_eq!(
        said(&keep(&idle, folder.path(), "idle.pdsnap"))[0],
        "they are of different programs"
    );
    let versions = said(&keep(&new, folder.path(), "new.pdsnap"));
    let (x, y) = (&minors[0].patch, &minors[minors.len() - 1].patch);
    assert!(
        versions.contains(&format!("they are of different Pythons, {x} and {y}")),
        "{versions:?}"
    );
    let again = target(minors[0]);
    let two = said(&keep(&again, folder.path(), "again.pdsnap"));
    assert_eq!(two, [format!("they are of two processes, {} and {}", old.pid(), again.pid())]);

    // Partial, and written by the first version.
    let mut decoded = pdsnap::decode(&fs::read(&a).unwrap()).unwrap();
    decoded.snapshot.partial = Some(Partial { reason: "denied".into(), hint: None });
    decoded.snapshot.owners.iter_mut().for_each(|o| o.account = None);
    let partial = folder.path().join("partial.pdsnap").display().to_string();
    fs::write(&partial, pdsnap::encode(&decoded.snapshot, &decoded.detail).unwrap()).unwrap();
    assert_eq!(said(&partial), ["one of them is partial: its heaps are not known"]);
    let mut bytes = fs::read(&a).unwrap();
    bytes[8] = 1;
    let first = folder.path().join("first.pdsnap").display().to_string();
    fs::write(&first, bytes).unwrap();
    assert_eq!(diff(&first, &a)["verdict"]["kind"], "healthy");
}

#[test]
fn what_is_no_look_is_refused() {
    let folder = TempDir::new().unwrap();
    let target = target(Interpreters::load().minors()[0]);
    let (pid, a) = (target.pid().to_string(), keep(&target, folder.path(), "a.pdsnap"));
    let newer = folder.path().join("newer.pdsnap").display().to_string();
    let mut bytes = fs::read(&a).unwrap();
    bytes[8] = 9;
    fs::write(&newer, bytes).unwrap();
    let directory = folder.path().display().to_string();
    let gone = folder.path().join("gone.pdsnap").display().to_string();
    for (x, y, said) in [
        (&pid, &pid, "are both processes"),
        (&a, &gone, "could not be read: No such file"),
        (&gone, &pid, "could not be read: No such file"),
        (&directory, &a, "Is a directory"),
        (&a, &newer, "written by a newer pydefrag"),
        (&a, &"4194305".to_owned(), "no process has pid 4194305"),
        (&a, &"LICENSE".to_owned(), "LICENSE"),
    ] {
        let out = run(&["diff", x, y]);
        let (stdout, stderr) = text(&out);
        assert_eq!((out.status.code(), stdout.as_str()), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(said) && stderr.contains("\nhint: "), "{said}: {stderr}");
    }
    assert_eq!(run(&["diff", &a]).status.code(), Some(2));
}
