//! What the blocks of a map are, beside the tables of the same look.
//!
//! Finds the address and the pages of each block from regions, pools and tiles alone.

use std::collections::{BTreeMap, HashMap};

use pydefrag_heap::map::page;
use pydefrag_heap::{Detail, Group, Map, Named, Tile};
use pydefrag_walk::Looked;

use super::map;

const PAGE: u64 = 4096;

/// A live block, as the map has it.
struct Block {
    address: u64,
    size: u64,
    /// A part of it may be left out at its end.
    cut: bool,
}

/// All blocks in order, and for each resident page who has how many bytes of it: which block, bytes.
fn blocks(map: &Map, detail: &Detail) -> (Vec<Block>, Vec<Vec<(usize, u64)>>) {
    let pools: HashMap<u64, _> = detail.pools.iter().map(|p| (p.address, p)).collect();
    let size = u64::from(detail.pool_size);
    let mut blocks: Vec<Block> = Vec::new();
    let mut pages: Vec<Vec<(usize, u64)>> = vec![Vec::new(); map.pages.len()];
    let (mut tiles, mut first) = (map.tiles.iter(), 0);
    for region in &map.regions {
        let mut occupy = |block: usize, mut from: u64, end: u64| {
            while from < end {
                let upto = end.min(from / PAGE * PAGE + PAGE);
                let page = first + ((from - region.start) / PAGE) as usize;
                if map.pages[page] & page::RESIDENT > 0 {
                    pages[page].push((block, upto - from));
                }
                from = upto;
            }
        };
        for n in 0..region.pools {
            let pool = pools[&(region.start.next_multiple_of(size) + u64::from(n) * size)];
            let bytes = 16 * (u64::from(pool.class) + 1);
            for slot in 0..usize::from(pool.carved) {
                let words = detail.bitmap(pool);
                if words.get(slot / 64).is_some_and(|w| w >> (slot % 64) & 1 == 1) {
                    let address = pool.address + 48 + slot as u64 * bytes;
                    occupy(blocks.len(), address, address + bytes);
                    blocks.push(Block { address, size: bytes, cut: false });
                }
            }
        }
        let mut at = region.start;
        for (bytes, tile) in tiles.by_ref().take(region.tiles as usize) {
            let end = at + bytes;
            match tile {
                Tile::Used | Tile::Mapped => {
                    let address = at + if tile == Tile::Used { 8 } else { 16 };
                    // With one word of header, whatever the chunk.
                    occupy(blocks.len(), address - 8, end);
                    let cut = end == region.end();
                    blocks.push(Block { address, size: end.saturating_sub(address), cut });
                }
                Tile::Rest => {
                    let block = blocks.last_mut().expect("a rest has a beginning");
                    block.size = end - block.address;
                    occupy(blocks.len() - 1, at, end);
                }
                _ => {}
            }
            at = end;
        }
        first += (region.size / PAGE) as usize;
    }
    (blocks, pages)
}

/// What `pins.by_type` calls a group's type.
fn type_name(named: &Named, group: &Group) -> String {
    match group.of {
        None => group.role.clone(),
        Some(i) if group.role == "object" => named.types[i as usize].clone(),
        Some(i) => format!("{} ({})", named.types[i as usize], group.role),
    }
}

/// Groups, pins and room of the map are those of the tables.
pub(super) fn is_named(looked: &Looked, what: &str) {
    let map = map(looked);
    let Some(said) = &looked.snapshot.explanation else { return assert_eq!(map.named, None) };
    let named = map.named.as_ref().unwrap_or_else(|| panic!("{what}: no names"));
    let (blocks, pages) = blocks(map, &looked.detail);
    assert_eq!(blocks.len(), named.blocks.len(), "{what}");
    assert!(blocks.windows(2).all(|w| w[0].address < w[1].address), "{what}: their order");

    let mut counted = vec![(0u64, 0u64, false); named.groups.len()];
    for (block, group) in blocks.iter().zip(&named.blocks) {
        let (count, bytes, cut) = &mut counted[usize::from(*group)];
        *count += 1;
        *bytes += block.size;
        *cut |= block.cut;
    }
    for (group, (count, bytes, cut)) in named.groups.iter().zip(counted) {
        assert_eq!(group.count, count, "{what}: {group:?}");
        assert!(group.bytes == bytes || cut && group.bytes > bytes, "{what}: {bytes} {group:?}");
    }
    let sum = |of: fn(&Group) -> u64| named.groups.iter().map(of).sum::<u64>();
    assert_eq!(sum(|g| g.count), said.objects.all.count, "{what}");
    assert_eq!(sum(|g| g.bytes), said.objects.all.bytes, "{what}");

    // All types have a name here, so each row of the table is there whole.
    for row in &said.objects.types {
        let of = |g: &&Group| g.of.is_some_and(|i| named.types[i as usize] == row.name);
        let of_type = || named.groups.iter().filter(of);
        let objects = || of_type().filter(|g| g.role == "object");
        assert_eq!(objects().map(|g| g.count).sum::<u64>(), row.count, "{what}: {row:?}");
        assert_eq!(objects().map(|g| g.bytes).sum::<u64>(), row.bytes, "{what}: {row:?}");
        let buffers = of_type().filter(|g| g.role != "object" && g.role != "free_listed");
        assert_eq!(buffers.map(|g| g.bytes).sum::<u64>(), row.buffers, "{what}: {row:?}");
    }
    pins_are_equal(looked, named, &pages, what);
    room_is_equal(looked, named, &blocks, what);
    let at: HashMap<u64, usize> = blocks.iter().enumerate().map(|(i, b)| (b.address, i)).collect();
    assert!(said.blocks.len() > 100, "{what}");
    for listed in &said.blocks {
        let block = at[&listed.address];
        let group = &named.groups[usize::from(named.blocks[block])];
        assert!(blocks[block].size == listed.size || blocks[block].cut, "{what}: {listed:?}");
        assert_eq!(group.role, listed.role, "{what}: {listed:?}");
        let name = group.of.map(|i| &named.types[i as usize]);
        assert_eq!(name, listed.of.as_ref(), "{what}: {listed:?}");
        // Its chain begins with its owner's head.
        let (Some(chain), Some(owner)) = (&listed.chain, group.owner) else { continue };
        let owner = &named.owners[owner as usize];
        let root = |text: &str| text.split(['.', '[', ' ']).next().map(str::to_owned);
        assert_eq!(root(chain), root(&owner.head), "{what}: {listed:?} {owner:?}");
    }
}

fn pins_are_equal(looked: &Looked, named: &Named, pages: &[Vec<(usize, u64)>], what: &str) {
    let pins = &looked.snapshot.explanation.as_ref().expect("an explanation").pins;
    let mut by_group = vec![0f64; named.groups.len()];
    for page in pages.iter() {
        for (block, own) in page {
            let cost = PAGE as f64 / page.len() as f64 - *own as f64;
            by_group[usize::from(named.blocks[*block])] += cost;
        }
    }
    let (mut by_owner, mut by_type) = (BTreeMap::new(), BTreeMap::new());
    for (group, cost) in named.groups.iter().zip(by_group) {
        let owner = group.owner.map(|i| named.owners[i as usize].clone());
        *by_owner.entry(owner.map(|o| (o.owner, o.head))).or_default() += cost;
        *by_type.entry(type_name(named, group)).or_default() += cost;
    }
    let total: f64 = by_type.values().sum();
    assert!((total.max(0.0) - pins.pinned as f64).abs() < 2.0, "{what}: {total} {}", pins.pinned);
    for row in &pins.by_owner {
        let of = |g: &&Group| {
            let owner = g.owner.map(|i| &named.owners[i as usize]);
            owner.is_some_and(|o| (&o.owner, &o.head, o.root) == (&row.owner, &row.head, row.root))
        };
        let groups = || named.groups.iter().filter(of);
        assert_eq!(groups().map(|g| g.count).sum::<u64>(), row.pin.count, "{what}: {row:?}");
        assert_eq!(groups().map(|g| g.bytes).sum::<u64>(), row.pin.bytes, "{what}: {row:?}");
        let cost: f64 = by_owner[&Some((row.owner.clone(), row.head.clone()))];
        let said = row.pin.pinned as f64;
        assert!((cost.max(0.0) - said).abs() <= 1.0, "{what}: {cost} {row:?}");
    }
    for row in &pins.by_type {
        let cost: f64 = by_type[&row.name];
        let said = row.pin.pinned as f64;
        assert!((cost.max(0.0) - said).abs() <= 1.0, "{what}: {cost} {row:?}");
    }
}

fn room_is_equal(looked: &Looked, named: &Named, blocks: &[Block], what: &str) {
    let slack = &looked.snapshot.explanation.as_ref().expect("an explanation").slack;
    let kinds = [&slack.dict, &slack.list, &slack.set, &slack.bytearray, &slack.str_utf8];
    let said: u64 = kinds.iter().map(|s| s.bytes).sum();
    let room: u64 = named.slack.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
    // Told in whole words.
    let words = 8 * (slack.bytearray.containers + slack.str_utf8.containers);
    assert!((said..=said + words).contains(&room), "{what}: {room} {slack:?}");
    for (block, bytes) in &named.slack {
        let (of, group) = (&blocks[*block as usize], named.blocks[*block as usize]);
        let group = &named.groups[usize::from(group)];
        assert!(u64::from(*bytes) <= of.size || of.cut, "{what}: {bytes} in {} {group:?}", of.size);
        let buffer = ["items", "keys", "table", "data"].contains(&group.role.as_str());
        let bytes = group.of.is_some_and(|i| named.types[i as usize] == "bytes");
        assert!(buffer || bytes, "{what}: {bytes} in {group:?}");
    }
}
