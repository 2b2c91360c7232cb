//! The page's numbers are the JSON's: sums of tables, accounts and rungs that the map adds up byte by byte, what each
//! owner pins.

use std::collections::BTreeMap;

use pydefrag_harness::browser::{Page, View};
use pydefrag_harness::{Interpreters, Target};
use serde_json::Value;

use super::{folder, looked, open};

/// The terms of an account that are bytes on resident OS pages, and what the map calls them.
const TERMS: [(&str, &[&str]); 9] = [
    ("live", &["live", "slack"]),
    ("metadata", &["metadata"]),
    ("virgin", &["virgin"]),
    ("free_spans", &["free"]),
    ("holes", &["hole"]),
    ("pinned_free", &["pinned"]),
    ("top", &["top"]),
    ("cached", &["cached"]),
    ("unread", &["unread"]),
];

/// A table of the page, the list in the JSON that it shows, and its columns with the fields that each adds up.
type Shown = (&'static str, &'static str, &'static [(&'static str, &'static [&'static str])]);

const PIN: &[(&str, &[&str])] =
    &[("pinned", &["pinned"]), ("count", &["count"]), ("bytes", &["bytes"]), ("moved", &["moved"])];

const TYPE: &[(&str, &[&str])] = &[
    ("all", &["bytes", "buffers"]),
    ("count", &["count"]),
    ("bytes", &["bytes"]),
    ("buffers", &["buffers"]),
    ("rounding", &["rounding"]),
    ("tracked", &["tracked"]),
    ("free_listed", &["free_listed"]),
];

const TABLES: &[Shown] = &[
    (
        "owners",
        "/owners",
        &[
            ("resident", &["resident"]),
            ("pss", &["pss"]),
            ("live", &["live", "rounding"]),
            ("free", &["free_spans", "holes", "pinned_free", "top", "cached"]),
            ("free_spans", &["free_spans"]),
            ("holes", &["holes"]),
            ("pinned_free", &["pinned_free"]),
            ("top", &["top"]),
            ("cached", &["cached"]),
            ("virgin", &["virgin"]),
            ("metadata", &["metadata"]),
            ("rounding", &["rounding"]),
        ],
    ),
    ("pins_owner", "/pins/by_owner", PIN),
    ("pins_type", "/pins/by_type", PIN),
    ("pins_class", "/pins/by_class", PIN),
    ("pins_site", "/pins/by_site", PIN),
    ("types", "/objects/types", TYPE),
    (
        "slack",
        "/slack",
        &[("bytes", &["bytes"]), ("held", &["held"]), ("containers", &["containers"])],
    ),
    ("duplicates", "/duplicates/worst", &[("bytes", &["bytes"]), ("copies", &["copies"])]),
    ("garbage_types", "/garbage/by_type", TYPE),
    ("garbage_generations", "/garbage/generations", &[("tracked", &["tracked"])]),
];

/// The sum of some fields over a list, or over the values of an object.
fn sum(json: &Value, list: &str, fields: &[&str]) -> f64 {
    let list = json.pointer(list).unwrap_or_else(|| panic!("the JSON has no {list}"));
    let rows: Vec<&Value> = match list {
        Value::Array(rows) => rows.iter().collect(),
        Value::Object(rows) => rows.values().collect(),
        _ => panic!("{list} is no list"),
    };
    rows.iter().flat_map(|row| fields.iter().filter_map(|f| row[*f].as_f64())).sum()
}

/// Every table's sums, and its rows'.
fn tables(page: &mut Page, json: &Value, what: &str) {
    for (id, list, columns) in TABLES {
        let rows = json.pointer(list).map_or(0, |l| {
            l.as_array().map_or_else(|| l.as_object().map_or(0, |o| o.len()), Vec::len)
        });
        let table = format!("document.querySelector('[data-table={id}]')");
        assert!(page.holds(&format!("{table} !== null")), "{what}: there is no table {id}");
        let made = page.number(&format!("{table}.querySelectorAll('tbody tr').length"));
        assert_eq!(made, rows as f64, "{what}: rows of {id}");
        if rows == 0 {
            continue;
        }
        for (column, fields) in *columns {
            let shown = page.eval(&format!(
                "{table}.querySelector('tfoot [data-sum={column}] data')?.value ?? null"
            ));
            let shown = shown.as_str().and_then(|s| s.parse::<f64>().ok());
            let wanted = sum(json, list, fields);
            // Where nothing of it is known, nothing is summed.
            assert_eq!(shown.unwrap_or(0.0), wanted, "{what}: {column} of {id}");
        }
    }
    for (rung, bytes) in json["ladder"].as_object().expect("rungs") {
        let shown = page
            .eval(&format!("document.querySelector('tr[data-rung={rung}] data')?.value ?? null"));
        assert_eq!(
            shown.as_str().and_then(|s| s.parse().ok()),
            bytes.as_u64(),
            "{what}: rung {rung}"
        );
    }
    let rss = page.text("document.querySelector('tr[data-step=RSS] data').value");
    assert_eq!(rss, json["memory"]["rss"].to_string(), "{what}: where the way down begins");
    // What is taken off step by step is what is left, to the byte.
    let steps = page.eval(
        "[...document.querySelectorAll('tr[data-step]')].map((r) => [r.classList.contains('total'), Number(r.querySelector('data').value)])",
    );
    let mut left = None;
    for step in steps.as_array().expect("steps") {
        let bytes = step[1].as_i64().expect("bytes");
        match (left, step[0] == true) {
            (None, true) => left = Some(bytes),
            (Some(before), true) => assert_eq!(bytes, before, "{what}: {steps}"),
            (Some(before), false) => left = Some(before - bytes),
            (None, false) => panic!("{what}: {steps}"),
        }
    }
}

/// The account that the map adds up byte by byte is the JSON's, per owner and term.
fn accounts(page: &mut Page, json: &Value, what: &str) {
    let sums = page.eval("pydefrag.heaps[0].sums('now')");
    let drawn = sums["heaps"].as_array().expect("heaps");
    let owners = json["owners"].as_array().expect("owners");
    let walked: Vec<&Value> = owners.iter().filter(|o| o.get("live").is_some()).collect();
    assert!(walked.len() >= 2, "{what}: {} walked owners", walked.len());
    for owner in &walked {
        let heap = drawn.iter().find(|h| h["heap"] == owner["name"]);
        let heap = heap.unwrap_or_else(|| panic!("{what}: {} is not drawn", owner["name"]));
        for (term, keys) in TERMS {
            let mut wanted = owner[term].as_f64().expect("bytes");
            if term == "live" {
                wanted += owner["rounding"].as_f64().unwrap_or(0.0);
            }
            let bytes: f64 = keys.iter().map(|k| heap[*k].as_f64().expect("bytes")).sum();
            assert_eq!(bytes, wanted, "{what}: {term} of {}: {heap:#}", owner["name"]);
        }
        assert_eq!(heap["resident"].as_f64(), owner["resident"].as_f64(), "{what}: {heap:#}");
    }
    assert_eq!(drawn.len(), walked.len(), "{what}: {sums:#}");
}

/// What the map has less at each rung is what the ladder says comes back.
fn rungs(page: &mut Page, json: &Value, what: &str) {
    let now = page.number("pydefrag.heaps[0].sums('now').all.resident");
    for rung in ["trim", "purge", "compact"] {
        let Some(bytes) = json["ladder"][rung].as_f64() else { continue };
        let all = page.eval(&format!("pydefrag.heaps[0].sums('{rung}').all"));
        assert_eq!(all["returned"], json["ladder"][rung], "{what}: {rung}");
        assert_eq!(all["resident"].as_f64(), Some(now - bytes), "{what}: {rung}");
    }
}

/// What each owner and type pins, as the map computes it from blocks and OS pages, is what the JSON says.
fn pins(page: &mut Page, json: &Value, what: &str) {
    // A head may have several chains, and what each pins is rounded.
    let mut heads: BTreeMap<&str, (f64, f64, f64)> = BTreeMap::new();
    for owner in json["pins"]["by_owner"].as_array().expect("owners") {
        let head = heads.entry(owner["head"].as_str().expect("a head")).or_default();
        head.0 += owner["pinned"].as_f64().expect("bytes");
        head.1 += owner["count"].as_f64().expect("blocks");
        head.2 += 1.0;
    }
    assert!(!heads.is_empty(), "{what}: nobody pins");
    for (head, (pinned, count, rows)) in heads {
        let quoted = Value::from(head);
        let drawn = page.eval(&format!(
            "(({{ blocks, pinned }}) => ({{ blocks, pinned }}))(pydefrag.heaps[0].pages({{ owner: {quoted} }}))"
        ));
        assert_eq!(drawn["blocks"].as_f64(), Some(count), "{what}: blocks of {head}");
        let bytes = drawn["pinned"].as_f64().expect("bytes");
        assert!(
            (bytes - pinned).abs() <= rows,
            "{what}: {head} pins {pinned}, the map says {bytes}"
        );
    }
}

#[test]
fn what_the_page_adds_up_is_what_the_json_says() {
    for (name, script, args, envs) in [
        ("3.8", "mixed.py", &["rand5"][..], &[][..]),
        ("3.13", "culprits.py", &["dict"][..], &[("PYTHONTRACEMALLOC", "1")][..]),
        ("3.14", "garbage.py", &["instances", "20000"][..], &[][..]),
        ("3.15", "structures.py", &["rebuild", "before"][..], &[][..]),
        ("3.13", "threads_bytes.py", &[][..], &[][..]),
    ] {
        let Some(interpreter) = Interpreters::load().get(name) else { continue };
        let what = format!("{script} on {name}");
        let folder = folder();
        let target = Target::spawn(interpreter, script, args, envs);
        target.wait_blocked();
        let (html, json) = looked(target.pid(), folder.path());
        let Some(mut page) = open(&html, View::wide(1280)) else { return };
        tables(&mut page, &json, &what);
        accounts(&mut page, &json, &what);
        rungs(&mut page, &json, &what);
        pins(&mut page, &json, &what);
    }
}
