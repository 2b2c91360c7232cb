//! `pydefrag run` on every example and control: the same verdict whatever the size, the seed and the
//! interpreter; and lone looks at those that are not fragmented.

use std::process::Stdio;
use std::time::{Duration, Instant};

use pydefrag_harness::{Interpreter, Interpreters, matrix, repository};
use serde_json::Value;

use crate::support::{lacking, pydefrag, run, text};

/// Runs an example at a third, one and two times its default size, with three seeds. Each seed has an
/// interpreter of its own, and a size; all sizes in the whole matrix.
fn verdict_is(example: &str, default: u32, wanted: &str) {
    let seeds = [("1", "3.13"), ("2", "3.8"), ("3", "3.15")];
    for (turn, (seed, name)) in seeds.into_iter().enumerate() {
        let Some(interpreter) = Interpreters::load().get(name) else {
            lacking(&format!("python {name}"));
            continue;
        };
        for size in matrix::part([default / 3, default, 2 * default], turn, 3) {
            let args = ["--size", &size.to_string(), "--seed", seed];
            let s = report(interpreter, example, &args);
            let what = format!("{example} {args:?} on {name}");
            assert_eq!(s["partial"], Value::Null, "{what}");
            assert_eq!(s["run"]["ended"]["code"], 0, "{what}");
            assert_eq!(s["run"]["account_at_end"], true, "{what}");
            let verdict = &s["verdict"];
            assert_eq!(verdict["kind"], wanted, "{what}: {verdict:#}\n{:#}", s["run"]["samples"]);
        }
    }
}

/// The JSON of a run.
fn report(interpreter: &Interpreter, example: &str, args: &[&str]) -> Value {
    let program = repository().join(format!("examples/{example}.py"));
    let out = pydefrag(&["run", "--json", "--python"])
        .arg(&interpreter.program)
        .arg("--")
        .args(&interpreter.args)
        .arg(program)
        .args(args)
        .envs(interpreter.env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let (_, said) = text(&out);
    let json = said.find("\n{").map_or(&said[..], |at| &said[at + 1..]);
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{example}: {e}: {said}"))
}

#[test]
fn session_cache() {
    verdict_is("session_cache", 150_000, "fragmented");
}

#[test]
fn json_document() {
    verdict_is("json_document", 85_000, "fragmented");
}

#[test]
fn lru_cache() {
    verdict_is("lru_cache", 130, "fragmented");
}

#[test]
fn request_threads() {
    verdict_is("request_threads", 9000, "fragmented");
}

#[test]
fn mmap_threshold() {
    verdict_is("mmap_threshold", 180, "fragmented");
}

#[test]
fn prefork() {
    verdict_is("prefork", 500_000, "healthy");
}

#[test]
fn healthy() {
    verdict_is("healthy", 540_000, "healthy");
}

#[test]
fn leak() {
    verdict_is("leak", 220_000, "growing");
}

#[test]
fn reused_peak() {
    verdict_is("reused_peak", 360_000, "retained");
}

/// At any time while they run, and at their end.
#[test]
fn lone_looks_at_the_leak_and_the_healthy_one_never_say_fragmented() {
    for name in ["3.8", "3.13"] {
        let Some(interpreter) = Interpreters::load().get(name) else {
            lacking(&format!("python {name}"));
            continue;
        };
        for example in ["leak", "healthy"] {
            let program = repository().join(format!("examples/{example}.py"));
            let mut child = std::process::Command::new(&interpreter.program)
                .args(&interpreter.args)
                .arg(program)
                .arg("--hold")
                .envs(interpreter.env.iter().map(|(k, v)| (k, v)))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the example starts");
            let mut looks = 0;
            let start = Instant::now();
            // At least five of them, however slow the machine is.
            let enough = |looks| looks >= 5 && start.elapsed() >= Duration::from_secs(6);
            while !enough(looks) && start.elapsed() < Duration::from_secs(60) {
                std::thread::sleep(Duration::from_millis(400));
                let out = run(&["snapshot", &child.id().to_string(), "--json"]);
                let Ok(s) = serde_json::from_slice::<Value>(&out.stdout) else { continue };
                let what = format!("{example} on {name} after {:?}", start.elapsed());
                assert_ne!(s["verdict"]["kind"], "fragmented", "{what}: {:#}", s["verdict"]);
                for kind in ["growing", "retained"] {
                    assert_ne!(s["verdict"]["kind"], kind, "{what}: a lone look cannot tell");
                }
                looks += 1;
            }
            assert!(looks >= 5, "{example} on {name}: {looks} looks");
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
