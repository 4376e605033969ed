//! The explorer repeats every story, each time with another fault.
//!
//! A run executes the operator's own code on the simulated API server, in virtual time ([`run`]). The test controls the
//! connection ([`line`]) and the watches ([`operator`]). The faults of a run are a value ([`run::Plan`]), so that the
//! same plan repeats the run exactly. For a violation the test prints the story that leads to it. The explorer checks
//! the invariants after each event ([`invariants`]). At the end the cluster must have the same state as without faults
//! ([`normal`]).

#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod actors;
pub mod chance;
pub mod explore;
pub mod fault;
pub mod invariants;
pub mod line;
pub mod normal;
pub mod operator;
pub mod people;
pub mod run;
pub mod scenario;
pub mod scenarios;
#[cfg(feature = "mutations")]
mod teeth;
mod tests;
pub mod texts;

use std::sync::LazyLock;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::server::kinds::kinds;

/// The id of the installation of the operator.
pub const INSTALL_ID: &str = "ours";
/// The label value of the installation: its id, and the first digits of the UID of `kube-system` in every simulated
/// cluster. The operator checks both at its start.
pub const INSTALL: &str = "ours.3ee57890";
/// The start time of a story.
pub const EPOCH: Timestamp = Timestamp::constant(1_893_456_000, 0);
/// The limit for the delay of a request's effect.
pub const LATE: SignedDuration = SignedDuration::from_mins(1);
/// A number of moves that no story reaches.
pub const AT_MOST: usize = 4_000;
/// A story ends after this time without a change or without a move. A retry that still runs then would continue without
/// end.
pub const AT_REST_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// The index of Town in the server's table of kinds.
pub fn town_kind() -> usize {
    static PLACE: LazyLock<usize> = LazyLock::new(|| place("Town"));
    *PLACE
}

/// The index of Agent in the server's table of kinds.
pub fn agent_kind() -> usize {
    static PLACE: LazyLock<usize> = LazyLock::new(|| place("Agent"));
    *PLACE
}

/// The index of Tombstone in the server's table of kinds.
pub fn tombstone_kind() -> usize {
    static PLACE: LazyLock<usize> = LazyLock::new(|| place("Tombstone"));
    *PLACE
}

fn place(kind: &str) -> usize {
    kinds().of_object("gastown.dev/v1alpha1", kind).expect("one of our kinds").id
}

pub fn kind_name(kind: usize) -> &'static str {
    kinds().at(kind).kind
}
