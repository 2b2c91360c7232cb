//! One test file in a process of its own: with the agent or without, until it ends or its time is up.
//!
//! Owns the process and what its output says: which tests failed, whether it was skipped, how often the agent healed. What
//! a trace says is `suites/trace.rs`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pydefrag_harness::Interpreter;
use serde::Deserialize;

use super::kind::{Did, Healed, Kind};
use super::ledger::{Outcome, Record};
use super::trace;

/// What is needed to run any of an interpreter's.
pub(super) struct Runner<'a> {
    pub(super) kind: Kind,
    pub(super) interpreter: &'a Interpreter,
    /// The agent's library.
    pub(super) agent: PathBuf,
    /// The folder with sitecustomize.
    pub(super) bootstrap: PathBuf,
    /// Folders that stay on PYTHONPATH.
    pub(super) packages: Option<PathBuf>,
    /// Where what failed is kept.
    pub(super) logs: PathBuf,
    pub(super) limit: Duration,
}

/// A test file: its name in the ledger, and what is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    /// Fewer heals or events than this are a failure of their own.
    pub(super) least: u64,
}

/// What one process did.
struct Ran {
    passed: bool,
    skipped: bool,
    failed: BTreeSet<String>,
    did: Did,
    /// What is wrong whatever the tests say.
    wrong: Vec<String>,
    notes: Vec<String>,
    seconds: f64,
}

/// What the agent says of itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Status {
    /// Heals that did not stop at malloc.
    purges: u64,
    pools_parked: u64,
    pools_unparked: u64,
    bytes_dropped: u64,
}

#[derive(Deserialize)]
struct Said {
    done: Status,
}

/// How a process came to its end.
enum Ended {
    Itself(ExitStatus),
    /// Its time was up.
    Late,
    /// Its trace took too much of the disk.
    Large,
}

/// A trace is no larger than this, in GiB.
const LARGEST_TRACE: u64 = 8;

/// regrtest's exit code where all that was asked for was skipped (Lib/test/libregrtest/results.py, 3.12).
const NO_TESTS_RAN: i32 = 4;

impl Runner<'_> {
    /// Runs a file with the agent; where it fails, without, and where that makes a difference, with it again.
    /// The record has no commit yet.
    pub(super) fn run(&self, job: &Job) -> Result<Record> {
        let with = self.once(job, true)?;
        let mut record = Record {
            version: self.interpreter.patch.clone(),
            test: job.name.clone(),
            commit: String::new(),
            agent: String::new(),
            outcome: if with.skipped { Outcome::Skipped } else { Outcome::Passed },
            did: with.did,
            seconds: (with.seconds * 10.0).round() / 10.0,
            new: with.wrong.clone(),
            old: Vec::new(),
            note: (!with.notes.is_empty()).then(|| with.notes.join("; ")),
        };
        if !with.passed {
            self.compare(job, &with, &mut record)?;
        }
        if !record.new.is_empty() {
            record.outcome = Outcome::NewFailure;
        }
        Ok(record)
    }

    /// Says of what failed whether it fails without the agent too, and again with it.
    fn compare(&self, job: &Job, with: &Ran, record: &mut Record) -> Result<()> {
        let without = self.once(job, false)?;
        record.old = without.failed.iter().cloned().collect();
        let suspects: BTreeSet<String> = with.failed.difference(&without.failed).cloned().collect();
        if !without.passed {
            record.outcome = Outcome::FailsWithoutUs;
        }
        if suspects.is_empty() {
            return Ok(());
        }
        let again = self.once(job, true)?;
        record.did.add(&again.did);
        record.new.extend(again.wrong);
        let new: Vec<String> = suspects.intersection(&again.failed).cloned().collect();
        if new.is_empty() {
            let names: Vec<&str> = suspects.iter().map(String::as_str).collect();
            let once = format!("failed once with the agent, then passed: {}", names.join(", "));
            record.note = Some(record.note.take().map_or(once.clone(), |n| format!("{n}; {once}")));
        }
        record.new.extend(new);
        Ok(())
    }

    fn once(&self, job: &Job, with: bool) -> Result<Ran> {
        let folder = tempfile::Builder::new().prefix("suite").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        for name in ["home", "tmp", "work"] {
            fs::create_dir(path(name))?;
        }
        let said = File::create(path("said"))?;
        let of = self.interpreter;
        let python_path: Vec<&Path> = [Some(&self.bootstrap), self.packages.as_ref()]
            .into_iter()
            .flatten()
            .map(|p| &**p)
            .collect();
        // Ends with us: a run that is cut off leaves nobody behind. A shell that starts us in its background has these
        // signals ignored, and tests that send them would wait.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "env", "--default-signal=HUP,INT,QUIT"])
            .arg(&of.program)
            .args(&of.args)
            .args(&job.args)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", path("home"))
            .env("TMPDIR", path("tmp"))
            .env("LANG", "C.UTF-8")
            .env("PYTHONHASHSEED", "0")
            .envs(of.env.iter().map(|(key, value)| (key, value)))
            .env("PYTHONPATH", std::env::join_paths(python_path)?)
            .env("PYDEFRAG_SUITES_STATUS", path("status"))
            .current_dir(path("work"))
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        let trace = path("test.pdtrace.part");
        match self.kind {
            Kind::Purge if with => {
                command.env("PYDEFRAG_SUITES_AGENT", &self.agent);
            }
            Kind::Record if with => {
                command.env("LD_PRELOAD", &self.agent).env("PYDEFRAG_RECORD", self.wanted(&trace));
            }
            _ => {}
        }
        let begun = Instant::now();
        let ended = wait(&mut command, self.limit, &trace)?;
        let seconds = begun.elapsed().as_secs_f64();
        let said = String::from_utf8_lossy(&fs::read(path("said"))?).into_owned();
        let code = match &ended {
            Ended::Itself(status) => status.code(),
            Ended::Late | Ended::Large => None,
        };
        let skipped = code == Some(NO_TESTS_RAN) || (code == Some(0) && was_skipped(&said));
        let passed = code == Some(0) || skipped;
        let mut failed = failures(&said);
        if !passed {
            failed.extend(match ended {
                Ended::Late => Some(format!("(not done after {} s)", self.limit.as_secs())),
                Ended::Large => Some(format!("(a trace of more than {LARGEST_TRACE} GiB)")),
                Ended::Itself(status) => how_it_ended(status, &said, failed.is_empty()),
            });
            let with = if with { "with" } else { "without" };
            fs::create_dir_all(&self.logs)?;
            let name = job.name.replace(['/', ' '], "_");
            fs::write(self.logs.join(format!("{name}.{with}.log")), &said)?;
        }
        let mut seen = trace::Seen::default();
        let did = match self.kind {
            Kind::Purge => Did::Healed(healed(&path("status"))),
            Kind::Record if !with => Did::nothing(self.kind),
            Kind::Record => {
                seen = trace::look(&trace, code.is_none());
                // Whatever else of the folder stays, this may be large.
                let _ = fs::remove_file(&trace);
                Did::Recorded(seen.recorded)
            }
        };
        if with && passed && did.amount() < job.least {
            seen.wrong.push(format!("(only {} {})", did.amount(), self.kind.unit()));
        }
        // Tests that fail leave folders without rights, and processes that still write.
        let _ = folder.close();
        let trace::Seen { wrong, notes, .. } = seen;
        Ok(Ran { passed, skipped, failed, did, wrong, notes, seconds })
    }

    /// What the recorder is told.
    fn wanted(&self, trace: &Path) -> String {
        let tool = concat!("xtask suites ", env!("CARGO_PKG_VERSION"));
        serde_json::json!({ "path": trace, "tool": tool, "library": self.agent, "check": true })
            .to_string()
    }
}

/// What the agent has written of itself, if it has.
fn healed(path: &Path) -> Healed {
    let text = fs::read_to_string(path).unwrap_or_default();
    let Status { purges, pools_parked, pools_unparked, bytes_dropped } =
        serde_json::from_str(&text).map_or(Status::default(), |said: Said| said.done);
    Healed { heals: purges, pools_parked, pools_unparked, bytes_dropped }
}

/// Runs it in a process group of its own, which ends with it.
fn wait(command: &mut Command, limit: Duration, trace: &Path) -> Result<Ended> {
    use std::os::unix::process::CommandExt;
    let mut child = command.process_group(0).spawn().context("cannot run setpriv")?;
    let group = Pid::from_raw(child.id() as i32);
    let begun = Instant::now();
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break Ended::Itself(ended);
        }
        let is_late = begun.elapsed() > limit;
        if is_late || fs::metadata(trace).is_ok_and(|file| file.len() > LARGEST_TRACE << 30) {
            // faulthandler, which regrtest enables, tells on SIGABRT where every thread stands.
            let _ = killpg(group, Signal::SIGABRT);
            std::thread::sleep(Duration::from_secs(1));
            let _ = killpg(group, Signal::SIGKILL);
            child.wait()?;
            break if is_late { Ended::Late } else { Ended::Large };
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // What a test left running.
    let _ = killpg(group, Signal::SIGKILL);
    Ok(ended)
}

/// What stands for an end that no test's name stands for.
fn how_it_ended(ended: ExitStatus, said: &str, unnamed: bool) -> Option<String> {
    use std::os::unix::process::ExitStatusExt;
    if let Some(signal) = ended.signal() {
        return Some(format!("(ended by signal {signal})"));
    }
    let fatal = said.lines().find(|line| line.starts_with("Fatal Python error"));
    fatal.map(|line| format!("({line})")).or(unnamed.then(|| format!("({ended})")))
}

/// regrtest's last lines where a file had nothing to run.
fn was_skipped(said: &str) -> bool {
    said.lines().any(|line| line == "1 test skipped:" || line == "1 test skipped")
}

/// The tests that unittest or pytest say failed, each once, without what follows the name: a subtest's parameters may
/// be addresses.
fn failures(said: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let unittest = line.strip_prefix("FAIL: ").or_else(|| line.strip_prefix("ERROR: "));
        let pytest = line.strip_prefix("FAILED ").or_else(|| line.strip_prefix("ERROR "));
        let (rest, words) = unittest.map(|rest| (rest, 2)).or(pytest.map(|rest| (rest, 1)))?;
        let words: Vec<&str> = rest.split(' ').take(words).collect();
        let name = words.join(" ");
        (name.contains("test") || name.contains('.')).then_some(name)
    };
    said.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_failures_are_read() {
        let said = "\
0:00:01 load avg: 1.0 [1/1] test_x
FAIL: test_a (test.test_x.X.test_a) [<object at 0x7f00>] (i=3)
FAIL: test_a (test.test_x.X.test_a) [<object at 0x7f08>]
ERROR: setUpClass (test.test_x.Y)
FAILED numpy/tests/test_m.py::TestA::test_b - AssertionError
FAILED (failures=1)
";
        let failed: Vec<String> = failures(said).into_iter().collect();
        assert_eq!(
            failed,
            [
                "numpy/tests/test_m.py::TestA::test_b",
                "setUpClass (test.test_x.Y)",
                "test_a (test.test_x.X.test_a)",
            ]
        );
    }

    #[test]
    fn a_skipped_file_is_told_from_one_that_passed() {
        assert!(was_skipped("1 test skipped:\n    test_winreg\n"));
        assert!(!was_skipped("1 test OK.\n"));
    }

    #[test]
    fn the_status_is_read() {
        let said = r#"{"done":{"bytes_dropped":5,"heals":3,"pools_parked":6,"pools_unparked":4,"purges":2}}"#;
        let said: Said = serde_json::from_str(said).expect("a status");
        let status = Status { purges: 2, pools_parked: 6, pools_unparked: 4, bytes_dropped: 5 };
        assert_eq!(said.done, status);
    }
}
