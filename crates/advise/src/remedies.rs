//! Remedies: what helps against fragmentation, most bytes first, with a way to do it today.
//!
//! Owns when each is named and in which words. A gain that was not measured is `None`, and then the
//! command says how to measure it.

use pydefrag_heap::{MallocArena, OwnerKind, Remedy, Snapshot};

use crate::thresholds::{LARGE_CHUNK, LEAST_BYTES, LEAST_REMEDY, THREAD_ARENAS_SHARE};
use crate::words::share;

/// What helps a fragmented process.
pub(crate) fn of_fragmentation(snapshot: &Snapshot) -> Vec<Remedy> {
    let all = [trim(snapshot), rebuild(snapshot), arenas(snapshot), threshold(snapshot)];
    let mut named: Vec<_> = all.into_iter().flatten().collect();
    // Those whose gain is not known stand last.
    named.sort_by_key(|r| std::cmp::Reverse(r.bytes));
    named
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
        command: "in the process: import ctypes; ctypes.CDLL(None).malloc_trim(0)".into(),
    })
}

/// No command of this version returns pymalloc's free pools. What would come back is bounded by
/// what is free there, and by perfect packing.
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
