//! The numbers in `sys._debugmallocstats()`: pymalloc's own count of itself, as every CPython from
//! 3.8 to 3.15 prints it. They cover one interpreter, the one that was asked.

/// What pymalloc says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebugMallocStats {
    /// The size classes that have a pool in use.
    pub classes: Vec<Class>,
    /// Arenas that are allocated now.
    pub arenas: u64,
    /// Bytes of an arena.
    pub arena_size: u64,
    /// Pools in those arenas that belong to no class: freed ones, and ones never carved.
    pub unused_pools: u64,
    /// Bytes of a pool.
    pub pool_size: u64,
    /// Bytes in blocks that are handed out, rounded up to the size of their class.
    pub allocated_bytes: u64,
    /// Bytes in blocks that are not, in pools that are in use.
    pub available_bytes: u64,
    /// Bytes at the start of the pools that are in use.
    pub pool_header_bytes: u64,
    /// Bytes at the end of pools, too few for one more block.
    pub quantization_bytes: u64,
    /// Bytes before the first pool of arenas and after their last.
    pub alignment_bytes: u64,
}

/// One size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Its index: size / 16 - 1.
    pub class: u64,
    /// Bytes of a block.
    pub size: u64,
    /// Pools in use, which are those with a block handed out.
    pub pools: u64,
    /// Blocks that are handed out.
    pub used: u64,
    /// Blocks that are not, whether they ever were or not.
    pub available: u64,
}

impl DebugMallocStats {
    /// Reads the text; None where it does not come from pymalloc (another allocator serves).
    pub fn parse(text: &str) -> Option<Self> {
        let (arenas, arena_size) = product(text, "bytes/arena")?;
        let (unused_pools, pool_size) = product(text, "unused pools")?;
        Some(Self {
            classes: text.lines().filter_map(class).collect(),
            arenas,
            arena_size,
            unused_pools,
            pool_size,
            allocated_bytes: value(text, "# bytes in allocated blocks")?,
            available_bytes: value(text, "# bytes in available blocks")?,
            pool_header_bytes: value(text, "# bytes lost to pool headers")?,
            quantization_bytes: value(text, "# bytes lost to quantization")?,
            alignment_bytes: value(text, "# bytes lost to arena alignment")?,
        })
    }

    /// The class of that block size, where it has a pool.
    pub fn class_of_size(&self, size: u64) -> Option<&Class> {
        self.classes.iter().find(|class| class.size == size)
    }

    /// Blocks that are handed out, over all classes.
    pub fn used_blocks(&self) -> u64 {
        self.classes.iter().map(|class| class.used).sum()
    }

    /// Pools in use, over all classes.
    pub fn used_pools(&self) -> u64 {
        self.classes.iter().map(|class| class.pools).sum()
    }
}

/// A row of the table: five numbers and nothing else.
fn class(line: &str) -> Option<Class> {
    let cells: Option<Vec<u64>> = line.split_whitespace().map(number).collect();
    let [class, size, pools, used, available] = cells?[..] else { return None };
    Some(Class { class, size, pools, used, available })
}

/// The number after `label … =`.
fn value(text: &str, label: &str) -> Option<u64> {
    number(line_with(text, label)?.split_once('=')?.1.trim())
}

fn line_with<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    text.lines().find(|line| line.contains(label))
}

/// A and B of the line `A … * B label …`.
fn product(text: &str, label: &str) -> Option<(u64, u64)> {
    let (left, right) = line_with(text, label)?.split_once('*')?;
    Some((number(left.split_whitespace().next()?)?, number(right.split_whitespace().next()?)?))
}

/// A number that may have thousands separators.
fn number(text: &str) -> Option<u64> {
    text.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3_8: &str = include_str!("fixtures/debugmallocstats-3.8.txt");
    const V3_11: &str = include_str!("fixtures/debugmallocstats-3.11.txt");
    const V3_15: &str = include_str!("fixtures/debugmallocstats-3.15.txt");

    /// The text's own sums hold for what was read, so no number stands in another's place.
    fn check_sums(stats: &DebugMallocStats) {
        let bytes =
            |of: fn(&Class) -> u64| stats.classes.iter().map(|c| of(c) * c.size).sum::<u64>();
        assert_eq!(bytes(|c| c.used), stats.allocated_bytes);
        assert_eq!(bytes(|c| c.available), stats.available_bytes);
        assert_eq!(stats.used_pools() * 48, stats.pool_header_bytes);
        let total = stats.allocated_bytes
            + stats.available_bytes
            + stats.unused_pools * stats.pool_size
            + stats.pool_header_bytes
            + stats.quantization_bytes
            + stats.alignment_bytes;
        assert_eq!(total, stats.arenas * stats.arena_size);
    }

    #[test]
    fn reads_3_8() {
        let stats = DebugMallocStats::parse(V3_8).expect("pymalloc's text");
        assert_eq!((stats.arenas, stats.arena_size), (7, 256 << 10));
        assert_eq!((stats.unused_pools, stats.pool_size), (73, 4096));
        assert_eq!(stats.classes.len(), 32);
        let class = Class { class: 3, size: 64, pools: 96, used: 5885, available: 163 };
        assert_eq!(stats.class_of_size(64), Some(&class));
        check_sums(&stats);
    }

    #[test]
    fn reads_3_11() {
        let stats = DebugMallocStats::parse(V3_11).expect("pymalloc's text");
        assert_eq!((stats.arena_size, stats.pool_size), (1 << 20, 16 << 10));
        check_sums(&stats);
    }

    #[test]
    fn reads_3_15() {
        let stats = DebugMallocStats::parse(V3_15).expect("pymalloc's text");
        assert_eq!((stats.arenas, stats.arena_size), (2, 1 << 20));
        assert_eq!((stats.unused_pools, stats.pool_size), (8, 16 << 10));
        assert_eq!(stats.alignment_bytes, 16 << 10);
        check_sums(&stats);
    }

    #[test]
    fn knows_another_allocator() {
        let mimalloc =
            "Small block threshold = 8192, in 73 size classes.\n    Allocated Blocks: 1\n";
        assert_eq!(DebugMallocStats::parse(mimalloc), None);
    }
}
