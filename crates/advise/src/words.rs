//! Numbers in sentences.
//!
//! Owns rounding: MiB with one decimal, whole percents.

/// MiB with one decimal, without the unit.
pub(crate) fn number(bytes: u64) -> String {
    let mib = bytes as f64 / (1u64 << 20) as f64;
    if bytes > 0 && mib < 0.05 { "<0.1".into() } else { format!("{mib:.1}") }
}

/// MiB with one decimal.
pub(crate) fn mib(bytes: u64) -> String {
    number(bytes) + " MiB"
}

/// `part` of `whole` in whole percents; what is not nothing does not read as nothing.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let percent = 100.0 * share(part, whole);
    if part > 0 && percent < 0.5 { "<1%".into() } else { format!("{percent:.0}%") }
}

/// `part` of `whole`; 0 where there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `once`, `twice`, `3 times`.
pub(crate) fn times(n: usize) -> String {
    match n {
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{n} times"),
    }
}
