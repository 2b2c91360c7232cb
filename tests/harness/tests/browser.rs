//! The browser of the tests, on pages of a few lines: what it says of a page is so.

use std::fs;

use pydefrag_harness::browser::{Page, View, address, text_of};

/// A page of a few lines in a browser; `None` where there is none.
fn shown(body: &str) -> Option<(tempfile::TempDir, Page)> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page.html");
    fs::write(&file, format!("<!doctype html><title>t</title>{body}")).expect("our own folder");
    let page = Page::open(&file, View::wide(800))?;
    Some((folder, page))
}

#[test]
fn a_page_that_does_nothing_says_nothing() {
    let Some((folder, mut page)) = shown("<p>hello") else { return };
    assert_eq!(page.text("document.body.innerText"), "hello");
    assert_eq!(page.complaints(), [""; 0]);
    assert_eq!(page.requests(), [address(&folder.path().join("page.html"))]);
    assert!(!page.holds("matchMedia('(prefers-color-scheme: dark)').matches"));
    page.resize(View { scale: 2.0, ..View::wide(1280) }.dark());
    assert!(page.holds("matchMedia('(prefers-color-scheme: dark)').matches"));
    assert_eq!(page.number("innerWidth * devicePixelRatio"), 2560.0);
    assert_eq!(page.eval("Promise.resolve([1, 'a'])"), serde_json::json!([1, "a"]));
    assert!(page.picture().starts_with(b"\x89PNG"));
}

#[test]
fn what_is_printed_is_read() {
    let body = "<h1>The heap</h1><p style='font-family: monospace'>12.5 MiB − 3&thinsp;% → “é”</p>
        <p style='page-break-before: always'>second <b>sheet</b></p><p class=n>not printed</p>
        <style>@media print { .n { display: none } }</style>";
    let Some((_folder, mut page)) = shown(body) else { return };
    let pdf = page.pdf();
    assert_eq!(text_of(&pdf), ("Theheap12.5MiB−3%→“é”secondsheet".to_owned(), 2));
}

#[test]
fn all_that_a_page_complains_of_is_heard() {
    let said = |body: &str| {
        shown(body).map(|(_folder, mut page)| {
            page.settle();
            (page.complaints(), page.requests())
        })
    };
    let Some((complaints, _)) = said("<script>console.error('bad', 1)</script>") else { return };
    assert!(complaints.len() == 1 && complaints[0].contains("bad"), "{complaints:?}");
    for (body, part) in [
        ("<script>throw new Error('thrown')</script>", "thrown"),
        ("<script>Promise.reject(new Error('late'))</script>", "late"),
        ("<script>alert('hello')</script>", "dialog"),
        (
            "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\"><script>1</script>",
            "Content Security Policy",
        ),
    ] {
        let (complaints, _) = said(body).expect("a browser");
        assert!(complaints.iter().any(|c| c.contains(part)), "{body}: {complaints:?}");
    }
    let (_, requests) = said("<img src=http://nowhere.invalid/a.png>").expect("a browser");
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!(requests[1], "http://nowhere.invalid/a.png");
}

#[test]
fn hands_reach_the_page() {
    let body = "<style>body { margin: 0 }</style><button id=b>a</button> <input id=i>
        <div id=d style='height: 300px; background: red'></div><script>
        var heard = [];
        for (const kind of ['click', 'mousemove', 'mousedown', 'mouseup', 'wheel'])
          d.addEventListener(kind, (e) => heard.push(`${kind} ${e.clientX} ${e.clientY} ${e.deltaY ?? ''} ${e.ctrlKey}`));
        addEventListener('keydown', (e) => heard.push(`${e.key} ${e.code} ${e.shiftKey}`));
        b.addEventListener('click', () => heard.push('pressed'));</script>";
    let Some((_folder, mut page)) = shown(body) else { return };
    page.click(100.0, 200.0);
    let (heard, at) = (page.text("heard.splice(0).join(', ')"), "100 200  false");
    assert_eq!(heard, format!("mousemove {at}, mousedown {at}, mouseup {at}, click {at}"));
    page.wheel(-120.0, "Control");
    page.wait("heard.length > 0");
    assert_eq!(page.text("heard.splice(0).join()"), "wheel 100 200 -120 true");
    page.drag_to(180.0, 200.0);
    page.wait("heard.some((h) => h.startsWith('mouseup 180'))");
    page.eval("heard.splice(0).length");
    page.press("Tab");
    assert_eq!(page.text("document.activeElement.id"), "b");
    page.press("Enter");
    page.press("Space");
    assert_eq!(page.number("heard.filter((h) => h == 'pressed').length"), 2.0);
    page.press("Tab");
    page.type_text("a1+");
    assert_eq!(page.text("i.value"), "a1+");
    page.press("Shift+Tab");
    assert_eq!(page.text("document.activeElement.id"), "b");
    page.press("Escape");
    assert!(page.text("heard.at(-1)").starts_with("Escape Escape false"));
    page.click_on("#b");
    assert_eq!(page.text("heard.at(-1)"), "pressed");
}
