//! The trace of a process that ran tests: what is in it, and whether it is what it should be.

use std::path::Path;

use pydefrag_trace::Trace;
use pydefrag_trace::chunk::End;

use super::kind::Recorded;

/// What a trace has shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) recorded: Recorded,
    /// What is wrong with it, in brackets, as what no test's name stands for.
    pub(super) wrong: Vec<String>,
    /// What the recorder says that a reader should know.
    pub(super) notes: Vec<String>,
}

/// Reads a trace whole. One of a process that was killed may lack its end.
pub(super) fn look(path: &Path, was_killed: bool) -> Seen {
    let mut seen = Seen::default();
    let trace = match Trace::open(path) {
        Ok(trace) => trace,
        Err(error) => {
            seen.wrong.push(format!("(no trace: {error})"));
            return seen;
        }
    };
    seen.recorded.trace_bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    let mut events = trace.events();
    events.each(&|_, _| (), &mut |_, _| seen.recorded.events += 1);
    let damage = trace.damage.iter().chain(events.damage());
    if !was_killed {
        seen.wrong.extend(damage.map(|what| format!("(a damaged trace: {what})")));
    }
    match &trace.end {
        Some(end) => seen.end(end),
        None if was_killed => {}
        None => seen.wrong.push("(the trace has no end)".into()),
    }
    seen
}

impl Seen {
    fn end(&mut self, end: &End) {
        let End { why, wrong_stacks, checked_stacks, notes } = end;
        if let Some(why) = why {
            self.wrong.push(format!("(recorded no further: {why})"));
        }
        self.recorded.checked_stacks = checked_stacks.unwrap_or(0);
        self.recorded.wrong_stacks = wrong_stacks.unwrap_or(0);
        if self.recorded.wrong_stacks > 0 {
            self.wrong.push(format!("({} wrong stacks)", self.recorded.wrong_stacks));
        }
        self.notes.clone_from(notes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pydefrag_trace::Model;
    use pydefrag_trace::chunk::{Begin, Chunk, Codec, Tag, file_head};
    use pydefrag_trace::encode::{self, ROOM};
    use pydefrag_trace::event::{Domain, NO_STACK};

    use super::*;

    fn chunk(tag: Tag, plain: &[u8]) -> Vec<u8> {
        let length = plain.len() as u32;
        let codec = Codec::Plain;
        let chunk = Chunk { tag, lane: 0, codec, stored: length, plain: length, number: 0, ns: 0 };
        [&chunk.head(plain), plain].concat()
    }

    /// A trace of one allocation.
    fn trace(end: Option<&End>) -> Vec<u8> {
        let mut room = [0; ROOM];
        let length =
            encode::alloc(&mut Model::new(), &mut room, 0x1000, 16, NO_STACK, Domain::Python);
        let begin = serde_json::to_vec(&Begin::default()).expect("JSON");
        let end = end.map(|end| serde_json::to_vec(end).expect("JSON"));
        let chunks = [chunk(Tag::Head, &begin), chunk(Tag::Events, &room[..length])];
        [&file_head()[..], &chunks.concat(), &end.map_or(Vec::new(), |e| chunk(Tag::End, &e))]
            .concat()
    }

    fn look_at(bytes: &[u8], was_killed: bool) -> Seen {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.pdtrace.part");
        fs::write(&path, bytes).expect("written");
        look(&path, was_killed)
    }

    #[test]
    fn a_whole_trace_is_counted() {
        let end = End { checked_stacks: Some(1), wrong_stacks: Some(0), ..End::default() };
        let bytes = trace(Some(&end));
        let trace_bytes = bytes.len() as u64;
        let recorded = Recorded { events: 1, checked_stacks: 1, wrong_stacks: 0, trace_bytes };
        assert_eq!(look_at(&bytes, false), Seen { recorded, ..Seen::default() });
    }

    #[test]
    fn what_is_wrong_is_told() {
        let end = End { why: Some("no room".into()), wrong_stacks: Some(3), ..End::default() };
        let seen = look_at(&trace(Some(&end)), false);
        assert_eq!(seen.wrong, ["(recorded no further: no room)", "(3 wrong stacks)"]);
        assert_eq!(look_at(&trace(None), false).wrong, ["(the trace has no end)"]);
        assert_eq!(look_at(&trace(None), true).wrong, [""; 0]);
        assert!(look_at(b"", false).wrong[0].starts_with("(no trace: "));
        let mut bytes = trace(Some(&End::default()));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(look_at(&bytes, false).wrong[0].starts_with("(a damaged trace: "));
        assert!(look(Path::new("/nowhere"), false).wrong[0].starts_with("(no trace: "));
    }
}
