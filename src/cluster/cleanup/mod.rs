//! Reconciles of objects without a living owner.

pub(crate) mod orphans;
pub(crate) mod tombstones;
