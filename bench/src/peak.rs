//! Peak RSS of a command, measured from a process that has no other children.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use nix::sys::resource::{UsageWho, getrusage};

/// Runs a command to its end and prints the peak RSS of our children in bytes.
pub(crate) fn of_children(command: &[String]) -> anyhow::Result<()> {
    let (program, args) = command.split_first().context("peak needs a command")?;
    let out = Command::new(program).args(args).output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss() * 1024);
    Ok(())
}

/// Peak RSS in bytes of the tool with these arguments.
pub(crate) fn of(tool: &Path, args: &[&str]) -> anyhow::Result<u64> {
    let out = Command::new(std::env::current_exe()?).arg("peak").arg(tool).args(args).output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.trim().parse()?)
}
