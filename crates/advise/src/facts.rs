//! What verdicts are made of: the heaps of a snapshot summed up, and what is outside them.
//!
//! Owns which owners count as heaps. A heap is *walked* when it has an account.

use pydefrag_heap::{Owner, OwnerKind, OwnerSlack, RootKind, Snapshot};

use crate::thresholds::{FREE_SHARE, LEAST_BYTES, PIN_SHARE};
use crate::words::{grouped, percent, share, short};

/// The walked heaps together. Bytes, all resident.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heaps {
    pub(crate) resident: u64,
    pub(crate) live: u64,
    pub(crate) free: u64,
}

impl Heaps {
    /// Sums the walked heaps of a snapshot; `None` when there is none.
    pub(crate) fn of(snapshot: &Snapshot) -> Option<Heaps> {
        let walked = snapshot.owners.iter().filter_map(|o| Some((o.resident, o.account?)));
        walked.fold(None, |sum: Option<Heaps>, (resident, a)| {
            let sum = sum.unwrap_or_default();
            Some(Heaps {
                resident: sum.resident.saturating_add(resident),
                live: sum.live.saturating_add(a.live).saturating_add(a.rounding.unwrap_or(0)),
                free: sum.free.saturating_add(a.free()),
            })
        })
    }

    /// So much of them is free that they count as fragmented.
    pub(crate) fn fragmented(&self) -> bool {
        self.free >= LEAST_BYTES && share(self.free, self.resident) >= FREE_SHARE
    }
}

/// The heaps of Python and of the process's malloc, whichever that is.
pub(crate) fn is_heap(kind: OwnerKind) -> bool {
    use OwnerKind::{Jemalloc, Malloc, Mimalloc, Pymalloc, Tcmalloc};
    matches!(kind, Pymalloc | Malloc | Mimalloc | Jemalloc | Tcmalloc)
}

/// Resident bytes of heaps that were not walked, and the largest of them.
pub(crate) fn unwalked(snapshot: &Snapshot) -> Option<(u64, &Owner)> {
    let all = || snapshot.owners.iter().filter(|o| is_heap(o.kind) && o.account.is_none());
    let largest = all().max_by_key(|o| o.resident)?;
    Some((all().fold(0, |sum: u64, o| sum.saturating_add(o.resident)), largest))
}

/// Resident bytes outside all heaps, and the largest owner among them.
pub(crate) fn outside(snapshot: &Snapshot) -> (u64, Option<&Owner>) {
    let heaps = snapshot.owners.iter().filter(|o| is_heap(o.kind));
    let inside = heaps.fold(0, |sum: u64, o| sum.saturating_add(o.resident));
    let others = snapshot.owners.iter().filter(|o| !is_heap(o.kind));
    (snapshot.memory.rss.saturating_sub(inside), others.max_by_key(|o| o.resident))
}

/// Where the free bytes are, in words: the owner that has most of them, or the first two.
pub(crate) fn mostly_in(snapshot: &Snapshot) -> String {
    let mut by_free: Vec<(u64, &str)> = snapshot
        .owners
        .iter()
        .filter_map(|o| Some((o.account?.free(), o.name.as_str())))
        .filter(|(free, _)| *free > 0)
        .collect();
    by_free.sort_by_key(|(free, name)| (std::cmp::Reverse(*free), *name));
    let all = by_free.iter().fold(0, |sum: u64, (free, _)| sum.saturating_add(*free));
    match by_free[..] {
        [] => String::new(),
        [(_, only)] => format!(", all in {only}"),
        [(most, name), ..] if share(most, all) >= 0.75 => format!(", mostly in {name}"),
        [(_, first), (_, second), ..] => format!(", most in {first} and {second}"),
    }
}

/// Who pins most, in words, if that is known and enough of it all.
pub(crate) fn held_open_by(snapshot: &Snapshot) -> String {
    let Some(pins) = snapshot.explanation.as_ref().map(|e| &e.pins) else { return String::new() };
    let Some(first) = pins.by_owner.iter().max_by_key(|p| p.pin.pinned) else {
        return String::new();
    };
    if first.head.is_empty() || share(first.pin.pinned, pins.pinned) < PIN_SHARE {
        return String::new();
    }
    // What stands at the head itself is a block of it, what it leads to are its values.
    let noun = match (first.pin.count, first.owner == first.head) {
        (1, true) => "block",
        (_, true) => "blocks",
        (1, false) => "value",
        (_, false) => "values",
    };
    let head = short(&first.head);
    let whose = match first.root {
        RootKind::Module | RootKind::Frame => format!("{noun} of {head}"),
        RootKind::Interpreter | RootKind::Library | RootKind::Stack => format!("blocks of {head}"),
        RootKind::Garbage => "blocks of garbage".into(),
        RootKind::Native | RootKind::Unknown => return String::new(),
    };
    format!(
        ", held open by {} {whose} ({} of what is pinned)",
        grouped(first.pin.count),
        percent(first.pin.pinned, pins.pinned)
    )
}

/// Bytes that containers hold beyond their items, and of all of them the owner that has most.
pub(crate) fn slack(snapshot: &Snapshot) -> Option<(u64, Option<(&'static str, &OwnerSlack)>)> {
    let slack = &snapshot.explanation.as_ref()?.slack;
    let kinds = slack.kinds();
    let bytes = kinds.iter().fold(0, |sum: u64, (_, of)| sum.saturating_add(of.bytes));
    let owners = kinds.into_iter().flat_map(|(kind, of)| of.worst.iter().map(move |w| (kind, w)));
    Some((bytes, owners.max_by_key(|(_, w)| w.bytes)))
}
