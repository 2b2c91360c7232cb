//! Which OS pages of a range may be read, written or dropped: `/proc/self/pagemap`.
//!
//! A page that a fork still shares must not be written (the kernel would copy it), a swapped one not be
//! touched (it would be swapped in). Bits: Documentation/admin-guide/mm/pagemap.rst (63 present, 62
//! swapped, 56 exclusively mapped, since Linux 4.2).

use std::fs::File;
use std::os::unix::fs::FileExt;

pub(crate) const OS_PAGE: u64 = 4096;

/// Pages of an arena.
const PAGES: usize = 256;

/// The page map, open for one slice: between slices the program may close any descriptor.
pub(crate) struct PageMap(File);

impl PageMap {
    /// Opens it.
    pub(crate) fn open() -> Result<PageMap, String> {
        let open = File::open("/proc/self/pagemap");
        open.map(PageMap).map_err(|e| format!("/proc/self/pagemap cannot be read ({e})"))
    }

    /// The pages of an arena at `address`.
    pub(crate) fn arena(&self, address: u64) -> Option<Pages> {
        let mut bytes = [0; PAGES * 8];
        self.0.read_exact_at(&mut bytes, address / OS_PAGE * 8).ok()?;
        let mut pages = Pages { start: address, flags: [Page::default(); PAGES] };
        for (page, b) in pages.flags.iter_mut().zip(bytes.chunks_exact(8)) {
            *page = Page::of(u64::from_le_bytes(b.try_into().unwrap_or_default()));
        }
        Some(pages)
    }

    /// How many pages of a range are mapped by another process too.
    pub(crate) fn shared(&self, start: u64, end: u64) -> Result<u64, String> {
        let mut bytes = vec![0; 64 << 10];
        let (mut at, mut shared) = (start / OS_PAGE * 8, 0);
        let until = end / OS_PAGE * 8;
        while at < until {
            let most = bytes.len().min((until - at) as usize);
            let n = self.0.read_at(&mut bytes[..most], at).map_err(|e| e.to_string())? / 8 * 8;
            if n == 0 {
                break;
            }
            let pages = bytes[..n].chunks_exact(8);
            let pages =
                pages.map(|b| Page::of(u64::from_le_bytes(b.try_into().unwrap_or_default())));
            shared += pages.filter(|p| p.present && !p.own).count() as u64;
            at += n as u64;
        }
        Ok(shared)
    }

    /// The page that an address lies on.
    pub(crate) fn page(&self, address: u64) -> Option<Page> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, address / OS_PAGE * 8).ok()?;
        Some(Page::of(u64::from_le_bytes(bytes)))
    }
}

/// What the kernel says of a page.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) present: bool,
    pub(crate) swapped: bool,
    /// Present, and no other process maps it.
    pub(crate) own: bool,
}

impl Page {
    fn of(entry: u64) -> Page {
        let bit = |n: u32| entry >> n & 1 == 1;
        Page { present: bit(63), swapped: bit(62), own: bit(63) && bit(56) }
    }

    /// May be read and written without a copy or a swap.
    pub(crate) fn is_ours(self) -> bool {
        self.own
    }
}

/// The pages of one arena.
pub(crate) struct Pages {
    start: u64,
    flags: [Page; PAGES],
}

impl Pages {
    /// The page at an address in the arena.
    pub(crate) fn at(&self, address: u64) -> Page {
        let page = (address - self.start) / OS_PAGE;
        self.flags.get(page as usize).copied().unwrap_or(Page { swapped: true, ..Page::default() })
    }

    /// The pages of `start..end`, both multiples of a page.
    pub(crate) fn range(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, Page)> + '_ {
        (start..end).step_by(OS_PAGE as usize).map(|a| (a, self.at(a)))
    }

    /// Whether any page of the arena is swapped out.
    pub(crate) fn swapped(&self) -> bool {
        self.flags.iter().any(|p| p.swapped)
    }

    /// Whether any page of the arena is mapped by another process too, parked pools apart: of those at most
    /// the zero page is there, where somebody has read one.
    pub(crate) fn shares(&self, is_parked: impl Fn(u64) -> bool) -> bool {
        let shared = |(i, p): (usize, &Page)| {
            p.present && !p.own && !is_parked(self.start + i as u64 * OS_PAGE)
        };
        self.flags.iter().enumerate().any(shared)
    }
}
