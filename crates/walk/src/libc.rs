//! Which C library is in a process.

use pydefrag_heap::Libc;
use pydefrag_image::{Image, Mapping, Module};

/// glibc's file, mapped.
pub(crate) struct Glibc<'a> {
    pub(crate) mapping: &'a Mapping,
    pub(crate) version: Option<String>,
}

/// Versions of glibc on which malloc's walk was compared with mallinfo2.
const TRIED: [&str; 4] = ["2.31", "2.36", "2.41", "2.43"];

/// The C library that is mapped, with its version if its text tells; and its mapping if it is glibc.
pub(crate) fn find(image: &Image) -> (Option<Libc>, Option<Glibc<'_>>) {
    for m in image.mappings.iter().filter(|m| m.is_file()) {
        let base = basename(m);
        if base.starts_with(b"ld-musl-") {
            return (Some(Libc { name: "musl".into(), version: None }), None);
        }
        if is_glibc(base) {
            let version = Module::open(image.pid, m).ok().and_then(|m| version(&m));
            let libc = Libc { name: "glibc".into(), version: version.clone() };
            return (Some(libc), Some(Glibc { mapping: m, version }));
        }
    }
    (None, None)
}

/// glibc's first mapping.
pub(crate) fn glibc(image: &Image) -> Option<&Mapping> {
    image.mappings.iter().find(|m| m.is_file() && is_glibc(basename(m)))
}

fn basename(m: &Mapping) -> &[u8] {
    m.name_bytes().rsplit(|b| *b == b'/').next().unwrap_or_default()
}

fn is_glibc(base: &[u8]) -> bool {
    let dot_so = || base.windows(3).any(|w| w == b".so");
    base.starts_with(b"libc.so.6") || (base.starts_with(b"libc-2.") && dot_so())
}

/// The version, if it is none that was tried.
pub(crate) fn untested(libc: &Libc) -> Option<&str> {
    libc.version.as_deref().filter(|v| !TRIED.contains(v))
}

/// `GNU C Library (…) stable release version 2.36.`
fn version(libc: &Module) -> Option<String> {
    const BEFORE: &str = "release version ";
    let text = libc.find_text(BEFORE.as_bytes(), BEFORE.len() + 8)?;
    let text = String::from_utf8_lossy(&text[BEFORE.len()..]).into_owned();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let version = text[..end].trim_end_matches('.');
    (!version.is_empty()).then(|| version.to_owned())
}
