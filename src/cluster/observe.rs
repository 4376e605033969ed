//! The only reads of a reconcile.
//!
//! From the watches where that is enough; from the API server, past every cache, where the decision may
//! end in what cannot be undone. A list that fails, or one object in it that cannot be decoded, makes
//! the whole answer unknown: an unreadable set is not an empty one.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::{Api, ListParams};
use kube::core::{DeserializeGuard, ObjectList};

use super::cache::Group;
use super::error::Error;
use super::kinds::Known;
use super::project::{annotation, child_facts, claim_facts, pod_facts};
use super::{Cluster, lock};
use crate::api::{Agent, PodStatus, StorageStatus, Town, names};
use crate::lifecycle::{
    AgentSnapshot, ChildFacts, ChildKind, ClaimFacts, Freshness, Guard, ObjectKey, PodFacts, ProbeFacts,
    Remains, ServiceFacts, Standing, TownFacts, TownSnapshot, TownView, Uid, Unknown, has_finalizer,
    has_own_tombstone, label, needs_live, needs_live_town, standing, starting, tombstone, tombstone_time,
};
use crate::resources;

/// Objects asked for at once.
const PAGE: u32 = 250;

/// Everything that a decision about the town rests on; `None`: there is no such town.
pub async fn observe_town(cluster: &Cluster, key: &ObjectKey) -> Result<Option<TownSnapshot>, Error> {
    let Some(mut snapshot) = Box::pin(look_at_town(cluster, key)).await? else { return Ok(None) };
    let now = cluster.now();
    if starting(&snapshot, now) {
        snapshot.may_start = cluster.starts.turn(&snapshot.uid, key, now);
    } else {
        cluster.starts.release(&snapshot.uid);
    }
    Ok(Some(snapshot))
}

/// Gives those towns their places that are starting already, since before this process began. To be called before
/// any town is observed.
pub fn take_up_starts(cluster: &Cluster) {
    let now = cluster.now();
    for town in cluster.towns.all() {
        let Some(uid) = Uid::of(&town.metadata) else { continue };
        let key = ObjectKey::of(&town.metadata);
        let snapshot = watched_town(cluster, town, uid);
        if snapshot.pod().is_some() && starting(&snapshot, now) {
            cluster.starts.turn(&snapshot.uid, &key, now);
        }
    }
}

/// The town as the watches show it.
fn watched_town(cluster: &Cluster, town: Arc<Town>, uid: Uid) -> TownSnapshot {
    let mut snapshot = TownSnapshot {
        agents: bound_agents(cluster, &uid),
        pods: ours(cluster.pods.of(&Group::Town(uid.clone())).iter().map(|p| (**p).clone()), cluster),
        claim: own_claim(cluster.claims.of(&Group::Town(uid.clone())), None, cluster),
        service: own_service(cluster, &uid),
        probe: ProbeFacts::default(),
        agent_probes: HashMap::new(),
        revision: resources::town_revision(&town),
        may_start: true,
        attach_max_hold: cluster.limits.attach_max_hold,
        town,
        install: cluster.install.0.clone(),
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

async fn look_at_town(cluster: &Cluster, key: &ObjectKey) -> Result<Option<TownSnapshot>, Error> {
    let Some(cached) = cluster.towns.get(key) else { return Ok(None) };
    let Some(uid) = Uid::of(&cached.metadata) else { return Ok(None) };
    cluster.sees_own_writes(&uid).await;
    let Some(cached) = cluster.towns.get(key) else { return Ok(None) };
    let mut snapshot = watched_town(cluster, cached, uid);
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
    let search = Search::of_town(cluster, &town, &snapshot.uid);
    if deleting {
        let remains = search.remains_of_town(&town).await;
        cluster.receipts.saw(&snapshot.uid, &remains);
        snapshot.remains = Some(remains);
    } else {
        // The last look before sleep: what cannot be read is no reason to go on.
        let (agents, pods) = futures::join!(search.agents(&town), search.pods());
        let unknown =
            |u: Unknown| Error::Undecodable { kind: u.kind, name: String::new(), message: u.message };
        snapshot.agents = agents.map_err(unknown)?;
        snapshot.pods = pods.map_err(unknown)?;
        show_answers(cluster, &mut snapshot);
    }
    snapshot.revision = resources::town_revision(&town);
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
    let (town, revision) = match observe_town_of(cluster, &agent).await {
        Ok((freshness, town)) => (
            view(cluster, freshness, town.as_deref()),
            town.map(|town| resources::agent_revision(&agent, &town)).unwrap_or_default(),
        ),
        Err(error) if deleting => (TownView::Unknown(unknown("Town", &error)), String::new()),
        Err(error) => return Err(error),
    };
    let mut remains = None;
    if deleting {
        let left = Search::of_agent(cluster, &agent, &uid).remains_of_agent(&agent, &town).await;
        cluster.receipts.saw(&uid, &left);
        remains = Some(left);
    }
    let standing = match &town {
        TownView::Present(_, facts) => standing(&agent, facts, &bound_agents(cluster, &facts.uid)),
        _ => Standing::Free,
    };
    let pods = ours(cluster.pods.of(&Group::Agent(uid.clone())).iter().map(|p| (**p).clone()), cluster);
    let pod = pods.into_iter().next();
    Ok(Some(AgentSnapshot {
        probe: answer_of(cluster, pod.as_ref()),
        pod,
        claim: own_claim(cluster.claims.of(&Group::Agent(uid.clone())), Some(&uid), cluster),
        revision,
        standing,
        install: cluster.install.0.clone(),
        blocked_after: cluster.limits.blocked_after,
        agent,
        uid,
        town,
        remains,
    }))
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
        .find(|c| c.agent_uid.as_ref() == agent && c.install.as_deref() == Some(&cluster.install.0))
        .map(|c| (*c).clone())
}

fn own_service(cluster: &Cluster, town: &Uid) -> Option<ServiceFacts> {
    let mut services = cluster.services.of(&Group::Town(town.clone())).into_iter();
    services
        .find(|s| s.child.agent_uid.is_none() && s.child.install.as_deref() == Some(&cluster.install.0))
        .map(|s| (*s).clone())
}

/// Where to look, past every cache, for what is left of an owner: in its namespace, by the label with its UID,
/// and by the names in its own record, since a label can be stripped.
struct Search<'a> {
    cluster: &'a Cluster,
    owner: &'a Uid,
    namespace: &'a str,
    selector: String,
    pod: Option<&'a PodStatus>,
    claim: Option<&'a StorageStatus>,
}

impl<'a> Search<'a> {
    fn of_town(cluster: &'a Cluster, town: &'a Town, uid: &'a Uid) -> Self {
        let record = town.status.as_ref().map(|s| (s.pod.as_ref(), s.storage.as_ref()));
        Self::of(cluster, &town.metadata, uid, names::TOWN_UID, record)
    }

    fn of_agent(cluster: &'a Cluster, agent: &'a Agent, uid: &'a Uid) -> Self {
        let record = agent.status.as_ref().map(|s| (s.pod.as_ref(), s.storage.as_ref()));
        Self::of(cluster, &agent.metadata, uid, names::AGENT_UID, record)
    }

    fn of(
        cluster: &'a Cluster,
        meta: &'a ObjectMeta,
        owner: &'a Uid,
        label: &str,
        record: Option<(Option<&'a PodStatus>, Option<&'a StorageStatus>)>,
    ) -> Self {
        let (pod, claim) = record.unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        Self { cluster, owner, namespace, selector: format!("{label}={owner}"), pod, claim }
    }

    async fn remains_of_town(&self, town: &Town) -> Remains {
        let children = self.children().await;
        let agents = self.agents(town).await;
        let tombstone = tombstone(&town.metadata).and_then(tombstone_time);
        Remains { agents, settled_at: self.settled_at(self.owner, tombstone), ..children }
    }

    async fn remains_of_agent(&self, agent: &Agent, town: &TownView) -> Remains {
        let children = self.children().await;
        // Either its own tombstone closed its own gate, or its town's closed the town's.
        let own = tombstone(&agent.metadata).and_then(tombstone_time);
        let (closed, since) = match (own, town) {
            (None, TownView::Present(_, town)) => (&town.uid, town.tombstoned_at),
            _ => (self.owner, own),
        };
        Remains { settled_at: self.settled_at(closed, since), ..children }
    }

    fn settled_at(&self, uid: &Uid, tombstone: Option<Timestamp>) -> Option<Timestamp> {
        let tombstone = tombstone.unwrap_or_else(|| self.cluster.now());
        self.cluster.gates.settled_at(uid, tombstone, self.cluster.limits.late_create)
    }

    /// Every kind that we make.
    async fn children(&self) -> Remains {
        let (pods, claims, services, secrets) = futures::join!(
            self.pods(),
            self.claims(),
            self.others::<Service>(ChildKind::Service),
            self.others::<Secret>(ChildKind::Secret),
        );
        let others = services.and_then(|services| Ok([services, secrets?].concat()));
        Remains { agents: Ok(Vec::new()), pods, claims, others, settled_at: None }
    }

    async fn pods(&self) -> Result<Vec<PodFacts>, Unknown> {
        let recorded = self.pod.and_then(|pod| Some((pod.name.as_deref()?, pod.uid.as_deref()?)));
        self.whole::<Pod, _>(recorded, pod_facts).await
    }

    async fn claims(&self) -> Result<Vec<ClaimFacts>, Unknown> {
        let recorded = self.claim.and_then(|claim| Some((claim.claim.as_str(), claim.uid.as_deref()?)));
        self.whole::<PersistentVolumeClaim, _>(recorded, claim_facts).await
    }

    /// What is listed of a kind, and the one that the record names if it is there under its UID.
    async fn whole<K: Known, F>(
        &self,
        recorded: Option<(&str, &str)>,
        facts: impl Fn(&K) -> Option<F>,
    ) -> Result<Vec<F>, Unknown> {
        let read = async {
            let mut all = list::<K>(self.cluster, self.namespace, &self.params(), |_| true).await?;
            if let Some((name, uid)) = recorded
                && !all.iter().any(|listed| listed.meta().uid.as_deref() == Some(uid))
            {
                let key = ObjectKey { namespace: self.namespace.to_owned(), name: name.to_owned() };
                let found = get::<K>(self.cluster, &key).await?;
                all.extend(found.filter(|found| found.meta().uid.as_deref() == Some(uid)));
            }
            all.retain(|object| self.is_ours::<K>(object.meta(), recorded.map(|(_, uid)| uid)));
            Ok(all.iter().filter_map(facts).collect())
        };
        read.await.map_err(|error| unknown(K::NAME, &error))
    }

    /// What is listed of a kind of which no more than its metadata is asked for: a Secret's content is nobody's
    /// business. It has an ownerReference; should its label be stripped, the garbage collector finds it.
    async fn others<K: Known>(&self, kind: ChildKind) -> Result<Vec<ChildFacts>, Unknown> {
        let api: Api<K> = Api::namespaced(self.cluster.client.clone(), self.namespace);
        let page = |params: ListParams| {
            let api = api.clone();
            async move { api.list_metadata(&params).await }
        };
        let listed = pages(K::NAME, &self.params(), page).await.map_err(|error| unknown(K::NAME, &error))?;
        let ours = listed.iter().filter(|object| self.is_ours::<K>(&object.metadata, None));
        Ok(ours.filter_map(|object| child_facts(kind, &object.metadata)).collect())
    }

    fn params(&self) -> ListParams {
        ListParams::default().labels(&self.selector)
    }

    /// Whether an object is ours: it carries our install label, or it is the very one that our own record
    /// names, stripped of its labels. Whatever else carries the owner's UID is left alone, and named.
    fn is_ours<K: Known>(&self, meta: &ObjectMeta, recorded: Option<&str>) -> bool {
        let uid = meta.uid.as_deref();
        match label(meta, names::INSTALL) {
            Some(install) if install == self.cluster.install.0 => return true,
            // Let go on purpose, perhaps by an earlier process: it only looks stripped.
            None if recorded.is_some() && annotation(meta, names::RETAINED_FROM).is_some() => {
                self.cluster.receipts.retained::<K>(self.owner, meta);
                return false;
            }
            None if recorded.is_some() && recorded == uid => return true,
            _ => {}
        }
        let (kind, object) = (K::NAME, ObjectKey::of(meta));
        tracing::warn!(kind, %object, uid, "carries the owner's UID but not our install label: left alone");
        false
    }

    /// The agents bound to the town, and those whose label was stripped: they name it and carry our finalizer.
    async fn agents(&self, town: &Town) -> Result<Vec<Arc<Agent>>, Unknown> {
        let read = async {
            let name = town.metadata.name.as_deref().unwrap_or_default();
            let bound = list::<Agent>(self.cluster, self.namespace, &self.params(), |_| true).await?;
            let naming = ListParams::default().fields(&format!("spec.town={name}"));
            // Only those that carry our finalizer concern us, whether they can be decoded or not.
            let stripped = |meta: &ObjectMeta| {
                label(meta, names::TOWN_UID).is_none() && has_finalizer(meta, names::FINALIZER)
            };
            let stripped = list::<Agent>(self.cluster, self.namespace, &naming, stripped).await?;
            Ok::<_, Error>(bound.into_iter().chain(stripped))
        };
        let agents = read.await.map_err(|e| unknown("Agent", &e))?;
        let install =
            |a: &Agent| label(&a.metadata, names::INSTALL).is_none_or(|i| i == self.cluster.install.0);
        Ok(agents.filter(install).map(Arc::new).collect())
    }
}

fn unknown(kind: &'static str, error: &Error) -> Unknown {
    Unknown { kind, message: error.to_string() }
}

/// One object, past every cache; `None` only where the API server says 404.
async fn get<K: Known>(cluster: &Cluster, key: &ObjectKey) -> Result<Option<K>, Error> {
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &key.namespace);
    api.get_opt(&key.name).await.map_err(|e| Error::api(format!("read {} {key}", K::NAME), e))
}

/// A whole list, past every cache, of those whose metadata tells that they matter.
async fn list<K: Known>(
    cluster: &Cluster,
    namespace: &str,
    params: &ListParams,
    matters: impl Fn(&ObjectMeta) -> bool,
) -> Result<Vec<K>, Error> {
    let api: Api<DeserializeGuard<K>> = Api::namespaced(cluster.client.clone(), namespace);
    let page = |params: ListParams| {
        let api = api.clone();
        async move { api.list(&params).await }
    };
    let all = match pages(K::NAME, params, page).await {
        Err(_) if !Guard::FailClosed.holds() => Vec::new(),
        all => all?,
    };
    let there = |meta: &ObjectMeta| meta.deletion_timestamp.is_none() || Guard::Absence.holds();
    let all = all.into_iter().filter(|item| matters(item.meta()) && there(item.meta()));
    all.map(|guarded| {
        guarded.0.map_err(|bad| Error::Undecodable {
            kind: K::NAME,
            name: bad.metadata.name.unwrap_or_default(),
            message: bad.error,
        })
    })
    .collect()
}

/// A whole list, page by page.
async fn pages<T: Clone, F>(
    kind: &str,
    params: &ListParams,
    page: impl Fn(ListParams) -> F,
) -> Result<Vec<T>, Error>
where
    F: Future<Output = kube::Result<ObjectList<T>>>,
{
    let mut params = params.clone().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let ObjectList { items, metadata, .. } =
            page(params.clone()).await.map_err(|e| Error::api(format!("list {kind}"), e))?;
        all.extend(items);
        match metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

impl Cluster {
    /// The status of the object was written by this process just now.
    pub(super) fn reported_now(&self, uid: &Uid, now: Timestamp) {
        lock(&self.reported).insert(uid.clone(), now);
    }
}
