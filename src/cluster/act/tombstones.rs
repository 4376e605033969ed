//! The writes of records of destructions.
//!
//! Invariant kept here: a record is written once, and its content is never reduced.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, Preconditions};
use serde_json::json;

use crate::api::{Tombstone, TombstoneChild, TombstoneKind, TombstoneSpec, TombstoneStatus, names};
use crate::cluster::client::params::{patch_params, post_params};
use crate::cluster::context::Cluster;
use crate::cluster::error::{Error, says_gone};
use crate::cluster::kinds::definitions::TOMBSTONE;
use crate::cluster::read::objects::get_global;
use crate::lifecycle::{Uid, tombstone_name};

/// Writes a record.
pub(crate) async fn create(cluster: &Cluster, spec: TombstoneSpec) -> Result<(), Error> {
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
    match made.map_err(|e| Error::api(format!("create {TOMBSTONE} {name}"), e)) {
        Ok(_) => Ok(()),
        // The answer of an earlier create was lost, or another client created the object. The next reconcile finds
        // out.
        Err(error) if error.is_already_exists() => {
            Err(Error::Conflict { what: format!("create {TOMBSTONE} {name}") })
        }
        Err(error) => Err(error),
    }
}

/// Adds objects to a record.
pub(crate) async fn amend(
    cluster: &Cluster,
    kind: TombstoneKind,
    uid: &Uid,
    more: &[TombstoneChild],
) -> Result<(), Error> {
    let name = tombstone_name(kind, uid);
    let what = || format!("amend {TOMBSTONE} {name}");
    let Some(found) = get_global::<Tombstone>(&cluster.client, &name).await? else {
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
pub(crate) async fn close(cluster: &Cluster, name: &str, status: &TombstoneStatus) -> Result<(), Error> {
    let what = || format!("write receipts to {TOMBSTONE} {name}");
    let Some(mut found) = get_global::<Tombstone>(&cluster.client, name).await? else {
        // The record was deleted since the read. The operator writes the record again first.
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

/// Deletes a record exactly as it was read. A record that is gone counts as deleted.
pub(crate) async fn delete(cluster: &Cluster, found: Tombstone) -> Result<(), Error> {
    let ObjectMeta { name, uid, resource_version, .. } = found.metadata;
    let name = name.unwrap_or_default();
    let exactly = Preconditions { uid, resource_version };
    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::background() };
    match api(cluster).delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if says_gone(&status) => Ok(()),
        Err(error) => Err(Error::api(format!("delete {TOMBSTONE} {name}"), error)),
    }
}

fn api(cluster: &Cluster) -> Api<Tombstone> {
    Api::all(cluster.client.clone())
}
