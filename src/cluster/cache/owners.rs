//! The owners of children, and the children of owners, as far as the watches show them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{Agent, Town};
use crate::cluster::cache::caches::Caches;
use crate::cluster::cache::index::{Group, Indexed};
use crate::cluster::scheduling::requeue::Look;
use crate::lifecycle::{ObjectKey, OwnerId, Uid};

/// Whether a child names an owner, and the watches show neither its town nor its agent.
pub(crate) fn seems_orphaned(
    caches: &Caches,
    namespace: &str,
    town: Option<&Uid>,
    agent: Option<&Uid>,
) -> bool {
    let in_namespace = |uid: &Uid| OwnerId::new(namespace, uid);
    let town_is_there = town.is_some_and(|uid| !caches.towns.of(&Group::Town(in_namespace(uid))).is_empty());
    let agent_is_there =
        agent.is_some_and(|uid| !caches.agents.of(&Group::Agent(in_namespace(uid))).is_empty());
    (town.is_some() || agent.is_some()) && !town_is_there && !agent_is_there
}

/// The pods and claims that name an owner which has just left the watches.
pub(crate) fn left_by(caches: &Caches, owner: &Group) -> Vec<Look> {
    let pods = caches.pods.of(owner).into_iter().map(|pod| pod.key.clone());
    let claims = caches.claims.of(owner).into_iter().map(|claim| claim.child.key.clone());
    pods.chain(claims).map(Look::Child).collect()
}

/// Whether a town or agent outside of this namespace has one of the UIDs.
pub(crate) fn is_of_another_namespace<'a>(
    caches: &Caches,
    namespace: &str,
    owners: impl IntoIterator<Item = &'a Uid>,
) -> bool {
    owners.into_iter().any(|uid| {
        let group = Group::Anywhere(uid.clone());
        let elsewhere = |key: ObjectKey| key.namespace != namespace;
        caches.towns.of(&group).iter().any(|town| elsewhere(town.key()))
            || caches.agents.of(&group).iter().any(|agent| elsewhere(agent.key()))
    })
}

/// The owners that a change of a child affects: its agent, and its town. The town must see the end of all its pods
/// before it sleeps.
pub(crate) fn owners(caches: &Caches, namespace: &str, town: Option<&Uid>, agent: Option<&Uid>) -> Vec<Look> {
    let in_namespace = |uid: &Uid| OwnerId::new(namespace, uid);
    let agents: Vec<_> =
        agent.into_iter().flat_map(|uid| caches.agents.of(&Group::Agent(in_namespace(uid)))).collect();
    let towns = town.into_iter().flat_map(|uid| caches.towns.of(&Group::Town(in_namespace(uid))));
    let towns = towns.filter(|town| !agents.iter().any(|agent| only_awaits(town, agent)));
    let towns = towns.map(|town| Look::Town(town.key()));
    agents.iter().map(|agent| Look::Agent(agent.key())).chain(towns).collect()
}

/// Whether a town waits only for the end of an agent, and not for the steps before: both are being destroyed.
pub(crate) fn only_awaits(town: &Town, agent: &Agent) -> bool {
    is_going(&town.metadata) && is_going(&agent.metadata)
}

/// Whether the object is being deleted.
pub(crate) fn is_going(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}
