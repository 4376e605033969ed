//! What a child looks like: one kind a file. No client in scope: these functions only build.
//!
//! Invariant kept here: every child carries the UID of its town, the install id and the name of its
//! owner, so that it can be found by UID whatever happens to everything else.

mod claim;
mod meta;
mod pod;
#[cfg(test)]
mod tests;

pub use claim::{agent_claim, town_claim};
pub use meta::Install;
pub use pod::{agent_pod, hook_annotation, town_pod};
