//! The table that the agent publishes, and its entries: what is parked and dropped, arena by arena.
//!
//! Owns the exported symbol (laid out by `pydefrag_layout::agent`). Entries only change under the GIL;
//! readers outside the process see a count that is odd while they move.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use pydefrag_layout::agent::{self, ANSWER_TEXT, Ask, Entry, Request, Stage, TABLE, at};

use crate::python::Held;

/// The table, in words: readers take it whole, writers own a word each.
#[repr(C, align(64))]
pub struct Table([AtomicU64; TABLE / 8]);

const fn head() -> [AtomicU64; TABLE / 8] {
    let mut words = [const { AtomicU64::new(0) }; TABLE / 8];
    words[at::MAGIC / 8] = AtomicU64::new(u64::from_le_bytes(agent::MAGIC));
    words[at::VERSION / 8] = AtomicU64::new(agent::VERSION as u64 | (TABLE as u64) << 32);
    let text = env!("CARGO_PKG_VERSION").as_bytes();
    let mut i = 0;
    while i < 2 {
        let mut word = [0; 8];
        let mut k = 0;
        while k < 8 && i * 8 + k < text.len() {
            word[k] = text[i * 8 + k];
            k += 1;
        }
        words[at::TOOL / 8 + i] = AtomicU64::new(u64::from_le_bytes(word));
        i += 1;
    }
    words
}

/// What this process's agent says of itself, for whoever reads the process's memory.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static pydefrag_agent: Table = Table(head());

/// The table.
pub(crate) fn table() -> &'static Table {
    &pydefrag_agent
}

impl Table {
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.0[offset / 8]
    }

    /// Two `u32` share a word.
    fn half(&self, offset: usize) -> &AtomicU32 {
        let word: *const AtomicU64 = self.word(offset);
        // SAFETY: within the word, which is aligned to 8 and atomic; halves are only accessed as such.
        unsafe { &*word.cast::<AtomicU32>().add(offset % 8 / 4) }
    }

    pub(crate) fn set_listening(&self, pid: u32, listening: bool) {
        self.half(at::PID).store(pid, Ordering::Release);
        self.half(at::LISTENING).store(u32::from(listening), Ordering::Release);
    }

    pub(crate) fn count_heal(&self) {
        self.word(at::HEALS).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn heals(&self) -> u64 {
        self.word(at::HEALS).load(Ordering::Relaxed)
    }

    pub(crate) fn count_unparked(&self, pools: u64) {
        self.word(at::UNPARKED).fetch_add(pools, Ordering::Relaxed);
    }

    pub(crate) fn unparked(&self) -> u64 {
        self.word(at::UNPARKED).load(Ordering::Relaxed)
    }

    /// The request in the mailbox, if it is whole.
    pub(crate) fn request(&self) -> Option<Request> {
        let mut bytes = [0; agent::REQUEST];
        for (i, b) in bytes.chunks_exact_mut(8).enumerate() {
            b.copy_from_slice(&self.0[at::REQUEST / 8 + i].load(Ordering::Acquire).to_le_bytes());
        }
        Request::of(&bytes)
    }

    /// The token of the request that lies in the mailbox; 0 where none ever did.
    #[inline]
    pub(crate) fn request_token(&self) -> u64 {
        self.word(at::REQUEST).load(Ordering::Acquire)
    }

    /// There is no answer: what was begun in the process that forked us is not begun here.
    pub(crate) fn withdraw_answer(&self) {
        self.0[at::ANSWER / 8].store(0, Ordering::Release);
    }

    /// Answers a request. The token is written last: whoever sees it sees the rest.
    pub(crate) fn answer(&self, token: u64, stage: Stage, text: &str) {
        let words = &self.0[at::ANSWER / 8..];
        words[0].store(0, Ordering::Release);
        fence(Ordering::SeqCst);
        let cut = (0..=ANSWER_TEXT.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
        let text = &text.as_bytes()[..cut.unwrap_or(0)];
        words[1].store(stage as u64 | (text.len() as u64) << 32, Ordering::Relaxed);
        for (i, part) in text.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            words[3 + i].store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        words[0].store(token, Ordering::Release);
    }

    /// Makes room for an entry of each `arena_object`.
    pub(crate) fn grow(&self, _: &Held, arenas: usize) {
        let count = self.half(at::COUNT).load(Ordering::Relaxed) as usize;
        if arenas <= count {
            return;
        }
        let mut entries = vec![0_u8; arenas * agent::ENTRY].into_boxed_slice();
        let old = self.word(at::ENTRIES).load(Ordering::Relaxed);
        if old != 0 {
            // SAFETY: the array that this function leaked, of `count` entries; only changed under the GIL.
            let from = unsafe {
                std::slice::from_raw_parts_mut(old as usize as *mut u8, count * agent::ENTRY)
            };
            entries[..from.len()].copy_from_slice(from);
        }
        self.half(at::SEQUENCE).fetch_add(1, Ordering::AcqRel);
        self.half(at::COUNT).store(0, Ordering::Release);
        let new = Box::leak(entries).as_mut_ptr() as u64;
        self.word(at::ENTRIES).store(new, Ordering::Release);
        self.half(at::COUNT).store(arenas as u32, Ordering::Release);
        self.half(at::SEQUENCE).fetch_add(1, Ordering::AcqRel);
        if old != 0 {
            let length = count * agent::ENTRY;
            // SAFETY: the box that was leaked here before, which nothing in this process refers to now.
            drop(unsafe {
                Box::from_raw(std::ptr::slice_from_raw_parts_mut(old as usize as *mut u8, length))
            });
        }
    }

    fn entry_bytes(&self, index: usize) -> Option<*mut u8> {
        let (count, entries) = (self.half(at::COUNT), self.word(at::ENTRIES));
        if index >= count.load(Ordering::Relaxed) as usize {
            return None;
        }
        let at = entries.load(Ordering::Relaxed) as usize + index * agent::ENTRY;
        Some(at as *mut u8)
    }

    /// The entry of the `arena_object` at this index of `arenas`.
    pub(crate) fn entry(&self, _: &Held, index: usize) -> Entry {
        let Some(at) = self.entry_bytes(index) else { return Entry::default() };
        // SAFETY: an entry of the array that `grow` made; nobody writes to it while we hold the GIL.
        Entry::of(unsafe { std::slice::from_raw_parts(at, agent::ENTRY) }).unwrap_or_default()
    }

    /// Writes it.
    pub(crate) fn set_entry(&self, _: &Held, index: usize, entry: &Entry) {
        let Some(at) = self.entry_bytes(index) else { return };
        let mut bytes = [0; agent::ENTRY];
        bytes[..8].copy_from_slice(&entry.address.to_le_bytes());
        bytes[8..16].copy_from_slice(&entry.parked.to_le_bytes());
        bytes[16..].copy_from_slice(&entry.dropped);
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, agent::ENTRY) };
    }
}

/// The command line may ask for each of these.
pub(crate) fn asked(ask: Ask) -> crate::heal::Level {
    match ask {
        Ask::Check => crate::heal::Level::Check,
        Ask::Trim => crate::heal::Level::Trim,
        Ask::Purge => crate::heal::Level::Purge,
    }
}
