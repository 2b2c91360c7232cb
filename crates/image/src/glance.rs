//! What is cheap enough to ask of many processes many times a second: one small file each.
//!
//! Owns the readers of `/proc/PID/stat`, of a process's children, and of what its descriptors are.
//! Does not own what is worth asking; [`crate::ProcessFacts`] has what a report needs.

use std::path::PathBuf;

use crate::OS_PAGE;

/// A process as one read of `/proc/PID/stat` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// Process id.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// When it was started, in ticks: tells two processes with one pid apart.
    pub start_time: u64,
    /// Resident bytes, as inexact as `/proc/PID/statm` has them.
    pub rss: u64,
    /// It has ended, and its parent has not asked how.
    pub ended: bool,
}

impl Glance {
    /// A glance at `pid`; `None` when there is no such process.
    pub fn of(pid: i32) -> Option<Glance> {
        parse(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// A glance at every process.
    pub fn all() -> Vec<Glance> {
        let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        names.filter_map(|e| Glance::of(e.file_name().to_str()?.parse().ok()?)).collect()
    }
}

fn parse(pid: i32, stat: &[u8]) -> Option<Glance> {
    // The name is in parentheses and may hold any byte, parentheses too.
    let after = stat.iter().rposition(|b| *b == b')')? + 1;
    let text = std::str::from_utf8(&stat[after..]).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    // proc(5) counts from 1; the state is number 3.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Glance {
        pid,
        parent: field(4)?.parse().ok()?,
        start_time: field(22)?.parse().ok()?,
        rss: field(24)?.parse::<u64>().ok()? * OS_PAGE,
        ended: matches!(field(3)?, "Z" | "X"),
    })
}

/// The processes that `pid` started and that still are its children. `None` where the kernel does not
/// tell, or it has ended.
pub fn children_of(pid: i32) -> Option<Vec<i32>> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        match std::fs::read_to_string(thread.path().join("children")) {
            Ok(text) => {
                all.extend(text.split_ascii_whitespace().filter_map(|p| p.parse::<i32>().ok()))
            }
            // A thread that has just ended; but where no thread has that file, neither has ours.
            Err(_) if !std::path::Path::new("/proc/thread-self/children").exists() => return None,
            Err(_) => {}
        }
    }
    Some(all)
}

/// What descriptor number `fd` of a process is, as in `socket:[4242]`.
pub fn descriptor_of(pid: i32, fd: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_and_a_child_of_ours_are_seen() {
        let me = Glance::of(std::process::id() as i32).unwrap();
        assert!(me.rss > 0 && !me.ended && me.start_time > 0);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        assert_eq!(Glance::of(pid).unwrap().parent, me.pid);
        assert!(children_of(me.pid).is_none_or(|c| c.contains(&pid)));
        assert!(Glance::all().iter().any(|g| g.pid == pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Glance::of(pid), None);
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = b"7 (a) R (b) S 3 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0 5 1 2";
        let seen = parse(7, stat).unwrap();
        assert_eq!((seen.parent, seen.start_time, seen.rss), (3, 99, 5 * OS_PAGE));
        assert_eq!(parse(7, b"7 (cut"), None);
    }
}
