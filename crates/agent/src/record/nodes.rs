//! All stacks that were seen, as a tree: a node is a caller's node and an instruction.
//!
//! A node that is new is written to the lane, which is read in that order. Nodes are kept to the end: what goes with a code
//! object is only that they are found.
//!
//! Invariant: touched only with the GIL.

use pydefrag_trace::event::{FIRST_NODE, NO_STACK, escape};

use super::codes::codes;
use super::frame::{At, NODE_BITS};
use super::lane::{Lane, Shared};
use super::own::{busy, own};
use super::stack::DEEPEST;

/// Stacks that are kept; later ones have no node.
const MOST: usize = 1 << NODE_BITS;
/// Entries of the table at first.
const FIRST_TABLE: usize = 1 << 12;
/// Nodes that are found at once: so many at most, a power of two, that stay in the nearest cache. A program that allocates in
/// two dozen places by turns has two of them at the same place more often than not, so each has two.
const NEAR: usize = 256;
/// The instruction of a node whose code object has gone.
const GONE: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Node {
    /// [`GONE`] is one that no frame is at.
    instruction: u64,
    parent: u32,
    /// The next node of the same code object.
    next: u32,
}

/// A node that was found, with what it was found by.
#[derive(Clone, Copy)]
struct Near {
    instruction: u64,
    parent: u32,
    node: u32,
}

/// Of nothing.
const NOTHING: Near = Near { instruction: GONE, parent: 0, node: 0 };

/// The tree, and what finds a node by its parent and instruction.
struct Nodes {
    all: Vec<Node>,
    /// How many frames each one's stack has.
    depths: Vec<u16>,
    table: Vec<u32>,
}

static NODES: Shared<Nodes> =
    Shared::new(Nodes { all: Vec::new(), depths: Vec::new(), table: Vec::new() });

/// On whole cache lines: a node's two places are on the same.
#[repr(align(64))]
struct Nearest([Near; NEAR]);

/// What was found last, each at one of the two places that its parent and instruction have.
static NEAREST: Shared<Nearest> = Shared::new(Nearest([NOTHING; NEAR]));

impl Nodes {
    /// Room for one node more; whether the table was made anew for it.
    fn make_room(&mut self) -> Option<bool> {
        if self.all.len() >= MOST {
            return None;
        }
        self.all.try_reserve(1).ok()?;
        self.depths.try_reserve(1).ok()?;
        let full = (self.all.len() + 1) * 2 > self.table.len();
        if full {
            let mut table = Vec::new();
            table.try_reserve_exact(self.table.len() * 4).ok()?;
            table.resize(self.table.len() * 4, 0);
            self.table = table;
        }
        Some(full)
    }
}

/// Forgets all nodes.
pub(super) fn reset(forked: bool) -> Result<(), String> {
    let nothing = Node { instruction: GONE, parent: 0, next: 0 };
    let mut nodes = Nodes { all: Vec::new(), depths: Vec::new(), table: Vec::new() };
    let room = nodes.all.try_reserve(FIRST_TABLE).and(nodes.table.try_reserve_exact(FIRST_TABLE));
    let room = room.and(nodes.depths.try_reserve(FIRST_TABLE));
    room.map_err(|_| "no memory for stacks".to_owned())?;
    nodes.all.resize(FIRST_NODE as usize, nothing);
    nodes.depths.resize(FIRST_NODE as usize, 0);
    nodes.table.resize(FIRST_TABLE, 0);
    // SAFETY: nothing is recorded yet, or any more.
    unsafe {
        NODES.renew(nodes, forked);
        *NEAREST.get() = Nearest([NOTHING; NEAR]);
    }
    Ok(())
}

/// The nodes of a code object that goes, by its first: they stand for nothing that can come again.
pub(super) fn gone(first: u32) {
    // SAFETY: the GIL.
    let (nodes, nearest) = unsafe { (&mut *NODES.get(), &mut *NEAREST.get()) };
    *nearest = Nearest([NOTHING; NEAR]);
    let mut at = first;
    while at != 0 {
        let node = &mut nodes.all[at as usize];
        node.instruction = GONE;
        at = node.next;
    }
}

fn hash(parent: u32, instruction: u64) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    (instruction ^ u64::from(parent) << 40).wrapping_mul(K).rotate_left(20).wrapping_mul(K)
}

/// The caller's node of a node. With the GIL.
#[inline(always)]
pub(super) fn caller(node: u32) -> u32 {
    // SAFETY: the GIL.
    let nodes = unsafe { &*NODES.get() };
    nodes.all.get(node as usize).map_or(NO_STACK, |n| n.parent)
}

/// The same, if the node is this instruction's. With the GIL.
#[inline(always)]
pub(super) fn parent(node: u32, instruction: u64) -> Option<u32> {
    // SAFETY: the GIL.
    let nodes = unsafe { &*NODES.get() };
    nodes.all.get(node as usize).filter(|n| n.instruction == instruction).map(|n| n.parent)
}

/// The node of an instruction called from another node, if it was seen. With the GIL.
#[inline(always)]
pub(super) fn look(parent: u32, instruction: u64) -> Option<u32> {
    // SAFETY: the GIL.
    let nodes = unsafe { &*NODES.get() };
    let mask = nodes.table.len() - 1;
    let mut slot = (hash(parent, instruction) >> 40) as usize & mask;
    loop {
        match nodes.table[slot] {
            0 => return None,
            id => {
                let node = nodes.all[id as usize];
                if node.instruction == instruction && node.parent == parent {
                    return Some(id);
                }
            }
        }
        slot = (slot + 1) & mask;
    }
}

/// The same, if it was found lately. With the GIL.
#[inline(always)]
pub(super) fn near(parent: u32, instruction: u64) -> Option<u32> {
    // SAFETY: the GIL.
    let nearest = unsafe { &(*NEAREST.get()).0 };
    let is_it = |near: &Near| near.instruction == instruction && near.parent == parent;
    let at = place(parent, instruction);
    if is_it(&nearest[at]) {
        return Some(nearest[at].node);
    }
    is_it(&nearest[at + 1]).then_some(nearest[at + 1].node)
}

/// The first of its two places.
#[inline(always)]
fn place(parent: u32, instruction: u64) -> usize {
    const K: u64 = 0xD6E8_FEB8_6659_FD93;
    let mixed = (instruction ^ u64::from(parent) << 40).wrapping_mul(K);
    ((mixed >> 56) as usize % NEAR) & !1
}

/// Has a node found at once, in place of the one of the two that was put there before the other.
fn remember(near: Near) {
    // SAFETY: the GIL.
    let nearest = unsafe { &mut (*NEAREST.get()).0 };
    let at = place(near.parent, near.instruction);
    nearest[at + 1] = nearest[at];
    nearest[at] = near;
}

/// The node of an instruction called from another node; `None` where there can be none.
///
/// # Safety
///
/// `frame` is one that runs, at that instruction.
#[inline(always)]
pub(super) unsafe fn find<const V: u8>(
    lane: &mut Lane,
    parent: u32,
    frame: u64,
    instruction: u64,
) -> Option<u32> {
    // SAFETY: the caller's promise.
    near(parent, instruction).or_else(|| unsafe { seek::<V>(lane, parent, frame, instruction) })
}

/// The same, of a node that was not found lately.
///
/// # Safety
///
/// As [`find`].
#[inline(never)]
unsafe fn seek<const V: u8>(
    lane: &mut Lane,
    parent: u32,
    frame: u64,
    instruction: u64,
) -> Option<u32> {
    let node = look(parent, instruction)
        // SAFETY: the caller's promise.
        .or_else(|| busy(own(), || unsafe { enter::<V>(lane, parent, frame, instruction) }))?;
    // What is no code object has its caller's, and nothing tells of its end.
    if node != parent {
        remember(Near { instruction, parent, node });
    }
    Some(node)
}

/// A node of a Python frame that is new.
///
/// # Safety
///
/// As [`find`].
#[cold]
#[inline(never)]
unsafe fn enter<const V: u8>(
    lane: &mut Lane,
    parent: u32,
    frame: u64,
    instruction: u64,
) -> Option<u32> {
    // SAFETY: the caller's promise, and the GIL.
    unsafe {
        let code = At::<V>::code(frame);
        // What is no code object stands for no function: its callee is its caller's.
        let Some(known) = codes().know::<V>(code) else { return Some(parent) };
        let (number, next) = (known.number, known.first);
        let offset = At::<V>::offset(code, instruction);
        let id = add(lane, Node { instruction, parent, next }, number, offset)?;
        // Looked up again: to tell a node may write out what is known of codes.
        if let Some(known) = codes().know::<V>(code) {
            known.first = id;
        }
        Some(id)
    }
}

/// A node of a native frame that is new, by its file's number and its place there.
#[cold]
pub(super) fn enter_native(
    lane: &mut Lane,
    parent: u32,
    instruction: u64,
    file: u32,
    place: u32,
) -> Option<u32> {
    add(lane, Node { instruction, parent, next: 0 }, file, place)
}

/// Adds a node, and tells it.
fn add(lane: &mut Lane, node: Node, code: u32, offset: u32) -> Option<u32> {
    // SAFETY: the GIL.
    let nodes = unsafe { &mut *NODES.get() };
    let depth = nodes.depths[node.parent as usize];
    if usize::from(depth) >= DEEPEST {
        return None;
    }
    let full = nodes.make_room()?;
    let id = nodes.all.len() as u32;
    nodes.all.push(node);
    nodes.depths.push(depth + 1);
    lane.escape(escape::NODE, &[node.parent.into(), code.into(), offset.into()]);
    let mask = nodes.table.len() - 1;
    for id in if full { FIRST_NODE } else { id }..=id {
        let node = nodes.all[id as usize];
        if node.instruction == GONE {
            continue;
        }
        let mut slot = (hash(node.parent, node.instruction) >> 40) as usize & mask;
        while nodes.table[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        nodes.table[slot] = id;
    }
    Some(id)
}
