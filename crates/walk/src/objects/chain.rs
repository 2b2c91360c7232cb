//! Chains: shapes as a person reads them.
//!
//! Owns the names of steps: variables of modules, attributes, slots, closed-over variables; and where the
//! head of a chain ends, at the first step that leads to many. Names are read from the target only for
//! the chains that are shown.

use std::cell::RefCell;

use pydefrag_image::Image;
use pydefrag_layout::objects::{self, Values, member, type_object};
use pydefrag_layout::word::u64_at;
use rustc_hash::FxHashMap;

use super::kind::Role;
use super::reach::{Reached, TableForm};
use super::shape::{Shape, ShapeId, Step};
use super::text;
use super::types::{Sort, Type, Types};

/// Longest name that is shown.
const LONGEST: usize = 80;

/// Reads the names in chains.
pub(crate) struct Chains<'a> {
    pub(crate) image: &'a Image,
    pub(crate) types: &'a Types<'a>,
    pub(crate) reached: &'a Reached<'a>,
    pub(crate) minor: u8,
    /// Names of steps that were read: chains have their beginnings in common.
    names: RefCell<FxHashMap<ShapeId, Option<String>>>,
}

/// `__slots__` beyond these have no names.
const MOST_MEMBERS: u64 = 1 << 10;

impl<'a> Chains<'a> {
    pub(crate) fn new(
        image: &'a Image,
        types: &'a Types<'a>,
        reached: &'a Reached<'a>,
        minor: u8,
    ) -> Chains<'a> {
        Chains { image, types, reached, minor, names: RefCell::default() }
    }

    /// The shapes from a root to this one.
    fn path(&self, id: ShapeId) -> Vec<ShapeId> {
        let mut path = vec![id];
        let mut at = id;
        while let parent @ 1.. = self.reached.shapes.get(at).parent {
            path.push(parent);
            at = parent;
        }
        path.reverse();
        path
    }

    /// The whole chain.
    pub(crate) fn chain(&self, id: ShapeId) -> String {
        self.text(&self.path(id), true)
    }

    /// The chain's head: up to the first step to one of many.
    pub(crate) fn head(&self, id: ShapeId) -> String {
        self.text(&self.path(self.reached.head_of(id)), false)
    }

    fn text(&self, path: &[ShapeId], types: bool) -> String {
        let mut text = String::new();
        // The type of what was named last, which is told once it is known to be the last of its run.
        let mut named: Option<u32> = None;
        let tell = |text: &mut String, named: &mut Option<u32>| {
            if let Some(group) = named.take()
                && types
            {
                text.push_str(&format!("[{}]", self.type_name(group)));
            }
        };
        for (i, id) in path.iter().enumerate() {
            let shape = self.reached.shapes.get(*id);
            let object = Role::Object == role(shape.group);
            match shape.step {
                Step::Root(root) => {
                    text.push_str(&shorten(&self.reached.roots[root as usize].name));
                    if !shape.namespace {
                        named = Some(shape.group).filter(|_| object);
                    }
                }
                Step::Buffer | Step::Class if !object => {}
                Step::Class => {
                    tell(&mut text, &mut named);
                    text.push_str(" -> its class");
                }
                Step::Named(_) | Step::Slot(_) => {
                    let known = self.names.borrow().get(id).cloned();
                    let name = known.unwrap_or_else(|| {
                        let name = self.step_name(shape, path[i - 1]);
                        self.names.borrow_mut().insert(*id, name.clone());
                        name
                    });
                    let Some(name) = name else {
                        // The way leads through, to what is named or to one of many.
                        if !self.transparent(shape, path[i - 1]) {
                            if !types {
                                break;
                            }

                            tell(&mut text, &mut named);
                            text.push_str(&format!(" -> {}", self.type_name(shape.group)));
                        }
                        continue;
                    };
                    let class = named.is_some_and(|g| self.is_class(g));
                    match types && !class && named.is_some() {
                        true => {
                            tell(&mut text, &mut named);
                            text.push_str(&format!(" -> .{name}"));
                        }
                        // Of one of many, named by its type only.
                        false if types && text.contains(" -> ") && named.is_none() => {
                            text.push_str(&format!(" -> .{name}"));
                        }
                        false => text.push_str(&format!(".{name}")),
                    }
                    named = Some(shape.group);
                }
                Step::Item | Step::Value | Step::Key | Step::Buffer => {
                    tell(&mut text, &mut named);
                    let key = if shape.step == Step::Key { "key " } else { "" };
                    text.push_str(&format!(" -> {key}{}", self.type_name(shape.group)));
                }
            }
        }
        if let Some(group) = named
            && !self.is_class(group)
        {
            tell(&mut text, &mut named);
        }
        let last = self.reached.shapes.get(*path.last().expect("a path"));
        let role = role(last.group);
        if types && !matches!(role, Role::Object | Role::Unknown) {
            text.push_str(&format!(" ({})", role.label()));
        }
        text
    }

    fn is_class(&self, group: u32) -> bool {
        role(group) == Role::Object && self.of(group).is_some_and(|t| t.sort == Sort::Type)
    }

    fn of(&self, group: u32) -> Option<&Type> {
        self.reached.type_of_group(group)
    }

    /// What a group of blocks is called: the type, or its buffers.
    pub(crate) fn type_name(&self, group: u32) -> String {
        match (self.of(group), role(group)) {
            (Some(t), Role::Object) => shorten(&t.name),
            (Some(t), role) => format!("{} ({})", shorten(&t.name), role.label()),
            (None, role) => role.label().to_owned(),
        }
    }

    /// Nothing that a person would name lies there: an instance's dict, a closure, a cell.
    fn transparent(&self, shape: &Shape, parent: ShapeId) -> bool {
        let above = self.of(self.reached.shapes.get(parent).group);
        shape.namespace || above.is_some_and(|t| t.sort == Sort::Cell)
    }

    /// The name of the slot or entry through which a shape is reached.
    fn step_name(&self, shape: &Shape, parent: ShapeId) -> Option<String> {
        let above = self.reached.shapes.get(parent);
        match shape.step {
            Step::Slot(word) => self.slot_name(shape, above, word),
            Step::Named(word) => match role(above.group) {
                Role::Keys => self.key_at(shape.via, word),
                Role::Values => self.value_name(above, shape.via, word),
                Role::Object => self.free_variable(above, word),
                _ => None,
            },
            _ => None,
        }
        .filter(|n| !n.is_empty())
        .map(|n| shorten(&n))
    }

    fn address(&self, ordinal: u32) -> Option<u64> {
        Some(self.reached.block(ordinal)?.0 + self.types.front)
    }

    /// The text of a str or bytes, for those who asked for contents.
    pub(crate) fn content(&self, ordinal: u32) -> Option<String> {
        let kind = self.reached.kind(ordinal);
        let at = self.address(ordinal)?.checked_add(kind.before())?;
        if self.reached.type_of(kind).is_none_or(|t| t.sort != Sort::Bytes) {
            return text::text(self.image, self.minor, at);
        }
        let length = self.image.word(at + objects::OB_SIZE as u64).ok()?;
        let mut bytes = vec![0; length.min(LONGEST as u64) as usize];
        self.image.read(at + objects::BYTES, &mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The key of the entry of a dict's table that a word belongs to.
    fn key_at(&self, table: u32, word: u32) -> Option<String> {
        let form = TableForm::of(self.reached.note(table))?;
        let (entry, _) = form.entry(word, self.types.front)?;
        let key = form.entries + entry * form.words + form.words - 2;
        let key = self.image.word(self.address(table)? + 8 * u64::from(key)).ok()?;
        text::text(self.image, self.minor, key)
    }

    /// The i-th key of a table at an address.
    fn nth_key(&self, keys: u64, i: u64) -> Option<String> {
        let mut head = vec![0; self.types.forms.keys_head()];
        self.image.read(keys, &mut head).ok()?;
        let k = self.types.forms.keys(&head).filter(|k| i < k.written)?;
        let offset = k.entries as u64 + i * k.entry as u64 + k.key as u64;
        let at = keys.checked_add(offset)?;
        text::text(self.image, self.minor, self.image.word(at).ok()?)
    }

    /// How many attributes a class's instances share the names of.
    pub(crate) fn attributes(&self, of: &Type) -> Option<u64> {
        let mut head = vec![0; self.types.forms.keys_head()];
        self.image.read(of.cached_keys, &mut head).ok()?;
        self.types.forms.keys(&head).map(|k| k.written).filter(|n| *n > 0)
    }

    /// A value beside its instance or of a split dict.
    fn value_name(&self, values: &Shape, block: u32, word: u32) -> Option<String> {
        let holder = self.reached.shapes.get(values.parent);
        let of = self.of(holder.group)?;
        let bytes = (u64::from(word) * 8).checked_sub(self.types.front)?;
        let index = match self.types.forms.values {
            // Behind a prefix whose bytes are told by the last of them.
            Values::Beside | Values::Tagged => {
                let at = self.address(block)?;
                let mut prefix = vec![0; 256.min(bytes as usize)];
                self.image.read(at, &mut prefix).ok()?;
                let prefix =
                    (1..=prefix.len() / 8).find(|p| usize::from(prefix[p * 8 - 1]) == p * 8)?;
                (bytes / 8).checked_sub(prefix as u64)?
            }
            Values::Inline => (bytes / 8).checked_sub(1)?,
            Values::Dict => bytes / 8,
        };
        // Either an instance of a class that knows the keys, or a dict that does.
        let keys = match of.sort {
            Sort::Dict => {
                let dict = self.address(values.via)? + self.reached.kind(values.via).before();
                self.image.word(dict + objects::dict::KEYS as u64).ok()?
            }
            _ => of.cached_keys,
        };
        self.nth_key(keys, index)
    }

    /// A variable that a function closes over.
    fn free_variable(&self, closure: &Shape, word: u32) -> Option<String> {
        let function = self.address(closure.via)? + self.reached.kind(closure.via).before();
        let code = self.image.word(function + self.types.forms.function().code).ok()?;
        let tuple = self.address(closure.example)? + self.reached.kind(closure.example).before();
        let free = self.image.word(tuple + objects::OB_SIZE as u64).ok()?;
        let items = self.types.forms.tuple_items as u64;
        let front = self.types.front + self.reached.kind(closure.example).before();
        let i = (u64::from(word) * 8).checked_sub(front + items)? / 8;
        let names =
            self.image.word(code.checked_add(self.types.forms.code_free_variables())?).ok()?;
        let count = self.image.word(names.checked_add(objects::OB_SIZE as u64)?).ok()?;
        // Names of locals come first where all stand in one tuple.
        let at = count.checked_sub(free)?.checked_add(i)?.checked_mul(8)?;
        let name = names.checked_add(items)?.checked_add(at)?;
        text::text(self.image, self.minor, self.image.word(name).ok()?)
    }

    fn slot_name(&self, shape: &Shape, above: &Shape, word: u32) -> Option<String> {
        if role(above.group) != Role::Object {
            return None;
        }
        let of = self.of(above.group)?;
        let before = self.reached.kind(shape.via).before();
        let offset = (u64::from(word) * 8).checked_sub(self.types.front + before)?;
        if shape.namespace {
            return None;
        }
        if of.inline_values(self.types.forms) && offset > of.head.basicsize {
            let values = offset.checked_sub(of.head.basicsize + 8)?;
            return self.nth_key(of.cached_keys, values / 8);
        }
        match of.sort {
            Sort::Function => {
                let f = self.types.forms.function();
                let names = [
                    (f.code, "__code__"),
                    (f.defaults, "__defaults__"),
                    (f.kwdefaults, "__kwdefaults__"),
                ];
                names.iter().find(|(at, _)| *at == offset).map(|(_, n)| (*n).to_owned())
            }
            Sort::Type => match offset as usize {
                type_object::BASE => Some("__base__".into()),
                type_object::BASES => Some("__bases__".into()),
                type_object::MRO => Some("__mro__".into()),
                _ => None,
            },
            _ => self.member(of, offset),
        }
    }

    /// The name in `__slots__` of the word at an offset of an instance.
    fn member(&self, of: &Type, offset: u64) -> Option<String> {
        let mut at = of.address;
        for _ in 0..32 {
            let count =
                self.image.word(at.checked_add(objects::OB_SIZE as u64)?).ok()?.min(MOST_MEMBERS);
            let mut members = vec![0; count as usize * member::SIZE];
            let first = at.checked_add(self.types.forms.heap_type)?;
            if self.image.read(first, &mut members).is_ok() {
                let of_offset = |m: &&[u8]| u64_at(m, member::OFFSET) == offset;
                if let Some(m) = members.chunks_exact(member::SIZE).find(of_offset) {
                    return text::c_string(self.image, u64_at(m, member::NAME), LONGEST);
                }
            }
            at = self.image.word(at + type_object::BASE as u64).ok()?;
            let heap = self.types.id(at) != 0 && self.types.get(self.types.id(at)).is_heap();
            if !heap {
                return None;
            }
        }
        None
    }
}

pub(crate) fn role(group: u32) -> Role {
    super::kind::Kind::of_group(group).role()
}

/// A name, cut to what a line can show.
fn shorten(name: &str) -> String {
    match name.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_owned(),
    }
}
