//! What lies on CPython's free lists: handed out by the allocator, used by nobody.
//!
//! Owns two ways to know it. [`free_listed`] follows the lists themselves: it is exact, and the only way
//! to know the last float and the keys of dicts. [`Rule`] judges a block by itself, for lists that are
//! not found. Neither believes an offset: a list counts where its members are what they should be.
//!
//! Invariant: no chain is followed beyond its longest length, no member is reported that has a reference
//! count or another type. In a process that runs on, members come and go while they are read; each is
//! judged alone, so that a torn list costs some of its members and nothing else.

use pydefrag_image::Image;
use pydefrag_layout::freelists::{
    DRIFT, FreeList, FreeLists, LONGEST, MOST_FLOATS, Member, STATIC, Shape, TYPES, are_kept_keys,
    free_lists, has_free_list, has_gc_head, is_untracked, links_in_refcount,
};
use pydefrag_layout::word::{u32_at, u64_at};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::malloc::reader::Pages;
use crate::runtime::{Runtime, data_of};

/// More interpreters than any process has: a broken list.
const MOST_INTERPRETERS: usize = 1 << 12;
/// How often a moving target's lists are looked for.
const TRIES: usize = 5;

/// What lies on the free lists of all interpreters: the address of each object (behind a GC head) or
/// buffer, as CPython points to it, and what it is.
pub(crate) fn free_listed(image: &Image, runtime: &Runtime) -> FxHashMap<u64, &'static str> {
    if runtime.free_threaded() {
        return FxHashMap::default();
    }
    let minor = runtime.layout.minor;
    match free_lists(minor) {
        Some(lists) => per_interpreter(image, runtime, lists),
        None => Lists::new(image, minor).statics(runtime),
    }
}

/// The same of all interpreters of a version that keeps the lists in their states.
pub(super) fn per_interpreter(
    image: &Image,
    runtime: &Runtime,
    lists: &FreeLists,
) -> FxHashMap<u64, &'static str> {
    let mut found = FxHashMap::default();
    for interpreter in interpreters(image, runtime) {
        let read =
            (0..TRIES).find_map(|_| Lists::new(image, runtime.layout.minor).of(interpreter, lists));
        found.extend(read.unwrap_or_default());
    }
    found
}

/// The addresses of all `PyInterpreterState`s.
fn interpreters(image: &Image, runtime: &Runtime) -> Vec<u64> {
    let (head, next) = match runtime.debug_offsets {
        Some(d) => (d.interpreters_head, d.interp_next),
        None => (runtime.layout.interpreters_head, runtime.layout.interp_next),
    };
    let word = |at: u64| image.word(at).unwrap_or(0);
    let mut seen = Vec::new();
    let mut at = runtime.address.map_or(0, |r| word(r.wrapping_add(head)));
    while at != 0 && seen.len() < MOST_INTERPRETERS && !seen.contains(&at) {
        seen.push(at);
        at = word(at.wrapping_add(next));
    }
    seen
}

/// What was read of a list or of several.
#[derive(Default)]
struct Found {
    members: Vec<(u64, &'static str)>,
    /// Lists of objects with a type that have members, as many as they say.
    sure: usize,
}

struct Lists<'a> {
    image: &'a Image,
    minor: u8,
    pages: Pages<'a>,
    /// Types by address, and what is behind the last dot of their `tp_name`; empty where they have none.
    names: FxHashMap<u64, String>,
}

impl<'a> Lists<'a> {
    fn new(image: &'a Image, minor: u8) -> Self {
        Lists { image, minor, pages: Pages::new(image), names: FxHashMap::default() }
    }

    /// The lists of an interpreter: where a known patch release has them, else near there.
    fn of(&mut self, interpreter: u64, lists: &FreeLists) -> Option<Vec<(u64, &'static str)>> {
        for base in lists.bases {
            if let Some(found) = self.at(interpreter.wrapping_add(*base), lists)
                && found.sure > 0
            {
                return Some(found.members);
            }
        }
        let first = lists.bases[0].saturating_sub(DRIFT);
        let near = (first..lists.bases[0] + DRIFT).step_by(8);
        let all = near.filter_map(|base| self.at(interpreter.wrapping_add(base), lists));
        // A part of the lists may look like all of them: the place where most fit is the one.
        all.filter(|found| found.sure > 0).max_by_key(|found| found.sure).map(|f| f.members)
    }

    /// The lists at a base; `None` where a head and its count contradict each other.
    fn at(&mut self, base: u64, lists: &FreeLists) -> Option<Found> {
        let mut found = Found::default();
        for list in lists.lists {
            for i in 0..list.times {
                let head = base.wrapping_add(list.head + i * list.steps.0);
                let count = base.wrapping_add(list.count + i * list.steps.1);
                self.list(list, head, count, &mut found)?;
            }
        }
        Some(found)
    }

    fn list(&mut self, list: &FreeList, head: u64, count: u64, found: &mut Found) -> Option<()> {
        let first = self.word(head)?;
        let most = match list.shape {
            Shape::Single => u32::from(first != 0),
            // A count is an int or a Py_ssize_t.
            _ => u32_at(&self.word(count & !7)?.to_le_bytes(), (count & 7) as usize),
        };
        let contradicts = match list.shape {
            // An empty array keeps what was in it.
            Shape::Array => most > 0 && first == 0,
            _ => (most > 0) != (first != 0),
        };
        let plausible = |at: u64| at.is_multiple_of(8);
        if most > list.most || contradicts || !plausible(first) {
            return None;
        }
        let before = found.members.len();
        match list.shape {
            Shape::Chain(link) => {
                let all = self.chain(first, link, most, list.member);
                found.members.extend(all.into_iter().map(|at| (at, list.what)));
            }
            Shape::Array | Shape::Single => {
                for i in 0..u64::from(most) {
                    let member = self.word(head.wrapping_add(8 * i))?;
                    if self.is(member, list.member) {
                        found.members.push((member, list.what));
                    }
                }
            }
        }
        let complete = found.members.len() - before == most as usize && most > 0;
        found.sure += usize::from(complete && matches!(list.member, Member::Object(_)));
        Some(())
    }

    /// The members of a chain, up to the first that is none or to as many as it may have.
    fn chain(&mut self, first: u64, link: u64, most: u32, member: Member) -> Vec<u64> {
        let mut members = Vec::new();
        let mut at = first;
        while at != 0 && members.len() < most as usize && self.is(at, member) {
            members.push(at);
            at = self.word(at.wrapping_add(link)).unwrap_or(0);
        }
        // A chain that is longer, shorter or broken may have changed meanwhile; an object proves itself.
        if !matches!(member, Member::Object(_)) && (at != 0 || members.len() < most as usize) {
            members.clear();
        }
        members
    }

    /// Whether what is at an address may be such a member.
    fn is(&mut self, at: u64, member: Member) -> bool {
        let anonymous = || self.image.mapping_at(at).is_some_and(|m| m.is_private_anonymous());
        if !at.is_multiple_of(8) || !anonymous() {
            return false;
        }
        let (Some(first), Some(second)) = (self.word(at), self.word(at.wrapping_add(8))) else {
            return false;
        };
        let linked = links_in_refcount(self.minor);
        match member {
            // A block that pymalloc has back has its link where the GC head was.
            Member::Object(name) => {
                (linked || first == 0)
                    && self.named(second) == name
                    && (!has_gc_head(name) || self.untracked(at))
            }
            // A dict that grew leaves its keys as they were, with one reference.
            Member::Keys => (linked || first <= 1) && are_kept_keys(self.minor, second),
            Member::Float => first == 0,
            Member::Buffer => true,
        }
    }

    fn untracked(&mut self, at: u64) -> bool {
        let (next, prev) = (self.word(at.wrapping_sub(16)), self.word(at.wrapping_sub(8)));
        matches!((next, prev), (Some(next), Some(prev)) if is_untracked(next, prev))
    }

    fn word(&mut self, at: u64) -> Option<u64> {
        self.pages.word(at).ok().flatten()
    }

    /// What is behind the last dot of a type's name, if that is a type.
    fn named(&mut self, type_object: u64) -> &str {
        const TP_NAME: u64 = 24;
        if !self.names.contains_key(&type_object) {
            // Only what stands where types may be is worth a look, and only some of it.
            if self.names.len() >= 1 << 16 {
                self.names.clear();
            }
            let mut text = [0; 48];
            let pointer = self.word(type_object.wrapping_add(TP_NAME)).filter(|p| *p != 0);
            let read = pointer.is_some_and(|p| self.image.read(p, &mut text).is_ok());
            let name = if read { text.split(|b| *b == 0).next().unwrap_or(&[]) } else { &[] };
            let last = name.rsplit(|b| *b == b'.').next().unwrap_or(&[]);
            self.names.insert(type_object, String::from_utf8_lossy(last).into_owned());
        }
        &self.names[&type_object]
    }

    /// 3.8 and 3.9: heads and arrays are static variables, so every word of the interpreter's data may be
    /// one. An address that is stale leads to a block that pymalloc has back, or to an object in use.
    fn statics(&mut self, runtime: &Runtime) -> FxHashMap<u64, &'static str> {
        let mut found = FxHashMap::default();
        let mut seen = FxHashSet::default();
        // Of what looks like a list of floats, the longest is: other things look like one float.
        let mut floats = Vec::new();
        for (start, bytes) in data_of(self.image, &runtime.module) {
            for at in (0..bytes.len().saturating_sub(7)).step_by(8) {
                let first = u64_at(&bytes, at);
                let inside = (start..start + bytes.len() as u64).contains(&first);
                if !first.is_multiple_of(8) || first == 0 || inside || !seen.insert(first) {
                    continue;
                }
                // With one reference they may be a dict's.
                if self.is(first, Member::Keys) && self.word(first) == Some(0) {
                    found.insert(first, "dict keys");
                } else if let Some((what, link)) = self.on_static_list(first) {
                    let most = if link.is_some() { LONGEST } else { 1 };
                    let all = self.chain(first, link.unwrap_or(0), most, Member::Object(what));
                    found.extend(all.into_iter().map(|member| (member, what)));
                } else if let Some(chain) = self.floats(first, &bytes, at)
                    && chain.len() > floats.len().max(1)
                {
                    floats = chain;
                }
            }
        }
        found.extend(floats.into_iter().map(|at| (at, "float")));
        found
    }

    fn on_static_list(&mut self, at: u64) -> Option<(&'static str, Option<u64>)> {
        if !self.is(at, Member::Buffer) {
            return None;
        }
        let second = self.word(at.wrapping_add(8))?;
        let name = self.named(second);
        STATIC.iter().find(|(what, _)| *what == name).copied()
    }

    /// The chain of floats from `first` on, if the variable beside its head says how long it is.
    fn floats(&mut self, first: u64, bytes: &[u8], head: usize) -> Option<Vec<u64>> {
        let beside = [head.checked_sub(8)?, head.checked_sub(4)?, head + 8, head + 12];
        let counts = beside.map(|at| u32_at(bytes, at)).into_iter();
        counts.filter(|n| (1..=MOST_FLOATS).contains(n)).find_map(|n| {
            let floats = self.chain(first, 8, n, Member::Float);
            (!floats.is_empty()).then_some(floats)
        })
    }
}

/// Tells of a block by itself whether it lies on a free list.
pub(crate) struct Rule {
    minor: u8,
    /// Types that have a free list, by address.
    types: FxHashMap<u64, &'static str>,
}

impl Rule {
    /// The rule for an interpreter. The types are found by their symbols, which no build strips.
    pub(crate) fn new(runtime: &Runtime) -> Rule {
        let minor = runtime.layout.minor;
        let found = runtime.module.dynamic_symbols(TYPES.map(|(symbol, _)| symbol));
        let named = found.into_iter().zip(TYPES.map(|(_, what)| what));
        let types = named
            .filter(|(_, what)| has_free_list(minor, what))
            .filter_map(|(at, what)| Some((at?, what)))
            .collect();
        Rule { minor, types }
    }

    /// Whether the object with these words (from its reference count on, at least two) in a used block
    /// lies on a free list, and as what. `gc` are the two words of its GC head, if its type has one;
    /// `peek` reads two words anywhere.
    ///
    /// - The type is exactly one that has a free list in this version, never a subclass of one.
    /// - It is not tracked: both words of the GC head are zero, save for the bit that says "finalized".
    ///   That tells a listed object from the rest of one in a block that is a buffer now: the buffer's
    ///   owner has written to its beginning, while what is behind may be years old.
    /// - 3.8-3.13: the reference count is zero. An object that is being destroyed just now looks the
    ///   same, and so does a frame that its code object keeps (3.8-3.10): nobody uses these either.
    /// - 3.14+: the count is the address of the next object of the same type, or zero. A reference count
    ///   that is also an address of an object of the same type is not to be expected: the halves of
    ///   an address would have to be the count, the overflow and the flags.
    /// - Floats of 3.8-3.13 have no type: the count is zero and the second word the address of another
    ///   that is the same or the last (two zeros). The last one, where the second word is zero, is not
    ///   claimed: a block that was zeroed looks like it. At most 100 such floats exist per interpreter.
    ///
    /// Keys of dicts have no type and are not claimed.
    pub(crate) fn looks_free_listed(
        &self,
        gc: Option<[u64; 2]>,
        object: &[u64],
        mut peek: impl FnMut(u64) -> Option<[u64; 2]>,
    ) -> Option<&'static str> {
        let &[first, second, ..] = object else { return None };
        if gc.is_some_and(|[next, prev]| !is_untracked(next, prev)) {
            return None;
        }
        let what = self.types.get(&second).copied();
        if links_in_refcount(self.minor) {
            let mut goes_on = |next: u64| peek(next).is_some_and(|words| words[1] == second);
            let listed = first == 0 || first.is_multiple_of(8) && goes_on(first);
            return what.filter(|_| listed);
        }
        if first != 0 {
            return None;
        }
        if what.is_some() || gc.is_some() {
            return what.filter(|w| *w != "float");
        }
        let link = second != 0 && second.is_multiple_of(16);
        let [count, next] = link.then(|| peek(second)).flatten()?;
        let linked = count == 0 && next.is_multiple_of(16);
        (linked && (next == 0 || peek(next)?[0] == 0)).then_some("float")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pydefrag_image::{Mapping, PageRun, Residency, SparseMemory};

    use super::*;

    const BASE: u64 = 0x7f00_0000_0000;
    const SIZE: u64 = 64 << 10;

    fn planted(words: &[u64]) -> Image {
        let end = BASE + SIZE;
        let run = PageRun { start: BASE, end, resident: true, huge: false, shared: false };
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.resize(SIZE as usize, 0);
        let mut memory = SparseMemory::default();
        memory.plant(BASE, bytes);
        let mapping = Mapping { start: BASE, end, ..Default::default() };
        Image::planted(vec![mapping], Residency::from_runs(vec![run]), memory)
    }

    #[test]
    fn a_chain_that_does_not_end_has_no_more_members_than_it_may() {
        // A "float" that is its own next one, and an object buffer that is.
        let image = planted(&[0, BASE, BASE + 16]);
        let mut lists = Lists::new(&image, 12);
        assert!(lists.chain(BASE, 8, 100, Member::Float).is_empty());
        let mut lists = Lists::new(&image, 14);
        assert!(lists.chain(BASE + 16, 0, 100, Member::Buffer).is_empty());
    }

    #[test]
    fn the_rule_wants_what_is_listed_to_be_untracked_and_its_next_of_its_kind() {
        let rule = |minor| Rule {
            minor,
            types: [(0x500, "tuple"), (0x600, "float")].into_iter().collect(),
        };
        let none = |_| None;
        let old = rule(12);
        assert_eq!(old.looks_free_listed(Some([0, 1]), &[0, 0x500], none), Some("tuple"));
        assert_eq!(old.looks_free_listed(Some([0, 1]), &[1, 0x500], none), None);
        assert_eq!(old.looks_free_listed(Some([BASE, 0]), &[0, 0x500], none), None);
        assert_eq!(old.looks_free_listed(None, &[0, 0], none), None);
        let linked = |at| (at == BASE).then_some([0, 0]);
        assert_eq!(old.looks_free_listed(None, &[0, BASE], linked), Some("float"));
        assert_eq!(old.looks_free_listed(None, &[0, BASE], |_| Some([1, 0])), None);
        let new = rule(14);
        let next = |at| (at == BASE).then_some([0, 0x600]);
        assert_eq!(new.looks_free_listed(None, &[BASE, 0x600], next), Some("float"));
        assert_eq!(new.looks_free_listed(None, &[0, 0x600], none), Some("float"));
        assert_eq!(new.looks_free_listed(None, &[3 << 30, 0x600], next), None);
        assert_eq!(new.looks_free_listed(Some([0, 0]), &[BASE, 0x500], next), None);
        assert_eq!(new.looks_free_listed(None, &[], next), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(words in proptest::collection::vec(prop_oneof![
            any::<u64>(), 0u64..200, (0..SIZE).prop_map(|at| BASE + (at & !7))], 0..4096),
            minor in 8u8..16)
        {
            let image = planted(&words);
            let mut lists = Lists::new(&image, minor);
            if let Some(known) = free_lists(minor) {
                for base in known.bases {
                    let _ = lists.at(BASE, known);
                    let _ = lists.of(BASE.wrapping_sub(*base), known);
                }
            }
            for member in [Member::Float, Member::Keys, Member::Buffer, Member::Object("tuple")] {
                prop_assert!(lists.chain(BASE, 24, 100, member).len() <= 100);
            }
        }
    }
}
