//! What is live by a trace, at a moment, is what is live in the heap: pymalloc's blocks as a snapshot finds them, block by
//! block, and malloc's chunks as `mallinfo2` counts them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use pydefrag_heap::{PoolState, pdsnap};
use pydefrag_trace::event::Domain;

use super::*;
use crate::support::{compile, lacking};

/// A chunk's second bit (malloc.c).
const IS_MMAPPED: u64 = 2;
/// The largest block of pymalloc's.
const SMALL: u64 = 512;

/// Live blocks at the last mark of a trace that is still written, each whether it is pymalloc's, and that mark.
fn live(part: &Path) -> (HashMap<u64, bool>, String) {
    let trace = Trace::open(part).unwrap();
    let (mut live, mut at_mark, mut moved) = (HashMap::new(), None, None);
    for (_, event) in events(&trace) {
        match event {
            Event::Alloc { address, size, domain, .. } => {
                // Where nothing is asked for, pymalloc asks malloc; and what is malloc's stays so, however small it
                // becomes.
                let small = domain == Domain::Python && (1..=SMALL).contains(&size);
                live.insert(address, small && moved.take() != Some(false));
                moved = None;
            }
            Event::Free { address, moved: by_realloc } => {
                let was = live.remove(&address);
                moved = was.filter(|_| by_realloc);
            }
            Event::Mark(text) if text.starts_with("waits ") => at_mark = Some((live.clone(), text)),
            _ => {}
        }
    }
    at_mark.expect("a mark")
}

/// pymalloc's live blocks, as a snapshot has them.
fn in_pools(pid: u32, folder: &Path) -> BTreeSet<u64> {
    let file = folder.join("s.pdsnap");
    let pid = pid.to_string();
    let args = ["snapshot", &pid, "--no-objects", "-o", file.to_str().unwrap()];
    let out = Command::new(env!("CARGO_BIN_EXE_pydefrag")).args(args).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let decoded = pdsnap::decode(&std::fs::read(&file).unwrap()).unwrap();
    let detail = &decoded.detail;
    let used = detail.pools.iter().filter(|p| p.state == PoolState::Used);
    used.flat_map(|pool| {
        let size = 16 * (u64::from(pool.class) + 1);
        let first = pool.address + 48;
        let words = detail.bitmap(pool);
        (0..u64::from(pool.carved))
            .filter(move |i| words[*i as usize / 64] >> (i % 64) & 1 == 1)
            .map(move |i| first + i * size)
    })
    .collect()
}

/// Bytes of the chunks of malloc's that hold these blocks.
fn in_chunks(pid: u32, blocks: impl Iterator<Item = u64>) -> u64 {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    blocks
        .map(|address| {
            let mut size = [0; 8];
            memory.read_exact_at(&mut size, address - 8).unwrap();
            let size = u64::from_le_bytes(size);
            // A mapping of its own is not among them.
            if size & IS_MMAPPED == 0 { size & !7 } else { 0 }
        })
        .sum()
}

#[test]
fn blocks_are_those_of_a_snapshot_and_chunks_those_of_mallinfo() {
    let folder = tempfile::tempdir().unwrap();
    let counter = compile(folder.path(), "counted.so", "counted.c", &["-shared", "-fPIC"]);
    let Some(counter) = counter else { return lacking("a C compiler") };
    // Chunks that wait in a cache count as used, and so does what an arena keeps of itself: there are none of either.
    let tunables = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0";
    for of in every_minor() {
        let folder = tempfile::tempdir().unwrap();
        let library = counter.to_str().unwrap();
        let mut command = recording(of, folder.path(), &["--no-report"], &["waiting.py", library]);
        command
            .env("LD_PRELOAD", library)
            .env("GLIBC_TUNABLES", tunables)
            .env("MALLOC_ARENA_MAX", "1");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut unseen = None;
        for _ in 0..2 {
            let line = lines.next().unwrap_or_else(|| panic!("{}: no READY", of.name)).unwrap();
            let pid: u32 = line.strip_prefix("READY ").unwrap().parse().unwrap();
            let (live, mark) = live(&folder.path().join("t.pdtrace.part"));
            let of_pymalloc = live.iter().filter(|(_, pymalloc)| **pymalloc);
            let told: BTreeSet<u64> = of_pymalloc.map(|(a, _)| *a).collect();
            let found = in_pools(pid, folder.path());
            let (lost, invented) =
                (found.difference(&told).count(), told.difference(&found).count());
            assert_eq!((lost, invented), (0, 0), "{}: of {} blocks", of.name, found.len());
            assert!(found.len() > 10_000, "{}", of.name);

            let large = live.iter().filter(|(_, pymalloc)| !**pymalloc).map(|(a, _)| *a);
            let used: u64 = mark["waits ".len()..].parse().unwrap();
            // What was allocated before we were there stays the same.
            let before = used as i64 - in_chunks(pid, large) as i64;
            assert_eq!(*unseen.get_or_insert(before), before, "{}: bytes of chunks", of.name);
            assert!((0..1 << 20).contains(&before), "{}: {before} bytes from before", of.name);
            child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        }
        assert!(child.wait_with_output().unwrap().status.success(), "{}", of.name);
    }
}

/// A snapshot of a process that is being recorded names the lines that allocated what pins its memory.
#[test]
fn a_snapshot_meanwhile_names_the_lines_that_allocated() {
    let code = "import os, sys\n\
                def pinning(i):\n    return ['kept', i, 'x' * 40 + str(i)]\n\
                def passing(i):\n    return [str(i) * 9, i + 0.5]\n\
                kept, gone = [], []\n\
                for i in range(60000):\n    \
                    gone.append(passing(i))\n    \
                    if i % 50 == 0: kept.append(pinning(i))\n\
                del gone\n\
                x = [str(i) for i in range(100000)]; del x\n\
                print('READY', os.getpid(), flush=True); sys.stdin.readline()";
    for of in two() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("pins.py");
        std::fs::write(&script, code).unwrap();
        let mut command =
            recording(of, folder.path(), &["--no-report"], &[script.to_str().unwrap()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("READY").unwrap();
        let pid = line.strip_prefix("READY ").unwrap().to_owned();
        let out = Command::new(env!("CARGO_BIN_EXE_pydefrag"))
            .args(["snapshot", &pid, "--json"])
            .output();
        let json: serde_json::Value = serde_json::from_slice(&out.unwrap().stdout).unwrap();
        let first = &json["pins"]["by_site"][0];
        assert!(first["file"].as_str().unwrap().ends_with("pins.py"), "{}: {first}", of.name);
        assert_eq!(first["line"], 3, "{}: {first}", of.name);
        assert!(json["notes"].to_string().contains("recording"), "{}", json["notes"]);
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert!(child.wait().unwrap().success());
    }
}
