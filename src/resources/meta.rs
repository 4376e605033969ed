//! What every child has in common: its name, labels, owner.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use crate::api::{Agent, Town, names};
use crate::lifecycle::{Uid, child_name};

/// Which installation makes the children: a label value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install(pub String);

/// The metadata of a town's own child.
pub(super) fn of_town(town: &Town, install: &Install) -> Option<ObjectMeta> {
    let uid = Uid::of(&town.metadata)?;
    Some(child(town, "Town", "town", &uid, None, install))
}

/// The metadata of an agent's child; `None` for an agent that is not bound to a town.
pub(super) fn of_agent(agent: &Agent, install: &Install) -> Option<ObjectMeta> {
    let uid = Uid::of(&agent.metadata)?;
    let town_uid = Uid::new(agent.labels().get(names::TOWN_UID)?);
    Some(child(agent, "Agent", "agent", &town_uid, Some(&uid), install))
}

fn child<K: Resource<DynamicType = ()>>(
    owner: &K,
    kind: &str,
    component: &str,
    town_uid: &Uid,
    agent_uid: Option<&Uid>,
    install: &Install,
) -> ObjectMeta {
    let name = owner.name_any();
    let namespace = owner.namespace().unwrap_or_default();
    let mut labels = BTreeMap::from([
        (names::TOWN_UID.to_owned(), town_uid.to_string()),
        (names::INSTALL.to_owned(), install.0.clone()),
        (names::APP_NAME.to_owned(), "town".to_owned()),
        (names::APP_INSTANCE.to_owned(), label_value(&name)),
        (names::APP_COMPONENT.to_owned(), component.to_owned()),
        (names::APP_MANAGED_BY.to_owned(), names::MANAGER.to_owned()),
    ]);
    if let Some(uid) = agent_uid {
        labels.insert(names::AGENT_UID.to_owned(), uid.to_string());
    }
    ObjectMeta {
        name: Some(child_name(&name, agent_uid.unwrap_or(town_uid))),
        namespace: Some(namespace.clone()),
        labels: Some(labels),
        annotations: Some(BTreeMap::from([(names::OWNER.to_owned(), format!("{kind}/{namespace}/{name}"))])),
        ..ObjectMeta::default()
    }
}

/// The reference that lets the garbage collector take a child that is created too late. It does not
/// block the owner's deletion: order is ours to keep.
pub(super) fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    Some(OwnerReference { block_owner_deletion: Some(false), ..owner.controller_owner_ref(&())? })
}

/// A name cut to what a label may hold.
fn label_value(name: &str) -> String {
    name.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned()
}
