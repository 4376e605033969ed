//! Volumes that the user brings: a claim that exists, and what a new one starts from.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, idle, polecat, works, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(t21_a_claim_that_exists_is_used_and_never_deleted);
    stories.with_the_operator(t21_a_volume_may_start_from_another);
}

/// The claim that a pod mounts there.
fn claim_at(pod: &Pod, path: &str) -> Value {
    let spec = serde_json::to_value(&pod.spec).unwrap();
    let mounts = spec["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
    let mount = mounts.into_iter().find(|mount| mount["mountPath"] == path).unwrap_or_default();
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let volume = volumes.into_iter().find(|volume| volume["name"] == mount["name"]).unwrap_or_default();
    volume["persistentVolumeClaim"]["claimName"].clone()
}

async fn t21_a_claim_that_exists_is_used_and_never_deleted(story: Story) {
    let size = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let mut theirs = Vec::new();
    for name in ["towns-data", "cats-data"] {
        theirs.push(story.create::<PersistentVolumeClaim>(name, size.clone()).await);
    }
    story.create_town("shop", workshop_with(json!({"storage": {"existingClaimName": "towns-data"}}))).await;
    let mut spec = polecat("b-1");
    spec["storage"] = json!({"existingClaimName": "cats-data"});
    story.create_agent("cat", "shop", spec).await;
    let cat = story.agent("cat").until("works", works).await;
    let town = story.town("shop").until("runs", |town| town.phase() == "Running" && town.is("Ready")).await;
    assert_eq!(claim_at(&story.pod(&town.child()).get().await, "/town"), "towns-data");
    assert_eq!(claim_at(&story.pod(&cat.child()).get().await, "/agent"), "cats-data");
    let recorded = town.status.unwrap().storage.unwrap();
    assert_eq!((recorded.claim.as_str(), recorded.uid), ("towns-data", None));
    for child in [town.metadata.name.unwrap(), cat.child()] {
        assert!(story.seen::<PersistentVolumeClaim>(&child).find().await.is_none(), "{child}: none is made");
    }
    story.town("shop").delete().await;
    story.town("shop").gone().await;
    for claim in theirs {
        let left = story.seen::<PersistentVolumeClaim>(&claim.name_any()).get().await;
        assert_eq!((left.uid(), left.metadata.deletion_timestamp.clone()), (claim.uid(), None));
        assert_eq!(left.labels().len(), 0, "nor is it marked");
    }
}

async fn t21_a_volume_may_start_from_another(story: Story) {
    let source = json!({"kind": "PersistentVolumeClaim", "name": "golden"});
    story.create_town("copy", workshop_with(json!({"storage": {"size": "1Gi", "dataSource": source}}))).await;
    let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "monday"});
    story
        .create_town("again", workshop_with(json!({"storage": {"size": "1Gi", "dataSource": snapshot}})))
        .await;
    for (name, kind, from) in
        [("copy", "PersistentVolumeClaim", "golden"), ("again", "VolumeSnapshot", "monday")]
    {
        let town = story.town(name).until("is idle", idle).await;
        let claim = story.seen::<PersistentVolumeClaim>(&town.child()).get().await;
        let given = claim.spec.unwrap().data_source.unwrap();
        assert_eq!((given.kind.as_str(), given.name.as_str()), (kind, from));
        assert_eq!(given.api_group.is_some(), name == "again");
    }
}
