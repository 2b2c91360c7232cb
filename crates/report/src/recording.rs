//! The report of a recording: what a program allocated, what was live at its peak and at its end, and from where.
//!
//! Owns the order of its parts and their lines. What stands in a table or a tree is `recording/`'s; the numbers are
//! [`pydefrag_heap::Recording`]'s, rounded.
//!
//! # Invariants
//!
//! At most [`WIDTH`] columns wide and [`MOST_LINES`] long, whatever was recorded. No function calls itself: a tree of
//! calls is as deep as the program made it.

mod happened;
mod site;
mod subtree;
mod tables;

use pydefrag_heap::{Amount, Recording, RecordingMode, Tally};
use serde::Serialize;

use crate::findings::Sentence;
use crate::format::{count, fine, grouped, lasting, utc};
use crate::json::lined;
use crate::spark;
use crate::style::{self, Line, Style, Tone};
use crate::text::{LABEL, WIDTH, labelled, section};
use crate::words::{clean, cut, pad, wrap};

pub(crate) use site::{NAMELESS, Place};

/// Lines that the report never exceeds: two screens.
pub const MOST_LINES: usize = 76;

/// Lines of the notes.
const NOTES: usize = 4;
/// Columns that the names of the totals take.
const NAME: usize = 10;
/// Columns that their sizes take.
const SIZE: usize = 11;
/// The same with their errors.
const SIZE_AND_ERROR: usize = 25;

/// The report. It ends in a newline.
pub fn render(recording: &Recording, style: Style) -> String {
    let mut lines = head(recording, style);
    lines.push(Line::new());
    lines.extend(happened::lines(recording, style));
    lines.extend(over_time(recording, style));
    let notes: Vec<Sentence> =
        recording.notes.iter().take(NOTES).map(|n| (Tone::Plain, n.clone())).collect();
    lines.extend(section("Notes", Tone::Strong, &notes, NOTES, style));
    let left = MOST_LINES.saturating_sub(lines.len());
    lines.extend(tables::lines(recording, left, style));
    style::paint(&lines, style)
}

/// The recording as JSON and a newline: its own fields, and `subtrees`. An element of a list is on one line.
pub fn render_json(recording: &Recording) -> String {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        recording: &'a Recording,
        subtrees: Vec<Tally>,
    }
    lined(&Whole { recording, subtrees: recording.subtrees() })
}

/// What was recorded, and what it comes to.
fn head(recording: &Recording, style: Style) -> Vec<Line> {
    let process = &recording.process;
    let pid = format!("pid {}", process.pid);
    let command = cut(&clean(&process.command, style), WIDTH - pid.len() - 2, style);
    let mut lines = vec![Line::of(Tone::Strong, pid).with(Tone::Plain, format!("  {command}"))];
    let mut about = Vec::new();
    if !process.python.is_empty() {
        about.push(format!("Python {}", process.python));
    }
    if let Some(parent) = process.parent {
        about.push(format!("a fork of {parent}"));
    }
    about.push(match recording.mode {
        RecordingMode::Full => "everything recorded".to_owned(),
        RecordingMode::Sampled { every } => format!("sampled once in {}", fine(every)),
    });
    if recording.threads.len() > 1 {
        about.push(count(recording.threads.len() as u64, "thread"));
    }
    let begun = utc(recording.started_at).map_or(String::new(), |at| format!(" from {at}"));
    about.push(lasting(recording.duration_ns) + &begun);
    let about = wrap(&clean(&about.join(", "), style), WIDTH, 2, style);
    lines.extend(about.into_iter().map(|line| Line::of(Tone::Quiet, line)));
    lines.extend(totals(recording, style));
    if recording.error.is_some() {
        let sign = style.plus_minus();
        let said = format!(
            "Sizes and counts are estimates; {sign} is one standard error, in tables at most."
        );
        lines.extend(wrap(&said, WIDTH, 2, style).into_iter().map(|l| Line::of(Tone::Warn, l)));
    }
    lines
}

/// Allocated, live at the peak, retained: a line each.
fn totals(recording: &Recording, style: Style) -> Vec<Line> {
    let Recording { allocated, peak, retained, error, .. } = recording;
    let line = |name: &str, amount: &Amount, error: Option<u64>, more: String| {
        let (size, room) = match error {
            Some(error) => {
                let sign = style.plus_minus();
                (format!("{} {sign} {}", fine(amount.bytes), fine(error)), SIZE_AND_ERROR)
            }
            None => (fine(amount.bytes), SIZE),
        };
        let blocks = if amount.count == 1 { "block" } else { "blocks" };
        let said = format!("  {} {blocks}{more}", grouped(amount.count));
        Line::of(Tone::Strong, pad(name, NAME, false) + &pad(&size, room, true))
            .with(Tone::Plain, said)
    };
    let average = match allocated.bytes.checked_div(allocated.count) {
        Some(bytes) => format!(", {} on average", fine(bytes)),
        None => String::new(),
    };
    let rss = peak.rss.map_or(String::new(), |rss| format!(", RSS {}", fine(rss)));
    let at = format!(" at {}{rss}", lasting(peak.at_ns));
    let of = |part: fn(&pydefrag_heap::SamplingError) -> u64| error.as_ref().map(part);
    vec![
        line("Allocated", allocated, of(|e| e.allocated), average),
        line("Peak", &peak.live, of(|e| e.peak), at),
        line("Retained", retained, of(|e| e.retained), " at the end".into()),
    ]
}

/// Live memory as a curve.
fn over_time(recording: &Recording, style: Style) -> Vec<Line> {
    let points: Vec<(f64, u64)> =
        recording.timeline.iter().map(|m| (m.at_ns as f64, m.live.bytes)).collect();
    if points.len() < 2 {
        return Vec::new();
    }
    let top = points.iter().map(|p| p.1).max().unwrap_or(0);
    let scale = format!("  {}", fine(top));
    let curve = spark::line(&points, top, WIDTH - LABEL - SIZE - 2, style);
    let line = Line::of(Tone::Live, curve).with(Tone::Quiet, scale);
    labelled(&["Live"], vec![line])
}

#[cfg(test)]
mod tests;
