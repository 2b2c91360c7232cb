//! The pace at which a process is looked at.
//!
//! The kernel holds a lock on a process's map while it lists mappings, scans residency or pins pages to
//! be read; a process that maps or unmaps memory at that moment waits. Most processes hardly ever do,
//! and are read at full speed. One whose map changes within a third of a millisecond is read with pauses, many
//! times as long as the locks were held, so that it goes on working.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Pauses of this many times the time spent under the lock.
const PAUSE: u32 = 30;
/// Shorter pauses are put together: the kernel sleeps no shorter than some 60 µs anyway.
const SHORTEST: Duration = Duration::from_micros(500);
/// Between two looks at the map that tell whether it changes.
const BETWEEN: Duration = Duration::from_micros(300);

/// Whether, and how long, to pause.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    gentle: bool,
    /// Nanoseconds of pause not taken yet.
    owed: AtomicU64,
}

impl Pace {
    /// Tells the pace for a process by whether its map changes now.
    pub(crate) fn of(pid: i32) -> Pace {
        let map = || std::fs::read(format!("/proc/{pid}/maps")).ok();
        let before = map();
        std::thread::sleep(BETWEEN);
        Pace { gentle: before != map(), owed: AtomicU64::new(0) }
    }

    /// Whether the process's map was seen to change.
    pub(crate) fn is_gentle(&self) -> bool {
        self.gentle
    }

    /// Runs something that holds the lock, and pauses afterwards if need be.
    pub(crate) fn locked<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.gentle {
            return work();
        }
        let start = Instant::now();
        let result = work();
        let pause = (start.elapsed() * PAUSE).as_nanos() as u64;
        let owed = self.owed.fetch_add(pause, Ordering::Relaxed) + pause;
        if owed > SHORTEST.as_nanos() as u64 {
            let owed = self.owed.swap(0, Ordering::Relaxed);
            std::thread::sleep(Duration::from_nanos(owed));
        }
        result
    }
}

/// A file of `/proc` each read of which holds the lock.
pub(crate) struct Paced<'a, R> {
    pub(crate) pace: &'a Pace,
    pub(crate) from: R,
}

impl<R: Read> Read for Paced<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let from = &mut self.from;
        self.pace.locked(|| from.read(into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_many_times_the_work() {
        let gentle = Pace { gentle: true, ..Default::default() };
        let start = Instant::now();
        gentle.locked(|| std::thread::sleep(Duration::from_millis(2)));
        assert!(start.elapsed() >= Duration::from_millis(2) * PAUSE);
        assert_eq!(gentle.owed.load(Ordering::Relaxed), 0);
    }
}
