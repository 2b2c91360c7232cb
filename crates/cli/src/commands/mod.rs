//! The verbs, one file each.

pub(crate) mod diff;
pub(crate) mod fix;
pub(crate) mod ps;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod tree;
