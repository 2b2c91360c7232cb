//! `pydefrag record`: what a trace says of a program, against what CPython, the C library and counters of others say; and that
//! the program is as it would be without us.

mod counts;
mod demand;
mod endings;
mod happenings;
mod invisible;
mod live;
mod native;
mod stacks;
mod strange;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pydefrag_harness::{Interpreter, Interpreters, repository};
use pydefrag_trace::event::Event;
use pydefrag_trace::{Trace, lines};
use tempfile::TempDir;

/// A recording under way or done.
struct Recorded {
    output: Output,
    folder: TempDir,
}

impl Recorded {
    fn file(&self) -> PathBuf {
        self.folder.path().join("t.pdtrace")
    }

    fn trace(&self) -> Trace {
        let said = String::from_utf8_lossy(&self.output.stderr);
        Trace::open(&self.file()).unwrap_or_else(|e| panic!("{e}: {said}"))
    }

    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// The recordings of children.
    fn children(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().path());
        entries
            .filter(|p| *p != self.file() && p.extension().is_some_and(|e| e == "pdtrace"))
            .collect()
    }
}

/// The command that records a program of an interpreter's into a folder.
fn recording(of: &Interpreter, folder: &Path, options: &[&str], words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pydefrag"));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("PYTHON") {
            command.env_remove(key);
        }
    }
    command
        .arg("record")
        .args(options)
        .arg("-o")
        .arg(folder.join("t.pdtrace"))
        .arg("--")
        .arg(&of.program)
        .args(&of.args)
        .args(words)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(of.env.iter().map(|(k, v)| (k, v)))
        .current_dir(repository().join("tests/targets"));
    command
}

fn recorded(of: &Interpreter, options: &[&str], words: &[&str]) -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let mut command = recording(of, folder.path(), options, words);
    Recorded { output: command.output().unwrap(), folder }
}

/// No block is handed out twice, or given back twice. (Where a free is told again, it is taken for one of a block that was there
/// before: no count of what is live tells.)
fn told_once(trace: &Trace, what: &str) {
    let (mut live, mut gone) = (HashSet::new(), HashSet::new());
    let mut last = 0;
    for (_, event) in events(trace) {
        match event {
            Event::Alloc { address, .. } => {
                assert!(live.insert(address), "{what}: {address:#x} is handed out twice");
                gone.remove(&address);
            }
            Event::Free { address, .. } => {
                assert!(!gone.contains(&address), "{what}: {address:#x} is given back twice");
                if live.remove(&address) {
                    gone.insert(address);
                }
                last = address;
            }
            // A realloc has failed, whose free was told.
            Event::Kept if gone.remove(&last) => drop(live.insert(last)),
            _ => {}
        }
    }
}

fn every_minor() -> Vec<&'static Interpreter> {
    Interpreters::load().minors()
}

/// The interpreters that most tests run on.
fn two() -> Vec<&'static Interpreter> {
    ["3.11", "3.13"].iter().filter_map(|name| Interpreters::load().get(name)).collect()
}

/// A frame as a trace tells it: file, line, name.
type Frame = (String, u32, String);

/// The stacks of a trace.
#[derive(Default)]
struct Stacks {
    nodes: HashMap<u32, (u32, u32, u32)>,
}

impl Stacks {
    fn take(&mut self, event: &Event) {
        if let Event::Node { node, parent, code, offset } = *event {
            self.nodes.insert(node, (parent, code, offset));
        }
    }

    /// Outermost first.
    fn of(&self, trace: &Trace, node: u32) -> Vec<Frame> {
        let mut stack = Vec::new();
        let mut at = node;
        while let Some((parent, code, offset)) = self.nodes.get(&at) {
            let code =
                trace.codes.iter().find(|c| c.number == *code).expect("a code that was told");
            let line = lines::line_of(code, *offset).unwrap_or(0);
            if !code.is_shim() {
                stack.push((code.file.clone(), line, code.name.clone()));
            }
            at = *parent;
        }
        stack.reverse();
        stack
    }
}

/// All events of a trace, with their lanes, of which nothing may be damaged.
fn events(trace: &Trace) -> Vec<(u16, Event)> {
    let mut all = Vec::new();
    let mut events = trace.events();
    events.each(&|_, _| {}, &mut |lane, event| all.push((lane, event)));
    assert!(events.damage().is_empty() && trace.damage.is_empty(), "{:?}", trace.damage);
    all
}
