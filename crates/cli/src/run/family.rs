//! The processes that the program starts, directly or not.
//!
//! Owns which are known, what was seen of each, and what finding them may cost. A process that lives
//! shorter than a round, or whose parent does before the round, is not seen; save those that still run at
//! the end and hold the hook's socket, as a daemon may.
//!
//! Invariant: at most [`MOST`] are kept, whatever the program does; the others are counted.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use pydefrag_heap::Child;
use pydefrag_image::{Glance, ProcessFacts, children_of, descriptor_of};

use super::budget::{BEGINNING, processor_time};
use super::watched::{Seen, Watched};

const MOST: usize = 256;
/// Of those that are counted only, as many are told apart; no more are counted.
const MOST_COUNTED: usize = 1 << 16;
/// Between two rounds.
const ROUND: Duration = Duration::from_millis(100);
/// A round takes at most one part in so many of a core, in the beginning and later.
const SHARE: (f64, f64) = (50.0, 200.0);

/// A process is the same if it was started at the same time.
pub(crate) type Key = (i32, u64);

struct Known {
    child: Child,
    watched: Watched,
    ended: bool,
    looked: Option<Instant>,
}

/// The program's descendants.
pub(crate) struct Family {
    program: i32,
    start: Instant,
    next: Instant,
    known: HashMap<Key, Known>,
    counted: HashSet<Key>,
    left_out: u64,
}

impl Family {
    pub(crate) fn new(program: i32, start: Instant) -> Family {
        Family {
            program,
            start,
            next: start + ROUND,
            known: HashMap::new(),
            counted: HashSet::new(),
            left_out: 0,
        }
    }

    /// Looks who is there, if it is time.
    pub(crate) fn round(&mut self, now: Instant) {
        if now >= self.next {
            let before = processor_time();
            self.look();
            let share = if now - self.start < BEGINNING { SHARE.0 } else { SHARE.1 };
            let cost = Duration::from_secs_f64((processor_time() - before).max(0.0) * share);
            self.next = now + cost.max(ROUND);
        }
    }

    /// Looks who is there.
    pub(crate) fn look(&mut self) {
        let mut todo = vec![self.program];
        // Those whose parents have ended are nobody's children, but were seen before.
        todo.extend(self.known.iter().filter(|(_, k)| !k.ended).map(|((pid, _), _)| *pid));
        let mut seen = HashSet::new();
        let mut all = None;
        while let Some(pid) = todo.pop() {
            if !seen.insert(pid) {
                continue;
            }
            let Some(glance) = Glance::of(pid) else { continue };
            if pid != self.program {
                self.note(&glance);
            }
            match children_of(pid) {
                Some(children) => todo.extend(children),
                None => {
                    let all = all.get_or_insert_with(Glance::all);
                    todo.extend(all.iter().filter(|g| g.parent == pid).map(|g| g.pid));
                }
            }
        }
        for (key, known) in &mut self.known {
            known.ended |=
                !seen.contains(&key.0) || Glance::of(key.0).is_none_or(|g| over(&g, *key));
        }
    }

    fn note(&mut self, glance: &Glance) {
        let key = (glance.pid, glance.start_time);
        if let Some(known) = self.known.get_mut(&key) {
            known.ended |= glance.ended;
            if !glance.ended {
                known.child.rss = glance.rss;
                known.child.peak_rss = known.child.peak_rss.max(glance.rss);
            }
            return;
        }
        if self.counted.contains(&key) {
            return;
        }
        if self.known.len() >= MOST && !self.make_room() {
            self.leave_out(key);
            return;
        }
        let command = ProcessFacts::of(glance.pid).map_or_else(|_| String::new(), |f| f.command);
        let child = Child {
            pid: glance.pid,
            parent: glance.parent,
            command,
            peak_rss: glance.rss,
            rss: glance.rss,
            pss: None,
            free: None,
            running: false,
        };
        let watched = Watched::new(glance.pid);
        self.known.insert(key, Known { child, watched, ended: glance.ended, looked: None });
    }

    fn leave_out(&mut self, key: Key) {
        if self.counted.len() < MOST_COUNTED {
            self.counted.insert(key);
            self.left_out += 1;
        }
    }

    /// Gives up the smallest that has ended.
    fn make_room(&mut self) -> bool {
        let ended = self.known.iter().filter(|(_, k)| k.ended);
        let Some(key) = ended.min_by_key(|(_, k)| k.child.peak_rss).map(|(key, _)| *key) else {
            return false;
        };
        self.known.remove(&key);
        self.leave_out(key);
        true
    }

    /// The one that was longest not looked at, other than `main`, for a light look.
    pub(crate) fn take_one(&mut self, main: i32) -> Option<(Key, Watched)> {
        let running = self.known.iter_mut().filter(|((pid, _), k)| !k.ended && *pid != main);
        let (key, known) = running.min_by_key(|(_, k)| k.looked)?;
        known.looked = Some(Instant::now());
        Some((*key, std::mem::replace(&mut known.watched, Watched::new(key.0))))
    }

    /// What that look has shown.
    pub(crate) fn looked(&mut self, key: Key, watched: Watched, seen: Option<Seen>) {
        let Some(known) = self.known.get_mut(&key) else { return };
        known.watched = watched;
        if let Some(seen) = seen {
            let child = &mut known.child;
            child.command = seen.facts.command;
            child.rss = seen.memory.rss;
            child.peak_rss = child.peak_rss.max(seen.memory.rss).max(seen.facts.hwm.unwrap_or(0));
            child.pss = Some(seen.memory.pss);
            child.free = seen.free.or(child.free);
        }
    }

    /// Whether one is running that was not looked at yet.
    pub(crate) fn any_new(&self, main: i32) -> bool {
        self.known.iter().any(|((pid, _), k)| !k.ended && *pid != main && k.looked.is_none())
    }

    /// Those that run, largest first.
    pub(crate) fn running(&self) -> Vec<i32> {
        let mut all: Vec<_> = self.known.values().filter(|k| !k.ended).map(|k| &k.child).collect();
        all.sort_by_key(|c| std::cmp::Reverse(c.rss));
        all.iter().map(|c| c.pid).collect()
    }

    /// When the program has ended: who was there, without `main`; and how many others.
    pub(crate) fn end(mut self, main: i32, socket: Option<(i32, &Path)>) -> (Vec<Child>, u64) {
        if let Some((fd, socket)) = socket {
            let ours = |g: &Glance| descriptor_of(g.pid, fd).is_some_and(|d| d == socket);
            Glance::all().iter().filter(|g| !g.ended && ours(g)).for_each(|g| self.note(g));
        }
        self.look();
        let known = self.known.into_values().filter(|k| k.child.pid != main);
        let mut children: Vec<Child> =
            known.map(|k| Child { running: !k.ended, ..k.child }).collect();
        children.sort_by_key(|c| (std::cmp::Reverse(c.peak_rss), c.pid));
        (children, self.left_out)
    }
}

/// Whether a process is no longer the one of that key.
fn over(glance: &Glance, key: Key) -> bool {
    glance.ended || glance.start_time != key.1
}
