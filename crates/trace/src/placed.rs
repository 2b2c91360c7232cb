//! Where what is live at the end of a trace was allocated: the innermost line of each block's stack.
//!
//! For a look at a process that is being recorded. What its last buffers hold is not in the file yet.

use rustc_hash::FxHashMap;

use crate::event::{Event, FIRST_NODE, NO_FILE};
use crate::lines::line_of;
use crate::live::{Block, Live};
use crate::reader::Trace;
use crate::sum::BLOCKS;

/// Live blocks and the lines that allocated them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// File and line of each place.
    pub places: Vec<(String, u32)>,
    /// Each block's address, and the index of its place. Blocks without a Python stack are left out.
    pub blocks: Vec<(u64, u32)>,
}

/// Reads a trace to its end. `progress` hears how many stored bytes of how many are done.
pub fn placed(trace: &Trace, progress: &dyn Fn(u64, u64)) -> Placed {
    let mut live = Live::new(trace.most().saturating_mul(BLOCKS));
    // Of each stack: its caller, its code, and the byte of its code.
    let mut nodes = vec![(0, 0, 0); FIRST_NODE as usize];
    let mut moved: [Option<(u64, Block)>; 2] = [None; 2];
    trace.events().each(progress, &mut |lane, event| match event {
        Event::Alloc { address, size, node, domain } => {
            live.insert(address, Block { size, node, domain });
        }
        Event::Free { address, moved: by_realloc } => {
            let block = live.remove(address);
            if by_realloc {
                moved[usize::from(lane != crate::chunk::GIL)] = block.map(|b| (address, b));
            }
        }
        Event::Kept => {
            if let Some((address, block)) = moved[usize::from(lane != crate::chunk::GIL)].take() {
                live.insert(address, block);
            }
        }
        Event::Node { parent, code, offset, .. } => nodes.push((parent, code, offset)),
        _ => {}
    });
    let codes: FxHashMap<u32, usize> =
        trace.codes.iter().enumerate().map(|(i, code)| (code.number, i)).collect();
    let mut placed = Placed::default();
    let mut known: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    let mut of_node: FxHashMap<u32, Option<u32>> = FxHashMap::default();
    let mut place = |node: u32, places: &mut Vec<(String, u32)>| {
        let mut at = node;
        loop {
            let (parent, code, offset) = *nodes.get(at as usize).filter(|_| at >= FIRST_NODE)?;
            let number = code;
            let code = codes.get(&code).map(|i| &trace.codes[*i]);
            // What the interpreter runs of its own stands for its caller, and so does native code.
            let is_passed_over = code.is_some_and(|c| c.is_shim() || c.is_native());
            if (is_passed_over || number == NO_FILE) && parent < at {
                at = parent;
                continue;
            }
            let code = code?;
            let line = line_of(code, offset).unwrap_or(0);
            return Some(*known.entry((number, line)).or_insert_with(|| {
                places.push((code.file.clone(), line));
                places.len() as u32 - 1
            }));
        }
    };
    for (address, block) in live.blocks() {
        let place =
            *of_node.entry(block.node).or_insert_with(|| place(block.node, &mut placed.places));
        placed.blocks.extend(place.map(|place| (address, place)));
    }
    placed
}
