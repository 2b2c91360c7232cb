//! A program over time: how it ended, its peak and trough, its curve, its children.
//!
//! Owns these lines. The measures are the heap crate's.

use pydefrag_heap::{Child, Ended, Run, Snapshot};

use crate::findings::Sentence;
use crate::format::{count, size};
use crate::spark;
use crate::style::{Line, Style, Tone};
use crate::words::{clean, cut, pad};

/// Columns of the names of the curves.
const NAME: usize = 8;
/// Columns of the number that a curve's full height stands for.
const SCALE: usize = 13;

/// How it ended, and its measures.
pub(crate) fn measures(snapshot: &Snapshot, run: &Run) -> Vec<Sentence> {
    let ended = match run.ended {
        Ended::Code(code) => format!("exit code {code}"),
        Ended::Signal(signal) => format!("ended by signal {signal}"),
        Ended::Unknown => "its exit code is not known".to_owned(),
    };
    let account = match (&run.account_note, run.account_at_end) {
        (None, true) => "the account is of its end".to_owned(),
        (Some(note), true) => format!("the account is of its end; {note}"),
        (Some(why), false) => why.clone(),
        (None, false) => "no account of its end".to_owned(),
    };
    let samples = count(run.samples.len() as u64, "sample");
    let hwm = match snapshot.memory.hwm {
        0 => String::new(),
        hwm => format!(" (VmHWM {})", size(hwm)),
    };
    vec![
        (Tone::Plain, format!("{} s, {ended}; {samples}; {account}", decimal(run.seconds, 1))),
        (
            Tone::Plain,
            format!("peak {} at least{hwm}, end {}", size(run.peak.rss), size(run.end.rss)),
        ),
        (
            Tone::Plain,
            format!(
                "trough {}: ratio {} (1 follows use), waste {} GB s",
                size(run.trough.rss),
                decimal(run.trough_ratio, 2),
                decimal(run.waste, 2)
            ),
        ),
    ]
}

/// A number of which only damaged input has many digits.
fn decimal(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{:.digits$}", value.clamp(0.0, 9e9)) } else { "?".into() }
}

/// RSS and what is in use over time, on one scale, `width` columns wide.
pub(crate) fn curves(run: &Run, width: usize, style: Style) -> Vec<Line> {
    let points = |of: fn(&pydefrag_heap::Sample) -> u64| -> Vec<(f64, u64)> {
        run.samples.iter().map(|s| (s.at, of(s))).collect()
    };
    let (rss, used) = (points(|s| s.rss), points(|s| s.in_use()));
    let top = rss.iter().map(|p| p.1).max().unwrap_or(0);
    if rss.len() < 2 {
        return Vec::new();
    }
    let cells = width.saturating_sub(NAME + SCALE);
    let curve = |name: &str, tone, points: &[(f64, u64)], scale: String| {
        Line::of(Tone::Plain, pad(name, NAME, false))
            .with(tone, spark::line(points, top, cells, style))
            .with(Tone::Quiet, scale)
    };
    vec![
        curve("RSS", Tone::Pinned, &rss, format!("  {}", size(top))),
        curve("in use", Tone::Live, &used, String::new()),
    ]
}

/// The largest children, in `most` lines at most with one that counts the others.
pub(crate) fn children(run: &Run, most: usize, width: usize, style: Style) -> Vec<Sentence> {
    let mut largest: Vec<&Child> = run.children.iter().collect();
    largest.sort_by_key(|c| (std::cmp::Reverse(c.peak_rss), c.pid));
    let all = largest.len() as u64 + run.children_left_out;
    let shown = if all > most as u64 { most.saturating_sub(1) } else { most };
    let mut said: Vec<Sentence> = largest
        .iter()
        .take(shown)
        .map(|c| {
            let end = if c.running { ", runs on" } else { "" };
            let head = format!("{}: peak {}{end}  ", c.pid, size(c.peak_rss));
            let room = width.saturating_sub(head.len());
            (Tone::Plain, head + &cut(&clean(&c.command, style), room, style))
        })
        .collect();
    let others = all.saturating_sub(said.len() as u64);
    if others > 0 {
        let noun = if said.is_empty() { "child process" } else { "other" };
        let named = if others == 1 { noun.to_owned() } else { plural(noun) };
        let and = if said.is_empty() { "" } else { "and " };
        said.push((Tone::Quiet, format!("{and}{others} {named}: see --json")));
    }
    said
}

fn plural(noun: &str) -> String {
    if noun.ends_with('s') { format!("{noun}es") } else { format!("{noun}s") }
}
