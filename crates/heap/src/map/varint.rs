//! Numbers in as few bytes as they need: LEB128.

/// Appends a number.
pub(super) fn put(to: &mut Vec<u8>, mut word: u128) {
    while word >= 128 {
        to.push(word as u8 | 128);
        word >>= 7;
    }
    to.push(word as u8);
}

/// Takes a number of at most 70 bits from the front; `None` where there is none.
pub(super) fn take(from: &mut &[u8]) -> Option<u128> {
    let mut word = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        word |= u128::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(word);
        }
    }
    None
}
