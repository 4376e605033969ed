//! The records of destructions.
//!
//! Invariant kept here: a record is written once and never made to say less; it is taken for absent only when the
//! API server says that it is, and that its kind is there.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, ListParams, Patch, Preconditions};
use serde_json::json;

use super::Cluster;
use super::definitions::TOMBSTONES;
use super::error::{Error, says_gone};
use super::read::{get, get_global, is_absent, is_defined, pages, unknown};
use super::remains::Search;
use super::write::{patch_params, post_params};
use crate::api::condition::reason;
use crate::api::{
    Agent, Recreate, Tombstone, TombstoneChild, TombstoneKind, TombstoneSpec, TombstoneStatus, Town, names,
};
use crate::lifecycle::{ObjectKey, OwnerId, Record, Uid, label, tombstone_name};

const KIND: &str = "Tombstone";

/// The record of an owner.
pub(super) async fn read(cluster: &Cluster, kind: TombstoneKind, uid: &Uid) -> Record {
    let look = async {
        let name = tombstone_name(kind, uid);
        let found = get_global::<Tombstone>(cluster, &name).await;
        match found {
            Ok(Some(found)) if ours(cluster, &found) && found.spec.uid == uid.as_str() => {
                Ok(Record::There(found.into()))
            }
            // Whoever made it under another installation's label has no say about what is ours.
            Ok(Some(_)) => Err(Error::NameTaken { kind: KIND, name }),
            Err(error) if !error.is_not_served() => Err(error),
            not_found => match (is_defined(cluster, TOMBSTONES).await?, not_found) {
                // Where the kind is gone not even its path is found: the API server has no words of its own for that.
                (false, _) => Ok(Record::NotKept),
                (true, Err(error)) => Err(error),
                (true, Ok(_)) => Ok(Record::Missing),
            },
        }
    };
    look.await.unwrap_or_else(|error| Record::Unknown(unknown(KIND, &error)))
}

/// Writes a record.
pub(super) async fn create(cluster: &Cluster, spec: TombstoneSpec) -> Result<(), Error> {
    let name = tombstone_name(spec.kind, &Uid::new(&spec.uid));
    let mut tombstone = Tombstone::new(&name, spec);
    tombstone.metadata.labels = Some(
        [
            (names::INSTALL, cluster.install.0.as_str()),
            (names::APP_MANAGED_BY, names::MANAGER),
            (names::EXCLUDE_FROM_BACKUP, "true"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
    );
    let made = api(cluster).create(&post_params(), &tombstone).await;
    match made.map_err(|e| Error::api(format!("create {KIND} {name}"), e)) {
        Ok(_) => Ok(()),
        // A create whose answer was lost, or somebody else's: the next look tells.
        Err(error) if error.is_already_exists() => {
            Err(Error::Conflict { what: format!("create {KIND} {name}") })
        }
        Err(error) => Err(error),
    }
}

/// Adds objects to a record.
pub(super) async fn amend(
    cluster: &Cluster,
    kind: TombstoneKind,
    uid: &Uid,
    more: &[TombstoneChild],
) -> Result<(), Error> {
    let name = tombstone_name(kind, uid);
    let what = || format!("amend {KIND} {name}");
    let Some(found) = get_global::<Tombstone>(cluster, &name).await? else {
        return Err(Error::Conflict { what: what() });
    };
    let children: Vec<_> = found.spec.children.iter().chain(more).collect();
    let ObjectMeta { uid, resource_version, .. } = &found.metadata;
    let change = json!({
        "metadata": {"uid": uid, "resourceVersion": resource_version},
        "spec": {"children": children},
    });
    let amended = api(cluster).patch(&name, &patch_params(), &Patch::Merge(change)).await;
    amended.map(drop).map_err(|e| Error::known(what(), e))
}

/// Writes the receipts into a record.
pub(super) async fn close(cluster: &Cluster, name: &str, status: &TombstoneStatus) -> Result<(), Error> {
    let what = || format!("give receipts in {KIND} {name}");
    let Some(mut found) = get_global::<Tombstone>(cluster, name).await? else {
        // It vanished since it was read: it is written again first.
        return Err(Error::Conflict { what: what() });
    };
    found.status = Some(status.clone());
    found.metadata.managed_fields = None;
    api(cluster)
        .replace_status(name, &post_params(), &found)
        .await
        .map(drop)
        .map_err(|e| Error::known(what(), e))
}

/// The record of the destruction of this town; `None`: there is none. The record of a town in another namespace says
/// nothing of it.
pub(super) async fn of_town(cluster: &Cluster, town: &OwnerId) -> Result<Option<Arc<Tombstone>>, Error> {
    match read(cluster, TombstoneKind::Town, &town.uid).await {
        Record::There(record) => Ok((record.spec.namespace == town.namespace).then_some(record)),
        Record::Missing | Record::NotKept => Ok(None),
        Record::Unknown(unknown) => Err(Error::Unread { kind: unknown.kind, message: unknown.message }),
    }
}

/// The record that forbids a new town or agent of this namespace and name; `None`: there is none.
pub(super) async fn forbids(
    cluster: &Cluster,
    kind: TombstoneKind,
    key: &ObjectKey,
    uid: &Uid,
) -> Result<Option<Tombstone>, Error> {
    let selector = format!("spec.namespace={},spec.name={}", key.namespace, key.name);
    let params = ListParams::default().fields(&selector);
    let page = |params: ListParams| async move { api(cluster).list(&params).await };
    let found = match pages(KIND, &params, page, Some).await {
        Err(error) if error.is_not_served() && is_absent(cluster, TOMBSTONES).await? => Vec::new(),
        found => found?,
    };
    let forbids = |t: &Tombstone| {
        t.spec.kind == kind && t.spec.recreate == Recreate::Refuse && t.spec.uid != uid.as_str()
    };
    Ok(found.into_iter().filter(|t| ours(cluster, t) && forbids(t)).max_by_key(|t| t.spec.expire_time.0))
}

/// What became of a record whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It is gone.
    Gone,
    /// The object itself has not gone yet; it will any moment.
    TooEarly,
    /// Something that it speaks of is still there.
    StillThere,
}

/// Lets a record go whose time has come, after a last look for what it speaks of.
pub async fn expire(cluster: &Cluster, key: &ObjectKey) -> Result<Expiry, Error> {
    let Some(known) = cluster.tombstones.get(key) else { return Ok(Expiry::Gone) };
    let Some(found) = get_global::<Tombstone>(cluster, &key.name).await? else { return Ok(Expiry::Gone) };
    if Uid::of(&found.metadata).as_ref() != Some(&known.uid) {
        return Ok(Expiry::Gone);
    }
    let of = match known.kind {
        TombstoneKind::Town => get::<Town>(cluster, &known.of.key).await?.and_then(|town| town.metadata.uid),
        TombstoneKind::Agent => {
            get::<Agent>(cluster, &known.of.key).await?.and_then(|agent| agent.metadata.uid)
        }
    };
    if of.as_deref() == Some(known.of.uid.as_str()) {
        return Ok(Expiry::TooEarly);
    }
    let left = Search::of_destroyed(cluster, &known).everything().await?;
    if !left.is_empty() {
        let left: Vec<_> = left.iter().map(|child| format!("{} {}", child.kind, child.name)).collect();
        let note = format!("this record stays: {} of it still there: {}", left.len(), left.join(", "));
        cluster.events.say(&found, true, reason::STILL_THERE, &note).await;
        return Ok(Expiry::StillThere);
    }
    let exactly =
        Preconditions { uid: found.metadata.uid, resource_version: found.metadata.resource_version };
    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::background() };
    match api(cluster).delete(&key.name, &params).await {
        Ok(_) => Ok(Expiry::Gone),
        Err(kube::Error::Api(status)) if says_gone(&status) => Ok(Expiry::Gone),
        Err(error) => Err(Error::api(format!("delete {KIND} {}", key.name), error)),
    }
}

fn ours(cluster: &Cluster, tombstone: &Tombstone) -> bool {
    label(&tombstone.metadata, names::INSTALL) == Some(&cluster.install.0)
}

fn api(cluster: &Cluster) -> Api<Tombstone> {
    Api::all(cluster.client.clone())
}
