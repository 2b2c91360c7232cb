//! When the account is taken, and what is said where there is none.

use super::{bare, environment, python, run_code, run_in, run_on, tool, within};

const MIB: u64 = 1 << 20;

fn live(ran: &super::Ran) -> u64 {
    let owners = ran.report["owners"].as_array().expect("owners");
    owners.iter().filter_map(|o| o["live"].as_u64()).sum()
}

#[test]
fn the_account_is_of_before_modules_are_torn_down() {
    for of in pydefrag_harness::Interpreters::load().all() {
        let ran = run_on(of, &["-c", "kept = [object() for _ in range(3_500_000)]"]);
        assert_eq!(ran.code(), 0, "{}", ran.stderr);
        let live = live(ran.whole());
        assert!(live >= 50 * MIB, "{}: {live}", of.name);
        assert!(ran.report["process"]["command"].as_str().is_some_and(|c| c.contains("kept")));
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn the_account_is_of_after_the_programs_own_exit_callbacks() {
    let code = "import atexit\nkept = []\n\
                @atexit.register\ndef grow(): kept.extend(object() for _ in range(3_500_000))";
    assert!(live(run_code(code).whole()) >= 50 * MIB);
}

#[test]
fn a_wrapper_passes_the_hook_on() {
    let program = python().program.display().to_string();
    let script = format!("echo before; {program} -c 'print(1)'; echo after; exit 4");
    let ran = run_in(&environment(python()), &["sh", "-c", &script], b"");
    assert_eq!((ran.stdout.as_str(), ran.code()), ("before\n1\nafter\n", 4));
    ran.whole();
    assert!(ran.report["process"]["command"].as_str().is_some_and(|c| c.ends_with("print(1)")));
    // Two at once: the first that says hello is the main one, and each gets its own answer.
    let script = format!("for i in 1 2 3 4 5 6; do {program} -c 'print(1)' & done; wait");
    let ran = run_in(&environment(python()), &["sh", "-c", &script], b"");
    assert_eq!(ran.stdout, "1\n".repeat(6));
    ran.whole();
    assert!(ran.run()["seconds"].as_f64().is_some_and(|s| s < 20.0), "{}", ran.run());
}

#[test]
fn a_command_that_never_becomes_a_python_is_said_to_be_none() {
    let ran = run_in(&environment(python()), &["sleep", "0.1"], b"");
    assert_eq!(ran.code(), 0);
    assert!(ran.reason().starts_with("no Python process was seen in 0.1"), "{}", ran.reason());
    let ran = run_in(&environment(python()), &["sh", "-c", "sleep 0.6; exit 9"], b"");
    assert_eq!((ran.reason(), ran.code()), ("no Python process was seen", 9));
    assert_eq!(ran.stderr, "");
}

#[test]
fn without_an_end_the_last_sample_is_the_end_and_the_reason_is_named() {
    let wait = "import os, sys, time; x = [object() for _ in range(10**6)]; time.sleep(0.5)\n";
    for (what, reason) in [
        ("os._exit(3)", "without its exit callbacks"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("os.kill(os.getpid(), 15)", "killed by signal 15"),
        ("os.execv('/bin/true', ['true'])", "without its exit callbacks"),
        ("os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(.3)'])", "exec"),
        ("os.closerange(3, 1 << 16)", "closed all descriptors"),
    ] {
        let ran = run_code(&format!("{wait}{what}"));
        assert!(ran.reason().contains(reason), "{what}: {}", ran.reason());
        assert_eq!(ran.run()["account_note"], ran.reason());
        assert!(ran.run()["peak"]["rss"].as_u64() > Some(20 * MIB), "{what}: {}", ran.run());
        assert_eq!(ran.run()["end"]["rss"], ran.report["memory"]["rss"], "{what}");
        assert_eq!(ran.stderr, "", "{what}");
    }
    let program = python().program.display().to_string();
    let ran = run_in(&environment(python()), &[&program, "-I", "-c", wait], b"");
    assert!(ran.reason().contains("-I, -E or -S"), "{}", ran.reason());
    assert!(ran.run()["end"]["rss"].as_u64() > Some(20 * MIB), "{}", ran.run());
}

#[test]
fn a_python_without_account_is_still_followed() {
    // 3.7 is refused by a snapshot, and so is its account here; it runs as it would.
    let strangers = pydefrag_harness::Interpreters::load().found();
    for of in strangers.iter().filter(|i| !i.supported) {
        let ran = run_on(of, &["-c", "import time; time.sleep(0.3); print(1)"]);
        assert_eq!((ran.stdout.as_str(), ran.code()), ("1\n", 0), "{}", ran.stderr);
        assert!(!ran.reason().is_empty());
        assert!(ran.run()["peak"]["rss"].as_u64() > Some(0), "{}: {}", of.name, ran.run());
    }
}

#[test]
fn the_report_goes_to_stderr_and_to_files() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let program = python().program.display().to_string();
    let run = |options: &[&str]| {
        let mut command = bare(&environment(python()));
        command.arg(tool()).args(["run", "--python", &program]).args(options);
        command.args(["-c", "print('out')"]);
        let out = within(command, b"");
        assert_eq!(String::from_utf8_lossy(&out.stdout), "out\n");
        assert_eq!(out.status.code(), Some(0));
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert!(run(&[]).contains("total = RSS"));
    assert!(serde_json::from_str::<serde_json::Value>(&run(&["--json"])).is_ok());
    let text = folder.path().join("report.txt");
    assert_eq!(run(&["-o", &text.display().to_string()]), "");
    assert!(std::fs::read_to_string(&text).is_ok_and(|t| t.contains("total = RSS")));
    let kept = folder.path().join("kept.pdsnap");
    let said = run(&["-o", &kept.display().to_string()]);
    assert!(said.contains("total = RSS") && said.contains("kept in"), "{said}");
    let shown = crate::support::run(&["report", "--json", &kept.display().to_string()]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["run"]["account_at_end"], true);
}
