//! The page of a recording: how its calls lie in the file. What is drawn from them is the scripts' in `assets`.
//!
//! # The file
//!
//! - the island `facts`, JSON: `kind` (`recording`), and the fields of [`Recording`] but for functions and calls;
//!   `happenings` are [`MOST_HAPPENINGS`] at most, `happenings_left_out` says how many are not there;
//! - `calls-functions`: JSON, an array of `[name, file, line]`;
//! - `calls-tree`, varints, three for each call: its own number less its parent's, its function, its line;
//! - `calls-own`, varints, six for each call: count and bytes of what was live at the peak, retained, allocated.
//!
//! As JSON a recording of 200,000 calls would be tens of megabytes; as columns it is a few.

use std::cmp::Reverse;

use pydefrag_heap::{
    Amount, Events, Happening, Moment, Peak, RecordedProcess, RecordedThread, Recording,
    RecordingMode, SamplingError, What,
};
use serde::Serialize;

use super::island::Islands;
use super::page;

/// What happened that is in the page; of more, what the program did itself goes first.
const MOST_HAPPENINGS: usize = 20_000;
/// Characters of a name: more is never shown.
const LONGEST_NAME: usize = 2000;

#[derive(Serialize)]
struct Facts<'a> {
    kind: &'static str,
    tool: &'a str,
    started_at: f64,
    duration_ns: u64,
    process: &'a RecordedProcess,
    mode: RecordingMode,
    events: Events,
    allocated: Amount,
    peak: Peak,
    retained: Amount,
    error: Option<SamplingError>,
    timeline: &'a [Moment],
    happenings: Vec<&'a Happening>,
    happenings_left_out: usize,
    threads: &'a [RecordedThread],
    notes: &'a [String],
}

pub(super) fn page(recording: &Recording) -> String {
    let mut islands = Islands::default();
    let functions: Vec<(&str, &str, u32)> = recording
        .functions
        .iter()
        .map(|function| (head(&function.name), head(&function.file), function.line))
        .collect();
    // Fails only for maps whose keys are not strings, and there are none.
    let functions = serde_json::to_vec(&functions).unwrap_or_default();
    islands.column("calls-functions".into(), functions);
    let (mut tree, mut own) = (Vec::new(), Vec::new());
    for (i, call) in recording.calls.iter().enumerate() {
        // What breaks the order of the tree is called by the root.
        let parent = (call.parent as usize).min(i.saturating_sub(1));
        let parent = if parent == call.parent as usize { parent } else { 0 };
        for n in [(i - parent) as u64, call.function.into(), call.line.into()] {
            varint(&mut tree, n);
        }
        for amount in [call.own.peak, call.own.retained, call.own.allocated] {
            varint(&mut own, amount.count);
            varint(&mut own, amount.bytes);
        }
    }
    islands.column("calls-tree".into(), tree);
    islands.column("calls-own".into(), own);
    let happenings = happenings(recording);
    let facts = Facts {
        kind: "recording",
        tool: &recording.tool,
        started_at: recording.started_at,
        duration_ns: recording.duration_ns,
        process: &recording.process,
        mode: recording.mode,
        events: recording.events,
        allocated: recording.allocated,
        peak: recording.peak,
        retained: recording.retained,
        error: recording.error,
        timeline: &recording.timeline,
        happenings_left_out: recording.happenings.len() - happenings.len(),
        happenings,
        threads: &recording.threads,
        notes: &recording.notes,
    };
    let title = format!("pydefrag: recording of process {}", recording.process.pid);
    page::page(&page::RECORDING, &title, &islands.json("facts", &facts), &islands.finish())
}

/// What happened, in order of time, as much as the page takes.
fn happenings(recording: &Recording) -> Vec<&Happening> {
    let mut all: Vec<&Happening> = recording.happenings.iter().collect();
    if all.len() > MOST_HAPPENINGS {
        let rank = |h: &&Happening| match h.what {
            What::Mark { .. } | What::Forked { .. } => u16::MAX,
            What::Mapped { .. } | What::Unmapped { .. } => u16::MAX - 1,
            // Rare ones are of old generations, and their beginnings belong to their ends.
            What::GcStart { generation } | What::GcStop { generation, .. } => generation.into(),
            What::ArenaBorn { .. } | What::ArenaDied { .. } => u16::MAX - 2,
        };
        all.sort_by_key(|h| Reverse(rank(h)));
        all.truncate(MOST_HAPPENINGS);
        all.sort_by_key(|h| h.at_ns);
    }
    all
}

/// A beginning of a long name.
fn head(text: &str) -> &str {
    text.char_indices().nth(LONGEST_NAME).map_or(text, |(at, _)| &text[..at])
}

fn varint(to: &mut Vec<u8>, mut n: u64) {
    // The scripts' numbers are doubles, and refuse what these do not tell apart.
    n = n.min((1 << 53) - 1);
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::sample;

    /// The bytes of a column.
    fn column(page: &str, id: &str) -> Vec<u8> {
        let mark = format!("<script type=\"application/octet-stream\" id=\"{id}\" data-bytes=\"");
        let island = &page[page.find(&mark).expect("it is there") + mark.len()..];
        let (length, rest) = island.split_once("\">").unwrap();
        let text = &rest[..rest.find('<').unwrap()];
        let stored = STANDARD.decode(text).unwrap();
        let mut bytes = Vec::new();
        flate2::read::DeflateDecoder::new(&stored[..]).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), length.parse::<usize>().unwrap());
        bytes
    }

    fn varints(bytes: &[u8]) -> Vec<u64> {
        let mut all = vec![0];
        let mut shift = 0;
        for byte in bytes {
            *all.last_mut().unwrap() |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                all.push(0);
                shift = 0;
            }
        }
        all.pop();
        all
    }

    #[test]
    fn the_page_has_every_call() {
        for recording in [sample::recording(), sample::wide_recording()] {
            let page = page(&recording);
            let own = varints(&column(&page, "calls-own"));
            let bytes = |of: usize| -> u64 { own.chunks(6).map(|c| c[of]).sum() };
            let totals = [&recording.peak.live, &recording.retained, &recording.allocated];
            assert_eq!([1, 3, 5].map(bytes), totals.map(|t| t.bytes));
            let tree = varints(&column(&page, "calls-tree"));
            assert_eq!(tree.len(), 3 * recording.calls.len());
            for (i, (said, call)) in tree.chunks(3).zip(&recording.calls).enumerate() {
                let parent = i as u64 - said[0];
                let wanted = [call.parent, call.function, call.line].map(u64::from);
                assert_eq!([parent, said[1], said[2]], wanted);
            }
        }
    }

    #[test]
    fn no_text_ends_what_it_stands_in() {
        let recording = sample::hostile_recording();
        let page = page(&recording);
        // Facts, three columns, the script; nothing else begins or ends one.
        assert_eq!(page.matches("<script").count(), 5);
        assert_eq!(page.matches("</script").count(), 5);
        assert!(page.contains("default-src 'none'") && !page.contains("unsafe"));
        assert!(page.len() < 4 << 20, "{}", page.len());
        let functions: Vec<(String, String, u32)> =
            serde_json::from_slice(&column(&page, "calls-functions")).unwrap();
        assert_eq!(functions.len(), recording.functions.len());
    }

    #[test]
    fn of_many_happenings_the_rare_ones_stay() {
        let mut recording = sample::recording();
        let mark = |at_ns| Happening { at_ns, what: What::Mark { text: "here".into() } };
        let start = |at_ns| Happening { at_ns, what: What::GcStart { generation: 0 } };
        recording.happenings =
            (0..50_000).map(|at| if at % 100 == 0 { mark(at) } else { start(at) }).collect();
        let kept = happenings(&recording);
        assert_eq!(kept.len(), MOST_HAPPENINGS);
        assert_eq!(kept.iter().filter(|h| matches!(h.what, What::Mark { .. })).count(), 500);
        assert!(kept.is_sorted_by_key(|h| h.at_ns));
    }

    #[test]
    fn the_page_of_200_000_calls_is_a_few_megabytes() {
        let page = page(&sample::deep_recording());
        assert!(page.len() < 6 << 20, "{}", page.len());
    }
}
