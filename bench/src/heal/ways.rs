//! The ways in which a program may give memory back, and one run of a program in one of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use pydefrag_harness::smaps::{Memory, peak, processor_time};
use pydefrag_harness::{Interpreter, Target, cache, repository};
use serde_json::Value;

use super::Program;

/// One of the ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Untouched,
    MallocTrim,
    /// jemalloc for malloc, with pymalloc on top of it.
    Jemalloc,
    /// jemalloc for everything.
    JemallocAlone,
    MimallocAlone,
    TcmallocAlone,
    Trim,
    Purge,
}

pub(crate) const WAYS: [Way; 8] = [
    Way::Untouched,
    Way::MallocTrim,
    Way::Jemalloc,
    Way::JemallocAlone,
    Way::MimallocAlone,
    Way::TcmallocAlone,
    Way::Trim,
    Way::Purge,
];

impl Way {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Way::Untouched => "untouched",
            Way::MallocTrim => "gc.collect, malloc_trim",
            Way::Jemalloc => "jemalloc, decay 0",
            Way::JemallocAlone => "jemalloc, decay 0, no pymalloc",
            Way::MimallocAlone => "mimalloc, no pymalloc",
            Way::TcmallocAlone => "tcmalloc, no pymalloc",
            Way::Trim => "pydefrag trim",
            Way::Purge => "pydefrag purge",
        }
    }

    /// Whether it needs nothing of pydefrag's.
    pub(crate) fn is_stock(self) -> bool {
        !matches!(self, Way::Untouched | Way::Trim | Way::Purge)
    }

    /// What `heal.py` calls it.
    fn argument(self) -> &'static str {
        match self {
            Way::MallocTrim => "malloc_trim",
            Way::Trim => "trim",
            Way::Purge => "purge",
            _ => "untouched",
        }
    }

    fn library(self) -> Option<&'static str> {
        match self {
            Way::Jemalloc | Way::JemallocAlone => Some("libjemalloc.so.2"),
            Way::MimallocAlone => Some("libmimalloc.so."),
            Way::TcmallocAlone => Some("libtcmalloc_minimal.so.4"),
            _ => None,
        }
    }
}

/// What all runs share.
pub(crate) struct Bench {
    tool: PathBuf,
    workloads: PathBuf,
    /// A folder with the package `pydefrag`.
    package: tempfile::TempDir,
}

/// One way's runs of one program.
pub(crate) struct Runs {
    pub(crate) way: Way,
    /// Bytes; sorted.
    pub(crate) left: Vec<u64>,
    pub(crate) peak: u64,
    /// Seconds of a processor.
    pub(crate) cpu: f64,
    /// What a purge left, and who keeps it.
    pub(crate) kept: Option<String>,
}

impl Bench {
    pub(crate) fn prepare(tool: &Path, workloads: PathBuf) -> anyhow::Result<Bench> {
        let package = tempfile::tempdir()?;
        let folder = package.path().join("pydefrag");
        std::fs::create_dir(&folder)?;
        for entry in std::fs::read_dir(repository().join("python/pydefrag"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "py") {
                std::fs::copy(&path, folder.join(path.file_name().context("a name")?))?;
            }
        }
        // The tool depends on the agent, so it was built with it.
        let agent = tool.with_file_name("deps/libpydefrag_agent.so");
        std::fs::copy(agent, folder.join("_agent.abi3.so")).context("the agent")?;
        Ok(Bench { tool: tool.to_owned(), workloads, package })
    }

    /// The folder for `PYTHONPATH`.
    pub(crate) fn python_path(&self) -> String {
        self.package.path().display().to_string()
    }

    /// `heal.py` with a program that has come to its end.
    pub(crate) fn start(
        &self,
        of: &Interpreter,
        way: Way,
        script: &str,
        args: &[&str],
    ) -> Option<Target> {
        let mut env = vec![("PYTHONPATH", self.python_path())];
        if let Some(library) = way.library() {
            let Some(library) = preloadable(of, library) else {
                eprintln!("not run: {} ({library} is lacking)", way.label());
                return None;
            };
            env.push(("LD_PRELOAD", library.display().to_string()));
            if way != Way::Jemalloc {
                env.push(("PYTHONMALLOC", "malloc".into()));
            }
            env.push(("MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0".into()));
        }
        let env: Vec<_> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let heal = repository().join("bench/targets/heal.py").display().to_string();
        let script = self.workloads.join(script).display().to_string();
        Some(Target::spawn(of, &heal, &[&[way.argument(), script.as_str()], args].concat(), &env))
    }

    /// Runs a program in a way, several times; none where the way cannot be had.
    pub(crate) fn run(
        &self,
        of: &Interpreter,
        program: &Program,
        way: Way,
        rounds: usize,
    ) -> anyhow::Result<Option<Runs>> {
        let mut runs = Runs { way, left: Vec::new(), peak: 0, cpu: 0.0, kept: None };
        let mut cpu = Vec::new();
        for _ in 0..rounds {
            let Some(mut target) = self.start(of, way, program.script, program.args) else {
                return Ok(None);
            };
            target.ask("heal");
            // What was given back has to stay given back, and an allocator may take its time.
            std::thread::sleep(Duration::from_secs(1));
            let pid = target.pid();
            runs.left.push(Memory::of(pid).rss);
            runs.peak = runs.peak.max(peak(pid));
            cpu.push(processor_time(pid).as_secs_f64());
            if way == Way::Purge && runs.kept.is_none() {
                runs.kept = Some(self.kept(pid)?);
            }
        }
        runs.left.sort_unstable();
        cpu.sort_by(f64::total_cmp);
        runs.cpu = cpu[rounds / 2];
        eprintln!(
            "{} {} {}: {:?} MiB left, {:.1} s",
            of.name,
            program.name,
            way.label(),
            runs.left.iter().map(|b| b >> 20).collect::<Vec<_>>(),
            runs.cpu
        );
        Ok(Some(runs))
    }

    /// What is resident in the process now, and who keeps it.
    fn kept(&self, pid: u32) -> anyhow::Result<String> {
        let out = Command::new(&self.tool)
            .args(["snapshot", &pid.to_string(), "--json"])
            .output()
            .context("the tool does not start")?;
        ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let s: Value = serde_json::from_slice(&out.stdout)?;
        let mut parts = Vec::new();
        let number = |v: &Value| v.as_u64().unwrap_or(0);
        let mib = |bytes: u64| format!("{:.1}", super::mib(bytes));
        let mut others = 0;
        for owner in s["owners"].as_array().context("owners")? {
            let resident = number(&owner["resident"]);
            if owner["live"].is_null() || resident < 1 << 20 {
                others += resident;
                continue;
            }
            let terms =
                ["live", "pinned_free", "holes", "free_spans", "virgin", "top", "cached", "unread"];
            let mut terms: Vec<_> = terms.iter().map(|t| (number(&owner[*t]), *t)).collect();
            terms.retain(|t| t.0 >= 1 << 19);
            terms.sort_unstable_by(|a, b| b.cmp(a));
            let terms: Vec<_> =
                terms.iter().map(|(b, t)| format!("{} {}", t.replace('_', " "), mib(*b))).collect();
            let name = owner["name"].as_str().unwrap_or("");
            parts.push(format!("{name} {} ({})", mib(resident), terms.join(", ")));
        }
        parts.push(format!("files, stacks and others {}", mib(others)));
        let mut text = parts.join("; ");
        for (by, name) in [("by_owner", "owner"), ("by_type", "type")] {
            let Some(pins) = s["pins"][by].as_array() else { continue };
            let most: Vec<_> = pins
                .iter()
                .filter(|p| number(&p["pinned"]) >= 1 << 19)
                .take(3)
                .map(|p| {
                    format!("`{}` {}", p[name].as_str().unwrap_or(""), mib(number(&p["pinned"])))
                })
                .collect();
            if !most.is_empty() {
                text += &format!("; pinned by {name}: {}", most.join(", "));
            }
        }
        Ok(text)
    }
}

/// The library for this interpreter's C library: the machine's own suite's, or that of Debian's interpreters.
fn preloadable(of: &Interpreter, name: &str) -> Option<PathBuf> {
    let root = match of.source.as_str() {
        "debian" => cache().join("root"),
        _ => cache().join("allocators/root"),
    };
    find(&root.join("usr/lib"), name)
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path()).collect();
    all.sort();
    all.into_iter().find_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => {
            let is = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name));
            is.then_some(path)
        }
    })
}
