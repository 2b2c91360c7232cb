//! An allocator that a library carries for itself is told from the process's malloc.

use pydefrag_harness::{Interpreters, Target, repository};

use crate::support::{lacking, snapshot_at_rest};

/// 40 MiB of jemalloc's, loaded as an extension module's library would be, not preloaded.
#[test]
fn a_carried_jemalloc_owns_its_memory() {
    let libraries = repository().join(".cache/interpreters/root");
    let Some(jemalloc) = find(&libraries, "libjemalloc.so.2") else {
        lacking("jemalloc in .cache, which `cargo xtask interpreters` brings,");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let carried = folder.path().join("libcarried.so.1");
    std::fs::copy(jemalloc, &carried).unwrap();
    // One that runs in the C library that jemalloc was built for.
    let interpreter = Interpreters::load().get("3.15").expect("Debian's own");
    let args = [carried.to_str().unwrap()];
    // It was built to be preloaded: its thread-local variables need room that is set aside at start.
    let env = [("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=16384")];
    let target = Target::spawn(interpreter, "carried.py", &args, &env);
    let s = snapshot_at_rest(&target);
    let owners = s["owners"].as_array().unwrap();
    let owner = owners.iter().find(|o| o["kind"] == "private");
    let owner = owner.unwrap_or_else(|| panic!("{owners:#?}"));
    assert_eq!(owner["name"], "allocator in libcarried.so.1");
    assert_eq!(owner["basis"], "by_exclusion");
    assert!(owner["resident"].as_u64().unwrap() >= 40 << 20, "{owner:#}");
    // The process's own malloc is walked beside it.
    assert!(s["malloc"]["arenas"][0]["system"].as_u64().unwrap() > 0);
    assert!(owners.iter().any(|o| o["name"] == "malloc main arena"));
}

fn find(folder: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let found = match entry.file_type().ok()?.is_dir() {
            true => find(&path, name),
            false => (entry.file_name() == name).then_some(path),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}
