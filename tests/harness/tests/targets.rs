//! Every program of `tests/targets` on every interpreter: it becomes ready, answers, and rests.

use pydefrag_harness::smaps::{Memory, PageMap, mapping_count};
use pydefrag_harness::variants::stripped_copy;
use pydefrag_harness::{DebugMallocStats, Interpreter, Interpreters, Target};

/// Runs a program on every interpreter; the check gets it at rest.
fn on_each(script: &str, args: &[&str], check: impl Fn(&Interpreter, &mut Target)) {
    for interpreter in Interpreters::load().all() {
        let mut target = Target::spawn(interpreter, script, args, &[]);
        target.wait_blocked();
        check(interpreter, &mut target);
        assert_eq!(target.stderr(), "", "{} {script}", interpreter.name);
    }
}

/// Being asked leaves the heap as it was, so one answer describes the heap at the next rest too.
fn check_steady(interpreter: &Interpreter, target: &mut Target) {
    let first = target.debugmallocstats();
    assert_eq!(target.debugmallocstats(), first, "{}", interpreter.name);
    assert_eq!(target.blocks(), target.blocks(), "{}", interpreter.name);
    assert_eq!(target.debugmallocstats(), first, "{}", interpreter.name);
}

#[test]
fn idle_is_steady_and_at_rest() {
    on_each("idle.py", &[], |interpreter, target| {
        let before = (Memory::of(target.pid()), PageMap::of(target.pid()));
        assert!(before.0.rss > 4 << 20 && before.0.page_tables > 0, "{before:?}");
        assert!(before.1.present * 4096 >= before.0.rss, "{before:?}");
        assert_eq!((Memory::of(target.pid()), PageMap::of(target.pid())), before);
        check_steady(interpreter, target);
        assert_eq!(target.ask("eval 1 + 1"), "2\n");
    });
}

#[test]
fn fragmented_has_free_pools_and_sparse_ones() {
    on_each("fragmented.py", &["100000"], |interpreter, target| {
        check_steady(interpreter, target);
        let stats = target.debugmallocstats();
        assert!(stats.available_bytes > stats.allocated_bytes / 2, "{stats:?}");
        assert!(stats.unused_pools * stats.pool_size > 1 << 20, "{stats:?}");
    });
}

#[test]
fn records_is_steady() {
    on_each("records.py", &["10000"], check_steady);
}

#[test]
fn threads_bytes_is_steady() {
    on_each("threads_bytes.py", &["2000"], check_steady);
}

#[test]
fn mixed_is_steady() {
    on_each("mixed.py", &["cache", "50000"], check_steady);
}

#[test]
fn subinterpreters_have_heaps_of_their_own_from_3_12_on() {
    on_each("subinterpreters.py", &["100000"], |interpreter, target| {
        check_steady(interpreter, target);
        let main = target.debugmallocstats();
        let sub = DebugMallocStats::parse(&target.ask("substats 1")).expect("pymalloc serves");
        let isolated = target.ask("isolated") == "1\n";
        assert_eq!(isolated, interpreter.minor >= 12);
        let more = sub.used_blocks().saturating_sub(main.used_blocks()) > 3000;
        assert_eq!(more, isolated, "{}: {main:?} {sub:?}", interpreter.name);
    });
}

#[test]
fn threads_and_mappings_are_as_many_as_asked_for() {
    on_each("threads.py", &["50"], |interpreter, target| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", target.pid())).expect("alive");
        assert_eq!(tasks.count(), 51, "{}", interpreter.name);
        let (memory, pages) = (Memory::of(target.pid()), PageMap::of(target.pid()));
        assert_eq!(pages.swapped * 4096, memory.swap, "{}", interpreter.name);
        check_steady(interpreter, target);
    });
    on_each("mappings.py", &["5000"], |interpreter, target| {
        let count = mapping_count(target.pid());
        assert!((5000..5300).contains(&count), "{}: {count}", interpreter.name);
        check_steady(interpreter, target);
    });
}

#[test]
fn churning_programs_go_on() {
    for interpreter in Interpreters::load().all() {
        Target::spawn(interpreter, "churn.py", &[], &[]);
        let mut target = Target::spawn(interpreter, "mmap_churn.py", &[], &[]);
        let mut count = || target.next_line().parse::<u64>().expect("a count");
        assert!(count() < count(), "{}", interpreter.name);
    }
}

#[test]
fn unusual_ways_to_run_an_interpreter_work() {
    let interpreters = Interpreters::load();
    let mut variants: Vec<_> =
        interpreters.ld_so_variant().into_iter().chain(interpreters.chroot_variant()).collect();
    for interpreter in interpreters.minors() {
        variants.push(stripped_copy(interpreter).expect("a stripped copy"));
    }
    for variant in &variants {
        let mut target = Target::spawn(variant, "idle.py", &[], &[]);
        check_steady(variant, &mut target);
        let version = target.ask("eval '%d.%d.%d' % sys.version_info[:3]");
        assert_eq!(version.trim(), variant.patch, "{}", variant.name);
    }
}
