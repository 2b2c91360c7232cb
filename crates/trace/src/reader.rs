//! A trace file, opened: what it says of itself, and its events in the order in which they happened.
//!
//! Owns the merging of the lanes. The GIL's lane is in order by itself; the lane beside it says before which event of
//! the GIL's each of its own belongs. Both are read chunk by chunk, so that a trace of any length takes little memory.
//!
//! Invariant: a damaged chunk ends its lane; the other one goes on no further than that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::chunk::{
    BESIDE, Begin, CHUNK_HEAD, Chunk, Codec, End, FILE_HEAD, GIL, LANES, MAGIC, Tag, VERSION,
};
use crate::code::Code;
use crate::decode::Decoder;
use crate::event::Event;

/// Bytes behind a chunk's events, so that the last can be read as a whole word.
const PADDING: usize = 8;

/// Why a file is no trace that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The magic is missing.
    #[error("this is not a .pdtrace file: it does not begin with its magic bytes")]
    NotTrace,
    /// A newer version wrote it.
    #[error(
        "the file has format version {found}, written by a newer pydefrag; this one reads up to {VERSION}"
    )]
    Newer {
        /// The file's version.
        found: u32,
    },
    /// Its first chunk is cut or damaged.
    #[error("the file is damaged before its first chunk is whole")]
    Damaged,
    /// It could not be read.
    #[error("the file could not be read: {0}")]
    Io(#[from] std::io::Error),
}

/// Where a chunk is in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) chunk: Chunk,
    crc: u32,
    /// Of what it stores.
    at: u64,
}

/// Where a trace's bytes are.
enum Source {
    File(File),
    Bytes(Vec<u8>),
}

impl Source {
    fn length(&self) -> std::io::Result<u64> {
        match self {
            Source::File(file) => Ok(file.metadata()?.len()),
            Source::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Fills `out` with the bytes from `at` on.
    fn read(&self, out: &mut [u8], at: u64) -> std::io::Result<()> {
        match self {
            Source::File(file) => file.read_exact_at(out, at),
            Source::Bytes(bytes) => {
                let from =
                    usize::try_from(at).ok().and_then(|at| bytes.get(at..)?.get(..out.len()));
                out.copy_from_slice(from.ok_or(std::io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

/// An open trace.
pub struct Trace {
    source: Source,
    /// How it began.
    pub begin: Begin,
    /// How it ended; `None` where the process was killed, or runs on.
    pub end: Option<End>,
    /// Code objects by number, as far as they are whole.
    pub codes: Vec<Code>,
    pub(crate) places: Vec<Place>,
    lanes: [Vec<Place>; LANES],
    /// What is missing, as sentences.
    pub damage: Vec<String>,
}

impl Trace {
    /// Opens a file and reads all but its events.
    pub fn open(path: &Path) -> Result<Trace, Error> {
        Trace::of(Source::File(File::open(path)?))
    }

    /// The same of a file's bytes.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Trace, Error> {
        Trace::of(Source::Bytes(bytes))
    }

    fn of(source: Source) -> Result<Trace, Error> {
        let length = source.length()?;
        let mut head = [0; FILE_HEAD];
        let whole = length >= FILE_HEAD as u64 && source.read(&mut head, 0).is_ok();
        if !whole || head[..8] != MAGIC {
            return Err(Error::NotTrace);
        }
        let found = u32::from_le_bytes(head[8..12].try_into().unwrap_or_default());
        if found > VERSION {
            return Err(Error::Newer { found });
        }
        let (places, mut damage) = scan(&source, length)?;
        let mut trace = Trace {
            source,
            begin: Begin::default(),
            end: None,
            codes: Vec::new(),
            places: Vec::new(),
            lanes: Default::default(),
            damage: Vec::new(),
        };
        let first = places.first().filter(|p| p.chunk.tag == Tag::Head).ok_or(Error::Damaged)?;
        let begin = trace.plain(first).ok_or(Error::Damaged)?;
        trace.begin = serde_json::from_slice(&begin).map_err(|_| Error::Damaged)?;
        let mut codes = 0;
        for place in &places {
            match place.chunk.tag {
                Tag::Head => {}
                Tag::Events => {
                    let lane = &mut trace.lanes[usize::from(place.chunk.lane)];
                    // Written twice, where two threads have ended the process at once.
                    if place.chunk.number < lane.len() as u32 {
                        continue;
                    }
                    if place.chunk.number > lane.len() as u32 {
                        damage.push(format!(
                            "chunk {} of lane {} is missing, and what follows it was left out",
                            lane.len(),
                            place.chunk.lane
                        ));
                        break;
                    }
                    lane.push(*place);
                }
                Tag::Code => match trace.plain(place) {
                    Some(bytes) => {
                        let mut at = 0;
                        while let Some(code) = Code::read(&bytes, &mut at) {
                            trace.codes.push(code);
                        }
                    }
                    None => codes += 1,
                },
                Tag::End => {
                    trace.end =
                        trace.plain(place).and_then(|bytes| serde_json::from_slice(&bytes).ok());
                }
            }
        }
        if codes > 0 {
            damage.push(format!("{codes} chunks of names are damaged: some functions have none"));
        }
        trace.places = places;
        trace.damage = damage;
        Ok(trace)
    }

    /// Bytes of events that are stored.
    pub fn stored(&self) -> u64 {
        self.lanes.iter().flatten().map(|p| u64::from(p.chunk.stored)).sum()
    }

    /// Its events in order.
    pub fn events(&self) -> Events<'_> {
        Events {
            gil: Lane::new(&self.lanes[usize::from(GIL)]),
            beside: Lane::new(&self.lanes[usize::from(BESIDE)]),
            trace: self,
            done: 0,
            damage: Vec::new(),
        }
    }

    /// A chunk's bytes, unpacked; `None` where they are damaged.
    pub(crate) fn plain(&self, place: &Place) -> Option<Vec<u8>> {
        let mut stored = vec![0; place.chunk.stored as usize];
        self.source.read(&mut stored, place.at).ok()?;
        if !place.chunk.holds(place.crc, &stored) {
            return None;
        }
        let plain = place.chunk.plain as usize;
        match place.chunk.codec {
            Codec::Plain => (stored.len() == plain).then_some(stored),
            Codec::Zstd => zstd::bulk::decompress(&stored, plain).ok().filter(|b| b.len() == plain),
        }
    }
}

/// All heads up to the first that is none, or whose bytes are not all there.
fn scan(source: &Source, length: u64) -> Result<(Vec<Place>, Vec<String>), Error> {
    let (mut places, mut damage) = (Vec::new(), Vec::new());
    let mut at = FILE_HEAD as u64;
    while at < length {
        let mut head = [0; CHUNK_HEAD];
        let mut cut = || damage.push(format!("the file is cut at byte {at}"));
        if length - at < CHUNK_HEAD as u64 {
            cut();
            break;
        }
        source.read(&mut head, at)?;
        let Some((chunk, crc)) = Chunk::read(&head) else {
            damage.push(format!("the file is damaged from byte {at} on"));
            break;
        };
        let next = at + CHUNK_HEAD as u64 + u64::from(chunk.stored);
        if next > length {
            cut();
            break;
        }
        places.push(Place { chunk, crc, at: at + CHUNK_HEAD as u64 });
        at = next;
    }
    Ok((places, damage))
}

struct Lane<'a> {
    places: std::slice::Iter<'a, Place>,
    decoder: Decoder,
    bytes: Vec<u8>,
    at: usize,
    end: usize,
    /// Nanoseconds from the begin to when the chunk was written.
    ns: u64,
    broken: bool,
}

impl<'a> Lane<'a> {
    fn new(places: &'a [Place]) -> Lane<'a> {
        Lane {
            places: places.iter(),
            decoder: Decoder::default(),
            bytes: Vec::new(),
            at: 0,
            end: 0,
            ns: 0,
            broken: false,
        }
    }

    /// The next event. Another chunk is loaded where one ends; `None` at the end of the lane.
    #[inline]
    fn next(&mut self, trace: &Trace, done: &mut u64) -> Option<Event> {
        while self.at >= self.end {
            if self.broken {
                return None;
            }
            let place = self.places.next()?;
            let Some(bytes) = trace.plain(place) else {
                self.broken = true;
                return None;
            };
            *done += u64::from(place.chunk.stored);
            self.bytes = bytes;
            self.end = self.bytes.len();
            self.bytes.resize(self.end + PADDING, 0);
            self.at = 0;
            self.ns = place.chunk.ns;
        }
        match self.decoder.next(&self.bytes, &mut self.at, self.end) {
            Ok(event) => Some(event),
            Err(_) => {
                (self.broken, self.at) = (true, self.end);
                None
            }
        }
    }
}

/// The events of a trace in order.
pub struct Events<'a> {
    trace: &'a Trace,
    gil: Lane<'a>,
    beside: Lane<'a>,
    done: u64,
    damage: Vec<String>,
}

impl Events<'_> {
    /// Hands each event to `sink`, with its lane. `progress` hears how many stored bytes of how many are done.
    pub fn each(&mut self, progress: &dyn Fn(u64, u64), sink: &mut impl FnMut(u16, Event)) {
        let total = self.trace.stored();
        // Events of the GIL's lane that have been handed out; and before which one the next of the other's belongs.
        let (mut count, mut due) = (0u64, Some(0));
        let mut told = 0;
        loop {
            if self.done != told {
                told = self.done;
                progress(told, total);
            }
            let Some(event) = self.gil.next(self.trace, &mut self.done) else { break };
            // What is not counted comes first: that a realloc has failed must be known before the block is freed beside.
            if matches!(event, Event::Alloc { .. } | Event::Free { .. }) {
                while due.is_some_and(|due| due <= count) {
                    due = self.beside(sink);
                }
                count += 1;
            }
            sink(GIL, event);
        }
        if self.gil.broken {
            self.damage.push(
                "a chunk of events is damaged: what happened from there on was left out".into(),
            );
        } else {
            while due.is_some() {
                due = self.beside(sink);
            }
        }
        if self.beside.broken {
            self.damage.push(
                "a chunk of events without the GIL is damaged: those from there on were left out"
                    .into(),
            );
        }
        progress(total, total);
    }

    /// Hands out the other lane's events up to its next stamp, which is returned; `None` at its end.
    fn beside(&mut self, sink: &mut impl FnMut(u16, Event)) -> Option<u64> {
        loop {
            match self.beside.next(self.trace, &mut self.done)? {
                Event::Stamp(stamp) => return Some(stamp),
                event => sink(BESIDE, event),
            }
        }
    }

    /// What was found damaged, as sentences; known when all is read.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }
}
