//! How failures are told: one sentence, and a `hint:` line with the command that helps.

use std::fmt;
use std::io::Write;

/// A failure with a hint.
#[derive(Debug)]
pub(crate) struct Hinted {
    sentence: String,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Hinted {}

/// An error that says `sentence` and hints at `hint`.
pub(crate) fn hinted(sentence: impl fmt::Display, hint: impl Into<String>) -> anyhow::Error {
    Hinted { sentence: sentence.to_string(), hint: hint.into() }.into()
}

/// Prints a failure on stderr.
pub(crate) fn tell(e: &anyhow::Error) {
    // A cause that its error already tells is not told twice.
    let mut sentence = e.to_string();
    for cause in e.chain().skip(1).map(ToString::to_string) {
        if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    say(&format!("pydefrag: {sentence}"));
    if let Some(h) = e.chain().find_map(|c| c.downcast_ref::<Hinted>()) {
        // A hint of several lines is a list of ways.
        for (i, line) in h.hint.lines().enumerate() {
            say(&format!("{}{line}", if i == 0 { "hint: " } else { "      " }));
        }
    }
}

/// Prints a line on stderr. That nobody reads it (any more) is no failure, as it is for `eprintln!`.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", escaped(line));
}

/// Paths and command lines may hold anything; a terminal shall not obey them.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}
