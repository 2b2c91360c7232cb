//! Which allocator serves an interpreter, and what lies on top of it.
//!
//! Owns the unwrapping of debug hooks and tracemalloc. Foreign hooks cannot be unwrapped: their state
//! is their own; they are named by the file that their code is in.

use pydefrag_image::Image;
use pydefrag_layout::allocators::{ALLOCATOR, Allocator, allocator, find_static, is_debug_api_id};
use pydefrag_layout::word::u32_at;

use crate::runtime::{Runtime, data_of, words_of};

/// What the allocator tables say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// `pymalloc`, `malloc`, `mimalloc`; `None` when the tables were not found or end in a foreign hook.
    pub(crate) by: Option<&'static str>,
    pub(crate) debug_hooks: bool,
    pub(crate) tracemalloc: bool,
    /// The file that a foreign hook's code is in.
    pub(crate) foreign_hook: Option<String>,
}

/// Wrappers on wrappers end somewhere: more than this is a loop.
const MOST_WRAPPERS: usize = 8;

/// Reads the three domains' tables and unwraps them.
pub(crate) fn served(image: &Image, runtime: &Runtime) -> Served {
    let mut found = Served { tracemalloc: tracing(image, runtime), ..Default::default() };
    let Some(tables) = tables(image, runtime) else { return found };
    let ends = tables.map(|table| unwrap(image, runtime, table, &mut found));
    let [Some(a), Some(b), Some(c)] = ends else { return found };
    found.by = Some(match (a == b, b == c, a == c) {
        (true, true, _) => "malloc",
        (false, false, false) => "mimalloc",
        _ => "pymalloc",
    });
    found
}

fn tables(image: &Image, runtime: &Runtime) -> Option<[Allocator; 3]> {
    let code = |at: u64| is_code(image, at);
    match runtime.layout.allocators {
        Some(offset) => {
            let words = image.words(runtime.address? + offset, 3 * ALLOCATOR / 8).ok()?;
            let table = |i: usize| allocator(&words[i * ALLOCATOR / 8..], code);
            Some([table(0)?, table(1)?, table(2)?])
        }
        None => data_of(image, &runtime.module)
            .iter()
            .find_map(|(_, bytes)| find_static(&words_of(bytes), code)),
    }
}

fn is_code(image: &Image, at: u64) -> bool {
    image.mapping_at(at).is_some_and(|m| m.permissions.execute)
}

/// The `malloc` function under all wrappers; `None` under a foreign hook.
fn unwrap(image: &Image, runtime: &Runtime, top: Allocator, found: &mut Served) -> Option<u64> {
    let mut table = top;
    for _ in 0..MOST_WRAPPERS {
        if !runtime.module.is_code(table.malloc) {
            let file = image
                .mapping_at(table.malloc)
                .map(|m| String::from_utf8_lossy(m.name_bytes()).into_owned());
            found.foreign_hook =
                Some(file.filter(|f| !f.is_empty()).unwrap_or("unnamed code".into()));
            return None;
        }
        if table.ctx == 0 {
            return Some(table.malloc);
        }
        let words = image.words(table.ctx, 6).ok()?;
        let code = |at| is_code(image, at);
        if is_debug_api_id(words[0]) {
            found.debug_hooks = true;
            table = allocator(&words[1..], code)?;
        } else {
            // tracemalloc's state is the wrapped table itself.
            found.tracemalloc = true;
            table = allocator(&words, code)?;
        }
    }
    None
}

/// 3.8-3.11 export whether tracemalloc is tracing: `{int initialized; int tracing; …}`.
fn tracing(image: &Image, runtime: &Runtime) -> bool {
    let Some(at) = runtime.tracemalloc_config else { return false };
    let mut bytes = [0; 8];
    image.read(at, &mut bytes).is_ok() && u32_at(&bytes, 4) == 1
}
