//! The played node. A control plane alone has no kubelet, so that the test decides the fate of each pod.
//!
//! A setting of the players is in force when its future completes: the players then have no action in progress under an
//! older setting. A story awaits each setting, so that it has no race with the players.
//!
//! The node is an object without a machine. The players renew its Lease, so that no controller treats it as lost. A pod
//! must name a scheduler that does not exist (see [`super::story::template`]), so that a cluster with real nodes leaves
//! the pod to the players.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::clock::{in_seconds, now};
use super::wait::{PATIENCE, until};

/// The node of the played pods.
pub const NODE: &str = "played-by-the-test";

/// The limit of concurrent actions.
const HANDS: usize = 16;

/// The default address of played pods, without a route (RFC 5737).
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// The automatic actions of the players.
#[derive(Clone, Debug)]
struct Script {
    /// The number of changes of the script so far.
    version: u64,
    /// Move every new pod to Running and Ready.
    run: bool,
    /// End pods that are being deleted.
    end: bool,
    /// Pods that ignore their deletion.
    held: BTreeSet<String>,
    /// The address of pods that the players start automatically.
    address: IpAddr,
}

/// The players of one namespace. After their drop the pods stay in their state.
pub struct Players {
    pods: Api<Pod>,
    script: watch::Sender<Script>,
    /// The oldest version of the script that the players still use.
    in_force: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Players {
    /// Starts the players. By default a new pod runs and becomes ready immediately, and a deleted pod ends immediately.
    pub async fn call(client: Client, namespace: &str) -> Self {
        keep_node(&client).await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let begin = Script { version: 0, run: true, end: true, held: BTreeSet::new(), address: NOWHERE };
        let (script, seen) = watch::channel(begin);
        let (acknowledge, in_force) = watch::channel(0);
        let (played, keeper) = (pods.clone(), client);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = play(played, seen, acknowledge) => {}
                () = keep_renewing(keeper) => {}
            }
        });
        Self { pods, script, in_force, task }
    }

    /// Sets whether new pods run and become ready automatically.
    pub fn run_new_pods(&self, run: bool) -> impl Future<Output = ()> {
        self.change(move |script| script.run = run)
    }

    /// Sets whether deleted pods end automatically.
    pub fn end_pods(&self, end: bool) -> impl Future<Output = ()> {
        self.change(move |script| script.end = end)
    }

    /// Sets the address of new pods.
    pub fn live_at(&self, address: IpAddr) -> impl Future<Output = ()> {
        self.change(move |script| script.address = address)
    }

    /// Makes a pod ignore its deletion, as a pod on a lost node does.
    pub fn hold(&self, pod: &str) -> impl Future<Output = ()> {
        self.change(move |script| _ = script.held.insert(pod.to_owned()))
    }

    /// Ends a pod that ignored its deletion.
    pub fn release(&self, pod: &str) -> impl Future<Output = ()> {
        self.change(move |script| _ = script.held.remove(pod))
    }

    /// Changes the script immediately. The future completes when the change is in force.
    fn change(&self, change: impl FnOnce(&mut Script)) -> impl Future<Output = ()> {
        let mut version = 0;
        self.script.send_modify(|script| {
            change(script);
            script.version += 1;
            version = script.version;
        });
        let mut in_force = self.in_force.clone();
        async move {
            let acknowledged = timeout(PATIENCE, in_force.wait_for(|oldest| *oldest >= version)).await;
            acknowledged.expect("the players acknowledge a setting in time").expect("the players live");
        }
    }

    /// Waits until a pod of this name exists.
    async fn find(&self, name: &str) -> Pod {
        until(&format!("pod {name} exists"), PATIENCE, async || {
            self.pods.get(name).await.map_err(|error| error.to_string())
        })
        .await
    }

    /// Binds a pod to the node, as a scheduler does.
    pub async fn bind(&self, name: &str) {
        bind(&self.pods, &self.find(name).await).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Sets a pod to running, but not ready.
    pub async fn start(&self, name: &str) {
        self.bind(name).await;
        self.report(name, |pod| running(pod, false)).await;
    }

    /// Sets a pod to running and ready.
    pub async fn run(&self, name: &str) {
        self.bind(name).await;
        self.report(name, |pod| running(pod, true)).await;
    }

    /// Ends a pod with exit code 0 and this termination message.
    pub async fn succeed(&self, name: &str, message: &str) {
        self.bind(name).await;
        self.report(name, |pod| ended(pod, 0, message, &a_moment_ago())).await;
    }

    /// Ends a pod with this exit code and termination message.
    pub async fn fail(&self, name: &str, exit_code: i32, message: &str) {
        self.bind(name).await;
        self.report(name, |pod| ended(pod, exit_code, message, &a_moment_ago())).await;
    }

    /// Ends a pod as a process that handles SIGTERM: exit code 0, after the deletion.
    pub async fn obey(&self, name: &str) {
        self.report(name, |pod| ended(pod, 0, "", &now())).await;
    }

    /// Evicts a pod, as a node under resource pressure does.
    pub async fn evict(&self, name: &str) {
        self.bind(name).await;
        self.report(name, |pod| {
            let mut status = ended(pod, 137, "", &a_moment_ago());
            status["reason"] = "Evicted".into();
            status["message"] = "The node was low on resource: memory.".into();
            status["conditions"].as_array_mut().unwrap().push(json!({
                "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
                "message": "The node was low on resource: memory.", "lastTransitionTime": now(),
            }));
            status
        })
        .await;
    }

    /// Marks a pod as unschedulable, with the message of the scheduler.
    pub async fn refuse(&self, name: &str, message: &str) {
        let unscheduled = json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": now(),
        }]);
        self.report(name, |_| json!({"conditions": unscheduled})).await;
    }

    /// Sets a pod's containers to waiting on the node, with this reason.
    pub async fn keep_waiting(&self, name: &str, reason: &str, message: &str) {
        self.bind(name).await;
        let state = json!({"waiting": {"reason": reason, "message": message}});
        self.report(name, |pod| {
            json!({
                "phase": "Pending", "startTime": now(), "conditions": conditions(true, false, "ContainersNotReady"),
                "containerStatuses": containers(pod, false, &state),
            })
        })
        .await;
    }

    /// Sets a pod's containers to waiting after this number of restarts, with this last exit.
    pub async fn crash(&self, name: &str, restarts: i32, exit_code: i32, reason: &str) {
        self.bind(name).await;
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting"}});
        let at = a_moment_ago();
        let last = json!({"terminated": {
            "exitCode": exit_code, "reason": reason, "startedAt": at, "finishedAt": at,
        }});
        self.report(name, |pod| {
            let mut status = running(pod, false);
            status["containerStatuses"] = containers(pod, false, &waiting);
            for container in status["containerStatuses"].as_array_mut().unwrap() {
                container["restartCount"] = restarts.into();
                container["lastState"] = last.clone();
            }
            status
        })
        .await;
    }

    async fn report(&self, name: &str, status: impl Fn(&Pod) -> Value) {
        report(&self.pods, &self.find(name).await, status).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Plays the pods of a namespace until the drop of the players, and acknowledges each version of the script.
async fn play(pods: Api<Pod>, mut script: watch::Receiver<Script>, acknowledge: watch::Sender<u64>) {
    let mut stage: BTreeMap<String, Pod> = BTreeMap::new();
    let mut events = watcher(pods.clone(), watcher::Config::default()).default_backoff().boxed();
    // A failed request is repeated after a delay: the story can stop the API server.
    let mut again = tokio::time::interval(Duration::from_millis(500));
    let mut owed = BTreeSet::new();
    let mut due: BTreeSet<String> = BTreeSet::new();
    // The actions for one pod run one after the other; the actions for different pods run concurrently.
    let mut acts = FuturesUnordered::new();
    // Each pod with an action in progress, and the version of the script that the action follows.
    let mut busy: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        while acts.len() < HANDS
            && let Some(name) = due.iter().find(|name| !busy.contains_key(*name)).cloned()
        {
            due.remove(&name);
            let Some(pod) = stage.get(&name).cloned() else { continue };
            let (pods, script) = (&pods, script.borrow().clone());
            busy.insert(name.clone(), script.version);
            acts.push(async move { (name, act(pods, &pod, &script).await) });
        }
        let latest = script.borrow().version;
        let oldest = busy.values().copied().min().unwrap_or(latest);
        acknowledge.send_if_modified(|known| std::mem::replace(known, oldest) != oldest);
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                    due.insert(pod.name_any());
                    stage.insert(pod.name_any(), pod);
                }
                Some(Ok(watcher::Event::Delete(pod))) => _ = stage.remove(&pod.name_any()),
                Some(Ok(watcher::Event::Init)) => stage.clear(),
                Some(Ok(watcher::Event::InitDone) | Err(_)) => {}
                None => return,
            },
            changed = script.changed() => match changed {
                Ok(()) => due.extend(stage.keys().cloned()),
                Err(_) => return,
            },
            Some((name, done)) = acts.next() => {
                busy.remove(&name);
                match done {
                    Ok(()) => {}
                    // The pod changed meanwhile; its watch event follows.
                    Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
                    Err(_) => _ = owed.insert(name),
                }
            }
            _ = again.tick() => due.append(&mut owed),
        }
    }
}

/// Executes the script for one pod.
async fn act(pods: &Api<Pod>, pod: &Pod, script: &Script) -> kube::Result<()> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        // With a grace period of 0 the work of the node is done; a finalizer of another controller holds the pod.
        let awaits_node = pod.metadata.deletion_grace_period_seconds != Some(0);
        if script.end && awaits_node && !script.held.contains(&name) {
            if phase == "Running" {
                report(pods, pod, |pod| ended(pod, 143, "", &now())).await?;
            }
            let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
            let params =
                DeleteParams { grace_period_seconds: Some(0), preconditions, ..DeleteParams::default() };
            pods.delete(&name, &params).await?;
        }
    } else if script.run && phase == "Pending" && to_be_played(pod) {
        if is_bound(pod) {
            // The resourceVersion prevents that the action overwrites a later state, such as a failure that the story
            // requested.
            let mut run = status_patch(pod, &running_at(pod, true, script.address));
            run["metadata"]["resourceVersion"] = json!(pod.resource_version());
            patch_status(pods, pod, &run).await?;
        } else {
            bind(pods, pod).await?;
        }
    }
    Ok(())
}

/// Whether no real scheduler takes this pod.
fn to_be_played(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref()) != Some("default-scheduler")
}

fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())
}

async fn bind(pods: &Api<Pod>, pod: &Pod) -> kube::Result<()> {
    if is_bound(pod) {
        return Ok(());
    }
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name_any(), "uid": pod.uid()},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
    });
    let bound: kube::Result<Value> =
        pods.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await;
    match bound {
        // The pod is already bound.
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}

async fn report(pods: &Api<Pod>, pod: &Pod, status: impl Fn(&Pod) -> Value) -> kube::Result<()> {
    patch_status(pods, pod, &status_patch(pod, &status(pod))).await
}

/// A patch of the status of the pod with this UID.
fn status_patch(pod: &Pod, status: &Value) -> Value {
    json!({"metadata": {"uid": pod.uid()}, "status": status})
}

async fn patch_status(pods: &Api<Pod>, pod: &Pod, patch: &Value) -> kube::Result<()> {
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

fn running(pod: &Pod, ready: bool) -> Value {
    running_at(pod, ready, NOWHERE)
}

fn running_at(pod: &Pod, ready: bool, address: IpAddr) -> Value {
    let state = json!({"running": {"startedAt": now()}});
    json!({
        "observedGeneration": pod.metadata.generation,
        "phase": "Running", "startTime": now(), "podIP": address, "podIPs": [{"ip": address}],
        "conditions": conditions(true, ready, if ready { "" } else { "ContainersNotReady" }),
        "containerStatuses": containers(pod, ready, &state),
    })
}

fn ended(pod: &Pod, exit_code: i32, message: &str, at: &str) -> Value {
    let reason = if exit_code == 0 { "Completed" } else { "Error" };
    let state = json!({"terminated": {
        "exitCode": exit_code, "reason": reason, "message": message, "startedAt": at, "finishedAt": at,
    }});
    json!({
        "observedGeneration": pod.metadata.generation,
        "phase": if exit_code == 0 { "Succeeded" } else { "Failed" }, "startTime": now(),
        "conditions": conditions(true, false, if exit_code == 0 { "PodCompleted" } else { "PodFailed" }),
        "containerStatuses": containers(pod, false, &state),
    })
}

fn containers(pod: &Pod, ready: bool, state: &Value) -> Value {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let statuses = containers.map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "restartCount": 0,
            "ready": ready, "started": ready, "state": state,
        })
    });
    statuses.collect()
}

fn conditions(scheduled: bool, ready: bool, why_not: &str) -> Value {
    let condition = |kind: &str, is: bool| {
        let reason = if is { "" } else { why_not };
        let status = if is { "True" } else { "False" };
        json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": now()})
    };
    json!([
        condition("PodScheduled", scheduled),
        condition("Initialized", true),
        condition("ContainersReady", ready),
        condition("Ready", ready),
    ])
}

/// The end time of a container. The kubelet reports an end with a delay, and times have whole seconds. With an earlier
/// time, a container that ended by itself has ended before any deletion.
fn a_moment_ago() -> String {
    in_seconds(-1)
}

/// Creates the node if it is missing, and sets its status to ready.
async fn keep_node(client: &Client) {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = json!({"metadata": {"name": NODE}, "spec": {}});
    let node: Node = serde_json::from_value(node).unwrap();
    match nodes.create(&PostParams::default(), &node).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => return,
        other => drop(other.unwrap_or_else(|error| panic!("node: {error}"))),
    }
    renew(client).await.unwrap_or_else(|error| panic!("node: {error}"));
    let ready =
        json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now()});
    let status = json!({"status": {"conditions": [ready]}});
    nodes
        .patch_status(NODE, &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap_or_else(|error| panic!("node: {error}"));
}

/// Renews the node's Lease without end.
async fn keep_renewing(client: Client) {
    let mut heartbeat = tokio::time::interval(Duration::from_secs(10));
    loop {
        heartbeat.tick().await;
        let _ = renew(&client).await;
    }
}

async fn renew(client: &Client) -> kube::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE},
        "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": time},
    });
    leases.patch(NODE, &PatchParams::apply("town-tests").force(), &Patch::Apply(lease)).await.map(drop)
}
