//! What is Python but none that is read, and what only looks like one: refused with the validation
//! that failed, soon, and without believing a word of it.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use pydefrag_harness::Interpreters;
use tempfile::TempDir;

use super::{Stranger, compile, look, open_folder, python_says, refused, run};
use crate::support::text;

/// How soon hostile memory is refused, in a debug build on a loaded machine.
const SOON: Duration = Duration::from_secs(5);

fn refused_soon(program: &Stranger) -> String {
    let start = Instant::now();
    let (sentence, hint) = refused(&look(program.pid()));
    assert!(start.elapsed() < SOON, "{:?}: {sentence}", start.elapsed());
    assert!(!hint.is_empty());
    let (table, stderr) = text(&run(&["ps"]));
    assert!(!stderr.contains("panicked"), "{table}{stderr}");
    sentence
}

#[test]
fn older_pythons_are_refused_by_their_version() {
    let unsupported = Interpreters::load().unsupported();
    for of in &unsupported {
        let target = Stranger::ready(&mut python_says(of, "ready()"));
        let sentence = refused_soon(&target);
        let (pid, version) = (target.pid(), &of.patch);
        let why = "which is not supported: only CPython 3.8 to 3.15 is read";
        assert_eq!(sentence, format!("process {pid} runs CPython {version}, {why}"));
    }
    if unsupported.is_empty() {
        eprintln!("not run: no unsupported interpreter is there");
    }
}

/// A program linked with a library of that name.
fn linked_with(folder: &TempDir, name: &str, library: &str, source: &str) -> Option<PathBuf> {
    compile(folder.path(), library, "empty.c", &["-shared", "-fPIC"])?;
    let rpath = format!("-Wl,--no-as-needed,-rpath,{}", folder.path().display());
    let library = folder.path().join(library).display().to_string();
    compile(folder.path(), name, source, &["-rdynamic", &rpath, &library])
}

#[test]
fn pypy_is_refused_by_its_name() {
    let folder = open_folder();
    for (name, library) in [("pypy3", "libother.so"), ("python3", "libpypy3.9-c.so")] {
        let Some(program) = linked_with(&folder, name, library, "waits.c") else { return };
        let target = Stranger::ready(&mut Command::new(program));
        let pid = target.pid();
        let why = "which is not supported: only CPython 3.8 to 3.15 is read";
        assert_eq!(refused_soon(&target), format!("process {pid} runs PyPy, {why}"));
    }
}

#[test]
fn musl_is_refused_by_its_name() {
    let folder = open_folder();
    let musl = "ld-musl-x86_64.so.1";
    let Some(program) = linked_with(&folder, "python3", musl, "strange.c") else { return };
    let target = Stranger::ready(&mut Command::new(program));
    let sentence = refused_soon(&target);
    assert!(sentence.contains("python3 on musl, which is not supported: only glibc"), "{sentence}");
}

#[test]
fn a_32_bit_process_is_refused_by_its_class() {
    let folder = open_folder();
    let flags = ["-m32", "-nostdlib", "-static"];
    let Some(program) = compile(folder.path(), "python3", "ia32.c", &flags) else { return };
    let target = Stranger::ready(&mut Command::new(program));
    let sentence = refused_soon(&target);
    let why = "python3 (32-bit), which is not supported: only 64-bit x86-64 processes are read";
    assert!(sentence.ends_with(why), "{sentence}");
}

/// A program named python3 that exports `_PyRuntime` and what else the flags add.
fn strange(flags: &[&str]) -> Option<(TempDir, PathBuf)> {
    let folder = open_folder();
    let flags = [&["-rdynamic"], flags].concat();
    let program = compile(folder.path(), "python3", "strange.c", &flags)?;
    Some((folder, program))
}

#[test]
fn garbage_for_a_runtime_is_refused() {
    let Some((_folder, program)) = strange(&[]) else { return };
    for how in ["garbage", "huge"] {
        let target = Stranger::ready(Command::new(&program).arg(how));
        let sentence = refused_soon(&target);
        assert!(sentence.contains("runs a Python of unknown version (/"), "{how}: {sentence}");
        assert!(
            sentence.ends_with("neither Py_Version nor the text of sys.version was found in it")
        );
    }
    for (version, why) in [
        ("0x030e04f0", "does not begin with _Py_DebugOffsets"),
        ("0x030c01f0", "not mapped"),
        ("0x030b07f0", "no usedpools array in the data of /"),
        ("0x030800f0", "no usedpools array in the data of /"),
    ] {
        let Some((_folder, program)) = strange(&[&format!("-DPY_VERSION={version}")]) else {
            return;
        };
        let target = Stranger::ready(Command::new(&program).arg("garbage"));
        let sentence = refused_soon(&target);
        assert!(sentence.contains("but its memory is not understood: "), "{version}: {sentence}");
        assert!(sentence.contains(why), "{version}: {sentence}");
    }
}

#[test]
fn hostile_lists_of_interpreters_are_refused_soon() {
    let Some((_folder, program)) = strange(&[]) else { return };
    for (how, why) in [
        ("", "none of 0 interpreters"),
        ("unmapped", "address 0x123456789b8 is not mapped"),
        ("top", "is not mapped"),
        ("cycle", "does not end"),
        ("long", "does not end"),
    ] {
        let target = Stranger::ready(Command::new(&program).arg(how));
        let sentence = refused_soon(&target);
        let start = format!(
            "process {} runs CPython 3.14.4, but its memory is not understood: ",
            target.pid()
        );
        assert!(sentence.starts_with(&start) && sentence.contains(why), "{how}: {sentence}");
    }
}

#[test]
fn a_future_python_is_refused_with_what_did_not_fit() {
    let Some((_folder, program)) = strange(&[]) else { return };
    let target = Stranger::ready(Command::new(&program).arg("future"));
    let sentence = refused_soon(&target);
    assert!(
        sentence.contains("runs CPython 3.99.0, but its memory is not understood"),
        "{sentence}"
    );
}

/// Without the GIL there is no pymalloc to find: what is hostile in its place is not looked at long,
/// and the account stands without it.
#[test]
fn a_hostile_build_without_the_gil_is_accounted_soon() {
    let Some((_folder, program)) = strange(&[]) else { return };
    let target = Stranger::ready(Command::new(&program).arg("gilless"));
    let start = Instant::now();
    let json = super::account(&look(target.pid()), "without the GIL");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!(json["process"]["python"]["free_threaded"], true);
}
