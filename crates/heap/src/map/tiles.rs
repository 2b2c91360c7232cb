//! Tiles: what a region of malloc's consists of, as it is stored.
//!
//! Owns the list, which is kept encoded: a heap of malloc's may have as many chunks as it has words of
//! ours to count them, and two bytes are enough for most.
//!
//! Invariant: what is in a list was put there by `push`, or was read whole: it can always be read again.

use std::fmt;

use super::varint::{put, take};

/// What a tile of malloc's is. A tile begins at its chunk's size field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Tile {
    /// A chunk in use: 8 bytes of header, then the block.
    Used = 0,
    /// A chunk with a mapping of its own: 16 bytes of header, then the block.
    Mapped = 1,
    /// A chunk in a tcache: 8 bytes of header, then free bytes.
    Cached = 2,
    /// A free chunk, header and all.
    Free = 3,
    /// The top chunk.
    Top = 4,
    /// The allocator's own: what lies before the first chunk, fenceposts.
    Overhead = 5,
    /// What could not be followed.
    Unread = 6,
    /// More of the block before it, behind a stretch that was left out.
    Rest = 7,
    /// A chunk in a fastbin: free, header and all.
    Fast = 8,
    /// Not this heap's: what another user of brk has of the OS page at its end.
    Other = 9,
}

impl Tile {
    const ALL: [Tile; 10] = [
        Tile::Used,
        Tile::Mapped,
        Tile::Cached,
        Tile::Free,
        Tile::Top,
        Tile::Overhead,
        Tile::Unread,
        Tile::Rest,
        Tile::Fast,
        Tile::Other,
    ];

    /// The tile with this number, if there is one.
    pub fn from_number(n: u8) -> Option<Tile> {
        Tile::ALL.get(usize::from(n)).copied()
    }

    /// A live block begins in it.
    pub fn is_block(self) -> bool {
        matches!(self, Tile::Used | Tile::Mapped)
    }

    /// Bytes of header before what it holds.
    pub fn header(self) -> u64 {
        match self {
            Tile::Used | Tile::Cached => 8,
            Tile::Mapped => 16,
            _ => 0,
        }
    }

    /// What is left of it behind a stretch that was left out.
    pub fn rest(self) -> Tile {
        match self {
            Tile::Used | Tile::Mapped => Tile::Rest,
            // Its header stays with its beginning.
            Tile::Cached => Tile::Fast,
            same => same,
        }
    }
}

/// Tiles in order: bytes, and what they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tiles {
    /// A varint each: `bytes << 4 | number of the tile`.
    encoded: Vec<u8>,
    count: usize,
}

impl Tiles {
    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds one behind the others.
    pub fn push(&mut self, bytes: u64, tile: Tile) {
        put(&mut self.encoded, u128::from(bytes) << 4 | tile as u128);
        self.count += 1;
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Tile)> + '_ {
        let mut rest = &self.encoded[..];
        std::iter::from_fn(move || next(&mut rest))
    }

    /// As they are stored.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// What was stored; `None` where it is anything else.
    pub fn of_encoded(encoded: Vec<u8>) -> Option<Tiles> {
        let (mut rest, mut count) = (&encoded[..], 0);
        while !rest.is_empty() {
            next(&mut rest)?;
            count += 1;
        }
        Some(Tiles { encoded, count })
    }
}

fn next(rest: &mut &[u8]) -> Option<(u64, Tile)> {
    let word = take(rest)?;
    Some((u64::try_from(word >> 4).ok()?, Tile::from_number((word & 15) as u8)?))
}

impl Extend<(u64, Tile)> for Tiles {
    fn extend<I: IntoIterator<Item = (u64, Tile)>>(&mut self, tiles: I) {
        tiles.into_iter().for_each(|(bytes, tile)| self.push(bytes, tile));
    }
}

impl FromIterator<(u64, Tile)> for Tiles {
    fn from_iter<I: IntoIterator<Item = (u64, Tile)>>(tiles: I) -> Tiles {
        let mut all = Tiles::default();
        all.extend(tiles);
        all
    }
}

impl fmt::Debug for Tiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_is_there(all in proptest::collection::vec((any::<u64>(), 0u8..10), 0..50)) {
            let all: Vec<_> = all.iter().map(|(b, n)| (*b, Tile::from_number(*n).unwrap())).collect();
            let tiles: Tiles = all.iter().copied().collect();
            prop_assert_eq!(tiles.len(), all.len());
            prop_assert!(tiles.iter().eq(all.iter().copied()));
            let back = Tiles::of_encoded(tiles.encoded().to_vec());
            prop_assert_eq!(back, Some(tiles));
        }

        #[test]
        fn any_bytes_are_tiles_or_none(bytes: Vec<u8>) {
            if let Some(tiles) = Tiles::of_encoded(bytes) {
                prop_assert_eq!(tiles.iter().count(), tiles.len());
            }
        }
    }
}
