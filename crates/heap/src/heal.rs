//! A heal: memory given back inside a process, with what was promised, what came back and what stayed.
//!
//! Owns the shape of `pydefrag fix --json`. Does not own how memory is given back: that is the agent's.

use serde::{Deserialize, Serialize};

use crate::{Change, Ladder, OwnerChange, Process, SCHEMA, Snapshot};

/// How far memory is asked back: the rungs of the ladder that the agent reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealLevel {
    /// malloc's free OS pages.
    Trim,
    /// The same, and what is free in pymalloc.
    #[default]
    Purge,
}

impl HealLevel {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            HealLevel::Trim => "trim",
            HealLevel::Purge => "purge",
        }
    }

    /// What a ladder promises of it.
    pub fn promised(self, ladder: &Ladder) -> Option<u64> {
        match self {
            HealLevel::Trim => ladder.trim,
            HealLevel::Purge => ladder.purge.or(ladder.trim),
        }
    }
}

/// How the agent is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealWay {
    /// It was in the process, and listened.
    Agent,
    /// It was not, and CPython itself loaded it (PEP 768).
    RemoteExec,
}

/// What the agent says of its own work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealWork {
    /// Milliseconds in malloc's own trim.
    pub trim_ms: f64,
    /// Bytes that came back by it, where the agent measured them.
    pub trim_returned: Option<u64>,
    /// Free pools of pymalloc that were parked.
    pub pools_parked: u64,
    /// Bytes of pymalloc's OS pages that were dropped.
    pub bytes_dropped: u64,
    /// Parked pools that the program wanted again, since the agent is in the process.
    pub pools_unparked: u64,
    /// Arenas of pymalloc left alone for a page that a fork shares.
    pub arenas_shared: u64,
    /// The same for a page that is swapped out.
    pub arenas_swapped: u64,
    /// Arenas and pools that did not validate, and were left alone.
    pub invalid: u64,
    /// Slices that the work was done in, each of them holding the GIL.
    pub slices: u64,
    /// The longest of them, in microseconds: the pause that a thread saw at most.
    pub longest_slice_us: f64,
    /// Milliseconds that the GIL was held, all in all.
    pub gil_ms: f64,
    /// Milliseconds from begin to end.
    pub wall_ms: f64,
    /// Milliseconds of processor time.
    pub cpu_ms: f64,
    /// Objects that a collection freed; `None` where none was asked for.
    pub collected: Option<u64>,
    /// Milliseconds that the collection held the GIL; `None` where none was asked for.
    pub collect_ms: Option<f64>,
    /// What was left alone, a sentence each.
    pub skipped: Vec<String>,
}

/// Memory of the process before and after, as the kernel counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealMemory {
    /// Resident.
    pub rss: Change,
    /// Shares of shared pages counted in proportion.
    pub pss: Change,
    /// On transparent huge pages.
    pub anon_huge_pages: Change,
}

/// What of it is still returned some seconds later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Realised {
    /// Seconds after the heal.
    pub seconds: f64,
    /// Resident then.
    pub rss: u64,
    /// Proportional share then.
    pub pss: u64,
    /// RSS before the heal less RSS then: what is still returned. Less than nothing where the program grew.
    pub returned: i64,
    /// Bytes on transparent huge pages that came since the heal: what khugepaged filled in again.
    pub huge_pages_grown: u64,
    /// Minor page faults of the process since the heal.
    pub minor_faults: u64,
}

/// Who keeps free memory from coming back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    /// The owner of the blocks, as `pins.by_owner` names it.
    pub owner: String,
    /// Its blocks on such OS pages.
    pub blocks: u64,
    /// Free bytes that they pin.
    pub pinned: u64,
}

/// What is free in the walked heaps after the heal, and resident all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Wholly free pools.
    pub free_spans: u64,
    /// OS pages without a live byte.
    pub holes: u64,
    /// Free bytes on OS pages that a live block keeps.
    pub pinned_free: u64,
    /// malloc's tops and caches, which serve the next requests.
    pub slack: u64,
    /// Who pins most of it; `None` where objects were not looked at.
    pub keepers: Option<Vec<Keeper>>,
}

/// Most keepers that are listed.
const KEEPERS: usize = 10;

impl Left {
    /// What a snapshot shows; `None` where no heap was walked.
    pub fn of(after: &Snapshot) -> Option<Left> {
        let mut walked = after.owners.iter().filter_map(|o| o.account).peekable();
        walked.peek()?;
        let mut left = Left::default();
        for a in walked {
            left.free_spans += a.free_spans;
            left.holes += a.holes;
            left.pinned_free += a.pinned_free;
            left.slack += a.top + a.cached;
        }
        left.keepers = after.explanation.as_ref().map(|e| {
            let pins = e.pins.by_owner.iter().filter(|p| p.pin.pinned > 0);
            let keeper = |p: &crate::OwnerPin| Keeper {
                owner: p.owner.clone(),
                blocks: p.pin.count,
                pinned: p.pin.pinned,
            };
            pins.take(KEEPERS).map(keeper).collect()
        });
        Some(left)
    }
}

/// A heal of one process, or what one would do. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heal {
    /// Schema of this structure, [`SCHEMA`] when written.
    pub schema: u32,
    /// Name and version of the tool.
    pub tool: String,
    /// When the process was first looked at, in seconds since the Unix epoch.
    pub taken_at: f64,
    /// The process.
    pub process: Process,
    /// What was asked for.
    pub level: HealLevel,
    /// Whether Python's garbage collector was to run first.
    pub collect: bool,
    /// Nothing was done: this is what would be.
    pub dry_run: bool,
    /// How the agent was reached, or would be.
    pub way: HealWay,
    /// Why a heal would be refused; only in a dry run.
    pub would_refuse: Option<String>,
    /// What the ladder said before that the level returns; `None` where no heap was walked.
    pub promised: Option<u64>,
    /// Memory before and after; the same twice in a dry run.
    pub memory: HealMemory,
    /// RSS before less RSS after. Less than nothing where the program grew meanwhile.
    pub returned: i64,
    /// What is still returned some seconds later; `None` if nobody waited for it.
    pub realised: Option<Realised>,
    /// Owners whose resident bytes changed, most changed first.
    pub owners: Vec<OwnerChange>,
    /// The agent's work; `None` in a dry run.
    pub work: Option<HealWork>,
    /// What is still free and resident after it; `None` where no heap was walked.
    pub left: Option<Left>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl Heal {
    /// Of a process that was looked at, before anything is done.
    pub fn planned(before: &Snapshot, level: HealLevel, collect: bool, way: HealWay) -> Heal {
        let same = |bytes| Change { before: bytes, after: bytes };
        let m = before.memory;
        Heal {
            schema: SCHEMA,
            tool: before.tool.clone(),
            taken_at: before.taken_at,
            process: before.process.clone(),
            level,
            collect,
            dry_run: true,
            way,
            would_refuse: None,
            promised: level.promised(&before.ladder),
            memory: HealMemory {
                rss: same(m.rss),
                pss: same(m.pss),
                anon_huge_pages: same(m.anon_huge_pages),
            },
            returned: 0,
            realised: None,
            owners: Vec::new(),
            work: None,
            left: Left::of(before),
            notes: Vec::new(),
        }
    }
}

/// The heals of a program that was run, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Healed {
    /// How often memory was given back.
    pub times: u64,
    /// How often it was asked for and refused, or not answered in time.
    pub refused: u64,
    /// RSS before less RSS after, over all of them; `None` where the agent acted by itself.
    pub returned: Option<i64>,
    /// The longest slice, in microseconds; `None` where the agent acted by itself.
    pub longest_slice_us: Option<f64>,
    /// Milliseconds of the agent's processor time; `None` where it acted by itself.
    pub cpu_ms: Option<f64>,
    /// Parked pools that the program wanted again.
    pub pools_unparked: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_promises_its_rung() {
        let ladder = Ladder { trim: Some(3), purge: Some(9), ..Default::default() };
        assert_eq!(HealLevel::Trim.promised(&ladder), Some(3));
        assert_eq!(HealLevel::Purge.promised(&ladder), Some(9));
        assert_eq!(HealLevel::Purge.promised(&Ladder { purge: None, ..ladder }), Some(3));
        assert_eq!(HealLevel::Purge.promised(&Ladder::default()), None);
    }

    #[test]
    fn what_an_older_agent_does_not_say_is_nothing() {
        let work = HealWork::default();
        assert_eq!((work.pools_parked, work.collected, work.skipped.len()), (0, None, 0));
    }
}
