//! The volume claim of a town or an agent.
//!
//! The claim has no owner reference, because the garbage collector does not respect the order of a destruction. The
//! operator deletes the claim itself, and proves its absence. A claim that the spec names belongs to the user: then
//! the operator creates none.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::child_facts;
use super::meta::{Install, of_agent, of_town};
use crate::api::{AccessMode, Agent, Copied, DataSource, Storage, Town, names};
use crate::lifecycle::{ChildKind, ClaimFacts, OwnerRef, child_name, copied_keys, copied_mark};

/// The claim of the town; `None`: its spec asks for none, or names an existing claim.
pub fn town_claim(town: &Town, install: &Install) -> Option<PersistentVolumeClaim> {
    claim(of_town(town, install)?, town.spec.storage.as_ref()?)
}

/// The claim of the agent; `None`: its spec asks for none or names an existing claim, or the agent is not bound.
pub fn agent_claim(agent: &Agent, install: &Install) -> Option<PersistentVolumeClaim> {
    claim(of_agent(agent, install)?, agent.spec.storage.as_ref()?)
}

/// The name of the claim that the pod of the owner mounts: the claim in the spec, or our own. `found` is our own
/// existing claim, by the status of the owner. An operator version with another naming rule may have created that
/// claim, and its data belongs to the owner. The naming rule determines the name of a claim that does not exist yet.
pub(super) fn claim_name(storage: &Storage, owner: &OwnerRef, found: Option<&str>) -> String {
    let ours = || found.map_or_else(|| child_name(&owner.key.name, &owner.uid), str::to_owned);
    storage.existing_claim_name.clone().unwrap_or_else(ours)
}

/// The change of the metadata of a claim that sets the policy, labels and annotations from the spec of its owner.
/// Keys that were copied before and have left the spec are removed. The keys of the operator stay, whatever the claim
/// contains.
pub fn claim_marks(retain: bool, copied: &Copied, before: Option<&str>) -> Value {
    let (old_labels, old_annotations) = before.map(copied_keys).unwrap_or_default();
    let map = |old: Vec<&str>, new: &BTreeMap<String, String>| -> Map<String, Value> {
        let gone = old.into_iter().map(|key| (key.to_owned(), Value::Null));
        let all = gone.chain(new.iter().map(|(key, value)| (key.clone(), json!(value))));
        all.filter(|(key, _)| !is_own(key)).collect()
    };
    let labels = map(old_labels, &copied.labels);
    let mut annotations = map(old_annotations, &copied.annotations);
    annotations.insert(names::RETAIN.to_owned(), if retain { json!("true") } else { Value::Null });
    annotations.insert(names::COPIED.to_owned(), json!(copied_mark(copied)));
    json!({"labels": labels, "annotations": annotations})
}

/// Whether a key of a claim belongs to the operator.
fn is_own(key: &str) -> bool {
    key.starts_with(names::PREFIX)
        || [names::APP_NAME, names::APP_COMPONENT, names::APP_MANAGED_BY].contains(&key)
}

/// Copies the keys that the operator does not set itself.
fn copy(ours: &mut Option<BTreeMap<String, String>>, theirs: BTreeMap<String, String>) {
    ours.get_or_insert_default().extend(theirs.into_iter().filter(|(key, _)| !is_own(key)));
}

fn claim(mut metadata: ObjectMeta, storage: &Storage) -> Option<PersistentVolumeClaim> {
    if storage.existing_claim_name.is_some() {
        return None;
    }
    if storage.is_retained() {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(names::RETAIN.to_owned(), "true".to_owned());
    }
    let copied = storage.copied();
    if let Some(mark) = copied_mark(&copied) {
        metadata.annotations.get_or_insert_default().insert(names::COPIED.to_owned(), mark);
        copy(&mut metadata.labels, copied.labels);
        copy(&mut metadata.annotations, copied.annotations);
    }
    let modes = storage.access_modes.as_deref().unwrap_or(&[AccessMode::ReadWriteOnce]);
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(modes.iter().map(|mode| mode.as_str().to_owned()).collect()),
        storage_class_name: storage.storage_class_name.clone(),
        resources: Some(VolumeResourceRequirements {
            requests: storage.size.clone().map(|size| BTreeMap::from([("storage".to_owned(), size)])),
            ..VolumeResourceRequirements::default()
        }),
        data_source: storage.data_source.as_ref().map(data_source),
        ..PersistentVolumeClaimSpec::default()
    };
    Some(PersistentVolumeClaim { metadata, spec: Some(spec), ..PersistentVolumeClaim::default() })
}

fn data_source(source: &DataSource) -> TypedLocalObjectReference {
    TypedLocalObjectReference {
        api_group: source.api_group.clone(),
        kind: source.kind.clone(),
        name: source.name.clone(),
    }
}

/// The facts of a volume claim; `None`: the claim was never stored.
pub fn claim_facts(claim: &PersistentVolumeClaim) -> Option<ClaimFacts> {
    let meta = &claim.metadata;
    let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()?.requests.as_ref());
    Some(ClaimFacts {
        child: child_facts(ChildKind::PersistentVolumeClaim, meta)?,
        lost: claim.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Lost")),
        requested: requests.and_then(|r| r.get("storage")).cloned(),
        capacity: claim.status.as_ref().and_then(|s| s.capacity.as_ref()?.get("storage")).cloned(),
    })
}
