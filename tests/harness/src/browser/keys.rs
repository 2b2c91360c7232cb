//! Keys as the browser wants to be told of them.

use serde_json::{Value, json};

/// Keys that have names: name, virtual key code, and the text that they type.
const NAMED: &[(&str, u32, &str)] = &[
    ("Backspace", 8, ""),
    ("Tab", 9, ""),
    ("Enter", 13, "\r"),
    ("Escape", 27, ""),
    ("Space", 32, " "),
    ("PageUp", 33, ""),
    ("PageDown", 34, ""),
    ("End", 35, ""),
    ("Home", 36, ""),
    ("ArrowLeft", 37, ""),
    ("ArrowUp", 38, ""),
    ("ArrowRight", 39, ""),
    ("ArrowDown", 40, ""),
];

const MODIFIERS: &[(&str, u32)] = &[("Alt", 1), ("Control", 2), ("Meta", 4), ("Shift", 8)];

/// The bits of modifiers joined by `+`, as in `Control+Shift`.
pub(crate) fn modifiers(held: &str) -> u32 {
    let bit = |name: &str| MODIFIERS.iter().find(|m| m.0 == name).map(|m| m.1);
    let named = held.split('+').filter(|name| !name.is_empty());
    named.map(|name| bit(name).unwrap_or_else(|| panic!("no modifier {name}"))).sum()
}

/// The events of one stroke: `Tab`, `Shift+Tab`, `a`, `+`.
pub(crate) fn stroke(key: &str) -> [Value; 2] {
    let (held, name) = match key.rsplit_once('+') {
        Some((held, name)) if !name.is_empty() && !held.is_empty() => (held, name),
        _ => ("", key),
    };
    let named = NAMED.iter().find(|k| k.0 == name);
    let key = if name == "Space" { " " } else { name };
    let (code, text) = match named {
        Some((_, code, text)) => (*code, *text),
        None => {
            let mut letters = name.chars();
            let letter = letters.next().unwrap_or_else(|| panic!("an empty key"));
            assert!(letters.next().is_none(), "no key {name}");
            (u32::from(letter.to_ascii_uppercase()), name)
        }
    };
    let event = |kind: &str| {
        json!({
            "type": kind, "key": key, "code": if named.is_some() { name } else { "" },
            "windowsVirtualKeyCode": code, "modifiers": modifiers(held),
        })
    };
    let mut down = event(if text.is_empty() { "rawKeyDown" } else { "keyDown" });
    if !text.is_empty() {
        down["text"] = json!(text);
    }
    [down, event("keyUp")]
}
