//! The guard: limits that were exceeded, kept, or could not be decided.

use super::{python, run_on};

const FRAGMENTED: &str = "x = [bytes(40) for _ in range(10**6)]; x[:] = x[::100]\n";

#[test]
fn an_exceeded_limit_exits_with_3_and_says_why() {
    for (limit, program, sentence) in [
        (["--max-fragmentation", "30%"], FRAGMENTED, "over --max-fragmentation 30%"),
        (["--max-retained", "20MiB"], FRAGMENTED, "over --max-retained 20.0 MiB"),
        (["--max-retained", "1 KiB"], "import sys; sys.exit(7)", "(1024 B)"),
    ] {
        let ran = run_on(python(), &[&limit[..], &["-c", program]].concat());
        assert_eq!(ran.code(), 3, "{limit:?}: {}", ran.stderr);
        let lines: Vec<_> = ran.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("pydefrag: ") && lines[0].ends_with(sentence), "{lines:?}");
        ran.whole();
    }
    let both = ["--max-retained=1MiB", "--max-fragmentation=5", "-c", FRAGMENTED];
    assert_eq!(run_on(python(), &both).stderr.lines().count(), 2);
}

#[test]
fn a_kept_limit_changes_nothing() {
    let kept = ["--max-fragmentation", "100%", "--max-retained", "1GiB", "-c"];
    for (program, code) in [(FRAGMENTED, 0), ("import sys; sys.exit(7)", 7)] {
        let ran = run_on(python(), &[&kept[..], &[program]].concat());
        assert_eq!((ran.code(), ran.stderr.as_str()), (code, ""));
    }
    // The limit is of the end, whichever account is shown.
    let peak = "import time; x = [object() for _ in range(2 * 10**6)]; time.sleep(.5)";
    let ran = run_on(python(), &["--at-peak", "--max-retained", "30MiB", "-c", peak]);
    assert_eq!((ran.code(), ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_limit_that_cannot_be_decided_is_no_success() {
    for (program, code) in [("import os; os._exit(0)", 1), ("import os; os._exit(9)", 9)] {
        let ran = run_on(python(), &["--max-retained", "1GiB", "-c", program]);
        assert_eq!(ran.code(), code, "{}", ran.stderr);
        assert!(
            ran.stderr.starts_with("pydefrag: the limits were not checked: "),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn limits_that_mean_nothing_are_wrong_usage() {
    for limit in [
        "--max-retained=50apples",
        "--max-retained=",
        "--max-fragmentation=1MiB",
        "--max-fragmentation=120%",
    ] {
        let ran = run_on(python(), &[limit, "-c", "print('ran')"]);
        assert_eq!((ran.code(), ran.stdout.as_str()), (2, ""), "{limit}");
        assert!(ran.stderr.contains("50MiB") || ran.stderr.contains("30%"), "{}", ran.stderr);
    }
}
