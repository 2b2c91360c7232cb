//! Numbers in sentences.
//!
//! Owns rounding: MiB with one decimal, whole percents; and how much of a name a sentence has room for.

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

/// `41,200`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let apart = |(i, digit): (usize, char)| {
        let comma = (i > 0 && (digits.len() - i).is_multiple_of(3)).then_some(',');
        comma.into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(apart).collect()
}

/// A name that a process chose: its beginning and its end, where it is long.
pub(crate) fn short(name: &str) -> String {
    const MOST: usize = 48;
    const END: usize = 18;
    // A name may be without end: no more of it is looked at than is kept.
    if name.chars().nth(MOST).is_none() {
        return name.to_owned();
    }
    let end = name.char_indices().rev().nth(END - 1).map_or(0, |(at, _)| at);
    name.chars().take(MOST - END - 1).chain(['…']).chain(name[end..].chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart_and_names_are_short() {
        assert_eq!([7, 999, 41_200, 1_000_000].map(grouped), ["7", "999", "41,200", "1,000,000"]);
        let name = "x".repeat(40);
        assert_eq!(short(&name), name);
        let long = "app.cache.".to_owned() + &"é".repeat(1 << 20) + " -> .token[str]";
        assert_eq!(short(&long).chars().count(), 48);
        assert!(
            short(&long).starts_with("app.cache.é") && short(&long).ends_with("é -> .token[str]")
        );
    }
}
