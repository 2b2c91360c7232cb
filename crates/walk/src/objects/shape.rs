//! Shapes: what the ways from roots to blocks have in common.
//!
//! Two blocks have the same shape when the ways to them begin at the same root and take the same steps
//! through the same types; any item of a list is the same step. A step that repeats one further up, as in
//! a linked list or a nested document, leads back to the shape there. So there are few shapes, however
//! many blocks. Owns their interning; names are given to them later, and only to those that are shown.

use pydefrag_heap::RootKind;
use rustc_hash::FxHashMap;

use super::blocks::Ordinal;

/// Index of a shape; 0 is none.
pub(crate) type ShapeId = u32;

/// How a block is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// By a root of that index.
    Root(u32),
    /// As one of many items.
    Item,
    Key,
    Value,
    /// By an entry of a namespace: which word of the table holds it.
    Named(u32),
    /// By a slot of an object: which word.
    Slot(u32),
    /// As its container's buffer.
    Buffer,
    /// As its class.
    Class,
}

/// A way to blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) parent: ShapeId,
    pub(crate) step: Step,
    /// Type and role of the blocks ([`super::kind::Kind::group`]).
    pub(crate) group: u32,
    /// One of the blocks, and the one that refers to it.
    pub(crate) example: Ordinal,
    pub(crate) via: Ordinal,
    pub(crate) root: RootKind,
    /// Its keys are names: of a module, a class or an instance.
    pub(crate) namespace: bool,
    pub(crate) depth: u16,
}

/// More are not told apart.
const MOST_SHAPES: usize = 1 << 20;
/// Names of one namespace that are told apart; a dict with more is no namespace.
const MOST_NAMES: u32 = 1 << 12;
/// How far up a repeated step is sought.
const LOOK_BACK: usize = 16;
/// Longer ways are cut.
const MOST_STEPS: u16 = 48;

/// All shapes.
pub(crate) struct Shapes {
    all: Vec<Shape>,
    known: FxHashMap<(ShapeId, Step, u32), ShapeId>,
    names: FxHashMap<ShapeId, u32>,
}

impl Shapes {
    pub(crate) fn new() -> Shapes {
        let none = Shape {
            parent: 0,
            step: Step::Item,
            group: 0,
            example: 0,
            via: 0,
            root: RootKind::Unknown,
            namespace: false,
            depth: 0,
        };
        Shapes { all: vec![none], known: FxHashMap::default(), names: FxHashMap::default() }
    }

    pub(crate) fn get(&self, id: ShapeId) -> &Shape {
        &self.all[id as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The shape of a block that a root refers to.
    pub(crate) fn root(
        &mut self,
        root: u32,
        kind: RootKind,
        group: u32,
        example: Ordinal,
        namespace: bool,
    ) -> ShapeId {
        let shape = Shape {
            parent: 0,
            step: Step::Root(root),
            group,
            example,
            via: Ordinal::MAX,
            root: kind,
            namespace,
            depth: 0,
        };
        self.intern(shape)
    }

    /// The shape of a block to which one of shape `parent` refers.
    pub(crate) fn child(&mut self, parent: ShapeId, shape: Shape) -> ShapeId {
        if let Some(id) = self.known.get(&(parent, shape.step, shape.group)) {
            return *id;
        }
        let above = *self.get(parent);
        let mut at = parent;
        for _ in 0..LOOK_BACK {
            let a = self.get(at);
            if a.step == shape.step && a.group == shape.group && a.namespace == shape.namespace {
                self.known.insert((parent, shape.step, shape.group), at);
                return at;
            }
            if a.parent == 0 {
                break;
            }
            at = a.parent;
        }
        if above.depth >= MOST_STEPS {
            return parent;
        }
        let mut shape = shape;
        if let Step::Named(_) = shape.step {
            let names = self.names.entry(parent).or_default();
            *names += 1;
            if *names > MOST_NAMES {
                shape.step = Step::Value;
                if let Some(id) = self.known.get(&(parent, shape.step, shape.group)) {
                    return *id;
                }
            }
        }
        self.intern(Shape { parent, root: above.root, depth: above.depth + 1, ..shape })
    }

    fn intern(&mut self, shape: Shape) -> ShapeId {
        let key = (shape.parent, shape.step, shape.group);
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        if self.all.len() >= MOST_SHAPES {
            return shape.parent;
        }
        let id = self.all.len() as ShapeId;
        self.all.push(shape);
        self.known.insert(key, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: Step, group: u32) -> Shape {
        Shape {
            parent: 0,
            step,
            group,
            example: 0,
            via: 0,
            root: RootKind::Module,
            namespace: false,
            depth: 0,
        }
    }

    #[test]
    fn what_repeats_is_one_shape() {
        let mut s = Shapes::new();
        let list = s.root(0, RootKind::Module, 1, 0, false);
        let first = s.child(list, step(Step::Item, 2));
        assert_ne!(list, first);
        assert_eq!(s.child(list, step(Step::Item, 2)), first);
        let mut node = s.child(first, step(Step::Slot(3), 2));
        let next = node;
        for _ in 0..1000 {
            node = s.child(node, step(Step::Slot(3), 2));
        }
        assert_eq!(node, next);
        assert_eq!(s.get(next).root, RootKind::Module);
        let other = s.child(first, step(Step::Slot(4), 2));
        assert_ne!(other, next);
        assert_eq!(s.len(), 5);
    }

    #[test]
    fn a_namespace_with_very_many_names_is_none() {
        let mut s = Shapes::new();
        let dict = s.root(0, RootKind::Module, 1, 0, true);
        for word in 0..100_000 {
            s.child(dict, step(Step::Named(word), 2));
        }
        assert!(s.len() < 5000);
    }
}
