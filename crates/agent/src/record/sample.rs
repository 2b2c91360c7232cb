//! Sampling: one allocation in so many bytes, at random, and the frees of those that were taken.
//!
//! The bytes between two samples have an exponential distribution, so that a block of `s` bytes is taken with probability
//! `1 - exp(-s / every)`, whatever came before. Whether a free is one of a sample is told by a table of small counts; only
//! where it may be, the samples themselves are asked. Code objects and threads, whose frees must be noticed too, count in the
//! same table.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::codes;
use super::lane::Shared;
use super::own::{Own, busy};

/// Small enough to stay in the nearest cache, beside what the program has there.
const COUNTS: usize = 1 << 14;

static EVERY: AtomicU64 = AtomicU64::new(0);
static FILTER: [AtomicU8; COUNTS] = [const { AtomicU8::new(0) }; COUNTS];
static LOCK: AtomicBool = AtomicBool::new(false);
static TAKEN: Shared<Option<HashSet<u64>>> = Shared::new(None);

/// Begins anew, with this mean of the bytes between two samples.
pub(super) fn reset(every: u64) {
    EVERY.store(every, Ordering::Relaxed);
    LOCK.store(false, Ordering::Release);
    FILTER.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    // SAFETY: nothing is recorded yet, or any more.
    unsafe { *TAKEN.get() = Some(HashSet::new()) };
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

#[cold]
#[inline(never)]
fn draw(own: *mut Own, size: usize) -> bool {
    // SAFETY: this thread's words.
    unsafe {
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
fn count_of(block: u64) -> &'static AtomicU8 {
    &FILTER[((block >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50) as usize % COUNTS]
}

fn locked<R>(own: *mut Own, work: impl FnOnce(&mut HashSet<u64>) -> R) -> Option<R> {
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
        if taken.insert(block) {
            let count = count_of(block);
            // One that has reached the most stays there.
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1));
        }
    });
}

/// Has frees of this address noticed, for good.
pub(super) fn watch(address: u64) {
    let count = count_of(address);
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1));
}

/// A block is freed with the GIL; whether it was a sample.
#[inline(always)]
pub(super) fn freed(own: *mut Own, block: u64) -> bool {
    count_of(block).load(Ordering::Relaxed) != 0 && freed_maybe(own, block)
}

#[cold]
#[inline(never)]
fn freed_maybe(own: *mut Own, block: u64) -> bool {
    codes::freed(block);
    forget_taken(own, block)
}

/// A block is freed; whether it was a sample.
pub(super) fn forget(own: *mut Own, block: u64) -> bool {
    count_of(block).load(Ordering::Relaxed) != 0 && forget_taken(own, block)
}

#[cold]
#[inline(never)]
fn forget_taken(own: *mut Own, block: u64) -> bool {
    locked(own, |taken| {
        let was = taken.remove(&block);
        if was {
            let count = count_of(block);
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                if n == u8::MAX { None } else { n.checked_sub(1) }
            });
        }
        was
    })
    .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::ln;

    #[test]
    fn it_is_the_logarithm() {
        for i in 1..10_000u32 {
            for x in [f64::from(i) / 10_000.0, 1.0 / f64::from(i), 2f64.powi(-((i % 53) as i32))] {
                assert!((ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs() + 1e-15, "{x}");
            }
        }
    }
}
