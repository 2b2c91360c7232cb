//! Interpreters and frames of real processes, compared with what these say of themselves.

use std::collections::BTreeMap;

use pydefrag_harness::{Interpreter as Python, Interpreters, Target};
use pydefrag_image::{Image, ProcessFacts};
use pydefrag_layout::interpreter::{GC_HEAD, gc_head};

use super::{LOCALS, Local, MAIN_THREAD, STACK_ITEM, locals};
use crate::Runtime;
use crate::objects::interpreters::{GenerationHead, interpreters};

fn look(target: &Target) -> (Image, Runtime) {
    target.wait_blocked();
    let facts = ProcessFacts::of(target.pid() as i32).expect("the target runs");
    let image = Image::open(&facts).expect("the target may be looked at");
    let runtime = Runtime::find(&image).expect("the target is understood");
    (image, runtime)
}

fn found_in(target: &Target) -> Vec<Local> {
    let (image, runtime) = look(target);
    locals(&image, &runtime, &interpreters(&image, &runtime))
}

fn spawn(python: &Python, script: &str, args: &[&str]) -> Target {
    eprintln!("on {} ({})", python.name, python.patch);
    Target::spawn(python, script, args, &[])
}

/// The target's `ids`.
fn ids(target: &mut Target) -> BTreeMap<String, u64> {
    let text = target.ask(r#"eval "\n".join("%s=%d" % pair for pair in ids.items())"#);
    let pair = |line: &str| Some((line.split_once('=')?.0.into(), line.split_once('=')?.1.parse()));
    text.lines().filter_map(pair).map(|(k, v): (String, _)| (k, v.expect("an id"))).collect()
}

/// The last part of a qualified name, which is all that 3.10 has.
fn short(function: &str) -> &str {
    function.rsplit('.').next().unwrap_or(function)
}

#[test]
fn locals_of_all_threads_are_found_by_name() {
    for python in Interpreters::load().all() {
        let mut target = spawn(python, "frames.py", &["20"]);
        let wanted = ids(&mut target);
        assert_eq!(wanted.len(), 11, "{wanted:?}");
        let (image, runtime) = look(&target);
        let found = locals(&image, &runtime, &interpreters(&image, &runtime));
        for (key, id) in &wanted {
            let (function, variable) = key.split_once('/').expect("function/variable");
            // Up to 3.10 a frame that has called another one does not keep its stack's depth; what
            // is bound in a class is in its dict; what is shared with a closure is in a cell.
            let told = match key.as_str() {
                "loops/stack item" => python.minor >= 11,
                "Body/within" => false,
                _ => true,
            };
            let is = |local: &&Local| {
                let value = match key.as_str() {
                    // `cell_contents` is the cell's first field.
                    "inner/shared" | "inner/lent" => image.word(local.value + 16).expect("a cell"),
                    _ => local.value,
                };
                value == *id && local.name == variable && short(&local.function) == function
            };
            let hits: Vec<_> = found.iter().filter(is).collect();
            assert_eq!(hits.len(), usize::from(told), "{} {key}: {hits:?}", python.name);
            let Some(hit) = hits.first() else { continue };
            assert_eq!(image.word(hit.slot).expect("its slot") & !3, hit.value, "{key}");
            let tid = |name: &str| hit.thread.starts_with(name);
            match function {
                // From 3.14 on, the kernel knows a thread by the name that it has in Python.
                "worker" | "loops" if python.minor < 14 => assert!(tid("thread "), "{hit:?}"),
                "worker" => assert_eq!(hit.thread, "keeps"),
                "loops" => assert_eq!(hit.thread, "loops"),
                _ => assert_eq!(hit.thread, MAIN_THREAD),
            }
        }
        let deep = |l: &&Local| l.function == "deep" && l.name == "passed";
        assert_eq!(found.iter().filter(deep).count(), 20, "{}", python.name);
        assert!(!found.iter().any(|l| l.name == "gone"), "{}: a deleted variable", python.name);
        let wrong = |l: &&Local| l.name == LOCALS && short(&l.function) == "<module>";
        assert_eq!(found.iter().find(wrong), None, "a module's dict is no local");
        if python.minor >= 11 {
            let method = found.iter().find(|l| l.name == "own").expect("own");
            assert_eq!(method.function, "Owner.method");
        }
    }
}

#[test]
fn frames_of_one_thread_stand_innermost_first() {
    for python in Interpreters::load().all() {
        let target = spawn(python, "frames.py", &["3"]);
        let found = found_in(&target);
        let main = found.iter().filter(|l| l.thread == MAIN_THREAD && l.name != STACK_ITEM);
        let mut functions: Vec<_> = main.map(|l| short(&l.function)).collect();
        functions.dedup();
        let wanted = ["Body", "deep", "method", "inner", "closure"];
        functions.retain(|f| wanted.contains(f));
        assert_eq!(functions, wanted, "{}", python.name);
    }
}

#[test]
fn deep_recursion_does_not_hide_other_threads() {
    for python in Interpreters::load().all().into_iter().filter(|p| p.minor >= 11) {
        let target = spawn(python, "recursion.py", &["150000"]);
        let found = found_in(&target);
        let of = |function: &str| found.iter().filter(|l| l.function == function).count();
        assert!(of("deep") > 30_000, "{}: {}", python.name, of("deep"));
        assert!(of("worker") > 0, "{}", python.name);
        assert!(found.len() <= 100_000, "{}: {}", python.name, found.len());
    }
}

/// Nodes of a list of the collector.
fn length(image: &Image, list: &GenerationHead) -> u64 {
    let next = |at: u64| {
        let mut bytes = [0; GC_HEAD];
        image.read(at, &mut bytes).expect("a node");
        gc_head(&bytes).0
    };
    let (mut at, mut count) = (next(list.head), 0);
    while at != list.head && count < 1_000_000 {
        (at, count) = (next(at), count + 1);
    }
    count
}

#[test]
fn the_collectors_lists_hold_what_it_tracks() {
    for python in Interpreters::load().all() {
        let mut target = spawn(python, "frames.py", &[]);
        // Some in each generation, and the collector does not run by itself.
        for (count, also) in [(300, "gc.collect(0)"), (700, "None")] {
            target.ask(&format!("eval kept.extend([] for _ in range({count})), {also}"));
        }
        for frozen in [false, true] {
            if frozen {
                target.ask("freeze");
            }
            let mut wanted: Vec<u64> = Vec::new();
            for question in ["count 0", "count 1", "count 2", "frozen"] {
                wanted.push(target.ask(question).trim().parse().expect("a number"));
            }
            let (image, runtime) = look(&target);
            let all = interpreters(&image, &runtime);
            let lists = &all[0].generations;
            let names: Vec<_> = lists.iter().map(|g| g.name).collect();
            assert_eq!(names, ["0", "1", "2", "frozen"], "{}", python.name);
            let found: Vec<_> = lists.iter().map(|g| length(&image, g)).collect();
            eprintln!("wanted {wanted:?}, found {found:?}");
            let near = |(a, b): (&u64, &u64)| a.abs_diff(*b) <= 10;
            assert!(wanted.iter().zip(&found).all(near), "{}", python.name);
            let least = if frozen { [0, 0, 0, 2000] } else { [700, 300, 1000, 0] };
            let filled = found.iter().zip(least).all(|(n, least)| *n >= least);
            assert!(filled, "{}: {found:?}, not {least:?}", python.name);
        }
    }
}

#[test]
fn every_interpreter_has_its_own_threads_and_lists() {
    for python in Interpreters::load().all() {
        let target = spawn(python, "subinterpreters.py", &["1000"]);
        let (image, runtime) = look(&target);
        let all = interpreters(&image, &runtime);
        let numbers: Vec<_> = all.iter().map(|i| i.id).collect();
        assert_eq!(numbers[0], 0, "{}", python.name);
        assert_eq!(numbers.len(), 3, "{}: {numbers:?}", python.name);
        assert_eq!(all[0].threads.len(), 1, "{}", python.name);
        for one in &all {
            let own = python.minor >= 9 || one.id == 0;
            assert_eq!(one.generations.len(), if own { 4 } else { 0 }, "{} {one:?}", python.name);
            let tracked: u64 = one.generations.iter().map(|g| length(&image, g)).sum();
            assert_eq!(tracked > 500, own, "{} {one:?}: {tracked}", python.name);
        }
    }
}
