//! The verdict and its remedies in lines.
//!
//! Owns their tones and how many lines they take. The words are the advise crate's.

use pydefrag_heap::{Remedy, Verdict, VerdictKind};

use crate::findings::Sentence;
use crate::format::size;
use crate::style::{Line, Style, Tone};
use crate::words::{clean, wrap};

/// Lines that the sentence may take.
const MOST: usize = 3;

/// The sentence, strong; what is healthy in a calm tone.
pub(crate) fn lines(verdict: &Verdict, width: usize, style: Style) -> Vec<Line> {
    let tone = match verdict.kind {
        VerdictKind::Healthy => Tone::Live,
        _ => Tone::Strong,
    };
    let wrapped = wrap(&clean(&verdict.sentence, style), width, MOST, style);
    wrapped.into_iter().map(|line| Line::of(tone, line)).collect()
}

/// The first `most` remedies, one sentence each, and how many more there are.
pub(crate) fn remedies(verdict: &Verdict, most: usize) -> Vec<Sentence> {
    let all = &verdict.remedies;
    let mut said: Vec<Sentence> = all.iter().take(most).map(remedy).collect();
    if all.len() > most {
        said.push((Tone::Quiet, format!("{} more: see --json", all.len() - most)));
    }
    said
}

fn remedy(remedy: &Remedy) -> Sentence {
    let gain = remedy.bytes.map_or(String::new(), |b| format!(", up to {}", size(b)));
    (Tone::Plain, format!("{}{gain}: {}", remedy.name, remedy.command))
}
