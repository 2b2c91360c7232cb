//! The map of the heaps: whether all that is said of a process can be counted from it again.
//!
//! The account, the ladder and the pins are recounted from a map alone (`recount`), with nothing of the
//! walkers: byte by byte, term by term they must be what the look itself says.

mod named;
mod recount;

use std::collections::BTreeMap;

use pydefrag_harness::{Interpreter, Interpreters, Target, matrix, repository};
use pydefrag_heap::{Map, Tile};
use pydefrag_image::{Image, ProcessFacts};
use pydefrag_walk::{Asked, Looked, Runtime, Wanted, explain, snapshot};

use recount::{Recount, recount};

use crate::support::compile;

/// A look at a target at rest, with a map.
fn look(target: &Target, objects: bool) -> Looked {
    target.wait_blocked();
    let facts = ProcessFacts::of(target.pid() as i32).expect("it runs");
    let image = Image::open(&facts).expect("it may be looked at");
    let runtime = Runtime::find(&image).expect("it is Python");
    let wanted = Wanted { objects, map: true };
    let mut looked = snapshot(&facts, &image, &runtime, wanted).expect("it is understood");
    let asked = Asked {
        until: None,
        progress: &|_, _| {},
        show_values: false,
        blocks: 500,
        at: &[],
        sites: None,
    };
    explain(&image, &runtime, &mut looked, &asked).expect("it may be read");
    looked
}

fn map(looked: &Looked) -> &Map {
    looked.detail.map.as_deref().expect("a map was wanted")
}

/// The map fits, survives being stored, and gives the accounts and the ladder back.
fn is_true(looked: &Looked, what: &str) {
    let map = map(looked);
    assert!(map.fits(&looked.detail), "{what}: it does not fit");
    let columns = map.columns().expect("columns");
    let back = Map::of_columns(|name| Some(columns.iter().find(|c| c.0 == name)?.1.clone()));
    assert!(back.as_ref() == Some(map), "{what}: another map comes back");
    named::is_named(looked, what);
    let counted = recount(map, &looked.detail, what);
    accounts_are_equal(looked, &counted, what);
    let ladder = &looked.snapshot.ladder;
    assert_eq!(counted.rungs[1], ladder.trim.unwrap_or(0), "{what}: trim");
    assert_eq!(counted.rungs[2], ladder.purge.unwrap_or(0), "{what}: purge");
    let (purge, ideal) = (counted.rungs[2], ladder.ideal.unwrap_or(0));
    if let Some(compact) = ladder.compact {
        // Survivors may need pages that are not there yet: then the bound is the ideal.
        assert_eq!(counted.rungs[3].min(ideal).max(purge), compact, "{what}: compact");
    } else {
        assert_eq!(counted.rungs[3], purge, "{what}: compact");
    }
}

fn accounts_are_equal(looked: &Looked, counted: &Recount, what: &str) {
    let mut said = BTreeMap::new();
    for owner in &looked.snapshot.owners {
        let Some(a) = owner.account else { continue };
        let terms = BTreeMap::from([
            ("live", a.live + a.rounding.unwrap_or(0)),
            ("metadata", a.metadata),
            ("virgin", a.virgin),
            ("free_spans", a.free_spans),
            ("holes", a.holes),
            ("pinned_free", a.pinned_free),
            ("top", a.top),
            ("cached", a.cached),
            ("unread", a.unread),
        ]);
        said.insert(owner.name.clone(), terms.into_iter().filter(|t| t.1 > 0).collect());
    }
    assert_eq!(counted.terms, said, "{what}");
}

fn minors() -> Vec<Interpreter> {
    let all = Interpreters::load();
    ["3.8", "3.11", "3.13", "3.15"].iter().filter_map(|name| all.get(name).cloned()).collect()
}

#[test]
fn of_programs_gives_their_account_back() {
    for of in minors() {
        let malloc = [("PYTHONMALLOC", "malloc")];
        let shapes = [
            ("idle.py", &[][..], &[][..]),
            ("fragmented.py", &["200000"], &[]),
            ("fragmented.py", &["50000"], &malloc),
            ("records.py", &["20000"], &[]),
            ("threads_bytes.py", &["3000"], &[]),
            ("malloc.py", &["4", "200"], &[]),
            ("subinterpreters.py", &["20000"], &[]),
        ];
        for (script, args, env) in shapes {
            let target = Target::spawn(&of, script, args, env);
            let what = format!("{script} {args:?} {env:?} on {}", of.name);
            let looked = look(&target, true);
            is_true(&looked, &what);
            assert!(map(&looked) == map(&look(&target, true)), "{what}: each look says another");
        }
    }
}

#[test]
fn of_examples_gives_their_account_back() {
    for (turn, of) in minors().into_iter().enumerate() {
        let examples = [
            ("session_cache", "40000"),
            ("json_document", "20000"),
            ("request_threads", "1500"),
            ("mmap_threshold", "40"),
            ("prefork", "60000"),
        ];
        for (name, size) in matrix::part(examples, turn, 3) {
            let path = repository().join(format!("examples/{name}.py"));
            let args = ["--hold", "--size", size];
            let target = Target::spawn(&of, path.to_str().expect("a path"), &args, &[]);
            is_true(&look(&target, true), &format!("{name} on {}", of.name));
        }
    }
}

/// Chunks without a page behind them, however large, are not in the map; other users of brk are no part of
/// malloc.
#[test]
fn of_an_odd_malloc_gives_its_account_back() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let flags = ["-shared", "-fPIC", "-nostdlib", "-fno-stack-protector"];
    let Some(library) = compile(folder, "map_truth.so", "malloc_truth.c", &flags) else { return };
    for of in minors() {
        let mut target = Target::spawn(&of, "idle.py", &[], &[]);
        target.ask(&format!("console {}", library.display()));
        let steps: [&[&str]; 5] = [
            &["a 2000 700", "f 0 2 900", "a 300 40", "f 2000 3 90"],
            // Inside the heap of a thread, too.
            &["w", "@0 a 2000 60000", "@0 f 2301 3 600", "@0 c 40 3000000"],
            &["c 1 8000000000", "c 3 3000000", "m 4096 10000"],
            &["s 1000", "a 300 5001", "s 4096", "a 300 100000", "s 24", "a 900 90000"],
            &["t"],
        ];
        for lines in steps {
            for line in lines {
                target.ask(line);
            }
            let what = format!("{lines:?} on {}", of.name);
            let looked = look(&target, false);
            is_true(&looked, &what);
            let pages = map(&looked).pages.len() as u64;
            let resident = looked.snapshot.memory.rss / 4096;
            assert!(pages < 20 * resident, "{what}: {pages} pages, {resident} resident");
        }
        // Chunks with a page in their middle: one mapped; one in the heap, as malloc has learned its size from
        // one that was freed; then free ones.
        let mut large = Vec::new();
        for line in ["c 1 20000000", "f", "c 1 18000000", "a 1 700"] {
            match (line, large.last()) {
                ("f", Some((number, _))) => target.ask(&format!("f {number} 1 1")),
                _ => target.ask(line),
            };
            let planted = target.ask("l");
            let planted: Vec<u64> =
                planted.split_whitespace().map(|n| n.parse().expect("a number")).collect();
            let all = planted.chunks(2).enumerate().filter(|(_, c)| c[1] > 10_000_000);
            large = all.map(|(i, c)| (i, c[0])).collect();
        }
        assert_eq!(large.len(), 2, "{}", of.name);
        for (_, address) in &large {
            target.ask(&format!("p {} 1", address + 9_000_000));
        }
        let looked = look(&target, false);
        is_true(&looked, &format!("pages inside chunks on {}", of.name));
        for heap in ["malloc main arena", "malloc mmapped chunks"] {
            assert!(tiles_of(map(&looked), heap).contains(&Tile::Rest), "{heap} of {}", of.name);
        }
        for (number, _) in &large {
            target.ask(&format!("f {number} 1 1"));
        }
        target.ask("a 1 5000000");
        is_true(&look(&target, false), &format!("pages inside free chunks on {}", of.name));
        let looked = look(&target, false);
        let there: Vec<Tile> = map(&looked).tiles.iter().map(|t| t.1).collect();
        for tile in [Tile::Used, Tile::Mapped, Tile::Cached, Tile::Free, Tile::Top, Tile::Other] {
            assert!(there.contains(&tile), "{}: no {tile:?}", of.name);
        }
        // Of what is left of a heap that the program has corrupted, the same is true.
        let planted = target.ask("l");
        let mut planted = planted.split_whitespace().map(|n| n.parse::<u64>().expect("a number"));
        let address = planted.by_ref().step_by(2).nth(1501).expect("a chunk");
        target.ask(&format!("p {} 4711", address - 8));
        let looked = look(&target, false);
        is_true(&looked, &format!("a corrupted heap on {}", of.name));
        assert!(map(&looked).tiles.iter().any(|t| t.1 == Tile::Unread), "{}", of.name);
    }
}

/// All tiles of a heap.
fn tiles_of(map: &Map, heap: &str) -> Vec<Tile> {
    let mut tiles = map.tiles.iter().map(|t| t.1);
    let mut of_heap = Vec::new();
    for region in &map.regions {
        let own = tiles.by_ref().take(region.tiles as usize);
        let own: Vec<Tile> = own.collect();
        of_heap.extend(own.into_iter().filter(|_| region.heap == heap));
    }
    of_heap
}
