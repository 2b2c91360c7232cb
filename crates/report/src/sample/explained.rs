//! Explanations built by hand for the tests: what holds the memory of a web worker.

use pydefrag_heap::{
    Amount, ClassPin, Coverage, Duplicates, Explanation, Garbage, Generation, Objects,
    OwnerDuplicates, OwnerPin, OwnerSlack, Pin, Pins, RootKind, Saving, SitePin, Slack, SlackOf,
    Snapshot, StructureChange, TypePin, TypeTotal,
};

use super::{EVIL, MIB, full, usual, worst};

const SESSIONS: &str = "shop.cache.SESSIONS[dict] -> Session -> .token[str]";
const ROWS: &str = "local rows of load (thread MainThread)[list] -> dict (keys)";
const TREE: &str = "shop.catalogue.Catalogue.by_category[dict] -> Category -> .children[list] -> \
                    Category -> .products[list] -> Product -> .attributes[dict] -> str";

fn pin(count: u64, tenths: u64) -> Pin {
    let pinned = tenths * MIB / 10;
    Pin {
        count,
        bytes: count * 64,
        pinned,
        gone: pinned / 8 * 9,
        packed: pinned - pinned / 9,
        moved: pinned / 2,
    }
}

fn type_total(name: &str, count: u64, size: u64, asks: Option<u64>) -> TypeTotal {
    TypeTotal {
        name: name.into(),
        count,
        bytes: count * size,
        rounding: count * (size - asks.unwrap_or(size - 5)),
        buffers: if asks.is_none() { count * 200 } else { 0 },
        tracked: count / 2,
        free_listed: count % 90,
        asks,
    }
}

fn slack(containers: u64, held: u64, bytes: u64, worst: &[(&str, u64)]) -> SlackOf {
    let worst = worst.iter().map(|(owner, mib)| OwnerSlack {
        owner: (*owner).into(),
        containers: containers / 2,
        bytes: mib * MIB,
    });
    SlackOf { containers, held: held * MIB, bytes: bytes * MIB, worst: worst.collect() }
}

fn saving(change: StructureChange, of: &str, saved: u64, how: &str) -> Saving {
    Saving {
        change,
        of: of.into(),
        count: 41_200,
        now: 2 * saved * MIB + MIB,
        saved: saved * MIB,
        how: how.into(),
    }
}

/// All that can be known of objects.
pub(crate) fn rich() -> Explanation {
    let types = vec![
        type_total("dict", 96_000, 64, None),
        type_total("shop.models.Session", 82_400, 80, Some(72)),
        type_total("str", 240_000, 48, None),
        type_total("tuple", 61_000, 64, None),
        type_total("int", 130_000, 32, Some(28)),
        type_total("shop.models.Product", 20_100, 48, Some(48)),
    ];
    let owner = |owner: &str, root, pin| OwnerPin {
        owner: owner.into(),
        head: owner.split(['[', ' ']).next().unwrap().into(),
        root,
        pin,
    };
    let pins = Pins {
        pinned: 48 * MIB,
        by_type: [
            ("str", 42_000, 312),
            ("dict (keys)", 9_100, 61),
            ("shop.models.Session", 2_000, 40),
            ("tuple", 31_000, 21),
            ("int", 500, 9),
            ("bytes", 90, 3),
        ]
        .map(|(name, count, tenths)| TypePin { name: name.into(), pin: pin(count, tenths) })
        .to_vec(),
        by_owner: vec![
            owner(SESSIONS, RootKind::Module, pin(41_200, 308)),
            owner(ROWS, RootKind::Frame, pin(9_000, 56)),
            owner(TREE, RootKind::Module, pin(12_345, 41)),
            owner("interpreter's interned strings", RootKind::Interpreter, pin(7_001, 22)),
            owner("_speedups.cpython-312-x86_64-linux-gnu.so", RootKind::Library, pin(640, 12)),
            owner("stack of thread reader-1", RootKind::Stack, pin(12, 6)),
            owner("allocated by C code", RootKind::Native, pin(101, 4)),
            owner("garbage", RootKind::Garbage, pin(1_000, 3)),
            owner("unknown", RootKind::Unknown, pin(77, 2)),
        ],
        by_class: [(64, 41_000, 300), (48, 9_000, 90)]
            .map(|(size, count, tenths)| ClassPin { size, pin: pin(count, tenths) })
            .to_vec(),
        by_site: Some(
            [
                ("/srv/shop/shop/cache.py", 88, 41_200, 308),
                ("/srv/shop/shop/loaders/csv.py", 1204, 9_000, 56),
                ("/usr/lib/python3.12/json/decoder.py", 354, 800, 11),
                ("<frozen importlib._bootstrap_external>", 757, 90, 2),
            ]
            .map(|(file, line, count, tenths)| SitePin {
                file: file.into(),
                line,
                pin: pin(count, tenths),
            })
            .to_vec(),
        ),
        without_site: Amount { count: 12_000, bytes: MIB },
    };
    Explanation {
        blocks: Vec::new(),
        objects: Objects {
            all: Amount { count: 900_000, bytes: 140 * MIB },
            typed: Amount { count: 700_000, bytes: 90 * MIB },
            owned: Amount { count: 190_000, bytes: 48 * MIB },
            free_listed: Amount { count: 900, bytes: 100_000 },
            unknown: Amount { count: 9_100, bytes: MIB + 9 * MIB / 10 },
            pymalloc: Coverage {
                typed: 80 * MIB,
                owned: 29 * MIB,
                free_listed: 100_000,
                unknown: MIB,
            },
            tracked: 310_000,
            types,
            other_types: Amount { count: 812, bytes: 4 * MIB },
        },
        pins,
        slack: Slack {
            dict: slack(4_020, 31, 18, &[("shop.index.BY_WORD[dict]", 12), (SESSIONS, 2)]),
            list: slack(9_100, 12, 4, &[(ROWS, 3)]),
            set: slack(12, 4, 3, &[("shop.seen[set]", 3)]),
            bytearray: slack(2, 2, 1, &[("local buffer of read (thread reader-1)[bytearray]", 1)]),
            deque: slack(0, 0, 0, &[]),
            str_utf8: slack(8_000, 1, 1, &[]),
        },
        savings: vec![
            saving(
                StructureChange::Slots,
                "shop.models.Session",
                9,
                "class Session: __slots__ = ('id', 'token', 'user', 'created', 'expires', 'seen')",
            ),
            saving(
                StructureChange::Rebuild,
                "shop.index.BY_WORD[dict]",
                7,
                "BY_WORD = dict(BY_WORD)",
            ),
            saving(StructureChange::Array, ROWS, 3, "array.array('q', values)"),
            saving(StructureChange::Tuple, TREE, 2, "tuple(values)"),
            saving(StructureChange::Intern, SESSIONS, 1, "sys.intern(value)"),
        ],
        duplicates: Duplicates {
            looked_at: Amount { count: 240_000, bytes: 21 * MIB },
            copies: Amount { count: 38_000, bytes: 3 * MIB },
            one_in: 16,
            worst: vec![
                OwnerDuplicates {
                    owner: SESSIONS.into(),
                    copies: 30_000,
                    bytes: 2 * MIB,
                    different: 3,
                    example: Some("anonymous".into()),
                },
                OwnerDuplicates {
                    owner: ROWS.into(),
                    copies: 8_000,
                    bytes: MIB,
                    different: 12,
                    example: None,
                },
            ],
        },
        garbage: Garbage {
            objects: 10_000,
            bytes: 4 * MIB,
            blocks: 21_000,
            pinned: 2 * MIB,
            by_type: vec![
                type_total("shop.models.Node", 10_000, 64, Some(56)),
                type_total("dict", 9_000, 64, None),
            ],
            generations: [
                ("0", 700, 10),
                ("1", 4_000, 90),
                ("2", 290_000, 9_900),
                ("frozen", 0, 0),
            ]
            .map(|(name, tracked, count)| Generation {
                name: name.into(),
                tracked,
                garbage: Amount { count, bytes: count * 400 },
            })
            .to_vec(),
        },
    }
}

/// The usual worker, explained, with what a walk of objects adds to its account.
pub(crate) fn explained() -> Snapshot {
    let mut s = usual();
    s.explanation = Some(rich());
    let pymalloc = s.owners.iter_mut().find(|o| o.name == "pymalloc").unwrap();
    let account = pymalloc.account.as_mut().unwrap();
    account.rounding = Some(6 * MIB);
    account.live -= 6 * MIB;
    s.ladder.compact = Some(140 * MIB);
    super::finish(s)
}

/// Explained without tracemalloc and without `--show-values`: what most people see.
pub(crate) fn explained_usually() -> Snapshot {
    let mut s = explained();
    let e = s.explanation.as_mut().unwrap();
    e.pins.by_site = None;
    e.pins.without_site = Amount::default();
    e.duplicates.one_in = 1;
    e.duplicates.worst.iter_mut().for_each(|w| w.example = None);
    super::finish(s)
}

/// Objects were looked at, and there was nothing to find.
pub(crate) fn explained_nothing() -> Snapshot {
    let mut s = usual();
    s.explanation = Some(Explanation::default());
    super::finish(s)
}

/// Names that a process chose to mislead, lengths without end, numbers without measure.
pub(crate) fn hostile() -> Explanation {
    let mut e = rich();
    let evil = |i: usize| format!("{} -> {}", EVIL[i % 5].repeat(1 + i * 40), EVIL.concat());
    let huge = Pin {
        count: u64::MAX,
        bytes: u64::MAX,
        pinned: u64::MAX / 3,
        gone: u64::MAX,
        packed: u64::MAX,
        moved: u64::MAX,
    };
    e.pins.pinned = u64::MAX;
    for (i, p) in e.pins.by_owner.iter_mut().enumerate() {
        (p.owner, p.head, p.pin) = (evil(i), evil(i), huge);
    }
    for (i, p) in e.pins.by_type.iter_mut().enumerate() {
        (p.name, p.pin) = (evil(i), huge);
    }
    for (i, p) in e.pins.by_site.as_mut().unwrap().iter_mut().enumerate() {
        (p.file, p.line, p.pin) = (evil(i), u32::MAX, huge);
    }
    for (i, s) in e.savings.iter_mut().enumerate() {
        (s.of, s.how) = (evil(i), evil(i + 1));
        (s.count, s.now, s.saved) = (u64::MAX, u64::MAX, u64::MAX);
    }
    let s = &mut e.slack;
    for s in [&mut s.dict, &mut s.list, &mut s.set, &mut s.bytearray, &mut s.deque] {
        *s = SlackOf {
            containers: u64::MAX,
            held: u64::MAX,
            bytes: u64::MAX,
            worst: vec![OwnerSlack { owner: evil(9), containers: u64::MAX, bytes: u64::MAX }],
        };
    }
    for (i, t) in e.objects.types.iter_mut().chain(&mut e.garbage.by_type).enumerate() {
        t.name = evil(i);
        (t.count, t.bytes, t.rounding, t.buffers) = (0, u64::MAX, u64::MAX, u64::MAX);
    }
    for (i, w) in e.duplicates.worst.iter_mut().enumerate() {
        (w.owner, w.example) = (evil(i), Some(evil(i)));
        (w.copies, w.bytes, w.different) = (u64::MAX, u64::MAX, u64::MAX);
    }
    e.duplicates.copies = Amount { count: u64::MAX, bytes: u64::MAX };
    e.duplicates.one_in = u64::MAX;
    e.garbage.objects = u64::MAX;
    (e.garbage.bytes, e.garbage.pinned) = (u64::MAX, u64::MAX);
    e.garbage.generations.iter_mut().for_each(|g| g.name = EVIL.concat());
    e.objects.pymalloc.unknown = u64::MAX >> 1;
    e
}

/// Everything at once, and the report has the least room.
pub(crate) fn explained_worst() -> Snapshot {
    let s = Snapshot { partial: None, explanation: Some(hostile()), ..worst() };
    let rss = s.memory.rss;
    let mut s = super::finish(s);
    s.memory.rss = rss;
    s
}

/// Two looks at a worker whose sessions became more.
pub(crate) fn two_explained() -> (Snapshot, Snapshot) {
    let (mut a, mut b) = super::two_looks();
    let mut later = rich();
    a.explanation = Some(rich());
    let session = &mut later.objects.types[1];
    (session.count, session.bytes) = (session.count * 9, session.bytes * 9);
    later.objects.types[4].count /= 2;
    later.objects.types[4].bytes /= 2;
    later.objects.types.push(type_total("shop.models.Order", 31_000, 96, Some(96)));
    let first = &mut later.pins.by_owner[0].pin;
    (first.count, first.bytes, first.pinned) = (first.count * 9, first.bytes * 9, first.pinned / 3);
    later.pins.by_owner.remove(1);
    b.explanation = Some(later);
    (super::finish(a), super::finish(b))
}

/// Every field filled: what the schema's test goes by.
pub(crate) fn full_explained() -> Snapshot {
    let mut s = full();
    s.explanation = Some(rich());
    super::finish(s)
}
