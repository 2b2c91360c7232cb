//! Planted frees: what a thread's tcache holds, and whose arena is whose.

use serde_json::Value;

use super::{Truth, arenas, libraries, number, term, total};

/// COUNT chunks for a request of SIZE: the request, and the chunk that serves it.
const SMALL: (u64, u64) = (0x48, 0x50);
const LARGE: (u64, u64) = (0x3e8, 0x3f0);

/// The arena that a thread allocates from.
fn arena_of<'a>(s: &'a Value, tid: u64, name: &str) -> &'a Value {
    let has = |a: &&Value| {
        let threads = a["threads"].as_array().expect("threads");
        threads.iter().any(|t| t["tid"] == tid && t["name"] == name)
    };
    let mut found = arenas(s).iter().filter(has);
    let arena = found.next().unwrap_or_else(|| panic!("no arena of {tid} {name}: {s:#}"));
    assert!(found.next().is_none(), "one arena of {tid}: {s:#}");
    arena
}

/// Each thread frees what it made: its arena's tcache grows by just that, and by residency `cached` too.
#[test]
fn planted_frees_are_counted_in_the_arena_of_their_thread() {
    for of in libraries() {
        let Some(mut truth) = Truth::spawn(of, "idle.py", &[], &[]) else { return };
        let tids: Vec<u64> = (0..4).map(|_| truth.say("w")[0]).collect();
        for worker in 0..4 {
            // Numbered 15 * worker and so on. From 2.43 on a thread's first free makes its tcache.
            truth.say(&format!("@{worker} a 7 {}", SMALL.0));
            truth.say(&format!("@{worker} a 7 {}", LARGE.0));
            truth.say(&format!("@{worker} a 1 200"));
            truth.say(&format!("@{worker} f {} 1 1", 15 * worker + 14));
        }
        let mut before = truth.look();
        for (worker, tid) in tids.iter().enumerate() {
            let (small, large) = (7 - worker as u64, 2 + worker as u64);
            let first = 15 * worker as u64;
            truth.say(&format!("@{worker} f {first} 1 {small}"));
            truth.say(&format!("@{worker} f {} 1 {large}", first + 7));
            let after = truth.look();
            let name = format!("worker-0{worker}");
            let what = format!("{} {name}", truth.what);
            let (old, new) = (arena_of(&before, *tid, &name), arena_of(&after, *tid, &name));
            let bytes = small * (SMALL.1 - 8) + large * (LARGE.1 - 8);
            let grown = |of: &str| number(&new[of]) - number(&old[of]);
            assert_eq!(grown("tcache"), bytes, "{what}: {old:#} {new:#}");
            assert_eq!(number(&old["used"]) - number(&new["used"]), bytes, "{what}");
            assert_eq!(number(&old["used_chunks"]) - number(&new["used_chunks"]), small + large);
            assert_eq!(total(&after, "tcache") - total(&before, "tcache"), bytes, "{what}");
            assert_eq!(term(&after, "cached") - term(&before, "cached"), bytes, "{what}");
            assert_eq!(term(&before, "live") - term(&after, "live"), bytes, "{what}");
            before = after;
        }
        let own: std::collections::HashSet<_> = (0..4)
            .map(|w| number(&arena_of(&before, tids[w], &format!("worker-0{w}"))["address"]))
            .collect();
        assert_eq!(own.len(), 4, "each thread has an arena of its own: {before:#}");
        let main = u64::from(truth.target.pid());
        let comm = std::fs::read_to_string(format!("/proc/{main}/comm")).expect("its name");
        assert_eq!(arena_of(&before, main, comm.trim())["main"], true, "{}", truth.what);
    }
}

/// What one thread made and another freed is in the other's tcache, yet a chunk of the first's arena.
#[test]
fn chunks_freed_by_another_thread_count_where_they_lie() {
    for of in libraries() {
        let Some(mut truth) = Truth::spawn(of, "idle.py", &[], &[]) else { return };
        let tids: Vec<u64> = (0..2).map(|_| truth.say("w")[0]).collect();
        truth.say(&format!("@0 a 7 {}", LARGE.0));
        truth.say(&format!("@1 a 1 {}", LARGE.0));
        let before = truth.look();
        truth.say("@1 f 0 1 6");
        let after = truth.look();
        let tcache = |s: &Value, worker: usize| {
            number(&arena_of(s, tids[worker], &format!("worker-0{worker}"))["tcache"])
        };
        assert_eq!(tcache(&after, 0) - tcache(&before, 0), 6 * (LARGE.1 - 8), "{}", truth.what);
        assert_eq!(tcache(&after, 1), tcache(&before, 1), "{}", truth.what);
    }
}

/// All threads in the one arena.
#[test]
fn threads_that_share_an_arena_are_all_named() {
    for of in libraries() {
        let env = [("MALLOC_ARENA_MAX", "1")];
        let Some(mut truth) = Truth::spawn(of, "idle.py", &[], &env) else { return };
        let tids: Vec<u64> = (0..12).map(|_| truth.say("w")[0]).collect();
        for worker in 0..12 {
            truth.say(&format!("@{worker} a 3 {}", LARGE.0));
        }
        let before = truth.look();
        assert_eq!(arenas(&before).len(), 1);
        for (worker, tid) in tids.iter().enumerate() {
            assert_eq!(arena_of(&before, *tid, &format!("worker-{worker:02}"))["main"], true);
            truth.say(&format!("@{worker} f {} 1 3", 3 * worker));
        }
        let grown = total(&truth.look(), "tcache") - total(&before, "tcache");
        assert_eq!(grown, 36 * (LARGE.1 - 8), "{}", truth.what);
    }
}

/// More than a tcache's bin holds goes on to the arena's own lists, and a tunable changes how many it holds.
#[test]
fn a_tcache_of_another_size_is_read_too() {
    for of in libraries() {
        for (tunables, held) in [
            ("glibc.malloc.tcache_count=100", Some(100)),
            ("glibc.malloc.tcache_count=0", Some(0)),
            ("glibc.malloc.tcache_max=300", Some(0)),
            ("", None),
        ] {
            let env = [("GLIBC_TUNABLES", tunables)];
            let Some(mut truth) = Truth::spawn(of, "idle.py", &[], &env) else { return };
            truth.say("w");
            truth.say("@0 a 1 200");
            truth.say("@0 f 0 1 1");
            truth.say(&format!("@0 a 200 {}", LARGE.0));
            let before = truth.look();
            // Every second, so that none merges with another.
            truth.say("@0 f 1 2 100");
            let after = truth.look();
            let grown = total(&after, "tcache") - total(&before, "tcache");
            let what = format!("{} {tunables}: {grown}", truth.what);
            match held {
                Some(held) => assert_eq!(grown, held * (LARGE.1 - 8), "{what}"),
                None => assert!([7, 16].map(|n| n * (LARGE.1 - 8)).contains(&grown), "{what}"),
            }
            let used = total(&before, "used") - total(&after, "used");
            assert_eq!(used, 100 * (LARGE.1 - 8), "{what}");
        }
    }
}
