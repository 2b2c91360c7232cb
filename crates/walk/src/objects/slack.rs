//! Room that containers hold beyond their items.
//!
//! Owns the sums and the records by container, from which the worst owners are told.

use pydefrag_heap::SlackOf;

/// Kinds of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Sort {
    Dict = 0,
    List = 1,
    Set = 2,
    ByteArray = 3,
    Deque = 4,
    StrUtf8 = 5,
}

pub(crate) const SORTS: usize = 6;

/// One container's slack in a word: number, kind, and words to spare.
pub(crate) fn record(ordinal: u32, sort: Sort, spare: u64) -> u64 {
    let words = spare.div_ceil(8).min((1 << 29) - 1);
    u64::from(ordinal) << 32 | u64::from(sort as u8) << 29 | words
}

/// What a record says: number, kind, bytes.
pub(crate) fn of_record(record: u64) -> (u32, usize, u64) {
    let sort = (record >> 29 & 7) as usize;
    ((record >> 32) as u32, sort.min(SORTS - 1), (record & ((1 << 29) - 1)) * 8)
}

/// Sums of one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    sorts: [SlackOf; SORTS],
    pub(crate) deques: u64,
    pub(crate) deque_items: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, sort: Sort, held: u64, spare: u64) {
        let of = &mut self.sorts[sort as usize];
        of.containers += 1;
        of.held += held;
        of.bytes += spare;
    }

    pub(crate) fn join(&mut self, other: &Counts) {
        for (a, b) in self.sorts.iter_mut().zip(&other.sorts) {
            a.containers += b.containers;
            a.held += b.held;
            a.bytes += b.bytes;
        }
        self.deques += other.deques;
        self.deque_items += other.deque_items;
    }

    /// Of one kind.
    pub(crate) fn of(&self, sort: Sort) -> SlackOf {
        self.sorts[sort as usize].clone()
    }
}
