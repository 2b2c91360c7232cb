//! The account of a whole process: walked heaps, recognised regions and the kernel's counts together.
//!
//! Owns the assembly of a [`Snapshot`] and the notes on what a reader should know. Does not read the
//! process itself.

use pydefrag_heap::{
    Basis, Detail, Fragmentation, Ladder, Libc, Memory, Owner, OwnerKind, Partial, Process,
    PythonInfo, SCHEMA, Snapshot, Torn,
};
use pydefrag_image::{Image, Mapping, Module, ProcessFacts};

use crate::allocators::{Served, served};
use crate::obmalloc::{States, states};
use crate::pymalloc::{Walk, walk};
use crate::recognise;
use crate::regions::{Regions, divide};
use crate::runtime::{Refusal, Runtime};

/// What one look at a process gives.
#[derive(Debug)]
pub struct Looked {
    /// The account.
    pub snapshot: Snapshot,
    /// The heap behind it.
    pub detail: Detail,
}

/// Makes the account of a process whose memory may be read.
pub fn snapshot(facts: &ProcessFacts, image: &Image, runtime: &Runtime) -> Result<Looked, Refusal> {
    let read = |source| Refusal::Read { pid: image.pid, source };
    let States { states, interpreters } = states(image, runtime)?;
    let walked = walk(image, &states).map_err(read)?;
    let served = served(image, runtime);
    let arenas = walked.arenas.iter().map(|(at, i)| recognise::arena(*at, states[*i].geometry));
    let mimalloc = served.by == Some("mimalloc") || runtime.free_threaded();
    let regions = divide(image, Some(runtime), arenas.collect(), mimalloc);

    let any_arena = walked.pymalloc.arenas > 0;
    let allocator = match served.by {
        Some(by) => by,
        None if any_arena => "pymalloc",
        None => "unknown",
    };
    let libc = libc(image);
    let notes = notes(runtime, &served, &walked, &regions, libc.as_ref(), image);
    let mut owners = pymalloc_owners(&walked);
    owners.extend(regions.owners);
    let pymalloc = (any_arena || allocator == "pymalloc").then_some(walked.pymalloc);
    let python = PythonInfo {
        version: runtime.version.to_string(),
        free_threaded: runtime.free_threaded(),
        allocator: allocator.into(),
        debug_hooks: served.debug_hooks,
        tracemalloc: served.tracemalloc,
        foreign_hook: served.foreign_hook,
        image: runtime.module.path.display().to_string(),
        interpreters,
    };
    let mut snapshot = assemble(facts, image, owners, regions.difference);
    snapshot.process.python = Some(python);
    snapshot.process.libc = libc;
    snapshot.torn = walked.torn;
    snapshot.fragmentation = Fragmentation::of(&snapshot.owners);
    snapshot.ladder = Ladder {
        purge: any_arena.then_some(walked.purge),
        ideal: any_arena.then_some(walked.ideal),
        ..Default::default()
    };
    snapshot.pymalloc = pymalloc;
    snapshot.notes = notes;
    Ok(Looked { snapshot, detail: walked.detail })
}

/// Makes what maps, smaps and pagemap alone tell, where memory may not be read.
pub fn snapshot_partial(facts: &ProcessFacts, image: &Image, why: Partial) -> Looked {
    let regions = divide(image, None, Vec::new(), false);
    let difference = regions.difference;
    let mut snapshot = assemble(facts, image, regions.owners, difference);
    snapshot.process.libc = libc(image);
    snapshot.partial = Some(why);
    Looked { snapshot, detail: Detail::default() }
}

fn assemble(
    facts: &ProcessFacts,
    image: &Image,
    mut owners: Vec<Owner>,
    difference: u64,
) -> Snapshot {
    owners.sort_by(|a, b| b.resident.cmp(&a.resident).then_with(|| a.name.cmp(&b.name)));
    let memory = memory(facts, &image.mappings);
    let owned: u64 = owners.iter().map(|o| o.resident).sum();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Snapshot {
        schema: SCHEMA,
        tool: format!("pydefrag {}", env!("CARGO_PKG_VERSION")),
        taken_at: now.map_or(0.0, |d| d.as_secs_f64()),
        partial: None,
        torn: Torn::default(),
        process: Process {
            pid: facts.pid,
            command: facts.command.clone(),
            threads: facts.threads,
            python: None,
            libc: None,
        },
        memory,
        unattributed: memory.rss.saturating_sub(owned),
        owners,
        residency_difference: difference,
        pymalloc: None,
        malloc: None,
        fragmentation: None,
        ladder: Ladder::default(),
        verdict: None,
        run: None,
        notes: Vec::new(),
    }
}

/// A process's memory as the kernel counts it.
pub fn memory(facts: &ProcessFacts, mappings: &[Mapping]) -> Memory {
    let sum = |of: fn(&Mapping) -> u64| mappings.iter().map(of).sum();
    Memory {
        rss: sum(|m| m.rss),
        pss: sum(|m| m.pss),
        uss: sum(|m| m.private),
        swap: sum(|m| m.swap),
        hwm: facts.hwm.unwrap_or(0),
        anon_huge_pages: sum(|m| m.anon_huge_pages),
        ksm: sum(|m| m.ksm),
        lazy_free: sum(|m| m.lazy_free),
        hugetlb: sum(|m| m.hugetlb),
    }
}

fn pymalloc_owners(walked: &Walk) -> Vec<Owner> {
    let interpreters = &walked.pymalloc.interpreters;
    let name = |id: i64| match interpreters.len() {
        1 => OwnerKind::Pymalloc.label().to_owned(),
        _ => format!("{} (interpreter {id})", OwnerKind::Pymalloc.label()),
    };
    let heaps = interpreters.iter().zip(&walked.accounts).filter(|(i, _)| i.arenas > 0);
    heaps
        .map(|(interpreter, (account, tally))| Owner {
            resident: tally.resident,
            swapped: tally.swapped,
            huge: tally.huge,
            copy_on_write_shared: tally.shared,
            account: Some(*account),
            ..Owner::new(name(interpreter.id), OwnerKind::Pymalloc, Basis::Walked)
        })
        .collect()
}

/// The C library that is mapped, with its version if its text tells.
fn libc(image: &Image) -> Option<Libc> {
    image.mappings.iter().filter(|m| m.is_file()).find_map(|m| {
        let name = String::from_utf8_lossy(m.name_bytes()).into_owned();
        let base = name.rsplit('/').next().unwrap_or_default();
        if base.starts_with("ld-musl-") {
            return Some(Libc { name: "musl".into(), version: None });
        }
        let glibc =
            base.starts_with("libc.so.6") || (base.starts_with("libc-2.") && base.contains(".so"));
        glibc.then(|| Libc {
            name: "glibc".into(),
            version: Module::open(image.pid, m).ok().and_then(|m| glibc_version(&m)),
        })
    })
}

/// `GNU C Library (…) stable release version 2.36.`
fn glibc_version(libc: &Module) -> Option<String> {
    const BEFORE: &str = "release version ";
    let text = libc.find_text(BEFORE.as_bytes(), BEFORE.len() + 8)?;
    let text = String::from_utf8_lossy(&text[BEFORE.len()..]).into_owned();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let version = text[..end].trim_end_matches('.');
    (!version.is_empty()).then(|| version.to_owned())
}

fn notes(
    runtime: &Runtime,
    served: &Served,
    walked: &Walk,
    regions: &Regions,
    libc: Option<&Libc>,
    image: &Image,
) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |text: String| notes.push(text);
    if runtime.untried {
        note(format!(
            "CPython {} is newer than any that was tried; its structures validated",
            runtime.version
        ));
    }
    if runtime.free_threaded() {
        note("a build without the GIL: mimalloc serves it and is totalled, not walked".into());
    }
    if served.debug_hooks {
        note("debug hooks add 24 bytes to every block; live contains them".into());
    }
    if let Some(hook) = &served.foreign_hook {
        note(format!("a foreign allocator hook is installed: {hook}"));
    }
    if let Some(kind) = regions.preloaded {
        note(format!(
            "{} is mapped as the process's malloc: what nothing else claims is counted as its",
            kind.label()
        ));
    }
    if walked.torn.left > 0 || walked.torn.arenas_gone > 0 {
        note(format!(
            "the process ran on: {} of {} pools stayed torn, {} arenas went away",
            walked.torn.left, walked.torn.pools, walked.torn.arenas_gone
        ));
    }
    if libc.is_none() {
        note("no C library was recognised; malloc's regions are told by glibc's marks".into());
    }
    if image.mappings.iter().any(|m| m.hugetlb > 0) {
        note("hugetlb pages are in use; RSS does not contain them".into());
    }
    notes
}
