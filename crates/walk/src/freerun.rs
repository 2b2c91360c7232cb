//! The largest contiguous free run: the longest stretch of resident bytes with nothing live inside.
//!
//! Owns the running sum over regions that are visited in order of address. Arenas are walked side by
//! side, so each yields a [`FreeRuns`] of its own and neighbours are joined afterwards.

/// Free runs of one stretch of addresses, as far as joining it with its neighbours needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FreeRuns {
    /// The longest run inside.
    pub(crate) longest: u64,
    /// Free bytes from the start up to the first interruption; `None` while there was none.
    prefix: Option<u64>,
    /// Free bytes since the last interruption.
    suffix: u64,
}

impl FreeRuns {
    /// Free bytes follow.
    pub(crate) fn free(&mut self, bytes: u64) {
        self.suffix += bytes;
        self.longest = self.longest.max(self.suffix);
    }

    /// Something live, a header, or a page that is not resident follows.
    pub(crate) fn interrupt(&mut self) {
        self.prefix.get_or_insert(self.suffix);
        self.suffix = 0;
    }

    /// Another stretch follows immediately.
    pub(crate) fn join(&mut self, next: &FreeRuns) {
        let mut joined = *self;
        match next.prefix {
            None => joined.free(next.suffix),
            Some(prefix) => {
                joined.free(prefix);
                joined.interrupt();
                joined.suffix = next.suffix;
            }
        }
        joined.longest = joined.longest.max(next.longest);
        *self = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_joined_over_borders() {
        let mut a = FreeRuns::default();
        a.free(5);
        a.interrupt();
        a.free(7);
        let mut b = FreeRuns::default();
        b.free(3);
        let mut c = FreeRuns::default();
        c.free(4);
        c.interrupt();
        c.free(6);
        let mut all = a;
        all.join(&b);
        all.join(&c);
        assert_eq!(all.longest, 14);
        all.interrupt();
        all.join(&b);
        assert_eq!(all.longest, 14);
        all.free(12);
        assert_eq!(all.longest, 15);
    }
}
