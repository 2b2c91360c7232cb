//! What each live block of the map is: its type, its role and who owns it, as a number per block.
//!
//! Owns the numbering: which types and owners have names, which combinations of them are told apart, and
//! the order of the blocks, which is the map's. Does not own the texts: they are those of the tables.
//!
//! Invariant: two looks at the same heap give the same numbers.

use std::cmp::Reverse;

use pydefrag_heap::{Amount, Group, Map, MapOwner, Named, Pin};
use rustc_hash::FxHashMap;

use super::blocks::{Blocks, Ordinal};
use super::kind::{Kind, Role};
use super::shape::ShapeId;
use super::slack::{Sort, of_record};
use super::tables::{Tables, type_of_group};
use super::types::Sort as TypeSort;

/// Types that have names. Beyond, they are next to nothing.
const MOST_TYPES: usize = 2048;
/// Combinations that are told apart.
const MOST_GROUPS: usize = 4096;

/// What is known of a block: the index of its type's name and of its owner, each with one more for "none",
/// and its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    of: u16,
    owner: u16,
    role: Role,
}

/// No type, no owner.
const NONE: u16 = u16::MAX;

/// Owners as the table of pins tells them apart: by where chains begin.
#[derive(Default)]
pub(crate) struct Owners {
    pub(crate) named: Vec<Owner>,
    /// By head of a shape: index among them.
    pub(crate) of_head: FxHashMap<u32, u16>,
}

/// The blocks behind all heads of one name.
pub(crate) struct Owner {
    pub(crate) head: String,
    /// The shape that pins most of them, whose chain is told.
    pub(crate) shape: ShapeId,
}

/// Names the blocks of a map. `by_type`: pins by type and role; `heads`: the head of each shape; `slack`: its
/// records.
pub(crate) fn named(
    tables: &Tables<'_>,
    map: &Map,
    owners: Owners,
    by_type: &[Pin],
    heads: &[u32],
    slack: &[u64],
) -> Named {
    let (types, of_type) = types(tables, by_type);
    let of_shape: Vec<u16> =
        heads.iter().map(|h| owners.of_head.get(h).copied().unwrap_or(NONE)).collect();
    let blocks = tables.table.blocks;
    let key = |ordinal: Option<Ordinal>| {
        let Some(ordinal) = ordinal else {
            return Key { of: NONE, owner: NONE, role: Role::Unknown };
        };
        let kind = tables.table.kinds.get(ordinal);
        let shape = tables.reached.of[ordinal as usize] as usize;
        Key { of: of_type[kind.id() as usize], owner: of_shape[shape], role: kind.role() }
    };
    let mut sums: FxHashMap<Key, Amount> = FxHashMap::default();
    // Neighbours are mostly alike.
    let mut last = (key(None), Amount::default());
    each(map, blocks, |ordinal, bytes| {
        let key = key(ordinal);
        if key != last.0 {
            add(&mut sums, last);
            last = (key, Amount::default());
        }
        last.1.add(bytes);
    });
    add(&mut sums, last);
    let (groups, numbers) = groups(sums);
    let mut of_block = Vec::with_capacity(groups.iter().map(|g| g.count as usize).sum());
    let mut runs = Runs::default();
    let mut last = (key(None), 0);
    each(map, blocks, |ordinal, _| {
        let key = key(ordinal);
        if key != last.0 || of_block.is_empty() {
            last = (key, numbers[&key]);
        }
        runs.add(ordinal, of_block.len() as u32);
        of_block.push(last.1);
    });
    runs.finish();
    let slack = room(tables, slack, &runs);
    let owners = owners.named.into_iter().map(|o| MapOwner {
        owner: tables.owner(o.shape),
        root: tables.reached.shapes.get(o.shape).root,
        head: o.head,
    });
    Named { types, owners: owners.collect(), groups, blocks: of_block, slack }
}

fn add(sums: &mut FxHashMap<Key, Amount>, (key, more): (Key, Amount)) {
    if more.count > 0 {
        let sum = sums.entry(key).or_default();
        sum.count += more.count;
        sum.bytes += more.bytes;
    }
}

/// Calls back with each block of a map, in its order: number, where it has one, and bytes.
fn each(map: &Map, blocks: &Blocks<'_>, mut each: impl FnMut(Option<Ordinal>, u64)) {
    let (mut pools, mut chunks) = (blocks.pools.iter().peekable(), 0);
    let mut tiles = map.tiles.iter();
    for region in &map.regions {
        while let Some(pool) = pools.next_if(|p| region.tiles == 0 && p.address < region.end()) {
            for (ordinal, _) in blocks.live(pool) {
                each(Some(ordinal), u64::from(pool.size));
            }
        }
        let mut at = region.start;
        for (bytes, tile) in tiles.by_ref().take(region.tiles as usize) {
            if tile.is_block() {
                let address = at + tile.header();
                chunks +=
                    blocks.chunks[chunks..].iter().take_while(|c| c.address < address).count();
                // One that overlapped another has no number.
                let chunk = blocks.chunks.get(chunks).filter(|c| c.address == address);
                let ordinal = chunk.map(|_| blocks.first_chunk + chunks as u32);
                each(ordinal, chunk.map_or(bytes.saturating_sub(tile.header()), |c| c.size));
            }
            at += bytes;
        }
    }
}

/// The names of types, those with most bytes first, and the index among them by number of a type.
fn types(tables: &Tables<'_>, by_type: &[Pin]) -> (Vec<String>, Vec<u16>) {
    let all = tables.table.types.all();
    let mut bytes = vec![0u64; all.len() + 1];
    for (group, pin) in by_type.iter().enumerate() {
        bytes[type_of_group(group as u32) as usize] += pin.bytes;
    }
    // Types of one name are one: a class may have been defined anew.
    let mut by_name: FxHashMap<&str, u64> = FxHashMap::default();
    for (of, bytes) in all.iter().zip(&bytes[1..]).filter(|(_, bytes)| **bytes > 0) {
        *by_name.entry(&of.name).or_default() += bytes;
    }
    let mut names: Vec<_> = by_name.into_iter().collect();
    names.sort_unstable_by_key(|(name, bytes)| (Reverse(*bytes), *name));
    names.truncate(MOST_TYPES);
    let index: FxHashMap<&str, u16> =
        names.iter().enumerate().map(|(i, (name, _))| (*name, i as u16)).collect();
    let of = |name: &str| index.get(name).copied().unwrap_or(NONE);
    let of_type = [NONE].into_iter().chain(all.iter().map(|t| of(&t.name))).collect();
    (names.iter().map(|(name, _)| (*name).to_owned()).collect(), of_type)
}

/// The groups, largest first, and the number of each key: what is one too many is told by its role alone,
/// in groups at the end.
fn groups(sums: FxHashMap<Key, Amount>) -> (Vec<Group>, FxHashMap<Key, u16>) {
    let alone = |k: &Key| k.of == NONE && k.owner == NONE;
    let most = MOST_GROUPS - Role::COUNT;
    let mut keys: Vec<_> = sums.into_iter().collect();
    keys.sort_unstable_by_key(|(k, sum)| (alone(k), Reverse(sum.bytes), *k));
    let mut groups: Vec<Group> = Vec::new();
    let mut numbers = FxHashMap::default();
    let mut by_role: FxHashMap<Role, u16> = FxHashMap::default();
    for (key, sum) in keys {
        let known = |i: u16| (i != NONE).then_some(u32::from(i));
        let number = match groups.len() < most && !alone(&key) {
            true => {
                let (of, owner, role) = (known(key.of), known(key.owner), key.role.label().into());
                groups.push(Group { of, role, owner, ..Group::default() });
                groups.len() as u16 - 1
            }
            false => *by_role.entry(key.role).or_insert_with(|| {
                groups.push(Group { role: key.role.label().into(), ..Group::default() });
                groups.len() as u16 - 1
            }),
        };
        groups[usize::from(number)].count += sum.count;
        groups[usize::from(number)].bytes += sum.bytes;
        numbers.insert(key, number);
    }
    (groups, numbers)
}

/// Where the numbers of blocks lie in the map's order: runs of first number, first index, length.
#[derive(Default)]
struct Runs(Vec<(Ordinal, u32, u32)>);

impl Runs {
    fn add(&mut self, ordinal: Option<Ordinal>, index: u32) {
        let Some(ordinal) = ordinal else { return };
        match self.0.last_mut() {
            Some((first, at, n)) if *first + *n == ordinal && *at + *n == index => *n += 1,
            _ => self.0.push((ordinal, index, 1)),
        }
    }

    fn finish(&mut self) {
        self.0.sort_unstable();
    }

    fn index(&self, ordinal: Ordinal) -> Option<u32> {
        let i = self.0.partition_point(|r| r.0 <= ordinal).checked_sub(1)?;
        let (first, at, n) = self.0[i];
        (ordinal - first < n).then_some(at + (ordinal - first))
    }
}

/// Room to spare, by index of the block that has it.
fn room(tables: &Tables<'_>, records: &[u64], runs: &Runs) -> Vec<(u32, u32)> {
    let mut room: Vec<(u32, u64)> = Vec::with_capacity(records.len());
    for record in records {
        let (container, sort, bytes) = of_record(*record);
        let holder = holder(tables, container, sort).unwrap_or(container);
        room.extend(runs.index(holder).map(|index| (index, bytes)));
    }
    room.sort_unstable();
    let mut summed: Vec<(u32, u32)> = Vec::with_capacity(room.len());
    for (index, bytes) in room {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match summed.last_mut() {
            Some((last, sum)) if *last == index => *sum = sum.saturating_add(bytes),
            _ => summed.push((index, bytes)),
        }
    }
    summed
}

/// The block that a container's room lies in, where it is one and another than the container; a dict's record
/// is of its table already.
fn holder(tables: &Tables<'_>, container: Ordinal, sort: usize) -> Option<Ordinal> {
    let kinds = &tables.table.kinds;
    let own = kinds.get(container);
    let role = match sort {
        s if s == Sort::List as usize => Role::Items,
        s if s == Sort::Set as usize => Role::Table,
        s if s == Sort::ByteArray as usize || s == Sort::StrUtf8 as usize => Role::Data,
        _ => return None,
    };
    // A bytearray's bytes are an object of their own from 3.15 on.
    let bytes = |k: Kind| {
        sort == Sort::ByteArray as usize
            && k.is_object()
            && tables.reached.type_of(k).is_some_and(|t| t.sort == TypeSort::Bytes)
    };
    let holds = |k: Kind| k.role() == role && k.id() == own.id() || bytes(k);
    let mut found =
        tables.reached.edges.of(container).map(|e| e.to).filter(|o| holds(kinds.get(*o)));
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: u16, owner: u16) -> Key {
        Key { of, owner, role: Role::Object }
    }

    #[test]
    fn what_is_one_group_too_many_is_told_by_its_role() {
        let amount = |n: u64| Amount { count: n, bytes: 16 * n };
        let mut sums: FxHashMap<Key, Amount> = FxHashMap::default();
        for of in 0..100 {
            for owner in 0..50 {
                let n = u64::from(of) * 50 + u64::from(owner) + 1;
                sums.insert(key(of, owner), amount(n));
            }
        }
        sums.insert(key(NONE, NONE), amount(1 << 40));
        let total: u64 = sums.values().map(|a| a.bytes).sum();
        let (all, numbers) = groups(sums.clone());
        assert_eq!(all.len(), MOST_GROUPS - Role::COUNT + 1);
        assert_eq!(all.iter().map(|g| g.bytes).sum::<u64>(), total);
        let last = &all[all.len() - 1];
        assert_eq!((last.of, last.owner, &last.role[..]), (None, None, "object"));
        assert_eq!(numbers[&key(99, 49)], 0);
        assert_eq!((all[0].of, all[0].owner, all[0].count), (Some(99), Some(49), 5000));
        assert_eq!(usize::from(numbers[&key(0, 0)]), all.len() - 1);
        assert_eq!(usize::from(numbers[&key(NONE, NONE)]), all.len() - 1);
        // 5000 are there, 4085 are told apart: the least of them has 916 blocks.
        assert!(all[..all.len() - 1].windows(2).all(|w| w[0].bytes >= w[1].bytes));
        assert_eq!(all[all.len() - 2].count, 916);
    }

    #[test]
    fn numbers_are_found_where_they_lie() {
        let mut runs = Runs::default();
        let order = [Some(7), Some(8), None, Some(0), Some(1), Some(2), Some(9), Some(4)];
        for (index, ordinal) in order.iter().enumerate() {
            runs.add(*ordinal, index as u32);
        }
        runs.finish();
        for ordinal in 0..12 {
            let expected = order.iter().position(|o| *o == Some(ordinal)).map(|i| i as u32);
            assert_eq!(runs.index(ordinal), expected, "{ordinal}");
        }
    }
}
