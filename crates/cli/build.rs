//! The agent's library goes into the binary as bytes. Cargo has it built before this crate is compiled, beside this
//! crate's own output; but not where nothing is built (`cargo check`, clippy, rustdoc), and then an empty file stands for it.

use std::fs;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // target/PROFILE/build/pydefrag-cli-HASH/out, from where the library includes it.
    let library = out.join("../../../deps/libpydefrag_agent.so");
    if !library.exists() {
        let _ = fs::create_dir_all(out.join("../../../deps"));
        fs::write(&library, b"").expect("the build folder can be written");
    }
}
