//! All that a cluster has, of every kind that it knows: what is left of something is found without a list of
//! kinds that could lack one.

use std::collections::BTreeSet;

use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use kube::{Client, ResourceExt};

/// Every object with these labels, all where none are named: `Kind namespace/name uid`. Events, which only tell of
/// objects, are left out.
pub async fn objects(client: &Client, selector: &str) -> BTreeSet<String> {
    let discovery = Discovery::new(client.clone()).run().await.expect("the kinds of the cluster");
    let params = ListParams::default().labels(selector);
    let mut found = BTreeSet::new();
    for group in discovery.groups() {
        for (resource, able) in group.recommended_resources() {
            if resource.kind == "Event" || !able.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let objects = api.list(&params).await.unwrap_or_else(|e| panic!("{}: {e}", resource.plural));
            found.extend(objects.iter().map(|object| {
                let (namespace, uid) = (object.namespace().unwrap_or_default(), object.uid());
                format!("{} {namespace}/{} {}", resource.kind, object.name_any(), uid.unwrap_or_default())
            }));
        }
    }
    found
}
