//! The file: magic, version, and chunks, each with a checksum of its own.
//!
//! ```text
//! file  = magic "\x89PDTRACE", u32 version, u32 0, chunk*
//! chunk = 4-byte tag, u16 lane, u16 codec, u32 stored length, u32 plain length, u32 number in its lane,
//!         u32 CRC-32 of the head with 0 here and of the stored bytes, u64 nanoseconds since the begin, stored bytes
//! HEAD  = the begin, as JSON ([`Begin`]); first
//! EVNT  = events of a lane: 0 the GIL's, 1 what happened without it
//! CODE  = code objects ([`crate::code`])
//! ENDS  = the end, as JSON ([`End`]); absent where the process was killed
//! ```
//!
//! While a process is recorded chunks are plain; in a finished file they are compressed.

use serde::{Deserialize, Serialize};

/// First bytes of every file.
pub const MAGIC: [u8; 8] = *b"\x89PDTRACE";
/// Version of the format.
pub const VERSION: u32 = 2;
/// Bytes before the first chunk.
pub const FILE_HEAD: usize = 16;
/// Bytes of a chunk before what it stores.
pub const CHUNK_HEAD: usize = 32;
/// No chunk is larger, stored or plain.
pub const LARGEST: usize = 16 << 20;

/// The lane of whoever holds the GIL.
pub const GIL: u16 = 0;
/// The lane of whoever does not.
pub const BESIDE: u16 = 1;
/// Lanes of events.
pub const LANES: usize = 2;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// The begin.
    Head,
    /// Events.
    Events,
    /// Code objects.
    Code,
    /// The end.
    End,
}

impl Tag {
    const ALL: [(Tag, [u8; 4]); 4] = [
        (Tag::Head, *b"HEAD"),
        (Tag::Events, *b"EVNT"),
        (Tag::Code, *b"CODE"),
        (Tag::End, *b"ENDS"),
    ];

    fn bytes(self) -> [u8; 4] {
        Tag::ALL[self as usize].1
    }

    fn of(bytes: &[u8]) -> Option<Tag> {
        Tag::ALL.into_iter().find(|(_, b)| b == bytes).map(|(tag, _)| tag)
    }
}

/// How a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Codec {
    /// As it is.
    Plain = 0,
    /// A zstd frame.
    Zstd = 1,
}

/// The head of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// What it holds.
    pub tag: Tag,
    /// Whose events, for events.
    pub lane: u16,
    /// How.
    pub codec: Codec,
    /// Bytes that are stored.
    pub stored: u32,
    /// Bytes when unpacked.
    pub plain: u32,
    /// Its number among those of the same tag and lane.
    pub number: u32,
    /// Nanoseconds from the begin to when it was written.
    pub ns: u64,
}

/// The first bytes of a file.
pub fn file_head() -> [u8; FILE_HEAD] {
    let mut head = [0; FILE_HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head
}

impl Chunk {
    /// The head's bytes, for what is stored behind it.
    pub fn head(&self, stored: &[u8]) -> [u8; CHUNK_HEAD] {
        let mut head = [0; CHUNK_HEAD];
        head[..4].copy_from_slice(&self.tag.bytes());
        head[4..6].copy_from_slice(&self.lane.to_le_bytes());
        head[6..8].copy_from_slice(&(self.codec as u16).to_le_bytes());
        head[8..12].copy_from_slice(&self.stored.to_le_bytes());
        head[12..16].copy_from_slice(&self.plain.to_le_bytes());
        head[16..20].copy_from_slice(&self.number.to_le_bytes());
        head[24..32].copy_from_slice(&self.ns.to_le_bytes());
        let crc = checksum(&head, stored);
        head[20..24].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// Reads a head, and its checksum; `None` where there is none.
    pub fn read(head: &[u8; CHUNK_HEAD]) -> Option<(Chunk, u32)> {
        let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let u32_at =
            |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap_or_default());
        let codec = match u16_at(6) {
            0 => Codec::Plain,
            1 => Codec::Zstd,
            _ => return None,
        };
        let chunk = Chunk {
            tag: Tag::of(&head[..4])?,
            lane: u16_at(4),
            codec,
            stored: u32_at(8),
            plain: u32_at(12),
            number: u32_at(16),
            ns: u64::from_le_bytes(head[24..32].try_into().unwrap_or_default()),
        };
        let fits = chunk.stored as usize <= LARGEST && chunk.plain as usize <= LARGEST;
        (fits && usize::from(chunk.lane) < LANES).then(|| (chunk, u32_at(20)))
    }

    /// Whether the checksum is that of this chunk.
    pub fn holds(&self, crc: u32, stored: &[u8]) -> bool {
        let head = self.head(stored);
        head[20..24] == crc.to_le_bytes()
    }
}

fn checksum(head: &[u8; CHUNK_HEAD], stored: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(stored);
    crc.finalize()
}

/// How a recording began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Begin {
    /// Name and version of the tool.
    pub tool: String,
    /// When, in seconds since the Unix epoch.
    pub started_at: f64,
    /// The process.
    pub pid: u32,
    /// Whose fork it is.
    #[serde(default)]
    pub parent: Option<u32>,
    /// Its command line, without what looks secret.
    #[serde(default)]
    pub command: String,
    /// CPython's version.
    #[serde(default)]
    pub python: String,
    /// Mean of the bytes between two samples; absent where all is recorded.
    #[serde(default)]
    pub every: Option<u64>,
    /// What a reader should know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// How a recording ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct End {
    /// Why, where it was not the process's own end.
    #[serde(default)]
    pub why: Option<String>,
    /// Stacks that a second walk found otherwise; only where that was asked for.
    #[serde(default)]
    pub wrong_stacks: Option<u64>,
    /// Stacks that were walked twice.
    #[serde(default)]
    pub checked_stacks: Option<u64>,
    /// What a reader should know.
    #[serde(default)]
    pub notes: Vec<String>,
}
