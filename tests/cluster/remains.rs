//! A town with children, and checks for objects that remain after it.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;
use town_operator::api::{TombstonePhase, Town};

use crate::common::records::proven_gone;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::words::{Told, polecat, workshop_with};

/// Creates a town with a volume and these polecats, each working in a pod with its own volume.
pub async fn busy_town(story: &Story, name: &str, cats: &[&str]) -> Town {
    story.create_town(name, workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
    for cat in cats {
        let mut spec = polecat("b-1");
        spec["storage"] = json!({"size": "1Gi"});
        story.create_agent(cat, name, spec).await;
    }
    for cat in cats {
        story.agent(cat).until("works", |agent| agent.phase() == "Working").await;
    }
    story.town(name).until("has its pod", |town| town.is("Ready") && town.pod_uid().is_some()).await
}

/// Provides volumes for claims. Each volume is deleted with its claim.
pub async fn volumes_are_made_by_themselves(story: &Story) {
    let class = json!({
        "metadata": {"name": "by-itself", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/host-path", "reclaimPolicy": "Delete",
    });
    let class: StorageClass = serde_json::from_value(class).unwrap();
    Api::all(story.client()).create(&PostParams::default(), &class).await.unwrap();
}

/// Waits until a town is gone, and checks for objects that remain.
pub async fn is_gone_whole(story: &Story, town: &Town) {
    let name = town.name_any();
    until(&format!("town {name} is gone"), Duration::from_mins(1), async || {
        match story.town(&name).find().await {
            Some(found) if found.uid() == town.uid() => Err(crate::common::seen::show(&found)),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(story.children(&town.id()).await, [""; 0], "children of {name}");
}

/// Waits until a town is gone with all these objects. The record must prove each one.
pub async fn is_destroyed(story: &Story, town: &Town, had: &[String]) {
    is_gone_whole(story, town).await;
    let gone = proven_gone(&story.tombstone(town).get().await);
    let without: Vec<&String> = had.iter().filter(|child| !gone.contains(*child)).collect();
    assert!(without.is_empty(), "{}: no receipt for {without:?}: {gone:?}", town.name_any());
}

/// Checks that the record of a destroyed town proves the end of every object.
pub async fn is_on_record(story: &Story, town: &Town) {
    let record = story.tombstone(town).get().await;
    let phase = record.status.as_ref().map(|status| status.phase);
    assert_eq!(phase, Some(TombstonePhase::Destroyed), "{record:?}");
}

/// Waits until no volume of the namespace of the story is left.
pub async fn no_volume_is_left(story: &Story) {
    let volumes: Api<PersistentVolume> = Api::all(story.client());
    until("no volume is left", PATIENCE, async || {
        let all = volumes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let claimed = |volume: &&PersistentVolume| {
            let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            claim.and_then(|claim| claim.namespace.as_ref()) == Some(&story.namespace)
        };
        let left: Vec<String> = all.iter().filter(claimed).map(ResourceExt::name_any).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// Deletes the namespace of the story and waits until it is gone.
pub async fn delete_namespace(story: &Story) {
    let namespaces: Api<Namespace> = Api::all(story.client());
    namespaces.delete(&story.namespace, &DeleteParams::default()).await.unwrap();
    namespace_is_gone(story).await;
}

/// Waits until the namespace of the story is gone.
pub async fn namespace_is_gone(story: &Story) {
    let namespaces: Api<Namespace> = Api::all(story.client());
    until("the namespace is gone", Duration::from_secs(90), async || {
        match namespaces.get_opt(&story.namespace).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(namespace) => Err(serde_json::to_string_pretty(&namespace.status).unwrap()),
        }
    })
    .await;
}
