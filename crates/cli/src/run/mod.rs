//! Running a program so that it does not notice, and following its memory.
//!
//! | file | owns |
//! |---|---|
//! | `program` | which program is meant, and its argv |
//! | `environment` | the environment, in order, and the folder put first on PYTHONPATH |
//! | `hook` | the folder with `sitecustomize.py`, the socket, and what is said over it |
//! | `launch` | starting it; its signals and its end |
//! | `budget` | when a look may be taken |
//! | `watched` | light looks at one process, again and again |
//! | `series` | the samples |
//! | `family` | its children |
//! | `follow` | from start to end: who is asked when |
//! | `healing` | memory given back meanwhile (`--fix`) |
//! | `ending` | the snapshot that is reported |
//! | `guard` | limits |
//!
//! Invariants: the program's stdin, stdout, stderr, process group, working directory, argv and signals are
//! those that it would have without us; of its environment only PYTHONPATH is changed. pydefrag ends after
//! it, and as it did.

mod budget;
mod ending;
mod environment;
mod family;
mod follow;
pub(crate) mod guard;
mod healing;
mod hook;
mod launch;
mod program;
mod series;
mod watched;

pub(crate) use ending::{Ending, ending};
pub(crate) use environment::Environment;
pub(crate) use follow::follow;
pub(crate) use healing::Schedule;
pub(crate) use launch::{Signals, end_alike, launch};
pub(crate) use program::{Program, not_an_option, program};
