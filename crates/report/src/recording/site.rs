//! Where something was allocated, as text: a function, its file and a line; and amounts by such places.
//!
//! Owns how a path is shortened. Its end says most: packages keep the path below `site-packages`, the standard library
//! that below `lib/python3.x`, others lose leading folders only where the room is short.

use std::collections::HashMap;

use pydefrag_heap::{Call, Function, Recording, Tally};
use unicode_width::UnicodeWidthStr;

use crate::Style;
use crate::words::{clean, cut, cut_middle};

/// Characters of a name or a path that are looked at: more is never shown.
const MOST: usize = 1000;

/// What stands for a function without a name: whatever is no Python code's.
pub(crate) const NAMELESS: &str = "(outside Python)";

/// A line of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// An index into [`Recording::functions`].
    pub(crate) function: u32,
    /// The line that was running; 0 where it is not known.
    pub(crate) line: u32,
}

impl Place {
    pub(crate) fn of(call: &Call) -> Place {
        Place { function: call.function, line: call.line }
    }

    /// The function, where the recording has it.
    pub(crate) fn function(self, recording: &Recording) -> Option<&Function> {
        recording.functions.get(self.function as usize)
    }

    /// As `name path:line` in at most `room` columns.
    pub(crate) fn text(self, recording: &Recording, room: usize, style: Style) -> String {
        let Some(function) = self.function(recording) else { return cut("?", room, style) };
        let name = match function.name.as_str() {
            "" => NAMELESS.to_owned(),
            name => clean(head(name), style),
        };
        if function.file.is_empty() {
            return cut_middle(&name, room, style);
        }
        let line = if self.line == 0 { function.line } else { self.line };
        let line = if line == 0 { String::new() } else { format!(":{line}") };
        let mut path = shortened(&clean(tail(&function.file), style)).to_owned();
        loop {
            let said = format!("{name} {path}{line}");
            if said.width() <= room {
                return said;
            }
            // One folder less, and a sign that there are more.
            let inner = path.trim_start_matches(style.ellipsis()).trim_start_matches('/');
            let Some((_, rest)) = inner.split_once('/') else { break };
            path = format!("{}/{rest}", style.ellipsis());
        }
        // Both are cut, the name first, as far as the other half leaves it.
        let line = cut(&line, room, style);
        let for_path = room.saturating_sub(name.width() + 1).max(room / 2);
        let path = cut_middle(&path, for_path.saturating_sub(line.len()), style);
        let for_name = room.saturating_sub(path.width() + line.len() + 1);
        let said = format!("{} {path}{line}", cut_middle(&name, for_name, style));
        cut(&said, room, style)
    }
}

/// A beginning of a long text.
fn head(text: &str) -> &str {
    text.char_indices().nth(MOST).map_or(text, |(at, _)| &text[..at])
}

/// The end of a long text.
fn tail(text: &str) -> &str {
    text.char_indices().nth_back(MOST).map_or(text, |(at, _)| &text[at..])
}

/// A path without what every file of its sort has in front.
fn shortened(path: &str) -> &str {
    for folder in ["/site-packages/", "/dist-packages/"] {
        if let Some((_, rest)) = path.rsplit_once(folder) {
            return rest;
        }
    }
    let library = path.rsplit_once("/lib/python3.").and_then(|(_, rest)| rest.split_once('/'));
    library.map_or(path, |(_, rest)| rest)
}

/// What each line of each function allocated itself, wherever it was called from; what native code did that it called is its
/// own too.
pub(super) fn by_place(recording: &Recording) -> Vec<(Place, Tally)> {
    let mut index: HashMap<Place, usize> = HashMap::new();
    let mut sums: Vec<(Place, Tally)> = Vec::new();
    // Of each call: whose line it belongs to. A caller comes first.
    let mut of: Vec<Place> = Vec::with_capacity(recording.calls.len());
    for call in &recording.calls {
        let own = Place::of(call);
        let is_native = own.function(recording).is_some_and(|function| function.native);
        let caller = of.get(call.parent as usize).filter(|_| is_native);
        let place = caller.copied().unwrap_or(own);
        of.push(place);
        let at = *index.entry(place).or_insert_with(|| {
            sums.push((place, Tally::default()));
            sums.len() - 1
        });
        sums[at].1.add(&call.own);
    }
    sums
}

#[cfg(test)]
mod tests {
    use pydefrag_heap::Amount;

    use super::*;
    use crate::sample;

    const RICH: Style = Style { color: false, unicode: true };

    fn text(name: &str, file: &str, line: u32, room: usize) -> String {
        let mut recording = sample::recording();
        recording.functions =
            vec![Function { name: name.into(), file: file.into(), line: 7, native: false }];
        Place { function: 0, line }.text(&recording, room, RICH)
    }

    #[test]
    fn paths_keep_what_tells_files_apart() {
        let deep = "/srv/app/venv/lib/python3.13/site-packages/pandas/core/frame.py";
        assert_eq!(text("f", deep, 12, 60), "f pandas/core/frame.py:12");
        let library = "/usr/lib/python3.13/json/decoder.py";
        assert_eq!(text("Decoder.decode", library, 0, 60), "Decoder.decode json/decoder.py:7");
        assert_eq!(text("f", "/srv/app/handlers/a.py", 1, 60), "f /srv/app/handlers/a.py:1");
        assert_eq!(text("f", "/srv/app/handlers/a.py", 1, 20), "f …/handlers/a.py:1");
        assert_eq!(text("f", "/srv/app/handlers/a.py", 1, 11), "f …/a.py:1");
        assert_eq!(text("malloc of libfoo", "", 0, 60), "malloc of libfoo");
    }

    #[test]
    fn what_native_code_did_is_the_python_lines() {
        let function = |native| Function { name: "f".into(), native, ..Function::default() };
        let mut recording = sample::recording();
        recording.functions = [false, false, true, true].map(function).into();
        let call = |parent, function, bytes| Call {
            parent,
            function,
            line: function + 10,
            own: Tally { peak: Amount { count: 1, bytes }, ..Tally::default() },
        };
        recording.calls =
            vec![call(0, 0, 0), call(0, 1, 1), call(1, 2, 20), call(2, 3, 300), call(0, 3, 4000)];
        let told: Vec<_> = by_place(&recording)
            .into_iter()
            .map(|(place, sum)| (place.function, place.line, sum.peak.bytes))
            .collect();
        assert_eq!(told, [(0, 10, 4000), (1, 11, 321)]);
    }

    #[test]
    fn no_name_is_wider_than_its_room() {
        let long = "数".repeat(1 << 20);
        let names = ["", "f", "\x1b[2J\n", "a\u{202e}b", &long];
        let files = ["", "/", "//", "a", "/a/b/c", "<string>", "\0", &long];
        for room in 0..40 {
            for name in names {
                for file in files {
                    let said = text(name, file, u32::MAX, room);
                    assert!(said.width() <= room, "{said:?} at {room}");
                }
            }
        }
        assert_eq!(Place { function: 9999, line: 0 }.text(&sample::recording(), 9, RICH), "?");
    }
}
