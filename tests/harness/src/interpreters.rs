//! Which interpreters there are: `tests/interpreters.toml` read, and each entry's sources tried in
//! order until one gives a program that says it is the wanted version.
//!
//! Nothing is fetched here; that is `cargo xtask interpreters`.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs, thread};

use serde::Deserialize;

use crate::{cache, repository};

/// `tests/interpreters.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What `cargo xtask interpreters` unpacks.
    pub debian: Debian,
    /// Allocators of the machine's own suite.
    pub allocators: Allocators,
    /// Other C libraries.
    pub libc: Vec<Libc>,
    /// The interpreters, in the order of the file.
    pub interpreter: Vec<Entry>,
}

/// The Debian packages that give interpreters which the machine does not have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// The suite, as in `sid`.
    pub suite: String,
    /// The component, as in `main`.
    pub component: String,
    /// The minors taken from it, as in `3.14`.
    pub minors: Vec<String>,
    /// The libraries that these interpreters need.
    pub libraries: Vec<String>,
    /// The packages that make them run outside their own system.
    pub tools: Vec<String>,
}

/// Allocators for interpreters that run in the machine's own C library.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocators {
    /// Of each the package's name in one suite or another.
    pub packages: Vec<Vec<String>>,
}

/// A C library of another suite, and what runs on it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Libc {
    /// glibc's version, as in `2.31`.
    pub version: String,
    /// The suite, as in `bullseye`.
    pub suite: String,
    /// The minor of the interpreter that is among the packages.
    pub python: Option<String>,
    /// Else the name of the interpreter that runs on it.
    pub on: Option<String>,
    /// The packages to unpack.
    pub packages: Vec<String>,
}

impl Libc {
    /// The folder of the unpacked packages.
    pub fn root(&self) -> PathBuf {
        cache().join("libc").join(&self.version)
    }
}

/// One wanted interpreter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What tests call it.
    pub name: String,
    /// The minor, where the name does not say it.
    minor: Option<String>,
    /// Where it may come from, in order.
    pub sources: Vec<Source>,
    /// Whether its lack fails a run where `CI=true`.
    pub required: bool,
    /// Whether pydefrag reads it; otherwise it must refuse it.
    #[serde(default = "yes")]
    pub supported: bool,
}

/// Where an interpreter may come from; `tests/interpreters.toml` describes each.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A version that pyenv built.
    Pyenv,
    /// A program on `PATH`.
    Path,
    /// Unpacked by `cargo xtask interpreters`.
    Debian,
    /// The distribution's own.
    System,
}

/// An interpreter that is there and said its version.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// Its name in `tests/interpreters.toml`, as in `3.14` or `debian-3.13`.
    pub name: String,
    /// 3, save for the interpreters that pydefrag refuses.
    pub major: u32,
    /// 14 in 3.14.10.
    pub minor: u32,
    /// What to run.
    pub program: PathBuf,
    /// Arguments that stand before the interpreter's own, for [`crate::variants`].
    pub args: Vec<String>,
    /// What the environment must hold.
    pub env: Vec<(String, String)>,
    /// The whole version, as in `3.14.10`, from the interpreter itself.
    pub patch: String,
    /// Where it came from, as in `pyenv`.
    pub source: String,
    /// Whether pydefrag reads it; otherwise it must refuse it.
    pub supported: bool,
    /// Where the scripts of `tests/targets` are, as the interpreter sees the file system.
    pub scripts: PathBuf,
}

/// The interpreters of this machine.
#[derive(Debug)]
pub struct Interpreters {
    found: Vec<Interpreter>,
    required_missing: Vec<String>,
    optional_missing: Vec<String>,
}

impl Manifest {
    /// Reads the file; panics where it does not hold what it should, as a test would.
    pub fn load() -> Self {
        let path = repository().join("tests/interpreters.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

impl Entry {
    /// The minor, as in `3.14`.
    pub fn minor(&self) -> &str {
        self.minor.as_deref().unwrap_or(&self.name)
    }

    fn resolve(&self) -> Option<Interpreter> {
        self.sources.iter().find_map(|source| {
            source.candidates(self.minor()).into_iter().find_map(|(program, env)| {
                let (program, patch) = ask_version(&program, &env)?;
                let mut parts = patch.split('.').map_while(|part| part.parse().ok());
                let (major, minor) = (parts.next()?, parts.next()?);
                (format!("{major}.{minor}") == self.minor()).then(|| Interpreter {
                    name: self.name.clone(),
                    major,
                    minor,
                    program,
                    args: Vec::new(),
                    env,
                    source: format!("{source:?}").to_lowercase(),
                    supported: self.supported,
                    scripts: repository().join("tests/targets"),
                    patch,
                })
            })
        })
    }
}

/// A program and the environment that it needs.
type Candidate = (PathBuf, Vec<(String, String)>);

impl Source {
    fn candidates(self, minor: &str) -> Vec<Candidate> {
        let program = format!("python{minor}");
        let plain = |path: PathBuf| path.is_file().then(|| (path, Vec::new()));
        match self {
            Self::Pyenv => pyenv_versions(minor)
                .into_iter()
                .filter_map(|v| plain(v.join("bin").join(&program)))
                .collect(),
            Self::Path => env::var_os("PATH")
                .iter()
                .flat_map(env::split_paths)
                .filter_map(|folder| plain(folder.join(&program)))
                .collect(),
            Self::Debian => {
                let home = cache().join("root/usr").display().to_string();
                plain(cache().join("bin").join(&program))
                    .map(|(path, _)| (path, vec![("PYTHONHOME".into(), home)]))
                    .into_iter()
                    .collect()
            }
            Self::System => plain(Path::new("/usr/bin").join(&program)).into_iter().collect(),
        }
    }
}

impl Interpreters {
    /// The interpreters of this machine; each is looked for once per process.
    pub fn load() -> &'static Self {
        static ONCE: OnceLock<Interpreters> = OnceLock::new();
        ONCE.get_or_init(|| {
            let entries = Manifest::load().interpreter;
            let resolved: Vec<_> = thread::scope(|scope| {
                let asked: Vec<_> =
                    entries.iter().map(|entry| scope.spawn(|| entry.resolve())).collect();
                asked.into_iter().map(|one| one.join().expect("resolving does not panic")).collect()
            });
            let missing = |required| {
                let absent = entries.iter().zip(&resolved).filter(|(_, found)| found.is_none());
                absent
                    .filter(|(e, _)| e.required == required)
                    .map(|(e, _)| e.name.clone())
                    .collect()
            };
            Self {
                required_missing: missing(true),
                optional_missing: missing(false),
                found: resolved.into_iter().flatten().collect(),
            }
        })
    }

    /// Every interpreter found, the ones that pydefrag refuses included; reports nothing.
    pub fn found(&self) -> &[Interpreter] {
        &self.found
    }

    /// The required interpreters that no source gives.
    pub fn required_missing(&self) -> &[String] {
        &self.required_missing
    }

    /// The optional interpreters that no source gives.
    pub fn optional_missing(&self) -> &[String] {
        &self.optional_missing
    }

    /// Every interpreter that pydefrag reads, Debian's own builds included. Panics where a required
    /// one is missing and `CI=true`; elsewhere says once on stderr what is not run.
    pub fn all(&self) -> Vec<&Interpreter> {
        self.report_missing();
        self.found.iter().filter(|i| i.supported).collect()
    }

    /// As [`Self::all`], but one interpreter per minor.
    pub fn minors(&self) -> Vec<&Interpreter> {
        self.all().into_iter().filter(|i| i.name == format!("{}.{}", i.major, i.minor)).collect()
    }

    /// The interpreters that pydefrag must refuse.
    pub fn unsupported(&self) -> Vec<&Interpreter> {
        self.found.iter().filter(|i| !i.supported).collect()
    }

    /// The interpreter of that name, where it was found. Panics where it is a required one and
    /// `CI=true`; else a test says itself that it does not run.
    pub fn get(&self, name: &str) -> Option<&Interpreter> {
        self.found.iter().find(|i| i.name == name).or_else(|| {
            assert!(
                !(in_ci() && self.required_missing.iter().any(|n| n == name)),
                "no source gives python {name}"
            );
            eprintln!("not run: {name} (no source)");
            None
        })
    }

    fn report_missing(&self) {
        static ONCE: OnceLock<()> = OnceLock::new();
        assert!(
            !in_ci() || self.required_missing.is_empty(),
            "no source gives python {}; `cargo xtask interpreters` brings what it can",
            self.required_missing.join(", ")
        );
        ONCE.get_or_init(|| {
            for name in &self.required_missing {
                eprintln!("not run: {name} (no source)");
            }
        });
    }
}

/// Whether this is a run whose gaps must not pass unseen.
pub fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

fn yes() -> bool {
    true
}

/// pyenv's versions of that minor, the newest first.
fn pyenv_versions(minor: &str) -> Vec<PathBuf> {
    let root = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".pyenv")));
    let Some(folder) = root.and_then(|root| fs::read_dir(root.join("versions")).ok()) else {
        return Vec::new();
    };
    let patch_of = |path: &Path| -> Option<u32> {
        path.file_name()?.to_str()?.strip_prefix(minor)?.strip_prefix('.')?.parse().ok()
    };
    let mut versions: Vec<_> = folder
        .flatten()
        .filter_map(|entry| Some((patch_of(&entry.path())?, entry.path())))
        .collect();
    versions.sort_by_key(|(patch, _)| Reverse(*patch));
    versions.into_iter().map(|(_, path)| path).collect()
}

/// The version that a program says it is, and the file it really runs from (a shim is neither).
fn ask_version(program: &Path, env: &[(String, String)]) -> Option<(PathBuf, String)> {
    ask_version_with(program, &[], env)
}

/// The same of a program that needs arguments before its own.
pub(crate) fn ask_version_with(
    program: &Path,
    args: &[String],
    env: &[(String, String)],
) -> Option<(PathBuf, String)> {
    let question = "import sys; v = sys.version_info; \
                    print('%d.%d.%d' % v[:3]); print(sys.executable)";
    let output = Command::new(program)
        .args(args)
        .args(["-S", "-c", question])
        .env_remove("PYTHONHOME")
        .envs(env.iter().map(|(key, value)| (key, value)))
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (version, executable) = text.trim_end().split_once('\n')?;
    Some((PathBuf::from(executable), version.to_owned()))
}
