//! What a block is taken for, in one word per block.
//!
//! Owns the encoding. Written from several threads: a block's word is set once by its own bytes, and
//! again by the container that owns it, which knows better.

use std::sync::atomic::{AtomicU32, Ordering};

use super::blocks::Ordinal;
use super::types::TypeId;

/// What a block is to the type that its word names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Role {
    /// Not known.
    Unknown = 0,
    /// An object of the type.
    Object = 1,
    /// An object of the type on a free list.
    FreeListed = 2,
    /// A list's items.
    Items = 3,
    /// A dict's table, or the keys that a type's instances share.
    Keys = 4,
    /// Values of attributes, or of a split dict.
    Values = 5,
    /// A set's table.
    Table = 6,
    /// Text or bytes.
    Data = 7,
    /// A deque's block.
    Block = 8,
    /// A buffer that some slot of it points to.
    Buffer = 9,
    /// A buffer that a library's data or the interpreter's state points to; no type.
    Native = 10,
}

const ROLES: [Role; 11] = [
    Role::Unknown,
    Role::Object,
    Role::FreeListed,
    Role::Items,
    Role::Keys,
    Role::Values,
    Role::Table,
    Role::Data,
    Role::Block,
    Role::Buffer,
    Role::Native,
];

impl Role {
    /// How many there are.
    pub(crate) const COUNT: usize = ROLES.len();

    /// Its word in `--json`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Role::Unknown => "unknown",
            Role::Object => "object",
            Role::FreeListed => "free_listed",
            Role::Items => "items",
            Role::Keys => "keys",
            Role::Values => "values",
            Role::Table => "table",
            Role::Data => "data",
            Role::Block => "block",
            Role::Buffer => "buffer",
            Role::Native => "native",
        }
    }
}

const TYPE_BITS: u32 = 20;
const TYPE: u32 = (1 << TYPE_BITS) - 1;
const ROLE: u32 = 15 << TYPE_BITS;
const BEFORE: u32 = 3 << 24;
const TRACKED: u32 = 1 << 26;
const MOVABLE: u32 = 1 << 27;
const LEAF: u32 = 1 << 28;
const SHARED: u32 = 1 << 29;

/// A block's word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kind(u32);

impl Kind {
    pub(crate) fn new(role: Role, id: TypeId) -> Kind {
        Kind(u32::from(role as u8) << TYPE_BITS | id & TYPE)
    }

    /// The object begins so many bytes (0, 16, 32) behind the block.
    pub(crate) fn starting(self, before: u64) -> Kind {
        Kind(self.0 & !BEFORE | (before as u32 / 16) << 24)
    }

    pub(crate) fn with(self, tracked: bool, movable: bool, leaf: bool) -> Kind {
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        Kind(self.0 | bit(tracked, TRACKED) | bit(movable, MOVABLE) | bit(leaf, LEAF))
    }

    pub(crate) fn role(self) -> Role {
        ROLES[((self.0 & ROLE) >> TYPE_BITS) as usize % ROLES.len()]
    }

    pub(crate) fn id(self) -> TypeId {
        self.0 & TYPE
    }

    pub(crate) fn before(self) -> u64 {
        u64::from((self.0 & BEFORE) >> 24) * 16
    }

    /// The collector tracks it.
    pub(crate) fn tracked(self) -> bool {
        self.0 & TRACKED != 0
    }

    /// Nothing but one rewritable slot refers to it.
    pub(crate) fn movable(self) -> bool {
        self.0 & MOVABLE != 0
    }

    /// It refers to nothing.
    pub(crate) fn leaf(self) -> bool {
        self.0 & LEAF != 0
    }

    /// Keys that several dicts share.
    pub(crate) fn shared(self) -> bool {
        self.0 & SHARED != 0
    }

    pub(crate) fn sharing(self) -> Kind {
        Kind(self.0 | SHARED)
    }

    pub(crate) fn is_object(self) -> bool {
        self.role() == Role::Object
    }

    /// The type and role of a group.
    pub(crate) fn of_group(group: u32) -> Kind {
        Kind(group)
    }

    /// Without what differs from object to object: type and role.
    pub(crate) fn group(self) -> u32 {
        self.0 & (TYPE | ROLE)
    }
}

/// The words of all blocks.
pub(crate) struct Kinds(Vec<AtomicU32>);

impl Kinds {
    pub(crate) fn new(count: usize) -> Kinds {
        Kinds((0..count).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn get(&self, ordinal: Ordinal) -> Kind {
        Kind(self.0[ordinal as usize].load(Ordering::Relaxed))
    }

    /// Sets what the block's own bytes say, unless a container said more.
    pub(crate) fn classify(&self, ordinal: Ordinal, kind: Kind) {
        let word = &self.0[ordinal as usize];
        let _ = word.compare_exchange(0, kind.0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Sets what a container says.
    pub(crate) fn claim(&self, ordinal: Ordinal, kind: Kind) {
        self.0[ordinal as usize].store(kind.0, Ordering::Relaxed);
    }

    /// Gives all types new numbers, by the old ones.
    pub(crate) fn renumber(&self, new: &[TypeId]) {
        for word in &self.0 {
            let kind = Kind(word.load(Ordering::Relaxed));
            let id = new.get(kind.id() as usize).copied().unwrap_or(0);
            word.store(kind.0 & !TYPE | id, Ordering::Relaxed);
        }
    }

    /// Says of a tuple that it can be moved after all.
    pub(crate) fn set_movable(&self, ordinal: Ordinal) {
        self.0[ordinal as usize].fetch_or(MOVABLE, Ordering::Relaxed);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_what_is_put_into_it() {
        for role in ROLES {
            let kind = Kind::new(role, 0xabcde).starting(32).with(true, false, true);
            assert_eq!((kind.role(), kind.id(), kind.before()), (role, 0xabcde, 32));
            assert_eq!((kind.tracked(), kind.movable(), kind.leaf()), (true, false, true));
            assert_eq!(kind.group(), Kind::new(role, 0xabcde).group());
        }
    }
}
