//! `pydefrag ps`: every Python process that can be seen, as a tree, with a quick look at each.

use pydefrag_image::{Image, Mapping, ProcessFacts, ProcessList, ReadError, diagnose};
use pydefrag_report::ps::{self, PsRow};
use pydefrag_walk::{Runtime, headers, states};
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::args::Ps;
use crate::look::{readable, short};
use crate::output;
use crate::progress::Progress;

pub(crate) fn run(args: &Ps) -> anyhow::Result<()> {
    let all = ProcessList::all()?;
    let progress = Progress::new("looking at processes", all.len() as u64);
    let mut looked = HashMap::new();
    for facts in &all {
        if let Some(row) = row(facts) {
            looked.insert(facts.pid, row);
        }
        progress.step();
    }
    progress.finish();
    let rows = tree(&all, looked);
    output::print(&match args.json {
        true => ps::render_json(&rows),
        false if rows.is_empty() => "no Python process can be seen\n".into(),
        false => ps::render(&rows, output::style()),
    })
}

/// A process's row; `None` for what is no Python process.
fn row(facts: &ProcessFacts) -> Option<PsRow> {
    if facts.kernel {
        return None;
    }
    let named = named_like_python(facts);
    let mut row = PsRow {
        pid: facts.pid,
        command: facts.command.clone(),
        rss: facts.rss,
        ..Default::default()
    };
    let image = match Image::open(facts) {
        Ok(image) => image,
        Err(e) => {
            row.note = short(&e);
            return (named && row.note != "ended").then_some(row);
        }
    };
    if !named && !image.mappings.iter().any(mapped_like_python) {
        return None;
    }
    row.rss = Some(image.mappings.iter().map(|m| m.rss).sum());
    row.pss = Some(image.mappings.iter().map(|m| m.pss).sum());
    if let Err(e) = readable(&image) {
        row.note = match e {
            ReadError::Denied => diagnose(facts.pid, true).short().into(),
            ReadError::Gone => return None,
            _ => "unreadable".into(),
        };
        return Some(row);
    }
    let runtime = match Runtime::find(&image) {
        Ok(runtime) => runtime,
        Err(pydefrag_walk::Refusal::NotPython { .. }) => return None,
        Err(_) => {
            row.note = "not supported".into();
            return Some(row);
        }
    };
    row.python = Some(runtime.version.to_string());
    match states(&image, &runtime).map(|s| headers(&image, &s.states)) {
        Ok(Ok(totals)) if totals.resident > 0 => {
            row.live = Some(totals.live);
            row.fragmentation_percent = totals.fragmentation_percent();
        }
        Ok(Ok(_)) => {}
        Err(pydefrag_walk::Refusal::Agent { .. }) => row.note = "other agent".into(),
        _ => row.note = "not understood".into(),
    }
    Some(row)
}

/// Told from what everybody may see.
fn named_like_python(facts: &ProcessFacts) -> bool {
    let base = facts.argv0.rsplit('/').next().unwrap_or_default();
    base.starts_with("python") || facts.name.starts_with("python")
}

/// libpython, a python executable, or an extension module.
fn mapped_like_python(m: &Mapping) -> bool {
    let name = String::from_utf8_lossy(m.name_bytes());
    let base = name.rsplit('/').next().unwrap_or_default();
    base.starts_with("python") || base.starts_with("libpython") || base.contains(".cpython-3")
}

/// Orders the rows as a tree: each process below its nearest ancestor that has a row.
fn tree(all: &[ProcessFacts], mut rows: HashMap<i32, PsRow>) -> Vec<PsRow> {
    let parents: HashMap<i32, i32> = all.iter().map(|p| (p.pid, p.parent)).collect();
    let ancestor = |pid: i32| {
        let mut seen = HashSet::from([pid]);
        let mut at = *parents.get(&pid)?;
        while seen.insert(at) {
            if rows.contains_key(&at) {
                return Some(at);
            }
            at = *parents.get(&at)?;
        }
        None
    };
    let mut children: BTreeMap<Option<i32>, Vec<i32>> = BTreeMap::new();
    for pid in rows.keys() {
        children.entry(ancestor(*pid)).or_default().push(*pid);
    }
    children.values_mut().for_each(|c| c.sort_unstable_by(|a, b| b.cmp(a)));
    let mut ordered = Vec::new();
    let mut stack: Vec<(i32, usize)> =
        children.get(&None).into_iter().flatten().map(|pid| (*pid, 0)).collect();
    while let Some((pid, depth)) = stack.pop() {
        if let Some(row) = rows.remove(&pid) {
            ordered.push(PsRow { depth, ..row });
        }
        stack.extend(children.get(&Some(pid)).into_iter().flatten().map(|c| (*c, depth + 1)));
    }
    ordered
}
