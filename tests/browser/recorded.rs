//! The page of a recording: its sums are those of the JSON, hands and keys work, nothing is complained of.

use pydefrag_harness::browser::View;
use pydefrag_harness::repository;
use serde_json::Value;

use super::{fits, folder, open, python, quiet, told};
use crate::support::{pydefrag, text};

#[test]
fn a_recording_is_drawn_and_its_sums_are_the_recordings() {
    let Some(of) = python() else { return };
    let folder = folder();
    let (file, html) = (folder.path().join("r.pdtrace"), folder.path().join("r.html"));
    let mut command = pydefrag(&["record", "--no-report", "-o"]);
    command.arg(&file).arg("--python").arg(&of.program);
    command.arg(repository().join("tests/targets/recorded.py"));
    let out = command.envs(of.env.iter().map(|(k, v)| (k, v))).output().expect("the binary starts");
    assert!(out.status.success(), "{}", text(&out).1);
    let file = file.display().to_string();
    told(&["report", &file, "--html", &html.display().to_string()]);
    let json: Value = serde_json::from_str(&told(&["report", &file, "--json"])).expect("JSON");

    let Some(mut page) = open(&html, View::wide(1280)) else { return };
    for (amount, of) in [
        ("peak", &json["peak"]["live"]),
        ("retained", &json["retained"]),
        ("allocated", &json["allocated"]),
    ] {
        let sum = page.number(&format!("Number(pydefrag.calls.total['{amount}'][0])"));
        assert_eq!(sum, of["bytes"].as_f64().unwrap(), "{amount}");
    }
    quiet(&mut page, &html, "as it opens");
    // Another amount, a search, and the way down and back by keys.
    page.click_on("button[data-amount=retained]");
    page.settle();
    assert_eq!(page.text("pydefrag.state.get('amount')"), "retained");
    page.click_on("input[type=search]");
    page.type_text("recursion");
    page.settle();
    assert!(
        page.text("document.querySelector('.told').textContent")
            .chars()
            .any(|c| c.is_ascii_digit())
    );
    page.eval("document.querySelector('.callframe canvas').focus()");
    page.press("ArrowDown");
    page.press("Enter");
    page.settle();
    assert!(page.number("Number(pydefrag.state.get('zoom') || 0)") > 0.0);
    page.press("Escape");
    for dark in [false, true] {
        fits(&mut page, dark, "a recording");
    }
    quiet(&mut page, &html, "after all");
}
