//! The package `pydefrag`, as `pip install .` gives it, on every interpreter that it is for. One wheel is built, and all
//! of them load the same library.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pydefrag_harness::packages::Packages;
use pydefrag_harness::smaps::Memory;
use pydefrag_harness::{Interpreter, Interpreters, Target, repository};
use serde_json::Value;

use crate::library::assert_portable;
use crate::support::{lacking, run, snapshot, text};

/// What `pip wheel` made, unpacked as `pip install` does it.
struct Installed {
    wheel: PathBuf,
    /// For `PYTHONUSERBASE`: each minor has its site-packages in it.
    base: PathBuf,
    site: PathBuf,
}

/// Builds the wheel once; without what builds it, or an interpreter for that, says so.
fn installed() -> Option<&'static Installed> {
    static ONCE: OnceLock<Option<Installed>> = OnceLock::new();
    ONCE.get_or_init(|| {
        let set = Packages::load().set.into_iter().find(|set| set.name == "build")?;
        let Some(of) = Interpreters::load().get(&set.pip).filter(|_| set.is_there()) else {
            lacking("what builds the wheel, which `cargo xtask packages` brings,");
            return None;
        };
        // Beside the binaries: it stays, so that a second run finds what it needs built.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
        let _ = std::fs::remove_dir_all(&folder);
        let (wheels, site) = (folder.join("wheels"), folder.join("site"));
        let out = python(of)
            .args(["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--no-index", "--no-build-isolation", "--wheel-dir"])
            .args([wheels.as_os_str(), repository().as_os_str()])
            .env("PYTHONPATH", set.folder())
            .output()
            .unwrap();
        assert!(out.status.success(), "pip wheel: {}", text(&out).1);
        let wheel = std::fs::read_dir(&wheels).unwrap().next().unwrap().unwrap().path();
        let out = python(of)
            .args(["-m", "zipfile", "-e"])
            .args([wheel.as_os_str(), site.as_os_str()])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out).1);
        let base = folder.join("base");
        for minor in 8..=15 {
            let lib = base.join(format!("lib/python3.{minor}"));
            std::fs::create_dir_all(&lib).unwrap();
            std::os::unix::fs::symlink(&site, lib.join("site-packages")).unwrap();
        }
        Some(Installed { wheel, base, site })
    })
    .as_ref()
}

/// An interpreter without `PYTHON…` variables of ours.
fn python(of: &Interpreter) -> Command {
    let mut command = Command::new(&of.program);
    for (key, _) in std::env::vars_os().filter(|v| v.0.to_string_lossy().starts_with("PYTHON")) {
        command.env_remove(key);
    }
    command.args(&of.args).envs(of.env.iter().map(|(key, value)| (key, value)));
    command
}

/// Runs code where the package is installed.
fn says(of: &Interpreter, installed: &Installed, code: &str, envs: &[(&str, &str)]) -> Output {
    python(of)
        .args(["-c", code])
        .env("PYTHONUSERBASE", &installed.base)
        .envs(envs.iter().copied())
        .output()
        .unwrap()
}

/// A target with the package.
fn start(of: &Interpreter, script: &str, envs: &[(&str, &str)]) -> Option<Target> {
    let base = installed()?.base.display().to_string();
    let envs = [&[("PYTHONUSERBASE", base.as_str())], envs].concat();
    Some(Target::spawn(of, script, &[], &envs))
}

/// The interpreters that it is for. (Not Debian's own 3.11, whose variables a purge does not find: it refuses that.)
fn interpreters() -> Vec<&'static Interpreter> {
    Interpreters::load().minors().into_iter().filter(|i| i.minor >= 10).collect()
}

fn number(target: &mut Target, expression: &str) -> u64 {
    let said = target.ask(&format!("eval {expression}"));
    said.trim().parse().unwrap_or_else(|_| panic!("{expression}: {said}"))
}

/// Waits for something that another thread does.
fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what} does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn in_folder(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path());
    entries.into_iter().find(|path| path.extension().is_some_and(|e| e == "pdsnap"))
}

#[test]
fn the_wheel_is_for_all_minors_and_old_systems() {
    let Some(installed) = installed() else { return };
    let name = installed.wheel.file_name().unwrap().to_string_lossy().into_owned();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(name, format!("pydefrag-{version}-cp310-abi3-linux_x86_64.whl"));
    assert_portable(&installed.site.join("pydefrag/_agent.abi3.so"));
    for file in ["pydefrag.pth", "pydefrag/py.typed", "pydefrag/__init__.py"] {
        assert!(installed.site.join(file).exists(), "the wheel lacks {file}");
    }
}

#[test]
fn pip_installs_it_into_an_environment() {
    let Some(installed) = installed() else { return };
    let Some(of) = Interpreters::load().get("3.11") else { return };
    let folder = tempfile::tempdir().unwrap();
    let made = python(of).args(["-m", "venv"]).arg(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", text(&made).1);
    let inside = Interpreter { program: folder.path().join("bin/python"), ..of.clone() };
    let pip = python(&inside)
        .args(["-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"])
        .arg(&installed.wheel)
        .output()
        .unwrap();
    assert!(pip.status.success(), "{}", text(&pip).1);
    let code = "import pydefrag; print(pydefrag.trim().malloc)";
    let out = python(&inside).args(["-c", code]).output().unwrap();
    assert_eq!(text(&out), ("glibc\n".into(), String::new()));
}

#[test]
fn a_purge_gives_memory_back() {
    for of in interpreters() {
        let Some(mut target) = start(of, "package.py", &[]) else { return };
        let before = Memory::of(target.pid()).rss;
        let returned = number(&mut target, "pydefrag.purge().returned");
        let after = Memory::of(target.pid()).rss;
        let what = format!("{}: {before} -> {after}, {returned} returned", of.name);
        assert!(after * 10 < before * 7, "{what}");
        assert!(returned.abs_diff(before - after) < 4 << 20, "{what}");
        assert_eq!(number(&mut target, "pydefrag.status().heals"), 1);
        // The program goes on as before.
        target.ask("work");
        let sum = number(&mut target, "sum(int(r[0][4:]) for r in kept)");
        assert_eq!(sum, (0..300_000).step_by(200).sum::<u64>());
        assert_eq!(target.stderr(), "", "{}", of.name);
    }
}

#[test]
fn the_account_is_what_a_look_from_outside_says() {
    for of in interpreters() {
        let Some(mut target) = start(of, "package.py", &[]) else { return };
        // What a first call makes once is there for the second.
        target.ask("eval pydefrag.account().rss");
        target.wait_blocked();
        let outside = snapshot(target.pid());
        let inside = target.ask("eval json.dumps(pydefrag.account().data)");
        let inside: Value = serde_json::from_str(&inside).unwrap();
        let sum: u64 = inside["owners"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|o| o["resident"].as_u64())
            .sum();
        let rss = inside["memory"]["rss"].as_u64().unwrap();
        assert_eq!(sum + inside["unattributed"].as_u64().unwrap(), rss, "{}", of.name);
        assert_eq!(inside["schema"], outside["schema"]);
        assert_eq!(inside["process"]["python"], outside["process"]["python"]);
        let of_pymalloc = |s: &Value, term: &str| {
            let owners = s["owners"].as_array().unwrap();
            let owner = owners.iter().find(|o| o["name"] == "pymalloc").expect("pymalloc");
            owner[term].as_u64().unwrap_or_else(|| panic!("{owner}"))
        };
        // The answer itself is made of Python's objects.
        for term in ["resident", "live", "holes", "pinned_free", "free_spans"] {
            let (inside, outside) = (of_pymalloc(&inside, term), of_pymalloc(&outside, term));
            assert!(
                inside.abs_diff(outside) < 512 << 10,
                "{}: {term} is {inside} from inside, {outside} from outside",
                of.name
            );
        }
    }
}

#[test]
fn a_snapshot_of_its_own_can_be_reported() {
    let folder = tempfile::tempdir().unwrap();
    for of in interpreters() {
        let Some(mut target) = start(of, "package.py", &[]) else { return };
        let path = folder.path().join(format!("{}.pdsnap", of.name));
        let path = path.to_str().unwrap();
        let bytes = number(&mut target, &format!("pydefrag.snapshot({path:?})"));
        assert_eq!(std::fs::metadata(path).unwrap().len(), bytes);
        let out = run(&["report", path]);
        let (said, errors) = text(&out);
        assert!(out.status.success(), "{}: {errors}", of.name);
        assert!(said.contains(&format!("pid {}", target.pid())), "{said}");
        assert!(said.contains("kept") && said.contains("by owner"), "{said}");
        let nowhere = target.ask("eval refusal(pydefrag.snapshot, '/nowhere/x.pdsnap')");
        assert!(nowhere.contains("/nowhere/x.pdsnap cannot be written"), "{nowhere}");
    }
}

/// A program that knows nothing of pydefrag, in a container where only the environment can be set.
#[test]
fn a_signal_writes_a_snapshot_where_the_environment_says_so() {
    for of in interpreters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let Some(target) = start(of, "idle.py", &[("PYDEFRAG_SNAPSHOT_DIR", path)]) else { return };
        kill(Pid::from_raw(target.pid() as i32), Signal::SIGUSR2).unwrap();
        let mut written = None;
        wait("a snapshot", || {
            written = in_folder(folder.path());
            written.is_some()
        });
        let out = run(&["report", written.unwrap().to_str().unwrap()]);
        assert!(out.status.success(), "{}: {}", of.name, text(&out).1);
        wait("the line", || target.stderr().contains("pydefrag: snapshot written to"));
    }
}

#[test]
fn a_switch_that_cannot_be_obeyed_is_a_line_on_stderr() {
    let Some(installed) = installed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for of in interpreters() {
        let cases = [
            (vec![("PYDEFRAG_SNAPSHOT_DIR", "/nowhere")], "/nowhere is no folder"),
            (
                vec![("PYDEFRAG_SNAPSHOT_DIR", path), ("PYDEFRAG_SNAPSHOT_SIGNAL", "INT")],
                "signal 2 is handled by the program already",
            ),
            (
                vec![("PYDEFRAG_SNAPSHOT_DIR", path), ("PYDEFRAG_SNAPSHOT_SIGNAL", "SIGWHAT")],
                "SIGWHAT (PYDEFRAG_SNAPSHOT_SIGNAL) is no signal",
            ),
            (vec![("PYDEFRAG_AUTO", "maybe")], "'maybe' is neither 1, log nor 0"),
        ];
        for (envs, expected) in cases {
            let (out, err) = text(&says(of, installed, "print('runs')", &envs));
            assert_eq!(out, "runs\n", "{}", of.name);
            let line = err.strip_suffix('\n').unwrap_or(&err);
            assert!(line.starts_with("pydefrag: ") && line.contains(expected), "{err}");
            assert!(!line.contains('\n'), "{err}");
        }
        // Without a switch it is not even imported.
        let code = "import sys; print('pydefrag' in sys.modules)";
        let said = text(&says(of, installed, code, &[]));
        assert_eq!(said, ("False\n".into(), String::new()), "{}", of.name);
    }
}

#[test]
fn auto_is_turned_on_and_off() {
    for of in interpreters() {
        let Some(mut target) = start(of, "package.py", &[]) else { return };
        target.ask("eval pydefrag.auto(every=0.05)");
        std::thread::sleep(Duration::from_millis(300));
        target.ask("work");
        wait("a heal", || number(&mut target, "pydefrag.status().heals") > 0);
        target.ask("eval pydefrag.auto(False)");
        std::thread::sleep(Duration::from_millis(300));
        let heals = number(&mut target, "pydefrag.status().heals");
        target.ask("work");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(number(&mut target, "pydefrag.status().heals"), heals, "{}", of.name);
    }
}

#[test]
fn auto_comes_with_the_environment_and_says_what_it_did() {
    let Some(of) = Interpreters::load().get("3.13") else { return };
    let Some(mut target) = start(of, "package.py", &[("PYDEFRAG_AUTO", "log")]) else { return };
    std::thread::sleep(Duration::from_millis(1500));
    target.ask("work");
    wait("a heal", || target.stderr().contains("MiB given back, RSS"));
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    for of in interpreters() {
        let Some(mut target) = start(of, "package.py", &[]) else { return };
        let mut refusal = |call: &str| target.ask(&format!("eval refusal(pydefrag.{call})"));
        let slice = refusal("purge, slice=0");
        assert!(slice.contains("a slice of 0 microseconds"), "{slice}");
        for bad in ["2", "-1", "float('nan')", "float('inf')", "1e300"] {
            let slice = refusal(&format!("purge, slice={bad}"));
            assert!(slice.contains("cannot be kept to"), "{bad}: {slice}");
        }
        let every = refusal("auto, every=0");
        assert!(every.contains("a look every 0 ms is not made"), "{every}");
        let panic = target.ask("eval panics()");
        assert!(panic.contains("an error inside pydefrag's agent"), "{panic}");
        let path = folder.path().join(&of.name);
        let path = path.to_str().unwrap();
        let other = target.ask(&format!("eval in_another_interpreter({path:?})"));
        assert!(other.contains("interpreter"), "{}: {other}", of.name);
        // None of it did anything, and all of it can be done now.
        assert_eq!(number(&mut target, "pydefrag.status().heals"), 0);
        assert_eq!(number(&mut target, "len(pydefrag.purge().skipped)"), 0);
        assert_eq!(target.stderr(), "", "{}", of.name);
    }
}

#[test]
fn without_pymalloc_malloc_is_trimmed_and_the_rest_is_said() {
    for of in interpreters() {
        let Some(mut target) = start(of, "package.py", &[("PYTHONMALLOC", "malloc")]) else {
            return;
        };
        assert_eq!(target.ask("eval pydefrag.trim().malloc"), "glibc\n", "{}", of.name);
        let skipped = target.ask("eval pydefrag.purge().skipped");
        assert!(skipped.contains("pymalloc: "), "{}: {skipped}", of.name);
        assert!(skipped.contains("PYTHONMALLOC may name another allocator"), "{skipped}");
    }
}

#[test]
fn an_older_python_is_refused_at_import() {
    let Some(installed) = installed() else { return };
    for name in ["3.8", "3.9"] {
        let Some(of) = Interpreters::load().get(name) else { continue };
        let (_, err) = text(&says(of, installed, "import pydefrag", &[]));
        let expected =
            format!("ImportError: pydefrag needs Python 3.10 or later, and this is {name}");
        assert!(err.trim_end().ends_with(&expected), "{err}");
    }
}
