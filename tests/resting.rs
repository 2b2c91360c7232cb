//! Looking changes nothing: a target at rest is the same before and after.

use pydefrag_harness::{Interpreters, Target, smaps};

use crate::support::{run, snapshot};

/// RSS, Swap, VmPTE and the page map of a resting target are equal before and after 10 snapshots.
#[test]
fn ten_snapshots_leave_a_resting_target_as_it_was() {
    for interpreter in Interpreters::load().all() {
        for (script, args) in [("fragmented.py", "50000"), ("subinterpreters.py", "5000")] {
            let target = Target::spawn(interpreter, script, &[args], &[]);
            target.wait_blocked();
            let look = || (smaps::Memory::of(target.pid()), smaps::PageMap::of(target.pid()));
            let before = look();
            let first = snapshot(target.pid());
            for _ in 0..8 {
                snapshot(target.pid());
            }
            assert!(run(&["ps"]).status.success());
            let last = snapshot(target.pid());
            assert_eq!(look(), before, "{script} on {}", interpreter.name);
            // And what does not change is told the same each time.
            // PSS is not among it: it depends on who else maps the same libraries.
            for part in ["/owners", "/pymalloc", "/fragmentation", "/ladder", "/torn", "/memory/rss"] {
                let (first, last) = (first.pointer(part), last.pointer(part));
                assert!(first.is_some() && first == last, "{script} on {}: {part}", interpreter.name);
            }
        }
    }
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
