//! A map as columns of bytes, and back: what `.pdsnap` and the HTML report store, each with its own compression.
//!
//! Owns the layout of each column, little-endian throughout; `varint` is LEB128.
//!
//! | column | bytes |
//! |---|---|
//! | `head` | JSON: regions, types, owners, groups |
//! | `pages` | a byte per OS page |
//! | `tiles` | a varint per tile: `bytes << 4 | number of the tile` |
//! | `blocks` | a byte per block, its group; two where there are more than 256 groups |
//! | `slack` | two varints per entry: blocks since the one before, bytes |
//!
//! Invariant: no length in a column is trusted; what does not fit is refused as a whole.

use serde::{Deserialize, Serialize};

use super::varint::{put, take};
use super::{Group, Map, MapOwner, Named, Region, Tiles};

/// A column's name and its bytes.
pub type Column = (&'static str, Vec<u8>);

/// What is stored as JSON.
#[derive(Default, Serialize, Deserialize)]
struct Head {
    regions: Vec<Region>,
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<Vec<String>>,
    #[serde(default)]
    owners: Vec<MapOwner>,
    #[serde(default)]
    groups: Vec<Group>,
}

impl Map {
    /// The columns, `head` first.
    pub fn columns(&self) -> serde_json::Result<Vec<Column>> {
        let named = self.named.as_ref();
        let head = Head {
            regions: self.regions.clone(),
            types: named.map(|n| n.types.clone()),
            owners: named.map(|n| n.owners.clone()).unwrap_or_default(),
            groups: named.map(|n| n.groups.clone()).unwrap_or_default(),
        };
        let mut columns = vec![
            ("head", serde_json::to_vec(&head)?),
            ("pages", self.pages.clone()),
            ("tiles", self.tiles.encoded().to_vec()),
        ];
        if let Some(named) = named {
            let blocks = match named.groups.len() <= 256 {
                true => named.blocks.iter().map(|b| *b as u8).collect(),
                false => named.blocks.iter().flat_map(|b| b.to_le_bytes()).collect(),
            };
            let mut slack = Vec::with_capacity(named.slack.len() * 3);
            let mut before = 0;
            for (block, bytes) in &named.slack {
                put(&mut slack, u128::from(block - before));
                put(&mut slack, u128::from(*bytes));
                before = *block;
            }
            columns.extend([("blocks", blocks), ("slack", slack)]);
        }
        Ok(columns)
    }

    /// The map of these columns; `None` where they make none.
    pub fn of_columns(column: impl Fn(&str) -> Option<Vec<u8>>) -> Option<Map> {
        let head: Head = serde_json::from_slice(&column("head")?).ok()?;
        let tiles = Tiles::of_encoded(column("tiles")?)?;
        let named = match head.types {
            None => None,
            Some(types) => {
                let bytes = column("blocks")?;
                let blocks = match head.groups.len() <= 256 {
                    true => bytes.into_iter().map(u16::from).collect(),
                    false if bytes.len() % 2 == 1 => return None,
                    false => {
                        bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
                    }
                };
                let bytes = column("slack")?;
                let (mut rest, mut at) = (&bytes[..], 0u32);
                let mut slack = Vec::new();
                while !rest.is_empty() {
                    at = at.checked_add(u32::try_from(take(&mut rest)?).ok()?)?;
                    slack.push((at, u32::try_from(take(&mut rest)?).ok()?));
                }
                Some(Named { types, owners: head.owners, groups: head.groups, blocks, slack })
            }
        };
        Some(Map { regions: head.regions, pages: column("pages")?, tiles, named })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Tile;

    pub(crate) fn sample() -> Map {
        let region = |start, pools, tiles, heap: &str| Region {
            start,
            size: 0x4000,
            heap: heap.into(),
            pools,
            tiles,
        };
        Map {
            regions: vec![
                region(0x1000, 0, 3, "malloc main arena"),
                region(0x10_0000, 0, 0, "pymalloc"),
            ],
            pages: vec![3, 1, 0x2b, 4, 0, 0, 0, 0],
            tiles: [(32, Tile::Overhead), (64, Tile::Used), (0x4000 - 96, Tile::Top)]
                .into_iter()
                .collect(),
            named: Some(Named {
                types: vec!["str".into()],
                owners: vec![MapOwner {
                    owner: "m.X -> str".into(),
                    head: "m.X".into(),
                    ..Default::default()
                }],
                groups: vec![Group {
                    of: Some(0),
                    role: "object".into(),
                    owner: Some(0),
                    count: 1,
                    bytes: 56,
                }],
                blocks: vec![0],
                slack: vec![(0, 16)],
            }),
        }
    }

    fn through(map: &Map) -> Option<Map> {
        let columns = map.columns().unwrap();
        Map::of_columns(|name| columns.iter().find(|c| c.0 == name).map(|c| c.1.clone()))
    }

    #[test]
    fn what_is_stored_is_read() {
        let mut map = sample();
        assert_eq!(through(&map).as_ref(), Some(&map));
        assert!(map.fits(&Default::default()));
        let named = map.named.as_mut().unwrap();
        named.groups = vec![named.groups[0].clone(); 300];
        named.blocks = vec![299];
        assert_eq!(through(&map).as_ref(), Some(&map));
        map.named = None;
        assert_eq!(through(&map).as_ref(), Some(&map));
    }

    #[test]
    fn no_pool_lies_beyond_all_addresses() {
        let region = Region { start: u64::MAX - 0xfff, ..Region::default() };
        assert_eq!(region.pool(0, 3 << 30), None);
        assert_eq!(region.pool(1, 0x1000), None);
        assert_eq!(region.pool(0, 0), None);
        assert_eq!(region.pool(0, 0x1000), Some(u64::MAX - 0xfff));
    }

    #[test]
    fn what_does_not_agree_does_not_fit() {
        let change = |change: fn(&mut Map)| {
            let mut map = sample();
            change(&mut map);
            map.fits(&Default::default())
        };
        assert!(change(|_| {}));
        assert!(!change(|m| m.pages.truncate(7)));
        assert!(!change(|m| m.regions[0].size = 0x4001));
        assert!(!change(|m| m.regions[0].size = !0xfff));
        assert!(!change(|m| m.regions[1].start = 0x2000));
        assert!(!change(|m| m.regions[1].pools = 1));
        assert!(!change(
            |m| m.tiles = [(32, Tile::Overhead), (64, Tile::Used)].into_iter().collect()
        ));
        assert!(!change(|m| m.regions[0].tiles = 2));
        assert!(!change(|m| m.tiles.push(16, Tile::Free)));
        assert!(!change(|m| m.named.as_mut().unwrap().blocks.push(0)));
        assert!(!change(|m| m.named.as_mut().unwrap().blocks[0] = 1));
        assert!(!change(|m| m.named.as_mut().unwrap().groups[0].of = Some(1)));
        assert!(!change(|m| m.named.as_mut().unwrap().slack.push((0, 1))));
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_map_or_none(tiles: Vec<u8>, blocks: Vec<u8>, slack: Vec<u8>) {
            let head = sample().columns().unwrap().remove(0).1;
            let map = Map::of_columns(|name| match name {
                "head" => Some(head.clone()),
                "tiles" => Some(tiles.clone()),
                "blocks" => Some(blocks.clone()),
                "slack" => Some(slack.clone()),
                _ => Some(Vec::new()),
            });
            prop_assert!(map.is_none_or(|m| !m.fits(&Default::default())));
        }
    }
}
