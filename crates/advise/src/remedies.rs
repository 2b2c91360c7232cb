//! Remedies: what helps against fragmentation and against what takes more than it must, most bytes first,
//! with a way to do it today.
//!
//! Owns when each is named and in which words. A gain that was not measured is `None`, and then the
//! command says how to measure it.

use pydefrag_heap::{
    Explanation, MallocArena, OwnerKind, Remedy, Saving, Snapshot, StructureChange,
};

use crate::thresholds::{
    LARGE_CHUNK, LEAST_BYTES, LEAST_REMEDY, MOST_SAVINGS, THREAD_ARENAS_SHARE,
};
use crate::words::{share, short};

/// What helps a fragmented process.
pub(crate) fn of_fragmentation(snapshot: &Snapshot) -> Vec<Remedy> {
    let all =
        [trim(snapshot), purge(snapshot), rebuild(snapshot), arenas(snapshot), threshold(snapshot)];
    let mut named: Vec<_> = all.into_iter().flatten().collect();
    named.extend(of_objects(snapshot, LEAST_REMEDY));
    // Those whose gain is not known stand last.
    named.sort_by_key(|r| std::cmp::Reverse(r.bytes));
    named
}

/// What the program's objects would give: the largest changes of structure that save at least so much,
/// garbage, and copies.
pub(crate) fn of_objects(snapshot: &Snapshot, least: u64) -> Vec<Remedy> {
    let Some(e) = &snapshot.explanation else { return Vec::new() };
    let copies = copies(e);
    // What interning all copies gives contains what interning some of them does.
    let counted = |s: &&Saving| {
        s.saved >= least && !(copies.is_some() && s.change == StructureChange::Intern)
    };
    let mut savings: Vec<&Saving> = e.savings.iter().filter(counted).collect();
    savings.sort_by_key(|s| std::cmp::Reverse(s.saved));
    let mut named: Vec<_> = savings.into_iter().take(MOST_SAVINGS).map(saving).collect();
    named.extend(garbage(e));
    named.extend(copies);
    named.sort_by_key(|r| std::cmp::Reverse(r.bytes));
    named
}

fn saving(saving: &Saving) -> Remedy {
    let of = short(&saving.of);
    Remedy {
        name: match saving.change {
            StructureChange::Slots => format!("give {of} __slots__"),
            StructureChange::Array => format!("keep {of} in an array"),
            StructureChange::Tuple => format!("make {of} tuples"),
            StructureChange::Rebuild => format!("rebuild {of}"),
            StructureChange::Intern => format!("intern {of}"),
        },
        bytes: Some(saving.saved),
        command: saving.how.clone(),
    }
}

fn garbage(e: &Explanation) -> Option<Remedy> {
    (e.garbage.bytes >= LEAST_BYTES).then(|| Remedy {
        name: "collect garbage".into(),
        bytes: Some(e.garbage.bytes),
        command: "in the process: import gc; gc.collect()".into(),
    })
}

fn copies(e: &Explanation) -> Option<Remedy> {
    (e.duplicates.copies.bytes >= LEAST_BYTES).then(|| Remedy {
        name: "keep equal strings once".into(),
        bytes: Some(e.duplicates.copies.bytes),
        command: "sys.intern(text), or a dict of one's own, where they are made".into(),
    })
}

/// What helps to find out what grows.
pub(crate) fn of_growth() -> Vec<Remedy> {
    vec![Remedy {
        name: "see what grows".into(),
        bytes: None,
        command: "pydefrag snapshot PID -o A.pdsnap; later pydefrag diff A.pdsnap PID".into(),
    }]
}

fn trim(snapshot: &Snapshot) -> Option<Remedy> {
    let bytes = snapshot.ladder.trim.filter(|b| *b > LEAST_REMEDY)?;
    Some(Remedy {
        name: "trim malloc".into(),
        bytes: Some(bytes),
        command: fix(snapshot, " --level trim").unwrap_or_else(|| {
            "in the process: import ctypes; ctypes.CDLL(None).malloc_trim(0)".into()
        }),
    })
}

fn purge(snapshot: &Snapshot) -> Option<Remedy> {
    let ladder = snapshot.ladder;
    let bytes = ladder.purge?.saturating_sub(ladder.trim.unwrap_or(0));
    (bytes > LEAST_REMEDY).then(|| Remedy {
        name: "purge pymalloc".into(),
        bytes: Some(bytes),
        command: fix(snapshot, "").unwrap_or_else(|| {
            "start it with pydefrag run --fix, or import pydefrag in it and call pydefrag.purge()"
                .into()
        }),
    })
}

/// The command that heals this process as it is: CPython 3.14 and later lets the agent in.
fn fix(snapshot: &Snapshot, level: &str) -> Option<String> {
    let python = snapshot.process.python.as_ref()?;
    let minor: u32 = python.version.split('.').nth(1)?.parse().ok()?;
    (minor >= 14).then(|| format!("pydefrag fix {}{level}", snapshot.process.pid))
}

/// Moving what survives is no command of this version. What would come back is bounded by what is free there, and by
/// perfect packing.
fn rebuild(snapshot: &Snapshot) -> Option<Remedy> {
    let pymalloc = snapshot.owners.iter().filter(|o| o.kind == OwnerKind::Pymalloc);
    let free =
        pymalloc.filter_map(|o| o.account).fold(0, |sum: u64, a| sum.saturating_add(a.free()));
    let ladder = snapshot.ladder;
    let ideal = ladder.ideal?.saturating_sub(ladder.trim.unwrap_or(0));
    let bytes = free.min(ideal);
    (bytes > LEAST_REMEDY).then(|| Remedy {
        name: "rebuild pymalloc's survivors".into(),
        bytes: Some(bytes),
        command: "copy what survives and drop the old, or restart the process".into(),
    })
}

/// Free bytes of an arena, its threads' caches included.
fn free(arena: &MallocArena) -> u64 {
    arena.free.saturating_add(arena.tcache)
}

fn arenas(snapshot: &Snapshot) -> Option<Remedy> {
    let arenas = &snapshot.malloc.as_ref()?.arenas;
    let sum = |main: bool| {
        let some = arenas.iter().filter(|a| a.main == main);
        some.fold((0usize, 0u64), |(n, sum), a| (n + 1, sum.saturating_add(free(a))))
    };
    let ((_, main), (threads, bytes)) = (sum(true), sum(false));
    let worth = threads >= 2 && bytes >= LEAST_BYTES;
    (worth && share(bytes, bytes.saturating_add(main)) > THREAD_ARENAS_SHARE).then(|| Remedy {
        name: "fewer malloc arenas".into(),
        bytes: None,
        command: "start it with MALLOC_ARENA_MAX=2; compare with pydefrag run".into(),
    })
}

fn threshold(snapshot: &Snapshot) -> Option<Remedy> {
    let main = snapshot.malloc.as_ref()?.arenas.iter().find(|a| a.main)?;
    (main.free >= LEAST_BYTES && main.largest_free >= LARGE_CHUNK).then(|| Remedy {
        name: "pin malloc's mmap threshold".into(),
        bytes: None,
        command: "start it with MALLOC_MMAP_THRESHOLD_=131072; compare with pydefrag run".into(),
    })
}
