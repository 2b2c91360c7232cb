//! Frames of Python functions, read raw: which runs, who called it, at which instruction, and whether it still waits where it
//! was marked.
//!
//! A frame that waits for a Python function that it has called itself leaves a slot of its stack of values for what that
//! returns, and nobody reads the slot until then. A mark is written there, with the number of the frame's node: while it is
//! intact, the frame has not gone on, and neither has any frame outside of it. A frame that has gone on and waits again has no
//! mark of before there, however it went on (an exception leaves the slot as it is): at a call, one of what the call takes lies in
//! the same slot. Where that is not so, the slot is not looked at.
//!
//! A debugger may have a waiting frame go on elsewhere, but only from within a trace function: marks are not trusted there.
//!
//! Invariant: nothing is remembered here. Frames are read in the thread that they belong to, during a call that its innermost
//! one has made, directly or not: they stand still.

use pydefrag_layout::frames::{Frames, Instruction, frames};
use pydefrag_layout::interpreter::{Innermost, OWNED_BY_INTERPRETER};

/// What all marks have in common: no address of an object, and no tagged reference to one. Below it stand which recording's it
/// is ([`EPOCH_BITS`]), and the node ([`NODE_BITS`]).
const MARK: u64 = 0x5EED << 48;
/// Bits of a mark that tell recordings of one process apart.
const EPOCH_BITS: u32 = 24;
/// Bits of a mark that hold the node.
pub(super) const NODE_BITS: u32 = 24;

/// Marks of one recording: those of one before, in frames that wait since then, say nothing.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    /// What all of them have.
    bits: u64,
    /// Python's `None`, which the shim around `__init__` has for its function.
    none: u64,
}

impl Marks {
    /// Those of the so manieth recording of this process.
    pub(super) const fn of(recording: u32, none: u64) -> Marks {
        let bits = MARK | (recording as u64 % (1 << EPOCH_BITS)) << NODE_BITS;
        Marks { bits, none }
    }

    /// The node that a word names, if it is a mark.
    #[inline(always)]
    pub(super) fn read(self, word: u64) -> Option<u32> {
        let node = word ^ self.bits;
        (node < 1 << NODE_BITS).then_some(node as u32)
    }
}

/// Reads a word.
///
/// # Safety
///
/// It lies in a structure that the caller knows to be there.
#[inline(always)]
pub(super) unsafe fn word(at: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::read_volatile(at as usize as *const u64) }
}

/// Reads an `int`.
///
/// # Safety
///
/// As [`word`].
#[inline(always)]
pub(super) unsafe fn int(at: u64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::read_volatile(at as usize as *const i32) }
}

/// `stacktop` and `localsplus` of a frame (3.11 to 3.13; 3.14 has its values a word later), `stackpointer` (3.14), `f_funcobj`
/// (from 3.12 on), and `is_entry` (3.11); `co_nlocalsplus` of a code object (3.12).
const STACKTOP: u64 = 64;
const LOCALSPLUS: u64 = 72;
const STACKPOINTER: u64 = 64;
const FUNCTION: u64 = 16;
const IS_ENTRY_11: u64 = 68;
const NLOCALSPLUS_12: u64 = 72;
/// Bytes from `PyThreadState.tracing_what` (3.11) or `what_event` (3.12 to 3.14) to `cframe` (3.11, 3.12) or `current_frame`.
const WHAT: u64 = 8;
/// Bytes of a frame's values at most.
const LARGEST: u64 = 1 << 27;
/// `enum _frameowner`. In 3.11 it stands behind `is_entry`.
const OWNED_BY_THREAD: u8 = 0;
const OWNED_BY_GENERATOR: u8 = 1;

/// The frames of one version.
pub(super) struct At<const V: u8>;

impl<const V: u8> At<V> {
    const F: Frames = frames(V);

    /// # Safety
    ///
    /// `thread` is the state of this thread, which has the GIL.
    #[inline(always)]
    pub(super) unsafe fn innermost(thread: u64) -> u64 {
        // SAFETY: the caller's promise, and the version's layout.
        unsafe {
            match Self::F.innermost {
                Innermost::Frame(at) => word(thread + at),
                Innermost::Cframe(at, frame) => word(word(thread + at) + frame),
            }
        }
    }

    /// What the interpreter's loop that runs keeps on the C stack: its `_PyCFrame` (3.11, 3.12), the frame of its entry (from
    /// 3.13 on); 0 where that is not known, or far away.
    ///
    /// # Safety
    ///
    /// As [`At::innermost`].
    pub(super) unsafe fn entry(thread: u64) -> u64 {
        const FAR: usize = 64;
        // SAFETY: the caller's promise, and the version's layout.
        unsafe {
            match Self::F.innermost {
                Innermost::Cframe(at, _) => word(thread + at),
                Innermost::Frame(_) if V < 13 => 0,
                Innermost::Frame(_) => {
                    let mut frame = Self::innermost(thread);
                    for _ in 0..FAR {
                        if frame == 0 || Self::is_shim(frame) {
                            break;
                        }
                        frame = Self::previous(frame);
                    }
                    if frame != 0 && Self::is_shim(frame) { frame } else { 0 }
                }
            }
        }
    }

    /// # Safety
    ///
    /// `frame` is one of the thread's that runs.
    #[inline(always)]
    pub(super) unsafe fn previous(frame: u64) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { word(frame + Self::F.previous) }
    }

    /// A number that stands for the instruction and its code object: the instruction's address; up to 3.10, where frames
    /// count instructions, the code object's with the count above it.
    ///
    /// # Safety
    ///
    /// As [`At::previous`].
    #[inline(always)]
    pub(super) unsafe fn instruction(frame: u64) -> u64 {
        // SAFETY: the caller's promise.
        unsafe {
            match Self::F.instruction {
                Instruction::Pointer { at, .. } => word(frame + at),
                Instruction::Index { at, .. } => {
                    let index = int(frame + at).clamp(-1, (1 << 20) - 2);
                    word(frame + Self::F.code) >> 4 | ((index + 1) as u64) << 43
                }
            }
        }
    }

    /// # Safety
    ///
    /// As [`At::previous`].
    #[inline(always)]
    pub(super) unsafe fn code(frame: u64) -> u64 {
        // SAFETY: the caller's promise.
        let code = unsafe { word(frame + Self::F.code) };
        if V >= 14 { code & !7 } else { code }
    }

    /// Bytes from the first instruction, + 1; 0 before it.
    pub(super) fn offset(code: u64, instruction: u64) -> u32 {
        match Self::F.instruction {
            Instruction::Pointer { first, .. } => {
                let bytes = instruction.wrapping_sub(code + first) as i64;
                if (0..1 << 30).contains(&bytes) { bytes as u32 + 1 } else { 0 }
            }
            Instruction::Index { unit, .. } => match (instruction >> 43) as u32 {
                0 => 0,
                index => (index - 1) * unit + 1,
            },
        }
    }

    /// Whether frames are marked: in versions in which a second walk of every stack of CPython's own tests found none that
    /// was wrong.
    #[inline(always)]
    pub(super) const fn has_marks() -> bool {
        V >= 11 && V <= 14
    }

    /// Whether marks tell nothing now: within a trace function for something else than a call. There a waiting frame may have been
    /// made to go on elsewhere (`frame.f_lineno = …`), and nowhere else: it is what CPython asks before it allows that.
    ///
    /// # Safety
    ///
    /// As [`At::innermost`].
    #[inline(always)]
    pub(super) unsafe fn is_traced(thread: u64) -> bool {
        let innermost = match Self::F.innermost {
            Innermost::Frame(at) | Innermost::Cframe(at, _) => at,
        };
        // SAFETY: the caller's promise: one more `int` stands behind it, and what is `innermost` is aligned.
        let what = unsafe { int(thread + innermost - WHAT) };
        match V {
            // `PyTrace_CALL` is 0 too; nothing may jump there.
            ..=11 => what != 0,
            _ => what >= 0,
        }
    }

    /// The node with which a frame that waits for `callee` was marked, if it was.
    ///
    /// # Safety
    ///
    /// As [`At::previous`], for both.
    #[inline(always)]
    pub(super) unsafe fn marked(marks: Marks, frame: u64, callee: u64) -> Option<u32> {
        // SAFETY: the caller's promise; the slot is one of the frame's.
        unsafe { Self::slot(marks, frame, callee).and_then(|slot| marks.read(word(slot))) }
    }

    /// Marks a frame with its node, if it waits for `callee`.
    ///
    /// # Safety
    ///
    /// As [`At::previous`], for both.
    #[inline(always)]
    pub(super) unsafe fn mark(marks: Marks, frame: u64, callee: u64, node: u32) {
        // SAFETY: the caller's promise; the slot is one of the frame's that nobody reads before the value is there.
        unsafe {
            if let Some(slot) = Self::slot(marks, frame, callee) {
                std::ptr::write_volatile(slot as usize as *mut u64, marks.bits | u64::from(node));
            }
        }
    }

    /// Where a frame awaits the value of `callee`, a Python function that it has called itself; `None` where it does not, or
    /// where that is not known to be a slot that a call has emptied.
    ///
    /// # Safety
    ///
    /// As [`At::previous`], for both.
    #[inline(always)]
    pub(super) unsafe fn slot(marks: Marks, frame: u64, callee: u64) -> Option<u64> {
        let owner = Self::F.owner?;
        // SAFETY: the caller's promise. The slot behind the saved top of the stack is the frame's, for the value that is awaited
        // (`co_stacksize` counts it), and nobody reads it before that is there: the collector, copies of frames and whoever clears one
        // stop at the top.
        unsafe {
            let byte = |at: u64| std::ptr::read_volatile(at as usize as *const u8);
            // A generator gives its value otherwise, and what is asked of it is no argument. From 3.12 on there is the
            // interpreter's own frame between a frame and whoever C has called; 3.11 says it of the callee.
            let called = match V {
                11 => std::ptr::read_volatile((callee + IS_ENTRY_11) as usize as *const u16) == 0,
                _ => byte(callee + owner) == OWNED_BY_THREAD,
            };
            if !called || byte(frame + owner) > OWNED_BY_GENERATOR {
                return None;
            }
            // The shim around `__init__` has called it with nothing of its own.
            if V >= 13 && word(frame + FUNCTION) & !7 == marks.none {
                return None;
            }
            let top = match V {
                14.. => word(frame + STACKPOINTER).wrapping_sub(frame),
                _ => (int(frame + STACKTOP) as i64 as u64).wrapping_mul(8).wrapping_add(LOCALSPLUS),
            };
            // It has none: inside C, or while it runs (up to 3.13).
            if top.wrapping_sub(LOCALSPLUS) >= LARGEST {
                return None;
            }
            // 3.12 calls the function of a property whose value is called at once (`x.p()`) when it has made a null of `x`, and with
            // the slot behind that.
            if V == 12 && word(frame + top - 8) == 0 {
                let locals = int(word(frame + Self::F.code) + NLOCALSPLUS_12) as u64;
                if top > LOCALSPLUS + 8 * locals {
                    return None;
                }
            }
            Some(frame + top)
        }
    }

    /// Whether the frame is the interpreter's own, which stands for no function.
    ///
    /// # Safety
    ///
    /// As [`At::previous`].
    #[inline(always)]
    pub(super) unsafe fn is_shim(frame: u64) -> bool {
        match Self::F.owner {
            None => false,
            // SAFETY: the caller's promise.
            Some(at) => unsafe {
                std::ptr::read_volatile((frame + at) as usize as *const u8) >= OWNED_BY_INTERPRETER
            },
        }
    }
}
