//! Tables of a constant width: one column takes the room that the others leave.
//!
//! Owns alignment. Cells must be clean text (see [`crate::words::clean`]).

use unicode_width::UnicodeWidthStr;

use crate::style::{Line, Style, Tone};
use crate::words::{cut, pad};

/// A column: its heading, one text per heading line, and how it is drawn.
pub(crate) struct Column {
    pub(crate) head: Vec<&'static str>,
    pub(crate) tone: Tone,
    pub(crate) right: bool,
}

/// A table whose column `flexible` is cut or padded to fill the width.
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<(Tone, String)>>,
    pub(crate) flexible: usize,
}

impl Table {
    /// Room that the flexible column can get: what is left with one blank between columns.
    pub(crate) fn room(&self, width: usize) -> usize {
        let fixed: usize =
            (0..self.columns.len()).filter(|i| *i != self.flexible).map(|i| self.natural(i)).sum();
        width.saturating_sub(fixed + self.gaps())
    }

    fn gaps(&self) -> usize {
        self.columns.len().saturating_sub(1)
    }

    fn natural(&self, column: usize) -> usize {
        let heads = self.columns[column].head.iter().map(|h| h.width());
        heads.chain(self.rows.iter().map(|r| r[column].1.width())).max().unwrap_or(0)
    }

    /// The heading lines and the rows. What the flexible column needs, as far as that is no more
    /// than `wanted`, goes before second blanks between columns.
    pub(crate) fn lines(&self, width: usize, wanted: usize, style: Style) -> Vec<Line> {
        let room = self.room(width);
        let spare = room.saturating_sub(self.natural(self.flexible).min(wanted)).min(self.gaps());
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| if i == self.flexible { room - spare } else { self.natural(i) })
            .collect();
        let gap = |i: usize| " ".repeat(1 + usize::from(i <= spare));
        let heads = self.columns.first().map_or(0, |c| c.head.len());
        let mut lines = Vec::new();
        for h in 0..heads {
            let cells = self.columns.iter().map(|c| (c.tone, c.head[h].to_string()));
            lines.push(self.line(cells, &widths, gap, style));
        }
        for row in &self.rows {
            lines.push(self.line(row.iter().cloned(), &widths, gap, style));
        }
        lines
    }

    fn line(
        &self,
        cells: impl Iterator<Item = (Tone, String)>,
        widths: &[usize],
        gap: impl Fn(usize) -> String,
        style: Style,
    ) -> Line {
        let mut line = Line::new();
        for (i, (tone, text)) in cells.enumerate() {
            if i > 0 {
                line = line.with(Tone::Plain, gap(i));
            }
            let text = cut(&text, widths[i], style);
            line = line.with(tone, pad(&text, widths[i], self.columns[i].right));
        }
        line
    }
}
