//! What pins: who keeps OS pages that are partly free, by owner, by type and by the line that allocated.
//!
//! Owns the one table in which they line up.

use pydefrag_heap::{Pin, Pins, SitePin};

use super::named_table;
use crate::format::{Unit, grouped, share, size};
use crate::style::{Line, Style, Tone};
use crate::table::{Column, Table};
use crate::text::section;

/// A row: a name and a pin, the sum of those not shown, or a heading between them.
enum Row<'a> {
    Pin(String, &'a Pin),
    Others(u64),
    Heading(&'static str),
}

/// The title with the sum, and the table of so many owners, types and sites.
pub(crate) fn lines(
    pins: &Pins,
    owners: usize,
    types: usize,
    sites: usize,
    style: Style,
) -> Vec<Line> {
    let title = "What holds it";
    if pins.pinned == 0 {
        let said = "no OS page is partly free: no live block pins anything".to_owned();
        return section(title, Tone::Strong, &[(Tone::Plain, said)], 1, style);
    }
    let said =
        format!("{} are free, but live blocks beside them pin their OS pages", size(pins.pinned));
    let mut lines = section(title, Tone::Strong, &[(Tone::Strong, said)], 2, style);
    let rows = rows(pins, owners, types, sites);
    let largest = rows.iter().map(|r| match r {
        Row::Pin(_, pin) => pin.pinned.max(pin.gone),
        Row::Others(pinned) => *pinned,
        Row::Heading(_) => 0,
    });
    let largest = largest.max().unwrap_or(0);
    lines.extend(named_table(largest, style, |unit| table(&rows, pins.pinned, unit)));
    lines
}

fn rows(pins: &Pins, owners: usize, types: usize, sites: usize) -> Vec<Row<'_>> {
    let by_owner = || pins.by_owner.iter().take(owners);
    let mut rows: Vec<_> = by_owner().map(|p| Row::Pin(p.owner.clone(), &p.pin)).collect();
    let shown = by_owner().fold(0, |sum: u64, p| sum.saturating_add(p.pin.pinned));
    let others = pins.pinned.saturating_sub(shown);
    if others > 0 && !rows.is_empty() {
        rows.push(Row::Others(others));
    }
    let place = |p: &SitePin| format!("{}:{}", p.file, p.line);
    let by_type = pins.by_type.iter().take(types);
    let by_site = pins.by_site.iter().flatten().take(sites);
    let groups: [(_, Vec<_>); 2] = [
        ("by type", by_type.map(|p| Row::Pin(p.name.clone(), &p.pin)).collect()),
        ("by line that allocated", by_site.map(|p| Row::Pin(place(p), &p.pin)).collect()),
    ];
    for (heading, group) in groups.into_iter().filter(|(_, group)| !group.is_empty()) {
        rows.push(Row::Heading(heading));
        rows.extend(group);
    }
    rows
}

fn table(rows: &[Row<'_>], pinned: u64, unit: Unit) -> Table {
    let column = |first, second, tone| Column { head: vec![first, second], tone, right: true };
    let cells = |row: &Row<'_>| match row {
        Row::Pin(name, pin) => vec![
            (Tone::Plain, name.clone()),
            (Tone::Pinned, unit.number(pin.pinned)),
            (Tone::Quiet, share(pin.pinned, pinned)),
            (Tone::Plain, grouped(pin.count)),
            (Tone::Strong, unit.number(pin.gone)),
        ],
        Row::Others(bytes) => vec![
            (Tone::Quiet, "others".into()),
            (Tone::Pinned, unit.number(*bytes)),
            (Tone::Quiet, share(*bytes, pinned)),
            (Tone::Plain, String::new()),
            (Tone::Strong, String::new()),
        ],
        Row::Heading(words) => {
            let empty = std::iter::repeat_n((Tone::Plain, String::new()), 4);
            std::iter::once((Tone::Quiet, (*words).to_owned())).chain(empty).collect()
        }
    };
    Table {
        columns: vec![
            Column { head: vec![unit.name, "by owner"], tone: Tone::Quiet, right: false },
            column("", "pinned", Tone::Pinned),
            column("", "%", Tone::Quiet),
            column("", "blocks", Tone::Quiet),
            column("back if", "gone", Tone::Strong),
        ],
        rows: rows.iter().map(cells).collect(),
        flexible: 0,
    }
}
