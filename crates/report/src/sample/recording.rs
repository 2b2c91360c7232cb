//! Recordings built by hand for the tests.

use pydefrag_heap::{
    Amount, Call, Events, Function, Happening, Moment, Peak, RecordedProcess, RecordedThread,
    Recording, RecordingMode, SCHEMA, SamplingError, Tally, What,
};

use super::EVIL;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const MS: u64 = 1_000_000;

/// A parent, a function, a line, and counts and bytes: allocated, live at the peak, retained.
type Row = (u32, u32, u32, [(u64, u64); 3]);

fn call((parent, function, line, amounts): Row) -> Call {
    let [allocated, peak, retained] = amounts.map(|(count, bytes)| Amount { count, bytes });
    Call { parent, function, line, own: Tally { allocated, peak, retained } }
}

fn function(name: &str, file: &str, line: u32) -> Function {
    Function { name: name.into(), file: file.into(), line, native: false }
}

/// A recording whose totals are those of its calls.
fn summed(functions: Vec<Function>, calls: Vec<Call>) -> Recording {
    let mut all = Tally::default();
    calls.iter().for_each(|c| all.add(&c.own));
    let frees = all.allocated.count - all.retained.count;
    let at =
        |ms, bytes, rss| Moment { at_ns: ms * MS, live: Amount { count: bytes / 64, bytes }, rss };
    let rss = |of: u64| Some(20 * MIB + of);
    let peak = all.peak.bytes;
    Recording {
        schema: SCHEMA,
        tool: "pydefrag 0.1.0".into(),
        started_at: 1_732_291_845.25,
        duration_ns: 12_300 * MS,
        process: RecordedProcess {
            pid: 4242,
            parent: None,
            command: "python app.py --serve 8080".into(),
            python: "3.13.0".into(),
        },
        mode: RecordingMode::Full,
        events: Events {
            allocations: all.allocated.count,
            reallocations: all.allocated.count / 50,
            frees,
            frees_of_before: 310,
        },
        allocated: all.allocated,
        peak: Peak { live: all.peak, at_ns: 4_000 * MS, rss: rss(peak) },
        retained: all.retained,
        error: None,
        functions,
        calls,
        timeline: vec![
            at(0, 0, None),
            at(500, peak / 4, rss(peak / 3)),
            at(2_000, peak / 2, rss(peak / 2)),
            at(4_000, peak, rss(peak)),
            at(5_000, peak / 3, rss(peak)),
            at(9_000, peak / 2, rss(peak)),
            at(12_300, all.retained.bytes, rss(peak / 2)),
        ],
        happenings: Vec::new(),
        threads: vec![RecordedThread { tid: 4242, allocated: all.allocated }],
        notes: Vec::new(),
    }
}

/// A service: a cache that is kept, a load that is given back, a parser called from two places.
pub(crate) fn recording() -> Recording {
    let packages = "/srv/app/venv/lib/python3.13/site-packages";
    let functions = vec![
        function("", "", 0),
        function("<module>", "/srv/app/app.py", 1),
        function("main", "/srv/app/app.py", 20),
        function("Cache.load", "/srv/app/store/cache.py", 41),
        function("decode_rows", "/srv/app/store/cache.py", 80),
        function("JSONDecoder.decode", "/usr/lib/python3.13/json/decoder.py", 333),
        function("Handler.serve.<locals>.reply", "/srv/app/web/handler.py", 12),
        function("DataFrame.__init__", &format!("{packages}/pandas/core/frame.py"), 694),
        function("_call_with_frames_removed", "<frozen importlib._bootstrap>", 480),
        function("concat", &format!("{packages}/pandas/core/reshape/concat.py"), 157),
        function("warm_up", "/srv/app/app.py", 60),
    ];
    let rows: Vec<Row> = vec![
        (0, 0, 0, [(820, 96 * KIB), (800, 90 * KIB), (790, 88 * KIB)]),
        (0, 1, 120, [(12, 2 * KIB), (12, 2 * KIB), (12, 2 * KIB)]),
        (1, 2, 24, [(0, 0), (0, 0), (0, 0)]),
        (2, 3, 44, [(41_200, 48 * MIB), (41_200, 48 * MIB), (38_000, 44 * MIB)]),
        (3, 4, 83, [(900_000, 210 * MIB), (300_000, 70 * MIB), (0, 0)]),
        (4, 5, 340, [(120_000, 96 * MIB), (4_000, 3 * MIB), (12, 4 * KIB)]),
        (2, 6, 15, [(2_400_000, 640 * MIB), (1_200, 600 * KIB), (0, 0)]),
        (6, 5, 340, [(80_000, 32 * MIB), (40, 16 * KIB), (0, 0)]),
        (2, 7, 700, [(300, 120 * MIB), (120, 100 * MIB), (3, 2 * MIB)]),
        (8, 9, 160, [(60, 9 * MIB), (0, 0), (0, 0)]),
        (1, 8, 488, [(18_000, 2 * MIB), (17_500, 2 * MIB), (17_400, 2 * MIB)]),
        (2, 10, 62, [(2, 40 * MIB), (1, 20 * MIB), (0, 0)]),
        (2, 10, 63, [(5, 200), (5, 200), (5, 200)]),
    ];
    let happened = |ms, what| Happening { at_ns: ms * MS, what };
    let arena = |i: u64| (0x7f00_0000_0000 + i * MIB, MIB);
    let mut recording = summed(functions, rows.into_iter().map(call).collect());
    let gc = |ms, generation, collected| {
        let stop = What::GcStop { generation, collected, uncollectable: 0 };
        [happened(ms, What::GcStart { generation }), happened(ms + 15, stop)]
    };
    let mark = |ms, text: &str| happened(ms, What::Mark { text: text.into() });
    let mut happenings = vec![mark(400, "imported"), mark(3_900, "cache is full")];
    happenings.extend((0..30).flat_map(|i| gc(100 + 400 * i, (i % 3) as u8, 10 * i)));
    happenings.extend((0..9).map(|i| {
        let (address, bytes) = arena(i);
        happened(50 + 30 * i, What::ArenaBorn { address, bytes })
    }));
    let (address, bytes) = arena(3);
    happenings.push(happened(6_000, What::ArenaDied { address, bytes }));
    let address = 0x7e00_0000_0000;
    happenings.push(happened(700, What::Mapped { address, bytes: 64 * MIB, call: 8 }));
    happenings.push(happened(11_000, What::Unmapped { address, bytes: 64 * MIB }));
    happenings.push(happened(1_000, What::Forked { child: 4243 }));
    happenings.sort_by_key(|h| h.at_ns);
    recording.happenings = happenings;
    recording.notes = vec!["allocations of C libraries that call malloc are not seen".into()];
    recording
}

/// The same, sampled.
pub(crate) fn sampled_recording() -> Recording {
    let error = SamplingError { allocated: 24 * MIB, peak: 11 * MIB, retained: 5 * MIB };
    Recording {
        mode: RecordingMode::Sampled { every: 512 * KIB },
        error: Some(error),
        ..recording()
    }
}

/// A program that allocated nothing.
pub(crate) fn nothing_recorded() -> Recording {
    let mut recording = summed(vec![function("", "", 0)], Vec::new());
    recording.timeline.clear();
    recording.events = Events::default();
    recording.threads.clear();
    recording
}

/// Texts that would act on a terminal, or end a frame in a file; numbers that are too large, or lead nowhere.
pub(crate) fn hostile_recording() -> Recording {
    let mut names: Vec<String> = EVIL.iter().map(|s| (*s).to_owned()).collect();
    names.extend(
        [
            "a;b;c",
            "\"quoted\" 'too' \\",
            "</script><script>",
            "back\\slash\n1",
            " 42",
            "\u{fffd}\u{fffd}",
            "\0",
            "",
        ]
        .map(str::to_owned),
    );
    names.push("x".repeat(1 << 20));
    let functions: Vec<Function> =
        names.iter().map(|name| function(name, name, u32::MAX)).collect();
    let calls = (0..3 * functions.len() as u32)
        .map(|i| {
            let bytes = u64::from(i) << 30;
            // The last of them are of functions that there are not.
            call((i / 2, i + 2, i, [(1, bytes), (1, bytes / 2), (u64::from(i % 2), bytes / 4)]))
        })
        .map(|c| Call { function: c.function % (names.len() as u32 + 1), ..c })
        .collect();
    let mut recording = summed(functions, calls);
    recording.process.command = EVIL.concat();
    recording.process.python = EVIL[0].into();
    recording.notes = names.clone();
    recording.happenings = names
        .iter()
        .map(|text| Happening { at_ns: u64::MAX, what: What::Mark { text: text.clone() } })
        .collect();
    recording.happenings.push(Happening {
        at_ns: 0,
        what: What::Mapped { address: u64::MAX, bytes: u64::MAX, call: u32::MAX },
    });
    for (i, moment) in recording.timeline.iter_mut().enumerate() {
        moment.at_ns = u64::MAX - i as u64;
    }
    recording
}

/// Calls within calls, 5000 deep, with as many lines below each end: 200,000 calls.
pub(crate) fn deep_recording() -> Recording {
    let functions = (0..50).map(|i| function(&format!("f{i}"), "/srv/app/deep.py", i)).collect();
    let calls = (0..200_000u32)
        .map(|i| {
            let parent = if i <= 5_000 { i.saturating_sub(1) } else { 5_000 - i % 100 };
            let own = (1, u64::from(i % 977));
            call((parent, i % 50, i, [own, own, (1, u64::from(i % 13))]))
        })
        .collect();
    summed(functions, calls)
}

/// As many calls in a shallow tree.
pub(crate) fn wide_recording() -> Recording {
    let functions = (0..4_000)
        .map(|i| function(&format!("f{i}"), &format!("/srv/m{}.py", i % 90), i))
        .collect();
    let calls = (0..200_000u32)
        .map(|i| {
            let own = (3, u64::from(i % 4_001));
            call((i / 9, i.wrapping_mul(2_654_435_761) % 4_000, i % 60, [own, own, (0, 0)]))
        })
        .collect();
    summed(functions, calls)
}

/// All of them that are small.
pub(crate) fn recordings() -> [(&'static str, Recording); 4] {
    [
        ("usual", recording()),
        ("sampled", sampled_recording()),
        ("nothing", nothing_recorded()),
        ("hostile", hostile_recording()),
    ]
}
