//! The block under the pointer is the one that stands there: objects tell their own addresses, the mouse goes to where
//! the map shows these, and what the map then says names the type and the address.

use pydefrag_harness::Interpreters;
use pydefrag_harness::Target;
use pydefrag_harness::browser::{Page, View};
use serde_json::Value;

use super::{folder, looked, open};

/// An object as the process itself knows it.
struct Planted {
    address: u64,
    size: u64,
    kind: String,
}

fn planted(target: &mut Target) -> Vec<Planted> {
    let said = target.ask("where");
    let one = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("{line:?}"));
        let mut number = || word().parse().unwrap_or_else(|_| panic!("{line:?}"));
        let (address, size) = (number(), number());
        Planted { address, size, kind: word().to_owned() }
    };
    said.lines().map(one).collect()
}

/// Numbers in a block that the page gives.
fn field(block: &Value, name: &str) -> u64 {
    block[name].as_f64().unwrap_or_else(|| panic!("no {name} in {block}")) as u64
}

/// Moves the mouse to where the map shows an address; what is then said of it.
fn hovered(page: &mut Page, address: u64) -> (String, (f64, f64)) {
    page.eval(&format!("pydefrag.maps[0].show({address})"));
    page.settle();
    page.eval("pydefrag.maps[0].element.querySelector('canvas').scrollIntoView({ block: 'center', behavior: 'instant' })");
    page.settle();
    // `pixelOf` is in the canvas; the mouse is in the window.
    let at = page.eval(&format!(
        "(() => {{ const p = pydefrag.maps[0].pixelOf({address}); const c = pydefrag.maps[0].element.querySelector('canvas').getBoundingClientRect();
           return [p.x + c.x, p.y + c.y]; }})()"
    ));
    let (x, y) = (at[0].as_f64().expect("x"), at[1].as_f64().expect("y"));
    page.move_to(1.0, 1.0);
    page.settle();
    page.move_to(x, y);
    page.settle();
    let said = page.text("document.querySelector('.mapline').textContent");
    (said, (x, y))
}

#[test]
fn the_block_under_the_pointer_is_the_one_that_stands_there() {
    for name in ["3.8", "3.13", "3.15"] {
        let Some(interpreter) = Interpreters::load().get(name) else { continue };
        let folder = folder();
        let mut target = Target::spawn(interpreter, "pointed.py", &[], &[]);
        let planted = planted(&mut target);
        assert!(planted.len() >= 10, "{} objects", planted.len());
        target.wait_blocked();
        let (html, _) = looked(target.pid(), folder.path());
        let Some(mut page) = open(&html, View::wide(1280)) else { return };
        for one in &planted {
            let what = format!("{} at {:#x} on {name}", one.kind, one.address);
            let block = page.eval(&format!("pydefrag.heaps[0].blockAt({})", one.address));
            let (start, size) = (field(&block, "address"), field(&block, "size"));
            // With the collector's head it begins before the object.
            assert!(start <= one.address && one.address - start <= 32, "{what}: {block}");
            assert!(start + size >= one.address + one.size.min(size - 32), "{what}: {block}");
            let (said, (x, y)) = hovered(&mut page, one.address);
            assert!(said.contains(&one.kind), "{what}: the pointer names no such type: {said}");
            assert!(said.contains(&format!("{start:x}")), "{what}: {start:x} is not named: {said}");
            page.click(x, y);
            let at = page.text("pydefrag.state.get('at')");
            assert_eq!(at.trim_start_matches("0x"), format!("{start:x}"), "{what}: a click");
            page.press("Escape");
        }
    }
}

/// From free bytes that stay resident to who keeps them, with two clicks.
#[test]
fn a_hole_leads_to_the_owner_that_keeps_it_open() {
    let Some(interpreter) = Interpreters::load().get("3.13") else { return };
    let folder = folder();
    let target = Target::spawn(interpreter, "culprits.py", &["dict", "100000"], &[]);
    target.wait_blocked();
    let (html, json) = looked(target.pid(), folder.path());
    let Some(mut page) = open(&html, View::wide(1280)) else { return };
    // A free byte behind a live block of the owner that pins most.
    let head = json["pins"]["by_owner"][0]["head"].as_str().expect("a head");
    let quoted = Value::from(head);
    let address = page.number(&format!(
        "(() => {{ const heap = pydefrag.heaps[0];
           for (let n = heap.blockCount >> 1; n < heap.blockCount; n++) {{
             const block = heap.block(n);
             const behind = block.address + block.size + 8;
             if (heap.nameOf(n)?.head === {quoted} && heap.pageAt(behind) === heap.pageAt(block.address) && heap.blockAt(behind) === null) return behind;
           }}
           return 0; }})()"
    )) as u64;
    assert!(address > 0, "no free byte behind a block of {head}");
    let (_, (x, y)) = hovered(&mut page, address);
    page.click(x, y);
    let card = page.text("document.querySelector('.mapcard').innerText");
    assert!(
        card.contains("kept by") && card.contains(head),
        "{head} is not said to keep it: {card}"
    );
    let at = page.number(&format!(
        "[...document.querySelectorAll('.mapcard .keeper button')].findIndex((b) => b.textContent.startsWith({quoted}))"
    ));
    page.eval(&format!("document.querySelectorAll('.mapcard .keeper button')[{at}].click()"));
    assert_eq!(page.text("pydefrag.state.get('owner')"), head);
    assert_eq!(page.complaints(), [""; 0]);
}
