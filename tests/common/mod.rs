//! Shared code of the suites on a real API server: start a cluster, run the operator as a process, play the pods, and
//! wait for a state.
//!
//! Each suite is a separate binary (`harness = false`): its `main` adds stories to a [`suite::Suite`] and runs it.

// Two suites share this module, and neither uses every item.
#![allow(dead_code)]
// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Specs are `json!` literals that the functions take by value.
#![allow(clippy::needless_pass_by_value)]

pub mod account;
pub mod answers;
pub mod chart;
pub mod checkpoints;
pub mod clock;
pub mod cluster;
pub mod handover;
pub mod inventory;
pub mod operator;
pub mod players;
pub mod process;
pub mod records;
pub mod relay;
pub mod requests;
pub mod seen;
pub mod story;
pub mod suite;
pub mod wait;
pub mod webhook;
