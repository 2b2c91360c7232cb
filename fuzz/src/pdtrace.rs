//! `.pdtrace`: any bytes, as they are and as chunks whose checksums fit.

use pydefrag_trace::chunk::{CHUNK_HEAD, Chunk, FILE_HEAD, file_head};
use pydefrag_trace::{Trace, sum};

/// More than this is of no use, and takes long.
const LARGEST: u32 = 1 << 20;

/// Whatever is read adds up: what calls have of their own is the whole, and each stands behind its caller. No event counts
/// twice.
pub fn pdtrace(data: &[u8]) {
    check(data.to_vec());
    // A checksum hides what lies behind it from the fuzzer: the same bytes as sound chunks.
    check(sealed(data));
}

fn check(bytes: Vec<u8>) {
    let Ok(trace) = Trace::from_bytes(bytes) else { return };
    let mut counted = 0u64;
    trace.events().each(&|_, _| {}, &mut |_, _| counted += 1);
    let recording = sum(&trace, &|_, _| {});
    let events = recording.events;
    assert!(events.allocations + events.frees + events.frees_of_before <= counted);
    assert!(events.reallocations <= events.allocations);
    let callers = recording.calls.iter().zip(0u32..).skip(1);
    assert!(callers.into_iter().all(|(call, i)| call.parent < i));
    assert!(recording.calls.iter().all(|c| (c.function as usize) < recording.functions.len()));
    let whole = recording.subtrees()[0];
    for call in (0..recording.calls.len().min(64)).map(|i| i as u32) {
        assert!(recording.stack(call).len() < recording.calls.len());
    }
    // Estimates are rounded one by one, and sums of more than 2^53 bytes are not exact.
    if trace.begin.every.is_none() && recording.allocated.bytes < 1 << 53 {
        assert_eq!(whole.allocated, recording.allocated);
        assert_eq!(whole.peak, recording.peak.live);
        assert_eq!(whole.retained, recording.retained);
    }
}

/// The data's own chunks with their checksums corrected.
fn sealed(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(file_head());
    let mut rest = data.get(FILE_HEAD..).unwrap_or_default();
    while let Some((head, behind)) = rest.split_first_chunk::<CHUNK_HEAD>() {
        let Some((chunk, _)) = Chunk::read(head) else { break };
        let (stored, behind) = behind.split_at((chunk.stored as usize).min(behind.len()));
        let plain = chunk.plain.min(LARGEST);
        let chunk = Chunk { stored: stored.len() as u32, plain, ..chunk };
        out.extend(chunk.head(stored));
        out.extend(stored);
        rest = behind;
    }
    out
}
