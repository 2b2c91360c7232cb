//! One look at a process: from a pid to an account, whole or partial, or a failure that says why.
//!
//! Owns the order of the steps and what a process that ends or execs midway means.

use std::time::{Duration, Instant};

use pydefrag_heap::Partial;
use pydefrag_image::{
    Denial, Identity, Image, LookError, OpenError, ProcessFacts, ReadError, diagnose,
};
use pydefrag_walk::{Asked, Looked, Refusal, Runtime, Wanted, explain, snapshot, snapshot_partial};

use crate::failure::hinted;
use crate::objects::Objects;
use crate::progress::{Progress, Report};
use crate::traces;

/// A process that maps and unmaps all the while may outrun one look at its mappings.
const TRIES: usize = 8;
/// No further attempt begins after this long: what is not understood by then will not be.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at the process `pid`, which must be a Python, and at its objects if they are wanted; `report` hears
/// how far that is.
pub(crate) fn look(pid: i32, objects: &Objects, report: Report<'_>) -> anyhow::Result<Looked> {
    whole(pid, |facts| tries(facts, objects, report)?.map_err(refusal_failure))
}

/// The same, with a bar on stderr.
pub(crate) fn look_with_bar(pid: i32, objects: &Objects) -> anyhow::Result<Looked> {
    let progress = Progress::shares("looking at objects");
    look(pid, objects, &|done, total| progress.set(done, total))
}

/// The account alone.
pub(crate) fn account(pid: i32) -> anyhow::Result<Looked> {
    look(pid, &Objects::none(), &|_, _| {})
}

/// Looks at the process `pid` of a tree, whatever it is: what is no Python, or none that is understood,
/// is told by the kernel's maps alone.
pub(crate) fn look_at_member(pid: i32, objects: &Objects) -> anyhow::Result<Looked> {
    whole(pid, |facts| match tries(facts, objects, &|_, _| {})? {
        Ok(looked) => Ok(looked),
        Err(refusal) => {
            let image = Image::open(facts).map_err(open_failure)?;
            let why = Partial { reason: refusal.to_string(), hint: None };
            Ok(snapshot_partial(facts, &image, why))
        }
    })
}

/// Whatever was read, or not understood, of a process that became another one means nothing.
fn whole(
    pid: i32,
    look: impl Fn(&ProcessFacts) -> anyhow::Result<Looked>,
) -> anyhow::Result<Looked> {
    let before = Identity::of(pid);
    let facts = ProcessFacts::of(pid).map_err(look_failure)?;
    let looked = look(&facts);
    match (before, Identity::of(pid)) {
        (Some(before), Some(after)) if before == after => looked.map(judged),
        (Some(before), Some(after)) if before.same_process(&after) => {
            Err(look_failure(LookError::Execed(pid)))
        }
        (Some(_), _) => Err(look_failure(LookError::Ended(pid))),
        // It had no identity: a zombie, say.
        (None, _) => looked.map(judged),
    }
}

/// A look is finished with its verdict.
fn judged(mut looked: Looked) -> Looked {
    looked.snapshot.verdict = pydefrag_advise::verdict(&looked.snapshot);
    looked
}

fn tries(
    facts: &ProcessFacts,
    objects: &Objects,
    report: Report<'_>,
) -> anyhow::Result<Result<Looked, Refusal>> {
    let start = Instant::now();
    let mut looked = attempt(facts, objects, report)?;
    for _ in 1..TRIES {
        if !matches!(looked, Err(Refusal::NotUnderstood { .. })) || start.elapsed() > PATIENCE {
            break;
        }
        looked = attempt(facts, objects, report)?;
    }
    Ok(looked)
}

/// One attempt with the mappings and the residency of now.
fn attempt(
    facts: &ProcessFacts,
    objects: &Objects,
    report: Report<'_>,
) -> anyhow::Result<Result<Looked, Refusal>> {
    let pid = facts.pid;
    let image = Image::open(facts).map_err(open_failure)?;
    Ok(match readable(&image) {
        Ok(()) => {
            let looked = Runtime::find(&image).and_then(|runtime| {
                let wanted = Wanted { objects: objects.wanted, map: objects.map };
                let mut looked = snapshot(facts, &image, &runtime, wanted)?;
                let recorded = objects.wanted.then(|| traces::sites_of(pid)).flatten();
                let asked = Asked {
                    until: objects.within.map(|w| Instant::now() + w),
                    progress: report,
                    show_values: objects.show_values,
                    blocks: objects.blocks,
                    at: &objects.at,
                    sites: recorded.as_ref().map(|(sites, _)| sites),
                };
                explain(&image, &runtime, &mut looked, &asked)
                    .map_err(|source| Refusal::Read { pid, source })?;
                looked.snapshot.notes.extend(recorded.map(|(_, note)| note));
                Ok(looked)
            });
            match looked {
                // Reading it would bring it back into memory.
                Err(Refusal::Read { source: source @ ReadError::Swapped(_), .. }) => {
                    let reason = format!("the state of its interpreter cannot be read: {source}");
                    let hint = Some(format!("pydefrag snapshot {pid}   (again, once it has run)"));
                    Ok(snapshot_partial(facts, &image, Partial { reason, hint }))
                }
                looked => looked,
            }
        }
        Err(ReadError::Denied) => {
            let denial = diagnose(pid, true);
            let reason = format!("its memory may not be read: {denial}");
            let why = Partial { reason, hint: Some(denial.hint(pid)) };
            Ok(snapshot_partial(facts, &image, why))
        }
        Err(source) => Err(Refusal::Read { pid, source }),
    })
}

/// Whether memory may be read at all: tried on a page that is resident.
pub(crate) fn readable(image: &Image) -> Result<(), ReadError> {
    let resident = image.mappings.iter().filter(|m| m.permissions.read && m.rss > 0);
    for m in resident.filter(|m| m.name_bytes() != b"[vvar]" && m.name_bytes() != b"[vsyscall]") {
        let Some(run) = image.residency.runs_in(m.start, m.end).find(|r| r.resident) else {
            continue;
        };
        match image.memory().read(run.start, &mut [0; 8]) {
            // It may have been unmapped meanwhile: try another.
            Err(ReadError::Unmapped(_)) => {}
            result => return result,
        }
    }
    Ok(())
}

const LIST: &str = "pydefrag ps   (lists the Python processes there are)";

fn again(pid: i32) -> String {
    format!("pydefrag snapshot {pid}   (again, if it was starting or ending)")
}

fn open_failure(e: OpenError) -> anyhow::Error {
    match e {
        OpenError::Look(e) => look_failure(e),
        OpenError::Smaps { pid, .. } => hinted(e, again(pid)),
        e => hinted(e, LIST),
    }
}

fn look_failure(e: LookError) -> anyhow::Error {
    let hint = match &e {
        LookError::Denied { pid, denial } => denial.hint(*pid),
        LookError::Execed(pid) | LookError::Io { pid, .. } => again(*pid),
        _ => LIST.into(),
    };
    hinted(e, hint)
}

fn refusal_failure(e: Refusal) -> anyhow::Error {
    let hint = match &e {
        Refusal::Read { pid, source: ReadError::Denied } => diagnose(*pid, true).hint(*pid),
        Refusal::NotUnderstood { pid, .. } | Refusal::Read { pid, .. } => again(*pid),
        Refusal::Agent { tool, .. } => {
            format!("pydefrag --version   (look with {tool}, or start the process anew)")
        }
        _ => LIST.into(),
    };
    hinted(e, hint)
}

/// A few words on why a process cannot be looked at, for a table.
pub(crate) fn short(e: &OpenError) -> String {
    match e {
        OpenError::Look(LookError::Denied { denial, .. }) => denial.short().into(),
        OpenError::Look(LookError::Zombie(_)) => "zombie".into(),
        OpenError::Look(LookError::Ended(_) | LookError::NoSuchProcess(_)) => "ended".into(),
        _ => Denial::Unknown.short().into(),
    }
}
