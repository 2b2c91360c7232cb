//! Whether a program can be recorded, as far as its file tells: the loader must heed LD_PRELOAD.
//!
//! A command may be a script, or start another program: what becomes of those is only known when nothing was recorded.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::failure::hinted;

/// Bytes of a file in which its interpreter is named.
const HEAD: u64 = 64 << 10;

/// An error that says why `file` cannot be recorded.
pub(crate) fn can_be_recorded(file: &Path) -> anyhow::Result<()> {
    match why_not(file) {
        None => Ok(()),
        Some((why, hint)) => {
            Err(hinted(format!("{} cannot be recorded: {why}", file.display()), hint))
        }
    }
}

fn why_not(file: &Path) -> Option<(&'static str, &'static str)> {
    const ANOTHER: &str =
        "pydefrag record --python PATH SCRIPT   (PATH to an interpreter that can be)";
    let metadata = file.metadata().ok()?;
    let root = nix::unistd::geteuid().is_root();
    // Set-user-id and set-group-id; for root the loader sees no difference in ids.
    if metadata.mode() & 0o6000 != 0 && !(root && metadata.uid() == 0) {
        return Some((
            "it is set-user-id, and the loader then preloads nothing",
            "run it as the user it runs as, without the bit",
        ));
    }
    if has_capabilities(file) {
        return Some((
            "it has file capabilities, and the loader then preloads nothing",
            "setcap -r FILE   (takes them away)",
        ));
    }
    let mut head = Vec::new();
    std::fs::File::open(file).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    match interpreter(&head) {
        None => Some((
            "it is linked statically, and has no loader that could preload the agent",
            ANOTHER,
        )),
        Some(name) if name.windows(7).any(|w| w == b"ld-musl") => {
            Some(("it is built for musl, and the agent is for glibc", ANOTHER))
        }
        Some(_) => None,
    }
}

/// `PT_INTERP` of a 64-bit little-endian ELF file, from its head.
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    let number = |at: usize, bytes: usize| {
        let mut n = [0; 8];
        n[..bytes].copy_from_slice(head.get(at..at.checked_add(bytes)?)?);
        Some(u64::from_le_bytes(n))
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).find_map(|i| {
        let at = usize::try_from(table.checked_add(i * size)?).ok()?;
        if number(at, 4)? != 3 {
            return None;
        }
        let from = usize::try_from(number(at + 8, 8)?).ok()?;
        let length = usize::try_from(number(at + 32, 8)?).ok()?;
        head.get(from..from.checked_add(length)?)
    })
}

fn has_capabilities(file: &Path) -> bool {
    use std::process::{Command, Stdio};
    // No library that is here reads extended attributes; the tool is where capabilities are in use.
    let out = Command::new("getcap").arg(file).stderr(Stdio::null()).output();
    out.is_ok_and(|out| !out.stdout.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_preloaded_into_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        // A head without program headers: static.
        let mut elf = vec![0u8; 64];
        elf[..4].copy_from_slice(b"\x7fELF");
        std::fs::write(&file, &elf).unwrap();
        assert!(why_not(&file).unwrap().0.contains("statically"));
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        let mut header = vec![0u8; 56];
        header[0] = 3;
        header[8] = 120;
        header[32] = 20;
        elf.extend(header);
        let with = |name: &[u8]| {
            let mut elf = elf.clone();
            elf.extend(name);
            std::fs::write(&file, elf).unwrap();
            why_not(&file).map(|w| w.0)
        };
        assert!(with(b"/lib/ld-musl-x86.so\0").unwrap().contains("musl"));
        assert_eq!(with(b"/lib64/ld-linux-x86\0"), None);
        std::fs::write(&file, b"#!/bin/sh\n").unwrap();
        assert_eq!(why_not(&file), None);
    }
}
