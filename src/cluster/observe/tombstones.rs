//! The reads of records of destructions.
//!
//! Invariant kept here: a record counts as absent only if the API server answers that the record is absent and that
//! its kind exists.

use std::sync::Arc;

use kube::api::{Api, ListParams};

use crate::api::{Recreate, Tombstone, TombstoneKind, names};
use crate::cluster::context::Cluster;
use crate::cluster::error::Error;
use crate::cluster::kinds::definitions::{TOMBSTONE, TOMBSTONES};
use crate::cluster::read::objects::{get_global, is_absent, is_defined, pages, unknown};
use crate::lifecycle::{ObjectKey, OwnerId, Record, Uid, concerns, label, tombstone_name};

/// Reads the record of an owner.
pub(crate) async fn read(cluster: &Cluster, kind: TombstoneKind, uid: &Uid) -> Record {
    let look = async {
        let name = tombstone_name(kind, uid);
        let found = get_global::<Tombstone>(&cluster.client, &name).await;
        match found {
            Ok(Some(found)) if ours(cluster, &found) && found.spec.uid == uid.as_str() => {
                Ok(Record::There(found.into()))
            }
            // A record with the label of another installation does not apply to objects of ours.
            Ok(Some(_)) => Err(Error::NameTaken { kind: TOMBSTONE, name }),
            Err(error) if !error.is_not_served() => Err(error),
            not_found => match (is_defined(&cluster.client, TOMBSTONES).await?, not_found) {
                // If the kind is deleted, the API server does not even find its path, and answers without a reason.
                (false, _) => Ok(Record::NotKept),
                (true, Err(error)) => Err(error),
                (true, Ok(_)) => Ok(Record::Missing),
            },
        }
    };
    look.await.unwrap_or_else(|error| Record::Unknown(unknown(TOMBSTONE, &error)))
}

/// The record of the destruction of this town, for an agent that names the town; `None`: there is none. A record of a
/// town in another namespace, or in an earlier namespace of this name, does not apply.
pub(crate) async fn of_town(
    cluster: &Cluster,
    town: &OwnerId,
    agent: &Uid,
) -> Result<Option<Arc<Tombstone>>, Error> {
    match read(cluster, TombstoneKind::Town, &town.uid).await {
        Record::There(record) if record.spec.namespace != town.namespace => Ok(None),
        Record::There(record) => {
            let recorded = record.spec.namespace_uid.as_deref();
            // Without the UID the record applies to every namespace of the name, so no read is necessary.
            let binds = match recorded {
                None => true,
                Some(_) => {
                    concerns(recorded, &cluster.namespaces.of(&cluster.client, agent, &town.namespace).await?)
                }
            };
            Ok(binds.then_some(record))
        }
        Record::Missing | Record::NotKept => Ok(None),
        Record::Unknown(unknown) => Err(Error::Unread { kind: unknown.kind, message: unknown.message }),
    }
}

/// The record that forbids a new town or agent with this namespace and name; `None`: there is none. The namespace is
/// read only if a record would forbid the object in the same namespace.
pub(crate) async fn forbids(
    cluster: &Cluster,
    kind: TombstoneKind,
    key: &ObjectKey,
    uid: &Uid,
) -> Result<Option<Tombstone>, Error> {
    let selector = format!("spec.namespace={},spec.name={}", key.namespace, key.name);
    let params = ListParams::default().fields(&selector);
    let page = |params: ListParams| async move { api(cluster).list(&params).await };
    let found = match pages(TOMBSTONE, &params, page, Some).await {
        Err(error) if error.is_not_served() && is_absent(&cluster.client, TOMBSTONES).await? => Vec::new(),
        found => found?,
    };
    let forbids = |t: &Tombstone| {
        t.spec.kind == kind && t.spec.recreate == Recreate::Refuse && t.spec.uid != uid.as_str()
    };
    let mut found: Vec<_> = found.into_iter().filter(|t| ours(cluster, t) && forbids(t)).collect();
    if found.iter().any(|t| t.spec.namespace_uid.is_some()) {
        let namespace = cluster.namespaces.of(&cluster.client, uid, &key.namespace).await?;
        found.retain(|t| concerns(t.spec.namespace_uid.as_deref(), &namespace));
    }
    Ok(found.into_iter().max_by_key(|t| t.spec.expire_time.0))
}

/// Whether a record has the label of this installation.
pub(crate) fn ours(cluster: &Cluster, tombstone: &Tombstone) -> bool {
    label(&tombstone.metadata, names::INSTALL) == Some(&cluster.install.0)
}

fn api(cluster: &Cluster) -> Api<Tombstone> {
    Api::all(cluster.client.clone())
}
