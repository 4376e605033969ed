//! The only reads of a reconcile.
//!
//! The observation comes from the watches where they are enough. It comes from uncached reads where the decision may
//! have an effect that cannot be undone. A list that fails, or an object in it that cannot be decoded, makes the
//! whole answer unknown: an unreadable set is not an empty set.

use crate::cluster::cache::children::{
    bound_agents, claim_of, named_pod, own_claim, own_service, recorded_claim,
};
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Resource;

use crate::api::condition::reason;
use crate::api::{Agent, Recreate, TombstoneKind, Town, names};
use crate::cluster::cache::index::Group;
use crate::cluster::context::Cluster;
use crate::cluster::error::Error;
use crate::cluster::observe::inventory::Search;
use crate::cluster::observe::tombstones;
use crate::cluster::read::objects::{get, unknown};
use crate::cluster::read::secrets;
use crate::lifecycle::{
    AgentSnapshot, Begun, ClaimFacts, Freshness, ObjectKey, OwnerId, OwnerRef, PodFacts, ProbeFacts,
    Standing, TombstoneFacts, TownFacts, TownSnapshot, TownView, Uid, concerns, goes_with_town, is_held,
    is_named_child, is_new, label, needs_live, needs_live_town, reads_secrets_of_agent,
    reads_secrets_of_town, standing, starting, town_key,
};
use crate::resources;

/// Reads all facts for a decision about the town; `None`: there is no such town.
pub async fn observe_town(cluster: &Cluster, key: &ObjectKey) -> Result<Option<TownSnapshot>, Error> {
    let observed = Box::pin(look_at_town(cluster, key)).await?;
    let now = cluster.now();
    let Some(mut snapshot) = observed else {
        // The town is gone, or belongs to another installation. Release the turn of any town known by this name.
        cluster.starts.release_named(key, now);
        return Ok(None);
    };
    if let Some(own) = snapshot.pods.iter_mut().find(|pod| pod.agent_uid.is_none()) {
        cluster.pod_events.explain(&cluster.client, own, cluster.now()).await;
    }
    let has_pod = snapshot.pod().is_some();
    if snapshot.remains.is_none() && reads_secrets_of_town(&snapshot.town, has_pod, now) {
        snapshot.secrets = known(secrets::of_town(&cluster.client, key).await);
    }
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

/// The town as the watches show it.
pub(crate) fn watched_town(cluster: &Cluster, town: Arc<Town>, uid: Uid) -> TownSnapshot {
    let owner = OwnerRef { key: ObjectKey::of(&town.metadata), uid: uid.clone() };
    let group = Group::Town(OwnerId::new(&owner.key.namespace, &uid));
    let agents = bound_agents(&cluster.caches, &cluster.install, &owner);
    let pods = ours(cluster.caches.pods.of(&group).iter().map(|p| (**p).clone()), cluster);
    let (pods, strays) = lived_on(&town, &uid, &agents, pods);
    let claim = claim_of(&cluster.caches, &cluster.install, &town, None);
    let mut snapshot = TownSnapshot {
        agents,
        pods,
        strays,
        ownerless: Vec::new(),
        revision: resources::town_revision(&town, name_of(claim.as_ref())),
        claim,
        service: own_service(&cluster.install, &owner, cluster.caches.services.of(&group)),
        probe: ProbeFacts::default(),
        agent_probes: HashMap::new(),
        secrets: None,
        may_start: true,
        attach_max_hold: cluster.limits.attach_max_hold,
        admission_policies: cluster.limits.admission_policies,
        town,
        install: cluster.install.0.clone(),
        forbidden_by: None,
        freshness: Freshness::Cached,
        remains: None,
        gone_pods: cluster.runs.of(&uid),
        reported_at: cluster.reported.get(&uid),
        blocked_after: cluster.limits.blocked_after,
        max_retention: cluster.limits.tombstone_max_retention,
        uid,
    };
    show_answers(cluster, &mut snapshot);
    snapshot
}

/// Splits the pods that carry the UID of the town. The first part has the pods of the town and of its agents, each
/// under the name that its owner determines. The second part has all others: no decision about the life of the town
/// reads them.
fn lived_on(
    town: &Town,
    uid: &Uid,
    agents: &[Arc<Agent>],
    pods: Vec<PodFacts>,
) -> (Vec<PodFacts>, Vec<PodFacts>) {
    let recorded = town.status.as_ref().and_then(|s| s.pod.as_ref());
    let owner = OwnerRef { key: ObjectKey::of(&town.metadata), uid: uid.clone() };
    let agents: HashMap<_, _> = agents.iter().filter_map(|a| Some((Uid::of(&a.metadata)?, a))).collect();
    pods.into_iter().partition(|pod| match &pod.agent_uid {
        None => is_named_child(&owner, recorded.and_then(named_pod), &pod.key.name, &pod.uid),
        Some(uid) => agents.get(uid).is_some_and(|agent| is_pod_of_agent(agent, uid, pod)),
    })
}

fn is_pod_of_agent(agent: &Agent, uid: &Uid, pod: &PodFacts) -> bool {
    let recorded = agent.status.as_ref().and_then(|s| s.pod.as_ref());
    let owner = OwnerRef { key: ObjectKey::of(&agent.metadata), uid: uid.clone() };
    is_named_child(&owner, recorded.and_then(named_pod), &pod.key.name, &pod.uid)
}

/// Adds the probe results of the pods to the snapshot.
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

/// Pods that have ended, are being deleted, and wait for an agent that is gone: a user removed our finalizer from the
/// agent. Only a live read proves that the agent is gone.
async fn ownerless(cluster: &Cluster, snapshot: &TownSnapshot) -> Result<Vec<PodFacts>, Error> {
    let namespace = snapshot.town.metadata.namespace.as_deref().unwrap_or_default();
    let known = |uid: &Uid| !cluster.caches.agents.of(&Group::Agent(OwnerId::new(namespace, uid))).is_empty();
    let waits = |pod: &&PodFacts| {
        pod.ended() && pod.deleting() && pod.agent_uid.as_ref().is_some_and(|uid| !known(uid))
    };
    let mut pods: Vec<_> = snapshot.all_pods().filter(waits).cloned().collect();
    if !pods.is_empty() {
        let agents = Search::of_town(cluster, &snapshot.town, &snapshot.uid).agents(&snapshot.town).await?;
        let there: Vec<_> = agents.iter().filter_map(|agent| Uid::of(&agent.metadata)).collect();
        pods.retain(|pod| pod.agent_uid.as_ref().is_some_and(|uid| !there.contains(uid)));
    }
    Ok(pods)
}

/// Whether the object belongs to another installation. Then the operator reads nothing for it, and decides nothing.
fn foreign(cluster: &Cluster, meta: &ObjectMeta) -> bool {
    label(meta, names::INSTALL).is_some_and(|install| install != cluster.install.0)
}

/// Whether an object lost the label of the installation that manages it: the object carries the finalizer and no
/// install label, and another installation created its children. Only that installation adopts or destroys the
/// object.
async fn belongs_elsewhere<K: Resource<DynamicType = ()>>(
    cluster: &Cluster,
    meta: &ObjectMeta,
    search: &Search<'_>,
) -> Result<bool, Error> {
    if !is_held(meta) || label(meta, names::INSTALL).is_some() {
        return Ok(false);
    }
    let elsewhere = search.is_of_another_installation().await?;
    if elsewhere {
        let note = format!(
            "this object carries the finalizer {} and no label {}, and its children carry the label of another \
             operator: this operator ignores it. An administrator can restore the label.",
            names::FINALIZER,
            names::INSTALL
        );
        cluster.reports.add::<K>(meta, reason::OTHER_INSTALLATION, &note, cluster.now());
    }
    Ok(elsewhere)
}

async fn look_at_town(cluster: &Cluster, key: &ObjectKey) -> Result<Option<TownSnapshot>, Error> {
    let Some(cached) = cluster.caches.towns.get(key) else { return Ok(None) };
    if foreign(cluster, &cached.metadata) {
        return Ok(None);
    }
    let Some(uid) = Uid::of(&cached.metadata) else { return Ok(None) };
    cluster.caches.sees_own_writes(&uid).await;
    let Some(cached) = cluster.caches.towns.get(key) else { return Ok(None) };
    if belongs_elsewhere::<Town>(cluster, &cached.metadata, &Search::of_town(cluster, &cached, &uid)).await? {
        return Ok(None);
    }
    let mut snapshot = watched_town(cluster, cached, uid);
    if !needs_live(&snapshot.town) {
        // The watch shows a Tombstone of this name, or may not show a new one yet.
        let records = cluster.caches.tombstones.of(&Group::NamesTown(key.clone()));
        // The town is not being destroyed. Forget the live reads of an earlier destruction.
        cluster.receipts.forget(&snapshot.uid);
        let namespace = cluster.namespaces.known(&snapshot.uid);
        let elsewhere = |record: &TombstoneFacts| {
            let recorded = record.namespace_uid.as_ref().map(Uid::as_str);
            namespace.as_ref().is_some_and(|namespace| !concerns(recorded, namespace))
        };
        let forbids = |t: &TombstoneFacts| t.recreate == Recreate::Refuse && t.of.uid != snapshot.uid;
        let is_forbidden = records.iter().any(|t| forbids(t) && !elsewhere(t));
        if is_forbidden || is_new(&snapshot.town) {
            snapshot.forbidden_by =
                tombstones::forbids(cluster, TombstoneKind::Town, key, &snapshot.uid).await?.map(Arc::new);
        }
        snapshot.ownerless = ownerless(cluster, &snapshot).await?;
        return Ok(Some(snapshot));
    }
    let Some(town) = get::<Town>(&cluster.client, key).await? else { return Ok(None) };
    if Uid::of(&town.metadata).as_ref() != Some(&snapshot.uid) {
        return Ok(None);
    }
    let deleting = town.metadata.deletion_timestamp.is_some();
    let search = Search::of_town(cluster, &town, &snapshot.uid);
    if deleting {
        snapshot.remains = Some(Box::pin(search.remains_of_town(&town)).await);
    } else {
        // The last reads before sleep. An error stops the reconcile, because an unread pod may still run.
        snapshot.agents = search.agents(&town).await?;
        let pods = search.pods_with_those_of(&snapshot.agents).await?;
        (snapshot.pods, snapshot.strays) = lived_on(&town, &snapshot.uid, &snapshot.agents, pods);
        show_answers(cluster, &mut snapshot);
        snapshot.ownerless = ownerless(cluster, &snapshot).await?;
    }
    snapshot.revision = resources::town_revision(&town, name_of(snapshot.claim.as_ref()));
    snapshot.town = Arc::new(town);
    snapshot.freshness = Freshness::Live;
    Ok(Some(snapshot))
}

/// Reads all facts for a decision about the agent; `None`: there is no such agent.
pub async fn observe_agent(cluster: &Cluster, key: &ObjectKey) -> Result<Option<AgentSnapshot>, Error> {
    let Some(cached) = cluster.caches.agents.get(key) else { return Ok(None) };
    if foreign(cluster, &cached.metadata) {
        return Ok(None);
    }
    let Some(uid) = Uid::of(&cached.metadata) else { return Ok(None) };
    cluster.caches.sees_own_writes(&uid).await;
    let Some(mut agent) = cluster.caches.agents.get(key) else { return Ok(None) };
    if belongs_elsewhere::<Agent>(cluster, &agent.metadata, &Search::of_agent(cluster, &agent, &uid)).await? {
        return Ok(None);
    }
    let deleting = agent.metadata.deletion_timestamp.is_some();
    if deleting {
        let Some(live) = get::<Agent>(&cluster.client, key).await? else { return Ok(None) };
        if Uid::of(&live.metadata).as_ref() != Some(&uid) {
            return Ok(None);
        }
        agent = Arc::new(live);
    }
    let owner = OwnerRef { key: key.clone(), uid: uid.clone() };
    let group = Group::Agent(OwnerId::new(&key.namespace, &uid));
    let claim = own_claim(
        &cluster.install,
        &owner,
        Some(&uid),
        recorded_claim(&agent),
        cluster.caches.claims.of(&group),
    );
    let (town, revision) = match observe_town_of(cluster, &agent).await {
        Ok((freshness, town)) => (
            view(cluster, freshness, town.as_deref()),
            town.map(|town| resources::agent_revision(&agent, &town, name_of(claim.as_ref())))
                .unwrap_or_default(),
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
        Some(bound) => tombstones::of_town(cluster, &OwnerId::new(&key.namespace, bound), &uid).await?,
        None => None,
    };
    let forbidden_by = match &bound {
        // For a bound agent this was checked before the binding.
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
        TownView::Present(_, facts) => {
            let town = OwnerRef { key: town_key(&agent), uid: facts.uid.clone() };
            standing(&agent, facts, &bound_agents(&cluster.caches, &cluster.install, &town), &Begun::new())
        }
        _ => Standing::Free,
    };
    let mut pods = ours(cluster.caches.pods.of(&group).iter().map(|p| (**p).clone()), cluster);
    pods.retain(|pod| is_pod_of_agent(&agent, &uid, pod));
    let mut pod = pods.into_iter().next();
    if let Some(pod) = &mut pod {
        cluster.pod_events.explain(&cluster.client, pod, cluster.now()).await;
    }
    let reads_secrets = !deleting && reads_secrets_of_agent(&agent, pod.is_some(), cluster.now());
    let secrets = if reads_secrets { known(secrets::of_agent(&cluster.client, key).await) } else { None };
    let creates_settle_at = creates_settle_at(cluster, &uid, pod.as_ref());
    Ok(Some(AgentSnapshot {
        probe: answer_of(cluster, pod.as_ref()),
        pod,
        claim,
        revision,
        secrets,
        standing,
        creates_settle_at,
        install: cluster.install.0.clone(),
        blocked_after: cluster.limits.blocked_after,
        max_retention: cluster.limits.tombstone_max_retention,
        agent,
        uid,
        town,
        town_record,
        forbidden_by,
        remains,
    }))
}

/// The digest of the named Secrets. Secrets that cannot be read count as unchanged.
fn known(secrets: Result<Option<String>, Error>) -> Option<String> {
    secrets.unwrap_or_else(|error| {
        tracing::debug!(%error, "named Secrets cannot be read");
        None
    })
}

/// The time until which a create for an agent may still take effect. After the creation of its pod the operator sends
/// no more creates.
fn creates_settle_at(cluster: &Cluster, uid: &Uid, pod: Option<&PodFacts>) -> Option<Timestamp> {
    let late = cluster.limits.late_create;
    let at = cluster.gates.creates_settle_at(uid, late)?;
    // The API server gives times in whole seconds.
    let sent_before = pod.and_then(|pod| pod.created?.checked_add(SignedDuration::from_secs(1)).ok());
    Some(sent_before.and_then(|sent| sent.checked_add(late).ok()).map_or(at, |over| over.min(at)))
}

/// The town that an agent names: as watched, or read live where its absence would have consequences.
async fn observe_town_of(cluster: &Cluster, agent: &Agent) -> Result<(Freshness, Option<Arc<Town>>), Error> {
    let key = town_key(agent);
    let cached = cluster.caches.towns.get(&key);
    let facts = cached.as_ref().and_then(|town| TownFacts::of(town, &cluster.install.0));
    if !needs_live_town(agent, facts.as_ref()) {
        return Ok((Freshness::Cached, cached));
    }
    Ok((Freshness::Live, get::<Town>(&cluster.client, &key).await?.map(Arc::new)))
}

fn view(cluster: &Cluster, freshness: Freshness, town: Option<&Town>) -> TownView {
    let facts = town.and_then(|town| TownFacts::of(town, &cluster.install.0));
    facts.map_or(TownView::Absent(freshness), |facts| TownView::Present(freshness, Box::new(facts)))
}

/// The pods that carry our install label. Other pods with the UID do not belong to this installation, and the
/// operator ignores them.
fn ours(pods: impl Iterator<Item = PodFacts>, cluster: &Cluster) -> Vec<PodFacts> {
    pods.filter(|p| p.install.as_deref() == Some(&cluster.install.0)).collect()
}

fn name_of(claim: Option<&ClaimFacts>) -> Option<&str> {
    claim.map(|claim| claim.child.key.name.as_str())
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;
    use crate::cluster::clock::Clock;
    use crate::cluster::context::Limits;
    use crate::cluster::scheduling::requeue::looks;
    use crate::lifecycle::child_name;
    use crate::resources::Install;
    use crate::resources::{claim_facts, pod_facts, service_facts};

    const TOWN: &str = "3f2a1b4c-0000-4000-8000-000000000000";
    const ANN: &str = "4f2a1b4c-0000-4000-8000-000000000000";

    /// A cluster whose watches have seen nothing yet. A request to its API server panics.
    fn cluster() -> Cluster {
        let server = service_fn(async |request: Request<Body>| -> Result<Response<Body>, std::io::Error> {
            panic!("{} {}", request.method(), request.uri())
        });
        let (looks, _) = looks();
        let install = Install("here".into());
        let client = Client::new(server, "ns");
        Cluster::new(client, install, Arc::default(), Limits::LEAST, looks, Clock::system())
    }

    fn meta(namespace: &str, name: &str, uid: &str, labels: &Value) -> Value {
        let mut labels = labels.clone();
        labels[names::INSTALL] = json!("here");
        json!({"namespace": namespace, "name": name, "uid": uid, "labels": labels,
            "finalizers": [names::FINALIZER]})
    }

    fn town(cluster: &Cluster, namespace: &str) -> (Arc<Town>, Uid) {
        let town = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town",
            "metadata": meta(namespace, "gas", TOWN, &json!({})),
            "spec": {"template": {"spec": {"containers": []}}}});
        let town: Town = serde_json::from_value(town).unwrap();
        cluster.caches.towns.apply(town.clone(), None);
        (Arc::new(town), Uid::new(TOWN))
    }

    fn agent(cluster: &Cluster, namespace: &str, name: &str, uid: &str, of: &str) {
        let agent = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Agent",
            "metadata": meta(namespace, name, uid, &json!({names::TOWN_UID: TOWN})),
            "spec": {"townName": of, "role": "Crew"}});
        cluster.caches.agents.apply(serde_json::from_value(agent).unwrap(), None);
    }

    /// Adds one child of each kind, with these labels.
    fn children(cluster: &Cluster, namespace: &str, name: &str, labels: &Value) {
        let uid = |kind: &str| format!("{kind}-{namespace}-{name}");
        let metadata = meta(namespace, name, &uid("pod"), labels);
        let pod = json!({"metadata": metadata, "spec": {"containers": []}, "status": {}});
        cluster.caches.pods.apply(pod_facts(&serde_json::from_value(pod).unwrap()).unwrap(), None);
        let claim = json!({"metadata": meta(namespace, name, &uid("claim"), labels), "spec": {}});
        cluster.caches.claims.apply(claim_facts(&serde_json::from_value(claim).unwrap()).unwrap(), None);
        let service = json!({"metadata": meta(namespace, name, &uid("service"), labels), "spec": {}});
        cluster
            .caches
            .services
            .apply(service_facts(&serde_json::from_value(service).unwrap()).unwrap(), None);
    }

    fn shown(snapshot: &TownSnapshot) -> [Option<String>; 3] {
        [
            snapshot.pod().map(|pod| pod.key.to_string()),
            snapshot.claim.as_ref().map(|claim| claim.child.key.to_string()),
            snapshot.service.as_ref().map(|service| service.child.key.to_string()),
        ]
    }

    // security.md S1: the namespace of the attacker sorts before and after the namespace of the victim.
    #[tokio::test]
    async fn town_has_no_child_and_no_agent_in_another_namespace() {
        let cluster = cluster();
        let (town, uid) = town(&cluster, "m-team");
        let own = child_name("gas", &uid);
        for theirs in ["a-team", "z-team"] {
            for name in ["forged", own.as_str()] {
                children(&cluster, theirs, name, &json!({names::TOWN_UID: TOWN}));
                children(
                    &cluster,
                    theirs,
                    &format!("{name}-ann"),
                    &json!({names::TOWN_UID: TOWN, names::AGENT_UID: ANN}),
                );
            }
            agent(&cluster, theirs, "ann", &format!("ann-of-{theirs}"), "gas");
        }
        let snapshot = watched_town(&cluster, town.clone(), uid.clone());
        assert_eq!(shown(&snapshot), [None, None, None]);
        assert_eq!((snapshot.agents.len(), snapshot.all_pods().count()), (0, 0));

        children(&cluster, "m-team", &own, &json!({names::TOWN_UID: TOWN}));
        agent(&cluster, "m-team", "ann", ANN, "gas");
        let snapshot = watched_town(&cluster, town, uid);
        let expected = Some(format!("m-team/{own}"));
        assert_eq!(shown(&snapshot), [expected.clone(), expected.clone(), expected]);
        let agents: Vec<_> = snapshot.agents.iter().map(|a| ObjectKey::of(&a.metadata).to_string()).collect();
        assert_eq!(agents, ["m-team/ann"]);
        assert_eq!(snapshot.all_pods().count(), 1);
    }

    // security.md S1.
    #[tokio::test]
    async fn agent_has_no_child_in_another_namespace() {
        let cluster = cluster();
        town(&cluster, "m-team");
        agent(&cluster, "m-team", "ann", ANN, "gas");
        let own = child_name("ann", &Uid::new(ANN));
        let labels = json!({names::TOWN_UID: TOWN, names::AGENT_UID: ANN});
        for theirs in ["a-team", "z-team"] {
            children(&cluster, theirs, &own, &labels);
        }
        let key = ObjectKey { namespace: "m-team".into(), name: "ann".into() };
        let seen = observe_agent(&cluster, &key).await.unwrap().unwrap();
        assert!(seen.pod.is_none() && seen.claim.is_none(), "{:?}", seen.pod);
        children(&cluster, "m-team", "another", &labels);
        children(&cluster, "m-team", &own, &labels);
        let seen = observe_agent(&cluster, &key).await.unwrap().unwrap();
        assert_eq!(seen.pod.unwrap().key.to_string(), format!("m-team/{own}"));
        assert_eq!(seen.claim.unwrap().child.key.to_string(), format!("m-team/{own}"));
    }

    // code.md B1.
    #[tokio::test]
    async fn recorded_claim_is_used_when_another_claim_has_the_default_name() {
        let cluster = cluster();
        let (town, uid) = town(&cluster, "ns");
        let own = child_name("gas", &uid);
        children(&cluster, "ns", &own, &json!({names::TOWN_UID: TOWN}));
        children(&cluster, "ns", "z-older-name", &json!({names::TOWN_UID: TOWN}));
        let found = |town: &Town| {
            claim_of(&cluster.caches, &cluster.install, town, None).map(|claim| claim.child.key.name)
        };
        assert_eq!(found(&town), Some(own));
        let mut recorded = Town::clone(&town);
        let storage = json!({"storage": {"claim": "z-older-name", "uid": "claim-ns-z-older-name"}});
        recorded.status = Some(serde_json::from_value(storage).unwrap());
        assert_eq!(found(&recorded).as_deref(), Some("z-older-name"));
        recorded.spec.storage = Some(serde_json::from_value(json!({"size": "1Gi"})).unwrap());
        let snapshot = watched_town(&cluster, Arc::new(recorded.clone()), uid);
        assert_eq!(snapshot.revision, resources::town_revision(&recorded, Some("z-older-name")));
    }

    // code.md A21: a user removed the label of the installation, and the children still carry it.
    #[tokio::test]
    async fn unlabelled_town_is_left_alone_when_its_pods_belong_to_another_installation() {
        for (theirs, left_alone) in [("there", true), ("here", false)] {
            let server = service_fn(move |request: Request<Body>| {
                let pods = request.uri().path().ends_with("/pods");
                let labels = json!({names::TOWN_UID: TOWN, names::INSTALL: theirs});
                let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p", "labels": labels}});
                let items = if pods { vec![pod] } else { vec![] };
                let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items});
                let body = Body::from(list.to_string().into_bytes());
                std::future::ready(Response::builder().body(body))
            });
            let client = Client::new(server, "ns");
            let (looks, _) = looks();
            let install = Install("here".into());
            let cluster =
                Cluster::new(client, install, Arc::default(), Limits::LEAST, looks, Clock::system());
            let (mut town, uid) = town(&cluster, "ns");
            Arc::make_mut(&mut town).metadata.labels = None;
            let search = Search::of_town(&cluster, &town, &uid);
            let elsewhere = belongs_elsewhere::<Town>(&cluster, &town.metadata, &search).await.unwrap();
            assert_eq!(elsewhere, left_alone);
            assert_eq!(cluster.reports.waiting(), usize::from(left_alone), "an event names it");
        }
    }

    // security.md S1: labels in the namespace of the owner make a stray, which is deleted with the town.
    #[tokio::test]
    async fn pod_with_another_name_is_a_stray_of_its_town() {
        let cluster = cluster();
        let (town, uid) = town(&cluster, "ns");
        agent(&cluster, "ns", "ann", ANN, "gas");
        agent(&cluster, "ns", "bob", "5f2a1b4c-0000-4000-8000-000000000000", "another");
        children(&cluster, "ns", "a-forged", &json!({names::TOWN_UID: TOWN}));
        children(&cluster, "ns", "b-forged", &json!({names::TOWN_UID: TOWN, names::AGENT_UID: ANN}));
        let ann = child_name("ann", &Uid::new(ANN));
        children(&cluster, "ns", &ann, &json!({names::TOWN_UID: TOWN, names::AGENT_UID: ANN}));
        let snapshot = watched_town(&cluster, town, uid);
        assert_eq!(shown(&snapshot), [None, None, None]);
        assert_eq!(snapshot.agents.len(), 1, "an agent that names another town is not bound");
        let pods = |pods: &[PodFacts]| pods.iter().map(|pod| pod.key.name.clone()).collect::<Vec<_>>();
        assert_eq!(pods(&snapshot.pods), [ann]);
        assert_eq!(pods(&snapshot.strays), ["a-forged", "b-forged"]);
    }
}
