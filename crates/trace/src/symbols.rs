//! What native functions are called: asked of whoever reads a trace, which has only the names of their files.

use crate::code::Code;

/// A place in native code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symbol {
    /// The function.
    pub name: String,
    /// The source file that it was compiled from; empty where that is not known.
    pub source: String,
    /// The line of it; 0 where that is not known.
    pub line: u32,
}

/// Who names native functions.
pub trait Symbols {
    /// The function at an address that the file states. `file` has its path and, as its table, its build id.
    fn symbol(&mut self, file: &Code, address: u64) -> Option<Symbol>;
}

/// Names none.
pub struct Nameless;

impl Symbols for Nameless {
    fn symbol(&mut self, _: &Code, _: u64) -> Option<Symbol> {
        None
    }
}
