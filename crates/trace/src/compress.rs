//! A finished file from a raw one: the same events, joined and compressed.
//!
//! Owns what a finished file looks like: the begin, all code objects, events, the end. What was damaged is left out, and the
//! finished file says so: as a note in its begin, or by a chunk that is missing from its lane.
//!
//! Invariant: memory is bounded, whatever the length of the trace: a few megabytes for each core.

use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use crate::chunk::{Begin, Chunk, Codec, LANES, LARGEST, Tag, file_head};
use crate::reader::{Error, Trace, missing};

/// Plain bytes of events in a chunk: what a reader holds of each lane at once.
const JOINED: usize = 4 << 20;
/// Of zstd: at 3, its default, a sixteenth more is stored in half the time; at 9, an eightieth less in twice.
const LEVEL: i32 = 6;
/// Cores that are used at most.
const CORES: usize = 8;

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
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get().min(CORES));
    let mut out = Out { to, cores, waiting: Vec::new(), bytes: 0, total: Compressed::default() };
    out.json(Tag::Head, &begin(&trace))?;
    codes(&trace, &mut out)?;
    let mut joined: [Joined; LANES] = Default::default();
    // Chunks of a lane are told in their order, each once.
    let mut next = [0u32; LANES];
    let all = trace.places.len() as u64;
    let (mut stored, mut plain) = (Vec::new(), Vec::new());
    for (done, place) in (0..).zip(&trace.places) {
        progress(done, all);
        let Chunk { tag, lane, number, ns, .. } = place.chunk;
        let i = usize::from(lane);
        let is_next = number == next[i] && (number as usize) < trace.lanes[i].places.len();
        if tag != Tag::Events || !is_next || joined[i].is_broken {
            continue;
        }
        next[i] += 1;
        match trace.unpack(place, &mut stored, &mut plain) {
            true => joined[i].add(lane, &plain, ns, &mut out)?,
            false => joined[i].is_broken = true,
        }
    }
    for (lane, rest) in (0..).zip(&mut joined) {
        rest.write(lane, &mut out)?;
        if rest.is_broken || trace.lanes[usize::from(lane)].is_cut {
            // Behind the chunk that is missing.
            rest.number += 1;
            out.put(rest.chunk(lane), Vec::new())?;
        }
    }
    if let Some(end) = &trace.end {
        out.json(Tag::End, end)?;
    }
    out.write()?;
    progress(all, all);
    Ok(out.total)
}

/// The begin, with what is known to be damaged and cannot be seen from the finished file.
fn begin(trace: &Trace) -> Begin {
    let mut begin = trace.begin.clone();
    let is_seen = |said: &String| {
        let cut = (0..).zip(&trace.lanes).filter(|(_, lane)| lane.is_cut);
        cut.into_iter().any(|(i, lane)| *said == missing(i, lane))
    };
    begin.notes.extend(trace.damage.iter().filter(|said| !is_seen(said)).cloned());
    begin
}

fn codes(trace: &Trace, out: &mut Out<'_, impl Write>) -> io::Result<()> {
    let (mut number, mut plain, mut one) = (0, Vec::new(), Vec::new());
    for code in &trace.codes {
        one.clear();
        code.write(&mut one);
        // Bytes that were no text have become longer ones.
        if one.len() > LARGEST {
            continue;
        }
        if plain.len() + one.len() > JOINED.max(one.len()) {
            out.put(head(Tag::Code, 0, number, 0), std::mem::take(&mut plain))?;
            number += 1;
        }
        plain.extend(&one);
    }
    match plain.is_empty() {
        true => Ok(()),
        false => out.put(head(Tag::Code, 0, number, 0), plain),
    }
}

/// A chunk of which it is not known yet how long it is.
fn head(tag: Tag, lane: u16, number: u32, ns: u64) -> Chunk {
    Chunk { tag, lane, codec: Codec::Zstd, stored: 0, plain: 0, number, ns }
}

/// Events of a lane that wait to be written.
#[derive(Default)]
struct Joined {
    bytes: Vec<u8>,
    ns: u64,
    number: u32,
    is_broken: bool,
}

impl Joined {
    fn add(
        &mut self,
        lane: u16,
        plain: &[u8],
        ns: u64,
        out: &mut Out<'_, impl Write>,
    ) -> io::Result<()> {
        if self.bytes.len() + plain.len() > LARGEST {
            self.write(lane, out)?;
        }
        self.bytes.extend(plain);
        self.ns = ns;
        if self.bytes.len() >= JOINED { self.write(lane, out) } else { Ok(()) }
    }

    fn write(&mut self, lane: u16, out: &mut Out<'_, impl Write>) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let chunk = self.chunk(lane);
        self.number += 1;
        out.put(chunk, std::mem::take(&mut self.bytes))
    }

    fn chunk(&self, lane: u16) -> Chunk {
        head(Tag::Events, lane, self.number, self.ns)
    }
}

/// Where chunks go. As many wait as keep all cores busy; they are written in their order.
struct Out<'a, W> {
    to: &'a mut W,
    cores: usize,
    waiting: Vec<(Chunk, Vec<u8>)>,
    /// That wait.
    bytes: usize,
    total: Compressed,
}

impl<W: Write> Out<'_, W> {
    fn json(&mut self, tag: Tag, value: &impl Serialize) -> io::Result<()> {
        self.put(head(tag, 0, 0, 0), serde_json::to_vec(value)?)
    }

    fn put(&mut self, chunk: Chunk, plain: Vec<u8>) -> io::Result<()> {
        self.bytes += plain.len();
        self.waiting.push((chunk, plain));
        if self.bytes >= self.cores * JOINED { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        let (waiting, next) = (std::mem::take(&mut self.waiting), AtomicUsize::new(0));
        self.bytes = 0;
        let packed: Vec<OnceLock<io::Result<Vec<u8>>>> =
            waiting.iter().map(|_| OnceLock::new()).collect();
        let work = || {
            while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed))
                && let Some((_, plain)) = waiting.get(i)
            {
                // Each number is drawn once.
                let _ = packed[i].set(zstd::bulk::compress(plain, LEVEL));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.cores.min(waiting.len()) {
                scope.spawn(work);
            }
            work();
        });
        for ((chunk, plain), packed) in waiting.into_iter().zip(packed) {
            let stored = packed.into_inner().ok_or(io::ErrorKind::Other)??;
            let lengths = (stored.len() as u32, plain.len() as u32);
            let chunk = Chunk { stored: lengths.0, plain: lengths.1, ..chunk };
            self.to.write_all(&chunk.head(&stored))?;
            self.to.write_all(&stored)?;
            if chunk.tag == Tag::Events {
                self.total.plain += plain.len() as u64;
                self.total.stored += stored.len() as u64;
            }
        }
        Ok(())
    }
}
