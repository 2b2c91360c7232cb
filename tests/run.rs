//! `pydefrag run`: that the program does not notice, that it is followed to its end whatever it does, and
//! that the account is of the moment it should be.

mod endings;
mod followed;
mod invisible;
mod limits;
mod signals;
mod strange;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use pydefrag_harness::{Interpreter, Interpreters, repository};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::lacking;

/// How long any program may take here, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

fn tool() -> &'static str {
    env!("CARGO_BIN_EXE_pydefrag")
}

fn targets() -> PathBuf {
    repository().join("tests/targets")
}

/// The interpreter that most tests use.
fn python() -> &'static Interpreter {
    Interpreters::load().all().into_iter().find(|i| i.minor >= 11).expect("an interpreter")
}

/// A command with exactly this environment, in this order; `sh` and the like can be found.
fn bare(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("env");
    command.arg("-i").args(environment.iter().map(|(k, v)| format!("{k}={v}")));
    command.current_dir(targets());
    command
}

/// An environment whose order is not that of the alphabet.
fn environment(of: &Interpreter) -> Vec<(&str, &str)> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let mut all = vec![("ZZ", "last"), ("PATH", path), ("PYTHONDONTWRITEBYTECODE", "1")];
    all.extend(of.env.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    all.extend([("LC_ALL", "C.UTF-8"), ("AA", "first")]);
    all
}

/// Runs a command to its end; panics when it does not come within the limit.
fn within(mut command: Command, stdin: &[u8]) -> Output {
    use std::io::Write;
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let pid = child.id();
    // A program need not read it.
    let _ = child.stdin.take().expect("stdin is piped").write_all(stdin);
    let (send, done) = channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    match done.recv_timeout(LIMIT) {
        Ok(output) => output.expect("its output can be read"),
        Err(_) => {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            panic!("{command:?} hangs: it ran for {LIMIT:?}")
        }
    }
}

/// What a run left.
struct Ran {
    status: ExitStatus,
    stdout: String,
    /// With what pydefrag said, but without the report.
    stderr: String,
    /// The report's JSON; null where nothing was started.
    report: Value,
}

impl Ran {
    fn run(&self) -> &Value {
        &self.report["run"]
    }

    /// The exit code, or minus the signal.
    fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| -self.status.signal().expect("code or signal"))
    }

    /// Why there is no account.
    fn reason(&self) -> &str {
        self.report["partial"]["reason"].as_str().unwrap_or_else(|| panic!("{}", self.report))
    }

    /// There is an account of the end.
    fn whole(&self) -> &Self {
        assert!(self.report["partial"].is_null(), "{}{}", self.stderr, self.report["partial"]);
        assert_eq!(self.run()["account_at_end"], true, "{}", self.run());
        self
    }
}

/// `pydefrag run OPTIONS WORDS` with this environment.
fn run_in(environment: &[(&str, &str)], words: &[&str], stdin: &[u8]) -> Ran {
    let folder = TempDir::new().expect("a temporary folder");
    let mut command = bare(environment);
    command.arg(tool()).arg("run");
    reported(command, folder.path(), words, stdin)
}

fn reported(mut command: Command, folder: &Path, words: &[&str], stdin: &[u8]) -> Ran {
    let report = folder.join("report.json");
    command.args(["--json", "-o"]).arg(&report).args(words);
    let out = within(command, stdin);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let report = fs::read(&report).map_or(Value::Null, |r| {
        serde_json::from_slice(&r).unwrap_or_else(|e| panic!("{words:?}: the report: {e}"))
    });
    Ran { status: out.status, stdout: text(&out.stdout), stderr: text(&out.stderr), report }
}

/// `pydefrag run --python … WORDS` on an interpreter.
fn run_on(of: &Interpreter, words: &[&str]) -> Ran {
    let program = of.program.display().to_string();
    run_in(&environment(of), &[&["--python", &program], words].concat(), b"")
}

/// `pydefrag run -c CODE` on the usual interpreter.
fn run_code(code: &str) -> Ran {
    run_on(python(), &["-c", code])
}

/// Whether this process is root with the right to chroot, to change user and to mount.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("our own status");
    let field = |name| status.lines().find_map(|l| l.strip_prefix(name)).expect("a line of status");
    let capabilities = u64::from_str_radix(field("CapEff:").trim(), 16).expect("a hex number");
    let wanted = [6, 7, 18, 21].iter().fold(0u64, |bits, n| bits | 1 << n);
    let root = field("Uid:").split_whitespace().nth(1) == Some("0");
    let all = root && capabilities & wanted == wanted;
    if !all {
        lacking("root");
    }
    all
}
