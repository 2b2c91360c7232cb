//! A heal from its start to its end: one at a time, each with what it did or why it did nothing.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::place::{self, Found, Place};
use crate::purge::{Pass, Purged};
use crate::python::{Attachment, Python, python};
use crate::table::table;
use crate::trim::{Trimmed, trim};
use crate::{wanted, weight};

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Nothing: whether the preconditions hold.
    Check,
    /// malloc's free OS pages.
    Trim,
    /// The same, then pymalloc's.
    Purge,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) level: Level,
    /// Python's garbage collector runs first.
    pub(crate) collect: bool,
    /// Longest time that the GIL is held.
    pub(crate) slice: Duration,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub(crate) struct Healed {
    pub(crate) level: &'static str,
    /// Objects that the collector found, where it was asked to.
    pub(crate) collected: Option<i64>,
    /// Time of the collection, in milliseconds: the GIL is held throughout.
    pub(crate) collect_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trim: Option<Trimmed>,
    #[serde(flatten)]
    pub(crate) purged: Purged,
    /// Pools unparked since the agent was loaded, because they were wanted.
    pub(crate) pools_unparked: u64,
    pub(crate) wall_ms: f64,
    /// Time of a processor that the thread that healed has used.
    pub(crate) cpu_ms: f64,
    /// Page faults of the whole process meanwhile.
    pub(crate) minor_faults: u64,
    /// What was left out, and why: sentences.
    pub(crate) skipped: Vec<String>,
}

/// Shortest and longest slice that is taken.
const SLICES: std::ops::RangeInclusive<Duration> =
    Duration::from_micros(100)..=Duration::from_secs(1);

/// One heal at a time.
static BUSY: AtomicBool = AtomicBool::new(false);
/// The process that [`BUSY`] is true for: a fork in the middle leaves it set.
static BUSY_IN: AtomicU64 = AtomicU64::new(0);

struct Turn;

impl Turn {
    fn take() -> Option<Turn> {
        let taken = BUSY.swap(true, Ordering::AcqRel);
        let pid = u64::from(std::process::id());
        if taken && BUSY_IN.load(Ordering::Acquire) == pid {
            return None;
        }
        BUSY_IN.store(pid, Ordering::Release);
        Some(Turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Release);
    }
}

/// A fork: the thread that healed is not in it.
pub(crate) fn forget_turn() {
    BUSY.store(false, Ordering::Release);
}

/// Where pymalloc is: looked for once, or again after a failure. No lock: a fork in another thread would keep it.
static FOUND: AtomicPtr<Found> = AtomicPtr::new(std::ptr::null_mut());
static CONFIRMED: AtomicPtr<Place> = AtomicPtr::new(std::ptr::null_mut());

fn found(python: &Python) -> Result<&'static Found, String> {
    let known = FOUND.load(Ordering::Acquire);
    // SAFETY: what is stored below, never freed.
    if let Some(found) = unsafe { known.as_ref() } {
        return Ok(found);
    }
    let found = Box::leak(Box::new(place::find(python)?));
    FOUND.store(found, Ordering::Release);
    Ok(found)
}

/// Finds and confirms the place.
pub(crate) fn place(python: &Python, attachment: &Attachment) -> Result<Place, String> {
    let found = found(python)?;
    let known = CONFIRMED.load(Ordering::Acquire);
    // SAFETY: what is stored below, never freed.
    let known = unsafe { known.as_ref() };
    let place = attachment.held(|held| match known {
        // Variables stay where they are; what they hold is validated each time.
        Some(place) => crate::arenas::check(held, place).map(|()| *place),
        None => place::confirm(held, found),
    });
    let place = place.unwrap_or_else(|| Err("the interpreter is ending".into()))?;
    if known.is_none() {
        CONFIRMED.store(Box::leak(Box::new(place)), Ordering::Release);
    }
    Ok(place)
}

/// Bytes of pymalloc's pools in use, and of pools that are free though once used; none where there is no pymalloc to
/// purge. Parked ones are neither.
pub(crate) fn pools(attachment: &Attachment) -> Option<(u64, u64)> {
    let place = place(python().ok()?, attachment).ok()?;
    let g = place.geometry;
    attachment.held(|held| {
        let (_, most) = crate::arenas::array(held, &place);
        let arenas = (0..most).filter_map(|i| crate::arenas::nth(held, &place, i));
        arenas.fold((0, 0), |(used, free), a| {
            let a = a.arena;
            let end = g.first_pool(a.address) + g.pools_in(a.address) * g.pool_size;
            let carved = u64::from(a.nfreepools) * g.pool_size - (end - a.pool_address);
            let in_use = u64::from(a.ntotalpools - a.nfreepools) * g.pool_size;
            (used + in_use, free + carved)
        })
    })
}

/// Carries out an order; `stop` ends it at the end of a slice. The error is a sentence: nothing was done.
pub(crate) fn heal(
    order: Order,
    attachment: &Attachment,
    stop: &dyn Fn() -> bool,
) -> Result<Healed, String> {
    weight::take_up();
    let python = python()?;
    if !SLICES.contains(&order.slice) {
        return Err(format!(
            "a slice of {} microseconds of the GIL cannot be kept to: it is between {} and {}",
            order.slice.as_micros(),
            SLICES.start().as_micros(),
            SLICES.end().as_micros()
        ));
    }
    if python.is_down() {
        return Err("the interpreter has not started, or is ending".into());
    }
    let _turn = Turn::take().ok_or("another heal is under way in this process")?;
    let begun = (Instant::now(), cpu(), faults());
    let mut healed = Healed::default();
    // All preconditions are checked before anything is done.
    let place = match order.level {
        Level::Trim => None,
        _ => Some(place(python, attachment)),
    };
    match order.level {
        Level::Check => {
            healed.level = "check";
            place.unwrap_or_else(|| Err(String::new()))?;
            return Ok(healed);
        }
        Level::Trim => healed.level = "trim",
        Level::Purge => healed.level = "purge",
    }
    if order.collect {
        let collected = attachment.held(|held| {
            let begun = Instant::now();
            (python.collect(held), begun.elapsed())
        });
        healed.collected = collected.and_then(|c| c.0);
        healed.collect_ms = collected.map(|c| c.1.as_secs_f64() * 1e3);
    }
    let trimmed = trim();
    let purged = match place {
        None => None,
        Some(Err(e)) => Some(Err(e)),
        Some(Ok(place)) => {
            wanted::watch(attachment, place);
            Some(Pass::new(&place).run(attachment, order.slice, stop, &mut healed.purged))
        }
    };
    match (trimmed, purged) {
        (Err(e), None) => return Err(e),
        // At the level of a purge what can be had is had; the rest is said.
        (trimmed, purged) => {
            match trimmed {
                Ok(t) => healed.trim = Some(t),
                Err(e) => healed.skipped.push(format!("malloc: {e}")),
            }
            if let Some(Err(e)) = purged {
                if healed.trim.is_none() {
                    return Err(e);
                }
                healed.skipped.push(format!("pymalloc: {e}"));
            }
        }
    }
    healed.pools_unparked = table().unparked();
    healed.wall_ms = begun.0.elapsed().as_secs_f64() * 1e3;
    healed.cpu_ms = cpu() - begun.1;
    healed.minor_faults = faults() - begun.2;
    table().count_heal();
    PURGES.fetch_add(u64::from(healed.purged.slices > 0), Ordering::Relaxed);
    PARKED.fetch_add(healed.purged.pools_parked, Ordering::Relaxed);
    DROPPED.fetch_add(healed.purged.bytes_dropped, Ordering::Relaxed);
    Ok(healed)
}

/// Heals that got to pymalloc, pools parked, bytes dropped, since the agent was loaded.
static PURGES: AtomicU64 = AtomicU64::new(0);
static PARKED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What was done in this process so far.
pub(crate) fn so_far() -> serde_json::Value {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    serde_json::json!({
        "heals": table().heals(),
        "purges": of(&PURGES),
        "pools_parked": of(&PARKED),
        "pools_unparked": table().unparked(),
        "bytes_dropped": of(&DROPPED),
    })
}

fn usage(who: libc::c_int) -> libc::rusage {
    let mut usage = std::mem::MaybeUninit::zeroed();
    // SAFETY: getrusage fills the structure; where it fails, zeros are a value of it.
    unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    }
}

/// Processor time of this thread, in milliseconds.
pub(crate) fn cpu() -> f64 {
    let usage = usage(libc::RUSAGE_THREAD);
    let ms = |t: libc::timeval| t.tv_sec as f64 * 1e3 + t.tv_usec as f64 / 1e3;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}

fn faults() -> u64 {
    usage(libc::RUSAGE_SELF).ru_minflt as u64
}
