//! The ways in which an interpreter can be there: static or shared, stripped, in another root or pid
//! namespace, started by its loader, with another malloc; and the verbs on whole families of processes.

use std::process::{Command, Stdio};

use pydefrag_harness::interpreters::in_ci;
use pydefrag_harness::{Interpreter, Interpreters, Target, cache, smaps, variants};
use serde_json::Value;

use crate::support::{pydefrag, run, snapshot, snapshot_at_rest, text, without_pss};

/// A snapshot of a fragmented heap in an interpreter that is there in an unusual way.
fn is_accounted_for(interpreter: &Interpreter) -> Value {
    let mut target = Target::spawn(interpreter, "fragmented.py", &["50000"], &[]);
    let s = snapshot_at_rest(&target);
    let owners = s["owners"].as_array().unwrap();
    let sum: u64 = owners.iter().map(|o| o["resident"].as_u64().unwrap()).sum();
    let rss = smaps::Memory::of(target.pid()).rss;
    assert_eq!(sum + s["unattributed"].as_u64().unwrap(), rss, "{}", interpreter.name);
    let other = owners.iter().find(|o| o["kind"] == "other_anonymous");
    let other = other.map_or(0, |o| o["resident"].as_u64().unwrap());
    assert!(other * 50 <= rss, "{}: {owners:#?}", interpreter.name);
    assert_eq!(s["process"]["python"]["version"], interpreter.patch.as_str());
    let stats = target.debugmallocstats();
    assert_eq!(s["pymalloc"]["arenas"], stats.arenas, "{}", interpreter.name);
    let used = |v: &Value| v["used_blocks"].as_u64().unwrap();
    let blocks: u64 = s["pymalloc"]["classes"].as_array().unwrap().iter().map(used).sum();
    assert!(blocks.abs_diff(stats.used_blocks()) <= 2, "{}", interpreter.name);
    s
}

/// What cannot be had fails in CI and is said elsewhere.
fn have<T>(what: &str, thing: Option<T>) -> Option<T> {
    if thing.is_none() {
        assert!(!in_ci(), "{what} cannot be had");
        eprintln!("not run: {what} cannot be had");
    }
    thing
}

#[test]
fn started_by_its_loader() {
    let variant = Interpreters::load().ld_so_variant();
    if let Some(interpreter) = have("3.15 through its ld.so", variant) {
        is_accounted_for(&interpreter);
    }
}

#[test]
fn in_another_root() {
    if let Some(interpreter) = have("3.15 in a chroot", Interpreters::load().chroot_variant()) {
        is_accounted_for(&interpreter);
    }
}

/// pyenv's are shared, with symbols; Debian's are static and stripped; here the shared ones stripped.
#[test]
fn without_symbols() {
    for interpreter in Interpreters::load().minors() {
        if interpreter.source == "pyenv" {
            let stripped = variants::stripped_copy(interpreter).ok();
            if let Some(interpreter) = have("a stripped copy", stripped) {
                is_accounted_for(&interpreter);
            }
        }
    }
}

/// The target is pid 1 of its own namespace; we know it by another number.
#[test]
fn in_another_pid_namespace() {
    let interpreter = Interpreters::load().minors().pop().expect("an interpreter");
    let unshare = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(args);
        command.stderr(Stdio::null()).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let works = unshare(&["true"]).status().is_ok_and(|s| s.success());
    if have("a pid namespace", works.then_some(())).is_none() {
        return;
    }
    let program = "import os; print('READY', os.getpid(), flush=True); os.read(0, 1)";
    let mut parent = unshare(&[interpreter.program.to_str().unwrap(), "-c", program])
        .envs(interpreter.env.iter().cloned())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let out = parent.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
    assert_eq!(line, "READY 1\n");
    let children = format!("/proc/{0}/task/{0}/children", parent.id());
    let pid: u32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let s = snapshot(pid);
    assert_eq!(s["process"]["python"]["version"], interpreter.patch.as_str());
    assert_eq!(s["residency_difference"], 0);
    parent.kill().unwrap();
    parent.wait().unwrap();
}

/// jemalloc, tcmalloc and mimalloc in malloc's place are recognised, and every byte has its owner.
#[test]
fn another_malloc() {
    let Some(interpreter) = Interpreters::load().get("3.15").filter(|i| i.source == "debian")
    else {
        have::<()>("Debian's 3.15", None);
        return;
    };
    let folder = variants::loader(&cache().join("root")).map(|(_, libraries)| libraries);
    let folder = folder.expect("Debian's 3.15 has libraries");
    for (prefix, kind) in [
        ("libjemalloc.so", "jemalloc"),
        ("libtcmalloc", "tcmalloc"),
        ("libmimalloc.so", "mimalloc"),
    ] {
        let library =
            std::fs::read_dir(&folder).unwrap().flatten().map(|e| e.path()).find(|p| {
                p.file_name().unwrap().to_str().unwrap().starts_with(prefix) && p.exists()
            });
        let Some(library) = have(prefix, library) else { continue };
        let library = library.to_str().unwrap();
        for python_malloc in ["malloc", "pymalloc"] {
            let env = [("LD_PRELOAD", library), ("PYTHONMALLOC", python_malloc)];
            let target = Target::spawn(interpreter, "fragmented.py", &["100000"], &env);
            let s = snapshot_at_rest(&target);
            let owners = s["owners"].as_array().unwrap();
            let owner = owners.iter().find(|o| o["kind"] == kind);
            let owner = owner.unwrap_or_else(|| panic!("{kind}: {owners:#?}"));
            assert!(owner["resident"].as_u64().unwrap() > 500_000, "{kind}: {owners:#?}");
            assert_eq!(s["process"]["python"]["allocator"], python_malloc, "{kind}");
            let sum: u64 = owners.iter().map(|o| o["resident"].as_u64().unwrap()).sum();
            assert_eq!(sum, smaps::Memory::of(target.pid()).rss, "{kind}: {owners:#?}");
        }
    }
}

/// A master that filled a heap and forked a worker that has written little since.
#[test]
fn pages_shared_with_a_parent_are_told_and_not_credited() {
    let interpreter = Interpreters::load().minors().pop().expect("an interpreter");
    let mut target = Target::spawn(interpreter, "preloaded.py", &["200000"], &[]);
    let alone = snapshot_at_rest(&target);
    target.ask("fork");
    let shared = without_pss(snapshot_at_rest(&target));
    let heap = |s: &Value| {
        let owners = s["owners"].as_array().unwrap();
        owners.iter().find(|o| o["kind"] == "pymalloc").unwrap().clone()
    };
    assert_eq!(heap(&alone)["copy_on_write_shared"], 0);
    let (resident, cow) = (
        heap(&shared)["resident"].as_u64().unwrap(),
        heap(&shared)["copy_on_write_shared"].as_u64().unwrap(),
    );
    assert!(cow * 2 > resident, "{cow} of {resident} are shared");
    // Looking has copied nothing. (Shares of files move with whoever else maps them.)
    let again = without_pss(snapshot_at_rest(&target));
    assert_eq!((&again["owners"], &again["ladder"]), (&shared["owners"], &shared["ladder"]));
    let ideal = |s: &Value| s["ladder"]["ideal"].as_u64().unwrap();
    assert!(ideal(&shared) * 2 < ideal(&alone), "{} {}", ideal(&shared), ideal(&alone));
}

/// 3.15 advises huge pages for its arenas. Where the kernel gives them, they are told, what they make
/// resident is accounted for, and the owners still sum to Rss.
#[test]
fn arenas_on_huge_pages() {
    let Some(interpreter) = have("3.15", Interpreters::load().get("3.15")) else { return };
    const PR_SET_THP_DISABLE: u32 = 41;
    let mut target = Target::spawn(interpreter, "fragmented.py", &["1000"], &[]);
    target
        .ask(&format!("eval __import__('ctypes').CDLL(None).prctl({PR_SET_THP_DISABLE},0,0,0,0)"));
    target.ask("eval globals().update(more=[b'x'*(i%400)+b'%d'%i for i in range(300000)])");
    target.ask("eval more.__delitem__(slice(0,None,2))");
    let s = snapshot_at_rest(&target);
    let owners = s["owners"].as_array().unwrap();
    let sum = |field: &str| owners.iter().map(|o| o[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("resident"), s["memory"]["rss"].as_u64().unwrap());
    assert_eq!(sum("huge"), s["memory"]["anon_huge_pages"].as_u64().unwrap(), "{owners:#?}");
    if sum("huge") == 0 {
        eprintln!("not run: the kernel gave no huge pages");
    }
}

#[test]
fn ps_lists_targets_as_a_tree() {
    let all = Interpreters::load().minors();
    let targets: Vec<_> =
        all.iter().map(|i| Target::spawn(i, "fragmented.py", &["20000"], &[])).collect();
    let (stdout, stderr) = text(&run(&["ps", "--json"]));
    let rows: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    for (interpreter, target) in all.iter().zip(&targets) {
        target.wait_blocked();
        let rows = rows["processes"].as_array().unwrap();
        let row = rows.iter().find(|r| r["pid"] == target.pid()).expect("it is listed");
        assert_eq!(row["python"], interpreter.patch.as_str());
        let s = snapshot(target.pid());
        assert_eq!(row["rss"], s["memory"]["rss"]);
        let heap =
            s["owners"].as_array().unwrap().iter().find(|o| o["kind"] == "pymalloc").unwrap();
        assert_eq!(row["live"], heap["live"], "{}", interpreter.name);
        // Of pymalloc alone: ps does not follow malloc's chunks.
        let of_heap = |term: &str| heap[term].as_u64().unwrap() as f64;
        let percent = 100.0 * (of_heap("resident") - of_heap("live")) / of_heap("resident");
        let shown = row["fragmentation_percent"].as_f64().unwrap();
        assert!((shown - percent).abs() < 1e-6, "{shown} {percent}");
    }
    let (table, _) = text(&run(&["ps"]));
    assert!(table.lines().all(|l| l.chars().count() <= 100), "{table}");
}

#[test]
fn a_kept_snapshot_is_shown_as_it_was_taken() {
    let interpreter = Interpreters::load().minors().pop().expect("an interpreter");
    let target = Target::spawn(interpreter, "fragmented.py", &["50000"], &[]);
    target.wait_blocked();
    let folder = std::env::temp_dir().join(format!("pydefrag-kept-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("a.pdsnap");
    let file = file.to_str().unwrap();
    let pid = target.pid().to_string();
    for form in [&["--json"][..], &[]] {
        let taken = run(&[&["snapshot", &pid, "-o", file], form].concat());
        let shown = run(&[&["report", file], form].concat());
        assert!(taken.status.success() && shown.status.success());
        assert_eq!(text(&taken).0, text(&shown).0);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn colour_is_for_those_who_want_it() {
    let interpreter = Interpreters::load().minors().pop().expect("an interpreter");
    let target = Target::spawn(interpreter, "idle.py", &[], &[]);
    let pid = target.pid().to_string();
    let colour = |env: &[(&str, &str)]| {
        let out = pydefrag(&["snapshot", &pid]).envs(env.iter().copied()).output().unwrap();
        assert!(out.status.success());
        text(&out).0.contains('\x1b')
    };
    assert!(!colour(&[]), "a pipe gets no colour");
    assert!(colour(&[("CLICOLOR_FORCE", "1")]));
    assert!(!colour(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}
