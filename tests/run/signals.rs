//! Signals reach the program as they would without us, and pydefrag never ends before it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{bare, environment, python, tool, within};

const HANDLE: &str = "import os, signal, sys, time\n\
    seen = []\n\
    def handle(n, f): seen.append(n); os.write(1, b'got %d\\n' % n)\n\
    for n in (1, 2, 3, 10, 12, 15): signal.signal(n, handle)\n\
    print('READY', flush=True)\n\
    for i in range(600): time.sleep(0.05) if not seen else None\n\
    for i in range(6): time.sleep(0.05)\n\
    sys.exit(5)";

/// `pydefrag run -c CODE`, once its program has written READY.
fn ready(code: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = bare(&environment(python()));
    command.arg(tool()).args(["run", "--python"]).arg(&python().program).args(["-c", code]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("pydefrag starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    assert_eq!(line, "READY\n");
    (child, lines)
}

fn kill(pid: u32, signal: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
    assert!(sent.is_ok_and(|s| s.success()), "kill -{signal} {pid}");
}

fn rest(lines: BufReader<std::process::ChildStdout>) -> Vec<String> {
    lines.lines().map_while(Result::ok).collect()
}

#[test]
fn what_is_sent_to_us_reaches_the_program_once() {
    for (name, number) in
        [("HUP", 1), ("INT", 2), ("QUIT", 3), ("USR1", 10), ("USR2", 12), ("TERM", 15)]
    {
        let (mut child, lines) = ready(HANDLE);
        kill(child.id(), name);
        let (said, status) = (rest(lines), child.wait().expect("its status"));
        assert_eq!((said, status.code()), (vec![format!("got {number}")], Some(5)), "{status}");
    }
}

#[test]
fn a_signal_that_ends_the_program_ends_us_alike() {
    use std::os::unix::process::ExitStatusExt;
    for (name, number) in [("TERM", 15), ("HUP", 1), ("USR1", 10)] {
        let (mut child, _) = ready("import time; print('READY', flush=True); time.sleep(60)");
        kill(child.id(), name);
        assert_eq!(child.wait().expect("its status").signal(), Some(number), "{name}");
    }
}

#[test]
fn a_program_that_ignores_a_signal_is_waited_for() {
    let (mut child, lines) = ready(
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('READY', flush=True)\n\
         time.sleep(0.5); print('done')",
    );
    kill(child.id(), "TERM");
    assert_eq!(rest(lines), ["done"]);
    assert_eq!(child.wait().expect("its status").code(), Some(0));
}

#[test]
fn without_us_the_program_goes_on_to_its_normal_end() {
    // SIGPIPE would end it if it wrote to nobody.
    let (mut child, lines) = ready(
        "import signal, time, atexit; signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n\
         print('READY', flush=True)\n\
         time.sleep(0.5); print('done'); atexit.register(print, 'end')",
    );
    let start = Instant::now();
    kill(child.id(), "KILL");
    child.wait().expect("its status");
    assert_eq!(rest(lines), ["done", "end"]);
    assert!(start.elapsed() < Duration::from_secs(10), "it waited for us");
}

/// The hook waits for us no longer than its patience, which is half a minute.
#[test]
fn while_we_are_stopped_the_program_comes_to_its_end_by_itself() {
    let (mut child, mut lines) = ready(
        "import os, sys, time; print('READY', flush=True); print(os.getpid(), flush=True)\n\
         time.sleep(0.5); sys.exit(5)",
    );
    let mut pid = String::new();
    lines.read_line(&mut pid).expect("a line");
    kill(child.id(), "STOP");
    let start = Instant::now();
    let has_ended = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        stat.is_ok_and(|s| s.rsplit(')').next().is_some_and(|s| s.starts_with(" Z")))
    };
    while !has_ended() {
        assert!(start.elapsed() < super::LIMIT, "it waits for one that is stopped");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(start.elapsed() > Duration::from_secs(20), "it did not wait: {:?}", start.elapsed());
    kill(child.id(), "CONT");
    assert_eq!(child.wait().expect("its status").code(), Some(5));
}

/// A terminal in which `pydefrag run` is the foreground job; what it shows after a Ctrl-C.
const TERMINAL: &str = r#"
import os, pty, sys, time
pid, master = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen, sent = b"", False
while True:
    try:
        more = os.read(master, 4096)
    except OSError:
        break
    if not more:
        break
    seen += more
    if b"READY" in seen and not sent:
        sent = True
        os.write(master, b"\x03")
os.write(1, seen)
print("status", os.waitpid(pid, 0)[1])
"#;

#[test]
fn ctrl_c_reaches_the_program_once() {
    let program = python().program.display().to_string();
    let mut command = bare(&environment(python()));
    command.args([&program, "-c", TERMINAL, tool(), "run", "--python", &program, "-c", HANDLE]);
    let out = within(command, b"");
    let seen = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(seen.matches("got 2").count(), 1, "{seen}");
    assert!(
        seen.contains("total = RSS") && seen.ends_with(&format!("status {}\n", 5 << 8)),
        "{seen}"
    );
}

#[test]
fn where_sigchld_is_ignored_the_program_is_waited_for_and_its_code_is_not_made_up() {
    let program = python().program.display().to_string();
    let start = "import os, signal, sys\n\
        signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])";
    let code = "import signal, sys, time; time.sleep(0.3)\n\
        print(signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN); sys.exit(5)";
    let mut command = bare(&environment(python()));
    command.args([&program, "-c", start, tool(), "run", "--python", &program, "-c", code]);
    let out = within(command, b"");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "True\n", "{said}");
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("could not be learnt, for SIGCHLD was ignored"), "{said}");
    let words: Vec<&str> = said.split_whitespace().collect();
    assert!(words.join(" ").contains("the account is of its end"), "{said}");
}
