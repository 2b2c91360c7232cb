//! speedscope's own JSON (`file-format-schema.json` of the `speedscope` package): frames that all profiles share, and a
//! sampled profile for each amount, weighed in bytes.
//!
//! Owns the order of the profiles. Stacks are written while they are walked: all of them at once would be more than
//! the recording itself.

use pydefrag_heap::Recording;
use serde::ser::{Serialize, Serializer};

use super::frames::{Frames, KINDS, Kind, Stacks, tame};

/// Bytes of a frame in a stack: its number and a comma.
const FRAME: usize = 8;

#[derive(serde::Serialize)]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: String,
    exporter: &'a str,
    #[serde(rename = "activeProfileIndex")]
    active: u32,
    shared: Shared<'a>,
    profiles: Vec<Profile<'a>>,
}

#[derive(serde::Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(serde::Serialize)]
struct Frame<'a> {
    name: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    file: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "is_zero")]
    line: u32,
}

fn is_zero(line: &u32) -> bool {
    *line == 0
}

#[derive(serde::Serialize)]
struct Profile<'a> {
    r#type: &'static str,
    name: &'static str,
    unit: &'static str,
    #[serde(rename = "startValue")]
    start: u64,
    #[serde(rename = "endValue")]
    end: u64,
    samples: Samples<'a>,
    weights: Vec<u64>,
}

/// The stacks of an amount.
struct Samples<'a> {
    stacks: &'a Stacks<'a>,
    kind: &'a Kind,
}

impl Samples<'_> {
    fn calls(&self) -> impl Iterator<Item = u32> {
        self.stacks.calls(|own| (self.kind.of)(own).bytes > 0)
    }
}

impl Serialize for Samples<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.calls().map(|call| {
            let mut stack = self.stacks.innermost_first(call);
            stack.reverse();
            stack
        }))
    }
}

pub(super) fn write(recording: &Recording) -> Vec<u8> {
    let frames = Frames::of(recording);
    let stacks = Stacks::of(recording, &frames, FRAME);
    let profile = |kind: &'static Kind| {
        let samples = Samples { stacks: &stacks, kind };
        let weight = |call: u32| (kind.of)(&recording.calls[call as usize].own).bytes;
        let weights: Vec<u64> = samples.calls().map(weight).collect();
        let end = weights.iter().fold(0, |sum: u64, w| sum.saturating_add(*w));
        Profile {
            r#type: "sampled",
            name: kind.name,
            unit: "bytes",
            start: 0,
            end,
            samples,
            weights,
        }
    };
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        name: format!("{} (pid {})", tame(&recording.process.command), recording.process.pid),
        exporter: &tame(&recording.tool),
        active: 0,
        shared: Shared {
            frames: (0..frames.len())
                .map(|frame| frames.said(frame))
                .map(|said| Frame { name: said.name, file: said.file, line: said.line })
                .collect(),
        },
        profiles: KINDS.iter().map(profile).collect(),
    };
    // Fails only for maps whose keys are not strings, and no type here has a map.
    let mut out = serde_json::to_vec(&file).expect("plain data is JSON");
    out.push(b'\n');
    out
}
