//! Native functions by their names: from a file's symbol table, and from its debugging information where it has any.
//!
//! Owns which files are asked: the one that was loaded, if it is still the same by its build id, and what
//! `/usr/lib/debug/.build-id` has of it. A function that a file does not name has no name: the nearest symbol is another's.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use addr2line::{Loader, demangle_auto};
use object::read::ReadCache;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SymbolKind};
use pydefrag_trace::code::Code;
use pydefrag_trace::{Symbol, Symbols};

/// Files that were asked, by their numbers in the trace.
#[derive(Default)]
pub(crate) struct Files {
    known: HashMap<u32, File>,
}

/// What a file names.
#[derive(Default)]
struct File {
    /// Where its code is. Debugging information also tells of functions that the linker has left out: at 0, all of them.
    code: Vec<Range<u64>>,
    /// Address, address behind the last, and name, in order of address.
    functions: Vec<(u64, u64, String)>,
    lines: Option<Loader>,
}

impl Symbols for Files {
    fn symbol(&mut self, file: &Code, address: u64) -> Option<Symbol> {
        let known = self.known.entry(file.number).or_insert_with(|| File::of(file));
        if !known.code.iter().any(|code| code.contains(&address)) {
            return None;
        }
        known.by_lines(address).or_else(|| known.by_table(address))
    }
}

impl File {
    fn of(code: &Code) -> File {
        let mut file = File::default();
        for path in [Some(PathBuf::from(&code.file)), separate(&code.table)].into_iter().flatten() {
            // What is no ELF file, or another one by now, names nothing.
            let _ = file.take(&path, &code.table);
        }
        file.functions.sort();
        file
    }

    fn take(&mut self, path: &Path, build_id: &[u8]) -> Option<()> {
        if !path.is_file() {
            return None;
        }
        let cache = ReadCache::new(std::fs::File::open(path).ok()?);
        let elf = ElfFile64::<object::Endianness, _>::parse(&cache).ok()?;
        if elf.build_id().ok()?.unwrap_or_default() != build_id {
            return None;
        }
        for segment in elf.segments().filter(|s| s.permissions().executable()) {
            self.code.push(segment.address()..segment.address().saturating_add(segment.size()));
        }
        for symbol in elf.symbols().chain(elf.dynamic_symbols()) {
            if symbol.kind() == SymbolKind::Text
                && symbol.size() > 0
                && let Ok(name) = symbol.name()
                && let Some(end) = symbol.address().checked_add(symbol.size())
            {
                self.functions.push((symbol.address(), end, name.to_owned()));
            }
        }
        let has_lines = elf.section_by_name(".debug_info").is_some_and(|s| s.size() > 0);
        if has_lines && self.lines.is_none() {
            self.lines = Loader::new(path).ok();
        }
        Some(())
    }

    /// By debugging information: the function that was compiled, which may have others within it.
    fn by_lines(&self, address: u64) -> Option<Symbol> {
        let mut frames = self.lines.as_ref()?.find_frames(address).ok()?;
        let mut outermost = None;
        while let Ok(Some(frame)) = frames.next() {
            outermost = Some(frame);
        }
        let frame = outermost?;
        let function = frame.function?;
        let name = function.demangle().ok()?.into_owned();
        let (source, line) = frame.location.map_or((None, None), |l| (l.file, l.line));
        Some(Symbol { name, source: source.unwrap_or_default().into(), line: line.unwrap_or(0) })
    }

    fn by_table(&self, address: u64) -> Option<Symbol> {
        /// Symbols that may lie within a function, as labels of it.
        const WITHIN: usize = 64;
        let after = self.functions.partition_point(|f| f.0 <= address);
        let mut before = self.functions[..after].iter().rev().take(WITHIN);
        let (_, _, name) = before.find(|(_, end, _)| address < *end)?;
        let name = demangle_auto(Cow::Borrowed(name), None).into_owned();
        Some(Symbol { name, ..Symbol::default() })
    }
}

/// Where distributions put the debugging information of a file.
fn separate(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("/usr/lib/debug/.build-id/{first:02x}/{rest}.debug").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this_file() -> Code {
        let path = std::env::current_exe().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let elf = ElfFile64::<object::Endianness>::parse(&*bytes).unwrap();
        let table = elf.build_id().unwrap().unwrap_or_default().to_vec();
        Code { file: path.to_string_lossy().into_owned(), table, ..Code::default() }
    }

    const PLANTED: &str = "planted_for_the_tests_of_symbols";

    #[inline(never)]
    fn planted_for_the_tests_of_symbols(n: u32) -> u32 {
        std::hint::black_box(n) + 1
    }

    /// The address that this program's own symbol table states.
    fn stated() -> u64 {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let elf = ElfFile64::<object::Endianness>::parse(&*bytes).unwrap();
        elf.symbols().find(|s| s.name().is_ok_and(|n| n.contains(PLANTED))).unwrap().address()
    }

    #[test]
    fn a_function_is_named_and_what_lies_outside_of_all_is_not() {
        assert_eq!(planted_for_the_tests_of_symbols(1), 2);
        let mut files = Files::default();
        let symbol = files.symbol(&this_file(), stated() + 1).unwrap();
        assert!(symbol.name.contains(PLANTED), "{symbol:?}");
        assert!(symbol.source.is_empty() || symbol.source.ends_with("symbols.rs"), "{symbol:?}");
        for no_code in (0..256).chain([u64::MAX]) {
            assert_eq!(files.symbol(&this_file(), no_code), None, "{no_code:#x}");
        }
    }

    #[test]
    fn another_file_of_the_same_name_names_nothing() {
        let mut code = this_file();
        code.table.push(1);
        let at = stated();
        assert_eq!(Files::default().symbol(&code, at + 1), None);
        for file in ["/dev/null", "/", "[vdso]", "/no/such/file"] {
            let code = Code { file: file.into(), table: Vec::new(), ..Code::default() };
            assert_eq!(Files::default().symbol(&code, at + 1), None, "{file}");
        }
    }
}
