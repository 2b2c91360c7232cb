//! Files of code that this process has loaded, as an unwinder needs them: where each lies, and its tables of frames, copied.
//!
//! Owns the reading of `/proc/self/maps` and of the heads of ELF files (System V ABI; the tables: LSB 5.0, "Exception
//! Frames"). All is read by system calls, which fail where memory has gone, and never by way of the loader, whose lock
//! another thread may hold while it waits for us.
//!
//! Invariant: nothing of a file is trusted: what does not fit is not there.

use std::borrow::Cow;
use std::ops::{Deref, Range};
use std::sync::Arc;

use object::elf::{FileHeader64, PF_X, PT_GNU_EH_FRAME, PT_LOAD, PT_NOTE, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, elf};
use pydefrag_image::{Mapping, parse_smaps};

type Header = FileHeader64<LittleEndian>;

/// Bytes of a head, which the table of segments lies in.
const HEAD: usize = 4096;
/// No table of frames is larger.
const LARGEST: u64 = 64 << 20;
/// A build id is 20 bytes, or few more.
const LARGEST_NOTE: u64 = 4096;
/// How `.eh_frame_hdr` says where `.eh_frame` is, and how its index is kept, in what every linker writes.
const USUAL: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// Bytes that an unwinder has too.
#[derive(Clone, Default)]
pub(super) struct Bytes(Arc<Vec<u8>>);

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// A table, and the addresses that the file states for it.
pub(super) struct Table {
    pub(super) stated: Range<u64>,
    pub(super) bytes: Bytes,
}

/// A file that is loaded.
pub(super) struct Loaded {
    pub(super) path: String,
    /// Where it lies, and what of that is code.
    pub(super) range: Range<u64>,
    pub(super) code: Range<u64>,
    /// What is added to the addresses that the file states.
    pub(super) bias: u64,
    /// What tells it from another file of its name.
    pub(super) build_id: Vec<u8>,
    /// `.eh_frame_hdr` and `.eh_frame`.
    pub(super) index: Table,
    pub(super) frames: Table,
}

/// The mappings of this process; `None` where they cannot be read.
pub(super) fn mappings() -> Option<Vec<Mapping>> {
    let text = super::file::contents(c"/proc/self/maps", 64 << 10)?;
    parse_smaps(&*text).ok().map(|smaps| smaps.mappings)
}

/// The name of a mapping.
pub(super) fn path(m: &Mapping) -> Cow<'_, str> {
    String::from_utf8_lossy(m.name_bytes())
}

/// Files of code among the mappings, but for those that begin where `is_known` says.
pub(super) fn files(mappings: &[Mapping], is_known: impl Fn(u64) -> bool) -> Vec<Loaded> {
    let is_vdso = |m: &Mapping| m.name_bytes() == b"[vdso]";
    let mut files = Vec::new();
    let mut at = 0;
    while at < mappings.len() {
        let first = &mappings[at];
        at += 1;
        if !first.is_file() && !is_vdso(first) || first.offset != 0 {
            continue;
        }
        // Its other segments follow.
        let mut own = mappings[at..].iter().take_while(|m| m.name == first.name && m.offset != 0);
        let has_code = first.permissions.execute || own.any(|m| m.permissions.execute);
        if has_code && !is_known(first.start) {
            files.extend(read(first));
        }
    }
    files
}

fn read(first: &Mapping) -> Option<Loaded> {
    let head = memory(first.start, HEAD.min((first.end - first.start) as usize))?;
    let header = Header::parse(&*head).ok()?;
    let segments = header.program_headers(LittleEndian, &*head).ok()?;
    let e = LittleEndian;
    let is = |kind| move |s: &&ProgramHeader64<LittleEndian>| s.p_type(e) == kind;
    let lowest = segments.iter().filter(is(PT_LOAD)).map(|s| s.p_vaddr(e)).min()?;
    let bias = first.start.wrapping_sub(lowest & !0xfff);
    // What a file has no bytes for lies in mappings without its name, and code may lie behind that.
    let lies = |s: &ProgramHeader64<LittleEndian>| {
        let start = s.p_vaddr(e).wrapping_add(bias);
        Some(start..start.checked_add(s.p_memsz(e))?)
    };
    let loads = || segments.iter().filter(is(PT_LOAD));
    let code = || loads().filter(|s| s.p_flags(e).0 & PF_X.0 != 0).filter_map(lies);
    let range = first.start..loads().filter_map(lies).map(|r| r.end).max()?;
    let code = code().map(|r| r.start).min()?..code().map(|r| r.end).max()?;
    let index = segments.iter().find(is(PT_GNU_EH_FRAME))?;
    let stated = index.p_vaddr(e)..index.p_vaddr(e).checked_add(index.p_memsz(e))?;
    let index = table(stated, bias)?;
    // Where the frames are is told as a distance; they end with their segment at the latest.
    let usual = index.bytes.get(..4)? == USUAL;
    let distance = i32::from_le_bytes(index.bytes.get(4..8)?.try_into().ok()?);
    let at = index.stated.start.wrapping_add(4).wrapping_add_signed(distance.into());
    let end = segments.iter().filter(is(PT_LOAD)).find_map(|s| {
        let end = s.p_vaddr(e).checked_add(s.p_filesz(e))?;
        (s.p_vaddr(e)..end).contains(&at).then_some(end)
    })?;
    let frames = table(at..end.min(at.checked_add(LARGEST)?), bias).filter(|_| usual)?;
    let build_id = segments.iter().filter(is(PT_NOTE)).find_map(|s| build_id(s, bias));
    let path = path(first).into_owned();
    Some(Loaded { path, range, code, bias, build_id: build_id.unwrap_or_default(), index, frames })
}

fn table(stated: Range<u64>, bias: u64) -> Option<Table> {
    let length = stated.end.checked_sub(stated.start).filter(|l| *l <= LARGEST)?;
    let bytes = memory(stated.start.wrapping_add(bias), length as usize)?;
    Some(Table { bytes: Bytes(Arc::new(bytes)), stated })
}

fn build_id(note: &ProgramHeader64<LittleEndian>, bias: u64) -> Option<Vec<u8>> {
    let size = note.p_filesz(LittleEndian).min(LARGEST_NOTE);
    let bytes = memory(note.p_vaddr(LittleEndian).wrapping_add(bias), size as usize)?;
    let mut rest = &bytes[..];
    loop {
        let word =
            |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?) as usize);
        let (name, length, kind) = (word(0)?, word(4)?, word(8)? as u32);
        let at = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let next = at.checked_add(length.checked_next_multiple_of(4)?)?;
        if kind == elf::NT_GNU_BUILD_ID.0 && rest.get(12..16) == Some(b"GNU\0") {
            return rest.get(at..at + length).map(<[u8]>::to_vec);
        }
        rest = rest.get(next..)?;
    }
}

impl Loaded {
    /// The function that an address is in, or the part of one that was moved away from it: from where it begins to where the
    /// next one does.
    pub(super) fn function(&self, address: u64) -> Option<Range<u64>> {
        let (entries, _) = self.index.bytes.get(12..)?.as_chunks::<8>();
        let begin = |entry: &[u8; 8]| {
            let distance = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            self.index.stated.start.wrapping_add_signed(distance.into()).wrapping_add(self.bias)
        };
        // The index is in order: a linker sorts it for whoever looks up here.
        let next = entries.partition_point(|entry| begin(entry) <= address);
        let end = entries.get(next).map_or(self.range.end, begin);
        Some(begin(entries.get(next.checked_sub(1)?)?)..end)
    }
}

/// Bytes of this process; `None` where they are not all there.
fn memory(at: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).ok()?;
    bytes.resize(length, 0u8);
    let ours = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
    let theirs = libc::iovec { iov_base: at as usize as *mut _, iov_len: length };
    // SAFETY: the kernel reads from `theirs`, or says that it cannot, and writes to `ours`, which has that length.
    let n = unsafe { libc::process_vm_readv(std::process::id() as i32, &ours, 1, &theirs, 1, 0) };
    (n == length as isize).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_and_its_libraries_are_found() {
        let mappings = mappings().unwrap();
        let files = files(&mappings, |_| false);
        let here = this_program_and_its_libraries_are_found as *const () as usize as u64;
        let ours = files.iter().find(|f| f.code.contains(&here)).unwrap();
        assert!(files.iter().all(|f| f.range.start <= f.code.start && f.code.end <= f.range.end));
        assert!(std::env::current_exe().unwrap().ends_with(ours.path.rsplit('/').next().unwrap()));
        assert!(files.iter().any(|f| f.path.contains("libc.so")));
        assert!(files.iter().all(|f| !f.frames.bytes.is_empty()));
        // Every function has its row: this one too.
        assert!(ours.function(here).is_some_and(|f| f.start == here && f.end > here));
        assert_eq!(ours.function(here + 1), ours.function(here));
        assert!(self::files(&mappings, |_| true).is_empty());
    }

    #[test]
    fn memory_that_is_not_there_is_none() {
        assert!(memory(8, 16).is_none());
    }
}
