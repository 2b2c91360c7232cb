//! Masters and their workers: what a fork shares is neither written nor credited.

use pydefrag_harness::Target;

use super::{library, purged};

/// Pss of a process and its worker, in bytes, without what both map from files.
fn pss(pid: u64) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let line = rollup.lines().find_map(|l| l.strip_prefix("Pss_Anon:")).expect("Pss_Anon");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

/// Anonymous memory that a process has for itself, in bytes: made, or copied by writing to what was shared.
fn private(pid: u64) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("a process");
    let mut anonymous = false;
    let mut sum = 0;
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.len() >= 5 && words[0].contains('-') {
            anonymous = words.get(5).is_none_or(|n| *n == "[heap]") && words[1].ends_with('p');
        } else if anonymous && words[0] == "Private_Dirty:" {
            sum += words[1].parse::<u64>().expect("a number") * 1024;
        }
    }
    sum
}

/// In master and workers alike: neither the sum of their PSS rises by a heal, nor what the one that heals has for
/// itself. What it drops may leave another as the only one that holds a page: that is no copy.
#[test]
fn what_a_fork_shares_is_left_alone() {
    let agent = library();
    for on in purged() {
        let envs = [("PYDEFRAG_AGENT", agent.to_str().expect("a path"))];
        let mut master = Target::spawn(on, "healed_workers.py", &["2"], &envs);
        let workers: Vec<u64> = master
            .ask("workers")
            .split_whitespace()
            .map(|pid| pid.parse().expect("a pid"))
            .collect();
        let all = || -> Vec<u64> {
            std::iter::once(u64::from(master.pid())).chain(workers.iter().copied()).collect()
        };
        let all = all();
        let sum = || all.iter().map(|p| pss(*p)).sum::<u64>();
        // What the agent needs itself is there before it is counted.
        for who in 0..=workers.len() {
            master.ask(&format!("check {who}"));
        }
        for round in 0..3 {
            for (who, healed) in all.iter().enumerate() {
                let (before, own_before) = (sum(), private(*healed));
                let said = master.ask(&format!("heal {who}"));
                let (after, own_after) = (sum(), private(*healed));
                let what = format!("{}: round {round}, process {who}: {said}", on.name);
                // The kernel's counts and the answer itself move by some pages; the first time, what the agent needs.
                let slack = if round == 0 { 512 << 10 } else { 128 << 10 };
                assert!(after <= before + slack, "{what}: PSS {before} -> {after}");
                assert!(own_after <= own_before + slack, "{what}: own {own_before} -> {own_after}");
            }
            master.ask("churn");
        }
        // And what a worker has made for itself since is given back.
        let before = sum();
        master.ask("fill 1");
        let filled = sum();
        assert!(filled > before + (16 << 20), "{}: {before} -> {filled}", on.name);
        master.ask("heal 1");
        let after = sum();
        assert!(after + (8 << 20) < filled, "{}: {before} -> {filled} -> {after}", on.name);
    }
}
