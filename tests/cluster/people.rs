//! Who asks something of the API server: people without and with the right to overrule a policy, the operator, and
//! the controllers of Kubernetes itself.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use town_operator::api::Town;

use crate::common::account::{NAME, NAMESPACE};
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};

/// The controller manager that has no service accounts for its controllers.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";

/// The verbs that the API itself knows: the right to all of them makes no administrator.
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Clients that act as them.
pub struct People {
    /// Has every verb of the API on everything, and is no administrator.
    pub anybody: Client,
    /// Has the role `cluster-admin` in the whole cluster, which includes the verb `administer`.
    pub administrator: Client,
    /// Has the role `cluster-admin` in the namespace of the story alone.
    pub tenant: Client,
    /// Has every verb on towns and agents but those that delete.
    pub editor: Client,
    /// The operator's service account, with the rights of the chart.
    pub operator: Client,
    /// Deletes what is in a namespace that goes.
    pub namespace_controller: Client,
    /// Deletes what nobody owns any more, and settles how.
    pub garbage_collector: Client,
    /// Does both where controllers have no service accounts.
    pub controller_manager: Client,
    /// A program that somebody runs in `kube-system`, with every verb of the API.
    pub add_on: Client,
}

impl People {
    /// Those of a story. The roles that they need are gone with its namespace.
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

/// The operator's service account, with the rights of the chart: only it changes the labels of ownership.
pub async fn operator(story: &Story) -> Client {
    story.cluster.client_as(&format!("system:serviceaccount:{NAMESPACE}:{NAME}"), &[]).await
}

/// Gives this user every verb of the API on everything for as long as the story's namespace is there.
pub async fn every_verb(story: &Story, user: &str, groups: &[&str]) -> Client {
    let rules = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": VERBS}]);
    let role = role(story, &format!("every-verb:{user}"), rules).await;
    bound(story, user, &[&role], true, groups).await
}

/// Makes a role with these rules, which is gone with the story's namespace, and gives its name.
pub async fn role(story: &Story, name: &str, rules: Value) -> String {
    let role = json!({"metadata": of_the_story(story, name).await, "rules": rules});
    let role: ClusterRole = serde_json::from_value(role).unwrap();
    Api::all(story.client()).create(&PostParams::default(), &role).await.unwrap();
    role.name_any()
}

/// Binds a user to roles, in the whole cluster or in the story's namespace alone, for as long as that is there, and
/// waits until it counts.
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
