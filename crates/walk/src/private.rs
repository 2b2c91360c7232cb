//! Allocators that a library carries for itself, as pyarrow's and polars' wheels do.
//!
//! Owns their naming. A private mimalloc is told by its segments: what they are marked with stands in the
//! data of the library that they belong to. jemalloc leaves no marks in its memory, nor does a mimalloc
//! newer than those known here: where a library says that it carries one, private memory that nothing else
//! claims is counted as its, by exclusion.

use std::collections::HashSet;

use pydefrag_image::{Image, Mapping, Module};

use crate::runtime::{Runtime, data_of};

/// Less unclaimed memory than this is not worth the search for a carrier.
const WORTH_A_SEARCH: u64 = 4 << 20;
/// Texts that the allocators' own messages begin with.
const MESSAGES: [&[u8]; 2] = [b"<jemalloc>: ", b"mimalloc: warning: "];

/// Whether CPython's own mimalloc marks its segments with `key`.
pub(crate) fn is_of_interpreter(image: &Image, runtime: &Runtime, key: u64) -> bool {
    holds(image, &runtime.module, key)
}

/// The owner's name of the segments that are marked with `key`, by the library whose data has it.
pub(crate) fn carrier_of(image: &Image, key: u64) -> Option<String> {
    libraries(image).find(|m| holds(image, m, key)).map(|m| name(&m))
}

fn holds(image: &Image, module: &Module, key: u64) -> bool {
    let key = key.to_le_bytes();
    data_of(image, module).iter().any(|(_, bytes)| bytes.chunks_exact(8).any(|w| w == key))
}

/// The owner's name of `unclaimed` bytes that no mark tells of, if some library carries an allocator.
/// CPython's own mimalloc is none.
pub(crate) fn by_exclusion(image: &Image, runtime: &Runtime, unclaimed: u64) -> Option<String> {
    if unclaimed < WORTH_A_SEARCH {
        return None;
    }
    let carries = |m: &Module| MESSAGES.iter().any(|text| m.find_text(text, text.len()).is_some());
    let others = libraries(image).filter(|m| m.path != runtime.module.path);
    let mut names: Vec<String> = others.filter(carries).map(|m| file(&m)).collect();
    names.sort();
    match &names[..] {
        [] => None,
        [one] => Some(format!("allocator in {one}")),
        several => Some(format!("allocators in {}", several.join(", "))),
    }
}

fn name(module: &Module) -> String {
    format!("allocator in {}", file(module))
}

fn file(module: &Module) -> String {
    let path = module.path.to_string_lossy().into_owned();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Every mapped file with code, once.
fn libraries(image: &Image) -> impl Iterator<Item = Module> + '_ {
    let mut seen = HashSet::new();
    let files = image.mappings.iter().filter(|m: &&Mapping| m.is_file() && m.permissions.execute);
    let once: Vec<_> = files.filter(|m| seen.insert(m.file_id())).collect();
    once.into_iter().filter_map(|m| Module::open(image.pid, m).ok())
}
