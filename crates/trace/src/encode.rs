//! Writing events. Owns the bytes of one event; the buffer they go to is the caller's.
//!
//! No call here allocates, hashes or waits.

use crate::Model;
use crate::event::{
    ALIGNED_BITS, ALLOC, Domain, ESCAPE, FREE, LARGEST, LOW, LOW_BITS, MOVED, escape,
};
use crate::model::Prediction;
use crate::varint::{self, zigzag};

/// Bytes that any event but a mark fits into.
pub const ROOM: usize = 64;

/// Room for one event.
pub type Room = [u8; ROOM];

/// Writes the number with its kind and length; `shift` bits are taken by what stands below it.
#[inline(always)]
fn word(out: &mut Room, low: u64, number: u64, shift: u32) -> usize {
    let bits = number << shift | low;
    let more = (bits | 1).ilog2() / 8;
    out[..8].copy_from_slice(&(bits | u64::from(more) << 2).to_le_bytes());
    more as usize + 1
}

/// The zigzag of a sixteenth of a multiple of 16.
#[inline(always)]
fn sixteenths(difference: u64) -> u64 {
    let difference = difference as i64;
    (difference >> (ALIGNED_BITS - 1) ^ difference >> 63) as u64
}

/// Whether a block's address is told as a difference, and its size in a word: almost all are such.
#[inline(always)]
pub fn is_usual(address: u64, size: u64) -> bool {
    address.is_multiple_of(1 << ALIGNED_BITS) && size <= LARGEST
}

/// Writes a free; returns its length.
#[inline(always)]
pub fn free(model: &mut Model, out: &mut Room, address: u64, moved: bool) -> usize {
    match is_usual(address, 0) {
        true => free_usual(model, out, address, moved),
        false => numbers(out, escape::FREE, &[address, u64::from(moved)]),
    }
}

/// Writes the free of a [usual](is_usual) block; returns its length.
#[inline(always)]
pub fn free_usual(model: &mut Model, out: &mut Room, address: u64, moved: bool) -> usize {
    let difference = address.wrapping_sub(model.last_free);
    model.last_free = address;
    word(out, if moved { MOVED } else { FREE }, sixteenths(difference), 5)
}

/// Writes an allocation; returns its length.
#[inline(always)]
pub fn alloc(
    model: &mut Model,
    out: &mut Room,
    address: u64,
    size: u64,
    node: u32,
    domain: Domain,
) -> usize {
    match is_usual(address, size) {
        true => alloc_usual(model, out, address, size as u32, node, domain),
        false => numbers(out, escape::ALLOC, &[address, size, u64::from(node), domain as u64]),
    }
}

/// Writes an allocation of a [usual](is_usual) block; returns its length.
#[inline(always)]
pub fn alloc_usual(
    model: &mut Model,
    out: &mut Room,
    address: u64,
    size: u32,
    node: u32,
    domain: Domain,
) -> usize {
    let (place, step) = model.place(size);
    let difference = address.wrapping_sub(*place);
    *place = address.wrapping_add(step);
    let prediction = Prediction::new(node, size, domain);
    let surprise = *model.expected() != prediction;
    let mut at = word(out, ALLOC | u64::from(surprise) << 5, sixteenths(difference), 6);
    if surprise {
        at = tell(model, out, at, prediction);
    }
    model.learn(node);
    at
}

/// Writes what was not expected, and expects it from now on; returns where it ends.
#[inline(never)]
fn tell(model: &mut Model, out: &mut Room, at: usize, prediction: Prediction) -> usize {
    let last = model.last_node;
    let expected = std::mem::replace(model.expected(), prediction);
    let (node, size, domain) = (prediction.node(), prediction.size(), prediction.domain());
    let stack = expected.node() != node;
    let other = (expected.size(), expected.domain()) != (size, domain);
    let step = zigzag(i64::from(node) - i64::from(last));
    let first = if other { u64::from(size) } else { step };
    let flags = u8::from(stack) | u8::from(other) << 1 | (domain as u8) << 2;
    out[at] = flags | ((first & LOW) << 3) as u8;
    let end = varint::put(out, at + 1, first >> LOW_BITS);
    match stack && other {
        true => varint::put(out, end, step),
        false => end,
    }
}

/// Writes an escape of at most five numbers; returns its length.
pub fn numbers(out: &mut Room, number: u8, numbers: &[u64]) -> usize {
    out[0] = ESCAPE as u8 | number << 2;
    numbers.iter().fold(1, |at, n| varint::put(out, at, *n))
}

/// A mark, as bytes.
pub fn mark(text: &str) -> Vec<u8> {
    let mut out = vec![ESCAPE as u8 | escape::MARK << 2];
    varint::push(&mut out, text.len() as u64);
    out.extend(text.as_bytes());
    out
}
