//! Objects: where CPython keeps what, in builds with the GIL, 3.8 to 3.15.
//!
//! Owns the offsets within objects and within the buffers of containers, and the readers that tell from
//! bytes whether they hold together. Offsets here never moved in a patch release. What depends on the
//! minor version stands in [`Objects`], one row per form.
//!
//! Sources: DWARF of the builds named in `cpython.rs`; `Include/cpython/unicodeobject.h`,
//! `Include/internal/pycore_dict.h`, `Objects/dictobject.c`, `Objects/setobject.c`,
//! `Modules/_collectionsmodule.c` of each minor.

use crate::word::{u32_at, u64_at};

/// `ob_type` in every object.
pub const OB_TYPE: usize = 8;
/// `ob_size` in objects of variable size.
pub const OB_SIZE: usize = 16;
/// `hastzinfo` in `datetime.datetime` and `datetime.time`.
pub const HAS_ZONE: usize = 24;
/// `ob_sval` in bytes.
pub const BYTES: u64 = 32;
/// Bytes of `PyGC_Head`, before an object that the collector may track.
pub const GC_HEAD: u64 = 16;

/// `PyTypeObject`.
#[allow(missing_docs)] // Named as CPython names them.
pub mod type_object {
    /// Bytes that [`super::type_head`] wants.
    pub const HEAD: usize = 400;
    pub const NAME: usize = 24;
    pub const BASICSIZE: usize = 32;
    pub const ITEMSIZE: usize = 40;
    pub const FLAGS: usize = 168;
    pub const WEAKLISTOFFSET: usize = 208;
    pub const BASE: usize = 256;
    pub const DICT: usize = 264;
    pub const DICTOFFSET: usize = 288;
    pub const BASES: usize = 336;
    pub const MRO: usize = 344;
}

/// Bits of `tp_flags`.
#[allow(missing_docs)] // Named as CPython names them.
pub mod flag {
    /// 3.13+: values of attributes follow the object.
    pub const INLINE_VALUES: u64 = 1 << 2;
    pub const HEAP_TYPE: u64 = 1 << 9;
    pub const READY: u64 = 1 << 12;
    pub const HAVE_GC: u64 = 1 << 14;
    pub const VERSION_TAG: u64 = 1 << 18;
    pub const LONG: u64 = 1 << 24;
    pub const LIST: u64 = 1 << 25;
    pub const TUPLE: u64 = 1 << 26;
    pub const BYTES: u64 = 1 << 27;
    pub const STR: u64 = 1 << 28;
    pub const DICT: u64 = 1 << 29;
    pub const EXCEPTION: u64 = 1 << 30;
    pub const TYPE: u64 = 1 << 31;
}

/// `PyFunctionObject`, whose fields moved in 3.10.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// `func_code`.
    pub code: u64,
    /// `func_defaults`.
    pub defaults: u64,
    /// `func_kwdefaults`.
    pub kwdefaults: u64,
    /// `func_closure`.
    pub closure: u64,
}

/// `PyMemberDef`s of `__slots__`, which lie behind a heap type.
pub mod member {
    /// Bytes of one.
    pub const SIZE: usize = 40;
    /// Its name, a C string.
    pub const NAME: usize = 0;
    /// Its offset in instances.
    pub const OFFSET: usize = 16;
}

/// `PyListObject`.
#[allow(missing_docs)] // Named as CPython names them.
pub mod list {
    pub const ITEMS: usize = 24;
    pub const ALLOCATED: usize = 32;
}

/// `PyDictObject`.
#[allow(missing_docs)] // Named as CPython names them.
pub mod dict {
    pub const USED: usize = 16;
    pub const KEYS: usize = 32;
    pub const VALUES: usize = 40;
}

/// `PySetObject`, also of frozensets.
#[allow(missing_docs)] // Named as CPython names them.
pub mod set {
    pub const FILL: usize = 16;
    pub const USED: usize = 24;
    pub const MASK: usize = 32;
    pub const TABLE: usize = 40;
    pub const SMALL_TABLE: usize = 64;
    /// Bytes of an entry: key and hash.
    pub const ENTRY: u64 = 16;
}

/// `PyByteArrayObject`.
#[allow(missing_docs)] // Named as CPython names them.
pub mod bytearray {
    pub const ALLOCATED: usize = 24;
    pub const BYTES: usize = 32;
}

/// `dequeobject` and its blocks of 64 items.
#[allow(missing_docs)] // Named as CPython names them.
pub mod deque {
    pub const LEFT: usize = 24;
    pub const RIGHT: usize = 32;
    /// Bytes of a block: a link, items, a link.
    pub const BLOCK: u64 = 528;
    pub const ITEMS: u64 = 64;
}

/// `PyWeakReference`: borrowed is all but the callback.
#[allow(missing_docs)] // Named as CPython names them.
pub mod weakref {
    pub const OBJECT: usize = 16;
    pub const CALLBACK: usize = 24;
    pub const END: usize = 56;
}

/// `PyModuleObject`.
#[allow(missing_docs)] // Named as CPython names them.
pub mod module {
    pub const DICT: usize = 16;
    pub const NAME: usize = 48;
}

/// Forms that changed with a minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Objects {
    /// Minor version that the row begins with.
    pub minor: u8,
    /// Bits of `tp_flags` any of which puts two words before the GC head.
    pub preheader: u64,
    /// `ob_item` in tuples.
    pub tuple_items: usize,
    /// Bytes of `PyASCIIObject`.
    pub ascii: usize,
    /// Bytes of `PyCompactUnicodeObject`; the pointer to the text of others follows.
    pub compact: usize,
    /// Bits before `kind` in a string's state: those of `interned`.
    pub interned_bits: u32,
    /// A dict's keys have sizes as powers of two (3.11+), not as words.
    pub log2_keys: bool,
    /// Bytes of `PyHeapTypeObject`.
    pub heap_type: u64,
    /// `ht_name`; `ht_qualname` lies 16 behind.
    pub ht_name: usize,
    /// `ht_cached_keys`.
    pub ht_cached_keys: usize,
    /// How attributes' values lie beside their object.
    pub values: Values,
    /// A reference count is 32 bits, beside flags (3.14+).
    pub short_refcount: bool,
    /// A bytearray's bytes lie in a bytes object (3.15+).
    pub bytearray_object: bool,
}

/// Where an instance keeps its attributes' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// In a dict.
    Dict,
    /// 3.11: in a buffer, whose address stands four words before the object; the dict's, three.
    Beside,
    /// 3.12: one word, three before: the values' address less one, or the dict's.
    Tagged,
    /// 3.13+: behind the object, in its block.
    Inline,
}

#[rustfmt::skip]
const FORMS: [Objects; 8] = [
    Objects { minor:  8, preheader: 0,      tuple_items: 24, ascii: 48, compact: 72, interned_bits: 2,  log2_keys: false, heap_type: 880, ht_name: 848, ht_cached_keys: 872, values: Values::Dict,   short_refcount: false, bytearray_object: false },
    Objects { minor:  9, preheader: 0,      tuple_items: 24, ascii: 48, compact: 72, interned_bits: 2,  log2_keys: false, heap_type: 880, ht_name: 840, ht_cached_keys: 864, values: Values::Dict,   short_refcount: false, bytearray_object: false },
    Objects { minor: 10, preheader: 0,      tuple_items: 24, ascii: 48, compact: 72, interned_bits: 2,  log2_keys: false, heap_type: 888, ht_name: 848, ht_cached_keys: 872, values: Values::Dict,   short_refcount: false, bytearray_object: false },
    Objects { minor: 11, preheader: 1 << 4, tuple_items: 24, ascii: 48, compact: 72, interned_bits: 2,  log2_keys: true,  heap_type: 904, ht_name: 848, ht_cached_keys: 872, values: Values::Beside, short_refcount: false, bytearray_object: false },
    Objects { minor: 12, preheader: 3 << 3, tuple_items: 24, ascii: 40, compact: 56, interned_bits: 2,  log2_keys: true,  heap_type: 920, ht_name: 856, ht_cached_keys: 880, values: Values::Tagged, short_refcount: false, bytearray_object: false },
    Objects { minor: 13, preheader: 3 << 3, tuple_items: 24, ascii: 40, compact: 56, interned_bits: 2,  log2_keys: true,  heap_type: 928, ht_name: 856, ht_cached_keys: 880, values: Values::Inline, short_refcount: false, bytearray_object: false },
    Objects { minor: 14, preheader: 3 << 3, tuple_items: 32, ascii: 40, compact: 56, interned_bits: 2, log2_keys: true,  heap_type: 936, ht_name: 856, ht_cached_keys: 880, values: Values::Inline, short_refcount: true, bytearray_object: false },
    Objects { minor: 15, preheader: 3 << 3, tuple_items: 32, ascii: 40, compact: 56, interned_bits: 2, log2_keys: true,  heap_type: 944, ht_name: 864, ht_cached_keys: 888, values: Values::Inline, short_refcount: true, bytearray_object: true },
];

/// The forms of a minor version; of a newer one than is known, those of the newest.
pub fn objects(minor: u8) -> Option<&'static Objects> {
    FORMS.iter().rev().find(|f| f.minor <= minor)
}

/// What a reference count tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refcount {
    /// Nobody refers to it: on a free list, or half built.
    Zero,
    /// Exactly one reference.
    One,
    /// More, or immortal.
    Many,
}

impl Objects {
    /// What the first word of an object tells; `None` where it is no count.
    pub fn refcount(&self, word: u64) -> Option<Refcount> {
        let (low, high) = (word as u32, word >> 32);
        // 3.14+: overflow in the lower half, which builds with the GIL leave alone; flags in the upper.
        let possible = if self.short_refcount { high & 0xffe0_ffff == 0 } else { high == 0 };
        match low {
            _ if !possible => None,
            0 => Some(Refcount::Zero),
            1 => Some(Refcount::One),
            _ => Some(Refcount::Many),
        }
    }

    /// Digits that an int's size field tells of; from 3.11 on there is at least one.
    pub fn int_digits(&self, size: u64) -> u64 {
        match self.minor {
            ..=10 => (size as i64).unsigned_abs(),
            11 => (size as i64).unsigned_abs().max(1),
            _ => (size >> 3).max(1),
        }
    }

    /// `PyFunctionObject`.
    pub fn function(&self) -> Function {
        match self.minor {
            ..=9 => Function { code: 16, defaults: 32, kwdefaults: 40, closure: 48 },
            _ => Function { code: 48, defaults: 56, kwdefaults: 64, closure: 72 },
        }
    }

    /// The tuple in a code object whose last items are the names of its free variables:
    /// `co_freevars` (until 3.10), `co_localsplusnames`.
    pub fn code_free_variables(&self) -> u64 {
        if self.minor <= 10 { 80 } else { 96 }
    }

    /// `sizeof(PyTypeObject)`.
    pub fn static_type(&self) -> u64 {
        match self.minor {
            11 => 408,
            15.. => 424,
            _ => 416,
        }
    }

    /// Bytes between the start of a block and its object, for a type's flags.
    pub fn before(&self, flags: u64) -> u64 {
        let gc = if flags & flag::HAVE_GC != 0 { GC_HEAD } else { 0 };
        gc + if flags & self.preheader != 0 { 16 } else { 0 }
    }
}

/// A string's text, and what else its object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Str {
    /// Characters.
    pub length: u64,
    /// Bytes of a character: 1, 2 or 4.
    pub kind: u64,
    /// Interned.
    pub interned: bool,
    /// The text's offset in the object; `None` where it lies apart, at `data`.
    pub text: Option<usize>,
    /// Bytes of the object itself, with its text.
    pub size: u64,
    /// Text that lies apart: its address and bytes.
    pub data: Option<(u64, u64)>,
    /// A copy in UTF-8: its address and bytes.
    pub utf8: Option<(u64, u64)>,
    /// A copy in wchar_t (until 3.11): its address and bytes.
    pub wide: Option<(u64, u64)>,
}

impl Objects {
    /// Reads a string; `b` begins with the object. `exact`: its type is `str` itself, not a subclass,
    /// whose fixed part is larger.
    pub fn str(&self, b: &[u8]) -> Option<Str> {
        if b.len() < self.ascii {
            return None;
        }
        let (length, state) = (u64_at(b, 16), u32_at(b, 32));
        let rest = state >> self.interned_bits;
        let interned = state & ((1 << self.interned_bits) - 1) != 0;
        let (kind, compact, ascii) = (u64::from(rest & 7), rest >> 3 & 1 == 1, rest >> 4 & 1 == 1);
        if length >> 48 != 0 || !matches!(kind, 0 | 1 | 2 | 4) || kind == 0 && compact {
            return None;
        }
        let bytes = (length + 1) * kind;
        let legacy = self.compact == 72;
        // Until 3.11 a string may not be ready, but then it is not compact.
        if legacy && compact && rest >> 5 & 1 == 0 {
            return None;
        }
        let copy = |p: u64, bytes: u64| (p != 0 && bytes >> 48 == 0).then_some((p, bytes));
        if compact && ascii {
            let wide = legacy.then(|| u64_at(b, 40)).and_then(|p| copy(p, (length + 1) * 4));
            let size = self.ascii as u64 + bytes;
            let text = Some(self.ascii);
            return (kind == 1).then_some(Str {
                length,
                kind,
                interned,
                text,
                size,
                data: None,
                utf8: None,
                wide,
            });
        }
        if b.len() < self.compact + if compact { 0 } else { 8 } {
            return None;
        }
        let (utf8_length, utf8) = (u64_at(b, self.ascii), u64_at(b, self.ascii + 8));
        let utf8 = copy(utf8, utf8_length.saturating_add(1));
        // Until 3.11: the wide copy's address stands in the ASCII part, its length in the compact one.
        let wide = legacy.then(|| (u64_at(b, 40), u64_at(b, 64)));
        let wide = wide.and_then(|(p, n)| copy(p, n.saturating_add(1).saturating_mul(4)));
        if compact {
            // Of four-byte text, the wide copy is the text itself.
            let wide = wide.filter(|_| kind != 4);
            let size = self.compact as u64 + bytes;
            let text = Some(self.compact);
            return Some(Str { length, kind, interned, text, size, data: None, utf8, wide });
        }
        // The UTF-8 of ASCII text is the text itself, and so is the wide copy of 4-byte text.
        let data = copy(u64_at(b, self.compact), bytes);
        let apart = |c: Option<(u64, u64)>| c.filter(|c| data.is_none_or(|d| d.0 != c.0));
        let size = self.compact as u64 + 8;
        let (utf8, wide) = (apart(utf8), apart(wide));
        Some(Str { length, kind, interned, text: None, size, data, utf8, wide })
    }
}

/// A dict's table of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Slots of the index: a power of two.
    pub slots: u64,
    /// Offset of the first entry.
    pub entries: usize,
    /// Bytes of an entry: 24, or 16 where all keys are strings (3.11+).
    pub entry: usize,
    /// Offset of the key within an entry; the value follows.
    pub key: usize,
    /// Entries that were written, deleted ones among them.
    pub written: u64,
    /// Entries that there is room for.
    pub room: u64,
    /// Bytes of the table.
    pub size: u64,
    /// Its values are kept elsewhere, by several dicts.
    pub split: bool,
}

/// Entries that a table of so many slots has room for.
fn usable(slots: u64) -> u64 {
    (slots << 1) / 3
}

/// Bytes of an index of so many slots.
fn index_bytes(slots: u64) -> u64 {
    slots
        * match slots {
            0..=0x80 => 1,
            0x81..=0x8000 => 2,
            0x8001..=0x8000_0000 => 4,
            _ => 8,
        }
}

impl Objects {
    /// Bytes before a table's index.
    pub fn keys_head(&self) -> usize {
        if self.log2_keys { 32 } else { 40 }
    }

    /// Reads the head of a table of keys.
    pub fn keys(&self, b: &[u8]) -> Option<Keys> {
        let head = self.keys_head();
        if b.len() < head {
            return None;
        }
        let (slots, index, kind, room_left, written) = if self.log2_keys {
            let (log2, log2_index) = (b[8], b[9]);
            if log2 > 40 || log2_index > 44 {
                return None;
            }
            (1u64 << log2, 1u64 << log2_index, b[10], u64_at(b, 16), u64_at(b, 24))
        } else {
            let slots = u64_at(b, 8);
            if !slots.is_power_of_two() || slots >> 40 != 0 {
                return None;
            }
            (slots, index_bytes(slots), 0, u64_at(b, 24), u64_at(b, 32))
        };
        let (entry, key) = if self.log2_keys && kind > 0 { (16, 0) } else { (24, 8) };
        // A shared table of 3.11+ has room for as many as were asked for, not for two thirds.
        let room = room_left.checked_add(written)?;
        let split = kind == 2;
        let sound =
            kind <= 2 && room <= slots && slots >= 1 && (split || room <= usable(slots).max(1));
        let entries = head as u64 + index;
        sound.then_some(Keys {
            slots,
            entries: entries as usize,
            entry,
            key,
            written,
            room,
            size: entries + room.max(usable(slots)) * entry as u64,
            split,
        })
    }

    /// Bytes of the smallest table of its own that has room for so many entries.
    pub fn smallest_keys(&self, live: u64, entry: usize) -> u64 {
        let mut slots = 8;
        while usable(slots) < live {
            slots *= 2;
        }
        self.keys_head() as u64 + index_bytes(slots) + usable(slots) * entry as u64
    }
}

/// The fields of a type object that tell what its instances look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeHead {
    /// Its own type.
    pub metatype: u64,
    /// `tp_name`.
    pub name: u64,
    /// `tp_basicsize`.
    pub basicsize: u64,
    /// `tp_itemsize`.
    pub itemsize: u64,
    /// `tp_flags`.
    pub flags: u64,
    /// `tp_base`.
    pub base: u64,
    /// `tp_dictoffset`, which may be negative.
    pub dictoffset: i64,
    /// `tp_weaklistoffset`.
    pub weaklistoffset: i64,
}

/// Reads a type object; `None` where its fields cannot be those of one that is ready.
pub fn type_head(b: &[u8]) -> Option<TypeHead> {
    if b.len() < type_object::HEAD {
        return None;
    }
    let head = TypeHead {
        metatype: u64_at(b, OB_TYPE),
        name: u64_at(b, type_object::NAME),
        basicsize: u64_at(b, type_object::BASICSIZE),
        itemsize: u64_at(b, type_object::ITEMSIZE),
        flags: u64_at(b, type_object::FLAGS),
        base: u64_at(b, type_object::BASE),
        dictoffset: u64_at(b, type_object::DICTOFFSET) as i64,
        weaklistoffset: u64_at(b, type_object::WEAKLISTOFFSET) as i64,
    };
    let sane = (16..1 << 20).contains(&head.basicsize)
        && head.itemsize < 1 << 16
        // Some static types are never made ready, and have the flags that all begin with.
        && (head.flags & flag::READY != 0 || head.flags == flag::VERSION_TAG)
        && head.metatype.is_multiple_of(8)
        && head.metatype != 0
        && head.name != 0;
    sane.then_some(head)
}
