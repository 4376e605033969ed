//! The proof of life. Creation goes through here, and nowhere else.
//!
//! Invariant kept here: nothing is created for an owner unless a read that no cache answered has just
//! shown it alive, with the very UID that was decided on, and the gate of its town is held meanwhile; nor while a
//! definition of ours is missing, without which it could not be destroyed with proof.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;
use serde::Serialize;

use super::Cluster;
use super::error::Error;
use super::gate::{Sent, Shared};
use super::kinds::Known;
use super::read::get;
use super::write::post_params;
use crate::api::{Agent, Town, names};
use crate::lifecycle::{self, Guard, OwnerRef, TownFacts, Uid, tombstone};

/// A Town, and perhaps an Agent of it, that were alive a moment ago; valid while the gates are held.
pub struct LiveOwner<'gate> {
    town: Town,
    agent: Option<Agent>,
    owner: Uid,
    gates: &'gate [Shared],
}

impl<'gate> LiveOwner<'gate> {
    /// Proves that a town is alive and, where one is given, an agent of it. The gates of both are held.
    pub(super) async fn prove(
        cluster: &Cluster,
        gates: &'gate [Shared],
        town: &OwnerRef,
        agent: Option<&OwnerRef>,
    ) -> Result<Self, Error> {
        cluster.absent.refuse()?;
        let owner = agent.unwrap_or(town).uid.clone();
        let town = read_live::<Town>(cluster, town).await?;
        let agent = match agent {
            Some(agent) => Some(read_live::<Agent>(cluster, agent).await?),
            None => None,
        };
        let unreadable =
            town.spec.unreadable.as_ref().or(agent.as_ref().and_then(|a| a.spec.unreadable.as_ref()));
        match unreadable {
            Some(error) => Err(Error::NotLive { why: format!("the spec cannot be read: {error}") }),
            None => Ok(Self { town, agent, owner, gates }),
        }
    }

    /// The town, as it is.
    pub(super) fn town(&self) -> &Town {
        &self.town
    }

    /// The agent, as it is.
    pub(super) fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// Proves that the town is awake, as a pod of it needs. A town that is still Pending has not begun to
    /// sleep: it may start its own pod, and its agents wait for that.
    pub(super) fn awake(&self, install: &str) -> Result<(), Error> {
        let phase = self.town.status.as_ref().and_then(|s| s.phase.as_deref());
        let pending = phase.is_none_or(|phase| phase == lifecycle::PENDING);
        let first = self.agent.is_none() && pending && !self.town.spec.suspend;
        match TownFacts::of(&self.town, install) {
            Some(facts) if facts.awake || first => Ok(()),
            _ => Err(Error::NotLive { why: format!("town {} is not awake", self.town.name_any()) }),
        }
    }

    /// Creates a child; `None`: the spec does not ask for it any more. If its name is taken, what is there must
    /// be ours, and stays as it is, or it is refused.
    pub(super) async fn create<K: Known + Serialize>(
        &self,
        cluster: &Cluster,
        child: Option<K>,
        now: Timestamp,
    ) -> Result<K, Error> {
        let kind = K::NAME;
        let child = child
            .ok_or_else(|| Error::Conflict { what: format!("create {kind}: the spec asks for none now") })?;
        let namespace = child.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(cluster.client.clone(), &namespace);
        let name = child.name_any();
        let sent: Vec<Sent> = self.gates.iter().map(|gate| gate.send(now)).collect();
        let made = api.create(&post_params(), &child).await;
        let made = made.map_err(|e| Error::api(format!("create {kind} {name}"), e));
        let made = match made {
            Err(error) if error.is_already_exists() => {
                let there = api.get(&name).await;
                there
                    .map_err(|e| Error::known(format!("read {kind} {name}"), e))
                    .and_then(|there| accept(&child, there))
            }
            made => made,
        };
        if !made.as_ref().is_err_and(Error::outcome_unknown) {
            sent.into_iter().for_each(Sent::answered);
        }
        if let Ok(made) = &made {
            cluster.wrote::<K>(&self.owner, made.meta());
        }
        made
    }
}

/// Whether what has our child's name is our child: a create whose answer was lost.
fn accept<K: Known>(wanted: &K, there: K) -> Result<K, Error> {
    let kind = K::NAME;
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
async fn read_live<K: Known>(cluster: &Cluster, owner: &OwnerRef) -> Result<K, Error> {
    let kind = K::NAME;
    let OwnerRef { key, uid } = owner;
    let read = get::<K>(cluster, key).await?;
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
        Some(found) if why.is_empty() || !Guard::ProofOfLife.holds() => Ok(found),
        _ => Err(Error::NotLive { why }),
    }
}
