//! The variables of functions that run or wait, of every thread.
//!
//! Owns the walk from a thread over its frames to their slots, and the names that a person knows them
//! by. Frames of suspended generators are not here: they are found as the objects they are.
//!
//! A slot is told by name only where its code object has a name for it. The evaluation stack is told
//! where its depth is kept: see [`Stack`]. What lies above the depth is stale, and never reported.
//!
//! Invariants: each frame is visited once; at most [`MOST_FRAMES`] frames are, and [`MOST_LOCALS`]
//! locals and [`MOST_TEXT`] bytes of names are kept. No thread can use up the share of the others.

use std::rc::Rc;

use pydefrag_image::{Image, Thread};
use pydefrag_layout::glibc::PTHREAD_ROBUST_HEAD;
use pydefrag_layout::interpreter::{
    Frame, Innermost, Interpreter as Layout, OWNED_BY_INTERPRETER, Stack, Variables, slot,
};
use pydefrag_layout::word::{u32_at, u64_at};
use rustc_hash::{FxHashMap, FxHashSet};

use super::interpreters::{Interpreter, layout, word};
use super::text::text;
use crate::runtime::Runtime;

/// A local variable of a frame that is running or waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    /// Address of the object, without the slot's tag. A variable that a closure shares has its cell.
    pub(crate) value: u64,
    /// Address of the slot.
    pub(crate) slot: u64,
    /// The variable, [`STACK_ITEM`] or [`LOCALS`].
    pub(crate) name: String,
    /// The function's qualified name; up to 3.10 its name.
    pub(crate) function: String,
    /// [`MAIN_THREAD`], the kernel's name for the thread where it has one of its own, else
    /// `thread TID`.
    pub(crate) thread: String,
}

/// The name of what lies on a frame's evaluation stack.
pub(crate) const STACK_ITEM: &str = "stack item";
/// The name of the dict that a frame keeps its variables in, where it is not its module's: the body
/// of a class, `exec`, and up to 3.12 what `locals()` has made.
pub(crate) const LOCALS: &str = "locals()";
/// The name of the thread that the process began with.
pub(crate) const MAIN_THREAD: &str = "MainThread";

/// All that is kept.
const MOST_LOCALS: usize = 100_000;
/// Frames that are visited, whether they have variables or not.
const MOST_FRAMES: usize = 100_000;
/// Bytes of names.
const MOST_TEXT: usize = 32 << 20;
/// Variables, or items on the stack, of one function: `EXTENDED_ARG` would allow for more.
const MOST_SLOTS: u64 = 1 << 14;
/// What keeping a name costs beside its bytes, and reading it: empty names are not free.
const NAME: usize = 64;
/// Offsets in tuples: `ob_size`, and `ob_item`, which is behind `ob_hash` from 3.14 on.
const OB_SIZE: u64 = 16;
const OB_ITEM: u64 = 24;
const OB_ITEM_14: u64 = 32;

/// The locals of all frames of all threads, thread by thread, innermost frame first.
pub(crate) fn locals(image: &Image, runtime: &Runtime, interpreters: &[Interpreter]) -> Vec<Local> {
    let Some(layout) = layout(image, runtime) else { return Vec::new() };
    let threads = match image.pid {
        0 => Vec::new(),
        pid => pydefrag_image::threads(pid),
    };
    let names = Names { pid: image.pid, threads: &threads };
    let states: Vec<u64> = interpreters.iter().flat_map(|i| &i.threads).copied().collect();
    locals_of(image, &layout, &states, &names)
}

fn locals_of(image: &Image, layout: &Layout, states: &[u64], names: &Names<'_>) -> Vec<Local> {
    let mut walk = Walk::new(image, layout);
    for (i, state) in states.iter().enumerate() {
        // What the threads before have left of their shares is the next ones'.
        let share =
            |most: usize, used: usize| used + most.saturating_sub(used) / (states.len() - i);
        let upto = Bounds {
            locals: share(MOST_LOCALS, walk.locals.len()),
            frames: share(MOST_FRAMES, walk.seen.len()),
            text: share(MOST_TEXT, walk.text),
        };
        let name = names.of(image, layout, *state).unwrap_or_else(|| format!("thread {i}"));
        walk.thread(*state, &name, &upto);
    }
    walk.locals
}

/// How a thread is called.
struct Names<'a> {
    pid: i32,
    threads: &'a [Thread],
}

impl Names<'_> {
    /// The kernel's thread that a `PyThreadState` belongs to, by its control block, else by its id:
    /// in another pid namespace the latter is another's.
    fn of(&self, image: &Image, layout: &Layout, state: u64) -> Option<String> {
        let block = word(image, state, layout.thread.thread_id)?;
        let by_block = |t: &&Thread| t.robust_list_head.wrapping_sub(PTHREAD_ROBUST_HEAD) == block;
        let by_id = || {
            let id = word(image, state, layout.thread.native_thread_id?)?;
            self.threads.iter().find(|t| t.tid as u64 == id)
        };
        let thread = self.threads.iter().find(by_block).or_else(by_id)?;
        if thread.tid == self.pid {
            return Some(MAIN_THREAD.into());
        }
        // Threads that nobody named have the name of the one that made them.
        let inherited = self.threads.iter().find(|t| t.tid == self.pid);
        let own = inherited.is_none_or(|main| main.name != thread.name) && !thread.name.is_empty();
        Some(if own { thread.name.clone() } else { format!("thread {}", thread.tid) })
    }
}

/// What a code object says of its function.
struct Code {
    function: String,
    /// Of each slot.
    names: Vec<String>,
    /// Most items on its evaluation stack.
    stack: u64,
}

/// Up to where a thread may go, counted over all threads.
struct Bounds {
    locals: usize,
    frames: usize,
    text: usize,
}

struct Walk<'a> {
    image: &'a Image,
    layout: &'a Layout,
    codes: FxHashMap<u64, Option<Rc<Code>>>,
    seen: FxHashSet<u64>,
    locals: Vec<Local>,
    text: usize,
}

impl<'a> Walk<'a> {
    fn new(image: &'a Image, layout: &'a Layout) -> Self {
        let (codes, seen) = Default::default();
        Walk { image, layout, codes, seen, locals: Vec::new(), text: 0 }
    }

    fn thread(&mut self, state: u64, name: &str, upto: &Bounds) {
        let innermost = match self.layout.thread.innermost {
            Innermost::Frame(at) => word(self.image, state, at),
            Innermost::Cframe(at, frame) => {
                word(self.image, state, at).and_then(|c| word(self.image, c, frame))
            }
        };
        let mut at = innermost.unwrap_or(0);
        let mut head = vec![0; self.layout.frame_head() as usize];
        while at != 0
            && at.is_multiple_of(8)
            && self.seen.len() < upto.frames
            && self.seen.insert(at)
            && self.image.read(at, &mut head).is_ok()
        {
            let owner = self.layout.frame.owner.map_or(0, |o| head[o as usize]);
            if owner < OWNED_BY_INTERPRETER {
                self.frame(at, &head, name, upto);
            }
            at = u64_at(&head, self.layout.frame.previous as usize);
        }
    }

    fn frame(&mut self, at: u64, head: &[u8], thread: &str, upto: &Bounds) {
        let Frame { code, globals, locals, localsplus, .. } = self.layout.frame;
        let Some(code) = slot(self.layout.minor, u64_at(head, code as usize)) else { return };
        let Some(code) = self.code(code, upto) else { return };
        let variables = code.names.len() as u64;
        let items = self.stack_items(at, head, &code);
        let slots = at.wrapping_add(localsplus);
        // Every part was read and mapped, or else this fails too.
        let words = self.image.words(slots, (variables + items) as usize).unwrap_or_default();
        let names = code.names.iter().map(String::as_str);
        let names = names.chain(std::iter::repeat(STACK_ITEM));
        let slots = (slots..).step_by(8).zip(words).zip(names);
        let dict = u64_at(head, locals as usize);
        let has_dict = dict != u64_at(head, globals as usize);
        let dict = ((at.wrapping_add(locals), if has_dict { dict } else { 0 }), LOCALS);
        for ((slot_at, word), name) in slots.chain([dict]) {
            let text = name.len() + code.function.len() + thread.len();
            if self.locals.len() >= upto.locals || self.text + text > upto.text {
                return;
            }
            let Some(value) = slot(self.layout.minor, word) else { continue };
            if self.image.mapping_at(value).is_some() {
                self.text += text;
                self.locals.push(Local {
                    value,
                    slot: slot_at,
                    name: name.into(),
                    function: code.function.clone(),
                    thread: thread.into(),
                });
            }
        }
    }

    /// Items on a frame's evaluation stack; 0 where the depth is not kept.
    fn stack_items(&self, at: u64, head: &[u8], code: &Code) -> u64 {
        let variables = code.names.len() as u64;
        let bottom = at.wrapping_add(self.layout.frame.localsplus).wrapping_add(8 * variables);
        let int = |at: u64| u64::from(u32_at(head, at as usize));
        let items = match self.layout.frame.stack {
            Stack::Pointer(top) => match u64_at(head, top as usize).checked_sub(bottom) {
                Some(bytes) if bytes.is_multiple_of(8) => bytes / 8,
                _ => 0,
            },
            Stack::Depth(depth) => int(depth),
            Stack::Top(top) => int(top).saturating_sub(variables),
        };
        if items <= code.stack { items } else { 0 }
    }

    fn code(&mut self, at: u64, upto: &Bounds) -> Option<Rc<Code>> {
        if let Some(known) = self.codes.get(&at) {
            return known.clone();
        }
        let code = self.read_code(at, upto).map(Rc::new);
        self.codes.insert(at, code.clone());
        code
    }

    /// A code object; `None` where it is none, or the thread may keep no more text.
    fn read_code(&mut self, at: u64, upto: &Bounds) -> Option<Code> {
        let (image, layout) = (self.image, self.layout.code);
        let int = |offset| Some(word(image, at, offset)? & 0xffff_ffff);
        let named = |offset| text(image, self.layout.minor, word(image, at, offset)?);
        let function = layout.qualname.and_then(named).or_else(|| named(layout.name))?;
        let stack = int(layout.stacksize).filter(|n| *n <= MOST_SLOTS)?;
        let objects = match layout.variables {
            Variables::Together { count, names } => {
                let (names, count) = (self.tuple(word(image, at, names)?)?, int(count)?);
                (names.len() as u64 == count).then_some(names)?
            }
            Variables::Apart { nlocals, tuples } => {
                let mut names = Vec::new();
                for (i, tuple) in tuples.into_iter().enumerate() {
                    names.extend(self.tuple(word(image, at, tuple)?)?);
                    if i == 0 && names.len() as u64 != int(nlocals)? {
                        return None;
                    }
                }
                names
            }
        };
        self.text += function.len() + NAME;
        let mut names = Vec::with_capacity(objects.len());
        for object in objects {
            let name = text(image, self.layout.minor, object)?;
            self.text += name.len() + NAME;
            if self.text > upto.text {
                return None;
            }
            names.push(name);
        }
        Some(Code { function, names, stack })
    }

    /// The items of a tuple of reasonable length.
    fn tuple(&self, at: u64) -> Option<Vec<u64>> {
        let count = word(self.image, at, OB_SIZE).filter(|n| *n <= MOST_SLOTS)?;
        let items = if self.layout.minor >= 14 { OB_ITEM_14 } else { OB_ITEM };
        self.image.words(at.checked_add(items)?, count as usize).ok()
    }
}

#[cfg(test)]
mod processes;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::planted::Plan;
    use pydefrag_layout::interpreter::interpreter;

    const STATE: u64 = 0x1000;
    const CODE: u64 = 0x2000;
    const TUPLE: u64 = 0x2800;
    const TYPE: u64 = 0x3000;
    const NAME_F: u64 = 0x3800;
    const NAME_X: u64 = 0x3900;
    const OUTER: u64 = 0x4000;
    const INNER: u64 = 0x5000;
    const OBJECT: u64 = 0x6000;

    fn string(plan: &mut Plan, at: u64, text: &[u8]) {
        plan.words(at, &[1, TYPE, text.len() as u64, 0, 0x64]);
        plan.bytes(at + 40, text);
    }

    /// Of 3.14: `f` calls itself once, each time with `x` bound and one item on the stack, of which the
    /// innermost does not keep the depth.
    fn plan() -> Plan {
        let mut plan = Plan::default();
        plan.word(TYPE + 168, 1 << 28);
        string(&mut plan, NAME_F, b"f");
        string(&mut plan, NAME_X, b"x");
        plan.words(TUPLE, &[1, 0, 1, 0, NAME_X]);
        plan.bytes(CODE + 64, &2u32.to_le_bytes());
        plan.bytes(CODE + 72, &1u32.to_le_bytes());
        plan.word(CODE + 96, TUPLE);
        plan.words(CODE + 120, &[NAME_F, NAME_F]);
        for (frame, previous, top) in [(INNER, OUTER, 0), (OUTER, 0, OUTER + 96)] {
            plan.words(frame, &[CODE | 1, previous]);
            plan.word(frame + 64, top);
            plan.words(frame + 80, &[OBJECT | 1, OBJECT + 16, OBJECT + 32]);
        }
        plan.word(STATE + 72, INNER);
        plan
    }

    /// The slots and names that are found.
    fn found(change: impl Fn(&mut Plan)) -> Vec<(u64, String)> {
        let mut plan = plan();
        change(&mut plan);
        let names = Names { pid: 0, threads: &[] };
        let all = locals_of(&plan.image(), interpreter(14).unwrap(), &[STATE, STATE], &names);
        assert!(all.iter().all(|l| l.value & 7 == 0 && l.thread == "thread 0"));
        all.into_iter().map(|l| (l.slot, l.name)).collect()
    }

    #[test]
    fn slots_are_told_up_to_the_depth_that_is_kept() {
        let x = |frame| (frame + 80, "x".to_owned());
        let item = |frame, i: u64| (frame + 88 + 8 * i, STACK_ITEM.to_owned());
        assert_eq!(found(|_| {}), [x(INNER), x(OUTER), item(OUTER, 0)]);
        let full = found(|p| p.word(OUTER + 64, OUTER + 104));
        assert_eq!(full, [x(INNER), x(OUTER), item(OUTER, 0), item(OUTER, 1)]);
        for absurd in [OUTER + 112, OUTER + 91, 8, u64::MAX] {
            assert_eq!(found(|p| p.word(OUTER + 64, absurd)), [x(INNER), x(OUTER)]);
        }
        let nothing = found(|p| p.words(INNER + 80, &[1, 0, 7]));
        assert_eq!(nothing, [x(OUTER), item(OUTER, 0)], "NULL");
        assert_eq!(found(|p| p.word(INNER + 80, 0x9_0000))[0], x(OUTER), "not mapped");
        let dict = found(|p| p.word(OUTER + 40, OBJECT));
        assert_eq!(dict[3], (OUTER + 40, LOCALS.to_owned()));
        assert_eq!(found(|p| p.words(OUTER + 24, &[OBJECT, 0, OBJECT])).len(), 3, "its module's");
    }

    #[test]
    fn frames_of_the_interpreter_and_what_is_no_code_are_passed_over() {
        assert_eq!(found(|p| p.bytes(INNER + 74, &[3]))[0].0, OUTER + 80);
        assert_eq!(found(|p| p.word(INNER, OBJECT))[0].0, OUTER + 80);
        assert_eq!(found(|p| p.word(CODE + 72, 2)), [], "two variables, one name");
        assert_eq!(found(|p| p.word(CODE + 72, u64::MAX)), []);
        assert_eq!(found(|p| p.word(TUPLE + 16, 1 << 40)), [], "an enormous tuple");
        assert_eq!(found(|p| p.word(NAME_X + 8, OBJECT)), [], "a name that is no str");
    }

    #[test]
    fn a_ring_of_frames_and_broken_links_end() {
        let whole = found(|_| {});
        assert_eq!(found(|p| p.word(OUTER + 8, INNER)), whole, "a ring");
        for nowhere in [7, Plan::END, Plan::END - 8, u64::MAX, !7] {
            assert_eq!(found(|p| p.word(OUTER + 8, nowhere)), whole);
            assert_eq!(found(|p| p.word(STATE + 72, nowhere)), []);
        }
    }

    #[test]
    fn a_thread_stops_at_each_of_its_bounds() {
        let image = plan().image();
        let within = |locals, frames, text| {
            let mut walk = Walk::new(&image, interpreter(14).unwrap());
            walk.thread(STATE, "t", &Bounds { locals, frames, text });
            walk.locals.len()
        };
        // The code object costs two names; then `x`, `f` and `t` are a byte each.
        let code = 2 * (NAME + 1);
        assert_eq!(within(9, 9, code + 100), 3);
        assert_eq!(within(2, 9, code + 100), 2);
        assert_eq!(within(9, 1, code + 100), 1);
        assert_eq!(within(9, 9, code + 6), 2);
        assert_eq!(within(9, 9, code - 1), 0);
        let mut walk = Walk::new(&image, interpreter(14).unwrap());
        let upto = |text| Bounds { locals: 9, frames: 9, text };
        assert!(walk.read_code(CODE, &upto(code)).is_some());
        assert!(walk.read_code(CODE, &upto(code)).is_none(), "no text left for its names");
    }

    #[test]
    fn a_thread_is_named_by_its_control_block_and_then_by_its_id() {
        let thread = |tid, name: &str, block| {
            let robust_list_head = block + PTHREAD_ROBUST_HEAD;
            Thread { tid, name: name.into(), robust_list_head }
        };
        let threads = [
            thread(5, "python3", 0x10_0000),
            thread(6, "python3", 0x20_0000),
            thread(7, "reader", 0x30_0000),
        ];
        let names = Names { pid: 5, threads: &threads };
        let name = |block, id| {
            let mut plan = Plan::default();
            plan.words(STATE + 152, &[block, id]);
            names.of(&plan.image(), interpreter(14).unwrap(), STATE)
        };
        assert_eq!(name(0x10_0000, 7).unwrap(), MAIN_THREAD);
        assert_eq!(name(0x20_0000, 0).unwrap(), "thread 6");
        assert_eq!(name(0x30_0000, 5).unwrap(), "reader");
        assert_eq!(name(0, 7).unwrap(), "reader");
        assert_eq!(name(0, 8), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_walked_to_an_end(
            minor in 8u8..=15,
            words in proptest::collection::vec((0u64..8192, 0u64..0x12000), 0..200),
        ) {
            let mut plan = plan();
            for (at, word) in words {
                plan.word(Plan::START + at * 8, word);
            }
            let names = Names { pid: 0, threads: &[] };
            let all = locals_of(&plan.image(), interpreter(minor).unwrap(), &[STATE], &names);
            proptest::prop_assert!(all.len() <= MOST_LOCALS);
        }
    }
}
