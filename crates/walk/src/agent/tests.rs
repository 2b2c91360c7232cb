//! Arenas as the agent leaves them, planted, with its table beside them.

use proptest::prelude::*;
use pydefrag_heap::{OS_PAGE, PoolState};
use pydefrag_image::{Mapping, PageRun, Permissions, Residency, SparseMemory};
use pydefrag_layout::pymalloc::DUMMY_CLASS;

use super::*;
use crate::obmalloc::ListedArena;
use crate::pool::tests::{losing, planted};
use crate::{headers, walk};

const G: Geometry = Geometry::LARGE;
const ARENAS: u64 = 0x7f00_0000_0000;
const LIBRARY: u64 = 0x7e00_0000_0000;
const ENTRIES: u64 = 0x7d00_0000_0000;
const VERSION: Version = Version { major: 3, minor: 12, micro: 1 };

/// A pool of an arena.
#[derive(Debug, Clone)]
enum Of {
    /// Parked; a page of it may be there again.
    Parked(bool),
    /// Free; kept by a purge before.
    Free(bool),
    /// In use: size class, every n-th block is live, pages that are dropped if they are dead.
    Used(u8, u32, u8),
    /// In use, its list whole, with a mask that is stale.
    Renewed(u8, u32, u8),
}

/// Memory, and what is known of it.
#[derive(Default)]
struct Plan {
    memory: SparseMemory,
    runs: Vec<PageRun>,
    mappings: Vec<Mapping>,
    arenas: Vec<ListedArena>,
    entries: Vec<Entry>,
    /// By pool in use: its live slots.
    live: Vec<(u64, Vec<u32>)>,
    parked: u64,
    /// By arena: free pools, those never carved, and those in use.
    free: Vec<(u64, u64, u64)>,
    /// Resident bytes of free and parked pools and of holes.
    returned: u64,
}

impl Plan {
    fn map(&mut self, start: u64, bytes: Vec<u8>, present: &[bool], name: Option<&str>) {
        for (k, _) in present.iter().enumerate().filter(|(_, there)| **there) {
            let at = start + k as u64 * OS_PAGE;
            let run = PageRun {
                start: at,
                end: at + OS_PAGE,
                resident: true,
                huge: false,
                shared: false,
            };
            self.runs.push(run);
        }
        self.mappings.push(Mapping {
            start,
            end: start + bytes.len() as u64,
            permissions: Permissions { read: true, write: true, ..Default::default() },
            inode: u64::from(name.is_some()),
            name: name.map(|n| std::path::Path::new(n).into()),
            ..Default::default()
        });
        self.memory.plant(start, bytes);
    }

    /// An arena with these pools, and some that were never carved.
    fn arena(&mut self, pools: &[Of]) {
        let address = ARENAS + self.arenas.len() as u64 * 2 * G.arena_size;
        let mut bytes = vec![0; G.arena_size as usize];
        let mut present = vec![false; 256];
        let mut entry = Entry { address, ..Entry::default() };
        let (mut free, mut used) = (0, 0);
        for (n, of) in pools.iter().enumerate() {
            let at = address + n as u64 * G.pool_size;
            let (pool, there) = self.pool(of, at, n as u64, &mut entry);
            bytes[n * 16384..][..16384].copy_from_slice(&pool);
            (0..4).for_each(|k| present[4 * n + k] = there >> k & 1 == 1);
            match of {
                Of::Parked(_) => {}
                Of::Free(_) => free += 1,
                _ => used += 1,
            }
        }
        let parked = entry.parked.count_ones();
        self.parked += u64::from(parked);
        self.free.push((free, 64 - pools.len() as u64, used));
        self.map(address, bytes, &present, None);
        let arena = Arena {
            address,
            pool_address: address + pools.len() as u64 * G.pool_size,
            nfreepools: free as u32 + (64 - pools.len() as u32),
            ntotalpools: 64 - parked,
        };
        self.arenas.push(ListedArena { arena, object: 0, done: None });
        self.entries.push(entry);
    }

    /// A pool's bytes, and which pages of it are there.
    fn pool(&mut self, of: &Of, at: u64, n: u64, entry: &mut Entry) -> (Vec<u8>, u8) {
        let head = |class: u32, free: &[u32]| {
            let mut bytes = planted(at, class as u8, 20, free, G);
            bytes[36..40].copy_from_slice(&class.to_le_bytes());
            bytes
        };
        match *of {
            Of::Parked(again) => {
                entry.parked |= 1 << n;
                self.returned += if again { OS_PAGE } else { 0 };
                // Whatever is there, it is no pool.
                (vec![0; 16384], u8::from(again))
            }
            Of::Free(kept) => {
                let mut bytes = head(3, &(0..20).collect::<Vec<_>>());
                if kept {
                    bytes[36..40].copy_from_slice(&DUMMY_CLASS.to_le_bytes());
                }
                let there = if kept { 1 } else { 0b1111 };
                self.returned += u64::from(u8::count_ones(there)) * OS_PAGE;
                (bytes, there)
            }
            Of::Used(class, step, wanted) => {
                let carved = G.blocks(class) as u32;
                // Nothing is live in the middle of the pool: there pages are dead. The second block stays listed.
                let middle = carved / 4..carved / 4 * 3;
                let is_free = |s: &u32| !s.is_multiple_of(step) || middle.contains(s) || *s == 1;
                let free: Vec<u32> = (0..carved).filter(is_free).collect();
                let pool = losing(at, (class, carved, &free), wanted, G);
                entry.set_dropped(n, pool.dropped);
                let live: Vec<u32> = (0..carved).filter(|s| !free.contains(s)).collect();
                let dead = losing(at, (class, carved, &free), 0b1110, G).dropped;
                let there = 0b1111 & !pool.dropped;
                self.returned += u64::from((dead & there).count_ones()) * OS_PAGE;
                self.live.push((at, live));
                (pool.bytes, there)
            }
            Of::Renewed(class, carved, mask) => {
                entry.set_dropped(n, mask);
                let free: Vec<u32> = (0..carved).filter(|s| s % 3 == 1).collect();
                let bytes = planted(at, class, carved, &free, G);
                let live: Vec<u32> = (0..carved).filter(|s| s % 3 != 1).collect();
                let end = 48 + u64::from(*live.last().unwrap() + 1) * 16 * (u64::from(class) + 1);
                self.returned += (4 - end.div_ceil(OS_PAGE)) * OS_PAGE;
                self.live.push((at, live));
                (bytes, 0b1111)
            }
        }
    }

    /// The agent's library with its table at an offset, of a version, and the entries.
    fn agent(&mut self, version: u32, sequence: u32) {
        let mut data = vec![0; 3 * 4096];
        let table = &mut data[TABLE_AT..];
        let mut put = |at: usize, bytes: &[u8]| table[at..at + bytes.len()].copy_from_slice(bytes);
        put(at::MAGIC, &MAGIC);
        put(at::VERSION, &version.to_le_bytes());
        put(at::SIZE, &(TABLE as u32).to_le_bytes());
        put(at::TOOL, b"7.0.1");
        put(at::ENTRIES, &ENTRIES.to_le_bytes());
        put(at::COUNT, &(self.entries.len() as u32).to_le_bytes());
        put(at::SEQUENCE, &sequence.to_le_bytes());
        self.map(LIBRARY, data, &[true; 3], Some("/tmp/pydefrag/agent.so (deleted)"));
        let mut bytes = Vec::new();
        for e in &self.entries {
            bytes.extend(e.address.to_le_bytes());
            bytes.extend(e.parked.to_le_bytes());
            bytes.extend(e.dropped);
        }
        let pages = bytes.len().next_multiple_of(4096);
        bytes.resize(pages.max(4096), 0);
        let present = vec![true; bytes.len() / 4096];
        self.map(ENTRIES, bytes, &present, None);
    }

    fn image(mut self) -> (Image, Vec<State>) {
        self.mappings.sort_by_key(|m| m.start);
        self.runs.sort_by_key(|r| r.start);
        let image = Image::planted(self.mappings, Residency::from_runs(self.runs), self.memory);
        (image, vec![State { interpreter: 0, geometry: G, arenas: self.arenas, variables: None }])
    }
}

/// Across the border of two OS pages.
const TABLE_AT: usize = 4096 - 512;

fn joined(image: &Image, states: &mut [State]) -> Result<Option<u64>, Refusal> {
    Tables::find(image).join(image, VERSION, states)
}

fn any_pool() -> impl Strategy<Value = Of> {
    prop_oneof![
        3 => any::<bool>().prop_map(Of::Parked),
        3 => any::<bool>().prop_map(Of::Free),
        2 => (0u8..32, 1u32..40, 0u8..16).prop_map(|(c, step, wanted)| Of::Used(c, step, wanted)),
        1 => (0u8..32, 2u32..31, 0u8..16).prop_map(|(c, carved, mask)| Of::Renewed(c, carved, mask)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_the_agent_left_is_accounted_for(
        arenas in proptest::collection::vec(proptest::collection::vec(any_pool(), 0..=64), 1..5),
        other in any::<u64>(),
    ) {
        let mut plan = Plan::default();
        arenas.iter().for_each(|pools| plan.arena(pools));
        // Arenas that were there before: elsewhere, and here.
        let gone = Entry { address: ARENAS + G.arena_size, parked: other, ..Default::default() };
        let parked = u64::from(plan.entries[0].parked == 0);
        let before = Entry { address: ARENAS, parked, ..Default::default() };
        plan.entries.insert(0, before);
        plan.entries.push(gone);
        plan.agent(agent::VERSION, 2);
        let (live, parked, free, returned) =
            (plan.live.clone(), plan.parked, plan.free.clone(), plan.returned);
        let (image, mut states) = plan.image();
        prop_assert_eq!(joined(&image, &mut states).unwrap(), None);
        let walked = walk(&image, &states).unwrap();
        prop_assert_eq!((walked.torn.left, walked.torn.retried), (0, 0));
        let p = &walked.pymalloc;
        prop_assert_eq!(p.parked_pools, parked);
        let frees: u64 = free.iter().map(|f| f.0).sum();
        prop_assert_eq!(p.free_pools, frees);
        prop_assert_eq!(p.uncarved_pools, 64 * arenas.len() as u64 - arenas.iter().map(|a| a.len() as u64).sum::<u64>());
        let records = walked.detail.pools.iter().filter(|p| p.state == PoolState::Used);
        let told: Vec<(u64, Vec<u32>)> = records
            .map(|r| {
                let bits = walked.detail.bitmap(r);
                let slots = 0..u32::from(r.carved);
                (r.address, slots.filter(|s| bits[*s as usize / 64] >> (s % 64) & 1 == 1).collect())
            })
            .collect();
        prop_assert_eq!(&told, &live);
        let (account, tally) = &walked.accounts[0];
        prop_assert_eq!(account.total(), tally.resident);
        // Of free pools that are kept, the header stays: of all in the arenas with the fewest, of others two pools.
        let mut by_free: Vec<_> = free.iter().filter(|f| f.0 + f.1 > 0).collect();
        by_free.sort_by_key(|f| f.0 + f.1);
        let (mut reserved, mut kept, mut full) = (0, 0, false);
        for (free, uncarved, used) in by_free {
            full |= reserved >= 64 || reserved + free + uncarved > 128;
            reserved += free + uncarved;
            kept += if full { 2u64.saturating_sub(uncarved + used).min(*free) } else { *free };
        }
        prop_assert_eq!(walked.purge, returned - kept * OS_PAGE);
        let quick = headers(&image, &states).unwrap();
        let blocks: usize = live.iter().map(|l| l.1.len()).sum();
        prop_assert_eq!((quick.torn, quick.used_blocks), (0, blocks as u64));
        prop_assert_eq!((quick.free_pools, quick.used_pools), (frees, live.len() as u64));
    }
}

/// By arena: the free pools whose first OS page a purge leaves.
fn kept(walked: &crate::Walk) -> Vec<usize> {
    let pools = walked.detail.pools.iter().zip(&walked.purged);
    let stays: Vec<u64> = pools.filter(|(_, p)| *p & 1 == 0).map(|(p, _)| p.address).collect();
    let inside = |at: u64| stays.iter().filter(|p| (at..at + G.arena_size).contains(p)).count();
    walked.arenas.iter().map(|a| inside(a.0)).collect()
}

#[test]
fn a_purge_keeps_free_pools_where_there_are_fewest_and_two_pools_everywhere() {
    let with =
        |free: usize| [vec![Of::Free(false); free], vec![Of::Parked(false); 63 - free]].concat();
    let used = || vec![Of::Used(2, 1, 0)];
    let mut plan = Plan::default();
    // Pools in use have their header too.
    [60, 20, 30, 10, 63].iter().for_each(|free| plan.arena(&[used(), with(*free)].concat()));
    let returned = plan.returned;
    let (image, mut states) = plan.image();
    let walked = walk(&image, &states).unwrap();
    // 10, 20, 30 and 60 free ones; of the last arena one, as it has but one other pool.
    assert_eq!(kept(&walked), [61, 21, 31, 11, 2]);
    assert_eq!(walked.purge, returned - 121 * OS_PAGE);
    // Another interpreter's are not purged.
    let other =
        State { interpreter: 1, arenas: states[0].arenas.split_off(2), ..states[0].clone() };
    states.push(other);
    let walked = walk(&image, &states).unwrap();
    assert_eq!(walked.purges, [true, true, false, false, false]);
    assert_eq!(kept(&walked)[2..], [64; 3]);
}

#[test]
fn a_purge_leaves_an_arena_alone_that_has_a_shared_or_a_swapped_page() {
    for (resident, shared) in [(true, true), (false, false)] {
        let mut plan = Plan::default();
        plan.arena(&[Of::Used(2, 1, 0), Of::Free(false)]);
        plan.arena(&[Of::Used(2, 1, 0), Of::Free(false)]);
        let page = plan.runs.iter_mut().find(|r| r.start == ARENAS + 5 * OS_PAGE).unwrap();
        (page.resident, page.shared) = (resident, shared);
        let returned = plan.returned;
        let (image, states) = plan.image();
        let walked = walk(&image, &states).unwrap();
        assert_eq!(walked.purges, [false, true]);
        assert_eq!(walked.purge, returned / 2 - OS_PAGE);
    }
}

#[test]
fn arenas_of_other_sizes_are_not_purged() {
    let g = Geometry::SMALL;
    let mut plan = Plan::default();
    let free: Vec<u32> = (0..20).collect();
    let mut bytes = vec![0; g.arena_size as usize];
    bytes[..4096].copy_from_slice(&planted(ARENAS, 3, 20, &free, g));
    plan.map(ARENAS, bytes, &[true; 64], None);
    let (image, mut states) = plan.image();
    let arena =
        Arena { address: ARENAS, pool_address: ARENAS + 4096, nfreepools: 64, ntotalpools: 64 };
    states[0].geometry = g;
    states[0].arenas = vec![ListedArena { arena, object: 0, done: None }];
    let walked = walk(&image, &states).unwrap();
    assert_eq!((walked.pymalloc.free_pools, walked.purge), (1, 0));
    assert_eq!((walked.purges, walked.purged), (vec![false], vec![0]));
}

#[test]
fn pools_that_nobody_names_are_told_by_their_absence() {
    let mut plan = Plan::default();
    plan.arena(&[Of::Parked(false), Of::Used(2, 3, 0), Of::Parked(false), Of::Free(true)]);
    let (image, mut states) = plan.image();
    assert_eq!(joined(&image, &mut states).unwrap(), None);
    let p = walk(&image, &states).unwrap().pymalloc;
    assert_eq!((p.parked_pools, p.free_pools, p.uncarved_pools), (2, 1, 60));
    assert_eq!(headers(&image, &states).unwrap().free_pools, 1);
}

/// What joining says of an arena with a parked pool, where the table is as `change` leaves it.
fn says(version: u32, sequence: u32, change: fn(&mut Plan)) -> Result<Option<u64>, String> {
    let mut plan = Plan::default();
    plan.arena(&[Of::Parked(false), Of::Used(2, 3, 0)]);
    change(&mut plan);
    plan.agent(version, sequence);
    let (image, mut states) = plan.image();
    joined(&image, &mut states).map_err(|e| e.to_string())
}

#[test]
fn a_table_of_another_version_is_refused_by_name() {
    assert_eq!(
        says(9, 0, |_| {}).unwrap_err(),
        "the agent of pydefrag 7.0.1 in process 0 publishes table version 9; this version reads 1: look with \
         that version"
    );
    // Where there is no arena, there is nothing that it could have changed.
    assert_eq!(says(9, 0, |plan| plan.arenas.clear()), Ok(None));
}

#[test]
fn entries_in_motion_and_missing_ones_are_not_understood() {
    assert_eq!(says(1, 4, |_| {}), Ok(None));
    let why = says(1, 3, |_| {}).unwrap_err();
    assert!(why.ends_with("changes all the while"), "{why}");
    assert_eq!(says(1, 0, |plan| plan.entries[0].parked = 0), Ok(Some(ARENAS)));
    assert_eq!(says(1, 0, |plan| plan.entries[0].parked = 0b11), Ok(Some(ARENAS)));
    assert_eq!(says(1, 0, |plan| plan.entries.clear()), Ok(Some(ARENAS)));
}

#[test]
fn a_word_is_no_table() {
    let mut bytes = vec![0; TABLE];
    bytes[..8].copy_from_slice(&MAGIC);
    assert!(!is_table(&bytes), "no version, and no name of one");
    bytes[8] = 9;
    bytes[16..21].copy_from_slice(b"7.0.1");
    assert!(is_table(&bytes));
    assert!(!is_table(&bytes[..TABLE - 1]));
    bytes[30] = 1;
    assert!(!is_table(&bytes));
}
