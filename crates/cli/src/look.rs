//! One look at a process: from a pid to an account, whole or partial, or a failure that says why.
//!
//! Owns the order of the steps and what a process that ends or execs midway means.

use pydefrag_heap::Partial;
use pydefrag_image::{
    Denial, Identity, Image, LookError, OpenError, ProcessFacts, ReadError, diagnose,
};
use pydefrag_walk::{Looked, Refusal, Runtime, snapshot, snapshot_partial};

use crate::failure::hinted;

/// A process that maps and unmaps all the while may outrun one look at its mappings.
const TRIES: usize = 8;

/// Looks at the process `pid`.
pub(crate) fn look(pid: i32) -> anyhow::Result<Looked> {
    let facts = ProcessFacts::of(pid).map_err(look_failure)?;
    let before = Identity::of(pid);
    let mut looked = attempt(&facts)?;
    for _ in 1..TRIES {
        if !matches!(looked, Err(Refusal::NotUnderstood { .. })) {
            break;
        }
        looked = attempt(&facts)?;
    }
    // Whatever was read, or not understood, of a process that became another one means nothing.
    match (before, Identity::of(pid)) {
        (Some(before), Some(after)) if before == after => looked.map_err(refusal_failure),
        (Some(before), Some(after)) if before.same_process(&after) => {
            let again = format!("pydefrag snapshot {pid}");
            Err(hinted(LookError::Execed(pid), again))
        }
        _ => Err(hinted(LookError::Ended(pid), "pydefrag ps")),
    }
}

/// One attempt with the mappings and the residency of now.
fn attempt(facts: &ProcessFacts) -> anyhow::Result<Result<Looked, Refusal>> {
    let pid = facts.pid;
    let image = Image::open(facts).map_err(open_failure)?;
    Ok(match readable(&image) {
        Ok(()) => Runtime::find(&image).and_then(|runtime| snapshot(facts, &image, &runtime)),
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

fn open_failure(e: OpenError) -> anyhow::Error {
    match e {
        OpenError::Look(e) => look_failure(e),
        e => e.into(),
    }
}

fn look_failure(e: LookError) -> anyhow::Error {
    let hint = match &e {
        LookError::Denied { pid, denial } => denial.hint(*pid),
        LookError::NoSuchProcess(_) | LookError::Zombie(_) | LookError::Ended(_) => {
            "pydefrag ps   (lists the Python processes there are)".into()
        }
        LookError::Kernel(..) => "pydefrag ps   (lists the Python processes there are)".into(),
        _ => return e.into(),
    };
    hinted(e, hint)
}

fn refusal_failure(e: Refusal) -> anyhow::Error {
    match &e {
        Refusal::NotPython { .. } => {
            hinted(e, "pydefrag ps   (lists the Python processes there are)")
        }
        Refusal::Read { pid, source: ReadError::Denied } => {
            let hint = diagnose(*pid, true).hint(*pid);
            hinted(e, hint)
        }
        Refusal::NotUnderstood { pid, .. } => {
            let hint = format!("pydefrag snapshot {pid}   (again, if it was starting or ending)");
            hinted(e, hint)
        }
        _ => e.into(),
    }
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
