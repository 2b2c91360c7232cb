//! The live blocks of a trace: address to size and stack.
//!
//! An open-addressing table of 16 bytes an entry, at most three quarters full, without marks for what was removed: it is
//! looked up at every event. A hash map of the standard kind takes twice the memory and time.
//!
//! What a look-up costs is the way to memory. Blocks of the same 64 bytes of addresses share a line of the cache, as programs
//! allocate neighbours one after another; more of them together would crowd, and each removal moves who stands behind it.
//! [`Live::touch`] asks for the lines of many look-ups at once.

use rustc_hash::FxHashMap;

use crate::event::Domain;

/// A live block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) size: u64,
    pub(crate) node: u32,
    pub(crate) domain: Domain,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    /// The address, with the domain in its lowest bit; 0 is free.
    key: u64,
    /// [`LARGE`]: it is in `large`.
    size: u32,
    node: u32,
}

const LARGE: u32 = u32::MAX;

/// Entries of a line of the cache.
const NEAR: u64 = 4;

/// All live blocks.
pub(crate) struct Live {
    entries: Vec<Entry>,
    count: usize,
    /// From a hash to its line.
    shift: u32,
    /// Blocks that an entry cannot tell: odd addresses, and sizes of 4 GiB.
    large: FxHashMap<u64, Block>,
    /// Blocks that it may hold, about.
    most: usize,
    /// Blocks that it did not take in.
    pub(crate) left_out: u64,
}

impl Live {
    /// Of none. When there are more than `most`, the table grows no further.
    pub(crate) fn new(most: usize) -> Live {
        const FIRST: usize = 1 << 12;
        Live {
            entries: vec![Entry::default(); FIRST],
            count: 0,
            shift: 64 - (FIRST / NEAR as usize).trailing_zeros(),
            large: FxHashMap::default(),
            most,
            left_out: 0,
        }
    }

    #[inline(always)]
    fn home(&self, address: u64) -> usize {
        let near = address >> 4 & (NEAR - 1);
        let far = (address >> 6).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift;
        ((far * NEAR) | near) as usize & (self.entries.len() - 1)
    }

    /// Looks at where these blocks are or would be, so that all that memory is fetched at once.
    #[inline]
    pub(crate) fn touch(&self, addresses: impl Iterator<Item = u64>) {
        let seen = addresses.fold(0, |seen, at| seen ^ self.entries[self.home(at)].node);
        std::hint::black_box(seen);
    }

    #[inline(always)]
    fn find(&self, address: u64) -> Result<usize, usize> {
        let mask = self.entries.len() - 1;
        let mut i = self.home(address);
        loop {
            let key = self.entries[i].key;
            if key & !1 == address {
                return Ok(i);
            }
            if key == 0 {
                return Err(i);
            }
            i = (i + 1) & mask;
        }
    }

    /// Enters a block; returns one that was there.
    #[inline]
    pub(crate) fn insert(&mut self, address: u64, block: Block) -> Option<Block> {
        if address & 7 != 0 || address == 0 || block.size >= u64::from(LARGE) {
            let before = self.remove(address);
            match self.large.len() < self.most {
                true => _ = self.large.insert(address, block),
                false => self.left_out += 1,
            }
            return before;
        }
        let before = match self.large.is_empty() {
            true => None,
            false => self.large.remove(&address),
        };
        let entry =
            Entry { key: address | block.domain as u64, size: block.size as u32, node: block.node };
        match self.find(address) {
            Ok(i) => {
                let was = std::mem::replace(&mut self.entries[i], entry);
                Some(was.block())
            }
            Err(i) => {
                self.entries[i] = entry;
                self.count += 1;
                if self.count * 4 > self.entries.len() * 3 {
                    self.full(i);
                }
                before
            }
        }
    }

    /// Takes a block out.
    #[inline]
    pub(crate) fn remove(&mut self, address: u64) -> Option<Block> {
        if !self.large.is_empty()
            && let Some(block) = self.large.remove(&address)
        {
            return Some(block);
        }
        if address & 7 != 0 || address == 0 {
            return None;
        }
        let mut hole = self.find(address).ok()?;
        let block = self.entries[hole].block();
        let mask = self.entries.len() - 1;
        let mut i = hole;
        // What stands behind moves up, unless it is at home there already.
        loop {
            i = (i + 1) & mask;
            let key = self.entries[i].key;
            if key == 0 {
                break;
            }
            let home = self.home(key & !1);
            if (i.wrapping_sub(home) & mask) >= (i.wrapping_sub(hole) & mask) {
                self.entries[hole] = self.entries[i];
                hole = i;
            }
        }
        self.entries[hole] = Entry::default();
        self.count -= 1;
        Some(block)
    }

    /// Makes room after entry `i` was taken, or takes it back.
    #[cold]
    fn full(&mut self, i: usize) {
        if self.count > self.most {
            // Nothing stands behind it yet: its place was free.
            self.entries[i] = Entry::default();
            self.count -= 1;
            self.left_out += 1;
            return;
        }
        let larger = vec![Entry::default(); self.entries.len() * 2];
        let old = std::mem::replace(&mut self.entries, larger);
        self.shift -= 1;
        for entry in old.into_iter().filter(|e| e.key != 0) {
            if let Err(i) = self.find(entry.key & !1) {
                self.entries[i] = entry;
            }
        }
    }

    /// All of them.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (u64, Block)> + '_ {
        let small = self.entries.iter().filter(|e| e.key != 0).map(|e| (e.key & !1, e.block()));
        small.chain(self.large.iter().map(|(a, b)| (*a, *b)))
    }
}

impl Entry {
    fn block(self) -> Block {
        let domain = if self.key & 1 == 0 { Domain::Python } else { Domain::Malloc };
        Block { size: self.size.into(), node: self.node, domain }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u64..3000, any::<bool>(), 0u64..1 << 33), 0..6000)) {
            let (mut live, mut map) = (Live::new(usize::MAX), HashMap::new());
            for (n, insert, size) in steps {
                let address = 0x7f00_0000_0000 + n * 16 + u64::from(n % 50 == 0) * 3;
                let block = Block { size, node: n as u32, domain: Domain::Malloc };
                match insert {
                    true => prop_assert_eq!(live.insert(address, block), map.insert(address, block)),
                    false => prop_assert_eq!(live.remove(address), map.remove(&address)),
                }
            }
            prop_assert_eq!(live.blocks().collect::<HashMap<_, _>>(), map);
        }
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let mut live = Live::new(5000);
        let block = |size| Block { size, node: 0, domain: Domain::Python };
        for n in 1..100_000 {
            live.insert(n * 16, block(1));
            live.insert(n * 16 + 1, block(1));
        }
        assert_eq!(live.large.len(), 5000);
        assert_eq!(live.entries.len(), 1 << 13);
        assert_eq!(live.blocks().count() as u64 + live.left_out, 2 * 99_999);
        // What is in it is found.
        assert!((1..6000).all(|n| live.remove(n * 16) == Some(block(1))));
    }
}
