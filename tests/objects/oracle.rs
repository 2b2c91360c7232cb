//! A heap of many kinds, judged by the process itself. Each version's target is started and asked once;
//! every test here looks at another part of its answers.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use pydefrag_harness::{Interpreter, Interpreters, Target};
use serde_json::Value;

use super::{is_explained, list, look, number, row_of, string};

/// Blocks that are judged on each version.
const BLOCKS: usize = 10_000;

/// By how many objects a count may differ: asking runs Python in the target.
const ASKING: u64 = 10;

/// All that pydefrag and the process say of the process.
struct Answers {
    /// The snapshot, with `blocks`.
    snapshot: Value,
    /// The rows of planted objects, asked for by their addresses.
    planted: Value,
    /// What the process says of the planted objects.
    known: Value,
    /// What the process knows of all of its objects.
    facts: Value,
    /// The verdict on the blocks.
    verdict: Value,
}

/// The answers of one version, asked for once.
fn answers(of: &'static Interpreter) -> &'static Answers {
    type Slot = &'static OnceLock<Answers>;
    static ALL: OnceLock<Mutex<BTreeMap<String, Slot>>> = OnceLock::new();
    let slot: Slot = {
        let mut all = ALL.get_or_init(Mutex::default).lock().expect("no panic while locked");
        all.entry(of.name.clone()).or_insert_with(|| Box::leak(Box::default()))
    };
    // Not while all are locked: the versions go on side by side.
    slot.get_or_init(|| asked(of))
}

fn asked(of: &Interpreter) -> Answers {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let read = |name: &str| -> Value {
        let text = std::fs::read_to_string(file(name)).expect("the answer's file");
        serde_json::from_str(&text).expect("JSON")
    };
    let mut target = Target::spawn(of, "oracle.py", &[], &[]);
    target.ask(&format!("planted {}", file("planted")));
    let known = read("planted");
    let addresses: Vec<String> =
        known.as_array().expect("rows").iter().map(|row| row[1].to_string()).collect();
    let planted = look(&target, &["--at", &addresses.join(",")]);
    let snapshot = look(&target, &["--blocks", &BLOCKS.to_string()]);
    let rows = serde_json::to_string(&snapshot["blocks"]).expect("JSON");
    std::fs::write(file("rows"), rows).expect("our own folder");
    // First the counts: the judge makes objects.
    let ask = |target: &mut Target, question: String| {
        let said = target.ask(&question);
        assert_eq!(said, "", "{}: {question}", of.name);
    };
    ask(&mut target, format!("facts {}", file("facts")));
    ask(&mut target, format!("judge {} {}", file("rows"), file("verdict")));
    Answers { snapshot, planted, known, facts: read("facts"), verdict: read("verdict") }
}

/// Each version's answers, with the words for a failure.
fn on_all(check: impl Fn(&Interpreter, &Answers)) {
    for interpreter in Interpreters::load().minors() {
        check(interpreter, answers(interpreter));
    }
}

fn count(verdict: &Value, what: &str) -> u64 {
    verdict["counts"].get(what).and_then(Value::as_u64).unwrap_or(0)
}

/// Of 10,000 blocks no type is wrong, no owner is wrong, and no object of Python's was missed.
#[test]
fn ten_thousand_blocks_are_what_the_process_says_they_are() {
    on_all(|interpreter, a| {
        let v = &a.verdict;
        let what = &interpreter.name;
        eprintln!("{what}: {}", v["counts"]);
        assert_eq!(list(&a.snapshot, "/blocks").len(), BLOCKS, "{what}");
        assert_eq!(count(v, "rows"), BLOCKS as u64, "{what}");
        for wrong in ["wrong_type", "wrong_owner", "wrong_size", "wrong_tracked"] {
            assert_eq!(count(v, wrong), 0, "{what}: {wrong}: {:#}", v["wrong"][wrong]);
        }
        let missed = &v["wrong"]["missed"];
        assert!(count(v, "missed") * 200 <= BLOCKS as u64, "{what}: {missed:#}");
        // And enough was compared: of what is out of Python's reach most are a code object's own tables.
        let (typed, owned) = (count(v, "typed"), count(v, "owned"));
        assert!(typed * 2 >= BLOCKS as u64 && owned * 50 >= BLOCKS as u64, "{what}: {v:#}");
        assert!(count(v, "not_reached") * 10 <= typed, "{what}: {v:#}");
        assert!(count(v, "gone") <= 20, "{what}: {v:#}");
        assert!(count(v, "changed") <= 5, "{what}: {:#}", v["wrong"]["changed"]);
    });
}

/// The blocks are drawn from all of them, the same ones each time they are asked for.
#[test]
fn blocks_are_drawn_evenly_and_the_same_each_time() {
    let interpreter = Interpreters::load().minors().pop().expect("an interpreter");
    let target = Target::spawn(interpreter, "oracle.py", &["3000"], &[]);
    let [one, two] = [(); 2].map(|()| look(&target, &["--blocks", "2000"]));
    assert_eq!(one["blocks"], two["blocks"]);
    let rows = list(&one, "/blocks");
    let mut addresses: Vec<u64> = rows.iter().map(|row| number(row, "/address")).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 2000, "none twice");
    // str is among the commonest types: its part of the draw is its part of the heap, roughly.
    let drawn = rows.iter().filter(|row| row["type"] == "str" && row["role"] == "object").count();
    let all = number(&one, "/objects/all/count");
    let strings = number(row_of(list(&one, "/objects/types"), "str").expect("str"), "/count");
    let expected = 2000.0 * strings as f64 / all as f64;
    assert!((drawn as f64 - expected).abs() < 0.25 * expected + 20.0, "{drawn} {expected}");
}

#[test]
fn the_heap_of_many_kinds_is_explained() {
    on_all(|interpreter, a| {
        is_explained(&a.snapshot, &format!("many kinds, {}", interpreter.name))
    });
}

/// Objects that the collector tracks, type by type, as `gc.get_objects()` has them.
#[test]
fn tracked_objects_are_those_of_the_collector() {
    on_all(|interpreter, a| {
        let what = &interpreter.name;
        let theirs = a.facts["tracked"].as_object().expect("counts");
        let rows = list(&a.snapshot, "/objects/types");
        for row in rows {
            let name = string(row, "/type");
            let wanted = theirs.get(name).map_or(0, |v| v.as_u64().expect("a count"));
            let told = number(row, "/tracked");
            assert!(told.abs_diff(wanted) <= ASKING, "{what}: {name}: {told}, not {wanted}");
        }
        // A list may be cut, but not where it matters.
        for (name, wanted) in theirs.iter().filter(|t| t.1.as_u64() >= Some(500)) {
            assert!(row_of(rows, name).is_some(), "{what}: {wanted} of {name} are not listed");
        }
        let sum: u64 = theirs.values().filter_map(Value::as_u64).sum();
        let told = number(&a.snapshot, "/objects/tracked");
        assert!(told.abs_diff(sum) <= 5 * ASKING, "{what}: {told} tracked, not {sum}");
    });
}

/// Every name is that of a type which the process has, and types of the script are counted whole.
#[test]
fn names_of_types_are_qualified_as_python_has_them() {
    on_all(|interpreter, a| {
        let what = &interpreter.name;
        let names: Vec<&str> = list(&a.facts, "/names").iter().filter_map(Value::as_str).collect();
        let rows = list(&a.snapshot, "/objects/types");
        assert!(rows.len() >= 100, "{what}: {} types", rows.len());
        for row in rows {
            let name = string(row, "/type");
            assert!(names.contains(&name), "{what}: there is no type {name}");
        }
        for (name, wanted) in a.facts["counts"].as_object().expect("counts") {
            let wanted = wanted.as_u64().expect("a count");
            let Some(row) = row_of(rows, name) else {
                assert!(wanted < 300, "{what}: {wanted} of {name} are not listed");
                continue;
            };
            let told = number(row, "/count");
            assert!(told.abs_diff(wanted) <= ASKING, "{what}: {told} of {name}, not {wanted}");
        }
        for name in ["str", "zoo.Plain", "zoo.Outer.Inner", "zoo.local_class.<locals>.Local"] {
            assert!(row_of(rows, name).is_some(), "{what}: {name} is not listed");
        }
    });
}

/// Sizes of planted objects are what `sys.getsizeof` says; of some kinds they may be left open.
#[test]
fn sizes_of_planted_kinds_are_those_of_getsizeof() {
    on_all(|interpreter, a| {
        let rows = list(&a.planted, "/blocks");
        let mut wrong = Vec::new();
        let mut equal = 0;
        for known in a.known.as_array().expect("rows") {
            let (kind, address) = (string(known, "/0"), number(known, "/1"));
            let Some(row) = rows.iter().find(|row| row["object"] == address) else {
                wrong.push(format!("{kind}: no row for {address:#x}"));
                continue;
            };
            let must = string(known, "/4") == "planted";
            if row["type"] != known[3] || row["role"] != "object" {
                wrong.push(format!("{kind} is {}: {row}", known[3]));
            }
            match row["sizeof"].as_u64() {
                Some(size) if size == number(known, "/2") => equal += usize::from(must),
                None if !must => {}
                size => wrong.push(format!("{kind}: {size:?}, not {}", known[2])),
            }
        }
        assert_eq!(wrong, Vec::<String>::new(), "{}", interpreter.name);
        assert!(equal >= 30, "{}: {equal} kinds", interpreter.name);
    });
}

/// `rounding` and `asks`: of a type whose objects all ask for the same, blocks are whole classes.
#[test]
fn rounding_is_what_blocks_have_beyond_what_is_asked_for() {
    on_all(|interpreter, a| {
        let rows = list(&a.snapshot, "/objects/types");
        let mut told = 0;
        for row in rows.iter().filter(|row| !row["asks"].is_null()) {
            let (asks, count) = (number(row, "/asks"), number(row, "/count"));
            let bytes = asks.next_multiple_of(16) * count;
            if asks <= 512 && count > 0 {
                assert_eq!(number(row, "/bytes"), bytes, "{}: {row:#}", interpreter.name);
                assert_eq!(number(row, "/rounding"), bytes - asks * count, "{row:#}");
                told += 1;
            }
        }
        assert!(told >= 20, "{}: {told} types", interpreter.name);
        let float = row_of(rows, "float").expect("float");
        assert_eq!(number(float, "/asks"), 24);
        assert_eq!(number(float, "/rounding"), 8 * number(float, "/count"));
    });
}

/// Room in containers, as the process computes it from all of its own (`slack` in targets/truth.py).
#[test]
fn slack_is_what_the_process_computes() {
    on_all(|interpreter, a| {
        for kind in ["list", "dict", "set", "bytearray"] {
            let (ours, theirs) = (&a.snapshot["slack"][kind], &a.facts["slack"][kind]);
            let what = format!("{kind} on {}: {ours} {theirs}", interpreter.name);
            let containers = number(theirs, "/containers");
            assert!(containers >= 1000, "{what}");
            // Those that the probe itself makes and grows, and containers that only C code holds.
            assert!(number(ours, "/containers").abs_diff(containers) <= 16, "{what}");
            let spare = number(theirs, "/bytes");
            // The final NUL of a bytearray may be counted as its own or as spare.
            let each = if kind == "bytearray" { containers } else { 0 };
            let off = number(ours, "/bytes").abs_diff(spare);
            assert!(off <= each + 8192, "{what}");
            assert!(spare >= 5 * (each + 8192), "{what}: too little to tell");
            if kind != "bytearray" {
                assert!(number(ours, "/held").abs_diff(number(theirs, "/held")) <= 16384, "{what}");
            }
        }
        // Few, and some keep theirs elsewhere: at least those that the script planted.
        let (ours, theirs) = (&a.snapshot["slack"]["str"], &a.facts["slack"]["str"]);
        let what = format!("str on {}: {ours} {theirs}", interpreter.name);
        let (ours, theirs) = (number(ours, "/containers"), number(theirs, "/containers"));
        assert!(theirs >= 300 && ours.abs_diff(theirs) * 10 <= theirs, "{what}");
    });
}
