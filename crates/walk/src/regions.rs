//! Who owns each resident byte: claims inside anonymous memory, the kernel's names for the rest.
//!
//! Owns the division of every mapping among owners. smaps' Rss of a mapping is the truth; claims take
//! their part of it by page-by-page residency, and what is left goes to the mapping's own owner, so
//! that for a process at rest the owners sum to smaps' Rss exactly.

use std::collections::{BTreeMap, HashMap};

use pydefrag_heap::{Basis, Mmapped, Owner, OwnerKind};
use pydefrag_image::{Image, Mapping, Module, OS_PAGE, Tally};

use crate::private;
use crate::recognise::{self, Claim, part};
use crate::runtime::Runtime;

/// The division of a process's resident bytes.
#[derive(Debug, Default)]
pub(crate) struct Regions {
    /// Every owner that was not walked.
    pub(crate) owners: Vec<Owner>,
    /// What the kernel tells of the walked ones, by kind and part.
    pub(crate) walked: BTreeMap<(OwnerKind, usize), Portion>,
    /// Chunks of malloc that have a mapping of their own, and their bytes.
    pub(crate) mmapped: Mmapped,
    /// These chunks, by the ranges of their mappings.
    pub(crate) mapped_chunks: Vec<(u64, u64)>,
    /// Bytes by which residency and smaps differ.
    pub(crate) difference: u64,
    /// An allocator that was mapped to serve as the process's malloc.
    pub(crate) preloaded: Option<OwnerKind>,
}

/// What an owner has of the process's memory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Portion {
    pub(crate) tally: Tally,
    pub(crate) pss: f64,
}

impl Portion {
    /// An owner with these bytes.
    pub(crate) fn owner(&self, name: String, kind: OwnerKind, basis: Basis) -> Owner {
        Owner {
            resident: self.tally.resident,
            pss: self.pss.round() as u64,
            swapped: self.tally.swapped,
            huge: self.tally.huge,
            copy_on_write_shared: self.tally.shared,
            ..Owner::new(name, kind, basis)
        }
    }

    fn add(&mut self, other: &Portion) {
        self.tally.resident += other.tally.resident;
        self.tally.swapped += other.tally.swapped;
        self.tally.huge += other.tally.huge;
        self.tally.shared += other.tally.shared;
        self.pss += other.pss;
    }
}

/// What the walkers claim: their heaps, whose accounts they sum themselves.
pub(crate) struct Walked {
    pub(crate) claims: Vec<Claim>,
    /// malloc was walked: its mmapped chunks are part of it.
    pub(crate) malloc: bool,
    /// mimalloc serves CPython.
    pub(crate) mimalloc: bool,
}

/// Divides all mappings. `runtime` and reading are absent for a partial look.
pub(crate) fn divide(image: &Image, runtime: Option<&Runtime>, walked: Walked) -> Regions {
    let preloaded = preloaded(image).filter(|_| !walked.malloc);
    let mut claims = walked.claims;
    let mut private = Vec::new();
    if let Some(runtime) = runtime {
        // Heaps were validated; what a control block or an ELF file says may be anything.
        let heaps = Sorted::of(claims.clone());
        let others = recognise::thread_stacks(image).into_iter().chain(bss(image, runtime));
        for c in others {
            let gaps = heaps.gaps(c.start, c.end).into_iter();
            claims.extend(gaps.map(|(start, end)| Claim { start, end, ..c }));
        }
        let claims_before = Sorted::of(claims);
        let mimalloc = walked.mimalloc || preloaded == Some(OwnerKind::Mimalloc);
        let (recognised, names) = recognised(image, runtime, &claims_before, mimalloc);
        (claims, private) = (recognised, names);
        claims.extend(claims_before.0);
    }
    let claims = Sorted::of(claims);
    let chunks = claims.0.iter().filter(|c| (c.kind, c.part) == (OwnerKind::Malloc, part::MMAPPED));
    let (mut mmapped, mut mapped_chunks) = (Mmapped::default(), Vec::new());
    for c in chunks {
        mapped_chunks.push((c.start, c.end));
        mmapped.chunks += 1;
        mmapped.bytes += c.end - c.start;
    }
    let mut division = Division {
        image,
        kinds: Kinds::of(image, runtime),
        preloaded,
        malloc: walked.malloc,
        sums: BTreeMap::new(),
        difference: 0,
    };
    for m in &image.mappings {
        division.divide(m, &claims);
    }
    let is_walked = |kind, part| match kind {
        OwnerKind::Pymalloc => true,
        OwnerKind::Malloc => walked.malloc && part != part::UNWALKED,
        _ => false,
    };
    let mut regions = Regions {
        mmapped,
        mapped_chunks,
        difference: division.difference,
        preloaded,
        ..Default::default()
    };
    let mut owners = Vec::new();
    for ((kind, basis, part), portion) in division.sums {
        if is_walked(kind, part) {
            regions.walked.entry((kind, part)).or_default().add(&portion);
        } else if portion.tally.resident + portion.tally.swapped > 0 {
            let name = match kind {
                OwnerKind::Private => private[part].clone(),
                _ => kind.label().to_owned(),
            };
            owners.push(portion.owner(name, kind, BASES[basis]));
        }
    }
    if let Some(runtime) = runtime.filter(|_| preloaded.is_none()) {
        let nobodys = owners.iter_mut().filter(|o| o.kind == OwnerKind::OtherAnonymous);
        for o in nobodys {
            if let Some(name) = private::by_exclusion(image, runtime, o.resident) {
                (o.name, o.kind) = (name, OwnerKind::Private);
            }
        }
    }
    regions.owners = merge_by_name(owners.into_iter());
    regions
}

const BASES: [Basis; 3] = [Basis::Recognised, Basis::Mapped, Basis::ByExclusion];
const RECOGNISED: usize = 0;
const MAPPED: usize = 1;
const BY_EXCLUSION: usize = 2;

/// One owner per name; its basis is the weakest of its parts.
fn merge_by_name(owners: impl Iterator<Item = Owner>) -> Vec<Owner> {
    let mut merged: Vec<Owner> = Vec::new();
    for o in owners {
        match merged.iter_mut().find(|m| m.name == o.name) {
            Some(m) => {
                m.resident += o.resident;
                m.pss += o.pss;
                m.swapped += o.swapped;
                m.huge += o.huge;
                m.copy_on_write_shared += o.copy_on_write_shared;
                m.basis = o.basis;
            }
            None => merged.push(o),
        }
    }
    merged
}

/// Claims in order of address that do not overlap: an earlier claim keeps what a later one wants.
struct Sorted(Vec<Claim>);

impl Sorted {
    fn of(mut claims: Vec<Claim>) -> Sorted {
        claims.sort_by_key(|c| c.start);
        let mut end = 0;
        claims.retain_mut(|c| {
            c.start = c.start.max(end);
            end = end.max(c.end);
            c.start < c.end
        });
        Sorted(claims)
    }

    fn within(&self, start: u64, end: u64) -> impl Iterator<Item = Claim> + '_ {
        let from = self.0.partition_point(|c| c.end <= start);
        self.0[from..].iter().take_while(move |c| c.start < end).map(move |c| Claim {
            start: c.start.max(start),
            end: c.end.min(end),
            ..*c
        })
    }

    /// What no claim covers.
    fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut at = start;
        let mut gaps = Vec::new();
        for c in self.within(start, end) {
            if at < c.start {
                gaps.push((at, c.start));
            }
            at = c.end;
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }
}

/// Claims that headers in private anonymous memory make, outside the claims there are; and the names of
/// the private allocators among them, by part.
fn recognised(
    image: &Image,
    runtime: &Runtime,
    before: &Sorted,
    mimalloc: bool,
) -> (Vec<Claim>, Vec<String>) {
    let frames = recognise::has_frame_chunks(runtime.version.minor);
    let mut marks = Marks { image, runtime, mimalloc, known: HashMap::new(), names: Vec::new() };
    let mut claims = Vec::new();
    for m in image.mappings.iter().filter(|m| is_heap_like(m) && m.rss > 0) {
        let mut aligned = Vec::new();
        for (start, end) in before.gaps(m.start, m.end) {
            aligned.extend(recognise::thread_heaps(image, start, end));
            let segments = recognise::segments(image, start, end);
            aligned.extend(segments.into_iter().filter_map(|(claim, key)| marks.owned(claim, key)));
        }
        claims.extend(&aligned);
        aligned.extend(before.within(m.start, m.end));
        for (start, end) in Sorted::of(aligned).gaps(m.start, m.end) {
            claims.extend(recognise::chunks(image, start, end, frames));
        }
    }
    (claims, marks.names)
}

/// Whose mimalloc marks its segments with what.
struct Marks<'a> {
    image: &'a Image,
    runtime: &'a Runtime,
    /// mimalloc serves CPython or the process.
    mimalloc: bool,
    /// Index into `names`, or `None` for CPython's or the process's own.
    known: HashMap<u64, Option<usize>>,
    names: Vec<String>,
}

impl Marks<'_> {
    /// The claim on a segment, with its owner; `None` where nothing confirms that it is one.
    fn owned(&mut self, claim: Claim, key: u64) -> Option<Claim> {
        if let std::collections::hash_map::Entry::Vacant(new) = self.known.entry(key) {
            let of_interpreter =
                self.mimalloc && private::is_of_interpreter(self.image, self.runtime, key);
            let carrier = if of_interpreter { None } else { private::carrier_of(self.image, key) };
            new.insert(carrier.map(|name| {
                let known = self.names.iter().position(|n| *n == name);
                known.unwrap_or_else(|| {
                    self.names.push(name);
                    self.names.len() - 1
                })
            }));
        }
        match self.known[&key] {
            Some(part) => Some(Claim { kind: OwnerKind::Private, part, ..claim }),
            None => self.mimalloc.then_some(claim),
        }
    }
}

/// Private anonymous memory that an allocator may have mapped.
fn is_heap_like(m: &Mapping) -> bool {
    m.permissions.write && m.is_private_anonymous() && m.name_bytes() != b"[heap]"
}

/// The anonymous pages behind the data of each mapped ELF file belong to the file.
fn bss(image: &Image, runtime: &Runtime) -> Vec<Claim> {
    let kinds = Kinds::of(image, Some(runtime));
    let mut seen = std::collections::HashSet::new();
    let mut claims = Vec::new();
    for (i, m) in image.mappings.iter().enumerate() {
        // Only a file whose data is followed by anonymous memory has any.
        let followed = image
            .mappings
            .get(i + 1)
            .is_some_and(|n| n.start == m.end && n.is_private_anonymous() && n.permissions.write);
        if !m.is_file() || !m.permissions.write || !followed || !seen.insert(m.file_id()) {
            continue;
        }
        let Ok(module) = Module::open(image.pid, m) else { continue };
        for s in module.segments.iter().filter(|s| s.write && s.end > s.file_end) {
            let start = s.file_end.next_multiple_of(OS_PAGE);
            let end = s.end.next_multiple_of(OS_PAGE);
            if start < end {
                claims.push(Claim { start, end, kind: kinds.of_file(m), part: 0 });
            }
        }
    }
    claims
}

/// An allocator library that the process has mapped to replace malloc.
fn preloaded(image: &Image) -> Option<OwnerKind> {
    image.mappings.iter().filter(|m| m.is_file() && m.permissions.execute).find_map(|m| {
        let name = String::from_utf8_lossy(m.name_bytes()).into_owned();
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        [
            ("libjemalloc", OwnerKind::Jemalloc),
            ("libtcmalloc", OwnerKind::Tcmalloc),
            ("libmimalloc", OwnerKind::Mimalloc),
        ]
        .into_iter()
        .find_map(|(prefix, kind)| name.starts_with(prefix).then_some(kind))
    })
}

/// Device and inode.
type FileId = ((u32, u32), u64);

/// What sort of file each mapped file is.
struct Kinds {
    interpreter: Option<FileId>,
    executable: Option<FileId>,
    elf: HashMap<FileId, bool>,
}

impl Kinds {
    fn of(image: &Image, runtime: Option<&Runtime>) -> Kinds {
        let file_of = |path: &std::path::Path| {
            let same = |m: &&Mapping| m.name.as_deref() == Some(path);
            image.mappings.iter().find(same).map(Mapping::file_id)
        };
        let mut elf = HashMap::new();
        for m in image.mappings.iter().filter(|m| m.is_file()) {
            *elf.entry(m.file_id()).or_default() |= m.permissions.execute;
        }
        Kinds {
            interpreter: runtime.and_then(|r| file_of(&r.module.path)),
            executable: image.program().as_deref().and_then(file_of),
            elf,
        }
    }

    fn of_file(&self, m: &Mapping) -> OwnerKind {
        let name = String::from_utf8_lossy(m.name_bytes()).into_owned();
        let base = name.rsplit('/').next().unwrap_or_default();
        let extension = base.contains(".cpython-")
            || base.contains(".abi3.")
            || name.contains("/lib-dynload/")
            || (name.contains("/site-packages/") && base.ends_with(".so"));
        let shared = ["/memfd:", "/dev/shm/", "/SYSV", "/dev/zero"];
        let id = Some(m.file_id());
        if m.permissions.shared && shared.iter().any(|s| name.starts_with(s)) {
            OwnerKind::SharedMemory
        } else if id == self.interpreter || id == self.executable {
            OwnerKind::Interpreter
        } else if extension {
            OwnerKind::Extensions
        } else if self.elf.get(&m.file_id()) == Some(&true) {
            OwnerKind::Libraries
        } else {
            OwnerKind::DataFiles
        }
    }
}

struct Division<'a> {
    image: &'a Image,
    kinds: Kinds,
    preloaded: Option<OwnerKind>,
    /// malloc was walked.
    malloc: bool,
    /// By kind, index into [`BASES`], and part.
    sums: BTreeMap<(OwnerKind, usize, usize), Portion>,
    difference: u64,
}

impl Division<'_> {
    fn divide(&mut self, m: &Mapping, claims: &Sorted) {
        let seen = self.image.residency.tally(m.start, m.end);
        self.difference += seen.resident.abs_diff(m.rss);
        let mut left =
            Tally { resident: m.rss, swapped: seen.swapped, huge: seen.huge, shared: seen.shared };
        // What a byte counts that other processes map too.
        let share = match m.shared {
            0 => 1.0,
            shared => m.pss.saturating_sub(m.private) as f64 / shared as f64,
        };
        let mut pss = m.pss as f64;
        for c in claims.within(m.start, m.end) {
            // A claim on address space, such as a thread heap, may reach over other mappings; file
            // mappings are never claimed.
            if m.is_file() {
                break;
            }
            let mut tally = self.image.residency.tally(c.start, c.end);
            // Arenas are summed by their walker; of all else no more is given than smaps counts.
            if !c.is_of_a_walker() {
                tally.resident = tally.resident.min(left.resident);
            }
            left.resident = left.resident.saturating_sub(tally.resident);
            left.swapped = left.swapped.saturating_sub(tally.swapped);
            left.huge = left.huge.saturating_sub(tally.huge);
            left.shared = left.shared.saturating_sub(tally.shared);
            let part = tally.resident.saturating_sub(tally.shared) as f64;
            let part = (part + tally.shared as f64 * share).min(pss);
            pss -= part;
            self.add((c.kind, RECOGNISED, c.part), Portion { tally, pss: part });
        }
        let (kind, basis) = self.owner_of(m);
        if !m.is_private_anonymous() && kind != OwnerKind::ThreadStacks {
            left.shared = 0;
        }
        self.add((kind, basis, part::UNWALKED), Portion { tally: left, pss });
    }

    /// The owner of what is not claimed inside a mapping.
    fn owner_of(&self, m: &Mapping) -> (OwnerKind, usize) {
        let name = m.name_bytes();
        if m.is_file() {
            return (self.kinds.of_file(m), MAPPED);
        }
        match name {
            b"[heap]" => match self.preloaded {
                // brk serves whoever replaced malloc.
                Some(kind) => (kind, BY_EXCLUSION),
                // What malloc left there, another user of brk has.
                None if self.malloc => (OwnerKind::OtherAnonymous, BY_EXCLUSION),
                None => (OwnerKind::Malloc, MAPPED),
            },
            n if n.starts_with(b"[stack") => (OwnerKind::ThreadStacks, MAPPED),
            b"[vdso]" | b"[vvar]" | b"[vvar_vclock]" | b"[vsyscall]" => {
                (OwnerKind::Libraries, MAPPED)
            }
            n if n.starts_with(b"[anon_shmem") => (OwnerKind::SharedMemory, MAPPED),
            _ if m.permissions.shared => (OwnerKind::SharedMemory, MAPPED),
            _ => match self.preloaded {
                Some(kind) if m.permissions.write => (kind, BY_EXCLUSION),
                _ => (OwnerKind::OtherAnonymous, BY_EXCLUSION),
            },
        }
    }

    fn add(&mut self, owner: (OwnerKind, usize, usize), portion: Portion) {
        self.sums.entry(owner).or_default().add(&portion);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(start: u64, end: u64) -> Claim {
        Claim { start, end, kind: OwnerKind::Malloc, part: 0 }
    }

    #[test]
    fn claims_do_not_overlap_and_gaps_are_what_they_leave() {
        let s = Sorted::of(vec![claim(10, 20), claim(15, 25), claim(16, 18), claim(40, 50)]);
        let ranges: Vec<_> = s.0.iter().map(|c| (c.start, c.end)).collect();
        assert_eq!(ranges, [(10, 20), (20, 25), (40, 50)]);
        assert_eq!(s.gaps(0, 45), [(0, 10), (25, 40)]);
        assert_eq!(s.gaps(12, 22), []);
        assert_eq!(s.gaps(60, 61), [(60, 61)]);
    }
}
