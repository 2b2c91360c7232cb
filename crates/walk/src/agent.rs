//! What pydefrag's agent says of itself inside the target: which pools it has parked, and where it dropped OS
//! pages in pools that are in use.
//!
//! Owns the search for its table and the joining of its entries with the arenas that were found. The layout is
//! `layout::agent`'s. An entry that does not fit its arena is stale and says nothing. A table of another version
//! is refused by name: an arena that it changed would be walked on a guess.

use pydefrag_heap::OS_PAGE;
use pydefrag_image::{Image, Mapping, Module, ReadError};
use pydefrag_layout::agent::{self, ENTRY, Entry, Foreign, MAGIC, SYMBOL, TABLE, at};
use pydefrag_layout::cpython::Version;
use pydefrag_layout::pymalloc::{Arena, Geometry};
use pydefrag_layout::word::u32_at;

use crate::obmalloc::State;
use crate::runtime::Refusal;

/// Its library's path has this in it.
const NAME: &[u8] = b"pydefrag";
/// A table begins at a multiple of this.
const ALIGNMENT: usize = 64;
/// More data than such a library has: the rest is not searched.
const MOST_DATA: u64 = 16 << 20;
/// More entries than any process has arenas.
const MOST_ENTRIES: u32 = 1 << 20;
/// How often entries are read again while they are moved.
const TRIES: usize = 20;

/// What the agent did in an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Address of the entry that says so, to look again.
    at: u64,
    entry: Entry,
}

impl Done {
    /// Whether the n-th pool is parked.
    pub(crate) fn is_parked(&self, pool: u64) -> bool {
        self.entry.is_parked(pool)
    }

    /// OS pages dropped inside the n-th pool.
    pub(crate) fn dropped(&self, pool: u64) -> u8 {
        self.entry.dropped(pool)
    }

    /// What it did by now; this where that cannot be told.
    pub(crate) fn again(self, image: &Image) -> Done {
        let mut bytes = [0; ENTRY];
        let entry = match image.memory().read(self.at, &mut bytes) {
            Ok(()) => Entry::of(&bytes).filter(|e| e.address == self.entry.address),
            Err(_) => None,
        };
        entry.map_or(self, |entry| Done { entry, ..self })
    }
}

/// The tables in a process: none, one, or one for each copy of the agent that was loaded.
pub(crate) struct Tables(Vec<u64>);

impl Tables {
    /// Finds them.
    pub(crate) fn find(image: &Image) -> Tables {
        let ours = |m: &&Mapping| m.is_file() && contains(m.name_bytes(), NAME);
        let mut tables = Vec::new();
        let mut opened: Vec<((u32, u32), u64)> = Vec::new();
        let mut searched = 0;
        for m in image.mappings.iter().filter(ours) {
            // A file that can be opened tells by its symbols whether it is the agent.
            if opened.contains(&m.file_id()) {
                continue;
            }
            if let Ok(module) = Module::open(image.pid, m) {
                opened.push(m.file_id());
                tables.extend(module.dynamic_symbols([SYMBOL])[0]);
            } else if m.permissions.write && !m.permissions.shared && searched < MOST_DATA {
                let end = m.end.min(m.start + (MOST_DATA - searched));
                searched += end - m.start;
                search(image, m.start, end, &mut tables);
            }
        }
        Tables(tables)
    }

    /// Tells each arena what the agent did in it. An arena that counts fewer pools than it was born with, and of which
    /// no entry says which are missing, is one that the agent is at work in: its address.
    pub(crate) fn join(
        &self,
        image: &Image,
        version: Version,
        states: &mut [State],
    ) -> Result<Option<u64>, Refusal> {
        if self.0.is_empty() || states.iter().all(|s| s.arenas.is_empty()) {
            return Ok(None);
        }
        let mut done: Vec<Done> = Vec::new();
        for table in &self.0 {
            done.extend(entries(image, version, *table)?);
        }
        done.sort_unstable_by_key(|d| (d.entry.address, d.at));
        let mut untold = None;
        for state in states {
            let g = state.geometry;
            for a in &mut state.arenas {
                a.done = of(&done, &a.arena, g);
                if a.done.is_none() && missing(&a.arena, g) > 0 {
                    untold = Some(a.arena.address);
                }
            }
        }
        Ok(untold)
    }
}

/// Pools that an arena was born with and does not count any more: parked, whoever parked them.
pub(crate) fn missing(arena: &Arena, g: Geometry) -> u64 {
    g.pools_in(arena.address).saturating_sub(u64::from(arena.ntotalpools))
}

/// The entry that speaks of this arena, among entries in order of address.
fn of(done: &[Done], arena: &Arena, g: Geometry) -> Option<Done> {
    let from = done.partition_point(|d| d.entry.address < arena.address);
    let here = done[from..].iter().take_while(|d| d.entry.address == arena.address);
    here.copied().find(|d| d.entry.is_of(arena, g))
}

/// A table's entries that speak of some arena.
fn entries(image: &Image, version: Version, table: u64) -> Result<Vec<Done>, Refusal> {
    let pid = image.pid;
    let not_understood = |why: String| Refusal::NotUnderstood {
        pid,
        version,
        why: format!("the agent's table at {table:#x} {why}"),
    };
    let unread = |source| match source {
        ReadError::Denied | ReadError::Gone | ReadError::Swapped(_) => {
            Refusal::Read { pid, source }
        }
        e => not_understood(format!("is not read: {e}")),
    };
    let head = || {
        let mut bytes = [0; TABLE];
        image.read(table, &mut bytes).map_err(unread)?;
        match agent::head(&bytes) {
            Ok(head) => Ok(Some(head)),
            // The library is there, and has not begun.
            Err(Foreign::NoTable) if bytes.iter().all(|b| *b == 0) => Ok(None),
            Err(Foreign::Version(version, tool)) if version != agent::VERSION => {
                let tool = String::from_utf8_lossy(&tool);
                let tool = tool.trim_end_matches('\0').escape_debug().to_string();
                Err(Refusal::Agent { pid, tool, version, reads: agent::VERSION })
            }
            Err(_) => Err(not_understood("is none of its version".into())),
        }
    };
    let mut last = None;
    for _ in 0..TRIES {
        let Some(before) = head()? else { return Ok(Vec::new()) };
        if before.entries == 0 || before.count == 0 {
            return Ok(Vec::new());
        }
        if before.count > MOST_ENTRIES {
            return Err(not_understood(format!("lists {} arenas", before.count)));
        }
        let mut bytes = vec![0; before.count as usize * ENTRY];
        let read = image.read(before.entries, &mut bytes);
        let after = head()?;
        let what = |h: agent::Head| (h.entries, h.count, h.sequence);
        if before.sequence % 2 == 1 || Some(what(before)) != after.map(what) {
            continue;
        }
        if let Err(e) = read {
            last = Some(e);
            continue;
        }
        let all = bytes.chunks_exact(ENTRY).enumerate().filter_map(|(i, bytes)| {
            let at = before.entries + (i * ENTRY) as u64;
            Entry::of(bytes).filter(|e| e.address != 0).map(|entry| Done { at, entry })
        });
        return Ok(all.collect());
    }
    Err(last.map_or_else(|| not_understood("changes all the while".into()), unread))
}

/// Looks for tables in the data of a library whose file cannot be opened.
fn search(image: &Image, start: u64, end: u64, tables: &mut Vec<u64>) {
    let mut bytes = vec![0; (end - start) as usize];
    for (i, page) in bytes.chunks_mut(OS_PAGE as usize).enumerate() {
        // What the agent has not written to since it was loaded has no table.
        if image.read(start + i as u64 * OS_PAGE, page).is_err() {
            page.fill(0);
        }
    }
    for offset in (0..bytes.len().saturating_sub(TABLE - 1)).step_by(ALIGNMENT) {
        if is_table(&bytes[offset..]) {
            tables.push(start + offset as u64);
        }
    }
}

/// Whether a table of some version begins here. Only the name of what wrote it tells a foreign one from chance.
fn is_table(bytes: &[u8]) -> bool {
    if !bytes.starts_with(&MAGIC) || bytes.len() < TABLE {
        return false;
    }
    let tool = &bytes[at::TOOL..at::TOOL + 16];
    let text = tool.iter().take_while(|b| **b != 0).count();
    agent::head(bytes).is_ok()
        || u32_at(bytes, at::VERSION) != agent::VERSION
            && tool[0].is_ascii_digit()
            && tool[..text].iter().all(u8::is_ascii_graphic)
            && tool[text..].iter().all(|b| *b == 0)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

#[cfg(test)]
mod tests;
