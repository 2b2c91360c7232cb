//! The explanation: from a walked heap to what holds it.
//!
//! Owns the order of the steps and the joining of what they give. An error is a process that is gone or
//! forbids reading; what else goes wrong leaves the account as it was, without an explanation, and says why.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use pydefrag_heap::map::page;
use pydefrag_heap::{Explanation, Garbage, Generation, Pymalloc, RootKind, Snapshot};
use pydefrag_image::{Image, Log, ReadError, Records, Words};
use pydefrag_layout::agent::purges;
use pydefrag_layout::objects;
use pydefrag_layout::pymalloc::Geometry;
use rustc_hash::FxHashMap;

use super::blocks::Blocks;
use super::chain::Chains;
use super::classify::{Classifier, Table};
use super::edges::{Edges, Graph, Referrer};
use super::interpreters::{Interpreter, interpreters};
use super::kind::{Kind, Kinds, Role};
use super::reach::Reached;
use super::sites::Sites;
use super::slack::Counts;
use super::stream::{self, Progress, stream};
use super::tables::Tables;
use super::types::Types;
use super::{freelists, roots, sites};
use crate::map::Flags;
use crate::runtime::Runtime;
use crate::snapshot::Looked;

/// How objects are looked at.
pub struct Asked<'a> {
    /// When it is not worth it any more: then there is the account alone.
    pub until: Option<Instant>,
    /// Told how much is done and of how much, from several threads.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Contents may be shown.
    pub show_values: bool,
    /// So many live blocks are listed one by one, to be checked.
    pub blocks: usize,
    /// Addresses whose blocks are listed.
    pub at: &'a [u64],
    /// Where blocks were allocated, as a recording tells; without, tracemalloc is asked.
    pub sites: Option<&'a Sites>,
}

/// Why there is no explanation.
enum Failure {
    Read(ReadError),
    /// A file of our own.
    Keep(io::Error),
    Other(&'static str),
}

impl From<ReadError> for Failure {
    fn from(e: ReadError) -> Self {
        Failure::Read(e)
    }
}

impl From<stream::Stop> for Failure {
    fn from(e: stream::Stop) -> Self {
        match e {
            stream::Stop::Read(e) => Failure::Read(e),
            stream::Stop::Late => Failure::Other("it would have taken too long"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Failure::Keep(e)
    }
}

/// Looks at the objects of a process whose heap was walked for it, and puts into the snapshot what holds the
/// memory.
pub fn explain(
    image: &Image,
    runtime: &Runtime,
    looked: &mut Looked,
    asked: &Asked<'_>,
) -> Result<(), ReadError> {
    let Some(heap) = looked.heap.take() else { return Ok(()) };
    let minor = runtime.version.minor;
    let python = looked.snapshot.process.python.as_ref();
    let mimalloc = runtime.free_threaded() || python.is_some_and(|p| p.allocator == "mimalloc");
    let Some(forms) = objects::objects(minor).filter(|_| !mimalloc) else {
        let why = "objects were not looked at: mimalloc's blocks are not walked";
        looked.snapshot.notes.push(why.into());
        return Ok(());
    };
    if heap.chunks.is_empty() {
        let what =
            "malloc was not walked: large buffers have no owner, nor what only they refer to";
        looked.snapshot.notes.push(what.into());
    }
    // Where a purge cannot park what is empty, emptying pools is of no use.
    let sizes = |p: &Pymalloc| Geometry { pool_size: p.pool_size, arena_size: p.arena_size };
    let compacts = looked.snapshot.pymalloc.as_ref().map(sizes).is_some_and(purges);
    let mut detail = std::mem::take(&mut looked.detail);
    let mut map = detail.map.take();
    let result = (|| {
        let Some(blocks) = Blocks::of(&detail, heap.chunks) else {
            return Err(Failure::Other("more blocks than can be numbered"));
        };
        let types = Types::new(image, &blocks, forms, minor, heap.front);
        let table = Table {
            blocks: &blocks,
            types: &types,
            kinds: Kinds::new(blocks.count()),
            asked: Words::zeroed(blocks.count())?,
            next: Words::zeroed(blocks.count())?,
            slack: Log::create()?,
            free_listed: freelists::free_listed(image, runtime),
        };
        // Two passes, marking, and tables: each about as long as the others.
        let total = 6 * blocks.bytes();
        let done = AtomicU64::new(0);
        let progress = Progress { done, total, show: asked.progress, until: asked.until };
        let read = read(image, u64::from(detail.pool_size), &table, &progress)?;
        let interpreters = interpreters(image, runtime);
        let mut reached = Reached::new(&table, &read.edges, &progress);
        roots::modules(&mut reached, image, &types, minor);
        roots::locals(&mut reached, image, runtime, &interpreters);
        let ranges: Vec<_> = heap.ranges.iter().map(|r| (r.start, r.end)).collect();
        roots::memory(&mut reached, image, runtime, &interpreters, &ranges)?;
        roots::native(&mut reached);
        let swapped = image.mappings.iter().any(|m| m.swap > 0);
        roots::garbage(&mut reached, !swapped);
        if swapped {
            let what = "part of the memory is swapped out and was not read: garbage cannot be told";
            looked.snapshot.notes.push(what.into());
        }
        progress.reach(total / 3 * 2);
        let generations = generations(image, &table, &reached, &interpreters);
        let own = match asked.sites {
            Some(_) => None,
            None => sites::sites(image, runtime),
        };
        let sites = asked.sites.or(own.as_ref());
        let chains = Chains::new(image, &types, &reached, minor);
        let tables = Tables {
            image,
            detail: &detail,
            table: &table,
            reached: &reached,
            chains: &chains,
            sites,
            frozen: &generations.frozen,
            compacts,
            progress: &progress,
            map: map.as_deref(),
        };
        let mut sums =
            tables.sums(&read.counts, &read.slack, &read.texts, read.one_in, asked.show_values);
        let (emptied, named) = (std::mem::take(&mut sums.emptied), sums.named.take());
        apply(
            &mut looked.snapshot,
            &heap.ranges,
            &heap.owners,
            &tables,
            sums,
            generations.rows,
            &read,
        );
        if let Some(map) = &mut map {
            let mut flags = Flags::new(map);
            for pool in emptied {
                flags.returns(pool, pool + u64::from(detail.pool_size), page::COMPACT);
            }
            map.named = named;
        }
        let blocks = super::check::blocks(image, &table, &read.edges, &reached, &chains, asked);
        looked.snapshot.explanation.iter_mut().for_each(|e| e.blocks.clone_from(&blocks));
        Ok(())
    })();
    detail.map = map;
    looked.detail = detail;
    match result {
        Ok(()) => Ok(()),
        Err(Failure::Read(e)) => Err(e),
        Err(Failure::Keep(e)) => {
            let why = format!(
                "objects were not looked at: a temporary file cannot be kept ({e}); TMPDIR may name a \
                 folder for it"
            );
            looked.snapshot.notes.push(why);
            Ok(())
        }
        Err(Failure::Other(why)) => {
            looked.snapshot.notes.push(format!("objects were not looked at: {why}"));
            Ok(())
        }
    }
}

/// What both passes give.
pub(crate) struct Read {
    pub(crate) edges: Edges,
    pub(crate) texts: Records,
    pub(crate) one_in: u64,
    pub(crate) texts_seen: pydefrag_heap::Amount,
    pub(crate) slack: Vec<u64>,
    pub(crate) counts: Counts,
}

fn read(
    image: &Image,
    pool_size: u64,
    table: &Table<'_>,
    progress: &Progress<'_>,
) -> Result<Read, Failure> {
    let mut counts = Counts::default();
    for w in stream(image, table.blocks, pool_size, progress, || Classifier::new(table))? {
        counts.join(&w.finish()?);
    }
    table.kinds.renumber(&table.types.renumber());
    let graph = Graph::new(table.blocks.count())?;
    let one_in = graph.one_in;
    let mut adopted = Vec::new();
    let mut texts_seen = pydefrag_heap::Amount::default();
    for w in stream(image, table.blocks, pool_size, progress, || Referrer::new(table, &graph))? {
        let mut w = w.finish()?;
        adopted.append(&mut w.adopted);
        counts.join(&w.counts);
        texts_seen.count += w.texts_seen.count;
        texts_seen.bytes += w.texts_seen.bytes;
    }
    // An object's slot says more than a word in a buffer, which may be a remnant; the first object, so that
    // each look says the same.
    adopted.sort_unstable();
    for (ordinal, _, id) in adopted {
        table.kinds.classify(ordinal, Kind::new(Role::Buffer, id));
    }
    let (edges, texts) = graph.finish()?;
    Ok(Read { edges, texts, one_in, texts_seen, slack: table.slack.kept()?, counts })
}

struct Generations {
    rows: Vec<Generation>,
    frozen: FxHashMap<u32, ()>,
}

/// Follows the collector's lists through what was kept of them.
fn generations(
    image: &Image,
    table: &Table<'_>,
    reached: &Reached<'_>,
    interpreters: &[Interpreter],
) -> Generations {
    let mut rows: Vec<Generation> = Vec::new();
    let mut frozen = FxHashMap::default();
    let most = table.kinds.len();
    for head in interpreters.iter().flat_map(|i| &i.generations) {
        let mut row = Generation { name: head.name.into(), ..Default::default() };
        let first = image.word(head.head).map_or(0, |w| w & !3);
        let tracked = |o: u32| Some(o).filter(|o| table.kinds.get(*o).tracked());
        let block = |address: u64| table.blocks.find(address).and_then(|f| tracked(f.ordinal));
        let mut address = first;
        let mut left = most;
        while address != head.head && address != 0 && left > 0 {
            left -= 1;
            let Some(mut ordinal) = block(address) else {
                // Static, or not what its block was taken for: its own word leads on.
                address = image.word(address).map_or(0, |w| w & !3);
                continue;
            };
            loop {
                row.tracked += 1;
                if reached.is_garbage(ordinal) {
                    row.garbage.add(table.blocks.block(ordinal).map_or(0, |b| b.1));
                }
                if head.name == "frozen" {
                    frozen.insert(ordinal, ());
                }
                let next = table.next[ordinal as usize].load(Relaxed).checked_sub(1);
                match next.and_then(tracked).filter(|_| left > 0) {
                    Some(next) => (ordinal, left) = (next, left - 1),
                    None => break,
                }
            }
            // Where the way leaves the blocks.
            let start = table.blocks.block(ordinal).map_or(0, |b| b.0);
            let head_at = start + table.front() + table.kinds.get(ordinal).before() - 16;
            address = image.word(head_at).map_or(0, |w| w & !3);
        }
        match rows.iter_mut().find(|r| r.name == row.name) {
            Some(r) => {
                r.tracked += row.tracked;
                r.garbage.count += row.garbage.count;
                r.garbage.bytes += row.garbage.bytes;
            }
            None => rows.push(row),
        }
    }
    Generations { rows, frozen }
}

/// Puts what was found into the snapshot.
fn apply(
    snapshot: &mut Snapshot,
    ranges: &[crate::snapshot::HeapRange],
    owners: &[String],
    tables: &Tables<'_>,
    sums: super::tables::Sums,
    generations: Vec<Generation>,
    read: &Read,
) {
    let rounding = tables.rounding(ranges, owners.len());
    for (name, rounding) in owners.iter().zip(rounding) {
        let owner = snapshot.owners.iter_mut().find(|o| o.name == *name);
        if let Some(account) = owner.and_then(|o| o.account.as_mut()) {
            let rounding = rounding.min(account.live);
            account.live -= rounding;
            account.rounding = Some(rounding);
        }
    }
    snapshot.fragmentation = pydefrag_heap::Fragmentation::of(&snapshot.owners);
    if let (Some(purge), Some(ideal)) = (snapshot.ladder.purge, snapshot.ladder.ideal)
        && sums.compact > 0
    {
        snapshot.ladder.compact = Some((purge + sums.compact).min(ideal).max(purge));
    }
    let garbage = Garbage { generations, ..sums.garbage };
    let mut duplicates = sums.duplicates;
    duplicates.looked_at = read.texts_seen;
    snapshot.explanation = Some(Explanation {
        objects: sums.objects,
        pins: sums.pins,
        slack: sums.slack,
        savings: sums.savings,
        duplicates,
        garbage,
        blocks: Vec::new(),
    });
}

/// Of which roots blocks can be moved: those that a program sees.
pub(crate) fn visible(root: RootKind) -> bool {
    matches!(root, RootKind::Module | RootKind::Frame)
}
