//! Sampling: one allocation in so many bytes, at random, and the frees of those that were taken.
//!
//! The bytes between two samples have an exponential distribution, so that a block of `s` bytes is taken with probability
//! `1 - exp(-s / every)`, whatever came before. Whether a free may be one of a sample is told by a small bitmap; only where
//! it may be, the samples themselves are asked. Code objects and threads, whose frees must be noticed too, are in it as well.
//!
//! Invariant: the bit of whatever is to be noticed is set, at any moment; others may be.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustc_hash::FxHashSet;

use super::lane::Shared;
use super::own::{Own, busy, own};
use super::state::{self, is_active};
use super::{codes, wait};

/// Small enough to stay in the nearest cache, beside what the program has there.
const BITS: usize = 1 << 15;
/// Frees that were noticed before the bitmap is made anew: as many as there are samples, and so many more.
const STALE: usize = 256;
/// Bytes until a thread that has nothing to record looks again.
const IDLE: i64 = 64 << 10;

/// What is to be noticed.
#[derive(Default)]
struct Taken {
    samples: FxHashSet<u64>,
    /// Noticed for good.
    watched: FxHashSet<u64>,
    stale: usize,
}

static EVERY: AtomicU64 = AtomicU64::new(0);
static BITMAP: [AtomicU64; BITS / 64] = [const { AtomicU64::new(0) }; BITS / 64];
static LOCK: AtomicBool = AtomicBool::new(false);
static TAKEN: Shared<Option<Taken>> = Shared::new(None);

/// Begins anew, with this mean of the bytes between two samples.
pub(super) fn reset(every: u64, forked: bool) {
    EVERY.store(every, Ordering::Relaxed);
    LOCK.store(false, Ordering::Release);
    BITMAP.iter().for_each(|bits| bits.store(0, Ordering::Relaxed));
    // SAFETY: nothing is recorded yet, or any more.
    unsafe { TAKEN.renew(Some(Taken::default()), forked) };
}

/// Whether an allocation of this size is a sample.
#[inline(always)]
pub(super) fn is_due(own: *mut Own, size: usize) -> bool {
    // SAFETY: this thread's words.
    unsafe {
        (*own).left = (*own).left.wrapping_sub(size as i64);
        (*own).left < 0 && draw(own, size)
    }
}

/// The same, of an allocation of malloc's own.
pub(super) fn is_due_of_malloc(own: *mut Own, size: usize) -> bool {
    // SAFETY: this thread's words.
    unsafe { (*own).mallocs = (*own).mallocs.wrapping_add(size as u64) };
    is_due(own, size)
}

/// What changes when Python's hooks have counted an allocation of this thread: what malloc itself has counted is put back. Of
/// most allocations nothing else is left.
pub(super) fn counted(own: *mut Own) -> u64 {
    // SAFETY: this thread's words.
    let (left, mallocs, random) = unsafe { ((*own).left as u64, (*own).mallocs, (*own).random) };
    left.wrapping_add(mallocs) ^ random ^ own as u64
}

/// Counts an allocation that is none, or leaves it to [`is_due`].
#[inline(always)]
pub(super) fn passes(own: *mut Own, size: usize) -> bool {
    // SAFETY: this thread's words.
    unsafe {
        let left = (*own).left.wrapping_sub(size as i64);
        if left >= 0 {
            (*own).left = left;
        }
        left >= 0
    }
}

#[cold]
#[inline(never)]
fn draw(own: *mut Own, size: usize) -> bool {
    // SAFETY: this thread's words.
    unsafe {
        if !is_active() {
            (*own).left = IDLE;
            if state::mode() == state::WAITING {
                wait::count(own);
            }
            return false;
        }
        if (*own).random == 0 {
            // A thread's first: nothing was drawn yet.
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
            (*own).random = (own as u64) << 20 ^ time.tv_nsec as u64 ^ 0x9E37_79B9_7F4A_7C15;
            (*own).left = distance(own).wrapping_sub(size as i64);
            if (*own).left >= 0 {
                return false;
            }
        }
        (*own).left = distance(own);
        true
    }
}

/// Bytes to the next sample.
fn distance(own: *mut Own) -> i64 {
    // SAFETY: this thread's words. The generator is xorshift64* (Vigna, 2016).
    let random = unsafe {
        let mut x = (*own).random;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        (*own).random = x;
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let unit = ((random >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
    // Whole bytes: a block that ends within this one is taken.
    (-ln(unit) * EVERY.load(Ordering::Relaxed) as f64) as i64
}

/// The natural logarithm of a number from 2⁻⁵³ to 1. The C library's would tie the agent to libm, and to a newer one.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    // From 1 up to 2; and of ln m = 2 atanh((m - 1) / (m + 1)) as many terms as an f64 has digits for.
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let sum = (0..18).rev().fold(0.0, |sum, i| sum * square + 1.0 / f64::from(2 * i + 1));
    2.0 * s * sum + f64::from(exponent) * std::f64::consts::LN_2
}

#[inline(always)]
fn bit(block: u64) -> usize {
    (block.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 49) as usize % BITS
}

fn set(block: u64) {
    let bit = bit(block);
    BITMAP[bit / 64].fetch_or(1 << (bit % 64), Ordering::Relaxed);
}

/// Whether a free of this block may be one to be noticed.
#[inline(always)]
pub(super) fn may_be(block: u64) -> bool {
    let bit = bit(block);
    BITMAP[bit / 64].load(Ordering::Relaxed) >> (bit % 64) & 1 == 1
}

impl Taken {
    /// Makes the bitmap anew, word by word: what is to be noticed is in it before and after.
    fn make_anew(&mut self) {
        let mut words = [0u64; BITS / 64];
        for bit in self.samples.iter().chain(&self.watched).map(|block| bit(*block)) {
            words[bit / 64] |= 1 << (bit % 64);
        }
        for (to, word) in BITMAP.iter().zip(words) {
            to.store(word, Ordering::Relaxed);
        }
        self.stale = 0;
    }
}

fn locked<R>(own: *mut Own, work: impl FnOnce(&mut Taken) -> R) -> Option<R> {
    busy(own, || {
        while LOCK.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        // SAFETY: the lock.
        let done = unsafe { (*TAKEN.get()).as_mut() }.map(work);
        LOCK.store(false, Ordering::Release);
        done
    })
}

/// A block was taken.
#[cold]
pub(super) fn remember(own: *mut Own, block: u64) {
    locked(own, |taken| {
        taken.samples.insert(block);
        set(block);
    });
}

/// Has frees of this address noticed, for good.
pub(super) fn watch(address: u64) {
    locked(own(), |taken| {
        taken.watched.insert(address);
        set(address);
    });
}

/// A block is freed with the GIL; whether it was a sample.
#[inline(always)]
pub(super) fn freed(own: *mut Own, block: u64) -> bool {
    may_be(block) && freed_maybe(own, block)
}

#[cold]
#[inline(never)]
fn freed_maybe(own: *mut Own, block: u64) -> bool {
    codes::freed(block);
    forget_taken(own, block)
}

/// A block is freed; whether it was a sample.
pub(super) fn forget(own: *mut Own, block: u64) -> bool {
    may_be(block) && forget_taken(own, block)
}

#[cold]
#[inline(never)]
fn forget_taken(own: *mut Own, block: u64) -> bool {
    locked(own, |taken| {
        // The bit now stands for nothing, or did so before.
        taken.stale += 1;
        if taken.stale > taken.samples.len() + STALE {
            taken.make_anew();
        }
        taken.samples.remove(&block)
    })
    .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_noticed_is_and_little_else() {
        reset(1, false);
        let block = |i: u64| 0x7f00_0000_0000 + 48 * i;
        watch(block(1_000_000));
        for i in 0..100_000 {
            remember(own(), block(i));
            assert!(may_be(block(i)));
            if i >= 100 {
                assert!(forget(own(), block(i - 100)) && !forget(own(), block(i - 100)));
            }
        }
        assert!(may_be(block(1_000_000)) && (99_900..100_000).all(|i| may_be(block(i))));
        let others = (200_000..300_000).filter(|i| may_be(block(*i))).count();
        // 101 and at most 356 stale ones, of 32,768 bits.
        assert!(others < 2000, "{others}");
    }

    #[test]
    fn it_is_the_logarithm() {
        for i in 1..10_000u32 {
            for x in [f64::from(i) / 10_000.0, 1.0 / f64::from(i), 2f64.powi(-((i % 53) as i32))] {
                assert!((ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs() + 1e-15, "{x}");
            }
        }
    }
}
