//! What happened beside allocations, as markers of the Firefox Profiler.
//!
//! Owns their names and which fields each has. A collection is an interval; all else is an instant.

use pydefrag_heap::{Recording, What};
use serde_json::{Value, json};

use super::{OTHER, Strings, milliseconds, tame};

/// Phases of a marker.
const INSTANT: u32 = 0;
const INTERVAL: u32 = 1;
const BEGIN: u32 = 2;

/// A table of markers.
#[derive(Default)]
struct Table {
    data: Vec<Value>,
    name: Vec<u32>,
    start: Vec<f64>,
    end: Vec<Option<f64>>,
    phase: Vec<u32>,
}

impl Table {
    fn add(&mut self, name: u32, start: u64, end: Option<u64>, phase: u32, data: Value) {
        self.data.push(data);
        self.name.push(name);
        self.start.push(milliseconds(start));
        self.end.push(end.map(milliseconds));
        self.phase.push(phase);
    }

    fn finish(self) -> Value {
        let length = self.data.len();
        json!({
            "data": self.data,
            "name": self.name,
            "startTime": self.start,
            "endTime": self.end,
            "phase": self.phase,
            "category": vec![OTHER; length],
            "length": length,
        })
    }
}

/// A thread's markers where it has none.
pub(super) fn none() -> Value {
    Table::default().finish()
}

/// All that happened.
pub(super) fn markers(recording: &Recording, strings: &mut Strings<'_>) -> Value {
    let mut table = Table::default();
    let mut collecting = None;
    let mut name = |name: &'static str| strings.number(name.into());
    let address = |n: &u64| format!("{n:#x}");
    for happening in &recording.happenings {
        let at = happening.at_ns;
        let (kind, data) = match &happening.what {
            What::GcStart { generation } => {
                // One that never ends is shown as such.
                if let Some((began, generation)) = collecting.replace((at, *generation)) {
                    let data = json!({ "type": "Collection", "generation": generation });
                    table.add(name("Collection"), began, None, BEGIN, data);
                }
                continue;
            }
            What::GcStop { generation, collected, uncollectable } => {
                let data = json!({
                    "type": "Collection", "generation": generation, "collected": collected,
                    "uncollectable": uncollectable,
                });
                match collecting.take() {
                    Some((began, _)) if began <= at => {
                        table.add(name("Collection"), began, Some(at), INTERVAL, data);
                        continue;
                    }
                    _ => ("Collection", data),
                }
            }
            What::ArenaBorn { address: a, bytes } => {
                ("Arena born", json!({ "type": "Memory", "bytes": bytes, "address": address(a) }))
            }
            What::ArenaDied { address: a, bytes } => {
                ("Arena died", json!({ "type": "Memory", "bytes": bytes, "address": address(a) }))
            }
            What::Mapped { address: a, bytes, call } => {
                let mut data = json!({ "type": "Memory", "bytes": bytes, "address": address(a) });
                if (*call as usize) < recording.calls.len() {
                    data["cause"] = json!({ "time": milliseconds(at), "stack": call });
                }
                ("Mapped", data)
            }
            What::Unmapped { address: a, bytes } => {
                ("Unmapped", json!({ "type": "Memory", "bytes": bytes, "address": address(a) }))
            }
            What::Forked { child } => {
                ("Forked", json!({ "type": "Forked", "child": child.to_string() }))
            }
            What::Mark { text } => ("Mark", json!({ "type": "Mark", "text": tame(text) })),
        };
        table.add(name(kind), at, None, INSTANT, data);
    }
    if let Some((began, generation)) = collecting {
        let data = json!({ "type": "Collection", "generation": generation });
        table.add(name("Collection"), began, None, BEGIN, data);
    }
    table.finish()
}

/// What each type of marker has, and where it is shown.
pub(super) fn schema() -> Value {
    let field = |key: &str, label: &str, format: &str| json!({ "key": key, "label": label, "format": format });
    let everywhere = ["marker-chart", "marker-table", "timeline-overview", "timeline-memory"];
    json!([
        {
            "name": "Collection",
            "tooltipLabel": "Collection of generation {marker.data.generation}",
            "tableLabel": "generation {marker.data.generation}, {marker.data.collected} freed",
            "chartLabel": "generation {marker.data.generation}",
            "display": everywhere,
            "description": "Python's garbage collector",
            "fields": [
                field("generation", "Generation", "integer"),
                field("collected", "Objects freed", "integer"),
                field("uncollectable", "Objects that could not be freed", "integer"),
            ],
        },
        {
            "name": "Memory",
            "tableLabel": "{marker.data.bytes} at {marker.data.address}",
            "chartLabel": "{marker.name}",
            "display": ["marker-chart", "marker-table", "timeline-memory"],
            "description": "An arena of pymalloc, or memory that the program mapped",
            "fields": [field("bytes", "Size", "bytes"), field("address", "Address", "string")],
        },
        {
            "name": "Forked",
            "tableLabel": "child {marker.data.child}",
            "chartLabel": "{marker.name}",
            "display": ["marker-chart", "marker-table", "timeline-overview"],
            "fields": [field("child", "Child", "pid")],
        },
        {
            "name": "Mark",
            "tooltipLabel": "{marker.data.text}",
            "tableLabel": "{marker.data.text}",
            "chartLabel": "{marker.data.text}",
            "display": everywhere,
            "description": "What the program said with pydefrag.mark",
            "fields": [field("text", "Text", "string")],
        },
    ])
}
