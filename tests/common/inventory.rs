//! The inventory of a cluster: objects of every kind that the API server serves. A fixed list of kinds could lack one.

use std::collections::BTreeSet;

use futures::StreamExt;
use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{ApiGroup, ApiResource, Discovery, Scope, verbs};
use kube::{Client, ResourceExt};

/// The number of concurrent requests.
pub const HANDS: usize = 8;

/// The objects of one kind.
pub struct Listed {
    pub kind: ApiResource,
    pub namespaced: bool,
    pub objects: Vec<DynamicObject>,
}

/// Lists the objects with these labels (all, if the selector is empty) of every kind except those.
pub async fn every_kind(client: &Client, selector: &str, except: &[&str]) -> Result<Vec<Listed>, String> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await.map_err(|e| e.to_string())?;
    let kinds = discovery.groups().flat_map(ApiGroup::recommended_resources);
    let listed: Vec<_> = kinds
        .filter(|(kind, able)| able.supports_operation(verbs::LIST) && !except.contains(&&*kind.kind))
        .collect();
    let params = ListParams::default().labels(selector);
    let lists = listed.into_iter().map(async |(kind, able)| {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let objects = api.list(&params).await.map_err(|error| format!("{}: {error}", kind.plural))?.items;
        Ok(Listed { kind, namespaced: able.scope == Scope::Namespaced, objects })
    });
    let lists: Vec<_> = futures::stream::iter(lists).buffered(HANDS).collect().await;
    lists.into_iter().collect()
}

/// The objects with these labels (all, if the selector is empty): `Kind namespace/name uid`. Events are omitted.
pub async fn objects(client: &Client, selector: &str) -> BTreeSet<String> {
    let listed = every_kind(client, selector, &["Event"]).await.unwrap_or_else(|why| panic!("{why}"));
    let objects = listed.iter().flat_map(|Listed { kind, objects, .. }| {
        objects.iter().map(|object| {
            let (namespace, uid) = (object.namespace().unwrap_or_default(), object.uid());
            format!("{} {namespace}/{} {}", kind.kind, object.name_any(), uid.unwrap_or_default())
        })
    });
    objects.collect()
}
