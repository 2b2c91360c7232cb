//! The interpreters of a process: their threads, and the lists of their garbage collectors.
//!
//! Owns the confirmation of what `pydefrag_layout::interpreter` only hints at: a thread must lead back
//! to its interpreter and to its neighbours, the ends of a list must meet at its head. What does not
//! hold, however often it is read, is left out; nothing here is an error.

use pydefrag_image::Image;
use pydefrag_layout::interpreter::{
    self, COLLECTOR_MOST, Collector, DEBUG_OFFSETS, FROZEN, GC_HEAD, GENERATION, Place, gc_head,
    generation_names,
};
use rustc_hash::FxHashSet;

use crate::runtime::Runtime;

/// One interpreter's state, as far as objects need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interpreter {
    pub(crate) id: i64,
    /// Of its `PyInterpreterState`.
    pub(crate) address: u64,
    /// Its `PyThreadState`s, the oldest first.
    pub(crate) threads: Vec<u64>,
    /// The lists that hold the objects its collector tracks.
    pub(crate) generations: Vec<GenerationHead>,
}

/// A list of the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GenerationHead {
    /// `0`, `1`, `2` or `frozen`; `young` and twice `old` where the collector is incremental.
    pub(crate) name: &'static str,
    /// Address of the `PyGC_Head` that the list begins and ends with.
    pub(crate) head: u64,
}

/// More interpreters or threads than any process has: a broken list.
const MOST_INTERPRETERS: usize = 1 << 12;
const MOST_THREADS: usize = 1 << 16;
/// Nodes of a list of the collector that must agree with their neighbours.
const PROBED: usize = 64;
/// How often a list is read again while it changes under us.
const TRIES: usize = 20;

/// The interpreters of a process, the main one first. Empty where they are not understood, and for a
/// build without the GIL.
pub(crate) fn interpreters(image: &Image, runtime: &Runtime) -> Vec<Interpreter> {
    let Some(layout) = layout(image, runtime) else { return Vec::new() };
    let Some(address) = runtime.address else { return Vec::new() };
    let (head, next, id) = match runtime.debug_offsets {
        Some(d) => (d.interpreters_head, d.interp_next, d.interp_id),
        None => {
            let l = runtime.layout;
            (l.interpreters_head, l.interp_next, l.interp_id)
        }
    };
    let names = generation_names(runtime.version);
    let mut seen = FxHashSet::default();
    let mut found = Vec::new();
    let mut at = word(image, address, head);
    // The list begins with the youngest.
    while let Some(interpreter) = at.filter(|at| *at != 0) {
        if found.len() >= MOST_INTERPRETERS || !seen.insert(interpreter) {
            break;
        }
        let Some(id) = word(image, interpreter, id) else { break };
        found.push(Interpreter {
            id: id as i64,
            address: interpreter,
            threads: threads(image, &layout, interpreter),
            generations: Vec::new(),
        });
        at = word(image, interpreter, next);
    }
    found.sort_by_key(|i| i.id);
    match layout.collector.place {
        Place::Runtime(offset) => {
            if let Some(first) = found.first_mut() {
                let collector = address.wrapping_add(offset);
                first.generations = generations(image, &layout.collector, collector, names);
            }
        }
        Place::Interpreter(offset) => {
            for one in &mut found {
                let collector = one.address.wrapping_add(offset);
                one.generations = generations(image, &layout.collector, collector, names);
            }
        }
    }
    found
}

/// The layout of a process's interpreters; `None` for a build without the GIL.
pub(super) fn layout(image: &Image, runtime: &Runtime) -> Option<interpreter::Interpreter> {
    let row = interpreter::interpreter(runtime.layout.minor)?;
    if runtime.free_threaded() {
        return None;
    }
    let mut told = [0; DEBUG_OFFSETS];
    let read = runtime.address.is_some_and(|at| image.read(at, &mut told).is_ok());
    Some(if runtime.debug_offsets.is_some() && read { row.told(&told) } else { *row })
}

/// The word at an offset of a structure; `None` where it cannot be read.
pub(super) fn word(image: &Image, at: u64, offset: u64) -> Option<u64> {
    image.word(at.checked_add(offset)?).ok()
}

/// The threads of an interpreter, the oldest first: as many, from the youngest, as hold together.
fn threads(image: &Image, layout: &interpreter::Interpreter, interpreter: u64) -> Vec<u64> {
    let mut best = Vec::new();
    for _ in 0..TRIES {
        let (threads, whole) = threads_once(image, layout, interpreter);
        if whole || threads.len() > best.len() {
            best = threads;
        }
        if whole {
            break;
        }
    }
    best.reverse();
    best
}

/// The threads from the youngest, and whether the list's end was reached.
fn threads_once(
    image: &Image,
    layout: &interpreter::Interpreter,
    interpreter: u64,
) -> (Vec<u64>, bool) {
    let (mut seen, mut threads) = (FxHashSet::default(), Vec::new());
    let mut at = word(image, interpreter, layout.threads_head);
    let mut before = 0;
    while let Some(thread) = at.filter(|at| *at != 0) {
        let holds = thread.is_multiple_of(8)
            && threads.len() < MOST_THREADS
            && word(image, thread, layout.thread.interp) == Some(interpreter)
            && word(image, thread, layout.thread.prev) == Some(before)
            && seen.insert(thread);
        if !holds {
            return (threads, false);
        }
        threads.push(thread);
        before = thread;
        at = word(image, thread, layout.thread.next);
    }
    (threads, at.is_some())
}

/// Those lists of a collector that hold together.
fn generations(
    image: &Image,
    layout: &Collector,
    collector: u64,
    names: [&'static str; 3],
) -> Vec<GenerationHead> {
    let known = layout.generations.map(|offset| collector.wrapping_add(offset));
    let first = word(image, collector, layout.generation0).unwrap_or(0);
    let inside = first.wrapping_sub(collector) < COLLECTOR_MOST;
    let pointed = inside.then(|| [0, 1, 2].map(|i| first.wrapping_add(i * GENERATION)));
    let holds = |head: u64| (0..TRIES).any(|_| is_list(image, head));
    // The pointer is the interpreter's own word, the offsets are from another patch release's.
    let young = pointed.filter(|heads| heads.iter().all(|head| holds(*head))).unwrap_or(known);
    let all = names.into_iter().zip(young);
    all.chain([(FROZEN, collector.wrapping_add(layout.permanent))])
        .map(|(name, head)| GenerationHead { name, head })
        .filter(|g| holds(g.head))
        .collect()
}

/// Whether a list's ends meet at its head, and its first nodes agree with their neighbours.
fn is_list(image: &Image, head: u64) -> bool {
    let node = |at: u64| {
        let mut bytes = [0; GC_HEAD];
        let sound = at.is_multiple_of(4) && image.read(at, &mut bytes).is_ok();
        sound.then(|| gc_head(&bytes))
    };
    let Some((first, Some(last))) = node(head) else { return false };
    if node(last).is_none_or(|(next, _)| next != head) {
        return false;
    }
    let (mut before, mut at) = (head, first);
    for _ in 0..PROBED {
        if at == head {
            return before == last;
        }
        let Some((next, prev)) = node(at) else { return false };
        if prev.is_some_and(|prev| prev != before) {
            return false;
        }
        (before, at) = (at, next);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::planted::Plan;

    const AT: u64 = 0x2000;

    /// Three threads of 3.8; the youngest is at 0x3000.
    fn threads_of(change: impl Fn(&mut Plan)) -> Vec<u64> {
        let mut plan = Plan::default();
        plan.word(AT + 8, 0x3000);
        plan.words(0x3000, &[0, 0x4000, AT]);
        plan.words(0x4000, &[0x3000, 0x5000, AT]);
        plan.words(0x5000, &[0x4000, 0, AT]);
        change(&mut plan);
        threads(&plan.image(), interpreter::interpreter(8).unwrap(), AT)
    }

    #[test]
    fn threads_must_lead_back() {
        assert_eq!(threads_of(|_| {}), [0x5000, 0x4000, 0x3000]);
        let foreign = threads_of(|p| p.word(0x4000 + 16, AT + 8));
        assert_eq!(foreign, [0x3000], "of another interpreter");
        assert_eq!(threads_of(|p| p.word(0x5000, 0x3000)), [0x4000, 0x3000], "a broken link");
        assert_eq!(threads_of(|p| p.word(0x5000 + 8, 0x4000)).len(), 3, "a ring");
        assert!(threads_of(|p| p.word(AT + 8, u64::MAX)).is_empty());
    }

    /// A list at 0x2000 with nodes at 0x3000 and 0x4000.
    fn list(change: impl Fn(&mut Plan)) -> bool {
        let mut plan = Plan::default();
        plan.words(AT, &[0x3001, 0x4000]);
        plan.words(0x3000, &[0x4000, 0x2001]);
        plan.words(0x4000, &[0x2000, 0x3000]);
        change(&mut plan);
        is_list(&plan.image(), AT)
    }

    #[test]
    fn the_ends_of_a_list_must_meet_at_its_head() {
        assert!(list(|_| {}));
        assert!(list(|p| p.words(AT, &[AT, AT])), "an empty one");
        assert!(list(|p| p.word(0x3008, 5 << 2 | 2)), "a collection is under way");
        assert!(!list(|p| p.words(AT, &[0, 0])), "nothing there");
        assert!(!list(|p| p.word(0x4000, 0x3000)), "the last leads elsewhere");
        assert!(!list(|p| p.word(0x4008, 0x5000)), "a broken link");
        assert!(!list(|p| p.word(AT, 0x4000)), "the first is skipped");
        let another_last = |p: &mut Plan| {
            p.word(AT + 8, 0x5000);
            p.word(0x5000, AT);
        };
        assert!(!list(another_last), "the last is not on the way");
        assert!(!list(|p| p.word(0x3000, 0x9_0000)), "out of memory");
    }

    #[test]
    fn the_lists_are_where_the_collector_itself_points() {
        let collector = interpreter::interpreter(13).unwrap().collector;
        // As 3.13.18 has them: four bytes before their place in 3.13.0.
        let heads = [20, 44, 68, 104].map(|offset| AT + offset);
        let planted = |pointer: u64, heads: &[u64]| {
            let mut plan = Plan::default();
            heads.iter().for_each(|head| plan.words(*head, &[*head, *head]));
            plan.word(AT + 96, pointer);
            let found = generations(&plan.image(), &collector, AT, ["0", "1", "2"]);
            found.iter().map(|g| g.head).collect::<Vec<_>>()
        };
        assert_eq!(planted(heads[0], &heads), heads);
        assert_eq!(planted(AT + COLLECTOR_MOST, &heads), [AT + 104], "a pointer out of it");
        let known = [24, 48, 72, 104].map(|offset| AT + offset);
        assert_eq!(planted(0, &known), known);
        assert_eq!(planted(AT + 20, &known), known, "it points at no list");
    }
}
