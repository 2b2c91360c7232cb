//! An agent that CPython 3.14 and later loads itself (PEP 768).

use std::os::unix::process::{CommandExt, ExitStatusExt};

use super::*;
use crate::support::{lacking, run};

fn interpreters() -> Vec<&'static Interpreter> {
    minors(14..=15)
}

#[test]
fn cpython_loads_the_agent_and_keeps_nothing_else() {
    for of in interpreters() {
        let mut target = target(of, &[]);
        let unchanged = Unchanged::of(&mut target);
        let heal = healed(target.pid(), &[]);
        assert_eq!(heal["way"], "remote_exec", "{}", of.name);
        let (promised, returned) = (heal["promised"].as_i64(), heal["returned"].as_i64());
        let (promised, returned) = (promised.expect("a heap"), returned.expect("bytes"));
        assert!(returned * 10 > promised * 7, "{}: {returned} of {promised}", of.name);
        unchanged.check(&mut target);
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("maps");
        let line = maps.lines().find(|l| l.contains("pydefrag-fix-")).expect("the agent");
        assert!(line.ends_with("libpydefrag_agent.so (deleted)"), "{line}");
        // From now on it is there.
        assert_eq!(healed(target.pid(), &[])["way"], "agent");
        unchanged.check(&mut target);
    }
}

/// CPython's own `sys.remote_exec` and we look at the very same place: what it left there, we find.
#[test]
fn a_debuggers_script_that_waits_is_not_displaced() {
    for of in interpreters() {
        let mut target = target(of, &["blocked"]);
        target.wait_blocked();
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("theirs.py");
        let proof = folder.path().join("proof");
        std::fs::write(&script, format!("open({proof:?}, 'w').close()\n")).expect("a script");
        let code = format!("import sys; sys.remote_exec({}, {script:?})", target.pid());
        let sent = Command::new(&of.program)
            .envs(of.env.iter().map(|(k, v)| (k, v)))
            .args(["-c", &code])
            .output()
            .expect("an interpreter starts");
        if !sent.status.success() {
            return lacking(&format!("sys.remote_exec of {}: {}", of.name, text(&sent).1));
        }
        let out = fix(target.pid(), &["--timeout", "1"]).output().expect("the binary starts");
        refused(&out, "somebody else's script waits");
        target.ask("digest");
        wait_for("the debugger's script", || proof.exists());
        assert!(!has_agent(target.pid()) && target.stderr().is_empty());
    }
}

#[test]
fn switched_off_is_respected() {
    for of in interpreters() {
        let mut target = target_with(of, &[], &[("PYTHON_DISABLE_REMOTE_DEBUG", "1")]);
        let unchanged = Unchanged::of(&mut target);
        let out = fix(target.pid(), &[]).output().expect("the binary starts");
        let said = refused(&out, "does not allow remote execution");
        assert!(
            said.contains("PYTHON_DISABLE_REMOTE_DEBUG") && said.contains("gunicorn"),
            "{said}"
        );
        assert!(!has_agent(target.pid()));
        unchanged.check(&mut target);
    }
}

#[test]
fn a_main_thread_that_waits_in_c_is_left_alone_for_good() {
    for of in interpreters() {
        let mut target = target(of, &["blocked"]);
        let unchanged = Unchanged::of(&mut target);
        target.wait_blocked();
        let out = fix(target.pid(), &["--timeout", "1"]).output().expect("the binary starts");
        let said = refused(&out, "ran no Python code in that time");
        assert!(said.contains("nothing was done, and nothing will be"), "{said}");
        // Now it does.
        (0..5).for_each(|_| unchanged.check(&mut target));
        assert!(!has_agent(target.pid()), "{}: it came later", of.name);
    }
}

#[test]
fn ctrl_c_takes_everything_back() {
    let Some(of) = interpreters().into_iter().next() else { return lacking("3.14") };
    let mut target = target(of, &["blocked"]);
    let unchanged = Unchanged::of(&mut target);
    target.wait_blocked();
    let before = folders();
    let child = spawn(fix(target.pid(), &["--timeout", "60"]));
    let made = || folders().into_iter().filter(|f| !before.contains(f)).collect::<Vec<_>>();
    let mut mine = Vec::new();
    wait_for("the folder", || {
        let script = format!("/proc/{}/fd", child.id());
        let open = std::fs::read_dir(script).into_iter().flatten().flatten();
        let open: Vec<_> = open.filter_map(|e| std::fs::read_link(e.path()).ok()).collect();
        mine = made().into_iter().filter(|f| open.contains(f)).collect();
        mine.first().is_some_and(|f| f.join("start.py").exists())
    });
    std::thread::sleep(Duration::from_millis(100));
    signal(child.id(), "-INT");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.signal(), Some(2), "{ended:?}");
    assert!(mine.iter().all(|f| !f.exists()), "{mine:?}");
    (0..5).for_each(|_| unchanged.check(&mut target));
    assert!(!has_agent(target.pid()));
}

#[test]
fn another_users_process_is_healed_by_root_and_refused_to_others() {
    let Some(of) = interpreters().into_iter().next() else { return lacking("3.14") };
    if !nix::unistd::geteuid().is_root() {
        return lacking("root");
    }
    let mut ours = target(of, &[]);
    let unchanged = Unchanged::of(&mut ours);
    let copy = tempfile::tempdir().expect("a folder");
    let tool = copy.path().join("pydefrag");
    std::fs::copy(env!("CARGO_BIN_EXE_pydefrag"), &tool).expect("a copy");
    Command::new("chmod").arg("755").arg(copy.path()).arg(&tool).status().expect("chmod");
    let out = Command::new(&tool).args(["fix", &ours.pid().to_string()]).uid(65534).output();
    refused(&out.expect("the binary starts"), "another user");
    assert!(!has_agent(ours.pid()));
    unchanged.check(&mut ours);
    // Nobody's process, which root may heal: it takes the token and loads the library as nobody.
    let mut nobodys = of.clone();
    let program = of.program.display().to_string();
    nobodys.args =
        ["--reuid=65534", "--regid=65534", "--clear-groups", &program].map(Into::into).to_vec();
    nobodys.program = "setpriv".into();
    if Command::new("setpriv").arg("--version").output().is_err() {
        return lacking("setpriv, or an interpreter that nobody can run");
    }
    let mut theirs = target(&nobodys, &[]);
    let unchanged = Unchanged::of(&mut theirs);
    let heal = healed(theirs.pid(), &[]);
    assert!(heal["returned"].as_i64() > Some(10 << 20), "{heal}");
    unchanged.check(&mut theirs);
}

#[test]
fn a_dry_run_loads_nothing() {
    for of in interpreters() {
        let mut target = target(of, &[]);
        let unchanged = Unchanged::of(&mut target);
        let out = run(&["fix", &target.pid().to_string(), "--dry-run"]);
        assert!(text(&out).0.contains("CPython would load (PEP 768)"), "{:?}", text(&out));
        assert!(!has_agent(target.pid()));
        unchanged.check(&mut target);
    }
}
