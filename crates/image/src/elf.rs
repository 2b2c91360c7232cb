//! ELF files that a process has mapped: where their segments lie and what their symbols say.
//!
//! Owns the way from a mapping to a file (the target's own root, deleted files) and from a symbol to
//! an address. Reads the file, not the process; no section or symbol of it is trusted to be sane.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use object::read::elf::{FileHeader, ProgramHeader, Sym as _};
use object::read::{ReadCache, ReadRef};
use object::{Endianness, elf};

use crate::OS_PAGE;
use crate::mappings::Mapping;

/// Why a mapped file is not a usable ELF file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// It cannot be opened.
    #[error("the file could not be opened: {0}")]
    Open(#[from] std::io::Error),
    /// It is not a 64-bit little-endian ELF file.
    #[error("it is not a 64-bit x86-64 ELF file")]
    NotElf,
    /// Its tables are damaged.
    #[error("its ELF tables are damaged: {0}")]
    Damaged(#[from] object::Error),
}

/// A loadable segment, at its address in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub start: u64,
    /// Address behind the bytes that come from the file.
    pub file_end: u64,
    /// Address behind the last byte (.bss included).
    pub end: u64,
    /// Writable.
    pub write: bool,
    /// Executable.
    pub execute: bool,
}

/// A mapped ELF file.
pub struct Module {
    /// Path as the process sees it.
    pub path: PathBuf,
    /// Its loadable segments.
    pub segments: Vec<Segment>,
    bias: u64,
    data: Bounded,
    /// The same file, for reading that need not be kept.
    file: File,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("path", &self.path).field("bias", &self.bias).finish()
    }
}

type Header = elf::FileHeader64<Endianness>;

/// A file of which nothing is read in pieces larger than any table of a real one: a sparse file may
/// claim tables of any size.
struct Bounded(ReadCache<File>);

const LARGEST_TABLE: u64 = 64 << 20;

impl<'a> ReadRef<'a> for &'a Bounded {
    fn len(self) -> Result<u64, ()> {
        ReadRef::len(&self.0)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > LARGEST_TABLE {
            return Err(());
        }
        self.0.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(
        self,
        range: std::ops::Range<u64>,
        delimiter: u8,
    ) -> Result<&'a [u8], ()> {
        let end = range.end.min(range.start.saturating_add(LARGEST_TABLE));
        self.0.read_bytes_at_until(range.start..end, delimiter)
    }
}

/// Opens the file behind a mapping: as the kernel holds it, else in the process's root.
pub(crate) fn open_mapped(pid: i32, m: &Mapping) -> std::io::Result<File> {
    let held = format!("/proc/{pid}/map_files/{:x}-{:x}", m.start, m.end);
    if let Ok(file) = File::open(held) {
        return Ok(file);
    }
    // The executable can be opened even when it was deleted or lies in another root.
    let exe = format!("/proc/{pid}/exe");
    if std::fs::read_link(&exe).ok().as_deref() == m.name.as_deref()
        && let Ok(file) = File::open(exe)
        && file.metadata()?.ino() == m.inode
    {
        return Ok(file);
    }
    let name = m.name_bytes();
    if name.ends_with(b" (deleted)") {
        return Err(std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "the file was deleted or replaced since the process mapped it",
        ));
    }
    let mut path = PathBuf::from(format!("/proc/{pid}/root"));
    path.push(std::ffi::OsStr::from_bytes(name.strip_prefix(b"/").unwrap_or(name)));
    // Never a FIFO or a device: only regular files are opened.
    if !std::fs::metadata(&path)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    File::open(path)
}

impl Module {
    /// Opens the ELF file behind a mapping.
    pub fn open(pid: i32, m: &Mapping) -> Result<Module, ElfError> {
        let file = open_mapped(pid, m)?;
        let data = Bounded(ReadCache::new(file.try_clone()?));
        let header = Header::parse(&data).map_err(|_| ElfError::NotElf)?;
        let endian = header.endian().map_err(|_| ElfError::NotElf)?;
        if endian != Endianness::Little || header.e_machine(endian) != elf::EM_X86_64 {
            return Err(ElfError::NotElf);
        }
        let loads = || -> Result<Vec<_>, object::Error> {
            let all = header.program_headers(endian, &data)?;
            Ok(all.iter().filter(|p| p.p_type(endian) == elf::PT_LOAD).collect())
        };
        let loads = loads()?;
        // The segment that this mapping shows: its first page of the file is mapped here.
        let down = |v: u64| v & !(OS_PAGE - 1);
        let bias = loads
            .iter()
            .find(|p| {
                let first = down(p.p_offset(endian));
                (first..first.saturating_add(p.p_filesz(endian).max(1))).contains(&m.offset)
            })
            .map(|p| {
                let into = m.offset - down(p.p_offset(endian));
                m.start.wrapping_sub(into).wrapping_sub(down(p.p_vaddr(endian)))
            })
            .unwrap_or(0);
        let segments = loads
            .iter()
            .map(|p| {
                let start = p.p_vaddr(endian).wrapping_add(bias);
                Segment {
                    start,
                    file_end: start.wrapping_add(p.p_filesz(endian)),
                    end: start.wrapping_add(p.p_memsz(endian)),
                    write: p.p_flags(endian).0 & elf::PF_W.0 != 0,
                    execute: p.p_flags(endian).0 & elf::PF_X.0 != 0,
                }
            })
            .filter(|s| s.start <= s.file_end && s.file_end <= s.end)
            .collect();
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(m.name_bytes()));
        Ok(Module { path, segments, bias, data, file })
    }

    /// Whether an address lies in an executable segment.
    pub fn is_code(&self, address: u64) -> bool {
        self.segments.iter().any(|s| s.execute && (s.start..s.end).contains(&address))
    }

    /// Addresses of the dynamic symbols with these names, in the same order.
    pub fn dynamic_symbols<const N: usize>(&self, names: [&str; N]) -> [Option<u64>; N] {
        self.find_symbols(names).unwrap_or([None; N])
    }

    fn find_symbols<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<u64>; N], object::Error> {
        let mut found = [None; N];
        let header = Header::parse(&self.data)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, &self.data)?;
        let symbols = sections.symbols(endian, &self.data, elf::SHT_DYNSYM)?;
        for s in symbols.iter() {
            let value = s.st_value(endian);
            let Ok(name) = s.name(endian, symbols.strings()) else { continue };
            if value != 0
                && let Some(i) = names.iter().position(|n| n.as_bytes() == name)
            {
                found[i] = Some(value.wrapping_add(self.bias));
            }
        }
        Ok(found)
    }

    /// Address and size of the section with this name.
    pub fn section(&self, name: &str) -> Option<(u64, u64)> {
        use object::read::elf::SectionHeader;
        let header = Header::parse(&self.data).ok()?;
        let endian = header.endian().ok()?;
        let sections = header.sections(endian, &self.data).ok()?;
        let (_, s) = sections.section_by_name(endian, name.as_bytes())?;
        Some((s.sh_addr(endian).wrapping_add(self.bias), s.sh_size(endian)))
    }

    /// Bytes of the file's read-only data that contain `needle`, from there on, at most `length`.
    pub fn find_text(&self, needle: &[u8], length: usize) -> Option<Vec<u8>> {
        const STEP: usize = 256 << 10;
        let finder = memchr::memmem::Finder::new(needle);
        let mut bytes = vec![0; STEP];
        let mut at = 0;
        while at < LARGEST_TABLE {
            let n = self.file.read_at(&mut bytes, at).ok()?;
            if let Some(i) = finder.find(&bytes[..n]) {
                let mut found = vec![0; length];
                let n = self.file.read_at(&mut found, at + i as u64).ok()?;
                found.truncate(n);
                return Some(found);
            }
            if n <= needle.len() {
                break;
            }
            // It may lie across the border.
            at += (n - needle.len()) as u64;
        }
        None
    }
}
