//! What a list of events comes to, counted the plain way: maps, and a copy of all stacks at every peak.
//!
//! Shares no code with `sum`. A block that a realloc frees counts as live until its thread's next event: then the new one is
//! there, or the old one was kept.

use std::collections::{BTreeMap, HashMap};

use pydefrag_heap::{Amount, Events, Moment, Recording, Tally};
use pydefrag_trace::chunk::GIL;
use pydefrag_trace::code::Code;
use pydefrag_trace::event::{Event, FIRST_NODE, NO_GIL, NO_STACK};

/// Function, file and line of each call, outermost first.
pub(crate) type Way = Vec<(String, String, u32)>;

/// What is true of a trace, or what a recording says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Counted {
    pub(crate) events: Events,
    pub(crate) allocated: Amount,
    pub(crate) peak: Amount,
    pub(crate) peak_ns: u64,
    pub(crate) peak_rss: Option<u64>,
    pub(crate) retained: Amount,
    pub(crate) duration_ns: u64,
    pub(crate) ways: BTreeMap<Way, Tally>,
    pub(crate) threads: BTreeMap<u32, Amount>,
    pub(crate) timeline: Vec<Moment>,
    pub(crate) happenings: usize,
}

/// A live block: its size and its stack.
type Block = (u64, u32);

fn add(to: &mut Amount, size: u64) {
    to.count += 1;
    to.bytes += size;
}

fn take(from: &mut Amount, size: u64) {
    from.count -= 1;
    from.bytes -= size;
}

/// Counts events in their order.
pub(crate) fn recount(events: &[(u16, Event)], codes: &[Code]) -> Counted {
    let mut out = Counted::default();
    let mut nodes = vec![(0, 0, 0); FIRST_NODE as usize];
    let mut live: HashMap<u64, Block> = HashMap::new();
    let mut tallies: HashMap<u32, Tally> = HashMap::new();
    let (mut held, mut rss) = (Amount::default(), None);
    let mut thread: HashMap<u16, u32> = HashMap::new();
    // Of each lane and thread, what a realloc has freed; `None` inside where it was a block of before.
    let mut pending: HashMap<(u16, Option<u32>), (u64, Option<Block>)> = HashMap::new();
    let mut at_end = None;
    for (lane, event) in events {
        let who = (*lane, thread.get(lane).copied());
        let moved = match event {
            Event::Alloc { .. } | Event::Free { .. } => pending.remove(&who),
            _ => None,
        };
        match moved {
            Some((_, Some((size, node)))) => {
                out.events.frees += 1;
                take(&mut held, size);
                take(&mut tallies.get_mut(&node).unwrap().retained, size);
            }
            Some((_, None)) => out.events.frees_of_before += 1,
            None => {}
        }
        match event {
            Event::Alloc { address, size, node, .. } => {
                out.events.allocations += 1;
                out.events.reallocations += u64::from(moved.is_some());
                assert_eq!(live.insert(*address, (*size, *node)), None);
                let tally = tallies.entry(*node).or_default();
                add(&mut tally.allocated, *size);
                add(&mut tally.retained, *size);
                add(&mut out.allocated, *size);
                add(&mut held, *size);
                if let Some(tid) = who.1 {
                    add(out.threads.get_mut(&tid).unwrap(), *size);
                }
                if held.bytes > out.peak.bytes {
                    (out.peak, out.peak_ns, out.peak_rss) = (held, out.duration_ns, rss);
                    tallies.values_mut().for_each(|tally| tally.peak = tally.retained);
                }
            }
            Event::Free { address, moved: true } => {
                pending.insert(who, (*address, live.remove(address)));
            }
            Event::Free { address, moved: false } => match live.remove(address) {
                Some((size, node)) => {
                    out.events.frees += 1;
                    take(&mut held, size);
                    take(&mut tallies.get_mut(&node).unwrap().retained, size);
                }
                None => out.events.frees_of_before += 1,
            },
            Event::Kept => {
                if let Some((address, Some(block))) = pending.remove(&who) {
                    live.insert(address, block);
                }
            }
            Event::Node { parent, code, offset, .. } => nodes.push((*parent, *code, *offset)),
            Event::Thread(tid) => {
                thread.insert(*lane, *tid);
                out.threads.entry(*tid).or_default();
            }
            Event::Time(ns) => {
                out.duration_ns = *ns;
                out.timeline.push(Moment { at_ns: *ns, live: held, rss });
            }
            Event::Rss(bytes) => rss = Some(*bytes),
            Event::Ending => at_end = Some((held, tallies.clone())),
            Event::Stamp(_) => unreachable!("no event of its own"),
            _ => out.happenings += 1,
        }
    }
    for (size, node) in pending.into_values().filter_map(|(_, block)| block) {
        out.events.frees += 1;
        take(&mut held, size);
        take(&mut tallies.get_mut(&node).unwrap().retained, size);
    }
    out.timeline.push(Moment { at_ns: out.duration_ns, live: held, rss });
    out.retained = held;
    if let Some((held, then)) = at_end {
        out.retained = held;
        for (node, tally) in &mut tallies {
            tally.retained = then.get(node).map(|t| t.retained).unwrap_or_default();
        }
    }
    for (node, tally) in tallies {
        out.ways.entry(way(node, &nodes, codes)).or_default().add(&tally);
    }
    out
}

fn way(node: u32, nodes: &[(u32, u32, u32)], codes: &[Code]) -> Way {
    match node {
        NO_STACK => return vec![("(no Python frame)".into(), String::new(), 0)],
        NO_GIL => return vec![("(without the GIL)".into(), String::new(), 0)],
        _ => {}
    }
    let mut way = Way::new();
    let mut at = node;
    while at >= FIRST_NODE {
        let (parent, code, offset) = nodes[at as usize];
        way.push(match codes.iter().find(|c| c.number == code) {
            // Two bytes of code are a line, as planted.
            Some(c) => {
                (c.name.clone(), c.file.clone(), c.first_line + offset.saturating_sub(1) / 2)
            }
            None => ("(unknown)".into(), String::new(), 0),
        });
        at = parent;
    }
    way.reverse();
    way
}

/// What a recording says, in the same form.
pub(crate) fn said(recording: &Recording) -> Counted {
    let mut ways = BTreeMap::new();
    for (i, call) in (0u32..).zip(&recording.calls) {
        if call.own == Tally::default() {
            continue;
        }
        let way: Way = recording
            .stack(i)
            .iter()
            .map(|at| {
                let call = &recording.calls[*at as usize];
                let function = &recording.functions[call.function as usize];
                (function.name.clone(), function.file.clone(), call.line)
            })
            .collect();
        assert_eq!(ways.insert(way, call.own), None, "a call stands once in the tree");
    }
    Counted {
        events: recording.events,
        allocated: recording.allocated,
        peak: recording.peak.live,
        peak_ns: recording.peak.at_ns,
        peak_rss: recording.peak.rss,
        retained: recording.retained,
        duration_ns: recording.duration_ns,
        ways,
        threads: recording.threads.iter().map(|t| (t.tid, t.allocated)).collect(),
        timeline: recording.timeline.clone(),
        happenings: recording.happenings.len(),
    }
}

/// Events as a reader hands them out, less what it may hand out early: which thread is next beside the GIL.
pub(crate) fn in_order(events: &[(u16, Event)]) -> Vec<(u16, Event)> {
    let early = |lane: u16, event: &Event| lane != GIL && matches!(event, Event::Thread(_));
    events.iter().filter(|(lane, event)| !early(*lane, event)).cloned().collect()
}
