//! pydefrag's agent.
#[unsafe(no_mangle)]
pub extern "C" fn pydefrag_probe() -> i32 { 7 }
