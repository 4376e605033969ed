//! The operator's own identity: the service account, the roles and the admission policies of the Helm chart, so
//! that every story also tells whether the chart grants what the operator needs and refuses nothing that it does.

use std::path::{Path, PathBuf};

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use town_operator::api::names;
use town_operator::cluster::lease_name;

use super::chart::render;
use super::cluster::Cluster;
use super::operator::INSTALL_ID;
use super::wait::{PATIENCE, until};

/// Where the operator is installed.
pub const NAMESPACE: &str = "town-system";
/// The name of its service account and its roles.
pub const NAME: &str = "town-operator";
/// Where its Lease is.
pub const LEASE_NAMESPACE: &str = "kube-system";

/// A service account with the chart's rights, and a kubeconfig of its own.
pub struct Account {
    kubeconfig: PathBuf,
}

impl Account {
    /// Creates the namespace, the service account, the roles, the bindings and the policies of the chart, and a token,
    /// and waits until the account has its rights.
    pub async fn create(cluster: &Cluster) -> Self {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        cluster.try_kubectl(&["apply", "-f", "-"], &namespace.to_string()).unwrap();
        cluster.try_kubectl(&["apply", "-f", "-"], &manifests()).unwrap();
        // No operator has led before, so none need wait for the end of another: the Lease is as its last holder
        // would have left it.
        let name = lease_name(INSTALL_ID);
        let metadata = json!({"name": name, "namespace": LEASE_NAMESPACE});
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata});
        if cluster.try_kubectl(&["create", "-f", "-"], &lease.to_string()).is_ok() {
            let lease = ["lease", &name, "-n", LEASE_NAMESPACE];
            let uid = cluster.kubectl(&[&["get"], &lease[..], &["-o", "jsonpath={.metadata.uid}"]].concat());
            let mark = format!("{}={}", names::FREED, uid.trim());
            cluster.kubectl(&[&["annotate"], &lease[..], &[mark.as_str()]].concat());
        }

        let token = cluster.kubectl(&["create", "token", NAME, "-n", NAMESPACE, "--duration=24h"]);
        let text = cluster.kubectl(&["config", "view", "--raw", "--flatten", "--minify", "-o", "json"]);
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"] = json!({"token": token.trim()});
        let kubeconfig = cluster.scratch().join("operator.kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        // The authorizer learns of roles and bindings from watches, and an operator without rights ends.
        has_right(cluster, &json!({"verb": "list", "group": "gastown.dev", "resource": "towns"})).await;
        let group = "coordination.k8s.io";
        let of_lease = json!({
            "verb": "get", "group": group, "resource": "leases", "name": lease_name(INSTALL_ID), "namespace": LEASE_NAMESPACE,
        });
        has_right(cluster, &of_lease).await;
        Self { kubeconfig }
    }

    /// Deletes what the chart has made, as `helm uninstall`.
    pub fn uninstall(cluster: &Cluster) {
        cluster.try_kubectl(&["delete", "--ignore-not-found", "-f", "-"], &manifests()).unwrap();
    }

    /// Takes all of that away again.
    pub fn remove(cluster: &Cluster) {
        let _ = cluster.try_kubectl(&["delete", "--ignore-not-found", "-f", "-"], &manifests());
        let _ = cluster.try_kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found"], "");
        let lease = lease_name(INSTALL_ID);
        let _ = cluster
            .try_kubectl(&["delete", "lease", &lease, "-n", LEASE_NAMESPACE, "--ignore-not-found"], "");
    }

    /// A kubeconfig with its token.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// Waits until the authorizer grants the service account this right.
async fn has_right(cluster: &Cluster, right: &Value) {
    let user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
    let review = json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": right}});
    let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client());
    until(&format!("{user} has the right {right}"), PATIENCE, async || {
        let reviewed =
            reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
        let status = reviewed.status.unwrap_or_default();
        if status.allowed { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

/// The chart's service account, its roles, those for people, bindings and policies.
fn manifests() -> String {
    let install = format!("installId={INSTALL_ID}");
    let templates = ["rbac", "serviceaccount", "admission-policies", "user-roles"];
    render(NAME, NAMESPACE, &templates, &[&install])
}
