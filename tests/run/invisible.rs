//! A program prints the same with and without us, on every interpreter.

use std::fs;
use std::path::Path;

use pydefrag_harness::{Interpreter, Interpreters};
use tempfile::TempDir;

use super::{Ran, bare, environment, python, run_in, within};

/// Runs it bare and under pydefrag, and compares all that can be seen from outside.
fn alike(of: &Interpreter, environment: &[(&str, &str)], words: &[&str], stdin: &[u8]) -> Ran {
    let program = of.program.display().to_string();
    let mut command = bare(environment);
    command.arg(&program).args(words);
    let without = within(command, stdin);
    let with = run_in(environment, &[&["--python", &program], words].concat(), stdin);
    let what = format!("python {} {words:?}", of.name);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert_same(&text(&without.stdout), &with.stdout, &what);
    assert_same(&text(&without.stderr), &with.stderr, &what);
    assert_eq!(without.status, with.status, "{what}");
    with
}

fn assert_same(without: &str, with: &str, what: &str) {
    for (a, b) in without.lines().zip(with.lines()) {
        assert_eq!(a, b, "{what}");
    }
    assert_eq!(without, with, "{what}");
}

#[test]
fn scripts_modules_and_code_see_no_difference() {
    let code = "exec(compile(open('introspect.py').read(), 'introspect.py', 'exec'))";
    for of in Interpreters::load().all() {
        let environment = environment(of);
        for words in [
            &["introspect.py", "7", "-c", "--json"][..],
            &["-m", "introspect", "1"],
            &["-c", code, "0"],
        ] {
            alike(of, &environment, words, b"some input\n").whole();
        }
    }
}

/// As pip writes `gunicorn`: a file on PATH whose first line names the interpreter.
#[test]
fn commands_of_packages_see_no_difference() {
    use std::os::unix::fs::PermissionsExt;
    let source = fs::read_to_string(super::targets().join("introspect.py")).expect("a target");
    for of in Interpreters::load().all().into_iter().filter(|i| i.args.is_empty()) {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("server");
        fs::write(&file, format!("#!{}\n{source}", of.program.display())).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("our own file");
        let mut environment = environment(of);
        let path = format!("{}:{}", folder.path().display(), environment[1].1);
        environment[1] = ("PATH", &path);
        let words = ["server", "app:app", "--bind"];
        // It ends with the code in its first argument: none is a number, so with a traceback.
        let mut command = bare(&environment);
        command.args(words);
        let without = within(command, b"");
        let with = run_in(&environment, &words, b"");
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        assert!(with.stdout.contains("'app:app', '--bind'"), "{}", with.stdout);
        assert_same(&text(&without.stdout), &with.stdout, &of.name);
        assert_same(&text(&without.stderr), &with.stderr, &of.name);
        assert_eq!(without.status, with.status, "{}", of.name);
        with.whole();
    }
}

#[test]
fn pythonpath_and_a_hidden_sitecustomize_see_no_difference() {
    let folder = TempDir::new().expect("a temporary folder");
    let folder = folder.path().canonicalize().expect("its path");
    let hidden = "import atexit, os, sys\nprint('hidden', __name__, __file__, dict(os.environ), sys.path)\n\
                  print(sys.modules[__name__].__dict__ is globals(), sorted(globals()))\n\
                  atexit.register(print, 'hidden ends')\n";
    let place = |name: &str, text: &str| {
        fs::create_dir(folder.join(name)).expect("a folder");
        fs::write(folder.join(name).join("sitecustomize.py"), text).expect("a file");
        folder.join(name).display().to_string()
    };
    let hiding = place("hidden", hidden);
    let broken = place("broken", "import nothing_of_this_name\n");
    let failing = place("failing", "def f(): raise ValueError('it fails')\nf()\n");
    let chained =
        place("chained", "import sys\nsys.path.insert(0, 'x')\nsys.modules[__name__] = sys\n");
    for of in Interpreters::load().all() {
        let two = format!("{hiding}:relative:{hiding}");
        for path in ["", ":", "a::b", &hiding, &two, &broken, &failing, &chained] {
            let mut environment = environment(of);
            environment.insert(1, ("PYTHONPATH", path));
            let ran = alike(of, &environment, &["introspect.py", "0"], b"");
            if path == hiding {
                assert!(ran.stdout.starts_with("hidden sitecustomize"), "{}", ran.stdout);
                assert!(ran.stdout.ends_with("hidden ends\n"), "{}", ran.stdout);
                ran.whole();
            }
        }
    }
}

#[test]
fn a_venv_sees_no_difference() {
    for of in Interpreters::load().all().into_iter().filter(|i| i.env.is_empty()) {
        let folder = TempDir::new().expect("a temporary folder");
        let venv = folder.path().join("venv");
        let mut make = bare(&environment(of));
        make.arg(&of.program).args(["-m", "venv", "--without-pip"]).arg(&venv);
        if !within(make, b"").status.success() {
            // Debian keeps venv in a package of its own.
            eprintln!("not run: {} has no venv", of.name);
            continue;
        }
        let inside = Interpreter { program: venv.join("bin/python"), ..of.clone() };
        alike(&inside, &environment(of), &["introspect.py", "0"], b"").whole();
    }
}

#[test]
fn options_of_the_interpreter_see_no_difference() {
    for of in Interpreters::load().all() {
        let script = ["introspect.py", "0"];
        for options in [&["-I"][..], &["-E"], &["-S"], &["-s", "-O", "-X", "dev"], &["-B", "-u"]] {
            let ignores = matches!(options[0], "-I" | "-E");
            if ignores && !of.env.is_empty() {
                // Without PYTHONHOME, it does not find its library.
                continue;
            }
            // As a command, which is what takes options of an interpreter.
            let words = [options, &script].concat();
            let program = of.program.display().to_string();
            let mut command = bare(&environment(of));
            command.arg(&program).args(&words);
            let without = within(command, b"");
            let with = run_in(&environment(of), &[&[program.as_str()], &words[..]].concat(), b"");
            // What does not load the hook shows PYTHONPATH as it is; and -S has the folder in its path.
            let ours =
                |line: &&str| line.contains("pydefrag-run-") && !options.starts_with(&["-s"]);
            let stdout = String::from_utf8_lossy(&without.stdout).into_owned();
            let shown = with.stdout.lines().filter(|l| !ours(l)).count();
            if options[0] == "-s" || options[0] == "-B" {
                assert_same(&stdout, &with.stdout, &format!("{} {words:?}", of.name));
                with.whole();
            } else {
                assert!(shown + 6 >= stdout.lines().count(), "{}", with.stdout);
                let reason = with.reason();
                assert!(reason.contains("-I, -E or -S") || reason.contains(" in 0."), "{reason}");
            }
            assert_eq!(with.code(), 0, "{}", with.stderr);
        }
    }
}

#[test]
fn no_bytecode_of_ours_is_left() {
    let files = |folder: &Path| {
        let list = bare(&[]).args(["find", "."]).current_dir(folder).output().expect("find");
        let mut all: Vec<String> =
            String::from_utf8_lossy(&list.stdout).lines().map(str::to_owned).collect();
        all.sort();
        all
    };
    for of in Interpreters::load().all() {
        let folders = [(); 2].map(|()| TempDir::new().expect("a temporary folder"));
        let kept = folders.each_ref().map(|f| f.path().join("kept").display().to_string());
        let program = of.program.display().to_string();
        let environment = |kept: &str| -> Vec<(String, String)> {
            let all = self::environment(of).into_iter().filter(|e| !e.0.contains("BYTECODE"));
            let all = all.map(|(k, v)| (k.to_owned(), v.to_owned()));
            all.chain([("PYTHONPYCACHEPREFIX".into(), kept.into())]).collect()
        };
        let borrowed = |all: &'static [(String, String)]| -> Vec<(&'static str, &'static str)> {
            all.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
        };
        // Twice: what is found cached is another path through the importer.
        for _ in 0..2 {
            let mut command = bare(&borrowed(Vec::leak(environment(&kept[0]))));
            command.args([&program, "-c", "import json"]);
            assert!(within(command, b"").status.success());
            let environment = borrowed(Vec::leak(environment(&kept[1])));
            run_in(&environment, &["--python", &program, "-c", "import json"], b"").whole();
            assert_eq!(files(folders[0].path()), files(folders[1].path()), "{}", of.name);
        }
    }
}

#[test]
fn exit_codes_texts_and_tracebacks_are_the_programs() {
    for of in Interpreters::load().all() {
        let environment = environment(of);
        for code in [
            "pass",
            "import sys; sys.exit(1)",
            "import sys; sys.exit(7)",
            "import sys; sys.exit(300)",
            "import sys; sys.exit('a text')",
            "raise ValueError('not caught')",
            "import os; os._exit(9)",
            "this is no python",
            "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
            "import os, signal; os.kill(os.getpid(), signal.SIGABRT)",
            "import atexit; atexit.register(int, 'x')",
        ] {
            alike(of, &environment, &["-c", code], b"");
        }
    }
}

#[test]
fn a_descriptor_of_the_programs_own_at_our_number_is_left_alone() {
    // Whoever starts us may have used it already; the hook then takes the one below.
    let mut command = bare(&environment(python()));
    let script = "exec 9<&0; exec \"$@\"";
    command.args(["bash", "-c", script, "bash", super::tool(), "run", "--json"]);
    let code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:5])";
    command.arg("--python").arg(&python().program).args(["-c", code]);
    let out = within(command, b"");
    let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(stdout.contains(" 9"), "{stdout}");
}
