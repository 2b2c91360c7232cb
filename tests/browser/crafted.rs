//! Snapshots made by hand, as bytes of a `.pdsnap`: heaps that no test could grow, and names that no process has.

use std::path::{Path, PathBuf};

use pydefrag_heap::{
    Account, Basis, Detail, Fragmentation, Ladder, Malloc, MallocArena, Map, Memory, Owner,
    OwnerKind, PoolRecord, PoolState, Process, Pymalloc, Region, Snapshot, Tile, map, pdsnap,
};

const OS_PAGE: u64 = 4096;
const POOL: u64 = 16384;
const ARENA: u64 = 1 << 20;

/// Writes a snapshot into a file of that name.
pub(super) fn kept(folder: &Path, name: &str, snapshot: &Snapshot, detail: &Detail) -> PathBuf {
    let bytes = pdsnap::encode(snapshot, detail).expect("plain data is encoded");
    let file = folder.join(name).with_extension("pdsnap");
    std::fs::write(&file, bytes).expect("our own folder");
    file
}

/// A process of which the kernel's counts alone are known.
pub(super) fn bare(rss: u64) -> Snapshot {
    let process = Process {
        pid: 4242,
        command: "python3 crafted.py".into(),
        threads: 1,
        python: None,
        libc: None,
    };
    let memory = Memory { rss, pss: rss, uss: rss, hwm: rss, ..Default::default() };
    Snapshot::bare(process, memory)
}

/// A snapshot whose owners are these heaps; what follows from them is filled in.
fn of_heaps(heaps: Vec<(String, OwnerKind, Account)>) -> Snapshot {
    let rss = heaps.iter().map(|h| h.2.total()).sum();
    let mut snapshot = bare(rss);
    snapshot.unattributed = 0;
    snapshot.owners = heaps
        .into_iter()
        .map(|(name, kind, account)| Owner {
            resident: account.total(),
            account: Some(account),
            ..Owner::new(name, kind, Basis::Walked)
        })
        .collect();
    snapshot.fragmentation = Fragmentation::of(&snapshot.owners);
    snapshot.ladder = Ladder { trim: Some(0), purge: Some(0), compact: Some(0), ideal: Some(0) };
    snapshot
}

/// pymalloc with so many pools of 64-byte blocks, the first `used` of each live, and every page resident.
pub(super) fn pools(count: u32, used: u16) -> (Snapshot, Detail) {
    let per_arena = (ARENA / POOL) as u32;
    let start = 0x7f00_0000_0000;
    let (carved, words) = (255u16, 4);
    let mut detail = Detail { pool_size: POOL as u32, ..Default::default() };
    let mut bitmap = vec![0u64; words];
    (0..usize::from(used)).for_each(|block| bitmap[block / 64] |= 1 << (block % 64));
    for n in 0..count {
        detail.pools.push(PoolRecord {
            address: start + u64::from(n) * POOL,
            interpreter: 0,
            class: 3,
            state: PoolState::Used,
            used,
            carved,
            resident: 0xf,
            exclusive: 0xf,
            bitmap: detail.bitmaps.len() as u32,
        });
        detail.bitmaps.extend(&bitmap);
    }
    let arenas = count.div_ceil(per_arena);
    let regions = (0..arenas).map(|n| Region {
        start: start + u64::from(n) * ARENA,
        size: ARENA,
        heap: "pymalloc".into(),
        pools: per_arena.min(count - n * per_arena),
        tiles: 0,
    });
    let regions: Vec<Region> = regions.collect();
    let mut pages = vec![0u8; (u64::from(arenas) * ARENA / OS_PAGE) as usize];
    let resident = map::page::RESIDENT | map::page::EXCLUSIVE;
    let carved_pages = (u64::from(count) * POOL / OS_PAGE) as usize;
    pages[..carved_pages].fill(resident);
    // A page without a live byte or header is a hole.
    let touched = (48 + u64::from(used) * 64).div_ceil(OS_PAGE) as usize;
    for pool in pages[..carved_pages].chunks_mut(4) {
        pool[touched..].fill(resident | map::page::HOLE);
    }
    let (count, live) = (u64::from(count), u64::from(used) * 64);
    let holes = (4 - touched as u64) * OS_PAGE;
    let metadata = 48 + if touched == 4 { 16 } else { 0 };
    let account = Account {
        live: count * live,
        metadata: count * metadata,
        holes: count * holes,
        pinned_free: count * (POOL - metadata - live - holes),
        ..Default::default()
    };
    let heaps =
        if count == 0 { vec![] } else { vec![("pymalloc".into(), OwnerKind::Pymalloc, account)] };
    let mut snapshot = of_heaps(heaps);
    let mut pymalloc = Pymalloc::of(ARENA, POOL, Vec::new());
    pymalloc.arenas = u64::from(arenas);
    snapshot.pymalloc = Some(pymalloc);
    detail.map = Some(Box::new(Map { regions, pages, ..Default::default() }));
    (snapshot, detail)
}

/// malloc with so many arenas, each a heap of 64 KiB at `apart` bytes from the one before: half of it in use, half top.
pub(super) fn malloc_arenas(count: u64, apart: u64) -> (Snapshot, Detail) {
    let (start, size, head) = (0x10_0000_0000, 65536, 0x890);
    let mut map = Map::default();
    let mut arenas = Vec::new();
    for n in 0..count {
        let at = start + n * apart;
        let heap = if n == 0 { "malloc main arena" } else { "malloc thread arenas" };
        map.regions.push(Region { start: at, size, heap: heap.into(), pools: 0, tiles: 3 });
        map.pages.extend([map::page::RESIDENT | map::page::EXCLUSIVE; 16]);
        map.tiles.extend([(head, Tile::Overhead), (32768, Tile::Used), (32768 - head, Tile::Top)]);
        arenas.push(MallocArena {
            address: at,
            main: n == 0,
            heaps: 1,
            system: size,
            used: 32760,
            overhead: head + 8,
            free: 32768 - head,
            top: 32768 - head,
            used_chunks: 1,
            resident: size,
            ..Default::default()
        });
    }
    let account = |n: u64| Account {
        live: n * 32760,
        metadata: n * (head + 8),
        top: n * (32768 - head),
        ..Default::default()
    };
    let mut snapshot = of_heaps(vec![
        ("malloc main arena".into(), OwnerKind::Malloc, account(1)),
        ("malloc thread arenas".into(), OwnerKind::Malloc, account(count - 1)),
    ]);
    snapshot.malloc = Some(Malloc { arenas, ..Default::default() });
    (snapshot, Detail { pool_size: POOL as u32, map: Some(Box::new(map)), ..Default::default() })
}
