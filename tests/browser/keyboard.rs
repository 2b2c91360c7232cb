//! All of the page by keys alone: each control is reached, shows that it is, has a name, and does what the mouse
//! could have done with it.

use std::collections::BTreeSet;

use pydefrag_harness::Target;
use pydefrag_harness::browser::{Page, View, address};

use super::{folder, looked, python, ready};

/// Keeps every element that waits for a click.
const WATCH: &str = "
  window.clickable = new Set();
  const listen = EventTarget.prototype.addEventListener;
  EventTarget.prototype.addEventListener = function (kind, ...rest) {
    if (this instanceof Element && ['click', 'pointerdown', 'mousedown', 'pointerup'].includes(kind)) clickable.add(this);
    return listen.call(this, kind, ...rest);
  };
";

/// What Tab must reach: controls that can be seen, of a group of radio buttons one.
const CONTROLS: &str = "
  window.controls = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, canvas, [tabindex], [role=button], [role=tab], [role=slider]')]
    .filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility({ visibilityProperty: true }))
    .filter((e) => e.type !== 'radio' || e.checked);
  controls.forEach((e, i) => { e.dataset.control = i; });
  controls.length
";

/// The page of a process with something to see, and what waits for clicks in it noted.
fn opened() -> Option<Page> {
    let folder = folder();
    let target = Target::spawn(python()?, "culprits.py", &["dict", "100000"], &[]);
    target.wait_blocked();
    let (html, _) = looked(target.pid(), folder.path());
    let mut page = Page::blank(View::wide(1280))?;
    page.before_each(WATCH);
    page.go(&address(&html));
    ready(&mut page);
    Some(page)
}

/// Presses Tab until an expression on the focused element `e` holds.
fn tab_to(page: &mut Page, expression: &str) {
    let controls = page.number(CONTROLS) as usize;
    page.eval("document.activeElement?.blur()");
    for _ in 0..=controls + 5 {
        page.press("Tab");
        if page.holds(&format!("((e) => !!({expression}))(document.activeElement)")) {
            return;
        }
    }
    panic!("Tab does not lead to {expression}");
}

#[test]
fn tab_reaches_every_control() {
    let Some(mut page) = opened() else { return };
    let controls = page.number(CONTROLS) as usize;
    assert!(controls > 20, "{controls} controls");
    let (mut reached, mut plain, mut nameless) = (BTreeSet::new(), Vec::new(), Vec::new());
    for _ in 0..controls + 5 {
        page.press("Tab");
        let at = page.eval(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);
               const name = e.getAttribute('aria-label') || e.getAttribute('title') || e.textContent.trim()
                 || (e.getAttribute('aria-labelledby') || '').split(' ').map((i) => document.getElementById(i)?.textContent ?? '').join('')
                 || [...(e.labels ?? [])].map((l) => l.textContent).join('');
               return [e.dataset.control ?? null, s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0 || s.boxShadow !== 'none', name.trim() !== '', e.outerHTML.slice(0, 100)]; })()",
        );
        let Some(number) = at[0].as_str().map(str::to_owned) else { continue };
        reached.insert(number.parse::<usize>().expect("a number"));
        let who = at[3].as_str().unwrap_or_default().to_owned();
        if at[1] != true {
            plain.push(who.clone());
        }
        if at[2] != true {
            nameless.push(who);
        }
    }
    let missed: Vec<usize> = (0..controls).filter(|n| !reached.contains(n)).collect();
    let missed: Vec<String> = missed
        .iter()
        .map(|n| page.text(&format!("controls[{n}].outerHTML.slice(0, 120)")))
        .collect();
    assert_eq!(missed, [""; 0], "not reached by Tab");
    assert_eq!(plain, [""; 0], "do not show that they have the focus");
    assert_eq!(nameless, [""; 0], "have no name");
}

#[test]
fn nothing_waits_for_a_mouse_alone() {
    let Some(mut page) = opened() else { return };
    // What waits for a click can be focused, or holds what can (a row of a table, its button), or can be reached by arrows.
    let alone = page.eval(
        "[...clickable].filter((e) => e.isConnected && e.checkVisibility())
           .filter((e) => e.tabIndex < 0 && !['tab', 'radio', 'option'].includes(e.getAttribute('role')) && !e.querySelector('button, a[href], input, select, [tabindex]'))
           .map((e) => e.outerHTML.slice(0, 120))",
    );
    assert_eq!(alone, serde_json::json!([]), "only a mouse can use");
}

#[test]
fn an_owner_a_rung_and_a_block_are_chosen_by_keys() {
    let Some(mut page) = opened() else { return };
    tab_to(&mut page, "e.matches('[data-table=pins_owner] .pick')");
    page.press("Enter");
    let owner = page.text("pydefrag.state.get('owner')");
    assert!(!owner.is_empty(), "Enter on an owner chooses it");
    assert!(page.holds(
        "document.querySelector('[data-table=pins_owner] .pick[aria-pressed=true]') !== null"
    ));
    page.press("Escape");
    assert_eq!(page.text("pydefrag.state.get('owner')"), "", "Escape clears the choice");

    tab_to(&mut page, "e.matches('[data-rung=purge] .pick')");
    page.press("Space");
    assert_eq!(page.text("pydefrag.state.get('rung')"), "purge");

    tab_to(&mut page, "e.matches('canvas')");
    for key in ["ArrowRight", "ArrowDown", "Enter"] {
        page.press(key);
    }
    let at = page.text("pydefrag.state.get('at')");
    assert!(!at.is_empty(), "Enter on the map chooses a block");
    page.press("ArrowRight");
    page.press("Enter");
    assert_ne!(page.text("pydefrag.state.get('at')"), at, "an arrow leads to another block");
    page.press("Escape");
    assert_eq!(page.text("pydefrag.state.get('at')"), "", "Escape clears the choice");
    assert_eq!(page.complaints(), [""; 0]);
}

#[test]
fn the_map_is_moved_by_keys() {
    let Some(mut page) = opened() else { return };
    tab_to(&mut page, "e.matches('canvas')");
    let picture = |page: &mut Page| {
        page.settle();
        page.text("document.querySelector('canvas').toDataURL()")
    };
    let first = picture(&mut page);
    page.press("+");
    page.press("+");
    let zoomed = picture(&mut page);
    assert!(zoomed != first, "+ zooms");
    page.press("PageDown");
    let moved = picture(&mut page);
    assert!(moved != zoomed, "PageDown moves");
    page.press("0");
    page.press("Escape");
    assert!(picture(&mut page) != zoomed, "0 shows all again");
    assert_eq!(page.complaints(), [""; 0]);
}
