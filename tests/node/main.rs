//! Stories on a real node: real containers run, and the suite counts their remains.
//!
//! By default the suite starts its own cluster with a node, builds the operator's image, installs the Helm chart, and
//! removes all of it at the end. On a machine that cannot have a node it skips every story, with the reason.
//! `TOWN_TEST_IMAGE_ARCHIVE` names an archive with the image; the suite then does not build one.
//!
//! `TOWN_TEST_KUBECONFIG` names another cluster to use. No operator may run on that cluster. `IMAGE` is then the
//! operator's image, in a registry that the cluster can reach, and `TOWN_TEST_AGENT_IMAGE` an image with a shell for
//! the agents. On such a cluster the suite can neither count processes nor stop a kubelet: it skips the stories about
//! these, and other stories omit the checks.

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
    // The slowest stories start first.
    activity::add(&mut stories);
    inside::add(&mut stories);
    sleep::add(&mut stories);
    trouble::add(&mut stories);
    life::add(&mut stories);
    update::add(&mut stories);
    destroy::add(&mut stories);
    // Stories that disturb others run last, one after another.
    crowd::add(&mut stories);
    faults::add(&mut stories);
    helm::add(&mut stories);
    stories.tell()
}
