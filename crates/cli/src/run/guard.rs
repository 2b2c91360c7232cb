//! Limits that a run must keep, and whether it did.
//!
//! Owns what a limit is compared with. Limits are decided on the account at the end only; where there is
//! none, they are not decided, which is said.

use pydefrag_heap::Snapshot;

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("kb", 1000),
    ("mb", 1_000_000),
];
const GB: (&str, u64) = ("gb", 1_000_000_000);

/// A size as in `50MiB`, in bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong =
        || "a size is a number and B, KiB, MiB or GiB (also K, M, G; kB, MB, GB), as in 50MiB";
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| wrong())?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let unit = UNITS.into_iter().chain([GB]).find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
    let bytes = number * unit as f64;
    // Beyond it, a number is not exact, and no memory that large.
    if bytes > (1u64 << 53) as f64 { Err(wrong().into()) } else { Ok(bytes as u64) }
}

/// A share as in `30%`; the sign may be left out.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    match number.parse::<f64>() {
        Ok(n) if plain && text.matches('%').count() < 2 && n <= 100.0 => Ok(n),
        _ => Err("a share is a number from 0 to 100 and %, as in 30%".into()),
    }
}

/// The limits of a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) fragmentation: Option<f64>,
    pub(crate) retained: Option<u64>,
}

/// What comes of them.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Kept,
    /// With a sentence for each.
    Exceeded(Vec<String>),
    /// With the reason.
    Undecided(String),
}

impl Limits {
    /// Compares them with the account at the end; without one, `why` there is none.
    pub(crate) fn check(&self, end: Result<&Snapshot, &str>) -> Outcome {
        if self.fragmentation.is_none() && self.retained.is_none() {
            return Outcome::Kept;
        }
        let undecided =
            |why: &str| Outcome::Undecided(format!("the limits were not checked: {why}"));
        let snapshot = match end {
            Ok(snapshot) => snapshot,
            Err(why) => return undecided(why),
        };
        if snapshot.partial.is_some() || snapshot.fragmentation.is_none() {
            return undecided("no heap in it could be walked");
        }
        let mut exceeded = Vec::new();
        if let (Some(limit), Some(f)) = (self.fragmentation, &snapshot.fragmentation)
            && f.percent > limit
        {
            exceeded.push(format!(
                "fragmentation at the end is {:.1}%, over --max-fragmentation {limit}%",
                f.percent
            ));
        }
        if let Some(limit) = self.retained {
            let retained: u64 =
                snapshot.owners.iter().filter_map(|o| o.account).map(|a| a.free()).sum();
            if retained > limit {
                exceeded.push(format!(
                    "{} are free at the end, yet resident, over --max-retained {}",
                    mib(retained),
                    mib(limit)
                ));
            }
        }
        if exceeded.is_empty() { Outcome::Kept } else { Outcome::Exceeded(exceeded) }
    }
}

/// In MiB, as everywhere; with the bytes where that says too little.
fn mib(bytes: u64) -> String {
    let text = format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64);
    if bytes < 10 << 20 { format!("{text} ({bytes} B)") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_shares_are_read_or_refused() {
        for (text, bytes) in [
            ("50MiB", 50 << 20),
            ("50 mib", 50 << 20),
            ("1.5G", 3 << 29),
            ("10MB", 10_000_000),
            ("1GB", 1_000_000_000),
            ("7", 7),
            ("7B", 7),
            ("2kB", 2000),
            ("2K", 2048),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "MiB", "50MiBs", "50 apples", "-1", "1e9", "nan", "inf", "9999999GiB", "1.2.3M"]
        {
            assert!(size(text).is_err_and(|e| e.contains("MiB")), "{text}");
        }
        assert_eq!(
            (percent("30%"), percent("12.5"), percent("0 %")),
            (Ok(30.0), Ok(12.5), Ok(0.0))
        );
        for text in ["", "%", "30%%", "101%", "-1%", "nan", "30MiB", "1e1"] {
            assert!(percent(text).is_err_and(|e| e.contains("30%")), "{text}");
        }
    }
}
