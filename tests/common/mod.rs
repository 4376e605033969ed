//! What the suites on a real API server share: starting a cluster, running the operator as a process of its
//! own, playing the pods, and waiting until the cluster is in the state that a story speaks of.
//!
//! A suite is a binary of its own (`harness = false`): its `main` adds stories to a [`suite::Suite`] and runs it.

// Two suites share this, and neither uses all of it.
#![allow(dead_code)]
// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Specs are `json!` literals, handed on as they are written.
#![allow(clippy::needless_pass_by_value)]

pub mod account;
pub mod answers;
pub mod chart;
pub mod checkpoints;
pub mod clock;
pub mod cluster;
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
