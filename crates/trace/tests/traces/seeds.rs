//! The seeds that fuzzing the reader begins with: traces as they are written today. One that is refused would lead nowhere.

use std::path::{Path, PathBuf};

use crate::damage::odd_trace;
use crate::native;
use crate::planted::program;
use crate::sums::{compressed, merged, sampled};

/// Set, it has the seeds written anew.
const RENEW: &str = "PYDEFRAG_RENEW_SEEDS";

#[test]
fn the_seeds_are_traces_of_today() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/pdtrace");
    let seeds = [
        ("raw", program(7, 200).bytes),
        ("finished", compressed(&program(8, 300).bytes)),
        ("sampled", sampled(3, 4096).0),
        ("native", native::trace()),
        ("odd", odd_trace()),
    ];
    for (name, bytes) in seeds {
        let path = folder.join(name);
        if std::env::var_os(RENEW).is_some() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let seed = std::fs::read(&path).unwrap();
        assert_eq!(merged(&seed), merged(&bytes), "{name}: {RENEW}=1 writes it anew");
    }
}
