//! `cargo xtask pictures`: makes the pictures of README and docs again, from the examples, in a real browser.
//!
//! Owns which pictures there are. Each is made light and dark: `docs/pictures/NAME-light.png`, `NAME-dark.png`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use pydefrag_harness::browser::{Page, View, address};
use pydefrag_harness::{Interpreter, Interpreters, repository};

/// The interpreter that the examples run on.
const INTERPRETER: &str = "3.13";

/// A picture is not larger than this, for a reader waits for it.
const LARGEST: usize = 250_000;

/// One picture.
struct Picture {
    /// Its name, without theme and ending.
    name: &'static str,
    /// Of which page.
    page: &'static str,
    /// What the reader does first.
    first: &'static str,
    /// The part of the page: of this element, or the window's.
    part: Option<&'static str>,
    /// The window.
    size: (u32, u32),
}

const PICTURES: &[Picture] = &[
    Picture {
        name: "session-cache",
        page: "session_cache",
        first: "",
        part: None,
        size: (1280, 900),
    },
    Picture {
        name: "map-owner",
        page: "session_cache",
        first: "pydefrag.state.set({ owner: pydefrag.facts.looks[0].snapshot.pins.by_owner[0].head })",
        part: Some("#map"),
        size: (1280, 900),
    },
    Picture {
        name: "map-blocks",
        page: "session_cache",
        first: "pydefrag.maps[0].show(pydefrag.heaps[0].block(pydefrag.heaps[0].blockCount - 9000).address)",
        part: Some("#map"),
        size: (1280, 900),
    },
];

/// Makes all pictures.
pub(crate) fn make() -> Result<()> {
    let interpreter = Interpreters::load().get(INTERPRETER).context("cargo xtask interpreters")?;
    let tool = tool()?;
    let folder = tempfile::tempdir()?;
    let into = repository().join("docs/pictures");
    fs::create_dir_all(&into)?;
    run(&tool, interpreter, "session_cache", folder.path())?;
    for picture in PICTURES {
        for dark in [false, true] {
            let bytes = taken(picture, folder.path(), dark)?;
            let theme = if dark { "dark" } else { "light" };
            let file = into.join(format!("{}-{theme}.png", picture.name));
            println!("{}: {} bytes", file.display(), bytes.len());
            ensure!(bytes.len() <= LARGEST, "{} is larger than {LARGEST} bytes", picture.name);
            fs::write(file, bytes)?;
        }
    }
    Ok(())
}

/// The release binary of the tool.
fn tool() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "-p", "pydefrag-cli"]).current_dir(repository());
    succeed(&mut build)?;
    let us = std::env::current_exe()?;
    let folder = us.parent().and_then(Path::parent).context("our own folder")?;
    Ok(folder.join("release/pydefrag"))
}

/// The page of a run of an example.
fn run(tool: &Path, interpreter: &Interpreter, example: &str, folder: &Path) -> Result<()> {
    let mut command = Command::new(tool);
    command.arg("run").arg("--html").arg(page_of(example, folder));
    // As a reader would type it: no path of this machine is in a picture.
    command.arg(format!("examples/{example}.py")).current_dir(repository());
    let bin = interpreter.program.parent().context("the interpreter's folder")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(paths)?);
    command.envs(interpreter.env.iter().map(|(key, value)| (key, value)));
    succeed(&mut command)
}

fn page_of(name: &str, folder: &Path) -> PathBuf {
    folder.join(name).with_extension("html")
}

fn succeed(command: &mut Command) -> Result<()> {
    let out = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{command:?}: {said}");
    Ok(())
}

/// Takes a picture.
fn taken(picture: &Picture, folder: &Path, dark: bool) -> Result<Vec<u8>> {
    let (width, height) = picture.size;
    let Some(mut page) = Page::blank(View { width, height, scale: 1.0, dark }) else {
        bail!("chromium is lacking");
    };
    page.go(&address(&page_of(picture.page, folder)));
    page.wait("document.documentElement.dataset.ready === 'map'");
    if !picture.first.is_empty() {
        page.eval(picture.first);
    }
    page.settle();
    let complaints = page.complaints();
    ensure!(complaints.is_empty(), "{}: {complaints:?}", picture.name);
    let Some(part) = picture.part else { return Ok(page.picture()) };
    let found = page.eval(&format!(
        "(() => {{ const b = document.querySelector('{part}').getBoundingClientRect();
           return [b.x + scrollX, b.y + scrollY, b.width, b.height]; }})()"
    ));
    let [x, y, width, height] = [0, 1, 2, 3].map(|i| found[i].as_f64().unwrap_or_default());
    Ok(page.picture_of([x, y, width, height]))
}
