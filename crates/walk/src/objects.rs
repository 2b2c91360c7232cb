//! Objects: what the blocks of the heaps are, and who holds them.

pub(crate) mod freelists;
pub(crate) mod sites;

#[cfg(test)]
mod tests;
