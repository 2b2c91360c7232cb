//! `pydefrag report FILE`: shows a snapshot that was kept.

use anyhow::Context;
use pydefrag_heap::pdsnap;
use pydefrag_report::{json, text};

use crate::args::Report;
use crate::failure::hinted;
use crate::output;

pub(crate) fn run(args: &Report) -> anyhow::Result<()> {
    let path = args.file.display();
    let bytes = std::fs::read(&args.file).with_context(|| format!("{path} could not be read"))?;
    let decoded = pdsnap::decode(&bytes).map_err(|e| {
        let hint = match &e {
            pdsnap::Error::Newer { .. } => {
                "update pydefrag, or take the snapshot again with this one"
            }
            _ => "pydefrag snapshot PID -o FILE.pdsnap   (takes it again)",
        };
        hinted(format!("{path}: {e}"), hint)
    })?;
    if let Some(damage) = &decoded.damage {
        eprintln!(
            "pydefrag: {path} is damaged: {damage}; the account is whole, pool details are not"
        );
    }
    output::print(&match args.json {
        true => json::render(&decoded.snapshot),
        false => text::render(&decoded.snapshot, output::style()),
    })
}
