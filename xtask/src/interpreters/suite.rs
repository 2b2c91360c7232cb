//! CPython's own tests for Debian's interpreters, which have them in a package of their own: unpacked into the same
//! root when somebody wants to run them, with what lies here, which goes with that root.
//!
//! | in `root/suite/` | is |
//! |---|---|
//! | `bin/` | the bound interpreters again: beside `lib`, they find their library without PYTHONHOME, as the isolated children of many tests must |
//! | `lib` | a link to `usr/lib` |
//! | `X.Y` | a stamp |

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use pydefrag_harness::interpreters::Manifest;
use pydefrag_harness::{Interpreter, cache};

use super::{download, run};

/// The interpreter as it runs its own tests; brings them where it is one that we have unpacked.
pub(crate) fn with_suite(interpreter: &Interpreter) -> Result<Interpreter> {
    if interpreter.source != "debian" {
        return Ok(interpreter.clone());
    }
    let minor = format!("{}.{}", interpreter.major, interpreter.minor);
    let root = cache().join("root");
    let folder = root.join("suite");
    let program = folder.join("bin").join(format!("python{minor}"));
    let stamp = folder.join(&minor);
    if !fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == interpreter.patch) {
        let debian = Manifest::load().debian;
        let names = [format!("libpython{minor}-testsuite")];
        for package in download(&debian.suite, &debian.component, &names, &cache().join("apt"))? {
            run(Command::new("dpkg").arg("-x").arg(package).arg(&root))?;
        }
        fs::create_dir_all(folder.join("bin"))?;
        let lib = folder.join("lib");
        if !lib.exists() {
            symlink(Path::new("../usr/lib"), lib)?;
        }
        fs::copy(&interpreter.program, &program)
            .with_context(|| interpreter.program.display().to_string())?;
        fs::write(stamp, &interpreter.patch)?;
    }
    Ok(Interpreter { program, env: Vec::new(), ..interpreter.clone() })
}
