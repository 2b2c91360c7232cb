//! glibc's marks in memory: mmapped chunks, heaps of thread arenas, thread control blocks.
//!
//! Enough to recognise which regions malloc and thread stacks own; `malloc.rs` has what is inside.
//! From `malloc/malloc.c`, `malloc/arena.c` and `nptl/descr.h`, 2.31 to 2.43, x86-64.

use crate::word::u64_at;

/// Alignment and largest size of a non-main heap (`HEAP_MAX_SIZE` by default).
pub const HEAP_MAX: u64 = 64 << 20;
const PAGE: u64 = 4096;
const IS_MMAPPED: u64 = 2;

/// Length in bytes of the mapping that an mmapped chunk at a page's start fills.
///
/// Up to 2.42 `prev_size + size` is the mapping's length; from 2.43 on `prev_size + size + 16`, and
/// `prev_size` may carry a flag for huge pages in its lowest bits.
pub fn mmapped_chunk(head: &[u8]) -> Option<u64> {
    let (offset, size) = (u64_at(head, 0) & !7, u64_at(head, 8));
    if size & 7 != IS_MMAPPED || offset >= PAGE || size >> 46 != 0 {
        return None;
    }
    let length = offset + (size & !7);
    [length, length + 16].into_iter().find(|l| *l >= PAGE && l.is_multiple_of(PAGE))
}

/// Bytes that [`heap_info`] wants.
pub const HEAP_INFO: usize = 32;

/// A heap of a thread arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapInfo {
    /// Address of its `malloc_state`.
    pub arena: u64,
    /// The heap before it, 0 for the arena's first.
    pub previous: u64,
    /// Bytes in use from its start.
    pub size: u64,
    /// Bytes ever made readable from its start, at least `size`.
    pub protected: u64,
}

/// Reads `heap_info` at `address`, a multiple of [`HEAP_MAX`]. An arena's first heap holds its
/// `malloc_state` right behind (at +32 up to 2.34, +48 later); later heaps name the one before.
pub fn heap_info(bytes: &[u8], address: u64) -> Option<HeapInfo> {
    let h = HeapInfo {
        arena: u64_at(bytes, 0),
        previous: u64_at(bytes, 8),
        size: u64_at(bytes, 16),
        protected: u64_at(bytes, 24),
    };
    let sizes = h.size > 0
        && h.size <= h.protected
        && h.protected <= HEAP_MAX
        && h.size.is_multiple_of(PAGE)
        && h.protected.is_multiple_of(PAGE);
    let first = h.previous == 0 && matches!(h.arena.wrapping_sub(address), 32 | 48);
    let later = h.previous != 0
        && h.previous.is_multiple_of(HEAP_MAX)
        && h.previous != address
        && matches!(h.arena % HEAP_MAX, 32 | 48);
    (address.is_multiple_of(HEAP_MAX) && sizes && (first || later)).then_some(h)
}

/// Offset of `robust_head` in `struct pthread`: what the kernel tells of a thread
/// (`get_robust_list`), and so the way to its control block.
pub const PTHREAD_ROBUST_HEAD: u64 = 736;
/// Bytes of `struct pthread` to read for [`thread_stack`].
pub const PTHREAD: usize = 2304;

/// The stack block (address, bytes) of a thread that `pthread_create` made, from its
/// `struct pthread` at `tcb`; `None` when the bytes are none or it is the main thread.
///
/// `stackblock` and `stackblock_size` move between versions, so they are told by what they must
/// satisfy: a page-aligned block that ends within 128 KiB after the control block (static TLS and
/// the block itself lie at its end).
pub fn thread_stack(bytes: &[u8], tcb: u64) -> Option<(u64, u64)> {
    if u64_at(bytes, 0) != tcb || u64_at(bytes, 16) != tcb {
        return None;
    }
    (1024..bytes.len().saturating_sub(15)).step_by(8).find_map(|at| {
        let (block, size) = (u64_at(bytes, at), u64_at(bytes, at + 8));
        let end = block.checked_add(size)?;
        let shaped = block >= 0x1_0000
            && block.is_multiple_of(PAGE)
            && size.is_multiple_of(PAGE)
            && (1..1 << 40).contains(&size);
        (shaped && block < tcb && end > tcb && end - tcb <= 128 << 10).then_some((block, size))
    })
}

/// Words at the start of a CPython data stack chunk (`_PyStackChunk`, 3.11+).
pub const STACK_CHUNK_HEAD: usize = 24;

/// Bytes of a CPython data stack chunk: `previous` (or NULL), `size` (16 KiB times a power of two),
/// `top` (words in use). A frame chunk is made by the arena allocator and lies between arenas.
pub fn stack_chunk(head: &[u8]) -> Option<u64> {
    let (previous, size, top) = (u64_at(head, 0), u64_at(head, 8), u64_at(head, 16));
    let shaped = size.is_power_of_two() && (16 << 10..=1 << 30).contains(&size);
    let linked = previous == 0 || previous.is_multiple_of(PAGE) && previous < 1 << 47;
    (shaped && linked && top <= (size - 24) / 8).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(w: &[u64]) -> Vec<u8> {
        w.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn mmapped_chunks_of_both_kinds_are_recognised() {
        assert_eq!(mmapped_chunk(&words(&[0, 0x41002])), Some(0x41000));
        assert_eq!(mmapped_chunk(&words(&[0, 0x61ff2])), Some(0x62000));
        assert_eq!(mmapped_chunk(&words(&[0, 0x41001])), None, "in a heap");
        assert_eq!(mmapped_chunk(&words(&[0, 0x41012])), None, "no whole pages");
        assert_eq!(mmapped_chunk(&words(&[0x5000, 0x41002])), None, "offset beyond a page");
        assert_eq!(mmapped_chunk(&words(&[0, 2])), None, "empty");
        assert_eq!(mmapped_chunk(&[]), None);
    }

    #[test]
    fn heaps_of_thread_arenas_are_recognised() {
        let at = 0x7f12_0000_0000;
        assert!(heap_info(&words(&[at + 48, 0, 0x21000, 0x21000]), at).is_some());
        assert!(
            heap_info(&words(&[at - HEAP_MAX + 32, at - HEAP_MAX, 0x21000, 0x42000]), at).is_some()
        );
        assert!(heap_info(&words(&[at + 40, 0, 0x21000, 0x21000]), at).is_none());
        assert!(heap_info(&words(&[at + 48, 0, 0x42000, 0x21000]), at).is_none());
        assert!(heap_info(&words(&[at + 48, 0, 0x21000, 0x21000]), at + 4096).is_none());
    }

    #[test]
    fn a_thread_stack_is_read_from_its_control_block() {
        let tcb = 0x7f12_007f_f700_u64;
        let mut w = vec![0; 288];
        (w[0], w[2]) = (tcb, tcb);
        (w[210], w[211]) = (0x7f12_0000_0000, 0x80_1000);
        assert_eq!(thread_stack(&words(&w), tcb), Some((0x7f12_0000_0000, 0x80_1000)));
        assert_eq!(thread_stack(&words(&w), tcb + 64), None);
        w[211] = 0x1000;
        assert_eq!(thread_stack(&words(&w), tcb), None, "ends before the control block");
    }

    #[test]
    fn stack_chunks_are_recognised() {
        assert_eq!(stack_chunk(&words(&[0, 16384, 12])), Some(16384));
        assert_eq!(stack_chunk(&words(&[0x7f00_0000_0000, 65536, 8189])), Some(65536));
        assert_eq!(stack_chunk(&words(&[0, 16384, 9999])), None);
        assert_eq!(stack_chunk(&words(&[3, 16384, 1])), None);
        assert_eq!(stack_chunk(&words(&[0, 12288, 1])), None);
    }
}
