//! Reading for malloc's walker: pages at random, and windows in a row.
//!
//! Owns both caches. What is not resident reads as zero, what is swapped or unmapped as an error of
//! that page; only a process that is gone or forbids reading ends the walk.

use pydefrag_image::{Image, OS_PAGE, ReadError};
use rustc_hash::FxHashMap;

/// Pages that are kept: 32 MiB.
const MOST_PAGES: usize = 8192;
const PAGE: usize = OS_PAGE as usize;

/// A cache of single pages, for lists that jump.
pub(crate) struct Pages<'a> {
    pub(crate) image: &'a Image,
    pages: FxHashMap<u64, Option<Box<[u8; PAGE]>>>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(image: &'a Image) -> Self {
        Pages { image, pages: FxHashMap::default() }
    }

    /// The word at an address; `None` where it cannot be read.
    pub(crate) fn word(&mut self, at: u64) -> Result<Option<u64>, ReadError> {
        let (page, offset) = (at & !(OS_PAGE - 1), (at & (OS_PAGE - 1)) as usize);
        if offset > PAGE - 8 {
            let mut bytes = [0; 8];
            return Ok(usable(self.image.read(at, &mut bytes))?.map(|()| u64::from_le_bytes(bytes)));
        }
        if !self.pages.contains_key(&page) {
            if self.pages.len() >= MOST_PAGES {
                self.pages.clear();
            }
            let mut bytes = Box::new([0; PAGE]);
            let read = usable(self.image.read(page, &mut bytes[..]))?;
            self.pages.insert(page, read.map(|()| bytes));
        }
        let word = |b: &[u8; PAGE]| u64::from_le_bytes(b[offset..offset + 8].try_into().unwrap());
        Ok(self.pages[&page].as_deref().map(word))
    }

    /// Forgets what was read, so that it is read again.
    pub(crate) fn forget(&mut self) {
        self.pages.clear();
    }
}

/// A window of consecutive bytes that moves upwards.
pub(crate) struct Window<'a> {
    image: &'a Image,
    start: u64,
    end: u64,
    /// Nothing is read beyond.
    limit: u64,
    bytes: Vec<u8>,
}

const WINDOW: u64 = 256 << 10;

impl<'a> Window<'a> {
    pub(crate) fn new(image: &'a Image, limit: u64) -> Self {
        Window { image, start: 0, end: 0, limit, bytes: Vec::new() }
    }

    /// The two words at `at`; `None` where they cannot be read.
    pub(crate) fn pair(&mut self, at: u64) -> Result<Option<(u64, u64)>, ReadError> {
        if at < self.start || at + 16 > self.end {
            // A chunk or two before what is wanted may be wanted again.
            self.load(at & !(OS_PAGE - 1))?;
        }
        if at < self.start || at + 16 > self.end {
            return Ok(None);
        }
        let from = (at - self.start) as usize;
        let word = |i: usize| u64::from_le_bytes(self.bytes[i..i + 8].try_into().unwrap());
        Ok(Some((word(from), word(from + 8))))
    }

    /// Reads again from `at` on.
    pub(crate) fn load(&mut self, at: u64) -> Result<(), ReadError> {
        let start = at & !(OS_PAGE - 1);
        let mut end = (start + WINDOW).min(self.limit.next_multiple_of(OS_PAGE)).max(start);
        self.bytes.resize((end - start) as usize, 0);
        if usable(self.image.read(start, &mut self.bytes))?.is_none() {
            // As far as it can be read.
            let mut upto = start;
            while upto < end {
                let part = (upto - start) as usize;
                let page = &mut self.bytes[part..part + PAGE];
                if usable(self.image.read(upto, page))?.is_none() {
                    break;
                }
                upto += OS_PAGE;
            }
            end = upto;
        }
        self.bytes.truncate((end - start) as usize);
        (self.start, self.end) = (start, end);
        Ok(())
    }
}

fn usable(result: Result<(), ReadError>) -> Result<Option<()>, ReadError> {
    match result {
        Ok(()) => Ok(Some(())),
        Err(e @ (ReadError::Gone | ReadError::Denied)) => Err(e),
        Err(_) => Ok(None),
    }
}
