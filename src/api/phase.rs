//! The phases of objects, as the status shows them.

/// The phase of an object before its first start.
pub const PENDING: &str = "Pending";
/// The phase of a live object that carries a tombstone.
pub const TOMBSTONED: &str = "Tombstoned";
