//! What pydefrag's agent publishes of itself inside a process: the pools that it has parked, the OS
//! pages it has dropped inside pools that are in use, and the mailbox by which the command line speaks
//! to it.
//!
//! Owns the layout of the exported symbol [`SYMBOL`] and its validators. The agent writes it, `walk`
//! and the command line read it from outside, possibly of another version: a table whose version is
//! not [`VERSION`] is refused by name, never guessed at.
//!
//! # Parking
//!
//! A free pool is *parked* when it has left its arena's `freepools`, `nfreepools` and `ntotalpools` are
//! one lower for it, and its OS pages, header included, are given back. pymalloc knows nothing of it
//! until it is unparked. Its address range still belongs to the arena and goes with it.
//!
//! # Dropped pages
//!
//! In a pool in use, an OS page without a live byte may be dropped: the free blocks that *start* on it
//! have left the pool's free list. They are *lost* until the pool is initialised anew, parked, or
//! planned again. A pool's mask is only valid while `used + listed + lost == carved`; a pool with
//! `used + listed == carved` has been initialised anew since, and has lost nothing.

use crate::pymalloc::{Arena, Geometry, POOL_HEADER, block_size};
use crate::word::{u32_at, u64_at};

/// Name of the exported symbol.
pub const SYMBOL: &str = "pydefrag_agent";
/// What the table begins with.
pub const MAGIC: [u8; 8] = *b"pydefrag";
/// Version of the table's layout. Raised by whoever changes anything in this file's layouts.
pub const VERSION: u32 = 1;
/// Bytes of the table.
pub const TABLE: usize = 1024;

/// Offsets in the table.
pub mod at {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// `u32`, [`super::VERSION`].
    pub const VERSION: usize = 8;
    /// `u32`, [`super::TABLE`].
    pub const SIZE: usize = 12;
    /// 16 bytes: pydefrag's version as text, NUL-padded.
    pub const TOOL: usize = 16;
    /// `u32`: the process that the table speaks of, as it sees itself. Another number than the
    /// process's own: a fork that has not begun yet; parked pools are true all the same.
    pub const PID: usize = 32;
    /// `u32`: 1 while the agent's thread answers the mailbox.
    pub const LISTENING: usize = 36;
    /// `u64`: address of the array of [`super::ENTRY`]-sized entries, one per `arena_object`, 0 if none.
    pub const ENTRIES: usize = 40;
    /// `u32`: how many.
    pub const COUNT: usize = 48;
    /// `u32`: odd while the array is being moved.
    pub const SEQUENCE: usize = 52;
    /// `u64`: heals that were completed in this process.
    pub const HEALS: usize = 56;
    /// `u64`: pools unparked because the program wanted them.
    pub const UNPARKED: usize = 64;

    /// The request, [`super::REQUEST`] bytes, written by the command line.
    pub const REQUEST: usize = 128;
    /// The answer, written by the agent.
    pub const ANSWER: usize = 256;
}

/// `ntotalpools` is never lowered below this.
pub const FEWEST_POOLS: u64 = 2;
/// Free pools that a purge leaves on pymalloc's books: see [`reserve`].
pub const RESERVE: u64 = 64;

/// Whether the agent purges arenas of these sizes: of CPython 3.10 and later, unless built for huge pages.
pub fn purges(g: Geometry) -> bool {
    g == Geometry::LARGE
}

/// How many arenas a purge takes no free pool from, as the next requests are served from there: those with the
/// fewest, until they have [`RESERVE`], unless the last would make them more than twice as many. `nfreepools` of all
/// arenas, ascending, without zeros. Of their free pools the first OS page stays.
pub fn reserve(nfreepools: impl IntoIterator<Item = u32>) -> usize {
    let mut free = 0;
    let enough = |pools: &u32| {
        let before = free;
        free += u64::from(*pools);
        before < RESERVE && free <= 2 * RESERVE
    };
    nfreepools.into_iter().take_while(enough).count()
}

/// Bytes of an entry.
pub const ENTRY: usize = 48;
/// Pools that an entry can speak of. (Arenas of 2 MiB have more; the agent leaves them alone.)
pub const MOST_POOLS: u64 = 64;

/// What the agent did in one arena.
///
/// As bytes: address `u64` @0, parked `u64` @8 (bit n: the n-th pool), dropped `[u8; 32]` @16 (four bits a
/// pool, low nibble first: bit k of it is the pool's k-th OS page).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// The arena's address; 0 for none.
    pub address: u64,
    /// Bit n: its n-th pool is parked.
    pub parked: u64,
    /// Four bits a pool: OS pages dropped inside it.
    pub dropped: [u8; 32],
}

impl Entry {
    /// From bytes; `None` if too few.
    pub fn of(bytes: &[u8]) -> Option<Entry> {
        let dropped = bytes.get(16..ENTRY)?.try_into().ok()?;
        Some(Entry { address: u64_at(bytes, 0), parked: u64_at(bytes, 8), dropped })
    }

    /// Whether it speaks of this arena, and not of one that was there before.
    pub fn is_of(&self, arena: &Arena, g: Geometry) -> bool {
        let pools = g.pools_in(arena.address);
        self.address == arena.address
            && pools <= MOST_POOLS
            && (pools == MOST_POOLS || self.parked >> pools == 0)
            && u64::from(arena.ntotalpools) + u64::from(self.parked.count_ones()) == pools
    }

    /// Whether the n-th pool is parked.
    pub fn is_parked(&self, pool: u64) -> bool {
        pool < MOST_POOLS && self.parked >> pool & 1 == 1
    }

    /// OS pages dropped inside the n-th pool: bit k is its k-th.
    pub fn dropped(&self, pool: u64) -> u8 {
        let byte = self.dropped.get(pool as usize / 2).copied().unwrap_or(0);
        (byte >> (pool % 2 * 4)) & 0xf
    }

    /// Sets them.
    pub fn set_dropped(&mut self, pool: u64, mask: u8) {
        if let Some(byte) = self.dropped.get_mut(pool as usize / 2) {
            let shift = pool % 2 * 4;
            *byte = *byte & !(0xf << shift) | (mask & 0xf) << shift;
        }
    }
}

/// Whether a block that starts on one of the pages of `mask` lies at slot `slot` of a pool.
pub fn starts_on(mask: u8, class: u8, slot: u32) -> bool {
    let offset = POOL_HEADER as u64 + u64::from(slot) * block_size(class);
    mask >> (offset / 4096).min(7) & 1 == 1
}

/// The head of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The process that it speaks of.
    pub pid: u32,
    /// Whether somebody reads the mailbox.
    pub listening: bool,
    /// Address of the entries.
    pub entries: u64,
    /// How many.
    pub count: u32,
    /// Odd while the entries are moved.
    pub sequence: u32,
    /// Heals completed.
    pub heals: u64,
    /// Pools unparked because they were wanted.
    pub unparked: u64,
}

/// Why a table is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// These are not a table's bytes.
    NoTable,
    /// Another version of pydefrag's, which says of itself that it is this (16 bytes of text).
    Version(u32, [u8; 16]),
}

/// Validates a table.
pub fn head(bytes: &[u8]) -> Result<Head, Foreign> {
    if bytes.len() < TABLE || bytes[..8] != MAGIC {
        return Err(Foreign::NoTable);
    }
    let version = u32_at(bytes, at::VERSION);
    if version != VERSION || u32_at(bytes, at::SIZE) as usize != TABLE {
        let tool = bytes[at::TOOL..at::TOOL + 16].try_into().unwrap_or_default();
        return Err(Foreign::Version(version, tool));
    }
    Ok(Head {
        pid: u32_at(bytes, at::PID),
        listening: u32_at(bytes, at::LISTENING) == 1,
        entries: u64_at(bytes, at::ENTRIES),
        count: u32_at(bytes, at::COUNT),
        sequence: u32_at(bytes, at::SEQUENCE),
        heals: u64_at(bytes, at::HEALS),
        unparked: u64_at(bytes, at::UNPARKED),
    })
}

/// What the mailbox can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Ask {
    /// Whether each precondition holds; nothing is done.
    Check = 1,
    /// Give back malloc's free OS pages.
    Trim = 2,
    /// Trim, then park, drop, and sort in pymalloc.
    Purge = 3,
}

impl Ask {
    /// From its number.
    pub fn of(number: u32) -> Option<Ask> {
        [Ask::Check, Ask::Trim, Ask::Purge].into_iter().find(|a| *a as u32 == number)
    }
}

/// Bytes of a request.
pub const REQUEST: usize = 48;

/// A request. As bytes: token `u64` @0, ask `u32` @8, collect `u32` @12, slice `u64` @16, deadline `u64` @24,
/// check `u64` @32. Written whole with one write; a torn one does not check and is not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// A number that no other request has; not 0.
    pub token: u64,
    /// What is asked.
    pub ask: Ask,
    /// Whether Python's garbage collector runs first.
    pub collect: bool,
    /// Longest time that the GIL is held, in microseconds.
    pub slice_us: u64,
    /// Not begun after this, in nanoseconds of CLOCK_MONOTONIC.
    pub deadline_ns: u64,
}

impl Request {
    fn check(&self) -> u64 {
        let parts = [
            u64::from(self.ask as u32) | u64::from(self.collect) << 32,
            self.slice_us,
            self.deadline_ns,
        ];
        // FNV-1a by words: against torn writes, not against forgery.
        let mix = |h: u64, p: u64| (h ^ p).wrapping_mul(0x0000_0100_0000_01b3);
        parts.into_iter().fold(0xcbf2_9ce4_8422_2325 ^ self.token, mix)
    }

    /// As bytes.
    pub fn bytes(&self) -> [u8; REQUEST] {
        let mut b = [0; REQUEST];
        b[..8].copy_from_slice(&self.token.to_le_bytes());
        b[8..12].copy_from_slice(&(self.ask as u32).to_le_bytes());
        b[12..16].copy_from_slice(&u32::from(self.collect).to_le_bytes());
        b[16..24].copy_from_slice(&self.slice_us.to_le_bytes());
        b[24..32].copy_from_slice(&self.deadline_ns.to_le_bytes());
        b[32..40].copy_from_slice(&self.check().to_le_bytes());
        b
    }

    /// From bytes; `None` where there is none, or a torn one.
    pub fn of(bytes: &[u8]) -> Option<Request> {
        if bytes.len() < REQUEST || u64_at(bytes, 0) == 0 || u32_at(bytes, 12) > 1 {
            return None;
        }
        let request = Request {
            token: u64_at(bytes, 0),
            ask: Ask::of(u32_at(bytes, 8))?,
            collect: u32_at(bytes, 12) == 1,
            slice_us: u64_at(bytes, 16),
            deadline_ns: u64_at(bytes, 24),
        };
        (u64_at(bytes, 32) == request.check()).then_some(request)
    }
}

/// Bytes of an answer: up to the end of the table.
pub const ANSWER: usize = TABLE - at::ANSWER;
/// Bytes of its text.
pub const ANSWER_TEXT: usize = ANSWER - 24;

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// It is being carried out.
    Begun = 1,
    /// It is done; the text is a JSON object of what was done.
    Done = 2,
    /// It was refused and nothing was done; the text says why, a sentence.
    Refused = 3,
}

/// An answer. As bytes: token `u64` @0 (the request that it answers, written last), stage `u32` @8,
/// length `u32` @12, then 8 bytes unused and the text @24.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The request that it answers.
    pub token: u64,
    /// How far it is.
    pub stage: Stage,
    /// JSON or a sentence.
    pub text: &'a str,
}

impl<'a> Answer<'a> {
    /// From the bytes at [`at::ANSWER`].
    pub fn of(bytes: &'a [u8]) -> Option<Answer<'a>> {
        if bytes.len() < ANSWER || u64_at(bytes, 0) == 0 {
            return None;
        }
        let stages = [Stage::Begun, Stage::Done, Stage::Refused];
        let stage = stages.into_iter().find(|s| *s as u32 == u32_at(bytes, 8))?;
        let length = (u32_at(bytes, 12) as usize).min(ANSWER_TEXT);
        let text = std::str::from_utf8(&bytes[24..24 + length]).ok()?;
        Some(Answer { token: u64_at(bytes, 0), stage, text })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_round_trip_and_torn_ones_are_not_seen() {
        let request = Request {
            token: 77,
            ask: Ask::Purge,
            collect: true,
            slice_us: 5000,
            deadline_ns: 1 << 40,
        };
        let bytes = request.bytes();
        assert_eq!(Request::of(&bytes), Some(request));
        for i in 0..40 {
            let mut torn = bytes;
            torn[i] ^= 1;
            assert_eq!(Request::of(&torn), None, "byte {i}");
        }
    }

    #[test]
    fn an_entry_of_an_arena_that_is_gone_is_stale() {
        let arena = Arena {
            address: 1 << 40,
            pool_address: (1 << 40) + 65536,
            nfreepools: 58,
            ntotalpools: 61,
        };
        let g = Geometry::LARGE;
        let entry = Entry { address: 1 << 40, parked: 0b111, ..Default::default() };
        assert!(entry.is_of(&arena, g));
        assert!(!entry.is_of(&Arena { ntotalpools: 64, ..arena }, g), "born again");
        assert!(!entry.is_of(&Arena { address: 1 << 41, ..arena }, g));
        let unaligned = Arena { address: (1 << 40) + 4096, ntotalpools: 60, ..arena };
        let entry = Entry { address: unaligned.address, parked: 0b111 << 60, ..Default::default() };
        assert!(entry.is_of(&unaligned, g));
        let entry = Entry { parked: 0b111 << 61, ..entry };
        assert!(!entry.is_of(&unaligned, g), "a 64th pool of 63");
    }

    #[test]
    fn the_reserve_is_at_most_twice_what_it_should_be() {
        assert_eq!(reserve([1, 2, 60, 1, 5]), 4, "with the fourth there are 64");
        assert_eq!(reserve([30, 40, 50]), 2);
        assert_eq!(reserve([63, 63, 3]), 2);
        assert_eq!(reserve([50, 13, 64, 64]), 3);
        assert_eq!(reserve([64; 5]), 1);
        assert_eq!(reserve([]), 0);
    }

    #[test]
    fn masks_of_pools_do_not_touch_each_other() {
        let mut entry = Entry::default();
        entry.set_dropped(5, 0b1110);
        entry.set_dropped(4, 0b0010);
        entry.set_dropped(63, 0b1000);
        assert_eq!([3, 4, 5, 6, 63].map(|n| entry.dropped(n)), [0, 2, 14, 0, 8]);
        entry.set_dropped(5, 0);
        assert_eq!([4, 5].map(|n| entry.dropped(n)), [2, 0]);
        assert!(starts_on(0b0010, 3, 64), "48 + 64 * 64 is on the second page");
        assert!(!starts_on(0b0010, 3, 63), "48 + 63 * 64 is 4080, on the first");
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut bytes = [0; TABLE];
        assert_eq!(head(&bytes), Err(Foreign::NoTable));
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = 9;
        bytes[16..21].copy_from_slice(b"7.0.1");
        let Err(Foreign::Version(9, tool)) = head(&bytes) else { panic!() };
        assert!(tool.starts_with(b"7.0.1"));
        bytes[8] = VERSION as u8;
        bytes[12..16].copy_from_slice(&(TABLE as u32).to_le_bytes());
        assert!(head(&bytes).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
            let _ = head(&bytes);
            let _ = Request::of(&bytes);
            let _ = Answer::of(&bytes);
            if let Some(entry) = Entry::of(&bytes) {
                let _ = entry.dropped(u64::MAX);
            }
        }
    }
}
