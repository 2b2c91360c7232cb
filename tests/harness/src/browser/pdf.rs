//! The text of a PDF that Chromium printed: what a reader could select, run by run.
//!
//! Knows the few forms that Chromium writes: deflated streams, fonts whose glyphs a table leads back to characters.

use std::collections::HashMap;
use std::io::Read;

use flate2::read::ZlibDecoder;

/// From a glyph's number to its characters.
type Glyphs = HashMap<u16, String>;

/// All text of the document without any white space, which print and screen set differently, and how many sheets it has.
pub fn text_of(pdf: &[u8]) -> (String, usize) {
    let objects = objects(pdf);
    let head = |n: &u32| String::from_utf8_lossy(objects[n].0).into_owned();
    let reference = |head: &str, key: &str| -> Option<u32> {
        let (_, rest) = head.split_once(key)?;
        rest.split_whitespace().next()?.trim_start_matches('[').parse().ok()
    };
    let mut fonts: HashMap<u32, Glyphs> = HashMap::new();
    let mut pages = Vec::new();
    let mut numbers: Vec<&u32> = objects.keys().collect();
    numbers.sort_unstable();
    for n in numbers {
        let head = head(n);
        if head.contains("/Subtype /Type0") {
            let table = reference(&head, "/ToUnicode ").and_then(|t| objects.get(&t)?.1.as_deref());
            fonts.insert(*n, table.map(glyphs).unwrap_or_default());
        } else if head.contains("/Type /Page\n")
            || head.contains("/Type /Page/")
            || head.ends_with("/Type /Page")
        {
            pages.extend(reference(&head, "/Contents "));
        }
    }
    let mut text = String::new();
    for page in &pages {
        let content = objects.get(page).and_then(|o| o.1.as_deref()).unwrap_or_default();
        shown(&String::from_utf8_lossy(content), &fonts, &mut text);
    }
    text.retain(|c| !c.is_whitespace());
    // Letters that fonts have joined.
    (text.replace('ﬁ', "fi").replace('ﬂ', "fl"), pages.len())
}

/// Every object: its dictionary, and its stream, inflated.
fn objects(pdf: &[u8]) -> HashMap<u32, (&[u8], Option<Vec<u8>>)> {
    let mut found = HashMap::new();
    let mut at = 0;
    while let Some(next) = find(&pdf[at..], b" 0 obj\n") {
        let name = at + next;
        let digits = pdf[..name].iter().rev().take_while(|b| b.is_ascii_digit()).count();
        let number = std::str::from_utf8(&pdf[name - digits..name]).expect("digits").parse();
        let body = name + b" 0 obj\n".len();
        let end = body + find(&pdf[body..], b"endobj").unwrap_or(pdf.len() - body);
        let stream = find(&pdf[body..end], b"stream\n").map(|s| {
            let (mut plain, from) = (Vec::new(), body + s + b"stream\n".len());
            // Cut off behind its end is what is no part of it.
            let inflated = ZlibDecoder::new(&pdf[from..]).read_to_end(&mut plain);
            (s, inflated.map(|_| plain).ok())
        });
        let head = &pdf[body..stream.as_ref().map_or(end, |s| body + s.0)];
        if let Ok(number) = number {
            found.insert(number, (head, stream.and_then(|s| s.1)));
        }
        at = end;
    }
    found
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// A font's table from glyphs to characters.
fn glyphs(table: &[u8]) -> Glyphs {
    let mut glyphs = Glyphs::new();
    let mut ranges = false;
    for line in String::from_utf8_lossy(table).lines() {
        ranges = line.ends_with("beginbfrange") || ranges && !line.ends_with("endbfrange");
        let words: Vec<&str> = line.split(['<', '>', ' ']).filter(|w| !w.is_empty()).collect();
        let number = |word: &str| u16::from_str_radix(word, 16).ok();
        match words[..] {
            [from, to, first] if ranges => {
                let (Some(from), Some(to), Some(first)) = (number(from), number(to), number(first))
                else {
                    continue;
                };
                for (glyph, unit) in (from..=to).zip(first..) {
                    glyphs.insert(glyph, String::from_utf16_lossy(&[unit]));
                }
            }
            [glyph, text] if !ranges => {
                let units: Option<Vec<u16>> =
                    (0..text.len() / 4).map(|i| number(&text[4 * i..4 * i + 4])).collect();
                if let (Some(glyph), Some(units)) = (number(glyph), units) {
                    glyphs.insert(glyph, String::from_utf16_lossy(&units));
                }
            }
            _ => {}
        }
    }
    glyphs
}

/// Adds the text that a page's content shows.
fn shown(content: &str, fonts: &HashMap<u32, Glyphs>, text: &mut String) {
    let mut font = None;
    for line in content.lines() {
        if line.ends_with(" Tf") {
            let name = line.trim_start().strip_prefix("/F").unwrap_or_default();
            let number = name.split(' ').next().and_then(|n| n.parse().ok());
            font = number.and_then(|n: u32| fonts.get(&n));
        } else if line.ends_with("TJ") || line.ends_with("Tj") {
            // Strings of glyphs stand in < and >, with what moves the next one between them.
            for run in line.split('<').skip(1).filter_map(|part| part.split('>').next()) {
                let glyphs = (0..run.len() / 4)
                    .filter_map(|i| u16::from_str_radix(&run[4 * i..4 * i + 4], 16).ok());
                glyphs.filter_map(|g| font?.get(&g)).for_each(|c| text.push_str(c));
            }
        }
    }
}
