//! Native frames: named by whoever reads, told apart by place, and never the line that a block's place is.

use pydefrag_trace::chunk::{End, GIL};
use pydefrag_trace::code::{Code, Table};
use pydefrag_trace::event::{Domain, Event, FIRST_NODE, NO_FILE, NO_STACK};
use pydefrag_trace::{Symbol, Symbols, Trace, placed, sum, sum_named};

use crate::planted::{begin, code};
use crate::writer::Writer;

const FILE: u32 = 7;
const LIBRARY: &str = "/usr/lib/libplanted.so";

/// Two places of one function, one of another, and one that nobody names.
struct Planted;

impl Symbols for Planted {
    fn symbol(&mut self, file: &Code, address: u64) -> Option<Symbol> {
        assert_eq!((file.number, &*file.file, &*file.table), (FILE, LIBRARY, &[1, 2, 3][..]));
        let (name, source, line) = match address {
            0 => ("copied", "planted.c", 10),
            16 => ("copied", "planted.c", 11),
            0xffff_fffe => ("doubled", "", 0),
            _ => return None,
        };
        Some(Symbol { name: name.into(), source: source.into(), line })
    }
}

pub(crate) fn trace() -> Vec<u8> {
    let node =
        |n: u32, parent, code, offset| Event::Node { node: FIRST_NODE + n, parent, code, offset };
    let mut events = vec![
        node(0, NO_STACK, 1, 3),
        node(1, FIRST_NODE, FILE, 1),
        node(2, FIRST_NODE, FILE, 17),
        node(3, FIRST_NODE + 2, FILE, u32::MAX),
        node(4, FIRST_NODE + 3, NO_FILE, 0),
        node(5, NO_STACK, FILE, 100),
    ];
    for (i, n) in (0u64..).zip([1, 2, 3, 4, 5, 4]) {
        let (address, node) = (0x1000 + 64 * i, FIRST_NODE + n);
        events.push(Event::Alloc { address, size: 10 + i, node, domain: Domain::Malloc });
    }
    let mut writer = Writer::new(&begin(), 1000);
    let native = Code {
        number: FILE,
        file: LIBRARY.into(),
        kind: Table::Native,
        table: vec![1, 2, 3],
        ..Code::default()
    };
    writer.codes(&[code(1), native]);
    events.iter().for_each(|event| writer.event(GIL, event));
    writer.finish(Some(&End::default()))
}

#[test]
fn native_frames_are_calls_with_names() {
    let trace = Trace::from_bytes(trace()).unwrap();
    let recording = sum_named(&trace, &mut Planted, &|_, _| {});
    let told: Vec<_> = recording
        .calls
        .iter()
        .map(|call| {
            let of =
                |call: u32| &recording.functions[recording.calls[call as usize].function as usize];
            let function = &recording.functions[call.function as usize];
            let own = call.own.retained.bytes;
            (
                &*of(call.parent).name,
                &*function.name,
                &*function.file,
                call.line,
                function.native,
                own,
            )
        })
        .collect();
    let library = "/usr/lib/libplanted.so";
    assert_eq!(
        told,
        [
            ("(root)", "(root)", "", 0, false, 0),
            ("(root)", "f0", "m0.py", 1, false, 0),
            ("f0", "copied", "planted.c", 10, true, 10),
            ("f0", "copied", "planted.c", 11, true, 11),
            ("copied", "doubled", library, 0, true, 12),
            ("doubled", "(no file)", "", 0, true, 13 + 15),
            ("(root)", "(no Python frame)", "", 0, false, 0),
            ("(no Python frame)", "(no symbol)", library, 0, true, 14),
        ]
    );
    // Nobody names them.
    let nameless = sum(&trace, &|_, _| {});
    assert_eq!(nameless.retained, recording.retained);
    assert!(nameless.functions.iter().filter(|f| f.native).all(|f| f.name.starts_with("(no ")));
}

#[test]
fn the_place_of_a_block_is_the_python_line() {
    let trace = Trace::from_bytes(trace()).unwrap();
    let placed = placed(&trace, &|_, _| {});
    assert_eq!(placed.places, [("m0.py".to_owned(), 1)]);
    let mut blocks = placed.blocks;
    blocks.sort();
    // But for the one that no Python function has made.
    assert_eq!(blocks, [0, 1, 2, 3, 5].map(|i| (0x1000 + 64 * i, 0)));
}
