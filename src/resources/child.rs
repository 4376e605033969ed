//! The facts of children, from their metadata.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::names;
use crate::lifecycle::{ChildFacts, ChildKind, ObjectKey, Uid, annotation, label};

/// The facts of a child from its metadata; `None`: the child was never stored.
pub fn child_facts(kind: ChildKind, meta: &ObjectMeta) -> Option<ChildFacts> {
    Some(ChildFacts {
        kind,
        key: ObjectKey::of(meta),
        uid: Uid::of(meta)?,
        town_uid: label(meta, names::TOWN_UID).map(Uid::new),
        agent_uid: label(meta, names::AGENT_UID).map(Uid::new),
        install: label(meta, names::INSTALL).map(str::to_owned),
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        retain: annotation(meta, names::RETAIN) == Some("true"),
        copied: annotation(meta, names::COPIED).map(str::to_owned),
        of_pod: label(meta, names::INSTALL).is_none()
            && meta.owner_references.iter().flatten().any(|owner| owner.kind == "Pod"),
    })
}
