//! A simulated API server: one value that is asked and answers, behind kube's own client.
//!
//! Requests go through [`world::World::handle`]; so do those of tests that need no client. [`wire::Wire`] lies
//! between a client and the world and is where calls are refused, lost, held or handled late. Players stand in for
//! the controllers and the node of a cluster; each of their steps is a call of its own, so that whoever runs the
//! world interleaves them as it likes. There is no thread, no clock and no chance in it.
//!
//! It is right as far as the conformance suite has compared it with a real API server, and no further.

// Two suites share this, and neither uses all of it.
#![allow(dead_code)]
// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod access;
pub mod call;
mod create;
pub mod delete;
pub mod kinds;
pub mod object;
pub mod players;
mod pods;
mod read;
pub mod refusal;
mod rules;
mod schema;
mod selector;
pub mod store;
mod typed;
pub mod update;
mod validate;
pub mod volumes;
pub mod watch;
pub mod wire;
pub mod world;
