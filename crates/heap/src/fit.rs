//! Which free bytes can serve which request: pymalloc's segregated fit, seen from the request.
//!
//! A free block serves its own size class only; a free pool serves any class once it is carved anew;
//! pymalloc serves nothing above 512 bytes, so for those requests none of its free bytes counts.

use serde::{Deserialize, Serialize};

use crate::SizeClass;

/// One request size and the share of free bytes that is of no use to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RequestFit {
    /// Largest request in bytes that this row speaks of; `None` stands for all above 512.
    pub request: Option<u64>,
    /// Free bytes (resident or not) that can serve it.
    pub usable: u64,
    /// Free bytes that cannot, as a percentage of all free bytes; 0 when nothing is free.
    pub unusable_percent: f64,
}

/// Computes the table for every size class that has pools, and for requests above 512 bytes.
///
/// `free_pool_bytes` are the bytes of free and of uncarved pools, which serve every class.
pub fn request_fit(classes: &[SizeClass], free_pool_bytes: u64) -> Vec<RequestFit> {
    let in_pools: u64 = classes.iter().map(|c| c.free_blocks * c.size).sum();
    let free = in_pools + free_pool_bytes;
    let row = |request, usable: u64| RequestFit {
        request,
        usable,
        unusable_percent: if free == 0 {
            0.0
        } else {
            100.0 * (free - usable) as f64 / free as f64
        },
    };
    classes
        .iter()
        .map(|c| row(Some(c.size), c.free_blocks * c.size + free_pool_bytes))
        .chain([row(None, 0)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_blocks_of_other_classes_are_of_no_use() {
        let classes = [
            SizeClass { size: 32, pools: 1, used_blocks: 1, free_blocks: 10 },
            SizeClass { size: 64, pools: 1, used_blocks: 1, free_blocks: 5 },
        ];
        let fit = request_fit(&classes, 360);
        assert_eq!(fit[0].usable, 320 + 360);
        assert_eq!(fit[0].unusable_percent, 32.0);
        assert_eq!(fit[2].request, None);
        assert_eq!(fit[2].unusable_percent, 100.0);
        assert_eq!(request_fit(&[], 0)[0].unusable_percent, 0.0);
    }
}
