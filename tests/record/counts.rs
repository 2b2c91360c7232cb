//! Nothing is lost, and nothing invented: events against a counter of calls, live blocks against `sys.getallocatedblocks()`.

use pydefrag_trace::event::Domain;

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
    let folder = tempfile::tempdir().unwrap();
    let Some(counter) = compile(folder.path(), "counted.so", "counted.c", &["-shared", "-fPIC"])
    else {
        return lacking("a C compiler");
    };
    for of in every_minor() {
        let folder = tempfile::tempdir().unwrap();
        let library = counter.to_str().unwrap();
        let mut command = recording(of, folder.path(), &["--no-report"], &["counted.py", library]);
        // Where the interpreter has another C library than the machine, the preloaded counter still only needs libc.
        let output = command.env("LD_PRELOAD", library).output().unwrap();
        let recorded = Recorded { output, folder };
        let errors = String::from_utf8_lossy(&recorded.output.stderr);
        assert!(recorded.stdout().ends_with("done\n"), "{}: {errors}", of.name);
        let trace = recorded.trace();
        let (mut allocated, mut freed, mut bytes, mut marks) = (0u64, 0u64, 0u64, 0);
        let mut live: HashMap<u64, (u64, Domain)> = HashMap::new();
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
