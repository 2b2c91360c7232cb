//! Where blocks were allocated, from the target's own tracemalloc.
//!
//! Owns the way from the interpreter to tracemalloc's tables, confirmed by what they hold, and reading
//! them: in order of address and in large pieces, for entries, traces and tracebacks are scattered all
//! over the heap. What a traceback is reduced to is its innermost frame.
//!
//! Invariant: no more entries are followed than the table says it has (and those are bounded), no more
//! memory is used than eight bytes for each and a bounded number of places. An entry counts only if its
//! hash is that of its key, so that what is torn is left out and nothing is invented.

use pydefrag_image::{Image, ReadError};
use pydefrag_layout::tracemalloc::{
    self as layout, FileName, Form, STATE, TABLE, TABLES, TRACE, TRACEBACK, TRACING, Table, Value,
};
use pydefrag_layout::word::{u32_at, u64_at};
use rustc_hash::{FxHashMap, FxHashSet};

use super::text;
use crate::allocators::served;
use crate::runtime::{Runtime, data_of};

/// Where blocks were allocated.
#[derive(Debug, Default)]
pub struct Sites {
    /// File and line of each place.
    pub(crate) places: Vec<(String, u32)>,
    /// Blocks and their places, packed (`pack`), in order.
    traced: Vec<u64>,
}

impl Sites {
    /// As somebody else knows them: file and line of each place, and of each block its address and the index of its place.
    pub fn told(places: Vec<(String, u32)>, blocks: impl IntoIterator<Item = (u64, u32)>) -> Sites {
        let known = |place: u32| (place as usize) < places.len();
        let blocks = blocks.into_iter().filter(|(_, place)| known(*place));
        let mut traced: Vec<u64> = blocks.filter_map(|(block, place)| pack(block, place)).collect();
        traced.sort_unstable();
        Sites { places, traced }
    }

    /// The place, as an index, where the block at this address was allocated.
    pub(crate) fn of(&self, block: u64) -> Option<u32> {
        let wanted = pack(block, 0)?;
        let i = self.traced.partition_point(|t| *t < wanted);
        let found = *self.traced.get(i)?;
        (found >> PLACE_BITS == wanted >> PLACE_BITS).then_some((found & PLACE_MASK) as u32)
    }

    /// The blocks that have a place.
    #[cfg(test)]
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (u64, u32)> {
        self.traced.iter().map(|t| (t >> PLACE_BITS << 4, (t & PLACE_MASK) as u32))
    }
}

/// More traces than are read.
const MOST_TRACES: u64 = 50_000_000;
/// Bytes of the target that a trace takes at least.
const TRACED: u64 = 32;
/// Entries that are followed together: the more, the fewer pages are read twice. A fifth of a table, but
/// not fewer or more than this.
const BATCH: (u64, u64) = (64 << 10, 2 << 20);
/// Entries in the longest bucket: a table is at most half full.
const LONGEST_BUCKET: usize = 256;
/// Addresses in the interpreter's data that are looked at.
const MOST_POINTERS: usize = 1 << 18;
/// Tracebacks that are remembered.
const MOST_TRACEBACKS: usize = 1 << 20;
/// Domains beside the default one.
const MOST_DOMAINS: usize = 64;
/// Characters of a file's name, and of all names of places together.
const LONGEST_NAME: usize = 4096;
const MOST_TEXT: usize = 64 << 20;

/// A block's address without the bits that are zero in all of them, then its place.
const PLACE_BITS: u32 = 20;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

/// `None` for what is no block of an allocator: its address is not a multiple of 16 or not of this world.
fn pack(block: u64, place: u32) -> Option<u64> {
    let fits = block.is_multiple_of(16) && block < 1 << 48 && u64::from(place) <= PLACE_MASK;
    fits.then(|| block >> 4 << PLACE_BITS | u64::from(place))
}

/// Reads tracemalloc's tables. `None` where it does not trace, or is not understood.
pub(crate) fn sites(image: &Image, runtime: &Runtime) -> Option<Sites> {
    if runtime.free_threaded() {
        return None;
    }
    let minor = runtime.layout.minor;
    let tables = match layout::state_hint(minor) {
        Some(hint) => of_runtime(image, runtime, hint)?,
        None => of_statics(image, runtime)?,
    };
    // tracemalloc lies on the debug hooks, and sees what is behind their head.
    let head = if served(image, runtime).debug_hooks { DEBUG_HEAD } else { 0 };
    let mut reader = Reader { head, ..Reader::new(image, minor) };
    for table in tables {
        reader.traces(table).ok()?;
    }
    let mut sites = reader.sites;
    sites.traced.sort_unstable();
    sites.traced.dedup_by_key(|t| *t >> PLACE_BITS);
    sites.traced.shrink_to_fit();
    Some(sites)
}

/// Bytes that the debug hooks put before each block.
const DEBUG_HEAD: u64 = 16;

/// The tables of `_PyRuntime.tracemalloc` (3.12+), the one of the default domain first.
pub(super) fn of_runtime(image: &Image, runtime: &Runtime, hint: u64) -> Option<Vec<Table>> {
    const REACH: usize = 32 << 10;
    let base = runtime.address?;
    let mut bytes = vec![0; REACH + STATE];
    image.read(base, &mut bytes).ok()?;
    let offsets = std::iter::once(hint as usize).chain((0..REACH).step_by(8));
    let read = |at: u64| table_at(image, runtime, at);
    offsets.filter_map(|at| bytes.get(at..at + STATE)).find_map(|state| {
        if !layout::is_tracing_state(state) {
            return None;
        }
        let [files, tracebacks, traces, domains] =
            TABLES.map(|at| read(u64_at(state, at as usize)));
        let (_, _, traces, domains) = (files?, tracebacks?, traces?, domains?);
        Some(with_domains(image, runtime, traces, &domains))
    })
}

/// The tables that static variables point to (3.8-3.11), known by what they hold.
fn of_statics(image: &Image, runtime: &Runtime) -> Option<Vec<Table>> {
    let config = runtime.tracemalloc_config?;
    let mut bytes = [0; TRACING + 4];
    image.read(config, &mut bytes).ok()?;
    if u32_at(&bytes, TRACING) != 1 {
        return None;
    }
    let mut seen = FxHashSet::default();
    let mut tables = Vec::new();
    for (_, bytes) in data_of(image, &runtime.module) {
        let words = bytes.chunks_exact(8).map(|w| u64_at(w, 0));
        let pointers = words.filter(|w| *w != 0 && w.is_multiple_of(16));
        let new = pointers.filter(|w| seen.insert(*w)).take(MOST_POINTERS);
        tables.extend(new.filter_map(|at| table_at(image, runtime, at)));
    }
    let is_traces = |t: &&Table| {
        let mut reader = Reader::new(image, runtime.layout.minor);
        reader.sample(t).is_some_and(|all_fit| all_fit)
    };
    let traces = *tables.iter().filter(is_traces).max_by_key(|t| t.entries)?;
    // Which is the table of domains only its entries say; most have none.
    let with = tables.iter().map(|t| with_domains(image, runtime, traces, t));
    with.max_by_key(Vec::len)
}

/// A table of traces, and those of the other domains.
fn with_domains(image: &Image, runtime: &Runtime, traces: Table, domains: &Table) -> Vec<Table> {
    let mut all = vec![traces];
    if domains.form != Form::Boxed || domains.buckets > 1 << 10 || domains.entries == 0 {
        return all;
    }
    let Ok(heads) = image.words(domains.array, domains.buckets as usize) else { return all };
    for mut at in heads {
        let mut bytes = [0; 32];
        while at != 0 && all.len() <= MOST_DOMAINS && image.read(at, &mut bytes).is_ok() {
            let Some((next, table)) = layout::domain(&bytes) else { break };
            let same = |t: &Table| t.functions == traces.functions;
            all.extend(table_at(image, runtime, table).filter(same));
            at = next;
        }
    }
    all
}

/// The table at an address, if there is one with functions of the interpreter.
fn table_at(image: &Image, runtime: &Runtime, at: u64) -> Option<Table> {
    image.mapping_at(at).filter(|m| m.is_private_anonymous())?;
    let mut bytes = [0; TABLE];
    image.read(at, &mut bytes).ok()?;
    let found = layout::table(runtime.layout.minor, &bytes)?;
    found.functions.iter().all(|f| runtime.module.is_code(*f)).then_some(found)
}

struct Reader<'a> {
    image: &'a Image,
    minor: u8,
    /// Bytes from a block's start to the address that was traced.
    head: u64,
    /// Traces that there may still be.
    left: u64,
    sites: Sites,
    /// Bytes of all names in `sites`.
    text: usize,
    /// Files' names by address.
    files: FxHashMap<u64, Option<String>>,
    /// Places by the address of the file's name, and line.
    places: FxHashMap<(u64, u32), Option<u32>>,
    /// Places by the address of the traceback.
    tracebacks: FxHashMap<u64, Option<u32>>,
}

impl<'a> Reader<'a> {
    fn new(image: &'a Image, minor: u8) -> Self {
        let resident: u64 = image.mappings.iter().map(|m| m.rss).sum();
        Reader {
            image,
            minor,
            head: 0,
            left: MOST_TRACES.min(resident / TRACED),
            sites: Sites::default(),
            text: 0,
            files: FxHashMap::default(),
            places: FxHashMap::default(),
            tracebacks: FxHashMap::default(),
        }
    }

    /// Whether the first entries of a table are all traces; `None` where it has none.
    fn sample(&mut self, table: &Table) -> Option<bool> {
        const SAMPLE: usize = 64;
        let heads = self.image.words(table.array, table.buckets.min(8192) as usize).ok()?;
        let heads: Vec<u64> = heads.into_iter().filter(|h| *h != 0).take(SAMPLE).collect();
        let count = heads.len();
        self.follow(table.form, heads, 1).ok()?;
        // One or two may have changed since.
        (count > 0).then_some(self.sites.traced.len() * 10 >= count * 9)
    }

    /// Reads all traces of a table.
    fn traces(&mut self, table: Table) -> Result<(), ReadError> {
        const STEP: u64 = 128 << 10;
        let batch = (table.entries / 5).clamp(BATCH.0, BATCH.1) as usize;
        self.sites.traced.reserve(table.entries.min(self.left) as usize);
        let mut heads = Vec::new();
        for from in (0..table.buckets).step_by(STEP as usize) {
            let count = STEP.min(table.buckets - from) as usize;
            let Ok(part) = self.image.words(table.array.saturating_add(8 * from), count) else {
                continue;
            };
            heads.extend(part.into_iter().filter(|h| *h != 0));
            if heads.len() >= batch {
                self.follow(table.form, std::mem::take(&mut heads), LONGEST_BUCKET)?;
            }
        }
        self.follow(table.form, heads, LONGEST_BUCKET)
    }

    /// Reads the entries at these addresses, and those behind them in their buckets.
    fn follow(&mut self, form: Form, mut heads: Vec<u64>, longest: usize) -> Result<(), ReadError> {
        for _ in 0..longest {
            heads.sort_unstable();
            heads.dedup();
            heads.truncate(self.left as usize);
            self.left -= heads.len() as u64;
            if heads.is_empty() {
                break;
            }
            let (mut next, mut traces, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
            gather(self.image, heads.iter().copied(), form.entry(), |_, bytes| {
                let Some(entry) = layout::entry(form, bytes) else { return };
                match entry.value {
                    Value::Trace(at) => traces.push((at, entry.block)),
                    Value::Traceback(at) => blocks.push((at, entry.block)),
                }
                if entry.next != 0 {
                    next.push(entry.next);
                }
            })?;
            traces.sort_unstable();
            gather(self.image, traces.iter().map(|t| t.0), TRACE, |i, bytes| {
                blocks.extend(layout::traceback_of(bytes).map(|at| (at, traces[i].1)));
            })?;
            drop(traces);
            self.place(blocks)?;
            heads = next;
        }
        Ok(())
    }

    /// Adds blocks with the addresses of their tracebacks.
    fn place(&mut self, blocks: Vec<(u64, u64)>) -> Result<(), ReadError> {
        if self.tracebacks.len() >= MOST_TRACEBACKS {
            self.tracebacks.clear();
        }
        let unknown = |at: &u64| !self.tracebacks.contains_key(at);
        let mut new: Vec<u64> = blocks.iter().map(|b| b.0).filter(unknown).collect();
        new.sort_unstable();
        new.dedup();
        let mut frames = Vec::new();
        gather(self.image, new.iter().copied(), TRACEBACK, |i, bytes| {
            frames.push((new[i], layout::innermost(self.minor, bytes)));
        })?;
        for (traceback, frame) in frames {
            let place = frame.and_then(|(file, line)| self.place_of(file, line));
            self.tracebacks.insert(traceback, place);
        }
        for (traceback, block) in blocks {
            let place = self.tracebacks.get(&traceback).copied().flatten();
            let start = block.wrapping_sub(self.head);
            self.sites.traced.extend(place.and_then(|place| pack(start, place)));
        }
        Ok(())
    }

    fn place_of(&mut self, file: u64, line: u32) -> Option<u32> {
        if let Some(known) = self.places.get(&(file, line)) {
            return *known;
        }
        let image = self.image;
        let minor = self.minor;
        let full = self.text >= MOST_TEXT || self.sites.places.len() as u64 > PLACE_MASK;
        let name = self.files.entry(file).or_insert_with(|| name_at(image, minor, file));
        let place = name.clone().filter(|_| !full).map(|name| {
            self.text += name.len();
            self.sites.places.push((name, line));
            self.sites.places.len() as u32 - 1
        });
        self.places.insert((file, line), place);
        place
    }
}

/// A file's name.
fn name_at(image: &Image, minor: u8, at: u64) -> Option<String> {
    match layout::file_name(minor) {
        FileName::Object => text::text_of(image, minor, at, LONGEST_NAME),
        FileName::Utf8 => text::c_string(image, at, LONGEST_NAME),
    }
}

/// Reads `size` bytes at each of many addresses, which must be in order: neighbours with one call. What
/// cannot be read is left out.
fn gather(
    image: &Image,
    addresses: impl Iterator<Item = u64>,
    size: usize,
    mut each: impl FnMut(usize, &[u8]),
) -> Result<(), ReadError> {
    const GAP: u64 = 8 << 10;
    const MOST: u64 = 256 << 10;
    let mut addresses = addresses.enumerate().peekable();
    let (mut group, mut bytes) = (Vec::new(), Vec::new());
    while let Some((i, start)) = addresses.next() {
        group.clear();
        group.push((i, start));
        let mut last = start;
        let near = |at: u64, last: u64| at - last <= GAP && at - start <= MOST;
        while let Some((i, at)) = addresses.next_if(|(_, at)| near(*at, last)) {
            group.push((i, at));
            last = at;
        }
        let Some(end) = last.checked_add(size as u64) else { continue };
        bytes.resize((end - start) as usize, 0);
        match image.read(start, &mut bytes) {
            Ok(()) => {
                for (i, at) in &group {
                    let from = (at - start) as usize;
                    each(*i, &bytes[from..from + size]);
                }
            }
            Err(e @ (ReadError::Gone | ReadError::Denied)) => return Err(e),
            // A page between them is missing: one by one.
            Err(_) => {
                bytes.resize(size, 0);
                for (i, at) in &group {
                    if image.read(*at, &mut bytes[..size]).is_ok() {
                        each(*i, &bytes[..size]);
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pydefrag_image::{Mapping, PageRun, Residency, SparseMemory};

    use super::*;

    const BASE: u64 = 0x7f00_0000_0000;
    const SIZE: u64 = 1 << 20;

    /// An image of one mapping with these words at these offsets.
    fn planted(words: &[(u64, &[u64])]) -> Image {
        let end = BASE + SIZE;
        let mapping = Mapping { start: BASE, end, rss: SIZE, ..Default::default() };
        let run = PageRun { start: BASE, end, resident: true, huge: false, shared: false };
        let mut bytes = vec![0; SIZE as usize];
        for (at, words) in words {
            for (i, word) in words.iter().enumerate() {
                let at = *at as usize + 8 * i;
                bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        let mut memory = SparseMemory::default();
        memory.plant(BASE, bytes);
        Image::planted(vec![mapping], Residency::from_runs(vec![run]), memory)
    }

    fn table(entries: u64, buckets: u64) -> Table {
        Table { form: Form::Boxed, entries, buckets, array: BASE, functions: [1, 1] }
    }

    const BLOCK: u64 = 0x5555_0000_1230;
    /// A `trace_t` at 0x2000, its traceback at 0x3000 (line 7 of the file at 0x4000: "a.py").
    const TRACES: [(u64, &[u64]); 4] = [
        (0x2000, &[48, BASE + 0x3000]),
        (0x3000, &[1, 1 | 1 << 16 | (BASE + 0x4000) << 32, (BASE + 0x4000) >> 32 | 7 << 32]),
        (0x4000, &[0, BASE + 0x5000, 4, 0, 0x64, u64::from_le_bytes(*b"a.py\0\0\0\0")]),
        // `tp_flags` of its type.
        (0x5000 + 168, &[1 << 28]),
    ];

    /// What is read of a table whose first two buckets begin with this entry.
    fn read(entry: [u64; 4], more: &[(u64, &[u64])]) -> Sites {
        let buckets = [ENTRY, ENTRY];
        let mut words = vec![(0, &buckets[..]), (ENTRY - BASE, &entry)];
        words.extend(TRACES);
        words.extend(more);
        let image = planted(&words);
        let mut reader = Reader::new(&image, 13);
        reader.traces(table(1 << 20, 16)).expect("it can be read");
        reader.sites
    }

    const ENTRY: u64 = BASE + 0x1000;

    #[test]
    fn a_bucket_that_does_not_end_is_left() {
        let found = read([ENTRY, BLOCK >> 4, BLOCK, BASE + 0x2000], &[]);
        assert_eq!(found.places, [("a.py".to_owned(), 7)]);
        assert_eq!((found.of(BLOCK), found.of(BLOCK + 16), found.of(0)), (Some(0), None, None));
        assert!(found.traced.len() < 1000);
    }

    #[test]
    fn entries_of_another_key_and_names_without_end_are_left_out() {
        assert_eq!(read([0, BLOCK, BLOCK, BASE + 0x2000], &[]).blocks().count(), 0);
        let endless = [0, 0, u64::MAX / 4, 0, 0x70];
        let found = read([0, BLOCK >> 4, BLOCK, BASE + 0x2000], &[(0x4000, &endless)]);
        assert_eq!(found.blocks().count(), 0);
    }

    #[test]
    fn a_table_larger_than_its_memory_is_not_believed() {
        let image = planted(&[]);
        let mut reader = Reader::new(&image, 13);
        reader.traces(table(1 << 40, 1 << 20)).unwrap();
        assert!(reader.sites.traced.capacity() as u64 <= SIZE / TRACED);
    }

    #[test]
    fn no_bytes_panic() {
        proptest::proptest!(|(words in proptest::collection::vec(proptest::prelude::any::<u64>(), 0..600),
            pointers in proptest::collection::vec(0u64..SIZE, 100))| {
            // Pointers into the memory itself, so that they are followed.
            let mut words = words;
            words.extend(pointers.iter().map(|p| BASE + (p & !7)));
            let image = planted(&[(0, &words), (0x1000, &words), (0x8000, &words)]);
            for minor in [8, 13, 15] {
                let form = if minor == 8 { Form::Inline { key: 12 } } else { Form::Boxed };
                let mut reader = Reader::new(&image, minor);
                reader.traces(Table { form, ..table(1000, 512) }).unwrap();
                reader.place(pointers.iter().map(|p| (BASE + p, BASE + p)).collect()).unwrap();
            }
        });
    }
}
