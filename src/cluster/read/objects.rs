//! Uncached reads. An error never counts as absence, and never as an empty list.

use std::fmt::Debug;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::Resource;
use kube::api::{Api, ListParams};
use kube::core::ObjectList;
use serde::de::DeserializeOwned;

use crate::cluster::error::{Error, says_gone};
use crate::cluster::kinds::decode::{Decoded, Undecodable};
use crate::cluster::kinds::definitions;
use crate::cluster::kinds::known::Known;
use crate::lifecycle::{Guard, ObjectKey, Unknown};

/// The page size of lists and watches. An object can have up to 1.5 MB, and the whole page is in memory.
pub const PAGE: u32 = 20;

/// The answer of a failed read.
pub(crate) fn unknown(kind: &'static str, error: &Error) -> Unknown {
    Unknown { kind, message: error.to_string() }
}

/// The object of a read; `None` only if the API server answers that the object does not exist.
fn if_found<K>(read: kube::Result<K>) -> kube::Result<Option<K>> {
    match read {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if says_gone(&status) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads one object, uncached; `None` only if the API server answers that the object or its kind does not exist.
pub(crate) async fn get<K: Known>(client: &Client, key: &ObjectKey) -> Result<Option<K>, Error> {
    let api: Api<Decoded<K>> = Api::namespaced(client.clone(), &key.namespace);
    let found = if_found(api.get(&key.name).await);
    let found = found.map_err(|e| Error::api(format!("read {} {key}", K::NAME), e));
    match found.and_then(|found| found.map(decoded).transpose()) {
        // If the kind is deleted, the API server does not even find the path.
        Err(error) if error.is_not_served() => match definitions::of_kind(K::NAME) {
            Some(definition) if is_absent(client, definition).await? => Ok(None),
            _ => Err(error),
        },
        found => found,
    }
}

/// Lists objects, uncached and completely. Only objects whose metadata `matters` accepts are decoded.
pub(crate) async fn list<K: Known>(
    client: &Client,
    namespace: &str,
    params: &ListParams,
    matters: impl Fn(&ObjectMeta) -> bool,
) -> Result<Vec<K>, Error> {
    let api: Api<Decoded<K>> = Api::namespaced(client.clone(), namespace);
    let page = |params: ListParams| {
        let api = api.clone();
        async move { api.list(&params).await }
    };
    let there = |meta: &ObjectMeta| Guard::Absence.holds() || meta.deletion_timestamp.is_none();
    let keep = |item: Decoded<K>| (matters(item.meta()) && there(item.meta())).then(|| decoded(item));
    pages(K::NAME, params, page, keep).await?.into_iter().collect()
}

/// The object, or the error of its decoding.
fn decoded<K: Known>(object: Decoded<K>) -> Result<K, Error> {
    object.0.map(K::observed).map_err(|Undecodable { metadata, error }| Error::Undecodable {
        kind: K::NAME,
        name: metadata.name.unwrap_or_default(),
        message: error,
    })
}

/// Reads one cluster-scoped object, uncached; `None` only if the API server answers that the object does not exist.
pub(crate) async fn get_global<K>(client: &Client, name: &str) -> Result<Option<K>, Error>
where
    K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    if_found(api.get(name).await).map_err(|e| Error::api(format!("read {} {name}", K::kind(&())), e))
}

/// Whether a kind of ours is defined permanently: its definition exists and is not being deleted.
pub(crate) async fn is_defined(client: &Client, definition: &str) -> Result<bool, Error> {
    let found = get_global::<CustomResourceDefinition>(client, definition).await?;
    Ok(found.is_some_and(|crd| crd.metadata.deletion_timestamp.is_none()))
}

/// Whether a kind of ours does not exist at all. A kind that is being deleted may still have objects.
pub(crate) async fn is_absent(client: &Client, definition: &str) -> Result<bool, Error> {
    Ok(get_global::<CustomResourceDefinition>(client, definition).await?.is_none())
}

/// Lists objects completely, page by page, and returns the results of `keep`.
pub(crate) async fn pages<T: Clone, U, F>(
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
