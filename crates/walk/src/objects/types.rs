//! Types: what a word in an object's `ob_type` points to, if it is a type.
//!
//! Owns the validation of type objects, their qualified names, and what sort of object their instances
//! are. A type is read once; words that are no types are remembered only if they could be.
//!
//! Invariant: a candidate is looked at only in the data of a mapped file, or where a chunk of malloc
//! begins that is large enough for a heap type; so arbitrary bytes cost no reading, and no memory. Where
//! another malloc stands in glibc's place, heap types may be anywhere outside pools; what is remembered
//! of candidates is bounded.

use std::sync::{Arc, RwLock};

use pydefrag_image::Image;
use pydefrag_layout::objects::{self, Objects, TypeHead, flag, type_object};
use pydefrag_layout::word::u64_at;
use rustc_hash::FxHashMap;

use super::blocks::Blocks;
use super::text;

/// Index of a type; 0 is none.
pub(crate) type TypeId = u32;

/// What sort of object a type's instances are, as far as their memory differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Plain,
    Str,
    Bytes,
    Int,
    /// float, complex: nothing in them refers to anything.
    Number,
    Tuple,
    List,
    Dict,
    Set,
    ByteArray,
    Deque,
    /// `datetime.datetime` and `datetime.time`, which without a zone are allocated without its slot.
    Moment,
    /// `array.array`: its items are numbers.
    Array,
    Weakref,
    Module,
    Type,
    /// `_PyInterpreterFrame`s inside, whose size no field of the object tells: frames, generators.
    Frame,
    Code,
    Function,
    Cell,
}

/// A type of the target.
#[derive(Debug)]
pub(crate) struct Type {
    pub(crate) address: u64,
    /// `module.Qualified.Name`, builtins without their module.
    pub(crate) name: String,
    pub(crate) head: TypeHead,
    pub(crate) sort: Sort,
    /// Bytes between the start of a block and the object.
    pub(crate) before: u64,
    /// Its instances are allocated with one item more than they have.
    pub(crate) spare_item: bool,
    /// `ht_cached_keys` of a heap type.
    pub(crate) cached_keys: u64,
}

impl Type {
    pub(crate) fn is_heap(&self) -> bool {
        self.head.flags & flag::HEAP_TYPE != 0
    }

    pub(crate) fn has_gc(&self) -> bool {
        self.head.flags & flag::HAVE_GC != 0
    }

    pub(crate) fn inline_values(&self, forms: &Objects) -> bool {
        forms.values == objects::Values::Inline && self.head.flags & flag::INLINE_VALUES != 0
    }

    /// Its instances may have a dict of their own.
    pub(crate) fn has_dict(&self, forms: &Objects) -> bool {
        self.head.dictoffset != 0 || self.managed_dict(forms)
    }

    pub(crate) fn managed_dict(&self, forms: &Objects) -> bool {
        forms.preheader & (1 << 4) & self.head.flags != 0
    }
}

/// Types beyond this many are garbage that looks like types.
const MOST_TYPES: usize = 1 << 20;
/// Bases beyond this many are a ring.
const MOST_BASES: usize = 64;
/// Names are cut to this.
const LONGEST_NAME: usize = 200;

/// Whether an address lies in one of some ranges, which are in order.
fn within(ranges: &[(u64, u64)], address: u64) -> bool {
    let i = ranges.partition_point(|r| r.1 <= address);
    ranges.get(i).is_some_and(|r| r.0 <= address)
}

#[derive(Default)]
struct Registry {
    ids: FxHashMap<u64, TypeId>,
    types: Vec<Arc<Type>>,
}

/// All types that were met.
pub(crate) struct Types<'a> {
    image: &'a Image,
    blocks: &'a Blocks<'a>,
    pub(crate) forms: &'static Objects,
    minor: u8,
    /// Bytes that a debug hook puts before each block's object.
    pub(crate) front: u64,
    /// Data of mapped files, where static types are.
    data: Vec<(u64, u64)>,
    /// Where heap types may be if malloc was not walked: private memory without a name.
    unwalked: Vec<(u64, u64)>,
    registry: RwLock<Registry>,
}

impl<'a> Types<'a> {
    pub(crate) fn new(
        image: &'a Image,
        blocks: &'a Blocks<'a>,
        forms: &'static Objects,
        minor: u8,
        front: u64,
    ) -> Types<'a> {
        // .bss follows a file's last mapping without a name.
        let mut data: Vec<(u64, u64)> = Vec::new();
        let mut file_end = 0;
        for m in &image.mappings {
            let bss = !m.is_file() && m.start == file_end && m.name_bytes().is_empty();
            if (m.is_file() && m.permissions.write) || bss {
                data.push((m.start, m.end));
            }
            file_end = if m.is_file() { m.end } else { 0 };
        }
        let anonymous =
            image.mappings.iter().filter(|m| blocks.chunks.is_empty() && m.is_private_anonymous());
        let unwalked = anonymous.map(|m| (m.start, m.end)).collect();
        Types { image, blocks, forms, minor, front, data, unwalked, registry: RwLock::default() }
    }

    /// Whether a type could lie there.
    fn possible(&self, address: u64) -> bool {
        if !address.is_multiple_of(8) || address == 0 {
            return false;
        }
        if within(&self.data, address) {
            return true;
        }
        // A type is too large for a pool.
        if within(&self.unwalked, address) && !self.blocks.in_pool(address) {
            return true;
        }
        let Some(found) = self.blocks.find(address) else { return false };
        // After its GC head.
        address - found.start == 16 + self.front
            && self.blocks.block(found.ordinal).is_some_and(|b| b.1 >= 16 + self.forms.heap_type)
    }

    /// The type at an address, read if it is not known yet; 0 where there is none.
    pub(crate) fn id(&self, address: u64) -> TypeId {
        if !self.possible(address) {
            return 0;
        }
        if let Some(id) = self.registry.read().expect("a registry").ids.get(&address) {
            return *id;
        }
        let read = self.read(address, MOST_BASES);
        let mut registry = self.registry.write().expect("a registry");
        if let Some(id) = registry.ids.get(&address) {
            return *id;
        }
        // Words that are no types are remembered too, so as not to be read again: as many.
        let full = registry.types.len() + 1 >= MOST_TYPES;
        if read.is_none() && registry.ids.len() >= 2 * MOST_TYPES {
            return 0;
        }
        let id = match read.filter(|_| !full) {
            Some(t) => {
                registry.types.push(Arc::new(t));
                registry.types.len() as TypeId
            }
            None => 0,
        };
        registry.ids.insert(address, id);
        id
    }

    /// Numbers the types by address, so that every look numbers them alike: workers met them in any order.
    /// The new number of each, by the old one.
    pub(crate) fn renumber(&self) -> Vec<TypeId> {
        let mut registry = self.registry.write().expect("a registry");
        let mut order: Vec<usize> = (0..registry.types.len()).collect();
        order.sort_unstable_by_key(|i| registry.types[*i].address);
        let mut new = vec![0; order.len() + 1];
        for (i, old) in order.iter().enumerate() {
            new[old + 1] = i as TypeId + 1;
        }
        registry.types = order.iter().map(|i| registry.types[*i].clone()).collect();
        registry.ids.values_mut().for_each(|id| *id = new[*id as usize]);
        new
    }

    /// A type by its number, which is not 0.
    pub(crate) fn get(&self, id: TypeId) -> Arc<Type> {
        self.registry.read().expect("a registry").types[id as usize - 1].clone()
    }

    /// All types, in the order of their numbers from 1 on.
    pub(crate) fn all(&self) -> Vec<Arc<Type>> {
        self.registry.read().expect("a registry").types.clone()
    }

    fn head(&self, address: u64) -> Option<TypeHead> {
        let mut bytes = [0; type_object::HEAD];
        self.image.read(address, &mut bytes).ok()?;
        objects::type_head(&bytes)
    }

    fn read(&self, address: u64, bases_left: usize) -> Option<Type> {
        let head = self.head(address)?;
        if bases_left == 0 || !self.is_metatype(head.metatype, address) {
            return None;
        }
        let tp_name = text::c_string(self.image, head.name, LONGEST_NAME)?;
        let heap = head.flags & flag::HEAP_TYPE != 0;
        // A program may name its classes as it likes; C's names are names.
        let sound = |c: char| c.is_ascii_graphic() || c == ' ';
        if tp_name.is_empty() || !heap && !tp_name.chars().all(sound) {
            return None;
        }
        let sort = self.sort(&head, &tp_name);
        let cached_keys = match heap {
            true => self.image.word(address + self.forms.ht_cached_keys as u64).unwrap_or(0),
            false => 0,
        };
        let name = match heap {
            true => self.heap_name(address, &tp_name),
            false => tp_name.strip_prefix("builtins.").unwrap_or(&tp_name).to_owned(),
        };
        Some(Type {
            address,
            name,
            sort,
            before: self.forms.before(head.flags),
            spare_item: (heap || sort == Sort::Type) && head.itemsize > 0,
            cached_keys,
            head,
        })
    }

    /// Whether a type's type is one: `type` itself, its own type, or a subclass of it.
    fn is_metatype(&self, metatype: u64, of: u64) -> bool {
        if metatype == of {
            return self.head(metatype).is_some_and(|m| m.flags & flag::TYPE != 0);
        }
        self.possible(metatype) && self.head(metatype).is_some_and(|m| m.flags & flag::TYPE != 0)
    }

    fn sort(&self, head: &TypeHead, tp_name: &str) -> Sort {
        let by_flag = [
            (flag::STR, Sort::Str),
            (flag::BYTES, Sort::Bytes),
            (flag::LONG, Sort::Int),
            (flag::LIST, Sort::List),
            (flag::TUPLE, Sort::Tuple),
            (flag::DICT, Sort::Dict),
            (flag::TYPE, Sort::Type),
        ];
        if let Some((_, sort)) = by_flag.iter().find(|(f, _)| head.flags & f != 0) {
            return *sort;
        }
        let heap = head.flags & flag::HEAP_TYPE != 0;
        // The others by the name of the first base that is not Python's.
        let (mut head, mut name) = (*head, tp_name.to_owned());
        for _ in 0..MOST_BASES {
            let sort = match name.as_str() {
                "set" | "frozenset" => Sort::Set,
                // 3.15: a dict's table, and its hash behind.
                "frozendict" => Sort::Dict,
                "bytearray" => Sort::ByteArray,
                "collections.deque" => Sort::Deque,
                "array.array" => Sort::Array,
                // A subclass is allocated whole.
                "datetime.datetime" | "datetime.time" if !heap => Sort::Moment,
                "float" | "complex" => Sort::Number,
                "module" => Sort::Module,
                "frame" | "generator" | "coroutine" | "async_generator" => Sort::Frame,
                "code" => Sort::Code,
                "function" => Sort::Function,
                "cell" => Sort::Cell,
                n if n.starts_with("weak") && !n.contains("callable_") && n.len() < 32 => {
                    Sort::Weakref
                }
                _ => Sort::Plain,
            };
            if sort != Sort::Plain {
                return sort;
            }
            let Some(base) = Some(head.base).filter(|b| self.possible(*b)) else { break };
            let Some(h) = self.head(base) else { break };
            let Some(n) = text::c_string(self.image, h.name, LONGEST_NAME) else { break };
            // A class of a program's own may have any name.
            let program = h.flags & flag::HEAP_TYPE != 0 && !n.starts_with("collections.");
            (head, name) = (h, if program { String::new() } else { n });
        }
        Sort::Plain
    }

    /// `__module__` and `__qualname__` of a heap type.
    fn heap_name(&self, address: u64, tp_name: &str) -> String {
        let word = |offset: usize| self.image.word(address + offset as u64).unwrap_or(0);
        let qualname = text::text(self.image, self.minor, word(self.forms.ht_name + 16));
        let short = tp_name.rsplit('.').next().unwrap_or(tp_name);
        let qualname = qualname.filter(|q| !q.is_empty()).unwrap_or_else(|| short.to_owned());
        let module = self.entry(word(type_object::DICT), "__module__");
        let module = module.and_then(|m| text::text(self.image, self.minor, m));
        let module = module.or_else(|| tp_name.rsplit_once('.').map(|(m, _)| m.to_owned()));
        match module.as_deref() {
            None | Some("builtins" | "") => qualname,
            Some(module) => format!("{module}.{qualname}"),
        }
    }

    /// The value of a key in a dict, by reading it: for small dicts.
    pub(crate) fn entry(&self, dict: u64, key: &str) -> Option<u64> {
        let mut found = None;
        self.each_entry(dict, &mut |k, value| {
            if found.is_none() && text::text(self.image, self.minor, k).as_deref() == Some(key) {
                found = Some(value);
            }
            found.is_none()
        });
        found
    }

    /// The keys and values of a combined dict, by reading it, until `each` says no.
    pub(crate) fn each_entry(&self, dict: u64, each: &mut dyn FnMut(u64, u64) -> bool) {
        const MOST: u64 = 1 << 16;
        let Ok(keys) = self.image.word(dict.wrapping_add(objects::dict::KEYS as u64)) else {
            return;
        };
        let mut head = vec![0; self.forms.keys_head()];
        if self.image.read(keys, &mut head).is_err() {
            return;
        }
        let Some(k) = self.forms.keys(&head).filter(|k| k.written <= MOST) else { return };
        let mut entries = vec![0; k.written as usize * k.entry];
        if self.image.read(keys.wrapping_add(k.entries as u64), &mut entries).is_err() {
            return;
        }
        for e in entries.chunks_exact(k.entry) {
            let (key, value) = (u64_at(e, k.key), u64_at(e, k.key + 8));
            if value != 0 && !each(key, value) {
                return;
            }
        }
    }
}
