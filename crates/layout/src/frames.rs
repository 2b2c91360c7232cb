//! What a recorder follows at every allocation: from a thread to its frames, and which instruction each is at.
//!
//! Owns the offsets, as constants that the recorder is compiled for, one row per version. They agree with the rows of
//! [`crate::interpreter`], which say more of the same structures (a test compares them).
//!
//! Read from DWARF of the versions that [`crate::cpython`] names.

use crate::interpreter::Innermost;

/// How a frame says which instruction it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    /// `f_lasti` (`int`, -1 before the first), in so many bytes each (up to 3.10).
    Index {
        /// Of `f_lasti` in the frame.
        at: u64,
        /// Bytes of a unit.
        unit: u32,
    },
    /// A pointer into the code object: `prev_instr` (3.11, 3.12), `instr_ptr` (3.13+).
    Pointer {
        /// Of the pointer in the frame.
        at: u64,
        /// Of the first instruction in the code object (`co_code_adaptive`).
        first: u64,
    },
}

/// A row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frames {
    /// The minor version.
    pub minor: u8,
    /// From `PyThreadState` to the innermost frame.
    pub innermost: Innermost,
    /// `PyThreadState.interp`.
    pub interp: u64,
    /// The frame that called it.
    pub previous: u64,
    /// Its code object (from 3.14 on with tags in the lowest bits).
    pub code: u64,
    /// Its instruction.
    pub instruction: Instruction,
    /// The byte that says whose memory it is, from 3.11 on.
    pub owner: Option<u64>,
    /// `PyCodeObject`: where its table of lines is, a `bytes`.
    pub lines: u64,
    /// `co_filename`.
    pub filename: u64,
    /// `co_qualname`, `co_name` up to 3.10.
    pub name: u64,
    /// `co_firstlineno`.
    pub first_line: u64,
}

use Innermost::{Cframe, Frame};
use Instruction::{Index, Pointer};

/// All rows, 3.8 first.
#[rustfmt::skip]
pub const FRAMES: [Frames; 8] = [
    Frames { minor:  8, innermost: Frame(24), interp: 16, previous: 24, code: 32, instruction: Index { at: 104, unit: 1 }, owner: None, lines: 120, filename: 104, name: 112, first_line: 40 },
    Frames { minor:  9, innermost: Frame(24), interp: 16, previous: 24, code: 32, instruction: Index { at: 104, unit: 1 }, owner: None, lines: 120, filename: 104, name: 112, first_line: 40 },
    Frames { minor: 10, innermost: Frame(24), interp: 16, previous: 24, code: 32, instruction: Index { at: 96, unit: 2 }, owner: None, lines: 120, filename: 104, name: 112, first_line: 40 },
    Frames { minor: 11, innermost: Cframe(56, 8), interp: 16, previous: 48, code: 32, instruction: Pointer { at: 56, first: 184 }, owner: Some(69), lines: 136, filename: 112, name: 128, first_line: 72 },
    Frames { minor: 12, innermost: Cframe(56, 0), interp: 16, previous: 8, code: 0, instruction: Pointer { at: 56, first: 192 }, owner: Some(70), lines: 136, filename: 112, name: 128, first_line: 68 },
    Frames { minor: 13, innermost: Frame(72), interp: 16, previous: 8, code: 0, instruction: Pointer { at: 56, first: 200 }, owner: Some(70), lines: 136, filename: 112, name: 128, first_line: 68 },
    Frames { minor: 14, innermost: Frame(72), interp: 16, previous: 8, code: 0, instruction: Pointer { at: 56, first: 208 }, owner: Some(74), lines: 136, filename: 112, name: 128, first_line: 68 },
    Frames { minor: 15, innermost: Frame(72), interp: 16, previous: 8, code: 0, instruction: Pointer { at: 56, first: 208 }, owner: Some(74), lines: 136, filename: 112, name: 128, first_line: 68 },
];

/// The row of a minor version, for constants.
pub const fn frames(minor: u8) -> Frames {
    FRAMES[minor as usize - 8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter::interpreter;

    #[test]
    fn the_rows_agree_with_the_interpreters() {
        for (minor, row) in (8..).zip(FRAMES) {
            let known = interpreter(minor).unwrap();
            assert_eq!(row.minor, minor);
            assert_eq!((row.innermost, row.interp), (known.thread.innermost, known.thread.interp));
            assert_eq!(
                (row.previous, row.code, row.owner),
                (known.frame.previous, known.frame.code, known.frame.owner)
            );
            assert_eq!(row.filename, known.code.filename);
            assert_eq!(row.name, known.code.qualname.unwrap_or(known.code.name));
            assert_eq!(row.first_line, known.code.firstlineno);
        }
    }
}
