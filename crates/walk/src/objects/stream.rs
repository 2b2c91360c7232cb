//! Every live block's bytes, once, a worker per core.
//!
//! Owns the reading in large pieces and the order within a piece. What is not resident reads as zero;
//! what cannot be read is left out. Reads nothing that is not live but what lies between.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use pydefrag_image::{Image, OS_PAGE, ReadError};

use super::blocks::{Blocks, Ordinal};

/// A block's bytes, or a part of them.
pub(crate) struct Piece<'a> {
    pub(crate) ordinal: Ordinal,
    pub(crate) address: u64,
    /// Bytes of the whole block.
    pub(crate) size: u64,
    /// Where in the block the bytes begin: 0 but for large chunks.
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
}

/// Bytes that are read at once.
const UNIT: u64 = 1 << 20;
const MOST_WORKERS: usize = 8;

/// Blocks that are read together.
enum Unit {
    /// Pools with neighbouring indices.
    Pools(usize, usize),
    /// Chunks with neighbouring indices; a large one by itself.
    Chunks(usize, usize),
}

fn units(blocks: &Blocks<'_>, pool_size: u64) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut from = 0;
    for i in 1..=blocks.pools.len() {
        let start = blocks.pools[from].address;
        if blocks.pools.get(i).is_none_or(|p| p.address + pool_size - start > UNIT) {
            units.push(Unit::Pools(from, i));
            from = i;
        }
    }
    let mut from = 0;
    for i in 1..=blocks.chunks.len() {
        let start = blocks.chunks[from].address;
        if blocks.chunks.get(i).is_none_or(|c| c.address + c.size - start > UNIT) {
            units.push(Unit::Chunks(from, i));
            from = i;
        }
    }
    units
}

/// How far a stream has come, shared by those that follow each other.
pub(crate) struct Progress<'a> {
    pub(crate) done: AtomicU64,
    pub(crate) total: u64,
    pub(crate) show: &'a (dyn Fn(u64, u64) + Sync),
    /// When they stop, if they are not done.
    pub(crate) until: Option<Instant>,
}

impl Progress<'_> {
    /// So much is done, whatever was counted before.
    pub(crate) fn reach(&self, done: u64) {
        let before = self.done.fetch_max(done, Ordering::Relaxed);
        (self.show)(before.max(done).min(self.total), self.total);
    }
}

/// Why a stream stops early.
pub(crate) enum Stop {
    Read(ReadError),
    /// It is late.
    Late,
}

impl From<ReadError> for Stop {
    fn from(e: ReadError) -> Self {
        Stop::Read(e)
    }
}

impl Progress<'_> {
    pub(crate) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.show)(done.min(self.total), self.total);
    }
}

/// What a worker does with pieces.
pub(crate) trait Worker: Send {
    /// A piece; of one block they come in order, of several blocks in order of their numbers.
    fn piece(&mut self, piece: Piece<'_>);

    /// All blocks of these numbers were told.
    fn unit(&mut self, _from: Ordinal, _to: Ordinal) {}
}

/// Shows every live block to a worker; each of them at the end.
pub(crate) fn stream<W: Worker>(
    image: &Image,
    blocks: &Blocks<'_>,
    pool_size: u64,
    progress: &Progress<'_>,
    worker: impl Fn() -> W + Sync,
) -> Result<Vec<W>, Stop> {
    let units = units(blocks, pool_size);
    let next = AtomicUsize::new(0);
    let work = || -> Result<W, Stop> {
        let mut w = worker();
        let mut reader = Reader { image, buffer: Vec::new() };
        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            if progress.until.is_some_and(|u| Instant::now() > u) {
                return Err(Stop::Late);
            }
            progress.add(reader.unit(blocks, pool_size, unit, &mut w)?);
        }
        Ok(w)
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
    if workers < 2 || units.len() < 4 {
        return Ok(vec![work()?]);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter();
        joined.map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    })
}

struct Reader<'a> {
    image: &'a Image,
    buffer: Vec<u8>,
}

impl Reader<'_> {
    /// Fills the buffer; pages that cannot be read are zeros.
    fn read(&mut self, start: u64, end: u64) -> Result<(), ReadError> {
        self.buffer.resize((end - start) as usize, 0);
        match self.image.read(start, &mut self.buffer) {
            Ok(()) => return Ok(()),
            Err(e @ (ReadError::Gone | ReadError::Denied)) => return Err(e),
            Err(_) => {}
        }
        let mut at = start;
        while at < end {
            let upto = ((at & !(OS_PAGE - 1)) + OS_PAGE).min(end);
            let part = &mut self.buffer[(at - start) as usize..(upto - start) as usize];
            match self.image.read(at, part) {
                Ok(()) => {}
                Err(e @ (ReadError::Gone | ReadError::Denied)) => return Err(e),
                Err(_) => part.fill(0),
            }
            at = upto;
        }
        Ok(())
    }

    /// Reads a unit and shows its blocks; the bytes of these blocks.
    fn unit<W: Worker>(
        &mut self,
        blocks: &Blocks<'_>,
        pool_size: u64,
        unit: &Unit,
        w: &mut W,
    ) -> Result<u64, ReadError> {
        let mut bytes = 0;
        match *unit {
            Unit::Pools(from, to) => {
                let pools = &blocks.pools[from..to];
                let start = pools[0].address;
                self.read(start, pools[pools.len() - 1].address + pool_size)?;
                for pool in pools {
                    for (ordinal, address) in blocks.live(pool) {
                        let size = u64::from(pool.size);
                        let at = (address - start) as usize;
                        bytes += size;
                        let part = &self.buffer[at..at + size as usize];
                        w.piece(Piece { ordinal, address, size, offset: 0, bytes: part });
                    }
                }
                let end = blocks.pools.get(to).map_or(blocks.first_chunk, |p| p.first);
                w.unit(pools[0].first, end);
            }
            Unit::Chunks(from, to) => {
                let chunks = &blocks.chunks[from..to];
                let first = blocks.first_chunk + from as u32;
                let last = chunks[chunks.len() - 1];
                if chunks.len() == 1 {
                    let mut offset = 0;
                    while offset < last.size {
                        let upto = (offset + UNIT).min(last.size);
                        self.read(last.address + offset, last.address + upto)?;
                        let (address, size) = (last.address, last.size);
                        let part = &self.buffer[..];
                        w.piece(Piece { ordinal: first, address, size, offset, bytes: part });
                        offset = upto;
                    }
                    bytes = last.size;
                } else {
                    let start = chunks[0].address;
                    self.read(start, last.address + last.size)?;
                    for (i, c) in chunks.iter().enumerate() {
                        let at = (c.address - start) as usize;
                        let part = &self.buffer[at..at + c.size as usize];
                        let (ordinal, address, size) = (first + i as u32, c.address, c.size);
                        bytes += size;
                        w.piece(Piece { ordinal, address, size, offset: 0, bytes: part });
                    }
                }
                w.unit(first, first + chunks.len() as u32);
            }
        }
        Ok(bytes)
    }
}
