//! Planted memory for tests: a few pages, written word by word.

use pydefrag_image::{Image, Mapping, OS_PAGE, PageRun, Residency, SparseMemory};

/// Memory from [`Plan::START`] to [`Plan::END`], zero where nothing is planted.
pub(crate) struct Plan {
    bytes: Vec<u8>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { bytes: vec![0; (Plan::END - Plan::START) as usize] }
    }
}

impl Plan {
    pub(crate) const START: u64 = OS_PAGE;
    pub(crate) const END: u64 = 17 * OS_PAGE;

    pub(crate) fn bytes(&mut self, at: u64, bytes: &[u8]) {
        self.bytes[(at - Plan::START) as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn word(&mut self, at: u64, word: u64) {
        self.bytes(at, &word.to_le_bytes());
    }

    pub(crate) fn words(&mut self, at: u64, words: &[u64]) {
        for (i, word) in words.iter().enumerate() {
            self.word(at + 8 * i as u64, *word);
        }
    }

    pub(crate) fn image(self) -> Image {
        let (start, end) = (Plan::START, Plan::END);
        let mapping = Mapping { start, end, ..Default::default() };
        let run = PageRun { start, end, resident: true, huge: false, shared: false };
        let mut memory = SparseMemory::default();
        memory.plant(start, self.bytes);
        Image::planted(vec![mapping], Residency::from_runs(vec![run]), memory)
    }
}
