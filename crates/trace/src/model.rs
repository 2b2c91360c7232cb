//! What is expected of the next event. Writer and reader keep the same one, so that only surprises are written.
//!
//! Owns the prediction. Addresses are told as differences: of an allocation to where the one before in its size class ended,
//! of a free to the one before. Stack and size are looked up by the last few stacks.

/// Entries of the predictor; a power of two.
const PREDICTIONS: usize = 4096;
/// Those that one stack's successors share lie together, in a few cache lines: so many, a power of two.
const TOGETHER: u64 = 32;
/// Size classes by which addresses are predicted: 16 bytes each up to 512, what pymalloc serves; the last has all that is
/// larger, of which malloc makes a chunk with a head of 8 bytes.
const CLASSES: usize = 34;

/// Stack and size of an allocation, as last seen after the same history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Prediction {
    pub(crate) node: u32,
    /// The size in the upper 31 bits, the domain in the lowest.
    pub(crate) sized: u32,
}

/// What is expected next. All zeros at the begin, so that a zeroed mapping is one.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Model {
    predictions: [Prediction; PREDICTIONS],
    pub(crate) last_free: u64,
    /// Where the last allocation of each class ended.
    next: [u64; CLASSES],
    /// The last few stacks, mixed.
    history: u64,
    /// Which prediction is asked for what follows them.
    index: u64,
    pub(crate) last_node: u32,
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
            next: [0; CLASSES],
            history: 0,
            index: 0,
            last_node: 0,
            predictions: [Prediction { node: 0, sized: 0 }; PREDICTIONS],
        }
    }

    /// Where an allocation of this size is expected: behind the last one of its class. And how far behind it the next one is:
    /// by a size class of pymalloc's, or a chunk of malloc's.
    #[inline(always)]
    pub(crate) fn place(&mut self, size: u32) -> (&mut u64, u64) {
        let class = u64::from(size).div_ceil(16);
        let step = match class < CLASSES as u64 - 1 {
            true => class * 16,
            false => (u64::from(size) + 23) & !15,
        };
        (&mut self.next[(class as usize).min(CLASSES - 1)], step)
    }

    /// The stack that is expected next.
    #[inline(always)]
    pub fn expected_node(&self) -> u32 {
        self.predictions[self.index as usize % PREDICTIONS].node
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
