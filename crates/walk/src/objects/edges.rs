//! The second pass: which block refers to which.
//!
//! Owns the reading of references: each word of a block that is the address of another's object, or of
//! another's start where that is a buffer. That is exact for what the containers' slots hold, and
//! conservative for memory whose form is not known. What only looks like a reference and holds nothing,
//! the object of a weak reference, say, is left out. Owns also what must see contents: the room in
//! dicts' tables, and hashes of strings.
//!
//! Invariant: contents of strings leave this pass as hashes only.

use std::hash::Hasher;
use std::io;
use std::sync::atomic::Ordering::Relaxed;

use pydefrag_image::{Log, Records, Words};
use pydefrag_layout::objects::{Keys, Refcount, Values, weakref};
use pydefrag_layout::word::u64_at;
use rustc_hash::FxHasher;

use super::blocks::Ordinal;
use super::classify::{Known, Table};
use super::kind::{Kind, Role};
use super::reach::TableForm;
use super::slack::{Counts, Sort as SlackSort, record};
use super::stream::{Piece, Worker};
use super::types::Sort;

/// Where the edges are kept.
pub(crate) struct Graph {
    /// By number of a block: where its last stretch of edges begins, plus one; 0 where it has none.
    pub(crate) index: Words,
    pub(crate) edges: Log,
    /// Pairs of a block's number and the hash of its text.
    pub(crate) texts: Log,
    /// One in so many different texts is kept.
    pub(crate) one_in: u64,
}

/// A reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) to: Ordinal,
    /// Which word of the referring block holds it; capped.
    pub(crate) word: u32,
}

/// A stretch of edges: its head has their number and where the stretch before begins, plus one.
fn head(count: usize, before: u32) -> u64 {
    (count as u64) << 32 | u64::from(before)
}

/// Stretches are kept when they are as long.
const LONGEST: usize = 1 << 16;

/// The finished graph.
pub(crate) struct Edges {
    index: Words,
    records: Records,
}

impl Graph {
    pub(crate) fn new(blocks: usize) -> io::Result<Graph> {
        Ok(Graph {
            index: Words::zeroed(blocks)?,
            edges: Log::create()?,
            texts: Log::create()?,
            one_in: (blocks as u64 / MOST_TEXTS).next_power_of_two(),
        })
    }

    pub(crate) fn finish(self) -> io::Result<(Edges, Records)> {
        Ok((Edges { index: self.index, records: self.edges.read()? }, self.texts.read()?))
    }
}

/// Where a float's value ends, and an int's first digit or a bytes object's hash begins.
const NUMBER: usize = 24;
/// Where the pointers of a string begin, behind its state.
const FIELDS: usize = 40;
/// Different texts that are compared, about.
const MOST_TEXTS: u64 = 4 << 20;

impl Edges {
    /// The references that a block holds.
    pub(crate) fn of(&self, ordinal: Ordinal) -> impl Iterator<Item = Edge> + '_ {
        let mut at = self.index[ordinal as usize].load(Relaxed);
        let mut stretch: &[u64] = &[];
        std::iter::from_fn(move || {
            loop {
                if let Some((first, rest)) = stretch.split_first() {
                    stretch = rest;
                    return Some(Edge { to: *first as u32, word: (first >> 32) as u32 });
                }
                let start = at.checked_sub(1)? as usize;
                let head = *self.records.get(start)?;
                at = head as u32;
                stretch = self.records.get(start + 1..)?.get(..(head >> 32) as usize)?;
            }
        })
    }
}

/// The second pass.
pub(crate) struct Referrer<'a> {
    table: &'a Table<'a>,
    graph: &'a Graph,
    known: Known<'a>,
    /// Of the current block.
    edges: Vec<u64>,
    /// Where its last kept stretch begins, plus one.
    kept: u32,
    current: Ordinal,
    /// Of this unit, not yet kept: position of heads by number.
    pending: Vec<u64>,
    heads: Vec<(Ordinal, u32)>,
    texts: Vec<u64>,
    slack: Vec<u64>,
    /// The dict's table that is being told, and its live entries so far.
    keys: Option<(Keys, u64)>,
    /// Blocks without a type to which an object's slot points, with that object and its type.
    pub(crate) adopted: Vec<(Ordinal, Ordinal, u32)>,
    pub(crate) counts: Counts,
    pub(crate) texts_seen: pydefrag_heap::Amount,
    failed: Option<io::Error>,
}

impl<'a> Referrer<'a> {
    pub(crate) fn new(table: &'a Table<'a>, graph: &'a Graph) -> Referrer<'a> {
        Referrer {
            table,
            graph,
            known: Known::new(table.types),
            edges: Vec::new(),
            kept: 0,
            current: Ordinal::MAX,
            pending: Vec::new(),
            heads: Vec::new(),
            texts: Vec::new(),
            slack: Vec::new(),
            keys: None,
            adopted: Vec::new(),
            counts: Counts::default(),
            texts_seen: Default::default(),
            failed: None,
        }
    }

    /// The block that a word refers to.
    fn target(&self, word: u64) -> Option<(Ordinal, Kind)> {
        let found = self.table.blocks.find(word)?;
        let kind = self.table.kinds.get(found.ordinal);
        let offset = word - found.start;
        let front = self.table.front();
        let exact = match kind.role() {
            Role::Object => offset == front + kind.before(),
            Role::FreeListed => false,
            // With a prefix in 3.11 and 3.12.
            Role::Values => offset >= front && offset <= front + 256,
            _ => offset == front,
        };
        exact.then_some((found.ordinal, kind))
    }

    fn scan(&mut self, piece: &Piece<'_>, kind: Kind, from: usize, to: usize, mask: u64) {
        let to = to.min(piece.bytes.len()) & !7;
        let mut at = from.next_multiple_of(8);
        while at + 8 <= to {
            let word = u64_at(piece.bytes, at) & mask;
            if word != 0
                && let Some((target, of)) = self.target(word)
            {
                self.edge(target, of, kind, (piece.offset as usize + at) / 8);
            }
            at += 8;
        }
    }

    fn edge(&mut self, target: Ordinal, of: Kind, from: Kind, word: usize) {
        self.edges.push((word as u64).min(u64::from(u32::MAX)) << 32 | u64::from(target));
        if of.role() == Role::Unknown && from.is_object() {
            self.adopted.push((target, self.current, from.id()));
        }
        if self.edges.len() >= LONGEST {
            self.keep_now();
        }
    }

    /// Keeps the edges of a block that has very many.
    fn keep_now(&mut self) {
        let mut stretch = vec![head(self.edges.len(), self.kept)];
        stretch.append(&mut self.edges);
        match self.graph.edges.append(&stretch).map(|at| u32::try_from(at + 1)) {
            Ok(Ok(at)) => self.kept = at,
            Ok(Err(_)) => self.failed = Some(io::Error::other("more references than can be kept")),
            Err(e) => self.failed = Some(e),
        }
    }

    /// The current block has no more edges.
    fn end_block(&mut self) {
        if self.current == Ordinal::MAX {
            return;
        }
        self.end_keys();
        if self.kept > 0 {
            if !self.edges.is_empty() {
                self.keep_now();
            }
            self.graph.index[self.current as usize].store(self.kept, Relaxed);
        } else if !self.edges.is_empty() {
            self.heads.push((self.current, self.pending.len() as u32));
            self.pending.push(head(self.edges.len(), 0));
            self.pending.append(&mut self.edges);
        }
        (self.kept, self.current) = (0, Ordinal::MAX);
    }

    fn flush(&mut self) {
        match self.graph.edges.append(&self.pending) {
            Ok(first) if first + self.pending.len() as u64 >= u64::from(u32::MAX) => {
                self.failed = Some(io::Error::other("more references than can be kept"));
            }
            Ok(first) => {
                for (ordinal, at) in &self.heads {
                    self.graph.index[*ordinal as usize].store(first as u32 + at + 1, Relaxed);
                }
            }
            Err(e) => self.failed = Some(e),
        }
        if let Err(e) = self.table.slack.append(&self.slack) {
            self.failed = Some(e);
        }
        if let Err(e) = self.graph.texts.append(&self.texts) {
            self.failed = Some(e);
        }
        self.pending.clear();
        self.heads.clear();
        self.slack.clear();
        self.texts.clear();
    }

    /// The sums; an error where the edges could not be kept.
    pub(crate) fn finish(mut self) -> io::Result<Referrer<'a>> {
        self.flush();
        match self.failed.take() {
            Some(e) => Err(e),
            None => Ok(self),
        }
    }

    fn object(&mut self, piece: &Piece<'_>, kind: Kind) {
        let t = self.table;
        let front = t.front() as usize;
        let at = front + kind.before() as usize;
        let b = piece.bytes;
        if at + 16 > b.len() {
            return;
        }
        let (_, of) = self.known.get(u64_at(b, at + 8));
        let Some(of) = of.cloned() else { return };
        let asked = t.asked[piece.ordinal as usize].load(Relaxed) as usize;
        let forms = t.types.forms;
        // Its class is kept alive by it, if that is an object of the heap.
        if of.is_heap() {
            self.scan(piece, kind, at + 8, at + 16, !0);
        }
        if of.managed_dict(forms) && at >= front + 32 {
            match forms.values {
                Values::Beside => self.scan(piece, kind, at - 32, at - 16, !0),
                // The address of values stands there less one.
                Values::Tagged if u64_at(b, at - 24) & 1 == 1 => {
                    let word = u64_at(b, at - 24).wrapping_add(1);
                    if let Some((target, target_kind)) = self.target(word) {
                        self.edge(target, target_kind, kind, (at - 24) / 8);
                    }
                }
                _ => self.scan(piece, kind, at - 24, at - 16, !0),
            }
        }
        let end = if of.sort == Sort::Frame || asked == 0 { b.len() } else { asked };
        // References on the evaluation stack have tags in their low bits (3.14+).
        let tagged = of.sort == Sort::Frame && forms.short_refcount;
        let mask = if tagged { !7 } else { !0 };
        match of.sort {
            Sort::Str => self.text_buffers(piece, kind, at),
            Sort::Weakref => {
                self.scan(piece, kind, at + weakref::CALLBACK, at + weakref::CALLBACK + 8, !0);
                self.scan(piece, kind, at + weakref::END, end, !0);
            }
            Sort::Number => self.scan(piece, kind, at + NUMBER, end, !0),
            // Of a subclass: its dict and its weak references lie at its end.
            Sort::Bytes | Sort::Int => {
                self.scan(piece, kind, end.saturating_sub(32).max(at + NUMBER), end, !0);
            }
            _ if of.head.weaklistoffset > 0 => {
                let weak = at + of.head.weaklistoffset as usize;
                self.scan(piece, kind, at + 16, weak.min(end), mask);
                self.scan(piece, kind, weak.saturating_add(8), end, mask);
            }
            _ => self.scan(piece, kind, at + 16, end, mask),
        }
        if of.sort == Sort::Tuple && !of.is_heap() {
            self.leaf_tuple(piece, at);
        }
    }

    /// A tuple with one reference to it, of leaves only, can be moved.
    fn leaf_tuple(&mut self, piece: &Piece<'_>, at: usize) {
        let t = self.table;
        let once = t.types.forms.refcount(u64_at(piece.bytes, at)) == Some(Refcount::One);
        let leaf = |e: &u64| t.kinds.get(*e as u32).leaf();
        if once && piece.size < 4096 && self.edges.iter().all(leaf) {
            t.kinds.set_movable(piece.ordinal);
        }
    }

    /// Texts that a str keeps apart from itself, and what a subclass adds.
    fn text_buffers(&mut self, piece: &Piece<'_>, kind: Kind, at: usize) {
        let Some(s) = self.table.types.forms.str(&piece.bytes[at..]) else { return };
        // The words between the text's length and its characters: pointers to what lies apart.
        let fields = s.text.unwrap_or(s.size as usize);
        self.scan(piece, kind, at + FIELDS, at + fields, !0);
        if s.text.is_none() {
            let end = piece.bytes.len();
            self.scan(piece, kind, at + s.size as usize, end, !0);
        }
    }

    /// Hashes the text of a str or bytes, if it lies in the object.
    fn hash(&mut self, piece: &Piece<'_>, kind: Kind) {
        let t = self.table;
        let at = (t.front() + kind.before()) as usize;
        let b = &piece.bytes[at.min(piece.bytes.len())..];
        if b.len() < 33 {
            return;
        }
        let (_, Some(of)) = self.known.get(u64_at(b, 8)) else { return };
        if of.is_heap() {
            return;
        }
        let (from, bytes) = match of.sort {
            Sort::Str => match t.types.forms.str(b) {
                Some(s) => match s.text {
                    Some(text) => (text, s.length * s.kind),
                    None => return,
                },
                None => return,
            },
            Sort::Bytes => (32, u64_at(b, 16)),
            _ => return,
        };
        let Some(text) = b.get(from..).and_then(|b| b.get(..bytes as usize)) else { return };
        self.texts_seen.add(piece.size);
        let mut hasher = FxHasher::default();
        hasher.write(text);
        hasher.write_u64(kind.id().into());
        // The low bits of this hash are poor.
        let hash = hasher.finish().wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        if hash & (self.graph.one_in - 1) == 0 {
            self.texts.extend([u64::from(piece.ordinal), hash]);
        }
    }

    /// The head of a dict's table.
    fn keys(&mut self, piece: &Piece<'_>, kind: Kind) {
        let t = self.table;
        let front = t.front() as usize;
        let b = &piece.bytes[front.min(piece.bytes.len())..];
        let Some(k) = t.types.forms.keys(b).filter(|k| k.size <= piece.size) else { return };
        let asked = (k.size + front as u64).min(u64::from(u32::MAX));
        t.asked[piece.ordinal as usize].store(asked as u32, Relaxed);
        let form = TableForm { entries: (k.entries / 8) as u32, words: (k.entry / 8) as u32 };
        t.next[piece.ordinal as usize].store(form.word(), Relaxed);
        if !kind.shared() && !k.split {
            self.keys = Some((k, 0));
        }
    }

    /// Counts the entries of the current table that are live, in this piece of it.
    fn entries(&mut self, piece: &Piece<'_>) {
        let Some((k, live)) = &mut self.keys else { return };
        let first = self.table.front() as usize + k.entries + k.key + 8;
        let end = first + k.written as usize * k.entry;
        let (from, upto) = (piece.offset as usize, piece.offset as usize + piece.bytes.len());
        let mut at = first + from.saturating_sub(first).div_ceil(k.entry) * k.entry;
        while at < end && at + 8 <= upto {
            *live += u64::from(u64_at(piece.bytes, at - from) != 0);
            at += k.entry;
        }
    }

    /// What rebuilding the current table would give back.
    fn end_keys(&mut self) {
        let Some((k, live)) = self.keys.take() else { return };
        let spare = k.size.saturating_sub(self.table.types.forms.smallest_keys(live, k.entry));
        self.counts.add(SlackSort::Dict, k.size, spare);
        if spare > 0 {
            self.slack.push(record(self.current, SlackSort::Dict, spare));
        }
    }
}

impl Worker for Referrer<'_> {
    fn piece(&mut self, piece: Piece<'_>) {
        if self.current != piece.ordinal {
            self.end_block();
            self.current = piece.ordinal;
        }
        let kind = self.table.kinds.get(piece.ordinal);
        let front = if piece.offset == 0 { self.table.front() as usize } else { 0 };
        let end = piece.bytes.len();
        // Stack references that lie in memory whose form is not known.
        let mask = if self.table.types.forms.short_refcount { !3 } else { !0 };
        match kind.role() {
            Role::FreeListed | Role::Data => {}
            Role::Object if piece.offset > 0 => {
                if !kind.leaf() {
                    self.scan(&piece, kind, 0, end, !0);
                }
            }
            Role::Object if kind.leaf() => self.hash(&piece, kind),
            Role::Object => {
                self.hash(&piece, kind);
                self.object(&piece, kind);
            }
            Role::Items => {
                let items = u64::from(self.table.next[piece.ordinal as usize].load(Relaxed)) * 8;
                let upto = (items + self.table.front()).saturating_sub(piece.offset);
                self.scan(&piece, kind, front, upto.min(end as u64) as usize, !0);
            }
            Role::Keys => {
                if piece.offset == 0 {
                    self.keys(&piece, kind);
                }
                self.entries(&piece);
                self.scan(&piece, kind, front, end, !0);
            }
            _ => self.scan(&piece, kind, front, end, mask),
        }
    }

    fn unit(&mut self, _from: Ordinal, _to: Ordinal) {
        self.end_block();
        if self.pending.len() + self.texts.len() + self.slack.len() > 1 << 16 {
            self.flush();
        }
    }
}
