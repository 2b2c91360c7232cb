//! Reading a process's memory, whatever it comes from.
//!
//! Owns the [`Memory`] trait and the memory that tests plant ([`SparseMemory`]).

/// Why memory could not be read.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// Nothing is mapped there (any more).
    #[error("address {0:#x} is not mapped")]
    Unmapped(u64),
    /// The page is in swap; reading it would bring it back.
    #[error("the page at {0:#x} is swapped out")]
    Swapped(u64),
    /// The kernel refuses.
    #[error("reading the process's memory is not permitted")]
    Denied,
    /// The process has ended.
    #[error("the process has ended")]
    Gone,
    /// Anything else, as errno.
    #[error("reading address {address:#x} failed with errno {errno}")]
    Os {
        /// Where.
        address: u64,
        /// errno.
        errno: i32,
    },
}

/// Memory of a process by address. Reads are not atomic: a live process changes while it is read.
pub trait Memory: Sync {
    /// Reads exactly `into.len()` bytes at `address`.
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError>;

    /// Reads many ranges (address, length) into consecutive bytes of `into`, with as few system calls
    /// as possible. Returns the indices of the ranges that could not be read; their bytes are zero.
    ///
    /// # Panics
    ///
    /// When `into` is not as long as all ranges together.
    fn read_scattered(
        &self,
        ranges: &[(u64, usize)],
        into: &mut [u8],
    ) -> Result<Vec<usize>, ReadError> {
        let mut failed = Vec::new();
        let mut rest = into;
        for (i, (address, length)) in ranges.iter().enumerate() {
            let (part, tail) = rest.split_at_mut(*length);
            match self.read(*address, part) {
                Ok(()) => {}
                Err(e @ (ReadError::Gone | ReadError::Denied)) => return Err(e),
                Err(_) => {
                    part.fill(0);
                    failed.push(i);
                }
            }
            rest = tail;
        }
        assert!(rest.is_empty(), "the buffer is longer than the ranges");
        Ok(failed)
    }
}

/// Memory made of planted pieces, for tests and fuzzing of walkers.
#[derive(Debug, Default, Clone)]
pub struct SparseMemory {
    pieces: std::collections::BTreeMap<u64, Vec<u8>>,
}

impl SparseMemory {
    /// Plants bytes at an address. Pieces must not overlap.
    pub fn plant(&mut self, address: u64, bytes: Vec<u8>) {
        self.pieces.insert(address, bytes);
    }
}

impl Memory for SparseMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let mut at = address;
        let mut rest = into;
        while !rest.is_empty() {
            let (start, piece) =
                self.pieces.range(..=at).next_back().ok_or(ReadError::Unmapped(at))?;
            let from = usize::try_from(at - start).map_err(|_| ReadError::Unmapped(at))?;
            let there = piece.get(from..).filter(|p| !p.is_empty());
            let there = there.ok_or(ReadError::Unmapped(at))?;
            let n = there.len().min(rest.len());
            rest[..n].copy_from_slice(&there[..n]);
            (rest, at) = (&mut rest[n..], at + n as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_pieces_are_read_across_their_borders_and_not_beyond() {
        let mut m = SparseMemory::default();
        m.plant(100, vec![1, 2, 3]);
        m.plant(103, vec![4, 5]);
        let mut b = [0; 4];
        assert_eq!(m.read(101, &mut b), Ok(()));
        assert_eq!(b, [2, 3, 4, 5]);
        assert_eq!(m.read(102, &mut b), Err(ReadError::Unmapped(105)));
        let mut two = [9; 4];
        assert_eq!(m.read_scattered(&[(99, 2), (103, 2)], &mut two), Ok(vec![0]));
        assert_eq!(two, [0, 0, 4, 5]);
    }
}
