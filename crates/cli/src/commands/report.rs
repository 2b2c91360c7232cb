//! `pydefrag report FILE`: shows a snapshot that was kept.

use std::io::Read;
use std::path::Path;

use pydefrag_heap::pdsnap;
use pydefrag_report::{json, text};

use crate::args::Report;
use crate::failure::{hinted, say};
use crate::output;

const TAKE_ONE: &str = "pydefrag snapshot PID -o FILE.pdsnap   (takes one)";

pub(crate) fn run(args: &Report) -> anyhow::Result<()> {
    let path = args.file.display();
    let bytes =
        read(&args.file).map_err(|e| hinted(format!("{path} could not be read: {e}"), TAKE_ONE))?;
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
    output::print(&match args.json {
        true => json::render(&decoded.snapshot),
        false => text::render(&decoded.snapshot, output::style()),
    })
}

/// The whole file, if it begins as it must: what is something else may have no end.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(pdsnap::MAGIC.len() as u64).read_to_end(&mut bytes)?;
    if bytes == pdsnap::MAGIC {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
