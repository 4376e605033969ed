//! The operator's service account, with the roles and the admission policies of the Helm chart. Every story therefore
//! also verifies that the chart grants each right that the operator needs, and that no policy refuses its requests.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use town_operator::api::names;
use town_operator::cluster::lease_name;

use super::chart::render;
use super::cluster::Cluster;
use super::operator::INSTALL_ID;
use super::wait::{PATIENCE, until};

/// The namespace of the operator.
pub const NAMESPACE: &str = "town-system";
/// The name of its service account and its roles.
pub const NAME: &str = "town-operator";
/// The namespace of its Lease.
pub const LEASE_NAMESPACE: &str = "kube-system";

/// A service account with the rights of the chart, and its kubeconfig.
pub struct Account {
    kubeconfig: PathBuf,
}

impl Account {
    /// Creates the namespace, the service account, the roles, the bindings and the policies of the chart, and a token.
    /// Waits until the account has its rights.
    pub async fn create(cluster: &Cluster) -> Self {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let objects = format!("{namespace}\n---\n{}", manifests());
        cluster.try_kubectl(&["apply", "-f", "-"], &objects).unwrap();
        free_lease(cluster).await;

        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), NAMESPACE);
        let day = json!({"metadata": {}, "spec": {"audiences": [], "expirationSeconds": 24 * 60 * 60}});
        let day: TokenRequest = serde_json::from_value(day).unwrap();
        let token = accounts.create_token_request(NAME, &PostParams::default(), &day).await;
        let token = token.unwrap_or_else(|error| panic!("a token: {error}")).status.unwrap().token;
        let text = cluster.kubectl(&["config", "view", "--raw", "--flatten", "--minify", "-o", "json"]);
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"] = json!({"token": token});
        let kubeconfig = cluster.scratch().join("operator.kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        // The authorizer receives roles and bindings from watches with a delay, and an operator without rights ends.
        has_right(cluster, &json!({"verb": "list", "group": "gastown.dev", "resource": "towns"})).await;
        let group = "coordination.k8s.io";
        let of_lease = json!({
            "verb": "get", "group": group, "resource": "leases", "name": lease_name(INSTALL_ID), "namespace": LEASE_NAMESPACE,
        });
        has_right(cluster, &of_lease).await;
        Self { kubeconfig }
    }

    /// Deletes the objects of the chart, as `helm uninstall` does.
    pub fn uninstall(cluster: &Cluster) {
        cluster.try_kubectl(&["delete", "--ignore-not-found", "-f", "-"], manifests()).unwrap();
    }

    /// Deletes the objects of the chart and the namespace.
    pub fn remove(cluster: &Cluster) {
        let _ = cluster.try_kubectl(&["delete", "--ignore-not-found", "-f", "-"], manifests());
        let _ = cluster.try_kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found"], "");
        let lease = lease_name(INSTALL_ID);
        let _ = cluster
            .try_kubectl(&["delete", "lease", &lease, "-n", LEASE_NAMESPACE, "--ignore-not-found"], "");
    }

    /// A kubeconfig with the token of the account.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// Creates the Lease if it is missing. No other operator has led before, so that the new one must not wait for the end of
/// another term: the Lease has the state after a voluntary release.
async fn free_lease(cluster: &Cluster) {
    let leases: Api<Lease> = Api::namespaced(cluster.client(), LEASE_NAMESPACE);
    let name = lease_name(INSTALL_ID);
    let lease: Lease = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    match leases.create(&PostParams::default(), &lease).await {
        Ok(lease) => {
            let free = json!({"metadata": {"annotations": {names::FREED: lease.metadata.uid}}});
            leases.patch(&name, &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("the lease: {error}"),
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

/// The chart's service account, its roles, the roles for users, the bindings and the policies.
fn manifests() -> &'static str {
    static MANIFESTS: LazyLock<String> = LazyLock::new(|| {
        let install = format!("installId={INSTALL_ID}");
        let templates = ["rbac", "serviceaccount", "admission-policies", "user-roles"];
        render(NAME, NAMESPACE, &templates, &[&install])
    });
    &MANIFESTS
}
