//! What the agent's library needs of the system that it is loaded into: the C library, in the versions of glibc 2.28.

use std::path::Path;

use object::read::elf::{Dyn, FileHeader};
use object::{Endianness, elf};

/// The newest version of glibc's symbols that may be needed.
const NEWEST: [u32; 2] = [2, 28];
/// Libraries that are glibc's.
const GLIBC: [&str; 5] =
    ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2"];

/// The library of the tests' own build; the wheel's is looked at by `package`.
#[test]
fn the_agent_loads_wherever_glibc_2_28_is() {
    let tool = Path::new(env!("CARGO_BIN_EXE_pydefrag"));
    assert_portable(&tool.with_file_name("deps/libpydefrag_agent.so"));
}

/// Panics where a library needs another one than glibc, or a symbol that 2.28 does not have.
pub(crate) fn assert_portable(library: &Path) {
    let bytes = std::fs::read(library).unwrap_or_else(|e| panic!("{}: {e}", library.display()));
    let data = &bytes[..];
    let header = elf::FileHeader64::<Endianness>::parse(data).unwrap();
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, data).unwrap();
    let text = |of: &[u8]| String::from_utf8_lossy(of).into_owned();

    let (entries, link) = sections.dynamic(endian, data).unwrap().expect("a dynamic section");
    let strings = sections.strings(endian, data, link).unwrap();
    let needed = entries.iter().filter(|d| d.tag(endian) == elf::DT_NEEDED);
    for name in needed.map(|d| text(d.string(endian, strings).unwrap())) {
        assert!(GLIBC.contains(&name.as_str()), "{} needs {name}", library.display());
    }

    let (mut files, link) = sections.gnu_verneed(endian, data).unwrap().expect("versions");
    let strings = sections.strings(endian, data, link).unwrap();
    let mut versions = 0;
    while let Some((_, mut of_file)) = files.next().unwrap() {
        while let Some(version) = of_file.next().unwrap() {
            let name = text(version.name(endian, strings).unwrap());
            let numbers = name.strip_prefix("GLIBC_").unwrap_or_else(|| panic!("needs {name}"));
            let numbers: Vec<u32> = numbers.split('.').map(|n| n.parse().unwrap()).collect();
            assert!(
                numbers[..] <= NEWEST[..] || numbers[..2] <= NEWEST[..],
                "{} needs {name}: crates/agent/src/old_glibc.rs lacks a symbol",
                library.display()
            );
            versions += 1;
        }
    }
    assert!(versions > 0, "{} needs no version of anything", library.display());
}
