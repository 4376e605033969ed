//! The operator on a simulated API server.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Specs are `json!` literals, handed on as they are written.
#![allow(clippy::needless_pass_by_value)]

mod explorer;
mod served;
mod server;

// A run consists of many small allocations. The measured gain is one eighth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
