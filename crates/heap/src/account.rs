//! The account of one heap: where each of its resident bytes is, and the ladder of what comes back.
//!
//! Owns the terms. Does not own how a walker finds them, nor the residency that they must sum to:
//! that is measured apart, and [`Account::total`] is compared with it.

use serde::{Deserialize, Serialize};

/// Where the resident bytes of one walked heap are. All terms are bytes on resident OS pages.
///
/// Invariant: the owner's resident bytes equal [`Account::total`], that is
/// `live + rounding + metadata + virgin + free_spans + holes + pinned_free + top + cached + unread`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Bytes of live blocks. Contains `rounding` while that is `None`.
    pub live: u64,
    /// Bytes inside live blocks that nobody asked for; `None` while not known.
    pub rounding: Option<u64>,
    /// Headers, and what the allocator's geometry can never hand out (pool tails, arena alignment).
    pub metadata: u64,
    /// Slots never handed out yet, on OS pages that something else keeps, and pools never carved.
    pub virgin: u64,
    /// Wholly free pools.
    pub free_spans: u64,
    /// OS pages that hold neither a live byte nor a header: of pools in use, of free chunks.
    pub holes: u64,
    /// Free bytes on OS pages that a live block or a header keeps.
    pub pinned_free: u64,
    /// malloc's top chunks: free, and of use to any request.
    #[serde(default)]
    pub top: u64,
    /// Freed chunks that malloc keeps for requests of just their size: in tcaches and fastbins.
    #[serde(default)]
    pub cached: u64,
    /// Resident bytes of what stayed torn, is corrupted or could not be read.
    pub unread: u64,
    /// Bytes of live blocks on OS pages that are not resident. Not part of `resident`.
    pub live_not_resident: u64,
}

impl Account {
    /// The sum of the terms: what the heap's resident bytes must be.
    pub fn total(&self) -> u64 {
        self.live
            + self.rounding.unwrap_or(0)
            + self.metadata
            + self.virgin
            + self.free_spans
            + self.holes
            + self.pinned_free
            + self.top
            + self.cached
            + self.unread
    }

    /// Everything that is free and resident.
    pub fn free(&self) -> u64 {
        self.external() + self.top + self.cached
    }

    /// Free and resident, kept by what lives beside it in the OS page, pool, arena or heap: external
    /// fragmentation in bytes.
    pub fn external(&self) -> u64 {
        self.free_spans + self.holes + self.pinned_free
    }

    /// Adds another account term by term. A `rounding` known on one side only is not known of the
    /// sum, whose `live` then contains it.
    pub fn add(&mut self, other: &Account) {
        self.live += other.live;
        match (self.rounding, other.rounding) {
            (Some(a), Some(b)) => self.rounding = Some(a + b),
            (a, b) => {
                self.live += a.unwrap_or(0) + b.unwrap_or(0);
                self.rounding = None;
            }
        }
        self.metadata += other.metadata;
        self.virgin += other.virgin;
        self.free_spans += other.free_spans;
        self.holes += other.holes;
        self.pinned_free += other.pinned_free;
        self.top += other.top;
        self.cached += other.cached;
        self.unread += other.unread;
        self.live_not_resident += other.live_not_resident;
    }
}

/// What would come back, in bytes, cumulative: every rung contains those before it.
///
/// A rung is `None` where nothing that was walked has it. Only OS pages that this process maps
/// exclusively are credited: dropping a page shared with a parent gives nothing back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// `malloc_trim`: free runs of malloc that cover whole OS pages.
    pub trim: Option<u64>,
    /// Free pools (parked), free tails and dead OS pages of pymalloc pools in use.
    pub purge: Option<u64>,
    /// Sparse pools whose survivors can move.
    pub compact: Option<u64>,
    /// Perfect packing of what is live: a bound, not a command.
    pub ideal: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_an_unknown_rounding_makes_it_unknown() {
        let mut a = Account { live: 8, rounding: Some(2), ..Default::default() };
        a.add(&Account { live: 5, pinned_free: 1, ..Default::default() });
        assert_eq!(a.rounding, None);
        assert_eq!((a.live, a.total(), a.external()), (15, 16, 1));
    }
}
