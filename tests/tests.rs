//! Tests on real processes, in one binary: it links once.
//!
//! Targets are real interpreters (`tests/interpreters.toml`) running `tests/targets`; what pydefrag says
//! of them is compared with what CPython and the kernel say independently.

mod agent;
mod bad_input;
mod browser;
mod diff;
mod ground_truth;
mod heal;
mod library;
mod malloc;
mod map;
mod objects;
mod package;
mod private;
mod processes;
mod racing;
mod record;
mod recount;
mod resting;
mod run;
mod support;
mod trees;
mod verdicts;
