//! Text of the target: C strings and str objects, cut to what a person reads.

use pydefrag_image::Image;
use pydefrag_layout::objects;

/// Characters that are kept of a str.
const LONGEST: usize = 200;

/// A C string of at most `most` bytes; longer ones are cut. `None` where it cannot be read.
pub(crate) fn c_string(image: &Image, address: u64, most: usize) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < most {
        let at = address.checked_add(bytes.len() as u64)?;
        // Never beyond a page that may be the last.
        let step = (4096 - at % 4096).min((most - bytes.len()) as u64).min(64) as usize;
        let mut part = vec![0; step];
        image.read(at, &mut part).ok()?;
        if let Some(end) = part.iter().position(|b| *b == 0) {
            bytes.extend(&part[..end]);
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        bytes.extend(part);
    }
    Some(format!("{}…", String::from_utf8_lossy(&bytes)))
}

/// The text of a str object, cut. `None` where there is none.
pub(crate) fn text(image: &Image, minor: u8, address: u64) -> Option<String> {
    if address == 0 || !address.is_multiple_of(8) {
        return None;
    }
    let forms = objects::objects(minor)?;
    let mut head = vec![0; forms.compact + 8];
    // The smallest strings are shorter than the largest head.
    if image.read(address, &mut head).is_err() {
        image.read(address, &mut head[..forms.ascii]).ok()?;
    }
    let s = forms.str(&head)?;
    let at = match (s.text, s.data) {
        (Some(offset), _) => address + offset as u64,
        (None, Some((data, _))) => data,
        (None, None) => return (s.length == 0).then(String::new),
    };
    let kept = s.length.min(LONGEST as u64);
    let mut bytes = vec![0; (kept * s.kind) as usize];
    image.read(at, &mut bytes).ok()?;
    let mut text: String = match s.kind {
        1 => bytes.iter().map(|b| char::from(*b)).collect(),
        2 => {
            let units: Vec<u16> =
                bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
            units.into_iter().map(|u| char::from_u32(u32::from(u)).unwrap_or('\u{fffd}')).collect()
        }
        _ => bytes
            .chunks_exact(4)
            .map(|b| char::from_u32(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .map(|c| c.unwrap_or('\u{fffd}'))
            .collect(),
    };
    if kept < s.length {
        text.push('…');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::planted::Plan;

    const TYPE: u64 = 0x2000;
    const OBJECT: u64 = 0x1000;

    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.word(TYPE + 168, 1 << 28);
        plan
    }

    /// A `str` of `state` whose data lie `at` bytes behind its head.
    fn read(minor: u8, length: u64, state: u64, at: u64, data: &[u8]) -> Option<String> {
        let mut plan = plan();
        plan.words(OBJECT, &[1, TYPE, length, 0, 0xabcd_ef00 | state]);
        plan.word(OBJECT + if minor <= 11 { 72 } else { 56 }, 0x1800);
        let data_at = if at == 0 { 0x1800 } else { OBJECT + at };
        plan.bytes(data_at, data);
        text(&plan.image(), minor, OBJECT)
    }

    #[test]
    fn every_kind_of_str_is_read() {
        assert_eq!(read(8, 3, 0xe5, 48, b"abcX").unwrap(), "abc");
        assert_eq!(read(12, 3, 0x64, 40, b"abcX").unwrap(), "abc");
        assert_eq!(read(11, 2, 0xa4, 72, b"\xe9\xff").unwrap(), "éÿ");
        assert_eq!(read(15, 2, 0x24, 56, b"\xe9\xff").unwrap(), "éÿ");
        assert_eq!(read(13, 2, 0x28, 56, &[0x16, 4, 0, 0xd8]).unwrap(), "Ж\u{fffd}");
        assert_eq!(read(13, 2, 0x30, 56, &[0, 0xf6, 1, 0, 0, 0, 0, 1]).unwrap(), "😀\u{fffd}");
        assert_eq!(read(8, 3, 0xc4, 0, b"sub").unwrap(), "sub", "not compact");
        assert_eq!(read(14, 3, 0x44, 0, b"sub").unwrap(), "sub", "not compact");
        assert_eq!(read(12, 0, 0x64, 40, b"").unwrap(), "");
    }

    #[test]
    fn what_is_no_str_is_refused_and_what_is_long_is_cut() {
        assert_eq!(read(12, 3, 0x6c, 40, b"abc"), None, "no width is 3");
        assert_eq!(read(12, 3, 0x68, 40, b"abc"), None, "ASCII of two bytes");
        assert_eq!(read(12, u64::MAX, 0x64, 40, b"abc"), None, "a negative length");
        assert_eq!(text(&plan().image(), 12, Plan::END - 8), None);
        assert_eq!(text(&plan().image(), 12, !7), None);
        let long = read(12, 1 << 40, 0x64, 40, &[b'x'; 300]).unwrap();
        assert_eq!(long, "x".repeat(200) + "…");
    }

    #[test]
    fn c_strings_end_at_nul_or_are_cut() {
        let mut plan = Plan::default();
        plan.bytes(0x1ffc, b"ab\xffcd\0ef");
        plan.bytes(Plan::END - 2, b"z\0");
        plan.bytes(Plan::END - 4, b"yy");
        let image = plan.image();
        assert_eq!(c_string(&image, 0x1ffc, 100).unwrap(), "ab\u{fffd}cd");
        assert_eq!(c_string(&image, 0x1ffc, 2).unwrap(), "ab…");
        assert_eq!(c_string(&image, Plan::END - 4, 100).unwrap(), "yyz");
        assert_eq!(c_string(&image, Plan::END - 1, 100).unwrap(), "");
        assert_eq!(c_string(&image, Plan::END, 100), None);
        assert_eq!(c_string(&image, u64::MAX, 100), None);
    }
}
