//! The binary: maps the outcome of [`pydefrag_cli::main_with`] to an exit code and a message.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    pydefrag_cli::main_with(std::env::args_os())
}
