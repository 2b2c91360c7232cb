//! Collapsed stacks: a line for each, its frames from the outermost on with `;` between, a blank and a number.
//!
//! Owns the form of a frame, `file:function:line`, and what stands for characters that would end one. The number is the
//! bytes live at the peak; lines of none are left out.

use std::io::Write;

use pydefrag_heap::Recording;

use super::frames::{Frames, Said, Stacks};
use crate::Style;
use crate::words::cut_middle;

/// Columns of a file or a function: they stand in each stack again.
const LONGEST: usize = 200;

pub(super) fn write(recording: &Recording) -> Vec<u8> {
    let frames = Frames::of(recording);
    let texts: Vec<String> = (0..frames.len()).map(|frame| text(&frames.said(frame))).collect();
    let longest = texts.iter().map(String::len).max().unwrap_or(0);
    let stacks = Stacks::of(recording, &frames, longest);
    let mut out = Vec::new();
    for call in stacks.calls(|own| own.peak.bytes > 0) {
        for (i, &frame) in stacks.innermost_first(call).iter().rev().enumerate() {
            if i > 0 {
                out.push(b';');
            }
            out.extend_from_slice(texts[frame as usize].as_bytes());
        }
        let bytes = recording.calls[call as usize].own.peak.bytes;
        // Writing into memory does not fail.
        let _ = writeln!(out, " {bytes}");
    }
    out
}

/// A frame, without what would end it.
fn text(said: &Said<'_>) -> String {
    let style = Style { color: false, unicode: true };
    let tame = |text: &str| cut_middle(&text.replace(';', ":"), LONGEST, style);
    let mut text = tame(&said.name);
    if !said.file.is_empty() {
        text = format!("{}:{text}", tame(&said.file));
    }
    if said.line > 0 {
        text += &format!(":{}", said.line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_where_and_ends_nothing() {
        let said = |name: &'static str, file: &'static str, line| {
            text(&Said { name: name.into(), file: file.into(), line, begins: 1 })
        };
        assert_eq!(said("C.f", "/srv/a b.py", 7), "/srv/a b.py:C.f:7");
        assert_eq!(said("(outside Python)", "", 0), "(outside Python)");
        assert_eq!(said("a;b", "x;y", 0), "x:y:a:b");
    }
}
