//! Objects of an older version, whose finalizer had another name.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::names;

use crate::asking::Object;
use crate::common::story::Story;
use crate::crash::{OPERATOR, quick};
use crate::people;
use crate::remains::{busy_town, is_gone_whole, is_on_record, no_volume_is_left};
use crate::stage::Stories;
use crate::words::{Told, polecat, workshop_with};

/// The finalizer of an older version.
const OLDER: &str = names::OLDER_FINALIZERS[0];
/// Foreign finalizers with similar names.
const FOREIGN: [&str; 2] = ["example.com/hold", "gastown.dev/else"];

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), deleted_objects_with_an_older_finalizer_are_destroyed);
    stories.with_the_operator(older_finalizer_is_replaced_by_the_current_finalizer);
    stories.with_the_operator(moved_or_duplicate_finalizer_is_removed_and_foreign_finalizers_stay);
}

async fn deleted_objects_with_an_older_finalizer_are_destroyed(story: Story) {
    let operator = story.cluster.operator(&[OPERATOR]).await;
    let gas = busy_town(&story, "gas", &["ann", "bob"]).await;
    let stays = busy_town(&story, "stays", &["cat"]).await;
    let cat = story.agent("cat").get().await;
    operator.kill();
    let older = json!({"metadata": {"finalizers": [OLDER, FOREIGN[0], FOREIGN[1]]}});
    story.town("gas").merge(older.clone()).await;
    story.agent("ann").merge(json!({"metadata": {"finalizers": [OLDER]}})).await;
    // The label of its town is also removed: the operator finds the agent by the finalizer.
    let bare = json!({"metadata": {"finalizers": [OLDER], "labels": {names::TOWN_UID: null}}});
    Object::agent(&story, "bob").change(&people::operator(&story).await, bare).await;
    story.agent("cat").merge(json!({"metadata": {"finalizers": [OLDER, names::FINALIZER]}})).await;
    story.town("gas").delete().await;
    story.agent("cat").delete().await;
    operator.restart().await;

    let left = story.town("gas").until("is let go by us", |town| town.finalizers() == FOREIGN).await;
    for agent in ["ann", "bob", "cat"] {
        story.agent(agent).gone().await;
    }
    for gone in [left.id(), cat.id()] {
        assert_eq!(story.children(&gone).await, [""; 0]);
    }
    is_on_record(&story, &gas).await;
    story.town("gas").merge(json!({"metadata": {"finalizers": null}})).await;
    is_gone_whole(&story, &gas).await;
    assert!(story.seen::<PersistentVolumeClaim>(&stays.child()).find().await.is_some());
    story.town("stays").delete().await;
    is_gone_whole(&story, &stays).await;
    no_volume_is_left(&story).await;
}

async fn older_finalizer_is_replaced_by_the_current_finalizer(story: Story) {
    let held = |kind: &str, name: &str, finalizers: &[&str], spec: serde_json::Value| {
        json!({
            "apiVersion": "gastown.dev/v1alpha1", "kind": kind, "spec": spec,
            "metadata": {"name": name, "finalizers": finalizers},
        })
    };
    let spec = workshop_with(json!({"storage": {"size": "1Gi"}}));
    story.create_object::<town_operator::api::Town>(held("Town", "gas", &[FOREIGN[1], OLDER], spec)).await;
    let mut spec = polecat("b-1");
    spec["townName"] = "gas".into();
    story.create_object::<town_operator::api::Agent>(held("Agent", "ann", &[OLDER], spec)).await;
    let ann = story.agent("ann").until("works", |agent| agent.phase() == "Working").await;
    assert_eq!(ann.finalizers(), [names::FINALIZER]);
    let gas = story.town("gas").until("runs", |town| town.is("Ready")).await;
    assert_eq!(gas.finalizers(), [FOREIGN[1], names::FINALIZER]);
    story.town("gas").merge(json!({"metadata": {"finalizers": [names::FINALIZER]}})).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &gas).await;
    is_on_record(&story, &gas).await;
}

async fn moved_or_duplicate_finalizer_is_removed_and_foreign_finalizers_stay(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let of = |finalizers: &[&str]| json!({"metadata": {"finalizers": finalizers}});
    story.town("gas").merge(of(&[FOREIGN[0], names::FINALIZER, FOREIGN[1], names::FINALIZER])).await;
    story.players.hold(&town.child()).await;
    story.town("gas").delete().await;
    let asked_to_end = |pod: &k8s_openapi::api::core::v1::Pod| pod.metadata.deletion_timestamp.is_some();
    story.pod(&town.child()).until("is asked to end", asked_to_end).await;
    // A client removes its own finalizer meanwhile, and ours takes its position.
    story.town("gas").merge(of(&[names::FINALIZER, FOREIGN[1], names::FINALIZER])).await;
    story.players.release(&town.child()).await;
    story.town("gas").until("is let go by us", |town| town.finalizers() == [FOREIGN[1]]).await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
    is_on_record(&story, &town).await;
    story.town("gas").merge(of(&[])).await;
    story.town("gas").gone().await;
}
