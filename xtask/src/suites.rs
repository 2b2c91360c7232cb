//! `cargo xtask suites`: CPython's own test suite, and packages with C extensions, under purge every 50 ms, or recorded.
//!
//! Owns what is run and in which order; what was done already is left alone. A ledger says what was done
//! (`suites/ledger.rs`), a job how (`suites/job.rs`), the kind what is counted (`suites/kind.rs`).

mod choice;
mod job;
mod kind;
mod ledger;
mod packages;
mod trace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use pydefrag_harness::{Interpreter, Interpreters, repository};

use job::{Job, Runner};
use kind::Kind;
use ledger::{Ledger, Outcome, Record};

pub(crate) const USAGE: &str = "\
usage: cargo xtask suites [OPTION]...

  --record          recorded, in place of under purge; a ledger of its own
  --only X.Y        this interpreter; may be given more than once
  --modules A,B     these test files, or all of these packages of tests
  --heavy           the files that use most memory
  --packages        only packages with C extensions
  --subset          a few of both kinds, for CI; the ledgers are left alone
  --jobs N          test files at a time (2)
  --minutes N       begin no other file after so long
  --limit N         seconds that a file may take (600)
  --again           also what the ledger has already
  --resume-any      leave out what the ledger has, of whatever agent
  --docs            only make the ledger's page, as docs/suites.md
";

#[derive(Default)]
struct Options {
    record: bool,
    only: Vec<String>,
    modules: Vec<String>,
    heavy: bool,
    packages: bool,
    subset: bool,
    jobs: usize,
    minutes: Option<u64>,
    limit: u64,
    again: bool,
    resume_any: bool,
    docs: bool,
}

fn options(args: &[&str]) -> Result<Options> {
    let mut options = Options { jobs: 2, limit: 600, ..Options::default() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{USAGE}"));
        match *arg {
            "--only" => options.only.push((*value()?).to_owned()),
            "--modules" => options.modules.extend(value()?.split(',').map(str::to_owned)),
            "--jobs" => options.jobs = value()?.parse().context("--jobs")?,
            "--minutes" => options.minutes = Some(value()?.parse().context("--minutes")?),
            "--limit" => options.limit = value()?.parse().context("--limit")?,
            "--record" => options.record = true,
            "--heavy" => options.heavy = true,
            "--packages" => options.packages = true,
            "--subset" => options.subset = true,
            "--again" => options.again = true,
            "--resume-any" => options.resume_any = true,
            "--docs" => options.docs = true,
            _ => bail!("{arg} is no option\n{USAGE}"),
        }
    }
    Ok(options)
}

fn ledger_path(kind: Kind) -> PathBuf {
    repository().join(match kind {
        Kind::Purge => "docs/suites.jsonl",
        Kind::Record => "docs/suites-record.jsonl",
    })
}

/// Runs what is asked for.
pub(crate) fn run(args: &[&str]) -> Result<()> {
    let options = options(args)?;
    let kind = if options.record { Kind::Record } else { Kind::Purge };
    if options.docs {
        let ledger = Ledger::read(kind, ledger_path(kind))?;
        ledger.tidy()?;
        return ledger.write_page();
    }
    let folder = repository().join(".cache/suites");
    let bootstrap = folder.join("bootstrap");
    fs::create_dir_all(&bootstrap)?;
    fs::write(bootstrap.join("sitecustomize.py"), include_str!("suites/sitecustomize.py"))?;
    let agent = Agent::build()?;
    let kinds = match kind {
        Kind::Purge if options.subset => vec![Kind::Purge, Kind::Record],
        one => vec![one],
    };
    let begun = Instant::now();
    let mut failed = Vec::new();
    for kind in kinds {
        let path = if options.subset {
            let path = folder.join(format!("subset-{kind:?}.jsonl").to_lowercase());
            if path.exists() {
                fs::remove_file(&path)?;
            }
            path
        } else {
            ledger_path(kind)
        };
        let ledger = Mutex::new(Ledger::read(kind, path.clone())?);
        let run = Run { kind, options: &options, agent: &agent, begun, folder: &folder, ledger };
        for one in run.interpreters()? {
            failed.extend(run.on(one)?);
        }
        if !options.subset {
            // Another run may have added to it.
            let ledger = Ledger::read(kind, path)?;
            ledger.tidy()?;
            ledger.write_page()?;
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// The library under test, and which it is.
struct Agent {
    library: PathBuf,
    commit: String,
    tree: String,
}

impl Agent {
    fn build() -> Result<Agent> {
        let top = repository();
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--package", "pydefrag-agent"])
            .current_dir(&top)
            .status()
            .context("cannot run cargo")?;
        ensure!(built.success(), "the agent was not built");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(top.join("target"), PathBuf::from);
        let library = target.join("release/libpydefrag_agent.so").canonicalize()?;
        let git = |args: &[&str]| -> Result<String> {
            let said = Command::new("git")
                .args(args)
                .current_dir(&top)
                .output()
                .context("cannot run git")?;
            ensure!(said.status.success(), "git: {}", String::from_utf8_lossy(&said.stderr));
            Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
        };
        // What is not committed has no name: it is marked, and never taken for done.
        let changed = !git(&["status", "--porcelain", "--", "crates/agent"])?.is_empty();
        let mark = if changed { "+" } else { "" };
        let commit = git(&["log", "-1", "--format=%h", "--", "crates/agent"])? + mark;
        let tree = git(&["rev-parse", "--short", "HEAD:crates/agent"])? + mark;
        Ok(Agent { library, commit, tree })
    }
}

struct Run<'a> {
    kind: Kind,
    options: &'a Options,
    agent: &'a Agent,
    begun: Instant,
    folder: &'a Path,
    ledger: Mutex<Ledger>,
}

impl Run<'_> {
    fn interpreters(&self) -> Result<Vec<&'static Interpreter>> {
        let all = Interpreters::load();
        let mut names: Vec<&str> = self.options.only.iter().map(String::as_str).collect();
        if names.is_empty() {
            names = if self.options.packages {
                packages::ON.to_vec()
            } else {
                [choice::WHOLE, choice::PART].concat()
            };
        }
        let found: Vec<_> = names.iter().filter_map(|name| all.get(name)).collect();
        ensure!(!found.is_empty(), "there is no python {}", names.join(", "));
        Ok(found)
    }

    /// Sentences for what went wrong.
    fn on(&self, interpreter: &Interpreter) -> Result<Vec<String>> {
        let options = self.options;
        let interpreter = &match crate::interpreters::with_suite(interpreter) {
            Ok(interpreter) => interpreter,
            // In CI what cannot be had is told where interpreters are brought.
            Err(error) if options.subset => {
                eprintln!("not run: the tests of {}: {error:#}", interpreter.name);
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let logs = if self.kind == Kind::Record { "logs-record" } else { "logs" };
        let mut runner = Runner {
            kind: self.kind,
            interpreter,
            agent: self.agent.library.clone(),
            bootstrap: self.folder.join("bootstrap"),
            packages: None,
            logs: self.folder.join(logs).join(&interpreter.patch),
            limit: Duration::from_secs(options.limit),
        };
        let mut failed = Vec::new();
        if !options.packages {
            failed.extend(self.all(&runner, self.jobs(interpreter)?)?);
        }
        let plain = options.modules.is_empty() && !options.heavy && !options.subset;
        if options.packages || (plain && packages::ON.contains(&interpreter.name.as_str())) {
            let (folder, jobs) = packages::jobs(self.kind, interpreter)?;
            runner.packages = Some(folder);
            let chosen = |job: &Job| {
                options.modules.is_empty()
                    || options.modules.iter().any(|m| job.name.contains(m.as_str()))
            };
            failed.extend(self.all(&runner, jobs.into_iter().filter(chosen).collect())?);
        }
        Ok(failed)
    }

    /// The files of CPython's suite that are asked for.
    fn jobs(&self, interpreter: &Interpreter) -> Result<Vec<Job>> {
        let options = self.options;
        let listed = list(interpreter)?;
        if !options.subset {
            self.ledger().list(&interpreter.patch, listed.len())?;
        }
        let name = interpreter.name.as_str();
        let given: Vec<&str> = options.modules.iter().map(String::as_str).collect();
        let names: Option<&[&str]> = if !given.is_empty() {
            Some(&given)
        } else if options.subset && self.kind == Kind::Record {
            Some(choice::RECORDED)
        } else if options.subset && ["3.11", "3.13"].contains(&name) {
            Some(choice::SUBSET)
        } else if options.subset {
            Some(choice::SUBSET_OF_OTHERS)
        } else if options.heavy || choice::PART.contains(&name) {
            Some(choice::HEAVY)
        } else {
            None
        };
        let mut chosen: Vec<String> = listed
            .into_iter()
            .filter(|test| names.is_none_or(|names| choice::belongs(test, names)))
            .collect();
        // A run that is cut off has shown most.
        let comes_first =
            |test: &str| [choice::HEAVY, choice::RECORDED].iter().any(|n| choice::belongs(test, n));
        chosen.sort_by_key(|test| !comes_first(test));
        let job = |test: String| {
            let left_out = choice::LEFT_OUT.iter().filter(|one| {
                one.kinds.contains(&self.kind)
                    && one.minors.contains(&interpreter.minor)
                    && choice::belongs(&test, &[one.file])
            });
            let left_out = left_out.flat_map(|one| ["-i".to_owned(), one.name.to_owned()]);
            let args = ["-m", "test", "-v"].map(str::to_owned).into_iter().chain(left_out);
            Job { args: args.chain([test.clone()]).collect(), name: test, least: 0 }
        };
        Ok(chosen.into_iter().map(job).collect())
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn is_done(&self, version: &str, job: &Job) -> bool {
        let options = self.options;
        let ledger = self.ledger();
        let known = ledger.get(version, &job.name);
        !options.again
            && known.is_some_and(|r| {
                options.resume_any || (r.agent == self.agent.tree && !r.agent.ends_with('+'))
            })
    }

    /// Runs them, several at a time; sentences for what went wrong.
    fn all(&self, runner: &Runner<'_>, jobs: Vec<Job>) -> Result<Vec<String>> {
        let version = &runner.interpreter.patch;
        let (done, left): (Vec<&Job>, Vec<&Job>) =
            jobs.iter().partition(|job| self.is_done(version, job));
        eprintln!("suites: {version}: {} files, {} of them done before", jobs.len(), done.len());
        let next = AtomicUsize::new(0);
        let cut = AtomicUsize::new(0);
        std::thread::scope(|scope| -> Result<()> {
            let worker = || -> Result<()> {
                while let Some(job) = left.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let minutes = self.begun.elapsed().as_secs() / 60;
                    if self.options.minutes.is_some_and(|most| minutes >= most) {
                        cut.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let mut record = runner.run(job)?;
                    record.commit.clone_from(&self.agent.commit);
                    record.agent.clone_from(&self.agent.tree);
                    tell(&record);
                    self.ledger().add(record)?;
                }
                Ok(())
            };
            let workers: Vec<_> =
                (0..self.options.jobs.max(1)).map(|_| scope.spawn(worker)).collect();
            for one in workers {
                one.join().map_err(|_| anyhow::anyhow!("a worker has panicked"))??;
            }
            Ok(())
        })?;
        let mut failed = Vec::new();
        let cut = cut.into_inner();
        if cut > 0 {
            failed.push(format!("{version}: time was up before {cut} files"));
        }
        let ledger = self.ledger();
        let records: Vec<&Record> =
            jobs.iter().filter_map(|job| ledger.get(version, &job.name)).collect();
        let (amount, unit): (u64, _) =
            (records.iter().map(|r| r.did.amount()).sum(), self.kind.unit());
        if amount < self.kind.least() {
            failed.push(format!("{version}: {amount} {unit} are too few to have shown anything"));
        }
        let new = records.iter().filter(|r| r.outcome == Outcome::NewFailure);
        failed.extend(
            new.map(|r| format!("{version} {}: new failure: {}", r.test, r.new.join(", "))),
        );
        eprintln!("suites: {version}: {} files {}, {amount} {unit}", records.len(), self.kind);
        Ok(failed)
    }
}

fn tell(record: &Record) {
    let outcome = match record.outcome {
        Outcome::Passed => "passed",
        Outcome::Skipped => "skipped",
        Outcome::FailsWithoutUs => "fails without us",
        Outcome::NewFailure => "NEW FAILURE",
    };
    let Record { version, test, did, seconds, .. } = record;
    let (amount, unit) = (did.amount(), did.kind().unit());
    let names =
        if record.new.is_empty() { String::new() } else { format!(": {}", record.new.join(", ")) };
    let note = record.note.as_deref().map(|note| format!(" ({note})")).unwrap_or_default();
    eprintln!("{version}  {seconds:>6.1} s  {amount:>5} {unit}  {test}  {outcome}{names}{note}");
}

/// The interpreter's test files, as regrtest names them.
fn list(interpreter: &Interpreter) -> Result<Vec<String>> {
    let said = Command::new(&interpreter.program)
        .args(&interpreter.args)
        .args(["-m", "test", "--list-tests"])
        .env_remove("PYTHONPATH")
        .envs(interpreter.env.iter().map(|(key, value)| (key, value)))
        .current_dir(Path::new("/"))
        .output()?;
    let listed = String::from_utf8_lossy(&said.stdout);
    let listed: Vec<String> =
        listed.lines().filter(|l| l.contains("test_")).map(str::to_owned).collect();
    ensure!(
        said.status.success() && listed.len() > 100,
        "python {} has no test suite: {}",
        interpreter.patch,
        String::from_utf8_lossy(&said.stderr).trim_end()
    );
    Ok(listed)
}
