//! Which types and which owners changed between two looks.
//!
//! Owns what a list that was cut can tell: a name that it lacks had no more than the least that it names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Change;
use crate::Explanation;

/// Types, and owners of what pins, that a difference lists.
pub const MOST_ROWS: usize = 20;

/// How one type changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeChange {
    /// Qualified name.
    #[serde(rename = "type")]
    pub name: String,
    /// Objects.
    pub count: Change,
    /// Bytes of their own blocks and of the buffers that they own.
    pub bytes: Change,
}

/// How what one owner holds changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinChange {
    /// The chain of owners.
    pub owner: String,
    /// Live blocks.
    pub count: Change,
    /// Their bytes.
    pub bytes: Change,
    /// Bytes of OS pages that they keep beyond their own.
    pub pinned: Change,
}

/// The types that changed, by their bytes with their buffers.
pub(super) fn types(a: &Explanation, b: &Explanation) -> Vec<TypeChange> {
    let listed = |e: &Explanation| {
        let all = e.objects.types.iter();
        let rows = all.map(|t| (t.name.clone(), [t.bytes.saturating_add(t.buffers), t.count]));
        Listed::of(rows, e.objects.other_types.count > 0)
    };
    let changed = changes(listed(a), listed(b), |a, b| a[0].abs_diff(b[0]));
    let row = |(name, [bytes, count]): (String, [Change; 2])| TypeChange { name, count, bytes };
    changed.into_iter().map(row).collect()
}

/// The owners of what pins that changed, by their bytes and by what these pin.
pub(super) fn pins(a: &Explanation, b: &Explanation) -> Vec<PinChange> {
    let listed = |e: &Explanation| {
        let all = || e.pins.by_owner.iter();
        let shared_out = all().fold(0, |sum: u64, p| sum.saturating_add(p.pin.pinned));
        let row = |pin: &crate::Pin| [pin.pinned, pin.bytes, pin.count];
        let rows = all().map(|p| (p.owner.clone(), row(&p.pin)));
        Listed::of(rows, shared_out < e.pins.pinned)
    };
    // What an owner gained in live blocks it may have lost in what these pin: the one does not hide the other.
    let changed = changes(listed(a), listed(b), |a, b| {
        a[0].abs_diff(b[0]).saturating_add(a[1].abs_diff(b[1]))
    });
    let row = |(owner, [pinned, bytes, count]): (String, [Change; 3])| PinChange {
        owner,
        count,
        bytes,
        pinned,
    };
    changed.into_iter().map(row).collect()
}

/// What one look lists, by name. The first number is the one that its list goes by.
struct Listed<const N: usize> {
    rows: BTreeMap<String, [u64; N]>,
    /// What is not listed is no larger.
    least: u64,
}

impl<const N: usize> Listed<N> {
    fn of(all: impl Iterator<Item = (String, [u64; N])>, cut: bool) -> Self {
        let mut rows = BTreeMap::<String, [u64; N]>::new();
        let mut least = u64::MAX;
        for (name, numbers) in all {
            least = least.min(numbers[0]);
            let sums = rows.entry(name).or_insert([0; N]);
            for (sum, n) in sums.iter_mut().zip(numbers) {
                *sum = sum.saturating_add(n);
            }
        }
        Listed { rows, least: if cut { least } else { 0 } }
    }
}

/// What differs, most `moved` first. What only one look lists counts as nothing in the other,
/// unless that may have left it out with as much.
fn changes<const N: usize>(
    a: Listed<N>,
    mut b: Listed<N>,
    moved: fn(&[u64; N], &[u64; N]) -> u64,
) -> Vec<(String, [Change; N])> {
    let mut pairs = Vec::new();
    for (name, before) in a.rows {
        match b.rows.remove(&name) {
            Some(after) => pairs.push((name, before, after)),
            None if before[0] > b.least => pairs.push((name, before, [0; N])),
            None => {}
        }
    }
    let new = b.rows.into_iter().filter(|(_, after)| after[0] > a.least);
    pairs.extend(new.map(|(name, after)| (name, [0; N], after)));
    pairs.retain(|(_, before, after)| before != after);
    pairs.sort_by_cached_key(|(name, before, after)| {
        (std::cmp::Reverse(moved(before, after)), name.clone())
    });
    pairs.truncate(MOST_ROWS);
    let change = |before: [u64; N], after: [u64; N]| {
        std::array::from_fn(|i| Change { before: before[i], after: after[i] })
    };
    pairs.into_iter().map(|(name, before, after)| (name, change(before, after))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Amount, OwnerPin, Pin, TypeTotal};

    fn with_types(all: &[(&str, u64)], others: u64) -> Explanation {
        let mut e = Explanation::default();
        let total = |(name, kib): &(&str, u64)| TypeTotal {
            name: (*name).into(),
            count: kib * 16,
            bytes: kib * 1000,
            buffers: kib * 24,
            ..Default::default()
        };
        e.objects.types = all.iter().map(total).collect();
        e.objects.other_types = Amount { count: others, bytes: others * 64 };
        e
    }

    fn grown(a: &Explanation, b: &Explanation) -> Vec<(String, i64)> {
        types(a, b).into_iter().map(|t| (t.name, t.bytes.grown() / 1024)).collect()
    }

    #[test]
    fn types_come_most_changed_first_with_their_buffers() {
        let a = with_types(&[("dict", 90), ("str", 40), ("Session", 3), ("old", 7)], 0);
        let b = with_types(&[("Session", 99), ("dict", 90), ("str", 30), ("new", 1)], 0);
        let named = [("Session", 96), ("str", -10), ("old", -7), ("new", 1)];
        assert_eq!(grown(&a, &b), named.map(|(name, kib)| (name.to_owned(), kib)));
        let session = &types(&a, &b)[0];
        assert_eq!(session.count, Change { before: 48, after: 1584 });
        assert!(types(&a, &a).is_empty());
    }

    #[test]
    fn what_a_cut_list_lacks_may_have_been_there() {
        let a = with_types(&[("dict", 90), ("str", 40)], 5);
        let b = with_types(&[("dict", 90), ("Session", 50), ("str", 40), ("small", 39)], 5);
        assert_eq!(grown(&a, &b), [("Session".to_owned(), 50)]);
        assert_eq!(grown(&b, &a), [("Session".to_owned(), -50)]);
        // Nothing is listed at all.
        assert!(grown(&with_types(&[], 5), &b).is_empty());
    }

    #[test]
    fn owners_come_by_what_they_hold_and_pin() {
        let of = |all: &[(&str, u64, u64)], pinned| {
            let mut e = Explanation::default();
            let pin = |(owner, bytes, pinned): &(&str, u64, u64)| OwnerPin {
                owner: (*owner).into(),
                pin: Pin { count: 1, bytes: *bytes, pinned: *pinned, ..Default::default() },
                ..Default::default()
            };
            e.pins.by_owner = all.iter().map(pin).collect();
            e.pins.pinned = pinned;
            e
        };
        let a = of(&[("rows", 100, 900), ("cache", 10, 20)], 920);
        let b = of(&[("cache", 800, 10), ("rows", 100, 200), ("cache", 1, 0)], 210);
        let changed = pins(&a, &b);
        let owners: Vec<_> = changed.iter().map(|p| p.owner.as_str()).collect();
        assert_eq!(owners, ["cache", "rows"]);
        assert_eq!(changed[0].bytes, Change { before: 10, after: 801 });
        assert_eq!(changed[0].pinned.grown(), -10);
        assert_eq!(changed[1].pinned.grown(), -700);
    }

    #[test]
    fn rows_are_bounded() {
        let names: Vec<_> = (1..100u64).map(|i| (format!("T{i}"), i)).collect();
        let all: Vec<_> = names.iter().map(|(name, i)| (name.as_str(), *i)).collect();
        let changed = types(&with_types(&[], 0), &with_types(&all, 0));
        assert_eq!((changed.len(), changed[0].name.as_str()), (MOST_ROWS, "T99"));
    }
}
