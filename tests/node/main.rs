//! Stories on a real node: containers really run, and what is left of them is counted.
//!
//! By default the suite starts a cluster with a node of its own, builds the operator's image, installs the Helm
//! chart, and ends all of it. Where there can be no node every story is skipped, with the reason.
//! `TOWN_TEST_IMAGE_ARCHIVE` names an archive with the image, which is then not built.
//!
//! `TOWN_TEST_KUBECONFIG` names a cluster to use instead, on which no operator may run yet; `IMAGE` is then the
//! operator's image, where that cluster finds it, and `TOWN_TEST_AGENT_IMAGE` one with a shell for the agents.
//! There nobody can count processes or end a kubelet: stories that are about that are skipped, others leave it out.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod activity;
mod crowd;
mod destroy;
mod faults;
mod helm;
mod inside;
mod life;
mod release;
mod scene;
mod sleep;
mod stage;
mod trouble;
mod update;

use std::process::ExitCode;

use stage::Stories;

fn main() -> ExitCode {
    let mut stories = Stories::new();
    // The longest first.
    activity::add(&mut stories);
    inside::add(&mut stories);
    sleep::add(&mut stories);
    trouble::add(&mut stories);
    life::add(&mut stories);
    update::add(&mut stories);
    destroy::add(&mut stories);
    // Those that disturb others come last, one after another.
    crowd::add(&mut stories);
    faults::add(&mut stories);
    helm::add(&mut stories);
    stories.tell()
}
