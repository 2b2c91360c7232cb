//! Which Python is in a process: its image, its version, the address of its runtime state.
//!
//! Owns the refusals: what is not Python is named, what is not understood is refused together with
//! the validation that failed.

use pydefrag_image::{Image, Mapping, Module, ReadError};
use pydefrag_layout::cpython::{self, DebugOffsets, Version};

/// Why a process is not walked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No interpreter in it.
    #[error("process {pid} is not a Python process: it runs {what}")]
    NotPython {
        /// Its pid.
        pid: i32,
        /// The program it runs.
        what: String,
    },
    /// A Python that this version does not read.
    #[error("process {pid} runs {what}, which is not supported: {why}")]
    Unsupported {
        /// Its pid.
        pid: i32,
        /// Which Python.
        what: String,
        /// What this version reads instead, or the validation that failed.
        why: String,
    },
    /// Its memory does not fit the layout of its version.
    #[error("process {pid} runs CPython {version}, but its memory is not understood: {why}")]
    NotUnderstood {
        /// Its pid.
        pid: i32,
        /// Its version.
        version: Version,
        /// The validation that failed.
        why: String,
    },
    /// An agent of another version of pydefrag changed its pymalloc, and what it did is not read.
    #[error(
        "the agent of pydefrag {tool} in process {pid} publishes table version {version}; this version \
         reads {reads}: look with that version"
    )]
    Agent {
        /// Its pid.
        pid: i32,
        /// The version of pydefrag that the agent is of.
        tool: String,
        /// The version of its table.
        version: u32,
        /// The version that is read.
        reads: u32,
    },
    /// Its memory could not be read.
    #[error("the memory of process {pid} could not be read: {source}")]
    Read {
        /// Its pid.
        pid: i32,
        /// Why.
        source: ReadError,
    },
}

/// The interpreter that was found in a process.
#[derive(Debug)]
pub struct Runtime {
    /// The file that its code is in: an executable or libpython.
    pub module: Module,
    /// Its version.
    pub version: Version,
    /// Its layout.
    pub layout: &'static cpython::Runtime,
    /// Address of `_PyRuntime`, where it could be told.
    pub address: Option<u64>,
    /// What `_PyRuntime` says of itself (3.13+).
    pub debug_offsets: Option<DebugOffsets>,
    /// `_Py_tracemalloc_config` (3.8-3.11).
    pub tracemalloc_config: Option<u64>,
    /// Newer than anything that was tried.
    pub untried: bool,
}

impl Runtime {
    /// Finds the interpreter in a process.
    pub fn find(image: &Image) -> Result<Runtime, Refusal> {
        let pid = image.pid;
        let what = || program(image);
        if let Some(class) = foreign_class(image) {
            return Err(Refusal::Unsupported {
                pid,
                what: format!("{} ({class})", what()),
                why: "only 64-bit x86-64 processes are read".into(),
            });
        }
        let mut python_like = None;
        for m in candidates(image) {
            let Ok(module) = Module::open(pid, m) else { continue };
            let [runtime, version, config, old] = module.dynamic_symbols([
                "_PyRuntime",
                "Py_Version",
                "_Py_tracemalloc_config",
                "Py_Initialize",
            ]);
            let section = || module.section(".PyRuntime").map(|s| s.0);
            match runtime.or_else(section) {
                Some(address) => {
                    refuse_musl(image, &what)?;
                    return Self::of(image, module, address, version, config);
                }
                None if old.is_some() => python_like = Some(module),
                None => {}
            }
        }
        if let Some(module) = python_like {
            return Err(older(image, &module));
        }
        if image.mappings.iter().any(|m| basename(m).starts_with("libpypy"))
            || what().rsplit('/').next().is_some_and(|n| n.starts_with("pypy"))
        {
            return Err(Refusal::Unsupported {
                pid,
                what: "PyPy".into(),
                why: "only CPython 3.8 to 3.15 is read".into(),
            });
        }
        Err(Refusal::NotPython { pid, what: what() })
    }

    fn of(
        image: &Image,
        module: Module,
        address: u64,
        version_symbol: Option<u64>,
        tracemalloc_config: Option<u64>,
    ) -> Result<Runtime, Refusal> {
        let pid = image.pid;
        let read = |e| Refusal::Read { pid, source: e };
        let mut head = [0; cpython::DEBUG_OFFSETS_HEAD];
        image.read(address, &mut head).map_err(read)?;
        let debug_offsets = cpython::debug_offsets(&head);
        let by_symbol = || -> Result<Option<Version>, Refusal> {
            let Some(at) = version_symbol else { return Ok(None) };
            Ok(Version::from_hex(image.word(at).map_err(read)?))
        };
        let version = match debug_offsets.and_then(|d| Version::from_hex(d.version_hex)) {
            Some(v) => Some(v),
            None => by_symbol()?,
        };
        let version = version.or_else(|| {
            data_of(image, &module).iter().find_map(|(_, bytes)| Version::find_in(bytes))
        });
        let Some(version) = version else {
            return Err(Refusal::Unsupported {
                pid,
                what: format!("a Python of unknown version ({})", module.path.display()),
                why: "neither Py_Version nor the text of sys.version was found in it".into(),
            });
        };
        let newest = Version { minor: cpython::newest(), ..version };
        let untried = version.major == 3 && version.minor > cpython::newest();
        let Some(layout) = cpython::runtime(if untried { newest } else { version }) else {
            return Err(Refusal::Unsupported {
                pid,
                what: format!("CPython {version}"),
                why: "only CPython 3.8 to 3.15 is read".into(),
            });
        };
        if version.minor >= 13 && debug_offsets.is_none() {
            return Err(Refusal::NotUnderstood {
                pid,
                version,
                why: format!("_PyRuntime at {address:#x} does not begin with _Py_DebugOffsets"),
            });
        }
        let address = Some(address);
        Ok(Runtime { module, version, layout, address, debug_offsets, tracemalloc_config, untried })
    }

    /// Built without the GIL.
    pub fn free_threaded(&self) -> bool {
        self.debug_offsets.is_some_and(|d| d.free_threaded)
    }
}

/// More data than any interpreter has; an ELF file may claim anything.
const MOST_DATA: u64 = 64 << 20;

/// Resident writable data of a module, segment by segment: what could not be read is zero.
pub(crate) fn data_of(image: &Image, module: &Module) -> Vec<(u64, Vec<u8>)> {
    const PAGE: u64 = pydefrag_image::OS_PAGE;
    let mut left = MOST_DATA;
    let writable = module.segments.iter().filter(|s| s.write && s.start < s.end);
    let mapped = writable.filter(|s| image.mapping_at(s.start).is_some());
    let affordable = mapped.filter(|s| {
        let size = s.end - s.start;
        let enough = size <= left;
        left -= if enough { size } else { 0 };
        enough
    });
    affordable
        .map(|s| {
            let start = s.start & !7;
            let mut bytes = vec![0; (s.end - start) as usize];
            if image.read(start, &mut bytes).is_err() {
                // Page by page: one page that is swapped out or gone must not hide the others.
                bytes = vec![0; bytes.len()];
                let mut at = start;
                while at < s.end && image.mapping_at(at).is_some() {
                    let upto = ((at & !(PAGE - 1)) + PAGE).min(s.end);
                    let part = &mut bytes[(at - start) as usize..(upto - start) as usize];
                    if image.read(at, part).is_err() {
                        part.fill(0);
                    }
                    at = upto;
                }
            }
            (start, bytes)
        })
        .collect()
}

/// The words of [`data_of`].
pub(crate) fn words_of(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect()
}

fn basename(m: &Mapping) -> String {
    let name = String::from_utf8_lossy(m.name_bytes()).into_owned();
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

/// One mapping of each mapped file, those named like Python first.
fn candidates(image: &Image) -> Vec<&Mapping> {
    let mut seen = std::collections::HashSet::new();
    let mut files: Vec<_> = image
        .mappings
        .iter()
        .filter(|m| m.is_file() && seen.insert((m.file_id(), m.name_bytes())))
        .collect();
    // An extension module is never the interpreter and there may be hundreds.
    files.retain(|m| !basename(m).contains(".cpython-") && !basename(m).contains(".abi3."));
    files.sort_by_key(|m| !basename(m).contains("python"));
    files
}

/// The program that a process runs, for messages.
fn program(image: &Image) -> String {
    image.program().map_or("an unknown program".into(), |path| path.display().to_string())
}

/// Set when the executable is no 64-bit x86-64 ELF file: what it is.
fn foreign_class(image: &Image) -> Option<&'static str> {
    let head = image.program_head()?;
    match (head[4], u16::from_le_bytes([head[18], head[19]])) {
        (2, 62) => None,
        (1, _) => Some("32-bit"),
        _ => Some("not x86-64"),
    }
}

fn refuse_musl(image: &Image, what: &dyn Fn() -> String) -> Result<(), Refusal> {
    let musl = |m: &Mapping| {
        let name = basename(m);
        name.starts_with("ld-musl-") || name.starts_with("libc.musl-")
    };
    if !image.mappings.iter().any(musl) {
        return Ok(());
    }
    Err(Refusal::Unsupported {
        pid: image.pid,
        what: format!("{} on musl", what()),
        why: "only glibc is read; musl's malloc and thread stacks would be accounted wrongly"
            .into(),
    })
}

/// An interpreter without `_PyRuntime` is older than 3.7.
fn older(image: &Image, module: &Module) -> Refusal {
    let version = data_of(image, module).iter().find_map(|(_, bytes)| Version::find_in(bytes));
    Refusal::Unsupported {
        pid: image.pid,
        what: match version {
            Some(v) => format!("CPython {v}"),
            None => format!("a Python without _PyRuntime ({})", module.path.display()),
        },
        why: "only CPython 3.8 to 3.15 is read".into(),
    }
}
