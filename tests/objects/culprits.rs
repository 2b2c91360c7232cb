//! Survivors among freed neighbours, held by owners of every kind: the culprit is the first pin, and its
//! chain reads as a person would write it.

use std::fs;

use pydefrag_harness::{Target, repository};
use serde_json::Value;

use super::{list, look, number, on, string};

const VERSIONS: [&str; 6] = ["3.8", "3.11", "3.12", "3.13", "3.14", "3.15"];

/// What the planted survivors pin at least.
const PLANTED: u64 = 20 << 20;

/// Texts that survive: `COUNT` in culprits.py, one in 36.
const SURVIVORS: u64 = 300_000 / 36;

/// The first owner of what pins, on each version.
fn first_owner(kind: &str, check: impl Fn(&Value, &str)) {
    for interpreter in on(&VERSIONS) {
        let target = Target::spawn(interpreter, "culprits.py", &[kind], &[]);
        let s = look(&target, &[]);
        let rows = list(&s, "/pins/by_owner");
        let first = rows.first().unwrap_or_else(|| panic!("no owners at all: {:#}", s["pins"]));
        let what = format!("{kind} on {}: {first:#}", interpreter.name);
        eprintln!("{}: {}", interpreter.name, string(first, "/owner"));
        assert!(number(first, "/pinned") >= PLANTED, "{what}");
        assert!(number(first, "/count") >= SURVIVORS, "{what}");
        assert!(number(first, "/pinned") <= number(&s, "/pins/pinned"), "{what}");
        // A row for all of them, and not a row for each.
        let named = string(first, "/owner");
        assert_eq!(rows.iter().filter(|row| row["owner"] == named).count(), 1, "{what}");
        assert!(!named.contains("0x") && named.len() <= 200, "{what}");
        assert!(named.ends_with("str") || named.contains("str"), "it ends at the texts: {what}");
        check(first, &what);
        // The texts are the first type, and their class the first size class.
        let kind = &list(&s, "/pins/by_type")[0];
        assert_eq!(kind["type"], "str", "{what}: {kind:#}");
        assert!(number(kind, "/pinned") >= PLANTED, "{what}: {kind:#}");
        let class = &list(&s, "/pins/by_class")[0];
        assert!((96..=128).contains(&number(class, "/size")), "{what}: {class:#}");
        // What comes back if they are gone is most of what they pin.
        assert!(number(first, "/gone") >= PLANTED / 2, "{what}");
        assert!(number(first, "/packed") >= PLANTED / 2, "{what}");
    }
}

/// The head is this variable of the script's module.
fn is_global(row: &Value, name: &str, what: &str) {
    let head = string(row, "/head");
    let variable = format!("__main__.{name}");
    // Attributes that lead to no more than one thing belong to the head.
    assert!(head == variable || head.starts_with(&format!("{variable}.")), "{what}");
    assert!(string(row, "/owner").starts_with(&variable), "{what}");
    assert_eq!(row["root"], "module", "{what}");
}

#[test]
fn a_dict_of_a_module() {
    first_owner("dict", |row, what| {
        is_global(row, "SESSIONS", what);
        assert!(string(row, "/owner").contains("SESSIONS[dict]"), "{what}");
    });
}

#[test]
fn an_attribute_of_an_instance() {
    first_owner("instance", |row, what| {
        is_global(row, "STORE", what);
        let owner = string(row, "/owner");
        assert!(owner.contains("Store") && owner.contains(".cache[list]"), "{what}");
    });
}

#[test]
fn a_closure() {
    first_owner("closure", |row, what| {
        is_global(row, "lookup", what);
        assert!(string(row, "/owner").contains("kept"), "{what}");
    });
}

#[test]
fn an_attribute_of_a_class() {
    first_owner("class", |row, what| {
        let owner = string(row, "/owner");
        assert!(owner.contains("Registry.entries") || owner.contains(".entries[dict]"), "{what}");
        assert!(string(row, "/head").contains("Registry"), "{what}");
        assert_eq!(row["root"], "module", "{what}");
    });
}

#[test]
fn a_local_of_a_blocked_thread() {
    first_owner("local", |row, what| {
        let head = string(row, "/head");
        assert!(head.contains("backlog") && head.contains("worker"), "{what}");
        assert_eq!(row["root"], "frame", "{what}");
    });
}

#[test]
fn a_deque() {
    first_owner("deque", |row, what| {
        is_global(row, "RECENT", what);
        assert!(string(row, "/owner").contains("deque"), "{what}");
    });
}

#[test]
fn a_functions_cache() {
    first_owner("lru_cache", |row, what| is_global(row, "page", what));
}

/// With tracemalloc on, the first site is the line that made the texts; without, there are no sites.
#[test]
fn the_line_that_allocated() {
    let source = fs::read_to_string(repository().join("tests/targets/culprits.py")).unwrap();
    let line = source.lines().position(|l| l.contains("# the texts are made here")).unwrap() + 1;
    for interpreter in on(&VERSIONS) {
        // One frame, and more, of which the innermost counts.
        for frames in ["1", "5"] {
            let envs = [("PYTHONTRACEMALLOC", frames)];
            let target = Target::spawn(interpreter, "culprits.py", &["dict"], &envs);
            let s = look(&target, &[]);
            let what = format!("{frames} frames on {}: {:#}", interpreter.name, s["pins"]);
            let first = &list(&s, "/pins/by_site")[0];
            assert!(string(first, "/file").ends_with("culprits.py"), "{what}");
            assert_eq!(number(first, "/line"), line as u64, "{what}");
            assert!(number(first, "/pinned") >= PLANTED, "{what}");
            assert!(number(first, "/count") >= SURVIVORS, "{what}");
        }
        let target = Target::spawn(interpreter, "culprits.py", &["dict", "40000"], &[]);
        let s = look(&target, &[]);
        assert_eq!(s["pins"]["by_site"], Value::Null, "{}", interpreter.name);
    }
}

/// `gone` is what the account then has as free pools and holes, or the system back.
#[test]
fn what_is_gone_comes_back() {
    let free = |s: &Value| {
        let pymalloc = list(s, "/owners").iter().filter(|o| o["kind"] == "pymalloc");
        let of = |o: &Value| number(o, "/free_spans") + number(o, "/holes");
        pymalloc.clone().map(of).sum::<u64>() as i64
            - pymalloc.map(|o| number(o, "/resident")).sum::<u64>() as i64
    };
    for interpreter in on(&VERSIONS) {
        let mut target = Target::spawn(interpreter, "culprits.py", &["dict"], &[]);
        let before = look(&target, &[]);
        let gone = number(&list(&before, "/pins/by_owner")[0], "/gone");
        target.ask("eval SESSIONS.clear()");
        let back = (free(&look(&target, &[])) - free(&before)) as u64;
        let what = format!("{}: {gone} told, {back} came back", interpreter.name);
        eprintln!("{what}");
        assert!(back.abs_diff(gone) <= gone / 50, "{what}");
    }
}
