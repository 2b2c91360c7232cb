//! Snapshots that lack something, or have very much of it: the page opens and says what is absent.

use pydefrag_harness::Target;
use pydefrag_harness::browser::View;
use pydefrag_heap::{Detail, Partial, Snapshot};
use serde_json::Value;

use super::{crafted, fits, folder, open, python, quiet, reported};

/// Opens the page of a crafted snapshot, which must be quiet and fit; its text, and the heaps that are drawn.
fn said(name: &str, (snapshot, detail): &(Snapshot, Detail)) -> Option<(String, Value)> {
    let folder = folder();
    let file = crafted::kept(folder.path(), name, snapshot, detail);
    let (html, _) = reported(&file);
    let mut page = open(&html, View::wide(1280))?;
    quiet(&mut page, &html, name);
    fits(&mut page, false, name);
    fits(&mut page, true, name);
    let heaps = page.eval(
        "pydefrag.heaps.map((heap) => heap && Object.fromEntries(heap.sums('now').heaps.map((h) => [h.heap, h])))",
    );
    quiet(&mut page, &html, name);
    // The glossary explains every word, present or absent.
    let text = page.text(
        "[...document.querySelectorAll('#page > :not(#words)')].map((e) => e.innerText).join('\\n')",
    );
    Some((text, heaps))
}

/// The page says one of these.
fn says(text: &str, words: &[&str], what: &str) {
    let text = text.to_lowercase();
    assert!(words.iter().any(|w| text.contains(w)), "{what} says none of {words:?}:\n{text}");
}

#[test]
fn what_could_not_be_read_is_said() {
    let mut snapshot = crafted::bare(123 << 20);
    snapshot.partial = Some(Partial {
        reason: "its memory may not be read: it belongs to another user".into(),
        hint: Some("sudo pydefrag snapshot 4242".into()),
    });
    let Some((text, heaps)) = said("partial", &(snapshot, Detail::default())) else { return };
    says(&text, &["it belongs to another user"], "partial");
    says(&text, &["sudo pydefrag snapshot 4242"], "partial");
    says(&text, &["123.0 mib"], "partial");
    assert_eq!(heaps, serde_json::json!([null]));
}

#[test]
fn no_pools_make_an_empty_map() {
    let Some((text, _)) = said("no-pools", &crafted::pools(0, 0)) else { return };
    says(&text, &["objects were not looked at", "no objects"], "no pools");
    let Some((text, _)) = said("bare", &(crafted::bare(0), Detail::default())) else { return };
    says(&text, &["no map"], "nothing at all");
}

#[test]
fn three_hundred_thousand_pools_are_drawn() {
    let crafted = crafted::pools(300_000, 100);
    let Some((text, heaps)) = said("many", &crafted) else { return };
    says(&text, &["4687.5 mib"], "300,000 pools");
    let account = serde_json::to_value(crafted.0.owners[0].account).expect("plain data");
    for (term, drawn) in [
        ("live", "live"),
        ("metadata", "metadata"),
        ("holes", "hole"),
        ("pinned_free", "pinned"),
        ("virgin", "virgin"),
        ("free_spans", "free"),
    ] {
        assert_eq!(heaps[0]["pymalloc"][drawn], account[term], "{term}: {heaps:#}");
    }
}

#[test]
fn sixty_four_arenas_are_drawn_wherever_they_are() {
    for apart in [64 << 20, 16 << 40 >> 6] {
        let crafted = crafted::malloc_arenas(64, apart);
        let Some((text, heaps)) = said("arenas", &crafted) else { return };
        says(&text, &["malloc thread arenas"], "64 arenas");
        for owner in &crafted.0.owners {
            let account = serde_json::to_value(owner.account).expect("plain data");
            for term in ["live", "metadata", "top"] {
                assert_eq!(heaps[0][&owner.name][term], account[term], "{term}: {heaps:#}");
            }
        }
    }
}

#[test]
fn reserved_address_space_is_not_drawn() {
    let Some(interpreter) = python() else { return };
    let reserve = "import ctypes, os; m = ctypes.CDLL(None).mmap; m.restype = ctypes.c_void_p; \
                   m.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]; \
                   p = m(None, 16 << 40, 0, 0x4022, -1, 0); assert p != 2**64 - 1; \
                   os.write(1, b'READY\\n'); os.read(0, 1)";
    let folder = folder();
    let script = folder.path().join("reserve.py");
    std::fs::write(&script, reserve).expect("our own folder");
    let target = Target::spawn(interpreter, &script.display().to_string(), &[], &[]);
    target.wait_blocked();
    let (html, json) = super::looked(target.pid(), folder.path());
    assert!(json["memory"]["rss"].as_u64().is_some_and(|rss| rss < 1 << 30), "{json:#}");
    assert!(html.metadata().expect("a page").len() < 2 << 20, "the page is large");
    let Some(mut page) = open(&html, View::wide(1280)) else { return };
    quiet(&mut page, &html, "16 TiB reserved");
    fits(&mut page, false, "16 TiB reserved");
}
