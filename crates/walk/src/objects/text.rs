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
