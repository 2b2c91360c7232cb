//! Not permitted: which of the reasons it is, and what would help. Rights are really dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pydefrag_harness::{Interpreter, Interpreters};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    LIMIT, Stranger, account, compile, is_root, lacking, look, open_folder, python, python_says,
    refused, within,
};
use crate::support::{pydefrag, text};

/// Nobody: no right, no group, and no way to get any.
const NOBODY: &[&str] =
    &["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
/// Root in name only, as in a container.
const BARE_ROOT: &[&str] = &["--inh-caps=-all", "--bounding-set=-all"];

/// Runs programs without rights. Holds a copy of pydefrag that every user can run.
struct Bare {
    folder: TempDir,
}

impl Bare {
    /// `None` where this process is not root, and has no rights to drop.
    fn new() -> Option<Bare> {
        if !is_root() {
            return None;
        }
        if Command::new("setpriv").arg("--version").output().is_err() {
            lacking("setpriv");
            return None;
        }
        let folder = open_folder();
        fs::copy(env!("CARGO_BIN_EXE_pydefrag"), folder.path().join("pydefrag")).expect("a copy");
        Some(Bare { folder })
    }

    fn command(&self, rights: &[&str], program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(rights).arg("--").arg(program);
        command
    }

    fn pydefrag(&self, rights: &[&str], args: &[&str]) -> Output {
        let mut command = self.command(rights, &self.folder.path().join("pydefrag"));
        command.args(args);
        within(command, LIMIT)
    }

    fn look(&self, rights: &[&str], pid: u32) -> Output {
        self.pydefrag(rights, &["snapshot", &pid.to_string(), "--json", "--no-objects"])
    }

    /// The row that `pydefrag ps` has for a process.
    fn row(&self, rights: &[&str], pid: u32) -> Value {
        let (json, stderr) = text(&self.pydefrag(rights, &["ps", "--json"]));
        let json: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {stderr}"));
        let rows = json["processes"].as_array().expect("processes");
        rows.iter().find(|r| r["pid"] == pid).unwrap_or_else(|| panic!("{json:#}")).clone()
    }

    /// A Python of nobody's.
    fn python(&self, statement: &str) -> Option<Stranger> {
        let of = self.interpreter()?;
        let plain = python_says(of, statement);
        let mut command = self.command(NOBODY, Path::new(plain.get_program()));
        command.args(plain.get_args());
        command.envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
        Some(Stranger::ready(&mut command))
    }

    /// An interpreter that nobody can run: not one in root's home.
    fn interpreter(&self) -> Option<&'static Interpreter> {
        let can_run = |i: &&Interpreter| {
            let mut command = self.command(NOBODY, &i.program);
            command.envs(i.env.iter().map(|(k, v)| (k, v))).args(["-S", "-c", "import ctypes"]);
            command.output().is_ok_and(|o| o.status.success())
        };
        let found = Interpreters::load().all().into_iter().find(can_run);
        if found.is_none() {
            lacking("an interpreter that every user can run");
        }
        found
    }
}

#[test]
fn the_rights_are_really_dropped() {
    let Some(bare) = Bare::new() else { return };
    for (rights, uid) in [(NOBODY, "65534"), (BARE_ROOT, "0")] {
        let mut command = bare.command(rights, Path::new("cat"));
        command.arg("/proc/self/status");
        let (status, _) = text(&within(command, LIMIT));
        let field = |name| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        assert_eq!(field("Uid:").split_whitespace().next(), Some(uid), "{status}");
        for set in ["CapPrm:", "CapEff:", "CapBnd:", "CapInh:", "CapAmb:"] {
            assert_eq!(field(set).trim(), "0000000000000000", "{set} {status}");
        }
    }
}

#[test]
fn another_users_process_is_refused_by_its_user() {
    let Some(bare) = Bare::new() else { return };
    let target = Stranger::ready(&mut python_says(python(), "ready()"));
    let pid = target.pid();
    let (sentence, hint) = refused(&bare.look(NOBODY, pid));
    assert_eq!(
        sentence,
        format!("process {pid} may not be looked at: it belongs to another user (uid 0)")
    );
    assert_eq!(hint, format!("sudo pydefrag snapshot {pid}"));
    let row = bare.row(NOBODY, pid);
    assert_eq!(row["note"], "other user", "{row:#}");
    assert!(row["rss"].as_u64() > Some(0), "everybody may see RSS: {row:#}");
}

#[test]
fn a_users_own_process_can_be_looked_at_without_any_right() {
    let Some(bare) = Bare::new() else { return };
    let Some(target) = bare.python("ready()") else { return };
    let json = account(&bare.look(NOBODY, target.pid()), "nobody's own");
    assert_eq!(json["partial"], Value::Null);
    assert!(json["pymalloc"]["arenas"].as_u64() > Some(0), "{json:#}");
    let row = bare.row(NOBODY, target.pid());
    assert!(row["live"].as_u64() > Some(0), "{row:#}");
}

#[test]
fn a_process_that_is_not_dumpable_is_refused_as_such() {
    let Some(bare) = Bare::new() else { return };
    // PR_SET_DUMPABLE
    let hide = "import ctypes\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\nready()";
    let Some(target) = bare.python(hide) else { return };
    let pid = target.pid();
    let (sentence, hint) = refused(&bare.look(NOBODY, pid));
    let said = "it is not dumpable (prctl PR_SET_DUMPABLE, or it changed its user)";
    assert_eq!(sentence, format!("process {pid} may not be looked at: {said}"));
    assert_eq!(hint, format!("sudo pydefrag snapshot {pid}"));
    assert_eq!(bare.row(NOBODY, pid)["note"], "not dumpable");
    account(&look(pid), "what the hint says works");
}

#[test]
fn root_without_the_capability_is_told_to_add_it() {
    let Some(bare) = Bare::new() else { return };
    let Some(target) = bare.python("ready()") else { return };
    let pid = target.pid();
    let (sentence, hint) = refused(&bare.look(BARE_ROOT, pid));
    let said = "we are root without CAP_SYS_PTRACE, as in a container";
    assert_eq!(sentence, format!("process {pid} may not be looked at: {said}"));
    assert!(hint.contains("--cap-add=SYS_PTRACE"), "{hint}");
    assert_eq!(bare.row(BARE_ROOT, pid)["note"], "no capability");
}

#[test]
fn a_folder_that_may_not_be_written_is_said() {
    let Some(bare) = Bare::new() else { return };
    let Some(target) = bare.python("ready()") else { return };
    let pid = target.pid().to_string();
    let file = bare.folder.path().join("kept.pdsnap").display().to_string();
    let (sentence, hint) = refused(&bare.pydefrag(NOBODY, &["snapshot", &pid, "-o", &file]));
    assert_eq!(sentence, format!("{file} could not be written: permission denied"));
    assert!(hint.starts_with("pydefrag snapshot PID -o FILE.pdsnap"), "{hint}");
    let names = fs::read_dir(&bare.folder).expect("our own folder").flatten();
    assert_eq!(names.map(|n| n.file_name()).collect::<Vec<_>>(), ["pydefrag"]);
}

/// What a seccomp filter or a preloaded library makes of pydefrag.
struct Fettered {
    folder: TempDir,
    launcher: PathBuf,
    library: PathBuf,
}

impl Fettered {
    fn new() -> Option<Fettered> {
        let folder = open_folder();
        let launcher = compile(folder.path(), "no_readv", "no_readv.c", &[])?;
        let flags = ["-shared", "-fPIC", "-ldl"];
        let library = compile(folder.path(), "no_memory.so", "no_memory.c", &flags)?;
        Some(Fettered { folder, launcher, library })
    }

    /// Under a filter that forbids `process_vm_readv`.
    fn filtered(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.launcher);
        command.current_dir(&self.folder).arg(env!("CARGO_BIN_EXE_pydefrag")).args(args);
        command
    }
}

#[test]
fn a_filter_on_one_system_call_changes_nothing() {
    let Some(fettered) = Fettered::new() else { return };
    let target = Stranger::ready(&mut python_says(python(), "ready()"));
    target.wait_state('S');
    let pid = target.pid().to_string();
    let args = ["snapshot", &pid, "--json"];
    let account = |command| {
        let mut json = account(&within(command, LIMIT), "filtered or not");
        // What changes by itself: PSS and USS do when others map the same files.
        json["memory"]["pss"] = Value::Null;
        json["memory"]["uss"] = Value::Null;
        let owners = json["owners"].as_array_mut().expect("owners");
        owners.iter_mut().for_each(|o| o["pss"] = Value::Null);
        json["taken_at"] = Value::Null;
        json
    };
    let (free, filtered) = (account(pydefrag(&args)), account(fettered.filtered(&args)));
    assert_eq!(free["partial"], Value::Null);
    assert!(free["pymalloc"]["arenas"].as_u64() > Some(0));
    assert_eq!(free, filtered);
    // Only the quick look of ps makes the call that the filter forbids.
    let live = |command| {
        let (stdout, stderr) = text(&within(command, LIMIT));
        let rows: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
        let row = rows["processes"].as_array().unwrap().iter().find(|r| r["pid"] == target.pid());
        row.expect("the target is listed")["live"].clone()
    };
    let (free, filtered) =
        (live(pydefrag(&["ps", "--json"])), live(fettered.filtered(&["ps", "--json"])));
    assert!(free.as_u64() > Some(0));
    assert_eq!(free, filtered);
}

#[test]
fn where_memory_may_not_be_read_the_kernels_counts_are_shown() {
    let Some(fettered) = Fettered::new() else { return };
    let target = Stranger::ready(&mut python_says(python(), "ready()"));
    let pid = target.pid().to_string();
    let looks = [
        (pydefrag(&["snapshot", &pid, "--json"]), "the kernel refuses", "as root on the host"),
        (
            fettered.filtered(&["snapshot", &pid, "--json"]),
            "a seccomp filter",
            "seccomp=unconfined",
        ),
    ];
    for (mut command, reason, hint) in looks {
        if !is_root() {
            return;
        }
        command.env("LD_PRELOAD", &fettered.library);
        let json = account(&within(command, LIMIT), reason);
        let said = json["partial"]["reason"].as_str().expect("a reason");
        assert!(said.starts_with("its memory may not be read: "), "{said}");
        assert!(said.contains(reason), "{said}");
        assert!(json["partial"]["hint"].as_str().is_some_and(|h| h.contains(hint)), "{json:#}");
        let owners = json["owners"].as_array().expect("owners");
        assert!(owners.iter().any(|o| o["kind"] == "libraries" || o["name"] == "shared libraries"));
        assert!(json["pymalloc"].is_null() && json["fragmentation"].is_null(), "{json:#}");
    }
    let mut command = pydefrag(&["snapshot", &pid]);
    command.env("LD_PRELOAD", &fettered.library);
    let out = within(command, LIMIT);
    let (report, stderr) = text(&out);
    assert!(out.status.success() && report.to_lowercase().contains("partial"), "{report}{stderr}");
    let mut command = pydefrag(&["ps"]);
    command.env("LD_PRELOAD", &fettered.library);
    let (table, _) = text(&within(command, LIMIT));
    let row = table.lines().find(|l| l.contains(&pid)).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("not permitted"), "{row}");
}
