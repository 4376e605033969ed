//! What is left of an owner that is being destroyed, read past every cache.
//!
//! A list that fails, or one object in it that cannot be decoded, makes the answer for that kind unknown: an
//! unreadable set is not an empty one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};

use super::Cluster;
use super::definitions::AGENTS;
use super::error::Error;
use super::kinds::Known;
use super::project::{child_facts, claim_facts, pod_facts, volume_facts};
use super::read::{get, get_global, is_absent, list, pages, unknown};
use super::tombstones;
use crate::api::{Agent, PodStatus, StorageStatus, TombstoneChild, TombstoneKind, Town, names};
use crate::lifecycle::{
    ChildFacts, ChildKind, ObjectKey, PodFacts, Record, Remains, TombstoneFacts, TownView, Uid, Unknown,
    VOLUME, VolumeFacts, annotation, is_held, label, present, tombstone, tombstone_time,
};

/// Where to look, past every cache, for what is left of an owner: in its namespace, by the label with its UID,
/// and by the names in its own record, since a label can be stripped.
pub(super) struct Search<'a> {
    cluster: &'a Cluster,
    owner: &'a Uid,
    namespace: &'a str,
    selector: String,
    pod: Option<&'a PodStatus>,
    claim: Option<&'a StorageStatus>,
    /// An administrator gives something up: later steps may come while earlier ones are not done.
    gives_up: bool,
}

impl<'a> Search<'a> {
    pub(super) fn of_town(cluster: &'a Cluster, town: &'a Town, uid: &'a Uid) -> Self {
        let record = town.status.as_ref().map(|s| (s.pod.as_ref(), s.storage.as_ref()));
        Self::of(cluster, &town.metadata, uid, names::TOWN_UID, record)
    }

    pub(super) fn of_agent(cluster: &'a Cluster, agent: &'a Agent, uid: &'a Uid) -> Self {
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
        let gives_up = annotation(meta, names::ABANDON).is_some();
        Self { cluster, owner, namespace, selector: format!("{label}={owner}"), pod, claim, gives_up }
    }

    /// What was destroyed, and left this record.
    pub(super) fn of_destroyed(cluster: &'a Cluster, record: &'a TombstoneFacts) -> Self {
        let label = match record.kind {
            TombstoneKind::Town => names::TOWN_UID,
            TombstoneKind::Agent => names::AGENT_UID,
        };
        let (owner, namespace) = (&record.of.uid, record.of.key.namespace.as_str());
        let selector = format!("{label}={owner}");
        Self { cluster, owner, namespace, selector, pod: None, claim: None, gives_up: false }
    }

    /// Everything that carries the UID, of every kind in the table, and agents. An unread list is an error.
    pub(super) async fn everything(&self) -> Result<BTreeSet<TombstoneChild>, Error> {
        let remains = self.remains(Remains::of(Record::NotKept)).await;
        let agents = match list::<Agent>(self.cluster, self.namespace, &self.params(), |_| true).await {
            Err(_) if is_absent(self.cluster, AGENTS).await? => Vec::new(),
            agents => agents?,
        };
        let ours = |a: &Agent| label(&a.metadata, names::INSTALL) == Some(&self.cluster.install.0);
        let agents = agents.into_iter().filter(ours).map(Arc::new).collect();
        let remains = Remains { agents: Ok(agents), ..remains };
        self.cluster.receipts.forget(self.owner);
        let unread = remains.pods.as_ref().err().or(remains.children.values().find_map(|c| c.as_ref().err()));
        match unread {
            Some(unknown) => Err(unknown.clone().into()),
            None => Ok(present(&remains)),
        }
    }

    pub(super) async fn remains_of_town(&self, town: &Town) -> Remains {
        let record = tombstones::read(self.cluster, TombstoneKind::Town, self.owner).await;
        let mut absent_kinds = Vec::new();
        let agents = match self.agents(town).await {
            // No such kind, by the read of its definition: then there is no such object either.
            Err(_) if is_absent(self.cluster, AGENTS).await.is_ok_and(|absent| absent) => {
                absent_kinds.push(Agent::NAME);
                Ok(Vec::new())
            }
            agents => agents,
        };
        let tombstone = tombstone(&town.metadata).and_then(tombstone_time);
        let settled_at = self.settled_at(self.owner, tombstone);
        self.remains(Remains { agents, absent_kinds, settled_at, ..Remains::of(record) }).await
    }

    pub(super) async fn remains_of_agent(&self, agent: &Agent, town: &TownView, with_town: bool) -> Remains {
        // Either its own tombstone closed its own gate, or its town's closed the town's.
        let own = tombstone(&agent.metadata).and_then(tombstone_time);
        let (closed, since) = match (own, town) {
            (None, TownView::Present(_, town)) => (&town.uid, town.tombstoned_at),
            _ => (self.owner, own),
        };
        let kept = self.cluster.limits.agent_tombstones && (own.is_some() || !with_town);
        let record = if kept {
            tombstones::read(self.cluster, TombstoneKind::Agent, self.owner).await
        } else {
            Record::NotKept
        };
        let remains = Remains { settled_at: self.settled_at(closed, since), ..Remains::of(record) };
        let remains = self.remains(remains).await;
        if let (true, TownView::Present(_, town)) = (with_town, town) {
            // Its town may not look while something of the agent's that came late is there.
            self.cluster.receipts.saw(&town.uid, remains.seen.clone());
        }
        remains
    }

    fn settled_at(&self, uid: &Uid, tombstone: Option<Timestamp>) -> Option<Timestamp> {
        let tombstone = tombstone.unwrap_or_else(|| self.cluster.now());
        self.cluster.gates.settled_at(uid, tombstone, self.cluster.limits.late_create)
    }

    /// What runs, and once nothing does, and for the record, the rest: its turn has not come before.
    async fn remains(&self, mut remains: Remains) -> Remains {
        let (pods, secrets) = futures::join!(self.pods(), self.others::<Secret>(ChildKind::Secret));
        remains.pods = pods;
        remains.children.insert(ChildKind::Secret, secrets);
        let begins = matches!(remains.record, Record::Missing);
        remains.namespace_terminating = begins && self.namespace_terminating().await;
        if begins || self.gives_up || nothing_runs(&remains) {
            self.rest(&mut remains).await;
        }
        let (seen, retained) = self.cluster.receipts.saw(self.owner, present(&remains));
        remains.seen = seen;
        remains.retained = retained;
        remains
    }

    /// Claims, those that only the record knows included, what is behind them, and services.
    async fn rest(&self, remains: &mut Remains) {
        let (mut claims, services) =
            futures::join!(self.claims(), self.others::<Service>(ChildKind::Service));
        let known = self.known(remains);
        claims = match claims {
            Ok(listed) => self.with_known_claims(listed, &known).await,
            unread => unread,
        };
        remains.volumes = match &claims {
            Ok(claims) => self.volumes(claims, &known).await,
            Err(unknown) => Err(unknown.clone()),
        };
        remains.children.insert(ChildKind::Service, services);
        remains.children.insert(ChildKind::PersistentVolumeClaim, facts(claims));
    }

    /// What its record, and this process, know to have been there.
    fn known(&self, remains: &Remains) -> BTreeSet<TombstoneChild> {
        let (seen, _) = self.cluster.receipts.saw(self.owner, BTreeSet::new());
        remains.record.children().iter().cloned().chain(seen).collect()
    }

    /// The claims that are listed, and those that only the record knows: one whose labels were stripped is still
    /// ours, and one that was let go is remembered as such. Nothing else would find them.
    async fn with_known_claims(
        &self,
        mut claims: Vec<PersistentVolumeClaim>,
        known: &BTreeSet<TombstoneChild>,
    ) -> Result<Vec<PersistentVolumeClaim>, Unknown> {
        let listed: BTreeSet<_> = claims.iter().filter_map(|claim| claim.metadata.uid.clone()).collect();
        let kind = PersistentVolumeClaim::NAME;
        let lost = known.iter().filter(|child| child.kind == kind && !listed.contains(&child.uid));
        for child in lost {
            let found = self.by_name::<PersistentVolumeClaim>(&child.name, &child.uid).await;
            let found = found.map_err(|error| unknown(kind, &error))?;
            claims.extend(found.filter(|claim| {
                self.is_ours::<PersistentVolumeClaim>(&claim.metadata, Some(child.uid.as_str()))
            }));
        }
        Ok(claims)
    }

    /// The volumes behind these claims, and behind those that are gone.
    async fn volumes(
        &self,
        claims: &[PersistentVolumeClaim],
        known: &BTreeSet<TombstoneChild>,
    ) -> Result<Vec<VolumeFacts>, Unknown> {
        let of = |claim: &PersistentVolumeClaim| claim.spec.as_ref()?.volume_name.clone();
        let known: BTreeMap<_, _> = known
            .iter()
            .filter(|child| child.kind == VOLUME)
            .map(|child| (child.name.clone(), child.uid.as_str()))
            .collect();
        let names = claims.iter().filter_map(of).chain(known.keys().cloned()).collect::<BTreeSet<_>>();
        let mut volumes = Vec::new();
        for name in names {
            let read = get_global::<PersistentVolume>(self.cluster, &name);
            let found = self.unless_gone(known.get(&name).copied(), read).await;
            volumes.extend(found.map_err(|error| unknown(VOLUME, &error))?.as_ref().and_then(volume_facts));
        }
        Ok(volumes)
    }

    /// Only for the record: what cannot be read is taken for no.
    async fn namespace_terminating(&self) -> bool {
        let namespace = get_global::<Namespace>(self.cluster, self.namespace).await.ok().flatten();
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    pub(super) async fn pods(&self) -> Result<Vec<PodFacts>, Unknown> {
        let recorded = self.pod.and_then(|pod| Some((pod.name.as_deref()?, pod.uid.as_deref()?)));
        let pods = self.whole::<Pod>(recorded).await?;
        Ok(pods.iter().filter_map(pod_facts).collect())
    }

    async fn claims(&self) -> Result<Vec<PersistentVolumeClaim>, Unknown> {
        let recorded = self.claim.and_then(|claim| Some((claim.claim.as_str(), claim.uid.as_deref()?)));
        self.whole(recorded).await
    }

    /// What is listed of a kind, and the one that the record names if it is there under its UID.
    async fn whole<K: Known>(&self, recorded: Option<(&str, &str)>) -> Result<Vec<K>, Unknown> {
        let read = async {
            let mut all = list::<K>(self.cluster, self.namespace, &self.params(), |_| true).await?;
            if let Some((name, uid)) = recorded
                && !all.iter().any(|listed| listed.meta().uid.as_deref() == Some(uid))
            {
                all.extend(self.by_name::<K>(name, uid).await?);
            }
            all.retain(|object| self.is_ours::<K>(object.meta(), recorded.map(|(_, uid)| uid)));
            Ok(all)
        };
        read.await.map_err(|error| unknown(K::NAME, &error))
    }

    /// The object of this name, if it is the very one.
    async fn by_name<K: Known>(&self, name: &str, uid: &str) -> Result<Option<K>, Error> {
        let key = ObjectKey { namespace: self.namespace.to_owned(), name: name.to_owned() };
        let read = async {
            let found = get::<K>(self.cluster, &key).await?;
            Ok(found.filter(|found| found.meta().uid.as_deref() == Some(uid)))
        };
        self.unless_gone(Some(uid), read).await
    }

    /// What is read of an object. Who has gone once, by its UID where that is known, is not looked for again.
    async fn unless_gone<T>(
        &self,
        uid: Option<&str>,
        read: impl Future<Output = Result<Option<T>, Error>>,
    ) -> Result<Option<T>, Error> {
        if uid.is_some_and(|uid| self.cluster.receipts.is_gone(self.owner, uid)) {
            return Ok(None);
        }
        let found = read.await?;
        if let (Some(uid), None) = (uid, &found) {
            self.cluster.receipts.gone(self.owner, uid);
        }
        Ok(found)
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
                self.cluster.receipts.retained(self.owner, Uid::of(meta));
                return false;
            }
            None if recorded.is_some() && recorded == uid => return true,
            _ => {}
        }
        let (kind, object) = (K::NAME, ObjectKey::of(meta));
        tracing::warn!(kind, %object, uid, "carries the owner's UID but not our install label: left alone");
        false
    }

    /// The agents bound to the town, and those whose label was stripped: all name it, which cannot be changed.
    pub(super) async fn agents(&self, town: &Town) -> Result<Vec<Arc<Agent>>, Unknown> {
        let name = town.metadata.name.as_deref().unwrap_or_default();
        let naming = ListParams::default().fields(&format!("spec.town={name}"));
        // Of those without the label only who carries our finalizer concerns us; whether it can be decoded or not.
        let concerns = |meta: &ObjectMeta| match label(meta, names::TOWN_UID) {
            Some(town) => town == self.owner.as_str(),
            None => is_held(meta),
        };
        let agents = list::<Agent>(self.cluster, self.namespace, &naming, concerns).await;
        let agents = agents.map_err(|e| unknown("Agent", &e))?.into_iter();
        let install =
            |a: &Agent| label(&a.metadata, names::INSTALL).is_none_or(|i| i == self.cluster.install.0);
        Ok(agents.filter(install).map(Arc::new).collect())
    }
}

fn facts(claims: Result<Vec<PersistentVolumeClaim>, Unknown>) -> Result<Vec<ChildFacts>, Unknown> {
    Ok(claims?.iter().filter_map(claim_facts).map(|claim| claim.child).collect())
}

/// Whether agents, pods and credentials are proven gone.
fn nothing_runs(remains: &Remains) -> bool {
    let none = |kind| matches!(remains.children.get(&kind), Some(Ok(children)) if children.is_empty());
    matches!(&remains.agents, Ok(agents) if agents.is_empty())
        && matches!(&remains.pods, Ok(pods) if pods.is_empty())
        && none(ChildKind::Secret)
}
