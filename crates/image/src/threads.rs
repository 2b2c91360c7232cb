//! Where each thread keeps its control block, without stopping it.
//!
//! The kernel knows every thread's list of robust mutexes, whose head lies inside the C library's
//! thread control block (`struct pthread`). Owns that one system call.

/// A thread of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub tid: i32,
    /// Its name as the kernel keeps it, at most 15 bytes.
    pub name: String,
    /// Address of the head of its list of robust mutexes.
    pub robust_list_head: u64,
}

/// The threads of a process; those that end meanwhile, or have no such list, are left out.
pub fn threads(pid: i32) -> Vec<Thread> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let ids = tasks.into_iter().flatten().flatten();
    ids.filter_map(|t| t.file_name().to_str()?.parse().ok())
        .filter_map(|tid| {
            let name = std::fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
            let name = String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned();
            Some(Thread { tid, name, robust_list_head: robust_list_head(tid)? })
        })
        .collect()
}

fn robust_list_head(tid: i32) -> Option<u64> {
    let mut head = 0u64;
    let mut length = 0usize;
    // SAFETY: the call writes one pointer and one size to the two exclusively borrowed variables,
    // which have those sizes on x86-64.
    let result =
        unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut length) };
    (result == 0 && head != 0).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_a_head_of_its_own() {
        let (send, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let all = threads(std::process::id() as i32);
        let mut heads: Vec<_> = all.iter().map(|t| t.robust_list_head).collect();
        drop(send);
        let _ = thread.join();
        heads.sort_unstable();
        heads.dedup();
        assert!(heads.len() >= 2);
    }
}
