//! The only reads of a reconcile.
//!
//! From the watches where that is enough; from the API server, past every cache, where the decision may
//! end in what cannot be undone. A list that fails, or one object in it that cannot be decoded, makes
//! the whole answer unknown: an unreadable set is not an empty one.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::cache::Group;
use super::error::Error;
use super::read::{get, unknown};
use super::remains::Search;
use super::{Cluster, lock, tombstones};
use crate::api::{Agent, Recreate, TombstoneKind, Town, names};
use crate::lifecycle::{
    AgentSnapshot, ClaimFacts, Freshness, ObjectKey, PodFacts, ProbeFacts, ServiceFacts, Standing, TownFacts,
    TownSnapshot, TownView, Uid, goes_with_town, is_new, label, needs_live, needs_live_town, standing,
    starting,
};
use crate::resources;

/// Everything that a decision about the town rests on; `None`: there is no such town.
pub async fn observe_town(cluster: &Cluster, key: &ObjectKey) -> Result<Option<TownSnapshot>, Error> {
    let observed = Box::pin(look_at_town(cluster, key)).await?;
    let now = cluster.now();
    let Some(mut snapshot) = observed else {
        // Gone, or another installation's: what was known by this name holds no place any more.
        cluster.starts.release_named(key, now);
        return Ok(None);
    };
    let pod = snapshot.pod().filter(|pod| !pod.deleting() && !pod.ended());
    if !starting(&snapshot, now) {
        cluster.starts.release(&snapshot.uid, now);
    } else if let Some(created) = pod.and_then(|pod| pod.created) {
        cluster.starts.keep(&snapshot.uid, created, now);
    } else {
        snapshot.may_start = cluster.starts.turn(&snapshot.uid, key, now);
    }
    Ok(Some(snapshot))
}

/// From now on this process writes, and no other. Gives those towns their places that are starting already. To be
/// called before any town is observed.
pub fn take_over(cluster: &Cluster) {
    let now = cluster.now();
    cluster.gates.alone_since(now);
    for town in cluster.towns.all() {
        let Some(uid) = Uid::of(&town.metadata) else { continue };
        let key = ObjectKey::of(&town.metadata);
        let snapshot = watched_town(cluster, town, uid);
        if let Some(created) = snapshot.pod().and_then(|pod| pod.created)
            && starting(&snapshot, now)
        {
            cluster.starts.resume(&snapshot.uid, &key, created, now);
        }
    }
}

/// The town as the watches show it.
fn watched_town(cluster: &Cluster, town: Arc<Town>, uid: Uid) -> TownSnapshot {
    let mut snapshot = TownSnapshot {
        agents: bound_agents(cluster, &uid),
        pods: ours(cluster.pods.of(&Group::Town(uid.clone())).iter().map(|p| (**p).clone()), cluster),
        ownerless: Vec::new(),
        claim: own_claim(cluster.claims.of(&Group::Town(uid.clone())), None, cluster),
        service: own_service(cluster, &uid),
        probe: ProbeFacts::default(),
        agent_probes: HashMap::new(),
        revision: resources::town_revision(&town),
        may_start: true,
        attach_max_hold: cluster.limits.attach_max_hold,
        admission_policies: cluster.limits.admission_policies,
        town,
        install: cluster.install.0.clone(),
        forbidden_by: None,
        freshness: Freshness::Cached,
        remains: None,
        reported_at: lock(&cluster.reported).get(&uid).copied(),
        blocked_after: cluster.limits.blocked_after,
        uid,
    };
    show_answers(cluster, &mut snapshot);
    snapshot
}

/// What the pods of the snapshot said of their activity.
fn show_answers(cluster: &Cluster, snapshot: &mut TownSnapshot) {
    snapshot.probe = answer_of(cluster, snapshot.pod());
    let asked = snapshot.agents.iter().filter(|agent| agent.spec.activity_probe.is_some());
    let answers = asked
        .filter_map(|agent| Some((Uid::of(&agent.metadata)?, answer_of(cluster, snapshot.pod_of(agent)))));
    snapshot.agent_probes = answers.collect();
}

fn answer_of(cluster: &Cluster, pod: Option<&PodFacts>) -> ProbeFacts {
    pod.map(|pod| cluster.probes.facts(&pod.uid)).unwrap_or_default()
}

/// Pods that have ended, were told to go, and wait for an agent that is not there: somebody took our finalizer off
/// it by hand. Only a live read says so.
async fn ownerless(cluster: &Cluster, snapshot: &TownSnapshot) -> Result<Vec<PodFacts>, Error> {
    let known = |uid: &Uid| !cluster.agents.of(&Group::Agent(uid.clone())).is_empty();
    let waits = |pod: &&PodFacts| {
        pod.ended() && pod.deleting() && pod.agent_uid.as_ref().is_some_and(|uid| !known(uid))
    };
    let mut pods: Vec<_> = snapshot.pods.iter().filter(waits).cloned().collect();
    if !pods.is_empty() {
        let agents = Search::of_town(cluster, &snapshot.town, &snapshot.uid).agents(&snapshot.town).await?;
        let there: Vec<_> = agents.iter().filter_map(|agent| Uid::of(&agent.metadata)).collect();
        pods.retain(|pod| pod.agent_uid.as_ref().is_some_and(|uid| !there.contains(uid)));
    }
    Ok(pods)
}

/// Whether it belongs to another installation: then nothing is read for it, and nothing decided.
fn foreign(cluster: &Cluster, meta: &ObjectMeta) -> bool {
    label(meta, names::INSTALL).is_some_and(|install| install != cluster.install.0)
}

async fn look_at_town(cluster: &Cluster, key: &ObjectKey) -> Result<Option<TownSnapshot>, Error> {
    let Some(cached) = cluster.towns.get(key) else { return Ok(None) };
    if foreign(cluster, &cached.metadata) {
        return Ok(None);
    }
    let Some(uid) = Uid::of(&cached.metadata) else { return Ok(None) };
    cluster.sees_own_writes(&uid).await;
    let Some(cached) = cluster.towns.get(key) else { return Ok(None) };
    let mut snapshot = watched_town(cluster, cached, uid);
    if !needs_live(&snapshot.town) {
        // A record that the watch shows, or may not show yet.
        let records = cluster.tombstones.of(&Group::NamesTown(key.clone()));
        let refused = records.iter().any(|t| t.recreate == Recreate::Refuse && t.of.uid != snapshot.uid);
        if refused || is_new(&snapshot.town) {
            snapshot.forbidden_by =
                tombstones::forbids(cluster, TombstoneKind::Town, key, &snapshot.uid).await?.map(Arc::new);
        }
        snapshot.ownerless = ownerless(cluster, &snapshot).await?;
        return Ok(Some(snapshot));
    }
    let Some(town) = get::<Town>(cluster, key).await? else { return Ok(None) };
    if Uid::of(&town.metadata).as_ref() != Some(&snapshot.uid) {
        return Ok(None);
    }
    let deleting = town.metadata.deletion_timestamp.is_some();
    let search = Search::of_town(cluster, &town, &snapshot.uid);
    if deleting {
        snapshot.remains = Some(Box::pin(search.remains_of_town(&town)).await);
    } else {
        // The last look before sleep: what cannot be read is no reason to go on.
        let (agents, pods) = futures::join!(search.agents(&town), search.pods());
        snapshot.agents = agents?;
        snapshot.pods = pods?;
        show_answers(cluster, &mut snapshot);
        snapshot.ownerless = ownerless(cluster, &snapshot).await?;
    }
    snapshot.revision = resources::town_revision(&town);
    snapshot.town = Arc::new(town);
    snapshot.freshness = Freshness::Live;
    Ok(Some(snapshot))
}

/// Everything that a decision about the agent rests on; `None`: there is no such agent.
pub async fn observe_agent(cluster: &Cluster, key: &ObjectKey) -> Result<Option<AgentSnapshot>, Error> {
    let Some(cached) = cluster.agents.get(key) else { return Ok(None) };
    if foreign(cluster, &cached.metadata) {
        return Ok(None);
    }
    let Some(uid) = Uid::of(&cached.metadata) else { return Ok(None) };
    cluster.sees_own_writes(&uid).await;
    let Some(mut agent) = cluster.agents.get(key) else { return Ok(None) };
    let deleting = agent.metadata.deletion_timestamp.is_some();
    if deleting {
        let Some(live) = get::<Agent>(cluster, key).await? else { return Ok(None) };
        if Uid::of(&live.metadata).as_ref() != Some(&uid) {
            return Ok(None);
        }
        agent = Arc::new(live);
    }
    let (town, revision) = match observe_town_of(cluster, &agent).await {
        Ok((freshness, town)) => (
            view(cluster, freshness, town.as_deref()),
            town.map(|town| resources::agent_revision(&agent, &town)).unwrap_or_default(),
        ),
        Err(error) if deleting => (TownView::Unknown(unknown("Town", &error)), String::new()),
        Err(error) => return Err(error),
    };
    let bound = label(&agent.metadata, names::TOWN_UID).map(Uid::new);
    let elsewhere = match &town {
        TownView::Absent(Freshness::Live) => true,
        TownView::Present(Freshness::Live, facts) => Some(&facts.uid) != bound.as_ref(),
        _ => false,
    };
    let town_record = match bound.as_ref().filter(|_| elsewhere && !deleting) {
        Some(bound) => tombstones::of_town(cluster, bound).await?,
        None => None,
    };
    let forbidden_by = match &bound {
        // A bound agent was asked about before.
        None if cluster.limits.agent_tombstones && !deleting => {
            tombstones::forbids(cluster, TombstoneKind::Agent, key, &uid).await?.map(Arc::new)
        }
        _ => None,
    };
    let mut remains = None;
    if deleting {
        let search = Search::of_agent(cluster, &agent, &uid);
        let with_town = goes_with_town(&agent, &town);
        remains = Some(Box::pin(search.remains_of_agent(&agent, &town, with_town)).await);
    }
    let standing = match &town {
        TownView::Present(_, facts) => standing(&agent, facts, &bound_agents(cluster, &facts.uid)),
        _ => Standing::Free,
    };
    let pods = ours(cluster.pods.of(&Group::Agent(uid.clone())).iter().map(|p| (**p).clone()), cluster);
    let pod = pods.into_iter().next();
    let creates_settle_at = creates_settle_at(cluster, &uid, pod.as_ref());
    Ok(Some(AgentSnapshot {
        probe: answer_of(cluster, pod.as_ref()),
        pod,
        claim: own_claim(cluster.claims.of(&Group::Agent(uid.clone())), Some(&uid), cluster),
        revision,
        standing,
        creates_settle_at,
        install: cluster.install.0.clone(),
        blocked_after: cluster.limits.blocked_after,
        agent,
        uid,
        town,
        town_record,
        forbidden_by,
        remains,
    }))
}

/// Until when a create for an agent may still take effect. None is sent once its pod is there.
fn creates_settle_at(cluster: &Cluster, uid: &Uid, pod: Option<&PodFacts>) -> Option<Timestamp> {
    let late = cluster.limits.late_create;
    let at = cluster.gates.creates_settle_at(uid, late)?;
    // The API server tells whole seconds.
    let sent_before = pod.and_then(|pod| pod.created?.checked_add(SignedDuration::from_secs(1)).ok());
    Some(sent_before.and_then(|sent| sent.checked_add(late).ok()).map_or(at, |over| over.min(at)))
}

/// The town that an agent names: as watched, or read live where its absence would have consequences.
async fn observe_town_of(cluster: &Cluster, agent: &Agent) -> Result<(Freshness, Option<Arc<Town>>), Error> {
    let key = ObjectKey {
        namespace: agent.metadata.namespace.clone().unwrap_or_default(),
        name: agent.spec.town.clone(),
    };
    let cached = cluster.towns.get(&key);
    let facts = cached.as_ref().and_then(|town| TownFacts::of(town, &cluster.install.0));
    if !needs_live_town(agent, facts.as_ref()) {
        return Ok((Freshness::Cached, cached));
    }
    Ok((Freshness::Live, get::<Town>(cluster, &key).await?.map(Arc::new)))
}

fn view(cluster: &Cluster, freshness: Freshness, town: Option<&Town>) -> TownView {
    let facts = town.and_then(|town| TownFacts::of(town, &cluster.install.0));
    facts.map_or(TownView::Absent(freshness), |facts| TownView::Present(freshness, Box::new(facts)))
}

/// The agents of this installation that are bound to the town, as watched.
pub(super) fn bound_agents(cluster: &Cluster, town: &Uid) -> Vec<Arc<Agent>> {
    let mut agents = cluster.agents.of(&Group::Town(town.clone()));
    agents.retain(|a| label(&a.metadata, names::INSTALL) == Some(&cluster.install.0));
    agents
}

/// What carries our install label; whatever else carries the UID is not ours, and left.
fn ours(pods: impl Iterator<Item = PodFacts>, cluster: &Cluster) -> Vec<PodFacts> {
    pods.filter(|p| p.install.as_deref() == Some(&cluster.install.0)).collect()
}

fn own_claim(claims: Vec<Arc<ClaimFacts>>, agent: Option<&Uid>, cluster: &Cluster) -> Option<ClaimFacts> {
    claims
        .into_iter()
        .find(|c| {
            c.child.agent_uid.as_ref() == agent && c.child.install.as_deref() == Some(&cluster.install.0)
        })
        .map(|c| (*c).clone())
}

fn own_service(cluster: &Cluster, town: &Uid) -> Option<ServiceFacts> {
    let mut services = cluster.services.of(&Group::Town(town.clone())).into_iter();
    services
        .find(|s| s.child.agent_uid.is_none() && s.child.install.as_deref() == Some(&cluster.install.0))
        .map(|s| (*s).clone())
}

impl Cluster {
    /// The status of the object was written by this process just now.
    pub(super) fn reported_now(&self, uid: &Uid, now: Timestamp) {
        lock(&self.reported).insert(uid.clone(), now);
    }
}
