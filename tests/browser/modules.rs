//! The scripts' own tests (`crates/report/src/html/tests`), which need no page: node runs them.

use std::fs;
use std::process::Command;

use pydefrag_harness::repository;

use crate::support::{lacking, text};

#[test]
fn the_scripts_keep_their_own_tests() {
    let folder = repository().join("crates/report/src/html/tests");
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut tests: Vec<_> = files.flatten().map(|file| file.path()).collect();
    tests.retain(|file| file.to_string_lossy().ends_with(".test.mjs"));
    assert!(!tests.is_empty(), "{} has no *.test.mjs", folder.display());
    let Ok(out) = Command::new("node").arg("--test").args(&tests).output() else {
        return lacking("node");
    };
    let (said, errors) = text(&out);
    assert!(out.status.success(), "{said}{errors}");
    // Files that node does not find, or that hold no test, fail nothing.
    let passed = said.lines().find_map(|line| {
        let count = line.trim_start_matches(['#', 'ℹ', ' ']).strip_prefix("pass ")?;
        count.trim().parse::<usize>().ok()
    });
    assert!(passed.is_some_and(|n| n >= tests.len()), "{said}");
}
