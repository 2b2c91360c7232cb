//! Pages of every verb, of real programs, light and dark: nothing is complained of, nothing is asked for, nothing
//! is wider than its window.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use pydefrag_harness::browser::View;
use pydefrag_harness::{Interpreter, Target, repository};
use serde_json::json;

use super::{fits, folder, open, python, quiet, ready, told};
use crate::support::{pydefrag, text};

/// The examples, and a size of each that takes about a second.
const EXAMPLES: &[(&str, &str)] = &[
    ("session_cache.py", "30000"),
    ("json_document.py", "20000"),
    ("lru_cache.py", "30"),
    ("request_threads.py", "2000"),
    ("mmap_threshold.py", "40"),
    ("prefork.py", "50000"),
    ("healthy.py", "80000"),
    ("leak.py", "50000"),
    ("reused_peak.py", "50000"),
];

/// The page of a run of an example.
pub(super) fn ran(interpreter: &Interpreter, example: &str, size: &str, folder: &Path) -> PathBuf {
    let html = folder.join(example).with_extension("html");
    let mut command = pydefrag(&["run", "--html", &html.display().to_string(), "--python"]);
    command.arg(&interpreter.program);
    command.envs(interpreter.env.iter().map(|(key, value)| (key, value)));
    command.arg(repository().join("examples").join(example));
    if !size.is_empty() {
        command.args(["--size", size]);
    }
    let out = command.stdin(Stdio::null()).output().expect("the binary starts");
    assert!(out.status.success(), "{example}: {}", text(&out).1);
    html
}

/// A page in both themes: quiet, of that kind, with so many looks, and as wide as its window.
fn sound(html: &Path, kind: &str, looks: usize, what: &str) {
    let Some(mut page) = open(html, View::wide(1280)) else { return };
    for dark in [false, true] {
        let what = format!("{what}, {}", if dark { "dark" } else { "light" });
        page.resize(View { dark, ..View::wide(1280) });
        page.reload();
        ready(&mut page);
        assert_eq!(page.text("pydefrag.facts.kind"), kind, "{what}");
        assert_eq!(page.eval("pydefrag.facts.looks.length"), json!(looks), "{what}");
        assert_eq!(page.eval("pydefrag.maps.filter(Boolean).length"), json!(looks), "{what}");
        // The theme is the reader's: the page's ground is dark where it is wanted.
        let ground = page.number(
            "(() => { const [r, g, b, a] = getComputedStyle(document.documentElement).backgroundColor.match(/[\\d.]+/g).map(Number);
               return a === 0 ? -1 : (r + g + b) / 3; })()",
        );
        assert!(
            if dark { (0.0..80.0).contains(&ground) } else { ground > 200.0 },
            "{what}: {ground}"
        );
        fits(&mut page, dark, &what);
        quiet(&mut page, html, &what);
    }
}

#[test]
fn pages_of_runs() {
    let Some(interpreter) = python() else { return };
    let folder = folder();
    for (example, size) in EXAMPLES {
        let html = ran(interpreter, example, size, folder.path());
        sound(&html, "snapshot", 1, example);
    }
}

#[test]
fn pages_of_looks_on_the_oldest_and_the_newest() {
    for name in ["3.8", "3.15"] {
        let Some(interpreter) = pydefrag_harness::Interpreters::load().get(name) else { continue };
        let folder = folder();
        let target = Target::spawn(interpreter, "mixed.py", &["rand5"], &[]);
        target.wait_blocked();
        let (pid, html) = (target.pid().to_string(), folder.path().join("look.html"));
        told(&["snapshot", &pid, "--html", &html.display().to_string()]);
        sound(&html, "snapshot", 1, &format!("snapshot on {name}"));
        told(&["snapshot", &pid, "--no-objects", "--html", &html.display().to_string()]);
        sound(&html, "snapshot", 1, &format!("snapshot without objects on {name}"));
    }
}

#[test]
fn the_page_of_a_difference() {
    let Some(interpreter) = python() else { return };
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut target = Target::spawn(interpreter, "mixed.py", &["rand5"], &[]);
    target.wait_blocked();
    let pid = target.pid().to_string();
    told(&["snapshot", &pid, "-o", &path("before.pdsnap")]);
    target.ask("eval globals().update(more=[[n] for n in range(200000)])");
    target.wait_blocked();
    told(&["diff", &path("before.pdsnap"), &pid, "--html", &path("diff.html")]);
    sound(&folder.path().join("diff.html"), "diff", 2, "diff");
}

#[test]
fn the_page_of_a_tree() {
    let Some(interpreter) = python() else { return };
    let folder = folder();
    let html = folder.path().join("tree.html");
    let script = repository().join("examples/prefork.py").display().to_string();
    let target = Target::spawn(interpreter, &script, &["--hold", "--size", "20000"], &[]);
    let pid = target.pid().to_string();
    told(&["snapshot", &pid, "--tree", "--html", &html.display().to_string()]);
    let json = told(&["snapshot", &pid, "--tree", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("stdout is JSON");
    let members = json["members"].as_array().expect("members").len();
    assert!(members > 2, "{members} processes");
    sound(&html, "tree", members, "tree");
}
