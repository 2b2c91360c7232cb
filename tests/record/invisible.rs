//! That a program is as it would be without us: its output, its environment, how it ends; whatever else wraps its allocators.

use pydefrag_harness::cache;

use super::*;
use crate::support::lacking;

/// What a program says bare and recorded, which must be the same; and its trace.
fn alike(of: &Interpreter, options: &[&str], words: &[&str], envs: &[(&str, &str)]) -> Recorded {
    let folder = tempfile::tempdir().unwrap();
    let bare = {
        let mut command = Command::new(&of.program);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("PYTHON") {
                command.env_remove(key);
            }
        }
        command
            .args(&of.args)
            .args(words)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(of.env.iter().map(|(k, v)| (k, v)))
            .envs(envs.iter().copied())
            .current_dir(repository().join("tests/targets"))
            .output()
            .unwrap()
    };
    let options = [&["--no-report"], options].concat();
    let mut command = recording(of, folder.path(), &options, words);
    let output = command.envs(envs.iter().copied()).output().unwrap();
    let recorded = Recorded { output, folder };
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let what = format!("{} {words:?} {envs:?}: {}", of.name, text(&recorded.output.stderr));
    assert_eq!(recorded.output.status, bare.status, "{what}");
    assert_eq!(text(&recorded.output.stdout), text(&bare.stdout), "{what}");
    recorded
}

fn allocations(recorded: &Recorded) -> usize {
    let trace = recorded.trace();
    events(&trace).iter().filter(|(_, e)| matches!(e, Event::Alloc { .. })).count()
}

#[test]
fn environment_descriptors_and_modules_are_the_programs() {
    let code = "import os, sys, subprocess\n\
                print(sorted(k for k in os.environ), os.environ.get('LD_PRELOAD'))\n\
                print(sorted(m for m in sys.modules if m != 'atexit' or sys.version_info > (3, 10)), sys.argv, sys.flags)\n\
                print([f for f in os.listdir('/proc/self/fd') if int(f) < 300])\n\
                print(subprocess.run([sys.executable, '-c', 'import os; print(sorted(os.environ))'], capture_output=True, text=True).stdout)\n";
    for of in every_minor() {
        let recorded = alike(of, &[], &["-c", code, "a", "b"], &[]);
        assert!(allocations(&recorded) > 10_000, "{}", of.name);
        alike(of, &[], &["-I", "-E", "-c", code], &[]);
    }
}

#[test]
fn other_allocators_and_hooks_are_no_hindrance() {
    let code = "x = [str(i) * 3 for i in range(30000)]; print(len(x))";
    let traced = "import tracemalloc; tracemalloc.start(5)\n\
                  x = [str(i) * 3 for i in range(30000)]\n\
                  tracemalloc.stop(); y = [str(i) for i in range(20000)]; print(len(x), len(y))";
    // tracemalloc takes much from malloc at once, and nothing from Python: ours are put over its, which are over ours.
    let chained = "import tracemalloc; tracemalloc.start(); x = [str(i) * 3 for i in range(3000)]\n\
                   for _ in range(3): tracemalloc.take_snapshot()\n\
                   y = [str(i) for i in range(30000)]; print(len(x), len(y)); del y";
    for of in every_minor() {
        for (envs, code) in [
            (&[("PYTHONMALLOC", "debug")][..], code),
            (&[("PYTHONMALLOC", "malloc")], code),
            (&[("PYTHONMALLOC", "malloc_debug")], code),
            (&[("PYTHONMALLOC", "pymalloc")], code),
            (&[("PYTHONTRACEMALLOC", "1")], code),
            (&[("PYTHONDEVMODE", "1")], code),
            (&[], traced),
            (&[], chained),
        ] {
            let recorded = alike(of, &["--check-stacks"], &["-c", code], envs);
            // The strings of the list at least: they come when the interpreter has long started.
            assert!(
                allocations(&recorded) > 30_000,
                "{} {envs:?}: {}",
                of.name,
                allocations(&recorded)
            );
            let trace = recorded.trace();
            // Where Python puts its allocators there anew while it starts, blocks of before are given back by others.
            if !envs.iter().any(|(name, _)| ["PYTHONMALLOC", "PYTHONDEVMODE"].contains(name)) {
                told_once(&trace, &format!("{} {envs:?}", of.name));
            }
            assert_eq!(trace.end.expect("an end").wrong_stacks, Some(0), "{} {envs:?}", of.name);
        }
    }
}

/// Another allocator that is preloaded serves malloc as before, and is recorded.
#[test]
fn another_malloc_serves_as_before() {
    let libraries = cache().join("allocators/root/usr/lib/x86_64-linux-gnu");
    for prefix in ["libjemalloc.so", "libtcmalloc_minimal.so", "libmimalloc.so"] {
        let entries =
            std::fs::read_dir(&libraries).into_iter().flatten().flatten().map(|e| e.path());
        let library = entries
            .filter(|p| p.exists())
            .find(|p| p.file_name().unwrap().to_str().unwrap().starts_with(prefix));
        let Some(library) = library else {
            lacking(prefix);
            continue;
        };
        let library = library.to_str().unwrap();
        let code = "import threading\n\
                    def work(): return [bytes(i) for i in range(0, 40000, 7)]\n\
                    t = [threading.Thread(target=work) for _ in range(4)]\n\
                    [x.start() for x in t]; [x.join() for x in t]; print(len(work()))\n\
                    print([l.split('/')[-1].strip() for l in open('/proc/self/maps') if 'NAME' in l][0])";
        let code = code.replace("NAME", prefix);
        for (of, malloc) in two().into_iter().flat_map(|of| [(of, "pymalloc"), (of, "malloc")]) {
            let envs = [("LD_PRELOAD", library), ("PYTHONMALLOC", malloc)];
            let recorded = alike(of, &["--check-stacks"], &["-c", &code], &envs);
            assert!(allocations(&recorded) > 28_000, "{prefix}: {}", allocations(&recorded));
        }
    }
}
