//! The events of a trace in the order in which they happened.
//!
//! Owns the merging of the lanes. The GIL's lane is in order by itself; the lane beside it says before which event of
//! the GIL's each of its own belongs. Both are read chunk by chunk, so that a trace of any length takes little memory.
//!
//! Invariant: a damaged or missing chunk ends its lane; the other one goes on no further than that.

use crate::chunk::{BESIDE, GIL};
use crate::decode::Decoder;
use crate::event::Event;
use crate::reader::{self, Place, Trace};

/// Bytes behind a chunk's events, so that the last can be read as a whole word.
const PADDING: usize = 8;

struct Lane<'a> {
    places: std::slice::Iter<'a, Place>,
    decoder: Decoder,
    stored: Vec<u8>,
    bytes: Vec<u8>,
    at: usize,
    end: usize,
    /// A chunk is missing behind the last.
    is_cut: bool,
    /// A chunk is damaged: nothing of it, and nothing behind it, is read.
    is_broken: bool,
}

impl<'a> Lane<'a> {
    fn new(lane: &'a reader::Lane) -> Lane<'a> {
        Lane {
            places: lane.places.iter(),
            decoder: Decoder::default(),
            stored: Vec::new(),
            bytes: Vec::new(),
            at: 0,
            end: 0,
            is_cut: lane.is_cut,
            is_broken: false,
        }
    }

    /// The next event. Another chunk is loaded where one ends; `None` at the end of the lane.
    #[inline(always)]
    fn next(&mut self, trace: &Trace, done: &mut u64) -> Option<Event> {
        if self.at >= self.end {
            self.load(trace, done)?;
        }
        match self.decoder.next(&self.bytes, &mut self.at, self.end) {
            Ok(event) => Some(event),
            Err(_) => {
                self.broken();
                None
            }
        }
    }

    /// Loads the next chunk that holds anything.
    #[cold]
    fn load(&mut self, trace: &Trace, done: &mut u64) -> Option<()> {
        while self.at >= self.end && !self.is_broken {
            let place = self.places.next()?;
            if !trace.unpack(place, &mut self.stored, &mut self.bytes) {
                self.broken();
                break;
            }
            *done += u64::from(place.chunk.stored);
            (self.at, self.end) = (0, self.bytes.len());
            self.bytes.resize(self.end + PADDING, 0);
        }
        (!self.is_broken).then_some(())
    }

    fn broken(&mut self) {
        self.is_broken = true;
        (self.at, self.end) = (0, 0);
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

impl<'a> Events<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Events<'a> {
        Events {
            gil: Lane::new(&trace.lanes[usize::from(GIL)]),
            beside: Lane::new(&trace.lanes[usize::from(BESIDE)]),
            trace,
            done: 0,
            damage: Vec::new(),
        }
    }

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
        if self.gil.is_broken {
            self.damage.push(
                "a chunk of events is damaged: what happened from there on was left out".into(),
            );
        }
        // Where the GIL's lane is not whole, as far as it was told.
        let is_whole = !self.gil.is_broken && !self.gil.is_cut;
        while due.is_some_and(|due| is_whole || due <= count) {
            due = self.beside(sink);
        }
        if self.beside.is_broken {
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
                // Stacks are the GIL's, and their numbers count in its lane.
                Event::Node { .. } => {
                    self.beside.broken();
                    return None;
                }
                event => sink(BESIDE, event),
            }
        }
    }

    /// What was found damaged, as sentences; known when all is read.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }
}
