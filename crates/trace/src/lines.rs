//! From a place in a code object to its line, by the tables that CPython keeps.

use crate::code::{Code, Table};

/// Lines from the first one that a step may lead away: a table from a file may say anything.
fn line(first: u32, moved: i64) -> Option<u32> {
    u32::try_from(i64::from(first).checked_add(moved)?).ok()
}

/// The line of the instruction at byte `offset - 1`; 0 stands for a function that has not begun. `None` where the table
/// knows none.
pub fn line_of(code: &Code, offset: u32) -> Option<u32> {
    let Some(at) = offset.checked_sub(1) else { return Some(code.first_line) };
    match code.kind {
        Table::None | Table::Native => None,
        Table::Lnotab => lnotab(code, at),
        Table::Ranges => ranges(code, at),
        Table::Locations => locations(code, at),
    }
}

fn lnotab(code: &Code, at: u32) -> Option<u32> {
    let (mut address, mut moved) = (0u32, 0i64);
    for pair in code.table.chunks_exact(2) {
        address = address.saturating_add(u32::from(pair[0]));
        if address > at {
            break;
        }
        moved += i64::from(pair[1] as i8);
    }
    line(code.first_line, moved)
}

fn ranges(code: &Code, at: u32) -> Option<u32> {
    let (mut end, mut moved) = (0u32, 0i64);
    for pair in code.table.chunks_exact(2) {
        end = end.saturating_add(u32::from(pair[0]));
        let delta = pair[1] as i8;
        moved += if delta == -128 { 0 } else { i64::from(delta) };
        if at < end {
            return if delta == -128 { None } else { line(code.first_line, moved) };
        }
    }
    None
}

fn locations(code: &Code, at: u32) -> Option<u32> {
    let table = &code.table;
    let (mut i, mut end, mut moved) = (0, 0u32, 0i64);
    while let Some(head) = table.get(i) {
        i += 1;
        let kind = head >> 3 & 15;
        end = end.saturating_add(2 * (u32::from(head & 7) + 1));
        let delta = match kind {
            15 => None,
            13 | 14 => Some(signed(table, &mut i)?),
            10..=12 => Some(i64::from(kind) - 10),
            _ => Some(0),
        };
        moved = moved.checked_add(delta.unwrap_or(0))?;
        if at < end {
            return delta.and_then(|_| line(code.first_line, moved));
        }
        // What is left of the entry: every byte but its first is below 128.
        while table.get(i).is_some_and(|b| b & 0x80 == 0) {
            i += 1;
        }
    }
    None
}

/// A signed number of six bits a byte, its sign lowest.
fn signed(table: &[u8], i: &mut usize) -> Option<i64> {
    let (mut n, mut shift) = (0u64, 0);
    loop {
        let byte = *table.get(*i)?;
        *i += 1;
        n |= u64::from(byte & 63).checked_shl(shift)?;
        if byte & 64 == 0 {
            break;
        }
        shift += 6;
    }
    let magnitude = i64::try_from(n >> 1).ok()?;
    Some(if n & 1 == 1 { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(kind: Table, table: &[u8]) -> Code {
        Code { first_line: 10, kind, table: table.to_vec(), ..Code::default() }
    }

    #[test]
    fn each_form_is_read() {
        // Bytes 0-5 line 11, 6-11 line 13, then line 12.
        let old = code(Table::Lnotab, &[0, 1, 6, 2, 6, 0xff]);
        assert_eq!([0, 1, 6, 7, 13].map(|o| line_of(&old, o)), [10, 11, 11, 13, 12].map(Some));
        // 0-3 line 10, 4-5 none, 6-7 line 12.
        let ranges = code(Table::Ranges, &[4, 0, 2, 0x80, 2, 2]);
        assert_eq!(line_of(&ranges, 1), Some(10));
        assert_eq!(line_of(&ranges, 5), None);
        assert_eq!(line_of(&ranges, 7), Some(12));
        assert_eq!(line_of(&ranges, 9), None);
        // Two units on the first line, one without, one long of +300.
        let zig = 600u32;
        let long = [0x80 | 14 << 3, 64 | (zig & 63) as u8, (zig >> 6) as u8, 0, 1, 1];
        let table = [&[0x80 | 1, 0][..], &[0x80 | 15 << 3], &long].concat();
        let new = code(Table::Locations, &table);
        assert_eq!([1, 3].map(|o| line_of(&new, o)), [Some(10); 2]);
        assert_eq!(line_of(&new, 5), None);
        assert_eq!(line_of(&new, 7), Some(310));
        assert_eq!(line_of(&new, 9), None);
    }

    #[test]
    fn any_table_is_no_harm() {
        for kind in [Table::Lnotab, Table::Ranges, Table::Locations] {
            for fill in [0u8, 0x7f, 0x80, 0xf0, 0xff] {
                for n in 0..40 {
                    line_of(&code(kind, &vec![fill; n]), 1000);
                }
            }
        }
    }
}
