//! A small picture of pymalloc's arenas for a terminal: a character per pool, shaded by how full it is.
//!
//! Owns the shades and how many pools share a character where there are many. The large picture, down to single
//! blocks, is the HTML report's.

use pydefrag_heap::{Detail, PoolRecord, PoolState};

use crate::format::grouped;
use crate::style::{self, Line, Style, Tone};

/// Lines that the picture takes at most, its heading and legend included.
pub const MOST_LINES: usize = 12;
const ROWS: usize = MOST_LINES - 3;
/// Characters of a row: as many as an arena has pools.
const COLUMNS: usize = 64;
const INDENT: usize = 2;
/// What pymalloc keeps at the beginning of a pool.
const HEADER: usize = 48;

/// How full one or several pools are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shade {
    /// Neither used nor resident.
    Absent,
    /// No live block, and resident.
    Free,
    /// Live blocks, by quarters.
    Used(u8),
    /// Not known.
    Unread,
}

/// What stands for a shade, in Unicode and in ASCII.
fn glyph(shade: Shade, style: Style) -> char {
    let (unicode, ascii) = match shade {
        Shade::Absent => (' ', ' '),
        Shade::Free => ('·', '.'),
        Shade::Used(0) => ('░', '-'),
        Shade::Used(1) => ('▒', '+'),
        Shade::Used(2) => ('▓', '*'),
        Shade::Used(_) => ('█', '#'),
        Shade::Unread => ('?', '?'),
    };
    if style.unicode { unicode } else { ascii }
}

fn tone(shade: Shade) -> Tone {
    match shade {
        Shade::Absent => Tone::Plain,
        Shade::Free => Tone::Lost,
        Shade::Used(0 | 1) => Tone::Pinned,
        Shade::Used(_) => Tone::Live,
        Shade::Unread => Tone::Warn,
    }
}

/// Sums of the pools that share a character.
#[derive(Default)]
struct Cell {
    live: usize,
    room: usize,
    resident: bool,
    used: bool,
    unread: bool,
}

impl Cell {
    fn add(&mut self, pool: &PoolRecord, pool_size: u32) {
        let blocks =
            (pool_size as usize).saturating_sub(HEADER) / (16 * (usize::from(pool.class) + 1));
        self.resident |= pool.resident != 0;
        self.room += blocks.max(usize::from(pool.used));
        match pool.state {
            PoolState::Used => {
                self.live += usize::from(pool.used);
                self.used = true;
            }
            PoolState::Free => {}
            PoolState::Unread => self.unread = true,
        }
    }

    fn shade(&self) -> Shade {
        match () {
            () if self.used => Shade::Used(
                (4 * self.live).div_ceil(self.room.max(1)).saturating_sub(1).min(3) as u8,
            ),
            () if self.unread => Shade::Unread,
            () if self.resident => Shade::Free,
            () => Shade::Absent,
        }
    }
}

/// The picture, for the foot of a report. Empty where pymalloc has no pools.
pub fn render(detail: &Detail, style: Style) -> String {
    style::paint(&lines(detail, style), style)
}

fn lines(detail: &Detail, style: Style) -> Vec<Line> {
    let mut pools: Vec<&PoolRecord> = detail.pools.iter().collect();
    if pools.is_empty() {
        return Vec::new();
    }
    pools.sort_unstable_by_key(|p| (p.interpreter, p.address));
    let share = pools.len().div_ceil(ROWS * COLUMNS);
    let cells: Vec<Shade> = pools
        .chunks(share)
        .map(|pools| {
            let mut cell = Cell::default();
            pools.iter().for_each(|p| cell.add(p, detail.pool_size));
            cell.shade()
        })
        .collect();
    let each = match share {
        1 => "a character each".to_owned(),
        n => format!("a character for {} of them", grouped(n as u64)),
    };
    let of = if pools.len() == 1 { "pool" } else { "pools" };
    let heading = format!("{} {of} of pymalloc, by address, {each}", grouped(pools.len() as u64));
    let mut lines = vec![Line::new(), Line::of(Tone::Strong, heading)];
    lines.extend(cells.chunks(COLUMNS).map(|row| row_of(row, style)));
    lines.push(legend(style));
    lines
}

/// Neighbours of one colour are one piece.
fn row_of(row: &[Shade], style: Style) -> Line {
    row.chunk_by(|a, b| tone(*a) == tone(*b)).fold(
        Line::of(Tone::Plain, " ".repeat(INDENT)),
        |line, run| {
            line.with(tone(run[0]), run.iter().map(|s| glyph(*s, style)).collect::<String>())
        },
    )
}

fn legend(style: Style) -> Line {
    let entries = [
        (Shade::Free, "free"),
        (Shade::Used(0), "up to 25%"),
        (Shade::Used(1), "50%"),
        (Shade::Used(2), "75%"),
        (Shade::Used(3), "100% of its blocks live"),
    ];
    entries.into_iter().enumerate().fold(
        Line::of(Tone::Plain, " ".repeat(INDENT)),
        |line, (i, (shade, said))| {
            let line = if i == 0 { line } else { line.with(Tone::Plain, "  ") };
            line.with(tone(shade), glyph(shade, style)).with(Tone::Quiet, format!(" {said}"))
        },
    )
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    const PLAIN: Style = Style { color: false, unicode: true };

    fn detail(pools: usize) -> Detail {
        let pool = |i: usize| PoolRecord {
            address: i as u64 * 16384,
            interpreter: 0,
            class: 3,
            state: if i.is_multiple_of(7) { PoolState::Free } else { PoolState::Used },
            used: (i * 37 % 256) as u16,
            carved: 255,
            resident: u8::from(!i.is_multiple_of(14)),
            exclusive: 0,
            bitmap: 0,
        };
        Detail { pool_size: 16384, pools: (0..pools).map(pool).collect(), ..Default::default() }
    }

    #[test]
    fn a_pool_is_shaded_by_its_live_blocks() {
        let shade = |used, state, resident| {
            let pool = PoolRecord { used, state, resident, ..detail(2).pools[1] };
            let mut cell = Cell::default();
            cell.add(&pool, 16384);
            cell.shade()
        };
        // 255 blocks of 64 bytes.
        for (used, quarter) in
            [(1, 0), (63, 0), (64, 1), (127, 1), (128, 2), (191, 2), (192, 3), (255, 3)]
        {
            assert_eq!(shade(used, PoolState::Used, 15), Shade::Used(quarter), "{used}");
        }
        assert_eq!(shade(0, PoolState::Free, 1), Shade::Free);
        assert_eq!(shade(0, PoolState::Free, 0), Shade::Absent);
        assert_eq!(shade(0, PoolState::Unread, 1), Shade::Unread);
    }

    #[test]
    fn it_keeps_to_its_lines_and_columns() {
        for pools in [1, 63, 64, 65, 576, 577, 5000, 300_000] {
            for style in [PLAIN, Style { color: false, unicode: false }] {
                let text = render(&detail(pools), style);
                assert!(text.lines().count() <= MOST_LINES, "{pools}:\n{text}");
                assert!(text.lines().all(|l| l.width() <= crate::text::WIDTH), "{pools}:\n{text}");
            }
        }
        assert_eq!(render(&detail(0), PLAIN), "");
    }

    #[test]
    fn the_picture() {
        insta::assert_snapshot!("map", render(&detail(150), PLAIN));
        insta::assert_snapshot!(
            "map-ascii",
            render(&detail(1200), Style { color: false, unicode: false })
        );
    }
}
