//! A running program of `tests/targets`, and questions to it. `tests/targets/serve.py` is the other
//! end of the conversation.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::{DebugMallocStats, Interpreter};

/// How long a program may take until it is ready or has answered, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A Python program that waits for questions. It is killed when this is dropped.
#[derive(Debug)]
pub struct Target {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    stderr: Arc<Mutex<Vec<u8>>>,
    what: String,
}

impl Target {
    /// Starts a script of `tests/targets`, or any other by its absolute path, and waits until it
    /// says READY. Of this process's environment no `PYTHON…` variable reaches it.
    ///
    /// It gets no transparent huge pages, unless it asks for them itself: 3.15 advises the kernel to
    /// use them for arenas, and khugepaged then fills the holes of a target at rest whenever it likes.
    pub fn spawn(of: &Interpreter, script: &str, args: &[&str], envs: &[(&str, &str)]) -> Self {
        nix::sys::prctl::set_thp_disable(true).expect("the kernel can disable huge pages");
        let mut command = Command::new(&of.program);
        for (key, _) in env::vars_os() {
            if key.to_string_lossy().starts_with("PYTHON") {
                command.env_remove(key);
            }
        }
        let mut child = command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONHASHSEED", "0")
            .envs(of.env.iter().map(|(key, value)| (key, value)))
            .envs(envs.iter().copied())
            .args(&of.args)
            .arg(of.scripts.join(script))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {}: {e}", of.program.display()));
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut errors = child.stderr.take().expect("stderr is piped");
        let (send, lines) = channel();
        thread::spawn(move || {
            let whole = BufReader::new(stdout).lines().map_while(Result::ok);
            whole.map(|line| send.send(line)).take_while(Result::is_ok).count()
        });
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&stderr);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = errors.read(&mut buffer) {
                said.lock().expect("no panic while locked").extend_from_slice(&buffer[..count]);
            }
        });
        let what = format!("python {} {script} {}", of.name, args.join(" "));
        let mut target = Self { child, stdin, lines, stderr, what };
        while !target.next_line().starts_with("READY") {}
        target
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks a question and returns the answer's lines. Panics where none comes in time.
    pub fn ask(&mut self, question: &str) -> String {
        // In one write: the program takes what one read gives it for a question.
        if let Err(error) = self.stdin.write_all(format!("{question}\n").as_bytes()) {
            self.fail(&format!("cannot be asked: {error}"));
        }
        let mut answer = String::new();
        loop {
            match self.next_line() {
                line if line == "END" => return answer,
                line => answer += &(line + "\n"),
            }
        }
    }

    /// `sys._debugmallocstats()` of the main interpreter. Panics where pymalloc does not serve.
    pub fn debugmallocstats(&mut self) -> DebugMallocStats {
        let text = self.ask("stats");
        DebugMallocStats::parse(&text).unwrap_or_else(|| panic!("{}: {text}", self.what))
    }

    /// `sys.getallocatedblocks()`.
    pub fn blocks(&mut self) -> u64 {
        let text = self.ask("blocks");
        text.trim().parse().unwrap_or_else(|_| panic!("{}: blocks {text:?}", self.what))
    }

    /// The next line that the program writes, for one that writes without being asked.
    pub fn next_line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => self.fail("wrote no line in time"),
            Err(RecvTimeoutError::Disconnected) => self.fail("ended"),
        }
    }

    /// What the program wrote on stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().expect("no panic while locked")).into_owned()
    }

    /// Waits until every thread of the program sleeps and none has run between two looks: it is
    /// blocked in the read of its next question. Panics where that does not come.
    pub fn wait_blocked(&self) {
        let start = Instant::now();
        let mut before = None;
        while start.elapsed() < PATIENCE {
            let now = self.switches_if_asleep();
            if now.is_some() && now == before {
                return;
            }
            before = now;
            thread::sleep(Duration::from_millis(5));
        }
        self.fail("does not come to rest");
    }

    /// How often its threads went to sleep so far; None where one is awake or comes and goes.
    fn switches_if_asleep(&self) -> Option<u64> {
        let mut switches = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid())).ok()? {
            let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
            field("State:")?.trim_start().starts_with('S').then_some(())?;
            switches += field("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok()?;
            switches += field("nonvoluntary_ctxt_switches:")?.trim().parse::<u64>().ok()?;
        }
        Some(switches)
    }

    fn fail(&self, how: &str) -> ! {
        // A program that just ended may not have had its last words read yet.
        thread::sleep(Duration::from_millis(100));
        panic!("{} (pid {}) {how}; its stderr:\n{}", self.what, self.pid(), self.stderr())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
