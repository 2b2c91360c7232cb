//! Inside an interpreter: its threads, their frames, what code objects say of them, and the lists of
//! the garbage collector.
//!
//! Owns those offsets, one row per minor version, for builds with the GIL; free-threaded builds have
//! other objects and no lists. `cpython.rs` has the way to the interpreters, `pymalloc.rs` their heap.
//!
//! Sources: DWARF of the builds that `cpython.rs` names. Of `PyCodeObject`, the fields for the names
//! of variables are counted from the public headers (`code.h`, `cpython/code.h`) of 3.8.18 to 3.13.0.
//! For 3.14.10 and 3.15.2 `co_nlocalsplus` and `co_stacksize` were compared with live code objects,
//! and the positions in `_Py_DebugOffsets` with what 3.13.0, 3.13.18, 3.14.10 and 3.15.2 hold there.
//! The collector of 3.14.0 to 3.14.4 is from its source only.
//!
//! Offsets may have moved in a patch release that was not seen. Where `_Py_DebugOffsets` has one
//! (3.13+), [`Interpreter::told`] puts it in the row's place. The others are hints, which the reader
//! confirms: a thread's `interp` leads back, a list's ends meet at its head, a code object has as many
//! names as variables.

use crate::cpython::Version;
use crate::word::u64_at;

/// Where things are in one minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interpreter {
    /// Minor version.
    pub minor: u8,
    /// `threads.head` (`tstate_head`) in `PyInterpreterState`.
    pub threads_head: u64,
    /// The collector's lists.
    pub collector: Collector,
    /// `PyThreadState`.
    pub thread: Thread,
    /// A frame.
    pub frame: Frame,
    /// `PyCodeObject`.
    pub code: Code,
}

/// `struct _gc_runtime_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collector {
    /// Where it is.
    pub place: Place,
    /// The heads of its three lists, from the youngest, as far as is known: 3.13.18 has them at 20, 44
    /// and 68.
    pub generations: [u64; 3],
    /// A pointer to the first of those heads (`generation0`); 3.14.0 to 3.14.4 have none.
    pub generation0: u64,
    /// The head of the list that `gc.freeze` fills.
    pub permanent: u64,
}

/// Bytes from the head of one generation to that of the next.
pub const GENERATION: u64 = 24;
/// Bytes that no `struct _gc_runtime_state` has.
pub const COLLECTOR_MOST: u64 = 512;

/// What an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From `_PyRuntime`: one collector for all interpreters (3.8).
    Runtime(u64),
    /// From `PyInterpreterState` (3.9+).
    Interpreter(u64),
}

/// `PyThreadState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread {
    /// The younger thread.
    pub prev: u64,
    /// The older thread.
    pub next: u64,
    /// Its interpreter.
    pub interp: u64,
    /// What `pthread_self` returned in it.
    pub thread_id: u64,
    /// The kernel's id of it (3.11+).
    pub native_thread_id: Option<u64>,
    /// Its innermost frame.
    pub innermost: Innermost,
}

/// The way from a thread to its innermost frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Innermost {
    /// A pointer to the frame (up to 3.10, 3.13+).
    Frame(u64),
    /// A pointer to a `_PyCFrame`, and the pointer in there (3.11, 3.12).
    Cframe(u64, u64),
}

/// `PyFrameObject` up to 3.10, `_PyInterpreterFrame` later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its code object (`f_executable` from 3.13 on, a `_PyStackRef` from 3.14 on).
    pub code: u64,
    /// The frame that called it.
    pub previous: u64,
    /// Whose memory it is: one byte, at least [`OWNED_BY_INTERPRETER`] for frames without variables.
    pub owner: Option<u64>,
    /// Its module's dict.
    pub globals: u64,
    /// The dict of its variables, where it has one: bodies of modules and classes.
    pub locals: u64,
    /// The variables, and behind them the evaluation stack.
    pub localsplus: u64,
    /// How far that stack is filled.
    pub stack: Stack,
}

/// The first value of a frame's `owner` that stands for no function of Python's: frames of the
/// interpreter itself (3.14+) and of C (3.12+).
pub const OWNED_BY_INTERPRETER: u8 = 3;

/// Where a frame keeps the depth of its evaluation stack while another frame runs. None does
/// while its own code does, and up to 3.10 that includes what it calls; up to 3.13, calls of C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// A pointer behind the last item, or NULL.
    Pointer(u64),
    /// The number of items (`int`), or -1.
    Depth(u64),
    /// The number of variables and items (`int`), or -1.
    Top(u64),
}

/// `PyCodeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `co_filename`.
    pub filename: u64,
    /// `co_name`.
    pub name: u64,
    /// `co_qualname` (3.11+).
    pub qualname: Option<u64>,
    /// `co_firstlineno` (`int`).
    pub firstlineno: u64,
    /// `co_stacksize` (`int`).
    pub stacksize: u64,
    /// Names of its variables.
    pub variables: Variables,
}

/// How a code object names its variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variables {
    /// A tuple each for `co_varnames`, `co_cellvars` and `co_freevars`, in the order of their slots
    /// (up to 3.10). `co_varnames` has `nlocals` (`int`) entries.
    Apart {
        /// `co_nlocals`.
        nlocals: u64,
        /// The three tuples.
        tuples: [u64; 3],
    },
    /// One tuple (`co_localsplusnames`) of `count` (`int`) entries, one for each slot.
    Together {
        /// `co_nlocalsplus`.
        count: u64,
        /// `co_localsplusnames`.
        names: u64,
    },
}

use Innermost::Cframe;

const GENERATIONS: [u64; 3] = [24, 48, 72];

/// Up to 3.13.
const fn collector(place: Place) -> Collector {
    Collector { place, generations: GENERATIONS, generation0: 96, permanent: 104 }
}

const fn thread(thread_id: u64, native_thread_id: Option<u64>, innermost: Innermost) -> Thread {
    Thread { prev: 0, next: 8, interp: 16, thread_id, native_thread_id, innermost }
}

/// Up to 3.10.
const fn frame_object(localsplus: u64, stack: Stack) -> Frame {
    Frame { code: 32, previous: 24, owner: None, globals: 48, locals: 56, localsplus, stack }
}

/// From 3.12 on.
const fn interpreter_frame(owner: u64, localsplus: u64, stack: Stack) -> Frame {
    Frame { code: 0, previous: 8, owner: Some(owner), globals: 24, locals: 40, localsplus, stack }
}

const CODE_8: Code = Code {
    filename: 104,
    name: 112,
    qualname: None,
    firstlineno: 40,
    stacksize: 32,
    variables: Variables::Apart { nlocals: 28, tuples: [72, 88, 80] },
};

const CODE_11: Code = Code {
    filename: 112,
    name: 120,
    qualname: Some(128),
    firstlineno: 72,
    stacksize: 68,
    variables: Variables::Together { count: 76, names: 96 },
};

const CODE_12: Code = Code {
    firstlineno: 68,
    stacksize: 64,
    variables: Variables::Together { count: 72, names: 96 },
    ..CODE_11
};

const FRAME_11: Frame = Frame {
    code: 32,
    previous: 48,
    owner: Some(69),
    globals: 8,
    locals: 24,
    localsplus: 72,
    stack: Stack::Top(64),
};

#[rustfmt::skip]
const INTERPRETERS: [Interpreter; 8] = [
    Interpreter { minor:  8, threads_head:    8, collector: collector(Place::Runtime(344)), thread: thread(176, None, Innermost::Frame(24)), frame: frame_object(360, Stack::Pointer(72)), code: CODE_8 },
    Interpreter { minor:  9, threads_head:    8, collector: collector(Place::Interpreter(616)), thread: thread(176, None, Innermost::Frame(24)), frame: frame_object(360, Stack::Pointer(72)), code: CODE_8 },
    Interpreter { minor: 10, threads_head:    8, collector: collector(Place::Interpreter(616)), thread: thread(176, None, Innermost::Frame(24)), frame: frame_object(352, Stack::Depth(80)), code: CODE_8 },
    Interpreter { minor: 11, threads_head:   16, collector: collector(Place::Interpreter(648)), thread: thread(152, Some(160), Cframe(56, 8)), frame: FRAME_11, code: CODE_11 },
    Interpreter { minor: 12, threads_head:   72, collector: collector(Place::Interpreter(112)), thread: thread(136, Some(144), Cframe(56, 0)), frame: interpreter_frame(70, 72, Stack::Top(64)), code: CODE_12 },
    Interpreter { minor: 13, threads_head: 7344, collector: collector(Place::Interpreter(7400)), thread: thread(152, Some(160), Innermost::Frame(72)), frame: interpreter_frame(70, 72, Stack::Top(64)), code: CODE_12 },
    // The incremental collector of 3.14.0 to 3.14.4 has its young list and two old ones at the same places.
    Interpreter { minor: 14, threads_head: 7344, collector: Collector { place: Place::Interpreter(7408), generations: GENERATIONS, generation0: 256, permanent: 96 }, thread: thread(152, Some(160), Innermost::Frame(72)), frame: interpreter_frame(74, 80, Stack::Pointer(64)), code: CODE_12 },
    Interpreter { minor: 15, threads_head: 7336, collector: Collector { place: Place::Interpreter(7400), generations: [8, 32, 56], generation0: 168, permanent: 80 }, thread: thread(176, Some(184), Innermost::Frame(72)), frame: interpreter_frame(74, 80, Stack::Pointer(64)), code: CODE_12 },
];

/// The row of a minor version.
pub fn interpreter(minor: u8) -> Option<&'static Interpreter> {
    INTERPRETERS.iter().find(|row| row.minor == minor)
}

/// The names of the collector's lists, as [`Collector::generations`] has them.
///
/// From 3.14.0 to 3.14.4 the collector was incremental: `gc.get_objects` counts the second list as
/// generation 1 or 2 by turns, and the third as the other.
pub fn generation_names(version: Version) -> [&'static str; 3] {
    match version {
        Version { minor: 14, micro: ..=4, .. } => ["young", "old", "old"],
        _ => ["0", "1", "2"],
    }
}

/// The name of the list that `gc.freeze` fills.
pub const FROZEN: &str = "frozen";

/// Bytes of `_Py_DebugOffsets` that [`Interpreter::told`] wants: 3.15's size, the largest.
pub const DEBUG_OFFSETS: usize = 888;

/// Where `_Py_DebugOffsets` tells of each field; 0 where it does not.
struct Told {
    minor: u8,
    threads_head: usize,
    gc: usize,
    /// `prev`, `next`, `interp` and `current_frame` follow each other.
    thread_prev: usize,
    /// `thread_id` and `native_thread_id` follow each other.
    thread_id: usize,
    /// `previous` and `executable` follow each other.
    frame_previous: usize,
    /// `localsplus` and `owner` follow each other, and from 3.14 on `stackpointer`.
    frame_localsplus: usize,
    /// `filename`, `name` and `qualname` follow each other.
    code_filename: usize,
    code_firstlineno: usize,
    code_localsplusnames: usize,
}

#[rustfmt::skip]
const TOLD: [Told; 3] = [
    Told { minor: 13, threads_head: 72, gc: 80, thread_prev: 160, thread_id: 192, frame_previous: 232, frame_localsplus: 256, code_filename: 280, code_firstlineno: 312, code_localsplusnames: 328 },
    Told { minor: 14, threads_head: 72, gc: 88, thread_prev: 184, thread_id: 216, frame_previous: 256, frame_localsplus: 280, code_filename: 320, code_firstlineno: 352, code_localsplusnames: 368 },
    Told { minor: 15, threads_head: 72, gc: 88, thread_prev: 184, thread_id: 240, frame_previous: 320, frame_localsplus: 344, code_filename: 384, code_firstlineno: 416, code_localsplusnames: 432 },
];

impl Interpreter {
    /// The row as `_Py_DebugOffsets` corrects it. A number there that can be no offset is ignored.
    pub fn told(mut self, debug_offsets: &[u8]) -> Interpreter {
        let Some(at) = TOLD.iter().find(|t| t.minor == self.minor) else { return self };
        if debug_offsets.len() < DEBUG_OFFSETS {
            return self;
        }
        let take = |field: &mut u64, at: usize, below: u64, align: u64| {
            let told = u64_at(debug_offsets, at);
            if told < below && told.is_multiple_of(align) {
                *field = told;
            }
        };
        const STATE: u64 = 1 << 20;
        const PART: u64 = 1 << 12;
        take(&mut self.threads_head, at.threads_head, STATE, 8);
        if let Place::Interpreter(gc) = &mut self.collector.place {
            take(gc, at.gc, STATE, 8);
        }
        let thread = &mut self.thread;
        take(&mut thread.prev, at.thread_prev, PART, 8);
        take(&mut thread.next, at.thread_prev + 8, PART, 8);
        take(&mut thread.interp, at.thread_prev + 16, PART, 8);
        if let Innermost::Frame(current) = &mut thread.innermost {
            take(current, at.thread_prev + 24, PART, 8);
        }
        take(&mut thread.thread_id, at.thread_id, PART, 8);
        if let Some(native) = &mut thread.native_thread_id {
            take(native, at.thread_id + 8, PART, 8);
        }
        let frame = &mut self.frame;
        take(&mut frame.previous, at.frame_previous, PART, 8);
        take(&mut frame.code, at.frame_previous + 8, PART, 8);
        take(&mut frame.localsplus, at.frame_localsplus, PART, 8);
        if let Some(owner) = &mut frame.owner {
            take(owner, at.frame_localsplus + 8, PART, 1);
        }
        if let Stack::Pointer(pointer) = &mut frame.stack {
            take(pointer, at.frame_localsplus + 16, PART, 8);
        }
        let code = &mut self.code;
        take(&mut code.filename, at.code_filename, PART, 8);
        take(&mut code.name, at.code_filename + 8, PART, 8);
        if let Some(qualname) = &mut code.qualname {
            take(qualname, at.code_filename + 16, PART, 8);
        }
        take(&mut code.firstlineno, at.code_firstlineno, PART, 4);
        if let Variables::Together { names, .. } = &mut code.variables {
            take(names, at.code_localsplusnames, PART, 8);
        }
        self
    }

    /// Bytes of a frame that hold all its fields before its variables.
    pub fn frame_head(&self) -> u64 {
        let Frame { code, previous, owner, globals, locals, localsplus, stack } = self.frame;
        let stack = match stack {
            Stack::Pointer(at) => at + 8,
            Stack::Depth(at) | Stack::Top(at) => at + 4,
        };
        let owner = owner.map_or(0, |at| at + 1);
        [code + 8, previous + 8, owner, globals + 8, locals + 8, localsplus, stack]
            .into_iter()
            .fold(0, u64::max)
    }
}

/// Bytes of a `PyGC_Head`.
pub const GC_HEAD: usize = crate::objects::GC_HEAD as usize;
/// Flags in `_gc_next` and `_gc_prev`, which are no part of the pointer.
const GC_FLAGS: u64 = 3;
/// In `_gc_prev`: a collection is under way, and the rest of the word is a count of references.
const COLLECTING: u64 = 2;

/// A node of a list of the collector: the next one, and the one before where that can be told.
pub fn gc_head(bytes: &[u8]) -> (u64, Option<u64>) {
    let (next, prev) = (u64_at(bytes, 0) & !GC_FLAGS, u64_at(bytes, 8));
    (next, (prev & COLLECTING == 0).then_some(prev & !GC_FLAGS))
}

/// The object in a slot of a frame; `None` where there is none.
///
/// From 3.14 on a slot is a `_PyStackRef`: tag 1 is a reference that is not counted, 3 an integer;
/// NULL is 1.
pub fn slot(minor: u8, word: u64) -> Option<u64> {
    let tag = if minor >= 14 { word & 3 } else { 0 };
    let object = word & !tag;
    (tag != 3 && object >= 0x1000 && object.is_multiple_of(8) && object < 1 << 47).then_some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_minor_from_8_to_15_has_a_row_and_no_other() {
        for minor in 0..30 {
            let found = interpreter(minor).map(|row| row.minor);
            assert_eq!(found, (8..=15).contains(&minor).then_some(minor));
        }
    }

    #[test]
    fn what_debug_offsets_tell_replaces_the_row_unless_it_is_absurd() {
        let row = *interpreter(15).unwrap();
        let mut bytes = [0xff; DEBUG_OFFSETS];
        assert_eq!(row.told(&bytes), row, "no offset");
        bytes[72..80].copy_from_slice(&7344u64.to_le_bytes());
        bytes[432..440].copy_from_slice(&100u64.to_le_bytes());
        assert_eq!(row.told(&bytes), Interpreter { threads_head: 7344, ..row }, "100 is unaligned");
        assert_eq!(row.told(&bytes[..80]), row, "cut off");
        let old = *interpreter(12).unwrap();
        assert_eq!(old.told(&bytes), old);
    }

    #[test]
    fn the_incremental_collector_has_its_own_names() {
        let names = |minor, micro| generation_names(Version { major: 3, minor, micro })[0];
        assert_eq!(names(14, 4), "young");
        assert_eq!(names(14, 5), "0");
        assert_eq!(names(13, 0), "0");
    }

    #[test]
    fn slots_are_told_from_integers_and_nothing() {
        assert_eq!(slot(13, 0x7f00_0000_1000), Some(0x7f00_0000_1000));
        assert_eq!(slot(13, 0x7f00_0000_1001), None);
        assert_eq!(slot(14, 0x7f00_0000_1001), Some(0x7f00_0000_1000));
        assert_eq!(slot(14, 0x7f00_0000_1003), None, "an integer");
        assert_eq!(slot(14, 1), None, "NULL");
        assert_eq!(slot(8, !7), None);
    }

    #[test]
    fn a_node_under_collection_has_no_previous_one() {
        let node = |next: u64, prev: u64| {
            let bytes: Vec<u8> = [next, prev].iter().flat_map(|w| w.to_le_bytes()).collect();
            gc_head(&bytes)
        };
        assert_eq!(node(0x1001, 0x2001), (0x1000, Some(0x2000)));
        assert_eq!(node(0x1000, 7 << 2 | 2), (0x1000, None));
    }
}
