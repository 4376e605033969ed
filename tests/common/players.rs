//! A played node: a control plane alone has no kubelet, so the test decides the fate of each pod.
//!
//! A setting of the players is in force when its future completes: the players then have no action under way that
//! began under an older setting. A story awaits each setting, so it never races with the players.
//!
//! The node is an object without a machine. The players renew its Lease, so no controller takes it for lost.
//! A pod must name a scheduler that does not exist (see [`super::story::template`]), so that a cluster with real
//! nodes leaves it to the players.

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

/// The node that played pods are bound to.
pub const NODE: &str = "played-by-the-test";

/// Pods that something is done with at the same time.
const HANDS: usize = 16;

/// The address of pods that nobody asks anything: one of those that lead nowhere (RFC 5737).
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// What the players do by themselves.
#[derive(Clone, Debug)]
struct Script {
    /// The number of changes of the script so far.
    version: u64,
    /// Take every new pod to Running and Ready.
    run: bool,
    /// Let pods that are asked to end do so.
    end: bool,
    /// Pods that do not end, whatever is asked of them.
    held: BTreeSet<String>,
    /// The address of pods that run by themselves.
    address: IpAddr,
}

/// The players of one namespace. Dropping them leaves its pods as they are.
pub struct Players {
    pods: Api<Pod>,
    script: watch::Sender<Script>,
    /// The oldest version of the script that the players still act by.
    in_force: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Players {
    /// Calls them. New pods run and become ready at once, and pods that are deleted end at once, until a setting
    /// changes that.
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

    /// Whether new pods run and become ready by themselves.
    pub fn run_new_pods(&self, run: bool) -> impl Future<Output = ()> {
        self.change(move |script| script.run = run)
    }

    /// Whether pods that are deleted end by themselves.
    pub fn end_pods(&self, end: bool) -> impl Future<Output = ()> {
        self.change(move |script| script.end = end)
    }

    /// Gives new pods this address.
    pub fn live_at(&self, address: IpAddr) -> impl Future<Output = ()> {
        self.change(move |script| script.address = address)
    }

    /// Lets a pod ignore its deletion, as a pod on a lost node does.
    pub fn hold(&self, pod: &str) -> impl Future<Output = ()> {
        self.change(move |script| _ = script.held.insert(pod.to_owned()))
    }

    /// Lets a held pod end.
    pub fn release(&self, pod: &str) -> impl Future<Output = ()> {
        self.change(move |script| _ = script.held.remove(pod))
    }

    /// Changes the script at once. The future completes when the change is in force.
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

    /// Waits until there is a pod of this name.
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

    /// Lets a pod run, not ready yet.
    pub async fn start(&self, name: &str) {
        self.bind(name).await;
        self.report(name, |pod| running(pod, false)).await;
    }

    /// Lets a pod run and be ready.
    pub async fn run(&self, name: &str) {
        self.bind(name).await;
        self.report(name, |pod| running(pod, true)).await;
    }

    /// Ends a pod's work well, with this termination message.
    pub async fn succeed(&self, name: &str, message: &str) {
        self.bind(name).await;
        self.report(name, |pod| ended(pod, 0, message, &a_moment_ago())).await;
    }

    /// Ends a pod's work with this exit code and termination message.
    pub async fn fail(&self, name: &str, exit_code: i32, message: &str) {
        self.bind(name).await;
        self.report(name, |pod| ended(pod, exit_code, message, &a_moment_ago())).await;
    }

    /// Ends a pod as one ends that was told to and takes it well: exit 0, after it was told.
    pub async fn obey(&self, name: &str) {
        self.report(name, |pod| ended(pod, 0, "", &now())).await;
    }

    /// Evicts a pod, as a node under pressure does.
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

    /// Lets no node take a pod, as a scheduler says it.
    pub async fn refuse(&self, name: &str, message: &str) {
        let unscheduled = json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastTransitionTime": now(),
        }]);
        self.report(name, |_| json!({"conditions": unscheduled})).await;
    }

    /// Lets a pod's containers wait, for this reason, on the node.
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

    /// Lets a pod's containers have ended this often, the last time like this, and wait to be started anew.
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

/// Plays the pods of a namespace until the players are dropped, and acknowledges each version of the script.
async fn play(pods: Api<Pod>, mut script: watch::Receiver<Script>, acknowledge: watch::Sender<u64>) {
    let mut stage: BTreeMap<String, Pod> = BTreeMap::new();
    let mut events = watcher(pods.clone(), watcher::Config::default()).default_backoff().boxed();
    // A request that failed is sent again a little later: the story may stop the API server.
    let mut again = tokio::time::interval(Duration::from_millis(500));
    let mut owed = BTreeSet::new();
    let mut due: BTreeSet<String> = BTreeSet::new();
    // One action at a time for each pod; the actions for different pods run side by side.
    let mut acts = FuturesUnordered::new();
    // Each pod with an action under way, and the version of the script that the action follows.
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

/// Does what the script says about one pod.
async fn act(pods: &Api<Pod>, pod: &Pod, script: &Script) -> kube::Result<()> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        // With no grace left the node has done its part; what holds the pod is somebody's finalizer.
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
            // Only if nothing has been said of it since: it may have been told to fail.
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
        // Bound already.
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}

async fn report(pods: &Api<Pod>, pod: &Pod, status: impl Fn(&Pod) -> Value) -> kube::Result<()> {
    patch_status(pods, pod, &status_patch(pod, &status(pod))).await
}

/// This status, for this very pod.
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

/// When a container ended whose end is reported now: reports come later, and times are whole seconds. So what
/// ended by itself has ended before anybody can ask it to.
fn a_moment_ago() -> String {
    in_seconds(-1)
}

/// Makes the node if it is not there, and says that it is well.
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

/// Renews the node's Lease for ever.
async fn keep_renewing(client: Client) {
    let mut heartbeat = tokio::time::interval(Duration::from_secs(10));
    loop {
        heartbeat.tick().await;
        let _ = renew(&client).await;
    }
}

/// Renews the node's Lease.
async fn renew(client: &Client) -> kube::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE},
        "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": time},
    });
    leases.patch(NODE, &PatchParams::apply("town-tests").force(), &Patch::Apply(lease)).await.map(drop)
}
