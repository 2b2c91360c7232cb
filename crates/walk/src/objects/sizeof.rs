//! What `sys.getsizeof` would say of an object, from outside.
//!
//! Owns the rules of the builtin types' `__sizeof__`. A type that has one of its own may say otherwise.
//!
//! Sources: `Objects/*object.c`, `Python/sysmodule.c` (`_PySys_GetSizeOf`) of 3.8 to 3.15.

use pydefrag_image::Image;
use pydefrag_layout::objects::{
    self, GC_HEAD, OB_SIZE, Objects, bytearray, deque, dict, list, set,
};

use super::types::{Sort, Type};

/// The size; `None` where the object cannot be read.
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
            // A subclass adds its fixed part.
            let fixed = if of.is_heap() { basic.saturating_sub(s.size) } else { 0 };
            s.size + apart + fixed
        }
        Sort::Int => {
            let size = word(OB_SIZE)?;
            let digits = match forms.ascii {
                40 => (size >> 3).max(1),
                _ => (size as i64).unsigned_abs(),
            };
            basic + digits * of.head.itemsize
        }
        Sort::List => basic + word(list::ALLOCATED)? * 8,
        Sort::Dict => basic + table(image, forms, word(dict::KEYS)?, word(dict::VALUES)?)?,
        Sort::Set => {
            let apart = word(set::TABLE)? != at + set::SMALL_TABLE as u64;
            basic + if apart { (word(set::MASK)? + 1) * set::ENTRY } else { 0 }
        }
        Sort::ByteArray => basic + word(bytearray::ALLOCATED)?,
        Sort::Deque => {
            basic + blocks(image, word(deque::LEFT)?, word(deque::RIGHT)?) * deque::BLOCK
        }
        Sort::Type if of_heap_type(image, at)? => {
            let keys = word(forms.ht_cached_keys)?;
            let shared = if keys == 0 { 0 } else { keys_size(image, forms, keys)? };
            forms.heap_type + shared
        }
        Sort::Type => objects_static_type(forms),
        _ => {
            let mut size = basic;
            if of.head.itemsize > 0 {
                size += word(OB_SIZE)?.min(1 << 40) * of.head.itemsize;
            }
            if of.inline_values(forms) {
                let mut capacity = [0];
                image.read(at + basic, &mut capacity).ok()?;
                let capacity = u64::from(capacity[0]);
                size += capacity.next_multiple_of(8) + (capacity + 1) * 8;
            }
            size
        }
    };
    let gc = if of.has_gc() { GC_HEAD } else { 0 };
    let pre = if forms.preheader & of.head.flags != 0 { 16 } else { 0 };
    // A static type is no object of the heap: the collector does not know it.
    let is_static = of.sort == Sort::Type && !of_heap_type(image, at)?;
    Some(own + if is_static { 0 } else { gc + pre })
}

/// `sizeof(PyTypeObject)`.
fn objects_static_type(forms: &Objects) -> u64 {
    match forms.minor {
        11 => 408,
        15.. => 424,
        _ => 416,
    }
}

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
        match image.word(at + deque::BLOCK - 8) {
            Ok(next) if next != 0 => (at, count) = (next, count + 1),
            _ => break,
        }
    }
    count
}
