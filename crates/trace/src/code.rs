//! What a trace tells of a code object: its file, its name, and its table of lines, raw.
//!
//! ```text
//! code = varints: number, first line; then, each with its length before it: file, name (UTF-8),
//!        a byte for the kind of table, table
//! ```

use crate::varint;

/// The form of a table of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Table {
    /// There is none.
    #[default]
    None = 0,
    /// `co_lnotab`, up to 3.9 (Objects/lnotab_notes.txt).
    Lnotab = 1,
    /// `co_linetable` of 3.10 (the same file, PEP 626).
    Ranges = 2,
    /// `co_linetable` from 3.11 on (Objects/locations.md).
    Locations = 3,
    /// None: it is a file of native code, whose build id stands here; places are addresses that it states.
    Native = 4,
}

/// A code object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Code {
    /// Its number in the trace.
    pub number: u32,
    /// `co_filename`.
    pub file: String,
    /// `co_qualname`; up to 3.10 `co_name`.
    pub name: String,
    /// `co_firstlineno`.
    pub first_line: u32,
    /// The form of its table.
    pub kind: Table,
    /// Its table of lines.
    pub table: Vec<u8>,
}

impl Code {
    /// Whether it stands for a file of native code.
    pub fn is_native(&self) -> bool {
        self.kind == Table::Native
    }

    /// Whether it is the interpreter's own, which no traceback has: what 3.13 and later run around `__init__`.
    pub fn is_shim(&self) -> bool {
        // Its table has nothing but entries that say that there is no line.
        self.kind == Table::Locations && self.table.iter().all(|b| b >> 3 & 15 == 15)
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        varint::push(out, u64::from(self.number));
        varint::push(out, u64::from(self.first_line));
        for text in [&self.file, &self.name] {
            varint::push(out, text.len() as u64);
            out.extend(text.as_bytes());
        }
        out.push(self.kind as u8);
        varint::push(out, self.table.len() as u64);
        out.extend(&self.table);
    }

    /// Reads one and moves on; `None` where there is none.
    pub fn read(bytes: &[u8], at: &mut usize) -> Option<Code> {
        let number = u32::try_from(varint::get(bytes, at)?).ok()?;
        let first_line = u32::try_from(varint::get(bytes, at)?).ok()?;
        let part = |at: &mut usize| {
            let length = usize::try_from(varint::get(bytes, at)?).ok()?;
            let part = bytes.get(*at..at.checked_add(length)?)?;
            *at += length;
            Some(part)
        };
        let file = String::from_utf8_lossy(part(at)?).into_owned();
        let name = String::from_utf8_lossy(part(at)?).into_owned();
        let kind = match *bytes.get(*at)? {
            0 => Table::None,
            1 => Table::Lnotab,
            2 => Table::Ranges,
            3 => Table::Locations,
            4 => Table::Native,
            _ => return None,
        };
        *at += 1;
        let table = part(at)?.to_vec();
        Some(Code { number, file, name, first_line, kind, table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_comes_back_and_a_cut_one_does_not() {
        let code = Code {
            number: 7,
            file: "a/b.py".into(),
            name: "f.<locals>.g".into(),
            first_line: 300,
            kind: Table::Locations,
            table: vec![1, 2, 3],
        };
        let mut bytes = Vec::new();
        code.write(&mut bytes);
        let mut at = 0;
        assert_eq!((Code::read(&bytes, &mut at), at), (Some(code), bytes.len()));
        assert!((0..bytes.len()).all(|end| Code::read(&bytes[..end], &mut 0).is_none()));
    }
}
