//! What an anonymous region is, told from the headers that its maker left in it.
//!
//! Owns the recognition of malloc's mmapped chunks and thread heaps, of CPython's frame chunks, of
//! mimalloc's segments and of thread stacks. Each finding is a claim on a range of addresses.

use pydefrag_heap::{OS_PAGE, OwnerKind};
use pydefrag_image::{Image, threads};
use pydefrag_layout::glibc::{self, HEAP_INFO, HEAP_MAX, PTHREAD, PTHREAD_ROBUST_HEAD};
use pydefrag_layout::mimalloc;
use pydefrag_layout::pymalloc;

use crate::malloc::MallocWalk;

/// A range of addresses and what owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) kind: OwnerKind,
    /// Which of several owners of that kind: pymalloc's interpreter, malloc's [`part`].
    pub(crate) part: usize,
}

/// The parts of malloc.
pub(crate) mod part {
    pub(crate) const MAIN_ARENA: usize = 0;
    pub(crate) const THREAD_ARENAS: usize = 1;
    pub(crate) const MMAPPED: usize = 2;
    /// Recognised by its marks, but no part of what was walked.
    pub(crate) const UNWALKED: usize = 3;
}

impl Claim {
    fn new(start: u64, end: u64, kind: OwnerKind) -> Claim {
        Claim { start, end, kind, part: 0 }
    }

    /// Whether a walker sums up what is in it.
    pub(crate) fn is_of_a_walker(&self) -> bool {
        match self.kind {
            OwnerKind::Pymalloc => true,
            OwnerKind::Malloc => matches!(self.part, part::MAIN_ARENA | part::THREAD_ARENAS),
            _ => false,
        }
    }
}

/// Stacks of the threads that pthread_create made, by their control blocks.
pub(crate) fn thread_stacks(image: &Image) -> Vec<Claim> {
    let mut claims = Vec::new();
    for thread in threads(image.pid) {
        let tcb = thread.robust_list_head.wrapping_sub(PTHREAD_ROBUST_HEAD);
        let mut bytes = vec![0; PTHREAD];
        if image.read(tcb, &mut bytes).is_err() {
            continue;
        }
        if let Some((start, size)) = glibc::thread_stack(&bytes, tcb) {
            claims.push(Claim::new(start, start + size, OwnerKind::ThreadStacks));
        }
    }
    claims
}

/// mimalloc's segments within `start..end`, each with what it is marked with.
pub(crate) fn segments(image: &Image, start: u64, end: u64) -> Vec<(Claim, u64)> {
    let mut claims = Vec::new();
    let mut at = start.next_multiple_of(mimalloc::SEGMENT);
    while at < end {
        let segment = read_head(image, at, mimalloc::SEGMENT_HEAD)
            .and_then(|bytes| mimalloc::segment(&bytes, at));
        if let Some(s) = segment {
            claims.push((Claim::new(at, (at + s.size).min(end), OwnerKind::Mimalloc), s.key));
        }
        let size = segment.map_or(0, |s| s.size);
        at += size.max(mimalloc::SEGMENT).next_multiple_of(mimalloc::SEGMENT);
    }
    claims
}

/// Heaps of malloc's thread arenas within `start..end`, by their marks alone.
pub(crate) fn thread_heaps(image: &Image, start: u64, end: u64) -> Vec<Claim> {
    let mut claims = Vec::new();
    let mut at = start.next_multiple_of(HEAP_MAX);
    while at < end {
        let heap = read_head(image, at, HEAP_INFO).and_then(|b| glibc::heap_info(&b, at));
        if let Some(h) = heap {
            let end = (at + h.protected).min(end);
            let kind = OwnerKind::Malloc;
            claims.push(Claim { part: part::UNWALKED, ..Claim::new(at, end, kind) });
        }
        at += HEAP_MAX;
    }
    claims
}

/// The first bytes of a page, if it is resident.
fn read_head(image: &Image, at: u64, length: usize) -> Option<Vec<u8>> {
    image.residency.run_at(at).filter(|r| r.resident)?;
    let mut bytes = vec![0; length];
    image.read(at, &mut bytes).ok()?;
    Some(bytes)
}

/// Pages without a header that are passed over in one gap before it is given up.
const MOST_UNKNOWN: usize = 1024;

/// Chunks that are recognised at the start of pages within a gap `start..end` that nothing claims.
///
/// A header counts where a region must begin: at the gap's start or right behind a recognised chunk.
/// Elsewhere it counts only if its chunk ends where the gap ends, or another header follows it.
pub(crate) fn chunks(image: &Image, start: u64, end: u64, frames: bool) -> Vec<Claim> {
    let mut claims = Vec::new();
    let (mut at, mut anchored, mut unknown) = (start, true, 0);
    let chunk_at = |at: u64| {
        let (length, kind) = read_head(image, at, glibc::STACK_CHUNK_HEAD).and_then(|head| {
            let frame = || glibc::stack_chunk(&head).filter(|_| frames);
            match glibc::mmapped_chunk(&head) {
                Some(length) => Some((length, OwnerKind::Malloc)),
                None => Some((frame()?, OwnerKind::FrameStacks)),
            }
        })?;
        (length <= end - at).then_some((length, kind))
    };
    while at < end && unknown < MOST_UNKNOWN {
        let found = chunk_at(at).filter(|(length, _)| {
            anchored || at + length == end || chunk_at(at + length).is_some()
        });
        match found {
            Some((length, kind)) => {
                let part = if kind == OwnerKind::Malloc { part::MMAPPED } else { 0 };
                claims.push(Claim { part, ..Claim::new(at, at + length, kind) });
                (at, anchored) = (at + length, true);
            }
            None => {
                // Behind pages that were never touched, a new region may begin.
                let next = image.residency.runs_in(at + OS_PAGE, end).find(|r| r.resident);
                let Some(next) = next else { break };
                unknown += 1;
                anchored = false;
                at = next.start;
            }
        }
    }
    claims
}

/// Whether frame chunks exist in this minor version.
pub(crate) fn has_frame_chunks(minor: u8) -> bool {
    minor >= 11
}

/// The claim on an arena of the interpreter with this index.
pub(crate) fn arena(address: u64, geometry: pymalloc::Geometry, interpreter: usize) -> Claim {
    let end = address + geometry.arena_size;
    Claim { part: interpreter, ..Claim::new(address, end, OwnerKind::Pymalloc) }
}

/// The claims on the heaps of a walked malloc.
pub(crate) fn malloc_heaps(walk: &MallocWalk) -> impl Iterator<Item = Claim> + '_ {
    walk.arenas.iter().flat_map(|a| {
        let part = if a.counts.main { part::MAIN_ARENA } else { part::THREAD_ARENAS };
        a.segments
            .iter()
            .map(move |s| Claim { part, ..Claim::new(s.start, s.end, OwnerKind::Malloc) })
    })
}
