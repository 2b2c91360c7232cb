//! Files that are cut, changed, or were never written by an agent. Whatever they are: no panic, what is whole before the
//! damage comes out, and what is missing is said.

use std::process::Command;

use pydefrag_heap::Recording;
use pydefrag_trace::chunk::{BESIDE, CHUNK_HEAD, Chunk, Codec, End, FILE_HEAD, GIL, LARGEST, Tag};
use pydefrag_trace::code::Code;
use pydefrag_trace::event::{Domain, Event, FIRST_NODE, escape};
use pydefrag_trace::{Error, Trace, sum};

use crate::planted::{begin, program};
use crate::random::Random;
use crate::sums::compressed;
use crate::writer::Writer;

/// What is read of a file: its events by lane, and what they come to.
struct Seen {
    lanes: [Vec<Event>; 2],
    recording: Recording,
}

fn read(bytes: &[u8]) -> Result<Seen, Error> {
    let trace = Trace::from_bytes(bytes.to_vec())?;
    let mut lanes = [Vec::new(), Vec::new()];
    trace.events().each(&|_, _| {}, &mut |lane, event| lanes[usize::from(lane)].push(event));
    let recording = sum(&trace, &|_, _| {});
    // Whoever goes up and down the tree finds an end.
    recording.subtrees();
    (0..recording.calls.len().min(50)).for_each(|i| drop(recording.stack(i as u32)));
    Ok(Seen { lanes, recording })
}

/// What is read of a damaged file is the begin of the sound one's, and more is said of it; or nothing is damaged.
fn check(bytes: &[u8], sound: &Seen, what: &str) {
    let seen = match read(bytes) {
        Ok(seen) => seen,
        Err(Error::Damaged | Error::NotTrace | Error::Newer { .. } | Error::Older { .. }) => return,
        Err(e) => panic!("{what}: {e}"),
    };
    for (is, was) in seen.lanes.iter().zip(&sound.lanes) {
        assert!(was.starts_with(is), "{what}: these events never happened");
    }
    let is_told = |note| !sound.recording.notes.contains(note);
    assert!(
        seen.recording.notes.iter().any(is_told) || seen.recording == sound.recording,
        "{what}: nothing is said of it"
    );
}

/// The chunks of a sound file, each with its head.
fn chunks(bytes: &[u8]) -> Vec<(Chunk, Vec<u8>)> {
    let (mut at, mut out) = (FILE_HEAD, Vec::new());
    while let Some(head) = bytes.get(at..at + CHUNK_HEAD) {
        let (chunk, _) = Chunk::read(head.try_into().unwrap()).unwrap();
        let end = at + CHUNK_HEAD + chunk.stored as usize;
        out.push((chunk, bytes[at..end].to_vec()));
        at = end;
    }
    out
}

fn joined<'a>(bytes: &[u8], chunks: impl Iterator<Item = &'a (Chunk, Vec<u8>)>) -> Vec<u8> {
    let mut out = bytes[..FILE_HEAD].to_vec();
    chunks.for_each(|(_, bytes)| out.extend(bytes));
    out
}

#[test]
fn a_file_cut_anywhere_yields_what_is_whole() {
    let raw = program(1, 400).bytes;
    for bytes in [compressed(&raw), raw] {
        let sound = read(&bytes).unwrap();
        let mut before = 0;
        for cut in 0..bytes.len() {
            check(&bytes[..cut], &sound, &format!("cut at {cut}"));
            let Ok(seen) = read(&bytes[..cut]) else { continue };
            assert!(seen.recording.events.allocations >= before, "the more, the more");
            before = seen.recording.events.allocations;
        }
        assert_eq!(before, sound.recording.events.allocations);
    }
}

#[test]
fn a_larger_file_cut_somewhere_yields_what_is_whole() {
    let bytes = program(2, 100_000).bytes;
    let (sound, mut random) = (read(&bytes).unwrap(), Random(3));
    for _ in 0..100 {
        let cut = random.below(bytes.len() as u64) as usize;
        check(&bytes[..cut], &sound, &format!("cut at {cut}"));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let raw = program(4, 300).bytes;
    for bytes in [compressed(&raw), raw] {
        let sound = read(&bytes).unwrap();
        let mut bad = bytes;
        for bit in 0..bad.len() * 8 {
            bad[bit / 8] ^= 1 << (bit % 8);
            check(&bad, &sound, &format!("bit {bit}"));
            bad[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn what_is_flipped_in_a_larger_file_is_noticed_and_stays_so_when_it_is_compressed() {
    let raw = program(5, 30_000).bytes;
    let (sound, mut random) = (read(&raw).unwrap(), Random(6));
    for _ in 0..200 {
        let (mut bad, at) = (raw.clone(), random.below(raw.len() as u64) as usize);
        bad[at] ^= 1 << random.below(8);
        check(&bad, &sound, &format!("a bit of byte {at}"));
        let Ok(seen) = read(&bad) else { continue };
        let finished = read(&compressed(&bad)).unwrap();
        assert_eq!(finished.lanes, seen.lanes, "byte {at}");
        let (mut is, mut was) = (finished.recording, seen.recording);
        let notes = [std::mem::take(&mut is.notes), std::mem::take(&mut was.notes)];
        assert_eq!(is, was, "byte {at}");
        assert_eq!(notes[0].len(), notes[1].len(), "byte {at}: {notes:?}");
    }
}

#[test]
fn chunks_that_are_moved_or_lost_are_told_and_chunks_told_twice_count_once() {
    let bytes = program(7, 3000).bytes;
    let (sound, all) = (read(&bytes).unwrap(), chunks(&bytes));
    assert!(all.len() > 8);
    for i in 1..all.len() {
        let twice = joined(&bytes, all[..=i].iter().chain(&all[i..]));
        assert_eq!(read(&twice).unwrap().recording, sound.recording, "chunk {i} twice");
        let late = joined(&bytes, all.iter().chain([&all[i]]));
        assert_eq!(read(&late).unwrap().recording, sound.recording, "chunk {i} again at the end");
        let mut moved = all.clone();
        moved.swap(i, i - 1);
        check(&joined(&bytes, moved.iter()), &sound, &format!("chunk {i} moved"));
        // That the last one of its kind is lost cannot be told.
        let (tag, lane) = (all[i].0.tag, all[i].0.lane);
        if !all[i + 1..].iter().any(|(c, _)| (c.tag, c.lane) == (tag, lane)) && tag != Tag::End {
            continue;
        }
        let lost = joined(&bytes, all[..i].iter().chain(&all[i + 1..]));
        check(&lost, &sound, &format!("chunk {i} lost"));
        assert_ne!(read(&lost).unwrap().recording, sound.recording, "chunk {i} lost");
    }
}

#[test]
fn what_no_agent_wrote_is_refused_by_name() {
    let bytes = program(8, 300).bytes;
    assert!(matches!(read(b""), Err(Error::NotTrace)));
    assert!(matches!(read(b"\x89PNG\r\n\x1a\nand so on"), Err(Error::NotTrace)));
    assert!(matches!(read(&bytes[..FILE_HEAD]), Err(Error::Damaged)));
    for (version, hint) in [(9, "by a newer pydefrag"), (1, "no released pydefrag")] {
        let mut other = bytes.clone();
        other[8] = version;
        let said = read(&other).map(|_| ()).unwrap_err().to_string();
        assert!(
            said.contains(&format!("format version {version}")) && said.contains(hint),
            "{said}"
        );
    }
    // Any bytes behind the magic.
    let mut random = Random(9);
    for _ in 0..2000 {
        let mut foreign = bytes[..FILE_HEAD].to_vec();
        foreign.extend((0..random.below(300)).map(|_| random.next() as u8));
        assert!(matches!(read(&foreign), Err(Error::Damaged)));
    }
}

#[test]
fn lengths_beyond_the_file_are_damage() {
    let bytes = program(10, 1000).bytes;
    let sound = read(&bytes).unwrap();
    let (all, mut at) = (chunks(&bytes), FILE_HEAD);
    for (_, chunk) in &all {
        for (field, length) in [(8, u32::MAX), (8, LARGEST as u32), (12, u32::MAX), (12, 1), (8, 1)]
        {
            let mut bad = bytes.clone();
            bad[at + field..at + field + 4].copy_from_slice(&length.to_le_bytes());
            check(&bad, &sound, &format!("length {length} at {at}"));
        }
        at += chunk.len();
    }
    // With a checksum that fits.
    for (codec, plain) in [(Codec::Plain, 5), (Codec::Zstd, 3), (Codec::Zstd, 1 << 24)] {
        let mut writer = Writer::new(&begin(), 100);
        writer.stored(Tag::Events, GIL, 0, codec, &[7; 4], plain);
        let seen = read(&writer.finish(Some(&End::default()))).unwrap();
        assert_eq!((seen.lanes[0].len(), seen.recording.notes.len()), (0, 2));
    }
}

#[test]
fn a_begin_that_is_absurd_is_damage() {
    let deep = "[".repeat(100_000);
    let many = format!("{{\"notes\":[{}\"\"]}}", "\"\",".repeat(2 << 20));
    for json in ["", "{}", "[]", "null", "{\"pid\":-1}", "\u{fffd}", &deep, &many] {
        let mut bytes = Writer::new(&begin(), 100).bytes[..FILE_HEAD].to_vec();
        let chunk = Chunk {
            tag: Tag::Head,
            lane: 0,
            codec: Codec::Plain,
            stored: json.len() as u32,
            plain: json.len() as u32,
            number: 0,
            ns: 0,
        };
        bytes.extend(chunk.head(json.as_bytes()));
        bytes.extend(json.as_bytes());
        assert!(matches!(read(&bytes), Err(Error::Damaged)));
    }
    for every in [0, 1, u64::MAX] {
        let begin = pydefrag_trace::chunk::Begin { every: Some(every), ..begin() };
        let mut writer = Writer::new(&begin, 100);
        for n in 1..100 {
            let (address, size) = (n * 8, (n % 3) << (n % 40));
            writer.event(GIL, &Event::Alloc { address, size, node: 0, domain: Domain::Python });
        }
        let seen = read(&writer.finish(None)).unwrap();
        assert_eq!(seen.recording.events.allocations, 99);
    }
}

/// A trace of one lane with these bytes behind an allocation.
fn behind_an_allocation(lane: u16, rest: &[u8]) -> Seen {
    read(&trace_with(lane, rest)).unwrap()
}

fn trace_with(lane: u16, rest: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(&begin(), 1 << 20);
    let alloc = |address| Event::Alloc { address, size: 8, node: 0, domain: Domain::Python };
    writer.event(lane, &alloc(64));
    writer.flush(lane);
    writer.chunk(Tag::Events, lane, 1, rest);
    writer.event(1 - lane, &alloc(128));
    writer.finish(Some(&End::default()))
}

/// Events that can be, but mean nothing.
fn odd() -> [Vec<u8>; 6] {
    [
        number(escape::KEPT, &[]),
        number(escape::ALLOC, &[64, 8, u32::MAX.into(), 0]),
        number(escape::MAPPED, &[0, u64::MAX, u32::MAX.into()]),
        number(escape::FREE, &[1, 1]),
        number(escape::KEPT, &[]),
        number(escape::ENDING, &[]),
    ]
}

/// A trace that has them.
pub(crate) fn odd_trace() -> Vec<u8> {
    trace_with(GIL, &odd().concat())
}

fn number(n: u8, numbers: &[u64]) -> Vec<u8> {
    let mut room = [0; 64];
    let length = pydefrag_trace::encode::numbers(&mut room, n, numbers);
    room[..length].to_vec()
}

#[test]
fn events_that_cannot_be_end_their_lane() {
    let mark = [number(escape::MARK, &[1 << 20]), vec![b'a'; 1 << 20]].concat();
    let cut_mark = [number(escape::MARK, &[100]), vec![b'a'; 99]].concat();
    let wrong: [&[u8]; 10] = [
        &mark,
        &cut_mark,
        // Of a caller that comes later, or not at all.
        &number(escape::NODE, &[FIRST_NODE.into(), 0, 0]),
        &number(escape::NODE, &[u64::MAX, 0, 0]),
        &number(escape::NODE, &[0, 1 << 40, 0]),
        &number(escape::ALLOC, &[64, 1 << 60, 0, 0]),
        &number(escape::ALLOC, &[64, 8, 1 << 33, 0]),
        &number(escape::TIME, &[u64::MAX]),
        &number(63, &[]),
        &[0xff; 30],
    ];
    for (i, rest) in wrong.iter().enumerate() {
        let seen = behind_an_allocation(GIL, rest);
        assert_eq!((seen.lanes[0].len(), seen.lanes[1].len()), (1, 1), "{i}");
        assert_eq!(seen.recording.notes.len(), 2, "{i}");
    }
    let seen = behind_an_allocation(BESIDE, &number(escape::NODE, &[0, 0, 0]));
    assert_eq!((seen.lanes[0].len(), seen.lanes[1].len()), (1, 1));
    assert_eq!(seen.recording.notes.len(), 2);
    let odd = odd();
    for lane in [GIL, BESIDE] {
        let seen = behind_an_allocation(lane, &odd.concat());
        assert_eq!(seen.lanes[usize::from(lane)].len(), 1 + odd.len());
        assert_eq!(seen.recording.events.allocations, 3);
        let own: u64 = seen.recording.calls.iter().map(|c| c.own.retained.bytes).sum();
        assert_eq!(own, seen.recording.retained.bytes);
    }
}

#[test]
fn a_stack_that_is_told_too_late_is_none() {
    let mut writer = Writer::new(&begin(), 1000);
    let node = FIRST_NODE;
    writer.event(GIL, &Event::Alloc { address: 64, size: 8, node, domain: Domain::Python });
    writer.event(GIL, &Event::Node { node, parent: 0, code: 0, offset: 0 });
    writer.event(GIL, &Event::Alloc { address: 128, size: 8, node, domain: Domain::Python });
    writer.event(GIL, &Event::Free { address: 64, moved: false });
    let recording = read(&writer.finish(None)).unwrap().recording;
    let own = recording.calls.iter().map(|c| [c.own.peak.bytes, c.own.retained.bytes]);
    assert_eq!(own.collect::<Vec<_>>(), [[0, 0], [8, 0], [8, 8]]);
}

#[test]
fn stacks_may_be_deep_and_tables_end_early() {
    const DEPTH: u32 = 60_000;
    let mut writer = Writer::new(&begin(), 60_000);
    let mut cut = Vec::new();
    Code { name: "whole".into(), ..Code::default() }.write(&mut cut);
    Code { number: 1, name: "cut".into(), ..Code::default() }.write(&mut cut);
    writer.chunk(Tag::Code, 0, 0, &cut[..cut.len() - 1]);
    for i in 0..DEPTH {
        let parent = if i == 0 { 0 } else { FIRST_NODE + i - 1 };
        let node = FIRST_NODE + i;
        writer.event(GIL, &Event::Node { node, parent, code: i % 2, offset: 0 });
    }
    let node = FIRST_NODE + DEPTH - 1;
    writer.event(GIL, &Event::Alloc { address: 64, size: 8, node, domain: Domain::Python });
    let recording = read(&writer.finish(Some(&End::default()))).unwrap().recording;
    let way = recording.stack(recording.calls.len() as u32 - 1);
    assert_eq!(way.len(), DEPTH as usize);
    assert_eq!(recording.subtrees()[0].allocated.bytes, 8);
    assert_eq!(recording.functions[recording.calls[1].function as usize].name, "whole");
    assert!(recording.notes.iter().any(|n| n.contains("names are damaged")));
}

/// Files of a few kilobytes, of which each is as large as it can get when it is unpacked.
fn bombs() -> Vec<Vec<u8>> {
    let fill = |piece: &[u8]| piece.repeat(LARGEST / piece.len());
    let mut name = Vec::new();
    Code::default().write(&mut name);
    let mark = [number(escape::MARK, &[4096]), vec![0xff; 4096]].concat();
    let alloc = {
        let (mut model, mut out) = (pydefrag_trace::Model::new(), Vec::new());
        for n in 1..LARGEST as u64 / 3 {
            let mut room = [0; 64];
            let end =
                pydefrag_trace::encode::alloc(&mut model, &mut room, n * 16, 16, 0, Domain::Python);
            out.extend(&room[..end]);
        }
        out
    };
    let threads: Vec<u8> = (0..300_000).flat_map(|n| number(escape::THREAD, &[n])).collect();
    let pieces = [
        (Tag::Code, fill(&name)),
        (Tag::Code, vec![0; LARGEST]),
        (Tag::End, vec![b' '; LARGEST]),
        (Tag::Events, alloc),
        (Tag::Events, fill(&number(escape::NODE, &[0, 0, 0]))),
        (Tag::Events, fill(&number(escape::ENDING, &[]))),
        (Tag::Events, fill(&number(escape::ALLOC, &[u64::MAX >> 8, 1 << 40, 0, 0]))),
        (Tag::Events, fill(&mark)),
        (Tag::Events, threads),
    ];
    let packed = pieces.map(|(tag, plain)| {
        let stored = zstd::bulk::compress(&plain, 3).unwrap();
        let mut writer = Writer::new(&begin(), 100);
        for number in 0..2 {
            let length = plain.len() as u32;
            writer.stored(tag, GIL, number, Codec::Zstd, &stored, length);
        }
        // One that unpacks to more than its head says.
        writer.stored(tag, BESIDE, 0, Codec::Zstd, &stored, 100);
        writer.finish(None)
    });
    packed.into()
}

const BOMB: &str = "PDTRACE_TEST_BOMB";

#[test]
fn a_small_file_takes_little_memory_whatever_it_unpacks_to() {
    let file = tempfile::NamedTempFile::new().unwrap();
    if let Some(path) = std::env::var_os(BOMB) {
        // In a process of its own, whose peak is told.
        if let Ok(trace) = Trace::open(path.as_ref()) {
            sum(&trace, &|_, _| {});
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        println!("\n{line}");
        return;
    }
    for (i, bomb) in bombs().into_iter().enumerate() {
        std::fs::write(file.path(), &bomb).unwrap();
        let test = "damage::a_small_file_takes_little_memory_whatever_it_unpacks_to";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(BOMB, file.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(child.status.success(), "bomb {i}: {said}");
        let line = said.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let size = bomb.len() as u64 >> 10;
        eprintln!("bomb {i}: {size} KiB took {kib} KiB");
        assert!(kib < (200 << 10) + 64 * size, "bomb {i}: {size} KiB took {kib} KiB");
    }
}
