//! The first pass: what each block is by its own bytes, and which buffers the containers claim.
//!
//! Owns the rules by which bytes are an object: a word that points to a type, at the offset that the
//! type's flags demand, behind a possible reference count, in a block that is large enough. A container's
//! slot outweighs what its buffer's bytes look like. Keeps the bytes that each block asked for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pydefrag_image::{Log, Words};
use pydefrag_layout::objects::{
    self, OB_SIZE, Objects, Refcount, Values, bytearray, deque, dict, list, set,
};
use pydefrag_layout::word::u64_at;
use rustc_hash::FxHashMap;

use super::blocks::Blocks;
use super::kind::{Kind, Kinds, Role};
use super::slack::{Counts, Sort as SlackSort};
use super::stream::{Piece, Worker};
use super::types::{Sort, Type, TypeId, Types};

/// What is kept of every block.
pub(crate) struct Table<'a> {
    pub(crate) blocks: &'a Blocks<'a>,
    pub(crate) types: &'a Types<'a>,
    pub(crate) kinds: Kinds,
    /// Bytes that each block was asked for; 0 where that is not known.
    pub(crate) asked: Words,
    /// Of a tracked object: the number plus one of the next in its generation, or 0. Of a list's items:
    /// how many words of them are items.
    pub(crate) next: Words,
    /// Slack, container by container.
    pub(crate) slack: Log,
    /// What lies on free lists for certain.
    pub(crate) free_listed: FxHashMap<u64, &'static str>,
}

/// An object, as its bytes tell.
struct Recognised {
    kind: Kind,
    of: Arc<Type>,
    /// Offset of the object in the block.
    at: usize,
    /// Bytes asked for, from the block's start.
    asked: u64,
}

/// Bytes of an object itself, from its own start; `None` where its fields cannot be true.
fn own_size(forms: &Objects, of: &Type, b: &[u8]) -> Option<u64> {
    let basic = of.head.basicsize;
    if (b.len() as u64) < basic.min(24) {
        return None;
    }
    // Where a generator's items would be counted, it has another field.
    if of.sort == Sort::Frame {
        return Some(basic);
    }
    if of.head.itemsize == 0 {
        if of.sort == Sort::Str && !of.is_heap() {
            return forms.str(b).map(|s| s.size);
        }
        if of.sort == Sort::Moment && b.get(objects::HAS_ZONE) == Some(&0) {
            return Some(basic - 8);
        }
        if of.inline_values(forms) {
            // Capacity in the first byte behind the object; its prefix is rounded up to words.
            let capacity = u64::from(*b.get(basic as usize)?);
            return Some(basic + capacity.next_multiple_of(8) + (capacity + 1) * 8);
        }
        return Some(basic);
    }
    let size = u64_at(b, OB_SIZE) as i64;
    let items = match of.sort {
        Sort::Int => forms.int_digits(size as u64),
        _ => u64::try_from(size).ok()?,
    };
    let bytes = items.checked_mul(of.head.itemsize)?.checked_add(basic)?;
    // Bytes objects ask for what they need, all others for whole words.
    Some(if of.sort == Sort::Bytes && !of.is_heap() {
        bytes
    } else {
        bytes.checked_next_multiple_of(8)?
    })
}

impl<'a> Table<'a> {
    pub(crate) fn front(&self) -> u64 {
        self.types.front
    }

    /// The object in a block, by its own bytes.
    fn recognise(&self, known: &mut Known<'_>, b: &[u8], size: u64) -> Option<Recognised> {
        let forms = self.types.forms;
        let front = self.front() as usize;
        for before in [0usize, 16, 32] {
            let at = front + before;
            if at + 16 > b.len() {
                break;
            }
            let (id, Some(of)) = known.get(u64_at(b, at + objects::OB_TYPE)) else { continue };
            if of.before != before as u64 {
                continue;
            }
            let word = u64_at(b, at);
            let role = match forms.refcount(word) {
                Some(Refcount::Zero) => Role::FreeListed,
                Some(_) => Role::Object,
                // The next on its free list (3.14+).
                None if forms.short_refcount && self.blocks.find(word).is_some() => {
                    Role::FreeListed
                }
                None => continue,
            };
            let own = match own_size(forms, of, &b[at..]) {
                Some(own) => own,
                // What is free has a stale size.
                None if role == Role::FreeListed => of.head.basicsize,
                None => continue,
            };
            let mut asked = own.saturating_add(at as u64);
            // Python's own classes ask for an item more.
            if of.spare_item && asked.saturating_add(of.head.itemsize) <= size {
                asked += of.head.itemsize;
            }

            // The first instances of a class have more room for values than they say (3.13+).
            let fixed = of.head.itemsize == 0
                && !matches!(of.sort, Sort::Str | Sort::Frame)
                && !of.inline_values(forms);
            if fixed && !self.is_exact(asked, size) || role == Role::Object && asked > size {
                continue;
            }
            let tracked = of.has_gc() && before >= 16 && u64_at(b, at - 16) != 0;
            let kind = Kind::new(role, id).starting(before as u64);
            let kind = match role {
                Role::Object => {
                    let once = forms.refcount(word) == Some(Refcount::One);
                    let (leaf, movable) = self.leaf(of, &b[at..], once);
                    kind.with(tracked, movable, leaf)
                }
                _ => kind,
            };
            let asked = asked.min(size);
            return Some(Recognised { kind, of: of.clone(), at, asked });
        }
        None
    }

    /// Whether an allocator would give a block of this size to what asks for so much.
    fn is_exact(&self, asked: u64, size: u64) -> bool {
        let asked = asked.saturating_add(if self.front() > 0 { 8 } else { 0 });
        // A chunk of malloc has eight bytes more than a multiple of 16, and at most 16 that were left over.
        Some(size) == asked.checked_next_multiple_of(16)
            || size % 16 == 8 && size < asked.saturating_add(40)
    }

    /// Whether an object refers to nothing, and whether it could be moved.
    fn leaf(&self, of: &Type, b: &[u8], once: bool) -> (bool, bool) {
        if of.is_heap() {
            return (false, false);
        }
        match of.sort {
            Sort::Int | Sort::Number => (true, once),
            Sort::Bytes => (true, false),
            Sort::Str => match self.types.forms.str(b) {
                Some(s) => {
                    let alone = s.data.is_none() && s.utf8.is_none() && s.wide.is_none();
                    (alone, alone && once && !s.interned)
                }
                None => (false, false),
            },
            _ => (false, false),
        }
    }

    /// Says whose a buffer is, unless another has.
    fn claim_if_free(&self, address: u64, kind: Kind) -> Option<u32> {
        let found = self.blocks.find(address)?;
        if address - found.start != self.front() {
            return None;
        }
        self.kinds.classify(found.ordinal, kind);
        Some(found.ordinal)
    }

    /// Says whose a buffer is. Its address must be where a block begins, `within` bytes aside.
    fn claim(&self, address: u64, within: u64, kind: Kind, asked: u64) -> Option<u32> {
        let front = self.front();
        let found = self.blocks.find(address)?;
        let offset = (address - found.start).checked_sub(front)?;
        let size = self.blocks.block(found.ordinal)?.1;
        if offset > within || asked + offset + front > size {
            return None;
        }
        self.kinds.claim(found.ordinal, kind);
        let asked = if asked == 0 { 0 } else { asked + offset + front };
        self.asked[found.ordinal as usize].store(asked.min(u64::from(u32::MAX)) as u32, Relaxed);
        Some(found.ordinal)
    }
}

/// Types that a worker met, without the lock.
pub(crate) struct Known<'a> {
    types: &'a Types<'a>,
    met: FxHashMap<u64, (TypeId, Arc<Type>)>,
}

impl<'a> Known<'a> {
    pub(crate) fn new(types: &'a Types<'a>) -> Known<'a> {
        Known { types, met: FxHashMap::default() }
    }

    pub(crate) fn get(&mut self, address: u64) -> (TypeId, Option<&Arc<Type>>) {
        if !self.met.contains_key(&address) {
            let id = self.types.id(address);
            // Words that could not be types are told so without reading, each time anew.
            if id == 0 {
                return (0, None);
            }
            self.met.insert(address, (id, self.types.get(id)));
        }
        let (id, of) = &self.met[&address];
        (*id, Some(of))
    }
}

/// The first pass.
pub(crate) struct Classifier<'a> {
    table: &'a Table<'a>,
    known: Known<'a>,
    slack: Vec<u64>,
    counts: Counts,
    failed: Option<io::Error>,
}

impl<'a> Classifier<'a> {
    pub(crate) fn new(table: &'a Table<'a>) -> Classifier<'a> {
        let known = Known::new(table.types);
        Classifier { table, known, slack: Vec::new(), counts: Counts::default(), failed: None }
    }

    /// Buffers that an object's slots hold, and the room that it has to spare.
    fn containers(&mut self, ordinal: u32, r: &Recognised, b: &[u8], address: u64) {
        let (t, id, forms) = (self.table, r.kind.id(), self.table.types.forms);
        let o = &b[r.at..];
        let word = |offset: usize| u64_at(o, offset);
        let long = |n: usize| o.len() >= n;
        match r.of.sort {
            Sort::List if long(40) => {
                let (items, allocated) = (word(list::ITEMS), word(list::ALLOCATED));
                let length = word(OB_SIZE);
                if items == 0 || length > allocated || allocated >> 40 != 0 {
                    return;
                }
                let kind = Kind::new(Role::Items, id).with(false, true, false);
                if let Some(buffer) = t.claim(items, 0, kind, allocated * 8) {
                    t.next[buffer as usize].store(length.min(u64::from(u32::MAX)) as u32, Relaxed);
                    let spare = (allocated - length) * 8;
                    self.slack(ordinal, SlackSort::List, allocated * 8, spare);
                }
            }
            Sort::Dict if long(48) => {
                let (keys, values) = (word(dict::KEYS), word(dict::VALUES));
                let kind = Kind::new(Role::Keys, id);
                match values {
                    0 => t.claim(keys, 0, kind.with(false, true, false), 0),
                    // Shared: the class that they belong to knows better, if it is an object of the heap.
                    _ => t.claim_if_free(keys, kind.sharing()),
                };
                self.values(values, id);
            }
            Sort::Set if long(set::SMALL_TABLE) => {
                let (mask, table, used) = (word(set::MASK), word(set::TABLE), word(set::USED));
                let own = address + r.at as u64 + set::SMALL_TABLE as u64;
                let slots = mask.wrapping_add(1);
                if table == own || !slots.is_power_of_two() || slots >> 40 != 0 || used > slots {
                    return;
                }
                let bytes = slots * set::ENTRY;
                if t.claim(table, 0, Kind::new(Role::Table, id), bytes).is_some() {
                    self.slack(ordinal, SlackSort::Set, bytes, (slots - used) * set::ENTRY);
                }
            }
            Sort::ByteArray if long(48) => {
                let (allocated, bytes, length) =
                    (word(bytearray::ALLOCATED), word(bytearray::BYTES), word(OB_SIZE));
                if bytes == 0 || allocated == 0 || length > allocated || allocated >> 48 != 0 {
                    return;
                }
                // The object that they lie in is its own owner.
                let inside = forms.bytearray_object;
                let kind = Kind::new(Role::Data, id).with(false, false, true);
                if inside || t.claim(bytes, 0, kind, allocated).is_some() {
                    self.slack(ordinal, SlackSort::ByteArray, allocated, allocated - length);
                }
            }
            // `arrayobject`: its items stand where a list's do.
            Sort::Array if long(40) => {
                let kind = Kind::new(Role::Data, id).with(false, false, true);
                t.claim(word(list::ITEMS), 0, kind, 0);
            }
            Sort::Deque if long(40) => {
                let kind = Kind::new(Role::Block, id);
                for block in [word(deque::LEFT), word(deque::RIGHT)] {
                    t.claim(block, 0, kind, deque::BLOCK);
                }
                self.counts.deques += 1;
                let items = &mut self.counts.deque_items;
                *items = items.saturating_add(word(OB_SIZE));
            }
            Sort::Str => {
                let Some(s) = forms.str(o) else { return };
                let kind = Kind::new(Role::Data, id).with(false, false, true);
                for (address, bytes) in [s.data, s.wide].into_iter().flatten() {
                    t.claim(address, 0, kind, bytes);
                }
                if let Some((address, bytes)) = s.utf8
                    && t.claim(address, 0, kind, bytes).is_some()
                {
                    self.slack(ordinal, SlackSort::StrUtf8, bytes, bytes);
                }
            }
            _ => {}
        }
        if r.of.sort == Sort::Type && long(forms.ht_cached_keys + 8) {
            let kind = Kind::new(Role::Keys, id).sharing();
            t.claim(word(forms.ht_cached_keys), 0, kind, 0);
        }
        // A type without a GC head has no room for them.
        if r.of.managed_dict(forms) && r.kind.before() >= 32 {
            match forms.values {
                Values::Beside => self.values(u64_at(b, r.at - 32), id),
                Values::Tagged if u64_at(b, r.at - 24) & 1 == 1 => {
                    self.values(u64_at(b, r.at - 24).wrapping_add(1), id);
                }
                _ => {}
            }
        }
    }

    /// Values of attributes, which in 3.11 and 3.12 have a prefix.
    fn values(&mut self, address: u64, id: TypeId) {
        if address != 0 {
            let beside = matches!(self.table.types.forms.values, Values::Beside | Values::Tagged);
            let within = if beside { 256 } else { 0 };
            self.table.claim(address, within, Kind::new(Role::Values, id), 0);
        }
    }

    fn slack(&mut self, ordinal: u32, sort: SlackSort, held: u64, spare: u64) {
        self.counts.add(sort, held, spare);
        if spare > 0 {
            self.slack.push(super::slack::record(ordinal, sort, spare));
        }
    }
}

impl Worker for Classifier<'_> {
    fn piece(&mut self, piece: Piece<'_>) {
        if piece.offset > 0 {
            return;
        }
        let t = self.table;
        let front = t.front();
        if !t.free_listed.is_empty() {
            // Not what begins in the next block.
            let mut starts = [0, 16, 32].into_iter().filter(|b| front + b < piece.size);
            let on_list = starts.find(|b| t.free_listed.contains_key(&(piece.address + front + b)));
            if let Some(before) = on_list {
                let at = (front + before) as usize + objects::OB_TYPE;
                let id = if at + 8 <= piece.bytes.len() {
                    self.known.get(u64_at(piece.bytes, at)).0
                } else {
                    0
                };
                return t
                    .kinds
                    .claim(piece.ordinal, Kind::new(Role::FreeListed, id).starting(before));
            }
        }
        let Some(r) = t.recognise(&mut self.known, piece.bytes, piece.size) else { return };
        t.kinds.classify(piece.ordinal, r.kind);
        if r.kind.role() != Role::Object {
            return;
        }
        // A container knew better.
        if t.kinds.get(piece.ordinal) != r.kind {
            return;
        }
        // What a frame asked for, its code alone tells.
        if r.of.sort != Sort::Frame {
            let asked = &t.asked[piece.ordinal as usize];
            asked.store(r.asked.min(u64::from(u32::MAX)) as u32, Relaxed);
        }
        if r.kind.tracked() {
            let head = u64_at(piece.bytes, r.at - 16) & !3;
            let next = t.blocks.find(head).map_or(0, |f| f.ordinal + 1);
            t.next[piece.ordinal as usize].store(next, Relaxed);
        }
        self.containers(piece.ordinal, &r, piece.bytes, piece.address);
    }

    fn unit(&mut self, _from: u32, _to: u32) {
        if self.slack.len() > 1 << 16 {
            self.flush();
        }
    }
}

impl<'a> Classifier<'a> {
    fn flush(&mut self) {
        if let Err(e) = self.table.slack.append(&self.slack) {
            self.failed = Some(e);
        }
        self.slack.clear();
    }

    /// The sums; an error where what was found could not be kept.
    pub(crate) fn finish(mut self) -> io::Result<Counts> {
        self.flush();
        match self.failed {
            Some(e) => Err(e),
            None => Ok(self.counts),
        }
    }
}
