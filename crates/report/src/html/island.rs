//! Islands: data inside a page that no browser runs.
//!
//! Owns their escaping and compression. JSON stands as it is, with `<` escaped so that nothing in it can end the
//! island; columns are deflated and in base64.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;

/// The columns of a page.
#[derive(Default)]
pub(crate) struct Islands {
    columns: Vec<(String, Vec<u8>)>,
}

impl Islands {
    /// Adds a column.
    pub(crate) fn column(&mut self, id: String, bytes: Vec<u8>) {
        self.columns.push((id, bytes));
    }

    /// JSON as an island of its own.
    pub(crate) fn json(&self, id: &str, value: &impl Serialize) -> String {
        // Fails only for maps whose keys are not strings, and no type here has one.
        let json =
            serde_json::to_string(value).expect("plain data is JSON").replace('<', "\\u003c");
        format!("<script type=\"application/json\" id=\"{id}\">{json}</script>\n")
    }

    /// All columns, deflated by as many threads as there are cores.
    pub(crate) fn finish(self) -> String {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some((id, bytes)) = self.columns.get(i) else { return done };
                done.push((i, island(id, bytes)));
            }
        };
        let mut done: Vec<(usize, String)> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..workers.min(self.columns.len())).map(|_| scope.spawn(work)).collect();
            let joined = threads.into_iter().map(|t| t.join());
            joined.flat_map(|r| r.unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
        });
        done.sort_unstable_by_key(|d| d.0);
        done.into_iter().map(|d| d.1).collect()
    }
}

fn island(id: &str, bytes: &[u8]) -> String {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::new(6));
    // Writing into memory does not fail.
    let stored = deflate.write_all(bytes).and_then(|()| deflate.finish()).unwrap_or_default();
    let text = STANDARD.encode(stored);
    let length = bytes.len();
    format!(
        "<script type=\"application/octet-stream\" id=\"{id}\" data-bytes=\"{length}\">{text}</script>\n"
    )
}
