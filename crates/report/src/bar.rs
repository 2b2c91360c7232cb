//! The bar: all resident bytes by kind, in one line, and its legend.
//!
//! Owns the kinds that a reader tells apart at a glance, their order and glyphs. The exact numbers
//! are the account table's.

use pydefrag_heap::{OwnerKind, Snapshot};

use crate::format::share;
use crate::style::{Line, Style, Tone};
use crate::words::pad;

/// Entries of the legend in one line.
const LEGEND_COLUMNS: usize = 3;

/// A kind of resident bytes: what the legend calls it and how it is drawn.
struct Kind {
    label: &'static str,
    tone: Tone,
    glyph: char,
    ascii: char,
}

const fn kind(label: &'static str, tone: Tone, glyph: char, ascii: char) -> Kind {
    Kind { label, tone, glyph, ascii }
}

/// In the order of the bar; the constants below are indices.
const KINDS: [Kind; 11] = [
    kind("live", Tone::Live, '█', '#'),
    kind("free pools", Tone::Lost, '▓', 'P'),
    kind("holes", Tone::Lost, '▒', 'H'),
    kind("pinned free", Tone::Pinned, '░', '%'),
    kind("top, cached", Tone::Overhead, '▌', 't'),
    kind("overhead", Tone::Overhead, '▚', 'v'),
    kind("unread", Tone::Warn, '?', '?'),
    kind("heaps not walked", Tone::Native, '▄', 'm'),
    kind("stacks", Tone::Native, '≡', 's'),
    kind("files, shared", Tone::Other, '─', '-'),
    kind("other", Tone::Other, '·', '.'),
];
const LIVE: usize = 0;
const FREE_POOLS: usize = 1;
const HOLES: usize = 2;
const PINNED: usize = 3;
const TOP: usize = 4;
const OVERHEAD: usize = 5;
const UNREAD: usize = 6;
const NOT_WALKED: usize = 7;
const STACKS: usize = 8;
const FILES: usize = 9;
const OTHER: usize = 10;

/// Resident bytes of each of [`KINDS`].
fn by_kind(snapshot: &Snapshot) -> [u64; KINDS.len()] {
    let mut bytes = [0u64; KINDS.len()];
    let mut add = |kind: usize, n: u64| bytes[kind] = bytes[kind].saturating_add(n);
    add(OTHER, snapshot.unattributed);
    for owner in &snapshot.owners {
        let Some(a) = owner.account else {
            let kind = match owner.kind {
                OwnerKind::Pymalloc
                | OwnerKind::Malloc
                | OwnerKind::Mimalloc
                | OwnerKind::Private
                | OwnerKind::Jemalloc
                | OwnerKind::Tcmalloc => NOT_WALKED,
                OwnerKind::FrameStacks | OwnerKind::ThreadStacks => STACKS,
                OwnerKind::Interpreter
                | OwnerKind::Extensions
                | OwnerKind::Libraries
                | OwnerKind::DataFiles
                | OwnerKind::SharedMemory => FILES,
                OwnerKind::OtherAnonymous => OTHER,
            };
            add(kind, owner.resident);
            continue;
        };
        add(LIVE, a.live.saturating_add(a.rounding.unwrap_or(0)));
        add(FREE_POOLS, a.free_spans);
        add(HOLES, a.holes);
        add(PINNED, a.pinned_free);
        add(TOP, a.top.saturating_add(a.cached));
        add(OVERHEAD, a.virgin.saturating_add(a.metadata));
        add(UNREAD, a.unread);
    }
    bytes
}

/// Shares `width` cells out in proportion to `parts` so that they add up to it exactly. Whatever is
/// not nothing gets at least one cell, as long as there are as many. All zero when all parts are.
fn apportion(parts: &[u64], width: usize) -> Vec<usize> {
    let total: u128 = parts.iter().map(|&p| u128::from(p)).sum();
    if total == 0 {
        return vec![0; parts.len()];
    }
    let scaled = |p: u64| u128::from(p) * width as u128;
    let mut cells: Vec<usize> = parts.iter().map(|&p| (scaled(p) / total) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by_key(|&i| std::cmp::Reverse(scaled(parts[i]) % total));
    let missing = width - cells.iter().sum::<usize>();
    for &i in &by_remainder[..missing] {
        cells[i] += 1;
    }
    for i in 0..parts.len() {
        let largest = (0..cells.len()).max_by_key(|&j| cells[j]).unwrap_or(0);
        if parts[i] > 0 && cells[i] == 0 && cells[largest] > 1 {
            cells[largest] -= 1;
            cells[i] = 1;
        }
    }
    cells
}

/// The bar and its legend; a single line when nothing is resident.
pub(crate) fn lines(snapshot: &Snapshot, width: usize, style: Style) -> Vec<Line> {
    let bytes = by_kind(snapshot);
    let total = bytes.iter().fold(0, |sum: u64, &b| sum.saturating_add(b));
    if total == 0 {
        return vec![Line::of(Tone::Quiet, "nothing is resident")];
    }
    let glyph = |k: &Kind| if style.unicode { k.glyph } else { k.ascii }.to_string();
    let mut bar = Line::new();
    for (kind, cells) in KINDS.iter().zip(apportion(&bytes, width)) {
        bar = bar.with(kind.tone, glyph(kind).repeat(cells));
    }
    let entries: Vec<_> = KINDS.iter().zip(bytes).filter(|(_, bytes)| *bytes > 0).collect();
    // Filled column by column: related kinds stand below each other.
    let rows = entries.len().div_ceil(LEGEND_COLUMNS);
    let mut legend = vec![Line::new(); rows];
    for (i, (kind, bytes)) in entries.into_iter().enumerate() {
        let share = pad(&share(bytes, total), 5, true);
        let entry = Line::of(kind.tone, glyph(kind))
            .with(Tone::Plain, format!(" {}", pad(kind.label, 17, false)))
            .with(Tone::Plain, format!("{share}%"));
        let line = std::mem::take(&mut legend[i % rows]);
        legend[i % rows] = line.then(entry).padded((i / rows + 1) * 27);
    }
    [vec![bar], legend].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn cells_add_up_and_none_is_lost() {
        let mut seed = 7u64;
        for _ in 0..2000 {
            let parts: [u64; 10] = std::array::from_fn(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                if seed >> 62 == 0 { 0 } else { seed >> (seed >> 58) }
            });
            let cells = apportion(&parts, 80);
            let any = parts.iter().any(|&p| p > 0);
            assert_eq!(cells.iter().sum::<usize>(), if any { 80 } else { 0 });
            for (part, cells) in parts.iter().zip(&cells) {
                assert_eq!(*part > 0, *cells > 0, "{parts:?}");
            }
        }
    }

    #[test]
    fn degenerate_parts_are_harmless() {
        assert_eq!(apportion(&[], 80), [0; 0]);
        assert_eq!(apportion(&[0, 0], 80), [0, 0]);
        assert_eq!(apportion(&[1, 1, 1], 2).iter().sum::<usize>(), 2);
        assert_eq!(apportion(&[u64::MAX; 10], 80), [8; 10]);
        assert_eq!(apportion(&[u64::MAX, 1], 80), [79, 1]);
    }

    #[test]
    fn every_byte_of_rss_is_in_the_bar() {
        for s in [sample::full(), sample::partial(), sample::many_owners(60)] {
            assert_eq!(by_kind(&s).iter().sum::<u64>(), s.memory.rss);
        }
    }
}
