//! A process and its descendants together, in proportional shares (PSS).
//!
//! Owns the sums over its members. Pages that several members map are counted once, in parts.

use serde::{Deserialize, Serialize};

use crate::{OwnerKind, SCHEMA, Snapshot};

/// One look at a tree of processes. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// Schema of this structure, [`SCHEMA`] when written.
    pub schema: u32,
    /// Name and version of the tool that looked.
    pub tool: String,
    /// When, in seconds since the Unix epoch.
    pub taken_at: f64,
    /// The process at the root.
    pub pid: i32,
    /// Proportional shares of all members: what the tree costs.
    pub pss: u64,
    /// RSS of all members: counts a page once for each member that maps it.
    pub rss: u64,
    /// Proportional shares by owner, over all members, largest first.
    pub owners: Vec<TreeOwner>,
    /// The processes: parents before children.
    pub members: Vec<Member>,
    /// Processes of the tree that could not be looked at, and why.
    pub missing: Vec<Missing>,
}

/// An owner over all members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeOwner {
    /// What sort of thing it is.
    pub kind: OwnerKind,
    /// Proportional shares.
    pub pss: u64,
}

/// One process of the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Steps below the root.
    pub depth: u32,
    /// Its parent within the tree.
    pub parent: i32,
    /// Pages that it alone maps: what would come back if it ended.
    pub alone: u64,
    /// Of `alone`: anonymous pages at addresses where its parent has a page too. Inherited at the
    /// fork, and copied since by it or by its parent writing to them.
    pub copied: u64,
    /// Anonymous pages that it still shares by copy-on-write.
    pub still_shared: u64,
    /// All else.
    pub snapshot: Snapshot,
}

/// A process that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its id.
    pub pid: i32,
    /// Why.
    pub reason: String,
}

impl Tree {
    /// Sums the members up. The first is the root.
    pub fn of(members: Vec<Member>, missing: Vec<Missing>) -> Option<Tree> {
        let root = &members.first()?.snapshot;
        let mut by_kind = std::collections::BTreeMap::<OwnerKind, u64>::new();
        for o in members.iter().flat_map(|m| &m.snapshot.owners) {
            *by_kind.entry(o.kind).or_default() += o.pss;
        }
        let mut owners: Vec<_> =
            by_kind.into_iter().map(|(kind, pss)| TreeOwner { kind, pss }).collect();
        owners.sort_by_key(|o| std::cmp::Reverse(o.pss));
        Some(Tree {
            schema: SCHEMA,
            tool: root.tool.clone(),
            taken_at: root.taken_at,
            pid: root.process.pid,
            pss: members.iter().map(|m| m.snapshot.memory.pss).sum(),
            rss: members.iter().map(|m| m.snapshot.memory.rss).sum(),
            owners,
            members,
            missing,
        })
    }
}
