//! The operator's own identity: the service account, the roles and the admission policies of the Helm chart, so
//! that every story also tells whether the chart grants what the operator needs and refuses nothing that it does.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::chart::render;
use super::cluster::Cluster;
use super::operator::INSTALL_ID;

/// Where the operator is installed.
pub const NAMESPACE: &str = "town-system";
/// The name of its service account, its roles and its Lease.
pub const NAME: &str = "town-operator";

/// A service account with the chart's rights, and a kubeconfig of its own.
pub struct Account {
    kubeconfig: PathBuf,
}

impl Account {
    /// Makes namespace, service account, roles, bindings and policies as the chart has them, and a token.
    pub fn create(cluster: &Cluster) -> Self {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        cluster.try_kubectl(&["apply", "-f", "-"], &namespace.to_string()).unwrap();
        cluster.try_kubectl(&["apply", "-f", "-"], &manifests()).unwrap();
        // There is no Lease to wait for: nobody has led before.
        let metadata = json!({"name": NAME, "namespace": NAMESPACE});
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata});
        cluster.try_kubectl(&["apply", "-f", "-"], &lease.to_string()).unwrap();

        let token = cluster.kubectl(&["create", "token", NAME, "-n", NAMESPACE, "--duration=24h"]);
        let text = cluster.kubectl(&["config", "view", "--raw", "--flatten", "--minify", "-o", "json"]);
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"] = json!({"token": token.trim()});
        let kubeconfig = cluster.scratch().join("operator.kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        Self { kubeconfig }
    }

    /// Takes all of that away again.
    pub fn remove(cluster: &Cluster) {
        let _ = cluster.try_kubectl(&["delete", "--ignore-not-found", "-f", "-"], &manifests());
        let _ = cluster.try_kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found"], "");
    }

    /// A kubeconfig with its token.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// The chart's service account, its roles, those for people, bindings and policies.
fn manifests() -> String {
    let install = format!("installId={INSTALL_ID}");
    let templates = ["rbac", "serviceaccount", "admission-policies", "user-roles"];
    render(NAME, NAMESPACE, &templates, &[&install])
}
