//! The verdict on one look alone: what is there now, without what came before.
//!
//! Owns the order fragmented, over-allocated, native, healthy, their sentences, and which second measurement would
//! decide what one look cannot.

use pydefrag_heap::{Snapshot, Verdict, VerdictKind};

use crate::facts::{Heaps, held_open_by, mostly_in, outside, slack, unwalked};
use crate::remedies;
use crate::thresholds::{
    FREE_SHARE, LARGE_LIVE, LEAST_BYTES, LEAST_REMEDY, NATIVE_SHARE, SLACK_SHARE,
};
use crate::words::{mib, number, percent, share, short};

/// What would tell whether free space is used again.
pub(crate) const USED_AGAIN: &str = "whether the space is used again: `pydefrag run`, or a later look and \
                          `pydefrag diff`";
/// What would tell whether containers fill up again.
const FILLS: &str = "whether the room is filled again: a later look and `pydefrag diff`";
/// What would tell whether live data grows.
const GROWS: &str = "whether live data grows: a later look and `pydefrag diff`";

/// Judges a whole snapshot.
pub(crate) fn judge(snapshot: &Snapshot) -> Verdict {
    let heaps = Heaps::of(snapshot);
    if let Some(heaps) = heaps.filter(Heaps::fragmented) {
        return Verdict {
            kind: VerdictKind::Fragmented,
            sentence: format!(
                "Fragmented: {} of {} in its heaps are free but stay resident ({}){}{}.",
                number(heaps.free),
                mib(heaps.resident),
                percent(heaps.free, heaps.resident),
                mostly_in(snapshot),
                held_open_by(snapshot)
            ),
            undecided: Some(USED_AGAIN.into()),
            remedies: remedies::of_fragmentation(snapshot),
        };
    }
    let found = over_allocated(snapshot, heaps).or_else(|| native(snapshot));
    found.unwrap_or_else(|| healthy(snapshot, heaps))
}

/// Containers hold much room beyond their items, and that is much of what is live.
fn over_allocated(snapshot: &Snapshot, heaps: Option<Heaps>) -> Option<Verdict> {
    let (live, (bytes, worst)) = (heaps?.live, slack(snapshot)?);
    if bytes < LEAST_BYTES || share(bytes, live) < SLACK_SHARE {
        return None;
    }
    let most = worst.map_or(String::new(), |(kind, w)| {
        format!("; most in {kind} of {} ({})", short(&w.owner), mib(w.bytes))
    });
    let sentence = format!(
        "Over-allocated: {} of {} live data are room that containers hold beyond their items ({}){most}.",
        number(bytes),
        mib(live),
        percent(bytes, live),
    );
    Some(Verdict {
        kind: VerdictKind::OverAllocated,
        sentence,
        undecided: Some(FILLS.into()),
        remedies: remedies::of_objects(snapshot, LEAST_REMEDY),
    })
}

/// Most of RSS is outside the heaps, and enough of it.
pub(crate) fn native(snapshot: &Snapshot) -> Option<Verdict> {
    let rss = snapshot.memory.rss;
    let (bytes, largest) = outside(snapshot);
    if bytes < LEAST_BYTES || share(bytes, rss) <= NATIVE_SHARE {
        return None;
    }
    let most = largest.filter(|o| o.resident > 0).map_or(String::new(), |o| {
        format!("; the largest part is {} ({})", o.name, mib(o.resident))
    });
    let sentence = format!(
        "Native: {} of {} RSS ({}) are in neither Python's heaps nor malloc's{most}.",
        number(bytes),
        mib(rss),
        percent(bytes, rss)
    );
    let remedies = remedies::of_objects(snapshot, LEAST_BYTES);
    Some(Verdict { kind: VerdictKind::Native, sentence, undecided: None, remedies })
}

fn healthy(snapshot: &Snapshot, heaps: Option<Heaps>) -> Verdict {
    let walked = heaps.unwrap_or_default();
    let hidden = unwalked(snapshot).filter(|(bytes, _)| {
        *bytes >= LEAST_BYTES && share(*bytes, walked.resident.saturating_add(*bytes)) >= FREE_SHARE
    });
    let (sentence, undecided) = match (hidden, heaps) {
        (Some((bytes, owner)), _) => (
            format!(
                "Nothing found, but what is free in {} of {} is not known: this version does not \
                 walk it.",
                mib(bytes),
                owner.name
            ),
            Some("what it keeps: RSS over time, by `pydefrag run` or `pydefrag diff`".to_owned()),
        ),
        (None, None) => {
            ("Nothing found: no heap of this process could be walked.".to_owned(), None)
        }
        (None, Some(heaps)) => (
            format!(
                "Healthy: {} of {} in its heaps are free ({}).",
                number(heaps.free),
                mib(heaps.resident),
                percent(heaps.free, heaps.resident)
            ),
            (heaps.live >= LARGE_LIVE).then(|| GROWS.to_owned()),
        ),
    };
    let remedies = remedies::of_objects(snapshot, LEAST_BYTES);
    Verdict { kind: VerdictKind::Healthy, sentence, undecided, remedies }
}

#[cfg(test)]
mod tests {
    use pydefrag_heap::{Ladder, Malloc, MallocArena, OwnerKind, OwnerPin, Partial, RootKind};

    use super::*;
    use crate::samples::{explained, heap, other, snapshot, with_slack};
    use crate::verdict;

    const MIB: u64 = 1 << 20;

    #[test]
    fn kinds_and_their_precedence() {
        use VerdictKind::{Fragmented, Healthy, Native};
        let python = |live, free| heap("pymalloc", live * MIB, free * MIB);
        for (owners, kind) in [
            (vec![python(5, 130)], Fragmented),
            (vec![python(48, 16)], Fragmented),
            (vec![python(49, 15)], Healthy),
            (vec![python(49, 16)], Healthy),
            // Little of much, and much of little.
            (vec![python(900, 100)], Healthy),
            (vec![python(1, 9)], Healthy),
            // Both heaps together.
            (vec![python(20, 10), heap("malloc main arena", 8 * MIB, 7 * MIB)], Fragmented),
            // Fragmented and native.
            (vec![python(5, 20), other(OwnerKind::SharedMemory, 400 * MIB)], Fragmented),
            (vec![python(20, 1), other(OwnerKind::Private, 400 * MIB)], Native),
            // An idle interpreter is mostly its files.
            (vec![python(1, 0)], Healthy),
            (vec![other(OwnerKind::Mimalloc, 400 * MIB)], Healthy),
            (vec![], Healthy),
        ] {
            let s = snapshot(owners);
            let v = verdict(&s).expect("a verdict");
            assert_eq!(v.kind, kind, "{}", v.sentence);
            assert!(
                !matches!(v.kind, VerdictKind::Growing | VerdictKind::Retained),
                "a lone look knows of no time"
            );
        }
    }

    #[test]
    fn a_partial_look_is_not_judged() {
        let mut s = snapshot(vec![heap("pymalloc", MIB, 100 * MIB)]);
        s.partial = Some(Partial { reason: "denied".into(), hint: None });
        assert_eq!(verdict(&s), None);
    }

    #[test]
    fn sentences_have_the_number() {
        let said = |owners| verdict(&snapshot(owners)).expect("a verdict").sentence;
        assert_eq!(
            said(vec![heap("pymalloc", 59 * MIB / 10, 129 * MIB + MIB / 5)]),
            "Fragmented: 129.2 of 135.1 MiB in its heaps are free but stay resident (96%), all in \
             pymalloc."
        );
        assert_eq!(
            said(vec![
                heap("pymalloc", 10 * MIB, 20 * MIB),
                heap("malloc main arena", 0, 15 * MIB)
            ]),
            "Fragmented: 35.0 of 45.0 MiB in its heaps are free but stay resident (78%), most in \
             pymalloc and malloc main arena."
        );
        assert_eq!(
            said(vec![heap("pymalloc", 20 * MIB, 0), other(OwnerKind::SharedMemory, 70 * MIB)]),
            "Native: 80.0 of 100.0 MiB RSS (80%) are in neither Python's heaps nor malloc's; the \
             largest part is shared memory (70.0 MiB)."
        );
        assert_eq!(
            said(vec![other(OwnerKind::Mimalloc, 70 * MIB)]),
            "Nothing found, but what is free in 70.0 MiB of mimalloc is not known: this version \
             does not walk it."
        );
    }

    #[test]
    fn what_one_look_cannot_tell_is_named() {
        let undecided = |live, free| {
            verdict(&snapshot(vec![heap("pymalloc", live * MIB, free * MIB)])).unwrap().undecided
        };
        assert_eq!(undecided(5, 100).as_deref(), Some(USED_AGAIN));
        assert_eq!(undecided(64, 1).as_deref(), Some(GROWS));
        assert_eq!(undecided(63, 1), None);
    }

    #[test]
    fn the_owner_that_pins_most_is_named() {
        let said = |explanation| {
            let mut s = snapshot(vec![heap("pymalloc", 5 * MIB, 100 * MIB)]);
            s.explanation = Some(explanation);
            let sentence = verdict(&s).expect("a verdict").sentence;
            sentence.split_once("pymalloc").expect("where").1.to_owned()
        };
        let e = explained();
        assert_eq!(
            said(e.clone()),
            ", held open by 41,200 values of app.cache.SESSIONS (65% of what is pinned)."
        );
        let changed = |change: fn(&mut OwnerPin)| {
            let mut e = explained();
            change(&mut e.pins.by_owner[0]);
            said(e)
        };
        assert_eq!(changed(|p| p.root = RootKind::Unknown), ".");
        assert_eq!(changed(|p| p.head.clear()), ".");
        // Many pin a little each.
        assert_eq!(changed(|p| p.pin.pinned /= 10), ".");
        let table = changed(|p| (p.owner, p.pin.count) = (p.head.clone(), 1));
        assert!(table.starts_with(", held open by 1 block of app.cache.SESSIONS ("), "{table}");
        let garbage = changed(|p| p.root = RootKind::Garbage);
        assert!(garbage.starts_with(", held open by 41,200 blocks of garbage ("), "{garbage}");
        let long = changed(|p| p.head = "\x1b".repeat(1 << 20));
        assert!(long.len() < 120, "{long}");
        assert_eq!(said(Default::default()), ".");
    }

    #[test]
    fn room_that_containers_hold_is_over_allocated_if_it_is_much() {
        let judged = |live, free, dict, list| {
            let mut s = snapshot(vec![heap("pymalloc", live * MIB, free * MIB)]);
            s.explanation = Some(with_slack(dict * MIB, list * MIB));
            verdict(&s).expect("a verdict")
        };
        use VerdictKind::{Fragmented, Healthy, OverAllocated};
        for (live, free, dict, list, kind) in [
            (80, 1, 16, 0, OverAllocated),
            (80, 1, 8, 8, OverAllocated),
            (81, 1, 8, 8, Healthy),
            (70, 1, 8, 7, Healthy),
            // Fragmented first: what is free is not even live.
            (80, 40, 40, 0, Fragmented),
        ] {
            let v = judged(live, free, dict, list);
            assert_eq!(v.kind, kind, "{}", v.sentence);
        }
        let v = judged(100, 1, 30, 10);
        assert_eq!(
            v.sentence,
            "Over-allocated: 40.0 of 100.0 MiB live data are room that containers hold beyond \
             their items (40%); most in dict of app.index (15.0 MiB)."
        );
        assert_eq!(v.undecided.as_deref(), Some(FILLS));
        // More of RSS is native than not, and still it is the containers that can be changed.
        let owners =
            vec![heap("pymalloc", 80 * MIB, MIB), other(OwnerKind::SharedMemory, 400 * MIB)];
        let s = Snapshot { explanation: Some(with_slack(40 * MIB, 0)), ..snapshot(owners) };
        assert_eq!(verdict(&s).expect("a verdict").kind, OverAllocated);
    }

    #[test]
    fn what_objects_would_save_is_a_remedy() {
        let named = |explanation, live, free| {
            let mut s = snapshot(vec![heap("pymalloc", live * MIB, free * MIB)]);
            s.explanation = Some(explanation);
            let v = verdict(&s).expect("a verdict");
            let row = |r: &pydefrag_heap::Remedy| (r.name.clone(), r.bytes.map(|b| b / MIB));
            v.remedies.iter().map(row).collect::<Vec<_>>()
        };
        let name = |n: &str, b| (n.to_owned(), Some(b));
        // The fourth saving is left out, as is what is less than a remedy.
        assert_eq!(
            named(explained(), 5, 100),
            [
                name("collect garbage", 20),
                name("give app.Session __slots__", 9),
                name("rebuild app.index", 7),
                name("keep app.rows in an array", 3),
            ]
        );
        // What nothing is wrong with hears of large savings only.
        assert_eq!(named(explained(), 100, 5), [name("collect garbage", 20)]);
        let mut e = explained();
        e.garbage.bytes = 15 * MIB;
        e.duplicates.copies.bytes = 17 * MIB;
        e.savings[0].change = pydefrag_heap::StructureChange::Intern;
        e.savings[0].saved = 16 * MIB;
        // Interning all of it contains interning some.
        assert_eq!(named(e, 100, 5), [name("keep equal strings once", 17)]);
    }

    #[test]
    fn remedies_are_ranked_and_promise_nothing_unmeasured() {
        let mut main = heap("malloc main arena", MIB, 30 * MIB);
        main.kind = OwnerKind::Malloc;
        let mut s = snapshot(vec![heap("pymalloc", MIB, 40 * MIB), main]);
        s.ladder = Ladder {
            trim: Some(25 * MIB),
            purge: Some(37 * MIB),
            ideal: Some(60 * MIB),
            ..Default::default()
        };
        let arena = |main, free| MallocArena {
            main,
            free: free * MIB,
            largest_free: 3 * MIB,
            ..Default::default()
        };
        let arenas = vec![arena(true, 20), arena(false, 15), arena(false, 15)];
        s.malloc = Some(Malloc { arenas, ..Default::default() });
        let named = |s: &Snapshot| {
            let v = verdict(s).expect("a verdict");
            v.remedies
                .iter()
                .map(|r| (r.name.clone(), r.bytes.map(|b| b / MIB)))
                .collect::<Vec<_>>()
        };
        let name = |n: &str, b| (n.to_owned(), b);
        assert_eq!(
            named(&s),
            [
                name("rebuild pymalloc's survivors", Some(35)),
                name("trim malloc", Some(25)),
                name("purge pymalloc", Some(12)),
                name("fewer malloc arenas", None),
                name("pin malloc's mmap threshold", None),
            ]
        );
        s.ladder = Ladder { trim: Some(MIB), ..Default::default() };
        s.malloc = None;
        assert_eq!(named(&s), []);
    }
}
