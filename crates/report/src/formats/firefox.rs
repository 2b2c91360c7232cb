//! The Firefox Profiler's processed profile, version 63 of `CHANGELOG-formats.md` in its repository; later ones of the
//! tool upgrade it.
//!
//! Owns the tables, which all threads share, and the threads: one for each amount, whose native allocations are the
//! lines that allocated it. Memory over time is two counters, and what happened is markers of the first thread
//! ([`markers`]). The stack table is the tree of calls as it is, so that its size is theirs whatever their depth.

mod markers;

use std::borrow::Cow;
use std::collections::HashMap;

use pydefrag_heap::{Moment, Recording};
use serde::Serialize;
use serde_json::{Value, json};

use super::frames::{Frames, KINDS, Kind, tame};

/// Version of the processed profile that is written.
const VERSION: u32 = 63;
/// Version of the unprocessed one that is named beside it: the last that there was.
const GECKO_VERSION: u32 = 27;
/// Milliseconds between samples, had there been any.
const INTERVAL: f64 = 1.0;
/// Numbers of the categories.
const PYTHON: u32 = 0;
const OTHER: u32 = 1;

#[derive(Serialize)]
struct Profile<'a> {
    meta: Value,
    libs: [(); 0],
    pages: [(); 0],
    counters: Vec<Counter>,
    shared: Shared<'a>,
    threads: Vec<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shared<'a> {
    stack_table: StackTable,
    frame_table: FrameTable,
    func_table: FuncTable,
    resource_table: Value,
    native_symbols: Value,
    sources: Sources,
    string_array: Vec<Cow<'a, str>>,
}

#[derive(Serialize)]
struct StackTable {
    frame: Vec<u32>,
    prefix: Vec<Option<u32>>,
    length: usize,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct FrameTable {
    address: Vec<i32>,
    inline_depth: Vec<u32>,
    category: Vec<Option<u32>>,
    subcategory: Vec<Option<u32>>,
    func: Vec<u32>,
    native_symbol: Vec<Option<u32>>,
    #[serde(rename = "innerWindowID")]
    inner_window: Vec<Option<u32>>,
    line: Vec<Option<u32>>,
    column: Vec<Option<u32>>,
    length: usize,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct FuncTable {
    #[serde(rename = "isJS")]
    is_js: Vec<bool>,
    #[serde(rename = "relevantForJS")]
    relevant_for_js: Vec<bool>,
    name: Vec<u32>,
    resource: Vec<i32>,
    source: Vec<Option<u32>>,
    line_number: Vec<Option<u32>>,
    column_number: Vec<Option<u32>>,
    length: usize,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Sources {
    id: Vec<Option<u32>>,
    filename: Vec<u32>,
    start_line: Vec<u32>,
    start_column: Vec<u32>,
    #[serde(rename = "sourceMapURL")]
    source_map: Vec<Option<u32>>,
    length: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counter {
    name: &'static str,
    category: &'static str,
    description: &'static str,
    pid: String,
    main_thread_index: u32,
    samples: CounterSamples,
    display: Value,
}

#[derive(Serialize)]
struct CounterSamples {
    time: Vec<f64>,
    count: Vec<i64>,
    length: usize,
}

/// Texts, each once.
#[derive(Default)]
struct Strings<'a> {
    numbers: HashMap<Cow<'a, str>, u32>,
    texts: Vec<Cow<'a, str>>,
}

impl<'a> Strings<'a> {
    fn number(&mut self, text: Cow<'a, str>) -> u32 {
        *self.numbers.entry(text).or_insert_with_key(|text| {
            self.texts.push(text.clone());
            self.texts.len() as u32 - 1
        })
    }
}

pub(super) fn write(recording: &Recording) -> Vec<u8> {
    let frames = Frames::of(recording);
    let mut strings = Strings::default();
    let (func_table, frame_table, sources) = places(recording, &frames, &mut strings);
    let markers = markers::markers(recording, &mut strings);
    let threads: Vec<Value> = KINDS
        .iter()
        .enumerate()
        .map(|(i, kind)| {
            // Times of the peak and of the end are known; what was allocated was so all along.
            let at = [recording.peak.at_ns, recording.duration_ns, 0][i];
            let markers = if i == 0 { markers.clone() } else { markers::none() };
            thread(recording, kind, i, milliseconds(at), markers)
        })
        .collect();
    let profile = Profile {
        meta: meta(recording),
        libs: [],
        pages: [],
        counters: counters(recording),
        shared: Shared {
            stack_table: stack_table(recording, &frames),
            frame_table,
            func_table,
            resource_table: json!({ "length": 0, "lib": [], "name": [], "host": [], "type": [] }),
            native_symbols: json!({
                "length": 0, "address": [], "functionSize": [], "libIndex": [], "name": [],
            }),
            sources,
            string_array: strings.texts,
        },
        threads,
    };
    // Fails only for maps whose keys are not strings, and no type here has one.
    let mut out = serde_json::to_vec(&profile).expect("plain data is JSON");
    out.push(b'\n');
    out
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn meta(recording: &Recording) -> Value {
    let process = &recording.process;
    let started = if recording.started_at.is_finite() { recording.started_at } else { 0.0 };
    json!({
        "interval": INTERVAL,
        "startTime": started * 1000.0,
        "profilingStartTime": 0,
        // The end of a range is not in it, and what was retained is of the end.
        "profilingEndTime": milliseconds(recording.duration_ns) + INTERVAL,
        "processType": 0,
        "product": tame(&process.command),
        "stackwalk": 0,
        "debug": false,
        "version": GECKO_VERSION,
        "preprocessedProfileVersion": VERSION,
        "symbolicated": true,
        "importedFrom": tame(&recording.tool),
        "platform": format!("Python {}", tame(&process.python)),
        "usesOnlyOneStackType": true,
        "sourceCodeIsNotOnSearchfox": true,
        "categories": [
            { "name": "Python", "color": "yellow", "subcategories": ["Other"] },
            { "name": "Other", "color": "grey", "subcategories": ["Other"] },
        ],
        "markerSchema": markers::schema(),
    })
}

/// Functions, frames and the files that they are in.
fn places<'a>(
    recording: &'a Recording,
    frames: &Frames<'a>,
    strings: &mut Strings<'a>,
) -> (FuncTable, FrameTable, Sources) {
    let mut functions = FuncTable::default();
    let mut table = FrameTable::default();
    let mut sources = Sources::default();
    let (mut of_function, mut of_file) = (HashMap::new(), HashMap::new());
    // No stack of this format is cut, so that the last frame is not needed.
    for frame in 0..frames.len() - 1 {
        let said = frames.said(frame);
        let function = frames.place(frame).map_or(u32::MAX, |place| place.function);
        let python = !said.file.is_empty();
        let func = *of_function.entry(function).or_insert_with(|| {
            let source = python.then(|| {
                let filename = strings.number(said.file.clone());
                *of_file.entry(filename).or_insert_with(|| {
                    sources.id.push(None);
                    sources.filename.push(filename);
                    sources.start_line.push(1);
                    sources.start_column.push(1);
                    sources.source_map.push(None);
                    sources.length += 1;
                    sources.length as u32 - 1
                })
            });
            functions.is_js.push(false);
            functions.relevant_for_js.push(false);
            functions.name.push(strings.number(said.name.clone()));
            functions.resource.push(-1);
            functions.source.push(source);
            functions.line_number.push((said.begins > 0).then_some(said.begins));
            functions.column_number.push(None);
            functions.length += 1;
            functions.length as u32 - 1
        });
        table.address.push(-1);
        table.inline_depth.push(0);
        table.category.push(Some(if python { PYTHON } else { OTHER }));
        table.subcategory.push(Some(0));
        table.func.push(func);
        table.native_symbol.push(None);
        table.inner_window.push(None);
        table.line.push((said.line > 0).then_some(said.line));
        table.column.push(None);
        table.length += 1;
    }
    debug_assert!(recording.calls.len() >= table.length);
    (functions, table, sources)
}

/// A stack for each call, by its number. Those that the root called begin a stack, and so does the root.
fn stack_table(recording: &Recording, frames: &Frames<'_>) -> StackTable {
    let calls = &recording.calls;
    let prefix =
        |i: usize| Some(calls[i].parent).filter(|&parent| parent != 0 && (parent as usize) < i);
    StackTable {
        frame: (0..calls.len() as u32).map(|call| frames.of_call(call)).collect(),
        prefix: (0..calls.len()).map(prefix).collect(),
        length: calls.len(),
    }
}

/// What was allocated of a kind, as the allocations of a thread.
fn thread(recording: &Recording, kind: &Kind, i: usize, at: f64, markers: Value) -> Value {
    let amount = |call: &u32| (kind.of)(&recording.calls[*call as usize].own).bytes;
    let calls: Vec<u32> = (0..recording.calls.len() as u32).filter(|c| amount(c) > 0).collect();
    let weights: Vec<u64> = calls.iter().map(amount).collect();
    json!({
        "name": kind.name,
        "isMainThread": i == 0,
        "processName": "Python",
        "processType": "default",
        "processStartupTime": 0,
        "processShutdownTime": null,
        "registerTime": 0,
        "unregisterTime": null,
        "pausedRanges": [],
        "showMarkersInTimeline": i == 0,
        "pid": recording.process.pid.to_string(),
        // Threads of one process, which the tool tells apart by these.
        "tid": i,
        "samples": { "stack": [], "time": [], "weight": null, "weightType": "samples", "length": 0 },
        "nativeAllocations": {
            "time": vec![at; calls.len()],
            "weight": weights,
            "weightType": "bytes",
            "length": calls.len(),
            "stack": calls,
        },
        "markers": markers,
    })
}

/// Live memory and RSS over time. A counter has what was added since the moment before.
fn counters(recording: &Recording) -> Vec<Counter> {
    let counter = |name, description, color: &str, weight: u32, of: fn(&Moment) -> Option<u64>| {
        let known = recording.timeline.iter().filter_map(|m| Some((m.at_ns, of(m)?)));
        let mut before = 0;
        let (time, count): (Vec<f64>, Vec<i64>) = known
            .map(|(at, bytes)| {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                let added = bytes - before;
                before = bytes;
                (milliseconds(at), added)
            })
            .unzip();
        let row = |source: &str, label: &str| json!({ "type": "value", "source": source, "format": { "unit": "bytes" }, "label": label });
        Counter {
            name,
            category: "Memory",
            description,
            pid: recording.process.pid.to_string(),
            main_thread_index: 0,
            samples: CounterSamples { length: time.len(), time, count },
            display: json!({
                "graphType": "line-accumulated",
                "unit": "bytes",
                "color": color,
                "markerSchemaLocation": "timeline-memory",
                "sortWeight": weight,
                "label": name,
                "tooltipRows": [
                    row("accumulated", &format!("{description}, above the least")),
                    row("count-range", "range in the graph"),
                ],
            }),
        }
    };
    let mut counters = vec![
        counter("Live", "live bytes of recorded allocations", "orange", 20, |m| Some(m.live.bytes)),
        counter("RSS", "resident bytes of the process", "grey", 21, |m| m.rss),
    ];
    counters.retain(|counter| counter.samples.length > 0);
    counters
}
