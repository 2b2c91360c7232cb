//! pprof's `profile.proto`, gzipped: counts and bytes of what was allocated, retained and live at the peak.
//!
//! Owns the messages, written by hand: they are few, and of two wire types. What is live is named as in heap profiles
//! of other languages (`inuse`), so that tools know it: here it is what was retained at the end.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use pydefrag_heap::{Recording, RecordingMode, Tally};

use super::frames::{Frames, Stacks, tame};

/// Bytes of a frame in a stack.
const FRAME: usize = 4;

/// One of a sample's values: its name, its unit, and whence it is.
type Type = (&'static str, &'static str, fn(&Tally) -> u64);

/// All of them, in their order.
const TYPES: [Type; 6] = [
    ("alloc_objects", "count", |t| t.allocated.count),
    ("alloc_space", "bytes", |t| t.allocated.bytes),
    ("inuse_objects", "count", |t| t.retained.count),
    ("inuse_space", "bytes", |t| t.retained.bytes),
    ("peak_objects", "count", |t| t.peak.count),
    ("peak_space", "bytes", |t| t.peak.bytes),
];

/// Which of them is shown first.
const FIRST: &str = "peak_space";

/// Numbers of the fields that are written, message by message.
mod field {
    pub(super) const SAMPLE_TYPE: u32 = 1;
    pub(super) const SAMPLE: u32 = 2;
    pub(super) const MAPPING: u32 = 3;
    pub(super) const LOCATION: u32 = 4;
    pub(super) const FUNCTION: u32 = 5;
    pub(super) const STRING: u32 = 6;
    pub(super) const TIME_NANOS: u32 = 9;
    pub(super) const DURATION_NANOS: u32 = 10;
    pub(super) const PERIOD_TYPE: u32 = 11;
    pub(super) const PERIOD: u32 = 12;
    pub(super) const COMMENT: u32 = 13;
    pub(super) const DEFAULT_SAMPLE_TYPE: u32 = 14;
    /// Of a `ValueType`.
    pub(super) const TYPE: u32 = 1;
    pub(super) const UNIT: u32 = 2;
    /// Of a `Sample`.
    pub(super) const LOCATIONS: u32 = 1;
    pub(super) const VALUES: u32 = 2;
    /// Of what has a number of its own.
    pub(super) const ID: u32 = 1;
    /// Of a `Mapping`.
    pub(super) const MAPPED_FILE: u32 = 5;
    pub(super) const HAS: [u32; 3] = [7, 8, 9];
    /// Of a `Location`, and of its `Line`.
    pub(super) const MAPPING_OF: u32 = 2;
    pub(super) const LINE: u32 = 4;
    pub(super) const FUNCTION_OF: u32 = 1;
    pub(super) const LINE_NUMBER: u32 = 2;
    /// Of a `Function`.
    pub(super) const NAME: u32 = 2;
    pub(super) const FILE: u32 = 4;
    pub(super) const BEGINS: u32 = 5;
}

/// A message as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    /// A number; 0 is what a field has without being written.
    fn number(&mut self, field: u32, n: u64) {
        if n > 0 {
            self.varint(u64::from(field) << 3);
            self.varint(n);
        }
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u32, fill: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        fill(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn packed(&mut self, field: u32, numbers: impl IntoIterator<Item = u64>) {
        self.message(field, |inner| numbers.into_iter().for_each(|n| inner.varint(n)));
    }
}

/// The texts of a profile, each once; the first is the empty one.
struct Strings<'a> {
    numbers: HashMap<Cow<'a, str>, u64>,
    texts: Vec<Cow<'a, str>>,
}

impl<'a> Strings<'a> {
    fn new() -> Strings<'a> {
        let mut strings = Strings { numbers: HashMap::new(), texts: Vec::new() };
        strings.number("".into());
        strings
    }

    fn number(&mut self, text: Cow<'a, str>) -> u64 {
        if let Some(n) = self.numbers.get(&text) {
            return *n;
        }
        let n = self.texts.len() as u64;
        self.texts.push(text.clone());
        self.numbers.insert(text, n);
        n
    }
}

pub(super) fn write(recording: &Recording) -> Vec<u8> {
    let frames = Frames::of(recording);
    let mut strings = Strings::new();
    let mut profile = Message::default();
    for (name, unit, _) in TYPES {
        value_type(&mut profile, field::SAMPLE_TYPE, name, unit, &mut strings);
    }
    samples(recording, &frames, &mut profile);
    // One mapping that says that nothing needs to be looked up.
    let python = strings.number("python".into());
    profile.message(field::MAPPING, |mapping| {
        mapping.number(field::ID, 1);
        mapping.number(field::MAPPED_FILE, python);
        field::HAS.iter().for_each(|has| mapping.number(*has, 1));
    });
    places(&frames, &mut profile, &mut strings);
    profile.number(field::TIME_NANOS, nanoseconds(recording.started_at));
    profile.number(field::DURATION_NANOS, signed(recording.duration_ns));
    let period = match recording.mode {
        RecordingMode::Full => 1,
        RecordingMode::Sampled { every } => signed(every),
    };
    value_type(&mut profile, field::PERIOD_TYPE, "space", "bytes", &mut strings);
    profile.number(field::PERIOD, period);
    for note in [&recording.process.command, &recording.tool].into_iter().chain(&recording.notes) {
        let note = strings.number(tame(note));
        // Written even if it is the empty one, as each element of a list is.
        profile.packed(field::COMMENT, [note]);
    }
    let first = strings.number(FIRST.into());
    profile.number(field::DEFAULT_SAMPLE_TYPE, first);
    for text in &strings.texts {
        profile.bytes(field::STRING, text.as_bytes());
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    // Writing into memory does not fail.
    gzip.write_all(&profile.0).and_then(|()| gzip.finish()).unwrap_or_default()
}

fn value_type<'a>(to: &mut Message, field: u32, name: &'a str, unit: &'a str, s: &mut Strings<'a>) {
    let (name, unit) = (s.number(name.into()), s.number(unit.into()));
    to.message(field, |value| {
        value.number(field::TYPE, name);
        value.number(field::UNIT, unit);
    });
}

fn samples(recording: &Recording, frames: &Frames<'_>, profile: &mut Message) {
    let stacks = Stacks::of(recording, frames, FRAME);
    for call in stacks.calls(|own| *own != Tally::default()) {
        let own = &recording.calls[call as usize].own;
        profile.message(field::SAMPLE, |sample| {
            let stack = stacks.innermost_first(call);
            // A location's number is its frame's, counted from 1.
            sample.packed(field::LOCATIONS, stack.iter().map(|&frame| u64::from(frame) + 1));
            sample.packed(field::VALUES, TYPES.iter().map(|(_, _, of)| signed(of(own))));
        });
    }
}

/// Locations, one for each frame, and the functions that they are in.
fn places<'a>(frames: &Frames<'a>, profile: &mut Message, strings: &mut Strings<'a>) {
    let mut functions: HashMap<Option<u32>, u64> = HashMap::new();
    for frame in 0..frames.len() {
        let said = frames.said(frame);
        let of = frames.place(frame).map(|place| place.function);
        let next = functions.len() as u64 + 1;
        let function = *functions.entry(of).or_insert(next);
        if function == next {
            let name = strings.number(said.name);
            let file = strings.number(said.file);
            profile.message(field::FUNCTION, |function| {
                function.number(field::ID, next);
                // Without a system name, which pprof would take for a mangled one: `<module>` for a template.
                function.number(field::NAME, name);
                function.number(field::FILE, file);
                function.number(field::BEGINS, said.begins.into());
            });
        }
        profile.message(field::LOCATION, |location| {
            location.number(field::ID, u64::from(frame) + 1);
            location.number(field::MAPPING_OF, 1);
            location.message(field::LINE, |line| {
                line.number(field::FUNCTION_OF, function);
                line.number(field::LINE_NUMBER, said.line.into());
            });
        });
    }
}

/// A number that a signed field can hold.
fn signed(n: u64) -> u64 {
    n.min(i64::MAX as u64)
}

fn nanoseconds(seconds: f64) -> u64 {
    // By parts, for a product would round; what is no time becomes 0.
    let whole = (seconds.trunc() as u64).saturating_mul(1_000_000_000);
    signed(whole.saturating_add((seconds.fract() * 1e9) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_as_protobuf_has_them() {
        let mut message = Message::default();
        message.number(1, 150);
        message.number(2, 0);
        message.bytes(2, b"testing");
        message.packed(4, [3, 270, 86_942]);
        message.number(16, u64::MAX);
        let wanted = [
            &[0x08, 0x96, 0x01, 0x12, 0x07][..],
            b"testing",
            &[0x22, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05, 0x80, 0x01],
            &[0xff; 9],
            &[0x01],
        ];
        assert_eq!(message.0, wanted.concat());
    }

    #[test]
    fn times_that_are_none_are_0() {
        assert_eq!([f64::NAN, -1.0].map(nanoseconds), [0, 0]);
        assert_eq!(nanoseconds(f64::INFINITY), i64::MAX as u64);
        assert_eq!(nanoseconds(1_732_291_845.25), 1_732_291_845_250_000_000);
    }
}
