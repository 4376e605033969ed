//! Leader election: at most one process of an installation leads at a time. The Lease decides which one.
//!
//! Invariants kept here: a process sends a write only in its own [`Term`](super::client::write_window::Term), and no
//! two terms overlap. A process that has lost the Lease ends. All operators of an installation use the same Lease; the
//! install id determines its name. The Lease also records the release that led last. The operator finds its objects by
//! the install id, so a start of the same release with another id would orphan all of them. Such a start is refused.

pub(crate) mod election;
pub(crate) mod elector;
pub(crate) mod lease_record;
