//! What goes wrong: each time one sentence and a hint, and the process goes on as if nothing had happened.

use super::*;
use crate::support::run;

fn any() -> &'static Interpreter {
    minors(11..=13).into_iter().next().expect("one of 3.11 to 3.13")
}

#[test]
fn without_an_agent_it_is_said_how_to_start_with_one() {
    for of in minors(10..=13) {
        let mut target = target(of, &[]);
        let unchanged = Unchanged::of(&mut target);
        let out = fix(target.pid(), &[]).output().expect("the binary starts");
        let said = refused(&out, "was not started with pydefrag");
        for way in
            ["gunicorn", "celery", "Dockerfile", "PYTHONPATH", "pydefrag.auto()", "Meanwhile"]
        {
            assert!(said.contains(way), "{way}: {said}");
        }
        assert!(said.contains("MiB by purge"), "{said}");
        unchanged.check(&mut target);
    }
}

#[test]
fn wrong_usage_teaches() {
    let pid = std::process::id().to_string();
    for (args, said) in [
        (vec!["fix", &pid, "--slice", "0"], "between 0.1 and 1000, as in 5"),
        (vec!["fix", &pid, "--level", "compact"], "possible values: trim, purge"),
        (vec!["fix", &pid, "--timeout", "0"], "from 1 to 3600"),
        (vec!["fix", "0"], "invalid value '0'"),
        (vec!["run", "--fix", "--every", "30", "-c", "0"], "as in 30s"),
        (vec!["run", "--fix", "--when", "rss>3", "-c", "0"], "as in 'fragmentation>30%'"),
        (vec!["run", "--every", "30s", "-c", "0"], "--fix"),
        (vec!["run", "--fix=full", "-c", "0"], "possible values: trim, purge, auto"),
    ] {
        let out = run(&args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(text(&out).1.contains(said), "{args:?}: {}", text(&out).1);
    }
}

#[test]
fn nobody_and_no_python_are_refused() {
    let out = run(&["fix", "2147483646"]);
    refused(&out, "2147483646");
    let out = fix(std::process::id(), &[]).output().expect("the binary starts");
    refused(&out, "is not a Python process");
}

#[test]
fn a_stopped_process_stays_as_it_is() {
    let mut target = target(any(), &["agent"]);
    let unchanged = Unchanged::of(&mut target);
    signal(target.pid(), "-STOP");
    let out = fix(target.pid(), &["--timeout", "2"]).output().expect("the binary starts");
    let said = refused(&out, "is stopped");
    assert!(said.contains("kill -CONT"), "{said}");
    signal(target.pid(), "-CONT");
    unchanged.check(&mut target);
    assert_eq!(heals(&target), 0);
}

#[test]
fn a_process_that_is_stopped_meanwhile_does_nothing_later() {
    let mut target = target(any(), &["agent"]);
    let unchanged = Unchanged::of(&mut target);
    target.ask("hold 2");
    let child = spawn(fix(target.pid(), &["--timeout", "4"]));
    wait_for("the request", || requested(&target));
    signal(target.pid(), "-STOP");
    let out = child.wait_with_output().expect("it ends");
    let said = refused(&out, "is stopped");
    assert!(said.contains("nothing will be"), "{said}");
    signal(target.pid(), "-CONT");
    unchanged.check(&mut target);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(heals(&target), 0);
    unchanged.check(&mut target);
}

#[test]
fn c_code_that_keeps_the_gil_is_waited_for_and_then_nothing_comes() {
    let mut target = target(any(), &["agent"]);
    let unchanged = Unchanged::of(&mut target);
    target.ask("hold 6");
    let out = fix(target.pid(), &["--timeout", "1"]).output().expect("the binary starts");
    let said = refused(&out, "did not get to work within 1 s");
    assert!(said.contains("nothing will be"), "{said}");
    unchanged.check(&mut target);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(heals(&target), 0, "it came later");
}

#[test]
fn a_process_that_ends_midway_is_told() {
    let mut target = target(any(), &["agent"]);
    target.ask("hold 60");
    let child = spawn(fix(target.pid(), &["--timeout", "60"]));
    wait_for("the request", || requested(&target));
    signal(target.pid(), "-KILL");
    refused(&child.wait_with_output().expect("it ends"), "ended before it was healed");
}

#[test]
fn of_two_heals_at_once_one_is_refused() {
    let mut target = target(any(), &["agent"]);
    let unchanged = Unchanged::of(&mut target);
    target.ask("hold 8");
    let first = spawn(fix(target.pid(), &["--timeout", "60", "--settle", "0", "--json"]));
    wait_for("the request", || requested(&target));
    let out = fix(target.pid(), &["--timeout", "1"]).output().expect("the binary starts");
    refused(&out, "another heal of process");
    let out = first.wait_with_output().expect("it ends");
    assert!(out.status.success(), "{}", text(&out).1);
    assert_eq!(heals(&target), 1);
    unchanged.check(&mut target);
}

#[test]
fn an_agent_of_another_version_is_refused_by_name() {
    let mut target = target(any(), &["agent"]);
    let unchanged = Unchanged::of(&mut target);
    let version = table(&target) + 8;
    poke(&target, version, &99u32.to_le_bytes());
    let out = fix(target.pid(), &[]).output().expect("the binary starts");
    let said = refused(&out, "publishes table version 99");
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    unchanged.check(&mut target);
}

/// Address of the agent's table: its magic, in its writable data.
fn table(target: &Target) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("maps");
    for line in maps.lines().filter(|l| l.contains("pydefrag_agent") && l.contains(" rw-p ")) {
        let (range, _) = line.split_once(' ').expect("a range");
        let (start, end) = range.split_once('-').expect("two addresses");
        let [start, end] = [start, end].map(|a| u64::from_str_radix(a, 16).expect("an address"));
        let mut bytes = vec![0; (end - start) as usize];
        peek(target, start, &mut bytes);
        let magic = |at: &usize| bytes[*at..*at + 8] == *b"pydefrag";
        let table = |at: &usize| bytes[*at + 12..*at + 16] == 1024u32.to_le_bytes();
        let places = (0..bytes.len().saturating_sub(1023)).step_by(8);
        if let Some(at) = places.filter(magic).find(table) {
            return start + at as u64;
        }
    }
    panic!("no agent in {maps}")
}

fn peek(target: &Target, at: u64, into: &mut [u8]) {
    use std::os::unix::fs::FileExt;
    let memory = std::fs::File::open(format!("/proc/{}/mem", target.pid())).expect("its memory");
    memory.read_exact_at(into, at).expect("mapped memory");
}

fn poke(target: &Target, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let memory =
        std::fs::OpenOptions::new().write(true).open(format!("/proc/{}/mem", target.pid()));
    memory.expect("its memory").write_all_at(bytes, at).expect("mapped memory");
}

/// A number in the table.
fn number(target: &Target, at: u64) -> u64 {
    let mut word = [0; 8];
    peek(target, table(target) + at, &mut word);
    u64::from_le_bytes(word)
}

/// Heals completed in it.
fn heals(target: &Target) -> u64 {
    number(target, 56)
}

/// Whether a request is in the mailbox.
fn requested(target: &Target) -> bool {
    number(target, 128) != 0
}
