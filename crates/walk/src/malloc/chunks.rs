//! The chain of chunks through a heap.
//!
//! A chunk's size leads to the next one, whose PREV_INUSE bit tells whether the first is in use. Owns the
//! validation of that chain: where it breaks it is read again, since a live program changes it under our
//! eyes; where it stays broken, the next place is sought from which it holds for a number of chunks, and
//! what lies between is lost.

use pydefrag_image::{Image, ReadError};
use pydefrag_layout::malloc::{Chunk, FENCEPOST, SMALLEST_CHUNK, chunk, reveal};
use rustc_hash::FxHashSet;

use super::arenas::{Arena, Ranges, Segment};
use super::reader::{Pages, Window};

/// What a stretch of a heap is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A chunk; chunks in caches look as if in use.
    Chunk { at: u64, size: u64, free: bool },
    /// The top chunk: the last of the arena.
    Top { at: u64, size: u64 },
    /// Fenceposts.
    Fence { at: u64, size: u64 },
    /// A stretch of chunks begins.
    Start { at: u64 },
    /// What follows is not the arena's own, up to the next start: another user of brk has it.
    Foreign { at: u64 },
    /// What could not be followed.
    Lost { at: u64, size: u64 },
}

const TRIES: u32 = 20;
/// A segment that breaks more often is garbage: what is left of it is lost.
const MOST_BREAKS: u32 = 1024;
/// So many chunks in a row are no accident.
const SURE: u32 = 8;

/// Follows the chunks of a segment from its first to its end, without gaps.
pub(crate) fn follow(
    image: &Image,
    pages: &mut Pages<'_>,
    arena: &Arena,
    segment: &Segment,
    each: &mut impl FnMut(Piece),
) -> Result<(), ReadError> {
    let mut window = Window::new(image, segment.end);
    let kind = Kind { main: arena.main, top: arena.state.top, segment: *segment };
    let first = match segment.first {
        Some(first) => Some(first),
        None => kind.seek(&mut window, pages, segment.start)?,
    };
    each(Piece::Start { at: first.unwrap_or(segment.start) });
    let Some(mut at) = first else {
        each(kind.lost(segment.start, segment.end));
        return Ok(());
    };
    let (mut tries, mut breaks) = (0, 0);
    loop {
        let here = kind.header(&mut window, at)?;
        match kind.step(&mut window, at, here)? {
            Step::Chunk { size, free } => {
                each(Piece::Chunk { at, size, free });
                (at, tries) = (at + size, 0);
            }
            Step::Top(size) => {
                each(Piece::Top { at, size });
                // Behind the top lies what another user of brk took; a thread's heap ends with it.
                let end = at + size;
                match kind.main || end == segment.end {
                    true => kind.foreign(end, each),
                    false => each(kind.lost(end, segment.end)),
                }
                return Ok(());
            }
            Step::Fence(size) => {
                each(Piece::Fence { at, size });
                at += size;
                if at >= segment.end {
                    return Ok(());
                }
                // Another user of brk came between: malloc goes on behind its memory.
                kind.foreign(at, each);
                let Some(next) = kind.seek(&mut window, pages, at)? else { return Ok(()) };
                each(Piece::Start { at: next });
                at = next;
            }
            Step::Broken if tries < TRIES => {
                tries += 1;
                window.load(at)?;
            }
            Step::Broken => {
                pages.forget();
                breaks += 1;
                let next = match breaks <= MOST_BREAKS {
                    true => kind.seek(&mut window, pages, at + 16)?,
                    false => None,
                };
                let Some(next) = next else {
                    each(kind.lost(at, segment.end));
                    return Ok(());
                };
                each(kind.lost(at, next));
                (at, tries) = (next, 0);
            }
        }
    }
}

enum Step {
    Chunk { size: u64, free: bool },
    Top(u64),
    Fence(u64),
    Broken,
}

/// What holds for the chunks of a segment.
struct Kind {
    main: bool,
    top: u64,
    segment: Segment,
}

impl Kind {
    fn lost(&self, at: u64, end: u64) -> Piece {
        Piece::Lost { at, size: end.saturating_sub(at) }
    }

    fn foreign(&self, at: u64, each: &mut impl FnMut(Piece)) {
        if at < self.segment.end {
            each(Piece::Foreign { at });
        }
    }

    /// The header at `at`, if it may be one.
    fn valid(&self, at: u64, (previous, size): (u64, u64)) -> Option<Chunk> {
        let c = chunk(previous, size)?;
        let fence = c.size <= FENCEPOST && c.previous_in_use;
        let fits = at.checked_add(c.size)? <= self.segment.end;
        let whole = c.size >= SMALLEST_CHUNK || fence || c.size == FENCEPOST;
        (fits && whole && !(self.main && c.thread_arena)).then_some(c)
    }

    fn header(&self, window: &mut Window<'_>, at: u64) -> Result<Option<Chunk>, ReadError> {
        if at + 16 > self.segment.end {
            return Ok(None);
        }
        Ok(window.pair(at)?.and_then(|words| self.valid(at, words)))
    }

    /// What the chunk at `at` is, by itself and by the next.
    fn step(
        &self,
        window: &mut Window<'_>,
        at: u64,
        here: Option<Chunk>,
    ) -> Result<Step, ReadError> {
        let Some(c) = here else { return Ok(Step::Broken) };
        let next = at + c.size;
        // What ends the heap is the top too, which the program has moved since it was told.
        let last = at == self.top || next == self.segment.end;
        if last && self.segment.holds_top && c.size >= SMALLEST_CHUNK {
            return Ok(Step::Top(c.size));
        }
        if c.size <= FENCEPOST {
            return Ok(self.fence(window, at, c)?.map_or(Step::Broken, Step::Fence));
        }
        Ok(match self.header(window, next)? {
            Some(n) if n.previous_in_use => Step::Chunk { size: c.size, free: false },
            Some(n) if n.previous_size == c.size => Step::Chunk { size: c.size, free: true },
            _ => Step::Broken,
        })
    }

    /// Bytes of the fenceposts that begin with `c`: 16 and 16 end a stretch of brk, 16 and 0, or 0
    /// alone, a heap of a thread arena.
    fn fence(&self, window: &mut Window<'_>, at: u64, c: Chunk) -> Result<Option<u64>, ReadError> {
        let (second, rest) = (at + FENCEPOST, self.segment.end - at);
        if c.size == 0 {
            return Ok((!self.main && rest == FENCEPOST).then_some(rest));
        }
        let last = if self.main { FENCEPOST } else { 0 };
        let sound =
            self.header(window, second)?.is_some_and(|n| n.size == last && n.previous_in_use);
        Ok((sound && (self.main || rest == 2 * FENCEPOST)).then_some(2 * FENCEPOST))
    }

    /// The first place from `from` on where a number of chunks follow each other.
    fn seek(
        &self,
        window: &mut Window<'_>,
        pages: &mut Pages<'_>,
        from: u64,
    ) -> Result<Option<u64>, ReadError> {
        let mut at = from.next_multiple_of(16);
        while at + SMALLEST_CHUNK <= self.segment.end {
            let Some(words) = window.pair(at)? else {
                // Not to be read: on to the next page.
                at = (at + 16).next_multiple_of(4096);
                continue;
            };
            let whole = self.valid(at, words).filter(|c| c.size >= SMALLEST_CHUNK);
            if whole.is_some_and(|c| c.previous_in_use || at > self.segment.start)
                && self.holds(pages, at)?
            {
                return Ok(Some(at));
            }
            at += 16;
        }
        Ok(None)
    }

    fn holds(&self, pages: &mut Pages<'_>, from: u64) -> Result<bool, ReadError> {
        let mut at = from;
        let mut previous = None;
        for _ in 0..SURE {
            if at + 16 > self.segment.end {
                return Ok(false);
            }
            let (Some(a), Some(b)) = (pages.word(at)?, pages.word(at + 8)?) else {
                return Ok(false);
            };
            let Some(c) = self.valid(at, (a, b)) else { return Ok(false) };
            if previous.is_some_and(|size| !c.previous_in_use && c.previous_size != size) {
                return Ok(false);
            }
            let end = at + c.size == self.segment.end || at == self.top;
            if c.size <= FENCEPOST || end {
                // The end is as good as many chunks, if something led there.
                return Ok(at == self.top || previous.is_some());
            }
            previous = Some(c.size);
            at += c.size;
        }
        Ok(true)
    }
}

/// Addresses of the chunks in an arena's fastbins.
pub(crate) fn fastbins(
    pages: &mut Pages<'_>,
    arena: &Arena,
    safe_linking: bool,
) -> Result<FxHashSet<u64>, ReadError> {
    let mut chunks = FxHashSet::default();
    let ranges = Ranges::of(arena.segments.iter());
    let most = (ranges.bytes() / SMALLEST_CHUNK) as usize;
    for head in arena.state.fastbins {
        let mut at = head;
        let possible = |at: u64| at.is_multiple_of(16) && ranges.contains(at);
        while possible(at) && chunks.len() < most && chunks.insert(at) {
            let Some(next) = pages.word(at + 16)? else { break };
            at = reveal(at + 16, next, safe_linking);
        }
    }
    Ok(chunks)
}
