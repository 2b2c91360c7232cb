//! Allocators that may stand in malloc's place, from the machine's own suite, so that they fit its C library.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use pydefrag_harness::interpreters::Allocators;

use super::{download, remove, run};

/// Brings them, unless they are there as they should be.
pub(super) fn bring(allocators: &Allocators, cache: &Path) -> Result<()> {
    let folder = cache.join("allocators");
    let suite = suite(&fs::read_to_string("/etc/os-release")?)
        .context("the machine's os-release names no Debian suite")?;
    let stamp = folder.join("stamp");
    let names: Vec<_> = allocators.packages.iter().map(|names| names.join(" ")).collect();
    let recipe = format!("1\n{suite} {}\n", names.join("\n"));
    if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == recipe) {
        return Ok(());
    }
    remove(&stamp)?;
    remove(&folder.join("root"))?;
    for names in &allocators.packages {
        let (first, others) = names.split_first().context("an allocator without a package")?;
        let get = |name: &String| {
            download(&suite, "main", std::slice::from_ref(name), &folder.join("apt"))
        };
        let mut files = get(first);
        for name in others {
            files = files.or_else(|_| get(name));
        }
        for file in files? {
            run(Command::new("dpkg").arg("-x").arg(file).arg(folder.join("root")))?;
        }
    }
    fs::write(stamp, recipe)?;
    Ok(())
}

/// The suite of a Debian system, as in `bookworm`.
fn suite(os_release: &str) -> Option<String> {
    let field = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    (field("ID")? == "debian").then(|| field("VERSION_CODENAME"))?
}

#[cfg(test)]
mod tests {
    use super::suite;

    #[test]
    fn the_suite_is_debians_own() {
        let debian = "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(suite(debian).as_deref(), Some("bookworm"));
        assert_eq!(suite(&debian.replace("ID=debian", "ID=ubuntu")), None);
    }
}
