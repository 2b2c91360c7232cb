//! The seeds of the fuzz targets, through the same functions that fuzzing calls (`fuzz/README.md`).

// They are public to the fuzz crate.
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/layouts.rs"]
mod layouts;
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/malloc.rs"]
mod malloc;
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/maps.rs"]
mod maps;
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/objects.rs"]
mod objects;
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/pdsnap.rs"]
mod pdsnap;
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/pdtrace.rs"]
mod pdtrace;
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/walk.rs"]
mod walk;

use pydefrag_harness::repository;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = repository().join("fuzz/seeds").join(target);
    let seeds: Vec<_> = std::fs::read_dir(folder).expect("seeds").flatten().collect();
    assert!(seeds.len() >= 3);
    for seed in seeds {
        let bytes = std::fs::read(seed.path()).expect("a seed");
        run(&bytes);
        // And cut short, which reaches every "it ends here".
        (0..8).for_each(|eighths| run(&bytes[..bytes.len() * eighths / 8]));
    }
}

#[test]
fn the_seeds_of_every_fuzz_target_pass() {
    replay("maps", maps::maps);
    replay("pdsnap", pdsnap::pdsnap);
    replay("pdtrace", pdtrace::pdtrace);
    replay("layouts", layouts::layouts);
    replay("walk", walk::walk);
    replay("malloc", malloc::malloc);
    replay("objects", objects::objects);
}
