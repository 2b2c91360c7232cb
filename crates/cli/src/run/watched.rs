//! Light looks at one process, again and again.
//!
//! Owns what is remembered between two looks: which Python is in it, until it becomes another program
//! (exec). Does not own when a look is taken.

use std::time::{Duration, Instant};

use pydefrag_heap::Memory;
use pydefrag_image::{Identity, Image, ProcessFacts};
use pydefrag_walk::{Refusal, Runtime, light, memory};

/// How long a process that is no Python is taken for none; it doubles each time.
const AT_FIRST: Duration = Duration::from_millis(10);
const AT_LAST: Duration = Duration::from_secs(1);

/// A process that is looked at lightly.
pub(crate) struct Watched {
    pub(crate) pid: i32,
    /// Which program it was when it was last looked at.
    identity: Option<Identity>,
    runtime: Option<Runtime>,
    /// Whether there is one, be it one that can be read or not.
    python: bool,
    /// When to search it for a Python again.
    again: Option<Instant>,
    wait: Duration,
}

/// What a light look shows.
pub(crate) struct Seen {
    pub(crate) facts: ProcessFacts,
    pub(crate) memory: Memory,
    /// Free bytes in its heaps; `None` where they cannot be told.
    pub(crate) free: Option<u64>,
    /// Whether there is a Python in it, be it one that can be read or not.
    pub(crate) python: bool,
}

impl Watched {
    pub(crate) fn new(pid: i32) -> Watched {
        let wait = AT_FIRST;
        Watched { pid, identity: None, runtime: None, python: false, again: None, wait }
    }

    /// Whether a look might tell more than the last one did: not of what is no Python, for a while.
    pub(crate) fn due(&self, now: Instant) -> bool {
        self.runtime.is_some() || self.again.is_none_or(|t| now >= t)
    }

    /// Looks; `None` when it has ended, or cannot be looked at.
    pub(crate) fn look(&mut self) -> Option<Seen> {
        let identity = Identity::of(self.pid)?;
        if self.identity.as_ref() != Some(&identity) {
            *self = Watched { identity: Some(identity), ..Watched::new(self.pid) };
        }
        let facts = ProcessFacts::of(self.pid).ok()?;
        let image = Image::open(&facts).ok()?;
        let (python, free) = self.free(&image);
        let memory = memory(&facts, &image.mappings);
        // What was read while it became another program means nothing.
        (Identity::of(self.pid) == self.identity).then_some(Seen { facts, memory, free, python })
    }

    /// Whether there is a Python in it, and the free bytes of its heaps.
    fn free(&mut self, image: &Image) -> (bool, Option<u64>) {
        if self.runtime.is_none() && self.again.is_none_or(|t| Instant::now() >= t) {
            match Runtime::find(image) {
                Ok(runtime) => self.runtime = Some(runtime),
                Err(e) => {
                    self.again = Some(Instant::now() + self.wait);
                    self.wait = (self.wait * 2).min(AT_LAST);
                    self.python = !matches!(e, Refusal::NotPython { .. });
                }
            }
        }
        match &self.runtime {
            Some(runtime) => (true, light(image, runtime).ok().map(|l| l.free)),
            None => (self.python, None),
        }
    }
}
