//! The watches: one for each kind, each with a back-off of its own, so that one that fails stops no
//! other. Each feeds its index and asks for a look at whom the change concerns.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::lists::Listing;
use super::queue::{Known, Queue};
use crate::api::condition::{self, reason};
use crate::api::{Agent, Role, Town, names};
use crate::cluster::{Cluster, Group, Index, Indexed, claim_facts, pod_facts, service_facts};
use crate::lifecycle::{ClaimFacts, ObjectKey, PodFacts, ServiceFacts, Uid};

/// Who is told of changes.
#[derive(Clone)]
pub(super) struct Queues {
    pub(super) towns: Queue<Town>,
    pub(super) agents: Queue<Agent>,
}

impl Queues {
    /// From now on every change is looked at, and everything that is there once.
    pub(super) fn begin(&self, cluster: &Cluster) {
        self.towns.begin();
        self.agents.begin();
        cluster.towns.all().iter().for_each(|town| self.towns.look_at(&town.key()));
        cluster.agents.all().iter().for_each(|agent| self.agents.look_at(&agent.key()));
    }

    fn town_of_uid(&self, cluster: &Cluster, uid: Option<&Uid>) {
        for town in uid.into_iter().flat_map(|uid| cluster.towns.of(&Group::Town(uid.clone()))) {
            self.towns.look_at(&town.key());
        }
    }

    fn agent_of_uid(&self, cluster: &Cluster, uid: Option<&Uid>) {
        for agent in uid.into_iter().flat_map(|uid| cluster.agents.of(&Group::Agent(uid.clone()))) {
            self.agents.look_at(&agent.key());
        }
    }

    /// A child changed: its agent, and its town, which must see all of its pods gone before it sleeps.
    fn child(&self, cluster: &Cluster, town: Option<&Uid>, agent: Option<&Uid>) {
        self.agent_of_uid(cluster, agent);
        self.town_of_uid(cluster, town);
    }
}

/// Watches towns.
pub(super) async fn towns(
    cluster: Arc<Cluster>,
    queues: Queues,
    mut known: Known<Town>,
    stop: CancellationToken,
    listing: Listing,
) {
    let tell = |town: &Town| {
        queues.towns.look_at(&town.key());
        for agent in cluster.agents.of(&Group::NamesTown(town.key())) {
            queues.agents.look_at(&agent.key());
        }
    };
    let watch = Watch { index: &cluster.towns, project: |town: Town| Some(town), tell, cluster: &cluster };
    watch
        .run(Api::all(cluster.client.clone()), watcher::Config::default(), stop, |e| known.follow(e), listing)
        .await;
}

/// Watches agents.
pub(super) async fn agents(
    cluster: Arc<Cluster>,
    queues: Queues,
    mut known: Known<Agent>,
    stop: CancellationToken,
    listing: Listing,
) {
    let tell = |agent: &Agent| {
        queues.agents.look_at(&agent.key());
        let namespace = agent.namespace().unwrap_or_default();
        let town = ObjectKey { namespace, name: agent.spec.town.clone() };
        queues.towns.look_at(&town);
        if may_make_room(agent) {
            let peers = cluster.agents.of(&Group::NamesTown(town));
            for peer in peers.iter().filter(|peer| waits(peer) && same_place(peer, agent)) {
                queues.agents.look_at(&peer.key());
            }
        }
    };
    let watch =
        Watch { index: &cluster.agents, project: |agent: Agent| Some(agent), tell, cluster: &cluster };
    watch
        .run(Api::all(cluster.client.clone()), watcher::Config::default(), stop, |e| known.follow(e), listing)
        .await;
}

/// Watches the pods of this installation.
pub(super) async fn pods(cluster: Arc<Cluster>, queues: Queues, stop: CancellationToken, listing: Listing) {
    let tell = |pod: &PodFacts| queues.child(&cluster, pod.town_uid.as_ref(), pod.agent_uid.as_ref());
    let watch = Watch { index: &cluster.pods, project: |pod: Pod| pod_facts(&pod), tell, cluster: &cluster };
    watch.run(Api::all(cluster.client.clone()), ours(&cluster), stop, |_| (), listing).await;
}

/// Watches the volume claims of this installation.
pub(super) async fn claims(cluster: Arc<Cluster>, queues: Queues, stop: CancellationToken, listing: Listing) {
    let tell = |claim: &ClaimFacts| queues.child(&cluster, claim.town_uid.as_ref(), claim.agent_uid.as_ref());
    let project = |claim: PersistentVolumeClaim| claim_facts(&claim);
    let watch = Watch { index: &cluster.claims, project, tell, cluster: &cluster };
    watch.run(Api::all(cluster.client.clone()), ours(&cluster), stop, |_| (), listing).await;
}

/// Watches the Services of this installation.
pub(super) async fn services(
    cluster: Arc<Cluster>,
    queues: Queues,
    stop: CancellationToken,
    listing: Listing,
) {
    let tell = |service: &ServiceFacts| queues.town_of_uid(&cluster, service.child.town_uid.as_ref());
    let project = |service: Service| service_facts(&service);
    let watch = Watch { index: &cluster.services, project, tell, cluster: &cluster };
    watch.run(Api::all(cluster.client.clone()), ours(&cluster), stop, |_| (), listing).await;
}

/// Whether a change of this agent can let another one in: not while it waits itself.
fn may_make_room(agent: &Agent) -> bool {
    agent.spec.role != Role::Crew && (!waits(agent) || agent.metadata.deletion_timestamp.is_some())
}

/// Whether the agent waits for its role, or for its turn on its rig, by its own status.
fn waits(agent: &Agent) -> bool {
    agent.status.iter().flat_map(|status| &status.conditions).any(|c| {
        c.type_ == condition::READY && matches!(c.reason.as_str(), reason::ROLE_TAKEN | reason::RIG_FULL)
    })
}

/// Whether two agents of a town want the same: its one mayor's place, or one of a rig.
fn same_place(one: &Agent, other: &Agent) -> bool {
    let role = one.spec.role;
    role == other.spec.role && (role == Role::Mayor || one.spec.rig == other.spec.rig)
}

fn ours(cluster: &Cluster) -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", names::INSTALL, cluster.install.0))
}

/// One kind's watch: its index, what is kept of an object, whom a change concerns.
struct Watch<'a, T, P, N> {
    index: &'a Index<T>,
    project: P,
    tell: N,
    cluster: &'a Cluster,
}

impl<T: Indexed, P, N> Watch<'_, T, P, N> {
    async fn run<K>(
        &self,
        api: Api<DeserializeGuard<K>>,
        config: watcher::Config,
        stop: CancellationToken,
        mut follow: impl FnMut(&Event<DeserializeGuard<K>>),
        mut listing: Listing,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
        P: Fn(K) -> Option<T>,
        N: Fn(&T),
    {
        let kind = K::kind(&());
        let mut failing = false;
        while !stop.is_cancelled() {
            let round = listing.begin();
            let mut listed = false;
            let events = watcher(api.clone(), config.clone()).default_backoff();
            let mut stream = events.take_until(stop.cancelled()).boxed();
            loop {
                let event = tokio::select! {
                    event = stream.next() => event,
                    () = listing.superseded() => break,
                };
                match event {
                    None => break,
                    Some(Ok(event)) => {
                        if failing {
                            tracing::info!(%kind, "the watch is back");
                        }
                        failing = false;
                        follow(&event);
                        let done = matches!(event, Event::InitDone);
                        Box::pin(self.take(event)).await;
                        if done && !std::mem::replace(&mut listed, true) {
                            listing.ended(round);
                        }
                    }
                    Some(Err(error)) => {
                        if !failing {
                            tracing::warn!(%kind, %error, "the watch is interrupted");
                        }
                        failing = true;
                        // As the answer to a new watch, 410 would be asked for again and again: list anew.
                        if gone(&error) {
                            break;
                        }
                    }
                }
            }
        }
    }

    async fn take<K>(&self, event: Event<DeserializeGuard<K>>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug,
        P: Fn(K) -> Option<T>,
        N: Fn(&T),
    {
        match event {
            Event::Init => self.index.relist(),
            Event::InitApply(object) => {
                let revision = revision(&object);
                if let Some(object) = self.read(object).await {
                    self.index.incoming(object, revision);
                }
            }
            Event::InitDone => {
                let (concerned, gone) = self.index.relisted();
                for uid in &gone {
                    self.cluster.forget(uid);
                }
                for object in &concerned {
                    (self.tell)(object);
                }
            }
            Event::Apply(object) => {
                let revision = revision(&object);
                let key = ObjectKey::of(object.meta());
                match self.read(object).await {
                    Some(object) => {
                        self.index.apply(object, revision).iter().for_each(|object| (self.tell)(object));
                    }
                    // What cannot be read is not acted on.
                    None => drop(self.index.delete(&key, revision)),
                }
            }
            Event::Delete(object) => {
                // It leaves the index first: what is found there is not forgotten yet.
                let before = self.index.delete(&ObjectKey::of(object.meta()), revision(&object));
                if let Some(uid) = Uid::of(object.meta()) {
                    self.cluster.forget(&uid);
                }
                if let Some(before) = before {
                    (self.tell)(&before);
                }
            }
        }
    }

    /// What is kept of an object. One that cannot be decoded stops no other: it is named, in the log and
    /// in an event, and left alone.
    async fn read<K>(&self, object: DeserializeGuard<K>) -> Option<T>
    where
        K: Resource<DynamicType = ()> + Clone + Debug,
        P: Fn(K) -> Option<T>,
    {
        match object.0 {
            Ok(object) => (self.project)(object),
            Err(bad) => {
                let kind = K::kind(&());
                let key = ObjectKey::of(&bad.metadata);
                tracing::error!(%kind, object = %key, error = %bad.error, "cannot be read, and is left alone");
                let note = format!(
                    "this object cannot be read and is left alone until it is corrected: {}",
                    bad.error
                );
                let whole = DeserializeGuard::<K>(Err(bad));
                self.cluster.events.say(&whole, true, "Unreadable", &note).await;
                None
            }
        }
    }
}

fn revision<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref().and_then(|rv| rv.parse().ok())
}

fn gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn agent(spec: Value, ready_reason: &str) -> Agent {
        let mut spec = spec;
        spec["town"] = json!("gas");
        let ready = json!({"type": "Ready", "status": "False", "reason": ready_reason, "message": "",
            "lastTransitionTime": "2030-01-01T00:00:00Z"});
        let agent = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "a"},
            "spec": spec, "status": {"conditions": [ready]}});
        serde_json::from_value(agent).unwrap()
    }

    #[test]
    fn who_waits_is_looked_at_when_one_in_the_same_place_changes() {
        let polecat = |rig: &str| agent(json!({"role": "polecat", "rig": rig}), reason::RIG_FULL);
        let refinery = |rig: &str| agent(json!({"role": "refinery", "rig": rig}), reason::ROLE_TAKEN);
        let mayor = |rig: Value| agent(json!({"role": "mayor", "rig": rig}), reason::ROLE_TAKEN);
        assert!(same_place(&polecat("core"), &polecat("core")));
        assert!(!same_place(&polecat("core"), &polecat("docs")));
        assert!(!same_place(&polecat("core"), &refinery("core")));
        assert!(same_place(&mayor(Value::Null), &mayor(json!("core"))), "a town has one mayor");
        for (waiting, why) in [
            (true, reason::ROLE_TAKEN),
            (true, reason::RIG_FULL),
            (false, reason::STARTING),
            (false, reason::DONE),
        ] {
            let one = agent(json!({"role": "polecat", "rig": "core"}), why);
            assert_eq!(waits(&one), waiting, "{why}");
            assert_eq!(may_make_room(&one), !waiting, "{why}");
        }
    }

    #[test]
    fn one_that_waits_makes_room_in_the_queue_only_when_it_goes() {
        let mut waiting = agent(json!({"role": "polecat", "rig": "core"}), reason::RIG_FULL);
        assert!(!may_make_room(&waiting));
        waiting.metadata.deletion_timestamp = Some(
            "2030-01-01T00:00:00Z".parse().map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time).unwrap(),
        );
        assert!(may_make_room(&waiting));
        assert!(!may_make_room(&agent(json!({"role": "crew"}), reason::RUNNING)), "nobody waits for crew");
    }
}
