//! The one table of thresholds that verdicts and remedies go by.
//!
//! Owns the numbers; `docs/verdicts.md` explains each, and a test compares the two. None is fitted
//! to a program: they say what is worth a person's time, and what two or four looks can tell.

/// Less than this much is nobody's trouble: free bytes, growth, memory outside the heaps.
pub const LEAST_BYTES: u64 = 16 << 20;
/// Free bytes of the heaps, of the heaps' resident bytes, from which on they are fragmented.
pub const FREE_SHARE: f64 = 0.25;
/// Memory outside the heaps, of RSS, above which it is native.
pub const NATIVE_SHARE: f64 = 0.5;
/// Room that containers hold beyond their items, of live data, from which on it is over-allocated.
pub const SLACK_SHARE: f64 = 0.2;
/// Of what live blocks pin, from which on a verdict names the owner that pins most.
pub const PIN_SHARE: f64 = 0.1;
/// Live data from which on a lone snapshot names the look that tells whether it grows.
pub const LARGE_LIVE: u64 = 64 << 20;

/// Growth, of what was in use before, that is worth a suspicion.
pub const GROWTH_SHARE: f64 = 0.25;
/// The points of a run's time between which what is in use must have risen for good.
pub const CHECKPOINTS: [f64; 4] = [0.25, 0.5, 0.75, 0.95];
/// Of the rise that its time would give it, what each stretch between two points must have.
pub const STRETCH_SHARE: f64 = 0.25;
/// The same for the last stretch: the rise goes on to the end.
pub const LAST_STRETCH_SHARE: f64 = 0.5;
/// Samples that a run must have, at least one of them in each stretch and one after the last.
pub const LEAST_SAMPLES: usize = 8;

/// Of the space that is free at the end, what a program must fill for the space to count as used.
pub const FILLED_SHARE: f64 = 0.8;
/// Of the same, below which the space counts as free again.
pub const EMPTIED_SHARE: f64 = 0.5;
/// How often the space must have been filled to count as used again.
pub const LEAST_FILLINGS: usize = 2;

/// Of what live data grew by between two looks, what came out of free space if that is used again.
pub const REUSED_SHARE: f64 = 0.5;

/// A remedy that brings back less is not named.
pub const LEAST_REMEDY: u64 = 1 << 20;
/// Changes of structure that are named at most.
pub const MOST_SAVINGS: usize = 3;
/// A free chunk of the main arena of this size tells that large requests are served from the heap.
pub const LARGE_CHUNK: u64 = 1 << 20;
/// Free bytes in thread arenas, of all arenas' free bytes, above which fewer arenas are advised.
pub const THREAD_ARENAS_SHARE: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_verdicts_has_every_threshold_with_its_value() {
        let bytes = |n: u64| format!("{} MiB", n >> 20);
        let percent = |x: f64| format!("{}%", x * 100.0);
        let table = [
            ("LEAST_BYTES", bytes(LEAST_BYTES)),
            ("FREE_SHARE", percent(FREE_SHARE)),
            ("NATIVE_SHARE", percent(NATIVE_SHARE)),
            ("SLACK_SHARE", percent(SLACK_SHARE)),
            ("PIN_SHARE", percent(PIN_SHARE)),
            ("LARGE_LIVE", bytes(LARGE_LIVE)),
            ("GROWTH_SHARE", percent(GROWTH_SHARE)),
            ("CHECKPOINTS", CHECKPOINTS.map(percent).join(", ")),
            ("STRETCH_SHARE", percent(STRETCH_SHARE)),
            ("LAST_STRETCH_SHARE", percent(LAST_STRETCH_SHARE)),
            ("LEAST_SAMPLES", LEAST_SAMPLES.to_string()),
            ("FILLED_SHARE", percent(FILLED_SHARE)),
            ("EMPTIED_SHARE", percent(EMPTIED_SHARE)),
            ("LEAST_FILLINGS", LEAST_FILLINGS.to_string()),
            ("REUSED_SHARE", percent(REUSED_SHARE)),
            ("LEAST_REMEDY", bytes(LEAST_REMEDY)),
            ("MOST_SAVINGS", MOST_SAVINGS.to_string()),
            ("LARGE_CHUNK", bytes(LARGE_CHUNK)),
            ("THREAD_ARENAS_SHARE", percent(THREAD_ARENAS_SHARE)),
        ];
        let page = include_str!("../../../docs/verdicts.md");
        for (name, value) in &table {
            let row = format!("| `{name}` | {value} |");
            assert!(page.contains(&row), "docs/verdicts.md lacks: {row}");
        }
        let source = include_str!("thresholds.rs");
        let constants = source.lines().filter_map(|l| l.strip_prefix("pub const "));
        assert_eq!(constants.count(), table.len(), "a threshold is not in this test's table");
    }
}
