//! Numbers as text: sizes, percentages, points in time.
//!
//! Owns rounding. Sizes are MiB with one decimal until they get too long to line up, and then the
//! next unit that is short enough.

/// Sizes of this many columns still line up: `99999.9`.
const LONGEST: f64 = 99_999.95;

/// A size below it is told in KiB where many are small.
const FINE: u64 = 1 << 20;
/// A column is, while its largest is below it.
const FINE_COLUMN: u64 = 10 << 20;

/// A unit of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    shift: u32,
    /// Its name.
    pub(crate) name: &'static str,
}

impl Unit {
    /// All of them, smallest first; the last one holds any 64-bit number.
    const ALL: [Unit; 5] = [
        Unit { shift: 20, name: "MiB" },
        Unit { shift: 30, name: "GiB" },
        Unit { shift: 40, name: "TiB" },
        Unit { shift: 50, name: "PiB" },
        Unit { shift: 60, name: "EiB" },
    ];

    /// The last of them.
    pub(crate) const LARGEST: Unit = Self::ALL[4];

    /// For what may be small too: below all of them.
    const SMALL: Unit = Unit { shift: 10, name: "KiB" };

    /// The units in which `largest` lines up, smallest first.
    pub(crate) fn from(largest: u64) -> impl Iterator<Item = Unit> {
        Self::ALL.into_iter().filter(move |u| u.value(largest) < LONGEST)
    }

    /// The unit for amounts of which many are small: KiB, while `largest` is short in it.
    pub(crate) fn fine(largest: u64) -> Unit {
        if largest < FINE_COLUMN {
            return Unit::SMALL;
        }
        Unit::from(largest).next().unwrap_or(Unit::LARGEST)
    }

    fn value(self, bytes: u64) -> f64 {
        bytes as f64 / (1u64 << self.shift) as f64
    }

    /// The number alone, with one decimal.
    pub(crate) fn number(self, bytes: u64) -> String {
        decimal(self.value(bytes))
    }
}

/// One decimal; what is not nothing does not read as nothing.
fn decimal(value: f64) -> String {
    if value > 0.0 && value < 0.05 { "<0.1".into() } else { format!("{value:.1}") }
}

/// A size with its unit.
pub(crate) fn size(bytes: u64) -> String {
    let unit = Unit::from(bytes).next().unwrap_or(Unit::LARGEST);
    format!("{} {}", unit.number(bytes), unit.name)
}

/// A size where many are small: bytes, KiB, and from 1 MiB on as [`size`] says it.
pub(crate) fn fine(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..FINE => format!("{} KiB", Unit::SMALL.number(bytes)),
        _ => size(bytes),
    }
}

/// A length of time: `3.20 s`, `45.1 s`, `20 min 05 s`, `30 h 05 min`.
pub(crate) fn lasting(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    let exact = ns as f64 / 1e9;
    match s {
        0..10 => format!("{exact:.2} s"),
        10..100 => format!("{exact:.1} s"),
        100..6000 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s / 60 % 60),
    }
}

/// `part` of `whole` in percent with one decimal, without the sign; blank where there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 { String::new() } else { percent(100.0 * part as f64 / whole as f64) }
}

/// A percentage with one decimal, without the sign.
pub(crate) fn percent(value: f64) -> String {
    // Only damaged input is outside; it must not widen a column.
    if value.is_finite() { decimal(value.clamp(0.0, 999.9)) } else { "?".into() }
}

/// `1 arena`, `2 arenas`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// A number with its thousands apart, `41,200`; in millions and more once that gets too long to line up.
pub(crate) fn grouped(n: u64) -> String {
    const LARGE: [(u64, &str); 4] = [
        (1_000_000, "M"),
        (1_000_000_000, "G"),
        (1_000_000_000_000, "T"),
        (1_000_000_000_000_000, "P"),
    ];
    if n >= 10_000_000 {
        let fits = LARGE.into_iter().find(|(unit, _)| n / unit < 100_000);
        let (unit, name) = fits.unwrap_or(LARGE[3]);
        return format!("{:.1} {name}", n as f64 / unit as f64);
    }
    let digits = n.to_string();
    let mut said = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            said.push(',');
        }
        said.push(digit);
    }
    said
}

/// Seconds since the Unix epoch as a date and time in UTC; `None` outside the years 1970 to 9999.
pub(crate) fn utc(seconds: f64) -> Option<String> {
    if !(0.0..253_402_300_800.0).contains(&seconds) {
        return None;
    }
    let s = seconds as u64;
    // Days since 0000-03-01, so that a leap day ends its year (Howard Hinnant's civil_from_days).
    let z = s / 86400 + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s) = (s / 3600 % 24, s / 60 % 60, s % 60);
    Some(format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_mib_until_they_get_too_long() {
        assert_eq!(size(0), "0.0 MiB");
        assert_eq!(size(4096), "<0.1 MiB");
        assert_eq!(size(1536 * 1024), "1.5 MiB");
        assert_eq!(size(99_999 << 20), "99999.0 MiB");
        assert_eq!(size(100_000 << 20), "97.7 GiB");
        assert_eq!(size(3 << 40), "3072.0 GiB");
        assert_eq!(size(u64::MAX), "16384.0 PiB");
        for shift in 0..64 {
            assert!(size(u64::MAX >> shift).len() <= 11);
        }
    }

    #[test]
    fn small_sizes_are_told_where_many_are_small() {
        for (bytes, said) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1024.0 KiB"),
            (1 << 20, "1.0 MiB"),
        ] {
            assert_eq!(fine(bytes), said);
        }
        assert_eq!((Unit::fine(5000).name, Unit::fine(10 << 20).name), ("KiB", "MiB"));
        assert_eq!(Unit::fine(u64::MAX).name, "PiB");
    }

    #[test]
    fn times_keep_short() {
        let s = 1_000_000_000;
        assert_eq!([0, s / 100, 12 * s].map(lasting), ["0.00 s", "0.01 s", "12.0 s"]);
        assert_eq!([125 * s, 7325 * s].map(lasting), ["2 min 05 s", "2 h 02 min"]);
        assert!((0..64).all(|shift| lasting(u64::MAX >> shift).len() <= 16));
    }

    #[test]
    fn thousands_stand_apart() {
        for (n, said) in [
            (0, "0"),
            (999, "999"),
            (41_200, "41,200"),
            (9_999_999, "9,999,999"),
            (10_000_000, "10.0 M"),
            (u64::MAX, "18446.7 P"),
        ] {
            assert_eq!(grouped(n), said);
        }
        assert!((0..64).all(|shift| grouped(u64::MAX >> shift).len() <= 9));
    }

    #[test]
    fn odd_percentages_keep_short() {
        assert_eq!(share(1, 0), "");
        assert_eq!(share(1, 3), "33.3");
        assert_eq!(percent(f64::NAN), "?");
        assert_eq!(percent(1e300), "999.9");
        assert_eq!(percent(-1.0), "0.0");
    }

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(utc(0.0).unwrap(), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400.5).unwrap(), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_735_689_599.0).unwrap(), "2024-12-31 23:59:59 UTC");
        assert_eq!(utc(253_402_300_799.0).unwrap(), "9999-12-31 23:59:59 UTC");
        assert_eq!((utc(-1.0), utc(f64::NAN), utc(1e18)), (None, None, None));
    }
}
