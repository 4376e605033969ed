//! The children of towns and agents in this installation, as the watches show them.

use std::sync::Arc;

use crate::api::{Agent, PodStatus, StorageStatus, Town, names};
use crate::cluster::cache::caches::Caches;
use crate::cluster::cache::index::Group;
use crate::lifecycle::{
    ChildFacts, ClaimFacts, OwnerId, OwnerRef, ServiceFacts, Uid, is_named_child, label, service_name,
};
use crate::resources::Install;

/// The agents of this installation that are bound to the town, as watched: they carry the UID of the town, and they
/// name the town.
pub(crate) fn bound_agents(caches: &Caches, install: &Install, town: &OwnerRef) -> Vec<Arc<Agent>> {
    let mut agents = caches.agents.of(&Group::Town(OwnerId::new(&town.key.namespace, &town.uid)));
    agents.retain(|a| {
        a.spec.town_name == town.key.name && label(&a.metadata, names::INSTALL) == Some(&install.0)
    });
    agents
}

/// The claim of a town or of one of its agents, as watched.
pub(crate) fn claim_of(
    caches: &Caches,
    install: &Install,
    town: &Town,
    agent: Option<&Agent>,
) -> Option<ClaimFacts> {
    if let Some(agent) = agent {
        let owner = OwnerRef::of(&agent.metadata)?;
        let group = Group::Agent(OwnerId::new(&owner.key.namespace, &owner.uid));
        let recorded = recorded_claim(agent);
        return own_claim(install, &owner, Some(&owner.uid), recorded, caches.claims.of(&group));
    }
    let owner = OwnerRef::of(&town.metadata)?;
    let group = Group::Town(OwnerId::new(&owner.key.namespace, &owner.uid));
    let recorded = town.status.as_ref().and_then(|s| s.storage.as_ref());
    own_claim(install, &owner, None, recorded, caches.claims.of(&group))
}

/// The claim in the status of an agent.
pub(crate) fn recorded_claim(agent: &Agent) -> Option<&StorageStatus> {
    agent.status.as_ref().and_then(|s| s.storage.as_ref())
}

/// The claim of the owner, in this installation. The claim in the status of the owner has precedence over the claim
/// with the name from the naming rule.
pub(crate) fn own_claim(
    install: &Install,
    owner: &OwnerRef,
    agent: Option<&Uid>,
    recorded: Option<&StorageStatus>,
    claims: Vec<Arc<ClaimFacts>>,
) -> Option<ClaimFacts> {
    let recorded = recorded.and_then(named_claim);
    let own = |child: &ChildFacts| {
        child.agent_uid.as_ref() == agent
            && child.install.as_deref() == Some(&install.0)
            && is_named_child(owner, recorded, &child.key.name, &child.uid)
    };
    let is_recorded = |child: &ChildFacts| recorded == Some((child.key.name.as_str(), child.uid.as_str()));
    let own = claims.into_iter().filter(|claim| own(&claim.child));
    own.max_by_key(|claim| is_recorded(&claim.child)).map(|claim| (*claim).clone())
}

/// The Service for the pod of the town, in this installation, under the name from the naming rule.
pub(crate) fn own_service(
    install: &Install,
    town: &OwnerRef,
    services: Vec<Arc<ServiceFacts>>,
) -> Option<ServiceFacts> {
    let own = |child: &ChildFacts| {
        child.agent_uid.is_none()
            && child.install.as_deref() == Some(&install.0)
            && child.key.name == service_name(town)
    };
    services.into_iter().find(|service| own(&service.child)).map(|service| (*service).clone())
}

/// The pod in a status, by name and UID.
pub(crate) fn named_pod(pod: &PodStatus) -> Option<(&str, &str)> {
    Some((pod.name.as_deref()?, pod.uid.as_deref()?))
}

/// The claim in a status, by name and UID.
pub(crate) fn named_claim(claim: &StorageStatus) -> Option<(&str, &str)> {
    Some((claim.claim.as_str(), claim.uid.as_deref()?))
}
