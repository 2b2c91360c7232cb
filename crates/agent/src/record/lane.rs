//! The lanes: buffers that events are written to, one for whoever holds the GIL, and one, under a lock, for whoever does
//! not. Where there is no GIL at all, the first is everybody's, under the other's lock.
//!
//! Owns their order. A lane of events is in the order in which they happened: the GIL sees to the first one's, the lock to
//! the other's. Where one event belongs among the other lane's is told by a stamp: how many events the GIL's lane had. A
//! free is written before the block goes, and an allocation after it came, so whoever gets a block from another thread finds its
//! events in order.
//!
//! Every two kilobytes or so the clock is looked at; a full buffer is written to the file by whoever filled it.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pydefrag_trace::Model;
use pydefrag_trace::chunk::{BESIDE, CHUNK_HEAD, Chunk, Codec, GIL, Tag};
use pydefrag_trace::encode::{self, ROOM, Room};
use pydefrag_trace::event::{Domain, NO_GIL, escape};

use super::codes;
use super::own::{Own, busy, own, tid};
use super::python;
use super::state::{self, now, state};
use super::{start, wait};

/// A buffer, with the chunk's head before its events: small, for it takes room in the caches that the program works in.
const BUFFER: usize = 16 << 10;
/// Bytes of events between two looks at the clock.
const TICK: usize = 2 << 10;
/// No thread's state, and no thread's id.
pub(super) const NOBODY: u64 = u64::MAX;
/// Between two samples of RSS.
const RSS_NS: u64 = 25_000_000;

/// A lane. What every event needs lies in one cache line: these fields up to the model, and the model's first.
#[repr(C, align(64))]
pub(super) struct Lane {
    /// Where the next event goes.
    at: *mut u8,
    /// From here on, the clock is looked at or the buffer is full.
    soft: *mut u8,
    /// Allocations and frees that were written to it.
    events: AtomicU64,
    /// The thread whose events are being written: its `PyThreadState`, or the kernel's id of it where no GIL is held; at first,
    /// and when its state has gone, [`NOBODY`].
    pub(super) thread: u64,
    pub(super) model: Model,
    buffer: *mut u8,
    number: u16,
    chunks: u32,
    ns: u64,
    rss_ns: u64,
    stamp: u64,
}

/// A place that one thread at a time touches, by a rule that the compiler does not know.
pub(super) struct Shared<T>(UnsafeCell<T>);

// SAFETY: who touches it says why it is alone.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) const fn new(value: T) -> Self {
        Shared(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(super) const fn get(&self) -> *mut T {
        self.0.get()
    }

    /// Puts another value there. In a fork, whose parent's other threads may have been at work on it and are not there any more,
    /// what it was is left where it is.
    ///
    /// # Safety
    ///
    /// Nobody else touches it now.
    pub(super) unsafe fn renew(&self, value: T, forked: bool) {
        // SAFETY: the caller's promise.
        unsafe {
            match forked {
                true => std::ptr::write(self.get(), value),
                false => *self.get() = value,
            }
        }
    }
}

const fn lane(number: u16) -> Lane {
    Lane {
        at: std::ptr::null_mut(),
        soft: std::ptr::null_mut(),
        buffer: std::ptr::null_mut(),
        events: AtomicU64::new(0),
        thread: NOBODY,
        number,
        chunks: 0,
        ns: 0,
        rss_ns: 0,
        stamp: 0,
        model: Model::new(),
    }
}

static GIL_LANE: Shared<Lane> = Shared::new(lane(GIL));
static BESIDE_LANE: Shared<Lane> = Shared::new(lane(BESIDE));
static BESIDE_LOCK: AtomicBool = AtomicBool::new(false);

/// The lane of whoever holds the GIL.
#[inline(always)]
pub(super) fn gil() -> *mut Lane {
    GIL_LANE.get()
}

/// Gives both lanes buffers, and makes them empty: at the begin, and in a fork, which has lost whoever held the lock.
pub(super) fn reset(forked: bool) -> Result<(), String> {
    while BESIDE_LOCK.swap(true, Ordering::Acquire) && !forked {
        std::thread::yield_now();
    }
    let done = renew();
    BESIDE_LOCK.store(false, Ordering::Release);
    done
}

fn renew() -> Result<(), String> {
    for (place, number) in [(gil(), GIL), (BESIDE_LANE.get(), BESIDE)] {
        // SAFETY: no other thread writes yet, or any more.
        let lane = unsafe { &mut *place };
        let buffer = match lane.buffer.is_null() {
            true => state::pages(BUFFER)?,
            false => lane.buffer,
        };
        *lane = Lane { buffer, ..self::lane(number) };
        lane.clear();
    }
    Ok(())
}

/// Runs `work` with the GIL's lane where this thread `has_gil`, else with the lane beside.
pub(super) fn on(own: *mut Own, has_gil: bool, work: impl FnOnce(&mut Lane)) {
    match has_gil {
        // SAFETY: the GIL.
        true => busy(own, || work(unsafe { &mut *gil() })),
        false => beside(own, work),
    }
}

/// Runs `work` with the lane of those who do not have the GIL.
pub(super) fn beside(own: *mut Own, work: impl FnOnce(&mut Lane)) {
    busy(own, || {
        while BESIDE_LOCK.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        let alone = python::is_free_threaded();
        // SAFETY: the lock.
        let lane = unsafe { &mut *if alone { gil() } else { BESIDE_LANE.get() } };
        let thread = u64::from(tid(own));
        if lane.thread != thread {
            lane.thread = thread;
            lane.escape(escape::THREAD, &[thread]);
        }
        // SAFETY: a count that only grows, and is read whole.
        let stamp = unsafe { (*gil()).events.load(Ordering::Acquire) };
        if !alone && stamp != lane.stamp {
            lane.escape(escape::STAMP, &[stamp - lane.stamp]);
            lane.stamp = stamp;
        }
        work(lane);
        BESIDE_LOCK.store(false, Ordering::Release);
    });
}

/// An allocation without the GIL.
pub(super) fn alloc_beside(own: *mut Own, address: u64, size: u64, domain: Domain) {
    beside(own, |lane| lane.alloc(address, size, NO_GIL, domain));
}

/// A free without the GIL.
pub(super) fn free_beside(own: *mut Own, address: u64, moved: bool) {
    beside(own, |lane| lane.free(address, moved));
}

impl Lane {
    #[inline(always)]
    fn room(&mut self) -> &'static mut Room {
        // SAFETY: there are always ROOM bytes behind `at` (a tick sees to it), and no other reference to them.
        unsafe { &mut *self.at.cast::<Room>() }
    }

    #[inline(always)]
    fn wrote(&mut self, length: usize) {
        if self.goes_on(length) {
            self.tick();
        }
    }

    /// So many bytes were written; whether a tick is due.
    #[inline(always)]
    #[must_use]
    fn goes_on(&mut self, length: usize) -> bool {
        // SAFETY: inside the buffer.
        self.at = unsafe { self.at.add(length) };
        self.at >= self.soft
    }

    /// How many allocations and frees were written to it.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn count(&mut self) {
        // One thread writes it; others may read it.
        let events = self.events.load(Ordering::Relaxed) + 1;
        self.events.store(events, Ordering::Release);
    }

    /// Writes an allocation.
    #[inline(always)]
    pub(super) fn alloc(&mut self, address: u64, size: u64, node: u32, domain: Domain) {
        let room = self.room();
        let length = encode::alloc(&mut self.model, room, address, size, node, domain);
        self.count();
        self.wrote(length);
    }

    /// Writes a free.
    #[inline(always)]
    pub(super) fn free(&mut self, address: u64, moved: bool) {
        let room = self.room();
        let length = encode::free(&mut self.model, room, address, moved);
        self.count();
        self.wrote(length);
    }

    /// Whether a block is one of those that [`Lane::alloc_usual`] and [`Lane::free_usual`] can write.
    #[inline(always)]
    pub(super) fn is_usual(address: u64, size: u64) -> bool {
        encode::is_usual(address, size)
    }

    /// Writes an allocation of a usual block by Python's allocators; whether [`Lane::tick`] is to follow.
    #[inline(always)]
    #[must_use]
    pub(super) fn alloc_usual(&mut self, address: u64, size: u64, node: u32) -> bool {
        let room = self.room();
        let (size, domain) = (size as u32, Domain::Python);
        let length = encode::alloc_usual(&mut self.model, room, address, size, node, domain);
        self.count();
        self.goes_on(length)
    }

    /// Writes the free of a usual block, which is no realloc's; whether [`Lane::tick`] is to follow.
    #[inline(always)]
    #[must_use]
    pub(super) fn free_usual(&mut self, address: u64) -> bool {
        let room = self.room();
        let length = encode::free_usual(&mut self.model, room, address, false);
        self.count();
        self.goes_on(length)
    }

    /// Writes anything else.
    pub(super) fn escape(&mut self, number: u8, numbers: &[u64]) {
        let length = encode::numbers(self.room(), number, numbers);
        self.wrote(length);
    }

    /// Writes a mark.
    pub(super) fn mark(&mut self, text: &str) {
        self.clock();
        let bytes = encode::mark(text);
        if self.left() < bytes.len() + 2 * ROOM {
            self.flush();
        }
        // SAFETY: there is room for it: a mark is short.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at, bytes.len()) };
        self.wrote(bytes.len());
    }

    fn left(&self) -> usize {
        self.buffer as usize + BUFFER - self.at as usize
    }

    /// Looks at the clock, and writes the buffer to the file when it is full.
    #[cold]
    #[inline(never)]
    pub(super) fn tick(&mut self) {
        busy(own(), || {
            self.clock();
            if self.number == GIL {
                start::greet();
                if state::is_over(self.ns) {
                    return start::over(self);
                }
            }
            if self.left() < TICK + 4 * ROOM {
                self.flush();
            }
            // SAFETY: inside the buffer.
            self.soft = unsafe { self.at.add(TICK) };
        });
    }

    /// Writes what time it is, and now and then RSS.
    pub(super) fn clock(&mut self) {
        // Time is told by the GIL's lane; the other's events lie between two of it.
        if self.number != GIL {
            return;
        }
        let ns = now();
        let passed = (ns.saturating_sub(self.ns)) / 1000;
        if passed == 0 {
            return;
        }
        self.ns += passed * 1000;
        self.put(escape::TIME, &[passed]);
        if ns - self.rss_ns > RSS_NS
            && let Some(pages) = state::rss_pages()
        {
            self.rss_ns = ns;
            if wait::is_unwanted() {
                state::be_over();
            }
            self.put(escape::RSS, &[pages]);
        }
    }

    /// An escape that looks at no clock.
    fn put(&mut self, number: u8, numbers: &[u64]) {
        let length = encode::numbers(self.room(), number, numbers);
        // SAFETY: inside the buffer: a tick leaves room for four.
        self.at = unsafe { self.at.add(length) };
    }

    fn clear(&mut self) {
        // SAFETY: inside the buffer.
        unsafe {
            self.at = self.buffer.add(CHUNK_HEAD);
            self.soft = self.at.add(TICK);
        }
    }

    /// Writes what is in the buffer to the file.
    #[cold]
    pub(super) fn flush(&mut self) {
        // A chunk that is not written has no number: a mark may have filled the buffer, and is written at once.
        if self.at as usize == self.buffer as usize + CHUNK_HEAD {
            return;
        }
        if self.number == GIL {
            // SAFETY: only who has the GIL flushes its lane.
            unsafe { codes::codes() }.save();
        }
        self.save();
        self.chunks += 1;
        self.clear();
    }

    /// The same, but leaves the buffer as it is: for who ends the process beside a thread that may write. What that one then
    /// writes has the same number, and a reader leaves it out.
    pub(super) fn save(&mut self) {
        let length = self.at as usize - self.buffer as usize - CHUNK_HEAD;
        if length == 0 {
            return;
        }
        let chunk = Chunk {
            tag: Tag::Events,
            lane: self.number,
            codec: Codec::Plain,
            stored: length as u32,
            plain: length as u32,
            number: self.chunks,
            ns: now(),
        };
        // SAFETY: our buffer; events are whole up to `at`.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.buffer, CHUNK_HEAD + length) };
        let (head, events) = bytes.split_at_mut(CHUNK_HEAD);
        head.copy_from_slice(&chunk.head(events));
        state().write(bytes);
    }
}

/// Writes what both lanes hold, as far as it is whole, to the file. The GIL's lane is left as it is where this thread may
/// not have the GIL.
pub(super) fn save_all(own: *mut Own, holds_gil: bool) {
    beside(own, Lane::flush);
    busy(own, || {
        if !python::is_free_threaded() {
            // SAFETY: by the GIL; else this is the end, and what is whole by now is all that is written.
            let lane = unsafe { &mut *gil() };
            match holds_gil {
                true => lane.flush(),
                false => lane.save(),
            }
        }
        state().flush();
    });
}
