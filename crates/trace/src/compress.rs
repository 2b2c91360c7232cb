//! A finished file from a raw one: the same chunks, joined and compressed.

use std::io::{self, Write};
use std::path::Path;

use crate::chunk::{Chunk, Codec, LANES, Tag, file_head};
use crate::reader::{Error, Trace};

/// Plain bytes of events in a chunk: what a reader holds of each lane at once.
const JOINED: usize = 4 << 20;
const LEVEL: i32 = 3;

/// What a finished file came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compressed {
    /// Bytes of events before.
    pub plain: u64,
    /// And after.
    pub stored: u64,
}

/// Writes what is whole of the trace at `from`. `progress` hears how many chunks of how many are done.
pub fn compress(
    from: &Path,
    to: &mut impl Write,
    progress: &dyn Fn(u64, u64),
) -> Result<Compressed, Error> {
    let trace = Trace::open(from)?;
    to.write_all(&file_head())?;
    let mut joined: [Joined; LANES] = Default::default();
    let mut numbers = [0u32; 4];
    let mut total = Compressed::default();
    let all = trace.places.len() as u64;
    // Chunks of a lane are told in their order, each once.
    let mut next = [0u32; LANES];
    for (i, place) in trace.places.iter().enumerate() {
        progress(i as u64, all);
        let chunk = place.chunk;
        let lane = usize::from(chunk.lane);
        if chunk.tag == Tag::Events && chunk.number != next[lane] {
            continue;
        }
        let Some(plain) = trace.plain(place) else {
            // Its lane ends here, and a reader would not go on either.
            break;
        };
        if chunk.tag != Tag::Events {
            if chunk.tag == Tag::End {
                for (lane, rest) in joined.iter_mut().enumerate() {
                    rest.write(lane as u16, to, &mut total)?;
                }
            }
            let number = &mut numbers[chunk.tag as usize];
            put(to, Chunk { number: *number, ..chunk }, &plain)?;
            *number += 1;
            continue;
        }
        next[lane] += 1;
        let rest = &mut joined[lane];
        rest.bytes.extend(plain);
        rest.ns = chunk.ns;
        if rest.bytes.len() >= JOINED {
            rest.write(chunk.lane, to, &mut total)?;
        }
    }
    for (lane, rest) in joined.iter_mut().enumerate() {
        rest.write(lane as u16, to, &mut total)?;
    }
    progress(all, all);
    Ok(total)
}

/// Events of a lane that wait to be written.
#[derive(Default)]
struct Joined {
    bytes: Vec<u8>,
    ns: u64,
    number: u32,
}

impl Joined {
    fn write(&mut self, lane: u16, to: &mut impl Write, total: &mut Compressed) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let chunk = Chunk {
            tag: Tag::Events,
            lane,
            codec: Codec::Zstd,
            stored: 0,
            plain: 0,
            number: self.number,
            ns: self.ns,
        };
        total.plain += self.bytes.len() as u64;
        total.stored += put(to, chunk, &self.bytes)?;
        self.number += 1;
        self.bytes.clear();
        Ok(())
    }
}

fn put(to: &mut impl Write, chunk: Chunk, plain: &[u8]) -> io::Result<u64> {
    let stored = zstd::bulk::compress(plain, LEVEL)?;
    let chunk = Chunk {
        codec: Codec::Zstd,
        stored: stored.len() as u32,
        plain: plain.len() as u32,
        ..chunk
    };
    to.write_all(&chunk.head(&stored))?;
    to.write_all(&stored)?;
    Ok(stored.len() as u64)
}
