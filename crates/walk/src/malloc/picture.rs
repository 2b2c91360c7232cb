//! An arena as a map needs it: its chunks as tiles, and which of its pages are holes or would be trimmed.
//!
//! Owns what is kept of the walk; nothing is, unless a map is wanted.

use pydefrag_heap::{Tile, Tiles};

/// Neighbouring chunks.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// From start to end.
    pub(crate) tiles: Tiles,
}

/// What an arena looks like.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    pub(crate) stretches: Vec<Stretch>,
    /// Whole OS pages inside free chunks.
    pub(crate) holes: Vec<(u64, u64)>,
    /// Whole OS pages that malloc_trim drops.
    pub(crate) trimmed: Vec<(u64, u64)>,
    current: Stretch,
}

impl Picture {
    /// A stretch begins.
    pub(super) fn begin(&mut self, start: u64) {
        self.current = Stretch { start, end: start, tiles: Tiles::default() };
    }

    /// What lies behind the last tile, up to `end`.
    pub(super) fn tile(&mut self, end: u64, tile: Tile) {
        if end > self.current.end {
            self.current.tiles.push(end - self.current.end, tile);
            self.current.end = end;
        }
    }

    /// The stretch ends.
    pub(super) fn end(&mut self, end: u64) {
        // The walk leaves no gaps.
        self.tile(end, Tile::Unread);
        self.stretches.push(std::mem::take(&mut self.current));
    }
}
