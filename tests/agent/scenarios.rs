//! Each scenario of `healed.py`, on each interpreter.

use std::io::Read;
use std::process::Stdio;

use pydefrag_harness::Interpreters;

use super::{purged, python, scenario};

macro_rules! scenarios {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            for on in purged() {
                scenario(on, &[stringify!($name)], &[]);
            }
        }
    )*};
}

scenarios! {
    gives_back survivors threads asyncio forks fork_from_a_thread subinterpreters frozen in_a_collection
    collects hooks bad_requests policy
}

/// Debug hooks wrap pymalloc; its structures are what they were.
#[test]
fn with_debug_hooks() {
    for on in purged() {
        scenario(on, &["survivors", "20"], &[("PYTHONMALLOC", "debug")]);
        scenario(on, &["hooks"], &[("PYTHONDEVMODE", "1"), ("PYTHONWARNINGS", "ignore")]);
    }
}

#[test]
fn with_malloc() {
    for on in purged() {
        scenario(on, &["with_malloc"], &[("PYTHONMALLOC", "malloc")]);
    }
}

/// 3.8 and 3.9 have pools of one OS page, and an API of their own: refused in a sentence, not loaded by halves.
#[test]
fn older_pythons_are_refused() {
    for on in Interpreters::load().all() {
        if on.minor >= 10 {
            continue;
        }
        let out = python(on, "healed.py", &["frozen"]).output().expect("an interpreter starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success(), "{}", on.name);
        assert!(said.contains("3.10"), "{}: {said}", on.name);
        assert!(out.status.code().is_some(), "{} ended by a signal", on.name);
    }
}

/// A thousand ends after a heal, each as it would have been.
#[test]
fn a_thousand_exits() {
    const WAYS: [(&str, i32); 7] = [
        ("normal", 0),
        ("daemon", 0),
        ("purging", 0),
        ("raise", 1),
        ("exit", 0),
        ("_exit", 0),
        ("cleared", 0),
    ];
    let interpreters = purged();
    let ends = 1000_usize.div_ceil(interpreters.len() * WAYS.len());
    for on in interpreters {
        for (way, code) in WAYS {
            let mut left = ends;
            while left > 0 {
                let many = left.min(4);
                left -= many;
                let start = |_| {
                    let mut command = python(on, "healed.py", &["exits", way]);
                    command.stdout(Stdio::piped()).stderr(Stdio::piped());
                    command.spawn().expect("an interpreter starts")
                };
                for mut child in (0..many).map(start).collect::<Vec<_>>() {
                    let (mut said, mut errors) = (String::new(), String::new());
                    let streams = (child.stdout.as_mut(), child.stderr.as_mut());
                    let (Some(out), Some(err)) = streams else { panic!("piped") };
                    out.read_to_string(&mut said).expect("text");
                    err.read_to_string(&mut errors).expect("text");
                    let status = child.wait().expect("a child");
                    assert_eq!(status.code(), Some(code), "{way} on {}: {said}{errors}", on.name);
                    assert!(said.starts_with("OK\n"), "{way} on {}: {said}{errors}", on.name);
                }
            }
        }
    }
}
