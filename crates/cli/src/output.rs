//! Where output goes: stdout, and files that appear whole or not at all.

use std::io::{IsTerminal, Write};
use std::path::Path;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use pydefrag_report::Style;

use crate::failure::{hinted, say};

/// Prints a result on stdout.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| failed(e, "the output", "pydefrag … > FILE   (FILE where there is room)"))
}

/// The style for stdout.
pub(crate) fn style() -> Style {
    style_of(std::io::stdout().is_terminal())
}

/// The style for a picture on stdout; `None` where there is no colour terminal to show one.
pub(crate) fn picture_style() -> Option<Style> {
    let terminal = std::io::stdout().is_terminal();
    terminal.then(style).filter(|style| style.color)
}

/// The style for stderr.
pub(crate) fn stderr_style() -> Style {
    style_of(std::io::stderr().is_terminal())
}

/// The style for a file: without colour.
pub(crate) fn file_style() -> Style {
    Style { color: false, ..style_of(false) }
}

/// Colour on a terminal that wants it (NO_COLOR, TERM=dumb), Unicode where the locale has it.
fn style_of(terminal: bool) -> Style {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let dumb = set("TERM").is_none_or(|t| t == "dumb");
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    let unicode = locale.is_some_and(|l| {
        let name = l.to_string_lossy().to_ascii_lowercase();
        name.contains("utf-8") || name.contains("utf8")
    });
    let forced = set("CLICOLOR_FORCE").is_some_and(|v| v != "0");
    let wanted = forced || terminal && !dumb;
    Style { color: wanted && set("NO_COLOR").is_none(), unicode }
}

/// Prints a report on stderr. That nobody reads it (any more) is no failure.
pub(crate) fn print_stderr(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Whether a page could be written under this name.
pub(crate) fn check_page(path: &Path) -> anyhow::Result<()> {
    if path.as_os_str() == "-" {
        let file = "pydefrag snapshot PID --html FILE.html   (or ./- for a file of that name)";
        return Err(hinted("a page is not written to stdout, where the report goes", file));
    }
    check(path)
}

/// Whether a file could be written under this name: its folder is there and takes one.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    let failed = |e: std::io::Error| failed(e, &path.display().to_string(), &elsewhere(path));
    match path.metadata() {
        Ok(m) if m.is_dir() => Err(failed(std::io::ErrorKind::IsADirectory.into())),
        Ok(m) if !m.is_file() => Ok(()),
        _ => {
            let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            uninterrupted(|| temporary_beside(&file).map(drop)).map_err(failed)
        }
    }
}

/// Whether an error is a reader of stdout that went away.
pub(crate) fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|c| c.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Writes a report that is a page, and says where it is.
pub(crate) fn write_page(path: &Path, page: &str) -> anyhow::Result<()> {
    write_whole(path, page.as_bytes())?;
    say(&format!("written to {}; open it in a browser", path.display()));
    Ok(())
}

/// How a file that cannot be written would be.
fn elsewhere(path: &Path) -> String {
    let is = |extension: &str| path.extension().is_some_and(|e| e == extension);
    let command = if is("html") || is("htm") {
        "pydefrag snapshot PID --html FILE.html"
    } else {
        "pydefrag snapshot PID -o FILE.pdsnap"
    };
    format!("{command}   (FILE in a folder that can be written and has room)")
}

/// Writes a file so that its name never stands for half of it: to a temporary file beside it, to the
/// disk, then renamed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    // What is no regular file (a pipe, /dev/stdout) cannot be replaced by one.
    if path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        let written = std::fs::write(path, bytes);
        return written.map_err(|e| failed(e, &path.display().to_string(), &elsewhere(path)));
    }
    write_with(path, |file| file.write_all(bytes))
}

/// The same, written bit by bit by `write`.
pub(crate) fn write_with(
    path: &Path,
    write: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    // A link goes on naming what it names.
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let written = uninterrupted(|| replace(&file, write));
    written.map_err(|e| failed(e, &path.display().to_string(), &elsewhere(path)))
}

/// The signals by which somebody asks for an end.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Whether one of them waits to be let through (proc_pid_status(5): SigPnd of the thread, ShdPnd of the process).
fn is_end_wanted() -> bool {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let masks = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    let pending = masks.fold(0, |all, mask| all | mask);
    ENDING.iter().any(|signal| pending >> (*signal as u32 - 1) & 1 == 1)
}

/// Ctrl-C waits until a temporary file has its name or is gone.
fn uninterrupted<T>(work: impl FnOnce() -> T) -> T {
    let ending: SigSet = ENDING.into_iter().collect();
    let before = ending.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let done = work();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    done
}

/// A failure to write, unless it is a reader that went away.
fn failed(e: std::io::Error, what: &str, hint: &str) -> anyhow::Error {
    match e.kind() {
        std::io::ErrorKind::BrokenPipe => e.into(),
        _ => hinted(format!("{what} could not be written: {e}"), hint),
    }
}

fn replace(
    path: &Path,
    write: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    if path.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let mut file = temporary_beside(path)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    // Both may have taken long: whoever has asked for an end meanwhile wants no file any more.
    if is_end_wanted() {
        return Err(std::io::ErrorKind::Interrupted.into());
    }
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// A temporary file in the folder of `path`, gone when dropped.
fn temporary_beside(path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    // tempfile's own errors name a file that nobody asked for.
    std::fs::metadata(folder)?;
    tempfile::Builder::new()
        .prefix(".pydefrag-")
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(|e| e.kind().into())
}
