//! Who asks something of the API server: people without and with the right to overrule a policy, the operator, and
//! the controllers of Kubernetes itself.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::common::account::{NAME, NAMESPACE};
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};

/// The controller manager that has no service accounts for its controllers.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// Clients that act as them.
pub struct People {
    /// Has every right that roles can give, and is in no group of administrators.
    pub anybody: Client,
    /// In the group that may do everything.
    pub administrator: Client,
    /// The operator's service account, with the rights of the chart.
    pub operator: Client,
    /// Deletes what is in a namespace that goes.
    pub namespace_controller: Client,
    /// Deletes what nobody owns any more, and settles how.
    pub garbage_collector: Client,
    /// Does both where controllers have no service accounts.
    pub controller_manager: Client,
}

impl People {
    /// Those of a story. The roles that they need are gone with its namespace.
    pub async fn of(story: &Story) -> Self {
        let anybody = format!("anybody-{}", story.namespace);
        let controller = |name: &str| format!("system:serviceaccount:kube-system:{name}");
        let act = async |user: &str, groups: &[&str]| story.cluster.client_as(user, groups).await;
        Self {
            anybody: every_right(story, &anybody, &[]).await,
            administrator: act("root", &["system:masters"]).await,
            operator: act(&format!("system:serviceaccount:{NAMESPACE}:{NAME}"), &[]).await,
            namespace_controller: act(&controller("namespace-controller"), &[]).await,
            garbage_collector: act(&controller("generic-garbage-collector"), &[]).await,
            controller_manager: every_right(story, CONTROLLER_MANAGER, &[]).await,
        }
    }
}

/// Gives this user the role `cluster-admin` for as long as the story's namespace is there, and waits until it counts.
pub async fn every_right(story: &Story, user: &str, groups: &[&str]) -> Client {
    let namespace = Api::<Namespace>::all(story.client()).get(&story.namespace).await.unwrap();
    let binding = json!({
        "metadata": {"name": format!("{}:{user}", story.namespace), "ownerReferences": [{
            "apiVersion": "v1", "kind": "Namespace", "name": namespace.name_any(), "uid": namespace.uid(),
        }]},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    Api::all(story.client()).create(&PostParams::default(), &binding).await.unwrap();
    let client = story.cluster.client_as(user, groups).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    until(&format!("{user} has every right"), PATIENCE, async || {
        namespaces.get(&story.namespace).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    client
}
