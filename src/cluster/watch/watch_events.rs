//! The effects of watch events: an event updates the index of its kind, and enqueues the affected objects.

use std::collections::HashSet;
use std::fmt::Debug;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use crate::api::condition::{self, reason};
use crate::api::{Agent, Role, Tombstone, TombstoneKind, Town, names};
use crate::cluster::cache::index::{Group, Index, Indexed};
use crate::cluster::cleanup::orphans::{left_by, seems_orphaned};
use crate::cluster::context::Cluster;
use crate::cluster::kinds::decode::{Decode, Decoded, Undecodable};
use crate::cluster::project::{
    claim_facts, kept_agent, kept_town, pod_facts, service_facts, tombstone_facts,
};
use crate::cluster::scheduling::requeue::Look;
use crate::lifecycle::{
    ChildFacts, ClaimFacts, ObjectKey, OwnerId, PodFacts, ServiceFacts, TombstoneFacts, Uid, label,
    tombstone_name,
};

/// A kind with a watch.
pub trait Followed: Resource<DynamicType = ()> + Clone + Debug + Decode + Send + 'static {
    /// The stored form of an object.
    type Kept: Indexed + PartialEq;
    /// The index of the kind.
    fn index(cluster: &Cluster) -> &Index<Self::Kept>;
    /// Converts an object to its stored form; `None`: the object is not stored.
    fn kept(self) -> Option<Self::Kept>;
    /// The objects that a change of this object affects.
    fn concerned(cluster: &Cluster, changed: &Self::Kept) -> Vec<Look>;
    /// The labels by which an object of this kind names its owners; `None`: the kind is no child.
    fn child(_kept: &Self::Kept) -> Option<Child> {
        None
    }
    /// Runs when an object leaves the index.
    fn goes(_cluster: &Cluster, _kept: &Self::Kept) {}
    /// Whether the new state has information that the old state had not.
    fn says_more(_now: &Self::Kept, _before: &Self::Kept) -> bool {
        true
    }
}

impl Followed for Town {
    type Kept = Self;

    fn index(cluster: &Cluster) -> &Index<Self> {
        &cluster.towns
    }

    fn kept(self) -> Option<Self> {
        Some(kept_town(self.observed()))
    }

    fn concerned(cluster: &Cluster, changed: &Self) -> Vec<Look> {
        let agents = cluster.agents.of(&Group::NamesTown(changed.key()));
        let agents = agents.iter().map(|agent| Look::Agent(agent.key()));
        let record = record_of_gone::<Self>(cluster, TombstoneKind::Town, changed);
        let group = OwnerId::of(&changed.metadata).map(Group::Town);
        let left = group.filter(|group| cluster.towns.of(group).is_empty());
        let left = left.into_iter().flat_map(|group| left_by(cluster, &group));
        std::iter::once(Look::Town(changed.key())).chain(agents).chain(record).chain(left).collect()
    }

    /// During a destruction this process writes the status itself, and has already scheduled the next reconcile. Such
    /// a change has no new information.
    fn says_more(now: &Self, before: &Self) -> bool {
        let (now, before) = (&now.metadata, &before.metadata);
        let same = now.uid == before.uid
            && now.generation == before.generation
            && now.deletion_timestamp == before.deletion_timestamp
            && now.labels == before.labels
            && now.annotations == before.annotations
            && now.finalizers == before.finalizers;
        !(is_going(now) && same)
    }
}

impl Followed for Agent {
    type Kept = Self;

    fn index(cluster: &Cluster) -> &Index<Self> {
        &cluster.agents
    }

    fn kept(self) -> Option<Self> {
        Some(kept_agent(self.observed()))
    }

    fn concerned(cluster: &Cluster, changed: &Self) -> Vec<Look> {
        let namespace = changed.namespace().unwrap_or_default();
        let town = ObjectKey { namespace, name: changed.spec.town_name.clone() };
        let mut looks = vec![Look::Agent(changed.key())];
        let is_there = cluster.agents.get(&changed.key()).is_some();
        if !(is_there && cluster.towns.get(&town).is_some_and(|town| only_awaits(&town, changed))) {
            looks.push(Look::Town(town.clone()));
        }
        if may_make_room(changed) {
            let peers = cluster.agents.of(&Group::NamesTown(town));
            let wait = peers.iter().filter(|peer| waits(peer) && same_place(peer, changed));
            looks.extend(wait.map(|peer| Look::Agent(peer.key())));
        }
        looks.extend(record_of_gone::<Self>(cluster, TombstoneKind::Agent, changed));
        let group = OwnerId::of(&changed.metadata).map(Group::Agent);
        if let Some(group) = group.filter(|group| cluster.agents.of(group).is_empty()) {
            looks.extend(left_by(cluster, &group));
        }
        looks
    }

    fn child(kept: &Self) -> Option<Child> {
        let town = label(&kept.metadata, names::TOWN_UID).map(Uid::new);
        Some(Child { key: kept.key(), uid: Uid::of(&kept.metadata)?, owners: [town, None] })
    }
}

impl Followed for Pod {
    type Kept = PodFacts;

    fn index(cluster: &Cluster) -> &Index<PodFacts> {
        &cluster.pods
    }

    fn kept(self) -> Option<PodFacts> {
        pod_facts(&self)
    }

    fn concerned(cluster: &Cluster, changed: &PodFacts) -> Vec<Look> {
        let PodFacts { key, uid, town_uid, agent_uid, .. } = changed;
        let is_there = cluster.pods.get(key).is_some_and(|pod| pod.uid == *uid);
        owners_or_orphan(cluster, key, is_there, town_uid.as_ref(), agent_uid.as_ref())
    }

    fn child(kept: &PodFacts) -> Option<Child> {
        let PodFacts { key, uid, town_uid, agent_uid, .. } = kept.clone();
        Some(Child { key, uid, owners: [town_uid, agent_uid] })
    }

    fn goes(cluster: &Cluster, kept: &PodFacts) {
        cluster.runs.ended(kept, cluster.now());
    }
}

impl Followed for PersistentVolumeClaim {
    type Kept = ClaimFacts;

    fn index(cluster: &Cluster) -> &Index<ClaimFacts> {
        &cluster.claims
    }

    fn kept(self) -> Option<ClaimFacts> {
        claim_facts(&self)
    }

    fn concerned(cluster: &Cluster, changed: &ClaimFacts) -> Vec<Look> {
        let ChildFacts { key, uid, town_uid, agent_uid, .. } = &changed.child;
        let is_there = cluster.claims.get(key).is_some_and(|claim| claim.child.uid == *uid);
        owners_or_orphan(cluster, key, is_there, town_uid.as_ref(), agent_uid.as_ref())
    }

    fn child(kept: &ClaimFacts) -> Option<Child> {
        Some(Child::of(&kept.child))
    }
}

impl Followed for Service {
    type Kept = ServiceFacts;

    fn index(cluster: &Cluster) -> &Index<ServiceFacts> {
        &cluster.services
    }

    fn kept(self) -> Option<ServiceFacts> {
        service_facts(&self)
    }

    fn concerned(cluster: &Cluster, changed: &ServiceFacts) -> Vec<Look> {
        owners(cluster, &changed.child.key.namespace, changed.child.town_uid.as_ref(), None)
    }

    fn child(kept: &ServiceFacts) -> Option<Child> {
        Some(Child::of(&kept.child))
    }
}

impl Followed for Tombstone {
    type Kept = TombstoneFacts;

    fn index(cluster: &Cluster) -> &Index<TombstoneFacts> {
        &cluster.tombstones
    }

    fn kept(self) -> Option<TombstoneFacts> {
        tombstone_facts(&self)
    }

    fn concerned(_: &Cluster, changed: &TombstoneFacts) -> Vec<Look> {
        // A town of the same name may wait for the deletion of the Tombstone.
        vec![Look::Tombstone(changed.key.clone()), Look::Town(changed.of.key.clone())]
    }
}

/// A child, with the owners that its labels name.
pub struct Child {
    key: ObjectKey,
    uid: Uid,
    owners: [Option<Uid>; 2],
}

impl Child {
    fn of(child: &ChildFacts) -> Self {
        let ChildFacts { key, uid, town_uid, agent_uid, .. } = child.clone();
        Self { key, uid, owners: [town_uid, agent_uid] }
    }

    /// Whether a town or agent in another namespace has one of the UIDs.
    fn is_misplaced(&self, cluster: &Cluster) -> bool {
        is_of_another_namespace(cluster, &self.key.namespace, self.owners.iter().flatten())
    }
}

/// Whether a town or agent outside of this namespace has one of the UIDs.
pub(crate) fn is_of_another_namespace<'a>(
    cluster: &Cluster,
    namespace: &str,
    owners: impl IntoIterator<Item = &'a Uid>,
) -> bool {
    owners.into_iter().any(|uid| {
        let group = Group::Anywhere(uid.clone());
        let elsewhere = |key: ObjectKey| key.namespace != namespace;
        cluster.towns.of(&group).iter().any(|town| elsewhere(town.key()))
            || cluster.agents.of(&group).iter().any(|agent| elsewhere(agent.key()))
    })
}

/// Reports an object that carries the UID of a town or agent in another namespace. The object has no owner here: the
/// operator reads nothing from it, and neither changes nor deletes it.
fn report_if_misplaced<K: Followed>(cluster: &Cluster, kept: &K::Kept) {
    let Some(child) = K::child(kept).filter(|child| child.is_misplaced(cluster)) else { return };
    let meta = ObjectMeta {
        namespace: Some(child.key.namespace.clone()),
        name: Some(child.key.name.clone()),
        uid: Some(child.uid.to_string()),
        ..ObjectMeta::default()
    };
    let note = format!(
        "this {} carries the label {} or {} of an object in another namespace: it belongs to no town, and the operator \
         ignores it. Delete it, or remove its labels of gastown.dev.",
        K::kind(&()),
        names::TOWN_UID,
        names::AGENT_UID
    );
    cluster.reports.add::<K>(&meta, reason::OWNER_ELSEWHERE, &note, cluster.now());
}

/// Reports every object that carries the UID of a town or agent in another namespace.
pub(crate) fn report_misplaced(cluster: &Cluster) {
    fn all<K: Followed>(cluster: &Cluster) {
        K::index(cluster).all().iter().for_each(|kept| report_if_misplaced::<K>(cluster, kept));
    }
    all::<Pod>(cluster);
    all::<PersistentVolumeClaim>(cluster);
    all::<Service>(cluster);
    all::<Agent>(cluster);
}

/// The owners that a change of a child affects: its agent, and its town. The town must see the end of all its pods
/// before it sleeps.
pub(crate) fn owners(
    cluster: &Cluster,
    namespace: &str,
    town: Option<&Uid>,
    agent: Option<&Uid>,
) -> Vec<Look> {
    let in_namespace = |uid: &Uid| OwnerId::new(namespace, uid);
    let agents: Vec<_> =
        agent.into_iter().flat_map(|uid| cluster.agents.of(&Group::Agent(in_namespace(uid)))).collect();
    let towns = town.into_iter().flat_map(|uid| cluster.towns.of(&Group::Town(in_namespace(uid))));
    let towns = towns.filter(|town| !agents.iter().any(|agent| only_awaits(town, agent)));
    let towns = towns.map(|town| Look::Town(town.key()));
    agents.iter().map(|agent| Look::Agent(agent.key())).chain(towns).collect()
}

/// The objects that a change of a pod or claim affects. If the watches show no owner, the child itself is enqueued:
/// its owners may be gone.
fn owners_or_orphan(
    cluster: &Cluster,
    key: &ObjectKey,
    is_there: bool,
    town: Option<&Uid>,
    agent: Option<&Uid>,
) -> Vec<Look> {
    if is_there && seems_orphaned(cluster, &key.namespace, town, agent) {
        return vec![Look::Child(key.clone())];
    }
    owners(cluster, &key.namespace, town, agent)
}

/// Whether a town waits only for the end of an agent, and not for the steps before: both are being destroyed.
fn only_awaits(town: &Town, agent: &Agent) -> bool {
    is_going(&town.metadata) && is_going(&agent.metadata)
}

/// The record of an object that is gone. From now on the record may be deleted; before, it must stay.
fn record_of_gone<K: Followed<Kept = K> + Indexed>(
    cluster: &Cluster,
    kind: TombstoneKind,
    changed: &K,
) -> Option<Look> {
    let uid = Uid::of(changed.meta())?;
    let there = K::index(cluster).get(&changed.key()).is_some_and(|now| now.uid().as_ref() == Some(&uid));
    let key = ObjectKey { namespace: String::new(), name: tombstone_name(kind, &uid) };
    (!there && cluster.tombstones.get(&key).is_some()).then_some(Look::Tombstone(key))
}

fn is_going(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

impl Cluster {
    /// Applies a watch event.
    pub fn follow<K: Followed>(&self, event: Event<Decoded<K>>) {
        let index = K::index(self);
        match event {
            Event::Init => index.relist(),
            Event::InitApply(object) => {
                let revision = revision(&object);
                if let Some(object) = self.read_watched(object) {
                    index.incoming(object, revision);
                }
            }
            Event::InitDone => {
                let (concerned, gone) = index.relisted();
                let uids: HashSet<&Uid> = gone.iter().collect();
                let has_gone = |kept: &K::Kept| kept.uid().is_some_and(|uid| uids.contains(&uid));
                concerned.iter().filter(|kept| has_gone(kept)).for_each(|kept| K::goes(self, kept));
                for uid in &gone {
                    self.forget(uid);
                }
                for object in &concerned {
                    self.tell::<K>(object);
                }
            }
            Event::Apply(object) => {
                let revision = revision(&object);
                let (key, uid) = (ObjectKey::of(object.meta()), Uid::of(object.meta()));
                if let Some(object) = self.read_watched(object) {
                    let changed = index.apply(object, revision);
                    changed.first().inspect(|now| report_if_misplaced::<K>(self, now));
                    if !matches!(&changed[..], [now, before] if !K::says_more(now, before)) {
                        for object in &changed {
                            self.tell::<K>(object);
                        }
                    }
                } else {
                    // The operator does not act on an object that it cannot decode.
                    drop(index.delete(&key, revision));
                    if let Some(uid) = uid {
                        self.starts.release(&uid, self.now());
                    }
                }
            }
            Event::Delete(object) => {
                let key = ObjectKey::of(object.meta());
                index.get(&key).inspect(|kept| K::goes(self, kept));
                // The object leaves the index first, because state for an object in the index must not be forgotten.
                let before = index.delete(&key, revision(&object));
                if let Some(uid) = Uid::of(object.meta()) {
                    self.forget(&uid);
                }
                if let Some(before) = before {
                    self.tell::<K>(&before);
                }
            }
        }
    }

    fn tell<K: Followed>(&self, changed: &K::Kept) {
        for look in K::concerned(self, changed) {
            self.looks.ask(look);
        }
    }

    /// The stored form of an object. If only the metadata can be decoded, the operator reports the object and ignores
    /// it, so that it does not block other objects.
    fn read_watched<K: Followed>(&self, object: Decoded<K>) -> Option<K::Kept> {
        match object.0 {
            Ok(object) => object.kept(),
            Err(Undecodable { metadata, error }) => {
                let note = format!("the operator cannot read this object, and ignores it: {error}");
                self.reports.add::<K>(&metadata, reason::UNREADABLE, &note, self.now());
                None
            }
        }
    }
}

/// Whether a change of this agent can free a place for another agent. A waiting agent holds no place.
fn may_make_room(agent: &Agent) -> bool {
    agent.spec.role != Role::Crew && (!waits(agent) || is_going(&agent.metadata))
}

/// Whether the agent waits for its role, or for a place on its rig, by its own status.
fn waits(agent: &Agent) -> bool {
    agent.status.iter().flat_map(|status| &status.conditions).any(|c| {
        c.type_ == condition::READY && matches!(c.reason.as_str(), reason::ROLE_TAKEN | reason::RIG_FULL)
    })
}

/// Whether two agents of a town compete for the same place: the place of the mayor, or a place on a rig.
fn same_place(one: &Agent, other: &Agent) -> bool {
    let role = one.spec.role;
    role == other.spec.role && (role == Role::Mayor || one.spec.rig == other.spec.rig)
}

fn revision<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref().and_then(|rv| rv.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::names;

    fn agent(spec: Value, ready_reason: &str) -> Agent {
        let mut spec = spec;
        spec["townName"] = json!("gas");
        let ready = json!({"type": "Ready", "status": "False", "reason": ready_reason, "message": "",
            "lastTransitionTime": "2030-01-01T00:00:00Z"});
        let agent = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "a"},
            "spec": spec, "status": {"conditions": [ready]}});
        serde_json::from_value(agent).unwrap()
    }

    #[test]
    fn who_waits_is_looked_at_when_one_in_the_same_place_changes() {
        let polecat = |rig: &str| agent(json!({"role": "Polecat", "rig": rig}), reason::RIG_FULL);
        let refinery = |rig: &str| agent(json!({"role": "Refinery", "rig": rig}), reason::ROLE_TAKEN);
        let mayor = |rig: Value| agent(json!({"role": "Mayor", "rig": rig}), reason::ROLE_TAKEN);
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
            let one = agent(json!({"role": "Polecat", "rig": "core"}), why);
            assert_eq!(waits(&one), waiting, "{why}");
            assert_eq!(may_make_room(&one), !waiting, "{why}");
        }
    }

    #[test]
    fn one_that_waits_makes_room_in_the_queue_only_when_it_goes() {
        let mut waiting = agent(json!({"role": "Polecat", "rig": "core"}), reason::RIG_FULL);
        assert!(!may_make_room(&waiting));
        waiting.metadata.deletion_timestamp = Some(
            "2030-01-01T00:00:00Z".parse().map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time).unwrap(),
        );
        assert!(may_make_room(&waiting));
        assert!(!may_make_room(&agent(json!({"role": "Crew"}), reason::RUNNING)), "nobody waits for crew");
    }

    #[test]
    fn of_a_town_that_is_destroyed_only_what_others_say_is_news() {
        let town = |metadata: Value, status: Value| -> Town {
            let mut town = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "status": status,
                "metadata": {"name": "gas", "generation": 2, "resourceVersion": "1"},
                "spec": {"template": {"spec": {"containers": []}}}});
            town["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
            serde_json::from_value(town).unwrap()
        };
        let going = json!({"deletionTimestamp": "2030-01-01T00:00:00Z"});
        let (idle, asleep) = (json!({"phase": "Idle"}), json!({"phase": "Asleep"}));
        let before = town(going.clone(), idle.clone());
        assert!(!Town::says_more(&town(going.clone(), asleep.clone()), &before));
        for told in [
            json!({"annotations": {names::ABANDON: "storage"}}),
            json!({"labels": {"a": "b"}}),
            json!({"finalizers": ["other.example/keeps"]}),
            json!({"generation": 3}),
            json!({"uid": "another"}),
        ] {
            let mut metadata = going.clone();
            metadata.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
            assert!(Town::says_more(&town(metadata, idle.clone()), &before), "{told}");
        }
        let alive = json!({});
        assert!(Town::says_more(&town(alive.clone(), asleep), &town(alive.clone(), idle.clone())));
        assert!(Town::says_more(&before, &town(alive, idle)), "its deletion is news");
    }
}
