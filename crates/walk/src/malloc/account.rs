//! What each byte of an arena is, by residency.
//!
//! A chunk owns the bytes from its size field to the next chunk's. Owns the sums, and the model of what
//! `malloc_trim` gives back: it first merges what is in fastbins with free neighbours, then drops every
//! OS page inside a free chunk save for the chunk's own fields, and the end of the brk heap.

use pydefrag_heap::{Account, MallocArena, OS_PAGE, Tile};
use pydefrag_image::{Image, PageRun};
use pydefrag_layout::malloc::{FREE_CHUNK, SMALLEST_CHUNK};
use rustc_hash::FxHashSet;

use super::ArenaWalk;
use super::arenas::{Arena, Segment};
use super::chunks::Piece;
use super::picture::Picture;

/// Residency of addresses that only grow.
struct Cursor {
    runs: Vec<PageRun>,
    at: usize,
}

impl Cursor {
    /// Resident bytes of a range, and those of them that no other process maps.
    fn resident(&mut self, start: u64, end: u64) -> (u64, u64) {
        while self.runs.get(self.at).is_some_and(|r| r.end <= start) {
            self.at += 1;
        }
        let (mut resident, mut exclusive) = (0, 0);
        for r in self.runs[self.at..].iter().take_while(|r| r.start < end) {
            let bytes = r.end.min(end).saturating_sub(r.start.max(start));
            if r.resident {
                resident += bytes;
                exclusive += if r.shared { 0 } else { bytes };
            }
        }
        (resident, exclusive)
    }
}

/// Free neighbours that malloc_trim would merge: from, to.
type Run = Option<(u64, u64)>;

/// The sums of an arena.
pub(crate) struct Sums<'a> {
    image: &'a Image,
    fast: &'a FxHashSet<u64>,
    cached: &'a FxHashSet<u64>,
    cursor: Cursor,
    /// The same again for trim, which looks back.
    behind: Cursor,
    run: Run,
    /// Where the memory of another user of brk begins, while no chunk was found behind it.
    foreign: Option<u64>,
    main: bool,
    counts: MallocArena,
    account: Account,
    trim: u64,
    exclusive: u64,
    /// Bytes on exclusive pages that must stay.
    needed: u64,
    segments: Vec<Segment>,
    current: Segment,
    picture: Option<Picture>,
}

impl<'a> Sums<'a> {
    pub(crate) fn new(
        image: &'a Image,
        arena: &Arena,
        fast: &'a FxHashSet<u64>,
        cached: &'a FxHashSet<u64>,
        picture: bool,
    ) -> Self {
        let none = || Cursor { runs: Vec::new(), at: 0 };
        Sums {
            image,
            fast,
            cached,
            cursor: none(),
            behind: none(),
            run: None,
            foreign: None,
            main: arena.main,
            counts: MallocArena {
                address: arena.address,
                main: arena.main,
                heaps: arena.segments.len() as u64,
                system: arena.state.system,
                ..Default::default()
            },
            account: Account::default(),
            trim: 0,
            exclusive: 0,
            needed: 0,
            segments: Vec::new(),
            current: Segment {
                start: 0,
                first: None,
                end: 0,
                holds_top: false,
                ends_at_brk: false,
            },
            picture: picture.then(Picture::default),
        }
    }

    /// What lies behind the last tile, up to here.
    fn tile(&mut self, end: u64, tile: Tile) {
        if let Some(p) = &mut self.picture {
            p.tile(end, tile);
        }
    }

    pub(crate) fn begin(&mut self, segment: &Segment) {
        let runs: Vec<_> = self.image.residency.runs_in(segment.start, segment.end).collect();
        self.cursor = Cursor { runs: runs.clone(), at: 0 };
        self.behind = Cursor { runs, at: 0 };
        self.current = *segment;
        if let Some(p) = &mut self.picture {
            p.begin(segment.start);
        }
        // What lies before the first chunk of a thread arena's heap is its own.
        if let Some(first) = segment.first {
            self.metadata(segment.start, first + 8);
            self.counts.overhead += first - segment.start;
            self.tile((first + 8).min(segment.end), Tile::Overhead);
        }
    }

    pub(crate) fn end(&mut self) {
        self.finish_run();
        self.keep(self.current);
        self.foreign = None;
    }

    fn keep(&mut self, segment: Segment) {
        if segment.start < segment.end {
            if let Some(p) = &mut self.picture {
                p.end(segment.end);
            }
            self.segments.push(segment);
        }
    }

    fn metadata(&mut self, start: u64, end: u64) {
        let (resident, exclusive) = self.cursor.resident(start, end);
        self.account.metadata += resident;
        self.exclusive += exclusive;
        self.needed += exclusive;
    }

    pub(crate) fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Chunk { at, size, free } => self.chunk(at, size, free),
            Piece::Top { at, size } => self.top(at, size),
            Piece::Fence { at, size } => {
                self.finish_run();
                let end = (at + size).min(self.current.end);
                self.metadata(at + 8, end);
                self.tile(end, Tile::Overhead);
                self.counts.overhead += size;
            }
            Piece::Lost { at, size } => {
                self.finish_run();
                let end = self.next(at + size);
                let (resident, _) = self.cursor.resident(at + 8, end);
                self.tile(end, Tile::Unread);
                self.account.unread += resident;
            }
            // The word before the first chunk's size is nobody's.
            Piece::Start { at } if self.current.first.is_none() => {
                // glibc counts what others took of brk between its chunks as the arena's.
                self.counts.overhead += self.foreign.take().map_or(0, |from| at - from);
                self.current.start = at;
                if let Some(p) = &mut self.picture {
                    p.begin(at);
                }
                self.metadata(at, self.next(at));
                self.tile(self.next(at), Tile::Overhead);
            }
            Piece::Start { .. } => {}
            Piece::Foreign { at } => {
                self.finish_run();
                self.keep(Segment { end: at, ..self.current });
                self.current.start = self.current.end;
                self.foreign = Some(at);
            }
        }
    }

    /// A chunk ends behind the first word of the next, or with its heap.
    fn next(&self, at: u64) -> u64 {
        (at + 8).min(self.current.end)
    }

    fn chunk(&mut self, at: u64, size: u64, free: bool) {
        let (start, end) = (at + 8, self.next(at + size));
        if free {
            self.counts.free += size;
            self.counts.free_chunks += 1;
            self.counts.largest_free = self.counts.largest_free.max(size);
            let (resident, exclusive) = self.cursor.resident(start, end);
            self.exclusive += exclusive;
            let (first, last) = droppable(at, size);
            let holes = if first < last { self.cursor.resident(first, last).0 } else { 0 };
            self.tile(end, Tile::Free);
            if let Some(p) = self.picture.as_mut().filter(|_| holes > 0) {
                p.holes.push((first, last));
            }
            self.account.holes += holes;
            self.account.pinned_free += resident - holes;
            return self.extend_run(at, size);
        }
        let (head, head_exclusive) = self.cursor.resident(start, start + 8);
        let (body, body_exclusive) = self.cursor.resident(start + 8, end);
        self.exclusive += head_exclusive + body_exclusive;
        if self.fast.contains(&at) {
            self.counts.free += size;
            self.counts.fastbins += size;
            self.account.cached += head + body;
            self.tile(end, Tile::Fast);
            return self.extend_run(at, size);
        }
        self.finish_run();
        self.account.metadata += head;
        self.counts.overhead += 8;
        self.needed += head_exclusive;
        if self.cached.contains(&at) {
            self.counts.tcache += size - 8;
            self.account.cached += body;
            self.tile(end, Tile::Cached);
        } else {
            self.tile(end, Tile::Used);
            self.counts.used += size - 8;
            self.counts.used_chunks += 1;
            self.account.live += body;
            self.account.live_not_resident += end - start - 8 - body;
            self.needed += body_exclusive;
        }
    }

    fn top(&mut self, at: u64, size: u64) {
        // Behind the main arena's is nothing of malloc's; behind another, at most what is lost.
        let upto = if self.main { (at + size).min(self.current.end) } else { self.next(at + size) };
        let (resident, exclusive) = self.cursor.resident(at + 8, upto);
        self.exclusive += exclusive;
        self.account.top += resident;
        self.tile(upto, Tile::Top);
        self.counts.free += size;
        self.counts.top = size;
        // A free neighbour is merged into it, and only the main arena's is trimmed.
        let from = self.run.take().map_or(at, |(from, _)| from);
        let end = at + size;
        if self.main && self.current.ends_at_brk && end == self.current.end {
            let area = (end - from).saturating_sub(SMALLEST_CHUNK + 1);
            self.trimmed(end - (area & !(OS_PAGE - 1)), end);
        }
    }

    fn extend_run(&mut self, at: u64, size: u64) {
        self.run = match self.run {
            Some((from, to)) if to == at => Some((from, at + size)),
            _ => {
                self.finish_run();
                Some((at, at + size))
            }
        };
    }

    fn finish_run(&mut self) {
        let Some((from, to)) = self.run.take() else { return };
        let (first, last) = droppable(from, to - from);
        if first < last {
            self.trimmed(first, last);
        }
    }

    fn trimmed(&mut self, first: u64, end: u64) {
        let (_, exclusive) = self.behind.resident(first, end);
        self.trim += exclusive;
        if let Some(p) = self.picture.as_mut().filter(|_| exclusive > 0) {
            p.trimmed.push((first, end));
        }
    }

    pub(crate) fn finish(mut self, broken: u64) -> ArenaWalk {
        let c = &mut self.counts;
        let known = c.used + c.overhead + c.tcache + c.free;
        // A running program may have grown the arena since its state was read.
        c.system = c.system.max(known);
        c.unread = c.system - known;
        c.resident = self.account.total();
        // A top chunk that ends too early leads to no place that breaks.
        let broken = broken.max(u64::from(c.unread > 0));
        let kept = self.needed.next_multiple_of(OS_PAGE);
        ArenaWalk {
            ideal: self.trim.max(self.exclusive.saturating_sub(kept)),
            counts: self.counts,
            account: self.account,
            trim: self.trim,
            broken,
            segments: self.segments,
            picture: self.picture,
        }
    }
}

/// The OS pages that malloc_trim drops of a free chunk: from, to.
fn droppable(at: u64, size: u64) -> (u64, u64) {
    let first = (at + FREE_CHUNK).next_multiple_of(OS_PAGE);
    let length = (at + size).saturating_sub(first) & !(OS_PAGE - 1);
    (first, first + length)
}
