//! The HTML report as a reader has it: real files in a real browser, under real hands.
//!
//! What the page says is compared with the JSON of the same look; where it points, with what the process says of
//! itself. The page's own words for tests are `window.pydefrag` (`crates/report/src/html/assets/app.js`).

mod crafted;
mod extremes;
mod hostile;
mod keyboard;
mod modules;
mod numbers;
mod pages;
mod pointer;
mod reader;
mod recorded;

use std::path::{Path, PathBuf};

use pydefrag_harness::browser::{Page, View, address};
use pydefrag_harness::{Interpreter, Interpreters};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{run, text};

/// The widths of a phone, a laptop and a large screen.
const WIDTHS: [u32; 3] = [360, 1280, 1920];

/// The interpreter that most pages are of.
fn python() -> Option<&'static Interpreter> {
    Interpreters::load().get("3.13")
}

/// A folder for a test's files.
fn folder() -> TempDir {
    tempfile::Builder::new().prefix("pydefrag-page").tempdir().expect("a folder")
}

/// Runs the tool, which must succeed; its stdout.
fn told(args: &[&str]) -> String {
    let out = run(args);
    let (stdout, stderr) = text(&out);
    assert!(out.status.success(), "{args:?}: {stderr}");
    stdout
}

/// The page and the JSON of a kept snapshot, both by `report`.
fn reported(kept: &Path) -> (PathBuf, Value) {
    let (file, html) = (kept.display().to_string(), kept.with_extension("html"));
    told(&["report", &file, "--html", &html.display().to_string()]);
    let json = told(&["report", &file, "--json"]);
    (html, serde_json::from_str(&json).expect("stdout is JSON"))
}

/// The page and the JSON of one look at a process.
fn looked(pid: u32, folder: &Path) -> (PathBuf, Value) {
    let kept = folder.join("look.pdsnap");
    told(&["snapshot", &pid.to_string(), "-o", &kept.display().to_string()]);
    reported(&kept)
}

/// Opens a report and waits until it is all there; `None` where there is no browser.
fn open(html: &Path, view: View) -> Option<Page> {
    let mut page = Page::open(html, view)?;
    ready(&mut page);
    Some(page)
}

/// Waits until the page is all there.
fn ready(page: &mut Page) {
    page.wait("document.documentElement.dataset.ready === 'map'");
    page.settle();
}

/// Nothing was complained of, nothing but the file was asked for.
fn quiet(page: &mut Page, html: &Path, what: &str) {
    page.settle();
    assert_eq!(page.complaints(), [""; 0], "{what}");
    assert_eq!(page.requests(), [address(html)], "{what}");
}

/// At each width the page fits its window: it is never scrolled sideways.
fn fits(page: &mut Page, dark: bool, what: &str) {
    for width in WIDTHS {
        page.resize(View { dark, ..View::wide(width) });
        page.settle();
        let wide = page.eval(
            "(() => { const all = document.scrollingElement; if (all.scrollWidth <= all.clientWidth) return [];
               return [...document.body.querySelectorAll('*')]
                 .filter((e) => e.getBoundingClientRect().right > all.clientWidth + 0.5)
                 .filter((e) => { for (let p = e.parentElement; p !== document.body; p = p.parentElement) if (getComputedStyle(p).overflowX !== 'visible') return false; return true; })
                 .map((e) => e.outerHTML.slice(0, 120)).slice(0, 8).concat([String(all.scrollWidth)], [...document.body.querySelectorAll('*')].filter((e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'visible' && e.clientWidth > 0).map((e) => e.outerHTML.slice(0, 120)).slice(-4)); })()",
        );
        assert_eq!(wide, serde_json::json!([]), "{what}: wider than a window of {width}");
    }
}
