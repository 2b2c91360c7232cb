//! The command line of pydefrag: one file per verb under `commands`.
//!
//! Owns arguments, exit codes, where output goes and how errors are told. Does not own any logic that
//! another crate should: a verb opens, walks and renders by calling them.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a guard's limit was exceeded;
//! `run` and `record` otherwise end as the program did.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod failure;
mod fix;
mod kept;
mod look;
mod objects;
mod output;
mod progress;
mod record;
mod run;
mod symbols;
mod traces;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

/// Runs the command line and returns the process's exit code.
pub fn main_with(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => {
            // clap prints help and version on stdout with code 0, errors on stderr with code 2.
            let _ = e.print();
            return ExitCode::from(e.exit_code() as u8);
        }
    };
    let result = match &args.command {
        Command::Ps(ps) => commands::ps::run(ps).map(done),
        Command::Snapshot(snapshot) => commands::snapshot::run(snapshot).map(done),
        Command::Report(report) => commands::report::run(report).map(done),
        Command::Run(run) => commands::run::run(run),
        Command::Record(record) => commands::record::run(record),
        Command::Diff(diff) => commands::diff::run(diff).map(done),
        Command::Fix(fix) => commands::fix::run(fix).map(done),
    };
    match result {
        Ok(code) => code,
        // The reader of our output went away, as `head` does: nothing is wrong.
        Err(e) if output::is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => match e.downcast::<clap::Error>() {
            Ok(usage) => {
                let _ = usage.print();
                ExitCode::from(usage.exit_code() as u8)
            }
            Err(e) => {
                failure::tell(&e);
                ExitCode::FAILURE
            }
        },
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
