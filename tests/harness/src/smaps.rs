//! The kernel's account of a process, read without any of pydefrag's own readers, so that a test can
//! show that looking changed nothing.

use std::fs;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

/// What looking at a process must leave as it was; in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// smaps' `Rss`, summed.
    pub rss: u64,
    /// smaps' `Swap`, summed.
    pub swap: u64,
    /// `VmPTE`: the page tables.
    pub page_tables: u64,
}

/// `VmHWM`, the highest RSS so far, in bytes. Panics where the process is gone.
pub fn peak(pid: u32) -> u64 {
    sum_kib(&read(pid, "status"), "VmHWM:")
}

/// Time of a processor that a process has used so far, its children left out. Panics where it is gone.
pub fn processor_time(pid: u32) -> Duration {
    let stat = read(pid, "stat");
    // Behind the name, which may hold anything: utime and stime are the 14th and 15th field, in ticks of 10 ms.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks = behind.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// A fingerprint of a process's page map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageMap {
    /// OS pages in all mappings.
    pub pages: u64,
    /// Those that are present, the zero page included.
    pub present: u64,
    /// Those that are swapped out.
    pub swapped: u64,
    /// A hash of where the mappings are and of each page's flags.
    pub hash: u64,
}

const PAGE: u64 = 4096;

/// The flags of a pagemap entry: bits 55 to 63.
const FLAGS: u64 = 0x1ff << 55;
const EXCLUSIVE: u64 = 1 << 56;
/// A guard page (glibc 2.43 puts them at the end of thread stacks): it looks swapped out as well.
const GUARD: u64 = 1 << 58;
const FILE_OR_SHARED: u64 = 1 << 61;
const SWAPPED: u64 = 1 << 62;
const PRESENT: u64 = 1 << 63;

impl Memory {
    /// The account of a process now. Panics where the process is gone or may not be read.
    pub fn of(pid: u32) -> Self {
        let smaps = read(pid, "smaps");
        Self {
            rss: sum_kib(&smaps, "Rss:"),
            swap: sum_kib(&smaps, "Swap:"),
            page_tables: sum_kib(&read(pid, "status"), "VmPTE:"),
        }
    }
}

impl PageMap {
    /// The fingerprint of a process now; needs the right to read its page map.
    ///
    /// Left out: the page frames, which the kernel may exchange by itself, and whether a page of a
    /// file is mapped exclusively, which changes when any other process maps that file.
    pub fn of(pid: u32) -> Self {
        let pagemap = path(pid, "pagemap");
        let pagemap = File::open(&pagemap).unwrap_or_else(|e| panic!("{}: {e}", pagemap.display()));
        let mut map = Self { pages: 0, present: 0, swapped: 0, hash: 0 };
        let mut hasher = DefaultHasher::new();
        for (start, end) in mappings(pid) {
            hasher.write_u64(start);
            hasher.write_u64(end);
            let mut entries = vec![0; ((end - start) / PAGE * 8) as usize];
            pagemap
                .read_exact_at(&mut entries, start / PAGE * 8)
                .unwrap_or_else(|e| panic!("pagemap of {pid} at {start:#x}: {e}"));
            for entry in entries.chunks_exact(8) {
                let mut flags = u64::from_le_bytes(entry.try_into().expect("8 bytes")) & FLAGS;
                if flags & FILE_OR_SHARED != 0 {
                    flags &= !EXCLUSIVE;
                }
                map.pages += 1;
                map.present += u64::from(flags & PRESENT != 0);
                map.swapped += u64::from(flags & (SWAPPED | GUARD) == SWAPPED);
                hasher.write_u64(flags);
            }
        }
        map.hash = hasher.finish();
        map
    }
}

/// The number of mappings: lines of `/proc/PID/maps`.
pub fn mapping_count(pid: u32) -> usize {
    read(pid, "maps").lines().count()
}

/// Start and end of every mapping of the process's own half of the address space.
fn mappings(pid: u32) -> Vec<(u64, u64)> {
    let maps = read(pid, "maps");
    let lines = maps.lines().filter(|line| !line.ends_with("[vsyscall]"));
    let range = |line: &str| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
    };
    lines.map(|line| range(line).unwrap_or_else(|| panic!("a line of maps: {line}"))).collect()
}

fn sum_kib(text: &str, label: &str) -> u64 {
    let of_line = |line: &str| -> Option<u64> {
        line.strip_prefix(label)?.trim().strip_suffix(" kB")?.parse().ok()
    };
    text.lines().filter_map(of_line).sum::<u64>() * 1024
}

fn path(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

fn read(pid: u32, file: &str) -> String {
    let path = path(pid, file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
