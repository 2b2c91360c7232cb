//! What a change of structure saves: computed before it, beside what a run with the change takes less.

use pydefrag_harness::{Interpreters, Target};
use serde_json::Value;

use super::{list, look, number};

/// What both runs may differ by besides.
const ASIDE: u64 = 16 << 10;

fn is_what_the_change_saves(kind: &str) {
    for interpreter in Interpreters::load().minors() {
        let what = format!("{kind} on {}", interpreter.name);
        let of = |when: &str| {
            let target = Target::spawn(interpreter, "structures.py", &[kind, when], &[]);
            look(&target, &[])
        };
        let (before, after) = (of("before"), of("after"));
        let live = |s: &Value| number(s, "/objects/all/bytes");
        let saved = live(&before) - live(&after);
        let rows = list(&before, "/savings").iter().filter(|r| r["change"] == kind);
        let row = rows.max_by_key(|r| number(r, "/saved"));
        let row = row.unwrap_or_else(|| panic!("{what}: {:#}", before["savings"]));
        let told = number(row, "/saved");
        eprintln!("{what}: told {told}, saved {saved}: {}", row["of"]);
        assert!(told.abs_diff(saved) <= saved / 20 + ASIDE, "{what}: {told}, not {saved}: {row:#}");
        assert!(number(row, "/now") >= told, "{what}: {row:#}");
        // Where it was done, nothing is left to be saved.
        let left = list(&after, "/savings").iter().filter(|r| r["change"] == kind);
        let left = left.map(|r| number(r, "/saved")).max().unwrap_or(0);
        assert!(left <= told / 10, "{what}: {left} more: {:#}", after["savings"]);
    }
}

#[test]
fn slots() {
    is_what_the_change_saves("slots");
}

#[test]
fn array() {
    is_what_the_change_saves("array");
}

#[test]
fn tuple() {
    is_what_the_change_saves("tuple");
}

#[test]
fn rebuild() {
    is_what_the_change_saves("rebuild");
}

#[test]
fn intern() {
    is_what_the_change_saves("intern");
}
