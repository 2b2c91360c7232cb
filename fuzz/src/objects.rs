//! The decoder of objects: types in a file's data and objects of them in the blocks of a planted heap, sound
//! at first, then broken in the places that the bytes name.

use pydefrag_image::Image;
use pydefrag_layout::objects::{
    self, OB_SIZE, Objects, bytearray, deque, dict, flag, list, module, set, type_object, weakref,
};
use pydefrag_walk::{Asked, Runtime, Wanted, explain, snapshot};

use super::walk::{Feed, INTERPRETERS, Planted, facts, sound};

/// Static data: types first, then their names.
const DATA: u64 = 0x50_0000;
const TYPE_ROOM: u64 = 0x400;
const NAMES: u64 = DATA + 0x8000;
const DATA_SIZE: u64 = 0xa000;
/// More blocks stay empty.
const MOST: usize = 2000;
const LONGEST_CHAIN: usize = 10 << 10;

/// Name, bytes of an object, bytes of an item, flags.
const TYPES: [(&str, u64, u64, u64); 22] = [
    ("type", 928, 40, flag::TYPE | flag::HAVE_GC),
    ("object", 16, 0, 0),
    ("str", 64, 0, flag::STR),
    ("int", 24, 4, flag::LONG),
    ("float", 24, 0, 0),
    ("bytes", 33, 1, flag::BYTES),
    ("tuple", 24, 8, flag::TUPLE | flag::HAVE_GC),
    ("list", 40, 0, flag::LIST | flag::HAVE_GC),
    ("dict", 48, 0, flag::DICT | flag::HAVE_GC),
    ("set", 200, 0, flag::HAVE_GC),
    ("module", 56, 0, flag::HAVE_GC),
    ("weakref.ReferenceType", 72, 0, flag::HAVE_GC),
    ("collections.deque", 88, 0, flag::HAVE_GC),
    ("function", 152, 0, flag::HAVE_GC),
    ("cell", 24, 0, flag::HAVE_GC),
    ("code", 200, 0, 0),
    ("frame", 56, 8, flag::HAVE_GC),
    ("bytearray", 64, 0, 0),
    ("app.Node", 32, 0, flag::HEAP_TYPE | flag::HAVE_GC | MANAGED),
    ("app.Slots", 48, 0, flag::HEAP_TYPE | flag::HAVE_GC),
    ("app.Inline", 32, 0, flag::HEAP_TYPE | flag::HAVE_GC | MANAGED | flag::INLINE_VALUES),
    ("app.Text", 80, 0, flag::HEAP_TYPE | flag::HAVE_GC | flag::STR),
];
const MANAGED: u64 = 1 << 4;

/// No memory makes the decoder panic or hang, and whatever it tells adds up.
pub fn objects(data: &[u8]) {
    let mut feed = Feed(data);
    let seed = feed.u32();
    let Some((runtime, planted)) = sound(&mut feed) else { return };
    let Some(forms) = objects::objects(runtime.version.minor) else { return };
    let mut planter = Planter::new(planted, forms, seed);
    planter.types();
    planter.objects();
    let at = planter.break_it(&mut feed);
    check(&planter.planted.image(), &runtime, &at);
}

fn check(image: &Image, runtime: &Runtime, at: &[u64]) {
    let Ok(mut looked) = snapshot(&facts(), image, runtime, Wanted { objects: true, map: true })
    else {
        return;
    };
    let before: Vec<_> = looked.snapshot.owners.iter().map(|o| o.account).collect();
    let asked = Asked {
        until: None,
        progress: &|_, _| (),
        show_values: false,
        blocks: 64,
        at,
        sites: None,
    };
    explain(image, runtime, &mut looked, &asked).expect("planted memory is never denied");
    for (before, owner) in before.iter().zip(&looked.snapshot.owners) {
        let (Some(before), Some(after)) = (before, &owner.account) else { continue };
        assert_eq!(before.live, after.live + after.rounding.unwrap_or(0), "{}", owner.name);
        assert_eq!(before.total(), after.total(), "{}", owner.name);
    }
    let map = looked.detail.map.as_ref().expect("a map was wanted");
    assert!(map.fits(&looked.detail), "a map that does not fit");
    assert_eq!(map.named.is_some(), looked.snapshot.explanation.is_some());
    let Some(found) = looked.snapshot.explanation else { return };
    let o = &found.objects;
    let parts = [o.typed, o.owned, o.free_listed, o.unknown];
    assert_eq!(o.all.count, parts.iter().map(|p| p.count).sum::<u64>());
    assert_eq!(o.all.bytes, parts.iter().map(|p| p.bytes).sum::<u64>());
    let classes = found.pins.by_class.iter();
    assert_eq!(o.all.count, classes.map(|c| c.pin.count).sum::<u64>());
    for t in &o.types {
        assert!(t.rounding <= t.bytes, "{t:?}");
    }
    for (_, slack) in found.slack.kinds() {
        assert!(slack.bytes <= slack.held, "{slack:?}");
    }
    for owner in &found.pins.by_owner {
        assert!(owner.owner.len() < LONGEST_CHAIN && owner.head.len() < LONGEST_CHAIN);
    }
    for row in &found.blocks {
        assert!(row.chain.as_ref().is_none_or(|c| c.len() < LONGEST_CHAIN));
        let buffer = !matches!(row.role.as_str(), "object" | "free_listed" | "unknown" | "native");
        if let Some(slot) = row.slot.filter(|_| buffer) {
            let word = image.word(slot).expect("what was read as a reference");
            // 3.12 keeps the address of values less one; frames tag what they refer to.
            let within = row.address.saturating_sub(1)..row.address + row.size;
            assert!(within.contains(&word), "{word:#x} at {slot:#x} {row:?}");
        }
    }
}

struct Planter {
    planted: Planted,
    forms: &'static Objects,
    random: u64,
    /// Address and bytes of each block, and what is planted in it.
    blocks: Vec<(u64, u64, What)>,
    /// Addresses of objects by type.
    objects: Vec<Vec<u64>>,
    tables: Vec<u64>,
    raw: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Object(usize),
    Table,
    Raw,
}

impl Planter {
    fn new(planted: Planted, forms: &'static Objects, seed: u32) -> Planter {
        let random = u64::from(seed) << 1 | 1;
        let objects = vec![Vec::new(); TYPES.len()];
        let (blocks, tables, raw) = (Vec::new(), Vec::new(), Vec::new());
        Planter { planted, forms, random, blocks, objects, tables, raw }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.random >> 33) % n.max(1)
    }

    fn one(&mut self, of: &[u64]) -> u64 {
        let i = self.below(of.len() as u64) as usize;
        of.get(i).copied().unwrap_or(0)
    }

    fn object(&mut self, of: usize) -> u64 {
        let all = std::mem::take(&mut self.objects[of]);
        let one = self.one(&all);
        self.objects[of] = all;
        one
    }

    /// Any object, now and then a type.
    fn any(&mut self) -> u64 {
        let of = self.below(TYPES.len() as u64) as usize;
        match self.object(of) {
            0 => DATA + of as u64 * TYPE_ROOM,
            object => object,
        }
    }

    fn table(&mut self) -> u64 {
        let all = std::mem::take(&mut self.tables);
        let one = self.one(&all);
        self.tables = all;
        one
    }

    fn buffer(&mut self) -> u64 {
        let all = std::mem::take(&mut self.raw);
        let one = self.one(&all);
        self.raw = all;
        one
    }

    fn words(&mut self, at: u64, words: &[u64]) {
        for (i, word) in words.iter().enumerate() {
            self.planted.put64(at + 8 * i as u64, *word);
        }
    }

    fn types(&mut self) {
        self.planted.map(DATA, DATA_SIZE);
        self.planted.regions.last_mut().expect("just mapped").file = Some("/planted");
        for (i, (name, basic, item, flags)) in TYPES.into_iter().enumerate() {
            let (at, text) = (DATA + i as u64 * TYPE_ROOM, NAMES + i as u64 * 64);
            self.planted.put(text, name.as_bytes());
            self.words(at, &[2, DATA, 0, text, basic, item]);
            let base = if flags & flag::STR != 0 && i > 2 { 2 } else { 1 };
            for (offset, word) in [
                (type_object::FLAGS, flags | flag::READY),
                (type_object::BASE, if i == 1 { 0 } else { DATA + base * TYPE_ROOM }),
                (type_object::DICTOFFSET, if i == 18 { 16 } else { 0 }),
            ] {
                self.planted.put64(at + offset as u64, word);
            }
            if i == 19 {
                self.planted.put64(at + OB_SIZE as u64, 2);
                self.words(at + self.forms.heap_type, &[text, 6, 16, 0, 0, text, 6, 24, 0, 0]);
            }
        }
    }

    fn objects(&mut self) {
        let live = self.planted.live.clone();
        for (at, size) in live.into_iter().take(MOST) {
            let of = self.below(TYPES.len() as u64 + 6) as usize;
            let before = self.forms.before(TYPES.get(of).map_or(0, |t| t.3));
            let what = match TYPES.get(of) {
                Some(t) if before + t.1 + 16 <= size || of == 2 && size >= 64 => {
                    self.objects[of].push(at + before);
                    What::Object(of)
                }
                _ if size >= 160 => {
                    self.tables.push(at);
                    What::Table
                }
                _ => {
                    self.raw.push(at);
                    What::Raw
                }
            };
            self.blocks.push((at, size, what));
        }
        for (at, size, what) in self.blocks.clone() {
            match what {
                What::Object(of) => self.fill(at, size, of),
                What::Table => self.keys(at),
                What::Raw => {
                    for i in 0..size / 8 {
                        let word = self.any();
                        self.planted.put64(at + 8 * i, word);
                    }
                }
            }
        }
        // Roots.
        for i in 0..8 {
            let word = self.any();
            self.planted.put64(INTERPRETERS[0] + 0x3f00 + 8 * i, word);
        }
        for of in [(18, self.table()), (20, self.table())] {
            self.planted.put64(DATA + of.0 * TYPE_ROOM + self.forms.ht_cached_keys as u64, of.1);
        }
    }

    /// A table of eight slots.
    fn keys(&mut self, at: u64) {
        let (kind, written) = (self.below(3), self.below(5));
        let entries = match self.forms.log2_keys {
            true => {
                self.words(at, &[1, 0x0303 | kind << 16, 5 - written, written]);
                at + 40
            }
            false => {
                self.words(at, &[1, 8, 0, 5 - written, written]);
                at + 48
            }
        };
        let words = if self.forms.log2_keys && kind > 0 { 2 } else { 3 };
        for i in 0..written {
            let (key, value) = (self.object(2), self.any());
            self.words(entries + 8 * words * i + 8 * (words - 2), &[key, value]);
        }
    }

    fn fill(&mut self, block: u64, size: u64, of: usize) {
        let (_, basic, item, flags) = TYPES[of];
        let before = self.forms.before(flags);
        let (at, room) = (block + before, size - before);
        for i in 0..before / 8 {
            let word = match self.below(3) {
                0 => 0,
                1 => self.any().saturating_sub(16),
                _ => self.table() | i & 1,
            };
            self.planted.put64(block + 8 * i, word);
        }
        for i in 2..room / 8 {
            let word = self.any();
            self.planted.put64(at + 8 * i, word);
        }
        let count = self.below(2) + 1;
        self.words(at, &[count, DATA + of as u64 * TYPE_ROOM]);
        let n = self.below((room.saturating_sub(basic + 8)) / item.max(8) + 1);
        let put: Vec<(usize, u64)> = match TYPES[of].0 {
            "str" | "app.Text" => return self.text(at, room, of == 2),
            "list" => vec![(OB_SIZE, n), (list::ITEMS, self.buffer()), (list::ALLOCATED, n + 2)],
            "dict" => {
                let values = if self.below(4) == 0 { self.buffer() } else { 0 };
                vec![(dict::USED, 3), (dict::KEYS, self.table()), (dict::VALUES, values)]
            }
            "set" => {
                let own = at + set::SMALL_TABLE as u64;
                let table = if self.below(2) == 0 { own } else { self.table() };
                vec![(set::FILL, 3), (set::USED, 3), (set::MASK, 7), (set::TABLE, table)]
            }
            "bytearray" => {
                vec![(OB_SIZE, 9), (bytearray::ALLOCATED, 16), (bytearray::BYTES, self.buffer())]
            }
            "collections.deque" => {
                vec![(OB_SIZE, 5), (deque::LEFT, self.buffer()), (deque::RIGHT, self.buffer())]
            }
            "module" => vec![(module::DICT, self.object(8)), (module::NAME, self.object(2))],
            "weakref.ReferenceType" => vec![(weakref::OBJECT, self.any()), (weakref::CALLBACK, 0)],
            "app.Inline" => vec![(basic as usize, 2)],
            _ if item > 0 => vec![(OB_SIZE, if of == 3 { n << 3 } else { n })],
            _ => Vec::new(),
        };
        for (offset, word) in put {
            self.planted.put64(at + offset as u64, word);
        }
    }

    /// A string in its object, or with its text apart.
    fn text(&mut self, at: u64, room: u64, exact: bool) {
        let forms = self.forms;
        let compact = exact && self.below(4) > 0 || room < 96;
        let length = if compact { (room - forms.ascii as u64 - 1).min(12) } else { 7 };
        let state = 1 | u32::from(compact) << 3 | u32::from(compact) << 4 | 1 << 5;
        let length = self.below(length + 1);
        self.words(at + OB_SIZE as u64, &[length, 0, 0, 0]);
        self.planted.put32(at + 32, state << forms.interned_bits);
        if compact {
            self.planted.put(at + forms.ascii as u64, &b"__name__module"[..length as usize]);
            self.planted.put(at + forms.ascii as u64 + length, &[0]);
        } else {
            let (utf8, data) = (self.buffer(), self.buffer());
            self.words(at + forms.ascii as u64, &[7, utf8]);
            self.planted.put64(at + forms.compact as u64, data);
        }
    }

    /// Breaks it where the rest of the bytes say; these places.
    fn break_it(&mut self, feed: &mut Feed<'_>) -> Vec<u64> {
        let mut at = vec![0, DATA, u64::MAX];
        let mut left = 64;
        while !feed.0.is_empty() && left > 0 {
            left -= 1;
            let how = feed.u8();
            let pick = feed.u32() as usize;
            let nth = u64::from(feed.u8());
            let (block, size) = match self.blocks.get(pick % self.blocks.len().max(1)) {
                Some(block) if how & 8 == 0 => (block.0, block.1),
                _ => (DATA + (pick % TYPES.len()) as u64 * TYPE_ROOM, TYPE_ROOM),
            };
            let place = block + nth * 8 % size;
            let other = usize::from(feed.u8()) * 7 % self.blocks.len().max(1);
            let other = self.blocks.get(other).map_or(DATA, |b| b.0);
            let value = match how % 8 {
                0 => feed.u64(),
                1 => other,
                2 => other + u64::from(feed.u8()) % 8 * 8,
                3 => DATA + u64::from(feed.u8()) % TYPES.len() as u64 * TYPE_ROOM,
                4 => 0u64.wrapping_sub(u64::from(feed.u8())),
                5 => (1u64 << (feed.u8() % 64)).wrapping_sub(u64::from(how >> 4 & 1)),
                6 => u64::from(feed.u8()),
                _ => {
                    let regions = self.planted.regions.len();
                    let pages = &mut self.planted.regions[pick % regions].pages;
                    let page = nth as usize % pages.len();
                    pages[page] = feed.u8();
                    continue;
                }
            };
            self.planted.put64(place, value);
            at.push(place);
        }
        at
    }
}
