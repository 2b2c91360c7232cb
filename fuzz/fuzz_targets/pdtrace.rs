#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pydefrag_fuzz::pdtrace(data));
