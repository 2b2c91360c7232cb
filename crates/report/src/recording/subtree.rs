//! The heaviest calls with all that they called, as a small tree.
//!
//! Owns which calls are shown. The heaviest are: a call holds at least what any that it called holds, so that they
//! hang together. Of calls that only lead to one other, the last stands for all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pydefrag_heap::{Recording, Tally};

/// A line of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Branch {
    /// An index into [`Recording::calls`].
    pub(super) call: usize,
    /// Its depth in the tree that is shown.
    pub(super) depth: usize,
    /// Calls before it that only lead to it, and are not shown.
    pub(super) passed: usize,
    /// What it and all that it called held.
    pub(super) bytes: u64,
}

/// At most `most` lines, the heaviest calls by `of`, in the order of the tree. The whole is the first.
pub(super) fn heaviest(
    recording: &Recording,
    subtrees: &[Tally],
    of: fn(&Tally) -> u64,
    most: usize,
) -> Vec<Branch> {
    let below = children(recording, subtrees, of);
    let branch = |call: usize, depth: usize| {
        let (mut at, mut passed) = (call, 0);
        // Whatever passes through to one call alone. Children stand behind their parents, so that this ends.
        while of(&recording.calls[at].own) == 0 {
            let &[only] = below.of(at) else { break };
            (at, passed) = (only as usize, passed + 1);
        }
        Branch { call: at, depth, passed, bytes: subtrees.get(at).map_or(0, of) }
    };
    if recording.calls.is_empty() || most == 0 || subtrees.first().map_or(0, of) == 0 {
        return Vec::new();
    }
    // Which branches are heaviest, then their order: the heap has each with the place of its parent.
    let mut chosen: Vec<(Branch, Option<usize>)> = Vec::new();
    let mut waiting = BinaryHeap::new();
    let root = branch(0, 0);
    waiting.push((root.bytes, Reverse(root.call), root.depth, root.passed, None));
    while let Some((bytes, Reverse(call), depth, passed, parent)) = waiting.pop() {
        let place = chosen.len();
        chosen.push((Branch { call, depth, passed, bytes }, parent));
        if chosen.len() == most {
            break;
        }
        for &child in below.of(call) {
            let b = branch(child as usize, depth + 1);
            waiting.push((b.bytes, Reverse(b.call), b.depth, b.passed, Some(place)));
        }
    }
    in_order(&chosen)
}

/// The chosen as a tree is written: each before what it called, the heaviest first.
fn in_order(chosen: &[(Branch, Option<usize>)]) -> Vec<Branch> {
    let mut lines = Vec::with_capacity(chosen.len());
    let mut stack = vec![0];
    while let Some(place) = stack.pop() {
        lines.push(chosen[place].0);
        // They were chosen heaviest first, and the last one pushed is the next one written.
        let called = (0..chosen.len()).filter(|&i| chosen[i].1 == Some(place));
        stack.extend(called.rev());
    }
    lines
}

/// The calls of each call that hold anything.
struct Children {
    /// Where each call's begin.
    starts: Vec<u32>,
    all: Vec<u32>,
}

impl Children {
    fn of(&self, call: usize) -> &[u32] {
        &self.all[self.starts[call] as usize..self.starts[call + 1] as usize]
    }
}

fn children(recording: &Recording, subtrees: &[Tally], of: fn(&Tally) -> u64) -> Children {
    let calls = &recording.calls;
    // What breaks the order of the tree is left out, as in the subtrees.
    let counts = |i: usize| (calls[i].parent as usize) < i && subtrees.get(i).map_or(0, of) > 0;
    let mut starts = vec![0u32; calls.len() + 1];
    for i in (1..calls.len()).filter(|&i| counts(i)) {
        starts[calls[i].parent as usize + 1] += 1;
    }
    for i in 0..calls.len() {
        starts[i + 1] += starts[i];
    }
    let mut next = starts.clone();
    let mut all = vec![0; starts[calls.len()] as usize];
    for i in (1..calls.len()).filter(|&i| counts(i)) {
        let slot = &mut next[calls[i].parent as usize];
        all[*slot as usize] = i as u32;
        *slot += 1;
    }
    Children { starts, all }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn the_heaviest_hang_together_and_those_that_lead_there_fall_away() {
        let recording = sample::recording();
        let subtrees = recording.subtrees();
        for most in 0..40 {
            let tree = heaviest(&recording, &subtrees, |t| t.peak.bytes, most);
            assert!(tree.len() <= most);
            let mut above: Vec<u64> = Vec::new();
            for branch in &tree {
                assert!(branch.depth <= above.len());
                above.truncate(branch.depth);
                assert!(above.iter().all(|&bytes| bytes >= branch.bytes));
                above.push(branch.bytes);
                assert_eq!(branch.bytes, subtrees[branch.call].peak.bytes);
            }
        }
    }

    #[test]
    fn a_call_that_only_leads_on_is_not_shown() {
        let mut recording = sample::recording();
        recording.calls[0].own = Tally::default();
        let tree = heaviest(&recording, &recording.subtrees(), |t| t.peak.bytes, 9);
        assert_eq!((tree[0].call, tree[0].passed, tree[0].depth), (1, 1, 0));
        assert_eq!((tree[1].call, tree[1].passed, tree[1].depth), (2, 0, 1));
    }

    #[test]
    fn a_tree_of_any_depth_and_width_is_walked() {
        for recording in [sample::deep_recording(), sample::wide_recording()] {
            let tree = heaviest(&recording, &recording.subtrees(), |t| t.allocated.bytes, 20);
            assert_eq!(tree.len(), 20);
        }
    }
}
