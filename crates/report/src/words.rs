//! Text from outside made fit for a terminal: escaping, cutting, wrapping, by display width.
//!
//! Owns what may pass to the terminal. A process chooses its argv and its file names, and could
//! otherwise move the cursor, forge lines or reverse the reading order.

use unicode_width::UnicodeWidthStr;

use crate::Style;

/// Escapes everything that would not show as itself: control characters, line and paragraph
/// separators, direction marks and other invisible characters; without unicode, all but ASCII.
pub(crate) fn clean(text: &str, style: Style) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            c if c.is_ascii_control() => out += &format!("\\x{:02x}", c as u32),
            c if c.is_control() || is_invisible(c) || (!style.unicode && !c.is_ascii()) => {
                out += &c.escape_unicode().to_string();
            }
            c => out.push(c),
        }
    }
    out
}

/// Format characters that take no room yet change how their neighbours read.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text if it fits into `width` columns, else its beginning and an ellipsis.
pub(crate) fn cut(text: &str, width: usize, style: Style) -> String {
    let head = prefix(text, width);
    if head.len() == text.len() {
        return text.to_string();
    }
    match width {
        0 => String::new(),
        _ => prefix(text, width - 1).to_string() + style.ellipsis(),
    }
}

/// What stands between two links of a chain of owners.
const LINK: &str = " -> ";

/// The text if it fits into `width` columns, else its beginning and its end with an ellipsis between.
/// Of a chain of owners whole links go first, for where it begins and ends says most.
pub(crate) fn cut_middle(text: &str, width: usize, style: Style) -> String {
    if prefix(text, width).len() == text.len() {
        return text.to_string();
    }
    if let (Some((first, _)), Some((_, last))) = (text.split_once(LINK), text.rsplit_once(LINK)) {
        let gap = format!("{LINK}{}{LINK}", style.ellipsis());
        let joined = |first: &str, last: &str| format!("{first}{gap}{last}");
        // Each link is met once, and a chain may be long: only as many as could fit are tried.
        let heads = || text.match_indices(LINK).map(|(at, _)| &text[..at]).take(width);
        let tails =
            || text.rmatch_indices(LINK).map(|(at, _)| &text[at + LINK.len()..]).take(width);
        let fits = |said: &String| prefix(said, width).len() == said.len();
        if first.len() + last.len() < 4 * width && fits(&joined(first, last)) {
            let head = heads().take_while(|h| fits(&joined(h, last))).last().unwrap_or(first);
            let tail = tails().take_while(|t| fits(&joined(head, t))).last().unwrap_or(last);
            return joined(head, tail);
        }
    }
    let room = width.saturating_sub(1);
    for tail in (0..=room / 2).rev() {
        let head = prefix(text, room - tail);
        let said = format!("{head}{}{}", style.ellipsis(), suffix(text, tail));
        // A mark that joins its left neighbour may make the whole wider than its parts.
        if said.width() <= width {
            return said;
        }
    }
    cut(text, width, style)
}

/// The longest end of `text` that takes no more than `width` columns.
fn suffix(text: &str, width: usize) -> &str {
    let mut start = text.len();
    for (i, _) in text.char_indices().rev().take(4 * width) {
        if text[i..].width() > width {
            break;
        }
        start = i;
    }
    &text[start..]
}

/// The longest beginning of `text` that takes no more than `width` columns.
fn prefix(text: &str, width: usize) -> &str {
    let mut end = 0;
    // Marks that take no room could make a prefix endless: it is bounded in characters too.
    for (i, c) in text.char_indices().take(4 * width) {
        let next = i + c.len_utf8();
        if text[..next].width() > width {
            break;
        }
        end = next;
    }
    &text[..end]
}

/// Fills `text` with blanks to `width` columns: before it if `right`, else behind it.
pub(crate) fn pad(text: &str, width: usize, right: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    if right { blanks + text } else { text.to_string() + &blanks }
}

/// Breaks `text` at blanks into lines of at most `width` columns. Of what needs more than `most`
/// lines the rest is cut, with an ellipsis.
pub(crate) fn wrap(text: &str, width: usize, most: usize, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if lines.len() + 1 == most {
            lines.push(cut(rest, width, style));
            break;
        }
        let head = prefix(rest, width);
        if head.len() == rest.len() {
            lines.push(rest.to_string());
            break;
        }
        // A word wider than the line is broken; a character wider than it is passed over.
        let at = (1..=head.len())
            .rev()
            .find(|&at| rest.is_char_boundary(at) && breaks(&rest[at..]))
            .unwrap_or_else(|| head.len().max(rest.chars().next().map_or(0, char::len_utf8)));
        lines.push(rest[..at].trim_end().to_string());
        rest = rest[at..].trim_start();
    }
    lines
}

/// Whether a line may end before `rest`: at a blank, but a unit stays with its number.
fn breaks(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix(' ') else { return false };
    let word = rest.split([' ', ',', ':', ';']).next().unwrap_or_default();
    !matches!(word, "KiB" | "MiB" | "GiB" | "TiB" | "PiB" | "EiB" | "B" | "s" | "min")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RICH: Style = Style { color: false, unicode: true };
    const ASCII: Style = Style { color: false, unicode: false };

    #[test]
    fn what_would_act_on_a_terminal_is_escaped() {
        let evil = "a\x1b[31m\nb\r\tc\u{9b}2J\x7f\u{202e}d\u{200b}\0";
        assert_eq!(clean(evil, RICH), r"a\x1b[31m\nb\r\tc\u{9b}2J\x7f\u{202e}d\u{200b}\x00");
        assert_eq!(clean("naïve 数据", RICH), "naïve 数据");
        assert_eq!(clean("naïve", ASCII), r"na\u{ef}ve");
    }

    #[test]
    fn wide_characters_are_cut_by_the_room_they_take() {
        assert_eq!(cut("数据处理", 8, RICH), "数据处理");
        assert_eq!(cut("数据处理", 7, RICH), "数据处…");
        assert_eq!(cut("数据处理", 6, RICH), "数据…");
        assert_eq!(cut("abc", 0, RICH), "");
        assert_eq!(pad("数据", 6, true), "  数据");
        let marks = "e".to_string() + &"\u{301}".repeat(1 << 20);
        assert!(cut(&marks, 10, RICH).chars().count() <= 40);
    }

    #[test]
    fn a_chain_keeps_its_head_and_its_tail() {
        let chain = "app.cache.SESSIONS[dict] -> Session -> .user[User] -> .name[str]";
        assert_eq!(cut_middle(chain, 64, RICH), chain);
        assert_eq!(
            cut_middle(chain, 60, RICH),
            "app.cache.SESSIONS[dict] -> Session -> … -> .name[str]"
        );
        assert_eq!(cut_middle(chain, 46, RICH), "app.cache.SESSIONS[dict] -> … -> .name[str]");
        assert_eq!(cut_middle(chain, 46, ASCII), "app.cache.SESSIONS[dict] -> ~ -> .name[str]");
        assert_eq!(cut_middle(chain, 21, RICH), "app.cache.….name[str]");
        assert_eq!(cut_middle("abcdefgh", 5, RICH), "ab…gh");
        for text in [
            chain,
            "数据处理 -> 🙂 -> é e\u{301} -> ☎\u{fe0f}☎\u{fe0f} -> ",
            " ->  -> ",
            &"x".repeat(1 << 20),
        ] {
            for width in 0..70 {
                let said = cut_middle(text, width, RICH);
                assert!(said.width() <= width, "{said:?} at {width}");
            }
        }
        let long = "a -> ".repeat(1 << 18) + "b";
        assert_eq!(cut_middle(&long, 12, RICH), "a -> … -> b");
    }

    #[test]
    fn wrapping_keeps_words_and_the_limit() {
        assert_eq!(wrap("one two three", 7, 9, RICH), ["one two", "three"]);
        assert_eq!(wrap("one two three four", 7, 2, RICH), ["one two", "three …"]);
        assert_eq!(wrap("abcdefghij", 4, 9, RICH), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("about 3.0 MiB, so", 9, 9, RICH), ["about", "3.0 MiB,", "so"]);
        assert_eq!(wrap("", 4, 9, RICH), [""; 0]);
        for width in 1..40 {
            for line in wrap("数据 a\u{301}bc 🙂🙂 defghijklm  n", width, 50, RICH) {
                assert!(line.width() <= width.max(2), "{line:?} at {width}");
            }
        }
    }
}
