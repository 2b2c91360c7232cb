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
    for _ in 0..(asked.blocks as u64).min(count) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        chosen.push(((state >> 33) % count) as Ordinal);
    }
    let mut holders: FxHashMap<Ordinal, Option<(Ordinal, u32)>> =
        chosen.iter().map(|o| (*o, None)).collect();
    if !holders.is_empty() {
        for from in 0..count as Ordinal {
            for edge in edges.of(from) {
                if let Some(holder) = holders.get_mut(&edge.to)
                    && holder.is_none_or(|(old, _)| !better(table, old, from))
                {
                    *holder = Some((from, edge.word));
                }
            }
        }
    }
    let one = |ordinal: &Ordinal| {
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
        Some(Block {
            address,
            size,
            object,
            of: of.map(|t| t.name.clone()),
            role: kind.role().label().into(),
            owner: holder.map(|h| h.0),
            slot: holder.map(|h| h.1),
            sizeof: object
                .zip(of)
                .and_then(|(at, t)| sizeof::sizeof(image, table.types.forms, t, at)),
            tracked: kind.tracked(),
            chain: (shape != 0).then(|| chains.chain(shape)),
        })
    };
    chosen.iter().filter_map(one).collect()
}

/// Whether the first of two holders is an object and the second is not.
fn better(table: &Table<'_>, old: Ordinal, new: Ordinal) -> bool {
    table.kinds.get(old).is_object() || !table.kinds.get(new).is_object()
}
