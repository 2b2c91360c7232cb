//! What the fuzz targets do with their bytes; each panics where something that must hold does not.
//!
//! `tests/bad_input/seeds.rs` runs the same functions on the seeds in every `cargo test`.

mod layouts;
mod malloc;
mod maps;
mod objects;
mod pdsnap;
mod pdtrace;
mod walk;

pub use layouts::layouts;
pub use malloc::malloc;
pub use maps::maps;
pub use objects::objects;
pub use pdsnap::pdsnap;
pub use pdtrace::pdtrace;
pub use walk::walk;
