//! The end of records of destructions: they expire, or the oldest are deleted early.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::condition::reason;
use crate::api::{Agent, Recreate, Tombstone, TombstoneKind, TombstonePhase, Town};
use crate::cluster::act::tombstones::delete;
use crate::cluster::cache::index::{Group, Index, Indexed};
use crate::cluster::context::Cluster;
use crate::cluster::error::Error;
use crate::cluster::observe::inventory::Search;
use crate::cluster::observe::tombstones::ours;
use crate::cluster::read::objects::{get, get_global};
use crate::lifecycle::{ObjectKey, TombstoneFacts, Uid, removable};

/// The result of the expiry of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The record is deleted.
    Gone,
    /// The recorded object still exists, and is about to be deleted.
    TooEarly,
    /// A recorded child still exists.
    StillThere,
}

/// Deletes an expired record, after a last check for the objects that it names.
pub async fn expire(cluster: &Cluster, key: &ObjectKey) -> Result<Expiry, Error> {
    let Some(known) = cluster.caches.tombstones.get(key) else { return Ok(Expiry::Gone) };
    let Some(found) = get_global::<Tombstone>(&cluster.client, &key.name).await? else {
        return Ok(Expiry::Gone);
    };
    if Uid::of(&found.metadata).as_ref() != Some(&known.uid) {
        return Ok(Expiry::Gone);
    }
    if owner_is_there(cluster, &known).await? {
        return Ok(Expiry::TooEarly);
    }
    let left = Search::of_destroyed(cluster, &known).everything().await?;
    if !left.is_empty() {
        let left: Vec<_> = left.iter().map(|child| format!("{} {}", child.kind, child.name)).collect();
        let note = format!(
            "the operator keeps this Tombstone: {} of its objects still exist: {}",
            left.len(),
            left.join(", ")
        );
        cluster.events.say(&found, true, reason::STILL_THERE, &note).await;
        return Ok(Expiry::StillThere);
    }
    delete(cluster, found).await?;
    Ok(Expiry::Gone)
}

/// Whether the recorded owner still exists, by an uncached read.
async fn owner_is_there(cluster: &Cluster, record: &TombstoneFacts) -> Result<bool, Error> {
    let there = match record.kind {
        TombstoneKind::Town => {
            get::<Town>(&cluster.client, &record.of.key).await?.and_then(|town| town.metadata.uid)
        }
        TombstoneKind::Agent => {
            get::<Agent>(&cluster.client, &record.of.key).await?.and_then(|agent| agent.metadata.uid)
        }
    };
    Ok(there.as_deref() == Some(record.of.uid.as_str()))
}

/// The largest number of records of a namespace that one reconcile deletes, so that the reconcile ends in time.
const AT_ONCE: usize = 16;

/// Deletes the oldest records of a namespace early if the watch shows more than the limit. Returns whether another
/// reconcile is necessary.
pub async fn trim(cluster: &Cluster, namespace: &str) -> Result<bool, Error> {
    let group = Group::RecordsOf(namespace.to_owned());
    let bound = usize::try_from(cluster.limits.tombstones_per_namespace).unwrap_or(usize::MAX);
    if cluster.caches.tombstones.count(&group) <= bound {
        return Ok(false);
    }
    let Some(_turn) = cluster.trims.begin(namespace) else { return Ok(true) };
    let records = cluster.caches.tombstones.of(&group);
    let surplus = records.len().saturating_sub(bound);
    let candidates = removable(records, |record| match record.kind {
        TombstoneKind::Town => is_known(&cluster.caches.towns, record),
        TombstoneKind::Agent => is_known(&cluster.caches.agents, record),
    });
    // Deleted records that the watch still shows count as removed, because they also count as surplus.
    let mut removed = 0;
    for record in candidates.iter().take(surplus.min(AT_ONCE)) {
        removed += usize::from(remove(cluster, record).await?);
    }
    Ok(removed < surplus && candidates.len() > removed)
}

/// Whether the watch shows the recorded owner.
fn is_known<T: Indexed>(index: &Index<T>, record: &TombstoneFacts) -> bool {
    index.get(&record.of.key).is_some_and(|owner| owner.uid().as_ref() == Some(&record.of.uid))
}

/// Deletes a record early, unless the record has changed or its owner still exists. If the record is more than a
/// receipt, the operator reports the loss.
async fn remove(cluster: &Cluster, record: &TombstoneFacts) -> Result<bool, Error> {
    let Some(found) = get_global::<Tombstone>(&cluster.client, &record.key.name).await? else {
        return Ok(true);
    };
    if Uid::of(&found.metadata).as_ref() != Some(&record.uid) {
        return Ok(true);
    }
    let phase = found.status.as_ref().map(|status| status.phase).unwrap_or_default();
    if !ours(cluster, &found) || phase != record.phase || owner_is_there(cluster, record).await? {
        return Ok(false);
    }
    match delete(cluster, found).await {
        Err(Error::Conflict { .. }) => return Ok(false),
        deleted => deleted?,
    }
    if let Some(lost) = lost_with(record) {
        let ObjectKey { namespace, name } = &record.of.key;
        let note = format!(
            "namespace {namespace} has more than {} Tombstones (--tombstones-per-namespace): the operator has removed \
             the oldest, {}, which {lost}; create and delete fewer towns and agents, set a shorter \
             spec.tombstone.retention, or ask an administrator to raise the bound",
            cluster.limits.tombstones_per_namespace, record.key.name
        );
        let owner = ObjectMeta {
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: Some(record.of.uid.to_string()),
            ..ObjectMeta::default()
        };
        let (why, now) = (reason::TOMBSTONE_REMOVED, cluster.now());
        match record.kind {
            TombstoneKind::Town => cluster.reports.add::<Town>(&owner, why, &note, now),
            TombstoneKind::Agent => cluster.reports.add::<Agent>(&owner, why, &note, now),
        }
    }
    Ok(true)
}

/// The information that is lost with a record, besides receipts; `None`: nothing else.
fn lost_with(record: &TombstoneFacts) -> Option<String> {
    match (record.phase, record.recreate) {
        (TombstonePhase::Destroyed, Recreate::Allow) => None,
        (TombstonePhase::Destroyed, Recreate::Refuse) => Some(format!(
            "blocked a new {} of the name {} until {}",
            record.kind.as_str(),
            record.of.key.name,
            record.expire_time
        )),
        (TombstonePhase::Leaked, _) => Some("names the objects that an administrator abandoned".into()),
        (TombstonePhase::Destroying, _) => Some("was never completed".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response, StatusCode};
    use http_body_util::BodyExt;
    use k8s_openapi::jiff::Timestamp;
    use kube::Client;
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;
    use crate::api::names;
    use crate::cluster::clock::Clock;
    use crate::cluster::context::Limits;
    use crate::cluster::observe::tombstones::{forbids, of_town};
    use crate::cluster::scheduling::requeue::looks;
    use crate::cluster::sync::lock;
    use crate::lifecycle::{OwnerId, OwnerRef};
    use crate::resources::Install;
    use crate::resources::tombstone_facts;

    /// A record of a town `gas` in the namespace `ns`.
    fn record(name: &str, second: i64, phase: &str, recreate: &str, namespace_uid: Option<&str>) -> Value {
        let at = Timestamp::from_second(second).unwrap().to_string();
        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Tombstone",
            "metadata": {"name": format!("town-{name}"), "uid": name, "resourceVersion": "7", "creationTimestamp": at,
                "labels": {names::INSTALL: "here"}},
            "spec": {"kind": "Town", "namespace": "ns", "namespaceUID": namespace_uid, "name": "gas", "uid": name,
                "deleteTime": at, "cause": "Deleted", "recreate": recreate, "expireTime": "2099-01-01T00:00:00Z"},
            "status": {"phase": phase}})
    }

    /// The requests to the API server: method, path, and the body if it matters.
    type Asked = Arc<Mutex<Vec<String>>>;

    /// A cluster with a limit of two records per namespace. Its API server has the records that the watch has shown,
    /// and the namespace `ns` with this UID. With `Err` the read of the namespace fails.
    fn cluster(records: &[Value], namespace: Result<&'static str, ()>) -> (Cluster, Asked) {
        let asked = Asked::default();
        let (all, requests) = (records.to_vec(), asked.clone());
        let server = service_fn(move |request: Request<Body>| {
            let (all, requests) = (all.clone(), requests.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let path = head.uri.path().to_owned();
                let name = path.rsplit('/').next().unwrap();
                let exactly = match serde_json::from_slice::<Value>(&body) {
                    Ok(body) if head.method == Method::DELETE => format!(" {}", body["preconditions"]),
                    _ => String::new(),
                };
                lock(&requests).push(format!("{} {name}{exactly}", head.method));
                let status = |code: StatusCode, reason: &str| {
                    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no",
                        "code": code.as_u16(), "reason": reason});
                    (code, body)
                };
                let (code, body) = match (name, &namespace) {
                    ("ns", Ok(uid)) => (
                        StatusCode::OK,
                        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns", "uid": uid}}),
                    ),
                    ("ns", Err(())) => status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
                    ("tombstones", _) => (
                        StatusCode::OK,
                        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "TombstoneList", "metadata": {},
                            "items": all}),
                    ),
                    _ => match all.iter().find(|record| record["metadata"]["name"] == name) {
                        Some(record) => (StatusCode::OK, record.clone()),
                        None => status(StatusCode::NOT_FOUND, "NotFound"),
                    },
                };
                let body = Body::from(body.to_string().into_bytes());
                Response::builder().status(code).body(body)
            }
        });
        let limits = Limits { tombstones_per_namespace: 2, ..Limits::LEAST };
        let (client, install) = (Client::new(server, "ns"), Install("here".into()));
        let cluster = Cluster::new(client, install, Arc::default(), limits, looks().0, Clock::system());
        for record in records {
            let record: Tombstone = serde_json::from_value(record.clone()).unwrap();
            cluster.caches.tombstones.apply(tombstone_facts(&record).unwrap(), None);
        }
        (cluster, asked)
    }

    fn deleted(asked: &Asked) -> Vec<String> {
        let all = lock(asked);
        let deletes = all.iter().filter_map(|asked| asked.strip_prefix("DELETE "));
        deletes.map(str::to_owned).collect()
    }

    // S2.
    #[tokio::test]
    async fn oldest_tombstone_is_deleted_as_read_when_a_namespace_has_too_many() {
        let three = [
            record("c", 3, "Destroyed", "Allow", None),
            record("a", 1, "Destroying", "Allow", None),
            record("b", 2, "Destroyed", "Allow", None),
        ];
        let (cluster, asked) = cluster(&three, Ok("n"));
        assert!(!trim(&cluster, "ns").await.unwrap(), "nothing more is to be done");
        assert_eq!(deleted(&asked), ["town-b {\"resourceVersion\":\"7\",\"uid\":\"b\"}"]);
        assert!(!lock(&asked).iter().any(|asked| asked == "GET tombstones"), "the watch counts");
        assert_eq!(cluster.reports.waiting(), 0, "a receipt goes without a word");
        lock(&asked).clear();
        assert!(!trim(&cluster, "other").await.unwrap());
        assert!(lock(&asked).is_empty(), "another namespace has none");
    }

    // S2, decisions 5.9.
    #[tokio::test]
    async fn refusing_tombstone_is_deleted_with_a_warning_when_no_other_is_left() {
        let three = [1, 2, 3].map(|at| record(&format!("r{at}"), at, "Destroyed", "Refuse", None));
        let (cluster, asked) = cluster(&three, Ok("n"));
        trim(&cluster, "ns").await.unwrap();
        assert_eq!(deleted(&asked), ["town-r1 {\"resourceVersion\":\"7\",\"uid\":\"r1\"}"]);
        let said = cluster.reports.notes();
        assert!(
            said.len() == 1 && said[0].contains("town-r1, which blocked a new Town of the name gas"),
            "{said:?}"
        );
    }

    #[tokio::test]
    async fn tombstone_is_kept_when_it_differs_from_the_watched_state() {
        let three = [1, 2, 3].map(|at| record(&format!("r{at}"), at, "Destroyed", "Allow", None));
        let (cluster, asked) = cluster(&three, Ok("n"));
        let facts =
            cluster.caches.tombstones.get(&ObjectKey { namespace: String::new(), name: "town-r1".into() });
        let changed = TombstoneFacts { phase: TombstonePhase::Leaked, ..(*facts.unwrap()).clone() };
        cluster.caches.tombstones.apply(changed, None);
        for record in cluster.caches.tombstones.all() {
            remove(&cluster, &record).await.unwrap();
        }
        let mut gone = deleted(&asked);
        gone.sort_unstable();
        let names: Vec<_> = gone.iter().filter_map(|gone| gone.split(' ').next()).collect();
        assert_eq!(names, ["town-r2", "town-r3"]);
    }

    #[tokio::test]
    async fn namespace_is_trimmed_by_one_reconcile_at_a_time() {
        let three = [1, 2, 3].map(|at| record(&format!("r{at}"), at, "Destroyed", "Allow", None));
        let (cluster, asked) = cluster(&three, Ok("n"));
        let turn = cluster.trims.begin("ns").unwrap();
        assert!(trim(&cluster, "ns").await.unwrap(), "it looks again");
        assert!(lock(&asked).is_empty());
        drop(turn);
        trim(&cluster, "ns").await.unwrap();
        assert_eq!(deleted(&asked).len(), 1);
    }

    // S12.
    #[tokio::test]
    async fn tombstone_refuses_a_name_only_in_the_namespace_with_the_recorded_uid() {
        let key = ObjectKey { namespace: "ns".into(), name: "gas".into() };
        for (recorded, forbidden, reads) in
            [(Some("n"), true, 1), (Some("earlier"), false, 1), (None, true, 0)]
        {
            let (cluster, asked) = cluster(&[record("old", 1, "Destroyed", "Refuse", recorded)], Ok("n"));
            for look in ["first", "again"] {
                let found = forbids(&cluster, TombstoneKind::Town, &key, &Uid::new("new")).await.unwrap();
                assert_eq!(found.is_some(), forbidden, "{recorded:?} {look}");
            }
            let of_namespace = lock(&asked).iter().filter(|asked| *asked == "GET ns").count();
            assert_eq!(of_namespace, reads, "{recorded:?}: read once, and only where it matters");
            let town = OwnerId::new("ns", &Uid::new("old"));
            let found = of_town(&cluster, &town, &Uid::new("new")).await.unwrap();
            assert_eq!(found.is_some(), forbidden, "{recorded:?}: nor does its inventory name anything here");
        }
    }

    // S12.
    #[tokio::test]
    async fn tombstone_check_fails_when_the_namespace_cannot_be_read() {
        let key = ObjectKey { namespace: "ns".into(), name: "gas".into() };
        let (cluster, _) = cluster(&[record("old", 1, "Destroyed", "Refuse", Some("n"))], Err(()));
        forbids(&cluster, TombstoneKind::Town, &key, &Uid::new("new")).await.unwrap_err();
        of_town(&cluster, &OwnerId::new("ns", &Uid::new("old")), &Uid::new("new")).await.unwrap_err();
        let unforbidden = record("old", 1, "Destroyed", "Allow", Some("n"));
        let (cluster, asked) = self::cluster(&[unforbidden], Err(()));
        assert!(forbids(&cluster, TombstoneKind::Town, &key, &Uid::new("new")).await.unwrap().is_none());
        assert!(
            !lock(&asked).iter().any(|asked| asked == "GET ns"),
            "an ordinary new town costs no read more"
        );
    }

    #[tokio::test]
    async fn agent_tombstone_counts_for_its_namespace() {
        let (cluster, _) = cluster(&[], Ok("n"));
        let key = |name: &str| ObjectKey { namespace: "ns".into(), name: name.into() };
        for (kind, name) in [(TombstoneKind::Town, "town-x"), (TombstoneKind::Agent, "agent-x")] {
            let record: Tombstone =
                serde_json::from_value(record("x", 1, "Destroyed", "Allow", None)).unwrap();
            let facts = TombstoneFacts {
                key: ObjectKey { namespace: String::new(), name: name.into() },
                kind,
                of: OwnerRef { key: key("x"), uid: Uid::new("x") },
                ..tombstone_facts(&record).unwrap()
            };
            cluster.caches.tombstones.apply(facts, None);
        }
        assert_eq!(cluster.caches.tombstones.count(&Group::RecordsOf("ns".into())), 2);
        cluster
            .caches
            .tombstones
            .delete(&ObjectKey { namespace: String::new(), name: "agent-x".into() }, None);
        assert_eq!(cluster.caches.tombstones.count(&Group::RecordsOf("ns".into())), 1);
    }
}
