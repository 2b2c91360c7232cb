//! What happened while a recording was made, in words: allocations and frees, the collector, arenas, marks.
//!
//! Owns these sentences. Each is there only if there is something to say.

use std::collections::BTreeMap;

use pydefrag_heap::{Amount, Recording, RecordingMode, What};

use crate::findings::Sentence;
use crate::format::{count, fine, grouped, lasting};
use crate::style::{Line, Style, Tone};
use crate::text::section;
use crate::words::{clean, cut};

/// Marks that are told one by one.
const MARKS: usize = 4;
/// Columns of a mark's text.
const MARK: usize = 40;

/// What happened, part by part.
pub(super) fn lines(recording: &Recording, style: Style) -> Vec<Line> {
    let counted = Counted::of(recording);
    let mut lines = Vec::new();
    let mut say = |label: &str, sentence: Option<String>, most: usize| {
        let sentence: Vec<Sentence> = sentence.map(|s| (Tone::Plain, s)).into_iter().collect();
        lines.extend(section(label, Tone::Strong, &sentence, most, style));
    };
    say("Events", Some(events(recording)), 2);
    say("Collector", collector(&counted), 2);
    say("Arenas", arenas(&counted), 1);
    say("Mapped", mapped(&counted), 1);
    say("Forks", forks(&counted), 1);
    say("Marks", marks(&counted, style), 3);
    lines
}

/// What happened beside allocations, counted.
#[derive(Default)]
struct Counted<'a> {
    collections: u64,
    by_generation: BTreeMap<u8, u64>,
    collecting_ns: u64,
    collected: u64,
    uncollectable: u64,
    born: Amount,
    died: Amount,
    mapped: Amount,
    unmapped: Amount,
    forks: u64,
    marks: Vec<(u64, &'a str)>,
}

impl<'a> Counted<'a> {
    fn of(recording: &'a Recording) -> Counted<'a> {
        let mut all = Counted::default();
        let mut began = None;
        let add = |amount: &mut Amount, bytes: u64| {
            amount.count = amount.count.saturating_add(1);
            amount.bytes = amount.bytes.saturating_add(bytes);
        };
        for happening in &recording.happenings {
            let at = happening.at_ns;
            match &happening.what {
                What::GcStart { .. } => began = Some(at),
                What::GcStop { generation, collected, uncollectable } => {
                    all.collections += 1;
                    *all.by_generation.entry(*generation).or_default() += 1;
                    let took = began.take().map_or(0, |began| at.saturating_sub(began));
                    all.collecting_ns = all.collecting_ns.saturating_add(took);
                    all.collected = all.collected.saturating_add(*collected);
                    all.uncollectable = all.uncollectable.saturating_add(*uncollectable);
                }
                What::ArenaBorn { bytes, .. } => add(&mut all.born, *bytes),
                What::ArenaDied { bytes, .. } => add(&mut all.died, *bytes),
                What::Mapped { bytes, .. } => add(&mut all.mapped, *bytes),
                What::Unmapped { bytes, .. } => add(&mut all.unmapped, *bytes),
                What::Forked { .. } => all.forks += 1,
                What::Mark { text } => all.marks.push((at, text)),
            }
        }
        all
    }
}

fn events(recording: &Recording) -> String {
    let e = &recording.events;
    let of = match recording.mode {
        RecordingMode::Full => "",
        RecordingMode::Sampled { .. } => "of what was sampled: ",
    };
    let named =
        |n: u64, noun: &str| format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" });
    let mut said = format!("{of}{}", named(e.allocations, "allocation"));
    if e.reallocations > 0 {
        said += &format!(" ({} by realloc)", grouped(e.reallocations));
    }
    said += &format!(", {}", named(e.frees, "free"));
    if e.frees_of_before > 0 {
        said += &format!(" and {} of what was allocated before", named(e.frees_of_before, "free"));
    }
    said
}

fn collector(all: &Counted<'_>) -> Option<String> {
    if all.collections == 0 {
        return None;
    }
    let by: Vec<String> =
        all.by_generation.iter().map(|(g, n)| format!("{g}: {}", grouped(*n))).collect();
    let mut said = count(all.collections, "collection");
    // Generations are three at most, but for damaged input.
    if by.len() > 1 {
        said += &format!(" (generation {})", by[..by.len().min(4)].join(", "));
    }
    said +=
        &format!(" in {}, {} objects freed", lasting(all.collecting_ns), grouped(all.collected));
    if all.uncollectable > 0 {
        said += &format!(", {} uncollectable", grouped(all.uncollectable));
    }
    Some(said)
}

fn arenas(all: &Counted<'_>) -> Option<String> {
    let told = |a: &Amount, what: &str| format!("{} {what} ({})", grouped(a.count), fine(a.bytes));
    (all.born.count + all.died.count > 0)
        .then(|| format!("{}, {}", told(&all.born, "born"), told(&all.died, "died")))
}

fn mapped(all: &Counted<'_>) -> Option<String> {
    let told = |a: &Amount, what: &str| format!("{what} {} ({})", grouped(a.count), fine(a.bytes));
    (all.mapped.count + all.unmapped.count > 0)
        .then(|| format!("{}, {}", told(&all.mapped, "mapped"), told(&all.unmapped, "unmapped")))
}

fn forks(all: &Counted<'_>) -> Option<String> {
    let noun = if all.forks == 1 { "child was forked" } else { "children were forked" };
    (all.forks > 0).then(|| format!("{} {noun}", grouped(all.forks)))
}

fn marks(all: &Counted<'_>, style: Style) -> Option<String> {
    let mut said: Vec<String> = all
        .marks
        .iter()
        .take(MARKS)
        .map(|(at, text)| format!("{} at {}", cut(&clean(text, style), MARK, style), lasting(*at)))
        .collect();
    if let Some(more @ 1..) = all.marks.len().checked_sub(MARKS) {
        said.push(format!("and {more} more: see --json"));
    }
    (!said.is_empty()).then(|| said.join("; "))
}
