//! `cargo xtask packages`: installs the sets of `tests/packages.toml` into the git-ignored
//! `.cache/packages/`, with pip as the machine has it configured. A set whose stamp is right is left alone.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pydefrag_harness::Interpreters;
use pydefrag_harness::interpreters::in_ci;
use pydefrag_harness::packages::{Packages, Set};

/// Brings what is missing; says what cannot be had, which fails in CI.
pub(crate) fn bring() -> Result<()> {
    let mut missing = Vec::new();
    for set in Packages::load().set {
        if set.is_there() {
            eprintln!("packages: {}: nothing to do", set.name);
        } else if let Err(error) = install(&set) {
            eprintln!("not run: the packages of {}: {error:#}", set.name);
            missing.push(set.name);
        }
    }
    ensure!(missing.is_empty() || !in_ci(), "no packages: {}", missing.join(", "));
    Ok(())
}

/// Brings one set.
pub(crate) fn bring_one(set: &Set) -> Result<()> {
    if set.is_there() { Ok(()) } else { install(set) }
}

fn install(set: &Set) -> Result<()> {
    let pip = Interpreters::load().get(&set.pip);
    let pip = pip.with_context(|| format!("no python {} to run pip", set.pip))?;
    let folder = set.folder();
    // First the stamp goes: from here on until it is written again, the rest is half done.
    for path in [set.stamp(), folder.clone()] {
        let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match gone {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    fs::create_dir_all(&folder)?;
    eprintln!("packages: {}: {} packages", set.name, set.packages.len());
    let out = Command::new(&pip.program)
        .args(&pip.args)
        .envs(pip.env.iter().map(|(key, value)| (key, value)))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-input", "--no-compile", "--no-deps", "--only-binary", ":all:", "--target"])
        .arg(&folder)
        .args(&set.packages)
        .output()
        .context("cannot run pip")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "pip failed ({}): {}", out.status, said.trim_end());
    fs::write(set.stamp(), set.recipe())?;
    Ok(())
}
