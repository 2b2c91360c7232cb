//! What holds the memory: objects by type, what pins, room to spare, better structures, garbage.
//!
//! Owns the shape of these answers in `--json`. Lists are aggregates, largest first, cut at a documented
//! number of rows with the rest summed; never a row per object. Does not own how any of it is found.

use serde::{Deserialize, Serialize};

/// Everything that looking at objects adds to a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Live blocks and chunks by type.
    pub objects: Objects,
    /// What keeps OS pages that are otherwise empty.
    pub pins: Pins,
    /// Room that containers hold beyond their items.
    pub slack: Slack,
    /// Structures that would take less, computed from this heap, largest saving first.
    pub savings: Vec<Saving>,
    /// Equal strings and bytes stored more than once.
    pub duplicates: Duplicates,
    /// What the collector tracks and nothing reaches.
    pub garbage: Garbage,
    /// Single blocks that were asked for, and what each was taken for, to be checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Block>,
}

/// A live block, as it was understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Its address.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
    /// Address of the object in it; `None` for a buffer.
    pub object: Option<u64>,
    /// Qualified type; of a buffer its owner's.
    #[serde(rename = "type")]
    pub of: Option<String>,
    /// What it is to that type: `object`, `items`, `keys`, …
    pub role: String,
    /// Address of the object that refers to it, or of the buffer's start.
    pub owner: Option<u64>,
    /// Address of the word that holds the reference.
    pub slot: Option<u64>,
    /// What `sys.getsizeof` would say.
    pub sizeof: Option<u64>,
    /// The collector tracks it.
    pub tracked: bool,
    /// The chain that leads to it.
    pub chain: Option<String>,
}

/// A number of blocks, and their bytes as the allocator counts them (whole blocks and chunks).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Blocks.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    /// Counts one more.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// Live blocks and chunks, by what they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Objects {
    /// All of them.
    pub all: Amount,
    /// Objects.
    pub typed: Amount,
    /// Buffers: blocks without a type to which a container's slot, or a library's data, points.
    pub owned: Amount,
    /// Objects that CPython keeps for reuse: free, though the allocator counts them as live.
    pub free_listed: Amount,
    /// Nothing is known to hold them.
    pub unknown: Amount,
    /// The same four of pymalloc's blocks alone.
    pub pymalloc: Coverage,
    /// Objects that the collector tracks, without the frozen ones.
    pub tracked: u64,
    /// Types, largest first, with their buffers.
    pub types: Vec<TypeTotal>,
    /// Types that are not listed: how many, and their bytes.
    pub other_types: Amount,
}

/// Bytes of pymalloc's live blocks, by what is known of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Objects.
    pub typed: u64,
    /// Buffers with an owner.
    pub owned: u64,
    /// On CPython's free lists.
    pub free_listed: u64,
    /// Neither.
    pub unknown: u64,
}

impl Coverage {
    /// Percent of the bytes that are typed, owned or on free lists; 100 where there are none.
    pub fn percent(&self) -> f64 {
        let known = self.typed + self.owned + self.free_listed;
        match known + self.unknown {
            0 => 100.0,
            all => 100.0 * known as f64 / all as f64,
        }
    }
}

/// The objects of one type. `bytes = requested + rounding`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeTotal {
    /// Qualified name: `module.Name`; builtins without their module.
    #[serde(rename = "type")]
    pub name: String,
    /// Objects.
    pub count: u64,
    /// Bytes of their own blocks.
    pub bytes: u64,
    /// Of `bytes`: what nobody asked for, by rounding up to a size class or chunk.
    pub rounding: u64,
    /// Bytes of buffers that they own: item arrays, keys, values, text.
    pub buffers: u64,
    /// Objects of it that the collector tracks, without the frozen ones.
    pub tracked: u64,
    /// Objects of it on free lists; not among `count`.
    pub free_listed: u64,
    /// Bytes that one object asks for, where all of the type ask for the same: `None` otherwise.
    pub asks: Option<u64>,
}

/// What pins: live blocks on OS pages that are partly free. For a block on an OS page with `n` live
/// blocks, `4096/n - its own bytes there`, summed over its pages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pins {
    /// Bytes that are free on resident OS pages with live blocks: the sum that the lists share out.
    pub pinned: u64,
    /// By type of object, or of the object that owns the buffer.
    pub by_type: Vec<TypePin>,
    /// By owner.
    pub by_owner: Vec<OwnerPin>,
    /// By size class of pymalloc: bytes of a block.
    pub by_class: Vec<ClassPin>,
    /// By the line that allocated, where tracemalloc is on in the target; `None` where it is not.
    pub by_site: Option<Vec<SitePin>>,
    /// Blocks that tracemalloc, or the recording, does not know: allocated before it was started, or since what was last written.
    pub without_site: Amount,
}

/// How much a group of blocks pins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Live blocks of the group.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of OS pages that they keep beyond their own.
    pub pinned: u64,
    /// Bytes of OS pages on which nothing else is live: what comes back if they are gone.
    pub gone: u64,
    /// What would come back if they were packed densely, and nothing else moved.
    pub packed: u64,
    /// What comes back if those of them that can be moved are moved: the group's part of `compact`.
    pub moved: u64,
}

/// A type's pins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypePin {
    /// Qualified name; buffers are named after their owner's type: `dict (keys)`.
    #[serde(rename = "type")]
    pub name: String,
    /// How much.
    #[serde(flatten)]
    pub pin: Pin,
}

/// An owner's pins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerPin {
    /// The chain that a person can read: `app.cache.SESSIONS[dict] -> Session -> .token[str]`.
    pub owner: String,
    /// Where it begins: `app.cache.SESSIONS`, `local x of f (thread MainThread)`, `libfoo.so`.
    pub head: String,
    /// What sort of head.
    pub root: RootKind,
    /// How much.
    #[serde(flatten)]
    pub pin: Pin,
}

/// Where a chain of owners begins.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RootKind {
    /// A module's globals.
    Module,
    /// A local variable of a frame.
    Frame,
    /// The interpreter's own state.
    Interpreter,
    /// Writable data of a library or extension module.
    Library,
    /// A thread's stack, conservatively.
    Stack,
    /// Memory that C code allocated and no object owns.
    Native,
    /// Garbage that the collector has not found yet.
    Garbage,
    /// Nothing is known to refer to it.
    #[default]
    Unknown,
}

/// A size class's pins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassPin {
    /// Bytes of a block.
    pub size: u64,
    /// How much.
    #[serde(flatten)]
    pub pin: Pin,
}

/// A call site's pins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePin {
    /// File, as the target's code objects name it.
    pub file: String,
    /// Line.
    pub line: u32,
    /// How much.
    #[serde(flatten)]
    pub pin: Pin,
}

/// Room that containers hold beyond their items, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slack {
    /// Unused and deleted entries of dicts' tables, and indices larger than the entries need.
    pub dict: SlackOf,
    /// `allocated` beyond the length.
    pub list: SlackOf,
    /// Unused and deleted entries of tables that are allocated apart.
    pub set: SlackOf,
    /// Allocated beyond the length.
    pub bytearray: SlackOf,
    /// Unused slots of blocks.
    pub deque: SlackOf,
    /// UTF-8 copies that strings which are not ASCII keep.
    #[serde(rename = "str")]
    pub str_utf8: SlackOf,
}

impl Slack {
    /// The kinds with their names, in the order of the fields.
    pub fn kinds(&self) -> [(&'static str, &SlackOf); 6] {
        [
            ("dict", &self.dict),
            ("list", &self.list),
            ("set", &self.set),
            ("bytearray", &self.bytearray),
            ("deque", &self.deque),
            ("str", &self.str_utf8),
        ]
    }

    /// Bytes of all kinds.
    pub fn bytes(&self) -> u64 {
        self.kinds().iter().map(|k| k.1.bytes).sum()
    }
}

/// Room to spare of one kind of container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SlackOf {
    /// Containers that have a buffer of their own.
    pub containers: u64,
    /// Bytes that they hold for items, used or not.
    pub held: u64,
    /// Of `held`: beyond their items.
    pub bytes: u64,
    /// The worst owners.
    pub worst: Vec<OwnerSlack>,
}

/// The slack of one owner's containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerSlack {
    /// The chain.
    pub owner: String,
    /// Containers.
    pub containers: u64,
    /// Bytes beyond their items.
    pub bytes: u64,
}

/// A change of structure that would save memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saving {
    /// Which change.
    pub change: StructureChange,
    /// Whose: a type, or the chain of an owner.
    pub of: String,
    /// Objects that would change.
    pub count: u64,
    /// Bytes that they take now, with the buffers that would change.
    pub now: u64,
    /// Bytes saved; computed from their present contents.
    pub saved: u64,
    /// What to write, in one line.
    pub how: String,
}

/// Changes of structure.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum StructureChange {
    /// Instances with `__slots__` in place of a `__dict__`.
    #[default]
    Slots,
    /// A list of equal-typed numbers as `array.array` or a numpy column.
    Array,
    /// Lists that have not grown as tuples.
    Tuple,
    /// Dicts that shrank, rebuilt.
    Rebuild,
    /// Equal strings or bytes kept once.
    Intern,
}

/// Equal strings and bytes that are stored more than once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Duplicates {
    /// Strings and bytes looked at.
    pub looked_at: Amount,
    /// Copies beyond the first of each, and their bytes. An estimate where `one_in` is more than 1.
    pub copies: Amount,
    /// Contents were compared by a sample: one in so many different contents. 1: all were.
    pub one_in: u64,
    /// The owners with most bytes of copies.
    pub worst: Vec<OwnerDuplicates>,
}

/// One owner's copies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerDuplicates {
    /// The chain.
    pub owner: String,
    /// Copies beyond the first of each.
    pub copies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Different contents among them that stand more than once.
    pub different: u64,
    /// The most frequent content, with `--show-values` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

/// What the collector tracks and nothing reaches. A lower bound: marking is conservative.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Garbage {
    /// Tracked objects that nothing reaches.
    pub objects: u64,
    /// Their bytes, with all that only they reach.
    pub bytes: u64,
    /// Blocks of these bytes.
    pub blocks: u64,
    /// OS pages' bytes that they keep beyond their own.
    pub pinned: u64,
    /// By type, largest first.
    pub by_type: Vec<TypeTotal>,
    /// The collector's generations, youngest first, and last the frozen one; empty where there are none.
    pub generations: Vec<Generation>,
}

/// One of the collector's generations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// `0`, `1`, `2`, `young`, `old` or `frozen`.
    pub name: String,
    /// Objects in it.
    pub tracked: u64,
    /// Of these: nothing reaches them.
    pub garbage: Amount,
}
