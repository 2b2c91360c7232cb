//! Cycles that nothing refers to, as the collector then finds them; and what it was told to leave alone.

use pydefrag_harness::{Interpreters, Target, matrix};
use serde_json::Value;

use super::{list, look, number, row_of};

const CYCLES: u64 = 10_000;

fn within_one_percent(told: u64, wanted: u64) -> bool {
    told.abs_diff(wanted) * 100 <= wanted
}

/// The generations, by name; all but the frozen ones sum to what is tracked.
fn frozen_of(s: &Value, what: &str) -> u64 {
    let generations = list(s, "/garbage/generations");
    let (frozen, counted): (Vec<_>, Vec<_>) =
        generations.iter().partition(|g| g["name"] == "frozen");
    assert!((2..=3).contains(&counted.len()), "{what}: {generations:#?}");
    let sum: u64 = counted.iter().map(|g| number(g, "/tracked")).sum();
    assert_eq!(sum, number(s, "/objects/tracked"), "{what}: {generations:#?}");
    let garbage: u64 = generations.iter().map(|g| number(g, "/garbage/count")).sum();
    assert_eq!(garbage, number(s, "/garbage/objects"), "{what}: {generations:#?}");
    frozen.iter().map(|g| number(g, "/tracked")).sum()
}

fn planted(kind: &str, of: &str) {
    for interpreter in Interpreters::load().minors() {
        let what = format!("{kind} on {}", interpreter.name);
        let mut target = Target::spawn(interpreter, "garbage.py", &[kind, "10000"], &[]);
        let s = look(&target, &[]);
        // 3.12 freezes what it starts with.
        let frozen: u64 = target.ask("frozen").trim().parse().expect("a count");
        assert!(frozen_of(&s, &what).abs_diff(frozen) <= 10, "{what}: {frozen}");
        let garbage = &s["garbage"];
        let row = row_of(list(garbage, "/by_type"), of);
        let row = row.unwrap_or_else(|| panic!("{what}: {garbage:#}"));
        assert!(within_one_percent(number(row, "/count"), CYCLES), "{what}: {garbage:#}");
        // With their dicts, or without: as many as the collector now finds.
        let found: u64 = target.ask("collect").trim().parse().expect("a count");
        assert!(found >= CYCLES, "{what}: {found}");
        let told = number(garbage, "/objects");
        assert!(within_one_percent(told, found), "{what}: {told}, not {found}: {garbage:#}");
        // An instance or a list asks for no less.
        assert!(number(garbage, "/bytes") >= told * 48, "{what}: {garbage:#}");
        assert!(number(garbage, "/blocks") >= told, "{what}: {garbage:#}");
        // Once it is collected, it is gone.
        let after = look(&target, &[]);
        assert!(number(&after, "/garbage/objects") <= 20, "{what}: {:#}", after["garbage"]);
    }
}

#[test]
fn cycles_of_instances() {
    planted("instances", "__main__.Node");
}

#[test]
fn cycles_of_lists() {
    planted("lists", "list");
}

/// The same cycles, kept by a list of the module, are no garbage; nor is anything of a plain heap.
#[test]
fn none_in_the_control() {
    for (turn, interpreter) in Interpreters::load().minors().into_iter().enumerate() {
        let controls = [
            ("garbage.py", &["kept", "instances", "10000"][..]),
            ("garbage.py", &["kept", "lists", "10000"]),
            ("oracle.py", &["3000"]),
        ];
        for (script, args) in matrix::part(controls, turn, 3) {
            let target = Target::spawn(interpreter, script, args, &[]);
            let s = look(&target, &[]);
            let what = format!("{script} {args:?} on {}: {:#}", interpreter.name, s["garbage"]);
            assert!(number(&s, "/garbage/objects") <= 20, "{what}");
        }
    }
}

/// What `gc.freeze()` took from the collector is counted apart, and is no garbage.
#[test]
fn frozen_objects_are_counted_apart() {
    for interpreter in Interpreters::load().minors() {
        let mut target = Target::spawn(interpreter, "frozen.py", &[], &[]);
        let s = look(&target, &[]);
        let what = &interpreter.name;
        let counted: u64 =
            target.ask("eval gc.get_freeze_count()").trim().parse().expect("a count");
        assert!(counted >= 5000, "{what}: {counted}");
        let frozen = frozen_of(&s, what);
        assert!(frozen.abs_diff(counted) <= 10, "{what}: {frozen}, not {counted}");
        let types = list(&s, "/objects/types");
        let row = |name: &str| row_of(types, name).unwrap_or_else(|| panic!("{what}: no {name}"));
        let of = |name: &str| (number(row(name), "/count"), number(row(name), "/tracked"));
        assert_eq!(of("__main__.Early"), (5000, 0), "{what}");
        assert_eq!(of("__main__.Late"), (3000, 3000), "{what}");
        assert!(number(&s, "/garbage/objects") <= 20, "{what}: {:#}", s["garbage"]);
    }
}
