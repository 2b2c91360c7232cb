//! The verdict on two looks at one process: what grew between them, live data or free space.
//!
//! Owns the rules on differences. Two processes, or a second look before the first, have none: what
//! differs there did not grow.

use pydefrag_heap::{Diff, HeapChange, Snapshot, Verdict, VerdictKind};

use crate::thresholds::{GROWTH_SHARE, LEAST_BYTES, NATIVE_SHARE, REUSED_SHARE};
use crate::words::{mib, number, share};
use crate::{facts, lone, remedies};

/// Judges what changed from `a` to `b`. `None` where they are not two looks at one process, one
/// after the other, or where the heaps of one are not known.
pub fn of_diff(diff: &Diff, a: &Snapshot, b: &Snapshot) -> Option<Verdict> {
    let one = a.process.pid == b.process.pid && a.process.command == b.process.command;
    if !one || diff.seconds < 0.0 || a.partial.is_some() || b.partial.is_some() {
        return None;
    }
    let heaps = diff.heaps?;
    let moved = Moved::of(&heaps);
    let now = lone::judge(b);
    let was_fragmented = facts::Heaps::of(a).is_some_and(|h| h.fragmented());
    if let Some(verdict) = used_again(&moved, was_fragmented) {
        return Some(verdict);
    }
    if let Some(verdict) = growing(&moved, &heaps) {
        return Some(verdict);
    }
    Some(match now.kind {
        VerdictKind::Fragmented => fragmented(&moved, now),
        VerdictKind::OverAllocated => since(&moved, now),
        _ => outside(diff, &heaps).unwrap_or_else(|| since(&moved, now)),
    })
}

/// How far live and free bytes moved, up and down apart.
struct Moved {
    live_up: u64,
    live_down: u64,
    free_up: u64,
    free_down: u64,
}

impl Moved {
    fn of(heaps: &HeapChange) -> Moved {
        let live = heaps.live.grown();
        let free = heaps.external.grown().saturating_add(heaps.slack.grown());
        let (up, down) = (|n: i64| n.max(0) as u64, |n: i64| n.min(0).unsigned_abs());
        Moved { live_up: up(live), live_down: down(live), free_up: up(free), free_down: down(free) }
    }

    /// `live data grew by 3.0 MiB, free space shrank by 1.0 MiB`.
    fn words(&self) -> String {
        let moved = |up: u64, down: u64| match (up, down) {
            (0, 0) => "stayed".to_owned(),
            (0, n) => format!("shrank by {}", mib(n)),
            (n, _) => format!("grew by {}", mib(n)),
        };
        format!(
            "live data {}, free space {}",
            moved(self.live_up, self.live_down),
            moved(self.free_up, self.free_down)
        )
    }
}

/// Live data grew into space that was free.
fn used_again(moved: &Moved, was_fragmented: bool) -> Option<Verdict> {
    let reused = moved.free_down.min(moved.live_up);
    let most = share(reused, moved.live_up) >= REUSED_SHARE;
    (was_fragmented && moved.live_up >= LEAST_BYTES && most).then(|| Verdict {
        kind: VerdictKind::Retained,
        sentence: format!(
            "Retained: {} of live data more, {} of it in space that was free before: the space is \
             used again.",
            mib(moved.live_up),
            number(reused)
        ),
        undecided: Some("whether live data goes on growing: a third look".into()),
        remedies: Vec::new(),
    })
}

/// Live data grew: by enough, and by much of what there was or more than free space did.
fn growing(moved: &Moved, heaps: &HeapChange) -> Option<Verdict> {
    let much = share(moved.live_up, heaps.live.before) >= GROWTH_SHARE || heaps.live.before == 0;
    let grew = moved.live_up >= LEAST_BYTES && (much || moved.live_up > moved.free_up);
    grew.then(|| Verdict {
        kind: VerdictKind::Growing,
        sentence: format!(
            "Growing: live data rose from {} to {}: a leak suspect, not fragmentation.",
            number(heaps.live.before),
            mib(heaps.live.after)
        ),
        undecided: Some("whether it goes on: a third look once the program did more work".into()),
        remedies: remedies::of_growth(),
    })
}

/// What the second look says, and how it came to be.
fn since(moved: &Moved, now: Verdict) -> Verdict {
    Verdict { undecided: None, sentence: joined(&now.sentence, &moved.words()), ..now }
}

/// The second look is fragmented: by what happened in between, or as it was before.
fn fragmented(moved: &Moved, now: Verdict) -> Verdict {
    let since = match moved.free_up {
        up if up < LEAST_BYTES => moved.words(),
        up => format!(
            "{} of it became free in between, while live data {}",
            mib(up),
            match (moved.live_up, moved.live_down) {
                (0, 0) => "stayed".to_owned(),
                (0, down) => format!("shrank by {}", mib(down)),
                (up, _) => format!("grew by {}", mib(up)),
            }
        ),
    };
    Verdict {
        sentence: joined(&now.sentence, &since),
        undecided: Some("whether the space is used again: a third look at a busy time".into()),
        ..now
    }
}

/// A sentence that goes on.
fn joined(sentence: &str, more: &str) -> String {
    format!("{}; {more}.", sentence.trim_end_matches('.'))
}

/// RSS grew, but most of it not in the heaps.
fn outside(diff: &Diff, heaps: &HeapChange) -> Option<Verdict> {
    let all = u64::try_from(diff.rss.grown()).ok()?;
    let elsewhere = u64::try_from(diff.rss.grown() - heaps.resident.grown()).ok()?;
    if elsewhere < LEAST_BYTES || share(elsewhere, all) <= NATIVE_SHARE {
        return None;
    }
    let most = diff.owners.iter().filter(|o| o.live.is_none()).max_by_key(|o| o.resident.grown());
    let named = most.filter(|o| o.resident.grown() > 0).map_or(String::new(), |o| {
        format!(", most of it {} ({})", o.name, mib(o.resident.grown().unsigned_abs()))
    });
    Some(Verdict {
        kind: VerdictKind::Native,
        sentence: format!(
            "Native: RSS grew by {}, {} of it outside the walked heaps{named}.",
            mib(all),
            number(elsewhere)
        ),
        undecided: None,
        remedies: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use pydefrag_heap::OwnerKind;

    use super::*;
    use crate::samples::{heap, other, snapshot};

    const MIB: u64 = 1 << 20;

    /// The verdict on live and free MiB before and after.
    fn judged(before: (u64, u64), after: (u64, u64)) -> Verdict {
        let [a, b] = [before, after]
            .map(|(live, free)| snapshot(vec![heap("pymalloc", live * MIB, free * MIB)]));
        of_diff(&Diff::of(&a, &b), &a, &b).expect("a verdict")
    }

    #[test]
    fn what_grew_decides() {
        use VerdictKind::{Fragmented, Growing, Healthy, Retained};
        for (before, after, kind) in [
            // Live data grows, whether or not holes do too.
            ((40, 5), (80, 5), Growing),
            ((40, 5), (80, 30), Growing),
            ((400, 5), (420, 6), Growing),
            // Built and dropped in between, survivors scattered.
            ((5, 2), (8, 60), Fragmented),
            ((60, 5), (10, 55), Fragmented),
            // As fragmented as before.
            ((10, 80), (11, 80), Fragmented),
            // Free space was filled; whether it was enough or not.
            ((10, 80), (85, 5), Retained),
            ((10, 80), (110, 5), Retained),
            // Filled, and far beyond: two thirds of it are new memory.
            ((10, 40), (130, 2), Growing),
            // What was not fragmented cannot have been retained.
            ((100, 15), (117, 5), Growing),
            ((60, 5), (20, 5), Healthy),
            ((60, 5), (60, 5), Healthy),
            ((60, 5), (70, 6), Healthy),
        ] {
            let v = judged(before, after);
            assert_eq!(v.kind, kind, "{before:?} -> {after:?}: {}", v.sentence);
            assert!(v.sentence.ends_with('.'), "{}", v.sentence);
        }
    }

    #[test]
    fn sentences_have_the_numbers() {
        assert_eq!(
            judged((40, 5), (80, 5)).sentence,
            "Growing: live data rose from 40.0 to 80.0 MiB: a leak suspect, not fragmentation."
        );
        assert_eq!(
            judged((5, 2), (8, 60)).sentence,
            "Fragmented: 60.0 of 68.0 MiB in its heaps are free but stay resident (88%), all in \
             pymalloc; 58.0 MiB of it became free in between, while live data grew by 3.0 MiB."
        );
        assert_eq!(
            judged((60, 5), (60, 5)).sentence,
            "Healthy: 5.0 of 65.0 MiB in its heaps are free (8%); live data stayed, free space \
             stayed."
        );
    }

    #[test]
    fn over_allocated_stays_so() {
        let a = snapshot(vec![heap("pymalloc", 100 * MIB, MIB)]);
        let mut b = a.clone();
        b.explanation = Some(crate::samples::with_slack(40 * MIB, 0));
        b.owners.push(other(OwnerKind::SharedMemory, 90 * MIB));
        b.memory.rss += 90 * MIB;
        let v = of_diff(&Diff::of(&a, &b), &a, &b).expect("a verdict");
        assert_eq!(v.kind, VerdictKind::OverAllocated);
        assert!(v.sentence.ends_with("; live data stayed, free space stayed."), "{}", v.sentence);
    }

    #[test]
    fn growth_outside_the_heaps_is_native() {
        let a = snapshot(vec![heap("pymalloc", 20 * MIB, MIB)]);
        let mut b = a.clone();
        b.owners.push(other(OwnerKind::SharedMemory, 90 * MIB));
        b.memory.rss += 90 * MIB;
        let v = of_diff(&Diff::of(&a, &b), &a, &b).expect("a verdict");
        assert_eq!(
            (v.kind, v.sentence.as_str()),
            (
                VerdictKind::Native,
                "Native: RSS grew by 90.0 MiB, 90.0 of it outside the walked heaps, most of it \
                 shared memory (90.0 MiB)."
            )
        );
    }

    #[test]
    fn what_cannot_be_compared_is_not_judged() {
        let a = snapshot(vec![heap("pymalloc", 20 * MIB, MIB)]);
        let b = snapshot(vec![heap("pymalloc", 80 * MIB, MIB)]);
        let judge = |a: &Snapshot, b: &Snapshot| of_diff(&Diff::of(a, b), a, b);
        assert!(judge(&a, &b).is_some());
        let mut other = b.clone();
        other.process.command = "python3 other.py".into();
        assert_eq!(judge(&a, &other), None);
        other = b.clone();
        other.process.pid = 8;
        assert_eq!(judge(&a, &other), None);
        other = b.clone();
        other.taken_at = 1.0;
        assert_eq!(judge(&a, &other), None, "backwards");
        other = b.clone();
        other.owners.retain(|o| o.account.is_none());
        assert_eq!(judge(&a, &other), None, "no heap walked");
    }
}
