//! Where malloc's arenas and their heaps are, found without symbols.
//!
//! The main arena lies in the C library's data and is told by its bins, which point at themselves; the
//! others are found by the ring that all arenas form, and are believed only if the ring closes. Owns the
//! list of address ranges ("segments") that each arena consists of.

use pydefrag_image::{Image, Mapping, Module};
use pydefrag_layout::glibc::{HEAP_INFO, HEAP_MAX, heap_info};
use pydefrag_layout::malloc::{FORMS, Form, State, find_bins, first_chunk};

use crate::runtime::{data_of, words_of};

/// A stretch of address space that an arena's chunks fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    /// The first chunk; `None` where it must be searched for.
    pub(crate) first: Option<u64>,
    pub(crate) end: u64,
    /// It ends with the top chunk; else with fenceposts.
    pub(crate) holds_top: bool,
    /// It ends where the kernel ends the brk heap.
    pub(crate) ends_at_brk: bool,
}

/// One arena.
#[derive(Debug, Clone)]
pub(crate) struct Arena {
    pub(crate) address: u64,
    pub(crate) main: bool,
    pub(crate) state: State,
    pub(crate) segments: Vec<Segment>,
}

/// All arenas of a process.
#[derive(Debug, Clone)]
pub(crate) struct Arenas {
    pub(crate) form: Form,
    pub(crate) safe_linking: bool,
    /// The main arena first.
    pub(crate) arenas: Vec<Arena>,
}

/// No process has more: 8 per core, unless it was told otherwise.
const MOST_ARENAS: usize = 1 << 13;
/// Heaps of all arenas together: 64 MiB each.
const MOST_HEAPS: usize = 1 << 15;
/// An arena may be caught with a chunk half linked into a bin, or just between two heaps: it is read again.
const TRIES: usize = 20;

/// Finds the arenas in the data of the C library, whose first mapping is given.
pub(crate) fn find(image: &Image, libc: &Mapping, version: Option<&str>) -> Option<Arenas> {
    let module = Module::open(image.pid, libc).ok()?;
    (0..TRIES).find_map(|_| in_data_of(image, &module, version))
}

fn in_data_of(image: &Image, module: &Module, version: Option<&str>) -> Option<Arenas> {
    let data = data_of(image, module);
    let candidates: Vec<u64> = data
        .iter()
        .flat_map(|(start, bytes)| find_bins(&words_of(bytes), *start).collect::<Vec<_>>())
        .collect();
    let minor = version.and_then(|v| v.strip_prefix("2.")?.split('.').next()?.parse::<u32>().ok());
    let safe_linking = minor.is_none_or(|m| m >= 32);
    candidates.into_iter().find_map(|bins| {
        let of = |form: Form| of_ring(image, bins.checked_sub(form.bins)?, form, safe_linking);
        FORMS.into_iter().find_map(of)
    })
}

/// The arenas whose main one is at an address, if there is one of that form.
pub(crate) fn of_ring(image: &Image, main: u64, form: Form, safe_linking: bool) -> Option<Arenas> {
    let ring = ring(image, main, form)?;
    let mut found = Arenas { form, safe_linking, arenas: Vec::new() };
    let mut left = MOST_HEAPS;
    for (address, state) in ring {
        let main = found.arenas.is_empty();
        let segments = match main {
            true => main_segments(image, &state),
            // Without sound heaps nothing of it can be followed: all that it has stays unread.
            false => heaps(image, address, &state, form, left).unwrap_or_default(),
        };
        left = left.saturating_sub(segments.len());
        found.arenas.push(Arena { address, main, state, segments });
    }
    Some(found)
}

/// The state of an arena now.
pub(crate) fn state(image: &Image, address: u64, form: Form) -> Option<State> {
    let mut bytes = vec![0; form.size as usize];
    (0..TRIES).find_map(|_| {
        image.read(address, &mut bytes).ok()?;
        form.state(&bytes, address)
    })
}

/// All arenas from the main one on, if following `next` leads back to it.
fn ring(image: &Image, main: u64, form: Form) -> Option<Vec<(u64, State)>> {
    let mut ring = Vec::new();
    let mut at = main;
    while ring.len() < MOST_ARENAS {
        let state = state(image, at, form)?;
        ring.push((at, state));
        at = state.next;
        if at == main {
            return Some(ring);
        }
        // Every other arena lies behind the heap_info of its first heap.
        if !matches!(at % HEAP_MAX, 32 | 48) {
            return None;
        }
    }
    None
}

/// The brk heap; or what else the top chunk lies in.
fn main_segments(image: &Image, state: &State) -> Vec<Segment> {
    let heaps: Vec<&Mapping> =
        image.mappings.iter().filter(|m| m.name_bytes() == b"[heap]").collect();
    let mut segments = Vec::new();
    // The kernel may list the one brk heap as several neighbours.
    let mut i = 0;
    while i < heaps.len() {
        let (start, mut end) = (heaps[i].start, heaps[i].end);
        while i + 1 < heaps.len() && heaps[i + 1].start == end {
            i += 1;
            end = heaps[i].end;
        }
        i += 1;
        segments.push(Segment {
            start,
            first: None,
            end,
            holds_top: (start..end).contains(&state.top),
            ends_at_brk: true,
        });
    }
    // Where brk could not grow, malloc goes on in anonymous memory.
    if !segments.iter().any(|s| s.holds_top)
        && state.system > 0
        && let Some(m) = image.mapping_at(state.top).filter(|m| m.is_private_anonymous())
    {
        segments.push(Segment {
            start: m.start,
            first: None,
            end: m.end,
            holds_top: true,
            ends_at_brk: false,
        });
    }
    segments
}

/// The heaps of a thread arena, from the one with the top chunk back to the first.
fn heaps(
    image: &Image,
    arena: u64,
    state: &State,
    form: Form,
    most: usize,
) -> Option<Vec<Segment>> {
    let first = arena & !(HEAP_MAX - 1);
    let mut at = state.top & !(HEAP_MAX - 1);
    let mut segments = Vec::new();
    while segments.len() < most {
        let mut head = [0; HEAP_INFO];
        image.read(at, &mut head).ok()?;
        let heap = heap_info(&head, at).filter(|h| h.arena == arena)?;
        segments.push(Segment {
            start: at,
            first: Some(match at == first {
                true => first_chunk(arena, form),
                false => at + arena % HEAP_MAX,
            }),
            end: at + heap.size,
            holds_top: segments.is_empty(),
            ends_at_brk: false,
        });
        if heap.previous == 0 {
            segments.reverse();
            return (at == first).then_some(segments);
        }
        at = heap.previous;
    }
    None
}

/// The address ranges of segments, to be asked for an address.
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub(crate) fn of<'a>(segments: impl Iterator<Item = &'a Segment>) -> Ranges {
        let mut ranges: Vec<_> = segments.map(|s| (s.start, s.end)).collect();
        ranges.sort_unstable();
        Ranges(ranges)
    }

    pub(crate) fn contains(&self, at: u64) -> bool {
        let i = self.0.partition_point(|r| r.1 <= at);
        self.0.get(i).is_some_and(|r| r.0 <= at)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|r| r.1 - r.0).sum()
    }
}

impl Segment {}
