//! Reports: what was found, as text for a person and as JSON for a program.
//!
//! Owns wording, layout and colours. Never reads a process and never judges: every number comes
//! from [`pydefrag_heap`], in bytes, and is only rounded and arranged here.
//!
//! # Entry points
//!
//! [`text::render`] and [`json::render`] show a snapshot; [`ps`] has the table of Python processes,
//! [`map`] a small picture of pymalloc's arenas, [`diff`] two looks, [`heal`] memory given back, [`recording`] what a program allocated over time, [`tree`] a process with its descendants, each with `render` and
//! `render_json`; [`html`] has the page of each, and
//! [`formats`] a recording for other tools. All return a whole report that ends in a newline.
//!
//! # Design constraints
//!
//! Text is laid out for a constant width ([`text::WIDTH`], [`ps::WIDTH`]) and one screen, two for a
//! snapshot that says what holds the memory, whatever is in it. Colour repeats what glyphs and words already say: without it the layout is
//! the same. Whatever a process can choose itself (its argv, its file names) is escaped before it
//! reaches a terminal.

#![forbid(unsafe_code)]

mod account;
mod bar;
pub mod diff;
mod findings;
mod format;
pub mod formats;
pub mod heal;
mod holds;
pub mod html;
pub mod json;
mod ladder;
pub mod map;
pub mod ps;
pub mod recording;
mod run;
#[cfg(test)]
mod sample;
mod spark;
mod style;
mod table;
pub mod text;
pub mod tree;
mod verdict;
mod words;

pub use style::Style;
