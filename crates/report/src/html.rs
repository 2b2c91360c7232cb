//! The report as one HTML file: the heap as a picture, and everything of `--json` around it.
//!
//! Owns the page: its assets, its security policy and how data is laid into it. What is drawn from the data, and
//! how, is the scripts' in `html/assets`. The file loads nothing, from nowhere: scripts and style stand in it and are
//! allowed by their hashes alone, and data stands in islands that no browser runs.
//!
//! # The file
//!
//! - the island `facts`, JSON: `kind` (`snapshot`, `diff` or `tree`), `looks` (each with `title`, its `snapshot` as in
//!   `--json`, `map`: the `head` column of [`pydefrag_heap::map`] or null, `pool_size`), `diff` or `tree` as in `--json`
//!   (the tree's members without their snapshots, which are the looks, in the same order);
//! - for each look with a map, islands `look0-pages`, `look0-tiles`, `look0-blocks`, `look0-slack` (as in
//!   [`pydefrag_heap::map`]) and `look0-pools`, `look0-live`: raw deflate, in base64.
//!   `pools` has 3 bytes a pool: `state << 6 | class`, and the number of carved blocks, 16 bits. `live` has the
//!   live bitmaps of pools in use, `ceil(carved / 64)` words of 64 bits each.
//!
//! Of a recording's page the islands are described in `html/recorded.rs`.
//!
//! # Invariants
//!
//! Text of the target's is data, never markup: in islands `<` is escaped, and scripts put it on the page as text only.

mod island;
mod page;
mod recorded;

use pydefrag_heap::{Detail, Diff, PoolState, Recording, Snapshot, Tree};
use serde::Serialize;
use serde_json::Value;

use island::Islands;

/// One look of a page: what `--json` shows, and the heap behind it.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The account.
    pub snapshot: &'a Snapshot,
    /// The heap; its map is drawn if it has one.
    pub detail: &'a Detail,
}

/// The page of one snapshot, of `run` too.
pub fn snapshot(look: Look<'_>) -> String {
    let title = format!("pydefrag: process {}", look.snapshot.process.pid);
    render("snapshot", &title, &[look], None, None)
}

/// The page of a difference: both heaps on one scale.
pub fn diff(diff: &Diff, before: Look<'_>, after: Look<'_>) -> String {
    render("diff", "pydefrag: two looks", &[before, after], Some(diff), None)
}

/// The page of a process and its descendants; `details` in the order of its members.
pub fn tree(tree: &Tree, details: &[Detail]) -> String {
    let title = format!("pydefrag: process {} and its descendants", tree.pid);
    let snapshots = tree.members.iter().map(|m| &m.snapshot);
    let looks: Vec<_> =
        snapshots.zip(details).map(|(snapshot, detail)| Look { snapshot, detail }).collect();
    render("tree", &title, &looks, None, Some(tree))
}

/// The page of a recording.
pub fn recording(recording: &Recording) -> String {
    recorded::page(recording)
}

/// What the page's scripts begin with.
#[derive(Serialize)]
struct Facts<'a> {
    kind: &'a str,
    looks: Vec<LookFacts<'a>>,
    diff: Option<&'a Diff>,
    tree: Option<Value>,
}

#[derive(Serialize)]
struct LookFacts<'a> {
    title: String,
    snapshot: &'a Snapshot,
    pool_size: u32,
    map: Option<Value>,
}

fn render(
    kind: &str,
    title: &str,
    looks: &[Look<'_>],
    diff: Option<&Diff>,
    tree: Option<&Tree>,
) -> String {
    let mut islands = Islands::default();
    let mut facts = Facts { kind, looks: Vec::new(), diff, tree: tree.map(without_snapshots) };
    for (i, look) in looks.iter().enumerate() {
        let map = lay_out(look, i, &mut islands);
        facts.looks.push(LookFacts {
            title: title_of(kind, i, look.snapshot),
            snapshot: look.snapshot,
            pool_size: look.detail.pool_size,
            map,
        });
    }
    page::page(&page::LOOKS, title, &islands.json("facts", &facts), &islands.finish())
}

fn title_of(kind: &str, i: usize, snapshot: &Snapshot) -> String {
    match (kind, i) {
        ("diff", 0) => "before".into(),
        ("diff", _) => "after".into(),
        _ => format!("process {}", snapshot.process.pid),
    }
}

/// Lays a look's columns into islands; its map's head, if it has a map.
fn lay_out(look: &Look<'_>, i: usize, islands: &mut Islands) -> Option<Value> {
    let map = look.detail.map.as_deref()?;
    let pools = map.pools(look.detail)?;
    let mut head = None;
    // Fails only for maps whose keys are not strings, and there are none.
    for (name, bytes) in map.columns().ok()? {
        match name {
            "head" => head = serde_json::from_slice(&bytes).ok(),
            _ => islands.column(format!("look{i}-{name}"), bytes),
        }
    }
    let (mut records, mut live) = (Vec::with_capacity(3 * pools.len()), Vec::new());
    for pool in pools {
        records.push((pool.state as u8) << 6 | pool.class & 63);
        records.extend(pool.carved.to_le_bytes());
        if pool.state == PoolState::Used {
            live.extend(look.detail.bitmap(pool).iter().flat_map(|w| w.to_le_bytes()));
        }
    }
    islands.column(format!("look{i}-pools"), records);
    islands.column(format!("look{i}-live"), live);
    head
}

/// The members' snapshots are the page's looks.
fn without_snapshots(tree: &Tree) -> Value {
    let mut value = serde_json::to_value(tree).unwrap_or_default();
    let members = value.get_mut("members").and_then(Value::as_array_mut);
    for member in members.into_iter().flatten().filter_map(Value::as_object_mut) {
        member.remove("snapshot");
    }
    value
}
