//! Volumes of the user: an existing claim, and a data source for a new one.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{ReceiptOutcome, names};

use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, idle, polecat, works, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(existing_claim_is_used_and_not_deleted);
    stories.with_the_operator(claims_of_towns_have_the_data_source_of_the_spec);
    stories.with_the_operator(retained_claim_stays_after_the_finalizer_of_its_agent_is_removed);
}

/// The claim that a pod mounts at this path.
fn claim_at(pod: &Pod, path: &str) -> Value {
    let spec = serde_json::to_value(&pod.spec).unwrap();
    let mounts = spec["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
    let mount = mounts.into_iter().find(|mount| mount["mountPath"] == path).unwrap_or_default();
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let volume = volumes.into_iter().find(|volume| volume["name"] == mount["name"]).unwrap_or_default();
    volume["persistentVolumeClaim"]["claimName"].clone()
}

async fn existing_claim_is_used_and_not_deleted(story: Story) {
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

// code.md A35.
async fn retained_claim_stays_after_the_finalizer_of_its_agent_is_removed(story: Story) {
    story.create_town("shop", workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
    for (cat, policy) in [("keeper", "Retain"), ("giver", "Delete")] {
        let mut spec = polecat("b-1");
        spec["storage"] = json!({"size": "1Gi", "retainPolicy": policy});
        story.create_agent(cat, "shop", spec).await;
    }
    let keeper = story.agent("keeper").until("works", works).await;
    let giver = story.agent("giver").until("works", works).await;
    let claim = |name: &str| story.seen::<PersistentVolumeClaim>(name);
    let retained = |claim: &PersistentVolumeClaim| claim.annotations().contains_key(names::RETAIN);
    assert!(retained(&claim(&keeper.child()).get().await) && !retained(&claim(&giver.child()).get().await));
    // The policy changes, and the operator updates the claim.
    let policy = |policy: &str| json!({"spec": {"storage": {"retainPolicy": policy}}});
    story.agent("keeper").merge(policy("Delete")).await;
    claim(&keeper.child()).until("is not retained", |claim| !retained(claim)).await;
    story.agent("keeper").merge(policy("Retain")).await;
    claim(&keeper.child()).until("is retained", retained).await;

    // A user gives up on a node without an answer and removes the finalizer.
    for cat in [&keeper, &giver] {
        let (cat, pod) = (cat.name_any(), cat.child());
        story.players.hold(&pod).await;
        story.agent(&cat).delete().await;
        story.pod(&pod).until("is asked to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
        story.agent(&cat).merge(json!({"metadata": {"finalizers": null}})).await;
        story.agent(&cat).gone().await;
        story.players.release(&pod).await;
        story.pod(&pod).gone().await;
    }
    let town = story.town("shop").get().await;
    story.town("shop").delete().await;
    story.town("shop").gone().await;
    claim(&giver.child()).gone().await;
    let left = claim(&keeper.child()).get().await;
    assert_eq!(left.metadata.deletion_timestamp, None);
    assert!(
        left.annotations().contains_key(names::RETAINED_FROM) && !left.labels().contains_key(names::TOWN_UID)
    );
    let record = story.tombstone(&town).get().await;
    let receipts = record.status.unwrap().receipts;
    let kept = receipts.iter().filter(|receipt| receipt.outcome == ReceiptOutcome::Retained);
    assert!(kept.map(|receipt| &receipt.object.name).any(|name| *name == keeper.child()), "{receipts:?}");
}

async fn claims_of_towns_have_the_data_source_of_the_spec(story: Story) {
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
