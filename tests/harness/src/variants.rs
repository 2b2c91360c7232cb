//! The same interpreter run in ways that users have and that are easy to get wrong: through its
//! dynamic loader, inside a chroot, without symbols, and on another C library.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io, process, thread};

use crate::interpreters::{Libc, Manifest, ask_version_with};
use crate::{Interpreter, Interpreters, cache, repository};

impl Interpreters {
    /// Debian's 3.15 started as an argument of its dynamic loader, as some bundles do: then
    /// `/proc/PID/exe` is the loader.
    pub fn ld_so_variant(&self) -> Option<Interpreter> {
        let debian = self.debian_3_15()?;
        let root = cache().join("root");
        let (loader, libraries) = loader(&root)?;
        let program = root.join("usr/bin/python3.15");
        let args = ["--library-path".into(), text(&libraries), text(&program)];
        Some(Interpreter {
            name: "3.15-ld.so".into(),
            program: loader,
            args: args.into(),
            ..debian.clone()
        })
    }

    /// The root that Debian's packages were unpacked into: `chroot` into it and run
    /// `/usr/bin/python3.15`. Needs the right to chroot.
    pub fn chroot_root(&self) -> Option<PathBuf> {
        self.debian_3_15().map(|_| cache().join("root"))
    }

    /// Debian's 3.15 inside [`Self::chroot_root`], where the paths in `/proc/PID/maps` are not
    /// paths of ours. None where this process is not root, for only root may chroot.
    pub fn chroot_variant(&self) -> Option<Interpreter> {
        let debian = self.debian_3_15()?;
        let root = self.chroot_root()?;
        (fs::metadata("/proc/self").ok()?.uid() == 0).then_some(())?;
        let scripts = repository().join("tests/targets");
        for script in fs::read_dir(scripts).ok()?.flatten() {
            let (from, to) = (script.path(), root.join("targets").join(script.file_name()));
            if from.extension().is_some_and(|e| e == "py") {
                replace(&to, |part| fs::copy(&from, part).map(drop)).ok()?;
            }
        }
        Some(Interpreter {
            name: "3.15-chroot".into(),
            program: "chroot".into(),
            args: vec![text(&root), "/usr/bin/python3.15".into()],
            env: Vec::new(),
            scripts: "/targets".into(),
            ..debian.clone()
        })
    }

    /// An interpreter on each other C library, through its dynamic loader; says which are not run.
    pub fn libc_variants(&self) -> Vec<Interpreter> {
        let all = Manifest::load().libc;
        let found = all.iter().filter_map(|libc| {
            let one = self.on_libc(libc);
            if one.is_none() {
                eprintln!("not run: glibc {} (no source)", libc.version);
            }
            one
        });
        found.collect()
    }

    fn on_libc(&self, libc: &Libc) -> Option<Interpreter> {
        let root = libc.root();
        let (loader, libraries) = loader(&root)?;
        let triple = libraries.file_name()?;
        let path = ["usr/lib", "lib"].map(|lib| text(&root.join(lib).join(triple))).join(":");
        let before = ["--library-path".to_owned(), path];
        let (program, args, env, like) = match (&libc.python, &libc.on) {
            (Some(minor), _) => {
                let program = root.join(format!("usr/bin/python{minor}"));
                let env = vec![("PYTHONHOME".into(), text(&root.join("usr")))];
                (program, Vec::new(), env, self.get(minor)?)
            }
            (None, on) => {
                let like = self.get(on.as_deref()?)?;
                (like.program.clone(), like.args.clone(), like.env.clone(), like)
            }
        };
        let args = [&before[..], &[text(&program)], &args[..]].concat();
        let (_, patch) = ask_version_with(&loader, &args, &env)?;
        let name = format!("{}-glibc-{}", like.name, libc.version);
        Some(Interpreter { name, program: loader, args, env, patch, ..like.clone() })
    }

    fn debian_3_15(&self) -> Option<&Interpreter> {
        self.get("3.15").filter(|one| one.source == "debian")
    }
}

/// A copy of an interpreter, and of its libpython where it has one, without any symbol that the
/// dynamic linker does not need. It uses the original's standard library.
pub fn stripped_copy(of: &Interpreter) -> io::Result<Interpreter> {
    let bin = of.program.parent().unwrap_or(Path::new("/"));
    let prefix = bin.parent().unwrap_or(Path::new("/")).to_owned();
    let folder = cache().join("stripped").join(format!("{}-{}", of.name, of.patch));
    let file = of.program.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let program = folder.join(file);
    if !program.exists() {
        fs::create_dir_all(&folder)?;
        // The program last: where it stands, the copy is whole.
        let library = format!("libpython{}.{}.so.1.0", of.major, of.minor);
        let original = prefix.join("lib").join(&library);
        if original.exists() {
            replace(&folder.join(library), |part| strip(&original, part))?;
        }
        replace(&program, |part| strip(&of.program, part))?;
    }
    let mut env = of.env.clone();
    env.push(("LD_LIBRARY_PATH".into(), text(&folder)));
    if !env.iter().any(|(key, _)| key == "PYTHONHOME") {
        env.push(("PYTHONHOME".into(), text(&prefix)));
    }
    Ok(Interpreter { name: format!("{}-stripped", of.name), program, env, ..of.clone() })
}

/// The dynamic loader in an unpacked root, and the folder of the libraries beside it.
pub fn loader(root: &Path) -> Option<(PathBuf, PathBuf)> {
    // Older suites have it in /lib, which was no link then.
    let folders = ["usr/lib", "lib"].map(|lib| fs::read_dir(root.join(lib)));
    let mut folders = folders.into_iter().flatten().flatten().flatten().map(|entry| entry.path());
    let libraries = folders.find(|path| path.join("libc.so.6").exists())?;
    let mut files = fs::read_dir(&libraries).ok()?.flatten().map(|entry| entry.path());
    let loader = files.find(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("ld-linux-"))
    })?;
    Some((loader, libraries))
}

/// Writes a file under another name and moves it into place, since tests run side by side.
fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = format!(".{name}.{}.{:?}", process::id(), thread::current().id());
    let part = path.with_file_name(part);
    write(&part)?;
    fs::rename(part, path)
}

fn strip(from: &Path, to: &Path) -> io::Result<()> {
    let status = Command::new("strip").arg("--strip-all").arg("-o").arg(to).arg(from).status()?;
    status.success().then_some(()).ok_or_else(|| io::Error::other(format!("strip: {status}")))
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
