//! The explorer of what can go wrong: every story again and again, each time with something else that fails.
//!
//! A run is the operator's own code between a line that we hold ([`line`]) and watches that we feed
//! ([`operator`]), over the simulated API server, in virtual time ([`run`]). What goes wrong in it is a value
//! ([`run::Plan`]), so a run is told again exactly by its plan, and a violation is shown as the story that led to
//! it. What must always be true is asked after everything that happens ([`invariants`]); at rest the cluster must
//! be what it is when nothing goes wrong ([`normal`]).

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

/// The id of the installation whose operator runs.
pub const INSTALL_ID: &str = "ours";
/// The label value of that installation: its id, and the first digits of the UID that `kube-system` has in every
/// simulated cluster. An operator that starts checks that they agree.
pub const INSTALL: &str = "ours.3ee57890";
/// When a story begins.
pub const EPOCH: Timestamp = Timestamp::constant(1_893_456_000, 0);
/// As long as a request may take to have an effect.
pub const LATE: SignedDuration = SignedDuration::from_mins(1);
/// More moves than any story needs.
pub const AT_MOST: usize = 4_000;
/// When nothing has changed for so long, or nothing is to be done for so long, a story is over: what is retried now is
/// retried for ever, and the rest is another story.
pub const AT_REST_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// The place of Towns in the server's table of kinds.
pub fn town_kind() -> usize {
    static PLACE: LazyLock<usize> = LazyLock::new(|| place("Town"));
    *PLACE
}

/// The place of Agents in the server's table of kinds.
pub fn agent_kind() -> usize {
    static PLACE: LazyLock<usize> = LazyLock::new(|| place("Agent"));
    *PLACE
}

/// The place of Tombstones in the server's table of kinds.
pub fn tombstone_kind() -> usize {
    static PLACE: LazyLock<usize> = LazyLock::new(|| place("Tombstone"));
    *PLACE
}

fn place(kind: &str) -> usize {
    kinds().of_object("gastown.dev/v1alpha1", kind).expect("one of our kinds").id
}

/// How a kind is called.
pub fn kind_name(kind: usize) -> &'static str {
    kinds().at(kind).kind
}
