//! glibc's malloc walked: every chunk of every arena, joined with residency OS page by OS page.
//!
//! Data flows one way: `arenas` (where they are, found without symbols) → `tcache` (which chunks only
//! look used, and whose arena is whose) → `chunks` (the chain of each heap) → `account` (what each
//! resident byte is), and `picture` where a map is wanted. `reader` reads, in large pieces where chunks follow each other and page by page
//! where a list jumps. `free` counts only what is free, for light looks.
//!
//! Invariant: for an arena, `used + overhead + tcache + free + unread = system`, and its account sums to
//! its resident bytes. What cannot be followed, torn or corrupted, is counted as unread, never guessed.

mod account;
mod arenas;
mod chunks;
mod free;
mod picture;
pub(crate) mod reader;
mod tcache;

use pydefrag_heap::{Account, ArenaThread, MallocArena};
use pydefrag_image::{Image, ReadError, Thread, threads};
use pydefrag_layout::malloc::CHUNK_HEADER;

pub(crate) use arenas::{Arenas, Segment, find};
pub(crate) use free::free;
pub(crate) use picture::Picture;

use account::Sums;
use chunks::{Piece, follow};
use reader::Pages;

use crate::snapshot::Wanted;

/// What an arena holds.
#[derive(Debug)]
pub(crate) struct ArenaWalk {
    pub(crate) counts: MallocArena,
    pub(crate) account: Account,
    /// Bytes that malloc_trim gives back.
    pub(crate) trim: u64,
    /// Bytes that perfect packing gives back, at least `trim`.
    pub(crate) ideal: u64,
    /// Places where chunks could not be followed.
    pub(crate) broken: u64,
    pub(crate) segments: Vec<Segment>,
    /// Where a map is wanted.
    pub(crate) picture: Option<Picture>,
}

/// malloc, walked.
#[derive(Debug)]
pub(crate) struct MallocWalk {
    pub(crate) arenas: Vec<ArenaWalk>,
    /// Chunks in use, where they were wanted: address and bytes as their users see them.
    pub(crate) used: Vec<(u64, u64)>,
}

/// Walks all arenas; chunks in use are listed one by one where objects are wanted. The error is a process
/// that is gone or forbids reading.
pub(crate) fn walk(image: &Image, found: &Arenas, wanted: Wanted) -> Result<MallocWalk, ReadError> {
    let threads = threads(image.pid);
    let mut pages = Pages::new(image);
    let cached = tcache::cached(&mut pages, found, &threads)?;
    let (mut arenas, mut used) = (Vec::new(), Vec::new());
    for arena in &found.arenas {
        let fast = chunks::fastbins(&mut pages, arena, found.safe_linking)?;
        let mut sums = Sums::new(image, arena, &fast, &cached.chunks, wanted.map);
        let mut broken = 0;
        for segment in &arena.segments {
            sums.begin(segment);
            follow(image, &mut pages, arena, segment, &mut |piece| {
                broken += u64::from(matches!(piece, Piece::Lost { .. }));
                if let Piece::Chunk { at, size, free: false } = piece
                    && wanted.objects
                    && !fast.contains(&at)
                    && !cached.chunks.contains(&at)
                {
                    used.push((at + CHUNK_HEADER, size - 8));
                }
                sums.add(piece);
            })?;
            sums.end();
        }
        let users: Vec<&Thread> =
            cached.arena_of.iter().filter(|(_, a)| *a == arena.address).map(|(t, _)| *t).collect();
        let mut walked = sums.finish(broken);
        walked.counts.threads =
            users.iter().map(|t| ArenaThread { tid: t.tid, name: t.name.clone() }).collect();
        arenas.push(walked);
    }
    Ok(MallocWalk { arenas, used })
}

/// The arenas whose main one is at a known address, each with its account: for fuzzing, as nothing but a
/// C library's data tells where that is.
pub fn malloc_at(
    image: &Image,
    main: u64,
    safe_linking: bool,
) -> Result<Vec<(MallocArena, Account)>, ReadError> {
    let forms = pydefrag_layout::malloc::FORMS;
    let of = |form| arenas::of_ring(image, main, form, safe_linking);
    let Some(found) = forms.into_iter().find_map(of) else { return Ok(Vec::new()) };
    free(image, &found)?;
    let walked = walk(image, &found, Wanted { objects: true, map: true })?;
    Ok(walked.arenas.into_iter().map(|a| (a.counts, a.account)).collect())
}
