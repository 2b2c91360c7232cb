//! Units and conditions as they are typed: how long, how often, and when.

use std::time::Duration;

use clap::ValueEnum;
use pydefrag_heap::HealLevel;

/// `--level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Give back malloc's free OS pages.
    Trim,
    /// The same, and what is free in pymalloc.
    Purge,
}

impl Level {
    pub(crate) fn healed(self) -> HealLevel {
        match self {
            Level::Trim => HealLevel::Trim,
            Level::Purge => HealLevel::Purge,
        }
    }
}

/// `run --fix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fixing {
    /// Give back malloc's free OS pages, when --every or --when says.
    Trim,
    /// The same, and what is free in pymalloc, when --every or --when says.
    Purge,
    /// When it pays: the agent decides.
    Auto,
}

/// A duration as in `30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = "a duration is a number and ms, s, min or h, as in 30s";
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| wrong)?;
    let unit = match text[end..].trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong.into()),
    };
    let seconds = number * unit;
    if !(0.1..=86_400.0).contains(&seconds) {
        return Err("it is between 100ms and 24h, as in 30s".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// The longest time that the GIL is held: milliseconds, as in `5`.
pub(crate) fn slice(text: &str) -> Result<Duration, String> {
    let number = text.trim().trim_end_matches("ms").trim_end();
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    match number.parse::<f64>() {
        Ok(n) if plain && (0.1..=1000.0).contains(&n) => Ok(Duration::from_secs_f64(n / 1e3)),
        Ok(0.0) => Err("in 0 ms nothing can be done; it is between 0.1 and 1000, as in 5".into()),
        _ => Err("a slice is a number of milliseconds between 0.1 and 1000, as in 5".into()),
    }
}

/// Seconds between two limits.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    seconds(text, 1.0..=3600.0)
}

/// Seconds to wait after a heal.
pub(crate) fn settle(text: &str) -> Result<Duration, String> {
    seconds(text, 0.0..=3600.0)
}

fn seconds(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<Duration, String> {
    let number = text.trim().trim_end_matches('s').trim_end();
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    match number.parse::<f64>() {
        Ok(n) if plain && range.contains(&n) => Ok(Duration::from_secs_f64(n)),
        _ => Err(format!("it is a number of seconds from {} to {}", range.start(), range.end())),
    }
}

/// `--when`: fragmentation above a share, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct When(f64);

impl When {
    /// Whether so many bytes free of so many resident ones fulfil it.
    pub(crate) fn holds(self, free: u64, resident: u64) -> bool {
        resident > 0 && 100.0 * free as f64 / resident as f64 > self.0
    }
}

/// A condition as in `fragmentation>30%`.
pub(crate) fn when(text: &str) -> Result<When, String> {
    let wrong =
        "a condition is fragmentation>N%, as in 'fragmentation>30%' (quoted, for > is the shell's)";
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let number = plain.strip_prefix("fragmentation>").ok_or(wrong)?;
    let number = number.strip_suffix('%').unwrap_or(number);
    crate::run::guard::percent(number).map(When).map_err(|_| wrong.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_or_refused_with_an_example() {
        for (text, ms) in [("30s", 30_000), ("500ms", 500), ("1.5 min", 90_000), ("2h", 7_200_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "30", "30 apples", "0s", "-1s", "1e3s", "25h", "nan", "inf s"] {
            assert!(duration(text).is_err_and(|e| e.contains("30s")), "{text}");
        }
        assert_eq!(slice("5"), Ok(Duration::from_millis(5)));
        assert_eq!(slice("2.5ms"), Ok(Duration::from_micros(2500)));
        for text in ["0", "0.0", "", "-5", "5s", "5000", "nan", "five"] {
            assert!(slice(text).is_err_and(|e| e.contains("as in 5")), "{text}");
        }
        assert_eq!((timeout("60"), settle("0")), (Ok(Duration::from_secs(60)), Ok(Duration::ZERO)));
        assert!(timeout("0").is_err() && settle("-1").is_err() && timeout("1h").is_err());
    }

    #[test]
    fn a_condition_compares_shares() {
        let at = when(" fragmentation > 30% ").unwrap();
        assert!(at.holds(31, 100) && !at.holds(30, 100) && !at.holds(0, 0));
        assert_eq!(when("fragmentation>30"), when("fragmentation>30%"));
        for text in
            ["", "30%", "rss>30%", "fragmentation<30%", "fragmentation>130%", "fragmentation>"]
        {
            assert!(when(text).is_err_and(|e| e.contains("30%")), "{text}");
        }
    }
}
