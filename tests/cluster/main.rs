//! Stories on a real API server and a real controller manager. There is no node: the stories play the pods.
//!
//! Each file has one subject. By default the suite starts its own control planes. `TOWN_TEST_KUBECONFIG` names another
//! cluster to use; on that cluster the suite skips stories that break the cluster itself.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Specs are `json!` literals that the functions take by value.
#![allow(clippy::needless_pass_by_value)]

#[path = "../common/mod.rs"]
mod common;

mod account;
mod admission;
mod api;
mod asking;
mod binding;
mod budget;
mod chart;
mod children;
mod crash;
mod crashing;
mod definitions;
mod destroy;
mod doors;
mod expiry;
mod failing;
mod fairness;
mod fields;
mod fleet;
mod killing;
mod labels;
mod leading;
mod life;
mod metrics;
mod naming;
mod notices;
mod outages;
mod pausing;
mod people;
mod planes;
mod policies;
mod probing;
mod reading;
mod remains;
mod retries;
mod rights;
mod roles;
mod scale;
mod seats;
mod sleep;
mod stage;
mod starting;
mod startup;
mod tasks;
mod tenants;
mod tombstones;
mod unknown;
mod updates;
mod upgrade;
mod verbs;
mod volumes;
mod waking;
mod webhooks;
mod words;

use std::process::ExitCode;

use stage::Stories;

fn main() -> ExitCode {
    let mut stories = Stories::new();
    // The slowest stories start first. Next to each other are stories whose control planes have the same flags, so that they
    // hand them on.
    scale::add(&mut stories);
    rights::add(&mut stories);
    budget::add(&mut stories);
    retries::add(&mut stories);
    killing::add(&mut stories);
    webhooks::add(&mut stories);
    outages::add(&mut stories);
    crash::add(&mut stories);
    definitions::add(&mut stories);
    doors::add(&mut stories);
    leading::add(&mut stories);
    fleet::add(&mut stories);
    unknown::add(&mut stories);
    metrics::add(&mut stories);
    startup::add(&mut stories);
    crashing::add(&mut stories);
    probing::add(&mut stories);
    reading::add(&mut stories);
    waking::add(&mut stories);
    naming::add(&mut stories);
    destroy::add(&mut stories);
    policies::add(&mut stories);
    labels::add(&mut stories);
    verbs::add(&mut stories);
    account::add(&mut stories);
    tombstones::add(&mut stories);
    chart::add(&mut stories);
    admission::add(&mut stories);
    tenants::add(&mut stories);
    sleep::add(&mut stories);
    failing::add(&mut stories);
    fairness::add(&mut stories);
    starting::add(&mut stories);
    tasks::add(&mut stories);
    updates::add(&mut stories);
    // The stories of upgrades come late: in its first minute the shared operator waits for creates of an earlier one.
    upgrade::add(&mut stories);
    volumes::add(&mut stories);
    expiry::add(&mut stories);
    roles::add(&mut stories);
    pausing::add(&mut stories);
    notices::add(&mut stories);
    children::add(&mut stories);
    life::add(&mut stories);
    binding::add(&mut stories);
    api::add(&mut stories);
    fields::add(&mut stories);
    stories.tell()
}
