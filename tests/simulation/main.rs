//! The operator on a simulated API server.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod explorer;
mod served;
mod server;
