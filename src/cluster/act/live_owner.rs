//! The proof of life. Every create passes through this module.
//!
//! Invariant kept here: the operator creates an object for an owner only after an uncached read has shown that the
//! owner is alive, with the UID of the decision, and while the operator holds the gate of the town. The operator
//! creates nothing while a definition of ours is missing, because without it the object could not be destroyed with
//! proof.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;
use serde::Serialize;

use crate::api::{Agent, Town, TownPhase, names};
use crate::cluster::client::params::post_params;
use crate::cluster::context::Cluster;
use crate::cluster::error::Error;
use crate::cluster::kinds::known::Known;
use crate::cluster::read::objects::get;
use crate::cluster::scheduling::create_lock::{Sent, Shared};
use crate::lifecycle::{Guard, OwnerRef, TownFacts, Uid, tombstone};

/// A Town, and optionally one of its Agents, that were alive a moment ago. The proof is valid while the gates are
/// held.
pub struct LiveOwner<'gate> {
    town: Town,
    agent: Option<Agent>,
    owner: Uid,
    gates: &'gate [Shared],
}

impl<'gate> LiveOwner<'gate> {
    /// Proves that a town is alive and, if one is given, an agent of it. The caller holds the gates of both.
    pub(crate) async fn prove(
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

    /// The town as the proof read it.
    pub(crate) fn town(&self) -> &Town {
        &self.town
    }

    /// The agent as the proof read it.
    pub(crate) fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// Proves that the town is awake, as a create of a pod requires. A town that is still Pending has not begun to
    /// sleep: it may start its own pod, and its agents wait for that.
    pub(crate) fn awake(&self, install: &str) -> Result<(), Error> {
        let phase = self.town.status.as_ref().and_then(|s| s.phase.as_deref());
        let pending = phase.is_none_or(|phase| phase == TownPhase::Pending.as_str());
        let first = self.agent.is_none() && pending && !self.town.spec.suspend;
        match TownFacts::of(&self.town, install) {
            Some(facts) if facts.awake || first => Ok(()),
            _ => Err(Error::NotLive { why: format!("town {} is not awake", self.town.name_any()) }),
        }
    }

    /// Creates a child; `None`: the spec no longer asks for it. If an object with the name exists, it must be our
    /// child, and stays as it is. Otherwise the create fails.
    pub(crate) async fn create<K: Known + Serialize>(
        &self,
        cluster: &Cluster,
        child: Option<K>,
        now: Timestamp,
    ) -> Result<K, Error> {
        let kind = K::NAME;
        let child = child.ok_or_else(|| Error::Conflict {
            what: format!("create {kind}: the spec no longer contains it"),
        })?;
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
            cluster.caches.wrote::<K>(&self.owner, made.meta());
        }
        made
    }
}

/// The error of a create for an owner whose gate is closed.
pub(crate) fn closed(uid: &Uid) -> Error {
    Error::NotLive { why: format!("{uid} is being destroyed") }
}

/// Accepts an existing object with the name of our child if it is our child: the answer of an earlier create was
/// lost.
fn accept<K: Known>(wanted: &K, there: K) -> Result<K, Error> {
    let kind = K::NAME;
    let same = [names::TOWN_UID, names::AGENT_UID, names::INSTALL]
        .iter()
        .all(|key| wanted.labels().get(*key) == there.labels().get(*key));
    let name = there.name_any();
    if !same {
        Err(Error::NameTaken { kind, name })
    } else if there.meta().deletion_timestamp.is_some() {
        Err(Error::Conflict {
            what: format!("create {kind} {name}: the deletion of the old one is not complete"),
        })
    } else {
        Ok(there)
    }
}

/// Reads an owner, uncached, and requires that it is alive.
async fn read_live<K: Known>(cluster: &Cluster, owner: &OwnerRef) -> Result<K, Error> {
    let kind = K::NAME;
    let OwnerRef { key, uid } = owner;
    let read = get::<K>(&cluster.client, key).await?;
    let why = match &read {
        None => format!("{kind} {key} does not exist any more"),
        Some(found) if Uid::of(found.meta()).as_ref() != Some(uid) => {
            format!("{kind} {key} has another UID now")
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
