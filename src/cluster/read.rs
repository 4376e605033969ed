//! Reads past every cache. An error is an error: it is never taken for absence, nor for an empty list.

use std::fmt::Debug;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, ListParams};
use kube::core::ObjectList;
use serde::de::DeserializeOwned;

use super::decode::{Decoded, Undecodable};
use super::error::{Error, says_gone};
use super::kinds::Known;
use super::{Cluster, definitions};
use crate::lifecycle::{Guard, ObjectKey, Unknown};

/// Objects asked for at once, by lists and by watches. An object can be as large as 1.5 MB, and a page is in memory as
/// a whole.
pub const PAGE: u32 = 20;

/// A question that got no answer.
pub(super) fn unknown(kind: &'static str, error: &Error) -> Unknown {
    Unknown { kind, message: error.to_string() }
}

/// What was read; `None` only where the API server says that there is no such object.
fn if_found<K>(read: kube::Result<K>) -> kube::Result<Option<K>> {
    match read {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if says_gone(&status) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One object, past every cache; `None` only where the API server says that there is no such object, or no such
/// kind.
pub(super) async fn get<K: Known>(cluster: &Cluster, key: &ObjectKey) -> Result<Option<K>, Error> {
    let api: Api<Decoded<K>> = Api::namespaced(cluster.client.clone(), &key.namespace);
    let found = if_found(api.get(&key.name).await);
    let found = found.map_err(|e| Error::api(format!("read {} {key}", K::NAME), e));
    match found.and_then(|found| found.map(decoded).transpose()) {
        // Of a kind that is gone not even the path is found.
        Err(error) if error.is_not_served() => match definitions::of_kind(K::NAME) {
            Some(definition) if is_absent(cluster, definition).await? => Ok(None),
            _ => Err(error),
        },
        found => found,
    }
}

/// A whole list, past every cache, of those whose metadata tells that they matter.
pub(super) async fn list<K: Known>(
    cluster: &Cluster,
    namespace: &str,
    params: &ListParams,
    matters: impl Fn(&ObjectMeta) -> bool,
) -> Result<Vec<K>, Error> {
    let api: Api<Decoded<K>> = Api::namespaced(cluster.client.clone(), namespace);
    let page = |params: ListParams| {
        let api = api.clone();
        async move { api.list(&params).await }
    };
    let there = |meta: &ObjectMeta| Guard::Absence.holds() || meta.deletion_timestamp.is_none();
    let keep = |item: Decoded<K>| (matters(item.meta()) && there(item.meta())).then(|| decoded(item));
    pages(K::NAME, params, page, keep).await?.into_iter().collect()
}

/// The object, or that it cannot be decoded.
fn decoded<K: Known>(object: Decoded<K>) -> Result<K, Error> {
    object.0.map(K::observed).map_err(|Undecodable { metadata, error }| Error::Undecodable {
        kind: K::NAME,
        name: metadata.name.unwrap_or_default(),
        message: error,
    })
}

/// One object that is in no namespace, past every cache; `None` only where the API server says that there is none.
pub(super) async fn get_global<K>(cluster: &Cluster, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(cluster.client.clone());
    if_found(api.get(name).await).map_err(|e| Error::api(format!("read {} {name}", K::kind(&())), e))
}

/// Whether a kind of ours is there to stay: its definition exists and is not being removed.
pub(super) async fn is_defined(cluster: &Cluster, definition: &str) -> Result<bool, Error> {
    let found = get_global::<CustomResourceDefinition>(cluster, definition).await?;
    Ok(found.is_some_and(|crd| crd.metadata.deletion_timestamp.is_none()))
}

/// Whether a kind of ours does not exist at all. One that is being removed may still have objects.
pub(super) async fn is_absent(cluster: &Cluster, definition: &str) -> Result<bool, Error> {
    Ok(get_global::<CustomResourceDefinition>(cluster, definition).await?.is_none())
}

/// A whole list, page by page; of each page that which is kept.
pub(super) async fn pages<T: Clone, U, F>(
    kind: &str,
    params: &ListParams,
    page: impl Fn(ListParams) -> F,
    keep: impl Fn(T) -> Option<U>,
) -> Result<Vec<U>, Error>
where
    F: Future<Output = kube::Result<ObjectList<T>>>,
{
    let mut params = params.clone().limit(PAGE);
    let mut all = Vec::new();
    loop {
        let ObjectList { items, metadata, .. } = match page(params.clone()).await {
            Err(_) if !Guard::FailClosed.holds() => return Ok(Vec::new()),
            page => page.map_err(|e| Error::api(format!("list {kind}"), e))?,
        };
        all.extend(items.into_iter().filter_map(&keep));
        match metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}
