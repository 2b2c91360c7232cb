//! The files of a recording: `.part` while they are written, and finished after.
//!
//! Owns their names, and that a finished one appears whole or not at all. Invariant: what a program has written is removed only
//! when the finished file is there.

use std::collections::BTreeSet;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use pydefrag_trace::{Compressed, Trace, compress};

use crate::failure::hinted;
use crate::output::{check, write_with};
use crate::progress::Progress;

/// Names of one recording.
pub(crate) struct Files {
    /// The finished file.
    pub(crate) output: PathBuf,
    /// What the agent writes.
    pub(crate) part: PathBuf,
    before: BTreeSet<PathBuf>,
}

impl Files {
    /// Refuses what cannot be written, or would destroy a recording that was not finished.
    pub(crate) fn new(output: &Path) -> anyhow::Result<Files> {
        check(output)?;
        let output = std::path::absolute(output)?;
        let mut part = output.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        if part.exists() {
            let name = part.display();
            return Err(hinted(
                format!("{name} is there: a recording that is still written, or was not finished"),
                format!("pydefrag report {name}   (shows it; remove it to record anew)"),
            ));
        }
        let mut files = Files { output, part, before: BTreeSet::new() };
        files.before = files.listed();
        Ok(files)
    }

    /// Files that children have written: `app.4242.pdtrace.part` beside `app.pdtrace.part`.
    pub(crate) fn of_children(&self) -> Vec<PathBuf> {
        self.listed().difference(&self.before).cloned().collect()
    }

    fn listed(&self) -> BTreeSet<PathBuf> {
        let name = self.output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".pdtrace").unwrap_or(&name).to_owned() + ".";
        let folder = self.output.parent().map(std::fs::read_dir);
        let entries = folder.into_iter().flatten().flatten().flatten();
        let of_child = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix(&stem)
                .and_then(|n| n.strip_suffix(".pdtrace.part"))
                .is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
        };
        entries.map(|e| e.path()).filter(of_child).collect()
    }
}

/// Makes the finished file of what the agent has written, which is then removed. Returns its name.
pub(crate) fn finish(part: &Path) -> anyhow::Result<(PathBuf, Compressed)> {
    let output = part.with_extension("");
    let bar = Progress::shares("compressing the recording");
    let mut done = Compressed::default();
    write_with(&output, |file| {
        let mut file = BufWriter::new(file);
        done = compress(part, &mut file, &|done, total| bar.set(done, total))
            .map_err(|e| std::io::Error::other(e.to_string()))?;
        std::io::Write::flush(&mut file)
    })?;
    bar.finish();
    let _ = std::fs::remove_file(part);
    Ok((output, done))
}

/// Whether the process that writes a file still runs.
pub(crate) fn is_written(part: &Path) -> bool {
    let Ok(trace) = Trace::open(part) else { return false };
    let pid = trace.begin.pid as i32;
    trace.end.is_none() && pydefrag_image::Glance::of(pid).is_some_and(|g| !g.ended)
}
