//! `record --wait` and `record --pid`: what is recorded begins and ends when it is asked for, and the program goes on.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use pydefrag_heap::{Function, Recording, RecordingMode};
use pydefrag_trace::sum;

use super::*;

/// A program that waits to be recorded: it makes what it is told to, in a function that is then named on the stack.
const SERVICE: &str = "
import os, sys, threading
kept = []
def grow(n):
    kept.append([bytes(1000 + i % 7) for i in range(n)])
def small(n):
    kept.append([bytes(100 + i % 7) for i in range(n)])
def shrink():
    kept.clear()
def spin():
    while True:
        [str(i) for i in range(1000)]
print(os.getpid(), flush=True)
for line in sys.stdin:
    exec(line)
    print('done', flush=True)
";

struct Service {
    child: Child,
    pid: i32,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Service {
    fn start(of: &Interpreter, folder: &Path, allocator: Option<&str>) -> Service {
        let file = folder.join("service.py");
        std::fs::write(&file, SERVICE).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pydefrag"));
        command
            .args(["record", "--wait", "--"])
            .arg(&of.program)
            .args(&of.args)
            .arg(&file)
            .envs(of.env.iter().map(|(k, v)| (k, v)))
            .envs(allocator.map(|name| ("PYTHONMALLOC", name)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let stdin = child.stdin.take();
        Service { child, pid: line.trim().parse().expect(&line), stdin, stdout }
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{what}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n", "{what}");
    }

    fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

fn demand(pid: i32, file: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pydefrag"));
    command.args(["record", "--pid", &pid.to_string(), "--no-report", "-o"]).arg(file);
    command.args(options).stderr(Stdio::piped());
    command
}

fn summed(file: &Path) -> Recording {
    sum(&Trace::open(file).unwrap(), &|_, _| {})
}

/// Bytes that a function was seen to allocate.
fn allocated_by(recording: &Recording, name: &str) -> u64 {
    let is_its = |function: u32| {
        let Function { name: its, file, .. } = &recording.functions[function as usize];
        let is_inside = its == "<listcomp>" || *its == format!("{name}.<locals>.<listcomp>");
        file.ends_with("service.py") && (its == name || is_inside)
    };
    recording.calls.iter().filter(|c| is_its(c.function)).map(|c| c.own.allocated.bytes).sum()
}

#[test]
fn a_process_that_waits_is_recorded_while_it_is_asked_to_be() {
    // Each takes the hooks' place while the interpreter starts.
    let others = two().into_iter().flat_map(|of| [(of, Some("debug")), (of, Some("malloc"))]);
    for (of, allocator) in every_minor().into_iter().map(|of| (of, None)).chain(others) {
        let folder = tempfile::tempdir().unwrap();
        let mut service = Service::start(of, folder.path(), allocator);
        service.tell("grow(2000)");
        let file = folder.path().join("first.pdtrace");
        let part = folder.path().join("first.pdtrace.part");
        let asked = demand(service.pid, &file, &[]).spawn().unwrap();
        let since = Instant::now();
        while !part.exists() {
            assert!(since.elapsed() < Duration::from_secs(9), "{}: it does not begin", of.name);
            service.tell("[str(i) for i in range(5000)]");
        }
        service.tell("shrink()");
        service.tell("grow(500)");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(asked.id() as i32),
            nix::sys::signal::Signal::SIGINT,
        )
        .unwrap();
        while part.exists() {
            assert!(since.elapsed() < Duration::from_secs(30), "{}: it does not end", of.name);
            service.tell("[str(i) for i in range(5000)]");
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = asked.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let first = summed(&file);
        // Its list too.
        let grown = allocated_by(&first, "grow");
        let bytes: u64 = (0..500).map(|i| 1000 + i % 7 + 33).sum();
        assert!((bytes..bytes + bytes / 5).contains(&grown), "{}: {grown} of {bytes}", of.name);
        assert!(first.events.frees_of_before >= 2000, "{}: what was there is freed", of.name);

        // Once more, sampled, for so long, while it does not rest.
        service.tell("threading.Thread(target=spin, daemon=True).start()");
        let file = folder.path().join("second.pdtrace");
        let options = ["--sample=4KiB", "--duration", "500ms"];
        let output = demand(service.pid, &file, &options).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let second = summed(&file);
        assert_eq!(second.mode, RecordingMode::Sampled { every: 4096 });
        let spun = allocated_by(&second, "spin");
        assert!(spun > 1 << 20, "{}: {spun}", of.name);
        let seconds = second.duration_ns as f64 / 1e9;
        assert!((0.4..5.0).contains(&seconds), "{}: {seconds} s", of.name);
        service.tell("grow(10)");
        service.end();
    }
}

#[test]
fn who_cannot_be_asked_is_told_why() {
    let of = two()[0];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.pdtrace");
    let said = |pid: i32, options: &[&str]| {
        let output = demand(pid, &file, options).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(!file.exists() && !folder.path().join("t.pdtrace.part").exists());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let us = std::process::id() as i32;
    assert!(said(us, &[]).contains("has no agent that could record it"));
    assert!(said(i32::MAX, &[]).contains("there is no process"));
    // What a process was started with is what its environment says.
    for (tool, wait, why) in [
        ("pydefrag 0.0.0", true, "is that of pydefrag 0.0.0"),
        (
            concat!("pydefrag ", env!("CARGO_PKG_VERSION")),
            false,
            "is being recorded since its start",
        ),
    ] {
        let told = serde_json::json!({"tool": tool, "library": "/nowhere/agent.so", "wait": wait});
        let mut command = Command::new("sleep");
        let mut child = command.arg("60").env("PYDEFRAG_RECORD", told.to_string()).spawn().unwrap();
        // Spawning returns before the new program's environment is there.
        let environment = format!("/proc/{}/environ", child.id());
        while !std::fs::read_to_string(&environment).unwrap().contains("PYDEFRAG_RECORD") {
            std::thread::yield_now();
        }
        let text = said(child.id() as i32, &[]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(text.contains(why), "{text}");
    }
    let service = Service::start(of, folder.path(), None);
    let resting = said(service.pid, &[]);
    assert!(resting.contains("allocates next to nothing"), "{resting}");
    service.end();
}

/// Whether `PyMem_GetAllocator` tells of hooks: pymalloc's own functions need no context.
const HOOKED: &str = "
import ctypes
def hooked():
    table = (ctypes.c_void_p * 5)()
    ctypes.pythonapi.PyMem_GetAllocator(2, ctypes.byref(table))
    return table[0] is not None
";

#[test]
fn a_duration_ends_the_recording_and_not_the_program() {
    for of in two() {
        let code = format!(
            "{HOOKED}\nimport time\nend = time.time() + 2\nprint(hooked())\n\
             while time.time() < end: [str(i) for i in range(1000)]\nprint(hooked())"
        );
        let recorded = recorded(of, &["--duration", "500ms", "--json"], &["-c", &code]);
        // Nothing is left in the way of a program that is not recorded any more.
        assert_eq!(recorded.stdout(), "True\nFalse\n", "{}", of.name);
        let seconds = summed(&recorded.file()).duration_ns as f64 / 1e9;
        assert!((0.4..1.5).contains(&seconds), "{seconds}");
    }
}

#[test]
fn a_child_that_is_not_recorded_has_no_hooks() {
    for of in two() {
        let code = format!(
            "{HOOKED}\nimport os\npid = os.fork()\nif not pid: os._exit(hooked())\n\
             print(hooked(), os.waitpid(pid, 0)[1] >> 8)"
        );
        for (options, there) in [(&[][..], 0), (&["--children"], 1)] {
            let recorded = recorded(of, options, &["-c", &code]);
            let said = recorded.stdout();
            assert!(said.starts_with(&format!("True {there}\n")), "{}: {said}", of.name);
        }
    }
}

/// Hooks of another tool come and go while a program waits, and while it is recorded.
#[test]
fn others_hooks_are_no_hindrance_to_who_asks() {
    for of in two() {
        let folder = tempfile::tempdir().unwrap();
        let mut service = Service::start(of, folder.path(), None);
        service.tell("import tracemalloc, threading; tracemalloc.start()");
        service.tell("threading.Thread(target=spin, daemon=True).start()");
        let mut ask = |name: &str, options: &[&str], meanwhile: &[&str]| {
            let file = folder.path().join(name);
            let options = [&["--duration", "700ms"], options].concat();
            let asked = demand(service.pid, &file, &options).spawn().unwrap();
            let part = folder.path().join(format!("{name}.part"));
            while !part.exists() && !file.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            meanwhile.iter().for_each(|what| service.tell(what));
            let output = asked.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            summed(&file)
        };
        let sampled = ask("a.pdtrace", &["--sample=4KiB"], &["grow(1000)"]);
        let of_spin = allocated_by(&sampled, "spin");
        assert!(of_spin > 1 << 20, "{}: {of_spin}", of.name);
        // tracemalloc puts back what was below it, hooks that only wait; that is seen soon, where malloc is at work.
        let noise = "[bytes(2000) for i in range(2000)]";
        let bytes: u64 = (0..5000).map(|i| 100 + i % 7 + 33).sum();
        let is_whole = |recording: &Recording| {
            let made = allocated_by(recording, "small");
            // Its list, as it grows, and the numbers too.
            assert!((bytes..2 * bytes).contains(&made), "{}: {made} of {bytes}", of.name);
            assert!(recording.events.frees >= 5000, "{}: {:?}", of.name, recording.events);
        };
        let work = ["small(5000)", "shrink()"];
        is_whole(&ask("b.pdtrace", &[], &[&["tracemalloc.stop()", noise], &work[..]].concat()));
        is_whole(&ask("c.pdtrace", &[], &work));
        // Nobody stands over ours any more: samples may be asked for.
        let sampled = ask("d.pdtrace", &["--sample=4KiB"], &["tracemalloc.start()", "small(10)"]);
        let of_spin = allocated_by(&sampled, "spin");
        assert!(of_spin > 1 << 20, "{}: {of_spin}", of.name);
        // Those that took samples stay below tracemalloc's, and are asked for the same again.
        let sampled = ask("e.pdtrace", &["--sample=4KiB"], &["small(10)"]);
        let of_spin = allocated_by(&sampled, "spin");
        assert!(of_spin > 1 << 20, "{}: {of_spin}", of.name);
        let file = folder.path().join("f.pdtrace");
        let output = demand(service.pid, &file, &[]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("recorded with --sample"), "{said}");
        service.end();
    }
}
