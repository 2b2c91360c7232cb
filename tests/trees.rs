//! A master and its forked workers: shares, and pages told apart, beside smaps and the page frames.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use pydefrag_harness::{Interpreters, Target, repository};
use serde_json::Value;

use crate::support::{lacking, run, text};

const PAGE: u64 = 4096;

fn u64_of(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("{v} is not a number"))
}

/// smaps' counts of one mapping.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Mapping {
    is_file: bool,
    pss: u64,
    private: u64,
}

/// smaps' counts of a process, summed; of private anonymous mappings apart.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Smaps {
    rss: u64,
    pss: u64,
    anonymous_shared: u64,
    anonymous_private: u64,
    mappings: Vec<Mapping>,
    /// Start and end of those mappings.
    anonymous: Vec<(u64, u64)>,
}

fn smaps(pid: u64) -> Smaps {
    let mut sums = Smaps::default();
    let mut anonymous = false;
    for line in std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some((start, end)) = words[0].split_once('-').filter(|_| words.len() >= 5) {
            let named = words.get(5).copied();
            let is_file = named.is_some_and(|n| n.starts_with('/'));
            sums.mappings.push(Mapping { is_file, ..Mapping::default() });
            let inner = named.is_none_or(|n| n == "[heap]" || n.starts_with("[stack"));
            anonymous = inner && words[1].ends_with('p');
            if anonymous {
                let hex = |s| u64::from_str_radix(s, 16).unwrap();
                sums.anonymous.push((hex(start), hex(end)));
            }
            continue;
        }
        let Some(kib) = words.get(1).and_then(|w| w.parse::<u64>().ok()) else { continue };
        let bytes = kib * 1024;
        let mapping = sums.mappings.last_mut().unwrap();
        match words[0] {
            "Pss:" => mapping.pss += bytes,
            "Private_Clean:" | "Private_Dirty:" => mapping.private += bytes,
            _ => {}
        }
        match words[0] {
            "Rss:" => sums.rss += bytes,
            "Pss:" => sums.pss += bytes,
            "Shared_Clean:" | "Shared_Dirty:" if anonymous => sums.anonymous_shared += bytes,
            "Private_Clean:" | "Private_Dirty:" if anonymous => sums.anonymous_private += bytes,
            _ => {}
        }
    }
    sums
}

/// The page frame of every resident page of the private anonymous mappings, the zero page left out; as
/// root only.
fn frames(pid: u64, mappings: &[(u64, u64)]) -> Option<HashMap<u64, u64>> {
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).unwrap();
    let mut frames = HashMap::new();
    for (start, end) in mappings {
        let mut entries = vec![0; ((end - start) / PAGE * 8) as usize];
        pagemap.read_exact_at(&mut entries, start / PAGE * 8).unwrap();
        for (i, entry) in entries.chunks_exact(8).enumerate() {
            let entry = u64::from_le_bytes(entry.try_into().unwrap());
            // Present, and no file's.
            if entry >> 63 == 1 && entry >> 61 & 1 == 0 {
                let frame = entry & ((1 << 55) - 1);
                if frame == 0 {
                    return None;
                }
                if !is_zero_page(frame) {
                    frames.insert(start + i as u64 * PAGE, frame);
                }
            }
        }
    }
    Some(frames)
}

/// What the kernel tells of a page frame in one of its files.
fn of_frame(file: &str, frame: u64) -> u64 {
    let mut word = [0; 8];
    File::open(file).unwrap().read_exact_at(&mut word, frame * 8).unwrap();
    u64::from_le_bytes(word)
}

/// Whether the kernel counts one mapping of a page frame.
fn mapped_once(frame: u64) -> bool {
    of_frame("/proc/kpagecount", frame) == 1
}

fn is_zero_page(frame: u64) -> bool {
    const KPF_ZERO_PAGE: u64 = 1 << 24;
    of_frame("/proc/kpageflags", frame) & KPF_ZERO_PAGE != 0
}

/// Waits until no process of the tree has run for a while.
fn at_rest(pids: &[u64]) {
    let ticks = || -> Vec<String> {
        let one = |pid: &u64| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let stat: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            assert_ne!(stat[0], "Z", "process {pid} has ended");
            format!("{} {} {}", stat[0], stat[11], stat[12])
        };
        pids.iter().map(one).collect()
    };
    for _ in 0..200 {
        let before = ticks();
        std::thread::sleep(Duration::from_millis(150));
        let after = ticks();
        if before == after && after.iter().all(|t| t.starts_with('S')) {
            return;
        }
    }
    panic!("{pids:?} do not come to rest: {:?}", ticks());
}

fn tree(pid: u64) -> Value {
    let out = run(&["snapshot", "--tree", &pid.to_string(), "--json"]);
    let (stdout, stderr) = text(&out);
    assert!(out.status.success(), "{stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// Whether a member's share, and what it alone maps, are those of smaps before and after: exactly, but for
/// files that others map meanwhile, pydefrag itself among them, beside the five of the tree.
fn are_of_smaps(member: &Value, before: &[Mapping], after: &[Mapping]) -> bool {
    if before.len() != after.len() {
        return false;
    }
    let (mut least, mut most, mut private) = (0, 0, (0, 0));
    for (b, a) in before.iter().zip(after) {
        let low = b.pss.min(a.pss);
        least += if b.is_file { low * 5 / 6 } else { low };
        most += b.pss.max(a.pss);
        private = (private.0 + b.private.min(a.private), private.1 + b.private.max(a.private));
    }
    let pss = u64_of(&member["snapshot"]["memory"]["pss"]);
    let alone = u64_of(&member["alone"]);
    (least..=most).contains(&pss) && (private.0..=private.1).contains(&alone)
}

#[test]
fn shares_sum_up_and_copied_pages_are_told_from_shared_ones() {
    for name in ["3.8", "3.11", "3.13", "3.15"] {
        let Some(interpreter) = Interpreters::load().get(name) else {
            lacking(&format!("python {name}"));
            continue;
        };
        let example = repository().join("examples/prefork.py");
        let args = ["--hold", "--size", "60000"];
        let target = Target::spawn(interpreter, example.to_str().unwrap(), &args, &[]);
        let found = tree(u64::from(target.pid()));
        let pids: Vec<u64> = found["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| u64_of(&m["snapshot"]["process"]["pid"]))
            .collect();
        assert_eq!(pids.len(), 5, "{name}: {pids:?}");
        assert_eq!(pids[0], u64::from(target.pid()));
        at_rest(&pids);
        let before: Vec<Smaps> = pids.iter().map(|p| smaps(*p)).collect();
        let found = tree(pids[0]);
        let after: Vec<Smaps> = pids.iter().map(|p| smaps(*p)).collect();
        let members = found["members"].as_array().unwrap();

        // Shares of files move with the processes of other tests, which map them too.
        let sum = |all: &[Smaps]| all.iter().map(|s| s.pss).sum::<u64>();
        let (low, high) = (sum(&before).min(sum(&after)), sum(&before).max(sum(&after)));
        let pss = u64_of(&found["pss"]);
        assert!(pss >= low - low / 50 && pss <= high + high / 50, "{name}: {low} {pss} {high}");
        assert_eq!(u64_of(&found["rss"]), before.iter().map(|s| s.rss).sum::<u64>(), "{name}");
        let by_member: u64 = members.iter().map(|m| u64_of(&m["snapshot"]["memory"]["pss"])).sum();
        assert_eq!(by_member, pss, "{name}");
        let owners = found["owners"].as_array().unwrap();
        let by_owner: u64 = owners.iter().map(|o| u64_of(&o["pss"])).sum();
        assert!(by_owner.abs_diff(pss) <= 4096, "{name}: {by_owner} {pss}");

        let exact = (0..20).any(|_| {
            let all = || pids.iter().map(|p| smaps(*p).mappings).collect::<Vec<_>>();
            let (before, found, after) = (all(), tree(pids[0]), all());
            let members = found["members"].as_array().unwrap();
            let mut each = members.iter().zip(before.iter().zip(&after));
            each.all(|(m, (before, after))| are_of_smaps(m, before, after))
        });
        assert!(exact, "{name}: shares are not those of smaps");

        let parent = frames(pids[0], &before[0].anonymous);
        for (i, (m, smaps)) in members.iter().zip(&before).enumerate() {
            let what = format!("{name}, member {i}");
            let shared = u64_of(&m["still_shared"]);
            assert_eq!(shared, smaps.anonymous_shared, "{what}");
            let (alone, copied) = (u64_of(&m["alone"]), u64_of(&m["copied"]));
            assert!(alone >= smaps.anonymous_private, "{what}");
            assert!(copied <= smaps.anonymous_private, "{what}");
            assert_eq!(m["depth"], u64::from(i > 0), "{what}");
            if i == 0 {
                assert_eq!(copied, 0, "{what}");
                continue;
            }
            assert!(shared > 4 << 20 && copied > 64 << 10, "{what}: {shared} {copied}");
            let ours = frames(pids[i], &smaps.anonymous);
            let (Some(parent), Some(ours)) = (&parent, ours) else {
                lacking(&format!("the right to see page frames ({what})"));
                continue;
            };
            let theirs = |at: &u64, frame: &u64| parent.get(at).map(|f| f == frame);
            let pages = |of: &dyn Fn(&u64, &u64) -> bool| {
                ours.iter().filter(|(at, frame)| of(at, frame)).count() as u64 * PAGE
            };
            // Workers share with each other what the master has copied since.
            let own = pages(&|at, frame| theirs(at, frame) == Some(false) && mapped_once(*frame));
            assert_eq!(copied, own, "{what}: copied");
            let inherited = pages(&|at, frame| theirs(at, frame) == Some(true));
            let among_workers = pages(&|at, f| theirs(at, f) != Some(true) && !mapped_once(*f));
            assert_eq!(shared, inherited + among_workers, "{what}: shared");
        }
    }
}

#[test]
fn a_tree_of_one_is_a_process_and_what_is_no_python_is_told_by_its_maps() {
    let sleeper = |script: &str| {
        std::process::Command::new("sh").args(["-c", script]).spawn().expect("sh starts")
    };
    let interpreter = Interpreters::load().all()[0];
    let target = Target::spawn(interpreter, "idle.py", &[], &[]);
    let found = tree(u64::from(target.pid()));
    assert_eq!(found["members"].as_array().unwrap().len(), 1);
    // A shell with a child: no Python at all, but a tree that was asked for.
    let mut shell = sleeper("sleep 60 & wait");
    std::thread::sleep(Duration::from_millis(300));
    let found = tree(u64::from(shell.id()));
    let members = found["members"].as_array().unwrap();
    assert_eq!(members.len(), 2, "{members:#?}");
    let child = u64_of(&members[1]["snapshot"]["process"]["pid"]);
    assert!(members.iter().all(|m| m["snapshot"]["partial"].is_object()));
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child as i32),
        nix::sys::signal::Signal::SIGKILL,
    );
    let _ = shell.kill();
    let _ = shell.wait();
    let out = run(&["snapshot", "--tree", "999999999"]);
    let (_, stderr) = text(&out);
    assert!(!out.status.success() && stderr.contains("hint:"), "{stderr}");
}
