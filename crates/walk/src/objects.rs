//! Objects of a process: the way to them, and what they say of themselves.

mod frames;
mod interpreters;
#[cfg(test)]
mod planted;
mod text;
