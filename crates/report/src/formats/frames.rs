//! Frames and stacks, as the formats have them: a frame is a line of a function, a stack what led to an allocation.
//!
//! Owns the numbers of frames, what a name may be, and how many frames all stacks have together: where there would
//! be more, the middle of the deepest falls away and a frame says so.

use std::borrow::Cow;
use std::collections::HashMap;

use pydefrag_heap::{Amount, Call, Recording, Tally};

use crate::Style;
use crate::recording::{NAMELESS, Place};
use crate::words::clean;

/// Frames that all stacks of an export have together.
const MOST_FRAMES: u64 = 8 << 20;
/// However many there are, a stack keeps as many.
const LEAST_DEPTH: u64 = 16;
/// Bytes of a name: longer ones are of a process that means ill.
const LONGEST_NAME: usize = 4096;

/// What stands where calls fell away.
const LEFT_OUT: &str = "(calls left out)";

/// One of the three amounts of a tally, and what it is called.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) of: fn(&Tally) -> Amount,
}

/// What is exported, in the order that it stands in everywhere.
pub(super) const KINDS: [Kind; 3] = [
    Kind { name: "live at the peak", of: |t| t.peak },
    Kind { name: "retained at the end", of: |t| t.retained },
    Kind { name: "allocated", of: |t| t.allocated },
];

/// The frames of a recording, by number; one more stands for calls that were left out.
pub(super) struct Frames<'a> {
    recording: &'a Recording,
    places: Vec<Place>,
    of_call: Vec<u32>,
}

/// What a frame says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said<'a> {
    pub(super) name: Cow<'a, str>,
    /// Empty where there is none.
    pub(super) file: Cow<'a, str>,
    /// That is running; 0 where it is not known.
    pub(super) line: u32,
    /// That the function begins on; 0 where it is not known.
    pub(super) begins: u32,
}

impl<'a> Frames<'a> {
    pub(super) fn of(recording: &'a Recording) -> Frames<'a> {
        let mut numbers: HashMap<Place, u32> = HashMap::new();
        let mut places = Vec::new();
        let mut number = |call: &Call| {
            let place = Place::of(call);
            *numbers.entry(place).or_insert_with(|| {
                places.push(place);
                places.len() as u32 - 1
            })
        };
        let of_call = recording.calls.iter().map(&mut number).collect();
        Frames { recording, places, of_call }
    }

    /// How many there are, the one for what was left out too: it is the last.
    pub(super) fn len(&self) -> u32 {
        self.places.len() as u32 + 1
    }

    /// The frame of a call.
    pub(super) fn of_call(&self, call: u32) -> u32 {
        self.of_call[call as usize]
    }

    /// A frame's place; none for what was left out.
    pub(super) fn place(&self, frame: u32) -> Option<Place> {
        self.places.get(frame as usize).copied()
    }

    pub(super) fn said(&self, frame: u32) -> Said<'a> {
        let Some(place) = self.place(frame) else {
            return Said { name: LEFT_OUT.into(), file: "".into(), line: 0, begins: 0 };
        };
        let Some(function) = place.function(self.recording) else {
            return Said { name: "?".into(), file: "".into(), line: place.line, begins: 0 };
        };
        let name = if function.name.is_empty() { NAMELESS } else { &function.name };
        let line = if place.line == 0 { function.line } else { place.line };
        Said { name: tame(name), file: tame(&function.file), line, begins: function.line }
    }
}

/// A text of the process's as the reports show it, and of a length that was meant: some that read it print it.
pub(super) fn tame(text: &str) -> Cow<'_, str> {
    let plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if text.len() <= LONGEST_NAME && plain(text) {
        return text.into();
    }
    let mut end = text.len().min(LONGEST_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = if end < text.len() { "…" } else { "" };
    let said = clean(&text[..end], Style { color: false, unicode: true });
    (said + cut).into()
}

/// The stacks of calls that allocated anything.
pub(super) struct Stacks<'a> {
    recording: &'a Recording,
    frames: &'a Frames<'a>,
    depths: Vec<u32>,
    /// Frames of a stack: those of deeper calls are cut.
    deepest: u32,
    /// Of each call below the outermost that a cut stack keeps, the last of these.
    anchors: Vec<u32>,
}

impl<'a> Stacks<'a> {
    /// `size`: what a frame takes at most, against 8 of a number.
    pub(super) fn of(recording: &'a Recording, frames: &'a Frames<'a>, size: usize) -> Stacks<'a> {
        let most = MOST_FRAMES * 64 / (size as u64).max(64);
        Stacks::within(recording, frames, most)
    }

    fn within(recording: &'a Recording, frames: &'a Frames<'a>, most: u64) -> Stacks<'a> {
        let calls = &recording.calls;
        // The root stands for nothing that was called; a call that breaks the order of the tree begins a stack.
        let above = |i: usize| {
            let parent = calls[i].parent;
            ((parent as usize) < i && parent != 0).then_some(parent as usize)
        };
        let mut depths: Vec<u32> = Vec::with_capacity(calls.len());
        for i in 0..calls.len() {
            depths.push(above(i).map_or(1, |parent| depths[parent] + 1));
        }
        let deepest = deepest(recording, &depths, most);
        let mut anchors: Vec<u32> = Vec::with_capacity(calls.len());
        for (i, &depth) in depths.iter().enumerate() {
            let kept = depth <= deepest / 2;
            anchors.push(match above(i) {
                Some(parent) if !kept => anchors[parent],
                _ => i as u32,
            });
        }
        Stacks { recording, frames, depths, deepest, anchors }
    }

    /// Calls of which anything is told by `of`.
    pub(super) fn calls(&self, of: impl Fn(&Tally) -> bool) -> impl Iterator<Item = u32> {
        let calls = self.recording.calls.iter().enumerate();
        calls.filter(move |(_, call)| of(&call.own)).map(|(i, _)| i as u32)
    }

    /// The frames of a call, innermost first.
    pub(super) fn innermost_first(&self, call: u32) -> Vec<u32> {
        let depth = self.depths[call as usize];
        let cut = depth > self.deepest;
        let (outer, inner) = match cut {
            true => (self.deepest / 2, self.deepest - self.deepest / 2 - 1),
            false => (0, depth),
        };
        let mut stack = Vec::with_capacity((outer + inner + 1) as usize);
        self.climb(call, inner, &mut stack);
        if cut {
            stack.push(self.frames.len() - 1);
            self.climb(self.anchors[call as usize], outer, &mut stack);
        }
        stack
    }

    fn climb(&self, call: u32, frames: u32, into: &mut Vec<u32>) {
        let mut at = call;
        for _ in 0..frames {
            into.push(self.frames.of_call(at));
            at = self.recording.calls[at as usize].parent;
        }
    }
}

/// How deep a stack may be for all of them to have no more than `most` frames.
fn deepest(recording: &Recording, depths: &[u32], most: u64) -> u32 {
    let told = |call: &Call| KINDS.iter().any(|kind| (kind.of)(&call.own) != Amount::default());
    let mut stacks: Vec<u32> =
        recording.calls.iter().zip(depths).filter(|(call, _)| told(call)).map(|d| *d.1).collect();
    if stacks.iter().map(|&d| u64::from(d)).sum::<u64>() <= most {
        return u32::MAX;
    }
    stacks.sort_unstable();
    let mut left = most;
    for (i, &depth) in stacks.iter().enumerate() {
        // Those that are left, all as deep as this one.
        let share = left / (stacks.len() - i) as u64;
        if u64::from(depth) > share {
            return share.max(LEAST_DEPTH) as u32;
        }
        left -= u64::from(depth);
    }
    u32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn stacks_lead_to_where_it_was_allocated() {
        let recording = sample::recording();
        let frames = Frames::of(&recording);
        let stacks = Stacks::of(&recording, &frames, 8);
        for call in 0..recording.calls.len() as u32 {
            let mut stack = stacks.innermost_first(call);
            stack.reverse();
            let way = match call {
                0 => vec![0],
                _ => recording.stack(call),
            };
            let wanted: Vec<u32> = way.iter().map(|&c| frames.of_call(c)).collect();
            assert_eq!(stack, wanted);
        }
        // A line of a function is one frame, wherever it is called from.
        assert_eq!(frames.len() as usize, recording.calls.len());
    }

    #[test]
    fn of_deep_stacks_the_middle_falls_away() {
        let recording = sample::deep_recording();
        let frames = Frames::of(&recording);
        for most in [0, 5_000_000, 40_000_000] {
            let stacks = Stacks::within(&recording, &frames, most);
            let left_out = frames.len() - 1;
            let mut sum = 0;
            for call in (0..recording.calls.len() as u32).step_by(101) {
                let stack = stacks.innermost_first(call);
                let way = recording.stack(call);
                sum += 101 * stack.len() as u64;
                let of = |calls: &[u32]| -> Vec<u32> {
                    calls.iter().rev().map(|&c| frames.of_call(c)).collect()
                };
                let Some(at) = stack.iter().position(|&f| f == left_out) else {
                    assert!(call == 0 || stack == of(&way));
                    continue;
                };
                let (inner, outer) = (&stack[..at], &stack[at + 1..]);
                assert!(stack.len() >= LEAST_DEPTH as usize && stack.len() < way.len());
                assert_eq!(inner, of(&way[way.len() - inner.len()..]));
                assert_eq!(outer, of(&way[..outer.len()]));
            }
            assert!(sum <= most.max(LEAST_DEPTH * 201_000), "{sum}");
        }
        assert_eq!(
            deepest(&recording, &Stacks::of(&recording, &frames, 8).depths, 1 << 60),
            u32::MAX
        );
    }

    #[test]
    fn a_name_acts_on_nothing_and_has_a_length_that_was_meant() {
        assert!(matches!(tame("Cache.load"), Cow::Borrowed("Cache.load")));
        assert_eq!(tame("naïve 数据"), "naïve 数据");
        assert_eq!(tame("a\x1b[31m\n\u{202e}"), r"a\x1b[31m\n\u{202e}");
        let cut = tame(&"é".repeat(1 << 20)).into_owned();
        assert!(cut.ends_with("é…") && cut.len() <= LONGEST_NAME + "…".len());
    }
}
