//! The report of one snapshot for a person: at most one screen.
//!
//! Owns the order of its parts and the budget of lines. Each part's content is its own file's.

use pydefrag_heap::Snapshot;

use crate::findings::{self, Sentence};
use crate::format::{count, size, utc};
use crate::style::{self, Line, Style, Tone};
use crate::words::{clean, cut, pad, wrap};
use crate::{account, bar, ladder};

/// Columns of the report; no line is wider.
pub const WIDTH: usize = 80;
/// Lines that the report tries to keep to, by folding owners.
pub const LINES: usize = 36;
/// Lines that it never exceeds.
pub const MOST_LINES: usize = 40;

/// Columns of the labels on the left.
const LABEL: usize = 15;
/// Lines that all notes together may take.
const NOTE_LINES: usize = 4;

/// The report. It ends in a newline, is at most [`WIDTH`] columns wide and [`MOST_LINES`] long.
pub fn render(snapshot: &Snapshot, style: Style) -> String {
    let mut top = head(snapshot, style);
    top.push(Line::new());
    top.extend(bar::lines(snapshot, WIDTH, style));
    top.push(Line::new());
    // Notes give way to what else must be said.
    let rows = account::natural_rows(snapshot, style);
    let least = top.len() + account::HEADING + rows.min(account::FEWEST_ROWS) + 1;
    let parts = (1..=NOTE_LINES)
        .rev()
        .map(|note_lines| meaning(snapshot, note_lines, style))
        .find(|parts| least + parts.concat().len() <= MOST_LINES)
        .unwrap_or_else(|| meaning(snapshot, 1, style));
    let room = |bottom: &[Line]| LINES.saturating_sub(top.len() + bottom.len() + account::HEADING);
    // Blank lines between the parts only if no owner has to be folded for them.
    let airy = parts.iter().flat_map(|p| [&[Line::new()], &p[..]].concat()).collect::<Vec<_>>();
    let bottom =
        if rows <= room(&airy) { airy } else { [vec![Line::new()], parts.concat()].concat() };
    let table = account::lines(snapshot, room(&bottom), WIDTH, style);
    style::paint(&[top, table, bottom].concat(), style)
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

/// What the account means: the labelled sections below it, in parts that belong together.
fn meaning(snapshot: &Snapshot, note_lines: usize, style: Style) -> Vec<Vec<Line>> {
    let mut lines = Vec::new();
    let mut say = |label: &str, sentences: &[Sentence], most: usize| {
        lines.extend(section(label, Tone::Strong, sentences, most, style));
    };
    // A partial snapshot knows of no heap, and says so above.
    if snapshot.partial.is_none() {
        say("Fragmentation", &findings::fragmentation(snapshot), 3);
        if let Some(pymalloc) = &snapshot.pymalloc {
            say("Free space", &[findings::free_space(pymalloc)], 3);
        }
        say("Read in motion", findings::torn(snapshot).as_slice(), 2);
    }
    say("Beside RSS", findings::beside(snapshot).as_slice(), 1);
    say("Within RSS", findings::within(snapshot).as_slice(), 2);
    say("Notes", &notes(snapshot, note_lines, style), note_lines);
    let mut parts = vec![lines];
    if snapshot.partial.is_none() {
        let label = ["Would return", "(cumulative;", "no command in", "this version)"];
        parts.push(labelled(&label, ladder::lines(snapshot)));
    }
    parts.push(labelled(&["Next"], next(snapshot)));
    parts.retain(|p| !p.is_empty());
    parts
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

/// What to do next, with the commands that this version has.
fn next(snapshot: &Snapshot) -> Vec<Line> {
    let pid = snapshot.process.pid;
    let step = |why: &str, command: String| {
        Line::of(Tone::Quiet, pad(why, 17, false)).with(Tone::Plain, command)
    };
    vec![
        step("keep this look", format!("pydefrag snapshot {pid} -o A.pdsnap")),
        step("show it again", "pydefrag report A.pdsnap   (--json: every byte)".into()),
        step("leak or not?", "keep B.pdsnap later: what grew, live or free?".into()),
        step("other processes", "pydefrag ps".into()),
    ]
}

/// Sentences beside a label, wrapped, in at most `most` lines; nothing when there are none.
fn section(
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
fn labelled(label: &[&str], body: Vec<Line>) -> Vec<Line> {
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
                assert!(lines.len() <= MOST_LINES, "{name}: {} lines\n{text}", lines.len());
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
