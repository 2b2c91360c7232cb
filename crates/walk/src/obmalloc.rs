//! Where an interpreter's pymalloc keeps its arenas.
//!
//! Owns the search: offsets of the version first, each confirmed by the `usedpools` pattern, then the
//! structural search that needs no offset. 3.8-3.11 have one set of static variables, later versions
//! one `_obmalloc_state` per interpreter with its own, others point to the main one's.

use std::time::{Duration, Instant};

use pydefrag_heap::OS_PAGE;
use pydefrag_image::{Image, Mapping, ReadError};
use pydefrag_layout::cpython::Obmalloc;
use pydefrag_layout::pymalloc::{
    self, ARENA_OBJECT, Arena, ArenaEntry, Geometry, POOL_HEADER, STATE_ARENAS, STATE_MAXARENAS,
    USEDPOOLS_WORDS,
};
use pydefrag_layout::word::u64_at;
use rustc_hash::FxHashMap;

use crate::agent::{Done, Tables};
use crate::runtime::{Refusal, Runtime, data_of, words_of};

/// An arena and where it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedArena {
    /// The arena.
    pub arena: Arena,
    /// Address of its `arena_object`, to look again whether it is still there.
    pub object: u64,
    /// What the agent says that it did in it.
    pub done: Option<Done>,
}

/// pymalloc of one interpreter.
#[derive(Debug, Clone)]
pub struct State {
    /// The interpreter's id; 0 where all share one.
    pub interpreter: i64,
    /// Sizes.
    pub geometry: Geometry,
    /// Its arenas, in order of address.
    pub arenas: Vec<ListedArena>,
    /// Where it keeps its own variables; none were found where there is no pool yet.
    pub variables: Option<Variables>,
}

/// Where the variables of a pymalloc are that its arenas were found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variables {
    /// Address of `usedpools`.
    pub usedpools: u64,
    /// Address of the variable `arenas`, which points to the array.
    pub arenas: u64,
}

/// A process's pymalloc states and how many interpreters it has.
#[derive(Debug, Clone)]
pub struct States {
    /// One per interpreter that has arenas of its own, the main one first.
    pub states: Vec<State>,
    /// Interpreters in the process, where they can be counted.
    pub interpreters: Option<u64>,
}

/// More arenas (1 TiB) or interpreters than any process has: a broken list.
const MOST_ARENAS: u64 = 1 << 20;
const MOST_INTERPRETERS: usize = 1 << 12;
/// How often a list is read again while it changes under us.
const TRIES: usize = 20;
/// No further try, and no further search through an interpreter's state, begins after this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Finds the pymalloc states of all interpreters. A free-threaded build has none with arenas.
pub fn states(image: &Image, runtime: &Runtime) -> Result<States, Refusal> {
    states_within(image, runtime, PATIENCE)
}

/// The same, with no attempt that begins later than this.
pub(crate) fn states_within(
    image: &Image,
    runtime: &Runtime,
    patience: Duration,
) -> Result<States, Refusal> {
    let mut why = String::new();
    let until = Instant::now() + patience;
    let agents = Tables::find(image);
    for attempt in 0..TRIES {
        if attempt > 0 && Instant::now() > until {
            break;
        }
        for geometry in runtime.layout.geometries {
            match (Search { image, runtime, geometry: *geometry, until }).run() {
                Ok(mut found) => match agents.join(image, runtime.version, &mut found.states)? {
                    None => return Ok(found),
                    Some(arena) => {
                        why = format!(
                            "pools of the arena at {arena:#x} are parked, and the agent does not say which"
                        );
                    }
                },
                Err(Miss::Read(
                    source @ (ReadError::Denied | ReadError::Gone | ReadError::Swapped(_)),
                )) => {
                    return Err(Refusal::Read { pid: image.pid, source });
                }
                Err(Miss::Read(e)) => why = e.to_string(),
                Err(Miss::Invalid(what)) => why = what,
            }
        }
    }
    // A build without the GIL has no pymalloc to be found.
    if runtime.free_threaded() {
        return Ok(States { states: Vec::new(), interpreters: None });
    }
    Err(Refusal::NotUnderstood { pid: image.pid, version: runtime.version, why })
}

/// Why a search failed: worth another try on a process that runs on.
enum Miss {
    Read(ReadError),
    Invalid(String),
}

impl From<ReadError> for Miss {
    fn from(e: ReadError) -> Self {
        Miss::Read(e)
    }
}

/// A pool that a list of `usedpools` begins with.
struct ListedPool {
    address: u64,
    arenaindex: u32,
}

struct Search<'a> {
    image: &'a Image,
    runtime: &'a Runtime,
    geometry: Geometry,
    until: Instant,
}

impl Search<'_> {
    fn run(&self) -> Result<States, Miss> {
        match self.runtime.layout.obmalloc {
            Obmalloc::Static => {
                let (arenas, variables) = self.static_arenas()?;
                let state = State { interpreter: 0, geometry: self.geometry, arenas, variables };
                Ok(States { states: vec![state], interpreters: None })
            }
            Obmalloc::Inline(_) | Obmalloc::Pointer(_) => self.per_interpreter(),
        }
    }

    fn per_interpreter(&self) -> Result<States, Miss> {
        let layout = self.runtime.layout;
        let offsets = self.runtime.debug_offsets;
        let (head, next, id) = match offsets {
            Some(d) => (d.interpreters_head, d.interp_next, d.interp_id),
            None => (layout.interpreters_head, layout.interp_next, layout.interp_id),
        };
        let runtime = self.runtime.address.unwrap_or(0);
        let mut interpreter = self.image.word(runtime.wrapping_add(head))?;
        let mut seen = Vec::new();
        let mut states: Vec<(u64, State)> = Vec::new();
        while interpreter != 0 {
            if seen.len() >= MOST_INTERPRETERS || seen.contains(&interpreter) {
                return Err(Miss::Invalid(format!(
                    "the list of interpreters at {:#x} does not end",
                    runtime.wrapping_add(head)
                )));
            }
            seen.push(interpreter);
            let number = self.image.word(interpreter.wrapping_add(id))? as i64;
            if let Some(at) = self.state_of(interpreter)?
                && !states.iter().any(|(known, _)| *known == at)
            {
                let arenas = self.listed(at)?;
                let variables = Some(Variables { usedpools: at, arenas: at + STATE_ARENAS });
                let geometry = self.geometry;
                let state = State { interpreter: number, geometry, arenas, variables };
                states.push((at, state));
            }
            interpreter = self.image.word(interpreter.wrapping_add(next))?;
        }
        // The list begins with the youngest interpreter; reports begin with the main one.
        let mut found: Vec<_> = states.into_iter().map(|s| s.1).collect();
        found.sort_by_key(|s| s.interpreter);
        if let Some(twice) = listed_twice(&found) {
            return Err(Miss::Invalid(format!("the arena at {twice:#x} is listed twice")));
        }
        if found.is_empty() {
            return Err(Miss::Invalid(format!(
                "none of {} interpreters has a usedpools array at a known offset or anywhere in its state",
                seen.len()
            )));
        }
        Ok(States { states: found, interpreters: Some(seen.len() as u64) })
    }

    /// Address of the `_obmalloc_state` that an interpreter uses; `None` where it has none of its
    /// own yet (3.12's are inside the interpreter and zero while it shares the main one's).
    fn state_of(&self, interpreter: u64) -> Result<Option<u64>, Miss> {
        const HINTLESS_SIZE: u64 = 512 << 10;
        let size = self.runtime.debug_offsets.map_or(HINTLESS_SIZE, |d| d.interp_size);
        match self.runtime.layout.obmalloc {
            Obmalloc::Inline(offset) => {
                if self.is_usedpools(interpreter.wrapping_add(offset)) {
                    return Ok(Some(interpreter.wrapping_add(offset)));
                }
                let blank = self.image.words(interpreter.wrapping_add(offset), USEDPOOLS_WORDS)?;
                if blank.iter().all(|w| *w == 0) {
                    return Ok(None);
                }
                Ok(self.search_inside(interpreter, size))
            }
            Obmalloc::Pointer(hints) => {
                for hint in hints {
                    let at = self.image.word(interpreter.wrapping_add(*hint))?;
                    if self.is_usedpools(at) {
                        return Ok(Some(at));
                    }
                }
                Ok(self.search_pointers(interpreter, size))
            }
            Obmalloc::Static => Ok(None),
        }
    }

    /// Looks for the pattern itself inside a structure.
    fn search_inside(&self, from: u64, size: u64) -> Option<u64> {
        if Instant::now() > self.until {
            return None;
        }
        let words = self.words_until_unreadable(from, size);
        (0..words.len().saturating_sub(USEDPOOLS_WORDS)).find_map(|i| {
            let at = from + 8 * i as u64;
            pymalloc::usedpools(&words[i..], at, self.geometry.pool_size)?;
            self.is_usedpools(at).then_some(at)
        })
    }

    /// Looks for a pointer to the pattern inside a structure.
    fn search_pointers(&self, from: u64, size: u64) -> Option<u64> {
        if Instant::now() > self.until {
            return None;
        }
        let mut words = self.words_until_unreadable(from, size);
        words.retain(|w| w % 16 == 0 && self.may_hold_state(*w));
        words.sort_unstable();
        words.dedup();
        words.into_iter().find(|at| self.is_usedpools(*at))
    }

    fn words_until_unreadable(&self, from: u64, size: u64) -> Vec<u64> {
        let mut words = Vec::new();
        let mut at = from;
        while at < from + size {
            let n = (OS_PAGE - at % OS_PAGE).min(from + size - at) / 8;
            match self.image.words(at, n.max(1) as usize) {
                Ok(w) => words.extend(w),
                Err(_) => break,
            }
            at += n.max(1) * 8;
        }
        words
    }

    /// Writable private memory: the interpreter's data, or allocated.
    fn may_hold_state(&self, at: u64) -> bool {
        self.image.mapping_at(at).is_some_and(|m| {
            m.permissions.write
                && !m.permissions.shared
                && (m.is_private_anonymous() || m.is_file())
        })
    }

    /// Whether `usedpools` is at this address, with real pools in it.
    fn is_usedpools(&self, at: u64) -> bool {
        at != 0
            && self.image.words(at, USEDPOOLS_WORDS).is_ok_and(|words| {
                pymalloc::usedpools(&words, at, self.geometry.pool_size).is_some()
                    && self.holds_pools(&words, at)
            })
    }

    /// The pools that non-empty lists of `usedpools` begin with. A pool whose header is not resident,
    /// or was not yet when residency was looked at, says nothing and is left out; `None` is one whose
    /// header is no header of this class however often it is read.
    fn listed_pools<'b>(
        &'b self,
        words: &'b [u64],
        base: u64,
    ) -> impl Iterator<Item = Option<ListedPool>> + 'b {
        words.chunks_exact(2).take(USEDPOOLS_WORDS / 2).enumerate().filter_map(move |(i, pair)| {
            let address = pair[0];
            if address == base + 16 * i as u64 - 16 {
                return None;
            }
            self.image.residency.run_at(address).filter(|r| r.resident)?;
            Some((0..TRIES).find_map(|_| {
                let mut bytes = [0; POOL_HEADER];
                self.image.read(address, &mut bytes).ok()?;
                let header = pymalloc::pool_header(&bytes, address, self.geometry)?;
                let arenaindex = header.arenaindex;
                (header.class == Some(i as u8)).then_some(ListedPool { address, arenaindex })
            }))
        })
    }

    /// Most listed pools have a valid header; a few may have been emptied or filled meanwhile.
    fn holds_pools(&self, words: &[u64], base: u64) -> bool {
        let (mut good, mut bad) = (0, 0);
        for pool in self.listed_pools(words, base) {
            *(if pool.is_some() { &mut good } else { &mut bad }) += 1;
        }
        bad <= good / 2 + 1
    }

    /// The arenas of the `_obmalloc_state` at `at`.
    fn listed(&self, at: u64) -> Result<Vec<ListedArena>, Miss> {
        let mut why = String::new();
        for _ in 0..TRIES {
            let head = |i| self.image.word(at + i);
            let (array, most) = (head(STATE_ARENAS)?, head(STATE_MAXARENAS)? & 0xffff_ffff);
            if array == 0 {
                return Ok(Vec::new());
            }
            if most == 0 || most > MOST_ARENAS {
                why = format!("maxarenas at {:#x} is {most}", at + STATE_MAXARENAS);
                continue;
            }
            let mut bytes = vec![0; most as usize * ARENA_OBJECT];
            let read = self.image.read(array, &mut bytes);
            // The array moves when it grows.
            if head(STATE_ARENAS)? != array {
                continue;
            }
            read?;
            match self.entries(array, &bytes) {
                Ok(arenas) => return Ok(arenas),
                Err(bad) => why = format!("the arena_object at {bad:#x} is invalid"),
            }
        }
        Err(Miss::Invalid(why))
    }

    /// All arenas of an array, in order of address; the error is the address of a bad entry.
    fn entries(&self, array: u64, bytes: &[u8]) -> Result<Vec<ListedArena>, u64> {
        let mut arenas = Vec::new();
        for (i, entry) in bytes.chunks_exact(ARENA_OBJECT).enumerate() {
            let object = array + (i * ARENA_OBJECT) as u64;
            match pymalloc::arena_object(entry, self.geometry) {
                Some(ArenaEntry::Unassociated) => {}
                Some(ArenaEntry::Allocated(arena)) => {
                    arenas.push(ListedArena { arena, object, done: None });
                }
                None => return Err(object),
            }
        }
        arenas.sort_by_key(|a| a.arena.address);
        if let Some(a) = arenas.iter().find(|a| self.in_file(a.arena.address)) {
            return Err(a.object);
        }
        match self.overlapping(&arenas) {
            Some(object) => Err(object),
            None => Ok(arenas),
        }
    }

    /// Whether resident bytes of a mapped file lie where an arena would be. (A mapping of huge pages
    /// has a file too, but none of its bytes count as resident.)
    fn in_file(&self, arena: u64) -> bool {
        let end = arena + self.geometry.arena_size;
        let from = self.image.mappings.partition_point(|m| m.end <= arena);
        let mut there = self.image.mappings[from..].iter().take_while(|m| m.start < end);
        there.any(|m| m.is_file() && m.rss > 0)
    }

    /// 3.8-3.11: `usedpools` in the data of the interpreter, then the pointer `arenas` in its bss.
    fn static_arenas(&self) -> Result<(Vec<ListedArena>, Option<Variables>), Miss> {
        let data = data_of(self.image, &self.runtime.module);
        let segments: Vec<_> = data.iter().map(|(at, b)| (*at, words_of(b))).collect();
        let usedpools = segments.iter().find_map(|(start, words)| {
            (0..words.len().saturating_sub(USEDPOOLS_WORDS)).find_map(|i| {
                let at = start + 8 * i as u64;
                pymalloc::usedpools(&words[i..], at, self.geometry.pool_size)?;
                self.is_usedpools(at).then_some((at, &words[i..i + USEDPOOLS_WORDS]))
            })
        });
        let Some((base, lists)) = usedpools else {
            return Err(Miss::Invalid(format!(
                "no usedpools array in the data of {}",
                self.runtime.module.path.display()
            )));
        };
        let samples: Vec<_> = self.listed_pools(lists, base).flatten().collect();
        if samples.is_empty() {
            // Lists whose pools are all swapped out tell nothing; empty lists tell that there are none.
            let swapped = |at: &u64| self.image.residency.run_at(*at).is_some_and(|r| !r.resident);
            return match lists.iter().find(|at| swapped(at)) {
                Some(at) => Err(Miss::Read(ReadError::Swapped(*at))),
                None => Ok((Vec::new(), None)),
            };
        }
        // The array is allocated by malloc: in writable private anonymous memory.
        let allocated = |m: &&Mapping| m.permissions.write && m.is_private_anonymous();
        let heaps: Vec<_> =
            self.image.mappings.iter().filter(allocated).map(|m| (m.start, m.end)).collect();
        let in_heap = |at: u64| {
            let i = heaps.partition_point(|(_, end)| *end <= at);
            heaps.get(i).is_some_and(|(start, _)| *start <= at)
        };
        let all_words = segments.iter().flat_map(|(start, words)| {
            words.iter().enumerate().map(move |(i, w)| (start + 8 * i as u64, *w))
        });
        let mut candidates = all_words
            .filter(|(_, candidate)| *candidate != 0 && candidate % 16 == 0 && in_heap(*candidate));
        let mut pages = Pages::default();
        // Where few pools are known, other pointers lead to something that brackets them, too.
        let mut invalid = None;
        while let Some((variable, array)) = candidates
            .find(|(_, candidate)| samples.iter().all(|p| self.brackets(&mut pages, *candidate, p)))
        {
            match self.grown(array) {
                Ok(arenas) => {
                    // The array moves when it grows.
                    if self.image.word(variable)? != array {
                        let moved = format!("the arena objects at {array:#x} moved");
                        return Err(Miss::Invalid(moved));
                    }
                    let variables = Variables { usedpools: base, arenas: variable };
                    return Ok((arenas, Some(variables)));
                }
                Err(miss) => invalid = Some(miss),
            }
        }
        Err(invalid.unwrap_or_else(|| {
            Miss::Invalid(format!(
                "no pointer to arena objects in the data of {} fits the {} pools of usedpools",
                self.runtime.module.path.display(),
                samples.len()
            ))
        }))
    }

    /// Whether the arena that an array at `array` lists at the pool's index contains the pool.
    fn brackets(&self, pages: &mut Pages, array: u64, pool: &ListedPool) -> bool {
        let object = array + u64::from(pool.arenaindex) * ARENA_OBJECT as u64;
        let address = pages.word(self.image, object);
        address != 0 && address <= pool.address && pool.address - address < self.geometry.arena_size
    }

    /// Reads an array whose length is not known: it has 16 entries or twice, four times, … as many,
    /// and every entry is valid. What lies behind it is either invalid or, if zero, harmless.
    fn grown(&self, array: u64) -> Result<Vec<ListedArena>, Miss> {
        let (mut from, mut upto) = (0, 16);
        let mut arenas: Vec<ListedArena> = Vec::new();
        while upto <= MOST_ARENAS {
            let Some((found, blank)) = self.part(array, from, upto) else { break };
            let mut all = [&arenas[..], &found].concat();
            all.sort_by_key(|a| a.arena.address);
            if self.overlapping(&all).is_some() {
                break;
            }
            arenas = all;
            // A part without any arena and without any list of unused ones is not of the array.
            if blank && from > 0 {
                break;
            }
            (from, upto) = (upto, 2 * upto);
        }
        match from {
            0 => Err(Miss::Invalid(format!("the arena objects at {array:#x} are invalid"))),
            _ => Ok(arenas),
        }
    }

    /// The entries `from..upto` of an array, if they are entries, and whether all of them are zero.
    fn part(&self, array: u64, from: u64, upto: u64) -> Option<(Vec<ListedArena>, bool)> {
        let start = array + from * ARENA_OBJECT as u64;
        let mut bytes = vec![0; (upto - from) as usize * ARENA_OBJECT];
        for _ in 0..TRIES {
            self.image.read(start, &mut bytes).ok()?;
            let bad = match self.entries(start, &bytes) {
                // Arenas lie in private anonymous memory; what lies behind the array need not look so.
                Ok(found) => match found.iter().find(|a| !self.may_be_arena(a)) {
                    None => return Some((found, bytes.iter().all(|b| *b == 0))),
                    Some(a) => a.object,
                },
                Err(bad) => bad,
            };
            // An entry may be torn at this moment; what lies behind the array stays invalid.
            let mut entry = [0; ARENA_OBJECT];
            let heals = (0..TRIES).any(|_| {
                self.image.read(bad, &mut entry).is_ok() && self.entries(bad, &entry).is_ok()
            });
            if !heals {
                return None;
            }
        }
        None
    }

    fn may_be_arena(&self, a: &ListedArena) -> bool {
        self.image.mapping_at(a.arena.address).is_none_or(|m| m.is_private_anonymous())
    }

    /// The `arena_object` of an arena that overlaps the one before it in order of address.
    fn overlapping(&self, sorted: &[ListedArena]) -> Option<u64> {
        let size = self.geometry.arena_size;
        let mut pairs = sorted.windows(2);
        pairs.find(|w| w[0].arena.address + size > w[1].arena.address).map(|w| w[1].object)
    }
}

/// OS pages that were read, so that thousands of candidates on few pages cost few calls.
#[derive(Default)]
struct Pages(FxHashMap<u64, Vec<u64>>);

impl Pages {
    /// The word at an address; zero where it cannot be read.
    fn word(&mut self, image: &Image, at: u64) -> u64 {
        let page = at & !(OS_PAGE - 1);
        let words = self
            .0
            .entry(page)
            .or_insert_with(|| image.words(page, OS_PAGE as usize / 8).unwrap_or_default());
        words.get((at - page) as usize / 8).copied().unwrap_or(0)
    }
}

/// An arena that overlaps another one, of the same or of another interpreter.
fn listed_twice(states: &[State]) -> Option<u64> {
    let ranges = states.iter().flat_map(|s| {
        s.arenas.iter().map(|a| (a.arena.address, a.arena.address + s.geometry.arena_size))
    });
    let mut all: Vec<_> = ranges.collect();
    all.sort_unstable();
    all.windows(2).find(|w| w[0].1 > w[1].0).map(|w| w[1].0)
}

/// Looks again whether an arena is still where it was listed.
pub(crate) fn still_there(image: &Image, listed: &ListedArena) -> bool {
    let mut bytes = [0; 8];
    image.memory().read(listed.object, &mut bytes).is_ok()
        && u64_at(&bytes, 0) == listed.arena.address
}
