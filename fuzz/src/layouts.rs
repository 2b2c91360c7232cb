//! The validators of CPython's, glibc's and mimalloc's structures: any bytes at any address.

use pydefrag_layout::cpython::{self, Version};
use pydefrag_layout::pymalloc::{self, ArenaEntry, Geometry, USEDPOOLS_WORDS, block_size};
use pydefrag_layout::{allocators, glibc, mimalloc};

/// The first eight bytes are an address, all of them the structure.
pub fn layouts(data: &[u8]) {
    let Some((address, bytes)) = data.split_first_chunk() else { return };
    let raw = u64::from_le_bytes(*address);
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|w| u64::from_le_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]))
        .collect();
    for g in [Geometry::SMALL, Geometry::LARGE, Geometry::HUGE] {
        // Callers only ask about pools in arenas, which are in user space.
        let pool = raw % (1 << 47) / g.pool_size * g.pool_size;
        if let Some(h) = pymalloc::pool_header(bytes, pool, g) {
            let Some(class) = h.class else { continue };
            assert!(u64::from(h.carved) <= g.blocks(class) && h.used <= h.carved);
            let slot = pymalloc::slot_of(h.freeblock, pool, class, h.carved);
            assert_eq!(slot.is_some(), h.freeblock != 0);
            assert!(slot.is_none_or(|s| u64::from(s + 1) * block_size(class) <= g.pool_size));
        }
        if let Some(ArenaEntry::Allocated(a)) = pymalloc::arena_object(bytes, g) {
            assert!(a.address < a.pool_address || g.first_pool(a.address) == a.pool_address);
            assert!(a.pool_address <= a.address + g.arena_size);
        }
        let _ = pymalloc::usedpools(&words, raw, g.pool_size);
    }
    assert!(pymalloc::usedpools(&words, raw, 4096).is_none_or(|_| words.len() >= USEDPOOLS_WORDS));
    if let Some(d) = cpython::debug_offsets(bytes) {
        assert!(d.interp_id < d.interp_size && d.interp_next < d.interp_size);
        let _ = Version::from_hex(d.version_hex).and_then(cpython::runtime);
    }
    if let Some(v) = Version::find_in(bytes) {
        let _ = (v.to_string(), cpython::runtime(v));
    }
    if let Some(h) = glibc::heap_info(bytes, raw) {
        assert!(h.size <= h.protected && h.protected <= glibc::HEAP_MAX);
    }
    let _ = glibc::mmapped_chunk(bytes).inspect(|l| assert!(l.is_multiple_of(4096) && *l > 0));
    let _ = glibc::stack_chunk(bytes);
    if let Some((start, size)) = glibc::thread_stack(bytes, raw) {
        assert!(start < raw && start.checked_add(size).is_some_and(|end| end > raw));
    }
    let _ = mimalloc::segment(bytes, raw).inspect(|s| assert!(s.size > 0));
    let code = |at: u64| at.is_multiple_of(16) && at != 0;
    let _ = (allocators::allocator(&words, code), allocators::find_static(&words, code));
}
