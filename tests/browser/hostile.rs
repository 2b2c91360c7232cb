//! Names, paths, owners and commands that are markup, codes and enormous: nothing of them runs, nothing of them
//! moves the page.
//!
//! One page is of a real process whose types have such names; the others are of a real look in which every text that
//! the format does not fix was replaced by one.

use pydefrag_harness::Target;
use pydefrag_harness::browser::{Page, View};
use pydefrag_heap::{Detail, Missing, Partial, Snapshot, Tree, pdsnap};
use serde_json::{Value, json};

use super::{crafted, fits, folder, open, python, quiet, reported, told};

/// Texts that want to be more than text. Whoever runs one sets `window.pwned`.
const EVIL: &[&str] = &[
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=2</script>",
    "<!--<script>window.pwned=3//",
    "\"><svg onload=window.pwned=4>",
    "' onmouseover='window.pwned=5' x='",
    "`${window.pwned=6}`{{window.pwned=7}}",
    "javascript:window.pwned=8",
    "\u{1b}[2J\u{1b}]0;owned\u{7}\0\r\n\t",
    "\u{202e}txet desrever\u{2066}\u{200f}\u{feff}\u{2028}",
    "&lt;script&gt;&amp;&#x202e;",
    "__proto__",
    "e\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}\u{307}\u{308}\u{309}\u{30a}\u{30b}\u{30c}",
    "#colour=<b>&owner=%00%E2%80%AE",
    "",
];

/// A real look with everything in it, and its heap.
fn real(folder: &std::path::Path) -> Option<(Snapshot, Detail)> {
    let target =
        Target::spawn(python()?, "culprits.py", &["dict", "100000"], &[("PYTHONTRACEMALLOC", "1")]);
    target.wait_blocked();
    let file = folder.join("real.pdsnap").display().to_string();
    told(&["snapshot", &target.pid().to_string(), "-o", &file]);
    let bytes = std::fs::read(&file).expect("it was kept");
    let decoded = pdsnap::decode(&bytes).expect("it is whole");
    Some((decoded.snapshot, decoded.detail))
}

/// The places of all texts in a value, as JSON pointers.
fn texts(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(i, v)| texts(v, &format!("{at}/{i}"), found));
        }
        Value::Object(all) => all.iter().for_each(|(k, v)| texts(v, &format!("{at}/{k}"), found)),
        _ => {}
    }
}

/// Replaces every text that may be any text by `evil` of its number; how many were.
fn replaced<T: serde::Serialize + serde::de::DeserializeOwned>(
    of: &T,
    evil: impl Fn(usize) -> String,
) -> (T, usize) {
    let mut value = serde_json::to_value(of).expect("plain data");
    let mut places = Vec::new();
    texts(&value, "", &mut places);
    let mut count = 0;
    for place in places {
        let text = value.pointer_mut(&place).expect("it is there");
        let before = std::mem::replace(text, Value::String(evil(count)));
        let again = T::deserialize(&value).ok().and_then(|t| serde_json::to_value(t).ok());
        if again.as_ref() != Some(&value) {
            // One of a few words that the format fixes.
            *value.pointer_mut(&place).expect("it is there") = before;
        } else {
            count += 1;
        }
    }
    (T::deserialize(value).expect("it was tried"), count)
}

/// The same look with other texts everywhere, in its map too.
fn spoilt(of: &(Snapshot, Detail), evil: impl Fn(usize) -> String) -> (Snapshot, Detail) {
    let (snapshot, count) = replaced(&of.0, &evil);
    assert!(count > 200, "only {count} texts");
    let mut detail = of.1.clone();
    let map = detail.map.as_mut().expect("a map");
    let mut n = count;
    let mut next = |text: &mut String| {
        *text = evil(n);
        n += 1;
    };
    map.regions.iter_mut().for_each(|r| next(&mut r.heap));
    let named = map.named.as_mut().expect("objects");
    named.types.iter_mut().for_each(&mut next);
    named.owners.iter_mut().for_each(|o| {
        next(&mut o.owner);
        next(&mut o.head);
    });
    named.groups.iter_mut().for_each(|g| next(&mut g.role));
    (snapshot, detail)
}

/// Whatever a reader may do to it, the page stays what it is.
fn harmless(page: &mut Page, html: &std::path::Path, what: &str) {
    for dark in [false, true] {
        fits(page, dark, what);
    }
    let box_of = page.eval(
        "(() => { const b = document.querySelector('canvas').getBoundingClientRect();
           scrollBy(0, b.top - 100); return [b.left, 100, b.width, b.height]; })()",
    );
    let [left, top, width, height] = [0, 1, 2, 3].map(|i| box_of[i].as_f64().expect("a number"));
    // Hover, click, zoom: the words of blocks, types and owners come up.
    for part in [0.1, 0.3, 0.5, 0.7, 0.9] {
        page.move_to(left + part * width, top + part * height.min(700.0));
        page.wheel(-480.0, "Control");
        page.settle();
        page.click(left + part * width, top + part * height.min(700.0));
    }
    // Every control is used once. What is opened may show more of them.
    let used = page.number(
        "(async () => { let used = 0; const seen = new Set();
           for (let round = 0; round < 3; round++)
             for (const e of document.querySelectorAll('button, summary, th, select, input, [role=button]')) {
               if (seen.has(e) || used > 400) continue;
               seen.add(e); used += 1; e.click();
               if (e.tagName === 'SELECT' && e.options.length)
                 { e.selectedIndex = e.options.length - 1; e.dispatchEvent(new Event('change', { bubbles: true })); }
             }
           return used; })()",
    );
    assert!(used > 5.0, "{what}: {used} controls");
    page.press("Escape");
    for dark in [false, true] {
        fits(page, dark, what);
    }
    untouched(page, html, what);
}

/// Nothing ran, nothing fits ill, and of the target's texts nothing but text is on the page.
fn untouched(page: &mut Page, html: &std::path::Path, what: &str) {
    fits(page, false, what);
    assert_eq!(page.eval("window.pwned ?? null"), Value::Null, "{what}: something ran");
    let raw = page.eval(
        r"(() => { const bad = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
           const found = []; const main = document.getElementById('page');
           for (const e of main.querySelectorAll('*'))
             for (const n of e.childNodes) if (n.nodeType === 3 && bad.test(n.data)) found.push(`${e.tagName} ${e.className}: ${n.data.slice(0, 60)}`);
           for (const e of main.querySelectorAll('*')) for (const a of e.attributes)
             if (bad.test(a.value) || a.name.startsWith('on') || /^javascript:/i.test(a.value.trim())) found.push(`${e.tagName} ${a.name}=${a.value.slice(0, 60)}`);
           for (const e of main.querySelectorAll('img, script, iframe, object, embed, base, form, [onload], [onerror]')) found.push(e.outerHTML.slice(0, 80));
           return found.slice(0, 8); })()",
    );
    assert_eq!(raw, json!([]), "{what}");
    quiet(page, html, what);
}

#[test]
fn texts_that_are_markup_stay_texts() {
    let folder = folder();
    let Some(real) = real(folder.path()) else { return };
    for shift in 0..3 {
        let what = format!("evil texts, shifted by {shift}");
        let (snapshot, detail) = spoilt(&real, |n| EVIL[(n + shift * 5) % EVIL.len()].to_owned());
        let file = crafted::kept(folder.path(), "evil", &snapshot, &detail);
        let (html, _) = reported(&file);
        let Some(mut page) = open(&html, View::wide(1280)) else { return };
        // They are there, and as they were written.
        assert!(page.holds("document.getElementById('page').innerText.includes('<img src=x onerror=window.pwned=1>')"), "{what}");
        harmless(&mut page, &html, &what);
    }
}

#[test]
fn texts_that_are_markup_stay_texts_where_something_is_absent() {
    let folder = folder();
    let Some((snapshot, detail)) = real(folder.path()) else { return };
    let evil = |n: usize| EVIL[n % EVIL.len()].to_owned();
    let bare = Snapshot { explanation: None, ..snapshot.clone() };
    let partial = Partial { reason: "reason".into(), hint: Some("hint".into()) };
    let partial = Snapshot { partial: Some(partial), pymalloc: None, malloc: None, ..bare.clone() };
    for (what, snapshot, detail) in
        [("no objects", bare, detail), ("partial", partial, Detail::default())]
    {
        for shift in 0..EVIL.len() {
            let (snapshot, _) = replaced(&snapshot, |n| evil(n + shift));
            let file = crafted::kept(folder.path(), "absent", &snapshot, &detail);
            let (html, _) = reported(&file);
            let Some(mut page) = open(&html, View::wide(360)) else { return };
            untouched(&mut page, &html, &format!("{what}, shifted by {shift}"));
        }
    }
}

#[test]
fn texts_that_are_markup_stay_texts_in_a_difference_and_a_tree() {
    let folder = folder();
    let Some(real) = real(folder.path()) else { return };
    let path = |name: &str| folder.path().join(name).display().to_string();
    for shift in [0, 3] {
        let evil = |n: usize| EVIL[(n + shift) % EVIL.len()].to_owned();
        // The later look has more of everything, so that rows of what grew have names.
        let (snapshot, detail) = spoilt(&real, evil);
        crafted::kept(folder.path(), "after", &snapshot, &detail);
        let mut before = snapshot.clone();
        let explained = before.explanation.as_mut().expect("objects");
        explained.objects.types.iter_mut().for_each(|t| t.bytes /= 2);
        explained.pins.by_owner.iter_mut().for_each(|o| o.pin.pinned /= 2);
        crafted::kept(folder.path(), "before", &before, &detail);
        told(&[
            "diff",
            &path("before.pdsnap"),
            &path("after.pdsnap"),
            "--html",
            &path("diff.html"),
        ]);
        let html = folder.path().join("diff.html");
        let Some(mut page) = open(&html, View::wide(1280)) else { return };
        harmless(&mut page, &html, "a difference of evil texts");
        drop(page);

        let target = Target::spawn(python().expect("it ran"), "mixed.py", &["rand5", "20000"], &[]);
        let json = told(&["snapshot", &target.pid().to_string(), "--tree", "--json"]);
        let mut tree: Tree = serde_json::from_str(&json).expect("a tree");
        let member = tree.members[0].clone();
        tree.members.push(member);
        let missing = json!({"pid": 7, "command": "c", "reason": "r"});
        tree.missing.extend(serde_json::from_value::<Missing>(missing));
        let (tree, count) = replaced(&tree, evil);
        assert!(count > 20, "only {count} texts in a tree");
        let details = vec![detail.clone(), detail];
        let html = folder.path().join("tree.html");
        std::fs::write(&html, pydefrag_report::html::tree(&tree, &details))
            .expect("our own folder");
        let Some(mut page) = open(&html, View::wide(1280)) else { return };
        harmless(&mut page, &html, "a tree of evil texts");
    }
}

#[test]
fn texts_of_a_megabyte_move_nothing() {
    let folder = folder();
    let Some(real) = real(folder.path()) else { return };
    // In every text would be more than a file should hold: in one of 16, each time others.
    for (shift, fill) in [(0, "x"), (5, "W "), (11, "\u{20ac}\u{fdfd}")] {
        let what = format!("a megabyte of {fill:?}");
        let long = fill.repeat((1 << 20) / fill.len());
        let (snapshot, detail) = spoilt(&real, |n| match (n + shift) % 16 {
            0 => long.clone(),
            _ => fill.repeat(n % 300),
        });
        let file = crafted::kept(folder.path(), "long", &snapshot, &detail);
        let (html, _) = reported(&file);
        let Some(mut page) = open(&html, View::wide(1280)) else { return };
        harmless(&mut page, &html, &what);
        let most = page.number("document.getElementById('page').innerText.length");
        assert!(most < 1e6, "{what}: {most} characters on the page");
    }
}

#[test]
fn a_process_with_such_types_is_shown() {
    let Some(interpreter) = python() else { return };
    let folder = folder();
    let target = Target::spawn(interpreter, "hostile.py", &["names"], &[]);
    target.wait_blocked();
    let (html, _) = super::looked(target.pid(), folder.path());
    let Some(mut page) = open(&html, View::wide(1280)) else { return };
    harmless(&mut page, &html, "hostile.py names");
}
