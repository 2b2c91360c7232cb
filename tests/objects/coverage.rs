//! At least 98% of the bytes are explained: on the examples, and on programs that nobody wrote for this.

use pydefrag_harness::{Target, matrix, packages, repository};

use super::{is_explained, list, look, number, on};
use crate::support::lacking;

const VERSIONS: [&str; 5] = ["3.8", "3.11", "3.13", "3.14", "3.15"];

/// On every second version, in turn.
fn of_example(turn: usize, name: &str, size: &str) {
    let path = repository().join(format!("examples/{name}.py")).display().to_string();
    for interpreter in matrix::part(on(&VERSIONS), turn, 2) {
        let target = Target::spawn(interpreter, &path, &["--hold", "--size", size], &[]);
        let s = look(&target, &[]);
        let what = format!("{name} on {}", interpreter.name);
        is_explained(&s, &what);
        assert!(number(&s, "/objects/all/count") > 10_000, "{what}: {:#}", s["objects"]["all"]);
    }
}

#[test]
fn session_cache() {
    of_example(0, "session_cache", "10000");
}

#[test]
fn json_document() {
    of_example(1, "json_document", "20000");
}

#[test]
fn lru_cache() {
    of_example(2, "lru_cache", "30");
}

#[test]
fn request_threads() {
    of_example(3, "request_threads", "1500");
}

#[test]
fn mmap_threshold() {
    of_example(4, "mmap_threshold", "40");
}

#[test]
fn prefork() {
    of_example(5, "prefork", "30000");
}

#[test]
fn healthy() {
    of_example(6, "healthy", "60000");
}

#[test]
fn leak() {
    of_example(7, "leak", "20000");
}

#[test]
fn reused_peak() {
    of_example(8, "reused_peak", "30000");
}

fn of_program(name: &str, objects: u64) {
    for interpreter in on(&VERSIONS) {
        let what = format!("{name} on {}", interpreter.name);
        let Some(folder) = packages::folder_for(interpreter) else {
            lacking(&format!("the packages for python {}", interpreter.name));
            continue;
        };
        let folder = folder.display().to_string();
        let script = format!("program_{name}.py");
        let target = Target::spawn(interpreter, &script, &[], &[("PYTHONPATH", &folder)]);
        let s = look(&target, &[]);
        is_explained(&s, &what);
        assert!(number(&s, "/objects/all/count") >= objects, "{what}: {:#}", s["objects"]["all"]);
        // Its own types are there by name.
        let types = list(&s, "/objects/types");
        let own = |row: &&serde_json::Value| {
            row["type"].as_str().is_some_and(|t| t.starts_with(&format!("{name}.")))
        };
        // NetworkX keeps dicts of dicts: its types are one object each.
        assert!(name == "networkx" || types.iter().any(|row| own(&row)), "{what}: {types:#?}");
    }
}

#[test]
fn a_django_project_after_its_check() {
    of_program("django", 100_000);
}

#[test]
fn a_computation_with_sympy() {
    of_program("sympy", 200_000);
}

#[test]
fn a_graph_of_networkx() {
    of_program("networkx", 400_000);
}
