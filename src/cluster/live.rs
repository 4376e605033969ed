//! The proof of life. Creation goes through here, and nowhere else.
//!
//! Invariant kept here: nothing is created for an owner unless a read that no cache answered has just
//! shown it alive, with the very UID that was decided on, and the gate of its town is held meanwhile.

use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Cluster;
use super::error::Error;
use super::gate::Shared;
use crate::api::{Agent, Town, names};
use crate::lifecycle::{self, OwnerRef, TownFacts, Uid, tombstone};

/// A Town, and perhaps an Agent of it, that were alive a moment ago; valid while the gate is held.
pub struct LiveOwner<'gate> {
    town: Town,
    agent: Option<Agent>,
    gate: PhantomData<&'gate Shared>,
}

impl<'gate> LiveOwner<'gate> {
    /// Proves that a town is alive.
    pub(super) async fn town(cluster: &Cluster, _: &'gate Shared, town: &OwnerRef) -> Result<Self, Error> {
        let town = read_live(cluster, "Town", town).await?;
        Ok(Self { town, agent: None, gate: PhantomData })
    }

    /// Proves that an agent and its town are alive.
    pub(super) async fn agent(
        cluster: &Cluster,
        gate: &'gate Shared,
        town: &OwnerRef,
        agent: &OwnerRef,
    ) -> Result<Self, Error> {
        let Self { town, .. } = Self::town(cluster, gate, town).await?;
        let agent = read_live(cluster, "Agent", agent).await?;
        Ok(Self { town, agent: Some(agent), gate: PhantomData })
    }

    /// The town, as it is.
    pub(super) fn town_object(&self) -> &Town {
        &self.town
    }

    /// The agent, as it is.
    pub(super) fn agent_object(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// Proves that the town is awake, as a pod of it needs. A town that is still Pending has not begun to
    /// sleep: it may start its own pod, and its agents wait for that.
    pub(super) fn awake(&self, install: &str) -> Result<(), Error> {
        let phase = self.town.status.as_ref().and_then(|s| s.phase.as_deref());
        let pending = phase.is_none_or(|phase| phase == lifecycle::PENDING);
        let first = self.agent.is_none() && pending && !self.town.spec.suspended;
        match TownFacts::of(&self.town, install) {
            Some(facts) if facts.awake || first => Ok(()),
            _ => Err(Error::NotLive { why: format!("town {} is not awake", self.town.name_any()) }),
        }
    }

    /// Creates a child. If its name is taken, what is there must be ours, or it is refused.
    pub(super) async fn create<K>(&self, cluster: &Cluster, kind: &'static str, child: &K) -> Result<K, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let namespace = child.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(cluster.client.clone(), &namespace);
        let name = child.name_any();
        let params = PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() };
        match api.create(&params, child).await.map_err(|e| Error::api(format!("create {kind} {name}"), e)) {
            Err(error) if error.is_already_exists() => {
                let there = api.get(&name).await.map_err(|e| Error::api(format!("read {kind} {name}"), e))?;
                accept(kind, child, there)
            }
            result => result,
        }
    }
}

/// Whether what has our child's name is our child: a create whose answer was lost.
fn accept<K: Resource<DynamicType = ()>>(kind: &'static str, wanted: &K, there: K) -> Result<K, Error> {
    let same = [names::TOWN_UID, names::AGENT_UID, names::INSTALL]
        .iter()
        .all(|key| wanted.labels().get(*key) == there.labels().get(*key));
    let name = there.name_any();
    if !same {
        Err(Error::NameTaken { kind, name })
    } else if there.meta().deletion_timestamp.is_some() {
        Err(Error::Conflict { what: format!("create {kind} {name}: the old one is still going") })
    } else {
        Ok(there)
    }
}

/// Reads an owner past every cache and demands that it lives.
async fn read_live<K>(cluster: &Cluster, kind: &str, owner: &OwnerRef) -> Result<K, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let OwnerRef { key, uid } = owner;
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &key.namespace);
    let read = api.get_opt(&key.name).await.map_err(|e| Error::api(format!("read {kind} {key}"), e))?;
    let why = match &read {
        None => format!("{kind} {key} is gone"),
        Some(found) if Uid::of(found.meta()).as_ref() != Some(uid) => {
            format!("{kind} {key} is another one now")
        }
        Some(found) if found.meta().deletion_timestamp.is_some() => format!("{kind} {key} is being deleted"),
        Some(found) if tombstone(found.meta()).is_some() => format!("{kind} {key} carries a tombstone"),
        Some(_) => String::new(),
    };
    match read {
        Some(found) if why.is_empty() => Ok(found),
        _ => Err(Error::NotLive { why }),
    }
}
