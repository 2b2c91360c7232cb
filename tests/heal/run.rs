//! `pydefrag run --fix`: memory given back while a program runs, and the program none the wiser.

use super::*;

/// Memory that is free for some seconds, and what the program can see of itself.
const PROGRAM: &str = "
import sys, threading, time
objects = [(b'%09d' % i) + b'x' * (i % 9 * 50) for i in range(150000)]
kept = [o for i, o in enumerate(objects) if i % 101 == 0]
del objects
for _ in range(150):
    time.sleep(0.02)
names = sorted(n for n in sys.modules if 'agent' in n or 'pydefrag' in n or n == 'sitecustomize')
print(names, threading.active_count(), [p for p in sys.path if 'pydefrag' in p], sum(map(len, kept)))
sys.exit(7)
";

fn ran(of: &Interpreter, options: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.json");
    let mut command = pydefrag(&["run", "--json", "--no-objects", "-o"]);
    command.arg(&report).args(options).arg("--python").arg(&of.program).args(["-c", PROGRAM]);
    for (name, _) in std::env::vars_os().filter(|v| v.0.to_string_lossy().starts_with("PYTHON")) {
        command.env_remove(name);
    }
    let out = command.envs(of.env.iter().map(|(k, v)| (k, v))).output();
    let out = out.expect("the binary starts");
    let (stdout, stderr) = text(&out);
    assert_eq!(out.status.code(), Some(7), "{}: {stderr}", of.name);
    assert_eq!(stderr, "", "{}", of.name);
    let report = std::fs::read(report).expect("a report");
    (serde_json::from_slice(&report).expect("JSON"), stdout)
}

#[test]
fn a_program_is_healed_on_time_and_sees_nothing_of_it() {
    for of in minors(10..=15) {
        let (without, said) = ran(of, &[]);
        assert!(without["run"].get("healed").is_none());
        let (with, same) = ran(of, &["--fix=purge", "--every", "500ms"]);
        assert_eq!(same, said, "{}", of.name);
        let healed = &with["run"]["healed"];
        assert!(healed["times"].as_u64() >= Some(1), "{}: {healed}", of.name);
        // RSS before less RSS after: where the program grows meanwhile, less than nothing.
        assert!(healed["returned"].is_i64(), "{}: {healed}", of.name);
        let free = |report: &Value| {
            let purge = report["ladder"]["purge"].as_u64();
            purge
                .unwrap_or_else(|| panic!("{}: {} {}", of.name, report["partial"], report["notes"]))
        };
        assert!(free(&with) * 3 < free(&without), "{}: {healed}", of.name);
    }
}

#[test]
fn a_condition_and_the_agents_own_policy_act_too() {
    let of = minors(12..=12).into_iter().next().expect("3.12");
    let (report, _) = ran(of, &["--fix", "--when", "fragmentation>20%"]);
    let healed = &report["run"]["healed"];
    assert!(healed["times"].as_u64() >= Some(1), "{healed}");
    let (report, _) = ran(of, &["--fix", "--when", "fragmentation>99%"]);
    assert_eq!(report["run"]["healed"]["times"], 0);
    let (report, _) = ran(of, &["--fix"]);
    let healed = &report["run"]["healed"];
    assert!(healed["times"].is_u64() && healed["returned"].is_null(), "{healed}");
}
