//! A story: its own namespace on a cluster, with players for its pods.

use std::process::Command;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use town_operator::api::{Agent, Tombstone, TombstoneKind, Town, names};
use town_operator::lifecycle::{Uid, tombstone_name};

use super::cluster::Cluster;
use super::operator::Operator;
use super::players::Players;
use super::seen::{Kind, Seen};
use super::wait::{PATIENCE, until};

/// The context of a story.
pub struct Story {
    pub cluster: Arc<Cluster>,
    /// The operator on the cluster, if one runs.
    pub operator: Option<Arc<Operator>>,
    /// The players of its pods.
    pub players: Players,
    pub namespace: String,
}

impl Story {
    /// Creates the namespace and starts the players.
    pub async fn begin(name: &str, cluster: Arc<Cluster>, operator: Option<Arc<Operator>>) -> Self {
        let namespace = cluster.namespace(name).await;
        let players = Players::call(cluster.client(), &namespace).await;
        Self { cluster, operator, players, namespace }
    }

    pub fn client(&self) -> Client {
        self.cluster.client()
    }

    /// The operator, which must run.
    pub fn operator(&self) -> &Operator {
        self.operator.as_ref().expect("an operator")
    }

    /// The objects of a kind in the namespace of the story.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client(), &self.namespace)
    }

    /// The object of a kind and name in the namespace of the story.
    pub fn seen<K: Kind>(&self, name: &str) -> Seen<K> {
        Seen::new(self.client(), &self.namespace, name)
    }

    pub fn town(&self, name: &str) -> Seen<Town> {
        self.seen(name)
    }

    pub fn agent(&self, name: &str) -> Seen<Agent> {
        self.seen(name)
    }

    /// The record of the destruction of a town.
    pub fn tombstone(&self, town: &Town) -> Seen<Tombstone> {
        let uid = Uid::of(&town.metadata).expect("an object of the API server");
        Seen::global(self.client(), &tombstone_name(TombstoneKind::Town, &uid))
    }

    pub fn pod(&self, name: &str) -> Seen<Pod> {
        self.seen(name)
    }

    /// Creates an object of this kind.
    #[track_caller]
    pub fn create<K: Kind>(&self, name: &str, spec: Value) -> impl Future<Output = K> {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "spec": spec,
        });
        self.create_object(object)
    }

    /// Creates an object from its complete manifest.
    #[track_caller]
    pub fn create_object<K: Kind>(&self, object: Value) -> impl Future<Output = K> {
        let caller = std::panic::Location::caller();
        let api = self.api::<K>();
        async move {
            let object: K = serde_json::from_value(object).unwrap();
            let created = api.create(&PostParams::default(), &object).await;
            created.unwrap_or_else(|error| panic!("at {caller}: {}: {error}", object.name_any()))
        }
    }

    #[track_caller]
    pub fn create_town(&self, name: &str, spec: Value) -> impl Future<Output = Town> {
        self.create(name, spec)
    }

    /// Creates an agent of a town: the function sets the town's name in the spec.
    #[track_caller]
    pub fn create_agent(&self, name: &str, town: &str, mut spec: Value) -> impl Future<Output = Agent> {
        spec["townName"] = town.into();
        self.create(name, spec)
    }

    /// Runs `kubectl apply`, which must succeed, and returns its output.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.try_apply(manifest).unwrap_or_else(|said| panic!("kubectl apply: {said}\n{manifest}"))
    }

    /// Runs `kubectl apply`, and returns its output or its error output.
    pub fn try_apply(&self, manifest: &str) -> Result<String, String> {
        let arguments = ["apply", "--server-side=false", "-n", &self.namespace, "-f", "-"];
        // Some versions parse a text that begins with a brace as JSON.
        self.cluster.try_kubectl(&arguments, &format!("---\n{manifest}"))
    }

    /// Runs kubectl in the namespace of the story; it must succeed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(&[arguments, &["-n", &self.namespace]].concat())
    }

    /// Runs kubectl in the namespace of the story, and returns its output or its error output.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.cluster.try_kubectl(&[arguments, &["-n", &self.namespace]].concat(), "")
    }

    /// The pods with this value of the label.
    pub async fn pods(&self, label: &str, value: &str) -> Vec<Pod> {
        list(&self.api(), label, value).await
    }

    /// The objects in the namespace with the UID of this town or agent, of every kind that the operator can create:
    /// `Kind/name`.
    pub async fn children(&self, uid: &str) -> Vec<String> {
        let mut found = Vec::new();
        for label in [names::TOWN_UID, names::AGENT_UID] {
            found.extend(self.named::<Pod>(label, uid).await);
            found.extend(self.named::<PersistentVolumeClaim>(label, uid).await);
            found.extend(self.named::<Secret>(label, uid).await);
            found.extend(self.named::<ConfigMap>(label, uid).await);
            found.extend(self.named::<Service>(label, uid).await);
            found.extend(self.named::<Agent>(label, uid).await);
        }
        found.sort();
        found.dedup();
        found
    }

    /// The notes of the events with this reason about the object of this name.
    pub async fn told(&self, name: &str, reason: &str) -> Vec<String> {
        let events = self.api::<Event>().list(&ListParams::default()).await;
        let about = |event: &Event| {
            event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(name)
                && event.reason.as_deref() == Some(reason)
        };
        let events = events.unwrap_or_else(|error| panic!("events: {error}"));
        events.items.into_iter().filter(about).map(|event| event.note.unwrap_or_default()).collect()
    }

    /// Waits for such an event, which follows its cause with a delay, and returns the note of the first.
    #[track_caller]
    pub fn is_told(&self, name: &str, reason: &str) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            let what = format!("{reason} is told about {name} (awaited at {caller})");
            until(&what, PATIENCE, async || {
                self.told(name, reason).await.into_iter().next().ok_or_else(|| "nothing".into())
            })
            .await
        }
    }

    async fn named<K: Kind>(&self, label: &str, value: &str) -> Vec<String> {
        let found: Vec<K> = list(&self.api(), label, value).await;
        found.iter().map(|object| format!("{}/{}", K::kind(&()), object.name_any())).collect()
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(operator) = &self.operator
        {
            operator.explain(&self.namespace);
        }
    }
}

async fn list<K: Kind>(api: &Api<K>, label: &str, value: &str) -> Vec<K> {
    let params = ListParams::default().labels(&format!("{label}={value}"));
    api.list(&params).await.unwrap_or_else(|error| panic!("list: {error}")).items
}

/// A pod template for the players: its scheduler does not exist in any cluster.
pub fn template() -> Value {
    json!({"spec": {
        "schedulerName": "played-by-the-test",
        "terminationGracePeriodSeconds": 5,
        "containers": [{"name": "main", "image": "town.test/nothing:1"}],
    }})
}

/// The command line of the operator, for tests of its output and its exit code.
pub fn operator_command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_town-operator"))
}
