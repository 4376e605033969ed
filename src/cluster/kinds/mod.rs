//! The kinds that the operator reads and writes.

pub(crate) mod decode;
pub(crate) mod definitions;
pub(crate) mod known;
