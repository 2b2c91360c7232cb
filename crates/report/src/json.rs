//! The report of one snapshot for a program.
//!
//! Owns nothing of the schema: that is [`pydefrag_heap::Snapshot`], described by `docs/json.md`
//! and held by the tests here.

use pydefrag_heap::Snapshot;

/// The snapshot as indented JSON and a newline. Sizes are bytes.
pub fn render(snapshot: &Snapshot) -> String {
    pretty(snapshot)
}

/// Any of this crate's plain data as indented JSON and a newline.
pub(crate) fn pretty(value: &impl serde::Serialize) -> String {
    // Fails only for maps whose keys are not strings, and no type here has a map.
    serde_json::to_string_pretty(value).expect("plain data is JSON") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{diff, ps, sample, tree};

    /// Collects the name of every field.
    fn names(value: &serde_json::Value, into: &mut std::collections::BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    into.insert(name.clone());
                    names(value, into);
                }
            }
            serde_json::Value::Array(all) => all.iter().for_each(|v| names(v, into)),
            _ => {}
        }
    }

    #[test]
    fn the_schema_is_held() {
        insta::assert_snapshot!("json-full", render(&sample::full()));
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
    fn every_field_is_documented() {
        let documented = include_str!("../../../docs/json.md");
        let mut fields = std::collections::BTreeSet::new();
        for json in [
            render(&sample::full()),
            render(&sample::partial()),
            ps::render_json(&sample::processes()),
            diff::render_json(&sample::differences()[0].1),
            tree::render_json(&sample::tree(1)),
        ] {
            names(&serde_json::from_str(&json).unwrap(), &mut fields);
        }
        assert!(fields.len() > 80, "{}", fields.len());
        for field in fields {
            assert!(
                documented.contains(&format!("| `{field}` |")),
                "`{field}` is not in docs/json.md"
            );
        }
    }
}
