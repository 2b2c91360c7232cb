//! CPython's own tests for Debian's interpreters, which have them in a package of their own: unpacked into the same
//! root when somebody wants to run them. Its stamp lies in that root and goes with it.

use std::fs;
use std::process::Command;

use anyhow::Result;
use pydefrag_harness::interpreters::Manifest;
use pydefrag_harness::{Interpreter, cache};

use super::{download, run};

/// Brings the tests of this interpreter, where it is one that we have unpacked.
pub(crate) fn bring_suite(interpreter: &Interpreter) -> Result<()> {
    if interpreter.source != "debian" {
        return Ok(());
    }
    let minor = format!("{}.{}", interpreter.major, interpreter.minor);
    let root = cache().join("root");
    let stamp = root.join(format!(".testsuite-{minor}"));
    if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == interpreter.patch) {
        return Ok(());
    }
    let debian = Manifest::load().debian;
    let names = [format!("libpython{minor}-testsuite")];
    for package in download(&debian.suite, &debian.component, &names, &cache().join("apt"))? {
        run(Command::new("dpkg").arg("-x").arg(package).arg(&root))?;
    }
    fs::write(stamp, &interpreter.patch)?;
    Ok(())
}
