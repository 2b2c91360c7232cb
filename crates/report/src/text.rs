//! The report of one snapshot for a person: at most one screen, and a second one of what holds the memory
//! where its objects were looked at.
//!
//! Owns the order of its parts and the budget of lines. Each part's content is its own file's.

use pydefrag_heap::{Run, Snapshot};

use crate::findings::{self, Sentence};
use crate::format::{count, size, utc};
use crate::style::{self, Line, Style, Tone};
use crate::words::{clean, cut, pad, wrap};
use crate::{account, bar, heal, holds, ladder, run, verdict};

/// Columns of the report; no line is wider.
pub const WIDTH: usize = 80;
/// Lines that the report tries to keep to, by folding owners.
pub const LINES: usize = 38;
/// Lines that it never exceeds, where objects were not looked at.
pub const MOST_LINES: usize = 40;
/// Lines that it never exceeds with what holds the memory.
pub const MOST_LINES_EXPLAINED: usize = 76;

/// Columns of the labels on the left.
pub(crate) const LABEL: usize = 15;

/// What the sections below the account may take. What is folded away stands in `--json`.
#[derive(Clone, Copy)]
struct Fold {
    /// Lines of all notes together.
    notes: usize,
    /// Lines of steps to do next.
    next: usize,
    /// Remedies.
    remedies: usize,
    /// Lines of children.
    children: usize,
    /// What free space can serve.
    free_space: bool,
    /// What is beside RSS and within it.
    asides: bool,
    /// malloc's arenas.
    malloc: bool,
    /// The curve of a run.
    curves: bool,
}

/// From roomy to tight: of what folds, the least important first.
const FOLDS: [Fold; 9] = {
    let all = Fold {
        notes: 4,
        next: 4,
        remedies: 4,
        children: 4,
        free_space: true,
        asides: true,
        malloc: true,
        curves: true,
    };
    let fewer = Fold { notes: 2, ..all };
    let one_note = Fold { notes: 1, next: 3, ..fewer };
    let fewer_steps = Fold { next: 2, remedies: 3, children: 3, ..one_note };
    let few_steps = Fold { remedies: 2, children: 2, ..fewer_steps };
    let no_fit = Fold { free_space: false, children: 1, ..few_steps };
    let no_asides = Fold { asides: false, ..no_fit };
    let no_curves = Fold { curves: false, ..no_asides };
    let least = Fold { malloc: false, remedies: 1, ..no_curves };
    [all, fewer, one_note, fewer_steps, few_steps, no_fit, no_asides, no_curves, least]
};

/// The report. It ends in a newline, is at most [`WIDTH`] columns wide and [`MOST_LINES`] long, with what
/// holds the memory [`MOST_LINES_EXPLAINED`].
pub fn render(snapshot: &Snapshot, style: Style) -> String {
    let mut top = head(snapshot, style);
    top.push(Line::new());
    top.extend(bar::lines(snapshot, WIDTH, style));
    top.push(Line::new());
    // The rest gives way to the account.
    let rows = account::natural_rows(snapshot, style);
    let least = top.len() + account::HEADING + rows.min(account::FEWEST_ROWS) + 1;
    let [.., tightest] = FOLDS;
    let fitting = |lines: usize| {
        let mut folded = FOLDS.into_iter().map(|fold| meaning(snapshot, fold, style));
        folded.find(|meaning| least + meaning.len() <= lines)
    };
    let meaning = fitting(LINES)
        .or_else(|| fitting(MOST_LINES))
        .unwrap_or_else(|| meaning(snapshot, tightest, style));
    let room = |bottom: usize| LINES.saturating_sub(top.len() + bottom + account::HEADING);
    // Blank lines between the parts only if no owner has to be folded for them.
    let parts = meaning.said.len() + meaning.doing.len();
    let airy = rows <= room(meaning.len() + parts);
    let bottom = meaning.len() + if airy { parts } else { 1 };
    let table = account::lines(snapshot, room(bottom), WIDTH, style);
    let mut lines = [top, table].concat();
    let Some(explanation) = &snapshot.explanation else {
        lines.extend(spaced([meaning.said, meaning.doing].concat(), airy));
        return style::paint(&lines, style);
    };
    lines.extend(spaced(meaning.said, airy));
    let doing = spaced(meaning.doing, airy);
    let left = MOST_LINES_EXPLAINED.saturating_sub(lines.len() + doing.len() + 1);
    lines.extend(spaced(vec![holds::lines(explanation, left, style)], true));
    lines.extend(doing);
    style::paint(&lines, style)
}

/// Parts one after the other: a blank line before each, or before the first only.
fn spaced(parts: Vec<Vec<Line>>, airy: bool) -> Vec<Line> {
    let blank = |i: usize| (airy || i == 0).then(Line::new);
    parts.into_iter().enumerate().flat_map(|(i, part)| blank(i).into_iter().chain(part)).collect()
}

/// Which process, and its memory as the kernel counts it.
fn head(snapshot: &Snapshot, style: Style) -> Vec<Line> {
    let process = &snapshot.process;
    let pid = format!("pid {}", process.pid);
    let command = cut(&clean(&process.command, style), WIDTH - pid.len() - 2, style);
    let mut lines = vec![Line::of(Tone::Strong, pid).with(Tone::Plain, format!("  {command}"))];
    let about = wrap(&clean(&about(snapshot), style), WIDTH, 2, style);
    lines.extend(about.into_iter().map(|line| Line::of(Tone::Quiet, line)));
    let m = &snapshot.memory;
    let mut memory = Line::of(Tone::Strong, format!("RSS {}", size(m.rss)))
        .with(Tone::Plain, format!("   PSS {}   swap {}", size(m.pss), size(m.swap)));
    if m.hwm > 0 {
        memory = memory.with(Tone::Plain, format!("   peak {} (VmHWM)", size(m.hwm)));
    }
    lines.push(memory);
    if let Some(verdict) = &snapshot.verdict {
        lines.extend(verdict::lines(verdict, WIDTH, style));
    }
    if let Some(partial) = &snapshot.partial {
        lines.push(Line::new());
        let reason = (Tone::Warn, partial.reason.clone());
        lines.extend(section("Partial", Tone::Warn, &[reason], 3, style));
        let hint = partial.hint.iter().map(|h| (Tone::Strong, h.clone())).collect::<Vec<_>>();
        lines.extend(section("hint:", Tone::Strong, &hint, 3, style));
    }
    lines
}

fn about(snapshot: &Snapshot) -> String {
    let mut parts = Vec::new();
    if let Some(python) = &snapshot.process.python {
        parts.push(format!("Python {}", python.version));
        if python.free_threaded {
            parts.push("free-threaded".into());
        }
        parts.push(match python.allocator.as_str() {
            "unknown" => "allocator unknown".into(),
            name => name.to_string(),
        });
        if python.debug_hooks {
            parts.push("debug hooks on".into());
        }
        if python.tracemalloc {
            parts.push("tracemalloc on".into());
        }
        if let Some(n) = python.interpreters.filter(|n| *n != 1) {
            parts.push(count(n, "interpreter"));
        }
    }
    if let Some(libc) = &snapshot.process.libc {
        let version = libc.version.as_deref().unwrap_or("(version unknown)");
        parts.push(format!("{} {version}", libc.name));
    }
    parts.push(count(snapshot.process.threads, "thread"));
    parts.extend(utc(snapshot.taken_at));
    parts.join(", ")
}

/// What stands below the account, in parts that belong together.
struct Meaning {
    /// What the account says.
    said: Vec<Vec<Line>>,
    /// What would come back, and what to do.
    doing: Vec<Vec<Line>>,
}

impl Meaning {
    /// Lines, without blank ones between the parts.
    fn len(&self) -> usize {
        self.said.iter().chain(&self.doing).map(Vec::len).sum()
    }
}

fn meaning(snapshot: &Snapshot, fold: Fold, style: Style) -> Meaning {
    let mut lines = Vec::new();
    let mut say = |label: &str, sentences: &[Sentence], most: usize| {
        lines.extend(section(label, Tone::Strong, sentences, most, style));
    };
    // A partial snapshot knows of no heap, and says so above.
    if snapshot.partial.is_none() {
        say("Fragmentation", &findings::fragmentation(snapshot), 3);
        if let Some(pymalloc) = snapshot.pymalloc.as_ref().filter(|_| fold.free_space) {
            say("Free space", &[findings::free_space(pymalloc)], 3);
        }
        if fold.malloc {
            say("malloc", findings::malloc(snapshot).as_slice(), 2);
        }
        say("Read in motion", findings::torn(snapshot).as_slice(), 2);
    }
    if fold.asides {
        say("Beside RSS", findings::beside(snapshot).as_slice(), 1);
        say("Within RSS", findings::within(snapshot).as_slice(), 2);
    }
    say("Notes", &notes(snapshot, fold.notes, style), fold.notes);
    let mut said = vec![lines];
    if let Some(run) = &snapshot.run {
        said.push(over_time(snapshot, run, fold, style));
    }
    let mut doing = Vec::new();
    if snapshot.partial.is_none() {
        doing.push(labelled(&["Would return", "(cumulative)"], ladder::lines(snapshot)));
    }
    if let Some(verdict) = &snapshot.verdict {
        let remedies = verdict::remedies(verdict, fold.remedies);
        doing.push(section("Remedies", Tone::Strong, &remedies, 2 * fold.remedies + 1, style));
    }
    doing.push(labelled(&["Next"], next(snapshot, fold.next, style)));
    for parts in [&mut said, &mut doing] {
        parts.retain(|p| !p.is_empty());
    }
    Meaning { said, doing }
}

/// The run that the snapshot ends.
fn over_time(snapshot: &Snapshot, run: &Run, fold: Fold, style: Style) -> Vec<Line> {
    let mut lines = section("Run", Tone::Strong, &run::measures(snapshot, run), 5, style);
    if fold.curves {
        lines.extend(labelled(&["Over time"], run::curves(run, WIDTH - LABEL, style)));
    }
    if let Some(healed) = &run.healed {
        lines.extend(section("Healed", Tone::Strong, &heal::over_a_run(healed), 2, style));
    }
    let children = run::children(run, fold.children, WIDTH - LABEL, style);
    lines.extend(section("Children", Tone::Strong, &children, fold.children, style));
    lines
}

/// The snapshot's notes, no more than there are lines for.
fn notes(snapshot: &Snapshot, most: usize, style: Style) -> Vec<Sentence> {
    let mut notes = snapshot.notes.clone();
    let python = snapshot.process.python.as_ref();
    if python.is_some_and(|p| p.debug_hooks) {
        notes.insert(0, "live contains what CPython's debug hooks add to each block".into());
    }
    if let Some(file) = python.and_then(|p| p.foreign_hook.as_ref()) {
        notes.insert(0, format!("a hook of {file} lies on top of Python's allocator"));
    }
    let mut said: Vec<Sentence> = Vec::new();
    let mut left = most;
    for (i, note) in notes.iter().enumerate() {
        let last = i + 1 == notes.len();
        let lines = wrap(&clean(note, style), WIDTH - LABEL, usize::MAX, style).len();
        // One line is kept for saying that there are more.
        if lines > left.saturating_sub(usize::from(!last)) {
            let rest = (notes.len() - i) as u64;
            let noun = if said.is_empty() { "note" } else { "more note" };
            said.push((Tone::Quiet, format!("{}: see --json", count(rest, noun))));
            break;
        }
        said.push((Tone::Plain, note.clone()));
        left -= lines;
    }
    said
}

/// What to do next in no more than `most` lines, with the commands that this version has: first
/// what would decide what the verdict cannot.
fn next(snapshot: &Snapshot, most: usize, style: Style) -> Vec<Line> {
    const WHY: usize = 18;
    let pid = snapshot.process.pid;
    let step = |why: &str, command: &str| {
        Line::of(Tone::Quiet, pad(why, WHY, false)).with(Tone::Plain, command)
    };
    let undecided = snapshot.verdict.as_ref().and_then(|v| v.undecided.as_ref());
    let undecided = clean(undecided.map_or("", |u| u), style);
    let wrapped = wrap(&undecided, WIDTH - LABEL - WHY, 3, style);
    let head = ["not decided yet", "", ""];
    let mut steps: Vec<_> = head.iter().zip(&wrapped).map(|(why, line)| step(why, line)).collect();
    // Of a program that was run there is nothing left to look at.
    if snapshot.run.is_none() {
        steps.extend([
            step("keep this look", &format!("pydefrag snapshot {pid} -o A.pdsnap")),
            step("what grew later?", &format!("pydefrag diff A.pdsnap {pid}")),
            step("over its life", "pydefrag run app.py"),
            step("other processes", "pydefrag ps"),
        ]);
    }
    // Half of a sentence decides nothing.
    steps.truncate(if most < wrapped.len() { 0 } else { most });
    steps
}

/// Sentences beside a label, wrapped, in at most `most` lines; nothing when there are none.
pub(crate) fn section(
    label: &str,
    tone: Tone,
    sentences: &[Sentence],
    most: usize,
    style: Style,
) -> Vec<Line> {
    let mut body = Vec::new();
    for (i, (tone, text)) in sentences.iter().enumerate() {
        // Each sentence that follows keeps a line.
        let room = most.saturating_sub(body.len() + sentences.len() - i - 1).max(1);
        let wrapped = wrap(&clean(text, style), WIDTH - LABEL, room, style);
        body.extend(wrapped.into_iter().map(|line| Line::of(*tone, line)));
    }
    body.truncate(most);
    body.into_iter()
        .enumerate()
        .map(|(i, line)| {
            let label = if i == 0 { label } else { "" };
            Line::of(tone, pad(label, LABEL, false)).then(line)
        })
        .collect()
}

/// Lines beside a label that goes on in the lines below.
pub(crate) fn labelled(label: &[&str], body: Vec<Line>) -> Vec<Line> {
    body.into_iter()
        .enumerate()
        .map(|(i, line)| {
            let tone = if i == 0 { Tone::Strong } else { Tone::Quiet };
            Line::of(tone, pad(label.get(i).unwrap_or(&""), LABEL, false)).then(line)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::sample;

    const PLAIN: Style = Style { color: false, unicode: true };
    const COLOR: Style = Style { color: true, unicode: true };
    const ASCII: Style = Style { color: false, unicode: false };

    fn strip(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("\x1b[") {
            out += &rest[..at];
            rest = &rest[at..];
            rest = &rest[rest.find('m').expect("only SGR escapes") + 1..];
        }
        out + rest
    }

    #[test]
    fn every_report_fits_the_screen_with_and_without_colour() {
        for (name, s) in sample::all() {
            let plain = render(&s, PLAIN);
            let color = render(&s, COLOR);
            assert!(!plain.contains('\x1b') && color.contains('\x1b'), "{name}");
            assert_eq!(strip(&color), plain, "{name}");
            for text in [&plain, &render(&s, ASCII)] {
                let lines: Vec<_> = text.lines().collect();
                let most = if s.explanation.is_some() { MOST_LINES_EXPLAINED } else { MOST_LINES };
                assert!(lines.len() <= most, "{name}: {} lines\n{text}", lines.len());
                for line in lines {
                    assert!(line.width() <= WIDTH, "{name}: {line:?}\n{text}");
                    assert_eq!(line, line.trim_end(), "{name}");
                    assert!(!line.contains(char::is_control), "{name}: {line:?}");
                }
                assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
            }
            assert!(render(&s, ASCII).is_ascii(), "{name}");
        }
    }

    #[test]
    fn the_usual_report_keeps_well_inside_the_screen() {
        assert!(render(&sample::usual(), PLAIN).lines().count() <= LINES);
        assert!(render(&sample::many_owners(60), PLAIN).lines().count() <= LINES);
    }

    #[test]
    fn the_bar_is_as_wide_as_the_report() {
        let text = render(&sample::usual(), PLAIN);
        assert!(text.lines().any(|l| l.starts_with('█') && l.width() == WIDTH), "{text}");
    }

    #[test]
    fn texts() {
        for (name, s) in sample::all() {
            insta::assert_snapshot!(format!("text-{name}"), render(&s, PLAIN));
        }
        insta::assert_snapshot!("text-usual-ascii", render(&sample::usual(), ASCII));
        let color = render(&sample::usual(), COLOR).replace('\x1b', "␛");
        insta::assert_snapshot!("text-usual-color", color);
    }
}
