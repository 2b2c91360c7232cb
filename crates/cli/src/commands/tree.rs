//! `pydefrag snapshot --tree PID`: a process and its descendants together, in proportional shares.

use std::collections::HashMap;
use std::path::Path;

use pydefrag_heap::{Member, Missing, Tree};
use pydefrag_image::{Identity, ProcessFacts, ProcessList};
use pydefrag_report::{html, tree};
use pydefrag_walk::Looked;

use crate::failure::hinted;
use crate::look::{look, look_at_member};
use crate::objects::Objects;
use crate::output;
use crate::progress::Progress;

pub(crate) fn run(pid: i32, json: bool, page: Option<&Path>) -> anyhow::Result<()> {
    let wanted = Objects { map: page.is_some(), ..Objects::none() };
    // The root is what was asked for: why it cannot be looked at is the answer.
    let root = look(pid, &wanted, &|_, _| {}).or_else(|e| {
        if children(pid)?.is_empty() { Err(e) } else { look_at_member(pid, &wanted) }
    })?;
    let family = descendants(pid)?;
    let progress = Progress::new("looking at processes", family.len() as u64 + 1);
    let mut looked: HashMap<i32, (Looked, Option<Identity>)> = HashMap::new();
    let mut order = vec![(pid, pid, 0)];
    let mut missing = Vec::new();
    looked.insert(pid, (root, Identity::of(pid)));
    for (child, parent, depth) in family {
        progress.step();
        match look_at_member(child, &wanted) {
            Ok(l) => {
                looked.insert(child, (l, Identity::of(child)));
                order.push((child, parent, depth));
            }
            Err(e) => missing.push(Missing { pid: child, reason: e.to_string() }),
        }
    }
    progress.finish();
    let members = order.iter().map(|(pid, parent, depth)| member(&looked, *pid, *parent, *depth));
    let tree = Tree::of(members.collect(), missing)
        .ok_or_else(|| hinted(format!("process {pid} has ended"), "pydefrag ps"))?;
    if let Some(path) = page {
        let details = order.iter().map(|(pid, ..)| looked.remove(pid).map(|l| l.0.detail));
        let details: Vec<_> = details.map(Option::unwrap_or_default).collect();
        output::write_page(path, &html::tree(&tree, &details))?;
    }
    output::print(&match json {
        true => tree::render_json(&tree),
        false => tree::render(&tree, output::style()),
    })
}

fn member(
    looked: &HashMap<i32, (Looked, Option<Identity>)>,
    pid: i32,
    parent: i32,
    depth: u32,
) -> Member {
    let (this, identity) = &looked[&pid];
    // Only a fork has its parent's pages; what an exec made has an address space of its own.
    let forked_by = looked.get(&parent).filter(|(_, theirs)| {
        parent != pid && identity.is_some() && forked(identity.as_ref(), theirs.as_ref())
    });
    Member {
        depth,
        parent,
        alone: this.snapshot.memory.uss,
        copied: forked_by.map_or(0, |(parent, _)| this.copied_from(parent)),
        still_shared: this.snapshot.owners.iter().map(|o| o.copy_on_write_shared).sum(),
        snapshot: this.snapshot.clone(),
    }
}

fn forked(child: Option<&Identity>, parent: Option<&Identity>) -> bool {
    child.zip(parent).is_some_and(|(c, p)| c.same_program(p))
}

fn children(pid: i32) -> anyhow::Result<Vec<i32>> {
    Ok(ProcessList::all()?.iter().filter(|p| p.parent == pid).map(|p| p.pid).collect())
}

/// All descendants with their parents and depths, parents before children.
fn descendants(root: i32) -> anyhow::Result<Vec<(i32, i32, u32)>> {
    let all = ProcessList::all()?;
    let mut children: HashMap<i32, Vec<&ProcessFacts>> = HashMap::new();
    for p in all.iter().filter(|p| p.pid != p.parent && p.state != 'Z') {
        children.entry(p.parent).or_default().push(p);
    }
    let mut found = Vec::new();
    let mut stack: Vec<(i32, u32)> = vec![(root, 0)];
    while let Some((pid, depth)) = stack.pop() {
        let mut below = children.remove(&pid).unwrap_or_default();
        below.sort_by_key(|p| std::cmp::Reverse(p.pid));
        stack.extend(below.iter().map(|p| (p.pid, depth + 1)));
        if let Some(parent) = all.iter().find(|p| p.pid == pid).filter(|_| depth > 0) {
            found.push((pid, parent.parent, depth));
        }
    }
    Ok(found)
}
