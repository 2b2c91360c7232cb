//! The file that a recording is written to.
//!
//! Owns its descriptor and what can go wrong with it. The descriptor is the program's to close, like any other: it is
//! looked at before each write, and where it is no longer the file's, the file is opened again by its name. What cannot be
//! written ends the recording, never the program.

use std::ffi::{CStr, CString, c_int};
use std::mem::MaybeUninit;
use std::path::Path;

use pydefrag_trace::chunk::{CHUNK_HEAD, Chunk, Codec, Tag, file_head};

/// The lowest descriptor that is taken: programs count on low numbers.
const LOWEST: c_int = 400;

/// An open file.
pub(super) struct File {
    path: CString,
    fd: c_int,
    identity: (u64, u64),
    /// Bytes that are whole.
    length: u64,
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
        let mut file = File { path: text, fd, identity, length: 0, codes: 0 };
        file.write(&file_head())?;
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
        self.write(&bytes)
    }

    /// Writes all of it, or nothing that is kept.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        if identity(self.fd) != Some(self.identity) {
            self.open_again()?;
        }
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            // SAFETY: our bytes.
            let n = unsafe { libc::syscall(libc::SYS_write, self.fd, rest.as_ptr(), rest.len()) };
            if n > 0 {
                done += n as usize;
                continue;
            }
            let e = std::io::Error::last_os_error();
            if n < 0 && e.kind() == std::io::ErrorKind::Interrupted {
                continue;
            }
            // SAFETY: cuts our file to what is whole.
            unsafe { libc::ftruncate(self.fd, self.length as libc::off_t) };
            return Err(if n == 0 { "nothing could be written".into() } else { e.to_string() });
        }
        self.length += bytes.len() as u64;
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

    /// Closes it, if it is still ours.
    pub(super) fn close(&mut self) {
        if identity(self.fd) == Some(self.identity) {
            // SAFETY: our descriptor.
            unsafe { close(self.fd) };
        }
        self.fd = -1;
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
