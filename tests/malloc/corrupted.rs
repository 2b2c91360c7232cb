//! Heaps that the program itself has corrupted: what is before and after the damage is accounted for,
//! what it hides is counted, and nothing hangs.

use std::time::{Duration, Instant};

use pydefrag_harness::Interpreter;
use serde_json::Value;

use super::{Truth, arenas, libraries, number, total};

const LIMIT: Duration = Duration::from_secs(10);

/// A target with 3,000 planted chunks of each of some sizes, in the main arena or in a worker's.
fn planted(of: &Interpreter, by: &str) -> Option<Truth> {
    let mut truth = Truth::spawn(of, "idle.py", &[], &[])?;
    truth.say("w");
    for size in [40, 600, 5000] {
        truth.say(&format!("{by}a 1000 {size}"));
    }
    Some(truth)
}

/// A snapshot in bounded time, whose accounts balance.
fn look(truth: &Truth) -> Value {
    let start = Instant::now();
    let s = truth.look();
    assert!(start.elapsed() < LIMIT, "{}: {:?}", truth.what, start.elapsed());
    s
}

/// The address of the number-th planted chunk.
fn chunk(truth: &mut Truth, number: usize) -> u64 {
    truth.say("l")[2 * number] - 16
}

/// The first of 110 chunks of 600 bytes that lie in a row. They are planted for it, and more of them than
/// the holes that the start of an interpreter leaves could scatter.
fn row(truth: &mut Truth, by: &str) -> u64 {
    truth.say(&format!("{by}a 4000 600"));
    let chunks = truth.say("l");
    let count = chunks.len() / 2;
    let in_a_row = |i: &usize| chunks[2 * (i + 110)] == chunks[2 * i] + 110 * 0x260;
    let first = (count - 4000..count - 110).find(in_a_row);
    chunks[2 * first.unwrap_or_else(|| panic!("{}: no row", truth.what))] - 16
}

/// The arena that lost something, which a note names.
fn damaged<'a>(s: &'a Value, what: &str) -> &'a Value {
    let mut damaged = arenas(s).iter().filter(|a| number(&a["unread"]) > 0);
    let arena = damaged.next().unwrap_or_else(|| panic!("{what}: nothing is unread {s:#}"));
    assert!(damaged.next().is_none(), "{what}: more than one arena {:#}", s["malloc"]);
    let name = format!("{:#x}", number(&arena["address"]));
    let notes = s["notes"].as_array().expect("notes");
    let named = notes.iter().any(|n| n.as_str().expect("text").contains(&name));
    assert!(named, "{what}: {notes:?}");
    assert!(number(&s["torn"]["chunks"]) > 0, "{what}");
    arena
}

/// A size field in the midst of an arena is overwritten: what is lost is small.
#[test]
fn sizes() {
    let garbage: [u64; 7] = [0, 1, 0x4141_4141_4141_4141, u64::MAX, 1 << 60, 0x0fff_fff1, 0x31];
    for of in libraries() {
        for (by, main) in [("", true), ("@0 ", false)] {
            let Some(mut truth) = planted(of, by) else { return };
            let sound = look(&truth);
            for (i, garbage) in garbage.into_iter().enumerate() {
                // Chunks of 600 and, the last of them, of 5,000 bytes.
                let at = chunk(&mut truth, 1300 + 200 * i) + 8;
                let before = truth.say(&format!("p {at} {garbage}"))[0];
                let s = look(&truth);
                let what = format!("{} {by}{garbage:#x} for {before:#x}", truth.what);
                let arena = damaged(&s, &what);
                assert_eq!(arena["main"], main, "{what}");
                let lost = number(&arena["unread"]);
                assert!(lost <= 16 << 10, "{what}: {lost} bytes are lost");
                assert!(total(&s, "used").abs_diff(total(&sound, "used")) <= lost, "{what}");
                truth.say(&format!("p {at} {before}"));
                let mended = look(&truth);
                assert_eq!(mended["malloc"], sound["malloc"], "{what}: mended");
            }
        }
    }
}

/// 64 KiB of garbage over many chunks, of either kind.
#[test]
fn whole_stretches() {
    for of in libraries() {
        for by in ["", "@0 "] {
            for garbage in [0u64, 0x4141_4141_4141_4141, 0x23, 0xffff] {
                let Some(mut truth) = planted(of, by) else { return };
                let at = row(&mut truth, by);
                let sound = look(&truth);
                truth.say(&format!("P {at} {garbage} 8192"));
                let s = look(&truth);
                let what = format!("{} {by}{garbage:#x}", truth.what);
                let lost = number(&damaged(&s, &what)["unread"]);
                assert!((60 << 10..80 << 10).contains(&lost), "{what}: {lost} bytes are lost");
                assert!(total(&s, "used").abs_diff(total(&sound, "used")) <= lost, "{what}");
            }
        }
    }
}

/// The size of the top, on which nothing follows.
#[test]
fn tops() {
    for of in libraries() {
        for (by, index) in [("", 0), ("@0 ", 1)] {
            for garbage in [0u64, 0x4141_4141_4141_4141, 1 << 40, 0x41] {
                let Some(mut truth) = planted(of, by) else { return };
                let sound = look(&truth);
                let state = number(&arenas(&sound)[index]["address"]);
                let (old, new) = (truth.say(&format!("r {}", state + 96))[0], state + 8);
                let top = if is_243(&sound) { truth.say(&format!("r {new}"))[0] } else { old };
                truth.say(&format!("p {} {garbage}", top + 8));
                let s = look(&truth);
                let what = format!("{} {by}{garbage:#x}", truth.what);
                let arena = damaged(&s, &what);
                assert_eq!(arena["main"], index == 0, "{what}");
                let lost = number(&arena["unread"]);
                let size = number(&arenas(&sound)[index]["top"]);
                // The chunk before is lost too: the top would tell whether it is in use.
                assert!(lost > 0 && lost <= size + 5100, "{what}: {lost} of {size}: {arena:#}");
                assert!(total(&s, "used").abs_diff(total(&sound, "used")) <= lost, "{what}");
            }
        }
    }
}

fn is_243(s: &Value) -> bool {
    s["process"]["libc"]["version"].as_str().expect("a version") >= "2.43"
}

/// Lists that lead astray or round in a circle. The chain of chunks is sound: all of it is read.
#[test]
fn lists() {
    for of in libraries() {
        for (by, index) in [("", 0), ("@0 ", 1)] {
            let Some(mut truth) = planted(of, by) else { return };
            // Small ones fill the tcache, then fastbins where there are any; large ones a bin.
            truth.say(&format!("{by}f 10 2 40"));
            truth.say(&format!("{by}f 2010 2 40"));
            let chunks = truth.say("l");
            let sound = look(&truth);
            // Of freed chunks the numbers are gone: they lie between their neighbours.
            let freed = |i: usize| chunks[2 * (i - 1)] + chunks[2 * (i - 1) + 1] + 8;
            for garbage in [0x4141_4141_4141_4141, 0, 1] {
                for i in [10, 24, 60, 80, 2030] {
                    let at = freed(i);
                    for at in [at, at + 8] {
                        // 1: it points at itself.
                        let word = if garbage == 1 { at & !15 ^ at >> 12 } else { garbage };
                        let before = truth.say(&format!("p {at} {word}"))[0];
                        let s = look(&truth);
                        let what = format!("{} {by}{i} {garbage:#x}", truth.what);
                        let (now, then) = (&arenas(&s)[index], &arenas(&sound)[index]);
                        assert_eq!(now["unread"], 0, "{what}: {now:#}");
                        assert_eq!(now["system"], then["system"], "{what}");
                        let all = |a: &Value| {
                            ["used", "overhead", "tcache", "free"]
                                .map(|f| number(&a[f]))
                                .iter()
                                .sum::<u64>()
                        };
                        assert_eq!(all(now), all(then), "{what}");
                        truth.say(&format!("p {at} {before}"));
                    }
                }
            }
            assert_eq!(look(&truth)["malloc"], sound["malloc"], "{}: mended", truth.what);
        }
    }
}

/// An arena's own bins. Then arenas cannot be told by them; RSS still has an owner for each byte.
#[test]
fn bins() {
    for of in libraries() {
        for (by, index) in [("", 0), ("@0 ", 1)] {
            for (offset, garbage) in [(400, 0x4141_4141), (400, 0), (2160, 0x4141_4140), (2160, 0)]
            {
                let Some(mut truth) = planted(of, by) else { return };
                let sound = look(&truth);
                let state = number(&arenas(&sound)[index]["address"]);
                truth.say(&format!(
                    "p {} {garbage}",
                    state + offset - if is_243(&sound) { 88 } else { 0 }
                ));
                let s = look(&truth);
                let what = format!("{} {by}{offset} {garbage:#x}", truth.what);
                let notes = s["notes"].as_array().expect("notes");
                let said = notes.iter().any(|n| n.as_str().expect("text").contains("malloc"));
                assert!(said, "{what}: {notes:?}");
            }
        }
    }
}
