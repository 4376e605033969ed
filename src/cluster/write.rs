//! Changes and deletions of what is there.
//!
//! Invariant kept here: each names the UID that was planned, so that another object which has taken the name
//! meanwhile is never touched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, PartialObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

use super::Cluster;
use super::error::{Error, says_gone};
use super::kinds::Known;
use crate::api::names;
use crate::lifecycle::{Guard, ObjectKey, OwnerRef, Uid};

/// Changes exactly the object that was planned, by a merge patch. `by` is whose reconcile it is.
pub(super) async fn change<K: Known>(
    cluster: &Cluster,
    by: &Uid,
    key: &ObjectKey,
    uid: &Uid,
    mut change: Value,
) -> Result<ObjectMeta, Error> {
    change["metadata"]["uid"] = json!(uid.as_str());
    let api = metadata_of::<K>(cluster, &key.namespace);
    let changed = api
        .patch(&key.name, &patch_params(), &Patch::Merge(change))
        .await
        .map_err(|e| Error::known(format!("update {} {key}", K::NAME), e))?;
    cluster.wrote::<K>(by, &changed.metadata);
    Ok(changed.metadata)
}

/// Deletes exactly the object that was planned. One that is gone is success; where another has taken its name what was
/// planned is decided anew.
pub(super) async fn delete<K: Known>(
    cluster: &Cluster,
    by: &Uid,
    key: &ObjectKey,
    uid: &Uid,
) -> Result<(), Error> {
    let uid = Guard::UidOfDeletes.holds().then(|| uid.to_string());
    let exactly = Preconditions { uid, resource_version: None };
    delete_if::<K>(cluster, by, key, exactly).await.map(drop)
}

/// Deletes the object itself if it is still as it was when that was decided; else the change that came between
/// has the last word. The metadata that it has then, if it is still there.
pub(super) async fn delete_unchanged<K: Known>(
    cluster: &Cluster,
    itself: &OwnerRef,
    resource_version: Option<String>,
) -> Result<Option<ObjectMeta>, Error> {
    let unchanged = Preconditions { uid: Some(itself.uid.to_string()), resource_version };
    delete_if::<K>(cluster, &itself.uid, &itself.key, unchanged).await
}

async fn delete_if<K: Known>(
    cluster: &Cluster,
    by: &Uid,
    key: &ObjectKey,
    preconditions: Preconditions,
) -> Result<Option<ObjectMeta>, Error> {
    let api = metadata_of::<K>(cluster, &key.namespace);
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    let answer = api.delete(&key.name, &params).await;
    match answer.map_err(|e| Error::api(format!("delete {} {key}", K::NAME), e)) {
        Ok(answer) => Ok(answer.left().map(|object| {
            cluster.wrote::<K>(by, &object.metadata);
            object.metadata
        })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes finalizers, in the order of their places, off exactly the object that was planned: UID, place and name are
/// all tested. One that is gone is success.
pub(super) async fn remove_finalizers<K: Known>(
    cluster: &Cluster,
    key: &ObjectKey,
    uid: &Uid,
    finalizers: &[(usize, &str)],
) -> Result<(), Error> {
    let names: Vec<_> = finalizers.iter().map(|(_, name)| *name).collect();
    let what = || format!("take {} off {} {key}", names.join(", "), K::NAME);
    let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": uid.as_str()})];
    // The last first: the places of those before it stay what they are.
    for (position, name) in finalizers.iter().rev() {
        let place = format!("/metadata/finalizers/{position}");
        operations.push(json!({"op": "test", "path": place, "value": name}));
        operations.push(json!({"op": "remove", "path": place}));
    }
    let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations))
        .map_err(|e| Error::api(what(), kube::Error::SerdeError(e)))?;
    let api = metadata_of::<K>(cluster, &key.namespace);
    match api.patch(&key.name, &patch_params(), &Patch::Json::<()>(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if says_gone(&status) => Ok(()),
        // A test that failed: the object changed since it was read.
        Err(kube::Error::Api(status)) if status.code == 422 => Err(Error::Conflict { what: what() }),
        Err(error) => Err(Error::api(what(), error)),
    }
}

/// Objects of a kind, of whose answers no more than the metadata is decoded: a write that took effect does not fail
/// because of what the object holds besides.
fn metadata_of<K: Known>(cluster: &Cluster, namespace: &str) -> Api<PartialObjectMeta<K>> {
    Api::namespaced(cluster.client.clone(), namespace)
}

/// How we create and replace: under our own name.
pub(super) fn post_params() -> PostParams {
    PostParams { field_manager: Some(names::MANAGER.into()), ..PostParams::default() }
}

/// How we change: under our own name.
pub(super) fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() }
}
