//! `/proc/PID/smaps` and `maps`: any text.

use pydefrag_image::parse_smaps;

/// Whatever parses is in order of address and does not overlap.
pub fn maps(data: &[u8]) {
    let Ok(smaps) = parse_smaps(data) else { return };
    let mappings = smaps.mappings;
    assert!(mappings.iter().all(|m| m.start < m.end));
    assert!(mappings.windows(2).all(|w| w[0].end <= w[1].start));
    for m in &mappings {
        let _ = (m.is_file(), m.is_private_anonymous(), m.contains(m.start));
    }
}
