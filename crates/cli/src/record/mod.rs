//! Recording a program: the agent preloaded into it, and the file that comes of it.
//!
//! | file | owns |
//! |---|---|
//! | `can` | whether a program can be recorded, as far as its file tells |
//! | `preload` | the library in a folder, and what the environment says |
//! | `demand` | asking a process that waits to be recorded |
//! | `files` | the file while it is written, those of children, and how they are finished |
//!
//! Starting the program, its signals and its end are `run`'s.

pub(crate) mod can;
pub(crate) mod demand;
pub(crate) mod files;
pub(crate) mod preload;
