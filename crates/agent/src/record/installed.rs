//! Which hooks stand on Python's allocators: what was there before them, and which of the three kinds they are.
//!
//! Owns their coming and going. While nothing is recorded yet they only look, now and then, whether somebody asks for it
//! ([`Kind::Waiting`]); what records everything, or samples, takes their place, and gives it back at the end.
//!
//! Invariant: a table is changed only where ours is the outermost. What others have put over ours still calls it, for as long as
//! the process lives.

use std::ffi::{c_int, c_void};

use super::lane::Shared;
use super::python::{self, Allocator, DOMAINS};
use super::{hooks, plain, turn, wait};

/// What hooks are there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing is recorded until somebody asks.
    Waiting,
    /// Every event.
    All,
    /// One allocation in so many bytes.
    Samples,
}

impl Kind {
    /// What a recording needs.
    pub(super) fn of(sampled: bool) -> Kind {
        if sampled { Kind::Samples } else { Kind::All }
    }
}

/// A table of hooks.
#[derive(Clone, Copy)]
struct Installed {
    domain: c_int,
    kind: Kind,
    /// The address of what was there before, which its functions are given with each call.
    ctx: usize,
    /// The address of its malloc: another table that was made of it, before it became of this kind, has another.
    malloc: usize,
    /// Nothing below it asks within a free whether this thread is inside of one: no hooks of ours, and no allocator that
    /// unmaps by itself.
    jumps: bool,
    /// It stood over others of ours that are the outermost again: whoever stood between has taken himself away, and it too.
    is_gone: bool,
}

impl Installed {
    fn is(&self, there: &Allocator) -> bool {
        self.ctx == there.ctx as usize && Some(self.malloc) == there.malloc.map(|f| f as usize)
    }
}

/// All that were put there.
static INSTALLED: Shared<Vec<Installed>> = Shared::new(Vec::new());

/// Puts hooks in place, over what is there; where that is ours, they become others.
///
/// # Safety
///
/// Nobody else sets allocators now: there is no interpreter yet, or the caller has the GIL.
pub(super) unsafe fn install(minor: u8, kind: Kind) {
    turn::begin();
    plain::forget();
    // SAFETY: the caller's promise.
    let installed = unsafe { &mut *INSTALLED.get() };
    for domain in DOMAINS {
        let Some(before) = python::allocator(domain) else { continue };
        let found = installed.iter().position(|i| i.ctx == before.ctx as usize);
        let at = found.unwrap_or_else(|| {
            installed.push(Installed {
                domain,
                kind,
                // Never given back: a call may be inside.
                ctx: Box::into_raw(Box::new(before)) as usize,
                malloc: 0,
                // What was put over ours calls them.
                jumps: installed.iter().all(|i| i.domain != domain) && !python::has_mimalloc(),
                is_gone: false,
            });
            installed.len() - 1
        });
        for later in installed.iter_mut().skip(at + 1).filter(|i| i.domain == domain) {
            later.is_gone = true;
        }
        let place = &mut installed[at];
        let ctx = place.ctx as *mut c_void;
        let table = match kind {
            Kind::Waiting => wait::hooks(ctx),
            Kind::All | Kind::Samples => {
                match hooks::table(minor, kind == Kind::Samples, ctx, place.jumps) {
                    Some(table) => table,
                    None => return,
                }
            }
        };
        (place.kind, place.is_gone) = (kind, false);
        place.malloc = table.malloc.map_or(0, |f| f as usize);
        // SAFETY: the functions call those of `before`; the caller's promise.
        unsafe { python::set_allocator(domain, table) };
    }
}

/// Nothing is recorded any more: hooks that are the outermost go, or wait for the next to ask. They stay where there are other
/// interpreters, which may read a table, that is changed word by word, with a GIL of their own.
///
/// # Safety
///
/// As [`install`].
pub(super) unsafe fn rest(minor: u8, waits: bool) {
    if !are_outermost() {
        return;
    }
    if waits {
        // SAFETY: the caller's promise. The tables' contexts stay, and any two of ours go together.
        return unsafe { install(minor, Kind::Waiting) };
    }
    if python::has_other_interpreters() {
        return;
    }
    for domain in DOMAINS {
        let Some(ours) = python::allocator(domain) else { continue };
        // SAFETY: ours, whose context is what was there before; the caller's promise.
        unsafe { python::set_allocator(domain, *ours.ctx.cast::<Allocator>()) };
    }
}

/// Whether hooks of ours are the outermost of every domain, as they were last put there. With the GIL.
pub(super) fn are_outermost() -> bool {
    are(|_| true)
}

/// The same, and all of this kind: others that have gone may have left those of another below.
pub(super) fn are_outermost_of(kind: Kind) -> bool {
    are(|i| i.kind == kind)
}

fn are(such: impl Fn(&Installed) -> bool) -> bool {
    // SAFETY: the GIL, or nobody else yet.
    let installed = unsafe { &*INSTALLED.get() };
    let mut there = DOMAINS.iter().filter_map(|d| python::allocator(*d));
    there.all(|there| installed.iter().any(|i| i.is(&there) && such(i)))
}

/// What the hooks below others' do, if they record. With the GIL.
pub(super) fn below() -> Option<Kind> {
    // SAFETY: the GIL.
    let installed = unsafe { &*INSTALLED.get() };
    let mut kinds = installed.iter().filter(|i| !i.is_gone).map(|i| i.kind);
    kinds.find(|kind| *kind != Kind::Waiting)
}
