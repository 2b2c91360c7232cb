use std::collections::HashMap;
use std::io::Read;

use pydefrag_heap::{Amount, Tally};
use serde_json::Value;

use super::*;
use crate::sample;

#[derive(serde::Deserialize)]
struct Speedscope {
    shared: Shared,
    profiles: Vec<Profile>,
}

#[derive(serde::Deserialize)]
struct Shared {
    frames: Vec<serde::de::IgnoredAny>,
}

#[derive(serde::Deserialize)]
struct Profile {
    #[serde(rename = "endValue")]
    end: u64,
    samples: Vec<Vec<u32>>,
    weights: Vec<u64>,
}

/// What a format says of its own amounts, summed: live at the peak, retained, allocated; `None` of what it has not.
fn sums(recording: &Recording, format: Format) -> [Option<u64>; 3] {
    let bytes = export(recording, format);
    match format {
        Format::Folded => {
            let text = String::from_utf8(bytes).unwrap();
            let number = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
            [Some(text.lines().map(number).sum()), None, None]
        }
        Format::Speedscope => {
            // By its own types: as values, stacks of millions of frames are gigabytes.
            let file: Speedscope = serde_json::from_slice(&bytes).unwrap();
            let frames = file.shared.frames.len() as u32;
            let sums = file.profiles.iter().map(|profile| {
                let sum: u64 = profile.weights.iter().sum();
                assert_eq!(profile.end, sum);
                assert_eq!(profile.samples.len(), profile.weights.len());
                assert!(profile.samples.iter().flatten().all(|&frame| frame < frames));
                Some(sum)
            });
            sums.collect::<Vec<_>>().try_into().unwrap()
        }
        Format::Firefox => {
            let profile: Value = serde_json::from_slice(&bytes).unwrap();
            [0, 1, 2].map(|i| {
                let weights = &profile["threads"][i]["nativeAllocations"]["weight"];
                Some(weights.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum())
            })
        }
        Format::Pprof => {
            let profile = Pprof::read(&bytes);
            let sum = |i: usize| Some(profile.samples.iter().map(|s| s.1[i]).sum());
            [sum(5), sum(3), sum(1)]
        }
    }
}

#[test]
fn the_amounts_of_an_export_sum_to_the_totals() {
    let large = [("deep", sample::deep_recording()), ("wide", sample::wide_recording())];
    for (name, recording) in sample::recordings().into_iter().chain(large) {
        let totals =
            [recording.peak.live.bytes, recording.retained.bytes, recording.allocated.bytes];
        for format in Format::ALL {
            for (sum, total) in sums(&recording, format).into_iter().zip(totals) {
                assert_eq!(sum.unwrap_or(total), total, "{name} as {}", format.name());
            }
        }
    }
}

#[test]
fn collapsed_stacks() {
    let folded = |r: &Recording| String::from_utf8(export(r, Format::Folded)).unwrap();
    insta::assert_snapshot!("folded", folded(&sample::recording()));
    assert_eq!(folded(&sample::nothing_recorded()), "");
    // Whatever a name is, a line is one stack, and a frame ends at its own ends only.
    let hostile = sample::hostile_recording();
    let text = folded(&hostile);
    let stacks = hostile.calls.iter().enumerate().filter(|(_, c)| c.own.peak.bytes > 0);
    for (line, (i, _)) in text.lines().zip(stacks.clone()) {
        let depth = hostile.stack(i as u32).len().max(1);
        assert_eq!(line.split(';').count(), depth, "{line}");
        assert!(!line.contains(char::is_control) && line.len() < 10_000, "{line}");
    }
    assert_eq!(text.lines().count(), stacks.count());
}

#[test]
fn the_others_are_held() {
    let json = |format| -> String {
        let bytes = export(&sample::recording(), format);
        assert!(bytes.ends_with(b"}\n"));
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        crate::json::lined(&value)
    };
    insta::assert_snapshot!("speedscope", json(Format::Speedscope));
    insta::assert_snapshot!("firefox", json(Format::Firefox));
    let profile = Pprof::read(&export(&sample::sampled_recording(), Format::Pprof));
    insta::assert_snapshot!("pprof", profile.text());
}

#[test]
fn every_table_of_a_firefox_profile_is_as_long_as_it_says() {
    for (name, recording) in sample::recordings() {
        let bytes = export(&recording, Format::Firefox);
        let profile: Value = serde_json::from_slice(&bytes).unwrap();
        let mut tables = Vec::new();
        let mut waiting = vec![&profile];
        while let Some(value) = waiting.pop() {
            match value {
                Value::Object(fields) => {
                    waiting.extend(fields.values());
                    tables.extend(fields.contains_key("length").then_some(fields));
                }
                Value::Array(all) => waiting.extend(all),
                _ => {}
            }
        }
        assert!(tables.len() > 12, "{name}");
        for table in tables {
            let length = table["length"].as_u64().unwrap() as usize;
            let columns = table.values().filter_map(Value::as_array);
            columns.for_each(|column| assert_eq!(column.len(), length, "{name}: {table:?}"));
        }
        // What is at the end of the range, or behind it, the tool leaves out.
        let end = profile["meta"]["profilingEndTime"].as_f64().unwrap();
        for thread in profile["threads"].as_array().unwrap() {
            let times = thread["nativeAllocations"]["time"].as_array().unwrap();
            assert!(times.iter().all(|time| time.as_f64().unwrap() < end), "{name}");
        }
        // Each stack is behind what it leads on from.
        let prefixes = profile["shared"]["stackTable"]["prefix"].as_array().unwrap();
        for (i, prefix) in prefixes.iter().enumerate() {
            assert!(prefix.as_u64().is_none_or(|prefix| prefix < i as u64), "{name}");
        }
    }
}

#[test]
fn pprof_has_what_each_call_allocated_under_its_stack() {
    for (name, recording) in sample::recordings() {
        let profile = Pprof::read(&export(&recording, Format::Pprof));
        let told = recording.calls.iter().enumerate().filter(|(_, c)| c.own != Tally::default());
        assert_eq!(profile.samples.len(), told.clone().count(), "{name}");
        for ((stack, values), (i, call)) in profile.samples.iter().zip(told) {
            let Amount { count, bytes } = call.own.allocated;
            assert_eq!((values[0], values[1]), (count, bytes), "{name}");
            assert_eq!(stack.len(), recording.stack(i as u32).len().max(1), "{name}");
            assert!(stack.iter().all(|l| profile.locations.contains_key(l)), "{name}");
        }
        for (function, _) in profile.locations.values() {
            let texts = &profile.functions[function];
            assert!(texts.iter().all(|&text| (text as usize) < profile.strings.len()), "{name}");
        }
        assert_eq!(profile.strings[0], "", "{name}");
    }
}

/// A profile read back: as much of protobuf as it takes.
#[derive(Default)]
struct Pprof {
    strings: Vec<String>,
    types: Vec<[u64; 2]>,
    /// Locations, innermost first, and values.
    samples: Vec<(Vec<u64>, Vec<u64>)>,
    /// Function and line.
    locations: HashMap<u64, (u64, u64)>,
    /// Name and file.
    functions: HashMap<u64, [u64; 2]>,
    numbers: Vec<(u64, u64)>,
}

/// The fields of a message: numbers, and the bytes of those that have a length.
fn fields(message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let mut rest = message;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let n = varint(&mut rest);
        let bytes = match tag & 7 {
            0 => &[],
            2 => {
                let (bytes, after) = rest.split_at(n as usize);
                rest = after;
                bytes
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, n, bytes));
    }
    found
}

fn varint(from: &mut &[u8]) -> u64 {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first().expect("it goes on");
        *from = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    n
}

fn packed(mut bytes: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        numbers.push(varint(&mut bytes));
    }
    numbers
}

impl Pprof {
    fn read(gzipped: &[u8]) -> Pprof {
        let mut message = Vec::new();
        flate2::read::GzDecoder::new(gzipped).read_to_end(&mut message).expect("gzip");
        let mut profile = Pprof::default();
        for (field, n, bytes) in fields(&message) {
            let inner = if matches!(field, 1..=5) { fields(bytes) } else { Vec::new() };
            let number = |of: u64| inner.iter().find(|f| f.0 == of).map_or(0, |f| f.1);
            let nested = |of: u64| inner.iter().find(|f| f.0 == of).map_or(&[][..], |f| f.2);
            match field {
                1 => profile.types.push([number(1), number(2)]),
                2 => profile.samples.push((packed(nested(1)), packed(nested(2)))),
                4 => {
                    let line = fields(nested(4));
                    let of = |of: u64| line.iter().find(|f| f.0 == of).map_or(0, |f| f.1);
                    profile.locations.insert(number(1), (of(1), of(2)));
                }
                5 => {
                    profile.functions.insert(number(1), [number(2), number(4)]);
                }
                6 => profile.strings.push(String::from_utf8(bytes.to_vec()).expect("UTF-8")),
                9.. => profile.numbers.push((field, n)),
                _ => {}
            }
        }
        profile
    }

    fn text(&self) -> String {
        let string = |n: u64| &self.strings[n as usize];
        let mut lines: Vec<String> = self
            .types
            .iter()
            .map(|[name, unit]| format!("{}/{}", string(*name), string(*unit)))
            .collect();
        for (stack, values) in &self.samples {
            let frame = |location: &u64| {
                let (function, line) = self.locations[location];
                let [name, file] = self.functions[&function];
                format!("{} {}:{line}", string(name), string(file))
            };
            let stack: Vec<String> = stack.iter().map(frame).collect();
            lines.push(format!("{values:?} {}", stack.join(" < ")));
        }
        lines.extend(self.numbers.iter().map(|(field, n)| format!("{field}: {n}")));
        lines.join("\n")
    }
}
