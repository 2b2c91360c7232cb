//! `pydefrag report FILE`: shows a snapshot that was kept.

use pydefrag_report::{html, json, text};

use super::snapshot::picture;
use crate::args::Report;
use crate::{kept, output};

pub(crate) fn run(args: &Report) -> anyhow::Result<()> {
    args.html.as_deref().map_or(Ok(()), output::check_page)?;
    let (snapshot, detail) = kept::read(&args.file)?;
    if let Some(path) = &args.html {
        let look = html::Look { snapshot: &snapshot, detail: &detail };
        output::write_page(path, &html::snapshot(look))?;
    }
    output::print(&match args.json {
        true => json::render(&snapshot),
        false => text::render(&snapshot, output::style()) + &picture(&detail, args.no_map),
    })
}
