//! What is not a healthy CPython process at rest, and what is not a `.pdsnap`: refused in one sentence
//! with a hint, or looked at as far as it goes. Never a panic, never a hang, nothing half-written.
//!
//! What needs root, a C compiler or another user's rights says `not run: …` where that is lacking, and
//! fails where CI=true. Yama's ptrace scope cannot be had on every kernel: `image/src/access.rs` tests
//! what is said of it.

mod extremes;
mod files;
mod midway;
mod permission;
mod seeds;
mod strangers;
mod terminal;
mod who;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use pydefrag_harness::{Interpreter, Interpreters};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{compile, lacking, pydefrag, text};

/// How long any run of pydefrag may take here, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a command to its end; panics when it does not come within the limit.
fn within(mut command: Command, limit: Duration) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let pid = child.id();
    let (send, done) = channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    match done.recv_timeout(limit) {
        Ok(output) => output.expect("its output can be read"),
        Err(_) => {
            signal(pid, "KILL");
            panic!("{command:?} hangs: it ran for {limit:?}")
        }
    }
}

/// Runs pydefrag to its end.
fn run(args: &[&str]) -> Output {
    within(pydefrag(args), LIMIT)
}

/// Runs `pydefrag snapshot PID --json` to its end.
fn look(pid: u32) -> Output {
    run(&["snapshot", &pid.to_string(), "--json"])
}

/// The sentence and the hint of a refusal, which prints those two lines on stderr and nothing else.
fn refused(out: &Output) -> (String, String) {
    let (stdout, stderr) = text(out);
    assert_eq!(out.status.code(), Some(1), "{stdout}{stderr}");
    assert_eq!(stdout, "", "nothing on stdout");
    let lines: Vec<_> = stderr.lines().collect();
    let [sentence, hint] = lines[..] else { panic!("a sentence and a hint, not {stderr:?}") };
    let sentence = sentence.strip_prefix("pydefrag: ").unwrap_or_else(|| panic!("{stderr}"));
    let hint = hint.strip_prefix("hint: ").unwrap_or_else(|| panic!("{stderr}"));
    (sentence.to_owned(), hint.to_owned())
}

/// The JSON of a run that succeeded, whose owners sum to RSS: exactly, or as far as residency and
/// smaps agree of a process that ran on in between. `what` is told when they do not.
fn account(out: &Output, what: &str) -> Value {
    let (stdout, stderr) = text(out);
    assert_eq!(out.status.code(), Some(0), "{what}: {stderr}");
    let json: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{what}: {e}"));
    let bytes = |v: &Value| v.as_u64().unwrap_or_else(|| panic!("{what}: {v} is no number"));
    let owners = json["owners"].as_array().expect("owners");
    let owned: u64 = owners.iter().map(|o| bytes(&o["resident"])).sum();
    let off = (owned + bytes(&json["unattributed"])).abs_diff(bytes(&json["memory"]["rss"]));
    assert!(off <= bytes(&json["residency_difference"]), "{what}: off by {off} bytes: {json:#}");
    json
}

/// Whether this process is root with all that root may do.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("our own status");
    let field = |name| status.lines().find_map(|l| l.strip_prefix(name)).expect("a line of status");
    let capabilities = u64::from_str_radix(field("CapEff:").trim(), 16).expect("a hex number");
    // chown, setgid, setuid, sys_ptrace and sys_admin (mounting).
    let wanted = [0, 6, 7, 19, 21].iter().fold(0u64, |bits, n| bits | 1 << n);
    let root = field("Uid:").split_whitespace().nth(1) == Some("0");
    let all = root && capabilities & wanted == wanted;
    if !all {
        lacking("root");
    }
    all
}

/// A folder that every user can enter, gone when dropped.
fn open_folder() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("our own folder");
    folder
}

/// A program that runs until this is dropped. It has written its first line when it is made.
struct Stranger {
    child: Child,
}

impl Stranger {
    /// Starts it and waits for its first line.
    fn ready(command: &mut Command) -> Stranger {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("stdout is piped");
        BufReader::new(out).read_line(&mut line).expect("its first line");
        assert!(line.starts_with("READY"), "{command:?}: {line:?}");
        Stranger { child }
    }

    /// Starts it; it never writes a line.
    fn silent(command: &mut Command) -> Stranger {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        Stranger { child: child.unwrap_or_else(|e| panic!("{command:?}: {e}")) }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the kernel shows it in this state, as in `S` or `T`.
    fn wait_state(&self, wanted: char) {
        let seen = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        };
        for _ in 0..2000 {
            if seen() == Some(wanted) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("process {} is {:?}, not {wanted}", self.pid(), seen());
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The interpreter that most tests look at.
fn python() -> &'static Interpreter {
    Interpreters::load().all().into_iter().find(|i| i.minor >= 11).expect("an interpreter")
}

/// Starts Python with a statement that ends with `ready()`: READY is written, then stdin is read.
fn python_says(of: &Interpreter, statement: &str) -> Command {
    let mut command = Command::new(&of.program);
    command.envs(of.env.iter().map(|(k, v)| (k, v))).args(&of.args);
    let ready = "import os\ndef ready():\n os.write(1, b'READY\\n'); os.read(0, 1)\n";
    command.args(["-S", "-c", &format!("{ready}{statement}")]);
    command
}

/// Sends a signal, as in `STOP`, to a child of ours that was not waited for.
fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill -{name} {pid}")]);
    assert!(kill.status().is_ok_and(|s| s.success()), "{kill:?}");
}
