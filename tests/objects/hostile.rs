//! Heaps that are hard to read (`tests/targets/hostile.py`): a snapshot ends, is a snapshot, stays small,
//! and shows nothing of what strings hold.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use pydefrag_harness::Target;
use serde_json::Value;

use super::{list, number, on, string};
use crate::support::pydefrag;

/// Two layouts of everything, the newest included.
const VERSIONS: [&str; 4] = ["3.8", "3.11", "3.13", "3.15"];

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Peak RSS that it may reach.
const BOUND: u64 = 300 << 20;

/// `MARKER` in hostile.py.
const MARKER: &str = "do-not-show-me";

/// Stdout and stderr of a look that ends in time, succeeds, and stays small.
fn bounded(args: &[&str], what: &str) -> (String, String) {
    let start = Instant::now();
    let mut child = pydefrag(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let all = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    };
    let out = thread::spawn(move || all(&mut stdout));
    let err = thread::spawn(move || all(&mut stderr));
    let mut peak = 0;
    let status = loop {
        peak = peak.max(high_water(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{what}: {args:?} hangs");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let [out, err] = [out, err].map(|reader| {
        let bytes = reader.join().expect("no panic").expect("its output can be read");
        String::from_utf8(bytes).unwrap_or_else(|e| panic!("{what}: not UTF-8: {e}"))
    });
    assert!(status.success(), "{what}: {args:?}: {status}: {err}");
    assert!(peak > 0 && peak < BOUND, "{what}: peak RSS {peak}");
    eprintln!("{what}: {:?}, peak RSS {} MiB", start.elapsed(), peak >> 20);
    (out, err)
}

/// The kernel's high-water mark of a process's RSS.
fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// The JSON and the text of a hostile target, checked for what holds of all.
fn looked_at(kind: &str, check: impl Fn(&Value, &str, &str)) {
    for interpreter in on(&VERSIONS) {
        let what = format!("{kind} on {}", interpreter.name);
        let target = Target::spawn(interpreter, "hostile.py", &[kind], &[]);
        target.wait_blocked();
        let pid = target.pid().to_string();
        let (json, said) = bounded(&["snapshot", &pid, "--json"], &what);
        let s: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(s["partial"], Value::Null, "{what}");
        assert!(number(&s, "/objects/typed/count") > 10_000, "{what}: {:#}", s["objects"]["all"]);
        assert!(json.len() < 2 << 20, "{what}: {} bytes of JSON", json.len());
        let (report, warned) = bounded(&["snapshot", &pid], &what);
        for text in [&json, &said, &report, &warned] {
            assert!(!text.contains(MARKER), "{what}: it shows what a string holds: {text}");
        }
        // For a terminal nothing but lines; none wider than the report, nor of the target's making.
        let raw = |c: char| {
            c.is_control() && c != '\n'
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        for text in [&report, &warned, &said] {
            assert_eq!(text.chars().find(|c| raw(*c)), None, "{what}: {text:?}");
        }
        let width = report.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(width <= 120, "{what}: {width} columns wide");
        assert!(report.lines().count() <= 120, "{what}: {} lines", report.lines().count());
        // And the target lives on.
        assert!(high_water(target.pid()).is_some(), "{what}");
        check(&s, &pid, &what);
    }
}

/// Percent of the live bytes of pymalloc that are explained: hostile or not, the rest of the heap is sound.
fn mostly_explained(s: &Value, what: &str) {
    let percent = super::covered(s);
    assert!(percent >= 90.0, "{what}: {percent:.1}%");
}

#[test]
fn cycles() {
    looked_at("cyclic", |s, _, what| {
        mostly_explained(s, what);
        assert!(number(s, "/garbage/objects") <= 20, "{what}: {:#}", s["garbage"]);
    });
}

/// A million levels.
#[test]
fn depth() {
    looked_at("deep", |s, _, what| {
        mostly_explained(s, what);
        assert!(number(s, "/garbage/objects") <= 20, "{what}: {:#}", s["garbage"]);
        let lists = super::row_of(list(s, "/objects/types"), "list").expect("lists");
        assert!(number(lists, "/count") >= 1_000_000, "{what}: {lists:#}");
        let longest = list(s, "/pins/by_owner").iter().filter_map(|row| row["owner"].as_str());
        assert!(longest.map(str::len).max() < Some(1000), "{what}: a chain of a million steps");
    });
}

#[test]
fn size() {
    looked_at("enormous", |s, _, what| {
        mostly_explained(s, what);
        assert!(number(s, "/slack/list/held") >= 20_000_000 * 8, "{what}: {:#}", s["slack"]);
    });
}

#[test]
fn hostile_names() {
    looked_at("names", |s, _, what| {
        mostly_explained(s, what);
        // Their objects are counted all the same, and no name fills the report.
        for row in list(s, "/objects/types") {
            let name = super::string(row, "/type");
            assert!(name.chars().count() <= 1100, "{what}: {} characters", name.len());
        }
        let markup = list(s, "/objects/types").iter().any(|row| {
            row["type"].as_str().is_some_and(|t| t.contains("<script>")) && row["count"] == 300
        });
        assert!(markup, "{what}: JSON has the name as it is: {:#}", s["objects"]["types"]);
    });
}

#[test]
fn torn_objects() {
    looked_at("torn", |s, _, _| {
        assert!(number(s, "/garbage/objects") <= number(s, "/objects/all/count"));
    });
}

/// Bytes that look like objects make no types: no count of a type grows by what a buffer says.
#[test]
fn planted_fakes() {
    looked_at("fakes", |s, _, what| {
        let types = list(s, "/objects/types");
        let count = |name: &str| super::row_of(types, name).map_or(0, |row| number(row, "/count"));
        // 14,400 bytes objects look like these inside; none of them is one.
        assert!(count("bytes") >= 14_000, "{what}: {} bytes", count("bytes"));
        for name in ["set", "collections.deque", "bytearray"] {
            assert!(count(name) < 4000, "{what}: {} of {name}", count(name));
        }
        let terms = number(s, "/objects/all/bytes");
        assert!(terms <= number(s, "/memory/rss"), "{what}: more bytes than there are");
    });
}

/// No contents of strings, until they are asked for.
#[test]
fn secrets_are_shown_only_when_asked_for() {
    looked_at("secrets", |s, pid, what| {
        // They were seen: twenty thousand copies of seven texts, twice.
        assert!(number(s, "/duplicates/copies/count") >= 39_000, "{what}: {:#}", s["duplicates"]);
        // Seven texts, as str and as bytes, and two more; from 3.15 on bytearrays, of two kinds, have bytes.
        let worst = &list(s, "/duplicates/worst")[0];
        let newer = string(s, "/process/python/version").starts_with("3.15");
        let different = 7 + 7 + 2 + if newer { 2 } else { 0 };
        assert_eq!(number(worst, "/different"), different, "{what}: {worst:#}");
        let (shown, _) = bounded(&["snapshot", pid, "--json", "--show-values"], what);
        assert!(shown.contains(MARKER), "{what}: --show-values shows nothing");
    });
}
