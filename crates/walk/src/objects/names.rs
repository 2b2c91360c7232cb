//! Where code objects keep the names of variables.

use pydefrag_image::Image;

/// The tuple whose last items are the names of a code object's free variables: `co_freevars` until 3.10,
/// `co_localsplusnames` from 3.11 on.
///
/// Sources: `Include/code.h` (3.8), `Include/cpython/code.h` (3.9-3.15).
pub(crate) fn free_variables(image: &Image, minor: u8, code: u64) -> Option<u64> {
    let offset = match minor {
        8..=10 => 80,
        _ => 96,
    };
    image.word(code.checked_add(offset)?).ok().filter(|t| *t != 0)
}
