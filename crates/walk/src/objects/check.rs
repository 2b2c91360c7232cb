//! Single blocks and what they were taken for, so that others can check it.
//!
//! Owns the choice of blocks and the search for who refers to them. Nothing else uses this.

use pydefrag_heap::Block;
use pydefrag_image::Image;
use rustc_hash::FxHashMap;

use super::blocks::Ordinal;
use super::chain::Chains;
use super::classify::Table;
use super::edges::Edges;
use super::explain::Asked;
use super::kind::Role;
use super::reach::Reached;
use super::sizeof;

/// Lists the blocks that were asked for.
pub(crate) fn blocks(
    image: &Image,
    table: &Table<'_>,
    edges: &Edges,
    reached: &Reached<'_>,
    chains: &Chains<'_>,
    asked: &Asked<'_>,
) -> Vec<Block> {
    let count = table.kinds.len() as u64;
    let mut chosen: Vec<Ordinal> = Vec::new();
    for at in asked.at {
        chosen.extend(table.blocks.find(*at).map(|f| f.ordinal));
    }
    // Any order will do that prefers no block, and is the same each time.
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ count;
    let wanted = (asked.blocks as u64).min(count) as usize;
    let mut drawn = rustc_hash::FxHashSet::default();
    while drawn.len() < wanted {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let ordinal = ((state >> 33) % count) as Ordinal;
        if drawn.insert(ordinal) {
            chosen.push(ordinal);
        }
    }
    let mut holders: FxHashMap<Ordinal, Option<(Ordinal, u32)>> =
        chosen.iter().map(|o| (*o, None)).collect();
    if !holders.is_empty() {
        for from in 0..count as Ordinal {
            for edge in edges.of(from) {
                if let Some(holder) = holders.get_mut(&edge.to)
                    && holder.is_none_or(|(old, _)| !better(table, edge.to, old, from))
                {
                    *holder = Some((from, edge.word));
                }
            }
        }
    }
    // By type: whether its size is told by a rule that is known.
    let mut ruled: FxHashMap<u64, bool> = FxHashMap::default();
    let mut one = |ordinal: &Ordinal| {
        let (address, size) = table.blocks.block(*ordinal)?;
        let kind = table.kinds.get(*ordinal);
        let object = (kind.is_object() || kind.role() == Role::FreeListed)
            .then_some(address + table.front() + kind.before());
        let holder = holders[ordinal].and_then(|(from, word)| {
            let (start, _) = table.blocks.block(from)?;
            let kind = table.kinds.get(from);
            let object = if kind.is_object() { table.front() + kind.before() } else { 0 };
            Some((start + object, start + 8 * u64::from(word)))
        });
        let of = reached.type_of(kind);
        let shape = reached.of[*ordinal as usize];
        let known = of.filter(|t| {
            let of = || sizeof::is_known(image, table.types, t);
            *ruled.entry(t.address).or_insert_with(of)
        });
        Some(Block {
            address,
            size,
            object,
            of: of.map(|t| t.name.clone()),
            role: kind.role().label().into(),
            owner: holder.map(|h| h.0),
            slot: holder.map(|h| h.1),
            sizeof: object
                .zip(known)
                .and_then(|(at, t)| sizeof::sizeof(image, table.types.forms, t, at)),
            tracked: kind.tracked(),
            chain: (shape != 0).then(|| chains.chain(shape)),
        })
    };
    chosen.iter().filter_map(&mut one).collect()
}

/// Whether the first of two holders says more: the container whose buffer it is, before any other object,
/// before a buffer.
fn better(table: &Table<'_>, of: Ordinal, old: Ordinal, new: Ordinal) -> bool {
    let rank = |holder: Ordinal| {
        let (kind, of) = (table.kinds.get(holder), table.kinds.get(of));
        match kind.is_object() {
            true if !of.is_object() && kind.id() == of.id() => 2,
            true => 1,
            false => 0,
        }
    };
    rank(old) >= rank(new)
}
