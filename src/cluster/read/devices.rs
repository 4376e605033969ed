//! Device claims (`ResourceClaim`), which the API server serves in one of several versions, or not at all.
//!
//! Invariant kept here: a claim counts as absent only if the API server answers that the claim does not exist, or
//! does not list the API group. A path that is not found proves nothing about an object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};

use crate::cluster::error::Error;
use crate::lifecycle::{ChildKind, ObjectKey};

const GROUP: &str = "resource.k8s.io";

/// The metadata of a device claim, uncached; `None`: there is none.
pub(crate) async fn get_device_claim(client: &Client, key: &ObjectKey) -> Result<Option<ObjectMeta>, Error> {
    let kind = ChildKind::ResourceClaim.as_str();
    let groups = client.list_api_groups().await;
    let groups = groups.map_err(|e| Error::api("list the API groups", e))?.groups;
    // A cluster without dynamic resource allocation does not serve the group.
    let Some(group) = groups.into_iter().find(|group| group.name == GROUP) else { return Ok(None) };
    let mut not_served = None;
    for version in &group.versions {
        let kind_of_version = GroupVersionKind::gvk(GROUP, &version.version, kind);
        let resource = ApiResource::from_gvk_with_plural(&kind_of_version, "resourceclaims");
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, &resource);
        match api.get_metadata(&key.name).await.map_err(|e| Error::api(format!("read {kind} {key}"), e)) {
            Ok(found) => return Ok(Some(found.metadata)),
            Err(error) if error.is_not_found() => return Ok(None),
            // In this version the group has other kinds only.
            Err(error) if error.is_not_served() => not_served = Some(error),
            Err(error) => return Err(error),
        }
    }
    match not_served {
        Some(error) => Err(error),
        None => Ok(None),
    }
}
