//! The objects that a change of another object affects.

use kube::Resource;

use crate::api::condition::{self, reason};
use crate::api::{Agent, Role, TombstoneKind};
use crate::cluster::cache::caches::Caches;
use crate::cluster::cache::index::{Group, Index, Indexed};
use crate::cluster::cache::owners::{is_going, owners, seems_orphaned};
use crate::cluster::scheduling::requeue::Look;
use crate::lifecycle::{ObjectKey, Uid, tombstone_name, town_key};

/// The objects that a change of a pod or claim affects. If the watches show no owner, the child itself is enqueued:
/// its owners may be gone.
pub(crate) fn owners_or_orphan(
    caches: &Caches,
    key: &ObjectKey,
    is_there: bool,
    town: Option<&Uid>,
    agent: Option<&Uid>,
) -> Vec<Look> {
    if is_there && seems_orphaned(caches, &key.namespace, town, agent) {
        return vec![Look::Child(key.clone())];
    }
    owners(caches, &key.namespace, town, agent)
}

/// The record of an object that is gone. From now on the record may be deleted; before, it must stay.
pub(crate) fn record_of_gone<K: Indexed + Resource>(
    caches: &Caches,
    index: &Index<K>,
    kind: TombstoneKind,
    changed: &K,
) -> Option<Look> {
    let uid = Uid::of(changed.meta())?;
    let there = index.get(&changed.key()).is_some_and(|now| now.uid().as_ref() == Some(&uid));
    let key = ObjectKey { namespace: String::new(), name: tombstone_name(kind, &uid) };
    (!there && caches.tombstones.get(&key).is_some()).then_some(Look::Tombstone(key))
}

/// Whether a change of this agent can free a place for another agent. A waiting agent holds no place.
pub(crate) fn may_make_room(agent: &Agent) -> bool {
    agent.spec.role != Role::Crew && (!waits(agent) || is_going(&agent.metadata))
}

/// The agents that wait for the place of this agent.
pub(crate) fn waiting_peers(caches: &Caches, agent: &Agent) -> Vec<Look> {
    let peers = caches.agents.of(&Group::NamesTown(town_key(agent)));
    let wait = peers.iter().filter(|peer| waits(peer) && same_place(peer, agent));
    wait.map(|peer| Look::Agent(peer.key())).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
    fn waiting_agent_is_enqueued_when_an_agent_in_the_same_place_changes() {
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
    fn waiting_agent_makes_room_in_the_queue_only_when_it_is_deleted() {
        let mut waiting = agent(json!({"role": "Polecat", "rig": "core"}), reason::RIG_FULL);
        assert!(!may_make_room(&waiting));
        waiting.metadata.deletion_timestamp = Some(
            "2030-01-01T00:00:00Z".parse().map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time).unwrap(),
        );
        assert!(may_make_room(&waiting));
        assert!(!may_make_room(&agent(json!({"role": "Crew"}), reason::RUNNING)), "nobody waits for crew");
    }
}
