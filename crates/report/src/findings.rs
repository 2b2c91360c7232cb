//! What the account says in words: fragmentation, free space by request, what is beside RSS.
//!
//! Owns these sentences. What they state is computed by the heap crate; the verdict is not theirs.

use pydefrag_heap::{Fragmentation, Pymalloc, Snapshot};

use crate::format::{count, percent, size};
use crate::style::Tone;

/// A sentence in pieces, still to be wrapped.
pub(crate) type Sentence = (Tone, String);

/// How much of the walked heaps is not live, and of which sort; or why that is not known.
pub(crate) fn fragmentation(snapshot: &Snapshot) -> Vec<Sentence> {
    let mut said = Vec::new();
    if let Some(f) = &snapshot.fragmentation {
        said.push((
            Tone::Strong,
            format!(
                "{}% of the {} in walked heaps is not live",
                percent(f.percent),
                size(f.resident)
            ),
        ));
        said.push((
            Tone::Plain,
            format!("external {}: free, resident, held by its neighbours", size(f.external)),
        ));
        said.push(internal(f));
    }
    let Some(python) = &snapshot.process.python else {
        if snapshot.partial.is_none() && said.is_empty() {
            said.push((Tone::Plain, "not known: no Python interpreter was recognised".into()));
        }
        return said;
    };
    match python.allocator.as_str() {
        "pymalloc" if said.is_empty() && snapshot.partial.is_none() => {
            said.push((Tone::Plain, "none: pymalloc has nothing resident".into()));
        }
        "pymalloc" => {}
        "malloc" | "mimalloc" => said.push((
            Tone::Plain,
            format!(
                "{} serves Python's objects too; its inside is not walked by this version, so \
                 what is live in it is not known",
                python.allocator
            ),
        )),
        _ => said.push((
            Tone::Plain,
            "which allocator serves Python's objects could not be told".to_string(),
        )),
    }
    said
}

fn internal(f: &Fragmentation) -> Sentence {
    match f.internal {
        Some(bytes) => (
            Tone::Plain,
            format!("internal {}: inside live blocks, asked for by nobody", size(bytes)),
        ),
        None => {
            (Tone::Quiet, "internal not known without objects or a recording (within live)".into())
        }
    }
}

/// The longest free run, and how much of the free bytes a request can use.
pub(crate) fn free_space(pymalloc: &Pymalloc) -> Sentence {
    let run = format!("largest run {}", size(pymalloc.largest_free_run));
    let rows = || pymalloc.fit.iter().filter_map(|f| Some((f.request?, f.usable)));
    let (Some(worst), Some(best)) = (rows().min_by_key(|r| r.1), rows().max_by_key(|r| r.1)) else {
        return (Tone::Plain, run);
    };
    let free = pymalloc.free_bytes;
    if free == 0 {
        return (Tone::Plain, format!("{run}; no free block: each request takes new memory"));
    }
    let best_fit = format!("{} B requests can use {}", best.0, size(best.1));
    let worst_fit = match worst.0 == best.0 {
        true => String::new(),
        false => format!(", {} B {}", worst.0, size(worst.1)),
    };
    let said = format!(
        "{run}; of {} free, resident or not, {best_fit}{worst_fit}, over 512 B none",
        size(free)
    );
    (Tone::Plain, said)
}

/// What RSS does not count, beside swap: that stands with RSS.
pub(crate) fn beside(snapshot: &Snapshot) -> Option<Sentence> {
    let elsewhere = snapshot
        .owners
        .iter()
        .filter_map(|o| o.account)
        .fold(0, |sum: u64, a| sum.saturating_add(a.live_not_resident));
    list(&[(elsewhere, "live but not resident"), (snapshot.memory.hugetlb, "hugetlb")])
}

/// What some of the bytes in RSS are as well.
pub(crate) fn within(snapshot: &Snapshot) -> Option<Sentence> {
    let shared =
        snapshot.owners.iter().fold(0, |sum: u64, o| sum.saturating_add(o.copy_on_write_shared));
    let m = &snapshot.memory;
    list(&[
        (m.anon_huge_pages, "on huge pages"),
        (shared, "copy-on-write shared"),
        (m.lazy_free, "lazily freed (MADV_FREE)"),
        (m.ksm, "merged by KSM"),
    ])
}

fn list(amounts: &[(u64, &str)]) -> Option<Sentence> {
    let named: Vec<_> = amounts
        .iter()
        .filter(|(bytes, _)| *bytes > 0)
        .map(|(bytes, what)| format!("{} {what}", size(*bytes)))
        .collect();
    (!named.is_empty()).then(|| (Tone::Plain, named.join(", ")))
}

/// What stayed uncertain because the process ran on.
pub(crate) fn torn(snapshot: &Snapshot) -> Option<Sentence> {
    let t = &snapshot.torn;
    let unread = snapshot
        .owners
        .iter()
        .filter_map(|o| o.account)
        .fold(0, |sum: u64, a| sum.saturating_add(a.unread));
    let mut said = Vec::new();
    if t.left > 0 {
        said.push(format!("{} of {} inconsistent", t.left, count(t.pools, "pool")));
    }
    if unread > 0 {
        said.push(format!("{} unread", size(unread)));
    }
    if t.retried > 0 {
        said.push(format!("{} read again", count(t.retried, "pool")));
    }
    if t.arenas_gone > 0 {
        said.push(format!("{} went away", count(t.arenas_gone, "arena")));
    }
    if snapshot.residency_difference > 0 {
        let by = size(snapshot.residency_difference);
        said.push(format!("smaps and page map differ by {by}"));
    }
    let tone = if t.left > 0 || unread > 0 { Tone::Warn } else { Tone::Quiet };
    (!said.is_empty()).then(|| (tone, said.join(", ")))
}
