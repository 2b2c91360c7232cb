//! The tree of calls that a recording shows: stacks of which many may be of the same functions and lines.
//!
//! Owns what is kept of each stack, and how stacks become calls. Does not own when what they hold changes ([`crate::sum`]).

use pydefrag_heap::{Amount, Call, Function, Tally};
use rustc_hash::FxHashMap;

use crate::code::Code;
use crate::event::{NO_FILE, NO_GIL, NO_STACK};
use crate::lines::line_of;
use crate::reader::Trace;
use crate::symbols::{Symbol, Symbols};

/// What a native function is called that has no name.
const NO_SYMBOL: &str = "(no symbol)";

/// A sum that samples add their weight to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sum {
    pub(crate) count: f64,
    pub(crate) bytes: f64,
}

impl Sum {
    pub(crate) fn amount(self) -> Amount {
        // Rounding may leave a sum of differences a little below nothing.
        Amount {
            count: self.count.round().max(0.0) as u64,
            bytes: self.bytes.round().max(0.0) as u64,
        }
    }
}

/// What one stack has allocated.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Node {
    pub(crate) parent: u32,
    pub(crate) code: u32,
    pub(crate) offset: u32,
    pub(crate) allocated: Sum,
    pub(crate) live: Sum,
    /// Live at peak number `since`.
    pub(crate) peak: Sum,
    pub(crate) since: u64,
}

/// The stacks as a tree of functions and lines, and the call of each stack.
pub(crate) fn calls(
    nodes: &[Node],
    trace: &Trace,
    symbols: &mut dyn Symbols,
) -> (Vec<Function>, Vec<Call>, Vec<u32>) {
    let codes: FxHashMap<u32, &Code> = trace.codes.iter().map(|code| (code.number, code)).collect();
    let mut tree = Tree::new(symbols);
    let mut call_of = Vec::with_capacity(nodes.len());
    for (i, node) in (0u32..).zip(nodes) {
        let own = Tally {
            allocated: node.allocated.amount(),
            peak: node.peak.amount(),
            retained: node.live.amount(),
        };
        let code = codes.get(&node.code).copied();
        let call = match i {
            NO_STACK | NO_GIL if own == Tally::default() => 0,
            NO_STACK => tree.call(ROOT, NO_FRAME, 0),
            NO_GIL => tree.call(ROOT, WITHOUT_GIL, 0),
            _ => {
                let is_native = node.code == NO_FILE || code.is_some_and(Code::is_native);
                // A stack's caller comes before it; of the two that stand for none, native code alone is called.
                let caller = match node.parent {
                    NO_STACK if is_native => tree.call(ROOT, NO_FRAME, 0),
                    NO_STACK | NO_GIL => ROOT,
                    parent => call_of.get(parent as usize).copied().unwrap_or(ROOT),
                };
                match code {
                    // Its caller has called what it calls.
                    Some(code) if code.is_shim() => caller,
                    _ => {
                        let place = if is_native { node.offset } else { 0 };
                        let (function, line) = tree.function(node.code, code, place);
                        let in_python = code.and_then(|code| line_of(code, node.offset));
                        tree.call(caller, function, in_python.unwrap_or(line))
                    }
                }
            }
        };
        tree.calls[call as usize].own.add(&own);
        call_of.push(call);
    }
    (tree.functions, tree.calls, call_of)
}

/// The first call, and the first function.
const ROOT: u32 = 0;
/// Functions that stand for no Python frame, and for what ran without the GIL.
const NO_FRAME: u32 = 1;
const WITHOUT_GIL: u32 = 2;

/// The tree of calls, as far as it is known.
struct Tree<'s> {
    functions: Vec<Function>,
    calls: Vec<Call>,
    symbols: &'s mut dyn Symbols,
    numbers: FxHashMap<Function, u32>,
    /// By code, and in native code, where each place may be another function's, by place: the function, and a native one's line.
    by_code: FxHashMap<(u32, u32), (u32, u32)>,
    known: FxHashMap<(u32, u32, u32), u32>,
}

impl<'s> Tree<'s> {
    fn new(symbols: &'s mut dyn Symbols) -> Tree<'s> {
        let functions =
            vec![named("(root)"), named("(no Python frame)"), named("(without the GIL)")];
        Tree {
            numbers: functions.iter().cloned().zip(0u32..).collect(),
            functions,
            calls: vec![Call { parent: ROOT, function: 0, line: 0, own: Tally::default() }],
            symbols,
            by_code: FxHashMap::default(),
            known: FxHashMap::default(),
        }
    }

    fn call(&mut self, parent: u32, function: u32, line: u32) -> u32 {
        *self.known.entry((parent, function, line)).or_insert_with(|| {
            self.calls.push(Call { parent, function, line, own: Tally::default() });
            self.calls.len() as u32 - 1
        })
    }

    /// The function at a place of a code, and of native code the line.
    fn function(&mut self, number: u32, code: Option<&Code>, place: u32) -> (u32, u32) {
        if let Some(known) = self.by_code.get(&(number, place)) {
            return *known;
        }
        let (function, line) = match code {
            None if number == NO_FILE => (Function { native: true, ..named("(no file)") }, 0),
            None => (named("(unknown)"), 0),
            Some(file) if file.is_native() => native_function(file, place, self.symbols),
            Some(code) => {
                let (name, file) = (code.name.clone(), code.file.clone());
                (Function { name, file, line: code.first_line, native: false }, 0)
            }
        };
        let next = self.functions.len() as u32;
        let known = *self.numbers.entry(function.clone()).or_insert_with(|| {
            self.functions.push(function);
            next
        });
        self.by_code.insert((number, place), (known, line));
        (known, line)
    }
}

fn named(name: &str) -> Function {
    Function { name: name.into(), ..Function::default() }
}

/// A function of native code, and the line at `place`, an address + 1.
fn native_function(file: &Code, place: u32, symbols: &mut dyn Symbols) -> (Function, u32) {
    let address = u64::from(place.saturating_sub(1));
    let function = Function { file: file.file.clone(), native: true, ..Function::default() };
    match symbols.symbol(file, address) {
        None => (Function { name: NO_SYMBOL.into(), ..function }, 0),
        Some(symbol) if symbol.source.is_empty() => (Function { name: symbol.name, ..function }, 0),
        Some(Symbol { name, source, line }) => (Function { name, file: source, ..function }, line),
    }
}
