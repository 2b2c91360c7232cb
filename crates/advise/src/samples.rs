//! Snapshots built by hand for the tests.

use pydefrag_heap::{
    Account, Basis, Ladder, Memory, Owner, OwnerKind, Process, PythonInfo, SCHEMA, Snapshot, Torn,
};

/// A walked pymalloc heap.
pub(crate) fn heap(name: &str, live: u64, free: u64) -> Owner {
    let account = Account { live, holes: free, ..Default::default() };
    let mut owner = Owner::new(name, OwnerKind::Pymalloc, Basis::Walked);
    owner.resident = account.total();
    owner.account = Some(account);
    owner
}

/// An owner that is not walked.
pub(crate) fn other(kind: OwnerKind, resident: u64) -> Owner {
    Owner { resident, ..Owner::new(kind.label(), kind, Basis::Mapped) }
}

/// A process that has these owners, and 10 MiB of files.
pub(crate) fn snapshot(mut owners: Vec<Owner>) -> Snapshot {
    owners.push(other(OwnerKind::Libraries, 10 << 20));
    Snapshot {
        schema: SCHEMA,
        tool: "pydefrag test".into(),
        taken_at: 1000.0,
        partial: None,
        torn: Torn::default(),
        process: Process {
            pid: 7,
            command: "python3 app.py".into(),
            threads: 1,
            python: Some(PythonInfo {
                version: "3.12.7".into(),
                free_threaded: false,
                allocator: "pymalloc".into(),
                debug_hooks: false,
                tracemalloc: false,
                foreign_hook: None,
                image: "/usr/bin/python3.12".into(),
                interpreters: Some(1),
            }),
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
