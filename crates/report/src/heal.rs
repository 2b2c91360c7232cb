//! The report of a heal: what was promised, what came back, what it cost, what stayed and who keeps it.
//!
//! Owns its layout and words. The numbers are [`pydefrag_heap::Heal`]'s.

use pydefrag_heap::{Heal, HealLevel, HealWay, HealWork, Healed, Keeper, Left};

use crate::findings::Sentence;
use crate::format::{count, grouped, percent, size};
use crate::json::pretty;
use crate::style::{self, Line, Style, Tone};
use crate::text::{LABEL, WIDTH, labelled, section};
use crate::words::{clean, cut, cut_middle, pad};

/// Owners and keepers that are shown.
const ROWS: usize = 5;
/// Lines of what was skipped, and of notes.
const SENTENCES: usize = 4;

/// The heal as JSON and a newline. Sizes are bytes.
pub fn render_json(heal: &Heal) -> String {
    pretty(heal)
}

/// The report. It ends in a newline, is at most [`WIDTH`] columns wide and fits a screen.
pub fn render(heal: &Heal, style: Style) -> String {
    let mut lines = head(heal, style);
    lines.push(Line::new());
    let promised = match heal.promised {
        Some(bytes) => format!("{} by the rung {} of the ladder", size(bytes), heal.level.name()),
        None => "not known: no heap of this process was walked".into(),
    };
    say(&mut lines, "Promised", &[(Tone::Plain, promised)], style);
    if heal.dry_run {
        say(&mut lines, "Would", &would(heal), style);
    } else {
        say(&mut lines, "Returned", &[(Tone::Strong, returned(heal))], style);
        say(&mut lines, "Still returned", &[realised(heal)], style);
        if let Some(work) = &heal.work {
            say(&mut lines, "Pauses", &[(Tone::Plain, pauses(work))], style);
            say(&mut lines, "Cost", &[(Tone::Plain, cost(work))], style);
            let parked = parked(heal.level, work);
            say(&mut lines, "Done", &[(Tone::Plain, parked)], style);
            say(&mut lines, "Left alone", &left_alone(work), style);
        }
    }
    if !heal.owners.is_empty() {
        lines.push(Line::new());
        lines.extend(labelled(&["By owner"], owners(heal, style)));
    }
    if let Some(left) = &heal.left {
        lines.push(Line::new());
        let label = if heal.dry_run { "Free now" } else { "Still free" };
        say(&mut lines, label, &[(Tone::Plain, kept(left))], style);
        lines.extend(labelled(&["  kept by"], keepers(left.keepers.as_deref(), style)));
    }
    let notes: Vec<_> = heal.notes.iter().map(|n| (Tone::Quiet, n.clone())).collect();
    say(&mut lines, "Notes", &notes, style);
    style::paint(&lines, style)
}

fn say(lines: &mut Vec<Line>, label: &str, sentences: &[Sentence], style: Style) {
    lines.extend(section(label, Tone::Strong, sentences, SENTENCES, style));
}

/// Which process, what was asked for, and its memory.
fn head(heal: &Heal, style: Style) -> Vec<Line> {
    let pid = format!("pid {}", heal.process.pid);
    let command = cut(&clean(&heal.process.command, style), WIDTH - pid.len() - 2, style);
    let python = heal.process.python.as_ref();
    let python = python.map_or(String::new(), |p| format!("Python {}, ", p.version));
    let collect = if heal.collect { " after a collection" } else { "" };
    let way = match (heal.way, heal.dry_run) {
        (HealWay::Agent, _) => "by the agent in it",
        (HealWay::RemoteExec, false) => "by an agent that CPython loaded (PEP 768)",
        (HealWay::RemoteExec, true) => "by an agent that CPython would load (PEP 768)",
    };
    let level = heal.level.name();
    let about = cut(&clean(&format!("{python}{level}{collect} {way}"), style), WIDTH, style);
    let m = &heal.memory;
    let arrow = if style.unicode { "→" } else { "->" };
    let memory = match heal.dry_run {
        true => format!("RSS {}   PSS {}", size(m.rss.before), size(m.pss.before)),
        false => format!(
            "RSS {} {arrow} {}   PSS {} {arrow} {}",
            size(m.rss.before),
            size(m.rss.after),
            size(m.pss.before),
            size(m.pss.after)
        ),
    };
    vec![
        Line::of(Tone::Strong, pid).with(Tone::Plain, format!("  {command}")),
        Line::of(Tone::Quiet, about),
        Line::of(Tone::Strong, memory),
    ]
}

/// Bytes with a sign, where what is less than nothing came on top.
fn signed(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}", size(bytes.unsigned_abs()))
}

/// How much of what was promised.
fn of_promise(bytes: i64, heal: &Heal) -> String {
    match heal.promised {
        Some(promised @ 1..) => {
            format!(" ({}% of what was promised)", percent(100.0 * bytes as f64 / promised as f64))
        }
        _ => String::new(),
    }
}

fn returned(heal: &Heal) -> String {
    let pss = heal.memory.pss.before as i64 - heal.memory.pss.after as i64;
    let share = of_promise(heal.returned, heal);
    format!("{} of RSS{share}, {} of PSS", signed(heal.returned), signed(pss))
}

fn realised(heal: &Heal) -> Sentence {
    let Some(r) = &heal.realised else {
        return (Tone::Quiet, "not looked at".into());
    };
    let refilled = match r.huge_pages_grown {
        0 => String::new(),
        bytes => format!("; khugepaged filled in {}", size(bytes)),
    };
    let faults = count(r.minor_faults, "page fault");
    let seconds = if r.seconds.is_finite() { r.seconds.clamp(0.0, 9e9) } else { 0.0 };
    let share = of_promise(r.returned, heal);
    (
        Tone::Strong,
        format!("{} after {seconds:.0} s{share}{refilled}; {faults} since", signed(r.returned)),
    )
}

/// Milliseconds, of which only damaged input has many.
fn ms(value: f64) -> String {
    if value.is_finite() { format!("{:.1} ms", value.clamp(0.0, 9e9)) } else { "? ms".into() }
}

fn pauses(work: &HealWork) -> String {
    format!(
        "{} at most, in {}; the GIL was held for {} in all{}",
        ms(work.longest_slice_us / 1e3),
        count(work.slices, "slice"),
        ms(work.gil_ms),
        work.collect_ms.map_or(String::new(), |c| format!("; and {} for the collection", ms(c)))
    )
}

/// What was not touched, and why.
fn left_alone(work: &HealWork) -> Vec<Sentence> {
    let arenas =
        |n: u64, why: &str| (n > 0).then(|| format!("{} of pymalloc {why}", count(n, "arena")));
    let counted = [
        arenas(work.arenas_shared, "with pages that a fork shares"),
        arenas(work.arenas_swapped, "with pages that are swapped out"),
        (work.invalid > 0)
            .then(|| format!("{} that did not validate", count(work.invalid, "piece"))),
    ];
    let all = work.skipped.iter().cloned().chain(counted.into_iter().flatten());
    all.map(|s| (Tone::Warn, s)).collect()
}

fn cost(work: &HealWork) -> String {
    let trim = if work.trim_ms > 0.0 {
        format!(", of it {} in malloc's own trim", ms(work.trim_ms))
    } else {
        String::new()
    };
    format!("{} of processor time, {} from begin to end{trim}", ms(work.cpu_ms), ms(work.wall_ms))
}

fn parked(level: HealLevel, work: &HealWork) -> String {
    let mut said = Vec::new();
    if let Some(n) = work.collected {
        said.push(format!("{} collected", count(n, "object")));
    }
    if level == HealLevel::Purge {
        let wanted = match work.pools_unparked {
            0 => String::new(),
            n => format!(", {} wanted again since", grouped(n)),
        };
        said.push(format!(
            "{} parked{wanted}, {} of pymalloc dropped",
            count(work.pools_parked, "pool"),
            size(work.bytes_dropped)
        ));
    }
    if let Some(bytes) = work.trim_returned {
        said.push(format!("{} trimmed from malloc", size(bytes)));
    }
    if said.is_empty() { "malloc trimmed".into() } else { said.join(", ") }
}

fn would(heal: &Heal) -> Vec<Sentence> {
    match (&heal.would_refuse, heal.way) {
        (Some(why), _) => vec![(Tone::Warn, format!("be refused: {why}"))],
        (None, HealWay::Agent) => vec![(Tone::Plain, "be done: nothing stands against it".into())],
        (None, HealWay::RemoteExec) => vec![(
            Tone::Plain,
            "be asked of an agent, once CPython has loaded it; whether it refuses is known then"
                .into(),
        )],
    }
}

/// What changed most, a line each.
fn owners(heal: &Heal, style: Style) -> Vec<Line> {
    let shown = if heal.owners.len() > ROWS { ROWS - 1 } else { ROWS };
    let mut lines: Vec<Line> = heal
        .owners
        .iter()
        .take(shown)
        .map(|o| {
            let change = pad(&plus(o.resident.grown()), 14, true);
            let name = cut(&clean(&o.name, style), WIDTH - LABEL - 16, style);
            Line::of(Tone::Strong, change).with(Tone::Plain, format!("  {name}"))
        })
        .collect();
    let rest = &heal.owners[shown.min(heal.owners.len())..];
    if !rest.is_empty() {
        let sum = rest.iter().fold(0i64, |sum, o| sum.saturating_add(o.resident.grown()));
        let others = format!("  {} others: see --json", rest.len());
        lines.push(Line::of(Tone::Strong, pad(&plus(sum), 14, true)).with(Tone::Quiet, others));
    }
    lines
}

fn plus(bytes: i64) -> String {
    let sign = if bytes > 0 { "+" } else { "" };
    format!("{sign}{}", signed(bytes))
}

fn kept(left: &Left) -> String {
    format!(
        "{} beside live blocks on OS pages, {} in holes, {} in free pools, {} in \
         malloc's tops and caches",
        size(left.pinned_free),
        size(left.holes),
        size(left.free_spans),
        size(left.slack)
    )
}

/// Who pins most, a line each.
fn keepers(keepers: Option<&[Keeper]>, style: Style) -> Vec<Line> {
    let keepers = keepers.unwrap_or_default().iter().take(ROWS);
    keepers
        .map(|k| {
            let pinned = pad(&size(k.pinned), 14, true);
            let blocks = pad(&cut(&count(k.blocks, "block"), 15, style), 16, true);
            let name = cut_middle(&clean(&k.owner, style), WIDTH - LABEL - 32, style);
            Line::of(Tone::Pinned, pinned)
                .with(Tone::Quiet, format!("{blocks}  "))
                .with(Tone::Plain, name)
        })
        .collect()
}

/// The heals of a run, for its section.
pub(crate) fn over_a_run(healed: &Healed) -> Vec<Sentence> {
    let mut said = vec![count(healed.times, "time")];
    if healed.refused > 0 {
        said.push(format!("{} refused", grouped(healed.refused)));
    }
    if let Some(returned) = healed.returned {
        said.push(format!("{} returned in all", signed(returned)));
    }
    if let Some(longest) = healed.longest_slice_us {
        said.push(format!("longest pause {}", ms(longest / 1e3)));
    }
    if let Some(cpu) = healed.cpu_ms {
        said.push(format!("{} of processor time", ms(cpu)));
    }
    if healed.pools_unparked > 0 {
        said.push(format!("{} wanted again", count(healed.pools_unparked, "pool")));
    }
    vec![(Tone::Plain, said.join(", "))]
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::sample;
    use crate::text::MOST_LINES;

    const PLAIN: Style = Style { color: false, unicode: true };
    const ASCII: Style = Style { color: false, unicode: false };

    #[test]
    fn heals() {
        for (name, heal) in sample::heals() {
            insta::assert_snapshot!(format!("heal-{name}"), render(&heal, PLAIN));
            for text in [render(&heal, PLAIN), render(&heal, ASCII)] {
                assert!(text.lines().count() <= MOST_LINES, "{text}");
                for line in text.lines() {
                    assert!(line.width() <= WIDTH, "{line}");
                    assert!(!line.contains(char::is_control), "{line:?}");
                }
            }
            assert!(render(&heal, ASCII).is_ascii(), "{name}");
            assert!(render(&heal, Style { color: true, ..PLAIN }).contains('\x1b'));
        }
        insta::assert_snapshot!("heal-json", render_json(&sample::heals()[0].1));
    }

    #[test]
    fn a_run_without_a_heal_says_so() {
        let said = |healed| over_a_run(&healed)[0].1.clone();
        assert_eq!(said(Healed::default()), "0 times");
        let healed = Healed {
            times: 3,
            refused: 1,
            returned: Some(40 << 20),
            longest_slice_us: Some(4100.0),
            cpu_ms: Some(33.0),
            pools_unparked: 7,
        };
        insta::assert_snapshot!(said(healed), @"3 times, 1 refused, 40.0 MiB returned in all, longest pause 4.1 ms, 33.0 ms of processor time, 7 pools wanted again");
    }
}
