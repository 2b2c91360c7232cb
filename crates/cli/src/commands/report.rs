//! `pydefrag report FILE`: shows a snapshot or a recording that was kept.

use pydefrag_report::{html, json, text};

use super::snapshot::picture;
use pydefrag_report::formats;

use crate::args::{Format, Report};
use crate::failure::{hinted, say};
use crate::{kept, output, traces};

pub(crate) fn run(args: &Report) -> anyhow::Result<()> {
    args.html.as_deref().map_or(Ok(()), output::check_page)?;
    if traces::is_trace(&args.file) {
        return of_trace(args);
    }
    if args.format.is_some() {
        return Err(hinted(
            format!("{} is no recording, and --format is for recordings", args.file.display()),
            "pydefrag report FILE --html FILE.html   (a snapshot as a page)",
        ));
    }
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

fn of_trace(args: &Report) -> anyhow::Result<()> {
    if let Some(path) = &args.output {
        output::check(path)?;
    }
    let (recording, _) = traces::read(&args.file)?;
    if let (Some(format), Some(path)) = (args.format, &args.output) {
        let format = match format {
            Format::Pprof => formats::Format::Pprof,
            Format::Speedscope => formats::Format::Speedscope,
            Format::Firefox => formats::Format::Firefox,
            Format::Folded => formats::Format::Folded,
        };
        output::write_whole(path, &formats::export(&recording, format))?;
        say(&format!("written to {}", path.display()));
        return Ok(());
    }
    traces::page(args.html.as_deref(), &recording)?;
    output::print(&traces::text(&recording, args.json, output::style()))
}
