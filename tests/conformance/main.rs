//! The suite sends the same requests to the simulated API server and to a real one, and compares their answers.
//!
//! The real server is a control plane of the test bed, or the cluster of `TOWN_TEST_KUBECONFIG`. For a difference the
//! suite prints both answers side by side. The simulation is then wrong.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// Bodies are `json!` literals that the functions take by value.
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

use bed::Options;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::OnceCell;

use common::cluster::{Cluster, given};
use common::suite::{SIDE_BY_SIDE, Suite, note};
use script::{Case, NODE};

fn main() -> ExitCode {
    let mut suite = Suite::new(SIDE_BY_SIDE);
    let cluster: Arc<OnceCell<Cluster>> = Arc::default();
    for case in cases::all() {
        let cluster = cluster.clone();
        let name = case.name.replace(' ', "_");
        if !case.breaks {
            suite.add(name, async move || compare(cluster.get_or_init(start).await, &case).await);
        } else if given().is_some() {
            suite
                .skip(name, "it needs a control plane that it may break; TOWN_TEST_KUBECONFIG names another");
        } else {
            suite.add(name, async move || {
                let options = Options { name: "conformance-broken".into(), ..Options::default() };
                compare(&Cluster::start(options).await, &case).await;
            });
        }
    }
    suite.run(cluster)
}

/// Starts a cluster with a node object without a machine.
async fn start() -> Cluster {
    let cluster = Cluster::any("conformance").await;
    let nodes: Api<Node> = Api::all(cluster.client());
    let node = serde_json::from_value(json!({"metadata": {"name": NODE}})).unwrap();
    match nodes.create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        other => drop(other.unwrap_or_else(|error| panic!("node: {error}"))),
    }
    cluster
}

/// A client that never retries.
async fn once(cluster: &Cluster) -> Client {
    let read = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

async fn compare(cluster: &Cluster, case: &Case) {
    let namespace = cluster.namespace(case.name).await;
    let real = case.on_real(once(cluster).await, &namespace).await;
    let simulated = case.on_simulated(&namespace).await;
    let (real, simulated) = (normal::normal(&real), normal::normal(&simulated));
    let mut differ = Vec::new();
    for (number, (real, simulated)) in real.iter().zip(&simulated).enumerate() {
        let differences = normal::differences(real, simulated);
        if !differences.is_empty() {
            note(format!("answer {}:\n{}", number + 1, differences.join("\n")));
            differ.push(number + 1);
        }
    }
    assert!(differ.is_empty(), "{}: answers {differ:?} differ", case.name);
}
