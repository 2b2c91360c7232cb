//! What a reader gets from the page: the answer that was looked for within two clicks, the same view again from a
//! link, and a print that can be read.

use pydefrag_harness::browser::{Page, View, address, text_of};
use pydefrag_harness::{Target, repository};
use serde_json::Value;

use super::{folder, looked, open, pages, python, ready};

/// The text that can be seen in the window without scrolling.
const IN_SIGHT: &str = "
  (() => { const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); let text = '';
    for (let n = walk.nextNode(); n; n = walk.nextNode()) {
      const range = document.createRange(); range.selectNodeContents(n);
      const b = range.getBoundingClientRect();
      if (b.width > 0 && b.top >= 0 && b.bottom <= innerHeight && b.left >= 0 && b.right <= innerWidth && n.parentElement.checkVisibility()) text += n.data + ' ';
    }
    return text; })()
";

#[test]
fn who_pins_most_is_found_within_two_clicks() {
    let Some(interpreter) = python() else { return };
    let folder = folder();
    let script = repository().join("examples/session_cache.py").display().to_string();
    let target = Target::spawn(interpreter, &script, &["--hold"], &[]);
    target.wait_blocked();
    let (html, json) = looked(target.pid(), folder.path());
    let owners = json["pins"]["by_owner"].as_array().expect("owners");
    let most = owners.iter().max_by_key(|o| o["pinned"].as_u64()).expect("an owner");
    let head = most["head"].as_str().expect("a head").to_owned();
    for width in [1280, 1920] {
        let Some(mut page) = open(&html, View::wide(width)) else { return };
        // With no click at all: who, how much, and what would come back.
        let seen = page.text(IN_SIGHT);
        assert!(seen.contains(&head), "{head} is not in sight: {seen}");
        let said = page
            .eval("[...document.querySelectorAll('#first-pin data')].map((d) => Number(d.value))");
        assert_eq!(said, serde_json::json!([most["pinned"], most["gone"]]));
        // One click: it lights up on the map, with its bytes.
        page.click_on("#first-pin button.action");
        assert_eq!(page.text("pydefrag.state.get('owner')"), head);
        page.wait("document.getElementById('map').getBoundingClientRect().top < innerHeight / 2");
        let seen = page.text(IN_SIGHT);
        assert!(seen.contains(&head), "{head} is not in sight of the map: {seen}");
    }
}

#[test]
fn a_link_leads_back_to_the_same_view() {
    let Some(interpreter) = python() else { return };
    let folder = folder();
    let target = Target::spawn(interpreter, "culprits.py", &["dict", "100000"], &[]);
    target.wait_blocked();
    let (html, json) = looked(target.pid(), folder.path());
    let Some(mut page) = open(&html, View::wide(1280)) else { return };
    let head = json["pins"]["by_owner"][0]["head"].as_str().expect("a head");
    let at = page
        .text("pydefrag.heaps[0].block(pydefrag.heaps[0].blockCount >> 1).address.toString(16)");
    let quoted = Value::from(head);
    page.eval(&format!(
        "pydefrag.state.set({{ colour: 'owner', rung: 'purge', owner: {quoted}, at: '{at}', 'sort.types': '-count', 'find.types': 'str' }})"
    ));
    page.settle();
    let view = "JSON.stringify([pydefrag.state.fields, document.querySelector('canvas').toDataURL(),
        [...document.querySelectorAll('[aria-pressed=true], [aria-selected=true], [aria-sort]:not([aria-sort=none]), :checked')].map((e) => e.textContent),
        document.querySelector('[data-table=types]').innerText])";
    let before = page.text(view);
    let link = page.text("location.href");
    assert!(link.contains("rung=purge"), "{link}");
    let Some(mut other) = Page::blank(View::wide(1280)) else { return };
    other.go(&link);
    ready(&mut other);
    assert_eq!(other.text(view), before);
    // In the same page too, and what is no view of it does no harm.
    for hash in [
        "",
        "colour=owner&rung=compact",
        "at=zzz&look=99&rung=__proto__&colour=%",
        "owner=<img>&type=&&=&==",
    ] {
        other.go(&format!("{}#{hash}", address(&html)));
        other.settle();
    }
    other.go(&link);
    other.settle();
    assert_eq!(other.text(view), before);
    assert_eq!(other.complaints(), [""; 0]);
}

#[test]
fn the_printed_page_is_readable() {
    let Some(interpreter) = python() else { return };
    let folder = folder();
    let html = pages::ran(interpreter, "session_cache.py", "30000", folder.path());
    let Some(mut page) = open(&html, View { dark: true, ..View::wide(1280) }) else { return };
    let headings = "[...document.querySelectorAll('h1, h2')].filter((h) => h.checkVisibility() && h.offsetWidth > 1).map((h) => h.textContent)";
    let numbers = "[...document.querySelectorAll('table data')].filter((d) => d.checkVisibility()).map((d) => d.textContent)";
    let (heads, many) = (page.eval(headings), page.eval(numbers));
    // A4 with margins is 718 CSS pixels wide.
    page.resize(View { height: 1000, dark: true, ..View::wide(718) });
    page.as_printed(true);
    page.settle();
    assert_eq!(page.eval(headings), heads, "headings");
    let printed: Vec<Value> = page.eval(numbers).as_array().expect("numbers").clone();
    for number in many.as_array().expect("numbers") {
        assert!(printed.contains(number), "{number} is not printed");
    }
    // Black on white, whatever the screen had.
    let dark = page.eval(
        "(() => { const light = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length > 3 && n[3] === 0 ? 255 : (n[0] + n[1] + n[2]) / 3; };
           const found = []; if (light(getComputedStyle(document.body).backgroundColor) < 200) found.push('ground');
           for (const e of document.querySelectorAll('h1, h2, h3, p, td, th, dt, dd, code'))
             if (e.checkVisibility() && e.textContent.trim() && light(getComputedStyle(e).color) > 160) found.push(e.outerHTML.slice(0, 80));
           return found.slice(0, 5); })()",
    );
    assert_eq!(dark, serde_json::json!([]), "light on white");
    // What is wider than the paper makes the browser print all of it smaller: by a seventh at most.
    let cut = page.eval(
        "[...document.querySelectorAll('table, p, h1, h2, h3, code, canvas')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > 840)
           .map((e) => e.getBoundingClientRect().right + e.outerHTML.slice(0, 80)).slice(0, 5)",
    );
    assert_eq!(cut, serde_json::json!([]), "too wide for paper");
    // The map is printed with something on it.
    assert!(page.number("new Set(document.querySelector('canvas').getContext('2d').getImageData(0, 0, 200, 200).data).size") > 2.0);
    page.as_printed(false);
    // On paper: all headings and all numbers that the screen has.
    let (text, sheets) = text_of(&page.pdf());
    assert!((2..40).contains(&sheets), "{sheets} sheets of paper");
    for said in heads.as_array().into_iter().chain(many.as_array()).flatten() {
        let mut said = said.as_str().expect("a text").to_owned();
        said.retain(|c| !c.is_whitespace());
        assert!(text.contains(&said), "{said} is not on paper: {text}");
    }
    assert_eq!(page.complaints(), [""; 0]);
}
