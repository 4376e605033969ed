//! The record of a destroyed town: proofs of its end, and protection against its return.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use town_operator::api::{Agent, Cause, ReceiptOutcome, Tombstone, TombstonePhase, Town, names};

use crate::common::seen::Seen;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::destroy::FOREIGN;
use crate::remains::{busy_town, is_gone_whole};
use crate::stage::Stories;
use crate::words::{Told, idle, polecat, seconds, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(tombstone_precedes_every_delete_and_has_a_receipt_for_each_child);
    stories.with_the_operator(deleted_tombstone_is_recreated_before_any_further_delete);
    stories.with_the_operator(abandoned_steps_leave_receipts_with_the_outcome_abandoned);
    stories.with_the_operator(town_is_refused_until_the_tombstone_of_its_name_is_removed);
    stories.with_the_operator(town_runs_under_the_name_of_a_destroyed_town);
    stories.with_the_operator(tombstone_expires_unless_a_child_still_exists);
    stories.with_the_operator(restored_agent_of_a_destroyed_town_is_kept_and_runs_nothing);
    stories.with_the_operator(retained_claim_has_a_receipt_and_serves_another_town);
    stories.with_the_operator(destruction_waits_for_the_volume_of_a_deleted_claim);
    stories.with_the_operator(retained_volume_has_a_receipt);
    stories.with_the_operator(tombstone_records_the_cause_of_a_destruction);
    stories.with_the_operator(record_binds_no_later_namespace_of_the_same_name);
    stories.with_the_operator(town_runs_with_a_warning_when_its_retention_exceeds_the_limit);
    stories.with_the_operator(event_is_written_when_the_name_of_its_object_and_its_note_are_long);
    stories.alone(deleted_agent_leaves_a_tombstone_when_agent_tombstones_are_enabled);
    stories.alone(oldest_tombstones_are_removed_when_a_namespace_exceeds_its_limit);
}

fn phase(tombstone: &Tombstone) -> TombstonePhase {
    tombstone.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

fn destroyed(tombstone: &Tombstone) -> bool {
    phase(tombstone) == TombstonePhase::Destroyed
}

/// The receipts with this outcome: `Kind/name`.
fn receipts(tombstone: &Tombstone, outcome: ReceiptOutcome) -> BTreeSet<String> {
    let all = tombstone.status.iter().flat_map(|status| &status.receipts);
    let with = all.filter(|receipt| receipt.outcome == outcome);
    with.map(|receipt| format!("{}/{}", receipt.object.kind, receipt.object.name)).collect()
}

/// A town whose deletion waits for a foreign finalizer on its pod.
async fn held_town(story: &Story, name: &str, more: Value) -> Town {
    story.create_town(name, workshop_with(more)).await;
    let town = story.town(name).until("is idle", idle).await;
    story.pod(&town.child()).merge(json!({"metadata": {"finalizers": [FOREIGN]}})).await;
    town
}

async fn let_go(story: &Story, town: &Town) {
    story.pod(&town.child()).merge(json!({"metadata": {"finalizers": null}})).await;
}

async fn tombstone_precedes_every_delete_and_has_a_receipt_for_each_child(story: Story) {
    let town = busy_town(&story, "gas", &["ann", "bob"]).await;
    let had: BTreeSet<String> = story.children(&town.id()).await.into_iter().collect();
    story.pod(&town.child()).merge(json!({"metadata": {"finalizers": [FOREIGN]}})).await;
    story.town("gas").delete().await;
    let record = story.tombstone(&town);
    let begun = record.until("is begun", |record| phase(record) == TombstonePhase::Destroying).await;
    let spec = &begun.spec;
    let inventory: BTreeSet<String> =
        spec.children.iter().map(|child| format!("{}/{}", child.kind, child.name)).collect();
    assert!(had.is_subset(&inventory), "everything that it had: {had:?} of {inventory:?}");
    assert!(spec.children.iter().all(|child| !child.uid.is_empty()), "by UID: {spec:?}");
    assert_eq!((spec.namespace.as_str(), spec.name.as_str()), (story.namespace.as_str(), "gas"));
    assert_eq!((spec.uid.as_str(), spec.cause), (town.id().as_str(), Cause::Deleted));
    assert_eq!(seconds(&spec.delete_time, &spec.expire_time), 168 * 3600);
    assert_eq!(begun.labels()[names::INSTALL], town.labels()[names::INSTALL]);
    let held =
        story.town("gas").until("waits", |town| town.annotations().contains_key(names::TOMBSTONE)).await;
    assert!(begun.creation_timestamp() >= held.metadata.deletion_timestamp, "before anything of it went");

    let_go(&story, &town).await;
    is_gone_whole(&story, &town).await;
    let done = record.until("is complete", destroyed).await;
    let gone = receipts(&done, ReceiptOutcome::Gone);
    assert!(had.is_subset(&gone), "a receipt for each: {had:?} of {gone:?}");
    assert_eq!(done.spec, begun.spec, "no further write was owed");
    let shown = story.kubectl(&["get", "tombstones", record.name()]);
    let line = shown.lines().last().unwrap_or_default();
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(columns[1..5], ["Town", story.namespace.as_str(), "gas", "Destroyed"], "{shown}");
}

async fn deleted_tombstone_is_recreated_before_any_further_delete(story: Story) {
    let town = held_town(&story, "gas", json!({"storage": {"size": "1Gi"}})).await;
    story.town("gas").delete().await;
    let record = story.tombstone(&town);
    let first = record.until("is begun", |_| true).await;
    record.delete().await;
    record.until("is written again", |again| again.uid() != first.uid()).await;
    let claim = story.seen::<PersistentVolumeClaim>(&town.child()).get().await;
    assert_eq!(claim.metadata.deletion_timestamp, None, "nothing else goes meanwhile");
    let_go(&story, &town).await;
    is_gone_whole(&story, &town).await;
    record.until("is complete", destroyed).await;
}

async fn abandoned_steps_leave_receipts_with_the_outcome_abandoned(story: Story) {
    let town = held_town(&story, "gas", json!({"storage": {"size": "1Gi"}})).await;
    story.town("gas").delete().await;
    let blocked = story.town("gas").until("is blocked", |town| town.is("DeletionBlocked")).await;
    let says = blocked.message("DeletionBlocked").to_owned();
    assert!(says.contains(&format!("{}=compute", names::ABANDON)), "it says how to give up: {says}");

    story.kubectl(&["annotate", "town", "gas", &format!("{}=computer", names::ABANDON)]);
    let odd =
        |town: &Town| town.message("DeletionBlocked").contains("'computer', which is not one of drain,");
    story.town("gas").until("says that this is no step", odd).await;
    story.kubectl(&["annotate", "--overwrite", "town", "gas", &format!("{}=compute", names::ABANDON)]);
    // The operator gives up only that step, not later steps. (A claim stays as long as a pod uses it.)
    let next = |town: &Town| {
        town.message("DeletionBlocked").starts_with("step Storage waits for PersistentVolumeClaim")
    };
    story.town("gas").until("goes on to the next step", next).await;
    story.kubectl(&[
        "annotate",
        "--overwrite",
        "town",
        "gas",
        &format!("{}=compute,storage", names::ABANDON),
    ]);
    story.town("gas").gone().await;

    let record = story.tombstone(&town).get().await;
    assert_eq!(phase(&record), TombstonePhase::Leaked);
    let given_up = receipts(&record, ReceiptOutcome::Abandoned);
    for kind in ["Pod", "PersistentVolumeClaim"] {
        assert!(given_up.contains(&format!("{kind}/{}", town.child())), "{given_up:?}");
    }
    let counted = story.operator().metrics();
    let counted = counted.lines().find(|line| line.contains("receipts_total{outcome=\"Abandoned\"}"));
    assert!(!counted.unwrap().ends_with(" 0"), "{counted:?}");
    let told = story.is_told("gas", "Destroyed").await;
    assert!(told.starts_with("abandoned, and may still exist: "), "{told}");
    let_go(&story, &town).await;
    story.seen::<PersistentVolumeClaim>(&town.child()).gone().await;
}

async fn town_is_refused_until_the_tombstone_of_its_name_is_removed(story: Story) {
    let spec = workshop_with(json!({"tombstone": {"recreate": "Refuse", "retention": "24h"}}));
    let old = story.create_town("gas", spec.clone()).await;
    story.town("gas").until("is idle", idle).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &old).await;
    let record = story.tombstone(&old).until("is complete", destroyed).await;

    // A tool creates the town again with the same spec.
    let new = story.create_town("gas", spec).await;
    story.create_agent("ann", "gas", polecat("b-1")).await;
    let refused = |town: &Town| town.is("Stalled") && town.reason("Stalled") == "TombstoneExists";
    let refused = story.town("gas").until("is refused", refused).await;
    assert_eq!(refused.phase(), "Blocked");
    let says = refused.message("Stalled");
    let until_when = record.spec.expire_time.0.to_string();
    assert!(says.contains(&until_when) && says.contains(&record.name_any()), "{says}");
    assert_eq!(refused.finalizers(), [""; 0], "nothing was begun");
    story.town("gas").stays(Duration::from_secs(2), "stays refused", |town| town.phase() == "Blocked").await;
    assert_eq!(story.children(&new.id()).await, [""; 0]);

    // The refusal ends when a user deletes the record.
    story.tombstone(&old).delete().await;
    let runs = story.town("gas").until("runs", |town| town.is("Ready")).await;
    assert_eq!(runs.id(), new.id());
}

async fn town_runs_under_the_name_of_a_destroyed_town(story: Story) {
    let old = busy_town(&story, "gas", &["ann"]).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &old).await;
    let new = busy_town(&story, "gas", &["ann"]).await;
    assert_ne!(new.id(), old.id());
    assert!(destroyed(&story.tombstone(&old).get().await), "the record of the old one stays");
    for child in story.children(&new.id()).await {
        assert!(!child.contains(&old.id()[..8]), "{child} is of the old one");
    }
}

async fn tombstone_expires_unless_a_child_still_exists(story: Story) {
    let brief = workshop_with(json!({"tombstone": {"retention": "0s"}}));
    let town = story.create_town("gas", brief.clone()).await;
    story.town("gas").until("is idle", idle).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    story.tombstone(&town).gone().await;

    // A child of the town appears before the record expires: the record then remains. The retention is long enough for
    // the creation of the child on a busy machine.
    let town = story.create_town("gas", workshop_with(json!({"tombstone": {"retention": "20s"}}))).await;
    story.town("gas").until("is idle", idle).await;
    story.town("gas").delete().await;
    story.town("gas").gone().await;
    let labels = json!({names::TOWN_UID: town.id(), names::INSTALL: story.cluster.install_label()});
    story
        .create_object::<Secret>(json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "late", "labels": labels}}))
        .await;
    let record = story.tombstone(&town).get().await;
    let said = async || {
        story.kubectl(&[
            "get",
            "events",
            "-A",
            "-o",
            "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}",
            "--field-selector",
            "reason=StillThere",
        ])
    };
    until("an event names the child", 2 * PATIENCE, async || {
        let said = said().await;
        if said.contains("Secret late") { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(story.tombstone(&town).get().await.uid(), record.uid());
}

// O2, P4, decisions 5.1: the test removes the fields that Velero removes, and creates the rest again.
async fn restored_agent_of_a_destroyed_town_is_kept_and_runs_nothing(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let backup = [
        serde_json::to_value(story.town("gas").get().await).unwrap(),
        serde_json::to_value(story.agent("ann").get().await).unwrap(),
    ];
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    let [gas, ann] = backup.map(|mut object| {
        for field in
            ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "ownerReferences"]
        {
            object["metadata"].as_object_mut().unwrap().remove(field);
        }
        object.as_object_mut().unwrap().remove("status");
        object
    });
    // Times of the API server have whole seconds: the operator would treat a copy from the same second as a part of the
    // destroyed town.
    let deleted = story.tombstone(&town).get().await.spec.delete_time.0;
    until("the second of the deletion is over", PATIENCE, async || {
        let now = k8s_openapi::jiff::Timestamp::now();
        if now.as_second() > deleted.as_second() { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    let bead = ann["spec"]["hook"]["bead"].as_str().unwrap().to_owned();
    story.create_object::<Agent>(ann).await;
    let kept = |agent: &Agent| {
        (agent.is("Stalled") && agent.reason("Stalled") == "TownGone")
            || (agent.is("Stalled") && agent.reason("Stalled") == "RestoredWithoutStatus")
    };
    let agent = story.agent("ann").until("is kept", kept).await;
    let successor = story.create_object::<Town>(gas).await;
    assert_ne!(Some(successor.id()), Some(town.id()));
    story.town("gas").until("runs", |town| town.is("Ready")).await;
    let gone = story
        .agent("ann")
        .until("is of no town", |agent| agent.is("Stalled") && agent.reason("Stalled") == "TownGone")
        .await;
    assert_eq!(gone.metadata.uid, agent.metadata.uid);
    assert!(gone.metadata.deletion_timestamp.is_none());
    let status = gone.status.unwrap();
    assert!(status.pod.is_none() && status.work.is_none(), "{status:?}");
    assert_eq!(status.restored.map(|came_with| came_with.bead).as_deref(), Some(bead.as_str()));
}

async fn retained_claim_has_a_receipt_and_serves_another_town(story: Story) {
    let keeps = json!({"storage": {"size": "1Gi", "retainPolicy": "Retain"}});
    let town = story.create_town("gas", workshop_with(keeps)).await;
    story.town("gas").until("is idle", idle).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    let record = story.tombstone(&town).until("is complete", destroyed).await;
    let kept = receipts(&record, ReceiptOutcome::Retained);
    assert!(kept.contains(&format!("PersistentVolumeClaim/{}", town.child())), "{kept:?}");
    let claim = story.seen::<PersistentVolumeClaim>(&town.child()).get().await;
    assert!(!claim.labels().contains_key(names::TOWN_UID) && !claim.labels().contains_key(names::INSTALL));
    assert_eq!(claim.annotations()[names::RETAINED_FROM], format!("Town/{}/gas", story.namespace));

    let again = workshop_with(json!({"storage": {"existingClaimName": town.child()}}));
    story.create_town("heir", again).await;
    let heir = story.town("heir").until("is idle", idle).await;
    story.town("heir").delete().await;
    is_gone_whole(&story, &heir).await;
    assert_eq!(story.seen::<PersistentVolumeClaim>(&town.child()).get().await.uid(), claim.uid());
}

/// A town with a volume of this reclaim policy, which a foreign finalizer holds.
async fn with_volume(story: &Story, policy: &str) -> (Town, Seen<PersistentVolume>) {
    let name = format!("{}-{}", story.namespace, policy.to_lowercase());
    let volumes: Api<PersistentVolume> = Api::all(story.client());
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "finalizers": [FOREIGN]},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name,
            "persistentVolumeReclaimPolicy": policy, "hostPath": {"path": format!("/tmp/{name}")}}});
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
    let storage = json!({"storage": {"size": "1Gi", "storageClassName": name}});
    story.create_town("gas", workshop_with(storage)).await;
    let town = story.town("gas").until("is idle", idle).await;
    let bound = |claim: &PersistentVolumeClaim| {
        claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
    };
    story.seen::<PersistentVolumeClaim>(&town.child()).until("is bound", bound).await;
    (town, Seen::global(story.client(), &name))
}

async fn destruction_waits_for_the_volume_of_a_deleted_claim(story: Story) {
    let (town, volume) = with_volume(&story, "Delete").await;
    story.town("gas").delete().await;
    let named = |town: &Town| {
        let destroy = town.status.as_ref().and_then(|status| status.destroy.as_ref());
        destroy.is_some_and(|d| {
            d.blocked_by.iter().any(|b| b.kind == "PersistentVolume" && b.name == volume.name())
        })
    };
    story.town("gas").until("waits for its volume", named).await;
    volume.merge(json!({"metadata": {"finalizers": null}})).await;
    is_gone_whole(&story, &town).await;
    volume.gone().await;
    let record = story.tombstone(&town).until("is complete", destroyed).await;
    assert!(receipts(&record, ReceiptOutcome::Gone).contains(&format!("PersistentVolume/{}", volume.name())));
}

async fn retained_volume_has_a_receipt(story: Story) {
    let (town, volume) = with_volume(&story, "Retain").await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    let record = story.tombstone(&town).until("is complete", destroyed).await;
    assert_eq!(
        receipts(&record, ReceiptOutcome::Retained),
        [format!("PersistentVolume/{}", volume.name())].into()
    );
    volume.delete().await;
    volume.merge(json!({"metadata": {"finalizers": null}})).await;
}

async fn tombstone_records_the_cause_of_a_destruction(story: Story) {
    let soon = k8s_openapi::jiff::Timestamp::now() + Duration::from_secs(4);
    let spec = workshop_with(json!({"expiry": {"time": soon.to_string(), "policy": "Destroy"}}));
    let town = story.create_town("gas", spec).await;
    is_gone_whole(&story, &town).await;
    assert_eq!(story.tombstone(&town).get().await.spec.cause, Cause::Expiry);
    let town = story.create_town("gas", workshop()).await;
    story.town("gas").until("is idle", idle).await;
    story.cluster.kubectl(&["delete", "namespace", &story.namespace, "--timeout=60s"]);
    let record = story.tombstone(&town).get().await;
    assert_eq!((record.spec.cause, phase(&record)), (Cause::Namespace, TombstonePhase::Destroyed));
}

async fn deleted_agent_leaves_a_tombstone_when_agent_tombstones_are_enabled(story: Story) {
    let _operator = story.cluster.operator(&["--agent-tombstones"]).await;
    let town = busy_town(&story, "gas", &["ann", "bob"]).await;
    let ann = story.agent("ann").get().await;
    story.agent("ann").delete().await;
    story.agent("ann").gone().await;
    let record: Seen<Tombstone> = Seen::global(story.client(), &format!("agent-{}", ann.id()));
    let record = record.until("is complete", destroyed).await;
    assert!(receipts(&record, ReceiptOutcome::Gone).contains(&format!("Pod/{}", ann.child())), "{record:?}");
    story.town("gas").merge(json!({"spec": {"rigs": null}})).await;
    let bob: Seen<Tombstone> =
        Seen::global(story.client(), &format!("agent-{}", story.agent("bob").get().await.id()));
    let bob = bob.until("is complete", destroyed).await;
    assert_eq!(bob.spec.cause, Cause::RigRemoved);
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
}

// S12.
async fn record_binds_no_later_namespace_of_the_same_name(story: Story) {
    let spec = workshop_with(json!({"tombstone": {"recreate": "Refuse", "retention": "24h"}}));
    let namespaces: Api<Namespace> = Api::all(story.client());
    let first = namespaces.get(&story.namespace).await.unwrap();
    let old = story.create_town("gas", spec.clone()).await;
    story.town("gas").until("is idle", idle).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &old).await;
    let record = story.tombstone(&old).until("is complete", destroyed).await;
    assert_eq!(record.spec.namespace_uid, first.metadata.uid);
    let copy = story.create_town("gas", spec.clone()).await;
    let refused = |town: &Town| town.is("Stalled") && town.reason("Stalled") == "TombstoneExists";
    story.town("gas").until("is refused where the record was made", refused).await;

    story.cluster.kubectl(&["delete", "namespace", &story.namespace, "--timeout=60s"]);
    story.cluster.create_namespace(&story.namespace).await;
    let other = story.create_town("gas", spec).await;
    assert_ne!(other.id(), copy.id());
    story.town("gas").until("runs for the next tenant", idle).await;
    assert_eq!(story.tombstone(&old).get().await.uid(), record.uid(), "the record stays as it was");
}

// S2.
async fn town_runs_with_a_warning_when_its_retention_exceeds_the_limit(story: Story) {
    let spec = workshop_with(json!({"tombstone": {"retention": "8760h"}}));
    let town = story.create_town("gas", spec).await;
    let told = |town: &Town| idle(town) && town.reason("DeletionBlocked") == "RetentionClamped";
    let told = story.town("gas").until("is idle and is told", told).await;
    assert!(told.is("Ready") && !told.is("Degraded") && !told.is("DeletionBlocked"));
    let says = story.is_told("gas", "RetentionClamped").await;
    assert!(says.contains("8760h") && says.contains("--tombstone-max-retention"), "{says}");
    story.town("gas").merge(json!({"spec": {"tombstone": {"retention": "168h"}}})).await;
    let silent = |town: &Town| town.reason("DeletionBlocked") == "NotDeleting";
    story.town("gas").until("has nothing to say any more", silent).await;
    story.town("gas").merge(json!({"spec": {"tombstone": {"retention": "169h"}}})).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    let spec = story.tombstone(&town).get().await.spec;
    assert_eq!(seconds(&spec.delete_time, &spec.expire_time), 168 * 3600);
}

// A25.
async fn event_is_written_when_the_name_of_its_object_and_its_note_are_long(story: Story) {
    let name = "n".repeat(253);
    let town = held_town(&story, &name, json!({})).await;
    let words = "语".repeat(600);
    story.kubectl(&["annotate", "town", &name, &format!("{}={words}", names::ABANDON)]);
    story.town(&name).delete().await;
    let note = story.is_told(&name, "Blocked").await;
    assert!(note.contains("语") && (1020..=1024).contains(&note.len()), "{} bytes: {note}", note.len());
    let_go(&story, &town).await;
    is_gone_whole(&story, &town).await;
}

// S2, decisions 5.9.
async fn oldest_tombstones_are_removed_when_a_namespace_exceeds_its_limit(story: Story) {
    let _operator = story.cluster.operator(&["--tombstones-per-namespace=2"]).await;
    let destroyed_town = async |name: &str, recreate: &str| {
        let spec = workshop_with(json!({"tombstone": {"recreate": recreate, "retention": "24h"}}));
        let town = story.create_town(name, spec).await;
        story.town(name).until("is idle", idle).await;
        story.town(name).delete().await;
        is_gone_whole(&story, &town).await;
        let record = story.tombstone(&town);
        let written = record.until("is complete", destroyed).await;
        // Times of the API server have whole seconds, and the order depends on them.
        until("the second of the record is over", PATIENCE, async || {
            let now = k8s_openapi::jiff::Timestamp::now();
            let at = written.metadata.creation_timestamp.as_ref().unwrap().0;
            if now.as_second() > at.as_second() { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
        record
    };
    let keeper = destroyed_town("keeper", "Refuse").await;
    let first = destroyed_town("first", "Allow").await;
    let second = destroyed_town("second", "Allow").await;
    first.gone().await;
    let third = destroyed_town("third", "Refuse").await;
    second.gone().await;
    assert!(keeper.find().await.is_some(), "one that forbids nothing goes before an older one that does");
    let fourth = destroyed_town("fourth", "Refuse").await;
    keeper.gone().await;
    let says = story.is_told("keeper", "TombstoneRemoved").await;
    assert!(says.contains(keeper.name()) && says.contains("--tombstones-per-namespace"), "{says}");
    for kept in [third, fourth] {
        assert!(kept.find().await.is_some(), "{}", kept.name());
    }
}
