//! mimalloc's segments, as CPython 3.13+ carries it (2.1.2, and 2.5.2 from 3.14.10 and 3.15.2 on).
//!
//! Enough to recognise the regions; pages and blocks are not read yet.
//! From `include/mimalloc/types.h` of both versions.

use crate::word::u64_at;

/// Alignment of a segment in bytes.
pub const SEGMENT: u64 = 32 << 20;
/// Bytes of a slice, the unit of a segment.
pub const SLICE: u64 = 64 << 10;
/// Bytes that [`segment`] wants.
pub const SEGMENT_HEAD: usize = 288;

/// What identifies a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Bytes of the whole segment.
    pub size: u64,
    /// The same for all segments of a process: cookie xor address.
    pub key: u64,
}

/// Reads a segment at `address`, a multiple of [`SEGMENT`], in either version's layout.
pub fn segment(bytes: &[u8], address: u64) -> Option<Segment> {
    // Offsets of cookie, segment_slices, segment_info_slices, kind, slice_entries.
    [[216, 224, 232, 240, 248], [224, 248, 256, 264, 272]].into_iter().find_map(|o| {
        let [cookie, slices, info, kind, entries] = o.map(|at| u64_at(bytes, at));
        // `kind` is a C enum: 4 bytes, padding above.
        let kind = kind as u32;
        let shaped = (1..=1 << 20).contains(&slices)
            && (1..=4).contains(&info)
            && info < slices
            && entries <= 512
            && entries <= slices
            && match kind {
                0 => slices == SEGMENT / SLICE,
                1 => true,
                _ => false,
            };
        let plausible = address.is_multiple_of(SEGMENT) && cookie ^ address != 0 && cookie != 0;
        (shaped && plausible).then(|| Segment { size: slices * SLICE, key: cookie ^ address })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_both_versions_are_recognised() {
        let at = 0x400_0000_0000;
        for offsets in [[216, 224, 232, 240, 248], [224, 248, 256, 264, 272]] {
            let mut b = vec![0u8; SEGMENT_HEAD];
            for (o, v) in offsets.into_iter().zip([at ^ 77, 512u64, 1, 0, 512]) {
                b[o..o + 8].copy_from_slice(&v.to_le_bytes());
            }
            assert_eq!(segment(&b, at), Some(Segment { size: SEGMENT, key: 77 }));
            assert_eq!(segment(&b, at + 4096), None);
            b[offsets[2]] = 9;
            assert_eq!(segment(&b, at), None);
        }
        assert_eq!(segment(&[0; SEGMENT_HEAD], at), None);
    }
}
