//! What holds the memory: what pydefrag says of objects, compared with what the process knows of itself.
//!
//! | module | compares |
//! |---|---|
//! | `oracle` | types, owners, tracked counts, names, sizes and slack of a heap of many kinds, with `tests/targets/oracle.py` |
//! | `coverage` | how much of the heap is explained, on the examples and on programs from PyPI |
//! | `culprits` | owners that were planted, and the lines that allocated |
//! | `garbage` | planted cycles with `gc.collect()`, frozen objects with the collector's count |
//! | `savings` | what a change would save with what a run with it takes less |
//! | `absent` | what is said where objects cannot be looked at |
//! | `hostile` | heaps that are hard to read: it ends, stays small, and shows no contents |

mod absent;
mod coverage;
mod culprits;
mod garbage;
mod hostile;
mod oracle;
mod savings;

use pydefrag_harness::{Interpreter, Interpreters, Target};
use serde_json::Value;

use crate::support::{TERMS, lacking, run, text};

/// The interpreters of these names; the lack of one is said, and fails in CI.
fn on(names: &[&str]) -> Vec<&'static Interpreter> {
    let found = names.iter().filter_map(|name| {
        let one = Interpreters::load().get(name);
        if one.is_none() {
            lacking(&format!("python {name}"));
        }
        one
    });
    found.collect()
}

/// The JSON of a snapshot of a target at rest, with more arguments.
fn look(target: &Target, more: &[&str]) -> Value {
    target.wait_blocked();
    let pid = target.pid().to_string();
    let out = run(&[&["snapshot", &pid, "--json"], more].concat());
    let (stdout, stderr) = text(&out);
    assert!(out.status.success(), "snapshot {more:?}: {stderr}");
    let s: Value = serde_json::from_str(&stdout).expect("stdout is JSON");
    accounts_balance(&s);
    s
}

/// Rounding is taken from live: what is known of objects changes no sum.
fn accounts_balance(s: &Value) {
    for owner in list(s, "/owners").iter().filter(|o| o.get("live").is_some()) {
        let terms: u64 = TERMS.iter().map(|t| number(owner, &format!("/{t}"))).sum();
        let rounding = owner["rounding"].as_u64().unwrap_or(0);
        assert_eq!(terms + rounding, number(owner, "/resident"), "{owner:#}");
    }
}

/// A number in JSON.
fn number(of: &Value, pointer: &str) -> u64 {
    let found = of.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("{pointer} is {:?}, not a number", of.pointer(pointer)))
}

/// A list in JSON.
fn list<'a>(of: &'a Value, pointer: &str) -> &'a [Value] {
    let found = of.pointer(pointer).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("{pointer} is {:?}, not a list", of.pointer(pointer)))
}

/// A text in JSON.
fn string<'a>(of: &'a Value, pointer: &str) -> &'a str {
    let found = of.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("{pointer} is {:?}, not a text", of.pointer(pointer)))
}

/// The row of a list of types with this name.
fn row_of<'a>(rows: &'a [Value], name: &str) -> Option<&'a Value> {
    rows.iter().find(|row| row["type"] == name)
}

/// Percent of pymalloc's live bytes that are typed, owned or on free lists.
fn covered(snapshot: &Value) -> f64 {
    let bytes = |what: &str| number(snapshot, &format!("/objects/pymalloc/{what}"));
    let known = bytes("typed") + bytes("owned") + bytes("free_listed");
    100.0 * known as f64 / (known + bytes("unknown")).max(1) as f64
}

/// At least 98% of pymalloc's live bytes are explained, and all terms sum to what the heap has.
fn is_explained(snapshot: &Value, what: &str) {
    let percent = covered(snapshot);
    eprintln!("{what}: {percent:.2}% of pymalloc's live bytes are explained");
    assert!(percent >= 98.0, "{what}: {percent:.2}%: {:#}", snapshot["objects"]["pymalloc"]);
    // Not of what is left when the rest was forgotten: the account, which knows no objects, has as much.
    let classes = list(snapshot, "/pymalloc/classes");
    let live: u64 = classes.iter().map(|c| number(c, "/size") * number(c, "/used_blocks")).sum();
    let terms = ["typed", "owned", "free_listed", "unknown"];
    let told: u64 = terms.iter().map(|t| number(snapshot, &format!("/objects/pymalloc/{t}"))).sum();
    assert!(told.abs_diff(live) * 1000 <= live, "{what}: {told} of {live} live bytes");
    let all = number(snapshot, "/objects/all/bytes");
    let parts: u64 = ["typed", "owned", "free_listed", "unknown"]
        .iter()
        .map(|part| number(snapshot, &format!("/objects/{part}/bytes")))
        .sum();
    assert_eq!(all, parts, "{what}");
}
