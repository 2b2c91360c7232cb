//! Nothing is lost, and nothing invented: events against a counter of calls, live blocks against `sys.getallocatedblocks()`.

use pydefrag_trace::event::{Domain, NO_GIL};

use super::*;
use crate::support::{compile, lacking};

/// What `counted.c` says at a mark.
struct Said {
    allocated: u64,
    freed: u64,
    bytes: u64,
    blocks: u64,
}

fn said(mark: &str) -> Option<Said> {
    let numbers: Vec<u64> =
        mark.strip_prefix("counts ")?.split(' ').map(|n| n.parse().unwrap()).collect();
    let [allocated, freed, bytes, blocks] = numbers[..] else { panic!("{mark}") };
    Some(Said { allocated, freed, bytes, blocks })
}

#[test]
fn events_agree_with_a_counter_below_the_hooks() {
    count(&every_minor(), &["--no-report"]);
}

/// There is no free-threaded build here to try: one with a GIL is recorded as if it had none.
#[test]
fn events_agree_where_no_gil_keeps_their_order() {
    let of: Vec<_> = every_minor().into_iter().filter(|of| of.minor >= 13).collect();
    assert!(!of.is_empty());
    count(&of, &["--no-report", "--as-free-threaded"]);
    for of in of {
        let words = ["threads_bytes.py", "300"];
        let recorded = recorded(of, &["--as-free-threaded", "--json"], &words);
        let trace = recorded.trace();
        assert!(trace.begin.notes.iter().any(|note| note.contains("without a GIL")), "{}", of.name);
        let (mut live, mut threads) = (HashMap::new(), std::collections::HashSet::new());
        let mut times = 0;
        for (lane, event) in events(&trace) {
            assert_eq!(lane, 0, "{}: one lane has all", of.name);
            match event {
                Event::Alloc { address, size, node, .. } => {
                    assert_eq!(node, NO_GIL, "{}: no stack is told", of.name);
                    assert_eq!(live.insert(address, size), None, "{}: {address:#x}", of.name);
                }
                Event::Free { address, .. } => drop(live.remove(&address)),
                Event::Thread(tid) => drop(threads.insert(tid)),
                Event::Time(_) => times += 1,
                _ => {}
            }
        }
        assert!(threads.len() > 8 && times > 10, "{}: {threads:?}, {times}", of.name);
    }
}

fn count(all: &[&Interpreter], options: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let Some(counter) = compile(folder.path(), "counted.so", "counted.c", &["-shared", "-fPIC"])
    else {
        return lacking("a C compiler");
    };
    for of in all {
        let folder = tempfile::tempdir().unwrap();
        let library = counter.to_str().unwrap();
        let mut command = recording(of, folder.path(), options, &["counted.py", library]);
        // Where the interpreter has another C library than the machine, the preloaded counter still only needs libc.
        let output = command.env("LD_PRELOAD", library).output().unwrap();
        let recorded = Recorded { output, folder };
        let errors = String::from_utf8_lossy(&recorded.output.stderr);
        assert!(recorded.stdout().ends_with("done\n"), "{}: {errors}", of.name);
        let trace = recorded.trace();
        let (mut allocated, mut freed, mut bytes, mut marks) = (0u64, 0u64, 0u64, 0);
        let mut live: HashMap<u64, (u64, Domain)> = HashMap::new();
        told_once(&trace, &of.name);
        let mut moved = None;
        for (_, event) in events(&trace) {
            match event {
                Event::Alloc { address, size, domain, .. } => {
                    if domain == Domain::Python {
                        allocated += 1;
                        bytes += size;
                    }
                    let before = live.insert(address, (size, domain));
                    assert_eq!(before, None, "{}: {address:#x} is handed out twice", of.name);
                }
                Event::Free { address, moved: by_realloc } => {
                    let block = live.remove(&address);
                    freed += u64::from(block.is_some_and(|b| b.1 == Domain::Python));
                    moved = by_realloc.then_some((address, block));
                }
                Event::Kept => {
                    let (address, block) = moved.take().expect("a realloc before");
                    if let Some(block) = block {
                        freed -= u64::from(block.1 == Domain::Python);
                        live.insert(address, block);
                    }
                }
                Event::Mark(text) => {
                    let Some(said) = said(&text) else { continue };
                    marks += 1;
                    let at = format!("{} at mark {marks}", of.name);
                    assert_eq!((allocated, bytes), (said.allocated, said.bytes), "{at}");
                    assert_eq!(freed, said.freed, "{at}");
                    // From 3.14 on the int may have come from a free list, and gone back there.
                    let python = live.values().filter(|b| b.1 == Domain::Python).count() as u64;
                    let spare = u64::from(of.minor >= 14);
                    assert!(
                        (said.blocks..=said.blocks + spare).contains(&python),
                        "{at}: {python} blocks live, {} by sys.getallocatedblocks()",
                        said.blocks
                    );
                }
                _ => {}
            }
        }
        assert_eq!(marks, 7, "{}", of.name);
        assert!(allocated > 100_000, "{}", of.name);
    }
}
