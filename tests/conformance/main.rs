//! The simulated API server asked the same as a real one, and their answers compared.
//!
//! A control plane of the test bed's own, or the cluster that `TOWN_TEST_KUBECONFIG` names. A case that differs
//! shows both answers side by side; then the simulation is wrong.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Bodies are `json!` literals, handed on as they are written.
#![allow(clippy::needless_pass_by_value)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../simulation/server/mod.rs"]
mod server;

mod cases;
mod normal;
mod script;

use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::OnceCell;

use common::cluster::Cluster;
use common::suite::{Suite, note};
use script::Case;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    let cluster: Arc<OnceCell<Cluster>> = Arc::default();
    for case in cases::all() {
        let cluster = cluster.clone();
        suite.add(case.name.replace(' ', "_"), move || compare(cluster, case));
    }
    suite.run(cluster)
}

async fn compare(cluster: Arc<OnceCell<Cluster>>, case: Case) {
    let cluster = cluster.get_or_init(|| Cluster::any("conformance")).await;
    let namespace = cluster.namespace(case.name).await;
    let real = case.on_real(cluster.client(), &namespace).await;
    let simulated = case.on_simulated(&namespace).await;
    let mut differ = Vec::new();
    for (number, (real, simulated)) in
        normal::normal(&real).iter().zip(&normal::normal(&simulated)).enumerate()
    {
        if real != simulated {
            let (real, simulated) = (format!("{real:#}"), format!("{simulated:#}"));
            note(format!("answer {}:\n{}", number + 1, normal::side_by_side(&real, &simulated)));
            differ.push(number + 1);
        }
    }
    assert!(differ.is_empty(), "{}: answers {differ:?} differ", case.name);
}
