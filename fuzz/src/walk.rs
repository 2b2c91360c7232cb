//! The walkers: a process made of bytes. A sound heap is planted as the bytes ask for, then broken in
//! the places that they name.

use pydefrag_heap::PoolState;
use pydefrag_image::{
    Image, Mapping, Module, OS_PAGE, PageRun, Permissions, ProcessFacts, Residency, SparseMemory,
    parse_smaps,
};
use pydefrag_layout::agent::{self, Entry};
use pydefrag_layout::cpython::{self, DebugOffsets, Obmalloc, Version};
use pydefrag_layout::pymalloc::{
    ARENA_OBJECT, DUMMY_CLASS, Geometry, POOL_HEADER, STATE_ARENAS, STATE_MAXARENAS, block_size,
};
use pydefrag_walk::{Runtime, Wanted, headers, snapshot, states};

const RUNTIME: u64 = 0x10_0000;
pub(super) const INTERPRETERS: [u64; 2] = [0x20_0000, 0x28_0000];
const STATES: [u64; 2] = [0x30_0000, 0x38_0000];
const ARRAYS: [u64; 2] = [0x40_0000, 0x48_0000];
const ARENAS: u64 = 0x7f00_0000_0000;
const INTERPRETER_SIZE: u64 = 16 << 10;
const LIBRARY: u64 = 0x7e00_0000_0000;
const ENTRIES: u64 = 0x7e00_1000_0000;

/// No memory makes a walk panic or hang, and whatever it accepts adds up.
pub fn walk(data: &[u8]) {
    let mut feed = Feed(data);
    let Some((runtime, mut planted)) = sound(&mut feed) else { return };
    planted.break_it(&mut feed);
    check(&planted.image(), &runtime);
}

/// A sound heap of some version.
pub(super) fn sound(feed: &mut Feed<'_>) -> Option<(Runtime, Planted)> {
    let version = Version { major: 3, minor: 8 + feed.u8() % 8, micro: 1 };
    let layout = cpython::runtime(version)?;
    let g = layout.geometries[usize::from(feed.u8()) % layout.geometries.len()];
    let pymalloc = matches!(layout.obmalloc, Obmalloc::Pointer(_));
    let runtime = Runtime {
        module: libc(),
        version,
        layout,
        address: Some(RUNTIME),
        debug_offsets: (version.minor >= 13).then_some(DebugOffsets {
            version_hex: 0,
            free_threaded: false,
            interpreters_head: layout.interpreters_head,
            interp_size: INTERPRETER_SIZE,
            interp_id: layout.interp_id,
            interp_next: layout.interp_next,
        }),
        tracemalloc_config: None,
        untried: false,
    };
    let mut planted = Planted::new(&runtime, pymalloc);
    planted.heap(feed, &runtime, g);
    Some((runtime, planted))
}

fn check(image: &Image, runtime: &Runtime) {
    let Ok(found) = states(image, runtime) else { return };
    let _ = headers(image, &found.states).expect("planted memory is never denied");
    let walked = pydefrag_walk::walk(image, &found.states).expect("planted memory is never denied");
    // Whatever an agent says, its pools are those of its arenas.
    let arenas = found.states.iter().flat_map(|s| s.arenas.iter().map(move |a| (s.geometry, a)));
    let most: u64 = arenas.map(|(g, a)| g.pools_in(a.arena.address)).sum();
    let p = &walked.pymalloc;
    let in_use = walked.detail.pools.iter().filter(|p| p.state == PoolState::Used).count() as u64;
    assert!(in_use + p.free_pools + p.parked_pools + p.uncarved_pools <= most);
    for (account, tally) in &walked.accounts {
        assert_eq!(account.total(), tally.resident, "an account that does not sum to residency");
    }
    assert!(walked.ideal >= walked.purge);
    for pool in walked.detail.pools.iter().filter(|p| p.state == PoolState::Used) {
        let live: u32 = walked.detail.bitmap(pool).iter().map(|w| w.count_ones()).sum();
        assert_eq!(live, u32::from(pool.used));
    }
    let Ok(looked) = snapshot(&facts(), image, runtime, Wanted { objects: false, map: true })
    else {
        return;
    };
    let map = looked.detail.map.as_ref().expect("a map was wanted");
    assert!(map.fits(&looked.detail), "a map that does not fit");
    let snapshot = looked.snapshot;
    let owned: u64 = snapshot.owners.iter().map(|o| o.resident).sum();
    assert_eq!(owned + snapshot.unattributed, snapshot.memory.rss, "{:#?}", snapshot.owners);
}

pub(super) fn facts() -> ProcessFacts {
    ProcessFacts {
        pid: 0,
        parent: 0,
        state: 'S',
        uid: 0,
        threads: 1,
        name: "planted".into(),
        command: "planted".into(),
        argv0: "planted".into(),
        rss: None,
        hwm: None,
        kernel: false,
    }
}

/// Our own C library: a module with some data, for the versions that keep pymalloc in variables.
fn libc() -> Module {
    let smaps = std::fs::read("/proc/self/maps").expect("maps is readable");
    let mappings = parse_smaps(&smaps[..]).expect("maps is understood").mappings;
    let libc = mappings.iter().find(|m| {
        let name = String::from_utf8_lossy(m.name_bytes()).into_owned();
        name.contains("/libc.so.6") || name.contains("/libc-2.")
    });
    let libc = libc.expect("linked with glibc");
    Module::open(std::process::id() as i32, libc).expect("libc is an ELF file")
}

/// The fuzzer's bytes, zeros behind their end.
pub(super) struct Feed<'a>(pub(super) &'a [u8]);

impl Feed<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let n = N.min(self.0.len());
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        out
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}

/// One mapping and its bytes; `pages` holds each page's residency as [`page_run`] reads it.
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) pages: Vec<u8>,
    /// The path of its file.
    pub(super) file: Option<&'static str>,
}

const FILE: &str = "/planted";

/// Memory, and the address and bytes of its live blocks.
pub(super) struct Planted {
    pub(super) regions: Vec<Region>,
    pub(super) live: Vec<(u64, u64)>,
}

impl Planted {
    pub(super) fn new(runtime: &Runtime, pointers: bool) -> Planted {
        let mut planted = Planted { regions: Vec::new(), live: Vec::new() };
        planted.map(RUNTIME, OS_PAGE);
        for at in INTERPRETERS {
            planted.map(at, INTERPRETER_SIZE);
        }
        for at in STATES.into_iter().filter(|_| pointers).chain(ARRAYS) {
            planted.map(at, OS_PAGE);
        }
        if runtime.layout.obmalloc == Obmalloc::Static {
            for s in runtime.module.segments.iter().filter(|s| s.write) {
                let start = s.start / OS_PAGE * OS_PAGE;
                planted.map(start, s.end.next_multiple_of(OS_PAGE) - start);
            }
        }
        planted
    }

    pub(super) fn map(&mut self, start: u64, length: u64) {
        let pages = vec![b'r'; (length / OS_PAGE) as usize];
        self.regions.push(Region { start, bytes: vec![0; length as usize], pages, file: None });
    }

    pub(super) fn put(&mut self, at: u64, bytes: &[u8]) {
        let region = self
            .regions
            .iter_mut()
            .find(|r| (r.start..r.start + r.bytes.len() as u64).contains(&at));
        let Some(region) = region else { return };
        let from = (at - region.start) as usize;
        if let Some(place) = region.bytes.get_mut(from..from + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    pub(super) fn put64(&mut self, at: u64, word: u64) {
        self.put(at, &word.to_le_bytes());
    }

    pub(super) fn put32(&mut self, at: u64, word: u32) {
        self.put(at, &word.to_le_bytes());
    }

    /// One or two interpreters with up to four arenas.
    pub(super) fn heap(&mut self, feed: &mut Feed<'_>, runtime: &Runtime, g: Geometry) {
        let layout = runtime.layout;
        let flags = feed.u8();
        let two = flags % 2 == 1;
        // Arenas of huge pages are left alone.
        let healed = flags >= 128 && agent::purges(g);
        self.put64(RUNTIME + layout.interpreters_head, INTERPRETERS[0]);
        self.put64(INTERPRETERS[0] + layout.interp_next, if two { INTERPRETERS[1] } else { 0 });
        self.put64(INTERPRETERS[1] + layout.interp_id, 1);
        let data = runtime.module.segments.iter().find(|s| s.write).map_or(0, |s| s.start);
        let states = match layout.obmalloc {
            Obmalloc::Pointer(hints) => {
                let hint = hints[usize::from(feed.u8()) % hints.len()];
                (0..2).for_each(|i| self.put64(INTERPRETERS[i] + hint, STATES[i]));
                STATES
            }
            Obmalloc::Inline(offset) => INTERPRETERS.map(|i| i + offset),
            Obmalloc::Static => [data.next_multiple_of(16) + 64; 2],
        };
        for (state, array) in states.into_iter().zip(ARRAYS) {
            for class in 0..32 {
                let own = state + 16 * class - 16;
                self.put64(state + 16 * class, own);
                self.put64(state + 16 * class + 8, own);
            }
            self.put64(state + STATE_ARENAS, array);
            self.put32(state + STATE_MAXARENAS, 16);
        }
        if layout.obmalloc == Obmalloc::Static {
            self.put64(states[0] + STATE_ARENAS, ARRAYS[0]);
        }
        let mut listed = [0u64; 2];
        let mut entries = Vec::new();
        for i in 0..1 + u64::from(feed.u8() % 4) {
            let flags = feed.u8();
            let owner = usize::from(two && flags & 1 == 1);
            let unaligned = if flags & 2 == 2 { OS_PAGE } else { 0 };
            let at = ARENAS + i * (g.arena_size + g.pool_size) + unaligned;
            self.map(at, g.arena_size);
            let seed = feed.u8();
            if let Some(region) = self.regions.last_mut() {
                for (k, page) in region.pages.iter_mut().enumerate() {
                    *page = b"rasrrrcr"[((usize::from(seed) * (k + 1)) >> 2) % 8];
                }
            }
            let carved = u64::from(feed.u8()) % (g.pools_in(at).min(12) + 1);
            let first = g.first_pool(at);
            let mut entry = Entry { address: at, ..Entry::default() };
            for n in 0..carved {
                let pool = first + n * g.pool_size;
                let free = self.pool(feed, pool, listed[owner] as u32, states[owner], g);
                // Masks of pools whose lists are whole are stale.
                entry.set_dropped(n, seed.wrapping_mul(n as u8));
                if free && healed {
                    entry.parked |= 1 << n;
                    self.park(pool, g);
                }
            }
            let parked = entry.parked.count_ones();
            entries.push(entry);
            let object = ARRAYS[owner] + listed[owner] * ARENA_OBJECT as u64;
            listed[owner] += 1;
            self.put64(object, at);
            self.put64(object + 8, first + carved * g.pool_size);
            self.put32(object + 20, g.pools_in(at) as u32 - parked);
        }
        if healed {
            self.agent(&entries);
        }
    }

    /// The agent's library, whose file cannot be opened, with its table, and what that lists.
    fn agent(&mut self, entries: &[Entry]) {
        self.map(LIBRARY, OS_PAGE);
        self.regions.last_mut().expect("just mapped").file = Some("/pydefrag/agent.so");
        self.map(ENTRIES, OS_PAGE);
        self.put(LIBRARY, &agent::MAGIC);
        self.put32(LIBRARY + agent::at::VERSION as u64, agent::VERSION);
        self.put32(LIBRARY + agent::at::SIZE as u64, agent::TABLE as u32);
        self.put64(LIBRARY + agent::at::ENTRIES as u64, ENTRIES);
        self.put32(LIBRARY + agent::at::COUNT as u64, entries.len() as u32);
        for (i, entry) in entries.iter().enumerate() {
            let at = ENTRIES + (i * agent::ENTRY) as u64;
            self.put64(at, entry.address);
            self.put64(at + 8, entry.parked);
            self.put(at + 16, &entry.dropped);
        }
    }

    /// Gives a pool back whole.
    fn park(&mut self, pool: u64, g: Geometry) {
        self.put(pool, &vec![0; g.pool_size as usize]);
        let region = self.regions.last_mut().expect("the arena's");
        let page = ((pool - region.start) / OS_PAGE) as usize;
        region.pages[page..page + (g.pool_size / OS_PAGE) as usize].fill(b'a');
    }

    /// Whether it is a free one.
    fn pool(&mut self, feed: &mut Feed<'_>, at: u64, arena: u32, state: u64, g: Geometry) -> bool {
        let [kind, class, fill, step] = feed.bytes();
        self.put32(at + 32, arena);
        if kind % 8 == 0 {
            self.put32(at + 36, DUMMY_CLASS);
            return true;
        }
        let class = class % 32;
        let (size, blocks) = (block_size(class), g.blocks(class));
        let carved = (2 + u64::from(fill) * (blocks - 2) / 255).min(blocks);
        let step = u64::from(step).max(1);
        let free: Vec<u64> = (0..carved).filter(|slot| slot % step == 1).collect();
        let block = |slot: u64| at + POOL_HEADER as u64 + slot * size;
        self.put32(at, (carved - free.len() as u64) as u32);
        self.put64(at + 8, free.first().map_or(0, |slot| block(*slot)));
        self.put32(at + 36, u32::from(class));
        self.put32(at + 40, (POOL_HEADER as u64 + carved * size) as u32);
        self.put32(at + 44, (g.pool_size - size) as u32);
        let live = (0..carved).filter(|slot| slot % step != 1);
        self.live.extend(live.map(|slot| (block(slot), size)));
        for (i, slot) in free.iter().enumerate() {
            self.put64(block(*slot), free.get(i + 1).map_or(0, |next| block(*next)));
        }
        if kind % 2 == 1 {
            self.put64(state + 16 * u64::from(class), at);
            self.put64(state + 16 * u64::from(class) + 8, at);
        }
        false
    }

    /// Breaks it where the rest of the bytes say.
    fn break_it(&mut self, feed: &mut Feed<'_>) {
        let mut left = 64;
        while !feed.0.is_empty() && left > 0 {
            left -= 1;
            let (how, which) = (feed.u8(), usize::from(feed.u8()) % self.regions.len());
            let other = usize::from(feed.u8()) % self.regions.len();
            let offset =
                u64::from(feed.u32()) % (self.regions[which].bytes.len() as u64 - 64) / 4 * 4;
            let at = self.regions[which].start + offset;
            match how % 8 {
                0 => self.put64(at / 8 * 8, feed.u64()),
                1 => self.put32(at, u32::from(feed.u8())),
                2 => self.put64(at / 8 * 8, self.regions[other].start + u64::from(feed.u8()) * 16),
                3 => self.put64(at / 8 * 8, 0u64.wrapping_sub(u64::from(feed.u8()))),
                4 => {
                    let from =
                        u64::from(feed.u32()) % (self.regions[other].bytes.len() as u64 - 64);
                    let piece = self.regions[other].bytes[from as usize / 16 * 16..][..48].to_vec();
                    self.put(at / 16 * 16, &piece);
                }
                5 => self.regions[which].pages[(offset / OS_PAGE) as usize] = feed.u8(),
                6 => self.regions[which].file = Some(FILE),
                _ => self.regions[which].bytes.truncate(offset as usize),
            }
            if self.regions[which].bytes.len() < 128 {
                self.regions[which].bytes.resize(128, 0);
            }
        }
    }

    pub(super) fn image(mut self) -> Image {
        self.regions.sort_by_key(|r| r.start);
        let (mut mappings, mut runs) = (Vec::new(), Vec::new());
        let mut memory = SparseMemory::default();
        for region in self.regions {
            let page_runs = region.pages.iter().enumerate().filter_map(|(k, state)| {
                let start = region.start + k as u64 * OS_PAGE;
                let (resident, shared) = match state {
                    b'a' => return None,
                    b's' => (false, false),
                    state => (true, *state == b'c'),
                };
                Some(PageRun { start, end: start + OS_PAGE, resident, huge: false, shared })
            });
            let before = runs.len();
            runs.extend(page_runs);
            let resident = runs[before..].iter().filter(|r: &&PageRun| r.resident).count() as u64;
            mappings.push(Mapping {
                start: region.start,
                end: region.start + region.pages.len() as u64 * OS_PAGE,
                permissions: Permissions { read: true, write: true, ..Default::default() },
                inode: u64::from(region.file.is_some()),
                name: region.file.map(|path| std::path::Path::new(path).into()),
                rss: resident * OS_PAGE,
                ..Default::default()
            });
            memory.plant(region.start, region.bytes);
        }
        Image::planted(mappings, Residency::from_runs(runs), memory)
    }
}
