//! `pydefrag report FILE`: shows a snapshot that was kept.

use pydefrag_report::{json, text};

use crate::args::Report;
use crate::{kept, output};

pub(crate) fn run(args: &Report) -> anyhow::Result<()> {
    let snapshot = kept::read(&args.file)?;
    output::print(&match args.json {
        true => json::render(&snapshot),
        false => text::render(&snapshot, output::style()),
    })
}
