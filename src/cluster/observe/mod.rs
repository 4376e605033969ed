//! The reads of a reconcile.

pub(crate) mod inventory;
pub(crate) mod tombstones;
pub(crate) mod town;
