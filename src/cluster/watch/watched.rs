//! The kinds with a watch: their stored form, and the effects of their changes.

use crate::cluster::cache::caches::Caches;
use crate::cluster::cache::owners::{is_going, is_of_another_namespace, left_by, only_awaits, owners};
use crate::cluster::cache::runs::Runs;
use crate::cluster::watch::affected::{may_make_room, owners_or_orphan, record_of_gone, waiting_peers};
use k8s_openapi::jiff::Timestamp;
use std::fmt::Debug;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::Resource;

use crate::api::{Agent, Tombstone, TombstoneKind, Town, names};
use crate::cluster::cache::index::{Group, Index, Indexed};
use crate::cluster::kinds::decode::Decode;
use crate::cluster::scheduling::requeue::Look;
use crate::lifecycle::{
    ChildFacts, ClaimFacts, ObjectKey, OwnerId, PodFacts, ServiceFacts, TombstoneFacts, Uid, label, town_key,
};
use crate::resources::{claim_facts, kept_agent, kept_town, pod_facts, service_facts, tombstone_facts};

/// A kind with a watch.
pub trait Followed: Resource<DynamicType = ()> + Clone + Debug + Decode + Send + 'static {
    /// The stored form of an object.
    type Kept: Indexed + PartialEq;
    /// The index of the kind.
    fn index(caches: &Caches) -> &Index<Self::Kept>;
    /// Converts an object to its stored form; `None`: the object is not stored.
    fn kept(self) -> Option<Self::Kept>;
    /// The objects that a change of this object affects.
    fn concerned(caches: &Caches, changed: &Self::Kept) -> Vec<Look>;
    /// The labels by which an object of this kind names its owners; `None`: the kind is no child.
    fn child(_kept: &Self::Kept) -> Option<Child> {
        None
    }
    /// Runs when an object leaves the index.
    fn goes(_runs: &Runs, _kept: &Self::Kept, _now: Timestamp) {}
    /// Whether the new state has information that the old state had not.
    fn says_more(_now: &Self::Kept, _before: &Self::Kept) -> bool {
        true
    }
}

impl Followed for Town {
    type Kept = Self;

    fn index(caches: &Caches) -> &Index<Self> {
        &caches.towns
    }

    fn kept(self) -> Option<Self> {
        Some(kept_town(self.observed()))
    }

    fn concerned(caches: &Caches, changed: &Self) -> Vec<Look> {
        let agents = caches.agents.of(&Group::NamesTown(changed.key()));
        let agents = agents.iter().map(|agent| Look::Agent(agent.key()));
        let record = record_of_gone(caches, Self::index(caches), TombstoneKind::Town, changed);
        let group = OwnerId::of(&changed.metadata).map(Group::Town);
        let left = group.filter(|group| caches.towns.of(group).is_empty());
        let left = left.into_iter().flat_map(|group| left_by(caches, &group));
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

    fn index(caches: &Caches) -> &Index<Self> {
        &caches.agents
    }

    fn kept(self) -> Option<Self> {
        Some(kept_agent(self.observed()))
    }

    fn concerned(caches: &Caches, changed: &Self) -> Vec<Look> {
        let town = town_key(changed);
        let mut looks = vec![Look::Agent(changed.key())];
        let is_there = caches.agents.get(&changed.key()).is_some();
        if !(is_there && caches.towns.get(&town).is_some_and(|town| only_awaits(&town, changed))) {
            looks.push(Look::Town(town));
        }
        if may_make_room(changed) {
            looks.extend(waiting_peers(caches, changed));
        }
        looks.extend(record_of_gone(caches, Self::index(caches), TombstoneKind::Agent, changed));
        let group = OwnerId::of(&changed.metadata).map(Group::Agent);
        if let Some(group) = group.filter(|group| caches.agents.of(group).is_empty()) {
            looks.extend(left_by(caches, &group));
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

    fn index(caches: &Caches) -> &Index<PodFacts> {
        &caches.pods
    }

    fn kept(self) -> Option<PodFacts> {
        pod_facts(&self)
    }

    fn concerned(caches: &Caches, changed: &PodFacts) -> Vec<Look> {
        let PodFacts { key, uid, town_uid, agent_uid, .. } = changed;
        let is_there = caches.pods.get(key).is_some_and(|pod| pod.uid == *uid);
        owners_or_orphan(caches, key, is_there, town_uid.as_ref(), agent_uid.as_ref())
    }

    fn child(kept: &PodFacts) -> Option<Child> {
        let PodFacts { key, uid, town_uid, agent_uid, .. } = kept.clone();
        Some(Child { key, uid, owners: [town_uid, agent_uid] })
    }

    fn goes(runs: &Runs, kept: &PodFacts, now: Timestamp) {
        runs.ended(kept, now);
    }
}

impl Followed for PersistentVolumeClaim {
    type Kept = ClaimFacts;

    fn index(caches: &Caches) -> &Index<ClaimFacts> {
        &caches.claims
    }

    fn kept(self) -> Option<ClaimFacts> {
        claim_facts(&self)
    }

    fn concerned(caches: &Caches, changed: &ClaimFacts) -> Vec<Look> {
        let ChildFacts { key, uid, town_uid, agent_uid, .. } = &changed.child;
        let is_there = caches.claims.get(key).is_some_and(|claim| claim.child.uid == *uid);
        owners_or_orphan(caches, key, is_there, town_uid.as_ref(), agent_uid.as_ref())
    }

    fn child(kept: &ClaimFacts) -> Option<Child> {
        Some(Child::of(&kept.child))
    }
}

impl Followed for Service {
    type Kept = ServiceFacts;

    fn index(caches: &Caches) -> &Index<ServiceFacts> {
        &caches.services
    }

    fn kept(self) -> Option<ServiceFacts> {
        service_facts(&self)
    }

    fn concerned(caches: &Caches, changed: &ServiceFacts) -> Vec<Look> {
        owners(caches, &changed.child.key.namespace, changed.child.town_uid.as_ref(), None)
    }

    fn child(kept: &ServiceFacts) -> Option<Child> {
        Some(Child::of(&kept.child))
    }
}

impl Followed for Tombstone {
    type Kept = TombstoneFacts;

    fn index(caches: &Caches) -> &Index<TombstoneFacts> {
        &caches.tombstones
    }

    fn kept(self) -> Option<TombstoneFacts> {
        tombstone_facts(&self)
    }

    fn concerned(_: &Caches, changed: &TombstoneFacts) -> Vec<Look> {
        // A town of the same name may wait for the deletion of the Tombstone.
        vec![Look::Tombstone(changed.key.clone()), Look::Town(changed.of.key.clone())]
    }
}

/// A child, with the owners that its labels name.
pub struct Child {
    pub(crate) key: ObjectKey,
    pub(crate) uid: Uid,
    owners: [Option<Uid>; 2],
}

impl Child {
    fn of(child: &ChildFacts) -> Self {
        let ChildFacts { key, uid, town_uid, agent_uid, .. } = child.clone();
        Self { key, uid, owners: [town_uid, agent_uid] }
    }

    /// Whether a town or agent in another namespace has one of the UIDs.
    pub(crate) fn is_misplaced(&self, caches: &Caches) -> bool {
        is_of_another_namespace(caches, &self.key.namespace, self.owners.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn own_status_writes_of_a_deleting_town_are_ignored() {
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
