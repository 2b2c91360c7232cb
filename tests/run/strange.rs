//! Programs that do strange things, and places where little is allowed. They run as they would without us.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pydefrag_harness::repository;
use tempfile::TempDir;

use super::{bare, environment, is_root, python, reported, run_code, run_in, run_on, tool, within};

/// It went well, there is an account, and nothing was said.
fn fine(code: &str, prints: &str) {
    let ran = run_code(code);
    assert_eq!(ran.stderr, "", "{code}");
    assert_eq!((ran.stdout.as_str(), ran.code()), (prints, 0), "{code}");
    ran.whole();
}

#[test]
fn what_a_program_does_to_itself_does_not_matter() {
    fine("import os; os.chdir('/'); os.environ.clear(); print(1)", "1\n");
    fine("import os; os.unsetenv('PYTHONPATH'); os.umask(0o777)", "");
    fine(
        "import builtins, os, time\n\
         for m in (os, time):\n\
         \x20for n in list(vars(m)): setattr(m, n, None)\n\
         for n in ('open', 'int', 'min', 'BaseException', 'OSError', 'BlockingIOError'): setattr(builtins, n, None)",
        "",
    );
    fine("import sys; sys.path[:] = []; sys.meta_path[:] = []; sys.modules.clear()", "");
    fine("import sys; sys.stdout.close(); sys.stderr.close()", "");
    fine("import gc, sys; gc.disable(); sys.setrecursionlimit(50)", "");
    // A handler that raises while it waits for us ends the wait, and is not heard of.
    let ran = run_code(
        "import atexit, signal\ndef late(*a): raise ValueError('late')\nsignal.signal(14, late)\n\
         atexit.register(signal.setitimer, signal.ITIMER_REAL, 0.002)",
    );
    assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
    fine(
        "import threading, time; threading.Thread(target=lambda: [bytes(99) for i in range(9**6)]).start()",
        "",
    );
    fine("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5))", "");
    fine(
        "import time, threading; threading.Thread(target=lambda: time.sleep(9), daemon=True).start()",
        "",
    );
    fine("import os\npid = os.fork()\nif pid: print(os.waitpid(pid, 0)[1])", "0\n");
    fine(
        "import multiprocessing as m\nif __name__ == '__main__': p = m.Process(target=print, args=(1,)); p.start(); p.join()",
        "1\n",
    );
}

#[test]
fn a_reused_descriptor_is_not_written_to() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("file").display().to_string();
    let ran = run_code(&format!(
        "import os\nos.closerange(3, 5000)\nfd = os.open({file:?}, os.O_RDWR | os.O_CREAT)\n\
         for n in range(100, 1024): os.dup2(fd, n)\nos.write(fd, b'mine')"
    ));
    assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
    assert!(ran.reason().contains("closed all descriptors"), "{}", ran.reason());
    assert_eq!(fs::read(&file).expect("the file"), b"mine");
}

/// The program overwrites malloc's own words in the midst of its arena: sizes of chunks, and links of free
/// ones, one of which then leads round in a circle. Samples and the account go on beside the damage.
#[test]
fn a_heap_that_the_program_corrupts_is_reported_and_samples_go_on() {
    let code = "import ctypes, time\n\
        c = ctypes.CDLL(None)\n\
        c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]\n\
        many = [c.malloc(9000) for _ in range(1000)]\n\
        for at in many: ctypes.memset(at, 1, 9000)\n\
        for at in many[100:300:2]: c.free(at)\n\
        c.malloc(60000)\n\
        sizes = [many[i] - 8 for i in range(500, 600, 10)]\n\
        for at in sizes: ctypes.c_uint64.from_address(at).value = 0x4141414141414141\n\
        at = many[200]\n\
        ctypes.c_uint64.from_address(at).value = at - 16\n\
        end = time.monotonic() + 3.0\n\
        while time.monotonic() < end: x = bytearray(300000); time.sleep(0.01)\n\
        print('done', flush=True)";
    for of in pydefrag_harness::Interpreters::load().minors() {
        let ran = run_on(of, &["-c", code]);
        assert_eq!((ran.stdout.as_str(), ran.code()), ("done\n", 0), "{}: {}", of.name, ran.stderr);
        let (run, malloc) = (ran.whole().run(), &ran.report["malloc"]["arenas"][0]);
        assert!(run["samples"].as_array().is_some_and(|s| s.len() > 1), "{}: {run}", of.name);
        assert!(malloc["unread"].as_u64() > Some(0), "{}: {malloc}", of.name);
        assert!(malloc["system"].as_u64() > Some(9_000_000), "{}: {malloc}", of.name);
        let notes = ran.report["notes"].as_array().expect("notes");
        let said = |n: &serde_json::Value| n.as_str().is_some_and(|n| n.contains("corrupted by"));
        assert!(notes.iter().any(said), "{}: {notes:?}", of.name);
        // What is free beside the damage: 100 chunks at least.
        assert!(run["end"]["free"].as_u64() > Some(800_000), "{}: {run}", of.name);
    }
}

#[test]
fn another_root_and_another_user_do_not_matter() {
    if !is_root() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
    let path = folder.path().display();
    fine(&format!("import os; os.chroot('{path}'); os.chdir('/'); print(os.listdir('/'))"), "[]\n");
    fine(
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); print(os.getuid())",
        "65534\n",
    );
    // Started as another user by a wrapper, which may close descriptors or change the environment.
    let program = python().program.display().to_string();
    let words = ["setpriv", "--reuid=65534", "--clear-groups", &program, "-c", "print(1)"];
    let ran = run_in(&environment(python()), &words, b"");
    // That user may not be allowed to run the interpreter at all.
    if ran.stdout == "1\n" {
        ran.whole();
    }
}

#[test]
fn where_nothing_can_be_written_it_runs_without_the_hook() {
    if !is_root() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let report = folder.path().display().to_string();
    // A mount namespace of its own, in which every place that the hook could be laid in is read-only; the
    // report goes to a folder that stays writable.
    let script = format!(
        "mount --bind {report} /mnt && for d in /tmp /var/tmp /dev/shm; do \
         mount --bind $d $d && mount -o remount,bind,ro $d || exit 99; done; cd /proc && exec \"$@\""
    );
    let program = python().program.display().to_string();
    let mut command = bare(&environment(python()));
    command.args(["unshare", "-m", "sh", "-c", &script, "sh"]);
    command.args([tool(), "run", "--json", "-o", "/mnt/report.json", "--python", &program]);
    command.args(["-c", "import time; print(1); time.sleep(.3)"]);
    let out = within(command, b"");
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "1\n", "{stderr}");
    let report = fs::read(folder.path().join("report.json")).expect("the report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let reason = report["partial"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("no folder for temporary files can be written"), "{reason}");
    assert!(report["run"]["samples"].as_array().is_some_and(|s| s.len() > 1));
}

#[test]
fn a_temporary_folder_with_a_strange_name_is_none() {
    let folder = TempDir::new().expect("a temporary folder");
    let strange = folder.path().join("a:b");
    fs::create_dir(&strange).expect("a folder");
    for place in [strange, folder.path().join("not there")] {
        let place = place.display().to_string();
        let mut environment = environment(python());
        environment.push(("TMPDIR", &place));
        let program = python().program.display().to_string();
        let code = "import os; print(os.environ.get('PYTHONPATH'))";
        let ran = run_in(&environment, &["--python", &program, "-c", code], b"");
        assert_eq!(ran.stdout, "None\n");
        ran.whole();
    }
}

#[test]
fn a_launcher_that_adds_to_pythonpath_leaves_no_empty_entry() {
    let program = python().program.display().to_string();
    let code = "import os; print(os.environ.get('PYTHONPATH'))";
    for (before, set, wanted) in [
        (None, "/x${PYTHONPATH:+:$PYTHONPATH}", "/x"),
        (None, "${PYTHONPATH:+$PYTHONPATH:}/x", "/x"),
        (Some("/old"), "/x${PYTHONPATH:+:$PYTHONPATH}", "/x:/old"),
        (Some("/old"), "${PYTHONPATH:+$PYTHONPATH:}/x", "/old:/x"),
        (Some(""), "/x${PYTHONPATH:+:$PYTHONPATH}", "/x"),
    ] {
        let mut environment = environment(python());
        environment.extend(before.map(|b| ("PYTHONPATH", b)));
        let script = format!("export PYTHONPATH={set}; {program} -c \"{code}\"");
        let ran = run_in(&environment, &["sh", "-c", &script], b"");
        assert_eq!(ran.stdout.trim_end(), wanted, "{before:?} {set}");
        ran.whole();
    }
}

#[test]
fn nothing_is_left_behind() {
    let folder = TempDir::new().expect("a temporary folder");
    let place = folder.path().display().to_string();
    let mut environment = environment(python());
    environment.push(("TMPDIR", &place));
    let program = python().program.display().to_string();
    for code in ["1", "import os; os.kill(os.getpid(), 9)", "1 / 0"] {
        run_in(&environment, &["--python", &program, "-c", code], b"");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0, "{code}");
    }
}

#[test]
fn what_cannot_be_started_is_said_and_nothing_starts() {
    let folder = TempDir::new().expect("a temporary folder");
    let not_a_program = folder.path().join("text");
    fs::write(&not_a_program, "#!/nowhere/at/all\n").expect("a file");
    fs::set_permissions(&not_a_program, fs::Permissions::from_mode(0o755)).expect("our own file");
    let not_a_program = not_a_program.display().to_string();
    for (words, sentence) in [
        (&["/nowhere/app.py"][..], "/nowhere/app.py does not exist"),
        (&["no-such-command"], "no-such-command is neither a file here nor a command on PATH"),
        (&["--python", "/nowhere/python", "-c", "1"], "there is no interpreter /nowhere/python"),
        (&["--python", "/dev/null", "-c", "1"], "/dev/null cannot be executed"),
        (&[&not_a_program], "could not be started: it, or the interpreter that its first line"),
    ] {
        let ran = run_in(&environment(python()), words, b"");
        assert_eq!((ran.code(), ran.stdout.as_str()), (1, ""), "{words:?}");
        let lines: Vec<_> = ran.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].contains(sentence) && lines[1].starts_with("hint: pydefrag run"),
            "{lines:?}"
        );
    }
    let empty = [("PATH", "/nowhere")];
    let mut command = super::Command::new(tool());
    command.env_clear().envs(empty).args(["run", "-c", "print(1)"]);
    let out = within(command, b"");
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1));
    assert!(
        stderr.contains("there is no python3 on PATH\nhint: pydefrag run --python"),
        "{stderr}"
    );
    let ran = run_in(&environment(python()), &["--jsno", "x.py"], b"");
    assert_eq!(ran.code(), 2, "{}", ran.stderr);
}

#[test]
fn a_report_that_cannot_be_written_is_said_before_the_start() {
    let program = python().program.display().to_string();
    for place in ["/nowhere/report.txt", "/proc/report.txt", "/", "-"] {
        let mut command = bare(&environment(python()));
        command.args([tool(), "run", "-o", place, "--python", &program, "-c", "print(1)"]);
        let out = within(command, b"");
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(1), &b""[..]), "{stderr}");
        assert!(stderr.contains("\nhint: "), "{stderr}");
    }
}

#[test]
fn a_report_that_can_no_longer_be_written_goes_to_stderr() {
    let folder = TempDir::new().expect("a temporary folder");
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).expect("a folder");
    let command = {
        let mut command = bare(&environment(python()));
        command.arg(tool()).arg("run");
        command
    };
    let code = format!("import shutil; shutil.rmtree({:?})", inner.display().to_string());
    let program = python().program.display().to_string();
    let ran = reported(command, &inner, &["--python", &program, "-c", &code], b"");
    assert_eq!(ran.code(), 1);
    assert!(
        ran.stderr.contains("could not be written") && ran.stderr.contains("\"run\""),
        "{}",
        ran.stderr
    );
}

#[test]
fn examples_run() {
    let script = repository().join("examples/healthy.py").display().to_string();
    let ran = run_on(python(), &[&script]);
    assert_eq!(ran.code(), 0, "{}", ran.stderr);
    ran.whole();
}
