//! Changes and deletes of existing objects.
//!
//! Invariant kept here: each request names the UID that was planned, so that it never affects another object which
//! has taken the name meanwhile.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, PartialObjectMeta, Patch, Preconditions};
use serde_json::{Value, json};

use crate::cluster::client::params::patch_params;
use crate::cluster::context::Cluster;
use crate::cluster::error::{Error, is_denied_by_admission, says_gone};
use crate::cluster::kinds::known::Known;
use crate::cluster::read::objects::get;
use crate::lifecycle::{Guard, ObjectKey, OwnerRef, PodFacts, Uid};
use crate::resources::pod_facts;

/// Changes exactly the planned object, by a merge patch. `by` is the object of the reconcile.
pub(crate) async fn change<K: Known>(
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
    cluster.caches.wrote::<K>(by, &changed.metadata);
    Ok(changed.metadata)
}

/// Deletes exactly the planned object. An object that is gone is success. If another object has taken the name, the
/// operator decides again.
pub(crate) async fn delete<K: Known>(
    cluster: &Cluster,
    by: &Uid,
    key: &ObjectKey,
    uid: &Uid,
) -> Result<(), Error> {
    let uid = Guard::UidOfDeletes.holds().then(|| uid.to_string());
    let exactly = Preconditions { uid, resource_version: None };
    delete_if::<K>(cluster, by, key, exactly, None).await.map(drop)
}

/// Deletes exactly the planned pod, with a grace period of at least one second. With a grace period of zero the API
/// server removes the object immediately, whether the kubelet has stopped the containers or not. Then the absence of
/// the pod would prove nothing.
pub(crate) async fn delete_pod(cluster: &Cluster, by: &Uid, key: &ObjectKey, uid: &Uid) -> Result<(), Error> {
    let known = cluster.caches.pods.get(key).filter(|pod| pod.uid == *uid).map(|pod| PodFacts::clone(&pod));
    let known = match known {
        Some(pod) => Some(pod),
        // The watch shows only pods with our label.
        None => get::<Pod>(&cluster.client, key).await?.as_ref().and_then(pod_facts),
    };
    let grace = known.and_then(|pod| grace_of_delete(pod.grace_period));
    let planned = Guard::UidOfDeletes.holds().then(|| uid.to_string());
    let exactly = Preconditions { uid: planned, resource_version: None };
    delete_if::<Pod>(cluster, by, key, exactly, grace).await.map(drop)
}

/// The grace period in the delete of a pod; `None`: the grace period of the pod, which is at least one second.
fn grace_of_delete(own: Option<i64>) -> Option<u32> {
    own.filter(|seconds| *seconds < 1).map(|_| 1)
}

/// Deletes the object itself if it has not changed since the decision. Otherwise the other change has precedence.
/// Returns the metadata of the object if it still exists.
pub(crate) async fn delete_unchanged<K: Known>(
    cluster: &Cluster,
    itself: &OwnerRef,
    resource_version: Option<String>,
) -> Result<Option<ObjectMeta>, Error> {
    let unchanged = Preconditions { uid: Some(itself.uid.to_string()), resource_version };
    delete_if::<K>(cluster, &itself.uid, &itself.key, unchanged, None).await
}

async fn delete_if<K: Known>(
    cluster: &Cluster,
    by: &Uid,
    key: &ObjectKey,
    preconditions: Preconditions,
    grace_period_seconds: Option<u32>,
) -> Result<Option<ObjectMeta>, Error> {
    let api = metadata_of::<K>(cluster, &key.namespace);
    let preconditions = Some(preconditions);
    let params = DeleteParams { preconditions, grace_period_seconds, ..DeleteParams::background() };
    let answer = api.delete(&key.name, &params).await;
    match answer.map_err(|e| Error::api(format!("delete {} {key}", K::NAME), e)) {
        Ok(answer) => Ok(answer.left().map(|object| {
            cluster.caches.wrote::<K>(by, &object.metadata);
            object.metadata
        })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes finalizers, in the order of their positions, from exactly the planned object: the patch tests UID,
/// position and name. An object that is gone is success.
pub(crate) async fn remove_finalizers<K: Known>(
    cluster: &Cluster,
    key: &ObjectKey,
    uid: &Uid,
    finalizers: &[(usize, &str)],
) -> Result<(), Error> {
    let names: Vec<_> = finalizers.iter().map(|(_, name)| *name).collect();
    let what = || format!("remove {} from {} {key}", names.join(", "), K::NAME);
    let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": uid.as_str()})];
    // The last finalizer is removed first, so that the positions of the others stay the same.
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
        // The code is the same for a failed test of the patch and for a refusal of the change.
        Err(kube::Error::Api(status)) if status.code == 422 && !is_denied_by_admission(&status) => {
            let meta = api.get_metadata(&key.name).await.map(|found| found.metadata);
            match meta.as_ref().map(|meta| is_as_planned(meta, uid, finalizers)) {
                Ok(false) => Err(Error::Conflict { what: what() }),
                Err(kube::Error::Api(status)) if says_gone(status) => Ok(()),
                // The tests of the patch hold, or the read failed: the change itself was refused.
                Ok(true) | Err(_) => Err(Error::refused(what(), status)),
            }
        }
        Err(error) => Err(Error::api(what(), error)),
    }
}

/// The API for a kind with only the metadata of answers decoded. A write that took effect must not fail because of
/// the other content of the object.
fn metadata_of<K: Known>(cluster: &Cluster, namespace: &str) -> Api<PartialObjectMeta<K>> {
    Api::namespaced(cluster.client.clone(), namespace)
}

/// Whether an object still has these finalizers at these positions, so that the tests of a patch must succeed.
fn is_as_planned(meta: &ObjectMeta, uid: &Uid, finalizers: &[(usize, &str)]) -> bool {
    let there = meta.finalizers.as_deref().unwrap_or_default();
    Uid::of(meta).as_ref() == Some(uid)
        && finalizers.iter().all(|(place, name)| there.get(*place).is_some_and(|found| found == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    // code:A2
    #[test]
    fn pod_delete_requests_one_second_of_grace_when_the_pod_has_none() {
        for (own, sent) in
            [(Some(0), Some(1)), (Some(-1), Some(1)), (Some(1), None), (Some(30), None), (None, None)]
        {
            assert_eq!(grace_of_delete(own), sent, "{own:?}");
        }
    }

    #[test]
    fn finalizer_patch_succeeds_only_on_the_planned_object() {
        let meta = |uid: &str, finalizers: &[&str]| ObjectMeta {
            uid: Some(uid.into()),
            finalizers: Some(finalizers.iter().map(|name| (*name).into()).collect()),
            ..ObjectMeta::default()
        };
        let planned = |meta: &ObjectMeta| is_as_planned(meta, &Uid::new("u"), &[(1, "ours")]);
        assert!(planned(&meta("u", &["theirs", "ours"])));
        for changed in [meta("v", &["theirs", "ours"]), meta("u", &["ours"]), meta("u", &["ours", "theirs"])]
        {
            assert!(!planned(&changed), "{changed:?}");
        }
    }
}
