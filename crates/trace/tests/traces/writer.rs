//! A raw trace, written as the agent writes one: two lanes, a chunk where a buffer is full, code objects beside them.

use pydefrag_trace::Model;
use pydefrag_trace::chunk::{BESIDE, Begin, Chunk, Codec, End, GIL, LANES, Tag, file_head};
use pydefrag_trace::code::Code;
use pydefrag_trace::encode::{self, ROOM};
use pydefrag_trace::event::{Event, escape};

#[derive(Default)]
struct Lane {
    model: Model,
    buffer: Vec<u8>,
    chunks: u32,
    /// Allocations and frees.
    counted: u64,
    stamp: u64,
    ns: u64,
}

pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    lanes: [Lane; LANES],
    codes: u32,
    /// Bytes of events in a chunk.
    full: usize,
}

impl Writer {
    pub(crate) fn new(begin: &Begin, full: usize) -> Writer {
        let mut writer =
            Writer { bytes: file_head().to_vec(), lanes: Default::default(), codes: 0, full };
        writer.chunk(Tag::Head, 0, 0, &serde_json::to_vec(begin).expect("plain data"));
        writer
    }

    /// Any bytes as a sound chunk.
    pub(crate) fn chunk(&mut self, tag: Tag, lane: u16, number: u32, plain: &[u8]) {
        self.stored(tag, lane, number, Codec::Plain, plain, plain.len() as u32);
    }

    /// The same, of which the head says that it holds `plain` bytes in that codec.
    pub(crate) fn stored(
        &mut self,
        tag: Tag,
        lane: u16,
        number: u32,
        codec: Codec,
        stored: &[u8],
        plain: u32,
    ) {
        let chunk = Chunk { tag, lane, codec, stored: stored.len() as u32, plain, number, ns: 0 };
        self.bytes.extend(chunk.head(stored));
        self.bytes.extend(stored);
    }

    pub(crate) fn codes(&mut self, codes: &[Code]) {
        let mut plain = Vec::new();
        codes.iter().for_each(|code| code.write(&mut plain));
        self.chunk(Tag::Code, 0, self.codes, &plain);
        self.codes += 1;
    }

    /// Writes an event; in the lane beside, how many of the GIL's came before it.
    pub(crate) fn event(&mut self, number: u16, event: &Event) {
        let counts = matches!(event, Event::Alloc { .. } | Event::Free { .. });
        let before = self.lanes[usize::from(GIL)].counted;
        let lane = &mut self.lanes[usize::from(number)];
        if number == BESIDE && lane.stamp != before && !matches!(event, Event::Thread(_)) {
            lane.put(escape::STAMP, &[before - lane.stamp]);
            lane.stamp = before;
        }
        lane.write(event);
        lane.counted += u64::from(counts);
        if lane.buffer.len() >= self.full {
            self.flush(number);
        }
    }

    pub(crate) fn flush(&mut self, number: u16) {
        let lane = &mut self.lanes[usize::from(number)];
        let plain = std::mem::take(&mut lane.buffer);
        let chunks = lane.chunks;
        lane.chunks += 1;
        self.chunk(Tag::Events, number, chunks, &plain);
    }

    pub(crate) fn finish(mut self, end: Option<&End>) -> Vec<u8> {
        for lane in [GIL, BESIDE] {
            if !self.lanes[usize::from(lane)].buffer.is_empty() {
                self.flush(lane);
            }
        }
        if let Some(end) = end {
            self.chunk(Tag::End, 0, 0, &serde_json::to_vec(end).expect("plain data"));
        }
        self.bytes
    }
}

impl Lane {
    fn put(&mut self, number: u8, numbers: &[u64]) {
        let mut room = [0; ROOM];
        let length = encode::numbers(&mut room, number, numbers);
        self.buffer.extend(&room[..length]);
    }

    fn write(&mut self, event: &Event) {
        let mut room = [0; ROOM];
        let (number, numbers): (u8, &[u64]) = match *event {
            Event::Alloc { address, size, node, domain } => {
                let n = encode::alloc(&mut self.model, &mut room, address, size, node, domain);
                return self.buffer.extend(&room[..n]);
            }
            Event::Free { address, moved } => {
                let n = encode::free(&mut self.model, &mut room, address, moved);
                return self.buffer.extend(&room[..n]);
            }
            Event::Mark(ref text) => return self.buffer.extend(encode::mark(text)),
            Event::Node { parent, code, offset, .. } => {
                (escape::NODE, &[parent.into(), code.into(), offset.into()])
            }
            Event::Thread(tid) => (escape::THREAD, &[tid.into()]),
            Event::Time(ns) => {
                let passed = (ns - self.ns) / 1000;
                self.ns = ns;
                (escape::TIME, &[passed])
            }
            Event::Stamp(_) => unreachable!("the writer's own"),
            Event::GcStart(generation) => (escape::GC_START, &[generation.into()]),
            Event::GcStop(generation, collected, uncollectable) => {
                (escape::GC_STOP, &[generation.into(), collected, uncollectable])
            }
            Event::ArenaBorn(address, bytes) => (escape::ARENA_BORN, &[address, bytes]),
            Event::ArenaDied(address, bytes) => (escape::ARENA_DIED, &[address, bytes]),
            Event::Rss(bytes) => (escape::RSS, &[bytes / 4096]),
            Event::Mapped(address, bytes, node) => (escape::MAPPED, &[address, bytes, node.into()]),
            Event::Unmapped(address, bytes) => (escape::UNMAPPED, &[address, bytes]),
            Event::Forked(child) => (escape::FORKED, &[child.into()]),
            Event::Kept => (escape::KEPT, &[]),
            Event::Ending => (escape::ENDING, &[]),
        };
        self.put(number, numbers);
    }
}
