//! Threads' tcaches, and which arena each thread allocates from.
//!
//! Both are thread-local variables of the C library. Where they lie in a thread's static TLS differs from
//! build to build, so each word below the thread control block is looked at: one that is an arena's
//! address is `thread_arena`, one that points at a chunk of a tcache's size is believed to be `tcache` if
//! all its lists hold.

use pydefrag_image::{OS_PAGE, ReadError, Thread};
use pydefrag_layout::glibc::PTHREAD_ROBUST_HEAD;
use pydefrag_layout::malloc::{
    CHUNK_HEADER, TCACHE_FORMS, TCACHE_MOST, TCACHE_SMALL_BINS, TcacheForm, chunk, reveal,
};
use rustc_hash::FxHashSet;

use super::arenas::{Arenas, Ranges};
use super::reader::Pages;

/// Static TLS below the control block that is looked at.
const TLS: u64 = 4 * OS_PAGE;

/// What threads keep for themselves.
pub(crate) struct Cached<'a> {
    /// Addresses of the chunks in tcaches.
    pub(crate) chunks: FxHashSet<u64>,
    /// The arena of each thread.
    pub(crate) arena_of: Vec<(&'a Thread, u64)>,
}

pub(crate) fn cached<'a>(
    pages: &mut Pages<'_>,
    found: &Arenas,
    threads: &'a [Thread],
) -> Result<Cached<'a>, ReadError> {
    let mut cached = Cached { chunks: FxHashSet::default(), arena_of: Vec::new() };
    let ranges = Ranges::of(found.arenas.iter().flat_map(|a| &a.segments));
    let inside = |at: u64| ranges.contains(at);
    let arenas: FxHashSet<u64> = found.arenas.iter().map(|a| a.address).collect();
    for thread in threads {
        let tcb = thread.robust_list_head.wrapping_sub(PTHREAD_ROBUST_HEAD) & !7;
        let (mut arena, mut seen) = (None, false);
        for back in 1..=TLS / 8 {
            let Some(at) = tcb.checked_sub(back * 8) else { break };
            let Some(word) = pages.word(at)? else { break };
            if word == 0 || !word.is_multiple_of(8) {
                continue;
            }
            if arena.is_none() && arenas.contains(&word) {
                arena = Some(word);
            }
            if !seen
                && word.is_multiple_of(16)
                && inside(word)
                && let Some(chunks) = tcache(pages, word, found.safe_linking, &inside)?
            {
                cached.chunks.extend(chunks);
                seen = true;
            }
            if arena.is_some() && seen {
                break;
            }
        }
        cached.arena_of.extend(arena.map(|a| (thread, a)));
    }
    Ok(cached)
}

/// The chunks in the tcache at `at`, if it is one.
fn tcache(
    pages: &mut Pages<'_>,
    at: u64,
    safe_linking: bool,
    inside: &impl Fn(u64) -> bool,
) -> Result<Option<Vec<u64>>, ReadError> {
    let Some(size) = pages.word(at - 8)? else { return Ok(None) };
    let Some(form) =
        TCACHE_FORMS.iter().find(|f| chunk(0, size).is_some_and(|c| c.size == f.chunk))
    else {
        return Ok(None);
    };
    let mut bytes = Vec::with_capacity(form.size());
    for i in 0..form.size() as u64 / 8 {
        let Some(word) = pages.word(at + i * 8)? else { return Ok(None) };
        bytes.extend(word.to_le_bytes());
    }
    let mut chunks = Vec::new();
    // Slots of a bin, taken and free ones: the same in every bin.
    let mut slots = None;
    for (bin, (count, head)) in form.bins(&bytes).enumerate() {
        let before = chunks.len();
        let mut entry = head;
        while entry != 0 {
            let length = (chunks.len() - before) as u64;
            if !entry.is_multiple_of(16) || !inside(entry) || length >= TCACHE_MOST {
                return Ok(None);
            }
            let Some(size) = pages.word(entry - 8)?.and_then(|size| chunk(0, size)) else {
                return Ok(None);
            };
            if bin < TCACHE_SMALL_BINS && size.size != TcacheForm::chunk_size(bin) {
                return Ok(None);
            }
            chunks.push(entry - CHUNK_HEADER);
            let Some(next) = pages.word(entry)? else { return Ok(None) };
            entry = reveal(entry, next, safe_linking);
        }
        let length = (chunks.len() - before) as u64;
        let sound = match form.counts_slots {
            true if bin >= TCACHE_SMALL_BINS => true,
            true => *slots.get_or_insert(count + length) == count + length,
            false => count == length,
        };
        if !sound {
            return Ok(None);
        }
    }
    Ok(Some(chunks))
}
