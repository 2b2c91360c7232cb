//! Where each thread keeps its control block, without stopping it.
//!
//! The kernel knows every thread's list of robust mutexes, whose head lies inside the C library's
//! thread control block (`struct pthread`). Owns that one system call.

/// Addresses of the robust list heads of a process's threads; threads that end meanwhile, or have
/// none, are left out.
pub fn robust_list_heads(pid: i32) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let ids = tasks.into_iter().flatten().flatten();
    ids.filter_map(|t| t.file_name().to_str()?.parse().ok()).filter_map(robust_list_head).collect()
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
        let mut heads = robust_list_heads(std::process::id() as i32);
        drop(send);
        let _ = thread.join();
        heads.sort_unstable();
        heads.dedup();
        assert!(heads.len() >= 2);
    }
}
