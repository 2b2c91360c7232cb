//! Free lists and tracemalloc's tables of real interpreters, compared with what these say themselves.

use std::collections::BTreeMap;

use pydefrag_harness::variants::stripped_copy;
use pydefrag_harness::{Interpreter, Interpreters, Target};
use pydefrag_image::{Image, ProcessFacts};
use pydefrag_layout::freelists::{FreeLists, free_lists, has_gc_head};
use rustc_hash::FxHashMap;

use crate::objects::freelists::{Rule, free_listed, per_interpreter};
use crate::objects::sites::{Sites, of_runtime, sites};
use crate::pool::{self, Pool};
use crate::runtime::Runtime;

fn look(target: &Target) -> (Image, Runtime) {
    target.wait_blocked();
    let facts = ProcessFacts::of(target.pid() as i32).expect("it runs");
    let image = Image::open(&facts).expect("it may be looked at");
    let runtime = Runtime::find(&image).expect("it is Python");
    (image, runtime)
}

/// Kind, with the length of tuples, and addresses.
type Kinds = BTreeMap<String, Vec<u64>>;

fn kinds_of(image: &Image, found: &FxHashMap<u64, &'static str>) -> Kinds {
    let mut kinds = Kinds::new();
    for (at, what) in found {
        let length = || image.word(at + 16).expect("a length");
        let kind = if *what == "tuple" { format!("tuple{}", length()) } else { (*what).into() };
        kinds.entry(kind).or_default().push(*at);
    }
    kinds
}

fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The counts of free-listed objects in `sys._debugmallocstats()`, where the version prints them.
fn stats(text: &str) -> BTreeMap<String, u64> {
    let kinds = [("PyFloatObjects", "float"), ("PyListObjects", "list"), ("PyDictObjects", "dict")];
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|l| l.contains(" free ")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let kind = match words[..] {
            [_, _, "PyDictKeysObjects", ..] => "dict keys".to_owned(),
            [_, _, "PyFrameObjects", ..] => "frame".to_owned(),
            [_, _, "PyMethodObjects", ..] => "method".to_owned(),
            [_, _, "PyCFunctionObjects", ..] => "builtin_function_or_method".to_owned(),
            [_, _, sized, "PyTupleObjects", ..] => {
                format!("tuple{}", sized.trim_end_matches("-sized"))
            }
            [_, _, what, ..] => match kinds.iter().find(|(name, _)| *name == what) {
                Some((_, kind)) => (*kind).to_owned(),
                None => continue,
            },
            _ => continue,
        };
        counts.insert(kind, words[0].replace(',', "").parse().expect("a count"));
    }
    counts
}

/// Blocks that pymalloc has handed out: address and words.
fn used_blocks(image: &Image, runtime: &Runtime) -> Vec<(u64, Vec<u64>)> {
    let mut blocks = Vec::new();
    for state in crate::states(image, runtime).expect("pymalloc").states {
        let g = state.geometry;
        for arena in &state.arenas {
            let first = arena.arena.address.next_multiple_of(g.pool_size);
            let end = arena.arena.address + g.arena_size;
            for at in (first..=end - g.pool_size).step_by(g.pool_size as usize) {
                let mut bytes = vec![0; g.pool_size as usize];
                image.read(at, &mut bytes).expect("a pool");
                let Ok(Pool::Used(pool)) = pool::read(&bytes, at, g, pool::Dropped::default())
                else {
                    continue;
                };
                let size = 16 * (usize::from(pool.class) + 1);
                let live = |i: &usize| pool.bitmap()[i / 64] >> (i % 64) & 1 == 1;
                for i in (0..pool.header.carved as usize).filter(live) {
                    let from = 48 + i * size;
                    let words = bytes[from..from + size].chunks_exact(8);
                    let words = words.map(|w| u64::from_le_bytes(w.try_into().expect("8 bytes")));
                    blocks.push((at + from as u64, words.collect()));
                }
            }
        }
    }
    blocks
}

/// All that the rule claims, block by block.
fn claimed(image: &Image, runtime: &Runtime) -> FxHashMap<u64, &'static str> {
    let rule = Rule::new(runtime);
    let peek = |at: u64| image.words(at, 2).ok().map(|w| [w[0], w[1]]);
    let mut found = FxHashMap::default();
    for (at, words) in used_blocks(image, runtime) {
        let plain = rule.looks_free_listed(None, &words, peek);
        if let Some(what) = plain.filter(|w| !has_gc_head(w)) {
            found.insert(at, what);
        } else if let [next, prev, object @ ..] = &words[..]
            && let Some(what) = rule.looks_free_listed(Some([*next, *prev]), object, peek)
        {
            found.insert(at + 16, what);
        }
    }
    found
}

/// All, those on other C libraries, and one without local symbols; `ONLY` names one for a quick try.
fn interpreters() -> Vec<Interpreter> {
    let all = Interpreters::load();
    let mut found: Vec<_> = all.all().into_iter().cloned().collect();
    found.extend(all.libc_variants());
    found.extend(all.get("3.8").and_then(|plain| stripped_copy(plain).ok()));
    let only = std::env::var("ONLY").ok();
    found.retain(|i| only.as_ref().is_none_or(|name| *name == i.name));
    found
}

#[test]
fn what_was_freed_is_on_the_lists_and_as_much_as_the_interpreter_says() {
    for interpreter in &interpreters() {
        let mut target = Target::spawn(interpreter, "freelists.py", &[], &[]);
        let name = &interpreter.name;
        let freed = target.ask("free");
        let (image, runtime) = look(&target);
        let found = free_listed(&image, &runtime);
        let kinds = kinds_of(&image, &found);
        for line in freed.lines() {
            let kind = line.split(' ').next().expect("a kind");
            let addresses = numbers(line);
            let is = |at: &&u64| found.get(at).is_some_and(|what| kind.starts_with(what));
            let hits = addresses.iter().filter(is).count();
            assert_eq!(hits, addresses.len(), "{name}: {kind}");
        }
        let said = stats(&target.ask("stats"));
        assert!(said.len() > 20, "{name}: {said:?}");
        for (kind, count) in &said {
            let here = kinds.get(kind).map_or(0, Vec::len) as u64;
            assert_eq!(here, *count, "{name}: {kind}");
        }
        let shown = |k: &&str| format!("{k} {}", kinds.get(*k).map_or(0, Vec::len));
        let shown: Vec<_> =
            ["float", "list", "dict", "dict keys", "tuple5"].iter().map(shown).collect();
        eprintln!("{name} ({}): {} listed; {}", interpreter.patch, found.len(), shown.join(", "));
    }
}

#[test]
fn the_rule_claims_what_is_listed_and_nothing_else() {
    for interpreter in &interpreters() {
        for script in ["freelists.py", "mixed.py"] {
            let mut target = Target::spawn(interpreter, script, &[], &[]);
            let name = &interpreter.name;
            if script == "freelists.py" {
                target.ask("free");
            }
            let (image, runtime) = look(&target);
            let found = free_listed(&image, &runtime);
            let claimed = claimed(&image, &runtime);
            let wrong: Vec<_> = claimed.iter().filter(|(at, _)| !found.contains_key(at)).collect();
            // Frames that their code objects keep are on no list.
            let kept = wrong.iter().filter(|(_, what)| **what == "frame").count();
            let missed = |(at, what): &(&u64, &&str)| {
                let by_rule = !what.contains(' ') && **what != "FutureIter";
                by_rule && !claimed.contains_key(at)
            };
            let missed: Vec<_> = found.iter().filter(missed).collect();
            eprintln!(
                "{name} {script}: {} listed, {} claimed, {} wrong and {kept} kept frames, {} missed",
                found.len(),
                claimed.len(),
                wrong.len() - kept,
                missed.len()
            );
            assert!(wrong.len() - kept <= 3, "{name} {script}: not listed: {wrong:?}");
            assert!(missed.len() <= 3, "{name} {script}: missed {missed:?}");
            assert!(kept == 0 || interpreter.minor < 11, "{name} {script}");
        }
    }
}

/// Blocks of the target's script by line.
fn lines_of(found: &Sites) -> BTreeMap<u32, u64> {
    let mut lines = BTreeMap::new();
    for (_, place) in found.blocks() {
        let (file, line) = &found.places[place as usize];
        if file.ends_with("traced.py") {
            *lines.entry(*line).or_default() += 1;
        }
    }
    lines
}

fn check_places(found: &Sites, said: &str, head: u64, what: &str) {
    let [line, addresses @ ..] = &numbers(said)[..] else { panic!("{what}: {said}") };
    let place = |at: &u64| found.of(at - head).map(|p| &found.places[p as usize]);
    let right = |at: &&u64| {
        place(at).is_some_and(|(file, l)| file.ends_with("/traced.py") && u64::from(*l) == *line)
    };
    let hits = addresses.iter().filter(right).count();
    let some = addresses.first().map(place);
    assert!(addresses.len() > 100, "{what}: {said}");
    assert_eq!(hits, addresses.len(), "{what}: line {line}, but e.g. {some:?}");
}

#[test]
fn blocks_have_the_places_that_tracemalloc_says() {
    for interpreter in &interpreters() {
        for (frames, env) in [("1", ""), ("10", ""), ("1", "debug")] {
            let env: &[_] = if env.is_empty() { &[] } else { &[("PYTHONMALLOC", env)] };
            let mut target = Target::spawn(interpreter, "traced.py", &[frames], env);
            let what = format!("{} {frames} {env:?}", interpreter.name);
            let (image, runtime) = look(&target);
            let found = sites(&image, &runtime).unwrap_or_else(|| panic!("{what}: not found"));
            let all = numbers(&target.ask("traces"))[0];
            let here = found.blocks().count() as u64;
            assert!(here.abs_diff(all) <= 100, "{what}: {here} traces, not {all}");
            // From the object to its block: the collector's head, and that of the debug hooks.
            let debug = if env.is_empty() { 0 } else { 16 };
            check_places(&found, &target.ask("tuples"), 16 + debug, &format!("{what} tuples"));
            check_places(&found, &target.ask("strings"), debug, &format!("{what} strings"));
            let lines = lines_of(&found);
            let said = target.ask("lines");
            let said = said.lines().map(numbers);
            let large: Vec<_> = said.filter(|s| s[1] >= 100).map(|s| (s[0] as u32, s[1])).collect();
            assert!(large.len() >= 2, "{what}: {large:?}");
            for (line, count) in &large {
                let here = lines.get(line).copied().unwrap_or(0);
                assert!(here.abs_diff(*count) <= 3, "{what}: line {line}: {here}, not {count}");
            }
            eprintln!("{what}: {here} traces ({all}), {large:?}");
        }
    }
}

#[test]
fn other_domains_are_read_too() {
    for interpreter in &interpreters() {
        let mut target = Target::spawn(interpreter, "traced.py", &["3"], &[]);
        let said = target.ask("track");
        let (image, runtime) = look(&target);
        let found = sites(&image, &runtime).expect("it traces");
        check_places(&found, &said, 0, &format!("{} domain", interpreter.name));
        check_places(&found, &target.ask("tuples"), 16, &format!("{} tuples", interpreter.name));
    }
}

#[test]
fn who_does_not_trace_has_no_sites() {
    for interpreter in &interpreters() {
        let target = Target::spawn(interpreter, "idle.py", &[], &[]);
        let (image, runtime) = look(&target);
        assert!(sites(&image, &runtime).is_none(), "{}", interpreter.name);
    }
}

#[test]
fn what_a_patch_release_moved_is_found_near_by() {
    for interpreter in interpreters().iter().filter(|i| i.minor >= 10) {
        let name = &interpreter.name;
        let mut target = Target::spawn(interpreter, "freelists.py", &[], &[]);
        target.ask("free");
        let (image, runtime) = look(&target);
        let known = free_lists(runtime.layout.minor).expect("in the interpreter's state");
        for moved in [-512, -72, 16, 40, 1000] {
            let bases = [known.bases[0].wrapping_add_signed(moved)];
            let bases: &'static [u64] = Box::leak(Box::new(bases));
            let found = per_interpreter(&image, &runtime, &FreeLists { bases, ..*known });
            assert_eq!(found, free_listed(&image, &runtime), "{name}: moved by {moved}");
        }
        drop(target);
        if interpreter.minor >= 12 {
            let target = Target::spawn(interpreter, "traced.py", &["1"], &[]);
            let (image, runtime) = look(&target);
            let tables = of_runtime(&image, &runtime, 0).expect("found by its form");
            assert_eq!(tables.len(), 1, "{name}");
            assert!(tables[0].entries > 1000, "{name}: {tables:?}");
        }
    }
}
