//! Stacks: of each thread the frames as last seen.
//!
//! At each allocation the frames are compared with those seen at the thread's last one, and only what differs is looked up
//! among the nodes. A deep stack is not compared to its end each time: a frame whose mark is intact has not gone on, and
//! neither has any frame outside of it.
//!
//! Invariant: touched only with the GIL.

use pydefrag_trace::event::NO_STACK;

use super::codes::{self, codes};
use super::frame::At;
use super::lane::{self, Lane, NOBODY, Shared};
use super::native;
use super::nodes::{self, find};
use super::own::{busy, own};
use super::state;

/// Frames of a thread that are kept; a deeper stack has no node.
const DEEPEST: usize = 1 << 16;
/// Frames that are marked at once, innermost first.
const MARKED_AT_ONCE: usize = 8;

/// A frame as last seen.
#[derive(Clone, Copy)]
struct Seen {
    frame: u64,
    /// Which instruction it was at: see [`At::instruction`].
    instruction: u64,
    node: u32,
    /// See [`At::mark`].
    marked: u32,
}

impl Seen {
    fn new(frame: u64) -> Seen {
        Seen { frame, instruction: 0, node: NO_STACK, marked: 0 }
    }
}

/// A thread's frames as last seen, outermost first. The first stands for none.
pub(super) struct Chain {
    count: usize,
    seen: [Seen; DEEPEST],
}

static CHAINS: Shared<Vec<(u64, *mut Chain)>> = Shared::new(Vec::new());
/// What more is done with each stack: it is walked twice, or native frames are put below it.
static MORE: Shared<Option<More>> = Shared::new(None);
static SCRATCH: Shared<*mut u64> = Shared::new(std::ptr::null_mut());
static CHECKED: Shared<(u64, u64)> = Shared::new((0, 0));
static TOO_DEEP: Shared<u64> = Shared::new(0);

/// What is done with each stack, beside looking it up.
#[derive(Clone, Copy)]
pub(super) struct More {
    pub(super) check: bool,
    pub(super) native: bool,
}

impl Chain {
    fn truncate(&mut self) {
        self.count = 1;
        self.seen[0] = Seen::new(0);
    }

    /// The frame is seen at an instruction; it is marked, if it waits for the next one.
    ///
    /// # Safety
    ///
    /// It and the next one run.
    #[inline(always)]
    unsafe fn set<const V: u8, const S: bool>(&mut self, i: usize, instruction: u64, node: u32) {
        let callee = if i + 1 < self.count { self.at(i + 1).frame } else { 0 };
        let seen = self.at(i);
        (seen.instruction, seen.node, seen.marked) = (instruction, node, 0);
        if At::<V>::marks(S) && callee != 0 {
            // SAFETY: the caller's promise.
            seen.marked = unsafe { At::<V>::mark(seen.frame, callee) };
        }
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
            let lane = &mut *lane::gil();
            if lane.thread == thread {
                lane.thread = NOBODY;
            }
        }
        // SAFETY: pages of ours that nobody knows any more.
        unsafe { libc::munmap(chain.cast(), std::mem::size_of::<Chain>()) };
    }
}

/// A code object is freed: its nodes stand for nothing that can come again.
pub(super) fn code_freed(first: u32) {
    // SAFETY: the GIL.
    let chains = unsafe { &*CHAINS.get() };
    nodes::gone(first);
    for (_, chain) in chains {
        // SAFETY: a chain that is listed is there.
        unsafe { (**chain).truncate() };
    }
}

/// Forgets all stacks: at the begin, and in a fork, whose trace is its own.
pub(super) fn reset(more: More, forked: bool) -> Result<(), String> {
    // SAFETY: nothing is recorded yet, or any more.
    unsafe {
        if !forked {
            for (_, chain) in (*CHAINS.get()).drain(..) {
                libc::munmap(chain.cast(), std::mem::size_of::<Chain>());
            }
        }
        CHAINS.renew(Vec::new(), forked);
        if (*SCRATCH.get()).is_null() {
            *SCRATCH.get() = state::pages(DEEPEST * 8)?.cast();
        }
        *MORE.get() = Some(more).filter(|m| m.check || m.native);
        *CHECKED.get() = (0, 0);
        *TOO_DEEP.get() = 0;
    }
    codes::reset(forked);
    native::reset(more.native, forked);
    nodes::reset(forked)
}

/// Stacks that were walked twice, and those that came out otherwise.
pub(super) fn checked() -> (u64, u64) {
    // SAFETY: counts; the last of them may be missed.
    unsafe { *CHECKED.get() }
}

/// What a reader should know.
pub(super) fn notes() -> Vec<String> {
    // SAFETY: counts.
    let (deep, unknown) = unsafe { (*TOO_DEEP.get() + nodes::refused(), codes::unreadable()) };
    let mut notes = Vec::new();
    if deep > 0 {
        notes.push(format!(
            "{deep} allocations have no stack: it was deeper than {DEEPEST} frames, or there were too many stacks"
        ));
    }
    if unknown > 0 {
        notes.push(format!("{unknown} frames have no code object where this CPython keeps it"));
    }
    notes.extend(native::notes());
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
        let traced = At::<V>::marks(S) && At::<V>::is_traced(thread);
        let chain = &mut *lane.chain;
        let last = chain.count - 1;
        // Most often the same function runs, and nobody outside of it has gone on.
        let node = if frame == chain.at(last).frame
            && last > 0
            && At::<V>::previous(frame) == chain.at(last - 1).frame
            && let Some(changed) = compare::<V, S>(chain, last - 1, traced)
        {
            match changed == last {
                true => innermost::<V>(lane, last),
                false => renew::<V, S>(lane, changed),
            }
        } else {
            slow::<V, S>(lane, frame, traced)
        };
        match *MORE.get() {
            None => node,
            Some(more) => self::more::<V>(lane, thread, node, more),
        }
    }
}

/// Compares the frames seen, from `last` outwards, which wait; the outermost that is at another instruction, or `last + 1`.
/// `None` where the frames are others.
///
/// # Safety
///
/// `last`'s frame is the caller of one that runs.
#[inline(always)]
unsafe fn compare<const V: u8, const S: bool>(
    chain: &mut Chain,
    last: usize,
    traced: bool,
) -> Option<usize> {
    let mut changed = last + 1;
    let mut i = last;
    while i > 0 {
        let seen = *chain.at(i);
        // SAFETY: it runs: it is the caller of one that does.
        unsafe {
            if At::<V>::marks(S) && !traced && At::<V>::is_marked(seen.frame, seen.marked) {
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
    if At::<V>::marks(S) && i < last {
        for k in (i + 1).max((last + 1).saturating_sub(MARKED_AT_ONCE))..=last {
            let callee = chain.at(k + 1).frame;
            // SAFETY: both run.
            unsafe { chain.at(k).marked = At::<V>::mark(chain.at(k).frame, callee) };
        }
    }
    Some(changed)
}

/// The node of the innermost frame; all outside of it is as it was seen.
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
        // What comes after the same history is likely what came then: that is asked first, for whether a frame has gone on
        // nobody can foretell.
        let expected = lane.model.expected_node();
        let node = if nodes::is(expected, parent, instruction) {
            expected
        } else if instruction == (*chain).at(last).instruction {
            (*chain).at(last).node
        } else if At::<V>::is_shim(frame) {
            parent
        } else {
            find::<V>(lane, parent, frame, instruction)
        };
        // Who is the innermost does not wait, whatever its slot still holds.
        let seen = (*chain).at(last);
        (seen.instruction, seen.node, seen.marked) = (instruction, node, 0);
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
        let count = (*chain).count;
        if let Some(node) = renew_as_expected::<V, S>(lane, from) {
            return node;
        }
        let mut node = (*chain).at(from - 1).node;
        for i in from..count {
            let frame = (*chain).at(i).frame;
            let instruction = At::<V>::instruction(frame);
            if !At::<V>::is_shim(frame) {
                node = find::<V>(lane, node, frame, instruction);
            }
            (*chain).set::<V, S>(i, instruction, node);
        }
        node
    }
}

/// The same without a search, where the stack is the one that is expected, and few frames are new.
///
/// # Safety
///
/// As [`renew`].
#[inline(always)]
unsafe fn renew_as_expected<const V: u8, const S: bool>(
    lane: &mut Lane,
    from: usize,
) -> Option<u32> {
    /// More frames are looked up one by one.
    const FEW: usize = 6;
    // SAFETY: the caller's promise.
    unsafe {
        let chain = lane.chain;
        let count = (*chain).count;
        if count - from > FEW {
            return None;
        }
        let expected = lane.model.expected_node();
        let mut node = expected;
        for i in (from..count).rev() {
            let frame = (*chain).at(i).frame;
            if !At::<V>::is_shim(frame) {
                node = nodes::parent(node, At::<V>::instruction(frame))?;
            }
        }
        if node != (*chain).at(from - 1).node {
            return None;
        }
        node = expected;
        for i in (from..count).rev() {
            let frame = (*chain).at(i).frame;
            let instruction = At::<V>::instruction(frame);
            (*chain).set::<V, S>(i, instruction, node);
            if !At::<V>::is_shim(frame) {
                node = nodes::parent(node, instruction)?;
            }
        }
        Some(expected)
    }
}

/// The innermost frame is another than was seen.
///
/// # Safety
///
/// `innermost` is this thread's.
#[inline(never)]
unsafe fn slow<const V: u8, const S: bool>(lane: &mut Lane, innermost: u64, traced: bool) -> u32 {
    /// Frames that are new at most, for the short way.
    const NEW: usize = 16;
    /// Frames seen that may have gone.
    const GONE: usize = 4;
    // SAFETY: the caller's promise: frames are followed from the innermost outwards.
    unsafe {
        let chain = &mut *lane.chain;
        let count = chain.count;
        // Most often a function was called, or has returned.
        if count > 2 && innermost != 0 {
            let last = chain.at(count - 1).frame;
            let before = chain.at(count - 2).frame;
            let caller = At::<V>::previous(innermost);
            if caller == last && count + 1 < DEEPEST {
                *chain.at(count) = Seen::new(innermost);
                chain.count = count + 1;
                if let Some(changed) = compare::<V, S>(chain, count - 1, traced) {
                    return renew::<V, S>(lane, changed.min(count - 1));
                }
            } else if innermost == before && caller == chain.at(count - 3).frame {
                chain.count = count - 1;
                if let Some(changed) = compare::<V, S>(chain, count - 3, traced) {
                    return match changed == count - 2 {
                        true => self::innermost::<V>(lane, count - 2),
                        false => renew::<V, S>(lane, changed),
                    };
                }
            }
        }
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
        {
            for k in 0..news {
                *chain.at(met + 1 + k) = Seen::new(new[news - 1 - k]);
            }
            chain.count = met + 1 + news;
            if news > 0 {
                if let Some(changed) = compare::<V, S>(chain, met, traced) {
                    // Who has called another frame since is looked up anew.
                    return renew::<V, S>(lane, changed.min(met).max(1));
                }
            } else if met == 0 {
                return chain.at(0).node;
            } else if At::<V>::previous(innermost) == chain.at(met - 1).frame
                && let Some(changed) = compare::<V, S>(chain, met - 1, traced)
            {
                return match changed == met {
                    true => self::innermost::<V>(lane, met),
                    false => renew::<V, S>(lane, changed),
                };
            }
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
            chain.at(same - 1).marked = 0;
            return chain.at(same - 1).node;
        }
        renew::<V, S>(lane, same)
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

/// Does what else is wanted of each stack; the node that it has then.
///
/// # Safety
///
/// As [`node`].
#[cold]
#[inline(never)]
unsafe fn more<const V: u8>(lane: &mut Lane, thread: u64, node: u32, more: More) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        if more.check {
            check::<V>(lane, thread, node);
        }
        if !more.native {
            return node;
        }
        let own = own();
        busy(own, || native::below(own, lane, node, At::<V>::entry(thread)))
    }
}

/// Walks the stack once more, and compares it with what is remembered.
///
/// # Safety
///
/// As [`node`].
unsafe fn check<const V: u8>(lane: &mut Lane, thread: u64, node: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let chain = &mut *lane.chain;
        let counts = CHECKED.get();
        (*counts).0 += 1;
        let mut frame = At::<V>::innermost(thread);
        let mut i = chain.count - 1;
        if i == 0 && node == NO_STACK && frame != 0 {
            // Too deep: it has none, and that is told.
            return;
        }
        let mut same = chain.at(i).node == node;
        while frame != 0 && i > 0 && same {
            let seen = *chain.at(i);
            same = seen.frame == frame && seen.instruction == At::<V>::instruction(frame);
            frame = At::<V>::previous(frame);
            i -= 1;
        }
        if !same || frame != 0 || i != 0 {
            (*counts).1 += 1;
        }
    }
}
