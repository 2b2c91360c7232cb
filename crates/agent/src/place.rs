//! Where this process's pymalloc keeps what a purge changes, and whether it may be changed at all.
//!
//! Owns the preconditions: CPython 3.10-3.15 with a GIL, pymalloc in place, 16 KiB pools, arenas of
//! 1 MiB, every list as `obmalloc.c` leaves it. Each that fails is a sentence; nothing is guessed.

use std::fs::File;
use std::os::unix::fs::FileExt;

use pydefrag_image::{Image, ProcessFacts};
use pydefrag_layout::pymalloc::{ARENA_OBJECT, ArenaEntry, Geometry, arena_object};
use pydefrag_layout::word::u64_at;
use pydefrag_walk::{Runtime, Variables, states};

use crate::arenas;
use crate::memory::get;
use crate::python::{Held, Python};

/// Addresses of pymalloc's variables. They do not move while the process lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// `usedpools`.
    pub(crate) usedpools: u64,
    /// The variable `arenas`.
    pub(crate) arenas: u64,
    /// The variable `maxarenas`, 32 bits.
    pub(crate) maxarenas: u64,
    /// The variable `usable_arenas`.
    pub(crate) usable: u64,
    /// `nfp2lasta`, 65 words.
    pub(crate) nfp2lasta: u64,
    /// Sizes.
    pub(crate) geometry: Geometry,
}

/// Where the variables lie beside `arenas`, in bytes: `maxarenas`, `unused_arena_objects`, `usable_arenas`,
/// `nfp2lasta`. Hints in order of likelihood; [`confirm`] decides.
const BESIDE: &[[i64; 4]] = &[
    // `struct _obmalloc_mgmt`, Include/internal/pycore_obmalloc.h, 3.12-3.15.
    [8, 16, 24, 32],
    // Static variables of Objects/obmalloc.c as gcc lays them, last first: 3.10.13, 3.11.7.
    [-8, -16, -24, -24 - 8 * 65],
];

/// Widest distance at which static variables are looked for.
const NEAR: i64 = 4096;

/// Finds the place from outside, as any reader of memory would; without the GIL. [`confirm`] it with the
/// GIL before use.
pub(crate) fn find(python: &Python) -> Result<Found, String> {
    if python.free_threaded() {
        return Err("this Python has no GIL, and so no pymalloc to purge".into());
    }
    let pid = std::process::id() as i32;
    let facts = ProcessFacts::of(pid).map_err(|e| e.to_string())?;
    let image = Image::open(&facts).map_err(|e| e.to_string())?;
    let runtime = Runtime::find(&image).map_err(|e| e.to_string())?;
    let minor = runtime.version.minor;
    if !(10..=15).contains(&minor) {
        return Err(format!(
            "CPython {} has pools of one OS page, which it frees in no way that a purge could use; 3.10 to 3.15 have others",
            runtime.version
        ));
    }
    let found = states(&image, &runtime).map_err(|e| e.to_string())?;
    let main = found.states.first().ok_or("no pymalloc was found in this process")?;
    let variables = main.variables.ok_or(
        "pymalloc serves nothing in this process (PYTHONMALLOC may name another allocator)",
    )?;
    if main.geometry != Geometry::LARGE {
        return Err(format!(
            "arenas of {} KiB with pools of {} KiB are not purged",
            main.geometry.arena_size >> 10,
            main.geometry.pool_size >> 10
        ));
    }
    if main.arenas.is_empty() {
        return Err(
            "pymalloc serves nothing in this process (PYTHONMALLOC may name another allocator)"
                .into(),
        );
    }
    let around = around(&image, variables.arenas);
    Ok(Found { variables, geometry: main.geometry, minor, around })
}

/// What [`find`] found.
pub(crate) struct Found {
    variables: Variables,
    geometry: Geometry,
    minor: u8,
    /// Mapped range around `arenas` in which its neighbours may be looked for.
    around: (u64, u64),
}

fn around(image: &Image, arenas: u64) -> (u64, u64) {
    let near = NEAR as u64;
    let within = image.mapping_at(arenas).map_or((arenas, arenas + 8), |m| (m.start, m.end));
    (within.0.max(arenas - near), within.1.min(arenas + near))
}

/// Finds the neighbours of `arenas` and validates every list of pymalloc's, with the GIL.
pub(crate) fn confirm(held: &Held, found: &Found) -> Result<Place, String> {
    let arenas = found.variables.arenas;
    let try_at = |[max, unused, usable, nfp]: [i64; 4]| -> Result<Place, String> {
        let place = Place {
            usedpools: found.variables.usedpools,
            arenas,
            maxarenas: arenas.wrapping_add_signed(max),
            usable: arenas.wrapping_add_signed(usable),
            nfp2lasta: arenas.wrapping_add_signed(nfp),
            geometry: found.geometry,
        };
        let inside = |at: u64, size: u64| at >= found.around.0 && at + size <= found.around.1;
        let unused = arenas.wrapping_add_signed(unused);
        if ![(place.maxarenas, 4), (unused, 8), (place.usable, 8), (place.nfp2lasta, 520)]
            .iter()
            .all(|(at, size)| inside(*at, *size))
        {
            return Err("its variables lie elsewhere".into());
        }
        // The unused ones are only read here: together with those in use they are all there are.
        check_array(held, &place, unused)?;
        arenas::check(held, &place)?;
        Ok(place)
    };
    let mut why = String::new();
    for hint in BESIDE {
        match try_at(*hint) {
            Ok(place) => return Ok(place),
            Err(e) => why = e,
        }
    }
    // Other compilers lay static variables in other orders, or apart.
    if found.minor <= 11 {
        return search(held, found)
            .map_err(|e| format!("pymalloc's variables do not validate: {e}"));
    }
    Err(format!("pymalloc's variables do not validate: {why}"))
}

/// Looks around `arenas` for variables with the values that theirs must be, each of which must be the only one.
/// (CPython 3.10 and 3.11, whose variables are static. Debian's 3.11.2 lays `usable_arenas` behind `nfp2lasta`, and
/// both behind `arenas`.)
fn search(held: &Held, found: &Found) -> Result<Place, String> {
    let start = found.around.0.next_multiple_of(8);
    let bytes =
        peek(start, (found.around.1 - start) as usize / 8 * 8).ok_or("they are not mapped")?;
    let words: Vec<u64> = bytes.chunks_exact(8).map(|b| u64_at(b, 0)).collect();
    let at = |word: usize| start + 8 * word as u64;
    let counts = (0..2 * words.len()).filter_map(|i| {
        let value = (words[i / 2] >> (i % 2 * 32)) as u32;
        (value.is_power_of_two() && (16..=1 << 20).contains(&value)).then_some(start + 4 * i as u64)
    });
    let mut why = String::from("no maxarenas is near");
    for maxarenas in counts {
        let mut place = Place {
            usedpools: found.variables.usedpools,
            arenas: found.variables.arenas,
            maxarenas,
            usable: 0,
            nfp2lasta: 0,
            geometry: found.geometry,
        };
        let listed = (0..words.len()).any(|i| check_array(held, &place, at(i)).is_ok());
        if !listed {
            continue;
        }
        let Some((head, last)) = arenas::expected(held, &place) else {
            why = "no arena has a free pool to be told by".into();
            continue;
        };
        let tables: Vec<usize> = words
            .windows(last.len())
            .enumerate()
            .filter_map(|(i, window)| (window == last).then_some(i))
            .collect();
        let [table] = tables[..] else {
            why = format!("{} places may be nfp2lasta", tables.len());
            continue;
        };
        let inside = table..table + last.len();
        let heads: Vec<usize> =
            (0..words.len()).filter(|i| words[*i] == head && !inside.contains(i)).collect();
        let [usable] = heads[..] else {
            why = format!("{} places may be usable_arenas", heads.len());
            continue;
        };
        (place.usable, place.nfp2lasta) = (at(usable), at(table));
        arenas::check(held, &place)?;
        return Ok(place);
    }
    Err(why)
}

/// Whether `maxarenas` entries are arenas in use or on the list of unused ones, each exactly once.
fn check_array(held: &Held, place: &Place, unused: u64) -> Result<(), String> {
    // SAFETY: `confirm` has seen that all of these lie in mapped data of the interpreter.
    let (array, most, mut at): (u64, u32, u64) =
        unsafe { (get(held, place.arenas), get(held, place.maxarenas), get(held, unused)) };
    if array == 0 || !most.is_power_of_two() || !(16..=1 << 20).contains(&most) {
        return Err(format!("maxarenas is {most}"));
    }
    // The number is not known to be one yet: a copy that the kernel makes cannot fault.
    let bytes = peek(array, most as usize * ARENA_OBJECT).ok_or("arenas is no array")?;
    let entries: Vec<&[u8]> = bytes.chunks_exact(ARENA_OBJECT).collect();
    let mut count = 0;
    while at != 0 {
        let index = at.wrapping_sub(array) as usize / ARENA_OBJECT;
        let entry = entries.get(index).filter(|_| array + (index * ARENA_OBJECT) as u64 == at);
        let entry = entry.ok_or("unused_arena_objects is no list of arena objects")?;
        if u64_at(entry, 0) != 0 || count > most {
            return Err("an unused arena object has an address".into());
        }
        count += 1;
        at = u64_at(entry, 32);
    }
    for entry in entries {
        match arena_object(entry, place.geometry) {
            Some(ArenaEntry::Unassociated) => {}
            Some(ArenaEntry::Allocated(_)) => count += 1,
            None => return Err("an arena object is invalid".into()),
        }
    }
    if count != most {
        return Err(format!("of {most} arena objects {count} are in use or unused"));
    }
    Ok(())
}

/// A copy of our own memory, or nothing where it is not mapped.
fn peek(address: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, address).ok()?;
    Some(bytes)
}
