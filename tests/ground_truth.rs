//! A target at rest: our numbers beside CPython's and the kernel's own.
//!
//! For every interpreter and every program: the owners sum to smaps' Rss to the byte, hardly anything
//! is left without an owner, pymalloc's counts equal `sys._debugmallocstats()`, and the account equals
//! an independent recount.

use std::collections::BTreeMap;

use pydefrag_harness::{DebugMallocStats, Interpreter, Interpreters, Target, matrix, smaps};
use serde_json::Value;

use crate::recount::recount;
use crate::support::{TERMS, explained, snapshot_at_rest};

/// Blocks by which a class may differ: asking a question runs Python in the target.
const ASKING: u64 = 2;

pub(crate) fn u64_of(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("{v} is not a number"))
}

/// Runs one program on every interpreter and checks all that holds at rest.
fn on_all(script: &str, args: &[&str], check: impl Fn(&Interpreter, &mut Target, &Value)) {
    on_each(Interpreters::load().all(), script, args, check);
}

fn on_each(
    interpreters: Vec<&Interpreter>,
    script: &str,
    args: &[&str],
    check: impl Fn(&Interpreter, &mut Target, &Value),
) {
    assert!(!interpreters.is_empty(), "no interpreter at all");
    for interpreter in interpreters {
        let mut target = Target::spawn(interpreter, script, args, &[]);
        let s = snapshot_at_rest(&target);
        let what = format!("{} on {}", script, interpreter.name);
        accounts_for_every_byte(&s, target.pid(), &what);
        assert_eq!(s["process"]["python"]["version"], interpreter.patch.as_str(), "{what}");
        check(interpreter, &mut target, &s);
    }
}

/// Owners sum to smaps' Rss to the byte; at most 2% of it has no owner; every account balances.
fn accounts_for_every_byte(s: &Value, pid: u32, what: &str) {
    let rss = smaps::Memory::of(pid).rss;
    let owners = s["owners"].as_array().unwrap();
    let sum: u64 = owners.iter().map(|o| u64_of(&o["resident"])).sum();
    let unattributed = u64_of(&s["unattributed"]);
    assert_eq!(sum + unattributed, rss, "{what}: owners {owners:#?}");
    assert_eq!(u64_of(&s["memory"]["rss"]), rss, "{what}");
    assert_eq!(u64_of(&s["residency_difference"]), 0, "{what}");
    let other = owners.iter().find(|o| o["kind"] == "other_anonymous");
    let nobody = unattributed + other.map_or(0, |o| u64_of(&o["resident"]));
    assert!(nobody * 50 <= rss, "{what}: {nobody} of {rss} bytes have no owner: {owners:#?}");
    for o in owners.iter().filter(|o| o.get("live").is_some()) {
        let total: u64 = TERMS.iter().map(|t| u64_of(&o[*t])).sum();
        assert_eq!(total, u64_of(&o["resident"]), "{what}: {o:#}");
        assert_eq!(u64_of(&o["unread"]), 0, "{what}");
    }
    assert_eq!(u64_of(&s["torn"]["left"]), 0, "{what}");
}

/// pools, used and free blocks per size class, arenas and unused pools as CPython prints them.
pub(crate) fn equals_debugmallocstats(heap: &Value, stats: &DebugMallocStats, what: &str) {
    let classes = heap["classes"].as_array().unwrap();
    let sizes = |c: &Value| u64_of(&c["size"]);
    assert_eq!(
        classes.iter().map(sizes).collect::<Vec<_>>(),
        stats.classes.iter().map(|c| c.size).collect::<Vec<_>>(),
        "{what}"
    );
    for (ours, theirs) in classes.iter().zip(&stats.classes) {
        let (used, free) = (u64_of(&ours["used_blocks"]), u64_of(&ours["free_blocks"]));
        assert_eq!(u64_of(&ours["pools"]), theirs.pools, "{what}: {ours} {theirs:?}");
        assert!(used.abs_diff(theirs.used) <= ASKING, "{what}: {ours} {theirs:?}");
        assert!(free.abs_diff(theirs.available) <= ASKING, "{what}: {ours} {theirs:?}");
    }
    assert_eq!(u64_of(&heap["arenas"]), stats.arenas, "{what}");
    let unused = u64_of(&heap["free_pools"]) + u64_of(&heap["uncarved_pools"]);
    assert_eq!(unused, stats.unused_pools, "{what}");
}

/// The purge rung and the account's terms by the independent recount.
fn equals_recount(interpreter: &Interpreter, target: &Target, s: &Value, what: &str) {
    let pool_size = if interpreter.minor < 10 { 4096 } else { 16384 };
    let r = recount(target.pid(), pool_size);
    let heaps = s["owners"].as_array().unwrap().iter().filter(|o| o["kind"] == "pymalloc");
    let sum = |term: &str| heaps.clone().map(|o| u64_of(&o[term])).sum::<u64>();
    let p = &s["pymalloc"];
    let used: u64 = p["classes"].as_array().unwrap().iter().map(|c| u64_of(&c["pools"])).sum();
    assert_eq!((used, u64_of(&p["free_pools"])), (r.used_pools, r.empty_pools), "{what}");
    assert_eq!(sum("live"), r.live, "{what}: live");
    assert_eq!(sum("holes"), r.holes, "{what}: holes");
    assert_eq!(sum("pinned_free"), r.pinned_free, "{what}: pinned free");
    // What blocks pin, class by class; malloc's chunks have none.
    let explained = explained(target.pid());
    let classes = explained["pins"]["by_class"].as_array().unwrap().iter();
    let told: BTreeMap<u64, (u64, u64)> = classes
        .map(|c| (u64_of(&c["size"]), (u64_of(&c["count"]), u64_of(&c["pinned"]))))
        .collect();
    assert_eq!(told, r.pins, "{what}: pins");
    // Their headers are metadata in the account.
    assert_eq!(sum("free_spans") + 48 * r.empty_pools, r.free_pools, "{what}: free pools");
    // malloc's part of the purge rung is the trim rung, which tests/malloc compares with malloc_trim.
    let ladder = |rung: &str| u64_of(&s["ladder"][rung]);
    let (least, most) = r.purge(pool_size as u64);
    let purge = ladder("purge") - ladder("trim");
    // Only the main interpreter's is purged, and the recount does not know whose a pool is.
    let least = if heaps.clone().count() > 1 { 0 } else { least };
    assert!((least..=most).contains(&purge), "{what}: purge {purge}, not {least} to {most}");
    // And of the ideal, all of its arenas but what is live, to whole OS pages in each.
    let arenas = s["malloc"]["arenas"].as_array().unwrap().len() as u64;
    let of_arenas = s["owners"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|o| o["kind"] == "malloc" && o["name"] != "malloc mmapped chunks");
    let room = |o: &Value| u64_of(&o["resident"]) - u64_of(&o["live"]) - u64_of(&o["metadata"]);
    let room: u64 = of_arenas.map(room).sum();
    // It is never less than what a purge gives.
    let packed = r.ideal(pool_size as u64);
    let theirs = (packed.max(least) + room, packed.max(most) + room);
    let mut off = arenas * 4096;
    // Each interpreter packs its own; the recount does not know whose a pool is.
    let n = heaps.count() as u64;
    off += if n > 1 { n * 32 * 4096 } else { 0 };
    let ideal = ladder("ideal");
    assert!(
        ideal + off >= theirs.0 && ideal <= theirs.1 + off,
        "{what}: ideal {ideal}, not {theirs:?}"
    );
}

fn pymalloc_is_true(script: &str, args: &[&str]) {
    on_all(script, args, |interpreter, target, s| {
        let what = format!("{script} on {}", interpreter.name);
        assert_eq!(s["process"]["python"]["allocator"], "pymalloc", "{what}");
        assert_eq!(s["pymalloc"]["parked_pools"], 0, "{what}: nobody parks");
        equals_recount(interpreter, target, s, &what);
        equals_debugmallocstats(&s["pymalloc"], &target.debugmallocstats(), &what);
    });
}

#[test]
fn idle() {
    pymalloc_is_true("idle.py", &[]);
}

#[test]
fn fragmented() {
    pymalloc_is_true("fragmented.py", &["200000"]);
}

#[test]
fn records() {
    pymalloc_is_true("records.py", &["50000"]);
}

#[test]
fn mixed() {
    pymalloc_is_true("mixed.py", &["rand5", "200000"]);
}

#[test]
fn threads_and_large_bytes() {
    pymalloc_is_true("threads_bytes.py", &["8000"]);
}

#[test]
fn many_threads() {
    pymalloc_is_true("threads.py", &["50"]);
}

/// The examples answer no questions: they are recounted. Each on a fourth of the interpreters, in turn.
#[test]
fn examples() {
    let examples = [
        ("session_cache", "40000"),
        ("json_document", "20000"),
        ("healthy", "60000"),
        ("lru_cache", "30"),
        ("request_threads", "1500"),
        ("mmap_threshold", "40"),
        ("leak", "20000"),
        ("reused_peak", "30000"),
        ("prefork", "60000"),
    ];
    for (turn, (name, size)) in examples.into_iter().enumerate() {
        let of = matrix::part(Interpreters::load().all(), turn, 4);
        let path = pydefrag_harness::repository().join(format!("examples/{name}.py"));
        let path = path.to_str().unwrap().to_owned();
        on_each(of, &path, &["--hold", "--size", size], |interpreter, target, s| {
            // Of pages that workers share, the recount packs each apart.
            if name != "prefork" {
                equals_recount(interpreter, target, s, &format!("{name} on {}", interpreter.name));
            }
        });
    }
}

#[test]
fn subinterpreters() {
    on_all("subinterpreters.py", &["20000"], |interpreter, target, s| {
        let what = format!("subinterpreters on {}", interpreter.name);
        equals_recount(interpreter, target, s, &what);
        let heaps = s["pymalloc"]["interpreters"].as_array().unwrap();
        let isolated = target.ask("isolated").trim() == "1";
        assert_eq!(isolated, interpreter.minor >= 12, "{what}");
        assert_eq!(heaps.len(), if isolated { 3 } else { 1 }, "{what}");
        // First, because asking the others leaves objects in the main interpreter.
        equals_debugmallocstats(&heaps[0], &target.debugmallocstats(), &what);
        if isolated {
            assert_eq!(s["process"]["python"]["interpreters"], 3, "{what}");
            for k in [0, 1] {
                let said = target.ask(&format!("substats {k}"));
                let stats = DebugMallocStats::parse(&said).unwrap_or_else(|| panic!("{said}"));
                equals_debugmallocstats(&heaps[k + 1], &stats, &format!("{what}, number {k}"));
            }
        }
    });
}

/// Every allocator setting of every version is told, and every byte still has its owner.
#[test]
fn allocators() {
    for interpreter in Interpreters::load().all() {
        let mut settings = vec![
            ("", "pymalloc", false),
            ("malloc", "malloc", false),
            ("malloc_debug", "malloc", true),
            ("pymalloc", "pymalloc", false),
            ("pymalloc_debug", "pymalloc", true),
        ];
        if interpreter.minor >= 13 {
            settings
                .extend([("mimalloc", "mimalloc", false), ("mimalloc_debug", "mimalloc", true)]);
        }
        for (setting, allocator, debug) in settings {
            for trace in ["", "1"] {
                let env = [("PYTHONMALLOC", setting), ("PYTHONTRACEMALLOC", trace)];
                let env: Vec<_> = env.into_iter().filter(|(_, v)| !v.is_empty()).collect();
                let target = Target::spawn(interpreter, "fragmented.py", &["20000"], &env);
                let s = snapshot_at_rest(&target);
                let what = format!("{env:?} on {}", interpreter.name);
                let python = &s["process"]["python"];
                assert_eq!(python["allocator"], allocator, "{what}");
                assert_eq!(python["debug_hooks"], debug, "{what}");
                assert_eq!(python["tracemalloc"], !trace.is_empty(), "{what}");
                assert_eq!(python["foreign_hook"], Value::Null, "{what}");
                accounts_for_every_byte(&s, target.pid(), &what);
                let has_heap = |kind: &str| {
                    let owners = s["owners"].as_array().unwrap();
                    owners.iter().any(|o| o["kind"] == kind && u64_of(&o["resident"]) > 1 << 20)
                };
                assert!(has_heap(allocator), "{what}: {:#}", s["owners"]);
                assert_eq!(s["pymalloc"].is_null(), allocator != "pymalloc", "{what}");
            }
        }
    }
}
