//! The trim rung is what malloc_trim then gives back.

use pydefrag_harness::{Interpreter, Interpreters, smaps};

use super::{Truth, libraries, number};

/// Bytes by which they may differ: trimming runs code whose pages may not have been resident.
const SMALL: u64 = 16 << 10;

/// Foretells, trims, measures: in a target whose console did some lines before.
fn foretold(of: &Interpreter, script: &str, args: &[&str], env: &[(&str, &str)], lines: &[&str]) {
    let Some(mut truth) = Truth::spawn(of, script, args, env) else { return };
    for line in lines {
        truth.say(line);
    }
    let s = truth.look();
    let foretold = number(&s["ladder"]["trim"]);
    let before = smaps::Memory::of(truth.target.pid()).rss;
    truth.say("t");
    truth.target.wait_blocked();
    let after = smaps::Memory::of(truth.target.pid()).rss;
    let returned = before.saturating_sub(after);
    let what = format!("{} {lines:?}: {foretold} foretold, {returned} returned", truth.what);
    eprintln!("{what}");
    assert!(foretold.abs_diff(returned) <= SMALL, "{what}");
    // And nothing is left to return.
    let again = truth.look();
    assert!(number(&again["ladder"]["trim"]) <= SMALL, "{what}: {:#}", again["ladder"]);
}

#[test]
fn of_pythons_heaps() {
    for of in Interpreters::load().minors() {
        foretold(of, "fragmented.py", &["200000"], &[("PYTHONMALLOC", "malloc")], &[]);
        foretold(of, "mixed.py", &["rand5", "100000"], &[], &[]);
    }
}

#[test]
fn of_threads() {
    for of in libraries() {
        foretold(of, "threads_bytes.py", &["8000"], &[], &[]);
        foretold(of, "malloc.py", &["8"], &[], &[]);
        foretold(of, "malloc.py", &["8"], &[("MALLOC_ARENA_MAX", "1")], &[]);
        let grow = ["w", "@0 a 3000 60000", "@0 f 1 3 900"];
        foretold(of, "idle.py", &[], &[], &grow);
    }
}

/// Free chunks that lie against the top, and a top beyond what is trimmed at each free.
#[test]
fn of_a_large_top() {
    for of in libraries() {
        let env = [("MALLOC_TRIM_THRESHOLD_", "4000000000"), ("MALLOC_TOP_PAD_", "1000000")];
        foretold(of, "idle.py", &[], &env, &["a 1000 50000", "f 100 1 900"]);
        foretold(of, "idle.py", &[], &env, &["w", "@0 a 1000 50000", "@0 f 100 1 900"]);
        foretold(of, "idle.py", &[], &[], &["a 1000 50000", "f 0 1 999"]);
    }
}

/// Small chunks, all freed, fill fastbins where there are any: trimming merges them first.
#[test]
fn of_fastbins() {
    for of in libraries() {
        let lines = ["a 60000 40", "f 0 1 59000"];
        foretold(of, "idle.py", &[], &[], &lines);
        foretold(of, "idle.py", &[], &[], &["w", "@0 a 60000 40", "@0 f 0 1 59000"]);
        foretold(of, "idle.py", &[], &[], &["a 60000 40", "f 0 1 60000"]);
    }
}

/// Free chunks of all sizes around an OS page, beside ones that were never touched.
#[test]
fn of_chunks_about_as_large_as_a_page() {
    for of in libraries() {
        let mut lines = Vec::new();
        for size in (3900..8400).step_by(100) {
            lines.push(format!("a 20 {size}"));
            lines.push("a 1 40".into());
            lines.push(format!("c 10 {size}"));
        }
        lines.push("f 0 2 2000".into());
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        foretold(of, "idle.py", &[], &[], &lines);
    }
}

#[test]
fn with_other_users_of_brk() {
    for of in libraries() {
        let lines =
            ["s 5000", "a 500 5000", "s 100000", "a 500 5000", "f 100 1 300", "f 510 1 480"];
        foretold(of, "idle.py", &[], &[], &lines);
        let ends_elsewhere = ["a 500 5000", "f 0 1 490", "s 100000"];
        foretold(of, "idle.py", &[], &[], &ends_elsewhere);
    }
}
