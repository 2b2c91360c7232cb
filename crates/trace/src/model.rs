//! What is expected of the next event. Writer and reader keep the same one, so that only surprises are written.
//!
//! Owns the prediction. Addresses are told as differences: of an allocation to where the one before in its size class ended,
//! of a free to the one before. Stack and size are looked up by the last few stacks.

use crate::event::Domain;

/// Entries of the predictor; a power of two.
const PREDICTIONS: usize = 4096;
/// Those that one stack's successors share lie together, in a few cache lines: so many, a power of two.
const TOGETHER: u64 = 32;
/// Size classes by which addresses are predicted: 16 bytes each up to what pymalloc serves; the last has all that is larger,
/// of which malloc makes a chunk with a head of 8 bytes.
const CLASSES: usize = SMALL as usize / 16 + 2;
/// The largest block that pymalloc serves.
pub(crate) const SMALL: u32 = 512;

/// Stack and size of an allocation, as last seen after the same history.
///
/// The size is in the upper 31 bits, then the domain's, then the node: one word, which is compared at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Prediction(u64);

impl Prediction {
    #[inline(always)]
    pub(crate) fn new(node: u32, size: u32, domain: Domain) -> Prediction {
        Prediction(u64::from(size << 1 | domain as u32) << 32 | u64::from(node))
    }

    #[inline(always)]
    pub(crate) fn node(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub(crate) fn size(self) -> u32 {
        (self.0 >> 33) as u32
    }

    #[inline(always)]
    pub(crate) fn domain(self) -> Domain {
        if self.0 >> 32 & 1 == 0 { Domain::Python } else { Domain::Malloc }
    }
}

/// What is expected next. All zeros at the begin, so that a zeroed mapping is one.
///
/// What every event reads comes first, 32 bytes, so that it can share a cache line with as much before it; the predictions then
/// begin with a line.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Model {
    pub(crate) last_free: u64,
    /// The last few stacks, mixed.
    history: u64,
    /// Which prediction is asked for what follows them.
    index: u64,
    pub(crate) last_node: u32,
    /// Where the last allocation of each class ended.
    next: [u64; CLASSES],
    padding: [u64; 40 - CLASSES],
    predictions: [Prediction; PREDICTIONS],
}

impl Default for Model {
    fn default() -> Self {
        Model::new()
    }
}

impl Model {
    /// Of nothing yet.
    pub const fn new() -> Model {
        Model {
            last_free: 0,
            history: 0,
            index: 0,
            last_node: 0,
            next: [0; CLASSES],
            padding: [0; 40 - CLASSES],
            predictions: [Prediction(0); PREDICTIONS],
        }
    }

    /// Where an allocation of this size is expected: behind the last one of its class. And how far behind it the next one is:
    /// by a size class of pymalloc's, or a chunk of malloc's.
    #[inline(always)]
    pub(crate) fn place(&mut self, size: u32) -> (&mut u64, u64) {
        match size <= SMALL {
            true => {
                let class = u64::from(size).div_ceil(16);
                (&mut self.next[class as usize], class * 16)
            }
            false => (&mut self.next[CLASSES - 1], (u64::from(size) + 23) & !15),
        }
    }

    /// The stack that is expected next.
    #[inline(always)]
    pub fn expected_node(&self) -> u32 {
        self.predictions[self.index as usize % PREDICTIONS].node()
    }

    #[inline(always)]
    pub(crate) fn expected(&mut self) -> &mut Prediction {
        &mut self.predictions[self.index as usize % PREDICTIONS]
    }

    /// An allocation has had this stack.
    #[inline(always)]
    pub(crate) fn learn(&mut self, node: u32) {
        let mixed = u64::from(node).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        self.history = (self.history >> 4) ^ mixed;
        // The last stack says where in the table, those before it which one there.
        let before = self.history >> 4 ^ self.history >> 9;
        self.index = mixed ^ (before % TOGETHER);
        self.last_node = node;
    }
}
