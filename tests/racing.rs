//! A target that runs on at full speed while it is looked at.

use pydefrag_harness::{Interpreter, Interpreters, Target, matrix};
use serde_json::Value;

use crate::support::{TERMS, run, text};

/// 200 in the whole matrix.
fn snapshots() -> usize {
    if matrix::is_whole() { 200 } else { 50 }
}

/// Of threads that churn malloc's arenas, which take longer: 50.
fn snapshots_of_malloc() -> usize {
    if matrix::is_whole() { 50 } else { 16 }
}

/// Snapshots in a row of a target that allocates and frees without pause: no crash, no hang, no
/// nonsense; under 0.1% of the pools stay torn.
fn snapshots_in_a_row(interpreter: &Interpreter, how: &[&str]) {
    let target = Target::spawn(interpreter, "churn.py", how, &[]);
    let (mut pools, mut left, mut retried) = (0, 0, 0);
    for i in 0..snapshots() {
        let out = run(&["snapshot", &target.pid().to_string(), "--json"]);
        let (stdout, stderr) = text(&out);
        assert!(out.status.success(), "snapshot {i} on {}: {stderr}", interpreter.name);
        let s: Value = serde_json::from_str(&stdout).unwrap();
        is_no_nonsense(&s);
        let number = |name: &str| s["torn"][name].as_u64().unwrap();
        pools += number("pools");
        left += number("left");
        retried += number("retried");
    }
    eprintln!("{}: {pools} pools, {retried} read again, {left} stayed torn", interpreter.name);
    assert!(pools > 0 && left * 1000 < pools, "{left} of {pools} pools stayed torn");
    assert!(target.stderr().is_empty(), "{}", target.stderr());
}

/// Nothing can be larger than what contains it, and every account balances.
fn is_no_nonsense(s: &Value) {
    let number = |v: &Value| v.as_u64().unwrap_or_else(|| panic!("{v} in {s:#}"));
    let rss = number(&s["memory"]["rss"]);
    let owners = s["owners"].as_array().unwrap();
    let sum: u64 = owners.iter().map(|o| number(&o["resident"])).sum();
    // Mappings come and go between two system calls, never by much.
    assert!(sum.abs_diff(rss) <= rss / 2, "{sum} of {rss}: {s:#}");
    for o in owners.iter().filter(|o| o.get("live").is_some()) {
        let terms: u64 = TERMS.iter().map(|t| number(&o[*t])).sum();
        let total = terms + o["rounding"].as_u64().unwrap_or(0);
        assert_eq!(total, number(&o["resident"]), "{o:#}");
    }
    let p = &s["pymalloc"];
    for c in p["classes"].as_array().unwrap() {
        let (pools, used) = (number(&c["pools"]), number(&c["used_blocks"]));
        assert!(used >= pools && pools <= number(&s["torn"]["pools"]), "{c}");
    }
    assert!(number(&p["arenas"]) > 0);
    assert!((0.0..=100.0).contains(&s["fragmentation"]["percent"].as_f64().unwrap()));
    assert!(number(&s["ladder"]["purge"]) <= number(&s["ladder"]["ideal"]));
}

#[test]
fn the_oldest_interpreter_at_full_speed() {
    let all = Interpreters::load().minors();
    snapshots_in_a_row(all.first().expect("an interpreter"), &[]);
}

#[test]
fn the_newest_interpreter_at_full_speed() {
    let all = Interpreters::load().minors();
    snapshots_in_a_row(all.last().expect("an interpreter"), &[]);
}

/// Whole arenas come and go between any two reads.
#[test]
fn arenas_that_come_and_go() {
    for interpreter in Interpreters::load().minors() {
        if matches!(interpreter.minor, 8 | 11 | 12 | 15) {
            snapshots_in_a_row(interpreter, &["bursts"]);
        }
    }
}

/// ps looks at a target at full speed too.
#[test]
fn ps_at_full_speed() {
    let all = Interpreters::load().minors();
    let target = Target::spawn(all[all.len() / 2], "churn.py", &[], &[]);
    for _ in 0..20 {
        let (stdout, _) = text(&run(&["ps", "--json"]));
        let s: Value = serde_json::from_str(&stdout).unwrap();
        let rows = s["processes"].as_array().unwrap();
        let row = rows.iter().find(|r| r["pid"] == target.pid()).expect("the target is listed");
        assert!(row["live"].as_u64().unwrap() <= row["rss"].as_u64().unwrap(), "{row}");
    }
}

/// Snapshots in a row of threads that churn malloc's arenas: what cannot be followed stays small.
fn malloc_in_a_row(interpreter: &Interpreter, script: &str, env: &[(&str, &str)]) {
    let target = Target::spawn(interpreter, script, &[], env);
    let mut shares = Vec::new();
    for i in 0..snapshots_of_malloc() {
        let out = run(&["snapshot", &target.pid().to_string(), "--json"]);
        let (stdout, stderr) = text(&out);
        assert!(out.status.success(), "snapshot {i} on {}: {stderr}", interpreter.name);
        let s: Value = serde_json::from_str(&stdout).unwrap();
        let sum = |term: &str| -> u64 {
            let owners = s["owners"].as_array().unwrap().iter();
            let of = owners.filter(|o| o["kind"] == "malloc" && o.get("live").is_some());
            of.map(|o| o[term].as_u64().unwrap()).sum()
        };
        for o in s["owners"].as_array().unwrap().iter().filter(|o| o.get("live").is_some()) {
            let terms: u64 = TERMS.iter().map(|t| o[*t].as_u64().unwrap()).sum();
            let total = terms + o["rounding"].as_u64().unwrap_or(0);
            assert_eq!(total, o["resident"].as_u64().unwrap(), "{o:#}");
        }
        assert!(sum("resident") > 1 << 20, "{s:#}");
        shares.push(100.0 * sum("unread") as f64 / sum("resident") as f64);
    }
    shares.sort_by(f64::total_cmp);
    let (median, worst) = (shares[shares.len() / 2], shares[shares.len() - 1]);
    eprintln!(
        "{script} {env:?} on {}: {median:.3}% unread, at worst {worst:.3}%",
        interpreter.name
    );
    assert!(median < 2.0, "{median}% of malloc is unread");
    assert!(target.stderr().is_empty(), "{}", target.stderr());
}

#[test]
fn malloc_at_full_speed() {
    let mut all = Interpreters::load().minors();
    // 2.36 and 2.43, of the libraries that are there.
    all.retain(|i| matches!(i.minor, 12 | 15));
    for interpreter in all {
        malloc_in_a_row(interpreter, "malloc_churn.py", &[]);
        malloc_in_a_row(interpreter, "malloc_churn.py", &[("PYTHONMALLOC", "malloc")]);
        malloc_in_a_row(interpreter, "churn.py", &[("PYTHONMALLOC", "malloc")]);
    }
}
