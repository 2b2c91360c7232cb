//! A ledger, as `docs/suites.jsonl`: a record per interpreter and test file, a line each, and the page made of it.
//!
//! Records are appended as they come, so that a run that is cut off loses nothing; of two of the same file the
//! later counts. [`Ledger::tidy`] leaves one each, in order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::kind::{COUNTS, Did, Kind};

/// What came of a test file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Passed with us.
    Passed,
    /// Has nothing for this machine: skipped whole, with and without us.
    Skipped,
    /// What fails, fails without us too.
    FailsWithoutUs,
    /// Fails with us, twice, and not without; or we have failed.
    NewFailure,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Of the interpreter, as in `3.11.7`.
    pub(super) version: String,
    /// As libregrtest lists it; of a package's, `package: file`.
    pub(super) test: String,
    /// The last commit that changed the agent.
    pub(super) commit: String,
    /// git's hash of the agent's folder: it stays when commits are moved.
    pub(super) agent: String,
    pub(super) outcome: Outcome,
    /// Takes every field that is none of these.
    #[serde(flatten)]
    pub(super) did: Did,
    /// Of the run that counts.
    pub(super) seconds: f64,
    /// The tests that fail with us and not without; in brackets what no test's name stands for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) new: Vec<String>,
    /// Those that fail without us too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) old: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// How many test files the interpreter's suite has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    pub(super) version: String,
    pub(super) listed: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Listed(Listed),
    Record(Record),
}

/// The records of all versions; each file's last.
pub(super) struct Ledger {
    kind: Kind,
    path: PathBuf,
    records: BTreeMap<(Version, String), Record>,
    listed: BTreeMap<Version, Listed>,
}

/// In the order of numbers.
type Version = Vec<u32>;

fn version(text: &str) -> Version {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

impl Ledger {
    /// Reads it; one that is not there is empty.
    pub(super) fn read(kind: Kind, path: PathBuf) -> Result<Ledger> {
        let mut ledger = Ledger { kind, path, records: BTreeMap::new(), listed: BTreeMap::new() };
        let text = match fs::read_to_string(&ledger.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.with_context(|| ledger.path.display().to_string())?,
        };
        for (number, line) in text.lines().enumerate() {
            let place = || format!("{}:{}", ledger.path.display(), number + 1);
            let line: Line = serde_json::from_str(line).with_context(place)?;
            let is_ours = !matches!(&line, Line::Record(one) if one.did.kind() != kind);
            ensure!(is_ours, "{} is of the other kind", place());
            ledger.take(line);
        }
        Ok(ledger)
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Listed(one) => drop(self.listed.insert(version(&one.version), one)),
            Line::Record(one) => {
                drop(self.records.insert((version(&one.version), one.test.clone()), one));
            }
        }
    }

    /// The record of a test file.
    pub(super) fn get(&self, of: &str, test: &str) -> Option<&Record> {
        self.records.get(&(version(of), test.to_owned()))
    }

    fn append(&mut self, line: Line) -> Result<()> {
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        file.write_all(text.as_bytes()).with_context(|| self.path.display().to_string())?;
        self.take(line);
        Ok(())
    }

    /// Adds a record, on disk at once.
    pub(super) fn add(&mut self, record: Record) -> Result<()> {
        self.append(Line::Record(record))
    }

    /// Notes the length of the interpreter's suite.
    pub(super) fn list(&mut self, of: &str, listed: usize) -> Result<()> {
        if self.listed.get(&version(of)).is_some_and(|known| known.listed == listed) {
            return Ok(());
        }
        self.append(Line::Listed(Listed { version: of.to_owned(), listed }))
    }

    /// Writes it anew: one line each, in order.
    pub(super) fn tidy(&self) -> Result<()> {
        let mut text = String::new();
        let listed = self.listed.values().map(|one| Line::Listed(one.clone()));
        let records = self.records.values().map(|one| Line::Record(one.clone()));
        for line in listed.chain(records) {
            text += &serde_json::to_string(&line)?;
            text.push('\n');
        }
        let part = self.path.with_extension("jsonl.part");
        fs::write(&part, text)?;
        fs::rename(&part, &self.path)?;
        Ok(())
    }

    /// The page.
    pub(super) fn page(&self) -> String {
        let kind = self.kind;
        let counts = kind.columns().join(" | ");
        let mut page = kind.head().to_owned();
        let of = |of: &Version, packages: bool| -> Vec<&Record> {
            let all = self.records.iter().filter(|((version, _), _)| version == of);
            all.map(|(_, record)| record).filter(|r| r.is_of_package() == packages).collect()
        };
        let mut versions: Vec<&Version> = self.records.keys().map(|(version, _)| version).collect();
        versions.dedup();
        let _ = write!(
            page,
            "## CPython's own tests\n\n\
             | CPython | files | of | passed | skipped | fail without us | new failures | {counts} |\n\
             |---|---:|---:|---:|---:|---:|---:|{}\n",
            "---:|".repeat(COUNTS)
        );
        for version in &versions {
            let records = of(version, false);
            let Some(first) = records.first() else { continue };
            let listed = self.listed.get(*version).map_or("?".into(), |l| l.listed.to_string());
            let _ = writeln!(
                page,
                "| {} | {} | {listed} {}",
                first.version,
                records.len(),
                row(kind, &records)
            );
        }
        if self.records.values().any(Record::is_of_package) {
            let _ = write!(
                page,
                "\n## Packages\n\n\
                 | package | CPython | files | passed | skipped | fail without us | new failures | {counts} |\n\
                 |---|---|---:|---:|---:|---:|---:|{}\n",
                "---:|".repeat(COUNTS)
            );
        }
        for version in &versions {
            let mut packages: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
            for record in of(version, true) {
                packages.entry(record.package()).or_default().push(record);
            }
            for (package, records) in packages {
                let count = records.len();
                let _ = writeln!(
                    page,
                    "| {package} | {} | {count} {}",
                    records[0].version,
                    row(kind, &records)
                );
            }
        }
        let all: Vec<&Record> = self.records.values().collect();
        page += "\n## New failures\n\n";
        let new: Vec<_> = all.iter().filter(|r| r.outcome == Outcome::NewFailure).collect();
        if new.is_empty() {
            page += "None.\n";
        }
        for record in new {
            let names = record.new.join("`, `");
            let note = record.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
            let _ = writeln!(page, "- {} {}: `{names}`{note}", record.version, record.test);
        }
        page += "\n## What is left out\n\n";
        for one in super::choice::LEFT_OUT.iter().filter(|one| one.kinds.contains(&kind)) {
            let of = match (one.minors.start(), *one.minors.end()) {
                (first, u32::MAX) => format!("3.{first} and later"),
                (first, last) if *first == last => format!("3.{first}"),
                (first, last) => format!("3.{first} to 3.{last}"),
            };
            let _ = writeln!(page, "- {of}, {}: `{}`: {}.", one.file, one.name, one.why);
        }
        let _ = write!(
            page,
            "\n## What fails without us\n\nFor want of a network, a locale, a user that is not root, or a \
             library of another version; the rest of each file passes {kind} as it does without, \
             unless the file never ends: then it shows nothing.\n\n"
        );
        for version in &versions {
            let old = all.iter().filter(|r| r.outcome == Outcome::FailsWithoutUs);
            let old: Vec<_> = old.filter(|r| self::version(&r.version) == **version).collect();
            let names: Vec<_> = old.iter().map(|r| r.test.replace("test.test_", "test_")).collect();
            if let Some(first) = old.first() {
                let _ = writeln!(page, "- {}: {}", first.version, names.join(", "));
            }
        }
        page
    }

    /// Writes the page beside it.
    pub(super) fn write_page(&self) -> Result<()> {
        let path = self.path.with_extension("md");
        fs::write(&path, self.page()).with_context(|| path.display().to_string())
    }

    /// Fails where the page is not what the ledger gives.
    #[cfg(test)]
    fn check_page(&self) -> Result<()> {
        let there = fs::read_to_string(self.path.with_extension("md"))?;
        ensure!(there == self.page(), "its page has not been made by cargo xtask suites --docs");
        Ok(())
    }
}

impl Record {
    fn is_of_package(&self) -> bool {
        self.test.contains(": ")
    }

    fn package(&self) -> &str {
        self.test.split(": ").next().unwrap_or_default()
    }
}

fn row(kind: Kind, records: &[&Record]) -> String {
    let count = |outcome| records.iter().filter(|r| r.outcome == outcome).count();
    let mut all = Did::nothing(kind);
    records.iter().for_each(|r| all.add(&r.did));
    format!(
        "| {} | {} | {} | {} | {} |",
        count(Outcome::Passed),
        count(Outcome::Skipped),
        count(Outcome::FailsWithoutUs),
        count(Outcome::NewFailure),
        all.cells().join(" | ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::kind::{Healed, Recorded};
    use super::*;

    fn record(of: &str, test: &str, outcome: Outcome) -> Record {
        Record {
            version: of.into(),
            test: test.into(),
            commit: "c".into(),
            agent: "a".into(),
            outcome,
            did: Did::Healed(Healed {
                heals: 60,
                pools_parked: 2,
                pools_unparked: 1,
                bytes_dropped: 3 << 20,
            }),
            seconds: 0.5,
            new: Vec::new(),
            old: Vec::new(),
            note: None,
        }
    }

    #[test]
    fn the_later_record_counts_and_a_tidy_ledger_reads_the_same() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("ledger.jsonl");
        let mut ledger = Ledger::read(Kind::Purge, path.clone())?;
        ledger.list("3.11.7", 400)?;
        ledger.add(record("3.11.7", "test_b", Outcome::NewFailure))?;
        ledger.add(record("3.9.18", "test_b", Outcome::Passed))?;
        ledger.add(record("3.11.7", "test_b", Outcome::Passed))?;
        ledger.add(record("3.11.7", "numpy: x.py", Outcome::Passed))?;
        let again = Ledger::read(Kind::Purge, path.clone())?;
        assert_eq!(again.page(), ledger.page());
        assert!(
            again.page().contains("| 3.11.7 | 1 | 400 | 1 | 0 | 0 | 0 | 60 | 2 | 1 | 3 |"),
            "{}",
            again.page()
        );
        assert!(again.page().contains("| numpy | 3.11.7 | 1 | 1 |"), "{}", again.page());
        again.tidy()?;
        assert_eq!(fs::read_to_string(&path)?.lines().count(), 4);
        assert_eq!(Ledger::read(Kind::Purge, path)?.page(), ledger.page());
        Ok(())
    }

    #[test]
    fn a_line_has_the_counts_of_its_kind_and_nothing_else() -> Result<()> {
        let mut one = record("3.11.7", "test_b", Outcome::Passed);
        let healed = serde_json::to_string(&one)?;
        assert!(healed.contains(r#""heals":60,"pools_parked":2,"#), "{healed}");
        assert_eq!(serde_json::from_str::<Record>(&healed)?, one);
        one.did = Did::Recorded(Recorded {
            events: 7,
            checked_stacks: 5,
            wrong_stacks: 0,
            trace_bytes: 9,
        });
        let recorded = serde_json::to_string(&one)?;
        assert!(recorded.contains(r#""events":7,"checked_stacks":5,"#), "{recorded}");
        assert_eq!(serde_json::from_str::<Record>(&recorded)?, one);
        for wrong in [recorded.replace("events", "evens"), recorded.replace("{", r#"{"more":1,"#)] {
            assert!(serde_json::from_str::<Record>(&wrong).is_err(), "{wrong}");
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("ledger.jsonl");
        fs::write(&path, recorded)?;
        assert!(Ledger::read(Kind::Purge, path.clone()).is_err());
        let page = Ledger::read(Kind::Record, path)?.page();
        assert!(page.contains("| 3.11.7 | 1 | ? | 1 | 0 | 0 | 0 | 7 | 5 | 0 | 0 |"), "{page}");
        Ok(())
    }

    #[test]
    fn the_pages_are_what_the_ledgers_give() -> Result<()> {
        for kind in [Kind::Purge, Kind::Record] {
            Ledger::read(kind, super::super::ledger_path(kind))?.check_page()?;
        }
        Ok(())
    }
}
