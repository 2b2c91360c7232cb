//! The `.pdsnap` encoding: a snapshot and the heap behind it as bytes, and back.
//!
//! Owns the format; writing the bytes to a disk is the command's. Layout, little-endian throughout:
//!
//! ```text
//! file   = magic "\x89PDSNAP\n", u32 version, chunk*, END chunk
//! chunk  = 4-byte tag, u32 stored length, u32 plain length, u32 CRC-32 of the 12 bytes before it
//!          and of the stored bytes, stored bytes (zstd)
//! SNAP   = the Snapshot as JSON                                (exactly one, first)
//! POOL   = u32 pool size, u32 n, n × pool, then the pools' bitmap words (up to 8192 pools a chunk)
//! pool   = u64 address, u16 interpreter, u8 class, u8 state, u16 used, u16 carved, u8 resident, u8 exclusive
//! MAP    = a column of the map: u8 length of its name, name, bytes   (a long one in several chunks, in order)
//! END    = u32 number of chunks before it
//! ```
//!
//! Invariants: a reader of version n reads all before it and refuses newer ones by name; a truncated
//! or corrupted file yields all whole chunks before the damage and says what is missing; no length
//! from the file is trusted: nothing is allocated that the file's own size does not justify. No value
//! of the process is in it: contents that a look was asked to show are left out.

use std::collections::BTreeMap;

use crate::{Detail, Map, PoolRecord, PoolState, Snapshot};

/// First bytes of every file.
pub const MAGIC: [u8; 8] = *b"\x89PDSNAP\n";
/// Version that [`encode`] writes, the newest that [`decode`] reads.
pub const VERSION: u32 = 3;

const POOLS_PER_CHUNK: usize = 8192;
const POOL_BYTES: usize = 18;
const CHUNK_HEAD: usize = 16;
/// No chunk that [`encode`] writes is larger when unpacked.
const LARGEST_CHUNK: usize = 64 << 20;
/// Bytes of a column that a chunk holds.
const COLUMN_PIECE: usize = 32 << 20;
/// No column is longer: a map of more is none.
const LONGEST_COLUMN: usize = 1 << 30;
const LEVEL: i32 = 3;

/// Why bytes are not a readable `.pdsnap`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The magic is missing.
    #[error("this is not a .pdsnap file: it does not begin with its magic bytes")]
    NotPdsnap,
    /// A newer version wrote it.
    #[error(
        "the file has format version {found}, written by a newer pydefrag; this one reads up to {VERSION}"
    )]
    Newer {
        /// The file's version.
        found: u32,
    },
    /// Cut or corrupted before the snapshot itself was whole.
    #[error("the file is damaged before its first chunk is whole: {0}")]
    Damaged(String),
    /// The snapshot could not be understood or encoded.
    #[error("the snapshot inside the file does not fit its schema: {0}")]
    Schema(#[from] serde_json::Error),
    /// Compression failed.
    #[error("a chunk could not be compressed: {0}")]
    Compress(#[source] std::io::Error),
}

/// What a file held.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The pools of all whole chunks.
    pub detail: Detail,
    /// What is missing, as a sentence, when the file is cut or corrupted after its first chunk.
    pub damage: Option<String>,
}

/// Encodes a snapshot and its detail.
pub fn encode(snapshot: &Snapshot, detail: &Detail) -> Result<Vec<u8>, Error> {
    let mut out = Vec::from(MAGIC);
    out.extend(VERSION.to_le_bytes());
    put_chunk(&mut out, b"SNAP", &snapshot_json(snapshot)?)?;
    let mut chunks = 1u32;
    for pools in detail.pools.chunks(POOLS_PER_CHUNK) {
        put_chunk(&mut out, b"POOL", &pool_chunk(detail, pools))?;
        chunks += 1;
    }
    for (name, bytes) in
        detail.map.iter().map(|m| m.columns()).collect::<Result<Vec<_>, _>>()?.concat()
    {
        // One that is empty is there too.
        let pieces = bytes.chunks(COLUMN_PIECE).chain(bytes.is_empty().then_some(&[][..]));
        for piece in pieces {
            put_chunk(&mut out, b"MAP ", &[&[name.len() as u8], name.as_bytes(), piece].concat())?;
            chunks += 1;
        }
    }
    put_chunk(&mut out, b"END ", &chunks.to_le_bytes())?;
    Ok(out)
}

/// The snapshot without contents, which no file holds.
fn snapshot_json(snapshot: &Snapshot) -> serde_json::Result<Vec<u8>> {
    let worst = snapshot.explanation.iter().flat_map(|e| &e.duplicates.worst);
    if worst.into_iter().all(|w| w.example.is_none()) {
        return serde_json::to_vec(snapshot);
    }
    let mut without = snapshot.clone();
    let worst = without.explanation.iter_mut().flat_map(|e| &mut e.duplicates.worst);
    worst.for_each(|w| w.example = None);
    serde_json::to_vec(&without)
}

fn pool_chunk(detail: &Detail, pools: &[PoolRecord]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(8 + pools.len() * POOL_BYTES);
    plain.extend(detail.pool_size.to_le_bytes());
    plain.extend((pools.len() as u32).to_le_bytes());
    for p in pools {
        plain.extend(p.address.to_le_bytes());
        plain.extend(p.interpreter.to_le_bytes());
        plain.extend([p.class, p.state as u8]);
        plain.extend(p.used.to_le_bytes());
        plain.extend(p.carved.to_le_bytes());
        plain.extend([p.resident, p.exclusive]);
    }
    for word in pools.iter().flat_map(|p| detail.bitmap(p)) {
        plain.extend(word.to_le_bytes());
    }
    plain
}

fn put_chunk(out: &mut Vec<u8>, tag: &[u8; 4], plain: &[u8]) -> Result<(), Error> {
    let stored = zstd::bulk::compress(plain, LEVEL).map_err(Error::Compress)?;
    let head = out.len();
    out.extend(tag);
    out.extend((stored.len() as u32).to_le_bytes());
    out.extend((plain.len() as u32).to_le_bytes());
    let crc = checksum(&out[head..], &stored);
    out.extend(crc.to_le_bytes());
    out.extend(stored);
    Ok(())
}

fn checksum(head: &[u8], stored: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(stored);
    crc.finalize()
}

/// Decodes a file's bytes.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Error> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(Error::NotPdsnap)?;
    let (version, rest) =
        rest.split_first_chunk().ok_or_else(|| Error::Damaged("it ends in the version".into()))?;
    let found = u32::from_le_bytes(*version);
    if found > VERSION {
        return Err(Error::Newer { found });
    }
    let mut chunks = Chunks { rest, read: 0 };
    let snapshot = match chunks.next().map_err(Error::Damaged)? {
        (tag, plain) if tag == *b"SNAP" => serde_json::from_slice(&plain)?,
        (tag, _) => return Err(Error::Damaged(format!("chunk {} comes first", name(&tag)))),
    };
    let mut decoded = Decoded { snapshot, detail: Detail::default(), damage: None };
    let mut columns = Columns::new();
    decoded.damage = read_detail(&mut chunks, &mut decoded.detail, &mut columns).err();
    // A map is of use only as a whole.
    if decoded.damage.is_none() && !columns.is_empty() {
        let map = Map::of_columns(|name| columns.get(name.as_bytes()).cloned());
        decoded.detail.map = map.filter(|m| m.fits(&decoded.detail)).map(Box::new);
        if decoded.detail.map.is_none() {
            decoded.damage = Some("the parts of its map do not agree".into());
        }
    }
    Ok(decoded)
}

/// Columns by name.
type Columns = BTreeMap<Vec<u8>, Vec<u8>>;

/// Reads the chunks of pools and of the map up to the end chunk; the error says what is missing.
fn read_detail(
    chunks: &mut Chunks<'_>,
    detail: &mut Detail,
    columns: &mut Columns,
) -> Result<(), String> {
    loop {
        let before = chunks.read;
        let (tag, plain) = chunks.next()?;
        match &tag {
            b"POOL" => take_pools(&plain, detail)
                .ok_or_else(|| format!("chunk {before} (POOL) is inconsistent"))?,
            b"MAP " => take_column(&plain, columns)
                .ok_or_else(|| format!("chunk {before} (MAP) is inconsistent"))?,
            b"END " if plain == before.to_le_bytes() => return Ok(()),
            b"END " => return Err("the end mark counts other chunks than there are".into()),
            _ => return Err(format!("chunk {before} has the unknown tag {}", name(&tag))),
        }
    }
}

fn take_pools(plain: &[u8], detail: &mut Detail) -> Option<()> {
    let (pool_size, rest) = plain.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (records, words) = rest.split_at_checked(count.checked_mul(POOL_BYTES)?)?;
    let mut words = words.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap()));
    let mut pools = Vec::with_capacity(count);
    let mut bitmaps = Vec::new();
    for r in records.chunks_exact(POOL_BYTES) {
        let u16_at = |i: usize| u16::from_le_bytes([r[i], r[i + 1]]);
        let pool = PoolRecord {
            address: u64::from_le_bytes(r[..8].try_into().unwrap()),
            interpreter: u16_at(8),
            class: r[10],
            state: PoolState::from_number(r[11])?,
            used: u16_at(12),
            carved: u16_at(14),
            resident: r[16],
            exclusive: r[17],
            bitmap: u32::try_from(detail.bitmaps.len() + bitmaps.len()).ok()?,
        };
        for _ in 0..pool.bitmap_words() {
            bitmaps.push(words.next()?);
        }
        pools.push(pool);
    }
    if words.next().is_some() {
        return None;
    }
    detail.pool_size = u32::from_le_bytes(*pool_size);
    detail.pools.extend(pools);
    detail.bitmaps.extend(bitmaps);
    Some(())
}

fn take_column(plain: &[u8], columns: &mut Columns) -> Option<()> {
    let (length, rest) = plain.split_first()?;
    let (name, bytes) = rest.split_at_checked(usize::from(*length))?;
    let column = columns.entry(name.to_vec()).or_default();
    column.extend(bytes);
    (column.len() <= LONGEST_COLUMN).then_some(())
}

struct Chunks<'a> {
    rest: &'a [u8],
    read: u32,
}

impl Chunks<'_> {
    /// The next chunk's tag and plain bytes; the error says what is wrong with it.
    fn next(&mut self) -> Result<([u8; 4], Vec<u8>), String> {
        let n = self.read;
        let cut = || format!("the file ends within chunk {n}");
        let (head, rest) = self.rest.split_at_checked(CHUNK_HEAD).ok_or_else(cut)?;
        let word = |i: usize| u32::from_le_bytes(head[i..i + 4].try_into().unwrap());
        let tag = [head[0], head[1], head[2], head[3]];
        let (stored, plain) = (word(4) as usize, word(8) as usize);
        let (stored, rest) = rest.split_at_checked(stored).ok_or_else(cut)?;
        if checksum(&head[..12], stored) != word(12) {
            return Err(format!("chunk {n} does not match its checksum"));
        }
        if plain > LARGEST_CHUNK {
            return Err(format!("chunk {n} claims {plain} bytes, more than any chunk has"));
        }
        let bytes = zstd::bulk::decompress(stored, plain)
            .map_err(|e| format!("chunk {n} could not be unpacked: {e}"))?;
        (self.rest, self.read) = (rest, n + 1);
        Ok((tag, bytes))
    }
}

fn name(tag: &[u8; 4]) -> String {
    tag.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Ladder, Memory, Process, Region, SCHEMA, Torn};

    fn snapshot() -> Snapshot {
        Snapshot {
            schema: SCHEMA,
            tool: "pydefrag test".into(),
            taken_at: 1.5,
            partial: None,
            torn: Torn::default(),
            process: Process {
                pid: 7,
                command: "python3 app.py".into(),
                threads: 1,
                python: None,
                libc: None,
            },
            memory: Memory { rss: 4096, ..Default::default() },
            owners: Vec::new(),
            unattributed: 4096,
            residency_difference: 0,
            pymalloc: None,
            malloc: None,
            verdict: None,
            run: None,
            explanation: None,
            fragmentation: None,
            ladder: Ladder::default(),
            notes: vec!["a note".into()],
        }
    }

    fn detail(pools: usize) -> Detail {
        let mut d = Detail { pool_size: 16384, ..Default::default() };
        for i in 0..pools {
            let state = PoolState::from_number((i % 3) as u8).unwrap();
            let pool = PoolRecord {
                address: 0x7f00_0000_0000 + i as u64 * 16384,
                interpreter: (i % 2) as u16,
                class: (i % 32) as u8,
                state,
                used: 3,
                carved: 100,
                resident: 0b1111,
                exclusive: 0b0111,
                bitmap: d.bitmaps.len() as u32,
            };
            d.bitmaps.extend((0..pool.bitmap_words()).map(|w| (i * 31 + w) as u64));
            d.pools.push(pool);
        }
        d
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for pools in [0, 1, POOLS_PER_CHUNK, 2 * POOLS_PER_CHUNK + 5] {
            let (s, mut d) = (snapshot(), detail(pools));
            let back = decode(&encode(&s, &d).unwrap()).unwrap();
            if pools == 0 {
                d.pool_size = 0;
            }
            assert_eq!(d.map, None);
            assert_eq!((back.snapshot, back.detail, back.damage), (s, d, None));
        }
    }

    #[test]
    fn a_map_is_kept_whole_or_not_at_all() {
        let region = |pools| Region {
            start: 0x7f00_0000_0000,
            size: 1 << 20,
            heap: "pymalloc".into(),
            pools,
            tiles: 0,
        };
        let mut d = detail(3);
        d.map =
            Some(Box::new(Map { regions: vec![region(3)], pages: vec![3; 256], ..Map::default() }));
        let bytes = encode(&snapshot(), &d).unwrap();
        let back = decode(&bytes).unwrap();
        assert_eq!((&back.detail, back.damage), (&d, None));
        // Without the end mark nobody knows whether all of it is there.
        let cut = decode(&bytes[..bytes.len() - 20]).unwrap();
        assert_eq!((cut.detail.pools.len(), cut.detail.map), (3, None));
        assert!(cut.damage.is_some());
        // Of other pools than there are.
        d.map.as_mut().unwrap().regions[0].pools = 2;
        let other = decode(&encode(&snapshot(), &d).unwrap()).unwrap();
        assert_eq!((other.detail.map, other.detail.pools.len()), (None, 3));
        assert_eq!(other.damage.as_deref(), Some("the parts of its map do not agree"));
    }

    /// As the first version wrote it: without malloc, runs, verdicts, and the terms of malloc's heap.
    #[test]
    fn a_file_of_version_1_is_read() {
        let json = r#"{"schema":1,"tool":"pydefrag 0.1.0","taken_at":1.5,"partial":null,
            "torn":{"pools":9,"retried":1,"left":0,"arenas_gone":0},
            "process":{"pid":7,"command":"python3 app.py","threads":1,"libc":null,
              "python":{"version":"3.12.7","free_threaded":false,"allocator":"pymalloc",
                "debug_hooks":false,"tracemalloc":false,"foreign_hook":null,
                "image":"/usr/bin/python3.12","interpreters":1}},
            "memory":{"rss":12288,"pss":12288,"uss":12288,"swap":0,"hwm":0,"anon_huge_pages":0,
              "ksm":0,"lazy_free":0,"hugetlb":0},
            "owners":[{"name":"pymalloc","kind":"pymalloc","basis":"walked","resident":8192,
                "swapped":0,"huge":0,"copy_on_write_shared":0,"live":5000,"rounding":null,
                "metadata":192,"virgin":0,"free_spans":0,"holes":0,"pinned_free":3000,"unread":0,
                "live_not_resident":0},
              {"name":"malloc","kind":"malloc","basis":"recognised","resident":4096,"swapped":0,
                "huge":0,"copy_on_write_shared":0}],
            "unattributed":0,"residency_difference":0,"pymalloc":null,"fragmentation":null,
            "ladder":{"trim":null,"purge":0,"compact":null,"ideal":0},"notes":[]}"#;
        let mut bytes = Vec::from(MAGIC);
        bytes.extend(1u32.to_le_bytes());
        put_chunk(&mut bytes, b"SNAP", json.as_bytes()).unwrap();
        put_chunk(&mut bytes, b"POOL", &pool_chunk(&detail(2), &detail(2).pools)).unwrap();
        put_chunk(&mut bytes, b"END ", &2u32.to_le_bytes()).unwrap();
        let back = decode(&bytes).unwrap();
        assert_eq!((back.damage, back.detail.pools.len()), (None, 2));
        let s = back.snapshot;
        let account = s.owners[0].account.unwrap();
        assert_eq!((account.total(), account.top, account.cached), (8192, 0, 0));
        assert_eq!((s.owners[1].account, s.owners[1].pss), (None, 0));
        assert_eq!((s.malloc, s.verdict, s.run, s.torn.chunks), (None, None, None, 0));
    }

    #[test]
    fn what_holds_the_memory_is_kept_and_may_be_missing() {
        let mut with = snapshot();
        let mut explanation = crate::Explanation::default();
        explanation.pins.pinned = u64::MAX;
        explanation.pins.by_site = Some(vec![crate::SitePin::default()]);
        explanation.pins.by_owner =
            vec![crate::OwnerPin { owner: "m.X\n\u{202e}".into(), ..Default::default() }];
        explanation.duplicates.worst =
            vec![crate::OwnerDuplicates { example: Some("\0".into()), ..Default::default() }];
        explanation.objects.types = vec![crate::TypeTotal { asks: Some(72), ..Default::default() }];
        with.explanation = Some(explanation);
        let back = decode(&encode(&with, &detail(1)).unwrap()).unwrap();
        // All but the contents.
        with.explanation.as_mut().unwrap().duplicates.worst[0].example = None;
        assert_eq!((back.snapshot, back.damage), (with, None));
        // Without objects there is no trace of them: just what a file of this version was before.
        let json = serde_json::to_string(&snapshot()).unwrap();
        for field in ["objects", "pins", "slack", "savings", "duplicates", "garbage", "explanation"]
        {
            assert!(!json.contains(&format!("\"{field}\"")), "{field}");
        }
        let back = decode(&encode(&snapshot(), &detail(1)).unwrap()).unwrap();
        assert_eq!(back.snapshot.explanation, None);
    }

    #[test]
    fn a_cut_file_yields_its_whole_chunks_and_says_so() {
        let d = detail(POOLS_PER_CHUNK + 10);
        let bytes = encode(&snapshot(), &d).unwrap();
        let mut pools_seen = std::collections::BTreeSet::new();
        for cut in 0..bytes.len() {
            match decode(&bytes[..cut]) {
                Ok(back) => {
                    assert!(back.damage.is_some(), "cut at {cut} went unnoticed");
                    assert_eq!(back.detail.pools[..], d.pools[..back.detail.pools.len()]);
                    pools_seen.insert(back.detail.pools.len());
                }
                Err(Error::NotPdsnap) => assert!(cut < MAGIC.len()),
                Err(Error::Damaged(_)) => {}
                Err(e) => panic!("cut at {cut}: {e}"),
            }
        }
        assert_eq!(pools_seen.into_iter().collect::<Vec<_>>(), [0, 8192, 8202]);
    }

    #[test]
    fn a_newer_file_is_refused_by_name() {
        let mut bytes = encode(&snapshot(), &detail(1)).unwrap();
        bytes[8] = 9;
        let said = decode(&bytes).unwrap_err().to_string();
        assert!(said.contains("format version 9"), "{said}");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = encode(&snapshot(), &detail(3)).unwrap();
        for i in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[i / 8] ^= 1 << (i % 8);
            // Bytes 8..12 are the version: an older number is not damage.
            if let Ok(back) = decode(&bad) {
                assert!(back.damage.is_some() || (8..12).contains(&(i / 8)), "bit {i}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = Vec::from(MAGIC);
            bytes.extend(VERSION.to_le_bytes());
            bytes.extend(tail);
            let _ = decode(&bytes);
        }
    }
}
