//! The account of a whole process: walked heaps, recognised regions and the kernel's counts together.
//!
//! Owns the assembly of a [`Snapshot`] and the notes on what a reader should know. Does not read the
//! process itself.

use pydefrag_heap::{
    Account, Basis, Detail, Fragmentation, Ladder, Libc, Malloc, Memory, Owner, OwnerKind, Partial,
    Process, PythonInfo, Snapshot,
};
use pydefrag_image::{Image, Mapping, PageRun, ProcessFacts};
use pydefrag_layout::malloc::CHUNK_HEADER;

use crate::allocators::{Served, served};
use crate::libc::Glibc;
use crate::malloc::{self, MallocWalk};
use crate::map;
use crate::objects::Chunk;
use crate::obmalloc::{State, States, states};
use crate::pymalloc::{Walk, walk};
use crate::recognise::{self, part};
use crate::regions::{Regions, Walked, divide};
use crate::runtime::{Refusal, Runtime};

/// What one look at a process gives.
#[derive(Debug)]
pub struct Looked {
    /// The account.
    pub snapshot: Snapshot,
    /// The heap behind it.
    pub detail: Detail,
    /// Its private anonymous pages, to be compared with those of the process that forked it.
    pub pages: Vec<PageRun>,
    /// Where live blocks are, where objects are wanted.
    pub(crate) heap: Option<Heap>,
}

/// What is wanted of a look beside the account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Objects will be looked at too, so where live blocks are is kept.
    pub objects: bool,
    /// A map of the heaps, for a picture.
    pub map: bool,
}

/// What looking at objects needs of the walked heaps.
#[derive(Debug)]
pub(crate) struct Heap {
    /// malloc's chunks in use.
    pub(crate) chunks: Vec<Chunk>,
    /// All that pymalloc and malloc have, free or not, in order.
    pub(crate) ranges: Vec<HeapRange>,
    /// Names of their owners.
    pub(crate) owners: Vec<String>,
    /// Bytes that a debug hook puts before each block's object.
    pub(crate) front: u64,
}

/// Addresses that an allocator has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HeapRange {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Index among the owners.
    pub(crate) owner: usize,
}

impl Looked {
    /// Bytes of pages that this process has for itself where `parent`, which forked it, has a page
    /// too: inherited, and copied since because one of them wrote.
    pub fn copied_from(&self, parent: &Looked) -> u64 {
        copied(&self.pages, &parent.pages)
    }
}

fn copied(ours: &[PageRun], theirs: &[PageRun]) -> u64 {
    let mut theirs = theirs.iter().peekable();
    let mut copied = 0;
    for ours in ours.iter().filter(|r| !r.shared) {
        while theirs.next_if(|r| r.end <= ours.start).is_some() {}
        let overlapping = theirs.clone().take_while(|r| r.start < ours.end);
        copied += overlapping.map(|r| r.end.min(ours.end) - r.start.max(ours.start)).sum::<u64>();
    }
    copied
}

/// Resident pages of private anonymous mappings.
fn pages(image: &Image) -> Vec<PageRun> {
    let stack = |m: &Mapping| m.name_bytes().starts_with(b"[stack");
    let private = image.mappings.iter().filter(|m| m.is_private_anonymous() || stack(m));
    private.flat_map(|m| image.residency.runs_in(m.start, m.end)).filter(|r| r.resident).collect()
}

/// Makes the account of a process whose memory may be read.
pub fn snapshot(
    facts: &ProcessFacts,
    image: &Image,
    runtime: &Runtime,
    wanted: Wanted,
) -> Result<Looked, Refusal> {
    let read = |source| Refusal::Read { pid: image.pid, source };
    let States { states, interpreters } = states(image, runtime)?;
    let mut walked = walk(image, &states).map_err(read)?;
    let served = served(image, runtime);
    let (libc, glibc) = crate::libc::find(image);
    let malloc = glibc.and_then(|glibc| walk_malloc(image, &glibc, wanted).transpose());
    let mut malloc = malloc.transpose().map_err(read)?;
    let arena = |(at, i): &(u64, usize)| recognise::arena(*at, states[*i].geometry, *i);
    let mut claims: Vec<_> = walked.arenas.iter().map(arena).collect();
    claims.extend(malloc.iter().flat_map(recognise::malloc_heaps));
    let mimalloc = served.by == Some("mimalloc") || runtime.free_threaded();
    let regions =
        divide(image, Some(runtime), Walked { claims, malloc: malloc.is_some(), mimalloc });

    let names = heap_names(&walked);
    walked.detail.map = wanted.map.then(|| {
        Box::new(map::map(image, &states, &walked, malloc.as_mut(), &regions.mapped_chunks, &names))
    });
    let heap = wanted.objects.then(|| {
        let front = if served.debug_hooks { DEBUG_FRONT } else { 0 };
        heap(&states, &walked, malloc.as_mut(), &regions, names, front)
    });
    let any_arena = walked.pymalloc.arenas > 0;
    let allocator = match served.by {
        Some(by) => by,
        None if any_arena => "pymalloc",
        None => "unknown",
    };
    let notes = notes(runtime, &served, &walked, malloc.as_ref(), &regions, libc.as_ref(), image);
    let mut owners = pymalloc_owners(&walked, &regions);
    owners.extend(malloc.iter().flat_map(|m| malloc_owners(m, &regions)));
    owners.extend(regions.owners.iter().cloned());
    let pymalloc = (any_arena || allocator == "pymalloc").then_some(walked.pymalloc);
    let python = PythonInfo {
        version: runtime.version.to_string(),
        free_threaded: runtime.free_threaded(),
        allocator: allocator.into(),
        debug_hooks: served.debug_hooks,
        tracemalloc: served.tracemalloc,
        foreign_hook: served.foreign_hook,
        image: runtime.module.path.display().to_string(),
        interpreters,
    };
    let mut snapshot = assemble(facts, image, owners, regions.difference);
    snapshot.process.python = Some(python);
    snapshot.process.libc = libc;
    snapshot.torn = walked.torn;
    snapshot.fragmentation = Fragmentation::of(&snapshot.owners);
    let sum = |of: fn(&malloc::ArenaWalk) -> u64| {
        malloc.as_ref().map(|m| m.arenas.iter().map(of).sum::<u64>())
    };
    let (trim, ideal) = (sum(|a| a.trim), sum(|a| a.ideal));
    let with = |of: u64, more: Option<u64>| any_arena.then_some(of + more.unwrap_or(0)).or(more);
    snapshot.ladder = Ladder {
        trim,
        purge: with(walked.purge, trim),
        ideal: with(walked.ideal, ideal),
        ..Default::default()
    };
    if let Some(m) = malloc {
        snapshot.torn.chunks = m.arenas.iter().map(|a| a.broken).sum();
        let arenas = m.arenas.into_iter().map(|a| a.counts).collect();
        snapshot.malloc = Some(Malloc { arenas, mmapped: regions.mmapped });
    }
    snapshot.pymalloc = pymalloc;
    snapshot.notes = notes;
    Ok(Looked { snapshot, detail: walked.detail, pages: pages(image), heap })
}

/// What `_PyMem_DebugRawAlloc` writes before each block: its size, its domain and forbidden bytes.
const DEBUG_FRONT: u64 = 16;

fn heap(
    states: &[State],
    walked: &Walk,
    mut malloc: Option<&mut MallocWalk>,
    regions: &Regions,
    owners: Vec<String>,
    front: u64,
) -> Heap {
    let first = walked.pymalloc.interpreters.len();
    let range = |start, end, owner| HeapRange { start, end, owner };
    let arena = |(at, i): &(u64, usize)| range(*at, *at + states[*i].geometry.arena_size, *i);
    let mut ranges: Vec<_> = walked.arenas.iter().map(arena).collect();
    for a in malloc.iter().flat_map(|m| &m.arenas) {
        let owner = first + usize::from(!a.counts.main);
        ranges.extend(a.segments.iter().map(|s| range(s.start, s.end, owner)));
    }
    ranges.extend(regions.mapped_chunks.iter().map(|c| range(c.0, c.1, first + 2)));
    ranges.sort_unstable();
    let used = malloc.as_mut().map(|m| std::mem::take(&mut m.used)).unwrap_or_default();
    let mapped = regions.mapped_chunks.iter().filter(|_| malloc.is_some());
    let mapped = mapped.map(|(start, end)| (start + CHUNK_HEADER, end - start - CHUNK_HEADER));
    let chunks = used.into_iter().chain(mapped);
    let chunks = chunks.map(|(address, size)| Chunk { address, size }).collect();
    Heap { chunks, ranges, owners, front }
}

/// The walked owners' names: of each interpreter's pymalloc, then of malloc's parts.
fn heap_names(walked: &Walk) -> Vec<String> {
    let interpreters = &walked.pymalloc.interpreters;
    let names = interpreters.iter().map(|i| pymalloc_name(interpreters.len(), i.id));
    names.chain([MAIN_ARENA, THREAD_ARENAS, MMAPPED].map(String::from)).collect()
}

/// Makes what maps, smaps and pagemap alone tell, where memory may not be read.
pub fn snapshot_partial(facts: &ProcessFacts, image: &Image, why: Partial) -> Looked {
    let nothing = Walked { claims: Vec::new(), malloc: false, mimalloc: false };
    let regions = divide(image, None, nothing);
    let difference = regions.difference;
    let mut snapshot = assemble(facts, image, regions.owners, difference);
    snapshot.process.libc = crate::libc::find(image).0;
    snapshot.partial = Some(why);
    Looked { snapshot, detail: Detail::default(), pages: pages(image), heap: None }
}

fn assemble(
    facts: &ProcessFacts,
    image: &Image,
    mut owners: Vec<Owner>,
    difference: u64,
) -> Snapshot {
    owners.sort_by(|a, b| b.resident.cmp(&a.resident).then_with(|| a.name.cmp(&b.name)));
    let memory = memory(facts, &image.mappings);
    let owned: u64 = owners.iter().map(|o| o.resident).sum();
    let process = Process {
        pid: facts.pid,
        command: facts.command.clone(),
        threads: facts.threads,
        python: None,
        libc: None,
    };
    Snapshot {
        unattributed: memory.rss.saturating_sub(owned),
        owners,
        residency_difference: difference,
        ..Snapshot::bare(process, memory)
    }
}

/// A process's memory as the kernel counts it.
pub fn memory(facts: &ProcessFacts, mappings: &[Mapping]) -> Memory {
    let sum = |of: fn(&Mapping) -> u64| mappings.iter().map(of).sum();
    Memory {
        rss: sum(|m| m.rss),
        pss: sum(|m| m.pss),
        uss: sum(|m| m.private),
        swap: sum(|m| m.swap),
        hwm: facts.hwm.unwrap_or(0),
        anon_huge_pages: sum(|m| m.anon_huge_pages),
        ksm: sum(|m| m.ksm),
        lazy_free: sum(|m| m.lazy_free),
        hugetlb: sum(|m| m.hugetlb),
    }
}

/// Walks malloc if it is glibc's, its arenas can be found, and it is in use.
fn walk_malloc(
    image: &Image,
    glibc: &Glibc<'_>,
    wanted: Wanted,
) -> Result<Option<MallocWalk>, pydefrag_image::ReadError> {
    let Some(found) = malloc::find(image, glibc.mapping, glibc.version.as_deref()) else {
        return Ok(None);
    };
    // Another allocator stands in its place.
    if found.arenas.iter().all(|a| a.state.system == 0) {
        return Ok(None);
    }
    malloc::walk(image, &found, wanted).map(Some)
}

const MAIN_ARENA: &str = "malloc main arena";
const THREAD_ARENAS: &str = "malloc thread arenas";
const MMAPPED: &str = "malloc mmapped chunks";

fn pymalloc_name(interpreters: usize, id: i64) -> String {
    let label = OwnerKind::Pymalloc.label();
    if interpreters == 1 { label.to_owned() } else { format!("{label} (interpreter {id})") }
}

fn pymalloc_owners(walked: &Walk, regions: &Regions) -> Vec<Owner> {
    let interpreters = &walked.pymalloc.interpreters;
    let name = |id: i64| pymalloc_name(interpreters.len(), id);
    let heaps = interpreters.iter().zip(&walked.accounts).enumerate();
    heaps
        .filter(|(_, (interpreter, _))| interpreter.arenas > 0)
        .map(|(part, (interpreter, (account, tally)))| {
            let name = name(interpreter.id);
            walked_owner(name, OwnerKind::Pymalloc, part, *account, tally.resident, regions)
        })
        .collect()
}

/// The main arena, the thread arenas together, and mmapped chunks.
fn malloc_owners(walked: &MallocWalk, regions: &Regions) -> Vec<Owner> {
    let arenas = |main: bool| {
        let mut sum = Account::default();
        let arenas = walked.arenas.iter().filter(|a| a.counts.main == main);
        arenas.for_each(|a| sum.add(&a.account));
        sum
    };
    let mapped = regions.walked.get(&(OwnerKind::Malloc, part::MMAPPED));
    let resident = mapped.map_or(0, |p| p.tally.resident);
    let headers = (regions.mmapped.chunks * CHUNK_HEADER).min(resident);
    let mmapped = Account {
        live: resident - headers,
        metadata: headers,
        live_not_resident: regions.mmapped.bytes.saturating_sub(resident),
        ..Default::default()
    };
    [
        (MAIN_ARENA, part::MAIN_ARENA, arenas(true)),
        (THREAD_ARENAS, part::THREAD_ARENAS, arenas(false)),
        (MMAPPED, part::MMAPPED, mmapped),
    ]
    .into_iter()
    .filter(|(_, _, account)| account.total() + account.live_not_resident > 0)
    .map(|(name, part, account)| {
        // By the division of mappings, which knows nothing of chunks.
        let resident = regions.walked.get(&(OwnerKind::Malloc, part));
        let resident = resident.map_or(0, |p| p.tally.resident);
        walked_owner(name.into(), OwnerKind::Malloc, part, account, resident, regions)
    })
    .collect()
}

fn walked_owner(
    name: String,
    kind: OwnerKind,
    part: usize,
    account: Account,
    resident: u64,
    regions: &Regions,
) -> Owner {
    let portion = regions.walked.get(&(kind, part)).copied().unwrap_or_default();
    let owner = portion.owner(name, kind, Basis::Walked);
    Owner { resident, account: Some(account), ..owner }
}

fn notes(
    runtime: &Runtime,
    served: &Served,
    walked: &Walk,
    malloc: Option<&MallocWalk>,
    regions: &Regions,
    libc: Option<&Libc>,
    image: &Image,
) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |text: String| notes.push(text);
    if runtime.untried {
        note(format!(
            "CPython {} is newer than any that was tried; its structures validated",
            runtime.version
        ));
    }
    if runtime.free_threaded() {
        note("a build without the GIL: mimalloc serves it and is totalled, not walked".into());
    }
    if served.debug_hooks {
        note("debug hooks add 24 bytes to every block; live contains them".into());
    }
    if let Some(hook) = &served.foreign_hook {
        note(format!("a foreign allocator hook is installed: {hook}"));
    }
    if let Some(kind) = regions.preloaded {
        note(format!(
            "{} is mapped as the process's malloc: what nothing else claims is counted as its",
            kind.label()
        ));
    }
    if walked.torn.left > 0 || walked.torn.arenas_gone > 0 {
        note(format!(
            "the process ran on: {} of {} pools stayed torn, {} arenas went away",
            walked.torn.left, walked.torn.pools, walked.torn.arenas_gone
        ));
    }
    for a in malloc.iter().flat_map(|m| &m.arenas).filter(|a| a.broken > 0) {
        note(format!(
            "malloc's arena at {:#x} cannot be followed in {} places ({} bytes): changed while read, or \
             corrupted by the program",
            a.counts.address, a.broken, a.counts.unread
        ));
    }
    if let Some(version) = libc.filter(|l| l.name == "glibc").and_then(crate::libc::untested) {
        note(format!(
            "glibc {version} is not among the versions that were tried; its malloc validated"
        ));
    }
    if malloc.is_some() && libc.is_some_and(|l| l.version.is_none()) {
        note(
            "glibc's version could not be told: free chunks in caches may be counted as live"
                .into(),
        );
    }
    if malloc.is_none() && libc.is_some_and(|l| l.name == "glibc") && regions.preloaded.is_none() {
        note("malloc's arenas were not found: it is recognised and totalled, not walked".into());
    }
    if libc.is_none() {
        note("no C library was recognised; malloc's regions are told by glibc's marks".into());
    }
    if image.mappings.iter().any(|m| m.hugetlb > 0) {
        note("hugetlb pages are in use; RSS does not contain them".into());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_copied_since_a_fork_are_those_both_have_and_do_not_share() {
        let runs = |pages: &[(u64, u64, bool)]| {
            let run =
                |&(start, end, shared)| PageRun { start, end, resident: true, huge: false, shared };
            pages.iter().map(run).collect::<Vec<_>>()
        };
        let parent = runs(&[(0x1000, 0x5000, true), (0x8000, 0x9000, false)]);
        let child = runs(&[
            (0x1000, 0x2000, false),
            (0x2000, 0x3000, true),
            (0x4000, 0x7000, false),
            (0x8000, 0xa000, false),
        ]);
        assert_eq!(copied(&child, &parent), 0x1000 + 0x1000 + 0x1000);
        assert_eq!(copied(&child, &[]), 0);
    }
}
