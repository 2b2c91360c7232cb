//! Other C libraries: a few packages of another suite, unpacked into a root of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use pydefrag_harness::interpreters::Libc;

use super::{download, remove, run};

/// Brings one of them, unless it is there as it should be.
pub(super) fn bring(libc: &Libc, cache: &Path) -> Result<()> {
    let folder = cache.join("libc");
    let (root, apt) = (folder.join(&libc.version), folder.join("apt").join(&libc.version));
    let (stamp, recipe) =
        (apt.join("stamp"), format!("1\n{} {}\n", libc.suite, libc.packages.join(" ")));
    if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == recipe) {
        return Ok(());
    }
    remove(&stamp)?;
    let packages = download(&libc.suite, "main", &libc.packages, &apt)?;
    remove(&root)?;
    for package in &packages {
        run(Command::new("dpkg").arg("-x").arg(package).arg(&root))?;
    }
    fs::write(stamp, recipe)?;
    Ok(())
}
