//! A scene: its own namespace, the towns in it, and their processes on the node.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::discovery::{Discovery, verbs};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};
use tokio::task::JoinHandle;
use town_operator::api::{Agent, DestroyStatus, Outcome, Tombstone, TombstoneKind, Town, WorkStatus, names};
use town_operator::lifecycle::{Uid, tombstone_name};

use crate::common::seen::{Kind, Seen};
use crate::common::suite::note;
use crate::common::wait::until;
use crate::stage::Stage;

/// The timeout for actions of containers: ample on a loaded machine. No successful story waits so long.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The end of a container's script: the script waits for SIGTERM, and crashes when its `sleep` is killed.
pub const STAY: &str = "trap 'exit 0' TERM; sleep infinity & wait $!; exit 3";

/// The context of a story.
pub struct Scene {
    pub stage: Arc<Stage>,
    pub namespace: String,
    /// The UIDs of all pods that the namespace has had.
    pods_seen: Arc<Mutex<BTreeSet<String>>>,
    watch: JoinHandle<()>,
    turn: Turn,
}

/// Whether other scenes may run at the same time.
enum Turn {
    Together { _turn: OwnedRwLockReadGuard<()> },
    Alone { _turn: OwnedRwLockWriteGuard<()> },
    None,
}

impl Scene {
    /// Creates the namespace.
    pub async fn begin(story: &str, stage: Arc<Stage>) -> Self {
        let turn = Turn::Together { _turn: stage.turn.clone().read_owned().await };
        let namespace = stage.cluster.namespace(story).await;
        let pods_seen = Arc::<Mutex<BTreeSet<String>>>::default();
        let pods: Api<Pod> = Api::namespaced(stage.cluster.client(), &namespace);
        let seen = pods_seen.clone();
        let watch = tokio::spawn(async move {
            let pods = watcher(pods, watcher::Config::default()).default_backoff().applied_objects();
            let mut pods = std::pin::pin!(pods);
            while let Some(pod) = pods.next().await {
                let uid = pod.ok().and_then(|pod| pod.metadata.uid);
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(uid);
            }
        });
        Self { stage, namespace, pods_seen, watch, turn }
    }

    /// Waits until no other scene runs. Afterwards the story may disturb others.
    pub async fn alone(&mut self) {
        // The scene releases its lock first, because two scenes that wait for each other would deadlock.
        self.turn = Turn::None;
        self.turn = Turn::Alone { _turn: self.stage.turn.clone().write_owned().await };
    }

    pub fn client(&self) -> Client {
        self.stage.cluster.client()
    }

    pub fn seen<K: Kind>(&self, name: &str) -> Seen<K> {
        Seen::new(self.client(), &self.namespace, name)
    }

    pub fn town(&self, name: &str) -> Seen<Town> {
        self.seen(name)
    }

    pub fn agent(&self, name: &str) -> Seen<Agent> {
        self.seen(name)
    }

    /// Creates an object of this kind.
    pub async fn create<K: Kind>(&self, name: &str, spec: Value) -> K {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name}, "spec": spec,
        });
        let object: K = serde_json::from_value(object).unwrap();
        let api: Api<K> = Api::namespaced(self.client(), &self.namespace);
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub async fn create_secret(&self, name: &str, key: &str, value: &str) {
        let secret = json!({"metadata": {"name": name}, "stringData": {key: value}});
        let secret: Secret = serde_json::from_value(secret).unwrap();
        let api: Api<Secret> = Api::namespaced(self.client(), &self.namespace);
        api.create(&PostParams::default(), &secret).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Creates a town with one rig, `orchard`, that does not fall asleep during a story. `more` adds or replaces
    /// fields.
    pub async fn create_town(&self, name: &str, more: Value) -> Town {
        let mut spec = json!({
            "sleepAfter": "1h", "drain": {"timeout": "0s"}, "rigs": [{"name": "orchard"}],
        });
        json_patch::merge(&mut spec, &more);
        self.create(name, spec).await
    }

    /// Creates a mayor (an agent of mode Session) with storage, whose container runs this script.
    pub async fn create_mayor(&self, name: &str, town: &str, script: &str) -> Agent {
        let spec = json!({
            "townName": town, "role": "Mayor", "storage": {"size": "16Mi"}, "template": runs(script),
        });
        self.create(name, spec).await
    }

    /// Creates a polecat (an agent of mode Task) with storage and a bead, whose container runs this script.
    pub async fn create_polecat(&self, name: &str, town: &str, bead: &str, script: &str) -> Agent {
        let spec = json!({
            "townName": town, "role": "Polecat", "rig": "orchard", "storage": {"size": "16Mi"},
            "template": runs(script), "hook": {"bead": bead},
        });
        self.create(name, spec).await
    }

    /// Creates a town with its own pod, a mayor and a polecat whose work does not end; each has storage. Waits until
    /// all three run.
    pub async fn create_busy_town(&self, name: &str, more: Value) -> BusyTown {
        let mut spec = json!({"storage": {"size": "16Mi"}, "template": runs(STAY)});
        json_patch::merge(&mut spec, &more);
        let town = self.create_town(name, spec).await;
        let (mayor, polecat) = (format!("{name}-mayor"), format!("{name}-polecat"));
        self.create_mayor(&mayor, name, STAY).await;
        self.create_polecat(&polecat, name, "long", STAY).await;
        self.town(name).until_within(PATIENCE, "is Running", |town| town.phase() == "Running").await;
        self.agent(&mayor).until_within(PATIENCE, "is there", |agent| agent.phase() == "Idle").await;
        self.agent(&polecat).until_within(PATIENCE, "works", |agent| agent.phase() == "Working").await;
        let town = BusyTown { uid: town.uid().unwrap(), mayor, polecat };
        assert_eq!(self.pods(&town.uid).await.len(), 3, "a pod each of the town, its mayor and its polecat");
        town
    }

    /// The pods with the UID of this town.
    pub async fn pods(&self, town_uid: &str) -> Vec<Pod> {
        self.labelled(names::TOWN_UID, town_uid).await
    }

    pub fn tombstone(&self, town_uid: &str) -> Seen<Tombstone> {
        Seen::global(self.client(), &tombstone_name(TombstoneKind::Town, &Uid::new(town_uid)))
    }

    /// Waits until the town has no pod.
    pub async fn await_no_pods(&self, town_uid: &str) {
        until("no pod is there", PATIENCE, async || match &self.pods(town_uid).await[..] {
            [] => Ok(()),
            pods => Err(format!("{pods:?}")),
        })
        .await;
    }

    /// The volume claims with the UID of this town.
    pub async fn claims(&self, town_uid: &str) -> Vec<PersistentVolumeClaim> {
        self.labelled(names::TOWN_UID, town_uid).await
    }

    async fn labelled<K: Kind>(&self, label: &str, value: &str) -> Vec<K> {
        let api: Api<K> = Api::namespaced(self.client(), &self.namespace);
        let params = ListParams::default().labels(&format!("{label}={value}"));
        let mut found = api.list(&params).await.unwrap_or_else(|error| panic!("list: {error}")).items;
        found.sort_by_key(ResourceExt::name_any);
        found
    }

    /// Waits for the ready pod of an agent, other than the pod with the UID `but_not`.
    pub async fn ready_pod(&self, agent: &str, but_not: Option<&str>) -> Pod {
        let uid = self.agent(agent).get().await.uid().unwrap();
        until("the agent's pod is Ready", PATIENCE, async || {
            let pods: Vec<Pod> = self.labelled(names::AGENT_UID, &uid).await;
            match &pods[..] {
                [pod] if is_ready(pod) && pod.metadata.uid.as_deref() != but_not => Ok(pod.clone()),
                pods => Err(format!("{pods:?}")),
            }
        })
        .await
    }

    /// Waits for the ready pod of the town itself.
    pub async fn town_pod(&self, town: &str) -> Pod {
        let town = self.town(town);
        let town = town.until_within(PATIENCE, "is Ready", |t| t.is("Ready") && !t.is("Asleep")).await;
        let name = town.status.and_then(|status| status.pod?.name).expect("a pod of its own");
        self.seen::<Pod>(&name).get().await
    }

    /// Sets the bead of an agent.
    pub async fn hook(&self, agent: &str, bead: &str) {
        self.agent(agent).merge(json!({"spec": {"hook": {"bead": bead}}})).await;
    }

    /// Waits until an agent has done this bead, and returns its record.
    pub async fn done(&self, agent: &str, bead: &str) -> WorkStatus {
        let what = format!("has done {bead}");
        let is_done = |agent: &Agent| agent.phase() == "Done" && agent.work().bead == bead;
        let work = self.agent(agent).until_within(PATIENCE, &what, is_done).await.work();
        assert_eq!(work.outcome, Some(Outcome::Done));
        work
    }

    pub async fn asleep(&self, town: &str) -> Town {
        self.town(town).until_within(PATIENCE, "is asleep", |town| town.phase() == "Asleep").await
    }

    pub async fn suspend(&self, town: &str, suspended: bool) {
        self.town(town).merge(json!({"spec": {"suspend": suspended}})).await;
    }

    pub fn try_exec(&self, pod: &str, command: &str) -> Result<String, String> {
        self.try_kubectl(&["exec", pod, "--", "sh", "-c", command])
    }

    /// Runs a shell command in a container; it must succeed.
    #[track_caller]
    pub fn exec(&self, pod: &str, command: &str) -> String {
        self.try_exec(pod, command).unwrap_or_else(|said| panic!("in {pod}, {command}: {said}"))
    }

    /// Waits until a file exists in a container.
    pub async fn await_file(&self, pod: &Pod, path: &str) {
        let test = format!("test -e {path}");
        until(path, PATIENCE, async || self.try_exec(&pod.name_any(), &test).map(drop)).await;
    }

    /// Runs kubectl in the namespace; it must succeed.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap_or_else(|said| panic!("kubectl {}: {said}", arguments.join(" ")))
    }

    /// Runs kubectl in the namespace, and returns its output or its error output.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let place = ["-n", &self.namespace];
        self.stage.cluster.try_kubectl(&[&place[..], arguments].concat(), "")
    }

    /// The processes on the node of all pods that the namespace has had: `pod UID: arguments`. Empty on a foreign
    /// cluster.
    pub fn processes(&self) -> Vec<String> {
        let Some(node) = self.stage.node() else { return Vec::new() };
        let pods = self.pods_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let of_ours = node.processes().into_iter().filter(|process| pods.contains(&process.pod_uid));
        of_ours.map(|process| format!("{}: {}", process.pod_uid, process.cmdline)).collect()
    }

    /// Waits until each of these pods has processes. The check runs only on the suite's own node.
    pub async fn assert_runs(&self, pods: &[Pod]) {
        let Some(node) = self.stage.node() else { return };
        until("each pod has processes on the node", PATIENCE, async || {
            let processes = node.processes();
            for pod in pods {
                let uid = pod.metadata.uid.as_ref().unwrap();
                let own = processes.iter().filter(|process| process.pod_uid == *uid).count();
                // The sandbox has a process; that of the container can start shortly after the change of the status.
                if own < 2 {
                    return Err(format!("pod {} has {own} processes on the node", pod.name_any()));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Checks that no process of any pod of the namespace is on the node.
    #[track_caller]
    pub fn assert_nothing_runs(&self) {
        let processes = self.processes();
        assert!(processes.is_empty(), "still on the node: {processes:#?}");
    }

    /// The objects of every kind in the cluster with the UID of this town: `Kind namespace/name`.
    pub async fn everything_of(&self, town_uid: &str) -> Vec<String> {
        let discovery = Discovery::new(self.client()).run().await.expect("the kinds of the cluster");
        let params = ListParams::default().labels(&format!("{}={town_uid}", names::TOWN_UID));
        let mut found = Vec::new();
        for group in discovery.groups() {
            for (resource, able) in group.recommended_resources() {
                if able.supports_operation(verbs::LIST) {
                    let api: Api<DynamicObject> = Api::all_with(self.client(), &resource);
                    let objects =
                        api.list(&params).await.unwrap_or_else(|e| panic!("{}: {e}", resource.plural));
                    let kind = &resource.kind;
                    let name = |o: &DynamicObject| {
                        format!("{kind} {}/{}", o.namespace().unwrap_or_default(), o.name_any())
                    };
                    found.extend(objects.iter().map(name));
                }
            }
        }
        found
    }

    /// The volumes of the claims of a town.
    pub async fn volumes(&self, town_uid: &str) -> Vec<String> {
        let claims = self.claims(town_uid).await;
        claims
            .into_iter()
            .map(|claim| claim.spec.and_then(|spec| spec.volume_name).expect("a bound claim"))
            .collect()
    }

    /// Waits until these volumes are gone. Only the volume controller of the cluster may still have work.
    pub async fn await_volumes_gone(&self, volumes: &[String]) {
        let api: Api<PersistentVolume> = Api::all(self.client());
        for name in volumes {
            until(&format!("volume {name} is gone"), PATIENCE, async || match api.get_opt(name).await {
                Ok(None) => Ok(()),
                seen => Err(format!("{seen:?}")),
            })
            .await;
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.watch.abort();
        if !std::thread::panicking() {
            return;
        }
        let shown = [
            &["get", "towns,agents,pods,pvc", "-o", "wide"][..],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ];
        for arguments in shown {
            let (Ok(said) | Err(said)) = self.try_kubectl(arguments);
            note(format!("kubectl {}:\n{said}", arguments.join(" ")));
        }
        let log = self.stage.operator_log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&self.namespace)).collect();
        let last = lines.len().saturating_sub(60);
        note(format!("the operator's log on {} says last:\n{}", self.namespace, lines[last..].join("\n")));
    }
}

/// A town with three running pods.
pub struct BusyTown {
    pub uid: String,
    pub mayor: String,
    pub polecat: String,
}

/// A pod template with one container that runs this shell script.
pub fn runs(script: &str) -> Value {
    json!({"spec": {
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
        "containers": [{
            "name": "main",
            "image": agent_image(),
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
        }],
    }})
}

/// The same template with this grace period.
pub fn runs_with_grace(script: &str, seconds: u32) -> Value {
    let mut template = runs(script);
    template["spec"]["terminationGracePeriodSeconds"] = seconds.into();
    template
}

/// The same template with this memory limit.
pub fn runs_within(script: &str, memory: &str) -> Value {
    let mut template = runs(script);
    template["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": memory}});
    template
}

/// The image of all containers of the stories: a shell and its tools. Its default user is root.
pub fn agent_image() -> String {
    let given = std::env::var("TOWN_TEST_AGENT_IMAGE").ok().filter(|name| !name.is_empty());
    given.unwrap_or(bed::BUSYBOX.into())
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The number of restarts of a pod's containers.
pub fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}

/// The UIDs of pods with the restarts of their containers, which must not change without a disturbance.
pub fn identities(pods: &[Pod]) -> Vec<(String, i32)> {
    pods.iter().map(|pod| (pod.uid().unwrap(), restarts(pod))).collect()
}

/// The status of a town or an agent.
pub trait Lives {
    /// The phase; empty before the first status.
    fn phase(&self) -> &str;
    /// The conditions; empty before the first status.
    fn conditions(&self) -> &[Condition];
    /// The progress of the destruction.
    fn destroy(&self) -> Option<&DestroyStatus>;

    fn condition(&self, type_: &str) -> Option<&Condition> {
        self.conditions().iter().find(|condition| condition.type_ == type_)
    }
    fn is(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }
    /// The reason of a condition; empty for a missing condition.
    fn reason(&self, type_: &str) -> &str {
        self.condition(type_).map_or("", |condition| &condition.reason)
    }
    /// The message of a condition; empty for a missing condition.
    fn message(&self, type_: &str) -> &str {
        self.condition(type_).map_or("", |condition| &condition.message)
    }
    /// Whether the condition Degraded is True for this reason.
    fn is_degraded_by(&self, reason: &str) -> bool {
        self.is("Degraded") && self.reason("Degraded") == reason
    }
}

macro_rules! lives {
    ($kind:ty) => {
        impl Lives for $kind {
            fn phase(&self) -> &str {
                self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
            }
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }
            fn destroy(&self) -> Option<&DestroyStatus> {
                self.status.as_ref()?.destroy.as_ref()
            }
        }
    };
}
lives!(Town);
lives!(Agent);

/// The status of an agent's work.
pub trait Works {
    /// The record of the last bead.
    fn work(&self) -> WorkStatus;
}

impl Works for Agent {
    fn work(&self) -> WorkStatus {
        self.status.as_ref().and_then(|status| status.work.clone()).unwrap_or_default()
    }
}
