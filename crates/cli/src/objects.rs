//! What is wanted of a process's objects: the options of several verbs, checked.
//!
//! Owns these options and their words. Looking at objects is the walk crate's.

use std::time::Duration;

use clap::Args as ClapArgs;

/// Blocks that may be asked for at once: each is a row of the output.
const MOST_BLOCKS: u64 = 100_000;
/// No process has an address from here on (five levels of page tables).
const BEYOND: u64 = 1 << 56;

/// What is to be found out about objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    /// Whether they are looked at at all.
    pub(crate) wanted: bool,
    /// A map of the heaps is wanted, with them or without.
    pub(crate) map: bool,
    /// Contents of duplicated strings may be shown.
    pub(crate) show_values: bool,
    /// So many random live blocks are listed.
    pub(crate) blocks: usize,
    /// The blocks at these addresses are listed.
    pub(crate) at: Vec<u64>,
    /// No look at them goes on longer: a program waits for it.
    pub(crate) within: Option<Duration>,
}

impl Objects {
    /// The account alone.
    pub(crate) fn none() -> Self {
        Objects::default()
    }
}

/// The option of every verb that looks at objects.
#[derive(Debug, ClapArgs)]
pub(crate) struct NoObjects {
    /// Account for the memory only; do not find out which objects hold it. Faster.
    #[arg(long)]
    no_objects: bool,
}

impl NoObjects {
    /// What is wanted where nothing else is asked for.
    pub(crate) fn objects(&self) -> Objects {
        Objects { wanted: !self.no_objects, ..Objects::default() }
    }
}

/// The options of a verb that shows a snapshot.
#[derive(Debug, ClapArgs)]
pub(crate) struct Shown {
    #[command(flatten)]
    looked_at: NoObjects,
    /// Show the contents of strings that are stored many times.
    ///
    /// Off by default, for a report is passed on more easily than a process's memory: strings may be
    /// passwords, tokens, or what users wrote. A .pdsnap file never has them.
    #[arg(long, conflicts_with = "no_objects")]
    show_values: bool,
}

impl Shown {
    pub(crate) fn objects(&self) -> Objects {
        Objects { show_values: self.show_values, ..self.looked_at.objects() }
    }
}

/// The options that let the findings be checked from outside, block by block.
#[derive(Debug, ClapArgs)]
pub(crate) struct Checked {
    /// List N random live blocks too, with what each was taken for, so that we can be checked. With --json.
    #[arg(
        long,
        value_name = "N",
        hide_short_help = true,
        requires = "json",
        conflicts_with_all = ["no_objects", "tree"],
        value_parser = clap::value_parser!(u64).range(1..=MOST_BLOCKS)
    )]
    blocks: Option<u64>,
    /// List the blocks at these addresses too, as --blocks does. With --json.
    #[arg(
        long,
        value_name = "ADDRESS,…",
        hide_short_help = true,
        requires = "json",
        conflicts_with_all = ["no_objects", "tree"],
        value_delimiter = ',',
        value_parser = address
    )]
    at: Vec<u64>,
}

impl Checked {
    /// Adds what is to be listed.
    pub(crate) fn of(&self, objects: Objects) -> Objects {
        let blocks = self.blocks.unwrap_or(0) as usize;
        Objects { blocks, at: self.at.clone(), ..objects }
    }
}

/// An address as in `0x7f3a12c04010`, or in decimal.
fn address(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // A sign is no digit, though it would be parsed.
    let plain = digits.chars().all(|c| c.is_digit(radix));
    match u64::from_str_radix(digits, radix) {
        Ok(address) if plain && (1..BEYOND).contains(&address) => Ok(address),
        Ok(_) if plain => Err("no process has anything at that address".into()),
        _ => Err("an address is a number, hexadecimal with 0x, as in 0x7f3a12c04010".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn parse(line: &str) -> Result<Objects, String> {
        let words = ["pydefrag"].into_iter().chain(line.split(' '));
        match Args::try_parse_from(words).map_err(|e| e.to_string())?.command {
            Command::Snapshot(s) => Ok(s.objects()),
            Command::Run(r) => Ok(r.shown.objects()),
            Command::Diff(d) => Ok(d.looked_at.objects()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn objects_are_wanted_unless_they_are_not() {
        let all = Objects { wanted: true, ..Objects::none() };
        for line in ["snapshot 7", "run app.py --no-objects", "diff a.pdsnap 7"] {
            assert_eq!(parse(line), Ok(all.clone()), "{line}");
        }
        for line in
            ["snapshot 7 --no-objects", "run --no-objects app.py", "diff --no-objects a.pdsnap 7"]
        {
            assert_eq!(parse(line), Ok(Objects::none()), "{line}");
        }
        let shown = Objects { show_values: true, ..all };
        assert_eq!(parse("snapshot 7 --show-values"), Ok(shown.clone()));
        assert_eq!(parse("run --show-values app.py"), Ok(shown));
        let listed =
            parse("snapshot 7 --json --blocks 9 --at 0x7f3a12c04010,4096 --at 0X10").unwrap();
        assert_eq!((listed.blocks, &listed.at[..]), (9, &[0x7f3a_12c0_4010, 4096, 16][..]));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (line, said) in [
            ("snapshot 7 --blocks 9", "--json"),
            ("snapshot 7 --at 0x10", "--json"),
            ("snapshot 7 --json --blocks 0", "1..=100000"),
            ("snapshot 7 --json --blocks x", "invalid"),
            ("snapshot 7 --json --no-objects --blocks 9", "--no-objects"),
            ("snapshot 7 --json --tree --blocks 9", "--tree"),
            ("snapshot 7 --tree --show-values", "--tree"),
            ("snapshot 7 --no-objects --show-values", "--no-objects"),
            ("snapshot 7 --json --at 0", "no process"),
            ("snapshot 7 --json --at 0xffffffffffffffff", "no process"),
            ("snapshot 7 --json --at 0x10,,0x20", "as in 0x7f"),
            ("snapshot 7 --json --at 7f3a12c04010", "as in 0x7f"),
            ("snapshot 7 --json --at +16", "as in 0x7f"),
            ("diff a.pdsnap 7 --show-values", "--show-values"),
        ] {
            let refused = parse(line).expect_err(line);
            assert!(refused.contains(said), "{line}: {refused}");
        }
    }
}
