//! Having a running process give memory back, in place.
//!
//! | file | owns |
//! |---|---|
//! | `heal` | the order of the steps: look, reach the agent, ask, look again |
//! | `agent` | finding an agent in a process, and the one that this binary carries |
//! | `theirs` | a process's memory, open for writing: the only place that writes to one |
//! | `mailbox` | asking an agent, with a deadline |
//! | `inject` | having CPython 3.14+ load the agent (PEP 768), and taking that back |
//! | `folder` | the private folder that the script and the library lie in while that lasts |
//! | `start.py` | the script |
//! | `interrupt` | Ctrl-C, which comes when nothing is left behind |
//! | `advice` | what to do where there is no way in |
//! | `options` | units and conditions as they are typed |
//!
//! Invariants: whatever is written to a process is written after all that it depends on was validated in that
//! process's memory; every request has a deadline, after which it can do nothing; no file stays behind.

mod advice;
pub(crate) mod agent;
mod folder;
mod heal;
mod inject;
pub(crate) mod interrupt;
pub(crate) mod mailbox;
pub(crate) mod options;
pub(crate) mod theirs;

pub(crate) use heal::{Order, asked, heal, work};
