//! Two tenants, each with every right in a namespace of their own and none elsewhere.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use town_operator::api::{Agent, Tombstone, Town, names};

use crate::common::story::{Story, template};
use crate::common::wait::{PATIENCE, until};
use crate::remains::{busy_town, is_gone_whole, is_on_record};
use crate::stage::Stories;
use crate::words::{Told, polecat, workshop};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(a5_t19_a_tenant_changes_nothing_of_anothers_town_by_asking_or_by_forging);
}

async fn a5_t19_a_tenant_changes_nothing_of_anothers_town_by_asking_or_by_forging(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let before = shown(&story, &town).await;
    let theirs = story.cluster.namespace("bob").await;
    let bob = tenant(&story, &theirs).await;

    // What Bob asks for is refused, each time.
    let towns: Api<Town> = Api::namespaced(bob.clone(), &story.namespace);
    let agents: Api<Agent> = Api::namespaced(bob.clone(), &story.namespace);
    let records: Api<Tombstone> = Api::all(bob.clone());
    let (at_once, as_merge) = (DeleteParams::default(), PatchParams::default());
    let mark = format!("{}@2026-01-01T00:00:00Z", town.id());
    let marked =
        Patch::Merge(json!({"metadata": {"annotations": {names::TOMBSTONE: mark}, "finalizers": null}}));
    let sleeps = Patch::Merge(json!({"spec": {"suspended": true}}));
    let record = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Tombstone",
        "metadata": {"name": format!("town-{}", town.id()), "labels": {names::INSTALL: story.cluster.install_label()}},
        "spec": {
            "kind": "Town", "namespace": story.namespace, "name": "gas", "uid": town.id(), "children": [],
            "deletedAt": "2026-01-01T00:00:00Z", "cause": "Deleted", "recreate": "Refuse",
            "expiresAt": "2100-01-01T00:00:00Z",
        },
    });
    let record: Tombstone = serde_json::from_value(record).unwrap();
    for (what, refused) in [
        ("delete the town", towns.delete("gas", &at_once).await.map(drop)),
        ("delete all towns", towns.delete_collection(&at_once, &ListParams::default()).await.map(drop)),
        ("mark it", towns.patch("gas", &as_merge, &marked).await.map(drop)),
        ("suspend it", towns.patch("gas", &as_merge, &sleeps).await.map(drop)),
        ("delete its agent", agents.delete("ann", &at_once).await.map(drop)),
        ("read it", towns.get("gas").await.map(drop)),
        ("write its record", records.create(&PostParams::default(), &record).await.map(drop)),
    ] {
        match refused {
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            other => panic!("{what}: {other:?}"),
        }
    }

    // In his own namespace he may not make what claims to be of that town either. Where the policies are not
    // installed he may: an administrator does it for him, and he destroys it again.
    let labels = json!({names::TOWN_UID: town.id(), names::INSTALL: story.cluster.install_label()});
    let forged = |kind: &str, name: &str, spec: Value| {
        let version = if kind == "Pod" { "v1" } else { "gastown.dev/v1alpha1" };
        json!({
            "apiVersion": version, "kind": kind, "spec": spec,
            "metadata": {"name": name, "labels": labels, "finalizers": [names::FINALIZER]},
        })
    };
    let mut spec = polecat("b-1");
    spec["town"] = "gas".into();
    let mut pod = forged("Pod", "ann", template()["spec"].clone());
    pod["metadata"]["finalizers"] = Value::Null;
    forge::<Pod>(&story, &bob, &theirs, pod).await;
    forge::<Town>(&story, &bob, &theirs, forged("Town", "gas", workshop())).await;
    forge::<Agent>(&story, &bob, &theirs, forged("Agent", "ann", spec)).await;
    for propagation in [DeleteParams::background(), DeleteParams::foreground()] {
        Api::<Agent>::namespaced(bob.clone(), &theirs).delete("ann", &propagation).await.ok();
        Api::<Town>::namespaced(bob.clone(), &theirs).delete("gas", &propagation).await.ok();
    }
    story.cluster.remove_namespace(&theirs).await;

    assert_eq!(shown(&story, &town).await, before);
    assert!(story.tombstone(&town).find().await.is_none());
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    is_on_record(&story, &town).await;
}

/// The town, its agent and its pods: all that a person or a controller can mean by changing them.
async fn shown(story: &Story, town: &Town) -> Vec<Value> {
    let mut pods = story.pods(names::TOWN_UID, &town.id()).await;
    pods.sort_by_key(ResourceExt::name_any);
    let (town, ann) = (story.town("gas").get().await, story.agent("ann").get().await);
    assert_eq!((town.phase(), ann.phase()), ("Running", "Working"));
    let meant = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        json!([
            meta.uid,
            meta.generation,
            meta.labels,
            meta.annotations,
            meta.finalizers,
            meta.deletion_timestamp
        ])
    };
    [&town.metadata, &ann.metadata]
        .into_iter()
        .chain(pods.iter().map(|pod| &pod.metadata))
        .map(meant)
        .collect()
}

/// Somebody with every right in this namespace.
async fn tenant(story: &Story, namespace: &str) -> Client {
    let user = format!("tenant-of-{namespace}");
    let user_flag = format!("--user={user}");
    let rights =
        ["create", "rolebinding", "tenant", "--clusterrole=cluster-admin", &user_flag, "-n", namespace];
    story.cluster.kubectl(&rights);
    let client = story.cluster.client_as(&user, &[]).await;
    let towns: Api<Town> = Api::namespaced(client.clone(), namespace);
    until("the tenant has rights", PATIENCE, async || {
        towns.list(&ListParams::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    client
}

/// Creates what the policies refuse this tenant.
async fn forge<K: crate::common::seen::Kind>(story: &Story, who: &Client, namespace: &str, object: Value) {
    let object: K = serde_json::from_value(object).unwrap();
    let refused = Api::<K>::namespaced(who.clone(), namespace).create(&PostParams::default(), &object).await;
    let refused = refused.map(drop).unwrap_err().to_string();
    assert!(refused.contains("only the operator sets and changes the labels"), "{refused}");
    let created =
        Api::<K>::namespaced(story.client(), namespace).create(&PostParams::default(), &object).await;
    created.unwrap_or_else(|error| panic!("{}: {error}", object.name_any()));
}
