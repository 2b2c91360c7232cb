//! Snapshots built by hand for the tests.

use pydefrag_heap::{
    Account, Basis, Fragmentation, InterpreterHeap, Ladder, Libc, Memory, Owner, OwnerKind,
    Partial, Process, Pymalloc, PythonInfo, SCHEMA, SizeClass, Snapshot, Torn, request_fit,
};

use crate::ps::PsRow;

const MIB: u64 = 1 << 20;

/// Texts that a process could put into its argv to mislead the reader.
pub(crate) const EVIL: [&str; 5] = [
    "\x1b[2J\x1b[31mpython\x07",
    "python\nPID 1 ok\r\n\t",
    "\u{9b}31m\u{202e}nohtyp\u{2066}\u{200d}\u{feff}",
    "数据处理 🙂 é e\u{301}",
    "☎\u{fe0f}👩\u{200d}👧 \u{1f1e9}\u{1f1ea}",
];

fn owner(name: &str, kind: OwnerKind, basis: Basis, resident: u64) -> Owner {
    Owner { resident, ..Owner::new(name, kind, basis) }
}

fn heap(name: &str, account: Account) -> Owner {
    let mut o = owner(name, OwnerKind::Pymalloc, Basis::Walked, account.total());
    o.account = Some(account);
    o
}

fn classes(scale: u64) -> Vec<SizeClass> {
    [(32, 9, 21_000, 9_000), (64, 7, 90_000, 410_000), (512, 3, 4_000, 800)]
        .map(|(size, pools, used, free)| SizeClass {
            size,
            pools: pools * scale,
            used_blocks: used * scale,
            free_blocks: free * scale,
        })
        .to_vec()
}

fn pymalloc(interpreters: u64) -> Pymalloc {
    let heaps = (0..interpreters).map(|id| InterpreterHeap {
        id: id as i64,
        arenas: 200,
        free_pools: 3904,
        uncarved_pools: 13,
        classes: classes(id + 1),
    });
    let mut p = Pymalloc::of(MIB, 16384, heaps.collect());
    p.largest_free_run = 1_228_800;
    let in_pools: u64 = p.classes.iter().map(|c| c.free_blocks * c.size).sum();
    p.free_bytes = in_pools + (p.free_pools + p.uncarved_pools) * p.pool_size;
    p.fit = request_fit(&p.classes, (p.free_pools + p.uncarved_pools) * p.pool_size);
    p
}

/// Fills in what follows from the owners.
fn finish(mut s: Snapshot) -> Snapshot {
    s.owners.sort_by_key(|o| std::cmp::Reverse(o.resident));
    s.memory.rss = s.owners.iter().map(|o| o.resident).sum::<u64>() + s.unattributed;
    s.memory.pss = s.memory.rss - s.memory.rss / 64;
    s.memory.uss = s.memory.rss - s.memory.rss / 32;
    s.memory.hwm = s.memory.rss + s.memory.rss / 3;
    s.fragmentation = Fragmentation::of(&s.owners);
    s
}

/// A web worker at rest after a busy hour: what most people see.
pub(crate) fn usual() -> Snapshot {
    use Basis::{ByExclusion, Mapped, Recognised};
    let account = Account {
        live: 140 * MIB + 300_000,
        rounding: None,
        metadata: 2 * MIB,
        virgin: MIB + 77_777,
        free_spans: 61 * MIB,
        holes: 22 * MIB,
        pinned_free: 48 * MIB,
        top: 0,
        cached: 0,
        unread: 0,
        live_not_resident: 0,
    };
    finish(Snapshot {
        schema: SCHEMA,
        tool: "pydefrag 0.1.0".into(),
        taken_at: 1_732_287_845.25,
        partial: None,
        torn: Torn { pools: 17_000, ..Default::default() },
        process: Process {
            pid: 4242,
            command: "/usr/bin/python3 -m gunicorn shop.wsgi:application --workers 4 --bind \
                      0.0.0.0:8000"
                .into(),
            threads: 9,
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
            libc: Some(Libc { name: "glibc".into(), version: Some("2.36".into()) }),
        },
        memory: Memory::default(),
        owners: vec![
            heap("pymalloc", account),
            owner("malloc", OwnerKind::Malloc, Recognised, 91 * MIB),
            owner("interpreter", OwnerKind::Interpreter, Mapped, 7 * MIB),
            owner("extension modules", OwnerKind::Extensions, Mapped, 21 * MIB),
            owner("shared libraries", OwnerKind::Libraries, Mapped, 9 * MIB),
            owner("interpreter frame stacks", OwnerKind::FrameStacks, Recognised, 300_000),
            owner("thread stacks", OwnerKind::ThreadStacks, Mapped, MIB),
            owner("other anonymous", OwnerKind::OtherAnonymous, ByExclusion, 3 * MIB),
        ],
        unattributed: 0,
        residency_difference: 0,
        pymalloc: Some(pymalloc(1)),
        malloc: None,
        fragmentation: None,
        ladder: Ladder { trim: None, purge: Some(83 * MIB), compact: None, ideal: Some(129 * MIB) },
        verdict: None,
        run: None,
        notes: vec![],
    })
}

/// Every field filled, every part of the report in use.
pub(crate) fn full() -> Snapshot {
    let mut s = usual();
    s.torn = Torn { pools: 17_000, retried: 12, left: 7, arenas_gone: 1, chunks: 2 };
    let python = s.process.python.as_mut().unwrap();
    python.free_threaded = true;
    python.debug_hooks = true;
    python.tracemalloc = true;
    python.foreign_hook = Some("/opt/app/lib/memray.so".into());
    python.interpreters = Some(2);
    let mut second = heap(
        "pymalloc (interpreter 1)",
        Account {
            live: 5 * MIB,
            rounding: Some(MIB),
            metadata: 100_000,
            virgin: 50_000,
            free_spans: 2 * MIB,
            holes: 0,
            pinned_free: MIB,
            top: 0,
            cached: 0,
            unread: 7 * 16384,
            live_not_resident: 4096,
        },
    );
    second.swapped = 2 * MIB;
    second.huge = 2 * MIB;
    second.copy_on_write_shared = MIB;
    s.owners.push(second);
    let first = s.owners[0].account.as_mut().unwrap();
    first.rounding = Some(4 * MIB);
    s.owners[0].resident = first.total();
    s.owners.push(owner("data files", OwnerKind::DataFiles, Basis::Mapped, 2 * MIB));
    s.owners.push(owner("shared memory", OwnerKind::SharedMemory, Basis::Mapped, 16 * MIB));
    s.unattributed = 8192;
    s.residency_difference = 12_288;
    s.pymalloc = Some(pymalloc(2));
    s.memory = Memory {
        swap: 12 * MIB,
        anon_huge_pages: 20 * MIB,
        ksm: MIB,
        lazy_free: 3 * MIB,
        hugetlb: 2 * MIB,
        ..s.memory
    };
    s.ladder = Ladder {
        trim: Some(3 * MIB),
        purge: Some(86 * MIB),
        compact: Some(110 * MIB),
        ideal: Some(134 * MIB),
    };
    s.notes = vec![
        "Python 3.15 was not tested with this version; its layout validated".into(),
        "io_uring's rings are not seen by smaps".into(),
    ];
    finish(s)
}

/// Memory could not be read.
pub(crate) fn partial() -> Snapshot {
    let mut s = usual();
    s.owners.retain(|o| o.account.is_none());
    s.owners.push(owner("other anonymous 2", OwnerKind::OtherAnonymous, Basis::ByExclusion, MIB));
    s.partial = Some(Partial {
        reason:
            "the memory of pid 4242 may not be read: it belongs to another user (uid 1001) and \
                 the kernel allows ptrace of children only (yama ptrace_scope is 1)"
                .into(),
        hint: Some("sudo pydefrag snapshot 4242".into()),
    });
    s.torn = Torn::default();
    s.process.python = None;
    s.process.libc = None;
    s.pymalloc = None;
    s.ladder = Ladder::default();
    finish(s)
}

/// Objects served by an allocator that is not walked.
pub(crate) fn served_by(allocator: &str) -> Snapshot {
    let mut s = usual();
    s.owners.retain(|o| o.account.is_none());
    s.process.python.as_mut().unwrap().allocator = allocator.into();
    s.pymalloc = None;
    s.ladder = Ladder::default();
    finish(s)
}

/// So many owners that most must be folded.
pub(crate) fn many_owners(n: u64) -> Snapshot {
    let mut s = usual();
    for i in 0..n {
        if i % 3 == 0 {
            let account = Account { live: i * 4096 + 8192, holes: 4096, ..Default::default() };
            s.owners.push(heap(&format!("pymalloc (interpreter {i})"), account));
        } else {
            let name = format!("allocator in libprivate-{i}.cpython-312-x86_64-linux-gnu.so");
            s.owners.push(owner(&name, OwnerKind::Mimalloc, Basis::Recognised, i * 100_000));
        }
    }
    finish(s)
}

/// Nothing at all: a process that just went away.
pub(crate) fn empty() -> Snapshot {
    let mut s = served_by("unknown");
    s.owners.clear();
    s.process.command.clear();
    s.process.threads = 0;
    s.process.python = None;
    s.process.libc = None;
    s.taken_at = -1.0;
    finish(s)
}

/// Tebibytes.
pub(crate) fn huge() -> Snapshot {
    let mut s = full();
    const BY: u64 = 200_000;
    for o in &mut s.owners {
        o.resident *= BY;
        if let Some(a) = &mut o.account {
            *a = Account {
                live: a.live * BY,
                rounding: a.rounding.map(|r| r * BY),
                metadata: a.metadata * BY,
                virgin: a.virgin * BY,
                free_spans: a.free_spans * BY,
                holes: a.holes * BY,
                pinned_free: a.pinned_free * BY,
                top: a.top * BY,
                cached: a.cached * BY,
                unread: a.unread * BY,
                live_not_resident: a.live_not_resident * BY,
            };
        }
    }
    s.unattributed *= BY;
    s.ladder.ideal = Some(u64::MAX);
    finish(s)
}

/// Everything that takes room at once, and hostile texts wherever a process can put some.
pub(crate) fn worst() -> Snapshot {
    let mut s = huge();
    let pymalloc = s.pymalloc.as_mut().unwrap();
    pymalloc.largest_free_run = 99_999 << 20;
    pymalloc.free_bytes += 90_000 << 20;
    pymalloc.fit.iter_mut().for_each(|f| f.usable += 90_000 << 20);
    s.memory.hugetlb = 99_999 << 20;
    s.memory.lazy_free = 99_999 << 20;
    s.memory.ksm = 99_999 << 20;
    s.memory.anon_huge_pages = 99_999 << 20;
    let more = many_owners(60);
    s.owners
        .extend(more.owners.into_iter().filter(|o| o.name.contains('-') || o.name.contains('(')));
    let evil: String = EVIL.concat();
    s.process.command = evil.repeat(100);
    s.owners[0].name = evil.clone();
    s.owners[1].name = evil.clone();
    let python = s.process.python.as_mut().unwrap();
    python.foreign_hook = Some(evil.repeat(9));
    python.version = evil.clone();
    s.process.libc = Some(Libc { name: evil.clone(), version: Some(evil.clone()) });
    s.partial = Some(Partial { reason: evil.repeat(90), hint: Some(evil.repeat(90)) });
    s.notes = (0..30).map(|i| format!("note {i}: {evil}")).collect();
    s.process.pid = i32::MAX;
    let mut s = finish(s);
    s.memory.rss += 4096;
    s
}

/// One of each, by name.
pub(crate) fn all() -> Vec<(&'static str, Snapshot)> {
    vec![
        ("usual", usual()),
        ("full", full()),
        ("partial", partial()),
        ("malloc", served_by("malloc")),
        ("unknown", served_by("unknown")),
        ("many", many_owners(60)),
        ("empty", empty()),
        ("huge", huge()),
        ("worst", worst()),
        ("worst-whole", Snapshot { partial: None, ..worst() }),
    ]
}

/// A small tree of processes.
pub(crate) fn processes() -> Vec<PsRow> {
    let row = |pid, depth, command: &str, rss, live, frag, note: &str| PsRow {
        pid,
        depth,
        command: command.into(),
        rss: Some(rss),
        pss: note.is_empty().then_some(rss - rss / 9),
        live,
        fragmentation_percent: frag,
        python: note.is_empty().then(|| "3.12.7".into()),
        note: note.into(),
    };
    vec![
        row(4240, 0, "python3 -m gunicorn shop.wsgi", 96 * MIB, Some(40 * MIB), Some(11.2), ""),
        row(4242, 1, "python3 -m gunicorn shop.wsgi", 405 * MIB, Some(140 * MIB), Some(48.9), ""),
        row(4243, 1, "python3 -m gunicorn shop.wsgi", 380 * MIB, Some(138 * MIB), Some(44.0), ""),
        row(
            4250,
            2,
            "python3 thumbnails.py --size 640x480 --quality 85 --in /srv/upload/数据处理",
            55 * MIB,
            None,
            None,
            "",
        ),
        row(4244, 1, "python3 -m gunicorn\n\x1b[31mshop.wsgi", 99 * MIB, Some(MIB), Some(0.0), ""),
        row(
            917,
            0,
            "/usr/bin/python3 /usr/bin/networkd-dispatcher",
            20 * MIB,
            None,
            None,
            "other user",
        ),
    ]
}
