//! The tests that run a part of their matrix each time, run whole: too long for every change, and so on record.
//!
//! Owns the ledger `docs/matrix.jsonl`, a line per test as it comes, and the page made of it, `docs/matrix.md`. A test
//! that passed at this commit is not run again; of two lines of a test the later counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pydefrag_harness::repository;
use serde::{Deserialize, Serialize};

/// The tests that ask `pydefrag_harness::matrix`, and what their whole matrix is.
const TESTS: &[(&str, &str)] = &[
    ("ground_truth::examples", "9 examples on every interpreter"),
    ("map::of_examples", "5 examples on 4 interpreters"),
    ("objects::coverage", "9 examples on 5 interpreters, 6 programs on as many"),
    ("objects::garbage", "3 controls on every minor version"),
    ("racing::", "200 snapshots in a row of each target, 50 of malloc's"),
    ("verdicts::", "9 examples at 3 sizes with 3 seeds"),
];

const HEAD: &str = "\
# The whole matrix

Made by `cargo xtask matrix` from `docs/matrix.jsonl`. These tests run a part of their matrix with every change, drawn so
that each program and each interpreter is in it; here they ran whole.

| tests | whole matrix | outcome | minutes | commit |
|---|---|---|--:|---|
";

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// What `cargo test` is given to choose them.
    tests: String,
    /// A `+` behind it: with changes that were not committed.
    commit: String,
    passed: bool,
    /// As `cargo test` says them.
    outcome: String,
    minutes: f64,
}

fn path() -> PathBuf {
    repository().join("docs/matrix.jsonl")
}

/// The last line of each.
fn read() -> Result<BTreeMap<String, Record>> {
    let text = match fs::read_to_string(path()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let record: Record = serde_json::from_str(line).context("docs/matrix.jsonl")?;
        all.insert(record.tests.clone(), record);
    }
    Ok(all)
}

fn page(records: &BTreeMap<String, Record>) -> String {
    let mut page = HEAD.to_owned();
    for (tests, whole) in TESTS {
        let row = match records.get(*tests) {
            None => format!("| `{tests}` | {whole} | not run | | |"),
            Some(r) => {
                format!("| `{tests}` | {whole} | {} | {:.1} | {} |", r.outcome, r.minutes, r.commit)
            }
        };
        let _ = writeln!(page, "{row}");
    }
    page
}

/// This commit, with a `+` where there are changes.
fn commit() -> Result<String> {
    let git = |args: &[&str]| -> Result<String> {
        let said = Command::new("git").args(args).current_dir(repository()).output()?;
        ensure!(said.status.success(), "git {}: {}", args[0], said.status);
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    };
    let code = ["crates", "tests", "examples"];
    let changed = !git(&[&["status", "--porcelain", "--"], &code[..]].concat())?.is_empty();
    let commit = git(&[&["log", "-1", "--format=%h", "--"], &code[..]].concat())?;
    Ok(commit + if changed { "+" } else { "" })
}

/// Runs what has not passed at this commit, and makes the page.
pub(crate) fn run() -> Result<()> {
    let commit = commit()?;
    let mut failed = Vec::new();
    for (tests, _) in TESTS {
        let known = read()?.remove(*tests);
        if known.is_some_and(|r| r.passed && r.commit == commit && !commit.ends_with('+')) {
            eprintln!("matrix: {tests} has passed at {commit}");
            continue;
        }
        eprintln!("matrix: {tests}");
        let begun = Instant::now();
        let said = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["test", "-p", "pydefrag-cli", "--test", "tests", "--", tests])
            .env("PYDEFRAG_MATRIX", "whole")
            .current_dir(repository())
            .output()
            .context("cargo")?;
        let out = String::from_utf8_lossy(&said.stdout);
        let result = out.lines().rev().find_map(|l| l.strip_prefix("test result: "));
        let words = result.unwrap_or("not run").split("; ").take(2).collect::<Vec<_>>().join(", ");
        // A filter that nothing answers to passes, and shows nothing.
        let passed = said.status.success() && !out.contains("running 0 tests");
        if !passed {
            eprint!("{out}{}", String::from_utf8_lossy(&said.stderr));
            failed.push(*tests);
        }
        let record = Record {
            tests: (*tests).to_owned(),
            commit: commit.clone(),
            passed,
            outcome: words,
            minutes: (begun.elapsed().as_secs_f64() / 6.0).round() / 10.0,
        };
        let line = serde_json::to_string(&record)? + "\n";
        let mut file = OpenOptions::new().create(true).append(true).open(path())?;
        file.write_all(line.as_bytes()).context("docs/matrix.jsonl")?;
        fs::write(repository().join("docs/matrix.md"), page(&read()?)).context("docs/matrix.md")?;
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_run_is_said() {
        let record = Record {
            tests: "verdicts::".into(),
            commit: "abc".into(),
            passed: true,
            outcome: "ok. 10 passed, 0 failed".into(),
            minutes: 2.5,
        };
        let page = page(&BTreeMap::from([(record.tests.clone(), record)]));
        assert!(page.contains("| ok. 10 passed, 0 failed | 2.5 | abc |"));
        assert_eq!(page.matches("| not run |").count(), TESTS.len() - 1);
    }
}
