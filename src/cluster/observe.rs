//! The only reads of a reconcile.
//!
//! From the watches where that is enough; from the API server, past every cache, where the decision may
//! end in what cannot be undone. A list that fails, or one object in it that cannot be decoded, makes
//! the whole answer unknown: an unreadable set is not an empty one.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Resource;
use kube::api::{Api, ListParams};
use kube::core::DeserializeGuard;
use serde::de::DeserializeOwned;

use super::cache::Group;
use super::error::Error;
use super::project::{claim_facts, pod_facts};
use super::{Cluster, lock};
use crate::api::{Agent, PodStatus, StorageStatus, Town, names};
use crate::lifecycle::{
    AgentSnapshot, ClaimFacts, Freshness, ObjectKey, PodFacts, ProbeFacts, Remains, Standing, TownFacts,
    TownSnapshot, TownView, Uid, Unknown, has_finalizer, has_own_tombstone, label, needs_live,
    needs_live_town, tombstone, tombstone_time,
};

/// Objects asked for at once.
const PAGE: u32 = 250;

/// Everything that a decision about the town rests on; `None`: there is no such town.
pub async fn observe_town(cluster: &Cluster, key: &ObjectKey) -> Result<Option<TownSnapshot>, Error> {
    let Some(cached) = cluster.towns.get(key) else { return Ok(None) };
    let Some(uid) = Uid::of(&cached.metadata) else { return Ok(None) };
    cluster.sees_own_writes(&uid).await;
    let Some(cached) = cluster.towns.get(key) else { return Ok(None) };
    let mut snapshot = TownSnapshot {
        agents: bound_agents(cluster, &uid),
        pods: ours(cluster.pods.of(&Group::Town(uid.clone())).iter().map(|p| (**p).clone()), cluster),
        claim: own_claim(cluster.claims.of(&Group::Town(uid.clone())), None, cluster),
        service: None,
        probe: ProbeFacts::default(),
        agent_probes: HashMap::new(),
        revision: String::new(),
        may_start: true,
        attach_max_hold: SignedDuration::from_hours(12),
        town: cached,
        install: cluster.install.0.clone(),
        freshness: Freshness::Cached,
        remains: None,
        reported_at: lock(&cluster.reported).get(&uid).copied(),
        blocked_after: cluster.blocked_after,
        uid,
    };
    if !needs_live(&snapshot.town) {
        return Ok(Some(snapshot));
    }
    let Some(town) = get::<Town>(cluster, key).await? else { return Ok(None) };
    if Uid::of(&town.metadata).as_ref() != Some(&snapshot.uid) {
        return Ok(None);
    }
    let deleting = town.metadata.deletion_timestamp.is_some();
    if deleting && !has_own_tombstone(&town.metadata) {
        snapshot.town = Arc::new(town);
        return Ok(Some(snapshot));
    }
    let remains = remains_of_town(cluster, &town, &snapshot.uid).await;
    if deleting {
        cluster.receipts.saw(&snapshot.uid, &remains);
        snapshot.remains = Some(remains);
    } else {
        // The last look before sleep: what cannot be read is no reason to go on.
        let unknown =
            |u: Unknown| Error::Undecodable { kind: u.kind, name: String::new(), message: u.message };
        snapshot.agents = remains.agents.map_err(unknown)?;
        snapshot.pods = remains.pods.map_err(unknown)?;
    }
    snapshot.town = Arc::new(town);
    snapshot.freshness = Freshness::Live;
    Ok(Some(snapshot))
}

/// Everything that a decision about the agent rests on; `None`: there is no such agent.
pub async fn observe_agent(cluster: &Cluster, key: &ObjectKey) -> Result<Option<AgentSnapshot>, Error> {
    let Some(cached) = cluster.agents.get(key) else { return Ok(None) };
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
    let town = match observe_town_of(cluster, &agent).await {
        Ok(town) => town,
        Err(error) if deleting => TownView::Unknown(unknown("Town", &error)),
        Err(error) => return Err(error),
    };
    let remains = if deleting { Some(remains_of_agent(cluster, &agent, &uid, &town).await) } else { None };
    if let Some(remains) = &remains {
        cluster.receipts.saw(&uid, remains);
    }
    let pods = ours(cluster.pods.of(&Group::Agent(uid.clone())).iter().map(|p| (**p).clone()), cluster);
    Ok(Some(AgentSnapshot {
        pod: pods.into_iter().next(),
        claim: own_claim(cluster.claims.of(&Group::Agent(uid.clone())), Some(&uid), cluster),
        probe: ProbeFacts::default(),
        revision: String::new(),
        standing: Standing::Free,
        install: cluster.install.0.clone(),
        blocked_after: cluster.blocked_after,
        agent,
        uid,
        town,
        remains,
    }))
}

/// The town that an agent names: as watched, or read live where its absence would have consequences.
async fn observe_town_of(cluster: &Cluster, agent: &Agent) -> Result<TownView, Error> {
    let key = ObjectKey {
        namespace: agent.metadata.namespace.clone().unwrap_or_default(),
        name: agent.spec.town.clone(),
    };
    let facts = |town: &Town| TownFacts::of(town, &cluster.install.0);
    let cached = cluster.towns.get(&key).and_then(|town| facts(&town));
    if !needs_live_town(agent, cached.as_ref()) {
        return Ok(view(Freshness::Cached, cached));
    }
    Ok(view(Freshness::Live, get::<Town>(cluster, &key).await?.as_ref().and_then(facts)))
}

fn view(freshness: Freshness, facts: Option<TownFacts>) -> TownView {
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
        .find(|c| c.agent_uid.as_ref() == agent && c.install.as_deref() == Some(&cluster.install.0))
        .map(|c| (*c).clone())
}

/// What is left of a town, read live.
async fn remains_of_town(cluster: &Cluster, town: &Town, uid: &Uid) -> Remains {
    let namespace = town.metadata.namespace.clone().unwrap_or_default();
    let selector = format!("{}={uid}", names::TOWN_UID);
    let status = town.status.as_ref();
    let recorded = (status.and_then(|s| s.pod.as_ref()), status.and_then(|s| s.storage.as_ref()));
    let (pods, claims) = children(cluster, &namespace, &selector, recorded).await;
    let settled_at = cluster.gates.settled_at(
        uid,
        tombstone(&town.metadata).and_then(tombstone_time),
        cluster.late_create,
    );
    Remains {
        agents: agents_of_town(cluster, town, &namespace, &selector).await,
        pods,
        claims,
        others: Ok(Vec::new()),
        settled_at,
    }
}

/// What is left of an agent, read live.
async fn remains_of_agent(cluster: &Cluster, agent: &Agent, uid: &Uid, town: &TownView) -> Remains {
    let namespace = agent.metadata.namespace.clone().unwrap_or_default();
    let selector = format!("{}={uid}", names::AGENT_UID);
    let status = agent.status.as_ref();
    let recorded = (status.and_then(|s| s.pod.as_ref()), status.and_then(|s| s.storage.as_ref()));
    let (pods, claims) = children(cluster, &namespace, &selector, recorded).await;
    // Either its own tombstone closed its own gate, or its town's closed the town's.
    let own = tombstone(&agent.metadata).and_then(tombstone_time);
    let settled_at = match (own, town) {
        (None, TownView::Present(_, town)) => {
            cluster.gates.settled_at(&town.uid, town.tombstoned_at, cluster.late_create)
        }
        _ => cluster.gates.settled_at(uid, own, cluster.late_create),
    };
    Remains { agents: Ok(Vec::new()), pods, claims, others: Ok(Vec::new()), settled_at }
}

/// Pods and claims by UID label, and those that the owner's own record names: a label can be stripped.
async fn children(
    cluster: &Cluster,
    namespace: &str,
    selector: &str,
    recorded: (Option<&PodStatus>, Option<&StorageStatus>),
) -> (Result<Vec<PodFacts>, Unknown>, Result<Vec<ClaimFacts>, Unknown>) {
    let params = ListParams::default().labels(selector);
    let pods = async {
        let mut pods = list::<Pod>(cluster, namespace, &params).await?;
        if let Some((name, uid)) = recorded.0.and_then(|p| Some((p.name.as_ref()?, p.uid.as_ref()?))) {
            pods.extend(unlisted(cluster, namespace, name, uid, &pods).await?);
        }
        let known = recorded.0.and_then(|p| p.uid.as_ref());
        let mut pods: Vec<_> = pods.iter().filter_map(pod_facts).collect();
        pods.retain(|p| is_ours(cluster, &p.key, &p.uid, p.install.as_deref(), known));
        Ok(pods)
    };
    let claims = async {
        let mut claims = list::<PersistentVolumeClaim>(cluster, namespace, &params).await?;
        if let Some((name, uid)) = recorded.1.and_then(|c| Some((&c.claim, c.uid.as_ref()?))) {
            claims.extend(unlisted(cluster, namespace, name, uid, &claims).await?);
        }
        let known = recorded.1.and_then(|c| c.uid.as_ref());
        let mut claims: Vec<_> = claims.iter().filter_map(claim_facts).collect();
        claims.retain(|c| is_ours(cluster, &c.key, &c.uid, c.install.as_deref(), known));
        Ok(claims)
    };
    let (pods, claims): (Result<_, Error>, Result<_, Error>) = futures::join!(pods, claims);
    (pods.map_err(|e| unknown("Pod", &e)), claims.map_err(|e| unknown("PersistentVolumeClaim", &e)))
}

/// An object that the record names and the list lacks: still there under its UID, or nothing.
async fn unlisted<K>(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    uid: &str,
    listed: &[K],
) -> Result<Option<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if listed.iter().any(|o| o.meta().uid.as_deref() == Some(uid)) {
        return Ok(None);
    }
    let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
    Ok(get::<K>(cluster, &key).await?.filter(|found| found.meta().uid.as_deref() == Some(uid)))
}

/// Whether an object is ours: it carries our install label, or it is the very one that our own record
/// names, stripped of its labels. Whatever else carries the owner's UID is left alone, and named.
fn is_ours(
    cluster: &Cluster,
    key: &ObjectKey,
    uid: &Uid,
    install: Option<&str>,
    recorded: Option<&String>,
) -> bool {
    let ours = match install {
        Some(install) => install == cluster.install.0,
        None => recorded.is_some_and(|r| r == uid.as_str()),
    };
    if !ours {
        tracing::warn!(object = %key, %uid, ?install, "carries the owner's UID but not our install label: left alone");
    }
    ours
}

/// The agents bound to the town, and those whose label was stripped: they name it and carry our finalizer.
async fn agents_of_town(
    cluster: &Cluster,
    town: &Town,
    namespace: &str,
    selector: &str,
) -> Result<Vec<Arc<Agent>>, Unknown> {
    let read = async {
        let name = town.metadata.name.clone().unwrap_or_default();
        let bound = list::<Agent>(cluster, namespace, &ListParams::default().labels(selector)).await?;
        let naming = ListParams::default().fields(&format!("spec.town={name}"));
        // Only those that carry our finalizer concern us, whether they can be decoded or not.
        let stripped = |meta: &ObjectMeta| {
            label(meta, names::TOWN_UID).is_none() && has_finalizer(meta, names::FINALIZER)
        };
        let stripped = list_where::<Agent>(cluster, namespace, &naming, stripped).await?;
        Ok::<_, Error>(bound.into_iter().chain(stripped).collect::<Vec<_>>())
    };
    let mut agents = read.await.map_err(|e| unknown("Agent", &e))?;
    agents.retain(|a| label(&a.metadata, names::INSTALL).is_none_or(|i| i == cluster.install.0));
    Ok(agents.into_iter().map(Arc::new).collect())
}

fn unknown(kind: &'static str, error: &Error) -> Unknown {
    Unknown { kind, message: error.to_string() }
}

/// One object, past every cache; `None` only where the API server says 404.
async fn get<K>(cluster: &Cluster, key: &ObjectKey) -> Result<Option<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &key.namespace);
    api.get_opt(&key.name).await.map_err(|e| Error::api(format!("read {} {key}", K::kind(&())), e))
}

/// A whole list, page by page, past every cache.
async fn list<K>(cluster: &Cluster, namespace: &str, params: &ListParams) -> Result<Vec<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    list_where(cluster, namespace, params, |_| true).await
}

/// A whole list of those whose metadata tells that they matter.
async fn list_where<K>(
    cluster: &Cluster,
    namespace: &str,
    params: &ListParams,
    matters: impl Fn(&ObjectMeta) -> bool,
) -> Result<Vec<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let kind = kind_name::<K>();
    let api: Api<DeserializeGuard<K>> = Api::namespaced(cluster.client.clone(), namespace);
    let mut params = params.clone().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await.map_err(|e| Error::api(format!("list {kind}"), e))?;
        for guarded in page.items.into_iter().filter(|item| matters(item.meta())) {
            all.push(guarded.0.map_err(|bad| Error::Undecodable {
                kind,
                name: bad.metadata.name.unwrap_or_default(),
                message: bad.error,
            })?);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

fn kind_name<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()).as_ref() {
        "Agent" => "Agent",
        "Pod" => "Pod",
        "PersistentVolumeClaim" => "PersistentVolumeClaim",
        _ => "Town",
    }
}

impl Cluster {
    /// The status of the object was written by this process just now.
    pub(super) fn reported_now(&self, uid: &Uid, now: Timestamp) {
        lock(&self.reported).insert(uid.clone(), now);
    }
}
