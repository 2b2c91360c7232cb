//! Structures that would take less, computed from the heap as it is.
//!
//! Owns the arithmetic of each change and what is suggested at all: changes that keep what the program
//! means. Each saving is what the present contents would take in the other form, by CPython's own sizes.

use pydefrag_heap::{OwnerDuplicates, OwnerSlack, Pin, Saving, StructureChange, TypeTotal};
use rustc_hash::FxHashMap;

use super::chain::{Chains, role};
use super::kind::{Kind, Role};
use super::shape::{ShapeId, Step};
use super::types::Sort;

/// Smaller ones are not worth a line.
const LEAST: u64 = 64 << 10;
/// GC head and object head.
const HEAD: u64 = 32;

/// Savings that shapes show: instances without a dict, lists as columns or tuples.
pub(crate) fn savings(
    chains: &Chains<'_>,
    by_shape: &[Pin],
    totals: &[TypeTotal],
    as_tuples: &FxHashMap<ShapeId, u64>,
) -> Vec<Saving> {
    let mut found = slots(chains, by_shape, totals);
    found.extend(lists(chains, by_shape, as_tuples));
    found.retain(|s| s.saved >= LEAST);
    found
}

/// `__slots__` in place of a dict, type by type.
fn slots(chains: &Chains<'_>, by_shape: &[Pin], totals: &[TypeTotal]) -> Vec<Saving> {
    let forms = chains.types.forms;
    let all = chains.types.all();
    // Instances' dicts and what belongs to them, by the number of the type.
    let mut beside: FxHashMap<u32, u64> = FxHashMap::default();
    for (i, pin) in by_shape.iter().enumerate().filter(|(_, p)| p.count > 0) {
        if let Some(id) = instance_of(chains, i as ShapeId) {
            *beside.entry(id).or_default() += pin.bytes;
        }
    }
    let mut found = Vec::new();
    // Types that were met after the sums were made have no objects.
    for (i, (t, total)) in all.iter().zip(totals.iter().skip(1)).enumerate() {
        let id = i as u32 + 1;
        let plain = t.sort == Sort::Plain && t.is_heap() && t.head.itemsize == 0;
        if !plain || !t.has_dict(forms) || total.count == 0 {
            continue;
        }
        let Some(attributes) = chains.attributes(t) else { continue };
        let now = total.bytes + beside.get(&id).copied().unwrap_or(0);
        let each = (HEAD + 8 * attributes).next_multiple_of(16);
        let saved = now.saturating_sub(each * total.count);
        found.push(Saving {
            change: StructureChange::Slots,
            of: t.name.clone(),
            count: total.count,
            now,
            saved,
            how: format!("class {}: __slots__ = (...)  # {attributes} attributes", short(&t.name)),
        });
    }
    found
}

/// The type to whose instances' dict or values a shape belongs.
fn instance_of(chains: &Chains<'_>, id: ShapeId) -> Option<u32> {
    let shapes = &chains.reached.shapes;
    let mut at = id;
    // A table or values, their dict, the instance.
    for _ in 0..3 {
        let shape = shapes.get(at);
        let above = shapes.get(shape.parent);
        let kind = Kind::of_group(above.group);
        let of = chains.reached.type_of_group(above.group)?;
        if shape.parent == 0 || role(above.group) != Role::Object {
            return None;
        }
        let dict = shape.namespace && matches!(shape.step, Step::Slot(_));
        let values = shape.step == Step::Buffer && role(shape.group) == Role::Values;
        if of.sort == Sort::Plain && (dict || values) {
            return Some(kind.id());
        }
        if shape.step != Step::Buffer || of.sort != Sort::Dict {
            return None;
        }
        at = shape.parent;
    }
    None
}

/// Lists of numbers as columns; lists as tuples.
fn lists(
    chains: &Chains<'_>,
    by_shape: &[Pin],
    as_tuples: &FxHashMap<ShapeId, u64>,
) -> Vec<Saving> {
    let shapes = &chains.reached.shapes;
    let of = |group: u32| chains.reached.type_of_group(group);
    let is_items = |id: ShapeId| role(shapes.get(id).group) == Role::Items;
    // Items that are numbers and nothing else, by the shape of the buffer.
    let mut children: FxHashMap<ShapeId, Vec<ShapeId>> = FxHashMap::default();
    // Bytes of item buffers by the shape of their list, and of the tuples that these lists could be.
    let mut buffers: FxHashMap<ShapeId, (u64, u64)> = FxHashMap::default();
    for i in 1..shapes.len() as ShapeId {
        let parent = shapes.get(i).parent;
        if parent != 0 && is_items(parent) {
            children.entry(parent).or_default().push(i);
        }
        if is_items(i) {
            let bytes = by_shape.get(i as usize).map_or(0, |p| p.bytes);
            let of = buffers.entry(parent).or_default();
            of.0 += bytes;
            of.1 += as_tuples.get(&i).copied().unwrap_or(0);
        }
    }
    let mut found = Vec::new();
    for (buffer, items) in children {
        let list = shapes.get(buffer).parent;
        let Some(pin) = by_shape.get(buffer as usize).filter(|p| p.count > 0) else { continue };
        let numbers = items.iter().all(|i| {
            of(shapes.get(*i).group)
                .is_some_and(|t| !t.is_heap() && matches!(t.name.as_str(), "float" | "int"))
        });
        let (count, bytes) = items
            .iter()
            .filter_map(|i| by_shape.get(*i as usize))
            .fold((0, 0), |(count, bytes), p| (count + p.count, bytes + p.bytes));
        // Names are read for what is worth a line only.
        if numbers && count > 0 && bytes >= LEAST {
            found.push(Saving {
                change: StructureChange::Array,
                of: chains.chain(list),
                count,
                now: bytes + pin.bytes,
                // The buffer keeps eight bytes a number; the numbers' own objects go.
                saved: bytes,
                how: "array.array('d' or 'q', ...) or a numpy column".into(),
            });
        }
    }
    for (i, pin) in by_shape.iter().enumerate().filter(|(_, p)| p.count > 1) {
        let (id, shape) = (i as ShapeId, shapes.get(i as ShapeId));
        let list = of(shape.group).is_some_and(|t| t.sort == Sort::List && !t.is_heap());
        if !list || role(shape.group) != Role::Object {
            continue;
        }
        let (items, tuples) = buffers.get(&id).copied().unwrap_or_default();
        // Those without items would all be the one empty tuple.
        let saved = (pin.bytes + items).saturating_sub(tuples);
        if saved < LEAST {
            continue;
        }
        found.push(Saving {
            change: StructureChange::Tuple,
            of: chains.chain(id),
            count: pin.count,
            now: pin.bytes + items,
            saved,
            how: "tuple(...) where they no longer change".into(),
        });
    }
    found
}

/// Equal texts kept once.
pub(crate) fn intern(of: &OwnerDuplicates) -> Saving {
    Saving {
        change: StructureChange::Intern,
        of: of.owner.clone(),
        count: of.copies,
        now: of.bytes,
        saved: of.bytes,
        how: "sys.intern(s), or a dict of those that were met: seen.setdefault(s, s)".into(),
    }
}

/// Dicts that shrank, built anew.
pub(crate) fn rebuild(of: &OwnerSlack) -> Saving {
    Saving {
        change: StructureChange::Rebuild,
        of: of.owner.clone(),
        count: of.containers,
        now: of.bytes,
        saved: of.bytes,
        how: "d = dict(d), once many entries were deleted".into(),
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
