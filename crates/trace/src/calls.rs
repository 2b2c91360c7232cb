//! The tree of calls that a recording shows: stacks of which many may be of the same functions and lines.
//!
//! Owns what is kept of each stack, and how stacks become calls. Does not own when what they hold changes ([`crate::sum`]).

use pydefrag_heap::{Amount, Call, Function, Tally};
use rustc_hash::FxHashMap;

use crate::code::Code;
use crate::event::{NO_GIL, NO_STACK};
use crate::lines::line_of;
use crate::reader::Trace;

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
pub(crate) fn calls(nodes: &[Node], trace: &Trace) -> (Vec<Function>, Vec<Call>, Vec<u32>) {
    let codes: FxHashMap<u32, usize> =
        trace.codes.iter().enumerate().map(|(i, code)| (code.number, i)).collect();
    let mut functions =
        vec![named("(root)"), named("(no Python frame)"), named("(without the GIL)")];
    let mut function_of: FxHashMap<Function, u32> = functions.iter().cloned().zip(0u32..).collect();
    let mut by_code: FxHashMap<u32, u32> = FxHashMap::default();
    let mut calls = vec![Call { parent: 0, function: 0, line: 0, own: Tally::default() }];
    let mut known: FxHashMap<(u32, u32, u32), u32> = FxHashMap::default();
    let mut call_of = Vec::with_capacity(nodes.len());
    for (i, node) in (0u32..).zip(nodes) {
        let own = Tally {
            allocated: node.allocated.amount(),
            peak: node.peak.amount(),
            retained: node.live.amount(),
        };
        // A stack's caller comes before it; the two that stand for none have no callees.
        let caller = match node.parent {
            NO_STACK | NO_GIL => 0,
            parent => call_of.get(parent as usize).copied().unwrap_or(0),
        };
        let code = codes.get(&node.code).map(|i| &trace.codes[*i]);
        if i > NO_GIL && code.is_some_and(Code::is_shim) {
            // Its caller has called what it calls.
            calls[caller as usize].own.add(&own);
            call_of.push(caller);
            continue;
        }
        let key = match i {
            NO_STACK => (0, 1, 0),
            NO_GIL => (0, 2, 0),
            _ => {
                let line = code.and_then(|code| line_of(code, node.offset)).unwrap_or(0);
                let function = *by_code.entry(node.code).or_insert_with(|| {
                    let function = match code {
                        None => named("(unknown)"),
                        Some(code) => Function {
                            name: code.name.clone(),
                            file: code.file.clone(),
                            line: code.first_line,
                        },
                    };
                    let next = functions.len() as u32;
                    *function_of.entry(function.clone()).or_insert_with(|| {
                        functions.push(function);
                        next
                    })
                });
                (caller, function, line)
            }
        };
        if i <= NO_GIL && own == Tally::default() {
            call_of.push(0);
            continue;
        }
        let call = *known.entry(key).or_insert_with(|| {
            calls.push(Call { parent: key.0, function: key.1, line: key.2, own: Tally::default() });
            calls.len() as u32 - 1
        });
        calls[call as usize].own.add(&own);
        call_of.push(call);
    }
    (functions, calls, call_of)
}

fn named(name: &str) -> Function {
    Function { name: name.into(), file: String::new(), line: 0 }
}
