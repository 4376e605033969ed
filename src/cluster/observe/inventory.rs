//! The remains of an owner that is being destroyed, from uncached reads.
//!
//! A list that fails, or an object in it that cannot be decoded, makes the answer for that kind unknown: an
//! unreadable set is not an empty set.

use crate::cluster::cache::children::{named_claim, named_pod};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, PartialObjectMeta};

use crate::api::condition::reason;
use crate::api::{Agent, PodStatus, StorageStatus, TombstoneChild, TombstoneKind, Town, names};
use crate::cluster::context::Cluster;
use crate::cluster::error::Error;
use crate::cluster::kinds::definitions::AGENTS;
use crate::cluster::kinds::known::Known;
use crate::cluster::observe::tombstones;
use crate::cluster::read::devices::get_device_claim;
use crate::cluster::read::namespaces;
use crate::cluster::read::objects::{get, get_global, is_absent, list, pages, unknown};
use crate::lifecycle::{
    ChildFacts, ChildKind, NamespaceFacts, ObjectKey, PodClaim, PodFacts, Record, Remains, TombstoneFacts,
    TownView, Uid, Unknown, VOLUME, VolumeFacts, annotation, child_entry, child_name, has_own_tombstone,
    is_held, label, lists_all_claims, present, volume_entry,
};
use crate::resources::{child_facts, claim_facts, kept_agent, pod_facts, volume_facts};

/// The parameters of an uncached search for the remains of an owner: its namespace, the label with its UID, and the
/// names in its own status. The names are necessary because a user can remove a label.
pub(crate) struct Search<'a> {
    cluster: &'a Cluster,
    owner: &'a Uid,
    namespace: &'a str,
    /// The name of the owner, which determines the names of its children.
    name: &'a str,
    /// The label on the children with the UID of the owner.
    label: &'static str,
    pod: Option<&'a PodStatus>,
    claim: Option<&'a StorageStatus>,
    /// Whether an administrator abandons a step: later steps may begin before earlier ones are done.
    gives_up: bool,
}

impl<'a> Search<'a> {
    pub(crate) fn of_town(cluster: &'a Cluster, town: &'a Town, uid: &'a Uid) -> Self {
        let record = town.status.as_ref().map(|s| (s.pod.as_ref(), s.storage.as_ref()));
        Self::of(cluster, &town.metadata, uid, names::TOWN_UID, record)
    }

    pub(crate) fn of_agent(cluster: &'a Cluster, agent: &'a Agent, uid: &'a Uid) -> Self {
        let record = agent.status.as_ref().map(|s| (s.pod.as_ref(), s.storage.as_ref()));
        Self::of(cluster, &agent.metadata, uid, names::AGENT_UID, record)
    }

    fn of(
        cluster: &'a Cluster,
        meta: &'a ObjectMeta,
        owner: &'a Uid,
        label: &'static str,
        record: Option<(Option<&'a PodStatus>, Option<&'a StorageStatus>)>,
    ) -> Self {
        let (pod, claim) = record.unwrap_or_default();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let gives_up = annotation(meta, names::ABANDON).is_some();
        Self { cluster, owner, namespace, name, label, pod, claim, gives_up }
    }

    /// A search for the remains of a destroyed owner, from its record.
    pub(crate) fn of_destroyed(cluster: &'a Cluster, record: &'a TombstoneFacts) -> Self {
        let label = match record.kind {
            TombstoneKind::Town => names::TOWN_UID,
            TombstoneKind::Agent => names::AGENT_UID,
        };
        let ObjectKey { namespace, name } = &record.of.key;
        let owner = &record.of.uid;
        Self { cluster, owner, namespace, name, label, pod: None, claim: None, gives_up: false }
    }

    /// Lists all objects with the UID, of every kind in the table, and the agents. A list that fails is an error.
    pub(crate) async fn everything(&self) -> Result<BTreeSet<TombstoneChild>, Error> {
        let remains = self.remains(Remains::of(Record::NotKept)).await;
        let agents = match list::<Agent>(&self.cluster.client, self.namespace, &self.params(), |_| true).await
        {
            Err(_) if is_absent(&self.cluster.client, AGENTS).await? => Vec::new(),
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

    /// Whether another installation created children of the owner. The caller asks this for an owner that carries the
    /// finalizer and no install label, so that its installation is unknown. A list that fails is an error.
    pub(crate) async fn is_of_another_installation(&self) -> Result<bool, Error> {
        Ok(self.has_foreign::<Pod>().await?
            || self.has_foreign::<PersistentVolumeClaim>().await?
            || self.has_foreign::<Service>().await?
            || self.has_foreign::<Secret>().await?)
    }

    async fn has_foreign<K: Known>(&self) -> Result<bool, Error> {
        let api: Api<K> = Api::namespaced(self.cluster.client.clone(), self.namespace);
        let page = |params: ListParams| {
            let api = api.clone();
            async move { api.list_metadata(&params).await }
        };
        let foreign = |object: PartialObjectMeta<K>| {
            label(&object.metadata, names::INSTALL)
                .is_some_and(|install| install != self.cluster.install.0)
                .then_some(())
        };
        Ok(!pages(K::NAME, &self.params(), page, foreign).await?.is_empty())
    }

    pub(crate) async fn remains_of_town(&self, town: &Town) -> Remains {
        let record = tombstones::read(self.cluster, TombstoneKind::Town, self.owner).await;
        let mut absent_kinds = Vec::new();
        let agents = match self.agents(town).await {
            // The read of the definition proves that the kind does not exist. Then no such object exists either.
            Err(_) if is_absent(&self.cluster.client, AGENTS).await.is_ok_and(|absent| absent) => {
                absent_kinds.push(Agent::NAME);
                Ok(Vec::new())
            }
            agents => agents,
        };
        let settled_at = self.settled_at(created(&record)).await;
        self.remains(Remains { agents, absent_kinds, settled_at, ..Remains::of(record) }).await
    }

    pub(crate) async fn remains_of_agent(&self, agent: &Agent, town: &TownView, with_town: bool) -> Remains {
        let kept = self.cluster.limits.agent_tombstones && (has_own_tombstone(&agent.metadata) || !with_town);
        let record = if kept {
            tombstones::read(self.cluster, TombstoneKind::Agent, self.owner).await
        } else {
            Record::NotKept
        };
        let mut settled_at = self.settled_at(None).await;
        if let (true, TownView::Present(_, town)) = (with_town, town)
            && settled_at.is_some_and(|at| self.cluster.now() < at)
        {
            // Under a previous leader, the gate of the town was also the gate of the agent. The Tombstone of the town
            // closed it.
            let of_town = tombstones::read(self.cluster, TombstoneKind::Town, &town.uid).await;
            settled_at = self.settled_at(created(&of_town)).await;
        }
        let remains = self.remains(Remains { settled_at, ..Remains::of(record) }).await;
        if let (true, TownView::Present(_, town)) = (with_town, town) {
            // The town might not search during the lifetime of a late object of the agent. Therefore this process
            // remembers the object for the town.
            self.cluster.receipts.saw(&town.uid, remains.seen.clone());
        }
        remains
    }

    /// The time from which creates for the owner can no longer take effect. The gate of the owner is closed first, so
    /// that no create is in progress and none follows. This also covers a tombstone that another client wrote, which
    /// kept the operator from closing the gate.
    async fn settled_at(&self, recorded: Option<Timestamp>) -> Option<Timestamp> {
        self.cluster.gates.close(self.owner).await;
        self.cluster.gates.creates_settle_since(self.owner, recorded, self.cluster.limits.late_create)
    }

    /// Searches for the running objects. After their end, and for the record, the function also searches for the
    /// rest: before that the rest is not needed.
    async fn remains(&self, mut remains: Remains) -> Remains {
        let (pods, secrets) = futures::join!(self.pods(), self.others::<Secret>(ChildKind::Secret));
        remains.pods = pods;
        remains.children.insert(ChildKind::Secret, secrets);
        if let Ok(pods) = &remains.pods {
            remains.made_for_pods = self.made_for_pods(pods).await;
        }
        let begins = matches!(remains.record, Record::Missing);
        if begins {
            // The record, which is written next, needs this.
            remains.namespace = self.namespace().await;
        }
        if begins || self.gives_up || nothing_runs(&remains) {
            self.rest(&mut remains).await;
        }
        let (seen, retained) = self.cluster.receipts.saw(self.owner, present(&remains));
        remains.seen = seen;
        remains.retained = retained;
        remains
    }

    /// Searches for claims, including those that only the record knows, for the volumes of the claims, and for
    /// services.
    async fn rest(&self, remains: &mut Remains) {
        let (mut claims, services) =
            futures::join!(self.claims(), self.others::<Service>(ChildKind::Service));
        let known = self.known(remains);
        claims = match claims {
            Ok(listed) => self.with_known_claims(listed, &known).await,
            unread => unread,
        };
        let listed_whole = match &remains.record {
            Record::There(tombstone) => lists_all_claims(&tombstone.spec),
            Record::Missing | Record::NotKept | Record::Unknown(_) => true,
        };
        remains.volumes = match &claims {
            Ok(claims) => self.volumes(claims, &known, listed_whole).await,
            Err(unknown) => Err(unknown.clone()),
        };
        remains.children.insert(ChildKind::ResourceClaim, self.device_claims(&known).await);
        remains.children.insert(ChildKind::Service, services);
        remains.children.insert(ChildKind::PersistentVolumeClaim, facts(claims));
    }

    /// The objects that the record of the owner, or this process, knows.
    fn known(&self, remains: &Remains) -> BTreeSet<TombstoneChild> {
        let (seen, _) = self.cluster.receipts.saw(self.owner, BTreeSet::new());
        remains.record.children().iter().cloned().chain(seen).collect()
    }

    /// The listed claims, and those that only the record knows. A claim without its labels still belongs to the
    /// owner, and a released claim is remembered as released. No other search finds them.
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
            claims.extend(
                found.filter(|claim| self.is_ours::<PersistentVolumeClaim>(&claim.metadata, Found::Record)),
            );
        }
        Ok(claims)
    }

    /// The objects that Kubernetes created for these pods, under the names that the pods determine. Each object
    /// refers to its pod as its owner by UID. Another object under such a name belongs to another owner.
    async fn made_for_pods(&self, pods: &[PodFacts]) -> Result<BTreeSet<TombstoneChild>, Unknown> {
        let (mut claims, mut made) = (Vec::new(), BTreeSet::new());
        for pod in pods {
            let is_of_pod = |meta: &ObjectMeta| {
                let mut owners = meta.owner_references.iter().flatten();
                owners.any(|owner| owner.kind == Pod::NAME && owner.uid == pod.uid.as_str())
            };
            for PodClaim { kind, name } in &pod.claims {
                let key = ObjectKey { namespace: self.namespace.to_owned(), name: name.clone() };
                if *kind == ChildKind::ResourceClaim {
                    let found = get_device_claim(&self.cluster.client, &key).await;
                    let found = found.map_err(|error| unknown(kind.as_str(), &error))?.filter(is_of_pod);
                    made.extend(found.and_then(|meta| child_facts(*kind, &meta)).as_ref().map(child_entry));
                } else {
                    let found = get::<PersistentVolumeClaim>(&self.cluster.client, &key).await;
                    let found = found.map_err(|error| unknown(PersistentVolumeClaim::NAME, &error))?;
                    claims.extend(found.filter(|claim| is_of_pod(&claim.metadata)));
                }
            }
        }
        made.extend(self.volumes(&claims, &BTreeSet::new(), true).await?.iter().map(volume_entry));
        made.extend(claims.iter().filter_map(claim_facts).map(|claim| child_entry(&claim.child)));
        Ok(made)
    }

    /// The device claims that only the record knows, as far as they exist.
    async fn device_claims(&self, known: &BTreeSet<TombstoneChild>) -> Result<Vec<ChildFacts>, Unknown> {
        let kind = ChildKind::ResourceClaim;
        let mut there = Vec::new();
        for child in known.iter().filter(|child| child.kind == kind.as_str()) {
            let key = ObjectKey { namespace: self.namespace.to_owned(), name: child.name.clone() };
            let read = async {
                let found = get_device_claim(&self.cluster.client, &key).await?;
                Ok(found.filter(|meta| meta.uid.as_deref() == Some(child.uid.as_str())))
            };
            let found = self.unless_gone(Some(&child.uid), read).await;
            let found = found.map_err(|error| unknown(kind.as_str(), &error))?;
            there.extend(found.and_then(|meta| child_facts(kind, &meta)));
        }
        Ok(there)
    }

    /// The volumes of these claims, and of deleted claims. A volume belongs to a claim only if the volume itself
    /// names the UID of the claim. A recorded volume must have the recorded UID, because names are used again. The
    /// volume must also still belong to a claim of the owner, because an administrator may have given it to another
    /// claim. This last check is left out if the record does not list all claims.
    async fn volumes(
        &self,
        claims: &[PersistentVolumeClaim],
        known: &BTreeSet<TombstoneChild>,
        listed_whole: bool,
    ) -> Result<Vec<VolumeFacts>, Unknown> {
        let recorded_claims = known.iter().filter(|child| child.kind == PersistentVolumeClaim::NAME);
        let claim_uids: BTreeSet<&str> = recorded_claims
            .map(|child| child.uid.as_str())
            .chain(claims.iter().filter_map(|claim| claim.metadata.uid.as_deref()))
            .collect();
        let of_a_claim = |volume: &VolumeFacts| {
            volume.claim.as_ref().is_some_and(|claim| !listed_whole || claim_uids.contains(claim.as_str()))
        };
        // Each name, with the UID of the claim that names the volume, or with the UID of the volume in the record.
        let named = claims.iter().filter_map(|claim| {
            let name = claim.spec.as_ref()?.volume_name.clone()?;
            Some((name, VolumeOf::Claim(claim.metadata.uid.as_deref()?)))
        });
        let recorded = known.iter().filter(|child| child.kind == VOLUME);
        let recorded = recorded.map(|child| (child.name.clone(), VolumeOf::Record(&child.uid)));
        let mut volumes: BTreeMap<Uid, VolumeFacts> = BTreeMap::new();
        for (name, of) in named.chain(recorded).collect::<BTreeSet<_>>() {
            let read = async {
                let found = get_global::<PersistentVolume>(&self.cluster.client, &name).await?;
                Ok(found.as_ref().and_then(volume_facts).filter(|volume| of.is(volume) && of_a_claim(volume)))
            };
            let recorded = match of {
                VolumeOf::Record(uid) => Some(uid),
                VolumeOf::Claim(_) => None,
            };
            if recorded.is_some_and(|uid| volumes.contains_key(&Uid::new(uid))) {
                continue;
            }
            let found = self.unless_gone(recorded, read).await.map_err(|error| unknown(VOLUME, &error))?;
            volumes.extend(found.map(|volume| (volume.uid.clone(), volume)));
        }
        Ok(volumes.into_values().collect())
    }

    async fn namespace(&self) -> Result<Option<NamespaceFacts>, Unknown> {
        namespaces::read(&self.cluster.client, self.namespace)
            .await
            .map_err(|error| unknown(namespaces::KIND, &error))
    }

    async fn pods(&self) -> Result<Vec<PodFacts>, Unknown> {
        let pods = self.whole::<Pod>(self.pod.and_then(named_pod)).await?;
        Ok(pods.iter().filter_map(pod_facts).collect())
    }

    /// The pods of a town, and the pods that the statuses of its agents name: a pod without its labels still runs.
    pub(crate) async fn pods_with_those_of(&self, agents: &[Arc<Agent>]) -> Result<Vec<PodFacts>, Unknown> {
        let mut pods = self.pods().await?;
        for agent in agents {
            let Some(uid) = Uid::of(&agent.metadata) else { continue };
            let search = Search::of_agent(self.cluster, agent, &uid);
            let Some((name, pod)) = search.pod.and_then(named_pod) else { continue };
            if pods.iter().any(|listed| listed.uid.as_str() == pod) {
                continue;
            }
            let found = search.by_name::<Pod>(name, pod).await.map_err(|error| unknown(Pod::NAME, &error))?;
            let ours = found.filter(|found| search.is_ours::<Pod>(&found.metadata, Found::Status));
            pods.extend(ours.as_ref().and_then(pod_facts));
        }
        Ok(pods)
    }

    async fn claims(&self) -> Result<Vec<PersistentVolumeClaim>, Unknown> {
        self.whole(self.claim.and_then(named_claim)).await
    }

    /// The listed objects of a kind, and the object that the record names if it exists with its UID.
    async fn whole<K: Known>(&self, recorded: Option<(&str, &str)>) -> Result<Vec<K>, Unknown> {
        let read = async {
            let mut all = list::<K>(&self.cluster.client, self.namespace, &self.params(), |_| true).await?;
            if let Some((name, uid)) = recorded
                && !all.iter().any(|listed| listed.meta().uid.as_deref() == Some(uid))
            {
                all.extend(self.by_name::<K>(name, uid).await?);
            }
            let found = |meta: &ObjectMeta| match recorded {
                Some((_, uid)) if meta.uid.as_deref() == Some(uid) => Found::Status,
                _ => Found::Label,
            };
            all.retain(|object| self.is_ours::<K>(object.meta(), found(object.meta())));
            Ok(all)
        };
        read.await.map_err(|error| unknown(K::NAME, &error))
    }

    /// The object of this name, if it has this UID.
    async fn by_name<K: Known>(&self, name: &str, uid: &str) -> Result<Option<K>, Error> {
        let key = ObjectKey { namespace: self.namespace.to_owned(), name: name.to_owned() };
        let read = async {
            let found = get::<K>(&self.cluster.client, &key).await?;
            Ok(found.filter(|found| found.meta().uid.as_deref() == Some(uid)))
        };
        self.unless_gone(Some(uid), read).await
    }

    /// The result of a read. An object that is known to be gone, by its UID, is not read again.
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

    /// The listed objects of a kind, with only their metadata: the operator must not read the content of a Secret.
    /// The object has an owner reference, so the garbage collector deletes it even if its label is removed.
    async fn others<K: Known>(&self, kind: ChildKind) -> Result<Vec<ChildFacts>, Unknown> {
        let api: Api<K> = Api::namespaced(self.cluster.client.clone(), self.namespace);
        let page = |params: ListParams| {
            let api = api.clone();
            async move { api.list_metadata(&params).await }
        };
        let ours = |object: PartialObjectMeta<K>| {
            let ours = self.is_ours::<K>(&object.metadata, Found::Label);
            child_facts(kind, &object.metadata).filter(|_| ours)
        };
        pages(K::NAME, &self.params(), page, ours).await.map_err(|error| unknown(K::NAME, &error))
    }

    fn params(&self) -> ListParams {
        ListParams::default().labels(&format!("{}={}", self.label, self.owner))
    }

    /// Whether an object in the namespace of the owner belongs to the owner. Normally the object carries the UID of
    /// the owner and our install label. If a user removed the labels, a record names the object. A status is only a
    /// hint, because tenants may be able to write it: the object that it names must also carry the UID of the owner,
    /// or have the name from the naming rule.
    fn is_ours<K: Known>(&self, meta: &ObjectMeta, found: Found) -> bool {
        let owner = label(meta, self.label);
        let install = label(meta, names::INSTALL);
        if install.is_some_and(|install| install != self.cluster.install.0) {
            self.cluster.reports.add::<K>(
                meta,
                reason::OTHER_INSTALLATION,
                "this object carries the UID of an object of this operator and the install label of another operator: \
                 this operator ignores it. Delete it, or correct its labels.",
                self.cluster.now(),
            );
            return false;
        }
        if owner.is_some_and(|owner| owner != self.owner.as_str()) {
            return false;
        }
        if install.is_some() && owner.is_some() {
            return true;
        }
        // The claim was released on purpose, perhaps by an earlier process, although it looks like a claim without
        // its labels.
        if found != Found::Label && annotation(meta, names::RETAINED_FROM).is_some() {
            self.cluster.receipts.retained(self.owner, Uid::of(meta));
            return false;
        }
        match found {
            Found::Record => true,
            Found::Status => {
                owner.is_some() || meta.name.as_deref() == Some(child_name(self.name, self.owner).as_str())
            }
            // A user removed the label of the installation. The name proves the owner, because no child of another
            // owner has it.
            Found::Label if self.has_name_of_rule(meta) => true,
            Found::Label => {
                let (kind, object) = (K::NAME, ObjectKey::of(meta));
                tracing::debug!(kind, %object, "carries the owner's UID but no install label: ignored");
                false
            }
        }
    }

    /// Whether the object has the name from the naming rule: by the owner of this search, or by the agent in its
    /// label and its annotation. The UID is a part of the name.
    fn has_name_of_rule(&self, meta: &ObjectMeta) -> bool {
        let rule = match label(meta, names::AGENT_UID).filter(|_| self.label == names::TOWN_UID) {
            Some(agent) => {
                let owner = annotation(meta, names::OWNER).unwrap_or_default();
                owner.rsplit_once('/').map(|(_, name)| child_name(name, &Uid::new(agent)))
            }
            None => Some(child_name(self.name, self.owner)),
        };
        rule.is_some() && meta.name == rule
    }

    /// The agents that are bound to the town, and those without their label. The search uses the field that names the
    /// town, because this field cannot be changed.
    pub(crate) async fn agents(&self, town: &Town) -> Result<Vec<Arc<Agent>>, Unknown> {
        let name = town.metadata.name.as_deref().unwrap_or_default();
        let naming = ListParams::default().fields(&format!("spec.townName={name}"));
        // An agent without the label matters only if it carries our finalizer, whether it can be decoded or not.
        let concerns = |meta: &ObjectMeta| match label(meta, names::TOWN_UID) {
            Some(town) => town == self.owner.as_str(),
            None => is_held(meta),
        };
        let agents = list::<Agent>(&self.cluster.client, self.namespace, &naming, concerns).await;
        let agents = agents.map_err(|e| unknown("Agent", &e))?.into_iter();
        let install =
            |a: &Agent| label(&a.metadata, names::INSTALL).is_none_or(|i| i == self.cluster.install.0);
        Ok(agents.filter(install).map(kept_agent).map(Arc::new).collect())
    }
}

/// The creation time of the Tombstone, by the clock of the API server.
fn created(record: &Record) -> Option<Timestamp> {
    match record {
        Record::There(tombstone) => tombstone.metadata.creation_timestamp.as_ref().map(|at| at.0),
        Record::Missing | Record::NotKept | Record::Unknown(_) => None,
    }
}

/// The way in which an object was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// By the label with the UID of the owner.
    Label,
    /// By name and UID in the status of the owner.
    Status,
    /// By name and UID in the record of the destruction, which only the operator writes.
    Record,
}

/// The source of the name of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum VolumeOf<'a> {
    /// A claim with this UID names the volume.
    Claim(&'a str),
    /// The record of the destruction names the volume, with this UID.
    Record(&'a str),
}

impl VolumeOf<'_> {
    fn is(self, volume: &VolumeFacts) -> bool {
        match self {
            Self::Claim(uid) => volume.claim.as_ref().is_some_and(|claim| claim.as_str() == uid),
            Self::Record(uid) => volume.uid.as_str() == uid,
        }
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

#[cfg(test)]
mod tests {
    use http::{Request, Response, StatusCode};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;
    use crate::api::TombstoneSpec;
    use crate::cluster::clock::Clock;
    use crate::cluster::context::Limits;
    use crate::cluster::scheduling::requeue::looks;
    use crate::resources::Install;

    const TOWN: &str = "3f2a1b4c-0000-4000-8000-000000000000";

    /// Objects of an API server, by path.
    type Objects = &'static [(&'static str, fn() -> Value)];

    /// A cluster whose API server has only these objects, by path.
    fn cluster(objects: Objects) -> Cluster {
        let server = service_fn(move |request: Request<Body>| {
            let found = objects.iter().find(|(path, _)| *path == request.uri().path());
            let (code, body) = if let Some((_, object)) = found {
                (StatusCode::OK, object())
            } else {
                let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                    "reason": "NotFound", "message": "not found", "details": {"name": "p"}});
                (StatusCode::NOT_FOUND, gone)
            };
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            std::future::ready(response)
        });
        let install = Install("here".into());
        let client = Client::new(server, "ns");
        Cluster::new(client, install, Arc::default(), Limits::LEAST, looks().0, Clock::system())
    }

    fn volume(uid: &str, claim: Option<&str>) -> Value {
        let claim = claim.map(|uid| json!({"uid": uid, "namespace": "ns", "name": "c"}));
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "p", "uid": uid},
            "spec": {"claimRef": claim, "persistentVolumeReclaimPolicy": "Delete"}, "status": {"phase": "Bound"}})
    }

    fn recorded(kind: &str, name: &str, uid: &str) -> TombstoneChild {
        TombstoneChild { kind: kind.into(), name: name.into(), uid: uid.into() }
    }

    /// The volumes that a search finds for this claim and this record, by UID.
    async fn volumes(objects: Objects, claim: Option<&str>, known: &[TombstoneChild]) -> Vec<String> {
        let cluster = cluster(objects);
        let (town, uid) = town();
        let search = Search::of_town(&cluster, &town, &uid);
        let claim = claim.map(|uid| {
            let claim = json!({"metadata": {"name": "c", "namespace": "ns", "uid": uid}, "spec": {"volumeName": "p"}});
            serde_json::from_value(claim).unwrap()
        });
        let claims: Vec<PersistentVolumeClaim> = claim.into_iter().collect();
        let found = search.volumes(&claims, &known.iter().cloned().collect(), true).await.unwrap();
        found.into_iter().map(|volume| volume.uid.to_string()).collect()
    }

    fn town() -> (Town, Uid) {
        let town = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "spec": {},
            "metadata": {"name": "gas", "namespace": "ns", "uid": TOWN}});
        (serde_json::from_value(town).unwrap(), Uid::new(TOWN))
    }

    const PATH: &str = "/api/v1/persistentvolumes/p";

    // code.md A5, security.md L4.
    #[tokio::test]
    async fn volume_belongs_to_a_claim_only_when_its_claim_ref_has_the_uid() {
        assert_eq!(volumes(&[(PATH, || volume("one", Some("claim")))], Some("claim"), &[]).await, ["one"]);
        let strangers: [Objects; 2] =
            [&[(PATH, || volume("one", Some("another")))], &[(PATH, || volume("one", None))]];
        for stranger in strangers {
            assert!(volumes(stranger, Some("claim"), &[]).await.is_empty());
        }
    }

    // code.md A5: a provisioner uses the name of a volume again.
    #[tokio::test]
    async fn recorded_volume_is_gone_when_another_volume_has_its_name() {
        let known = [recorded(VOLUME, "p", "one"), recorded(PersistentVolumeClaim::NAME, "c", "claim")];
        assert_eq!(volumes(&[(PATH, || volume("one", Some("claim")))], None, &known).await, ["one"]);
        let others: [Objects; 4] = [
            &[],
            &[(PATH, || volume("two", None))],
            &[(PATH, || volume("two", Some("claim")))],
            &[(PATH, || volume("one", Some("of-another-town")))],
        ];
        for other in others {
            assert!(volumes(other, None, &known).await.is_empty());
        }
    }

    /// A pod with three claims: an ephemeral volume, a device from a template, and a device that its user claimed.
    fn pod_with_claims() -> PodFacts {
        let pod = json!({"metadata": {"name": "gas-3f2a1b4c", "namespace": "ns", "uid": "pod"},
            "spec": {"containers": [], "volumes": [{"name": "scratch", "ephemeral": {}}, {"name": "tmp", "emptyDir": {}}],
                "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpus"},
                    {"name": "own", "resourceClaimName": "own"}]},
            "status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "gas-gpu-x"},
                {"name": "own", "resourceClaimName": "own"}]}});
        pod_facts(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    fn made_for(kind: &str, name: &str, pod: &str) -> Value {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "gas-3f2a1b4c", "uid": pod, "controller": true});
        json!({"kind": kind, "metadata": {"name": name, "namespace": "ns", "uid": name, "ownerReferences": [owner]},
            "spec": {"volumeName": "p"}})
    }

    fn groups() -> Value {
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [{"name": "resource.k8s.io",
            "versions": [{"groupVersion": "resource.k8s.io/v1", "version": "v1"}]}]})
    }

    const SCRATCH: &str = "gas-3f2a1b4c-scratch";
    const SCRATCH_PATH: &str = "/api/v1/namespaces/ns/persistentvolumeclaims/gas-3f2a1b4c-scratch";
    const DEVICE_PATH: &str = "/apis/resource.k8s.io/v1/namespaces/ns/resourceclaims/gas-gpu-x";

    /// The objects that a search finds as created by Kubernetes for the pod, as `kind uid`.
    async fn made(objects: Objects) -> Result<Vec<String>, Unknown> {
        let cluster = cluster(objects);
        let (town, uid) = town();
        let found = Search::of_town(&cluster, &town, &uid).made_for_pods(&[pod_with_claims()]).await?;
        Ok(found.into_iter().map(|child| format!("{} {}", child.kind, child.uid)).collect())
    }

    // decisions 1.7.
    #[tokio::test]
    async fn claims_of_ephemeral_volumes_and_devices_are_found_by_the_uid_of_the_pod() {
        let found = made(&[
            (SCRATCH_PATH, || made_for("PersistentVolumeClaim", SCRATCH, "pod")),
            (PATH, || volume("pv", Some(SCRATCH))),
            ("/apis", groups),
            (DEVICE_PATH, || made_for("ResourceClaim", "gas-gpu-x", "pod")),
        ]);
        let all =
            ["PersistentVolume pv", "PersistentVolumeClaim gas-3f2a1b4c-scratch", "ResourceClaim gas-gpu-x"];
        assert_eq!(found.await.unwrap(), all);
        let others = made(&[
            (SCRATCH_PATH, || made_for("PersistentVolumeClaim", SCRATCH, "another-pod")),
            ("/apis", groups),
            (DEVICE_PATH, || made_for("ResourceClaim", "gas-gpu-x", "another-pod")),
        ]);
        assert_eq!(others.await.unwrap(), [""; 0], "they are somebody else's");
    }

    // decisions 1.7: a cluster without dynamic resource allocation has no device claims. A missing answer proves
    // nothing.
    #[tokio::test]
    async fn device_claims_are_absent_only_when_the_api_server_says_so() {
        fn none() -> Value {
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
        }
        assert_eq!(made(&[("/apis", none)]).await.unwrap(), [""; 0]);
        assert_eq!(made(&[("/apis", groups)]).await.unwrap(), [""; 0], "404 of the object");
        assert!(made(&[]).await.is_err(), "the groups cannot be listed");
        assert!(made(&[("/apis", groups), (DEVICE_PATH, || json!([]))]).await.is_err());
    }

    // decisions 1.7.
    #[tokio::test]
    async fn recorded_device_claim_is_awaited_until_its_name_is_absent_or_has_another_uid() {
        let left = async |objects: Objects| {
            let cluster = cluster(objects);
            let (town, uid) = town();
            let known = [recorded("ResourceClaim", "gas-gpu-x", "gas-gpu-x")].into();
            let there = Search::of_town(&cluster, &town, &uid).device_claims(&known).await.unwrap();
            there.len()
        };
        assert_eq!(
            left(&[("/apis", groups), (DEVICE_PATH, || made_for("ResourceClaim", "gas-gpu-x", "pod"))]).await,
            1
        );
        assert_eq!(left(&[("/apis", groups)]).await, 0);
        assert_eq!(
            left(&[("/apis", groups), (DEVICE_PATH, || made_for("ResourceClaim", "another", "pod"))]).await,
            0
        );
    }

    // code.md A31: a town does not fall asleep while such a pod runs.
    #[tokio::test]
    async fn pod_without_its_install_label_is_found_by_the_last_search_of_its_town() {
        const ANN: &str = "4f2a1b4c-0000-4000-8000-000000000000";
        fn pods() -> Value {
            let pod = |name: &str, agent: Option<&str>, owner: &str| {
                let mut labels = json!({names::TOWN_UID: TOWN});
                if let Some(agent) = agent {
                    labels[names::AGENT_UID] = json!(agent);
                }
                json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels,
                    "annotations": {names::OWNER: owner}}, "spec": {"containers": []}})
            };
            let items = [
                pod("gas-3f2a1b4c", None, "Town/ns/gas"),
                pod("ann-4f2a1b4c", Some(ANN), "Agent/ns/ann"),
                pod("ann-stray", Some(ANN), "Agent/ns/ann"),
                pod("stray", None, "Town/ns/gas"),
            ];
            json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
        }
        let cluster = cluster(&[("/api/v1/namespaces/ns/pods", pods)]);
        let (town, uid) = town();
        let found = Search::of_town(&cluster, &town, &uid).pods_with_those_of(&[]).await.unwrap();
        let names: Vec<_> = found.iter().map(|pod| pod.key.name.as_str()).collect();
        assert_eq!(names, ["gas-3f2a1b4c", "ann-4f2a1b4c"]);
    }

    // security.md L5: a record without room for all agents still names every claim.
    #[test]
    fn tombstone_lists_all_claims_unless_it_counts_more_claims() {
        let more = |kind: &str| -> TombstoneSpec {
            serde_json::from_value(json!({"kind": "Town", "namespace": "ns", "name": "gas", "uid": TOWN,
                "deleteTime": "2030-01-01T00:00:00Z", "expireTime": "2030-01-01T00:00:00Z", "cause": "Deleted",
                "moreChildren": [{"kind": kind, "count": 100}]}))
            .unwrap()
        };
        assert!(lists_all_claims(&more("Agent")) && !lists_all_claims(&more("PersistentVolumeClaim")));
    }

    // security.md L3: a user who can write a status cannot make the operator destroy an object of another owner.
    #[tokio::test]
    async fn object_is_ours_by_its_labels_its_default_name_or_the_record() {
        let cluster = cluster(&[]);
        let (town, uid) = town();
        let search = Search::of_town(&cluster, &town, &uid);
        let own = child_name("gas", &uid);
        let is_ours = |name: &str, labels: Value, found| {
            let meta = json!({"name": name, "namespace": "ns", "uid": name, "labels": labels});
            search.is_ours::<Pod>(&serde_json::from_value(meta).unwrap(), found)
        };
        let both = json!({names::TOWN_UID: TOWN, names::INSTALL: "here"});
        for (name, labels, found, ours) in [
            ("any", both.clone(), Found::Label, true),
            ("any", both, Found::Status, true),
            (own.as_str(), json!({}), Found::Status, true),
            ("any", json!({}), Found::Record, true),
            ("any", json!({names::TOWN_UID: TOWN}), Found::Status, true),
            ("any", json!({}), Found::Status, false),
            ("any", json!({names::INSTALL: "here"}), Found::Status, false),
            (own.as_str(), json!({names::TOWN_UID: "another", names::INSTALL: "here"}), Found::Status, false),
            ("any", json!({names::TOWN_UID: TOWN}), Found::Label, false),
            (own.as_str(), json!({names::TOWN_UID: TOWN, names::INSTALL: "there"}), Found::Status, false),
            (own.as_str(), json!({names::TOWN_UID: TOWN, names::INSTALL: "there"}), Found::Label, false),
            (own.as_str(), json!({names::TOWN_UID: TOWN}), Found::Label, true),
            (own.as_str(), json!({names::TOWN_UID: TOWN, names::AGENT_UID: "ann"}), Found::Label, false),
            (own.as_str(), json!({names::TOWN_UID: "another"}), Found::Record, false),
        ] {
            assert_eq!(is_ours(name, labels.clone(), found), ours, "{name} {labels}");
        }
    }
}
