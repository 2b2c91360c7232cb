//! Snapshots that were kept: from a file's name to what is in it, or a failure that says why not.
//!
//! Owns the words and hints of these failures. The format is the heap crate's.

use std::io::Read;
use std::path::Path;

use pydefrag_heap::{Detail, Snapshot, pdsnap};

use crate::failure::{hinted, say};

const TAKE_ONE: &str = "pydefrag snapshot PID -o FILE.pdsnap   (takes one)";

/// The snapshot in a file, judged, and the heap behind it. What is missing of a damaged file is told on stderr.
pub(crate) fn read(file: &Path) -> anyhow::Result<(Snapshot, Detail)> {
    let path = file.display();
    let bytes =
        bytes(file).map_err(|e| hinted(format!("{path} could not be read: {e}"), TAKE_ONE))?;
    let decoded = pdsnap::decode(&bytes).map_err(|e| {
        let hint = match &e {
            pdsnap::Error::Newer { .. } => {
                "update pydefrag, or take the snapshot again with this one"
            }
            _ => TAKE_ONE,
        };
        hinted(format!("{path}: {e}"), hint)
    })?;
    if let Some(damage) = &decoded.damage {
        say(&format!(
            "pydefrag: {path} is damaged: {damage}; the account is whole, pool details are not"
        ));
    }
    let mut snapshot = decoded.snapshot;
    // Version 1 had no verdicts.
    if snapshot.verdict.is_none() {
        snapshot.verdict = pydefrag_advise::verdict(&snapshot);
    }
    Ok((snapshot, decoded.detail))
}

/// The whole file, if it begins as it must: what is something else may have no end.
fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(pdsnap::MAGIC.len() as u64).read_to_end(&mut bytes)?;
    if bytes == pdsnap::MAGIC {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
