//! Synthetic curves of what is in use, at several sizes, sample rates and noises.

use pydefrag_heap::{Ended, VerdictKind};

use super::*;
use crate::samples::{heap, snapshot};

const MIB: f64 = (1u64 << 20) as f64;

/// A run of a program whose use follows `used` (0 to 1 of `size` MiB, by time from 0 to 1), on an
/// interpreter of 10 MiB. RSS never falls: what is let go stays, as `kept` of it.
fn run(used: impl Fn(f64) -> f64, size: f64, n: usize, noise: f64, kept: f64) -> Run {
    let mut seed = 42u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as f64 / (1u64 << 31) as f64 - 0.5
    };
    let mut top = 0.0f64;
    let samples: Vec<Sample> = (0..n)
        .map(|i| {
            let part = i as f64 / (n - 1) as f64;
            let noisy = 1.0 + noise * random();
            let used = used(part).max(0.0) * size * noisy.max(0.0);
            top = top.max(used);
            let free = (top - used) * kept;
            let bytes = |mib: f64| (mib * MIB) as u64;
            Sample { at: 0.3 + part * 7.0, rss: bytes(10.0 + used + free), free: bytes(free) }
        })
        .collect();
    let (peak, trough, trough_ratio, waste) = pydefrag_heap::measures(&samples).expect("some");
    Run {
        seconds: 7.5,
        ended: Ended::Code(0),
        peak,
        trough,
        end: samples[n - 1],
        trough_ratio,
        waste,
        account_at_end: true,
        account_note: None,
        samples,
        children: Vec::new(),
        children_left_out: 0,
        healed: None,
    }
}

/// The verdict on it, with an account of the end that says what the last sample says.
fn kind(run: Run) -> VerdictKind {
    let mut s = snapshot(vec![heap("pymalloc", run.end.in_use() - 10 * MIB as u64, run.end.free)]);
    s.run = Some(run);
    let whole = judge(&s, s.run.as_ref().expect("a run")).expect("a verdict");
    // Without the account of the end the samples tell the same.
    s.run.as_mut().expect("a run").account_at_end = false;
    let by_samples = judge(&s, s.run.as_ref().expect("a run")).expect("a verdict");
    assert_eq!(by_samples.kind, whole.kind, "{} / {}", by_samples.sentence, whole.sentence);
    whole.kind
}

/// All sizes, rates and noises of one shape.
#[track_caller]
fn always(expected: VerdictKind, kept: f64, shape: impl Fn(f64) -> f64) {
    for size in [80.0, 400.0, 8000.0] {
        for n in [60, 137, 500, 2000] {
            for noise in [0.0, 0.02, 0.06] {
                let found = kind(run(&shape, size, n, noise, kept));
                assert_eq!(found, expected, "{size} MiB, {n} samples, noise {noise}");
            }
        }
    }
}

fn wave(t: f64, periods: f64) -> f64 {
    0.5 - 0.5 * (t * periods * std::f64::consts::TAU).cos()
}

#[test]
fn a_leak_grows() {
    always(VerdictKind::Growing, 1.0, |t| t);
    always(VerdictKind::Growing, 1.0, |t| 0.2 + 0.8 * t);
    always(VerdictKind::Growing, 1.0, |t| t * t);
    always(VerdictKind::Growing, 1.0, f64::sqrt);
    always(VerdictKind::Growing, 1.0, |t| (4.0 * t).exp() / 55.0);
    // In steps, and in batches of which a part stays.
    always(VerdictKind::Growing, 1.0, |t| (t * 12.0).floor() / 12.0);
    always(VerdictKind::Growing, 1.0, |t| t + 0.3 * wave(t, 10.0));
    always(VerdictKind::Growing, 0.8, |t| t + 0.5 * wave(t, 23.0));
}

#[test]
fn what_is_built_and_then_used_is_healthy() {
    for built in [0.05, 0.3, 0.6, 0.75] {
        always(VerdictKind::Healthy, 1.0, |t| (t / built).min(1.0));
    }
    // A cache that has filled up.
    always(VerdictKind::Healthy, 1.0, |t| 1.0 - (-8.0 * t).exp());
    // Steady work, and work in small waves.
    always(VerdictKind::Healthy, 1.0, |_| 1.0);
    always(VerdictKind::Healthy, 1.0, |t| 0.9 + 0.1 * wave(t, 9.0));
    // Late, and then at once: a batch that ends at its peak.
    always(VerdictKind::Healthy, 1.0, |t| if t < 0.85 { 0.1 } else { 1.0 });
}

#[test]
fn a_peak_that_is_reused_is_retained() {
    for periods in [2.0, 3.0, 5.0, 11.0] {
        always(VerdictKind::Retained, 1.0, |t| wave(t, periods));
        always(VerdictKind::Retained, 0.9, |t| 0.1 + 0.9 * wave(t, periods));
    }
    // Batches that are short, and ones that begin late.
    always(VerdictKind::Retained, 1.0, |t| if (t * 4.9).fract() < 0.3 { 1.0 } else { 0.05 });
    always(VerdictKind::Retained, 1.0, |t| if t < 0.4 { 0.02 } else { wave(t - 0.4, 5.0) });
}

#[test]
fn a_busy_time_and_then_little_is_fragmented() {
    always(VerdictKind::Fragmented, 1.0, |t| if t < 0.5 { 2.0 * t } else { 0.05 });
    always(VerdictKind::Fragmented, 1.0, |t| wave(t, 1.0));
    // All the time building, and let go at the very end.
    always(VerdictKind::Fragmented, 1.0, |t| if t < 1.0 { t } else { 0.05 });
    // A survivor or two of each of many waves, the space of which is not used again.
    always(VerdictKind::Fragmented, 0.7, |t| if t < 0.3 { 1.0 } else { 0.1 + 0.1 * wave(t, 7.0) });
}

#[test]
fn space_that_no_later_wave_could_use_is_fragmented() {
    // Each wave is as high as the first, yet RSS grows: its holes served none of them.
    let mut r = run(|t| wave(t, 4.0), 100.0, 400, 0.0, 1.0);
    for s in &mut r.samples {
        let lost = (s.at * 20.0 * MIB) as u64;
        (s.rss, s.free) = (s.rss + lost, s.free + lost);
    }
    r.end = r.samples[399];
    assert_eq!(kind(r), VerdictKind::Fragmented);
}

/// Looks at a heap that grows cost more and more, and get rarer.
#[test]
fn samples_that_get_rarer_tell_the_same() {
    let rarer = |shape: &dyn Fn(f64) -> f64| {
        let mut r = run(shape, 400.0, 1001, 0.01, 1.0);
        let parts = [0.0, 0.01, 0.02, 0.04, 0.08, 0.13, 0.2, 0.28, 0.4, 0.56, 0.76, 1.0];
        r.samples = parts.map(|p| r.samples[(p * 1000.0) as usize]).to_vec();
        kind(r)
    };
    assert_eq!(rarer(&|t| t), VerdictKind::Growing);
    assert_eq!(rarer(&|t| 0.1 + t * t), VerdictKind::Growing);
    for built in [0.1, 0.5, 0.7, 0.8] {
        assert_eq!(rarer(&|t| (t / built).min(1.0)), VerdictKind::Healthy, "{built}");
    }
    assert_eq!(rarer(&|t| if t < 1.0 { t } else { 0.05 }), VerdictKind::Fragmented);
}

#[test]
fn waves_outside_the_heaps_fill_nothing() {
    let mut r = run(|t| if t < 0.2 { 1.0 } else { 0.05 }, 100.0, 400, 0.0, 1.0);
    for s in r.samples.iter_mut().filter(|s| s.at > 2.0) {
        s.rss += (wave(s.at - 0.3, 1.0) * 300.0 * MIB) as u64;
    }
    r.end = r.samples[399];
    assert_eq!(kind(r), VerdictKind::Fragmented);
}

#[test]
fn what_is_given_back_is_healthy() {
    always(VerdictKind::Healthy, 0.05, |t| 0.3 + 0.7 * wave(t, 1.0));
    always(VerdictKind::Healthy, 0.0, |t| wave(t, 5.0));
}

#[test]
fn too_few_samples_decide_nothing_about_time() {
    let mut s = snapshot(vec![heap("pymalloc", 5 << 20, 95 << 20)]);
    for (n, decided) in [(1, false), (5, false), (7, false), (12, true)] {
        let mut r = run(|t| if t < 1.0 { t } else { 0.05 }, 100.0, n.max(2), 0.0, 1.0);
        r.samples.truncate(n);
        s.run = Some(r);
        let v = crate::verdict(&s).expect("a verdict");
        assert_eq!((v.kind, v.undecided.is_none()), (VerdictKind::Fragmented, decided), "{n}");
    }
    assert_eq!(kind(run(|t| t, 100.0, 7, 0.0, 1.0)), VerdictKind::Healthy);
}

#[test]
fn a_run_without_an_account_or_without_samples() {
    let mut s = snapshot(Vec::new());
    s.partial = Some(pydefrag_heap::Partial { reason: "ended".into(), hint: None });
    assert_eq!(crate::verdict(&s), None);
    s.run = Some(run(|t| if t < 0.5 { 1.0 } else { 0.05 }, 100.0, 100, 0.0, 1.0));
    let v = crate::verdict(&s).expect("the samples tell");
    assert_eq!(v.kind, VerdictKind::Fragmented);
    assert_eq!(
        v.sentence,
        "Fragmented: by the last sample 95.0 of 110.0 MiB RSS are free but stay resident (86%); \
         filled once and not used again."
    );
    s.run.as_mut().expect("a run").samples.clear();
    assert_eq!(crate::verdict(&s), None);
    // Whatever a damaged file claims, nothing panics.
    let mut odd = run(|t| t, 100.0, 40, 0.0, 1.0);
    for (i, s) in odd.samples.iter_mut().enumerate() {
        s.at = [f64::NAN, f64::INFINITY, -1e300, 1e300, 0.0][i % 5];
        s.free = u64::MAX >> (i % 9);
    }
    s.run = Some(odd);
    let _ = crate::verdict(&s);
}
