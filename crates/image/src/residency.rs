//! Which OS pages are resident, and how.
//!
//! Residency is *present and not the zero page*. Owns both ways to learn it: `PAGEMAP_SCAN` (kernel
//! 6.7+), and the 64-bit entries of `/proc/PID/pagemap`, where a zero page looks like a page shared by
//! copy-on-write and smaps must decide. Neither changes the process.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::OS_PAGE;
use crate::mappings::Mapping;
use crate::pace::Pace;

/// Neighbouring OS pages that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRun {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Present and not the zero page; else swapped out.
    pub resident: bool,
    /// On a transparent huge page.
    pub huge: bool,
    /// Mapped by other processes too. Only told of mappings that smaps counts as shared.
    pub shared: bool,
}

/// Bytes of a range, by residency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Resident.
    pub resident: u64,
    /// Swapped out.
    pub swapped: u64,
    /// Resident on transparent huge pages.
    pub huge: u64,
    /// Resident and mapped by other processes too.
    pub shared: u64,
}

/// The residency of all mappings of a process: runs in order of address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Residency {
    runs: Vec<PageRun>,
}

const FILE_OR_SHARED: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;
/// `MADV_GUARD_INSTALL`: told as swapped too, but nothing is in swap.
const GUARD: u64 = 1 << 58;
const SWAPPED: u64 = 1 << 62;
const PRESENT: u64 = 1 << 63;

impl Residency {
    /// Looks at every mapping that has something resident or swapped.
    pub fn of(pid: i32, mappings: &[Mapping]) -> io::Result<Residency> {
        Self::paced(pid, mappings, &Pace::default())
    }

    pub(crate) fn paced(pid: i32, mappings: &[Mapping], pace: &Pace) -> io::Result<Residency> {
        let file = File::open(format!("/proc/{pid}/pagemap"))?;
        let unknown = |e: &io::Error| matches!(e.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL));
        // Guard pages are told from swapped ones by newer kernels, which alone know the category.
        for guard in [IS_GUARD, 0] {
            match Self::scan(&file, mappings, guard, pace) {
                Err(e) if unknown(&e) => {}
                result => return result,
            }
        }
        Self::entries(&file, mappings)
    }

    /// From runs that are known otherwise, in order and not overlapping.
    pub fn from_runs(runs: Vec<PageRun>) -> Residency {
        Residency { runs }
    }

    /// With `PAGEMAP_SCAN`; sharing from pagemap's entries where smaps counts shared pages.
    fn scan(file: &File, mappings: &[Mapping], guard: u64, pace: &Pace) -> io::Result<Residency> {
        let mut all = Residency::default();
        for m in mappings.iter().filter(|m| m.rss > 0 || m.swap > 0) {
            // By itself: its first run must not become part of its neighbour's last.
            let mut plain = Residency::default();
            pace.locked(|| scan_range(file, m.start, m.end, guard, &mut plain))?;
            let shares = m.shared > 0 && m.anonymous > 0;
            // A page that the kernel is moving looks swapped, though smaps counts it as resident. Where guard
            // pages are told apart, nothing else does in a mapping without swap.
            let moving = m.swap == 0 && guard != 0;
            for mut run in plain.runs {
                run.resident |= moving;
                match shares {
                    true => all.split_by_sharing(file, run)?,
                    false => all.push(run),
                }
            }
        }
        Ok(all)
    }

    fn split_by_sharing(&mut self, file: &File, run: PageRun) -> io::Result<()> {
        if !run.resident {
            self.push(run);
            return Ok(());
        }
        for_each_entry(file, run.start, run.end, |at, entry| {
            let shared = entry & EXCLUSIVE == 0;
            self.push(PageRun { start: at, end: at + OS_PAGE, shared, ..run });
        })
    }

    /// With pagemap's entries alone (before kernel 6.7).
    ///
    /// An entry that is present, neither file nor exclusive is the zero page or a page shared by
    /// copy-on-write. Where smaps counts no such pages they are all zero pages; else they are taken
    /// as resident, and the difference to smaps shows what was wrong.
    fn entries(file: &File, mappings: &[Mapping]) -> io::Result<Residency> {
        let mut all = Residency::default();
        for m in mappings.iter().filter(|m| m.rss > 0 || m.swap > 0) {
            let mut plain = Residency::default();
            let mut doubtful = 0;
            let mut present = 0;
            for_each_entry(file, m.start, m.end, |at, entry| {
                if entry & (PRESENT | SWAPPED) == 0 || entry & GUARD != 0 {
                    return;
                }
                let resident = entry & PRESENT != 0;
                let shared = resident && entry & EXCLUSIVE == 0;
                present += u64::from(resident) * OS_PAGE;
                let doubt = shared && entry & FILE_OR_SHARED == 0;
                doubtful += u64::from(doubt) * OS_PAGE;
                // A run of doubtful pages is marked huge for the moment, which entries never tell.
                plain.push(PageRun { start: at, end: at + OS_PAGE, resident, huge: doubt, shared });
            })?;
            let zero_pages = doubtful > 0 && present - doubtful == m.rss;
            for run in plain.runs.into_iter().filter(|r| !(r.huge && zero_pages)) {
                all.push(PageRun { huge: false, ..run });
            }
        }
        Ok(all)
    }

    /// Appends a run, merging it with the last one when they are neighbours and alike.
    fn push(&mut self, run: PageRun) {
        match self.runs.last_mut() {
            Some(l)
                if l.end == run.start
                    && (PageRun { start: l.start, end: run.end, ..run })
                        == (PageRun { end: run.end, ..*l }) =>
            {
                l.end = run.end;
            }
            _ => self.runs.push(run),
        }
    }

    /// The runs of a range, cut to it. A range that ends before it starts, as a torn size makes one,
    /// has none.
    pub fn runs_in(&self, start: u64, end: u64) -> impl Iterator<Item = PageRun> + '_ {
        let end = if end < start { 0 } else { end };
        let from = self.runs.partition_point(|r| r.end <= start);
        self.runs[from..].iter().take_while(move |r| r.start < end).map(move |r| PageRun {
            start: r.start.max(start),
            end: r.end.min(end),
            ..*r
        })
    }

    /// Sums a range.
    pub fn tally(&self, start: u64, end: u64) -> Tally {
        let mut sum = Tally::default();
        for r in self.runs_in(start, end) {
            let bytes = r.end - r.start;
            if r.resident {
                sum.resident += bytes;
                sum.huge += if r.huge { bytes } else { 0 };
                sum.shared += if r.shared { bytes } else { 0 };
            } else {
                sum.swapped += bytes;
            }
        }
        sum
    }

    /// The run that an address lies in, if its page is resident or swapped.
    pub fn run_at(&self, address: u64) -> Option<PageRun> {
        self.runs_in(address, address + 1).next()?;
        let i = self.runs.partition_point(|r| r.end <= address);
        self.runs.get(i).copied()
    }
}

/// Whether this entry of pagemap is of a page that a fork or KSM shares, or of the zero page.
pub(crate) fn is_copied_when_written(entry: u64) -> bool {
    entry & PRESENT != 0 && entry & (FILE_OR_SHARED | EXCLUSIVE) == 0
}

/// Calls back with every page's pagemap entry.
fn for_each_entry(
    file: &File,
    start: u64,
    end: u64,
    mut each: impl FnMut(u64, u64),
) -> io::Result<()> {
    let mut buffer = vec![0u8; 64 << 10];
    let mut at = start;
    while at < end {
        let pages = ((end - at) / OS_PAGE).min(buffer.len() as u64 / 8);
        let part = &mut buffer[..pages as usize * 8];
        let got = file.read_at(part, at / OS_PAGE * 8)?;
        if got == 0 {
            break;
        }
        for (i, e) in part[..got].chunks_exact(8).enumerate() {
            each(at + i as u64 * OS_PAGE, u64::from_le_bytes(e.try_into().unwrap()));
        }
        at += got as u64 / 8 * OS_PAGE;
    }
    Ok(())
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
const IS_PRESENT: u64 = 1 << 3;
const IS_SWAPPED: u64 = 1 << 4;
const IS_PFNZERO: u64 = 1 << 5;
const IS_HUGE: u64 = 1 << 6;
const IS_GUARD: u64 = 1 << 8;

/// The kernel holds the process's map while it scans: a part at a time, so that a process which maps
/// and unmaps all the while is not kept waiting.
const SCAN_STEP: u64 = 64 << 20;

fn scan_range(
    file: &File,
    start: u64,
    end: u64,
    guard: u64,
    into: &mut Residency,
) -> io::Result<()> {
    let mut regions = [PageRegion::default(); 512];
    let mut at = start;
    while at < end {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start: at,
            end: end.min(at.saturating_add(SCAN_STEP)),
            vec: regions.as_mut_ptr() as u64,
            vec_len: regions.len() as u64,
            category_mask: IS_PFNZERO | guard,
            category_inverted: IS_PFNZERO | guard,
            category_anyof_mask: IS_PRESENT | IS_SWAPPED,
            return_mask: IS_PRESENT | IS_SWAPPED | IS_HUGE,
            ..Default::default()
        };
        // SAFETY: `arg` is a `pm_scan_arg` of the size it says; `vec` points to `vec_len` regions,
        // exclusively borrowed for the call, of which the kernel fills at most that many.
        let n = unsafe { libc::ioctl(file.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        for r in &regions[..n as usize] {
            into.push(PageRun {
                start: r.start,
                end: r.end,
                resident: r.categories & IS_PRESENT != 0,
                huge: r.categories & IS_HUGE != 0,
                shared: false,
            });
        }
        if arg.walk_end <= at {
            break;
        }
        at = arg.walk_end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mappings::parse_smaps;

    /// 16 fresh pages of ours: 2 written, 1 only read (the zero page), the rest untouched.
    fn planted() -> (u64, u64) {
        let length = 16 * OS_PAGE as usize;
        // SAFETY: a new private anonymous mapping; the test writes and reads inside it only.
        unsafe {
            let at = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(at, libc::MAP_FAILED);
            libc::madvise(at, length, libc::MADV_NOHUGEPAGE);
            let at = at.cast::<u8>();
            at.add(4096).write_volatile(1);
            at.add(2 * 4096).write_volatile(1);
            at.add(5 * 4096).read_volatile();
            (at as u64, at as u64 + length as u64)
        }
    }

    #[test]
    fn written_pages_are_resident_and_the_zero_page_is_not_by_both_ways() {
        let (start, end) = planted();
        let smaps = std::io::BufReader::new(File::open("/proc/self/smaps").unwrap());
        let mapping =
            Mapping { start, end, rss: 2 * OS_PAGE, anonymous: 2 * OS_PAGE, ..Default::default() };
        assert!(parse_smaps(smaps).unwrap().mappings.iter().any(|m| m.contains(start)));
        let file = File::open("/proc/self/pagemap").unwrap();
        let ways = [
            Residency::entries(&file, std::slice::from_ref(&mapping)).unwrap(),
            Residency::of(std::process::id() as i32, std::slice::from_ref(&mapping)).unwrap(),
        ];
        for r in ways {
            let got = r.tally(start, end);
            assert_eq!(got, Tally { resident: 2 * OS_PAGE, ..Default::default() });
            let runs: Vec<_> =
                r.runs_in(start, start + 2 * OS_PAGE).map(|r| (r.start, r.end)).collect();
            assert_eq!(runs, [(start + OS_PAGE, start + 2 * OS_PAGE)]);
            assert!(r.run_at(start).is_none() && r.run_at(start + OS_PAGE).is_some());
        }
    }

    #[test]
    fn sharing_is_told_page_by_page() {
        let (start, end) = planted();
        let child = {
            // SAFETY: the child calls only async-signal-safe functions before it is killed.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    loop {
                        libc::pause();
                    }
                }
                child
            }
        };
        assert!(child > 0);
        // SAFETY: our own mapping, made above; writing copies the page for us.
        unsafe { (start as *mut u8).add(4096).write_volatile(2) };
        let m =
            Mapping { start, end, rss: 8192, shared: 4096, anonymous: 8192, ..Default::default() };
        let r = Residency::of(std::process::id() as i32, &[m]).unwrap();
        let got = r.tally(start, end);
        // SAFETY: kills and reaps the child made above.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
        assert_eq!((got.resident, got.shared), (8192, 4096));
    }

    #[test]
    fn a_range_that_ends_before_it_starts_has_nothing() {
        let mut all = Residency::default();
        all.push(PageRun { start: 0, end: OS_PAGE, resident: true, huge: false, shared: false });
        assert_eq!(all.tally(8, 0), Tally::default());
        assert_eq!(all.tally(8, 16).resident, 8);
    }
}
