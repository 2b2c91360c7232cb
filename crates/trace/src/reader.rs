//! A trace file, opened: its chunks, and what they say beside events.
//!
//! Owns where each chunk is, and which are missing. Does not own the order of events ([`crate::merge`]).
//!
//! Invariants: no length from the file is trusted. What is kept is bounded by the file's size and a constant: a few bytes
//! can unpack to many. A chunk that is cut, damaged or missing is told, whatever it held.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::chunk::{Begin, CHUNK_HEAD, Chunk, Codec, End, FILE_HEAD, LANES, MAGIC, Tag, VERSION};
use crate::code::Code;
use crate::merge::Events;

/// No begin and no end has more bytes of JSON.
const LARGEST_JSON: u32 = 4 << 20;
/// Names and stacks that a file of any size may have, and how many more for each of its bytes.
const ANY: u64 = 1 << 16;
const PER_BYTE: u64 = 16;
/// Bytes of code objects likewise.
const ANY_CODE: u64 = 16 << 20;
const CODE_PER_BYTE: u64 = 64;

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
    /// A version before the first that was released wrote it.
    #[error(
        "the file has format version {found}, which no released pydefrag wrote; this one reads {VERSION}"
    )]
    Older {
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
    pub(crate) lanes: [Lane; LANES],
    length: u64,
    /// What is missing, as sentences.
    pub damage: Vec<String>,
}

/// The chunks of a lane, in order.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) places: Vec<Place>,
    /// A chunk is missing behind them.
    pub(crate) is_cut: bool,
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
        if found < VERSION {
            return Err(Error::Older { found });
        }
        let (places, damage) = scan(&source, length)?;
        let mut trace = Trace {
            source,
            begin: Begin::default(),
            end: None,
            codes: Vec::new(),
            places: Vec::new(),
            lanes: Default::default(),
            length,
            damage,
        };
        let first = places.first().filter(|p| p.chunk.tag == Tag::Head).ok_or(Error::Damaged)?;
        trace.begin = trace.json(first).ok_or(Error::Damaged)?;
        trace.take(&places);
        trace.places = places;
        Ok(trace)
    }

    /// Sorts chunks by what they hold, and reads all but events.
    fn take(&mut self, places: &[Place]) {
        let (mut codes, mut bad_codes, mut unpacked) = (0, 0u64, 0);
        for place in places {
            match place.chunk.tag {
                Tag::Head => {}
                Tag::Events => self.take_events(place),
                Tag::Code if place.chunk.number < codes => {
                    bad_codes += u64::from(self.plain(place).is_none());
                }
                Tag::Code => {
                    bad_codes += u64::from(place.chunk.number - codes);
                    codes = place.chunk.number.saturating_add(1);
                    unpacked += u64::from(place.chunk.plain);
                    let most = ANY_CODE.saturating_add(self.length.saturating_mul(CODE_PER_BYTE));
                    let is_whole = unpacked <= most && self.take_codes(place).is_some();
                    bad_codes += u64::from(!is_whole);
                }
                Tag::End => match self.json(place) {
                    Some(end) => self.end = Some(end),
                    None => self.damage.push("what the file says of its end is damaged".into()),
                },
            }
        }
        if bad_codes > 0 {
            self.damage.push(format!(
                "{bad_codes} chunks of names are damaged or missing: some functions have none"
            ));
        }
    }

    fn take_events(&mut self, place: &Place) {
        let Chunk { lane, number, .. } = place.chunk;
        let next = self.lanes[usize::from(lane)].places.len() as u32;
        // Written twice, where two threads have ended the process at once; or the number is what is damaged.
        let is_missing = number > next || number < next && self.plain(place).is_none();
        let own = &mut self.lanes[usize::from(lane)];
        if is_missing && !own.is_cut {
            own.is_cut = true;
            self.damage.push(missing(lane, own));
        } else if number == next && !own.is_cut {
            own.places.push(*place);
        }
    }

    fn take_codes(&mut self, place: &Place) -> Option<()> {
        let bytes = self.plain(place)?;
        let mut at = 0;
        while at < bytes.len() {
            if self.codes.len() >= self.most() {
                return None;
            }
            self.codes.push(Code::read(&bytes, &mut at)?);
        }
        Some(())
    }

    /// What is JSON in the file, if it is whole.
    fn json<T: DeserializeOwned>(&self, place: &Place) -> Option<T> {
        let is_small = place.chunk.plain <= LARGEST_JSON;
        serde_json::from_slice(&self.plain(place).filter(|_| is_small)?).ok()
    }

    /// Names, stacks and threads that a file of this size can tell.
    pub(crate) fn most(&self) -> usize {
        usize::try_from(ANY.saturating_add(self.length.saturating_mul(PER_BYTE)))
            .unwrap_or(usize::MAX)
    }

    /// Bytes of events that are stored.
    pub fn stored(&self) -> u64 {
        self.lanes.iter().flat_map(|l| &l.places).map(|p| u64::from(p.chunk.stored)).sum()
    }

    /// Its events in order.
    pub fn events(&self) -> Events<'_> {
        Events::new(self)
    }

    /// A chunk's bytes, unpacked; `None` where they are damaged.
    pub(crate) fn plain(&self, place: &Place) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        self.unpack(place, &mut Vec::new(), &mut plain).then_some(plain)
    }

    /// The same into `plain`, by way of `stored`; returns whether it is whole.
    pub(crate) fn unpack(&self, place: &Place, stored: &mut Vec<u8>, plain: &mut Vec<u8>) -> bool {
        let Place { chunk, crc, at } = place;
        stored.resize(chunk.stored as usize, 0);
        if self.source.read(stored, *at).is_err() || !chunk.holds(*crc, stored) {
            return false;
        }
        let length = chunk.plain as usize;
        match chunk.codec {
            Codec::Plain => {
                std::mem::swap(stored, plain);
                plain.len() == length
            }
            Codec::Zstd => {
                plain.resize(length, 0);
                zstd::bulk::decompress_to_buffer(stored, plain).is_ok_and(|n| n == length)
            }
        }
    }
}

/// What is said of a lane that is cut.
pub(crate) fn missing(number: u16, lane: &Lane) -> String {
    let next = lane.places.len();
    format!("chunk {next} of lane {number} is missing, and what follows it was left out")
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
