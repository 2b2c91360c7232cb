//! Which program is meant: a script, a module, code, or a command; and its argv.
//!
//! Owns the rule by which a script is told from a command. Starts nothing.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::args::Args;
use crate::failure::hinted;

/// A program to start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The file to execute.
    pub(crate) file: PathBuf,
    /// Its argv, with the name that a shell would have given.
    pub(crate) argv: Vec<OsString>,
}

const SCRIPTS_PYTHON: &str = "python3";

/// What the words on the command line mean; `python` is the interpreter that was asked for.
pub(crate) fn program(python: Option<&Path>, words: &[OsString]) -> anyhow::Result<Program> {
    let first = &words[0];
    let bytes = first.as_bytes();
    if bytes.starts_with(b"-m") || bytes.starts_with(b"-c") || bytes == b"-" {
        return with_python(python, words);
    }
    let path = Path::new(first);
    let kind = kind(path);
    match kind {
        Kind::Nothing => {}
        Kind::Script => return with_python(python, words),
        Kind::Text if python.is_some() => return with_python(python, words),
        Kind::Text | Kind::Elf if python.is_none() => {
            let file = match bytes.contains(&b'/') {
                true => path.to_owned(),
                false => Path::new(".").join(path),
            };
            return Ok(Program { file, argv: words.to_vec() });
        }
        Kind::Text | Kind::Elf => return Err(no_script(first)),
    }
    if bytes.contains(&b'/') {
        return Err(hinted(
            format!("{} does not exist", path.display()),
            "pydefrag run SCRIPT | -m MODULE | -c CODE | COMMAND",
        ));
    }
    let Some(file) = on_path(first) else {
        return Err(hinted(
            format!("{} is neither a file here nor a command on PATH", path.display()),
            "pydefrag run SCRIPT | -m MODULE | -c CODE | COMMAND",
        ));
    };
    match (python, self::kind(&file)) {
        (None, _) => Ok(Program { file, argv: words.to_vec() }),
        (Some(_), Kind::Elf) => Err(no_script(first)),
        (Some(_), _) => {
            let script = [file.into_os_string()].into_iter().chain(words[1..].iter().cloned());
            with_python(python, &script.collect::<Vec<_>>())
        }
    }
}

/// A mistyped option would otherwise be taken for a program.
pub(crate) fn not_an_option(verb: &str, words: &[OsString]) -> anyhow::Result<()> {
    let first = &words[0];
    let bytes = first.as_bytes();
    let ours = bytes.starts_with(b"-") && bytes != b"-";
    let known = bytes.starts_with(b"-m") || bytes.starts_with(b"-c") || Path::new(first).exists();
    if !ours || known {
        return Ok(());
    }
    let sentence = format!(
        "{} is no option of `pydefrag {verb}`, and no file; to give Python options of its own, run it as a \
         command: pydefrag {verb} python3 {0} …",
        first.to_string_lossy()
    );
    let mut all = Args::command();
    all.build();
    let run =
        all.find_subcommand_mut(verb).map(|run| run.error(ErrorKind::UnknownArgument, &sentence));
    Err(run.map_or_else(|| anyhow::anyhow!(sentence), Into::into))
}

fn no_script(name: &OsStr) -> anyhow::Error {
    let name = name.display();
    hinted(
        format!("{name} is a program of its own, which no interpreter runs"),
        format!("pydefrag run {name} …   (without --python)"),
    )
}

/// The interpreter with these arguments.
fn with_python(python: Option<&Path>, arguments: &[OsString]) -> anyhow::Result<Program> {
    let name = python.map_or(OsStr::new(SCRIPTS_PYTHON), Path::as_os_str);
    let file = match name.as_bytes().contains(&b'/') {
        true => Some(PathBuf::from(name)).filter(|p| executable(p)),
        false => on_path(name),
    };
    let Some(file) = file else {
        let name = name.display();
        let sentence = match python {
            Some(p) if p.exists() => format!("{name} cannot be executed"),
            Some(_) => format!("there is no interpreter {name}"),
            None => format!("there is no {name} on PATH"),
        };
        return Err(hinted(
            sentence,
            "pydefrag run --python PATH …   (PATH to the interpreter that shall run it)",
        ));
    };
    let argv = [name.to_owned()].into_iter().chain(arguments.iter().cloned()).collect();
    Ok(Program { file, argv })
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// No such file.
    Nothing,
    /// A script for Python; or a folder with a `__main__.py`, or whatever Python will say it is not.
    Script,
    /// May be executed, and begins with `#!`.
    Text,
    /// May be executed, and is an ELF file.
    Elf,
}

fn kind(path: &Path) -> Kind {
    // A package's folder that happens to lie here does not hide the command of that name.
    let name = !path.as_os_str().as_bytes().contains(&b'/');
    let package = name && path.is_dir() && !path.join("__main__.py").exists();
    if !path.exists() || package && on_path(path.as_os_str()).is_some() {
        return Kind::Nothing;
    }
    if !executable(path) {
        return Kind::Script;
    }
    let mut head = Vec::new();
    let _ = std::fs::File::open(path).map(|f| f.take(4).read_to_end(&mut head));
    let python = path.extension().is_some_and(|e| e == "py");
    match head.as_slice() {
        b"\x7fELF" => Kind::Elf,
        [b'#', b'!', ..] if !python => Kind::Text,
        // What may be executed but not read is a command.
        [] if std::fs::File::open(path).is_err() => Kind::Elf,
        _ => Kind::Script,
    }
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// As a shell would look it up.
fn on_path(name: &OsStr) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let here = |folder: PathBuf| match folder.as_os_str().is_empty() {
        true => OsString::from_vec(b".".to_vec()).into(),
        false => folder,
    };
    std::env::split_paths(&path).map(|f| here(f).join(name)).find(|p| executable(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn file(folder: &Path, name: &str, text: &[u8], mode: u32) -> String {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    #[test]
    fn scripts_are_told_from_commands() {
        let folder = tempfile::tempdir().unwrap();
        let python = file(folder.path(), "python", b"\x7fELF", 0o755);
        let of = |words: &[&str]| program(Some(Path::new(&python)), &self::words(words));
        let plain = |words: &[&str]| program(None, &self::words(words));
        for script in [
            file(folder.path(), "a.py", b"#!/bin/sh", 0o755),
            file(folder.path(), "b", b"print()", 0o644),
            file(folder.path(), "c", b"print()", 0o755),
            folder.path().display().to_string(),
        ] {
            let p = of(&[&script, "-x"]).unwrap();
            assert_eq!(p.argv, words(&[&python, &script, "-x"]));
        }
        assert_eq!(of(&["-m", "a", "-c"]).unwrap().argv, words(&[&python, "-m", "a", "-c"]));
        let command = file(folder.path(), "d", b"#!/bin/sh", 0o755);
        assert_eq!(plain(&[&command, "x"]).unwrap().argv, words(&[&command, "x"]));
        assert_eq!(of(&[&command]).unwrap().argv, words(&[&python, &command]));
        assert_eq!(plain(&[&python]).unwrap().file, Path::new(&python));
        assert!(of(&[&python]).is_err());
        assert_eq!(plain(&["sh", "-c"]).unwrap().argv, words(&["sh", "-c"]));
        assert!(plain(&["/nowhere/x.py"]).is_err() && plain(&["no-such-command-here"]).is_err());
    }
}
