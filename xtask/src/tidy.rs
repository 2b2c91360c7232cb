//! `cargo xtask tidy`: the rules of the house that no compiler checks. Each rule is a function that
//! returns what breaks it; what formatting and lints can see is left to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pydefrag_harness::repository;

/// Which of our crates each crate in `crates/` may depend on. The arrows point one way.
const ARROWS: &[(&str, &[&str])] = &[
    ("heap", &[]),
    ("layout", &[]),
    ("image", &[]),
    ("walk", &["heap", "layout", "image"]),
    ("advise", &["heap"]),
    ("report", &["heap"]),
    ("trace", &["heap"]),
    ("agent", &["heap", "layout", "image", "walk", "advise", "trace"]),
    // Of the agent it only carries the library's bytes, which Cargo builds before it.
    ("cli", &["heap", "layout", "image", "walk", "advise", "report", "trace", "agent"]),
];

/// The folders whose code may be `unsafe`.
const UNSAFE: &[&str] = &["crates/image/", "crates/agent/", "bench/"];

/// A file longer than this holds more than one concept.
const LONGEST: usize = 700;

/// The folders of some machine that no file may name: `/NAME/`.
const MACHINE: &[&str] = &["work", "root", "home"];

/// The hosts that an address may have; `invalid` is what tests use (RFC 2606).
const HOSTS: &[&str] = &[
    "github.com",
    "speedscope.app",
    "docs.rs",
    "python.org",
    "spdx.org",
    "apache.org",
    "w3.org",
    "invalid",
];

/// A file of the repository: its path from the top, and its text.
struct File {
    path: String,
    text: String,
}

/// Checks every rule; fails where one is broken, and says where on stderr.
pub(crate) fn check() -> Result<()> {
    let top = repository();
    let files = files(&top)?;
    let mut broken = arrows(&files)?;
    broken.extend(architecture(&files));
    broken.extend(files.iter().flat_map(unsafe_code));
    broken.extend(files.iter().filter_map(too_long));
    broken.extend(files.iter().flat_map(machine_paths));
    broken.extend(files.iter().flat_map(strange_hosts));
    for line in &broken {
        eprintln!("{line}");
    }
    ensure!(broken.is_empty(), "{} places break a rule of the house", broken.len());
    Ok(())
}

/// Every text file that is tracked, or would be by `git add --all`.
fn files(top: &Path) -> Result<Vec<File>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(top)
        .output()
        .context("cannot run git")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).context("a file name that is not UTF-8")?;
    // A file that is deleted but still in the index has no text, a binary one neither.
    let text = |path: &str| fs::read_to_string(top.join(PathBuf::from(path))).ok();
    let file = |path: &str| Some(File { path: path.to_owned(), text: text(path)? });
    Ok(paths.split('\0').filter(|path| *path != "Cargo.lock").filter_map(file).collect())
}

/// The crates in `crates/`: their folders' names and their manifests.
fn crates(files: &[File]) -> impl Iterator<Item = (&str, &File)> {
    files.iter().filter_map(|file| {
        let name = file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
        (!name.contains('/')).then_some((name, file))
    })
}

fn arrows(files: &[File]) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (name, manifest) in crates(files) {
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            broken.push(format!("{}: xtask's tidy has no arrows for this crate", manifest.path));
            continue;
        };
        let table: toml::Table = manifest.text.parse().with_context(|| manifest.path.clone())?;
        for dependency in internal_dependencies(&table) {
            if !allowed.contains(&dependency.as_str()) {
                broken.push(format!("{}: {name} may not use {dependency}", manifest.path));
            }
        }
    }
    Ok(broken)
}

/// Our crates among a manifest's dependencies; those of its tests are free.
fn internal_dependencies(manifest: &toml::Table) -> Vec<String> {
    let tables = ["dependencies", "build-dependencies"];
    let of = |table: &toml::Table| -> Vec<String> {
        let named = tables.iter().filter_map(|name| table.get(*name)?.as_table());
        let ours = |name: &String| name.strip_prefix("pydefrag-").map(str::to_owned);
        named.flat_map(|dependencies| dependencies.keys().filter_map(ours)).collect()
    };
    let mut all = of(manifest);
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    for target in targets.into_iter().flat_map(|targets| targets.values()) {
        all.extend(target.as_table().map(of).unwrap_or_default());
    }
    all
}

fn architecture(files: &[File]) -> Vec<String> {
    let Some(document) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else {
        return vec!["ARCHITECTURE.md: missing".into()];
    };
    crates(files)
        .filter(|(name, _)| !document.text.contains(&format!("pydefrag-{name}")))
        .map(|(name, _)| format!("ARCHITECTURE.md: does not name pydefrag-{name}"))
        .collect()
}

fn unsafe_code(file: &File) -> Vec<String> {
    if !file.path.ends_with(".rs") || UNSAFE.iter().any(|folder| file.path.starts_with(folder)) {
        return Vec::new();
    }
    places(file, |line| {
        let code = line.split("//").next().unwrap_or_default();
        let after = |(at, word): (usize, &str)| code[at + word.len()..].trim_start().to_owned();
        let starts = ["{", "(", "fn ", "impl", "extern", "trait"];
        code.match_indices("unsafe")
            .map(after)
            .any(|rest| starts.iter().any(|s| rest.starts_with(s)))
    })
    .map(|place| place + "unsafe code outside crates/image")
    .collect()
}

fn too_long(file: &File) -> Option<String> {
    let test = file.path.split('/').any(|folder| folder == "tests" || folder == "test");
    let source = file.path.ends_with(".rs") || file.path.ends_with(".py");
    let lines = file.text.lines().count();
    (source && !test && lines > LONGEST).then(|| format!("{}: {lines} lines", file.path))
}

fn machine_paths(file: &File) -> Vec<String> {
    places(file, |line| {
        MACHINE.iter().any(|name| {
            let folder = format!("/{name}/");
            // `out/work/` is a folder of ours; only at the start of a path it is the machine's.
            let inside = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            line.match_indices(&folder).any(|(at, _)| !line[..at].ends_with(inside))
        })
    })
    .map(|place| place + "a path of some machine")
    .collect()
}

fn strange_hosts(file: &File) -> Vec<String> {
    places(file, |line| {
        line.split("://").skip(1).any(|rest| {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".-".contains(c)));
            let host = &rest[..end.unwrap_or(rest.len())];
            let known = |name: &str| host == name || host.ends_with(&format!(".{name}"));
            host.contains('.') && !HOSTS.iter().any(|name| known(name))
        })
    })
    .map(|place| place + "an address with a host that is not in tidy's list")
    .collect()
}

/// `path:line: ` of each line that breaks a rule.
fn places(file: &File, breaks: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    let lines = file.text.lines().enumerate().filter(move |(_, line)| breaks(line));
    lines.map(|(number, _)| format!("{}:{}: ", file.path, number + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    #[test]
    fn an_arrow_backwards_is_found() {
        let back = "[dependencies]\nlibc = \"0\"\npydefrag-walk = { path = \"../walk\" }\n";
        let files = [file("crates/heap/Cargo.toml", back), file("crates/new/Cargo.toml", "")];
        assert_eq!(arrows(&files).expect("two manifests").len(), 2);
        let test_only = back.replace("[dep", "[dev-dep");
        assert!(arrows(&[file("crates/heap/Cargo.toml", &test_only)]).expect("one").is_empty());
        let per_target = back.replace("[dep", "[target.'cfg(unix)'.dep");
        assert_eq!(arrows(&[file("crates/heap/Cargo.toml", &per_target)]).expect("one").len(), 1);
    }

    #[test]
    fn unsafe_code_is_found_but_talk_of_it_is_not() {
        let code = ["let x = UNSAFE { y };", "UNSAFE impl Send for X {}", "#[UNSAFE(no_mangle)]"];
        let code = code.join("\n").replace("UNSAFE", "unsafe");
        assert_eq!(unsafe_code(&file("crates/heap/src/lib.rs", &code)).len(), 3);
        assert!(unsafe_code(&file("crates/image/src/lib.rs", &code)).is_empty());
        let talk = "// unsafe { }\n#![deny(unsafe_code)]\nlet unsafe_word = \"unsafe\";\n";
        assert!(unsafe_code(&file("crates/heap/src/lib.rs", talk)).is_empty());
    }

    #[test]
    fn long_files_are_found_save_tests() {
        let text = "\n".repeat(LONGEST + 1);
        assert!(too_long(&file("crates/heap/src/lib.rs", &text)).is_some());
        assert!(too_long(&file("crates/heap/tests/all.rs", &text)).is_none());
    }

    #[test]
    fn paths_and_hosts_of_a_machine_are_found() {
        let paths = MACHINE.map_to_lines(|name| format!("at /{name}/somebody"));
        assert_eq!(machine_paths(&file("a.md", &paths)).len(), MACHINE.len());
        let ours = MACHINE.map_to_lines(|name| format!("out/{name}/x and $R/{name}/x"));
        assert!(machine_paths(&file("a.md", &ours)).is_empty());
        let scheme = "https:/".to_owned() + "/";
        let bad = format!("{scheme}mirror.example/x\n{scheme}notgithub.com\n");
        assert_eq!(strange_hosts(&file("a.md", &bad)).len(), 2);
        let good = format!("{scheme}docs.python.org/3/\n{scheme}github.com\n{scheme}{{host}}/\n");
        assert!(strange_hosts(&file("a.md", &good)).is_empty());
    }

    trait Lines {
        fn map_to_lines(&self, line: impl Fn(&str) -> String) -> String;
    }

    impl Lines for [&str] {
        fn map_to_lines(&self, line: impl Fn(&str) -> String) -> String {
            self.iter().map(|name| line(name) + "\n").collect()
        }
    }
}
