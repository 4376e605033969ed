//! The clients of the API server: users without and with the right to override a policy, the operator, and the
//! controllers of Kubernetes.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use town_operator::api::Town;

use crate::common::account::{NAME, NAMESPACE};
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};

/// The controller manager that uses no service accounts for its controllers.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// The verbs of the API itself. The right to all of them does not include `administer`.
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Clients that impersonate these users.
pub struct People {
    /// A user with every verb of the API on everything, but without `administer`.
    pub anybody: Client,
    /// A user with the role `cluster-admin` in the whole cluster, which includes the verb `administer`.
    pub administrator: Client,
    /// A user with the role `cluster-admin` only in the namespace of the story.
    pub tenant: Client,
    /// A user with every verb on towns and agents, except the verbs that delete.
    pub editor: Client,
    /// The operator's service account, with the rights of the chart.
    pub operator: Client,
    /// Deletes the objects of a namespace that is being deleted.
    pub namespace_controller: Client,
    /// Deletes objects without an owner, and executes the propagation policy.
    pub garbage_collector: Client,
    /// Has both tasks in a cluster whose controllers have no service accounts.
    pub controller_manager: Client,
    /// A program in `kube-system`, with every verb of the API.
    pub add_on: Client,
}

impl People {
    /// The clients of a story. Their roles are deleted with the namespace of the story.
    pub async fn of(story: &Story) -> Self {
        let named = |who: &str| format!("{who}-{}", story.namespace);
        let system = |name: &str| format!("system:serviceaccount:kube-system:{name}");
        let act = async |user: &str, groups: &[&str]| story.cluster.client_as(user, groups).await;
        let edits = json!([{
            "apiGroups": ["gastown.dev"], "resources": ["towns", "agents"],
            "verbs": ["get", "list", "watch", "create", "update", "patch"],
        }]);
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
        Self {
            anybody: every_verb(story, &named("anybody"), &[]).await,
            administrator: bound(story, &named("root"), &["cluster-admin"], true, &[]).await,
            tenant: bound(story, &named("tenant"), &["cluster-admin"], false, &[]).await,
            editor: bound(story, &named("editor"), &[&role(story, "editor", edits).await], false, &[]).await,
            operator: operator(story).await,
            namespace_controller: act(&system("namespace-controller"), &[]).await,
            garbage_collector: act(&system("generic-garbage-collector"), &[]).await,
            controller_manager: every_verb(story, CONTROLLER_MANAGER, &[]).await,
            add_on: every_verb(story, &system(&named("helm-install")), &groups).await,
        }
    }
}

/// The operator's service account, with the rights of the chart. Only this account changes the labels of ownership.
pub async fn operator(story: &Story) -> Client {
    story.cluster.client_as(&format!("system:serviceaccount:{NAMESPACE}:{NAME}"), &[]).await
}

/// Gives this user every verb of the API on everything, until the namespace of the story is gone.
pub async fn every_verb(story: &Story, user: &str, groups: &[&str]) -> Client {
    let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": VERBS}]);
    let role = role(story, &format!("every-verb:{user}"), rules).await;
    bound(story, user, &[&role], true, groups).await
}

/// Creates a role with these rules and returns its name. The role is deleted with the namespace of the story.
pub async fn role(story: &Story, name: &str, rules: Value) -> String {
    let role = json!({"metadata": of_the_story(story, name).await, "rules": rules});
    let role: ClusterRole = serde_json::from_value(role).unwrap();
    Api::all(story.client()).create(&PostParams::default(), &role).await.unwrap();
    role.name_any()
}

/// Binds a user to roles, in the whole cluster or only in the namespace of the story, until that namespace is gone.
/// Waits until the binding is in force.
pub async fn bound(story: &Story, user: &str, roles: &[&str], everywhere: bool, groups: &[&str]) -> Client {
    for (number, role) in roles.iter().enumerate() {
        let binding = json!({
            "metadata": of_the_story(story, &format!("{user}:{number}")).await,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        if everywhere {
            let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
            Api::all(story.client()).create(&PostParams::default(), &binding).await.unwrap();
        } else {
            let binding: RoleBinding = serde_json::from_value(binding).unwrap();
            let bindings: Api<RoleBinding> = Api::namespaced(story.client(), &story.namespace);
            bindings.create(&PostParams::default(), &binding).await.unwrap();
        }
    }
    let client = story.cluster.client_as(user, groups).await;
    let towns: Api<Town> = Api::namespaced(client.clone(), &story.namespace);
    until(&format!("{user} has the roles {roles:?}"), PATIENCE, async || {
        towns.get_opt("none").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    client
}

async fn of_the_story(story: &Story, name: &str) -> Value {
    let namespace = Api::<Namespace>::all(story.client()).get(&story.namespace).await.unwrap();
    json!({"name": format!("{}:{name}", story.namespace), "ownerReferences": [{
        "apiVersion": "v1", "kind": "Namespace", "name": namespace.name_any(), "uid": namespace.uid(),
    }]})
}
