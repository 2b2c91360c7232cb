//! Container slack: room beyond the items, by kind of container, with the owner that has most of it.
//!
//! Owns the table.

use pydefrag_heap::Slack;

use super::named_table;
use crate::format::share;
use crate::style::{Line, Style, Tone};
use crate::table::{Column, Table};

/// The kinds with most slack, in so many rows below a heading; nothing where there is no slack.
pub(crate) fn lines(slack: &Slack, most: usize, style: Style) -> Vec<Line> {
    let mut kinds: Vec<_> = slack.kinds().into_iter().filter(|(_, of)| of.bytes > 0).collect();
    kinds.sort_by_key(|(_, of)| std::cmp::Reverse(of.bytes));
    let rest: Vec<_> = kinds.split_off(kinds.len().min(most));
    if kinds.is_empty() {
        return Vec::new();
    }
    let mut rows: Vec<_> = kinds
        .iter()
        .map(|(name, of)| {
            let worst =
                of.worst.first().map_or(String::new(), |w| format!(", most in {}", w.owner));
            (format!("{name}{worst}"), of.held, of.bytes)
        })
        .collect();
    // One row more says no less than its sum.
    if !rest.is_empty() {
        let names: Vec<_> = rest.iter().map(|(name, _)| *name).collect();
        let sum = |of: fn(&pydefrag_heap::SlackOf) -> u64| {
            rest.iter().map(|(_, s)| of(s)).fold(0, u64::saturating_add)
        };
        rows.push((names.join(", "), sum(|s| s.held), sum(|s| s.bytes)));
    }
    let largest = rows.iter().map(|r| r.1.max(r.2)).max().unwrap_or(0);
    named_table(largest, style, |unit| {
        let column = |head, tone| Column { head: vec!["", head], tone, right: true };
        Table {
            columns: vec![
                Column {
                    head: vec!["Container slack: room beyond the items", unit.name],
                    tone: Tone::Strong,
                    right: false,
                },
                column("held", Tone::Quiet),
                column("spare", Tone::Pinned),
                column("%", Tone::Quiet),
            ],
            rows: rows
                .iter()
                .map(|(name, held, bytes)| {
                    vec![
                        (Tone::Plain, name.clone()),
                        (Tone::Plain, unit.number(*held)),
                        (Tone::Pinned, unit.number(*bytes)),
                        (Tone::Quiet, share(*bytes, *held)),
                    ]
                })
                .collect(),
            flexible: 0,
        }
    })
}
