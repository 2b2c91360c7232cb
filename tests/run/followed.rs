//! Samples over time, and the processes that a program starts.

use std::time::Instant;

use super::{python, run_code, run_on};

const MIB: u64 = 1 << 20;

const UP_AND_DOWN: &str = "import time\n\
    x = [object() for _ in range(4 * 10**6)]; time.sleep(1.5)\n\
    del x; time.sleep(1.5)";

#[test]
fn peak_trough_and_end_are_seen() {
    let ran = run_code(UP_AND_DOWN);
    let (run, memory) = (ran.whole().run(), &ran.report["memory"]);
    let size = |of: &str, what: &str| run[of][what].as_u64().expect("bytes");
    assert!(size("peak", "rss") > 90 * MIB, "{run}");
    assert!(size("peak", "rss") <= memory["hwm"].as_u64().expect("bytes") + MIB, "{run}");
    let in_use = |of| size(of, "rss") - size(of, "free");
    assert!(in_use("trough") < in_use("peak") / 2, "{run}");
    assert!(run["samples"].as_array().is_some_and(|s| s.len() > 4 && s.len() <= 2000), "{run}");
    assert!(run["trough_ratio"].as_f64() > Some(0.9), "{run}");
    assert_eq!(run["ended"]["code"], 0);
}

#[test]
fn at_peak_the_account_is_of_the_peak() {
    let ran = run_on(python(), &["--at-peak", "-c", UP_AND_DOWN]);
    assert_eq!(ran.run()["account_at_end"], false);
    let note = ran.run()["account_note"].as_str().expect("a note");
    assert!(note.starts_with("the account is of the peak"), "{note}");
    let rss = ran.report["memory"]["rss"].as_u64().expect("bytes");
    assert!(rss > 80 * MIB && ran.report["pymalloc"]["arenas"].as_u64() > Some(50), "{rss}");
    assert!(ran.run()["end"]["rss"].as_u64() < Some(rss / 2), "{}", ran.run());
    // Where the end is the peak, it is the end's.
    run_on(python(), &["--at-peak", "-c", "x = [object() for _ in range(10**6)]"]).whole();
}

#[test]
fn children_are_listed_with_what_they_hold() {
    let ran = run_code(
        "import os, subprocess, sys, time\n\
         more = 'import time; x = [object() for _ in range(10**6)]; time.sleep(1.5)'\n\
         one = subprocess.Popen([sys.executable, '-c', more, '--token', 'do-not-show'])\n\
         two = subprocess.Popen(['sleep', '1.5'])\n\
         if os.fork() == 0: time.sleep(1.5); os._exit(0)\n\
         one.wait(); two.wait(); os.wait()",
    );
    let children = ran.whole().run()["children"].as_array().expect("children").clone();
    assert_eq!(children.len(), 3, "{children:#?}");
    let python = &children[0];
    assert!(python["peak_rss"].as_u64() > Some(20 * MIB), "{python}");
    assert!(python["free"].is_u64() && python["pss"].is_u64(), "{python}");
    assert!(python["command"].as_str().is_some_and(|c| c.ends_with("--token ***")), "{python}");
    let main = ran.report["process"]["pid"].as_u64();
    assert!(children.iter().all(|c| c["parent"].as_u64() == main && c["running"] == false));
    assert!(children.iter().any(|c| c["command"] == "sleep 1.5"));
}

#[test]
fn five_hundred_children_neither_hang_nor_cost() {
    let before = cost();
    let start = Instant::now();
    let ran = run_code(
        "import os, sys, time\n\
         for i in range(500):\n\
         \x20if os.fork() == 0:\n\
         \x20 time.sleep(2)\n\
         \x20 sys.exit(0)\n\
         time.sleep(1)\n\
         for i in range(500): os.wait()",
    );
    let run = ran.whole().run();
    let listed = run["children"].as_array().expect("children").len();
    assert!(listed <= 256, "{listed}");
    let all = listed as u64 + run["children_left_out"].as_u64().expect("a count");
    assert!(all > 256 && all <= 500, "{all}");
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    eprintln!(
        "500 children: {:?}, {:.2} s of processor with theirs",
        start.elapsed(),
        cost() - before
    );
}

/// Processor time of all children that were waited for, in seconds.
fn cost() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("our own usage");
    (usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds()) as f64 / 1e3
}

#[test]
fn a_daemon_is_listed_as_running() {
    let ran = run_code(
        "import os, time\n\
         if os.fork() == 0:\n\
         \x20os.setsid()\n\
         \x20if os.fork() == 0:\n\
         \x20 [os.dup2(os.open(os.devnull, os.O_RDWR), n) for n in range(3)]\n\
         \x20 time.sleep(1)\n\
         \x20os._exit(0)\n\
         os.wait()",
    );
    let children = ran.whole().run()["children"].as_array().expect("children").clone();
    assert!(children.iter().any(|c| c["running"] == true), "{children:#?}");
    // The first parent leaves, as most daemons' do.
    let ran = run_code(
        "import os, time\n\
         if os.fork(): os._exit(0)\n\
         os.setsid()\n\
         [os.dup2(os.open(os.devnull, os.O_RDWR), n) for n in range(3)]\n\
         time.sleep(1)",
    );
    assert!(ran.reason().contains("a daemon"), "{}", ran.reason());
    let children = ran.run()["children"].as_array().expect("children");
    assert!(children.iter().any(|c| c["running"] == true), "{children:#?}");
}
