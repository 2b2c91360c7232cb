//! A thread's stack by comparison, for versions whose frames are not marked: the frames are kept as last seen, all of them are
//! compared, and only what differs is looked up among the nodes.
//!
//! Invariant: touched only with the GIL.

use pydefrag_trace::event::NO_STACK;

use super::frame::At;
use super::lane::{Lane, NOBODY, Shared};
use super::nodes::find;
use super::own::{busy, own};
use super::stack::DEEPEST;
use super::state;

/// A frame as last seen.
#[derive(Clone, Copy)]
struct Seen {
    frame: u64,
    /// Which instruction it was at: see [`At::instruction`].
    instruction: u64,
    node: u32,
}

impl Seen {
    fn new(frame: u64) -> Seen {
        Seen { frame, instruction: 0, node: NO_STACK }
    }
}

/// A thread's frames as last seen, outermost first. The first stands for none.
struct Chain {
    count: usize,
    seen: [Seen; DEEPEST + 1],
}

/// Of each thread, by its state; and the one that was asked for last.
struct Chains {
    all: Vec<(u64, *mut Chain)>,
    thread: u64,
    chain: *mut Chain,
}

impl Chains {
    const NONE: Chains = Chains { all: Vec::new(), thread: NOBODY, chain: std::ptr::null_mut() };
}

static CHAINS: Shared<Chains> = Shared::new(Chains::NONE);

impl Chain {
    fn truncate(&mut self) {
        self.count = 1;
        self.seen[0] = Seen::new(0);
    }

    #[inline(always)]
    fn at(&mut self, i: usize) -> &mut Seen {
        debug_assert!(i <= DEEPEST);
        // SAFETY: every index is below `count`, which is at most DEEPEST + 1.
        unsafe { self.seen.get_unchecked_mut(i) }
    }
}

/// Forgets all stacks.
pub(super) fn reset(forked: bool) {
    // SAFETY: nothing is recorded yet, or any more.
    unsafe {
        if !forked {
            for (_, chain) in (*CHAINS.get()).all.drain(..) {
                libc::munmap(chain.cast(), std::mem::size_of::<Chain>());
            }
        }
        CHAINS.renew(Chains::NONE, forked);
    }
}

/// A thread's state is freed: its address may become another's.
pub(super) fn thread_freed(thread: u64) {
    // SAFETY: the GIL.
    let chains = unsafe { &mut *CHAINS.get() };
    if let Some(i) = chains.all.iter().position(|(t, _)| *t == thread) {
        let (_, chain) = chains.all.swap_remove(i);
        if chains.thread == thread {
            chains.thread = NOBODY;
        }
        // SAFETY: pages of ours that nobody knows any more.
        unsafe { libc::munmap(chain.cast(), std::mem::size_of::<Chain>()) };
    }
}

/// A code object is freed: what was seen of it can be taken for another's.
pub(super) fn code_freed() {
    // SAFETY: the GIL.
    for (_, chain) in unsafe { &(*CHAINS.get()).all } {
        // SAFETY: a chain that is listed is there.
        unsafe { (**chain).truncate() };
    }
}

/// Turns to another thread's frames.
#[cold]
#[inline(never)]
fn turn(chains: &mut Chains, thread: u64) -> Option<()> {
    let known = chains.all.iter().find(|(t, _)| *t == thread).map(|(_, chain)| *chain);
    let chain = match known {
        Some(chain) => chain,
        None => busy(own(), || {
            let chain = state::pages(std::mem::size_of::<Chain>()).ok()?.cast::<Chain>();
            // SAFETY: zeroed pages of that size.
            unsafe { (*chain).truncate() };
            chains.all.push((thread, chain));
            Some(chain)
        })?,
    };
    (chains.thread, chains.chain) = (thread, chain);
    Some(())
}

/// The node of the stack of `thread`, which is this one; `None` where it can have none.
///
/// # Safety
///
/// `thread` is the state of this thread, which has the GIL, and the lane is the GIL's.
#[inline(always)]
pub(super) unsafe fn node<const V: u8>(lane: &mut Lane, thread: u64) -> Option<u32> {
    // SAFETY: the caller's promise: frames are followed from the innermost outwards.
    unsafe {
        let chains = &mut *CHAINS.get();
        if chains.thread != thread {
            turn(chains, thread)?;
        }
        let chain = &mut *chains.chain;
        let innermost = At::<V>::innermost(thread);
        let changed = match step::<V>(chain, innermost) {
            true => compare::<V>(chain),
            false => None,
        };
        let changed = match changed {
            Some(changed) => changed,
            None => {
                place::<V>(chain, innermost)?;
                compare::<V>(chain).unwrap_or(1)
            }
        };
        match changed == chain.count {
            true => Some(chain.at(changed - 1).node),
            false => renew::<V>(lane, chain, changed),
        }
    }
}

/// Whether the innermost frame is the one that was seen, or one that it called, or its caller: it is the chain's last then.
///
/// # Safety
///
/// `innermost` is the thread's.
#[inline(always)]
unsafe fn step<const V: u8>(chain: &mut Chain, innermost: u64) -> bool {
    let count = chain.count;
    let last = chain.at(count - 1).frame;
    if innermost == last {
        return true;
    }
    // SAFETY: the caller's promise.
    if innermost != 0 && count <= DEEPEST && unsafe { At::<V>::previous(innermost) } == last {
        chain.count = count + 1;
        *chain.at(count) = Seen::new(innermost);
        return true;
    }
    if count > 1 && chain.at(count - 2).frame == innermost {
        chain.count = count - 1;
        return true;
    }
    false
}

/// Compares the frames with those seen; the outermost that is at another instruction, or their count. `None` where the
/// frames are others.
///
/// # Safety
///
/// The chain's last frame is the innermost, or none.
#[inline(always)]
unsafe fn compare<const V: u8>(chain: &mut Chain) -> Option<usize> {
    let mut changed = chain.count;
    for i in (1..chain.count).rev() {
        let seen = *chain.at(i);
        // SAFETY: it runs: it is the innermost, or the caller of one that runs.
        unsafe {
            if At::<V>::instruction(seen.frame) != seen.instruction {
                changed = i;
            }
            if At::<V>::previous(seen.frame) != chain.at(i - 1).frame {
                return None;
            }
        }
    }
    Some(changed)
}

/// Puts all frames into the chain; those that are there stay.
///
/// # Safety
///
/// `innermost` is the thread's.
#[inline(never)]
unsafe fn place<const V: u8>(chain: &mut Chain, innermost: u64) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut frame, mut count) = (innermost, 1);
        while frame != 0 {
            frame = At::<V>::previous(frame);
            count += 1;
            if count > DEEPEST + 1 {
                chain.truncate();
                return None;
            }
        }
        let seen = std::mem::replace(&mut chain.count, count);
        frame = innermost;
        for i in (1..count).rev() {
            if i >= seen || chain.at(i).frame != frame {
                *chain.at(i) = Seen::new(frame);
            }
            frame = At::<V>::previous(frame);
        }
    }
    Some(())
}

/// Looks the nodes up anew, from one frame on.
///
/// # Safety
///
/// All frames of the chain run.
#[inline(never)]
unsafe fn renew<const V: u8>(lane: &mut Lane, chain: &mut Chain, from: usize) -> Option<u32> {
    let mut node = chain.at(from - 1).node;
    for i in from..chain.count {
        let frame = chain.at(i).frame;
        // SAFETY: the caller's promise.
        unsafe {
            let instruction = At::<V>::instruction(frame);
            if !At::<V>::is_shim(frame) {
                node = match find::<V>(lane, node, frame, instruction) {
                    Some(node) => node,
                    None => {
                        chain.truncate();
                        return None;
                    }
                };
            }
            *chain.at(i) = Seen { frame, instruction, node };
        }
    }
    Some(node)
}
