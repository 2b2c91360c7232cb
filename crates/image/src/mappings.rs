//! The mappings of a process with what smaps counts of each.
//!
//! Owns the parser of `/proc/PID/smaps`. It is our own because it must hold 60,000 mappings in a few
//! MiB and take paths of any bytes; it allocates per distinct path, not per line.

use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a mapping permits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permissions {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `x`
    pub execute: bool,
    /// `s` rather than `p`
    pub shared: bool,
}

/// One mapping; sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Permissions.
    pub permissions: Permissions,
    /// Offset in the file.
    pub offset: u64,
    /// The file's device, major and minor number.
    pub device: (u32, u32),
    /// The file's inode on that device, 0 for none.
    pub inode: u64,
    /// The file's path in the target's root, or the kernel's name such as `[heap]`.
    pub name: Option<Arc<Path>>,
    /// Resident.
    pub rss: u64,
    /// Resident, divided by the processes that share it.
    pub pss: u64,
    /// Resident and mapped by this process only.
    pub private: u64,
    /// Resident and mapped by others too.
    pub shared: u64,
    /// Resident and anonymous: not (any more) a page of the file.
    pub anonymous: u64,
    /// Swapped out.
    pub swap: u64,
    /// On transparent huge pages.
    pub anon_huge_pages: u64,
    /// Merged by KSM.
    pub ksm: u64,
    /// Given back with MADV_FREE, not yet taken.
    pub lazy_free: u64,
    /// hugetlb pages; not in `rss`.
    pub hugetlb: u64,
}

impl Mapping {
    /// Whether the address lies inside.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// What tells its file from all others.
    pub fn file_id(&self) -> ((u32, u32), u64) {
        (self.device, self.inode)
    }

    /// The name as bytes, empty when there is none.
    pub fn name_bytes(&self) -> &[u8] {
        self.name.as_deref().map_or(&[], |p| p.as_os_str().as_bytes())
    }

    /// Backed by a file that has a path: not `[heap]` and the like.
    pub fn is_file(&self) -> bool {
        self.inode != 0 && self.name_bytes().first() == Some(&b'/')
    }

    /// Private memory with no file behind it: unnamed, `[heap]`, or named by prctl.
    pub fn is_private_anonymous(&self) -> bool {
        let name = self.name_bytes();
        !self.permissions.shared
            && self.inode == 0
            && (name.is_empty() || name == b"[heap]" || name.starts_with(b"[anon:"))
    }
}

/// A line that no kernel writes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The text cannot be read.
    #[error("smaps could not be read: {0}")]
    Read(#[from] std::io::Error),
    /// A line does not parse.
    #[error("line {line} of smaps is not understood: {text:?}")]
    Line {
        /// Number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
}

/// The mappings of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Smaps {
    /// In order of address, not overlapping.
    pub mappings: Vec<Mapping>,
    /// Mappings that grew over one listed before them: the kernel lists a few at a time, and the
    /// process ran on in between. They were cut to what lies behind.
    pub overlaps: usize,
}

/// Parses `/proc/PID/smaps` (or `maps`, which leaves the counts zero).
pub fn parse_smaps(mut from: impl BufRead) -> Result<Smaps, ParseError> {
    let mut all: Vec<Mapping> = Vec::new();
    let mut overlaps = 0;
    // Counts that follow a mapping which lies wholly inside the one before it are passed over.
    let mut inside = false;
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            cut_counts(&mut all);
            return Ok(Smaps { mappings: all, overlaps });
        }
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        // A field begins with a capital letter, a mapping with an address in lower-case hex.
        let understood = if text.first().is_some_and(u8::is_ascii_uppercase) {
            inside || all.last_mut().is_some_and(|m| field(m, text).is_some())
        } else {
            let last = all.last();
            let mapping = header(text, last.and_then(|m| m.name.as_ref()));
            let end = last.map_or(0, |m| m.end);
            inside = false;
            let mut understood_header = true;
            match mapping {
                Some(m) if m.start >= end => all.push(m),
                Some(m) => {
                    overlaps += 1;
                    inside = m.end <= end;
                    if !inside {
                        all.push(Mapping { start: end, ..m });
                    }
                }
                None => understood_header = false,
            }
            understood_header
        };
        if !understood {
            let text = String::from_utf8_lossy(text).into_owned();
            return Err(ParseError::Line { line: number, text });
        }
    }
}

/// Nothing has more resident bytes than bytes: a mapping that was cut keeps its share at most.
fn cut_counts(all: &mut [Mapping]) {
    for m in all {
        let size = m.end - m.start;
        for count in [&mut m.rss, &mut m.pss, &mut m.private, &mut m.shared, &mut m.anonymous] {
            *count = (*count).min(size);
        }
    }
}

fn header(line: &[u8], previous_name: Option<&Arc<Path>>) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let start = rest.iter().position(|b| *b != b' ')?;
        let trimmed = &rest[start..];
        let end = trimmed.iter().position(|b| *b == b' ').unwrap_or(trimmed.len());
        let (word, tail) = trimmed.split_at(end);
        rest = tail;
        std::str::from_utf8(word).ok()
    };
    let (start, end) = word()?.split_once('-')?;
    let permissions = match word()?.as_bytes() {
        [r, w, x, s] => Permissions {
            read: *r == b'r',
            write: *w == b'w',
            execute: *x == b'x',
            shared: *s == b's',
        },
        _ => return None,
    };
    let hex = |s| u64::from_str_radix(s, 16).ok();
    let (start, end) = (hex(start)?, hex(end)?);
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let number = |s| u32::from_str_radix(s, 16).ok();
    let device = (number(major)?, number(minor)?);
    let inode = word()?.parse().ok()?;
    // The kernel pads with spaces; a name may hold and begin with any byte but a line feed.
    let name = rest.iter().position(|b| *b != b' ').map(|at| &rest[at..]);
    let name = name.map(|n| match previous_name {
        Some(p) if p.as_os_str().as_bytes() == n => Arc::clone(p),
        _ => Arc::from(PathBuf::from(std::ffi::OsStr::from_bytes(n))),
    });
    (start < end).then_some(Mapping {
        start,
        end,
        permissions,
        offset,
        device,
        inode,
        name,
        ..Default::default()
    })
}

fn field(m: &mut Mapping, line: &[u8]) -> Option<()> {
    let colon = line.iter().position(|b| *b == b':')?;
    let bytes = || {
        let value = std::str::from_utf8(&line[colon + 1..]).ok()?;
        value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    match &line[..colon] {
        b"Rss" => m.rss = bytes()?,
        b"Pss" => m.pss = bytes()?,
        b"Private_Clean" | b"Private_Dirty" => m.private = m.private.checked_add(bytes()?)?,
        b"Shared_Clean" | b"Shared_Dirty" => m.shared = m.shared.checked_add(bytes()?)?,
        b"Anonymous" => m.anonymous = bytes()?,
        b"Swap" => m.swap = bytes()?,
        b"AnonHugePages" => m.anon_huge_pages = bytes()?,
        b"KSM" => m.ksm = bytes()?,
        b"LazyFree" => m.lazy_free = bytes()?,
        b"Shared_Hugetlb" | b"Private_Hugetlb" => m.hugetlb = m.hugetlb.checked_add(bytes()?)?,
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"55bf35d59000-55bf35d5b000 r--p 00001000 fe:00 247030                     /usr/bin/a b (deleted)
Rss:                   8 kB
Pss:                   3 kB
Private_Clean:         4 kB
Private_Dirty:         4 kB
VmFlags: rd mr mw me
7f0000000000-7f0000004000 rw-s 00000000 00:01 7 /memfd:\xff
7ffd0a9c6000-7ffd0a9e8000 rw-p 00000000 00:00 0 
Rss:                  12 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn mappings_and_counts_are_read() {
        let m = parse_smaps(TEXT).unwrap().mappings;
        assert_eq!(m.len(), 4);
        assert_eq!(m[0].name_bytes(), b"/usr/bin/a b (deleted)");
        assert_eq!((m[0].rss, m[0].pss, m[0].private, m[0].offset), (8192, 3072, 8192, 4096));
        assert!(m[0].is_file() && !m[0].is_private_anonymous());
        assert!(m[1].permissions.shared && m[1].name_bytes() == b"/memfd:\xff");
        assert!(m[2].is_private_anonymous() && m[2].name.is_none() && m[2].rss == 12288);
        assert_eq!(m[3].name_bytes(), b"[vsyscall]");
    }

    #[test]
    fn own_smaps_and_maps_agree() {
        let open = |f| std::io::BufReader::new(std::fs::File::open(f).unwrap());
        let smaps = parse_smaps(open("/proc/self/smaps")).unwrap();
        assert!(smaps.mappings.iter().any(|m| m.name_bytes() == b"[heap]" && m.rss > 0));
        assert!(!parse_smaps(open("/proc/self/maps")).unwrap().mappings.is_empty());
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for bad in [
            "Rss: 8 kB\n",
            "5-4 r--p 0 0:0 0\n",
            "1-2 r--p 0 0:0 0\nRss: 99999999999999999999 kB\n",
            "1-2 r--p 0 0:0 0\nRss: 18014398509481984 kB\n",
            "zz\n",
            "\n",
        ] {
            assert!(matches!(parse_smaps(bad.as_bytes()), Err(ParseError::Line { .. })), "{bad}");
        }
    }

    #[test]
    fn mappings_that_grew_over_the_one_before_are_cut() {
        let text = "1000-3000 rw-p 0 0:0 0\nRss: 8 kB\n2000-4000 rw-p 0 0:0 0\nRss: 8 kB\n2000-3000 rw-p 0 0:0 0\nRss: 4 kB\n";
        let s = parse_smaps(text.as_bytes()).unwrap();
        let seen: Vec<_> = s.mappings.iter().map(|m| (m.start, m.end, m.rss)).collect();
        assert_eq!((seen, s.overlaps), (vec![(0x1000, 0x3000, 8192), (0x3000, 0x4000, 4096)], 2));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9a-fA-Fr :kBRsP\n-]{0,200}") {
            let _ = parse_smaps(text.as_bytes());
        }
    }
}
