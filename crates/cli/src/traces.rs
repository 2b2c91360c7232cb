//! Recordings that were kept: from a file's name to what it adds up to, or a failure that says why not; and how that is
//! shown.

use std::io::Read;
use std::path::Path;

use pydefrag_heap::Recording;
use pydefrag_report::{Style, html, recording};
use pydefrag_trace::{Error, Trace, chunk, placed, sum_named};
use pydefrag_walk::Sites;

use crate::failure::hinted;
use crate::output;
use crate::progress::Progress;
use crate::symbols::Files;

/// Whether a file begins as a recording does.
pub(crate) fn is_trace(path: &Path) -> bool {
    let mut head = Vec::new();
    let file = std::fs::File::open(path);
    let read = file.and_then(|f| f.take(chunk::MAGIC.len() as u64).read_to_end(&mut head));
    read.is_ok() && head == chunk::MAGIC
}

/// A recording in a file, added up, and the open file.
pub(crate) fn read(path: &Path) -> anyhow::Result<(Recording, Trace)> {
    let trace = Trace::open(path).map_err(|e| {
        let hint = match &e {
            Error::Newer { .. } => "update pydefrag, or record again with this one",
            Error::Older { .. } => "record again with this one",
            _ => "pydefrag record -o FILE.pdtrace …   (makes one)",
        };
        hinted(format!("{}: {e}", path.display()), hint)
    })?;
    let bar = Progress::shares("reading the recording");
    let mut symbols = Files::default();
    let summed = sum_named(&trace, &mut symbols, &|done, total| bar.set(done, total));
    bar.finish();
    Ok((summed, trace))
}

/// The report, as text or JSON.
pub(crate) fn text(recording: &Recording, json: bool, style: Style) -> String {
    match json {
        true => recording::render_json(recording),
        false => recording::render(recording, style),
    }
}

/// The report as a page, where one is wanted.
pub(crate) fn page(path: Option<&Path>, recording: &Recording) -> anyhow::Result<()> {
    path.map_or(Ok(()), |path| output::write_page(path, &html::recording(recording)))
}

/// Where the blocks of a process that is being recorded were allocated, and what there is to say of that.
pub(crate) fn sites_of(pid: i32) -> Option<(Sites, String)> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let file = descriptors.flatten().map(|entry| entry.path()).find(|descriptor| {
        std::fs::read_link(descriptor)
            .is_ok_and(|file| file.to_string_lossy().ends_with(".pdtrace.part"))
    })?;
    let trace = Trace::open(&file).ok().filter(|trace| trace.begin.pid as i32 == pid)?;
    let placed = placed(&trace, &|_, _| {});
    let note = "lines that allocated are those of the recording that is being made: what it has not yet written is not known";
    Some((Sites::told(placed.places, placed.blocks), note.into()))
}
