//! Colours by meaning, and lines that carry them.
//!
//! Owns which meaning has which colour. Layout is decided on the plain text of a [`Line`]; colour
//! is added when it is painted, so it can never move anything.

use owo_colors::OwoColorize;
use unicode_width::UnicodeWidthStr;

/// How a text report is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Colour with ANSI escapes.
    pub color: bool,
    /// Draw with block, box and ellipsis characters; otherwise with ASCII only.
    pub unicode: bool,
}

impl Style {
    /// What stands for text that was cut.
    pub(crate) fn ellipsis(self) -> &'static str {
        if self.unicode { "…" } else { "~" }
    }

    /// What stands before an error.
    pub(crate) fn plus_minus(self) -> &'static str {
        if self.unicode { "±" } else { "+-" }
    }
}

/// What a piece of text means, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing in particular.
    Plain,
    /// What the eye should find first.
    Strong,
    /// Explanations, and what matters less.
    Quiet,
    /// Live Python memory.
    Live,
    /// Free and resident in units that an allocator could give back: fragmentation.
    Lost,
    /// Free and resident, held by a live neighbour: fragmentation too.
    Pinned,
    /// The Python heap's own bookkeeping and reserve.
    Overhead,
    /// Memory of heaps that are not Python's, and stacks.
    Native,
    /// Mapped files and what has no better name.
    Other,
    /// Something is missing or uncertain.
    Warn,
}

impl Tone {
    fn ansi(self) -> owo_colors::Style {
        let s = owo_colors::Style::new();
        match self {
            Tone::Plain => s,
            Tone::Strong => s.bold(),
            Tone::Quiet => s.dimmed(),
            Tone::Live => s.green(),
            Tone::Lost => s.red(),
            Tone::Pinned => s.yellow(),
            Tone::Overhead => s.cyan(),
            Tone::Native => s.blue(),
            Tone::Other => s.bright_black(),
            Tone::Warn => s.yellow().bold(),
        }
    }
}

/// One line of a report: pieces of text and what each means.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Vec<(Tone, String)>);

impl Line {
    pub(crate) fn new() -> Self {
        Line::default()
    }

    pub(crate) fn of(tone: Tone, text: impl Into<String>) -> Self {
        Line::new().with(tone, text)
    }

    pub(crate) fn with(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.0.push((tone, text.into()));
        self
    }

    pub(crate) fn then(mut self, rest: Line) -> Self {
        self.0.extend(rest.0);
        self
    }

    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// Fills with blanks up to `width` columns.
    pub(crate) fn padded(self, width: usize) -> Self {
        let missing = width.saturating_sub(self.width());
        self.with(Tone::Plain, " ".repeat(missing))
    }

    /// The line as it is printed, without a newline and without blanks at its end.
    pub(crate) fn paint(&self, style: Style) -> String {
        let used = self.0.iter().rposition(|(_, t)| !t.trim_end_matches(' ').is_empty());
        let Some(last) = used else { return String::new() };
        let mut out = String::new();
        for (i, (tone, text)) in self.0[..=last].iter().enumerate() {
            let text = if i == last { text.trim_end_matches(' ') } else { text };
            if style.color && *tone != Tone::Plain && !text.trim().is_empty() {
                out += &text.style(tone.ansi()).to_string();
            } else {
                out += text;
            }
        }
        out
    }
}

/// Lines as one text, each ended by a newline.
pub(crate) fn paint(lines: &[Line], style: Style) -> String {
    lines.iter().map(|l| l.paint(style) + "\n").collect()
}
