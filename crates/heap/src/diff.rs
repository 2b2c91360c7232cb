//! Two looks compared: what grew, live data or free space.
//!
//! Owns the differences. Judging them is the advise crate's.

mod objects;

use serde::{Deserialize, Serialize};

pub use objects::{MOST_ROWS, PinChange, TypeChange};

use crate::{OwnerKind, SCHEMA, Snapshot, Verdict};

/// One number before and after, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// In the first snapshot.
    pub before: u64,
    /// In the second.
    pub after: u64,
}

impl Change {
    /// `after - before`.
    pub fn grown(&self) -> i64 {
        self.after as i64 - self.before as i64
    }
}

/// How the walked heaps changed. All on resident pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapChange {
    /// Resident bytes of the walked heaps.
    pub resident: Change,
    /// Live.
    pub live: Change,
    /// Free and resident, kept by what lives beside it.
    pub external: Change,
    /// Free and resident, and of use to any request: malloc's tops, and caches.
    pub slack: Change,
}

/// How one owner changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerChange {
    /// Its name.
    pub name: String,
    /// What sort of thing it is.
    pub kind: OwnerKind,
    /// Resident bytes.
    pub resident: Change,
    /// Live bytes, where both are walked.
    pub live: Option<Change>,
    /// Free bytes, where both are walked.
    pub free: Option<Change>,
}

/// The difference of two snapshots. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// Schema of this structure, [`SCHEMA`] when written.
    pub schema: u32,
    /// Seconds between the two looks; negative when the first is the later one.
    pub seconds: f64,
    /// Commands of both processes.
    pub commands: [String; 2],
    /// Their pids.
    pub pids: [i32; 2],
    /// Their Python versions, where known.
    pub pythons: [Option<String>; 2],
    /// Why the two may not be comparable: another program, version, or process.
    pub unlike: Vec<String>,
    /// RSS.
    pub rss: Change,
    /// Swap.
    pub swap: Change,
    /// The heaps that both walked, together; `None` unless there are some.
    pub heaps: Option<HeapChange>,
    /// Every owner that either has, most changed first.
    pub owners: Vec<OwnerChange>,
    /// Types, most changed first, at most [`MOST_ROWS`]; `None` where a look has no objects.
    pub types: Option<Vec<TypeChange>>,
    /// Owners of what pins, most changed first, at most [`MOST_ROWS`]; `None` where a look has no objects.
    pub pins: Option<Vec<PinChange>>,
    /// What a reader should know: what is not known, and why.
    pub notes: Vec<String>,
    /// What it comes to.
    pub verdict: Option<Verdict>,
}

impl Diff {
    /// Compares two snapshots; the verdict is left to whoever judges.
    pub fn of(a: &Snapshot, b: &Snapshot) -> Diff {
        let python = |s: &Snapshot| s.process.python.as_ref().map(|p| p.version.clone());
        let mut unlike = Vec::new();
        if a.process.command != b.process.command {
            unlike.push("they are of different programs".to_owned());
        } else if a.process.pid != b.process.pid {
            unlike.push(format!(
                "they are of two processes, {} and {}",
                a.process.pid, b.process.pid
            ));
        }
        if python(a) != python(b) {
            let name = |s| python(s).map_or("unknown".to_owned(), |v| v);
            unlike.push(format!("they are of different Pythons, {} and {}", name(a), name(b)));
        }
        if a.partial.is_some() != b.partial.is_some() {
            unlike.push("one of them is partial: its heaps are not known".to_owned());
        }
        // A heap that one look walked and the other did not would seem to have grown from nothing.
        let one_sided = |kind: OwnerKind| {
            let walked = |s: &Snapshot| {
                let mut of = s.owners.iter().filter(|o| o.kind == kind).peekable();
                of.peek()?;
                Some(of.any(|o| o.account.is_some()))
            };
            walked(a).zip(walked(b)).is_some_and(|(a, b)| a != b)
        };
        if a.partial.is_none() && b.partial.is_none() {
            let kinds: std::collections::BTreeSet<_> =
                a.owners.iter().chain(&b.owners).map(|o| o.kind).collect();
            for kind in kinds.into_iter().filter(|k| one_sided(*k)) {
                unlike.push(format!("{} is walked in one of them only", kind.label()));
            }
        }
        let names: std::collections::BTreeSet<_> =
            a.owners.iter().chain(&b.owners).map(|o| (&o.name, o.kind)).collect();
        let mut owners: Vec<_> = names
            .into_iter()
            .map(|(name, kind)| {
                let find = |s: &Snapshot| s.owners.iter().find(|o| o.name == *name).cloned();
                let (x, y) = (find(a), find(b));
                let walked = |o: &Option<crate::Owner>| match o {
                    Some(o) => o.account,
                    None => Some(crate::Account::default()),
                };
                let of = |f: fn(&crate::Account) -> u64| {
                    Some(Change { before: f(&walked(&x)?), after: f(&walked(&y)?) })
                };
                let any = [&x, &y].into_iter().flatten().any(|o| o.account.is_some());
                OwnerChange {
                    name: name.clone(),
                    kind,
                    resident: Change {
                        before: x.as_ref().map_or(0, |o| o.resident),
                        after: y.as_ref().map_or(0, |o| o.resident),
                    },
                    live: of(|a| a.live + a.rounding.unwrap_or(0)).filter(|_| any),
                    free: of(crate::Account::free).filter(|_| any),
                }
            })
            .collect();
        owners.sort_by_key(|o| {
            (std::cmp::Reverse(o.resident.grown().unsigned_abs()), o.name.clone())
        });
        let sum = |s: &Snapshot| {
            let compared = s.owners.iter().filter(|o| !one_sided(o.kind));
            let mut walked = compared.filter_map(|o| Some((o.resident, o.account?)));
            let (mut resident, mut sum) = walked.next()?;
            for (r, a) in walked {
                resident += r;
                sum.add(&a);
            }
            Some((resident, sum))
        };
        let heaps = sum(a).zip(sum(b)).map(|((ra, a), (rb, b))| HeapChange {
            resident: Change { before: ra, after: rb },
            live: Change {
                before: a.live + a.rounding.unwrap_or(0),
                after: b.live + b.rounding.unwrap_or(0),
            },
            external: Change { before: a.external(), after: b.external() },
            slack: Change { before: a.free() - a.external(), after: b.free() - b.external() },
        });
        let explained = a.explanation.as_ref().zip(b.explanation.as_ref());
        let mut notes = Vec::new();
        if explained.is_none() && (a.explanation.is_some() || b.explanation.is_some()) {
            let which = if a.explanation.is_none() { "first" } else { "second" };
            notes.push(format!(
                "the {which} look has no objects: which types and owners grew is not known"
            ));
        }
        Diff {
            schema: SCHEMA,
            seconds: b.taken_at - a.taken_at,
            commands: [a, b].map(|s| s.process.command.clone()),
            pids: [a, b].map(|s| s.process.pid),
            pythons: [python(a), python(b)],
            unlike,
            rss: Change { before: a.memory.rss, after: b.memory.rss },
            swap: Change { before: a.memory.swap, after: b.memory.swap },
            heaps,
            owners,
            types: explained.map(|(a, b)| objects::types(a, b)),
            pins: explained.map(|(a, b)| objects::pins(a, b)),
            notes,
            verdict: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Account, Basis, Ladder, Memory, Owner, Process, Torn};

    fn look(owners: Vec<Owner>) -> Snapshot {
        Snapshot {
            schema: SCHEMA,
            tool: "pydefrag test".into(),
            taken_at: 1.5,
            partial: None,
            torn: Torn::default(),
            process: Process {
                pid: 7,
                command: "python3 app.py".into(),
                threads: 1,
                python: None,
                libc: None,
            },
            memory: Memory { rss: owners.iter().map(|o| o.resident).sum(), ..Default::default() },
            owners,
            unattributed: 0,
            residency_difference: 0,
            pymalloc: None,
            malloc: None,
            fragmentation: None,
            ladder: Ladder::default(),
            verdict: None,
            run: None,
            explanation: None,
            notes: Vec::new(),
        }
    }

    fn owner(name: &str, kind: OwnerKind, live: u64, walked: bool) -> Owner {
        let account = Account { live, ..Default::default() };
        Owner {
            resident: live,
            account: walked.then_some(account),
            ..Owner::new(name, kind, Basis::Walked)
        }
    }

    #[test]
    fn a_heap_that_one_look_walked_has_not_grown() {
        let pymalloc = |live| owner("pymalloc", OwnerKind::Pymalloc, live, true);
        let old = look(vec![pymalloc(100), owner("malloc", OwnerKind::Malloc, 50, false)]);
        let new =
            look(vec![pymalloc(103), owner("malloc main arena", OwnerKind::Malloc, 50, true)]);
        let diff = Diff::of(&old, &new);
        assert_eq!(diff.heaps.unwrap().live, Change { before: 100, after: 103 });
        assert_eq!(diff.unlike, ["malloc is walked in one of them only"]);
        assert_eq!(diff.rss.grown(), 3);
        // One that was not there at all has.
        let diff = Diff::of(&look(vec![pymalloc(100)]), &new);
        assert_eq!(diff.heaps.unwrap().live.grown(), 53);
        assert_eq!(diff.unlike, [""; 0]);
        assert_eq!(Diff::of(&look(vec![]), &new).heaps, None);
    }
    #[test]
    fn a_look_without_objects_leaves_types_and_owners_unknown() {
        let without = look(vec![]);
        let with = Snapshot { explanation: Some(Default::default()), ..look(vec![]) };
        let diff = Diff::of(&without, &with);
        assert_eq!((diff.types, diff.pins), (None, None));
        let note = "the first look has no objects: which types and owners grew is not known";
        assert_eq!(diff.notes, [note]);
        assert!(Diff::of(&with, &without).notes[0].starts_with("the second look"));
        assert_eq!(Diff::of(&without, &without).notes, [""; 0]);
        let diff = Diff::of(&with, &with);
        assert_eq!((diff.types, diff.pins, diff.notes), (Some(vec![]), Some(vec![]), vec![]));
    }
}
