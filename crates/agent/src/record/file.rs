//! The file that a recording is written to.
//!
//! Owns its descriptor, what is still to be written to it, and what can go wrong with it. The descriptor is the program's to
//! close, like any other: it is looked at before each write, and where it is no longer the file's, the file is opened again by
//! its name. What cannot be written ends the recording, never the program.
//!
//! Chunks are gathered, and written in aligned blocks: the kernel takes a whole one at once, where it would look each page
//! up, and those that a chunk ends in twice (ext4, Linux 6.18: 1.6 µs a page in place of 4.1).

use std::ffi::{CStr, CString, c_int};
use std::mem::MaybeUninit;
use std::path::Path;

use pydefrag_trace::chunk::{CHUNK_HEAD, Chunk, Codec, Tag, file_head};

use super::state;

/// The lowest descriptor that is taken: programs count on low numbers.
const LOWEST: c_int = 400;

/// Bytes that are written at once, at a multiple of so many in the file.
const BLOCK: usize = 64 << 10;
/// The next chunk is written at once, and all that was gathered, where so long nothing was, in nanoseconds.
const LATEST: u64 = 100_000_000;

/// An open file.
pub(super) struct File {
    path: CString,
    fd: c_int,
    identity: (u64, u64),
    /// Bytes in the file.
    length: u64,
    /// The end of the last chunk that is whole in the file.
    whole: u64,
    /// The end of the last chunk, gathered or written.
    last: u64,
    /// What follows in the file, in pages of our own.
    gathered: *mut u8,
    held: usize,
    /// When a chunk last had it written to.
    ns: u64,
    /// Chunks of codes.
    codes: u32,
}

impl File {
    /// Makes a file that was not there; `None` where it was.
    pub(super) fn make(path: &Path) -> Result<Option<File>, String> {
        use std::os::unix::ffi::OsStrExt;
        let text = CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        let flags =
            libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_APPEND | libc::O_CLOEXEC;
        // SAFETY: a NUL-ended path.
        let fd = unsafe { open(text.as_ptr(), flags, 0o600) };
        if fd < 0 {
            let e = std::io::Error::last_os_error();
            return match e.kind() {
                std::io::ErrorKind::AlreadyExists => Ok(None),
                _ => Err(e.to_string()),
            };
        }
        let fd = raised(fd);
        let identity = identity(fd).ok_or("it cannot be looked at")?;
        let gathered = state::pages(BLOCK)?;
        let mut file = File {
            path: text,
            fd,
            identity,
            length: 0,
            whole: 0,
            last: 0,
            gathered,
            held: 0,
            ns: 0,
            codes: 0,
        };
        file.write(&file_head(), 0)?;
        Ok(Some(file))
    }

    /// Writes a chunk that is made here.
    pub(super) fn chunk(&mut self, tag: Tag, plain: &[u8], ns: u64) -> Result<(), String> {
        let number = match tag {
            Tag::Code => {
                self.codes += 1;
                self.codes - 1
            }
            _ => 0,
        };
        let length = plain.len() as u32;
        let chunk =
            Chunk { tag, lane: 0, codec: Codec::Plain, stored: length, plain: length, number, ns };
        let mut bytes = Vec::with_capacity(CHUNK_HEAD + plain.len());
        bytes.extend(chunk.head(plain));
        bytes.extend(plain);
        self.write(&bytes, ns)
    }

    /// Writes a chunk, or the file's head, sooner or later: whole, or nothing that is kept.
    pub(super) fn write(&mut self, mut bytes: &[u8], ns: u64) -> Result<(), String> {
        let end = self.last + bytes.len() as u64;
        while !bytes.is_empty() {
            let block = BLOCK - self.length as usize % BLOCK;
            let (now, later) = bytes.split_at(bytes.len().min(block - self.held));
            // SAFETY: at most a block is held, and there are pages for one.
            unsafe {
                let to = self.gathered.add(self.held);
                std::ptr::copy_nonoverlapping(now.as_ptr(), to, now.len());
            }
            self.held += now.len();
            bytes = later;
            if bytes.is_empty() {
                self.last = end;
            }
            if self.held == block {
                self.flush()?;
                self.ns = ns;
            }
        }
        if ns.saturating_sub(self.ns) > LATEST {
            self.flush()?;
            self.ns = ns;
        }
        Ok(())
    }

    /// Writes what was gathered.
    pub(super) fn flush(&mut self) -> Result<(), String> {
        if self.held == 0 {
            return Ok(());
        }
        if identity(self.fd) != Some(self.identity) {
            self.open_again()?;
        }
        let mut done = 0;
        while done < self.held {
            let (from, rest) = (self.gathered.wrapping_add(done), self.held - done);
            // SAFETY: our bytes.
            let n = unsafe { libc::syscall(libc::SYS_write, self.fd, from, rest) };
            if n > 0 {
                done += n as usize;
                continue;
            }
            let e = std::io::Error::last_os_error();
            if n < 0 && e.kind() == std::io::ErrorKind::Interrupted {
                continue;
            }
            // SAFETY: cuts our file to what is whole.
            unsafe { libc::ftruncate(self.fd, self.whole as libc::off_t) };
            (self.length, self.last, self.held) = (self.whole, self.whole, 0);
            return Err(if n == 0 { "nothing could be written".into() } else { e.to_string() });
        }
        self.length += self.held as u64;
        self.whole = self.last;
        self.held = 0;
        Ok(())
    }

    fn open_again(&mut self) -> Result<(), String> {
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC;
        // SAFETY: a NUL-ended path.
        let fd = unsafe { open(self.path.as_ptr(), flags, 0) };
        if fd < 0 {
            let e = std::io::Error::last_os_error();
            return Err(format!("the program closed it, and it could not be opened again ({e})"));
        }
        if identity(fd) != Some(self.identity) {
            // SAFETY: the descriptor that was just opened.
            unsafe { close(fd) };
            return Err("the program closed it, and another file has its name now".into());
        }
        self.fd = raised(fd);
        Ok(())
    }

    /// Closes it, if it is still ours. What was gathered is not written.
    pub(super) fn close(&mut self) {
        if identity(self.fd) == Some(self.identity) {
            // SAFETY: our descriptor.
            unsafe { close(self.fd) };
        }
        self.fd = -1;
        // SAFETY: pages of ours that nobody knows any more.
        unsafe { libc::munmap(self.gathered.cast(), BLOCK) };
    }
}

/// The same file under a number that is out of the program's way, if there is one.
fn raised(fd: c_int) -> c_int {
    // SAFETY: makes another descriptor of the same file, and closes the first.
    unsafe {
        let high = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, LOWEST);
        if high < 0 {
            return fd;
        }
        close(fd);
        high
    }
}

/// `open(2)`, which is no place where a thread is cancelled: the C library's is, and so are its `write` and `close`, and the
/// program's threads come here from `free`.
///
/// # Safety
///
/// The path is NUL-ended.
unsafe fn open(path: *const libc::c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int }
}

/// `close(2)`, in the same way.
///
/// # Safety
///
/// The descriptor is ours.
unsafe fn close(fd: c_int) {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// All of a file that the kernel makes up, read in steps of so many bytes.
pub(super) fn contents(path: &CStr, step: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::<u8>::new();
    // SAFETY: a NUL-ended path; the kernel writes to what is reserved, and says how much; our descriptor.
    unsafe {
        let fd = open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC, 0);
        if fd < 0 {
            return None;
        }
        let whole = loop {
            if bytes.try_reserve(step).is_err() {
                break false;
            }
            let to = bytes.as_mut_ptr().add(bytes.len());
            let n = libc::syscall(libc::SYS_read, fd, to, step);
            match usize::try_from(n) {
                Ok(0) => break true,
                Ok(n) => bytes.set_len(bytes.len() + n),
                Err(_) => break false,
            }
        };
        close(fd);
        whole.then_some(bytes)
    }
}

/// Device and inode of a descriptor.
fn identity(fd: c_int) -> Option<(u64, u64)> {
    let mut status = MaybeUninit::<libc::stat64>::zeroed();
    // SAFETY: fstat64 fills what it is given.
    unsafe {
        if libc::fstat64(fd, status.as_mut_ptr()) != 0 {
            return None;
        }
        let status = status.assume_init();
        Some((status.st_dev, status.st_ino))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_is_written_in_blocks_or_when_it_has_waited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut file = File::make(&path).unwrap().unwrap();
        assert!(File::make(&path).unwrap().is_none());
        let mut all = file_head().to_vec();
        let on_disk = || std::fs::read(&path).unwrap();
        let mut ns = 1;
        for i in 0..40u8 {
            let chunk = vec![i; 1000 + 300 * usize::from(i)];
            all.extend(&chunk);
            file.write(&chunk, ns).unwrap();
            ns += 1;
            // At one time: whole blocks.
            assert_eq!(on_disk(), all[..all.len() / BLOCK * BLOCK], "{i}");
        }
        assert!(all.len() > 3 * BLOCK);
        // After a pause all of it, then whole blocks again.
        ns += LATEST;
        for i in 0..100u8 {
            let chunk = vec![i; 1500];
            all.extend(&chunk);
            file.write(&chunk, ns).unwrap();
            let (written, whole) = (on_disk(), all.len() / BLOCK * BLOCK);
            assert!(i != 0 || written == all);
            assert_eq!(written, all[..written.len()]);
            assert!(written.len() == whole || i < 50 && written.len() % BLOCK != 0, "{i}");
        }
        file.flush().unwrap();
        assert_eq!(on_disk(), all);
    }

    #[test]
    fn what_cannot_be_written_leaves_whole_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut file = File::make(&path).unwrap().unwrap();
        let head = file_head().len();
        file.write(&[1; 1000], 0).unwrap();
        file.flush().unwrap();
        file.write(&[2; 1000], 0).unwrap();
        // A kernel that takes half of a block: as a disk that is full does.
        let half = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::io::Write::write_all(&mut &half, &[2; 500]).unwrap();
        let gathered = std::mem::replace(&mut file.gathered, std::ptr::null_mut());
        file.flush().unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap().len(), head + 1000);
        // What is written next stands behind what is whole.
        file.gathered = gathered;
        file.write(&[3; 10], 0).unwrap();
        file.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[head..], [&[1; 1000][..], &[3; 10]].concat());
    }
}
