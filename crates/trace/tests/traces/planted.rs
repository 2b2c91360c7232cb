//! A made-up program: what happens in it, in order, and the raw trace that an agent would have written of it.

use pydefrag_trace::chunk::{BESIDE, Begin, End, GIL};
use pydefrag_trace::code::{Code, Table};
use pydefrag_trace::event::{Domain, Event, FIRST_NODE, NO_GIL, NO_STACK};

use crate::random::Random;
use crate::writer::Writer;

/// Bytes of events in a chunk: small, so that there are many.
const FULL: usize = 1500;
const CODES: u32 = 12;

/// What happened, and its trace.
pub(crate) struct Planted {
    /// In the order in which a reader can know it: what was beside the GIL comes right before the GIL's next allocation or
    /// free.
    pub(crate) events: Vec<(u16, Event)>,
    pub(crate) codes: Vec<Code>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn begin() -> Begin {
    Begin {
        tool: "planted".into(),
        started_at: 1.5e9,
        pid: 42,
        command: "python planted.py".into(),
        python: "3.13.0".into(),
        notes: vec!["a note".into()],
        ..Begin::default()
    }
}

/// Code number `number`; two bytes of its instructions are a line.
pub(crate) fn code(number: u32) -> Code {
    Code {
        number,
        // Two have the same name: they are one function.
        name: format!("f{}", number / 2 * 2),
        file: format!("m{}.py", number % 3 / 2),
        first_line: 100 * (number / 2),
        kind: Table::Lnotab,
        table: [2, 1].repeat(40),
    }
}

/// A program of about so many events.
pub(crate) fn program(seed: u64, events: usize) -> Planted {
    let mut program = Program {
        random: Random(seed),
        writer: Writer::new(&begin(), FULL),
        events: Vec::new(),
        place: 0,
        codes: (0..CODES).map(code).collect(),
        live: Vec::new(),
        free: Vec::new(),
        top: 0x7f12_0000_0000,
        nodes: 0,
        ns: 0,
    };
    let (first, second) = program.codes.split_at(CODES as usize / 2);
    program.writer.codes(first);
    program.writer.codes(second);
    program.tell(GIL, Event::Thread(7));
    let mut is_over = false;
    while program.events.len() < events {
        program.step();
        if !is_over && program.events.len() * 10 > events * 9 {
            is_over = true;
            program.tell(GIL, Event::Ending);
        }
    }
    let Program { writer, events, codes, .. } = program;
    let end = End { notes: vec!["another note".into()], ..End::default() };
    Planted { events, codes, bytes: writer.finish(Some(&end)) }
}

struct Program {
    random: Random,
    writer: Writer,
    events: Vec<(u16, Event)>,
    /// Where the GIL's next event belongs, if it is neither an allocation nor a free.
    place: usize,
    codes: Vec<Code>,
    live: Vec<u64>,
    free: Vec<u64>,
    top: u64,
    nodes: u32,
    ns: u64,
}

impl Program {
    fn tell(&mut self, lane: u16, event: Event) {
        self.writer.event(lane, &event);
        let counts = matches!(event, Event::Alloc { .. } | Event::Free { .. });
        if lane == GIL && !counts {
            self.events.insert(self.place, (lane, event));
            self.place += 1;
            return;
        }
        self.events.push((lane, event));
        if lane == GIL {
            self.place = self.events.len();
        }
    }

    fn step(&mut self) {
        let lane = if self.random.once_in(5) { BESIDE } else { GIL };
        match self.random.below(100) {
            0..45 => self.alloc(lane),
            45..80 => self.free(lane),
            80..88 => self.realloc(lane),
            88..91 if self.nodes < 60 => {
                let parent = match self.nodes {
                    0 => NO_STACK,
                    n if self.random.once_in(2) => FIRST_NODE + n - 1,
                    n => FIRST_NODE + self.random.below(n.into()) as u32,
                };
                let node = FIRST_NODE + self.nodes;
                self.nodes += 1;
                // One code in a while has no name in the trace.
                let code = self.random.below(u64::from(CODES) + 1) as u32;
                let offset = self.random.below(40) as u32;
                self.tell(GIL, Event::Node { node, parent, code, offset });
            }
            91..94 => {
                let tid = self.random.below(3) as u32 + u32::from(lane) * 2;
                self.tell(lane, Event::Thread(tid));
            }
            94 => {
                let address = 0x5500_0000_0000 + self.random.below(1 << 20) * 16;
                let moved = self.random.once_in(3);
                self.tell(lane, Event::Free { address, moved });
                if moved {
                    self.alloc(lane);
                }
            }
            95..98 => {
                self.ns += 1000 * (1 + self.random.below(500));
                self.tell(GIL, Event::Time(self.ns));
                let pages = 1000 + self.random.below(1000);
                self.tell(GIL, Event::Rss(pages * 4096));
            }
            98 => self.other(),
            _ => {}
        }
    }

    fn other(&mut self) {
        let address = self.random.next();
        let node = self.random.below(u64::from(self.nodes) + 4) as u32;
        let event = match self.random.below(8) {
            0 => Event::GcStart(2),
            1 => Event::GcStop(2, 1 << 40, 0),
            2 => Event::ArenaBorn(address, 1 << 20),
            3 => Event::ArenaDied(address, 1 << 20),
            4 => Event::Mapped(address, 8192, node),
            5 => Event::Unmapped(address, 8192),
            6 => Event::Forked(99),
            _ => Event::Mark(format!("phase {address} öäü")),
        };
        self.tell(GIL, event);
    }

    /// Few sizes, so that the same sum comes again; and some that no word can tell.
    fn size(&mut self) -> u64 {
        match self.random.below(40) {
            0 => 5 << 32,
            1 => 1 << 31,
            2 => 0,
            3..8 => self.random.below(100_000),
            _ => [32, 48, 64, 512][self.random.below(4) as usize],
        }
    }

    fn alloc(&mut self, lane: u16) {
        let address = match self.free.pop() {
            Some(address) if self.random.once_in(2) => address,
            _ => {
                self.top += 16 * (1 + self.random.below(40));
                // Some addresses are odd.
                self.top + u64::from(self.random.once_in(30))
            }
        };
        self.alloc_at(lane, address);
    }

    fn alloc_at(&mut self, lane: u16, address: u64) {
        let nodes = u64::from(FIRST_NODE + self.nodes);
        let node = match lane {
            GIL if self.random.once_in(20) => NO_STACK,
            GIL => self.random.below(nodes) as u32,
            _ => NO_GIL,
        };
        let size = self.size();
        let domain = if self.random.once_in(3) { Domain::Malloc } else { Domain::Python };
        self.live.push(address);
        self.tell(lane, Event::Alloc { address, size, node, domain });
    }

    fn some(&mut self) -> Option<u64> {
        let n = self.live.len() as u64;
        // Mostly one of the newest.
        let among = if self.random.once_in(4) { n } else { n.min(8) };
        let back = self.random.below(among.max(1));
        (n > 0).then(|| self.live.remove((n - 1 - back) as usize))
    }

    fn free(&mut self, lane: u16) {
        if let Some(address) = self.some() {
            self.free.push(address);
            self.tell(lane, Event::Free { address, moved: false });
        }
    }

    fn realloc(&mut self, lane: u16) {
        let Some(address) = self.some() else { return };
        self.tell(lane, Event::Free { address, moved: true });
        let is_kept = self.random.once_in(4);
        // Meanwhile the other lane goes on, and may be given the block that was freed.
        if lane == GIL && self.random.once_in(3) {
            match is_kept {
                true => self.alloc(BESIDE),
                false if self.random.once_in(2) => {
                    self.alloc_at(BESIDE, address);
                    self.alloc(lane);
                    return;
                }
                false => self.free(BESIDE),
            }
        }
        if is_kept {
            self.live.push(address);
            self.tell(lane, Event::Kept);
            return;
        }
        self.free.push(address);
        self.alloc(lane);
    }
}
