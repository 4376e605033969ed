//! A simulated API server: a single value that receives requests and returns answers. Kube's own client can use it.
//!
//! Each request passes [`world::World::handle`]. A test without a client calls this function directly. [`wire::Wire`]
//! is the connection between a client and the world: the wire refuses, loses, holds or delays requests. Players replace
//! the controllers and the node of a cluster. Each step of a player is a separate call, so that the driver of the world
//! chooses the order. The server has no thread, no clock and no source of random numbers.
//!
//! The server is reliable only where the conformance suite compares it with a real API server.

// Two test suites share this module, and neither uses every item.
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
