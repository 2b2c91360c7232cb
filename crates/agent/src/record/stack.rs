//! Stacks: of each thread the frames as last seen, and all stacks that were seen as a tree.
//!
//! A stack is told by its node: a caller's node and an instruction. At each allocation the frames are compared with
//! those seen at the thread's last one, and only what differs is looked up. A node that is new is written to the lane, which is
//! read in that order.
//!
//! A deep stack is not compared to its end each time: a frame that waits for a Python function that it has called leaves a slot of its
//! stack of values for what that returns, and nobody reads the slot until then. A mark is written there. While it is intact,
//! the frame has not gone on, and neither has any frame outside of it. (An exception that comes instead of a value does not
//! touch the slot; but the frame then allocates a traceback, and is seen at another instruction. So marks need every event,
//! and a sampled recording does without them.)
//!
//! Invariant: touched only with the GIL. Frames are read in the thread that they belong to, during a call that its
//! innermost one has made, directly or not: they stand still.

use pydefrag_layout::frames::{Frames, Instruction, frames};
use pydefrag_layout::interpreter::{Innermost, OWNED_BY_INTERPRETER};
use pydefrag_trace::event::{FIRST_NODE, NO_STACK, escape};

use super::codes::{self, codes};
use super::lane::{Lane, Shared};
use super::own::{busy, own};
use super::state;

/// Frames of a thread that are kept; a deeper stack has no node.
const DEEPEST: usize = 1 << 16;
/// Stacks that are kept; later ones have no node.
const MOST_NODES: usize = 1 << 24;

/// A frame as last seen.
#[derive(Clone, Copy)]
struct Seen {
    frame: u64,
    /// Which instruction it was at: see [`At::instruction`].
    instruction: u64,
    node: u32,
    /// Where its stack of values ended when it was marked.
    top: u32,
    /// The slot that holds the mark; 0 where it has none.
    slot: u64,
}

impl Seen {
    fn new(frame: u64) -> Seen {
        Seen { frame, instruction: 0, node: NO_STACK, top: 0, slot: 0 }
    }
}

/// What a mark is: no address of an object, and no tagged reference to one.
const MARK: u64 = 0x5EED_C0DE_F4A3_0001;
/// Frames that are marked at once, innermost first.
const MARKED_AT_ONCE: usize = 8;

/// A thread's frames as last seen, outermost first. The first stands for none.
pub(super) struct Chain {
    count: usize,
    seen: [Seen; DEEPEST],
}

#[derive(Clone, Copy)]
struct Node {
    /// An instruction that no frame is at, where its code object has gone.
    instruction: u64,
    parent: u32,
    /// The next node of the same code object.
    next: u32,
}

/// The tree, and what finds a node by its parent and instruction.
struct Nodes {
    all: Vec<Node>,
    table: Vec<u32>,
}

static NODES: Shared<Nodes> = Shared::new(Nodes { all: Vec::new(), table: Vec::new() });
static CHAINS: Shared<Vec<(u64, *mut Chain)>> = Shared::new(Vec::new());
static SCRATCH: Shared<*mut u64> = Shared::new(std::ptr::null_mut());
static CHECKED: Shared<(bool, u64, u64)> = Shared::new((false, 0, 0));
static TOO_DEEP: Shared<u64> = Shared::new(0);

const GONE: u64 = u64::MAX;

/// Reads a word.
///
/// # Safety
///
/// It lies in a structure that the caller knows to be there.
#[inline(always)]
pub(super) unsafe fn word(at: u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::read_volatile(at as usize as *const u64) }
}

/// Reads an `int`.
///
/// # Safety
///
/// As [`word`].
#[inline(always)]
pub(super) unsafe fn int(at: u64) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::read_volatile(at as usize as *const i32) }
}

/// `stacktop` and `localsplus` of a frame (3.11 to 3.13), `f_funcobj` (3.12, 3.13), and `is_entry` (3.11).
const STACKTOP: u64 = 64;
const LOCALSPLUS: u64 = 72;
const FUNCTION: u64 = 16;
const IS_ENTRY_11: u64 = 68;
/// `enum _frameowner`.
const OWNED_BY_THREAD: u8 = 0;
const OWNED_BY_GENERATOR: u8 = 1;

/// The frames of one version.
pub(super) struct At<const V: u8>;

impl<const V: u8> At<V> {
    const F: Frames = frames(V);

    /// # Safety
    ///
    /// `thread` is the state of this thread, which has the GIL.
    #[inline(always)]
    unsafe fn innermost(thread: u64) -> u64 {
        // SAFETY: the caller's promise, and the version's layout.
        unsafe {
            match Self::F.innermost {
                Innermost::Frame(at) => word(thread + at),
                Innermost::Cframe(at, frame) => word(word(thread + at) + frame),
            }
        }
    }

    /// # Safety
    ///
    /// `frame` is one of the thread's that runs.
    #[inline(always)]
    unsafe fn previous(frame: u64) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { word(frame + Self::F.previous) }
    }

    /// A number that stands for the instruction and its code object: the instruction's address; up to 3.10, where frames
    /// count instructions, the code object's with the count above it.
    ///
    /// # Safety
    ///
    /// As [`At::previous`].
    #[inline(always)]
    unsafe fn instruction(frame: u64) -> u64 {
        // SAFETY: the caller's promise.
        unsafe {
            match Self::F.instruction {
                Instruction::Pointer { at, .. } => word(frame + at),
                Instruction::Index { at, .. } => {
                    let index = int(frame + at).clamp(-1, (1 << 20) - 2);
                    word(frame + Self::F.code) >> 4 | ((index + 1) as u64) << 43
                }
            }
        }
    }

    /// # Safety
    ///
    /// As [`At::previous`].
    #[inline(always)]
    unsafe fn code(frame: u64) -> u64 {
        // SAFETY: the caller's promise.
        let code = unsafe { word(frame + Self::F.code) };
        if V >= 14 { code & !7 } else { code }
    }

    /// Bytes from the first instruction, + 1; 0 before it.
    fn offset(code: u64, instruction: u64) -> u32 {
        match Self::F.instruction {
            Instruction::Pointer { first, .. } => {
                let bytes = instruction.wrapping_sub(code + first) as i64;
                if (0..1 << 30).contains(&bytes) { bytes as u32 + 1 } else { 0 }
            }
            Instruction::Index { unit, .. } => match (instruction >> 43) as u32 {
                0 => 0,
                index => (index - 1) * unit + 1,
            },
        }
    }

    /// Whether frames are marked: in versions in which a second walk of every stack of CPython's own tests found none that
    /// was wrong.
    #[inline(always)]
    const fn marks(sampled: bool) -> bool {
        V >= 11 && V <= 13 && !sampled
    }

    /// Whether the frame waits where it was marked.
    ///
    /// # Safety
    ///
    /// As [`At::previous`].
    #[inline(always)]
    unsafe fn is_marked(seen: &Seen) -> bool {
        // SAFETY: the caller's promise; the slot is one of the frame's.
        unsafe {
            seen.slot != 0
                && int(seen.frame + STACKTOP) as u32 == seen.top
                && word(seen.slot) == MARK
        }
    }

    /// Marks a frame, if it waits for the return of `callee`, a Python function that it has called itself.
    ///
    /// # Safety
    ///
    /// As [`At::previous`], for both.
    #[inline(always)]
    unsafe fn mark(seen: &mut Seen, callee: u64) {
        let Some(owner) = Self::F.owner else { return };
        seen.slot = 0;
        // SAFETY: the caller's promise. The slot behind the saved top of the stack is the frame's, for the value that is awaited
        // (`co_stacksize` counts it), and nobody reads it before that is there: the collector, copies of frames and whoever clears one
        // stop at the top.
        unsafe {
            let byte = |at: u64| std::ptr::read_volatile(at as usize as *const u8);
            let top = int(seen.frame + STACKTOP);
            // Below 0, it is inside C, or runs.
            if top < 0
                || byte(seen.frame + owner) > OWNED_BY_GENERATOR
                || byte(callee + owner) != OWNED_BY_THREAD
            {
                return;
            }
            // 3.13's shim around `__init__` has no function, and takes no value. 3.11 says of a frame whether C has called it.
            let (function, entry) =
                if V == 11 { (0, byte(callee + IS_ENTRY_11)) } else { (FUNCTION, 0) };
            if word(seen.frame + function) == 0 || entry != 0 {
                return;
            }
            seen.top = top as u32;
            seen.slot = seen.frame + LOCALSPLUS + 8 * u64::from(seen.top);
            std::ptr::write_volatile(seen.slot as usize as *mut u64, MARK);
        }
    }

    /// Whether the frame is the interpreter's own, which stands for no function.
    ///
    /// # Safety
    ///
    /// As [`At::previous`].
    #[inline(always)]
    unsafe fn is_shim(frame: u64) -> bool {
        match Self::F.owner {
            None => false,
            // SAFETY: the caller's promise.
            Some(at) => unsafe {
                std::ptr::read_volatile((frame + at) as usize as *const u8) >= OWNED_BY_INTERPRETER
            },
        }
    }
}

impl Chain {
    fn truncate(&mut self) {
        self.count = 1;
        self.seen[0] = Seen::new(0);
    }

    #[inline(always)]
    fn at(&mut self, i: usize) -> &mut Seen {
        debug_assert!(i < DEEPEST);
        // SAFETY: every index is below `count`, which is at most DEEPEST.
        unsafe { self.seen.get_unchecked_mut(i) }
    }
}

/// The frames of a thread, by its state. New ones are empty.
pub(super) fn chain(thread: u64) -> Option<*mut Chain> {
    // SAFETY: the GIL.
    let chains = unsafe { &mut *CHAINS.get() };
    if let Some((_, chain)) = chains.iter().find(|(t, _)| *t == thread) {
        return Some(*chain);
    }
    let chain = state::pages(std::mem::size_of::<Chain>()).ok()?.cast::<Chain>();
    // SAFETY: zeroed pages of that size.
    unsafe { (*chain).truncate() };
    chains.push((thread, chain));
    codes::watch(thread);
    Some(chain)
}

/// A thread's state is freed: its address may become another's.
pub(super) fn thread_freed(thread: u64) {
    // SAFETY: the GIL.
    let chains = unsafe { &mut *CHAINS.get() };
    if let Some(i) = chains.iter().position(|(t, _)| *t == thread) {
        let (_, chain) = chains.swap_remove(i);
        // SAFETY: the GIL.
        unsafe {
            let lane = &mut *super::lane::gil();
            if lane.thread == thread {
                lane.thread = 0;
            }
        }
        // SAFETY: pages of ours that nobody knows any more.
        unsafe { libc::munmap(chain.cast(), std::mem::size_of::<Chain>()) };
    }
}

/// A code object is freed: its nodes stand for nothing that can come again.
pub(super) fn code_freed(first: u32) {
    // SAFETY: the GIL.
    let (nodes, chains) = unsafe { (&mut *NODES.get(), &*CHAINS.get()) };
    let mut at = first;
    while at != 0 {
        let node = &mut nodes.all[at as usize];
        node.instruction = GONE;
        at = node.next;
    }
    for (_, chain) in chains {
        // SAFETY: a chain that is listed is there.
        unsafe { (**chain).truncate() };
    }
}

/// Forgets all stacks: at the begin, and in a fork, whose trace is its own.
pub(super) fn reset(check: bool) -> Result<(), String> {
    // SAFETY: nothing is recorded yet, or any more.
    unsafe {
        for (_, chain) in (*CHAINS.get()).drain(..) {
            libc::munmap(chain.cast(), std::mem::size_of::<Chain>());
        }
        let nothing = Node { instruction: GONE, parent: 0, next: 0 };
        *NODES.get() = Nodes { all: vec![nothing; FIRST_NODE as usize], table: vec![0; 1 << 12] };
        if (*SCRATCH.get()).is_null() {
            *SCRATCH.get() = state::pages(DEEPEST * 8)?.cast();
        }
        *CHECKED.get() = (check, 0, 0);
        *TOO_DEEP.get() = 0;
    }
    codes::reset();
    Ok(())
}

/// Stacks that were walked twice, and those that came out otherwise.
pub(super) fn checked() -> (u64, u64) {
    // SAFETY: counts; the last of them may be missed.
    let (_, checked, wrong) = unsafe { *CHECKED.get() };
    (checked, wrong)
}

/// What a reader should know.
pub(super) fn notes() -> Vec<String> {
    // SAFETY: counts.
    let (deep, unknown) = unsafe { (*TOO_DEEP.get(), codes::unreadable()) };
    let mut notes = Vec::new();
    if deep > 0 {
        notes.push(format!(
            "{deep} allocations have no stack: it was deeper than {DEEPEST} frames, or there were too many stacks"
        ));
    }
    if unknown > 0 {
        notes.push(format!("{unknown} frames have no code object where this CPython keeps it"));
    }
    notes
}

/// The node of the stack of `thread`, which is this one.
///
/// # Safety
///
/// `thread` is the state of this thread, which has the GIL, and the lane is the GIL's and knows its chain.
#[inline(always)]
pub(super) unsafe fn node<const V: u8, const S: bool>(lane: &mut Lane, thread: u64) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let frame = At::<V>::innermost(thread);
        let chain = &mut *lane.chain;
        let last = chain.count - 1;
        let top = *chain.at(last);
        let node = if frame == top.frame {
            match compare::<V, S>(chain, last, true) {
                Some(changed) if changed > last => top.node,
                Some(changed) if changed == last => innermost::<V>(lane, last),
                Some(changed) => renew::<V, S>(lane, changed),
                None => slow::<V, S>(lane, frame),
            }
        } else {
            slow::<V, S>(lane, frame)
        };
        if (*CHECKED.get()).0 {
            check::<V>(lane, thread, node);
        }
        node
    }
}

/// Compares the frames seen, from `last` outwards; the outermost that is at another instruction, or `last + 1`. `None` where
/// the frames are others.
///
/// # Safety
///
/// `last`'s frame is one that runs.
#[inline(always)]
unsafe fn compare<const V: u8, const S: bool>(
    chain: &mut Chain,
    last: usize,
    innermost: bool,
) -> Option<usize> {
    let mut changed = last + 1;
    let mut i = last;
    while i > 0 {
        let seen = *chain.at(i);
        // SAFETY: it runs: it is the innermost, or the caller of one that runs.
        unsafe {
            // The innermost one may be anywhere, whatever lies in its slots.
            if At::<V>::marks(S) && (i < last || !innermost) && At::<V>::is_marked(&seen) {
                break;
            }
            if At::<V>::previous(seen.frame) != chain.at(i - 1).frame {
                return None;
            }
            if At::<V>::instruction(seen.frame) != seen.instruction {
                changed = i;
            }
        }
        i -= 1;
    }
    if At::<V>::marks(S) && i + 1 < last {
        for k in (i + 1).max(last.saturating_sub(MARKED_AT_ONCE))..last {
            let callee = chain.at(k + 1).frame;
            // SAFETY: both run.
            unsafe { At::<V>::mark(chain.at(k), callee) };
        }
    }
    Some(changed)
}

/// Looks up anew where the innermost frame is: it has gone on, and nothing else has.
///
/// # Safety
///
/// All frames of the lane's chain run, and `last` is the innermost.
#[inline(always)]
unsafe fn innermost<const V: u8>(lane: &mut Lane, last: usize) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let chain = lane.chain;
        let (frame, parent) = ((*chain).at(last).frame, (*chain).at(last - 1).node);
        let instruction = At::<V>::instruction(frame);
        let node = match At::<V>::is_shim(frame) {
            true => parent,
            false => intern::<V>(lane, parent, frame, instruction),
        };
        let seen = (*chain).at(last);
        (seen.instruction, seen.node, seen.slot) = (instruction, node, 0);
        node
    }
}

/// Looks the nodes up anew, from one frame on.
///
/// # Safety
///
/// All frames of the lane's chain run.
#[inline(never)]
unsafe fn renew<const V: u8, const S: bool>(lane: &mut Lane, from: usize) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let chain = lane.chain;
        let mut node = (*chain).at(from - 1).node;
        for i in from..(*chain).count {
            let frame = (*chain).at(i).frame;
            let instruction = At::<V>::instruction(frame);
            if !At::<V>::is_shim(frame) {
                node = intern::<V>(lane, node, frame, instruction);
            }
            let callee = if i + 1 < (*chain).count { (*chain).at(i + 1).frame } else { 0 };
            let seen = (*chain).at(i);
            (seen.instruction, seen.node, seen.slot) = (instruction, node, 0);
            if At::<V>::marks(S) && callee != 0 {
                At::<V>::mark(seen, callee);
            }
        }
        node
    }
}

/// The innermost frame is another than was seen.
///
/// # Safety
///
/// `innermost` is this thread's.
#[inline(never)]
unsafe fn slow<const V: u8, const S: bool>(lane: &mut Lane, innermost: u64) -> u32 {
    /// Frames that are new at most, for the short way.
    const NEW: usize = 16;
    /// Frames seen that may have gone.
    const GONE: usize = 4;
    // SAFETY: the caller's promise: frames are followed from the innermost outwards.
    unsafe {
        let chain = &mut *lane.chain;
        let count = chain.count;
        let mut new = [0; NEW];
        let mut news = 0;
        let mut at = innermost;
        // A frame that was seen, near the end of those.
        let met = 'met: loop {
            for i in (count.saturating_sub(GONE).max(1)..count).rev() {
                if chain.at(i).frame == at {
                    break 'met Some(i);
                }
            }
            if at == 0 {
                break Some(0);
            }
            if news == NEW {
                break None;
            }
            new[news] = at;
            news += 1;
            at = At::<V>::previous(at);
        };
        if let Some(met) = met
            && met + news + 1 < DEEPEST
            && let Some(mut changed) = compare::<V, S>(chain, met, news == 0)
        {
            // Who has called another frame since is looked up anew.
            if news > 0 && met > 0 {
                changed = changed.min(met);
            }
            for k in 0..news {
                *chain.at(met + 1 + k) = Seen::new(new[news - 1 - k]);
            }
            chain.count = met + 1 + news;
            if changed == chain.count {
                // Who is the innermost does not wait, whatever its slot still holds.
                chain.at(met).slot = 0;
                return chain.at(met).node;
            }
            return renew::<V, S>(lane, changed);
        }
        // All of them.
        let all = *SCRATCH.get();
        let mut n = 0;
        let mut at = innermost;
        while at != 0 {
            if n + 2 >= DEEPEST {
                *TOO_DEEP.get() += 1;
                chain.truncate();
                return NO_STACK;
            }
            *all.add(n) = at;
            n += 1;
            at = At::<V>::previous(at);
        }
        let mut same = 1;
        while same < chain.count && same <= n {
            let frame = *all.add(n - same);
            let seen = chain.at(same);
            if seen.frame != frame || seen.instruction != At::<V>::instruction(frame) {
                break;
            }
            same += 1;
        }
        for i in same..=n {
            *chain.at(i) = Seen::new(*all.add(n - i));
        }
        chain.count = n + 1;
        if same == chain.count {
            chain.at(same - 1).slot = 0;
            return chain.at(same - 1).node;
        }
        renew::<V, S>(lane, same)
    }
}

fn hash(parent: u32, instruction: u64) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    (instruction ^ u64::from(parent) << 40).wrapping_mul(K).rotate_left(20).wrapping_mul(K)
}

/// The node of an instruction called from another node.
///
/// # Safety
///
/// `frame` is one that runs, at that instruction.
#[inline(always)]
unsafe fn intern<const V: u8>(lane: &mut Lane, parent: u32, frame: u64, instruction: u64) -> u32 {
    // What comes after the same history is likely what came then.
    let expected = lane.model.expected_node();
    // SAFETY: the GIL.
    let nodes = unsafe { &*NODES.get() };
    if let Some(node) = nodes.all.get(expected as usize)
        && node.instruction == instruction
        && node.parent == parent
    {
        return expected;
    }
    // SAFETY: the caller's promise.
    unsafe { find::<V>(lane, parent, frame, instruction) }
}

/// # Safety
///
/// As [`intern`].
#[inline(never)]
unsafe fn find<const V: u8>(lane: &mut Lane, parent: u32, frame: u64, instruction: u64) -> u32 {
    // SAFETY: the GIL.
    let nodes = unsafe { &*NODES.get() };
    let mask = nodes.table.len() - 1;
    let mut slot = (hash(parent, instruction) >> 40) as usize & mask;
    loop {
        match nodes.table[slot] {
            0 => break,
            id => {
                let node = nodes.all[id as usize];
                if node.instruction == instruction && node.parent == parent {
                    return id;
                }
            }
        }
        slot = (slot + 1) & mask;
    }
    // SAFETY: the caller's promise.
    busy(own(), || unsafe { enter::<V>(lane, parent, frame, instruction) })
}

/// A node that is new.
///
/// # Safety
///
/// As [`intern`].
#[cold]
#[inline(never)]
unsafe fn enter<const V: u8>(lane: &mut Lane, parent: u32, frame: u64, instruction: u64) -> u32 {
    // SAFETY: the caller's promise, and the GIL.
    unsafe {
        let nodes = &mut *NODES.get();
        if nodes.all.len() >= MOST_NODES {
            *TOO_DEEP.get() += 1;
            return NO_STACK;
        }
        let code = At::<V>::code(frame);
        // What is no code object stands for no function: its callee is its caller's.
        let Some(known) = codes().know::<V>(code) else { return parent };
        let id = nodes.all.len() as u32;
        nodes.all.push(Node { instruction, parent, next: known.first });
        known.first = id;
        let offset = At::<V>::offset(code, instruction);
        lane.escape(escape::NODE, &[parent.into(), known.number.into(), offset.into()]);
        let full = nodes.all.len() * 2 > nodes.table.len();
        if full {
            nodes.table = vec![0; nodes.table.len() * 4];
        }
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
        id
    }
}

/// Whether the function that runs is one of importlib's.
///
/// # Safety
///
/// `thread` is the state of this thread, which has the GIL.
pub(super) unsafe fn runs_importlib<const V: u8>(thread: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let mut frame = At::<V>::innermost(thread);
        while frame != 0 && At::<V>::is_shim(frame) {
            frame = At::<V>::previous(frame);
        }
        frame != 0 && codes().file_of::<V>(At::<V>::code(frame)).starts_with("<frozen importlib")
    }
}

/// Walks the stack once more, and compares it with what is remembered.
///
/// # Safety
///
/// As [`node`].
#[cold]
#[inline(never)]
unsafe fn check<const V: u8>(lane: &mut Lane, thread: u64, node: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let chain = &mut *lane.chain;
        let counts = CHECKED.get();
        (*counts).1 += 1;
        let mut frame = At::<V>::innermost(thread);
        let mut i = chain.count - 1;
        let mut same = chain.at(i).node == node;
        while frame != 0 && i > 0 && same {
            let seen = *chain.at(i);
            same = seen.frame == frame && seen.instruction == At::<V>::instruction(frame);
            frame = At::<V>::previous(frame);
            i -= 1;
        }
        if !same || frame != 0 || i != 0 {
            (*counts).2 += 1;
        }
    }
}
