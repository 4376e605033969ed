//! The inventory of a cluster: objects of every kind that the API server serves. A fixed list of kinds could lack one.

use std::collections::BTreeSet;

use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use kube::{Client, ResourceExt};

/// The objects with these labels (all, if the selector is empty): `Kind namespace/name uid`. Events are omitted.
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
