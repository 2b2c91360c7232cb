//! malloc's walker: a heap of chunks is planted as the bytes ask for, sound at first, then broken in the
//! places that they name.

use pydefrag_image::{Image, Mapping, OS_PAGE, PageRun, Permissions, Residency, SparseMemory};
use pydefrag_layout::malloc::{BINS, FORMS, Form, from_bins};
use pydefrag_walk::malloc_at;

const STATE: u64 = 0x10_0040;
const HEAP: u64 = 0x55_0000_0000;
const HEAP_PAGES: u64 = 32;
/// A thread arena's heap, with its `malloc_state` behind a `heap_info` of 48 bytes.
const THREADS: u64 = 0x7f00_0000_0000;

/// No memory makes the walk panic or hang, and whatever it accepts adds up.
pub fn malloc(data: &[u8]) {
    let mut feed = data.iter().copied();
    let mut next = move || feed.next();
    let form = FORMS[usize::from(next().unwrap_or(0)) % FORMS.len()];
    let two = next().unwrap_or(0) % 2 == 1;
    let mut data = vec![0; 2 * OS_PAGE as usize];
    let mut heap = vec![0; (HEAP_PAGES * OS_PAGE) as usize];
    let mut threads = vec![0; (HEAP_PAGES * OS_PAGE) as usize];
    let other = THREADS + 48;
    let top = chunks(&mut heap, HEAP, 0, &mut next);
    let after = if two { other } else { STATE };
    let length = heap.len() as u64;
    state(&mut data, STATE, STATE & !0xfff, form, (top, after, length));
    put(&mut threads, 0, other);
    put(&mut threads, 16, length);
    put(&mut threads, 24, length);
    let first = (48 + form.size).next_multiple_of(16);
    let top = chunks(&mut threads, THREADS, first, &mut next);
    state(&mut threads, other, THREADS, form, (top, STATE, length));
    let mut regions = [(STATE & !0xfff, data), (HEAP, heap), (THREADS, threads)];
    let mut absent = vec![false; HEAP_PAGES as usize];
    // Where the bytes go on, they break something.
    while let Some(how) = next() {
        let (_, bytes) = &mut regions[usize::from(how) % 3];
        let at = (u64::from(next().unwrap_or(0)) << 8 | u64::from(next().unwrap_or(0))) * 8;
        let at = at % (bytes.len() as u64 - 8) / 8 * 8;
        let value = u64::from(next().unwrap_or(0));
        match how >> 2 & 3 {
            0 => put(bytes, at, value),
            1 => put(bytes, at, 0u64.wrapping_sub(value)),
            2 => put(bytes, at, HEAP + value * 0x1010),
            _ => absent[(at / OS_PAGE) as usize % HEAP_PAGES as usize] = true,
        }
    }
    let image = image(regions, &absent);
    for (counts, account) in malloc_at(&image, STATE, true).expect("planted memory is never denied")
    {
        let known = counts.used + counts.overhead + counts.tcache + counts.free + counts.unread;
        assert_eq!(known, counts.system, "{counts:?}");
        assert_eq!(account.total(), counts.resident);
        assert!(account.total() <= HEAP_PAGES * OS_PAGE, "{account:?}");
    }
}

fn put(bytes: &mut [u8], at: u64, word: u64) {
    if let Some(place) = bytes.get_mut(at as usize..at as usize + 8) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// Chunks up to the end, some free; returns the address of the top.
fn chunks(bytes: &mut [u8], start: u64, first: u64, next: &mut impl FnMut() -> Option<u8>) -> u64 {
    let end = bytes.len() as u64;
    let (mut at, mut free) = (first, None);
    while let Some(byte) = next().filter(|b| *b != 0) {
        let size = 32 + u64::from(byte >> 1) * 48;
        if at + size + 64 > end {
            break;
        }
        put(bytes, at, free.unwrap_or(7));
        put(bytes, at + 8, size | u64::from(free.is_none()));
        free = (byte & 1 == 1 && free.is_none()).then_some(size);
        at += size;
    }
    put(bytes, at, free.unwrap_or(7));
    put(bytes, at + 8, (end - at) | u64::from(free.is_none()));
    start + at
}

/// A `malloc_state` with empty bins at `address`, in bytes that begin at `start`.
fn state(bytes: &mut [u8], address: u64, start: u64, form: Form, of: (u64, u64, u64)) {
    let (top, next, system) = of;
    let bins = address - start + form.bins;
    for i in 0..BINS as u64 / 2 {
        let bin = start + bins + i * 16 - 16;
        put(bytes, bins + i * 16, bin);
        put(bytes, bins + i * 16 + 8, bin);
    }
    put(bytes, bins - from_bins::TOP, top);
    put(bytes, bins + from_bins::NEXT, next);
    put(bytes, bins + from_bins::SYSTEM, system);
}

fn image(regions: [(u64, Vec<u8>); 3], absent: &[bool]) -> Image {
    let (mut mappings, mut runs) = (Vec::new(), Vec::new());
    let mut memory = SparseMemory::default();
    for (start, bytes) in regions {
        let end = start + bytes.len() as u64;
        for (i, at) in (start..end).step_by(OS_PAGE as usize).enumerate() {
            // The first page holds what leads to the rest.
            if i == 0 || start < HEAP || !absent[i] {
                let end = at + OS_PAGE;
                runs.push(PageRun { start: at, end, resident: true, huge: false, shared: false });
            }
        }
        mappings.push(Mapping {
            start,
            end,
            permissions: Permissions { read: true, write: true, ..Default::default() },
            name: (start == HEAP).then(|| std::path::Path::new("[heap]").into()),
            ..Default::default()
        });
        memory.plant(start, bytes);
    }
    Image::planted(mappings, Residency::from_runs(runs), memory)
}
