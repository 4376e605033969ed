//! The metadata of every child: name, labels, owner.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use crate::api::{Agent, Town, names};
use crate::lifecycle::{Uid, child_name};

/// The installation that creates the children, as the value of the label `gastown.dev/install`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install(pub String);

/// The number of hex digits that identify the cluster.
const CLUSTER_DIGITS: usize = 8;

impl Install {
    /// The longest install id: the label value adds a dot and eight digits, and policies and names need room.
    pub const LONGEST_ID: usize = 45;

    /// The installation with this id in the cluster whose namespace `kube-system` has this UID. The operator of
    /// another cluster with the same id has another label, so that neither operator adopts a restored copy from the
    /// other cluster. `None`: the UID has fewer than eight hex digits.
    pub fn of(id: &str, kube_system: &Uid) -> Option<Self> {
        let digits: String =
            kube_system.as_str().chars().filter(char::is_ascii_hexdigit).take(CLUSTER_DIGITS).collect();
        (digits.len() == CLUSTER_DIGITS).then(|| Self(format!("{id}.{}", digits.to_ascii_lowercase())))
    }

    /// The rule that an install id breaks; `None`: the id is valid. The id is part of the name of a Lease, so it must
    /// be a DNS label. The dot is reserved for the label value.
    pub fn id_error(id: &str) -> Option<String> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let valid = id.len() <= Self::LONGEST_ID
            && id.starts_with(letter)
            && id.ends_with(letter)
            && id.chars().all(|c| letter(c) || c == '-');
        (!valid).then(|| {
            format!(
                "'{id}' is not an install id: at most {} lower-case letters, digits and '-', \
                 which begin and end with a letter or digit",
                Self::LONGEST_ID
            )
        })
    }
}

/// The metadata of a child of the town itself.
pub(super) fn of_town(town: &Town, install: &Install) -> Option<ObjectMeta> {
    let uid = Uid::of(&town.metadata)?;
    Some(child(town, "Town", "town", &uid, None, install))
}

/// The metadata of a child of an agent; `None`: the agent is not bound to a town.
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
    // `app.kubernetes.io/instance` is not set: Argo CD treats an object without an owner and with the name of its
    // application in this label as a part of the application, and prunes it. A claim has no owner.
    let mut labels = BTreeMap::from([
        (names::TOWN_UID.to_owned(), town_uid.to_string()),
        (names::INSTALL.to_owned(), install.0.clone()),
        (names::COMPONENT.to_owned(), component.to_owned()),
        (names::APP_NAME.to_owned(), "town".to_owned()),
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

/// The owner reference for the garbage collection of a child that is created too late. The reference does not block
/// the deletion of the owner, because the operator itself keeps the order.
pub(super) fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    Some(OwnerReference { block_owner_deletion: Some(false), ..owner.controller_owner_ref(&())? })
}

/// Marks a child that the operator creates again after a restore, so that no backup contains it.
pub(super) fn not_in_backups(metadata: &mut ObjectMeta) {
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(names::EXCLUDE_FROM_BACKUP.to_owned(), "true".to_owned());
}
