//! Native frames: the C functions between the Python function that runs, or the thread's begin, and an allocation.
//!
//! Owns the walk of the C stack, by the tables that each loaded file has of its frames (framehop), and how native frames become
//! nodes: below the Python function's, each a file and a place in it. What function that is a reader finds out.
//!
//! The walk ends where the interpreter's loop begins: what called that is the Python stack's to tell. The loop's frame is known
//! by its function, and by what it keeps on the C stack: the innermost entry of the thread's frames, where that is near.
//!
//! Invariants: touched only with the GIL. No word is read but of the thread's own stack, from its pointer upwards. What is no
//! code of a loaded file is not walked on from: tables that are wrong, or that framehop does not follow, make a stack end early.

use std::arch::asm;
use std::ops::Range;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{
    ExplicitModuleSectionInfo, FrameAddress, Module, MustNotAllocateDuringUnwind, Unwinder,
};

use pydefrag_trace::event::NO_FILE;

use super::codes::codes;
use super::lane::{Lane, Shared};
use super::loaded::{self, Bytes, Loaded};
use super::nodes;
use super::own::{Own, tid};
use super::python::variable;
use super::state;

/// Native frames of an allocation that are kept, innermost first.
const MOST: usize = 128;
/// Frames that are walked, ours included.
const WALKED: usize = 256;
/// What tells a native frame's node from one of an instruction's.
const NATIVE: u64 = 1 << 63;
/// The stack of the first thread grows down into memory that is kept for it: so much at least (`mmap_base`, arch/x86/mm/mmap.c
/// of Linux, keeps 128 MiB).
const FIRST_STACK: u64 = 64 << 20;
/// OS pages that belong to no file's code, which are not looked for again within this time.
const MOST_FOREIGN: usize = 64;
const FOREIGN_NS: u64 = 1_000_000_000;
/// Parts of the interpreter's loop.
const PARTS: usize = 4;
/// Times that a thread's stack is looked for: more often, it changes between several, and only one is its own.
const MOST_LOOKS: u32 = 100;
/// In the place of an address that is no file's code.
const NOWHERE: u64 = 0;

/// A file, with its number in the trace, once it was told.
struct Known {
    file: Loaded,
    number: Option<u32>,
}

/// All that is loaded, and what unwinds it.
struct Native {
    /// In order of address.
    known: Vec<Known>,
    unwinder: UnwinderX86_64<Bytes, MustNotAllocateDuringUnwind>,
    cache: Box<CacheX86_64<MustNotAllocateDuringUnwind>>,
    /// `_PyEval_EvalFrameDefault`, and what was moved away from it (GCC's `.cold`), once a frame was seen there.
    eval: Vec<Range<u64>>,
    /// This library.
    ours: Range<u64>,
    foreign: Vec<u64>,
    foreign_ns: u64,
    /// Stacks that ended before they should; those of memory that is no thread's stack.
    cut: u64,
    elsewhere: u64,
}

static ALL: Shared<Option<Box<Native>>> = Shared::new(None);

/// Native frames are wanted, or not; and nothing of them is known yet.
pub(super) fn reset(wanted: bool, forked: bool) {
    let native = wanted.then(|| Box::new(Native::new()));
    // SAFETY: nothing is recorded yet, or any more.
    unsafe { ALL.renew(native, forked) };
}

/// What a reader should know.
pub(super) fn notes() -> Vec<String> {
    // SAFETY: counts.
    let Some(native) = (unsafe { &*ALL.get() }) else { return Vec::new() };
    let mut notes = Vec::new();
    if native.known.is_empty() {
        notes.push("native frames could not be read: the system does not permit it".into());
    }
    if native.cut > 0 {
        notes.push(format!(
            "{} allocations have native frames only in part: there were more than {MOST}, or what called them is no loaded \
             file's code, or a file's tables of frames could not be followed",
            native.cut
        ));
    }
    if native.elsewhere > 0 {
        notes.push(format!(
            "{} allocations have no native frames: they were made on a stack that is no thread's",
            native.elsewhere
        ));
    }
    notes
}

/// The node of the native frames below a Python function's node. `entry` is what the interpreter's loop keeps on the C stack;
/// 0 where that is not known.
pub(super) fn below(own: *mut Own, lane: &mut Lane, node: u32, entry: u64) -> Option<u32> {
    // SAFETY: the GIL.
    let Some(native) = (unsafe { &mut *ALL.get() }) else { return Some(node) };
    let mut frames = [0; MOST];
    let count = native.walk(own, entry, &mut frames);
    let frames = &frames[..count];
    // What comes after the same history is likely what came then.
    let expected = lane.model.expected_node();
    let outer = frames.iter().try_fold(expected, |at, frame| nodes::parent(at, frame | NATIVE));
    if outer == Some(node) {
        return Some(expected);
    }
    let mut node = node;
    for frame in frames.iter().rev() {
        node = nodes::look(node, frame | NATIVE).or_else(|| {
            let (number, place) = native.place(*frame);
            nodes::enter_native(lane, node, frame | NATIVE, number, place)
        })?;
    }
    Some(node)
}

impl Native {
    fn new() -> Native {
        let mut native = Native {
            known: Vec::new(),
            unwinder: UnwinderX86_64::new(),
            cache: Box::new(CacheX86_64::new_in()),
            eval: Vec::new(),
            ours: 0..0,
            foreign: Vec::new(),
            foreign_ns: 0,
            cut: 0,
            elsewhere: 0,
        };
        native.load();
        let here = below as *const () as usize as u64;
        native.ours = native.find(here).map_or(0..0, |i| native.known[i].file.range.clone());
        let eval = variable("_PyEval_EvalFrameDefault\0");
        native.eval.extend(native.function(eval));
        native
    }

    /// Takes up what was loaded since.
    fn load(&mut self) {
        let Some(mappings) = loaded::mappings() else { return };
        let is_there = |k: &Known| {
            mappings.iter().any(|m| m.start == k.file.range.start && loaded::path(m) == k.file.path)
        };
        let (kept, gone) = std::mem::take(&mut self.known).into_iter().partition(is_there);
        self.known = kept;
        for known in gone {
            self.unwinder.remove_module(known.file.range.start);
        }
        let new = loaded::files(&mappings, |start| {
            self.known.iter().any(|k| k.file.range.start == start)
        });
        for file in new {
            self.unwinder.add_module(Module::new(
                String::new(),
                file.range.clone(),
                file.bias,
                ExplicitModuleSectionInfo {
                    eh_frame_hdr_svma: Some(file.index.stated.clone()),
                    eh_frame_hdr: Some(file.index.bytes.clone()),
                    eh_frame_svma: Some(file.frames.stated.clone()),
                    eh_frame: Some(file.frames.bytes.clone()),
                    ..Default::default()
                },
            ));
            self.known.push(Known { file, number: None });
        }
        self.known.sort_by_key(|k| k.file.range.start);
    }

    /// Which file has code at this address.
    fn find(&self, address: u64) -> Option<usize> {
        let after = self.known.partition_point(|k| k.file.range.start <= address);
        let before = after.checked_sub(1)?;
        self.known[before].file.code.contains(&address).then_some(before)
    }

    /// The function that an address is in.
    fn function(&self, address: u64) -> Option<Range<u64>> {
        self.known[self.find(address)?].file.function(address)
    }

    /// The file of an address, by its number in the trace, and the address that the file states, + 1.
    fn place(&mut self, address: u64) -> (u32, u32) {
        let Some(i) = self.find(address) else { return (NO_FILE, 0) };
        let known = &mut self.known[i];
        let Ok(stated) = u32::try_from(address.wrapping_sub(known.file.bias) + 1) else {
            return (NO_FILE, 0);
        };
        // SAFETY: the GIL.
        let number = *known.number.get_or_insert_with(|| unsafe {
            codes().tell_file(&known.file.path, &known.file.build_id)
        });
        (number, stated)
    }

    /// Fills `out` with the addresses of calls, innermost first; how many there are.
    fn walk(&mut self, own: *mut Own, entry: u64, out: &mut [u64; MOST]) -> usize {
        let (ip, sp, bp): (u64, u64, u64);
        // SAFETY: reads registers.
        unsafe {
            asm!(
                "lea {ip}, [rip]", "mov {sp}, rsp", "mov {bp}, rbp",
                ip = out(reg) ip, sp = out(reg) sp, bp = out(reg) bp,
                options(nomem, nostack, preserves_flags),
            );
        }
        let Some(top) = self.top(own, sp) else {
            self.elsewhere += 1;
            return 0;
        };
        let mut read = |at: u64| match at >= sp && at <= top - 8 {
            // SAFETY: between the stack's pointer and its end; all of that is there while the thread runs.
            true => Ok(unsafe { std::ptr::read_unaligned(at as usize as *const u64) }),
            false => Err(()),
        };
        'again: loop {
            let mut regs = UnwindRegsX86_64::new(ip, sp, bp);
            let mut frame = FrameAddress::from_instruction_pointer(ip);
            let mut count = 0;
            for _ in 0..WALKED {
                let at = frame.address_for_lookup();
                if self.eval.iter().any(|part| part.contains(&at)) {
                    return count;
                }
                if self.find(at).is_none() {
                    if self.is_new(at) {
                        continue 'again;
                    }
                    if count < MOST {
                        out[count] = NOWHERE;
                        count += 1;
                    }
                    break;
                }
                let from = regs.sp();
                let next = self.unwinder.unwind_frame(frame, &mut regs, &mut self.cache, &mut read);
                // The interpreter's loop has this frame.
                if (from..regs.sp()).contains(&entry) {
                    self.learn(at);
                    return count;
                }
                if !self.ours.contains(&at) {
                    if count == MOST {
                        break;
                    }
                    out[count] = at;
                    count += 1;
                }
                match next {
                    Ok(Some(address)) => match FrameAddress::from_return_address(address) {
                        Some(next) => frame = next,
                        None => return count,
                    },
                    Ok(None) => return count,
                    Err(_) => break,
                }
            }
            self.cut += 1;
            return count;
        }
    }

    /// The loop was seen at this address: where a compiler has moved a part of it, that is known from now on.
    fn learn(&mut self, address: u64) {
        let is_beside = self.eval.first().is_some_and(|e| self.find(e.start) == self.find(address));
        if is_beside && self.eval.len() < PARTS {
            self.eval.extend(self.function(address));
        }
    }

    /// Whether an address of no known file is of one that was loaded since.
    fn is_new(&mut self, address: u64) -> bool {
        let page = address >> 12;
        if self.foreign.len() == MOST_FOREIGN || self.foreign.contains(&page) {
            let now = state::now();
            if now - self.foreign_ns < FOREIGN_NS {
                return false;
            }
            self.foreign_ns = now;
            self.foreign.clear();
        }
        self.load();
        let is_new = self.find(address).is_some();
        if !is_new {
            self.foreign.push(page);
        }
        is_new
    }

    /// Where this thread's stack ends, which `sp` is in.
    fn top(&self, own: *mut Own, sp: u64) -> Option<u64> {
        // SAFETY: this thread's words.
        let (known, looks) = unsafe { (&mut (*own).stack, &mut (*own).looks) };
        if !(known.0..known.1).contains(&sp) {
            if *looks == MOST_LOOKS {
                return None;
            }
            // Counted when it was found too: a thread that changes between stacks would look each time.
            *looks += 1;
            *known = stack_of(tid(own), sp)?;
        }
        Some(known.1)
    }
}

/// The stack that an address is in, of the thread that has this id: its lowest address and its end.
fn stack_of(tid: u32, sp: u64) -> Option<(u64, u64)> {
    let mappings = loaded::mappings()?;
    let mapping = mappings.iter().find(|m| m.contains(sp))?;
    if tid == std::process::id() {
        let is_first = mapping.name_bytes() == b"[stack]";
        return is_first.then_some((mapping.start.min(mapping.end - FIRST_STACK), mapping.end));
    }
    // glibc keeps what it knows of a thread at the end of the stack that it gave it; what lies behind may be another's.
    // SAFETY: without preconditions.
    let own = unsafe { libc::pthread_self() } as u64;
    (sp..mapping.end).contains(&own).then_some((mapping.start, own))
}
