//! PEP 768: where a thread of CPython 3.14 and later looks for a script that somebody outside wants run.
//!
//! Owns the group `debugger_support` of `_Py_DebugOffsets` and its validator, and what the eval breaker's
//! low byte may be set to from outside. Which bytes are written when is the command line's.
//!
//! Read from `Include/internal/pycore_debug_offsets.h`, `pycore_ceval.h` and `Python/remote_debugging.c` of
//! 3.14, and tried on Debian's 3.14.10 and 3.15.2.

use crate::cpython::Version;
use crate::word::u64_at;

/// Bytes of `_PyRuntime` that [`support`] wants.
pub const HEAD: usize = 1024;

/// Minor version, and where its `debugger_support` begins in `_Py_DebugOffsets`, which ends with it.
const GROUPS: [(u8, usize); 2] = [(14, 712), (15, 840)];
/// Where `interpreter_state.threads_main` is in `_Py_DebugOffsets` (3.14+).
const THREADS_MAIN: usize = 80;
/// Where `thread_state.size` is in `_Py_DebugOffsets` (3.14+).
const THREAD_SIZE: usize = 176;
/// Bytes of the script's path, as `_Py_MAX_SCRIPT_PATH_SIZE` has it.
const PATH_SIZE: u64 = 512;

/// Where things are that make a thread run a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// In `PyInterpreterState`: pointer to the main thread's state.
    pub threads_main: u64,
    /// In `PyInterpreterState`: an `int`, 1 where this is allowed (`config.remote_debug`).
    pub enabled: u64,
    /// In `PyThreadState`: the eval breaker, a word whose low byte has the events.
    pub eval_breaker: u64,
    /// In `PyThreadState`: an `int`, 1 where a script waits to be run.
    pub pending: u64,
    /// In `PyThreadState`: the script's path, NUL-ended.
    pub path: u64,
    /// Bytes of it, with the NUL.
    pub path_size: u64,
}

/// Reads the group of a version from the first [`HEAD`] bytes of `_PyRuntime`; `None` where the version has none, or
/// what stands there cannot be one.
pub fn support(version: Version, head: &[u8]) -> Option<Support> {
    let known = version.major == 3;
    let at = GROUPS.iter().find(|(minor, _)| known && *minor == version.minor)?.1;
    if head.len() < at + 48 || head[..8] != *b"xdebugpy" {
        return None;
    }
    let interp_size = u64_at(head, 48);
    let thread_size = u64_at(head, THREAD_SIZE);
    let [eval_breaker, base, enabled, pending, path, path_size] =
        std::array::from_fn(|i| u64_at(head, at + 8 * i));
    let support = Support {
        threads_main: u64_at(head, THREADS_MAIN),
        enabled,
        eval_breaker,
        pending: base.checked_add(pending)?,
        path: base.checked_add(path)?,
        path_size,
    };
    let inside = |offset: u64, bytes: u64, align: u64, size: u64| {
        offset.is_multiple_of(align) && offset.checked_add(bytes).is_some_and(|end| end <= size)
    };
    ((1 << 10..1 << 20).contains(&interp_size)
        && (1 << 9..1 << 16).contains(&thread_size)
        && inside(support.threads_main, 8, 8, interp_size)
        && inside(support.enabled, 4, 4, interp_size)
        && inside(support.eval_breaker, 8, 8, thread_size)
        && inside(support.pending, 4, 4, thread_size)
        && path_size == PATH_SIZE
        && inside(support.path, path_size, 1, thread_size)
        // One struct: the flag, then the path.
        && pending == 0
        && path == 4)
        .then_some(support)
}

/// The eval breaker's low byte that makes a thread come by, from what it was.
///
/// Between reading and writing it from outside the thread may set and clear bits itself. So the bits whose loss
/// would lose an event are set too: a thread that finds no signal, call or exception behind them goes on.
/// A collection that is asked for anew at the next allocation, and a request for the GIL that is repeated, are not
/// among them.
pub fn breaker(was: u8) -> u8 {
    const SIGNALS: u8 = 1 << 1;
    const CALLS: u8 = 1 << 2;
    const EXCEPTION: u8 = 1 << 3;
    const PLEASE_STOP: u8 = 1 << 5;
    was | SIGNALS | CALLS | EXCEPTION | PLEASE_STOP
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V: Version = Version { major: 3, minor: 14, micro: 10 };

    fn head() -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[..8].copy_from_slice(b"xdebugpy");
        let values = [(48, 225_864u64), (80, 7352), (176, 800), (712, 24), (720, 264)];
        let more = [(728, 12_000u64), (736, 0), (744, 4), (752, 512)];
        for (at, value) in values.into_iter().chain(more) {
            head[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        head
    }

    #[test]
    fn a_group_is_read_and_a_strange_one_is_not() {
        let found = support(V, &head()).unwrap();
        assert_eq!((found.pending, found.path, found.eval_breaker), (264, 268, 24));
        for minor in [13, 15, 16] {
            assert_eq!(support(Version { minor, ..V }, &head()), None, "3.{minor}");
        }
        for at in [0, 48, 80, 176, 712, 720, 736, 744, 752] {
            let mut strange = head();
            strange[at + 7] = 0x80;
            assert_eq!(support(V, &strange), None, "{at}");
        }
    }

    #[test]
    fn no_event_is_lost() {
        assert_eq!(breaker(0), 0b10_1110);
        assert_eq!(breaker(0b1001_0001), 0b1011_1111);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1100), minor in 12u8..17) {
            let _ = support(Version { minor, ..V }, &bytes);
        }
    }
}
