//! Snapshots built by hand for the tests.

use pydefrag_heap::{
    Account, ArenaThread, Basis, Child, Diff, Ended, Fragmentation, Heal, HealLevel, HealWay,
    HealWork, Healed, InterpreterHeap, Ladder, Left, Libc, Malloc, MallocArena, Member, Memory,
    Missing, Mmapped, Owner, OwnerKind, Partial, Process, Pymalloc, PythonInfo, Realised, Run,
    SCHEMA, Sample, SizeClass, Snapshot, Torn, Tree, measures, request_fit,
};

use crate::ps::PsRow;

mod explained;
mod recording;

pub(crate) use explained::{
    explained, explained_nothing, explained_usually, explained_worst, full_explained, hostile,
    two_explained,
};

pub(crate) use recording::{
    deep_recording, hostile_recording, nothing_recorded, recording, recordings, sampled_recording,
    wide_recording,
};

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

/// The three owners that malloc is walked as: 91 MiB together.
fn malloc_owners() -> Vec<Owner> {
    let account = |live, holes, pinned_free, top, cached| Account {
        live: live * MIB,
        metadata: 200_000,
        holes: holes * MIB,
        pinned_free: pinned_free * MIB,
        top: top * MIB - 200_000,
        cached,
        ..Default::default()
    };
    [
        ("malloc main arena", account(31, 9, 4, 3, 60_000)),
        ("malloc thread arenas", account(6, 17, 8, 4, 900_000)),
        ("malloc mmapped chunks", Account { live: 8 * MIB, metadata: 4096, ..Default::default() }),
    ]
    .into_iter()
    .map(|(name, account)| Owner { kind: OwnerKind::Malloc, ..heap(name, account) })
    .collect()
}

/// malloc's arenas to these owners.
fn malloc() -> Malloc {
    let arena = |address, main, system, free, name: &str| MallocArena {
        address,
        main,
        heaps: 1,
        system: system * MIB,
        used: (system - free) * MIB - 400_000,
        overhead: 300_000,
        tcache: 100_000,
        free: free * MIB,
        fastbins: 4096,
        top: 3 * MIB,
        unread: 0,
        used_chunks: 12_345,
        free_chunks: 678,
        largest_free: 2 * MIB,
        resident: system * MIB,
        threads: match name {
            "" => vec![],
            name => vec![ArenaThread { tid: 4243, name: name.into() }],
        },
    };
    Malloc {
        arenas: vec![
            arena(0x7f00_0001_0c60, true, 47, 16, "gunicorn"),
            arena(0x7f00_1400_0030, false, 20, 18, "reader-1"),
            arena(0x7f00_1800_0030, false, 15, 11, ""),
        ],
        mmapped: Mmapped { chunks: 3, bytes: 8 * MIB + 12_288 },
    }
}

/// A run whose memory rises, falls by half and rises again, ten samples a second.
fn run(children: usize) -> Run {
    let samples: Vec<Sample> = (0..100u64)
        .map(|i| {
            let used = [2, 20, 60, 110, 160, 200, 120, 40, 25, 20][(i / 10) as usize] * MIB;
            let rss = 12 * MIB + if i < 60 { used } else { 180 * MIB };
            Sample { at: i as f64 / 10.0, rss, free: rss - 12 * MIB - used.min(rss - 12 * MIB) }
        })
        .collect();
    let (peak, trough, trough_ratio, waste) = measures(&samples).unwrap();
    let commands = ["python3 worker.py", EVIL[0], EVIL[3], "ffmpeg -i - -f null -"];
    Run {
        seconds: 10.04,
        ended: Ended::Code(0),
        peak,
        trough,
        end: samples[99],
        trough_ratio,
        waste,
        account_at_end: true,
        account_note: None,
        samples,
        children: (0..children)
            .map(|i| Child {
                pid: 4300 + i as i32,
                parent: 4242,
                command: commands[i % 4].into(),
                peak_rss: (i as u64 * 7 % 19 + 1) * MIB,
                rss: (i as u64 * 7 % 19 + 1) * MIB / 2,
                pss: (i % 2 == 0).then_some(MIB / 2),
                free: (i % 3 == 0).then_some(MIB / 4),
                running: i % 5 == 1,
            })
            .collect(),
        children_left_out: 0,
        healed: None,
    }
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
        // One that the agent has purged, and one that it has not.
        parked_pools: if interpreters > 1 { 100 * id } else { 0 },
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
    s.owners.iter_mut().for_each(|o| o.pss = o.resident - o.resident / 64);
    s.fragmentation = Fragmentation::of(&s.owners);
    s.verdict = pydefrag_advise::verdict(&s);
    s
}

/// A web worker at rest after a busy hour: what most people see.
pub(crate) fn usual() -> Snapshot {
    use Basis::{ByExclusion, Mapped, Recognised};
    let mut owners = malloc_owners();
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
    owners.extend([
        heap("pymalloc", account),
        owner("interpreter", OwnerKind::Interpreter, Mapped, 7 * MIB),
        owner("extension modules", OwnerKind::Extensions, Mapped, 21 * MIB),
        owner("shared libraries", OwnerKind::Libraries, Mapped, 9 * MIB),
        owner("interpreter frame stacks", OwnerKind::FrameStacks, Recognised, 300_000),
        owner("thread stacks", OwnerKind::ThreadStacks, Mapped, MIB),
        owner("other anonymous", OwnerKind::OtherAnonymous, ByExclusion, 3 * MIB),
    ]);
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
        owners,
        unattributed: 0,
        residency_difference: 0,
        pymalloc: Some(pymalloc(1)),
        malloc: Some(malloc()),
        fragmentation: None,
        ladder: Ladder {
            trim: Some(25 * MIB),
            purge: Some(108 * MIB),
            compact: None,
            ideal: Some(174 * MIB),
        },
        verdict: None,
        run: None,
        explanation: None,
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
    s.owners[0].account.as_mut().unwrap().rounding = Some(4 * MIB);
    s.owners[0].resident += 4 * MIB;
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
        trim: Some(25 * MIB),
        purge: Some(111 * MIB),
        compact: Some(140 * MIB),
        ideal: Some(179 * MIB),
    };
    s.run = Some(run(5));
    s.notes = vec![
        "Python 3.15 was not tested with this version; its layout validated".into(),
        "io_uring's rings are not seen by smaps".into(),
    ];
    finish(s)
}

/// Memory could not be read.
pub(crate) fn partial() -> Snapshot {
    let mut s = unwalked();
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
    finish(s)
}

/// No heap walked.
fn unwalked() -> Snapshot {
    let mut s = usual();
    s.owners.retain(|o| o.account.is_none());
    s.owners.push(owner("malloc", OwnerKind::Malloc, Basis::Recognised, 91 * MIB));
    s.pymalloc = None;
    s.malloc = None;
    s.ladder = Ladder::default();
    s
}

/// Objects served by an allocator that is not walked.
pub(crate) fn served_by(allocator: &str) -> Snapshot {
    let mut s = unwalked();
    s.process.python.as_mut().unwrap().allocator = allocator.into();
    finish(s)
}

/// PYTHONMALLOC=malloc, with malloc walked.
pub(crate) fn served_by_walked_malloc() -> Snapshot {
    let mut s = usual();
    s.owners.retain(|o| o.kind != OwnerKind::Pymalloc);
    s.process.python.as_mut().unwrap().allocator = "malloc".into();
    s.pymalloc = None;
    s.ladder = Ladder { trim: Some(25 * MIB), ideal: Some(40 * MIB), ..Ladder::default() };
    finish(s)
}

/// A program that was run: a peak that was given up.
pub(crate) fn ran() -> Snapshot {
    let mut s = usual();
    s.run = Some(run(0));
    finish(s)
}

/// A program of which only samples are known, killed, with many children.
pub(crate) fn ran_killed() -> Snapshot {
    let mut s = partial();
    s.partial = Some(Partial { reason: "the program was killed".into(), hint: None });
    s.run = Some(Run {
        ended: Ended::Signal(9),
        account_at_end: false,
        account_note: Some("there is no account of the end: it was killed by signal 9".into()),
        children_left_out: 400,
        healed: Some(healed()),
        ..run(100)
    });
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
    s.malloc.as_mut().unwrap().arenas[1].threads[0].name = EVIL.concat();
    s.run = Some(Run {
        seconds: f64::MAX,
        ended: Ended::Signal(i32::MIN),
        account_at_end: false,
        account_note: Some(EVIL.concat()),
        waste: 1e300,
        children_left_out: u64::MAX >> 1,
        healed: Some(Healed { times: u64::MAX, returned: Some(i64::MIN), ..healed() }),
        ..run(100)
    });
    let pymalloc = s.pymalloc.as_mut().unwrap();
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
        ("malloc-walked", served_by_walked_malloc()),
        ("ran", ran()),
        ("ran-killed", ran_killed()),
        ("unknown", served_by("unknown")),
        ("many", many_owners(60)),
        ("empty", empty()),
        ("huge", huge()),
        ("worst", worst()),
        ("worst-whole", Snapshot { partial: None, ..worst() }),
        ("explained", explained_usually()),
        ("explained-all", explained()),
        ("explained-nothing", explained_nothing()),
        ("explained-full", full_explained()),
        ("explained-hostile", finish(Snapshot { explanation: Some(hostile()), ..usual() })),
        ("explained-worst", explained_worst()),
    ]
}

/// Two looks at the same process: a leak, and beside it another owner that went away.
pub(crate) fn two_looks() -> (Snapshot, Snapshot) {
    let a = usual();
    let mut b = usual();
    b.taken_at += 3725.5;
    b.owners.retain(|o| o.kind != OwnerKind::OtherAnonymous);
    b.owners.push(owner("shared memory", OwnerKind::SharedMemory, Basis::Mapped, 4 * MIB));
    let heap = b.owners.iter_mut().find(|o| o.kind == OwnerKind::Pymalloc).unwrap();
    let account = heap.account.as_mut().unwrap();
    account.live += 90 * MIB;
    account.free_spans -= 12 * MIB;
    heap.resident = account.total();
    (a, finish(b))
}

/// Differences by name: a leak, nothing, unlike programs with hostile names and many owners.
pub(crate) fn differences() -> Vec<(&'static str, Diff)> {
    let of = |a: &Snapshot, b: &Snapshot| {
        let mut diff = Diff::of(a, b);
        diff.verdict = pydefrag_advise::of_diff(&diff, a, b);
        diff
    };
    let (a, b) = two_looks();
    let (explained_a, explained_b) = two_explained();
    let later = explained_b.explanation.clone();
    vec![
        ("leak", of(&a, &b)),
        ("same", of(&a, &a)),
        ("worst", of(&worst(), &Snapshot { partial: None, ..huge() })),
        ("partial", of(&partial(), &a)),
        ("explained", of(&explained_a, &explained_b)),
        ("explained-once", of(&a, &explained_b)),
        ("explained-worst", of(&explained_worst(), &Snapshot { explanation: later, ..huge() })),
    ]
}

/// The difference of two looks that both know their objects.
pub(crate) fn explained_difference() -> Diff {
    let (a, b) = two_explained();
    Diff::of(&a, &b)
}

/// A master with so many workers, one of which is too old to be looked at.
pub(crate) fn tree(workers: u64) -> Tree {
    let member = |depth, i: u64| {
        let mut snapshot = usual();
        snapshot.process.pid = 4242 + i as i32;
        if i % 4 == 3 {
            snapshot.process.command = EVIL[(i % 5) as usize].repeat(9);
        }
        snapshot.owners.iter_mut().for_each(|o| o.pss /= 1 + i % 3);
        snapshot.memory.pss = snapshot.owners.iter().map(|o| o.pss).sum();
        let alone = 20 * MIB + i * MIB;
        Member { depth, parent: 1, alone, copied: 9 * MIB, still_shared: 60 * MIB, snapshot }
    };
    let mut members = vec![member(0, 0)];
    members.extend((1..=workers).map(|i| member(1 + u32::from(i % 7 == 2), i)));
    let reason = "process 5000 is not a Python process: it runs /usr/bin/sleep".into();
    Tree::of(members, vec![Missing { pid: 5000, reason }]).unwrap()
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

/// Heals of a run.
fn healed() -> Healed {
    Healed {
        times: 3,
        refused: 1,
        returned: Some(41 << 20),
        longest_slice_us: Some(4120.0),
        cpu_ms: Some(61.5),
        pools_unparked: 12,
    }
}

/// A heal as usual; one that is only planned; one that was refused; and the strangest.
pub(crate) fn heals() -> Vec<(&'static str, Heal)> {
    let before = usual();
    let planned = Heal::planned(&before, HealLevel::Purge, false, HealWay::RemoteExec);
    let mut after = explained();
    after.owners.iter_mut().for_each(|o| o.resident -= o.resident / 5);
    let mut done = Heal {
        dry_run: false,
        collect: true,
        way: HealWay::Agent,
        returned: 34 << 20,
        realised: Some(Realised {
            seconds: 10.02,
            rss: before.memory.rss - (33 << 20),
            pss: before.memory.pss - (33 << 20),
            returned: 33 << 20,
            huge_pages_grown: 2 << 20,
            minor_faults: 212,
        }),
        owners: Diff::of(&before, &after).owners,
        work: Some(HealWork {
            trim_ms: 3.2,
            trim_returned: Some(2 << 20),
            pools_parked: 2100,
            bytes_dropped: 32 << 20,
            pools_unparked: 4,
            slices: 11,
            longest_slice_us: 4870.0,
            gil_ms: 41.0,
            wall_ms: 62.0,
            cpu_ms: 44.4,
            collected: Some(512),
            collect_ms: Some(8.25),
            arenas_shared: 3,
            skipped: vec!["2 arenas of another interpreter were left alone".into()],
            ..HealWork::default()
        }),
        left: Left::of(&after),
        notes: vec!["a note".into()],
        ..planned.clone()
    };
    done.memory.rss.after = before.memory.rss - (34 << 20);
    done.memory.pss.after = before.memory.pss - (34 << 20);
    let refused = Heal {
        would_refuse: Some("tracemalloc is on".into()),
        ..Heal::planned(&before, HealLevel::Trim, false, HealWay::Agent)
    };
    let long = "x\u{1b}[31m\n".repeat(90);
    let strange = explained_worst();
    let worst = Heal {
        returned: i64::MIN,
        promised: Some(1),
        owners: Diff::of(&strange, &Snapshot { partial: None, ..huge() }).owners,
        left: Left::of(&Snapshot { partial: None, ..strange.clone() }),
        notes: vec![long.clone(); 9],
        work: Some(HealWork {
            longest_slice_us: f64::NAN,
            gil_ms: f64::INFINITY,
            wall_ms: 1e300,
            pools_parked: u64::MAX,
            bytes_dropped: u64::MAX,
            skipped: vec![long; 9],
            ..Default::default()
        }),
        process: strange.process,
        realised: Some(Realised {
            seconds: f64::NAN,
            returned: i64::MIN,
            minor_faults: u64::MAX,
            huge_pages_grown: u64::MAX,
            ..Default::default()
        }),
        ..done.clone()
    };
    vec![("done", done), ("planned", planned), ("refused", refused), ("worst", worst)]
}
