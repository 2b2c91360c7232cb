//! What `sum` makes of planted traces.

use pydefrag_heap::Recording;
use pydefrag_trace::chunk::{Begin, End, GIL};
use pydefrag_trace::event::{Domain, Event, FIRST_NODE};
use pydefrag_trace::{Trace, compress, sum};

use crate::planted::{self, begin, program};
use crate::random::Random;
use crate::recount::{in_order, recount, said};
use crate::writer::Writer;

fn summed(bytes: &[u8]) -> Recording {
    sum(&Trace::from_bytes(bytes.to_vec()).unwrap(), &|_, _| {})
}

pub(crate) fn merged(bytes: &[u8]) -> Vec<(u16, Event)> {
    let trace = Trace::from_bytes(bytes.to_vec()).unwrap();
    let (mut events, mut all) = (trace.events(), Vec::new());
    events.each(&|_, _| {}, &mut |lane, event| all.push((lane, event)));
    assert!(trace.damage.is_empty() && events.damage().is_empty());
    all
}

pub(crate) fn compressed(bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut out = Vec::new();
    compress(file.path(), &mut out, &|_, _| {}).unwrap();
    out
}

#[test]
fn a_sum_is_what_a_plain_recount_makes_of_the_events() {
    for seed in 0..40 {
        let planted = program(seed, 1000 + 300 * seed as usize);
        let recording = summed(&planted.bytes);
        assert_eq!(said(&recording), recount(&planted.events, &planted.codes), "seed {seed}");
        assert_eq!(recording.notes, ["a note", "another note"]);
        let own: u64 = recording.calls.iter().map(|c| c.own.peak.bytes).sum();
        assert_eq!(own, recording.peak.live.bytes);
    }
}

/// Large enough for another thread to read ahead.
#[test]
fn a_larger_trace_comes_to_what_a_recount_makes_of_it() {
    let planted = program(300, 200_000);
    assert!(planted.bytes.len() > 400 << 10);
    let reached = std::cell::Cell::new((0, 0));
    let trace = Trace::from_bytes(planted.bytes.clone()).unwrap();
    let recording = sum(&trace, &|done, total| {
        assert!(done >= reached.get().0 && done <= total);
        reached.set((done, total));
    });
    let (mut said, mut counted) = (said(&recording), recount(&planted.events, &planted.codes));
    // The recount keeps every moment.
    assert!(said.timeline.len() < counted.timeline.len());
    (said.timeline, counted.timeline) = Default::default();
    assert!(said == counted, "{:?} and {:?}", said.events, counted.events);
    assert_eq!(reached.get().0, reached.get().1);
    assert!(reached.get().1 > 400 << 10);
}

#[test]
fn lanes_are_merged_in_the_order_of_what_happened() {
    for seed in 100..110 {
        let planted = program(seed, 5000);
        assert_eq!(in_order(&merged(&planted.bytes)), in_order(&planted.events), "seed {seed}");
    }
}

#[test]
fn a_compressed_trace_comes_to_the_same() {
    for seed in 200..205 {
        let planted = program(seed, 20_000);
        let smaller = compressed(&planted.bytes);
        assert!(smaller.len() < planted.bytes.len());
        assert_eq!(summed(&smaller), summed(&planted.bytes), "seed {seed}");
        assert_eq!(merged(&smaller), merged(&planted.bytes), "seed {seed}");
    }
}

#[test]
fn of_equal_peaks_the_first_counts() {
    let mut events: Vec<Event> = [0u32, 1]
        .map(|i| Event::Node { node: FIRST_NODE + i, parent: 0, code: i * 2, offset: 1 })
        .into();
    let alloc =
        |n: u64, node| Event::Alloc { address: n * 64, size: 48, node, domain: Domain::Python };
    events.push(Event::Time(1000));
    events.extend([alloc(1, FIRST_NODE), alloc(2, FIRST_NODE)]);
    events.push(Event::Free { address: 64, moved: false });
    events.push(Event::Time(2000));
    events.push(alloc(3, FIRST_NODE + 1));
    let events: Vec<_> = events.into_iter().map(|event| (GIL, event)).collect();
    let codes = [planted::code(0), planted::code(2)];
    let mut writer = Writer::new(&begin(), 100);
    writer.codes(&codes);
    events.iter().for_each(|(lane, event)| writer.event(*lane, event));
    let recording = summed(&writer.finish(Some(&End::default())));
    assert_eq!(recording.peak.at_ns, 1000);
    assert_eq!(recording.calls.iter().map(|c| c.own.peak.bytes).collect::<Vec<_>>(), [0, 96, 0]);
    assert_eq!(said(&recording), recount(&events, &codes));
}

/// A sampled trace, of which the truth is known: it grows to its peak, half goes, then what comes goes soon.
pub(crate) fn sampled(seed: u64, every: u64) -> (Vec<u8>, [u64; 3]) {
    const BLOCKS: usize = 6000;
    const SIZES: [u64; 6] = [16, 40, 100, 600, 5000, 70_000];
    let (mut program, mut random) = (Random(1), Random(1 << 32 | seed));
    let mut writer = Writer::new(&Begin { every: Some(every), ..begin() }, 4000);
    let mut truth = [0u64; 3];
    let mut told = std::collections::HashSet::new();
    let mut live = Vec::new();
    let mut next = 0x7f00_0000_0000;
    let mut alloc = |writer: &mut Writer, told: &mut std::collections::HashSet<u64>| {
        // The larger, the rarer.
        let which = (0..5).find(|_| program.once_in(2)).unwrap_or(5);
        let size = SIZES[which];
        next += size.next_multiple_of(16) + 16;
        if random.unit() < -(-(size as f64) / every as f64).exp_m1() {
            told.insert(next);
            let event = Event::Alloc { address: next, size, node: 0, domain: Domain::Malloc };
            writer.event(GIL, &event);
        }
        (next, size)
    };
    let free = |writer: &mut Writer, told: &mut std::collections::HashSet<u64>, address| {
        if told.remove(&address) {
            writer.event(GIL, &Event::Free { address, moved: false });
        }
    };
    for _ in 0..BLOCKS {
        let block = alloc(&mut writer, &mut told);
        truth[0] += block.1;
        truth[1] += block.1;
        live.push(block);
    }
    truth[2] = truth[1];
    for (address, size) in live.into_iter().step_by(2) {
        free(&mut writer, &mut told, address);
        truth[2] -= size;
    }
    for _ in 0..BLOCKS {
        let (address, size) = alloc(&mut writer, &mut told);
        truth[0] += size;
        free(&mut writer, &mut told, address);
    }
    (writer.finish(Some(&End::default())), truth)
}

#[test]
fn estimates_of_a_sampled_trace_are_without_bias_and_their_error_is_as_told() {
    const RUNS: u64 = 200;
    let (mut truth, mut estimates, mut told) = ([0; 3], Vec::new(), [0.0; 3]);
    for seed in 0..RUNS {
        let (bytes, true_of_all) = sampled(seed, 20_000);
        let recording = summed(&bytes);
        let error = recording.error.unwrap();
        truth = true_of_all;
        for (sum, error) in told.iter_mut().zip([error.allocated, error.peak, error.retained]) {
            *sum += error as f64 / RUNS as f64;
        }
        estimates.push([
            recording.allocated.bytes as f64,
            recording.peak.live.bytes as f64,
            recording.retained.bytes as f64,
        ]);
    }
    for (i, what) in ["allocated", "peak", "retained"].into_iter().enumerate() {
        let n = RUNS as f64;
        let mean = estimates.iter().map(|e| e[i]).sum::<f64>() / n;
        let variance = estimates.iter().map(|e| (e[i] - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let (spread, of_mean) = (variance.sqrt(), (variance / n).sqrt());
        let off = (mean - truth[i] as f64) / of_mean;
        assert!(off.abs() < 3.0, "{what}: {mean} is {off} standard errors from {}", truth[i]);
        let ratio = told[i] / spread;
        assert!((0.8..1.2).contains(&ratio), "{what}: told {} of {spread}", told[i]);
    }
}
