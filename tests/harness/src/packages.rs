//! The packages of PyPI that tests look at: `tests/packages.toml` read, and where each set is.
//!
//! Nothing is fetched here; that is `cargo xtask packages`.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use crate::{Interpreter, repository};

/// `tests/packages.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// The sets.
    pub set: Vec<Set>,
    /// Those that `cargo xtask suites` runs, and brings itself.
    #[serde(default)]
    pub suite: Vec<Set>,
}

/// Packages that are installed together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The name of its folder.
    pub name: String,
    /// The interpreter whose pip installs it.
    pub pip: String,
    /// The interpreters that use it.
    pub on: Vec<String>,
    /// The packages with their versions.
    pub packages: Vec<String>,
}

impl Packages {
    /// Reads the file; panics where it does not hold what it should, as a test would.
    pub fn load() -> Self {
        let path = repository().join("tests/packages.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

impl Set {
    /// The folder that belongs on `PYTHONPATH`.
    pub fn folder(&self) -> PathBuf {
        repository().join(".cache/packages").join(&self.name)
    }

    /// Everything that decides what the folder holds.
    pub fn recipe(&self) -> String {
        format!("1\n{}\n{}\n", self.pip, self.packages.join("\n"))
    }

    /// The file that holds the recipe once the set is whole.
    pub fn stamp(&self) -> PathBuf {
        self.folder().with_extension("stamp")
    }

    /// Whether it is there, whole.
    pub fn is_there(&self) -> bool {
        fs::read_to_string(self.stamp()).is_ok_and(|stamp| stamp == self.recipe())
    }
}

/// The folder with the packages for this interpreter, where they are there.
pub fn folder_for(interpreter: &Interpreter) -> Option<PathBuf> {
    let sets = Packages::load().set;
    let set = sets.into_iter().find(|set| set.on.contains(&interpreter.name))?;
    set.is_there().then(|| set.folder())
}
