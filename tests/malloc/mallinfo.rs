//! The arenas' counts equal mallinfo2's, exactly, in every shape that a heap can have.

use pydefrag_harness::{Interpreter, Interpreters};

use super::{Truth, arenas, libraries, number, total};

/// Every count that mallinfo2 has too.
fn equals_mallinfo(truth: &mut Truth) {
    let m = truth.mallinfo();
    let s = truth.look();
    let what = format!("{}: {m:?}\n{:#}", truth.what, s["malloc"]);
    assert_eq!(total(&s, "system"), m.arena, "system: {what}");
    assert_eq!(total(&s, "free"), m.fordblks, "free: {what}");
    let used = total(&s, "used") + total(&s, "overhead") + total(&s, "tcache");
    assert_eq!(used, m.uordblks, "used: {what}");
    assert_eq!(total(&s, "fastbins"), m.fsmblks, "fastbins: {what}");
    assert_eq!(number(&s["malloc"]["mmapped"]["chunks"]), m.hblks, "mmapped: {what}");
    // 2.43 counts 16 bytes too many at each mremap, and never takes them back: mappings are whole pages.
    let mapped = m.hblkhd & !4095;
    assert_eq!(number(&s["malloc"]["mmapped"]["bytes"]), mapped, "mmapped: {what}");
    assert_eq!(number(&arenas(&s)[0]["top"]), m.keepcost, "top: {what}");
    assert_eq!(total(&s, "unread"), 0, "unread: {what}");
    assert_eq!(number(&s["torn"]["chunks"]), 0, "torn: {what}");
    for note in s["notes"].as_array().expect("notes") {
        assert!(!note.as_str().expect("text").contains("malloc"), "{note}: {what}");
    }
}

type Env<'a> = &'a [(&'a str, &'a str)];

/// A script, then lines for the console; compared before and after each.
fn shape(of: &Interpreter, script: &str, args: &[&str], env: Env<'_>, lines: &[&str]) {
    let Some(mut truth) = Truth::spawn(of, script, args, env) else { return };
    equals_mallinfo(&mut truth);
    for line in lines {
        truth.say(line);
        truth.what += &format!("; {line}");
        equals_mallinfo(&mut truth);
    }
}

/// Python's own heaps on every interpreter.
#[test]
fn of_pythons_heaps() {
    for of in Interpreters::load().all() {
        shape(of, "idle.py", &[], &[], &[]);
        shape(of, "fragmented.py", &["50000"], &[("PYTHONMALLOC", "malloc")], &[]);
        shape(of, "malloc.py", &["2", "100"], &[], &[]);
    }
}

#[test]
fn of_one_and_of_eight_arenas() {
    for of in libraries() {
        for arenas in ["1", "8"] {
            let env = [("MALLOC_ARENA_MAX", arenas), ("PYTHONMALLOC", "malloc")];
            shape(of, "malloc.py", &["8"], &env, &["w", "@0 a 500 900", "@0 f 0 2 250"]);
        }
    }
}

/// A thread arena of several heaps, that grows and shrinks.
#[test]
fn of_many_heaps() {
    for of in libraries() {
        let grow = ["w", "@0 a 3000 60000", "@0 f 1 3 900", "@0 c 100 50000", "@0 f 1400 1 1500"];
        shape(of, "idle.py", &[], &[], &grow);
    }
}

#[test]
fn of_mapped_chunks() {
    for of in libraries() {
        let lines = [
            "m 64 300000",
            "m 4096 200000",
            "m 65536 500000",
            "m 65536 3000000",
            "m 2097152 1000000",
            "a 20 200000",
            "c 20 5000000",
            "m 4096 3000",
            "m 65536 40000",
            "f 1 2 8",
            "a 30 1000000",
        ];
        shape(of, "malloc.py", &["1"], &[], &lines);
    }
}

/// The program takes memory from brk itself, so that the main arena has gaps.
#[test]
fn of_a_heap_with_other_users_of_brk() {
    for of in libraries() {
        let lines = [
            "s 4096",
            "a 100 5000",
            "s 100000",
            "a 300 5000",
            "f 0 3 50",
            "s 24",
            "a 300 3000",
            "s 0x200000",
            "c 10 100000",
            "a 2000 600",
        ];
        shape(of, "idle.py", &[], &[], &lines);
    }
}

#[test]
fn of_memory_never_touched() {
    for of in libraries() {
        let lines = ["c 200 100000", "f 0 2 60", "w", "@0 c 200 100000", "@0 f 200 3 60"];
        shape(of, "idle.py", &[], &[], &lines);
    }
}

/// Small chunks, freed beyond what tcaches hold: fastbins, where there are any.
#[test]
fn of_fastbins() {
    for of in libraries() {
        let lines = ["a 2000 24", "f 1 2 900", "w", "@0 a 2000 40", "@0 f 2001 2 900", "f 0 4 50"];
        shape(of, "idle.py", &[], &[], &lines);
    }
}

/// A version of glibc that nobody tried: it is walked all the same, for what is there is told by what
/// validates, and the report says so.
#[test]
fn of_a_version_that_was_not_tried() {
    let Some(of) =
        Interpreters::load().libc_variants().into_iter().find(|i| i.name.ends_with("-2.41"))
    else {
        return crate::support::lacking("glibc 2.41");
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let paths = of.args[1].clone();
    let library = paths.split(':').map(|p| std::path::Path::new(p).join("libc.so.6"));
    let mut bytes = library.into_iter().find_map(|l| std::fs::read(l).ok()).expect("its libc");
    let text = b"release version 2.41";
    let at = bytes.windows(text.len()).position(|w| w == text).expect("its version");
    bytes[at..at + text.len()].copy_from_slice(b"release version 2.99");
    std::fs::write(folder.path().join("libc.so.6"), bytes).expect("a copy");
    let mut of = of;
    of.args[1] = format!("{}:{paths}", folder.path().display());
    let env = [("PYTHONMALLOC", "malloc")];
    let Some(mut truth) = Truth::spawn(&of, "malloc.py", &["8"], &env) else { return };
    truth.say("w");
    truth.say("@0 a 500 900");
    let m = truth.mallinfo();
    let s = truth.look();
    assert_eq!(s["process"]["libc"]["version"], "2.99");
    let notes = s["notes"].as_array().expect("notes");
    let said = "glibc 2.99 is not among the versions that were tried; its malloc validated";
    assert!(notes.iter().any(|n| n == said), "{notes:?}");
    let used = total(&s, "used") + total(&s, "overhead") + total(&s, "tcache");
    let told = (total(&s, "system"), total(&s, "free"), used);
    assert_eq!(told, (m.arena, m.fordblks, m.uordblks), "{m:?} {:#}", s["malloc"]);
}
