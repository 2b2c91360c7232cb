//! An independent recount of malloc: by the lists of what is free, not by the chain of chunks.
//!
//! Shares no code with the walker. Of a snapshot it takes where each `malloc_state` is. What is in bins,
//! in fastbins and at the top is marked byte by byte; each OS page is looked up in `/proc/PID/pagemap`;
//! all bytes that no list holds are in use, in a tcache, or malloc's own. Heaps of thread arenas are all
//! 64 MiB-aligned mappings whose first word is one of the arenas. The target must be at rest.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use super::{arenas, number};

const PAGE: u64 = 4096;
const HEAP: u64 = 64 << 20;

/// Resident bytes of the main or of the thread arenas.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recount {
    pub(super) resident: u64,
    /// Whole OS pages inside free chunks.
    pub(super) holes: u64,
    /// The rest of free chunks.
    pub(super) pinned_free: u64,
    pub(super) top: u64,
    pub(super) fastbins: u64,
}

struct Memory {
    memory: File,
    pages: File,
}

impl Memory {
    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, at).unwrap_or_else(|e| panic!("{at:#x}: {e}"));
        u64::from_le_bytes(word)
    }

    /// Whether each OS page of a range is present.
    fn present(&self, start: u64, end: u64) -> Vec<bool> {
        let mut entries = vec![0; ((end - start) / PAGE * 8) as usize];
        self.pages.read_exact_at(&mut entries, start / PAGE * 8).expect("pagemap");
        entries.chunks(8).map(|e| e[7] & 0x80 != 0).collect()
    }
}

/// The main arena, and all thread arenas together.
pub(super) fn recount(pid: u32, s: &Value) -> [Recount; 2] {
    let file = |name: &str| File::open(format!("/proc/{pid}/{name}")).expect("a process");
    let m = Memory { memory: file("mem"), pages: file("pagemap") };
    let version = s["process"]["libc"]["version"].as_str().expect("a version of glibc");
    let minor: u32 = version.strip_prefix("2.").expect("glibc 2").parse().expect("a number");
    let bins = if minor >= 43 { 24 } else { 112 };
    let (mut ranges, states) = (Vec::new(), arenas(s).iter().map(|a| number(&a["address"])));
    let states: Vec<u64> = states.collect();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
    for line in maps.lines().filter(|l| l.contains(" rw-p ")) {
        let (start, rest) = line.split_once('-').expect("a range");
        let hex = |s| u64::from_str_radix(s, 16).expect("hex");
        let (start, end) = (hex(start), hex(rest.split(' ').next().expect("an end")));
        if line.ends_with("[heap]") {
            ranges.push((0, start, end));
        }
        // Neighbours may be one mapping.
        for at in (start.next_multiple_of(HEAP)..end).step_by(HEAP as usize) {
            if line.split_whitespace().count() == 5 && states.contains(&m.word(at)) {
                ranges.push((1, at, at + m.word(at + 16)));
            }
        }
    }
    let mut free = HashMap::new();
    let mut kept = HashMap::new();
    let mut tops = HashMap::new();
    for state in states {
        tops.insert(m.word(state + bins - 16), ());
        for i in 0..127 {
            let bin = state + bins + 16 * i - 16;
            let mut at = m.word(bin + 16);
            while at != bin {
                free.insert(at, ());
                at = m.word(at + 16);
            }
        }
        for i in (0..10).filter(|_| minor < 43) {
            let mut at = m.word(state + 16 + 8 * i);
            while at != 0 {
                kept.insert(at, ());
                let link = m.word(at + 16);
                at = if minor >= 32 { link ^ (at + 16) >> 12 } else { link };
            }
        }
    }
    let mut sums = [Recount::default(), Recount::default()];
    for (which, start, end) in ranges {
        let mut marks = vec![b' '; (end - start) as usize];
        let mut droppable = HashSet::new();
        for (chunks, mark) in [(&free, b'f'), (&kept, b'c'), (&tops, b't')] {
            for at in chunks.keys().filter(|at| (start..end).contains(*at)) {
                let size = m.word(at + 8) & !7;
                let (from, to) = (at + 8 - start, (at + size + 8).min(end) - start);
                let marked = &mut marks[from as usize..to as usize];
                assert!(marked.iter().all(|m| *m == b' '), "{at:#x} is in two lists");
                marked.fill(mark);
                if mark == b'f' {
                    let pages = (at + 48).next_multiple_of(PAGE)..(at + size) / PAGE * PAGE;
                    droppable.extend(pages.step_by(PAGE as usize));
                }
            }
        }
        let sum = &mut sums[which];
        for (k, present) in m.present(start, end).into_iter().enumerate() {
            if !present {
                continue;
            }
            let page = &marks[k * PAGE as usize..(k + 1) * PAGE as usize];
            let has = |mark| page.iter().filter(|m| **m == mark).count() as u64;
            sum.resident += PAGE;
            sum.top += has(b't');
            sum.fastbins += has(b'c');
            if droppable.contains(&(start + k as u64 * PAGE)) {
                sum.holes += PAGE;
            } else {
                sum.pinned_free += has(b'f');
            }
        }
    }
    sums
}
