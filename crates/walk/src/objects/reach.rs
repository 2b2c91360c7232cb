//! Marking: from roots to every block that something reaches, the shortest way first.
//!
//! Owns the order of roots (what a person knows comes first: modules' globals, then locals of frames; at
//! last what is only known to be memory) and the breadth-first walk. A block's shape is also its mark.
//! What stays without a mark is reached by nothing that can be seen.

use pydefrag_heap::RootKind;
use pydefrag_layout::objects::{self, type_object};
use rustc_hash::FxHashSet;

use super::blocks::Ordinal;
use super::classify::Table;
use super::edges::{Edge, Edges};
use super::kind::{Kind, Role};
use super::shape::{Shape, ShapeId, Shapes, Step};
use super::stream::Progress;
use super::types::{Sort, Type};

use std::sync::Arc;

/// A place that references are found at, and whose.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    pub(crate) kind: RootKind,
    /// As a chain begins: a module's name, `local x of f (thread T)`, a library's name.
    pub(crate) name: String,
}

/// What is reached, and how.
pub(crate) struct Reached<'a> {
    table: &'a Table<'a>,
    pub(crate) edges: &'a Edges,
    types: Vec<Arc<Type>>,
    pub(crate) roots: Vec<Root>,
    pub(crate) shapes: Shapes,
    /// By number of a block: its shape, 0 where nothing reaches it.
    pub(crate) of: Vec<ShapeId>,
    level: Vec<Ordinal>,
    progress: &'a Progress<'a>,
    /// Blocks that were walked from.
    walked: u64,
}

/// Blocks between two reports of progress.
const REPORT: u64 = 1 << 16;

impl<'a> Reached<'a> {
    pub(crate) fn new(
        table: &'a Table<'a>,
        edges: &'a Edges,
        progress: &'a Progress<'a>,
    ) -> Reached<'a> {
        Reached {
            table,
            edges,
            types: table.types.all(),
            roots: Vec::new(),
            shapes: Shapes::new(),
            of: vec![0; table.kinds.len()],
            level: Vec::new(),
            progress,
            walked: 0,
        }
    }

    pub(crate) fn type_of(&self, kind: Kind) -> Option<&Arc<Type>> {
        self.types.get((kind.id() as usize).checked_sub(1)?)
    }

    pub(crate) fn root(&mut self, kind: RootKind, name: String) -> u32 {
        self.roots.push(Root { kind, name });
        self.roots.len() as u32 - 1
    }

    /// A root refers to a block: where the walk goes on from, unless it was there.
    pub(crate) fn seed(&mut self, root: u32, to: Ordinal, namespace: bool) {
        if self.of[to as usize] != 0 {
            return;
        }
        let kind = self.roots[root as usize].kind;
        self.adopt(to, Kind::new(Role::Native, 0));
        let group = self.table.kinds.get(to).group();
        let shape = self.shapes.root(root, kind, group, to, namespace);
        self.of[to as usize] = shape;
        self.level.push(to);
    }

    /// The block that a word refers to: an object's address, or where a buffer begins.
    pub(crate) fn target(&self, word: u64) -> Option<Ordinal> {
        let t = self.table;
        let found = t.blocks.find(word)?;
        let kind = t.kinds.get(found.ordinal);
        let offset = word - found.start;
        let exact = match kind.role() {
            Role::Object => offset == t.front() + kind.before(),
            Role::FreeListed => false,
            _ => offset == t.front(),
        };
        exact.then_some(found.ordinal)
    }

    pub(crate) fn type_of_group(&self, group: u32) -> Option<&Type> {
        self.type_of(Kind::of_group(group)).map(|t| &**t)
    }

    pub(crate) fn kind(&self, ordinal: Ordinal) -> Kind {
        if ordinal == Ordinal::MAX { Kind::default() } else { self.table.kinds.get(ordinal) }
    }

    pub(crate) fn block(&self, ordinal: Ordinal) -> Option<(u64, u64)> {
        if ordinal == Ordinal::MAX { None } else { self.table.blocks.block(ordinal) }
    }

    /// The word that is kept of a buffer.
    pub(crate) fn note(&self, ordinal: Ordinal) -> u32 {
        self.table.next[ordinal as usize].load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The shape where a chain's head ends: before the first step to one of many.
    pub(crate) fn head_of(&self, id: ShapeId) -> ShapeId {
        let mut head = id;
        let mut at = id;
        loop {
            let shape = self.shapes.get(at);
            match shape.step {
                Step::Item | Step::Value | Step::Key => head = shape.parent,
                // A slot of what is one of no many leads on; the buffer belongs to its container.
                Step::Buffer if head == at => head = shape.parent,
                _ => {}
            }
            if shape.parent == 0 {
                break;
            }
            at = shape.parent;
        }
        // The many lie in a container's buffer.
        while self.shapes.get(head).step == Step::Buffer {
            head = self.shapes.get(head).parent;
        }
        if head == 0 { id } else { head }
    }

    /// Addresses of all objects of a sort.
    pub(crate) fn objects_of(&self, sort: Sort) -> Vec<u64> {
        let wanted: Vec<bool> = self.types.iter().map(|t| t.sort == sort).collect();
        let kinds = (0..self.of.len() as u32).map(|o| (o, self.table.kinds.get(o)));
        let of_sort = kinds.filter(|(_, k)| k.is_object() && wanted[k.id() as usize - 1]);
        let address = |(o, k): (Ordinal, Kind)| {
            Some(self.table.blocks.block(o)?.0 + self.table.front() + k.before())
        };
        of_sort.filter_map(address).collect()
    }

    /// The block that an address lies in.
    pub(crate) fn block_at(&self, address: u64) -> Option<Ordinal> {
        self.table.blocks.find(address).map(|f| f.ordinal)
    }

    /// Blocks of a role that nothing reached.
    pub(crate) fn unreached_of(&self, role: Role) -> Vec<Ordinal> {
        let all = 0..self.of.len() as u32;
        all.filter(|o| self.of[*o as usize] == 0 && self.table.kinds.get(*o).role() == role)
            .collect()
    }

    /// Tracked objects that nothing reached.
    pub(crate) fn unreached_tracked(&self) -> Vec<Ordinal> {
        let all = 0..self.of.len() as u32;
        let tracked = |o: &u32| {
            let kind = self.table.kinds.get(*o);
            kind.is_object() && kind.tracked()
        };
        all.filter(|o| self.of[*o as usize] == 0).filter(tracked).collect()
    }

    pub(crate) fn is_garbage(&self, ordinal: Ordinal) -> bool {
        self.root_of(ordinal) == RootKind::Garbage
    }

    /// What sort of root leads to a block.
    pub(crate) fn root_of(&self, ordinal: Ordinal) -> RootKind {
        self.shapes.get(self.of[ordinal as usize]).root
    }

    /// Seeds a block of which it is not known what it is, and leaves it so.
    pub(crate) fn seed_unknown(&mut self, root: u32, to: Ordinal) {
        if self.of[to as usize] == 0 {
            let kind = self.roots[root as usize].kind;
            let group = self.table.kinds.get(to).group();
            self.of[to as usize] = self.shapes.root(root, kind, group, to, false);
            self.level.push(to);
        }
    }

    /// What nobody knew is whoever's that refers to it.
    fn adopt(&self, block: Ordinal, kind: Kind) {
        if self.table.kinds.get(block).role() == Role::Unknown {
            self.table.kinds.classify(block, kind);
        }
    }

    /// Walks from all that was seeded to all that it reaches.
    pub(crate) fn walk(&mut self) {
        let mut level = std::mem::take(&mut self.level);
        let mut next = Vec::new();
        while !level.is_empty() {
            for from in level.drain(..) {
                self.walked += 1;
                if self.walked.is_multiple_of(REPORT) {
                    // Marking is a third of the work, about.
                    let blocks = self.of.len() as u64;
                    self.progress.add(self.progress.total / 3 * REPORT / blocks.max(REPORT));
                }
                let kind = self.table.kinds.get(from);
                let shape = self.of[from as usize];
                let edges = self.edges;
                for edge in edges.of(from) {
                    if self.of[edge.to as usize] == 0 {
                        self.of[edge.to as usize] = self.step(from, kind, shape, edge);
                        next.push(edge.to);
                    }
                }
            }
            std::mem::swap(&mut level, &mut next);
        }
    }

    /// The shape of a block that is reached from `from`.
    fn step(&mut self, from: Ordinal, kind: Kind, shape: ShapeId, edge: Edge) -> ShapeId {
        if self.table.kinds.get(edge.to).role() == Role::Unknown {
            let role = match kind.role() {
                role @ (Role::Native | Role::Block) => role,
                _ => Role::Buffer,
            };
            self.adopt(edge.to, Kind::new(role, kind.id()));
        }
        let to = self.table.kinds.get(edge.to);
        let above = *self.shapes.get(shape);
        let buffer = !to.is_object();
        let (step, namespace) = match kind.role() {
            Role::Object => self.slot(kind, edge, buffer, &above),
            // A buffer that leads to its like: the next block of a deque.
            _ if buffer && to.group() == kind.group() => return shape,
            Role::Keys => self.entry(from, edge, above.namespace),
            Role::Values if above.namespace => (Step::Named(edge.word), false),
            Role::Values => (Step::Value, false),
            _ if buffer => (Step::Buffer, false),
            _ => (Step::Item, false),
        };
        let (group, example) = (to.group(), edge.to);
        let child = Shape {
            parent: 0,
            step,
            group,
            example,
            via: from,
            root: above.root,
            namespace,
            depth: 0,
        };
        self.shapes.child(shape, child)
    }

    /// A reference in an object.
    fn slot(&self, kind: Kind, edge: Edge, buffer: bool, above: &Shape) -> (Step, bool) {
        if buffer {
            // The values or the table of a namespace; values beside an instance are one.
            let values = matches!(self.table.kinds.get(edge.to).role(), Role::Values);
            let instance = self.type_of(kind).is_some_and(|t| t.sort != Sort::Dict);
            return (Step::Buffer, above.namespace || values && instance);
        }
        let Some(of) = self.type_of(kind) else { return (Step::Slot(edge.word), false) };
        let object = (self.table.front() + kind.before()) as i64;
        let offset = i64::from(edge.word) * 8 - object;
        let forms = self.table.types.forms;
        let closure = forms.function().closure as i64;
        match of.sort {
            _ if offset == objects::OB_TYPE as i64 => (Step::Class, false),
            // The cells of a closure have names.
            Sort::Tuple if above.namespace => (Step::Named(edge.word), false),
            Sort::Function if offset == closure => (Step::Slot(edge.word), true),
            Sort::Tuple if offset >= forms.tuple_items as i64 => (Step::Item, false),
            Sort::Type => (Step::Slot(edge.word), offset == type_object::DICT as i64),
            Sort::Set => (Step::Item, false),
            _ => {
                let managed = of.managed_dict(forms) && offset == -24;
                let namespace = managed || of.head.dictoffset > 0 && offset == of.head.dictoffset;
                (Step::Slot(edge.word), namespace)
            }
        }
    }

    /// A reference in a dict's table.
    fn entry(&self, from: Ordinal, edge: Edge, namespace: bool) -> (Step, bool) {
        let form = self.table.next[from as usize].load(std::sync::atomic::Ordering::Relaxed);
        let Some(of) = TableForm::of(form) else { return (Step::Item, false) };
        match of.entry(edge.word, self.table.front()) {
            Some((_, true)) if namespace => (Step::Named(edge.word), false),
            Some((_, true)) => (Step::Value, false),
            _ => (Step::Key, false),
        }
    }

    /// Blocks that nothing reached, of which none that nothing reached refers to: something holds them
    /// that cannot be seen.
    pub(crate) fn held_unseen(&self) -> Vec<Ordinal> {
        let mut referred: FxHashSet<Ordinal> = FxHashSet::default();
        let unreached = || (0..self.of.len() as u32).filter(|o| self.of[*o as usize] == 0);
        for from in unreached() {
            for edge in self.edges.of(from) {
                if self.of[edge.to as usize] == 0 {
                    referred.insert(edge.to);
                }
            }
        }
        unreached().filter(|o| !referred.contains(o)).collect()
    }
}

/// How a dict's table is laid out, in the word that is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableForm {
    /// Offset of the entries, in words.
    pub(crate) entries: u32,
    /// Words of an entry.
    pub(crate) words: u32,
}

impl TableForm {
    pub(crate) fn word(self) -> u32 {
        self.entries << 2 | self.words
    }

    pub(crate) fn of(word: u32) -> Option<TableForm> {
        let form = TableForm { entries: word >> 2, words: word & 3 };
        (form.words >= 2).then_some(form)
    }

    /// Which entry a word of the block belongs to, and whether it is its value.
    pub(crate) fn entry(self, word: u32, front: u64) -> Option<(u32, bool)> {
        let at = word.checked_sub(self.entries + (front / 8) as u32)?;
        Some((at / self.words, at % self.words == self.words - 1))
    }
}
