//! The owners' accounts: by a recount from the lists of what is free, and by planted chunks.

use pydefrag_harness::{Interpreter, Interpreters};
use serde_json::Value;

use super::recount::recount;
use super::{Truth, libraries, number, term, total};

fn owner<'a>(s: &'a Value, name: &str) -> Option<&'a Value> {
    s["owners"].as_array().expect("owners").iter().find(|o| o["name"] == name)
}

fn equals_recount(truth: &Truth) {
    let s = truth.look();
    let names = ["malloc main arena", "malloc thread arenas"];
    for (name, r) in names.iter().zip(recount(truth.target.pid(), &s)) {
        let what = format!("{name}: {}", truth.what);
        let Some(o) = owner(&s, name) else {
            assert_eq!(r.resident, 0, "{what}: no owner");
            continue;
        };
        let of = |term: &str| number(&o[term]);
        assert_eq!(of("resident"), r.resident, "{what}: {o:#}");
        assert_eq!(of("holes"), r.holes, "{what}: {r:?} {o:#}");
        assert_eq!(of("pinned_free"), r.pinned_free, "{what}: {r:?} {o:#}");
        assert_eq!(of("top"), r.top, "{what}: {r:?} {o:#}");
        // What no list holds. What threads keep in tcaches is among it.
        let used = r.resident - r.holes - r.pinned_free - r.top - r.fastbins;
        let tcaches = of("cached").checked_sub(r.fastbins).expect("fastbins are cached");
        assert_eq!(of("live") + of("metadata") + tcaches, used, "{what}: {r:?} {o:#}");
        assert!(tcaches <= total(&s, "tcache"), "{what}");
    }
}

fn shape(of: &Interpreter, script: &str, args: &[&str], env: &[(&str, &str)], lines: &[&str]) {
    let Some(mut truth) = Truth::spawn(of, script, args, env) else { return };
    for line in lines {
        truth.say(line);
    }
    equals_recount(&truth);
    truth.say("t");
    equals_recount(&truth);
}

#[test]
fn equal_a_recount_by_lists() {
    for of in Interpreters::load().minors() {
        shape(of, "fragmented.py", &["50000"], &[("PYTHONMALLOC", "malloc")], &[]);
    }
    for of in libraries() {
        shape(of, "malloc.py", &["8", "200"], &[], &[]);
        shape(of, "threads_bytes.py", &["3000"], &[], &[]);
        let lines = ["w", "@0 a 2000 60000", "@0 f 1 3 600", "c 100 90000", "f 2000 3 20"];
        shape(of, "idle.py", &[], &[], &lines);
        let small = ["a 4000 40", "f 0 2 1900", "w", "@0 a 4000 24", "@0 f 4001 2 1900"];
        shape(of, "idle.py", &[], &[], &small);
    }
}

/// Usable bytes of all planted chunks that were not freed, and their number.
fn planted(truth: &mut Truth) -> (u64, u64) {
    let chunks = truth.say("l");
    let sizes: Vec<_> = chunks.chunks(2).filter(|c| c[0] != 0).map(|c| c[1]).collect();
    (sizes.iter().sum(), sizes.len() as u64)
}

/// What is handed out, taken back and never written changes its term, and no other, by what it holds.
#[test]
fn planted_chunks_are_live_while_they_are() {
    for of in libraries() {
        let Some(mut truth) = Truth::spawn(of, "idle.py", &[], &[]) else { return };
        let steps = [
            ("a 300 40", true),
            ("a 300 700", true),
            ("a 300 5001", true),
            ("f 300 2 120", true),
            ("f 601 2 149", true),
            ("c 30 100000", false),
            ("m 64 5000", true),
            ("m 4096 10000", true),
            ("f 900 3 10", false),
        ];
        let mut before = (truth.look(), planted(&mut truth));
        for (line, written) in steps {
            truth.say(line);
            let after = (truth.look(), planted(&mut truth));
            let what = format!("{line}: {}", truth.what);
            let grown = |of: fn(&Value) -> u64| of(&after.0) as i64 - of(&before.0) as i64;
            let (bytes, chunks) =
                (after.1.0 as i64 - before.1.0 as i64, after.1.1 as i64 - before.1.1 as i64);
            assert_eq!(grown(|s| total(s, "used")), bytes, "{what}");
            assert_eq!(grown(|s| total(s, "used_chunks")), chunks, "{what}");
            let live = grown(|s| term(s, "live") + term(s, "live_not_resident"));
            assert_eq!(live, bytes, "{what}");
            if written {
                assert_eq!(grown(|s| term(s, "live")), bytes, "{what}");
            }
            // A header on each, those in tcaches too.
            let cached = grown(|s| term(s, "cached"));
            if cached == 0 {
                assert_eq!(grown(|s| total(s, "overhead")), 8 * chunks, "{what}");
            }
            before = after;
        }
        equals_recount(&truth);
    }
}

/// Chunks with a mapping of their own: resident as far as they were written.
#[test]
fn mapped_chunks_are_live_as_far_as_they_were_written() {
    for of in libraries() {
        let Some(mut truth) = Truth::spawn(of, "idle.py", &[], &[]) else { return };
        let of_mapped = |s: &Value, term: &str| {
            owner(s, "malloc mmapped chunks").map_or(0, |o| number(&o[term]))
        };
        let mut before = truth.look();
        // Resident and absent bytes of each; where the heap has room, a few are none.
        for (line, resident, absent) in
            [("a 20 200000", 49 * 4096, 0), ("c 20 300000", 4096, 73 * 4096)]
        {
            let chunks = truth.mallinfo().hblks;
            truth.say(line);
            let chunks = truth.mallinfo().hblks - chunks;
            assert!(chunks > 15, "{}: {chunks}", truth.what);
            let (resident, absent) = (chunks * resident, chunks * absent);
            let after = truth.look();
            let what = format!("{line}: {}", truth.what);
            let grown = |term: &str| of_mapped(&after, term) - of_mapped(&before, term);
            assert_eq!(grown("resident"), resident, "{what}");
            assert_eq!(grown("live") + grown("metadata"), resident, "{what}");
            assert_eq!(grown("live_not_resident"), absent, "{what}");
            before = after;
        }
        // Before an aligned one there are up to two pages with headers.
        truth.say("m 65536 500000");
        let grown = of_mapped(&truth.look(), "resident") - of_mapped(&before, "resident");
        assert!((123..=125).contains(&(grown / 4096)), "{}: {grown}", truth.what);
    }
}
