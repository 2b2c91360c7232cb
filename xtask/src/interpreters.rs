//! `cargo xtask interpreters`: brings the interpreters that the machine lacks into the git-ignored
//! `.cache/interpreters/`, unpacked from Debian's packages beside the system; needs no root.
//!
//! | folder | holds |
//! |---|---|
//! | `apt/` | a scratch apt configuration and state; downloaded packages, kept for a resumed run |
//! | `root/` | the unpacked packages: a root that one can chroot into |
//! | `bin/` | the interpreters, bound to the C library in `root/`; run with `PYTHONHOME=root/usr` |
//! | `allocators/` | allocators of the machine's own suite, with a stamp of their own |
//! | `libc/` | other C libraries, a root per version; each with a stamp of its own in `libc/apt/` |
//! | `stamp` | what was done, written last: a run that finds it right does nothing |
//!
//! Which packages, and which interpreters the tests want, stands in `tests/interpreters.toml`.

mod allocators;
mod libc;
mod mirror;
mod suite;

pub(crate) use suite::with_suite;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use pydefrag_harness::interpreters::{Debian, Interpreters, Manifest, in_ci};
use pydefrag_harness::{cache, variants};

/// Brings what is missing, and says what each required interpreter is or that it is not run.
pub(crate) fn bring() -> Result<()> {
    let manifest = Manifest::load();
    let debian = manifest.debian;
    let cache = cache();
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let cache = cache.canonicalize()?;
    let recipe = recipe(&debian, &cache);
    if fs::read_to_string(cache.join("stamp")).is_ok_and(|stamp| stamp == recipe) {
        eprintln!("interpreters: nothing to do");
    } else if let Err(error) = unpack(&debian, &cache, &recipe) {
        eprintln!("not run: Debian's interpreters: {error:#}");
    }
    if let Err(error) = allocators::bring(&manifest.allocators, &cache) {
        eprintln!("not run: allocators beside malloc: {error:#}");
    }
    for one in &manifest.libc {
        if let Err(error) = libc::bring(one, &cache) {
            eprintln!("not run: glibc {}: {error:#}", one.version);
        }
    }
    let missing = Interpreters::load().required_missing();
    for name in missing {
        eprintln!("not run: {name} (no source)");
    }
    ensure!(missing.is_empty() || !in_ci(), "no source gives python {}", missing.join(", "));
    Ok(())
}

/// Prints name, patch level, source and path of every interpreter, one per line.
pub(crate) fn list() -> Result<()> {
    let interpreters = Interpreters::load();
    for one in interpreters.found() {
        println!("{}\t{}\t{}\t{}", one.name, one.patch, one.source, one.program.display());
    }
    let (required, optional) = (interpreters.required_missing(), interpreters.optional_missing());
    for name in required.iter().chain(optional) {
        println!("{name}\t-\tnot run\t-");
    }
    Ok(())
}

/// Everything that decides what the cache holds: where it equals the stamp, nothing is to be done.
fn recipe(debian: &Debian, cache: &Path) -> String {
    let packages = packages(debian).join(" ");
    format!("1\n{}\n{} {}\n{packages}\n", cache.display(), debian.suite, debian.component)
}

fn packages(debian: &Debian) -> Vec<String> {
    let of_minor = |minor: &String| {
        ["python?-minimal", "libpython?-minimal", "libpython?-stdlib"]
            .map(|p| p.replace('?', minor))
    };
    let shared = debian.libraries.iter().chain(&debian.tools).cloned();
    debian.minors.iter().flat_map(of_minor).chain(shared).collect()
}

fn unpack(debian: &Debian, cache: &Path, recipe: &str) -> Result<()> {
    // First the stamp goes: from here on until it is written again, the rest is half done.
    remove(&cache.join("stamp"))?;
    let Debian { suite, component, .. } = debian;
    let packages = download(suite, component, &packages(debian), &cache.join("apt"))?;
    for old in ["root", "bin", "stripped"] {
        remove(&cache.join(old))?;
    }
    let root = cache.join("root");
    for package in &packages {
        run(Command::new("dpkg").arg("-x").arg(package).arg(&root))?;
    }
    complete_root(&root)?;
    bind(debian, &root, &cache.join("bin"))?;
    fs::write(cache.join("stamp"), recipe)?;
    Ok(())
}

/// Downloads the packages of the suite from the machine's own mirror, and returns their files.
fn download(suite: &str, component: &str, names: &[String], apt: &Path) -> Result<Vec<PathBuf>> {
    let mirror = mirror::find(Path::new("/etc/apt"))
        .context("this machine's apt sources name no Debian archive")?;
    let packages = apt.join("packages");
    for folder in ["state/lists/partial", "cache/archives/partial", "packages"] {
        fs::create_dir_all(apt.join(folder))?;
    }
    let options = mirror.signed_by.map(|key| format!("[signed-by={key}] ")).unwrap_or_default();
    fs::write(
        apt.join("sources.list"),
        format!("deb {options}{} {suite} {component}\n", mirror.uri),
    )?;
    fs::write(apt.join("status"), "")?;
    let here = apt.display();
    let configuration = format!(
        "Dir::State \"{here}/state\";\nDir::State::status \"{here}/status\";\n\
         Dir::Cache \"{here}/cache\";\nDir::Etc::sourcelist \"{here}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\nAPT::Sandbox::User \"root\";\n"
    );
    fs::write(apt.join("apt.conf"), configuration)?;
    let apt_get = |arguments: &[String]| {
        run(Command::new("apt-get")
            .args(["-qq", "-o", "Acquire::Retries=3"])
            .args(arguments)
            .env("APT_CONFIG", apt.join("apt.conf"))
            .current_dir(&packages))
    };
    eprintln!("interpreters: reading the package lists of {suite}");
    apt_get(&["update".into()])?;
    eprintln!("interpreters: downloading {} packages", names.len());
    apt_get(&[&["download".into()], names].concat())?;
    newest_of_each(names, &packages)
}

/// One file per package: apt-get leaves those of an earlier run in the folder; they go.
fn newest_of_each(names: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for name in names {
        let prefix = format!("{name}_");
        let mut versions = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                versions.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        versions.sort();
        let (_, newest) = versions.pop().with_context(|| format!("apt-get gave no {name}"))?;
        for (_, old) in versions {
            fs::remove_file(old)?;
        }
        files.push(newest);
    }
    Ok(files)
}

/// What a package cannot hold but a root that one can chroot into needs.
fn complete_root(root: &Path) -> Result<()> {
    for folder in ["bin", "lib", "lib64", "sbin"] {
        let (link, inside) = (root.join(folder), Path::new("usr").join(folder));
        if root.join(&inside).is_dir() && !link.exists() {
            symlink(inside, &link)?;
        }
    }
    for folder in ["dev", "proc", "tmp", "targets"] {
        fs::create_dir_all(root.join(folder))?;
    }
    Ok(())
}

/// Copies the interpreters into `bin`, each bound to the loader and the libraries in `root`. They
/// keep their names: debuggers look for a program called pythonX.Y.
fn bind(debian: &Debian, root: &Path, bin: &Path) -> Result<()> {
    let (loader, libraries) = variants::loader(root).context("the unpacked libc6 has no loader")?;
    fs::create_dir_all(bin)?;
    for minor in &debian.minors {
        let name = format!("python{minor}");
        let program = bin.join(&name);
        eprintln!("interpreters: {name}");
        fs::copy(root.join("usr/bin").join(&name), &program)?;
        // patchelf is of the same suite, so it too runs through that suite's loader. Two calls in this
        // order: patchelf 0.18 breaks a program of fixed address (ET_EXEC) in any other way.
        let patchelf = |option: &str, value: &Path| {
            run(Command::new(&loader)
                .arg("--library-path")
                .arg(&libraries)
                .arg(root.join("usr/bin/patchelf"))
                .args(["--force-rpath", option])
                .arg(value)
                .arg(&program))
        };
        patchelf("--set-rpath", &libraries)?;
        patchelf("--set-interpreter", &loader)?;
        run(Command::new(&program)
            .args(["-c", "import ctypes, decimal, hashlib, lzma, sqlite3, ssl, zlib"])
            .env("PYTHONHOME", root.join("usr"))
            .env("PYTHONDONTWRITEBYTECODE", "1"))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Runs a command whose output is only of interest where it fails.
fn run(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("this machine has no {program}")
        }
        other => other.with_context(|| format!("cannot run {program}"))?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed ({}): {}", output.status, said.trim_end());
    Ok(())
}
