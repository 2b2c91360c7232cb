//! What `sys.getsizeof` would say of an object, from outside.
//!
//! Owns the rules of the builtin types' `__sizeof__`. What inherits another rule, Python's or C's, has none here.
//!
//! Sources: `Objects/*object.c`, `Python/sysmodule.c` (`_PySys_GetSizeOf`) of 3.8 to 3.15.

use pydefrag_image::Image;
use pydefrag_layout::objects::{
    self, GC_HEAD, OB_SIZE, Objects, bytearray, deque, dict, list, set, type_object,
};

use super::types::{Sort, Type, Types};

/// Types whose `__sizeof__` is written below.
const KNOWN: [&str; 11] = [
    "object",
    "type",
    "str",
    "bytes",
    "int",
    "list",
    "dict",
    "set",
    "frozenset",
    "bytearray",
    "collections.deque",
];
/// Static types with a rule of their own whose dict the type does not point to (3.12+).
const OTHERS: [&str; 1] = ["collections.OrderedDict"];
const MOST_BASES: usize = 64;

/// Whether the rule that a type inherits is one of ours.
pub(crate) fn is_known(image: &Image, types: &Types<'_>, of: &Type) -> bool {
    if matches!(of.sort, Sort::Code | Sort::Frame) {
        return false;
    }
    let mut at = of.address;
    for _ in 0..MOST_BASES {
        let id = types.id(at);
        if id == 0 {
            return true;
        }
        let t = types.get(id);
        let dict = image.word(at + type_object::DICT as u64).unwrap_or(0);
        if KNOWN.contains(&t.name.as_str()) {
            return true;
        }
        if OTHERS.contains(&t.name.as_str())
            || dict != 0 && types.entry(dict, "__sizeof__").is_some()
        {
            return false;
        }
        at = t.head.base;
    }
    false
}

/// The size, of a type whose rule is known; `None` where the object cannot be read.
pub(crate) fn sizeof(image: &Image, forms: &Objects, of: &Type, at: u64) -> Option<u64> {
    let word = |offset: usize| image.word(at + offset as u64).ok();
    let basic = of.head.basicsize;
    let own = match of.sort {
        Sort::Str => {
            let mut head = vec![0; forms.compact + 8];
            if image.read(at, &mut head).is_err() {
                image.read(at, &mut head[..forms.ascii]).ok()?;
            }
            let s = forms.str(&head)?;
            let apart = [s.data, s.utf8, s.wide].into_iter().flatten().map(|c| c.1).sum::<u64>();
            s.size + apart
        }
        Sort::Int => {
            let digits = forms.int_digits(word(OB_SIZE)?);
            INT_HEAD + digits.checked_mul(of.head.itemsize)?
        }
        Sort::List => basic.checked_add(word(list::ALLOCATED)?.checked_mul(8)?)?,
        Sort::Dict => basic + table(image, forms, word(dict::KEYS)?, word(dict::VALUES)?)?,
        Sort::Set => {
            let apart = word(set::TABLE)? != at + set::SMALL_TABLE as u64;
            let slots = if apart { word(set::MASK)?.checked_add(1)? } else { 0 };
            basic.checked_add(slots.checked_mul(set::ENTRY)?)?
        }
        Sort::ByteArray => {
            let allocated = word(bytearray::ALLOCATED)?;
            // From 3.15 on the bytes are an object of their own.
            let head = if forms.bytearray_object && allocated > 0 { BYTES_HEAD } else { 0 };
            basic.checked_add(allocated)?.checked_add(head)?
        }
        Sort::Deque => {
            basic + blocks(image, word(deque::LEFT)?, word(deque::RIGHT)?) * deque::BLOCK
        }
        Sort::Type if of_heap_type(image, at)? => {
            let keys = word(forms.ht_cached_keys)?;
            let shared = if keys == 0 { 0 } else { keys_size(image, forms, keys)? };
            forms.heap_type + shared
        }
        Sort::Type => forms.static_type(),
        _ => {
            let mut size = basic;
            if of.head.itemsize > 0 {
                size += word(OB_SIZE)?.min(1 << 40) * of.head.itemsize;
            }
            size
        }
    };
    let gc = if of.has_gc() { GC_HEAD } else { 0 };
    let pre = if forms.preheader & of.head.flags != 0 { 16 } else { 0 };
    // A static type is no object of the heap: the collector does not know it.
    let is_static = of.sort == Sort::Type && !of_heap_type(image, at)?;
    own.checked_add(if is_static { 0 } else { gc + pre })
}

/// Bytes of a bytes object beside its contents.
const BYTES_HEAD: u64 = 33;
/// `offsetof(PyLongObject, ob_digit)`.
const INT_HEAD: u64 = 24;
fn of_heap_type(image: &Image, at: u64) -> Option<bool> {
    let flags = image.word(at + objects::type_object::FLAGS as u64).ok()?;
    Some(flags & objects::flag::HEAP_TYPE != 0)
}

fn keys_size(image: &Image, forms: &Objects, keys: u64) -> Option<u64> {
    let mut head = vec![0; forms.keys_head()];
    image.read(keys, &mut head).ok()?;
    forms.keys(&head).map(|k| k.size)
}

/// What a dict adds to itself: values of its own, and a table that is not shared.
fn table(image: &Image, forms: &Objects, keys: u64, values: u64) -> Option<u64> {
    let mut head = vec![0; forms.keys_head()];
    image.read(keys, &mut head).ok()?;
    let k = forms.keys(&head)?;
    let own = if values != 0 { k.room * 8 } else { 0 };
    let references = u64::from_le_bytes(head[..8].try_into().ok()?);
    Some(own + if references == 1 { k.size } else { 0 })
}

/// Blocks of a deque, from its leftmost to its rightmost.
fn blocks(image: &Image, left: u64, right: u64) -> u64 {
    const MOST: u64 = 1 << 16;
    let (mut at, mut count) = (left, 1);
    while at != right && count < MOST {
        match image.word(at.wrapping_add(deque::BLOCK - 8)) {
            Ok(next) if next != 0 => (at, count) = (next, count + 1),
            _ => break,
        }
    }
    count
}
