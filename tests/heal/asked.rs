//! An agent that is in the process, asked through its mailbox.

use super::*;
use crate::support::{run, snapshot};

#[test]
fn memory_comes_back_and_nothing_else_changes() {
    for of in minors(10..=15) {
        let mut target = target(of, &["agent"]);
        let unchanged = Unchanged::of(&mut target);
        let heal = healed(target.pid(), &[]);
        assert_eq!((&heal["way"], &heal["level"]), (&"agent".into(), &"purge".into()));
        let promised = heal["promised"].as_i64().expect("a walked heap");
        let returned = heal["returned"].as_i64().expect("bytes");
        assert!(promised > 10 << 20, "{}: {promised}", of.name);
        // Of it goes what the agent itself touches in its first heal, in a debug build more.
        assert!(returned * 10 > promised * 6, "{}: {returned} of {promised}", of.name);
        assert!(heal["work"]["pools_parked"].as_u64() > Some(100), "{}", heal["work"]);
        assert!(heal["left"]["keepers"][0]["owner"].as_str().expect("who").contains("survivors"));
        let owners = heal["owners"].as_array().expect("owners").iter();
        let bytes = |o: &Value, when| o["resident"][when].as_i64().expect("bytes");
        let pymalloc = owners.filter(|o| o["kind"] == "pymalloc");
        let shrunk: i64 = pymalloc.map(|o| bytes(o, "before") - bytes(o, "after")).sum();
        assert!(shrunk * 10 > promised * 8, "{}: {shrunk} of {promised}", of.name);
        unchanged.check(&mut target);
        let after = snapshot(target.pid());
        let left = after["ladder"]["purge"].as_i64().expect("a walked heap");
        assert!(left * 10 < promised, "{}: {left} of {promised} are left", of.name);
    }
}

#[test]
fn a_dry_run_says_what_would_be_and_does_nothing() {
    let of = minors(11..=11).into_iter().next().expect("3.11");
    let mut target = target(of, &["agent"]);
    let unchanged = Unchanged::of(&mut target);
    let heal = healed(target.pid(), &["--dry-run"]);
    assert_eq!((&heal["dry_run"], &heal["would_refuse"]), (&true.into(), &Value::Null));
    assert!(heal["work"].is_null() && heal["promised"].as_u64() > Some(10 << 20));
    let later = snapshot(target.pid());
    assert!(later["ladder"]["purge"].as_u64() > Some(10 << 20), "it was healed");
    unchanged.check(&mut target);
}

#[test]
fn what_came_back_is_looked_at_again() {
    let of = minors(12..=12).into_iter().next().expect("3.12");
    let target = target(of, &["agent"]);
    let pid = target.pid().to_string();
    let file = tempfile::tempdir().expect("a folder");
    let file = file.path().join("heal.txt").display().to_string();
    let out = run(&["fix", &pid, "--level", "trim", "--settle", "1", "-o", &file]);
    assert!(out.status.success() && out.stdout.is_empty(), "{}", text(&out).1);
    let report = std::fs::read_to_string(file).expect("a report");
    for said in
        ["trim by the agent in it", "Promised", "Returned", "Still returned", " after ", "Cost"]
    {
        assert!(report.contains(said), "{said}:\n{report}");
    }
}
