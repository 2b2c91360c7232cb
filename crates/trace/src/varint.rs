//! Numbers of as many bytes as they need: seven bits a byte, the lowest first (LEB128).

/// Bytes of the longest one.
pub const MOST: usize = 10;

/// A signed number as an unsigned one that is small where it is near 0.
#[inline(always)]
pub fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// Back.
#[inline(always)]
pub fn unzigzag(z: u64) -> i64 {
    (z >> 1) as i64 ^ -((z & 1) as i64)
}

/// Writes a number at `at` and returns where the next one goes.
///
/// # Panics
///
/// Where `out` ends before [`MOST`] bytes from `at`, and the number does not fit.
#[inline(always)]
pub fn put(out: &mut [u8], mut at: usize, mut n: u64) -> usize {
    while n >= 0x80 {
        out[at] = n as u8 | 0x80;
        n >>= 7;
        at += 1;
    }
    out[at] = n as u8;
    at + 1
}

/// Appends a number.
pub fn push(out: &mut Vec<u8>, n: u64) {
    let mut bytes = [0; MOST];
    let end = put(&mut bytes, 0, n);
    out.extend(&bytes[..end]);
}

/// Reads a number and moves on; `None` where the bytes end or it has more than 64 bits.
#[inline]
pub fn get(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        n |= bits << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            push(&mut bytes, n);
            let mut at = 0;
            assert_eq!((get(&bytes, &mut at), at), (Some(n), bytes.len()));
            assert_eq!(get(&bytes[..bytes.len() - 1], &mut 0), None);
            assert_eq!(unzigzag(zigzag(n as i64)), n as i64);
        }
        assert_eq!(get(&[0xff; 11], &mut 0), None);
    }
}
