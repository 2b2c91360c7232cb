//! Snapshots built by hand for the tests.

use pydefrag_heap::{
    Account, Basis, Explanation, Ladder, Memory, Owner, OwnerKind, OwnerPin, OwnerSlack, Pin,
    Process, PythonInfo, RootKind, SCHEMA, Saving, SlackOf, Snapshot, StructureChange, Torn,
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

/// A first pin, 20 MiB of garbage and four savings.
pub(crate) fn explained() -> Explanation {
    const MIB: u64 = 1 << 20;
    let mut e = Explanation::default();
    e.pins.pinned = 40 * MIB;
    e.pins.by_owner = vec![OwnerPin {
        owner: "app.cache.SESSIONS[dict] -> Session -> .token[str]".into(),
        head: "app.cache.SESSIONS".into(),
        root: RootKind::Module,
        pin: Pin { count: 41_200, pinned: 26 * MIB, ..Default::default() },
    }];
    let saving = |change, of: &str, saved| Saving {
        change,
        of: of.into(),
        saved,
        how: format!("write {of} anew"),
        ..Default::default()
    };
    e.savings = vec![
        saving(StructureChange::Slots, "app.Session", 9 * MIB),
        saving(StructureChange::Rebuild, "app.index", 7 * MIB),
        saving(StructureChange::Array, "app.rows", 3 * MIB),
        saving(StructureChange::Tuple, "app.points", 2 * MIB),
        saving(StructureChange::Intern, "app.names", MIB / 2),
    ];
    (e.garbage.objects, e.garbage.bytes) = (10_000, 20 * MIB);
    e
}

/// So much room in dicts and lists, half of it in one owner each.
pub(crate) fn with_slack(dict: u64, list: u64) -> Explanation {
    let of = |owner: &str, bytes: u64| SlackOf {
        containers: 2,
        held: 2 * bytes,
        bytes,
        worst: vec![OwnerSlack { owner: owner.into(), containers: 1, bytes: bytes / 2 }],
    };
    let mut e = Explanation::default();
    (e.slack.dict, e.slack.list) = (of("app.index", dict), of("app.rows", list));
    e
}
