//! Strings of a process: `str` objects and C's.
//!
//! Owns how a `str` is read, and that what comes out is short and valid. Whether it may be shown, and
//! how a terminal is kept safe from it, is others' concern: control characters are kept.

use pydefrag_image::{Image, OS_PAGE};
use pydefrag_layout::objects::{self, flag, type_object};
use pydefrag_layout::word::{u32_at, u64_at};

/// Characters that are kept of a `str`.
const MOST: usize = 200;
/// What a string ends with that was cut.
const CUT: char = '…';

/// The text of a `str` object, its first 200 characters; surrogates become U+FFFD. `None` where the
/// object is no `str` that holds together.
pub(crate) fn text(image: &Image, minor: u8, object: u64) -> Option<String> {
    text_of(image, minor, object, MOST)
}

/// The same, with so many characters at most.
pub(crate) fn text_of(image: &Image, minor: u8, object: u64, most: usize) -> Option<String> {
    let forms = objects::objects(minor)?;
    let mut head = vec![0; forms.compact + 8];
    // A short string may end just before what cannot be read.
    if image.read(object, &mut head).is_err() {
        head.truncate(forms.ascii);
        image.read(object, &mut head).ok()?;
    }
    let of = u64_at(&head, objects::OB_TYPE).checked_add(type_object::FLAGS as u64)?;
    if image.word(of).ok()? & flag::STR == 0 {
        return None;
    }
    let s = forms.str(&head)?;
    let data = match (s.text, s.data) {
        (Some(offset), _) => object.checked_add(offset as u64)?,
        (None, Some((data, _))) => data,
        (None, None) => return None,
    };
    // An object that is being made, or was, may be of no kind.
    let width = Some(s.kind as usize).filter(|w| matches!(w, 1 | 2 | 4))?;
    let count = s.length.min(most as u64) as usize;
    let mut bytes = vec![0; count * width];
    image.read(data, &mut bytes).ok()?;
    let character = |c: &[u8]| match *c {
        [c] => Some(c as char),
        [a, b] => char::from_u32(u16::from_le_bytes([a, b]).into()),
        _ => char::from_u32(u32_at(c, 0)),
    };
    let mut text: String =
        bytes.chunks_exact(width).map(|c| character(c).unwrap_or('\u{fffd}')).collect();
    if s.length > most as u64 {
        text.push(CUT);
    }
    Some(text)
}

/// A NUL-ended string, its first `most` bytes; what is no UTF-8 becomes U+FFFD. `None` where it
/// cannot be read.
pub(crate) fn c_string(image: &Image, address: u64, most: usize) -> Option<String> {
    let mut bytes = Vec::new();
    let mut ended = false;
    // It may end just before what cannot be read.
    while bytes.len() < most && !ended {
        let at = address.checked_add(bytes.len() as u64)?;
        let n = (OS_PAGE - at % OS_PAGE).min((most - bytes.len()) as u64) as usize;
        let from = bytes.len();
        bytes.resize(from + n, 0);
        image.read(at, &mut bytes[from..]).ok()?;
        if let Some(end) = bytes[from..].iter().position(|b| *b == 0) {
            bytes.truncate(from + end);
            ended = true;
        }
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if !ended {
        text.push(CUT);
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
        plan.word(TYPE + type_object::FLAGS as u64, flag::STR);
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
        assert_eq!(read(8, 3, 0x65, 48, b"abc"), None, "not ready");
        assert_eq!(read(12, 3, 0x6c, 40, b"abc"), None, "no width is 3");
        assert_eq!(read(12, 3, 0x68, 40, b"abc"), None, "ASCII of two bytes");
        assert_eq!(read(12, u64::MAX, 0x64, 40, b"abc"), None, "a negative length");
        let mut no_type = Plan::default();
        no_type.words(OBJECT, &[1, TYPE, 1, 0, 0x64]);
        let image = no_type.image();
        assert_eq!(text(&image, 12, OBJECT), None);
        assert_eq!(text(&image, 12, u64::MAX - 3), None);
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
