//! `.pdsnap`: any bytes, as they are and as chunks whose checksums fit.

use pydefrag_heap::pdsnap::{MAGIC, VERSION, decode, encode};
use pydefrag_report::html::{self, Look};

/// Whatever decodes can be encoded, and decodes to the same again.
pub fn pdsnap(data: &[u8]) {
    check(data);
    // A checksum hides what lies behind it from the fuzzer: the same bytes as sound chunks.
    check(&sealed(data));
}

fn check(bytes: &[u8]) {
    let Ok(decoded) = decode(bytes) else { return };
    for pool in &decoded.detail.pools {
        let _ = decoded.detail.bitmap(pool);
    }
    // A map is drawn as it came.
    let look = Look { snapshot: &decoded.snapshot, detail: &decoded.detail };
    assert!(html::snapshot(look).ends_with("</html>\n"));
    let again = encode(&decoded.snapshot, &decoded.detail).expect("what was decoded is encoded");
    let again = decode(&again).expect("what was encoded is decoded");
    assert!(again.damage.is_none());
    // A number that is not finite is null in JSON: compared as text, not as floats.
    assert_eq!(format!("{:?}", again.detail.pools), format!("{:?}", decoded.detail.pools));
    assert_eq!(again.detail.bitmaps, decoded.detail.bitmaps);
    assert_eq!(again.detail.map, decoded.detail.map);
}

/// The data's own chunks with their checksums corrected.
fn sealed(data: &[u8]) -> Vec<u8> {
    const HEAD: usize = 16;
    let mut out = Vec::from(MAGIC);
    out.extend(VERSION.to_le_bytes());
    let mut rest = data.get(out.len()..).unwrap_or_default();
    while let Some((head, behind)) = rest.split_at_checked(HEAD) {
        let stored = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (stored, behind) = behind.split_at(stored.min(behind.len()));
        let mut head = head[..12].to_vec();
        head[4..8].copy_from_slice(&(stored.len() as u32).to_le_bytes());
        let crc = crc32(head.iter().chain(stored));
        out.extend(&head);
        out.extend(crc.to_le_bytes());
        out.extend(stored);
        rest = behind;
    }
    out
}

/// CRC-32 as zlib has it, bit by bit.
fn crc32<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}
