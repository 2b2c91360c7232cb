//! What the account says in words: fragmentation, free space by request, what is beside RSS.
//!
//! Owns these sentences. What they state is computed by the heap crate; the verdict is not theirs.

use pydefrag_heap::{Account, MallocArena, OwnerKind, Pymalloc, Snapshot};

use crate::format::{count, percent, share, size};
use crate::style::Tone;

/// Less free space in malloc is not told in a line of its own.
const WORTH_A_LINE: u64 = 4 << 20;

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
        let external = format!("external {} (held by neighbours)", size(f.external));
        said.push((Tone::Plain, format!("{external}, internal {}", internal(snapshot))));
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
        "malloc" if walked(snapshot, OwnerKind::Malloc) => {}
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

/// Bytes inside live blocks that nobody asked for, as far as they are known: of which heaps they are.
fn internal(snapshot: &Snapshot) -> String {
    let walked = || snapshot.owners.iter().filter_map(|o| Some((o, o.account?)));
    let live = |a: &Account| a.live.saturating_add(a.rounding.unwrap_or(0));
    let (mut bytes, mut of) = (0u64, 0u64);
    let mut known = Vec::new();
    for (owner, account) in walked().filter(|(_, a)| a.rounding.is_some()) {
        bytes = bytes.saturating_add(account.rounding.unwrap_or(0));
        of = of.saturating_add(live(&account));
        known.push(&owner.name);
    }
    let of_live = match of {
        0 => String::new(),
        of => format!("{}% of live", share(bytes, of)),
    };
    match known[..] {
        [] => "not known".into(),
        _ if walked().all(|(_, a)| live(&a) == 0 || a.rounding.is_some()) => {
            format!("{} ({of_live})", size(bytes))
        }
        [only] => format!("{} ({of_live} in {only}; elsewhere not known)", size(bytes)),
        _ => format!("{} ({of_live} where it is known)", size(bytes)),
    }
}

/// Whether an owner of this kind has an account.
fn walked(snapshot: &Snapshot, kind: OwnerKind) -> bool {
    snapshot.owners.iter().any(|o| o.kind == kind && o.account.is_some())
}

/// malloc's arenas, where they hold enough free space to be worth a line.
pub(crate) fn malloc(snapshot: &Snapshot) -> Option<Sentence> {
    let arenas = &snapshot.malloc.as_ref()?.arenas;
    let free = |a: &MallocArena| a.free.saturating_add(a.tcache);
    let sum = |of: fn(&MallocArena) -> u64| arenas.iter().map(of).fold(0, u64::saturating_add);
    let all = sum(|a| a.free.saturating_add(a.tcache));
    if all < WORTH_A_LINE {
        return None;
    }
    let held = format!("{} free of {}", size(all), size(sum(|a| a.system)));
    if let [only] = &arenas[..] {
        let (top, largest) = (size(only.top), size(only.largest_free));
        let said = format!("one arena, {held}: {top} at its top, largest chunk below {largest}");
        return Some((Tone::Plain, said));
    }
    let threads = count(arenas.iter().filter(|a| !a.main).count() as u64, "thread arena");
    let largest = arenas.iter().max_by_key(|a| free(a))?;
    let whose = match &largest.threads[..] {
        _ if largest.main => "the main arena".into(),
        [] => "one that no thread uses now".into(),
        [one] => format!("that of {}", one.name),
        [first, rest @ ..] => format!("that of {} and {}", first.name, count_others(rest.len())),
    };
    let said =
        format!("{threads} and the main one, {held}; most in {whose}: {}", size(free(largest)));
    Some((Tone::Plain, said))
}

fn count_others(n: usize) -> String {
    count(n as u64, "other")
}

/// The longest free run, and how much of the free bytes a request can use.
pub(crate) fn free_space(pymalloc: &Pymalloc) -> Sentence {
    let (tone, said) = free_for_requests(pymalloc);
    match pymalloc.parked_pools {
        0 => (tone, said),
        parked => (tone, format!("{said}; {} parked", count(parked, "pool"))),
    }
}

fn free_for_requests(pymalloc: &Pymalloc) -> Sentence {
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
    if t.chunks > 0 {
        said.push(format!("malloc's chunks lost in {}", count(t.chunks, "place")));
    }
    if snapshot.residency_difference > 0 {
        let by = size(snapshot.residency_difference);
        said.push(format!("smaps and page map differ by {by}"));
    }
    let tone = if t.left > 0 || t.chunks > 0 || unread > 0 { Tone::Warn } else { Tone::Quiet };
    (!said.is_empty()).then(|| (tone, said.join(", ")))
}
