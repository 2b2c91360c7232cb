//! A trace, added up.
//!
//! Owns what was live when, and the tree of calls. What each stack held at the peak is known without a second reading: a
//! stack's live bytes are kept aside the first time that they change after a peak.
//!
//! A block that a realloc frees counts as live until its thread's next event: the new one is there then, or the old one was
//! kept. So a realloc that fails changes nothing, whatever the other lane tells meanwhile.
//!
//! In a sampled trace each sample stands for as many as it is likely not to have been: a block of `s` bytes is
//! sampled with probability `1 - exp(-s / every)`, and counts by its inverse (Horvitz and Thompson, 1952); so sums are
//! estimates without bias, and their variance is the sum of `(1 - p) / p²` times the square of what was added.

use pydefrag_heap::{
    Events, Happening, Moment, Peak, RecordedProcess, RecordedThread, Recording, RecordingMode,
    SCHEMA, SamplingError, What,
};
use rustc_hash::FxHashMap;

use crate::ahead;
use crate::calls::{Node, Sum, calls};
use crate::chunk::GIL;
use crate::event::{Event, NO_STACK};
use crate::live::{Block, Live};
use crate::reader::Trace;
use crate::symbols::{Nameless, Symbols};

/// Moments that are kept at most; then every two become one.
const MOMENTS: usize = 4096;
/// Happenings that are kept at most.
const HAPPENINGS: usize = 100_000;
/// Allocations and frees that are looked up together: what is not in the cache is waited for once.
const STEPS: usize = 64;
/// Bytes of marks that are kept at most.
const MARKS: usize = 16 << 20;
/// Ends of the program that are looked at: one is usual, and each costs as much as there are stacks.
const ENDINGS: u32 = 64;
/// Live blocks that there may be for each name and stack ([`Trace::most`]).
pub(crate) const BLOCKS: usize = 16;
/// Threads that may be amid a realloc at once; of more, the first one's is taken for done.
const MOVING: usize = 64;

/// An allocation or a free.
struct Step {
    address: u64,
    /// What was allocated there; `None` for a free.
    block: Option<Block>,
    lane: u16,
    moved: bool,
}

struct Summing {
    every: Option<f64>,
    nodes: Vec<Node>,
    live: Live,
    total: Sum,
    allocated: Sum,
    variance: [f64; 3],
    peaks: u64,
    peak: Sum,
    peak_ns: u64,
    peak_rss: Option<u64>,
    events: Events,
    ns: u64,
    rss: Option<u64>,
    timeline: Timeline,
    happenings: Vec<Happening>,
    /// Bytes of marks that may still be kept.
    marks: usize,
    unsaid: u64,
    threads: Vec<(u32, Sum)>,
    thread_of: FxHashMap<u32, usize>,
    thread: [usize; 2],
    /// What reallocs have freed, of which it is not known yet whether they failed.
    moved: Vec<Moved>,
    /// What was live when the program came to its end.
    at_end: Option<AtEnd>,
    endings: u32,
    twice: u64,
    /// Stacks and threads that there may be; and how many more there were.
    most: usize,
    left_out: u64,
}

/// A block that a realloc has freed.
struct Moved {
    /// The lane, and the thread's place in `threads`.
    who: (u16, usize),
    address: u64,
    /// `None` where it was allocated before recording began.
    block: Option<Block>,
}

/// What was live when the program came to its end, before the interpreter took itself apart.
struct AtEnd {
    total: Sum,
    nodes: Vec<Sum>,
    variance: f64,
}

/// Which variance.
const ALLOCATED: usize = 0;
const LIVE: usize = 1;
const PEAK: usize = 2;

/// Reads a trace to its end. `progress` hears how many stored bytes of how many are done.
pub fn sum(trace: &Trace, progress: &dyn Fn(u64, u64)) -> Recording {
    sum_named(trace, &mut Nameless, progress)
}

/// The same, with native functions named by `symbols`.
pub fn sum_named(
    trace: &Trace,
    symbols: &mut dyn Symbols,
    progress: &dyn Fn(u64, u64),
) -> Recording {
    let mut summing = Summing {
        every: trace.begin.every.filter(|e| *e > 0).map(|e| e as f64),
        nodes: vec![Node::default(); 2],
        live: Live::new(trace.most().saturating_mul(BLOCKS)),
        total: Sum::default(),
        allocated: Sum::default(),
        variance: [0.0; 3],
        peaks: 1,
        peak: Sum::default(),
        peak_ns: 0,
        peak_rss: None,
        events: Events::default(),
        ns: 0,
        rss: None,
        timeline: Timeline::default(),
        happenings: Vec::new(),
        marks: MARKS,
        unsaid: 0,
        threads: Vec::new(),
        thread_of: FxHashMap::default(),
        thread: [usize::MAX; 2],
        moved: Vec::new(),
        at_end: None,
        endings: 0,
        twice: 0,
        most: trace.most(),
        left_out: 0,
    };
    let mut steps = Vec::with_capacity(STEPS);
    let damage = ahead::each(trace, progress, &mut |lane, event| {
        match event {
            Event::Alloc { address, size, node, domain } => {
                let block = Some(Block { size, node, domain });
                steps.push(Step { address, block, lane, moved: false });
            }
            Event::Free { address, moved } => {
                steps.push(Step { address, block: None, lane, moved });
            }
            event => {
                summing.run(&mut steps);
                summing.rare(lane, event);
            }
        }
        if steps.len() == STEPS {
            summing.run(&mut steps);
        }
    });
    summing.run(&mut steps);
    let mut notes = trace.begin.notes.clone();
    notes.extend(trace.damage.iter().cloned().chain(damage));
    match &trace.end {
        None => notes.push(
            "the program was killed, or still runs: what happened last is not in the trace".into(),
        ),
        Some(end) => {
            notes.extend(
                end.why.iter().map(|why| format!("recording ended before the program: {why}")),
            );
            notes.extend(end.notes.iter().cloned());
        }
    }
    summing.recording(trace, symbols, notes)
}

impl Summing {
    /// How many a block of this size stands for, and `(1 - p) / p²`.
    #[inline(always)]
    fn weight(&self, size: u64) -> (f64, f64) {
        match self.every {
            None => (1.0, 0.0),
            Some(every) => {
                let p = -(-(size.max(1) as f64) / every).exp_m1();
                (1.0 / p, (1.0 - p) / (p * p))
            }
        }
    }

    /// Takes steps that wait, in their order.
    fn run(&mut self, steps: &mut Vec<Step>) {
        self.live.touch(steps.iter().map(|step| step.address));
        for Step { address, block, lane, moved } in steps.drain(..) {
            let is_realloc = !self.moved.is_empty() && self.settle(lane);
            if let Some(block) = block {
                self.events.reallocations += u64::from(is_realloc);
                self.alloc(lane, address, block);
                continue;
            }
            let block = self.live.remove(address);
            match moved {
                true => self.moving(lane, address, block),
                false => self.freed(block),
            }
        }
    }

    #[inline(always)]
    fn alloc(&mut self, lane: u16, address: u64, mut block: Block) {
        if block.node as usize >= self.nodes.len() {
            // No stack had told this number: a damaged file's. It stays so for the block, whatever is told later.
            block.node = NO_STACK;
        }
        let (weight, variance) = self.weight(block.size);
        let bytes = weight * block.size as f64;
        self.events.allocations += 1;
        if let Some(before) = self.live.insert(address, block) {
            // Its free was not seen: made before recording began again, or lost.
            self.twice += 1;
            self.gone(before);
        }
        self.allocated.count += weight;
        self.allocated.bytes += bytes;
        self.total.count += weight;
        self.total.bytes += bytes;
        if let Some((_, sum)) = self.threads.get_mut(self.thread[usize::from(lane != GIL)]) {
            sum.count += weight;
            sum.bytes += bytes;
        }
        if self.every.is_some() {
            let squared = variance * (block.size as f64).powi(2);
            self.variance[ALLOCATED] += squared;
            self.variance[LIVE] += squared;
        }
        let peaks = self.peaks;
        let node = self.node(block.node);
        if node.since != peaks {
            (node.peak, node.since) = (node.live, peaks);
        }
        node.allocated.count += weight;
        node.allocated.bytes += bytes;
        node.live.count += weight;
        node.live.bytes += bytes;
        if self.total.bytes > self.peak.bytes {
            self.peak = self.total;
            self.peaks += 1;
            self.peak_ns = self.ns;
            self.peak_rss = self.rss;
            self.variance[PEAK] = self.variance[LIVE];
        }
    }

    #[inline(always)]
    fn gone(&mut self, block: Block) {
        let (weight, variance) = self.weight(block.size);
        let bytes = weight * block.size as f64;
        self.total.count -= weight;
        self.total.bytes -= bytes;
        if self.every.is_some() {
            self.variance[LIVE] -= variance * (block.size as f64).powi(2);
        }
        let peaks = self.peaks;
        let node = self.node(block.node);
        if node.since != peaks {
            (node.peak, node.since) = (node.live, peaks);
        }
        node.live.count -= weight;
        node.live.bytes -= bytes;
    }

    #[inline(always)]
    fn freed(&mut self, block: Option<Block>) {
        match block {
            Some(block) => {
                self.events.frees += 1;
                self.gone(block);
            }
            None => self.events.frees_of_before += 1,
        }
    }

    fn who(&self, lane: u16) -> (u16, usize) {
        (lane, self.thread[usize::from(lane != GIL)])
    }

    /// A realloc has freed a block, if it does not fail.
    #[inline(never)]
    fn moving(&mut self, lane: u16, address: u64, block: Option<Block>) {
        if self.moved.len() >= MOVING {
            let first = self.moved.remove(0);
            self.freed(first.block);
        }
        self.moved.push(Moved { who: self.who(lane), address, block });
    }

    /// What a realloc of the thread has freed is gone; returns whether there was one.
    #[inline(never)]
    fn settle(&mut self, lane: u16) -> bool {
        let moved = self.take_moved(lane);
        let is_one = moved.is_some();
        if let Some(moved) = moved {
            self.freed(moved.block);
        }
        is_one
    }

    fn take_moved(&mut self, lane: u16) -> Option<Moved> {
        let who = self.who(lane);
        let i = self.moved.iter().position(|moved| moved.who == who)?;
        Some(self.moved.remove(i))
    }

    #[inline(always)]
    fn node(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    #[cold]
    fn rare(&mut self, lane: u16, event: Event) {
        let what = match event {
            Event::Node { parent, code, offset, .. } => {
                match self.nodes.len() < self.most {
                    true => self.nodes.push(Node { parent, code, offset, ..Node::default() }),
                    false => self.left_out += 1,
                }
                return;
            }
            Event::Thread(tid) => {
                let i = match self.thread_of.get(&tid) {
                    Some(i) => *i,
                    None if self.threads.len() >= self.most => {
                        self.left_out += 1;
                        usize::MAX
                    }
                    None => {
                        self.thread_of.insert(tid, self.threads.len());
                        self.threads.push((tid, Sum::default()));
                        self.threads.len() - 1
                    }
                };
                self.thread[usize::from(lane != GIL)] = i;
                return;
            }
            Event::Time(ns) => {
                self.ns = self.ns.max(ns);
                self.timeline.push(self.ns, self.total, self.rss);
                return;
            }
            Event::Rss(bytes) => {
                self.rss = Some(bytes);
                return;
            }
            Event::Kept => {
                // It is where it was, and was live all the time.
                if let Some(Moved { address, block: Some(block), .. }) = self.take_moved(lane)
                    && let Some(before) = self.live.insert(address, block)
                {
                    self.twice += 1;
                    self.gone(before);
                }
                return;
            }
            Event::Ending => {
                self.endings += 1;
                if self.endings > ENDINGS {
                    return;
                }
                self.at_end = Some(AtEnd {
                    total: self.total,
                    nodes: self.nodes.iter().map(|n| n.live).collect(),
                    variance: self.variance[LIVE],
                });
                return;
            }
            Event::Stamp(_) | Event::Alloc { .. } | Event::Free { .. } => return,
            Event::GcStart(generation) => What::GcStart { generation },
            Event::GcStop(generation, collected, uncollectable) => {
                What::GcStop { generation, collected, uncollectable }
            }
            Event::ArenaBorn(address, bytes) => What::ArenaBorn { address, bytes },
            Event::ArenaDied(address, bytes) => What::ArenaDied { address, bytes },
            Event::Mapped(address, bytes, call) => What::Mapped { address, bytes, call },
            Event::Unmapped(address, bytes) => What::Unmapped { address, bytes },
            Event::Forked(child) => What::Forked { child },
            Event::Mark(text) => What::Mark { text },
        };
        let text = if let What::Mark { text } = &what { text.len() } else { 0 };
        if self.happenings.len() < HAPPENINGS && text <= self.marks {
            self.marks -= text;
            self.happenings.push(Happening { at_ns: self.ns, what });
        } else {
            self.unsaid += 1;
        }
    }

    fn recording(
        mut self,
        trace: &Trace,
        symbols: &mut dyn Symbols,
        mut notes: Vec<String>,
    ) -> Recording {
        for moved in std::mem::take(&mut self.moved) {
            self.freed(moved.block);
        }
        for node in &mut self.nodes {
            if node.since != self.peaks {
                node.peak = node.live;
            }
        }
        let (mut retained, mut variance) = (self.total, self.variance[LIVE]);
        if let Some(at_end) = &self.at_end {
            (retained, variance) = (at_end.total, at_end.variance);
            for (i, node) in self.nodes.iter_mut().enumerate() {
                node.live = at_end.nodes.get(i).copied().unwrap_or_default();
            }
        }
        self.variance[LIVE] = variance;
        if self.unsaid > 0 {
            notes.push(format!("{} more happenings were left out", self.unsaid));
        }
        if self.twice > 0 {
            notes.push(format!(
                "{} blocks were handed out again though no free of theirs was seen",
                self.twice
            ));
        }
        if self.left_out + self.live.left_out > 0 {
            notes.push(format!(
                "the file tells more than one of its size can: {} stacks or threads are not told apart, and {} blocks \
                 count as never freed",
                self.left_out, self.live.left_out
            ));
        }
        self.timeline.push(self.ns, self.total, self.rss);
        let (functions, calls, call_of) = calls(&self.nodes, trace, symbols);
        for happening in &mut self.happenings {
            if let What::Mapped { call, .. } = &mut happening.what {
                *call = call_of.get(*call as usize).copied().unwrap_or(0);
            }
        }
        let error = self.every.map(|_| {
            let of = |i: usize| self.variance[i].max(0.0).sqrt().round() as u64;
            SamplingError { allocated: of(ALLOCATED), peak: of(PEAK), retained: of(LIVE) }
        });
        let begin = &trace.begin;
        Recording {
            schema: SCHEMA,
            tool: begin.tool.clone(),
            started_at: begin.started_at,
            duration_ns: self.ns,
            process: RecordedProcess {
                pid: begin.pid,
                parent: begin.parent,
                command: begin.command.clone(),
                python: begin.python.clone(),
            },
            mode: begin.every.map_or(RecordingMode::Full, |every| RecordingMode::Sampled { every }),
            events: self.events,
            allocated: self.allocated.amount(),
            peak: Peak { live: self.peak.amount(), at_ns: self.peak_ns, rss: self.peak_rss },
            retained: retained.amount(),
            error,
            functions,
            calls,
            timeline: self.timeline.moments,
            happenings: self.happenings,
            threads: self
                .threads
                .iter()
                .map(|(tid, sum)| RecordedThread { tid: *tid, allocated: sum.amount() })
                .collect(),
            notes,
        }
    }
}

/// Live memory over time.
#[derive(Default)]
struct Timeline {
    moments: Vec<Moment>,
    /// Moments that become one.
    stride: usize,
    taken: usize,
}

impl Timeline {
    fn push(&mut self, at_ns: u64, live: Sum, rss: Option<u64>) {
        let moment = Moment { at_ns, live: live.amount(), rss };
        self.stride = self.stride.max(1);
        if self.taken.is_multiple_of(self.stride) {
            if self.moments.len() >= MOMENTS {
                self.moments = self.moments.chunks(2).map(highest).collect();
                self.stride *= 2;
            }
            self.moments.push(moment);
        } else if let Some(last) = self.moments.last_mut() {
            *last = highest(&[*last, moment]);
        }
        self.taken += 1;
    }
}

/// Of some moments that with the most live bytes.
fn highest(moments: &[Moment]) -> Moment {
    moments.iter().copied().max_by_key(|m| m.live.bytes).unwrap_or_default()
}
