//! Roots: where marking begins.
//!
//! Owns the order. Modules' globals come first, the program's own before the standard library's; then
//! locals of frames; then memory in which references can only be guessed at by their values: the
//! interpreter's state, libraries' data, stacks and other anonymous memory, and last the blocks that no
//! object is known to own.

use pydefrag_heap::RootKind;
use pydefrag_image::{Image, Mapping, OS_PAGE, ReadError};
use pydefrag_layout::objects::module;

use super::blocks::Ordinal;
use super::frames::{self, Local};
use super::interpreters::Interpreter;
use super::kind::Role;
use super::reach::Reached;
use super::text;
use super::types::{Sort, Types};
use crate::runtime::Runtime;

/// A module and where it stands among the roots.
struct Module {
    rank: u8,
    name: String,
    dict: Ordinal,
}

/// What is held by nothing that was found.
pub(crate) const UNSEEN: &str = "nothing that can be seen";
/// More modules are roots without a name.
const MOST_MODULES: usize = 1 << 16;
/// Bytes read at once.
const WINDOW: u64 = 1 << 20;

/// Seeds modules' globals.
pub(crate) fn modules(reached: &mut Reached<'_>, image: &Image, types: &Types<'_>, minor: u8) {
    let mut modules = Vec::new();
    for address in reached.objects_of(Sort::Module).into_iter().take(MOST_MODULES) {
        let Ok(dict) = image.word(address + module::DICT as u64) else { continue };
        let Some(ordinal) = reached.target(dict) else { continue };
        let name = image.word(address + module::NAME as u64).ok();
        let name = name.and_then(|n| text::text(image, minor, n));
        let in_dict = || types.entry(dict, "__name__").and_then(|n| text::text(image, minor, n));
        let Some(name) = name.or_else(in_dict) else { continue };
        let file = types.entry(dict, "__file__").and_then(|f| text::text(image, minor, f));
        let rank = match file.as_deref() {
            _ if name == "__main__" => 0,
            Some(f) if !is_of_the_standard_library(f, minor) => 1,
            _ => 2,
        };
        modules.push(Module { rank, name, dict: ordinal });
    }
    modules.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
    for m in modules {
        let root = reached.root(RootKind::Module, m.name);
        reached.seed(root, m.dict, true);
    }
    reached.walk();
}

fn is_of_the_standard_library(file: &str, minor: u8) -> bool {
    let folder = format!("/lib/python3.{minor}/");
    let rest = file.split_once(&folder).map(|(_, rest)| rest);
    rest.is_some_and(|r| !r.starts_with("site-packages/") && !r.starts_with("dist-packages/"))
        || file.contains("/lib-dynload/")
}

/// Seeds locals of frames.
pub(crate) fn locals(
    reached: &mut Reached<'_>,
    image: &Image,
    runtime: &Runtime,
    interpreters: &[Interpreter],
) {
    for Local { value, name, function, thread, .. } in frames::locals(image, runtime, interpreters)
    {
        let Some(to) = reached.target(value) else { continue };
        let thread = match thread.starts_with("thread ") {
            true => thread,
            false => format!("thread {thread}"),
        };
        let root = match name.as_str() {
            frames::STACK_ITEM => format!("a value in use in {function} ({thread})"),
            frames::LOCALS => format!("locals() of {function} ({thread})"),
            _ => format!("local {name} of {function} ({thread})"),
        };
        let root = reached.root(RootKind::Frame, root);
        reached.seed(root, to, name == frames::LOCALS);
    }
    reached.walk();
}

/// Seeds what the memory outside the heaps refers to. `heaps`: ranges of the heaps, in order.
pub(crate) fn memory(
    reached: &mut Reached<'_>,
    image: &Image,
    runtime: &Runtime,
    interpreters: &[Interpreter],
    heaps: &[(u64, u64)],
) -> Result<(), ReadError> {
    let size = runtime.debug_offsets.map_or(0, |d| d.interp_size);
    for i in interpreters {
        let root = reached.root(RootKind::Interpreter, format!("interpreter {}", i.id));
        match reached.block_at(i.address) {
            Some(block) => reached.seed(root, block, false),
            None => scan(reached, image, root, i.address, i.address + size, heaps)?,
        }
    }
    reached.walk();
    let python = runtime.module.path.as_os_str().as_encoded_bytes();
    // .bss follows a file's last mapping without a name.
    let mut file: Option<&Mapping> = None;
    let (mut data, mut others) = (Vec::new(), Vec::new());
    for m in &image.mappings {
        let bss = file.filter(|f| !m.is_file() && m.name_bytes().is_empty() && f.end == m.start);
        let of = if m.is_file() { Some(m) } else { bss };
        match of {
            Some(of) if m.permissions.write => data.push((m, of)),
            None if m.permissions.read && m.permissions.write && m.rss > 0 => others.push(m),
            _ => {}
        }
        file = of.map(|f| if f.end == m.start { m } else { f }).filter(|_| m.is_file());
    }
    for (m, of) in data {
        let name = String::from_utf8_lossy(of.name_bytes()).into_owned();
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let root = match of.name_bytes() == python {
            true => reached.root(RootKind::Interpreter, format!("static data of {name}")),
            false => reached.root(RootKind::Library, name),
        };
        scan(reached, image, root, m.start, m.end, heaps)?;
    }
    reached.walk();
    let root = reached.root(RootKind::Stack, "stacks and other memory of threads".into());
    for m in others.into_iter().filter(|m| !matches!(m.name_bytes(), b"[vvar]" | b"[vsyscall]")) {
        scan(reached, image, root, m.start, m.end, heaps)?;
    }
    reached.walk();
    Ok(())
}

/// Seeds blocks that no object owns: what they refer to is not garbage.
pub(crate) fn native(reached: &mut Reached<'_>) {
    let root = reached.root(RootKind::Interpreter, "CPython's free lists".into());
    for ordinal in reached.unreached_of(Role::FreeListed) {
        reached.seed_unknown(root, ordinal);
    }
    let root = reached.root(RootKind::Native, "memory of C code".into());
    for ordinal in reached.unreached_of(Role::Unknown) {
        reached.seed_unknown(root, ordinal);
    }
    reached.walk();
    // Held by what cannot be seen, a register perhaps.
    let root = reached.root(RootKind::Unknown, UNSEEN.into());
    for ordinal in reached.held_unseen() {
        reached.seed_unknown(root, ordinal);
    }
    reached.walk();
}

/// Seeds what the words of a range outside the heaps refer to.
fn scan(
    reached: &mut Reached<'_>,
    image: &Image,
    root: u32,
    start: u64,
    end: u64,
    heaps: &[(u64, u64)],
) -> Result<(), ReadError> {
    let mut at = start;
    while at < end {
        let i = heaps.partition_point(|h| h.1 <= at);
        let heap = heaps.get(i).filter(|h| h.0 < end);
        if let Some(h) = heap.filter(|h| h.0 <= at) {
            at = h.1;
            continue;
        }
        let upto = heap.map_or(end, |h| h.0);
        for run in image.residency.runs_in(at, upto).filter(|r| r.resident) {
            let mut from = run.start;
            while from < run.end {
                let to = (from + WINDOW).min(run.end);
                window(reached, image, root, from, to)?;
                from = to;
            }
        }
        at = upto;
    }
    Ok(())
}

fn window(
    reached: &mut Reached<'_>,
    image: &Image,
    root: u32,
    start: u64,
    end: u64,
) -> Result<(), ReadError> {
    let mut bytes = vec![0; (end - start) as usize];
    match image.memory().read(start, &mut bytes) {
        Ok(()) => {}
        Err(e @ (ReadError::Gone | ReadError::Denied)) => return Err(e),
        Err(_) if end - start > OS_PAGE => {
            // Page by page: one that is gone must not hide the others.
            let mut at = start;
            while at < end {
                let upto = ((at & !(OS_PAGE - 1)) + OS_PAGE).min(end);
                window(reached, image, root, at, upto)?;
                at = upto;
            }
            return Ok(());
        }
        Err(_) => return Ok(()),
    }
    for word in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        // References of frames have tags in their low bits (3.14+).
        if word > OS_PAGE
            && let Some(to) = reached.target(word).or_else(|| reached.target(word & !7))
        {
            reached.seed(root, to, false);
        }
    }
    Ok(())
}

/// Seeds what the collector tracks and nothing reaches. `all_read`: no reference can have been missed.
pub(crate) fn garbage(reached: &mut Reached<'_>, all_read: bool) {
    let root = match all_read {
        true => reached.root(RootKind::Garbage, "garbage".into()),
        false => reached.root(RootKind::Unknown, UNSEEN.into()),
    };
    for ordinal in reached.unreached_tracked() {
        reached.seed_unknown(root, ordinal);
    }
    reached.walk();
}
