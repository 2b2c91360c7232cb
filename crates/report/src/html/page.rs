//! The page around the data: assets joined into one style and one script, and the policy that allows just these.
//!
//! Owns the order of the scripts. Each is an ES module that imports the ones before it; joined, they share one scope,
//! so that a name is given once in all of them, whatever page they are of, and their `import` lines and `export` words fall away.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("assets/page.html");

/// What a page is made of.
pub(crate) struct Kit {
    style: &'static str,
    scripts: &'static [&'static str],
}

/// Looks at a process.
pub(crate) const LOOKS: Kit = Kit {
    style: concat!(include_str!("assets/style.css"), include_str!("assets/map.css")),
    scripts: SCRIPTS,
};

/// A recording.
pub(crate) const RECORDING: Kit = Kit {
    style: concat!(include_str!("assets/style.css"), include_str!("assets/calls.css")),
    scripts: RECORDING_SCRIPTS,
};

/// The scripts: each needs only those before it.
const SCRIPTS: &[&str] = &[
    include_str!("assets/text.js"),
    include_str!("assets/state.js"),
    include_str!("assets/glossary.js"),
    include_str!("assets/rows.js"),
    include_str!("assets/facts.js"),
    include_str!("assets/series.js"),
    include_str!("assets/columns.js"),
    include_str!("assets/terms.js"),
    include_str!("assets/bits.js"),
    include_str!("assets/account.js"),
    include_str!("assets/runs.js"),
    include_str!("assets/rungs.js"),
    include_str!("assets/pins.js"),
    include_str!("assets/categories.js"),
    include_str!("assets/heap.js"),
    include_str!("assets/make.js"),
    include_str!("assets/grid.js"),
    include_str!("assets/folding.js"),
    include_str!("assets/paint.js"),
    include_str!("assets/schemes.js"),
    include_str!("assets/mapcard.js"),
    include_str!("assets/map.js"),
    include_str!("assets/verdict.js"),
    include_str!("assets/resident.js"),
    include_str!("assets/holds.js"),
    include_str!("assets/heaps.js"),
    include_str!("assets/timeline.js"),
    include_str!("assets/change.js"),
    include_str!("assets/family.js"),
    include_str!("assets/frame.js"),
    include_str!("assets/app.js"),
];

/// The same of a recording.
const RECORDING_SCRIPTS: &[&str] = &[
    include_str!("assets/text.js"),
    include_str!("assets/state.js"),
    include_str!("assets/glossary.js"),
    include_str!("assets/rows.js"),
    include_str!("assets/series.js"),
    include_str!("assets/columns.js"),
    include_str!("assets/calls.js"),
    include_str!("assets/icicle.js"),
    include_str!("assets/happened.js"),
    include_str!("assets/make.js"),
    include_str!("assets/grid.js"),
    include_str!("assets/frame.js"),
    include_str!("assets/flame.js"),
    include_str!("assets/moments.js"),
    include_str!("assets/sites.js"),
    include_str!("assets/recorded.js"),
];

/// The whole page. The title is ours.
pub(crate) fn page(kit: &Kit, title: &str, facts: &str, columns: &str) -> String {
    let script = script(kit);
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data: blob:; \
         base-uri 'none'; form-action 'none'",
        hash(&script),
        hash(kit.style)
    );
    let parts = [
        ("{{title}}", title),
        ("{{policy}}", &policy),
        ("{{style}}", kit.style),
        ("{{facts}}", facts),
        ("{{columns}}", columns),
        ("{{script}}", &script),
    ];
    let mut page = String::with_capacity(
        PAGE.len() + kit.style.len() + script.len() + facts.len() + columns.len(),
    );
    let mut rest = PAGE;
    for (mark, part) in parts {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page.push_str(rest);
    page
}

/// All scripts in one scope.
fn script(kit: &Kit) -> String {
    let lines = kit.scripts.iter().flat_map(|s| s.lines()).filter(|l| !l.starts_with("import "));
    lines.flat_map(|l| [l.strip_prefix("export ").unwrap_or(l), "\n"]).collect()
}

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}
