//! CPython's runtime per version: where an interpreter keeps pymalloc and its allocator tables.
//!
//! Owns the offsets from `_PyRuntime` and inside `PyInterpreterState`, as data, and the reader of
//! `_Py_DebugOffsets` (3.13+). Offsets that move in patch releases are hints: whoever uses one must
//! confirm what it finds there ([`crate::pymalloc::usedpools`]).
//!
//! Read from DWARF of 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1, 3.13.0, 3.13.15, 3.14.4, Debian's
//! 3.14.10 and 3.15.2.

use crate::pymalloc::Geometry;
use crate::word::{u32_at, u64_at};

/// A version of CPython with its patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 3.
    pub major: u8,
    /// 8 to 15 are supported.
    pub minor: u8,
    /// Patch level.
    pub micro: u8,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl Version {
    /// From `PY_VERSION_HEX`: major, minor, micro, then level and serial, a byte each.
    pub fn from_hex(hex: u64) -> Option<Version> {
        let [_, micro, minor, major] = u32::try_from(hex).ok()?.to_le_bytes();
        ((2..=4).contains(&major) && minor < 100).then_some(Version { major, minor, micro })
    }

    /// Finds the text that `Py_GetVersion()` builds at start: `3.8.18 (default, Aug…`, NUL-ended.
    ///
    /// The only trace of the version in memory before 3.11. `bytes` is the interpreter's data.
    pub fn find_in(bytes: &[u8]) -> Option<Version> {
        let starts = |at: &usize| {
            matches!(bytes.get(*at..at + 2), Some(b"2." | b"3."))
                && (*at == 0 || bytes[at - 1] == 0)
        };
        (0..bytes.len()).filter(starts).find_map(|at| {
            let text = &bytes[at..bytes.len().min(at + 24)];
            let (number, build) = text.split_at(text.iter().position(|b| *b == b' ')?);
            let number = std::str::from_utf8(number).ok()?;
            if !build.starts_with(b" (") {
                return None;
            }
            let mut parts = number.splitn(3, '.');
            let mut number = || {
                let digits = parts.next()?;
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                digits[..end].parse().ok()
            };
            Some(Version { major: number()?, minor: number()?, micro: number()? })
        })
    }
}

/// Where an interpreter's `_obmalloc_state` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obmalloc {
    /// Static variables, one set for all interpreters (3.8-3.11).
    Static,
    /// Inside `PyInterpreterState`, at this offset (3.12).
    Inline(u64),
    /// Behind a pointer in `PyInterpreterState`, at one of these offsets (3.13+).
    Pointer(&'static [u64]),
}

/// What a minor version's layout is.
#[derive(Debug, Clone, Copy)]
pub struct Runtime {
    /// Minor version.
    pub minor: u8,
    /// pymalloc's sizes, likeliest first.
    pub geometries: &'static [Geometry],
    /// Where the state of pymalloc is.
    pub obmalloc: Obmalloc,
    /// Offset of `interpreters.head` in `_PyRuntime` (3.13+: `_Py_DebugOffsets` says).
    pub interpreters_head: u64,
    /// Offset of `next` in `PyInterpreterState` (3.13+: `_Py_DebugOffsets` says).
    pub interp_next: u64,
    /// Offset of `id` in `PyInterpreterState` (3.13+: `_Py_DebugOffsets` says).
    pub interp_id: u64,
    /// Offset of `allocators.standard` in `_PyRuntime`; `None` where they are static variables.
    pub allocators: Option<u64>,
}

const SMALL: &[Geometry] = &[Geometry::SMALL];
const LARGE: &[Geometry] = &[Geometry::LARGE];
const LARGE_OR_HUGE: &[Geometry] = &[Geometry::LARGE, Geometry::HUGE];

#[rustfmt::skip]
const RUNTIMES: [Runtime; 8] = [
    Runtime { minor:  8, geometries: SMALL, obmalloc: Obmalloc::Static, interpreters_head: 32, interp_next: 0, interp_id: 16, allocators: None },
    Runtime { minor:  9, geometries: SMALL, obmalloc: Obmalloc::Static, interpreters_head: 32, interp_next: 0, interp_id: 24, allocators: None },
    Runtime { minor: 10, geometries: LARGE, obmalloc: Obmalloc::Static, interpreters_head: 32, interp_next: 0, interp_id: 24, allocators: None },
    Runtime { minor: 11, geometries: LARGE, obmalloc: Obmalloc::Static, interpreters_head: 40, interp_next: 0, interp_id: 48, allocators: None },
    Runtime { minor: 12, geometries: LARGE, obmalloc: Obmalloc::Inline(3960), interpreters_head: 40, interp_next: 0, interp_id: 8, allocators: Some(96) },
    Runtime { minor: 13, geometries: LARGE, obmalloc: Obmalloc::Pointer(&[10800]), interpreters_head: 632, interp_next: 7264, interp_id: 7272, allocators: Some(704) },
    Runtime { minor: 14, geometries: LARGE, obmalloc: Obmalloc::Pointer(&[10904, 10880, 10872]), interpreters_head: 808, interp_next: 7272, interp_id: 7280, allocators: Some(880) },
    Runtime { minor: 15, geometries: LARGE_OR_HUGE, obmalloc: Obmalloc::Pointer(&[10880]), interpreters_head: 936, interp_next: 7264, interp_id: 7272, allocators: Some(1008) },
];

/// The layout of a version: the one place where versions are told apart.
pub fn runtime(version: Version) -> Option<&'static Runtime> {
    RUNTIMES.iter().find(|r| version.major == 3 && r.minor == version.minor)
}

/// The newest minor version that was tried.
pub fn newest() -> u8 {
    RUNTIMES[RUNTIMES.len() - 1].minor
}

/// The head of `_Py_DebugOffsets`, the same in 3.13, 3.14 and 3.15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugOffsets {
    /// `PY_VERSION_HEX`.
    pub version_hex: u64,
    /// Built without the GIL.
    pub free_threaded: bool,
    /// Offset of `interpreters.head` in `_PyRuntime`.
    pub interpreters_head: u64,
    /// Size of `PyInterpreterState`.
    pub interp_size: u64,
    /// Offset of `id` in `PyInterpreterState`.
    pub interp_id: u64,
    /// Offset of `next` in `PyInterpreterState`.
    pub interp_next: u64,
}

/// Bytes of `_PyRuntime` that [`debug_offsets`] wants.
pub const DEBUG_OFFSETS_HEAD: usize = 80;

/// Reads `_Py_DebugOffsets` from the start of `_PyRuntime`; `None` without its cookie.
pub fn debug_offsets(bytes: &[u8]) -> Option<DebugOffsets> {
    let found = DebugOffsets {
        version_hex: u64_at(bytes, 8),
        free_threaded: u64_at(bytes, 16) != 0,
        interpreters_head: u64_at(bytes, 40),
        interp_size: u64_at(bytes, 48),
        interp_id: u64_at(bytes, 56),
        interp_next: u64_at(bytes, 64),
    };
    let inside = |o: u64| o < found.interp_size && o.is_multiple_of(8);
    (bytes.get(..8)? == b"xdebugpy"
        && (1 << 10..1 << 20).contains(&found.interp_size)
        && found.interpreters_head < 1 << 20
        && inside(found.interp_id)
        && inside(found.interp_next)
        && u32_at(bytes, 12) == 0)
        .then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_text_is_found_and_others_are_not() {
        let v = |major, minor, micro| Some(Version { major, minor, micro });
        let find = |b: &[u8]| Version::find_in(b);
        assert_eq!(find(b"junk\x003.8.18 (default, Aug 25 2023)\0"), v(3, 8, 18));
        assert_eq!(find(b"3.15.0rc1+ (main, x)\0"), v(3, 15, 0));
        assert_eq!(find(b"\x002.7.18 (default, "), v(2, 7, 18));
        assert_eq!(find(b"see 3.8.18 (default"), None);
        assert_eq!(find(b"\x003.8 (x"), None);
        assert_eq!(find(b"\x003.8.18"), None);
        assert_eq!(find(b"\x003.8.999 (x"), None);
    }

    #[test]
    fn hex_versions_are_read() {
        assert_eq!(Version::from_hex(0x030f_02f0).unwrap().to_string(), "3.15.2");
        assert_eq!(Version::from_hex(0), None);
    }

    #[test]
    fn every_minor_from_8_to_15_has_a_layout_and_no_other() {
        for minor in 0..30 {
            let found = runtime(Version { major: 3, minor, micro: 0 });
            assert_eq!(found.map(|r| r.minor), (8..=15).contains(&minor).then_some(minor));
        }
    }

    #[test]
    fn debug_offsets_want_their_cookie_and_sane_values() {
        let mut b = [0u8; 80];
        b[..8].copy_from_slice(b"xdebugpy");
        for (at, v) in [(8, 0x030e_0af0u64), (40, 808), (48, 225_864), (56, 7280), (64, 7272)] {
            b[at..at + 8].copy_from_slice(&v.to_le_bytes());
        }
        assert_eq!(debug_offsets(&b).unwrap().interp_next, 7272);
        b[64] += 1;
        assert_eq!(debug_offsets(&b), None);
        b[64] -= 1;
        b[0] = 0;
        assert_eq!(debug_offsets(&b), None);
        assert_eq!(debug_offsets(b"xdebugpy"), None);
    }
}
