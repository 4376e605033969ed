//! Stories on a real API server and a real controller manager. There is no node: the stories play the pods.
//!
//! One file a subject. By default the suite starts control planes of its own; `TOWN_TEST_KUBECONFIG` names a
//! cluster to use instead, on which the stories that break the cluster itself are skipped.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod api;
mod stage;

use std::process::ExitCode;

use stage::Stories;

fn main() -> ExitCode {
    let mut stories = Stories::new();
    api::add(&mut stories);
    stories.tell()
}
