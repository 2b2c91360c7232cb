//! Looking changes nothing: a target at rest is the same before and after.

use pydefrag_harness::{Interpreters, Target, smaps};
use pydefrag_image::{Image, ProcessFacts};
use pydefrag_walk::Runtime;

use crate::support::{run, snapshot, without_pss};

/// What the kernel does to everybody at times: drop file pages, collapse pages to huge ones.
fn disturbances() -> Vec<String> {
    let counted = std::fs::read_to_string("/proc/vmstat").unwrap();
    let names = ["drop_pagecache ", "pgsteal_", "thp_collapse_alloc "];
    counted.lines().filter(|l| names.iter().any(|n| l.starts_with(n))).map(Into::into).collect()
}

/// RSS, Swap, VmPTE and the page map of a resting target are equal before and after 10 snapshots.
#[test]
fn ten_snapshots_leave_a_resting_target_as_it_was() {
    for interpreter in Interpreters::load().all() {
        for (script, args) in [("fragmented.py", "50000"), ("subinterpreters.py", "5000")] {
            let what = format!("{script} on {}", interpreter.name);
            // Only what the kernel itself disturbed is tried again.
            let undisturbed = (0..5).any(|_| {
                let target = Target::spawn(interpreter, script, &[args], &[]);
                target.wait_blocked();
                let counts = disturbances();
                let outcome = std::panic::catch_unwind(|| looked_at_ten_times(&target, &what));
                match outcome {
                    Ok(()) => true,
                    Err(_) if disturbances() != counts => false,
                    Err(failure) => std::panic::resume_unwind(failure),
                }
            });
            assert!(undisturbed, "{what}: the kernel never left it alone");
        }
    }
}

fn looked_at_ten_times(target: &Target, what: &str) {
    let look = || (smaps::Memory::of(target.pid()), smaps::PageMap::of(target.pid()));
    let before = look();
    let first = snapshot(target.pid());
    for _ in 0..8 {
        snapshot(target.pid());
    }
    assert!(run(&["ps"]).status.success());
    let last = snapshot(target.pid());
    assert_eq!(look(), before, "{what}");
    // And what does not change is told the same each time.
    let [first, last] = [first, last].map(without_pss);
    for part in
        ["/owners", "/pymalloc", "/malloc", "/fragmentation", "/ladder", "/torn", "/memory/rss"]
    {
        let (first, last) = (first.pointer(part), last.pointer(part));
        assert!(first.is_some() && first == last, "{what}: {part}");
    }
}

/// Pages that a worker shares with its master by copy-on-write stay shared.
#[test]
fn looking_at_a_forked_worker_copies_nothing() {
    for interpreter in Interpreters::load().all() {
        let mut target = Target::spawn(interpreter, "preloaded.py", &["100000"], &[]);
        target.ask("fork");
        target.wait_blocked();
        let before = shared(&target);
        looked_at_ten_times(&target, &interpreter.name);
        assert_eq!(shared(&target), before, "{}", interpreter.name);
    }
}

/// A target that forks after its mappings were looked at and before its memory was read: what was
/// known of its pages is true no more.
#[test]
fn looking_at_what_forks_meanwhile_copies_nothing() {
    for interpreter in Interpreters::load().all() {
        let mut target = Target::spawn(interpreter, "preloaded.py", &["100000"], &[]);
        target.wait_blocked();
        let facts = ProcessFacts::of(target.pid() as i32).expect("it runs");
        let image = Image::open(&facts).expect("it may be looked at");
        let runtime = Runtime::find(&image).expect("it is Python");
        target.ask("fork");
        target.wait_blocked();
        let before = shared(&target);
        // Of all looks this one alone reads small pieces.
        pydefrag_walk::light(&image, &runtime).expect("it is understood");
        assert_eq!(shared(&target), before, "{}", interpreter.name);
    }
}

/// What a forked target shares: the kernel's sums and the page map.
fn shared(target: &Target) -> (Vec<String>, smaps::PageMap) {
    let all = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", target.pid())).unwrap();
    let names = ["Pss_Anon:", "Shared_Dirty:", "Rss:", "Anonymous:"];
    let lines = all.lines().filter(|l| names.iter().any(|n| l.starts_with(n)));
    let sums: Vec<String> = lines.map(Into::into).collect();
    let shared = sums.iter().find_map(|l| l.strip_prefix("Shared_Dirty:")).unwrap();
    let shared: u64 = shared.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(shared > 10_000, "{shared} KiB are shared");
    (sums, smaps::PageMap::of(target.pid()))
}

/// The check above can fail: a page of the target that was never touched is read by force.
#[test]
fn a_reader_that_touches_absent_pages_would_be_noticed() {
    use std::os::unix::fs::FileExt;
    let interpreters = Interpreters::load().all();
    let target = Target::spawn(interpreters[0], "fragmented.py", &["50000"], &[]);
    target.wait_blocked();
    let before = smaps::PageMap::of(target.pid());
    let memory = std::fs::File::open(format!("/proc/{}/mem", target.pid())).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).unwrap();
    let mut byte = [0];
    for line in maps.lines().filter(|l| l.contains(" rw-p 00000000 00:00 0")) {
        let (start, rest) = line.split_once('-').unwrap();
        let end = u64::from_str_radix(rest.split(' ').next().unwrap(), 16).unwrap();
        for page in (u64::from_str_radix(start, 16).unwrap()..end).step_by(4096) {
            let _ = memory.read_at(&mut byte, page);
        }
    }
    assert_ne!(smaps::PageMap::of(target.pid()), before);
}
