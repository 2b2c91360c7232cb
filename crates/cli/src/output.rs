//! Where output goes: stdout, and files that appear whole or not at all.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use pydefrag_report::Style;

/// Prints a result on stdout.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Colour on a terminal that wants it (NO_COLOR, TERM=dumb), Unicode where the locale has it.
pub(crate) fn style() -> Style {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let dumb = set("TERM").is_none_or(|t| t == "dumb");
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    let plain = locale.is_some_and(|l| l == "C" || l == "POSIX");
    let forced = set("CLICOLOR_FORCE").is_some_and(|v| v != "0");
    let wanted = forced || std::io::stdout().is_terminal() && !dumb;
    Style { color: wanted && set("NO_COLOR").is_none(), unicode: !plain }
}

/// Whether an error is a reader of stdout that went away.
pub(crate) fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|c| c.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Writes a file so that its name never stands for half of it: to a temporary file beside it, to the
/// disk, then renamed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let said = || format!("{} could not be written", path.display());
    if path.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory)).with_context(said);
    }
    // What is no regular file (a pipe, /dev/stdout) cannot be replaced by one.
    if path.metadata().is_ok_and(|m| !m.is_file()) {
        return std::fs::write(path, bytes).with_context(said);
    }
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".pydefrag-")
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(said)?;
    file.write_all(bytes).with_context(said)?;
    file.as_file().sync_all().with_context(said)?;
    file.persist(path).map_err(|e| e.error).with_context(said)?;
    Ok(())
}
