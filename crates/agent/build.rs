//! Links the library so that it loads wherever glibc 2.28 or later is, and needs nothing else.
//!
//! A linker binds a symbol to its newest version, that of the machine that builds. `src/old_glibc.rs` has a stub for
//! each symbol that got a newer version after 2.28, which goes to the old one; here the linker is told to take it.
//! What Rust needs of libgcc (unwinding) is taken from its static library, by a `libgcc_s.so` that says so.

use std::path::PathBuf;

/// Each has a stub in `src/old_glibc.rs`.
const WRAPPED: &[&str] = &[
    "__pthread_key_create",
    "_dl_find_object",
    "dladdr",
    "dlclose",
    "dlerror",
    "dlopen",
    "dlsym",
    "dlvsym",
    "fstat64",
    "gettid",
    "lstat64",
    "pthread_attr_getguardsize",
    "pthread_attr_getstack",
    "pthread_attr_setguardsize",
    "pthread_attr_setstacksize",
    "pthread_create",
    "pthread_detach",
    "pthread_getattr_np",
    "pthread_getspecific",
    "pthread_join",
    "pthread_key_create",
    "pthread_key_delete",
    "pthread_once",
    "pthread_setname_np",
    "pthread_setspecific",
    "pthread_sigmask",
    "stat64",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |what: &str, value: &str| std::env::var(what).is_ok_and(|v| v == value);
    if !is("CARGO_CFG_TARGET_ARCH", "x86_64") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return;
    }
    for symbol in WRAPPED {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--wrap={symbol}");
    }
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let script = "GROUP ( -lgcc_eh -lgcc )\n";
    std::fs::write(folder.join("libgcc_s.so"), script).expect("OUT_DIR can be written to");
    println!("cargo:rustc-cdylib-link-arg=-L{}", folder.display());
}
