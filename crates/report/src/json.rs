//! The report of one snapshot for a program.
//!
//! Owns nothing of the schema: that is [`pydefrag_heap::Snapshot`], described by `docs/json.md`
//! and held by the tests here.

use std::io::{self, Write};

use pydefrag_heap::Snapshot;
use serde_json::ser::Formatter;

/// The snapshot as indented JSON and a newline. Sizes are bytes.
pub fn render(snapshot: &Snapshot) -> String {
    pretty(snapshot)
}

/// Any of this crate's plain data as indented JSON and a newline.
pub(crate) fn pretty(value: &impl serde::Serialize) -> String {
    // Fails only for maps whose keys are not strings, and no type here has a map.
    serde_json::to_string_pretty(value).expect("plain data is JSON") + "\n"
}

/// The same, with each element of a list on one line: for lists of hundreds of thousands.
pub(crate) fn lined(value: &impl serde::Serialize) -> String {
    let mut out = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut out, Lined::default());
    // Fails only for maps whose keys are not strings, and no type here has a map.
    value.serialize(&mut writer).expect("plain data is JSON");
    out.push(b'\n');
    // The writer writes text alone.
    String::from_utf8_lossy(&out).into_owned()
}

/// Begins a line for each field at the top, and for each element of a list there.
#[derive(Default)]
struct Lined {
    depth: usize,
    /// Whether the list or object that is being written has anything.
    any: bool,
}

impl Lined {
    /// Deeper than this nothing begins a line.
    const DEEPEST: usize = 2;

    fn open(&mut self, out: &mut (impl Write + ?Sized), bracket: u8) -> io::Result<()> {
        self.depth += 1;
        self.any = false;
        out.write_all(&[bracket])
    }

    fn close(&mut self, out: &mut (impl Write + ?Sized), bracket: u8) -> io::Result<()> {
        self.depth -= 1;
        if self.any && self.depth < Self::DEEPEST {
            self.line(out, self.depth)?;
        }
        self.any = true;
        out.write_all(&[bracket])
    }

    fn begin(&mut self, out: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        match self.depth {
            0..=Self::DEEPEST => self.line(out, self.depth),
            _ if first => Ok(()),
            _ => out.write_all(b" "),
        }
    }

    fn line(&self, out: &mut (impl Write + ?Sized), depth: usize) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..depth).try_for_each(|_| out.write_all(b"  "))
    }
}

impl Formatter for Lined {
    fn begin_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b'[')
    }

    fn end_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b']')
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin(out, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.any = true;
        Ok(())
    }

    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b'{')
    }

    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b'}')
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin(out, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.any = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{diff, heal, ps, recording, sample, tree};

    /// Collects the path of every field: the names of the objects it is in, and its own.
    fn paths(value: &serde_json::Value, path: &[&str], into: &mut BTreeSet<Vec<String>>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    let path = [path, &[name]].concat();
                    into.insert(path.iter().map(|p| (*p).to_owned()).collect());
                    paths(value, &path, into);
                }
            }
            serde_json::Value::Array(all) => all.iter().for_each(|v| paths(v, path, into)),
            _ => {}
        }
    }

    /// What stands below a heading, up to the next one that is not below it.
    fn below<'a>(page: &'a str, heading: &str) -> Option<&'a str> {
        let level = heading.split(' ').next()?;
        let from = page.find(&format!("\n{heading}"))? + 1 + heading.len();
        let ends =
            (2..=level.len()).filter_map(|n| page[from..].find(&format!("\n{} ", "#".repeat(n))));
        Some(&page[from..][..ends.min().unwrap_or(page.len() - from)])
    }

    #[test]
    fn the_schema_is_held() {
        insta::assert_snapshot!("json-full", render(&sample::full_explained()));
        insta::assert_snapshot!("json-partial", render(&sample::partial()));
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        for (name, s) in sample::all() {
            // Not its fractions: serde_json's reader may miss their last bit.
            let whole = |mut s: Snapshot| {
                s.fragmentation = None;
                s.pymalloc.iter_mut().for_each(|p| p.fit.clear());
                s
            };
            let back: Snapshot = serde_json::from_str(&render(&s)).expect(name);
            assert_eq!(whole(back), whole(s), "{name}");
        }
    }

    #[test]
    fn the_owners_sum_to_rss() {
        for s in [sample::full(), sample::partial(), sample::usual()] {
            let json: serde_json::Value = serde_json::from_str(&render(&s)).unwrap();
            let owners = json["owners"].as_array().unwrap();
            let sum: u64 = owners.iter().map(|o| o["resident"].as_u64().unwrap()).sum();
            let rss = json["memory"]["rss"].as_u64().unwrap();
            assert_eq!(sum + json["unattributed"].as_u64().unwrap(), rss);
        }
    }

    #[test]
    fn what_holds_the_memory_stands_beside_the_rest_or_is_missing() {
        let keys = ["objects", "pins", "slack", "savings", "duplicates", "garbage"];
        let json = |s: &Snapshot| serde_json::from_str::<serde_json::Value>(&render(s)).unwrap();
        let (with, without) = (json(&sample::explained()), json(&sample::usual()));
        assert!(keys.iter().all(|k| with.get(k).is_some() && without.get(k).is_none()));
        assert!(with.get("explanation").is_none());
        let first = &with["pins"]["by_owner"][0];
        assert_eq!((&first["root"], &first["count"]), (&"module".into(), &41_200.into()));
        // A content is there only with --show-values.
        let shown = |s: &Snapshot| render(s).contains("\"example\"");
        assert!(shown(&sample::explained()) && !shown(&sample::explained_usually()));
    }

    /// A field at the top has a row in its page's own section; one in an object is named in the section of
    /// the field at the top that it belongs to.
    #[test]
    fn every_field_is_documented() {
        let documented = include_str!("../../../docs/json.md");
        for (json, section) in [
            (render(&sample::full_explained()), "## A snapshot"),
            (render(&sample::partial()), "## A snapshot"),
            (ps::render_json(&sample::processes()), "## Processes"),
            (diff::render_json(&sample::differences()[0].1), "## Two looks"),
            (diff::render_json(&sample::explained_difference()), "## Two looks"),
            (tree::render_json(&sample::tree(1)), "## A tree"),
            (heal::render_json(&sample::heals()[0].1), "## A heal"),
            (recording::render_json(&sample::sampled_recording()), "## A recording"),
        ] {
            let mut fields = BTreeSet::new();
            paths(&serde_json::from_str(&json).unwrap(), &[], &mut fields);
            assert!(fields.len() > 8, "{section}");
            let page = below(documented, section).expect(section);
            for path in fields {
                let (top, name) = (&path[0], &path[path.len() - 1]);
                // What others hold of snapshots, their processes and verdicts is described there.
                let elsewhere = match &path[1..] {
                    [snapshot, _, ..] if top == "members" => snapshot == "snapshot",
                    [_, ..] => top == "verdict" || top == "process",
                    [] => false,
                };
                if elsewhere && section != "## A snapshot" {
                    continue;
                }
                let heading = ["", "[]"].map(|many| format!("### `{top}{many}`\n"));
                let own = heading.iter().find_map(|h| below(page, h));
                let place = own.filter(|_| path.len() > 1).unwrap_or(page);
                let row = path.len() == 1 && section == "## A snapshot";
                let wanted = if row { format!("| `{name}` |") } else { format!("`{name}`") };
                let lacks = path.join(".");
                assert!(place.contains(&wanted), "docs/json.md lacks {lacks} in {section}");
            }
        }
    }
}
