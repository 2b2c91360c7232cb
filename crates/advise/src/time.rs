//! The verdict on a program over time: its samples tell growth from reuse from fragmentation.
//!
//! Owns the rules on samples. What is in use is `rss - free`; the last point is the program's end.
//!
//! Two measures, both blind to how fast a program was sampled and to how large it is:
//!
//! - its *floor* at a time: the least in use from then on. Only what is never given back raises it,
//!   so batches, spikes and noise do not; a leak raises it all the way to the end.
//! - *fillings*: how often the space that is free at the end was filled and emptied again.

use pydefrag_heap::{Run, Sample, Snapshot, Verdict, VerdictKind};

use crate::thresholds::{
    CHECKPOINTS, EMPTIED_SHARE, FILLED_SHARE, FREE_SHARE, GROWTH_SHARE, LAST_STRETCH_SHARE,
    LEAST_BYTES, LEAST_FILLINGS, LEAST_SAMPLES, STRETCH_SHARE,
};
use crate::words::{mib, number, percent, share, times};
use crate::{lone, remedies};

/// Judges a run and the look at its end.
pub(crate) fn judge(snapshot: &Snapshot, run: &Run) -> Option<Verdict> {
    let points = points(run);
    let Some(end) = points.last() else {
        return snapshot.partial.is_none().then(|| lone::judge(snapshot));
    };
    if let Some((before, after)) = growth(&points) {
        return Some(growing(before, after));
    }
    let mut verdict = match run.account_at_end && snapshot.partial.is_none() {
        true => lone::judge(snapshot),
        false => by_sample(snapshot, end),
    };
    let decided = enough(&points);
    match verdict.kind {
        VerdictKind::Fragmented => match fillings(&points, end) {
            n if n >= LEAST_FILLINGS => {
                verdict.kind = VerdictKind::Retained;
                verdict.sentence = format!(
                    "Retained: {} are free at the end, but the program filled this space {}: its \
                     peak needs it.",
                    mib(end.free),
                    times(n)
                );
                verdict.undecided = None;
                verdict.remedies.clear();
            }
            n if decided => {
                let how = if n == 0 { "never filled" } else { "filled once and not used again" };
                verdict.sentence = format!("{}; {how}.", verdict.sentence.trim_end_matches('.'));
                verdict.undecided = None;
            }
            _ => verdict.undecided = Some(TOO_SHORT.into()),
        },
        VerdictKind::Healthy if !decided && verdict.undecided.is_some() => {
            verdict.undecided = Some(TOO_SHORT.into());
        }
        // What a later look would tell of live data, the samples have told.
        VerdictKind::Healthy if snapshot.partial.is_none() && run.account_at_end => {
            verdict.undecided = None;
        }
        _ => {}
    }
    Some(verdict)
}

const TOO_SHORT: &str = "how memory moves: the run was too short for enough samples, run it longer";

/// The samples, and the end where it is later than they are.
fn points(run: &Run) -> Vec<Sample> {
    let mut points: Vec<Sample> =
        run.samples.iter().filter(|s| s.at.is_finite()).copied().collect();
    points.sort_by(|a, b| a.at.total_cmp(&b.at));
    let ends_later = points.last().is_some_and(|last| last.at < run.end.at);
    if ends_later && run.end.at.is_finite() && run.end.rss > 0 {
        points.push(run.end);
    }
    points
}

/// The instant at a part of the time from the first point to the last.
fn instant(points: &[Sample], part: f64) -> f64 {
    let (first, last) = match points {
        [first, .., last] => (first.at, last.at),
        _ => return 0.0,
    };
    first + part * (last - first)
}

/// The first point at each checkpoint or after it.
fn checkpoints(points: &[Sample]) -> Option<[Sample; CHECKPOINTS.len()]> {
    let mut found = [Sample::default(); CHECKPOINTS.len()];
    for (slot, part) in found.iter_mut().zip(CHECKPOINTS) {
        let at = instant(points, part);
        *slot = *points.iter().find(|p| p.at >= at)?;
    }
    Some(found)
}

/// Whether there are samples enough, and some in every stretch of time that [`growth`] looks at.
fn enough(points: &[Sample]) -> bool {
    let apart = |c: [Sample; CHECKPOINTS.len()]| c.windows(2).all(|w| w[0].at < w[1].at);
    points.len() >= LEAST_SAMPLES && checkpoints(points).is_some_and(apart)
}

/// The least in use from `at` on: what was there by then and is never given back.
fn floor(points: &[Sample], at: f64) -> u64 {
    points.iter().filter(|p| p.at >= at).map(Sample::in_use).min().unwrap_or(0)
}

/// What was in use for good at the first checkpoint and at the last, if it grew all the way: by
/// enough, in every stretch, and in the last one as fast as ever or nearly so.
fn growth(points: &[Sample]) -> Option<(u64, u64)> {
    let at = checkpoints(points).filter(|_| enough(points))?.map(|p| p.at);
    let floors = at.map(|at| floor(points, at));
    let last = CHECKPOINTS.len() - 1;
    let (before, after) = (floors[0], floors[last]);
    let rise = after.saturating_sub(before);
    if rise < LEAST_BYTES || share(rise, before) < GROWTH_SHARE && before > 0 {
        return None;
    }
    // Where samples are few, they stand later than the checkpoints: their own times count.
    let spread = (0..last).all(|i| {
        let fair = (at[i + 1] - at[i]) / (at[last] - at[0]);
        let least = if i + 1 == last { LAST_STRETCH_SHARE } else { STRETCH_SHARE };
        share(floors[i + 1] - floors[i], rise) >= least * fair
    });
    spread.then_some((before, after))
}

/// How often the space that is free at the end was in use, having been free in between.
///
/// In use it was when so much more was in use than at the end, and less was free: memory outside the
/// heaps comes and goes beside their free space, not in it.
fn fillings(points: &[Sample], end: &Sample) -> usize {
    let (mut empty, mut n) = (true, 0);
    for point in points {
        let used = share(point.in_use().saturating_sub(end.in_use()), end.free);
        let free = share(point.free, end.free);
        if empty && used >= FILLED_SHARE && free <= EMPTIED_SHARE {
            (empty, n) = (false, n + 1);
        } else if used <= EMPTIED_SHARE {
            empty = true;
        }
    }
    n
}

fn growing(before: u64, after: u64) -> Verdict {
    Verdict {
        kind: VerdictKind::Growing,
        sentence: format!(
            "Growing: what stays in use rose from {} to {} and rises to the end: a leak suspect, \
             not fragmentation.",
            number(before),
            mib(after)
        ),
        undecided: Some(
            "leak, or still loading: a longer run, or two looks and `pydefrag diff`".into(),
        ),
        remedies: remedies::of_growth(),
    }
}

/// What the last sample tells where there is no account of the end.
fn by_sample(snapshot: &Snapshot, end: &Sample) -> Verdict {
    let of = format!("by the last sample {} of {} RSS are free", number(end.free), mib(end.rss));
    let part = percent(end.free, end.rss);
    // Of RSS, not of the heaps, which no sample tells: what counts here counts of them too.
    let (kind, sentence) = match end.free >= LEAST_BYTES && share(end.free, end.rss) >= FREE_SHARE {
        true => (VerdictKind::Fragmented, format!("Fragmented: {of} but stay resident ({part}).")),
        false => match snapshot.partial.is_none().then(|| lone::native(snapshot)).flatten() {
            Some(native) => return native,
            None => (VerdictKind::Healthy, format!("Healthy: {of} ({part}).")),
        },
    };
    let undecided = match kind {
        VerdictKind::Healthy => Some("more than samples tell: no account of its end".to_owned()),
        _ => Some(lone::USED_AGAIN.to_owned()),
    };
    Verdict { kind, sentence, undecided, remedies: Vec::new() }
}

#[cfg(test)]
mod tests;
