//! A paused object stays as it is until it resumes; only its deletion is processed.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::names;

use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, asleep, done, idle, image, polecat, template_of, works, workshop};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(paused_town_keeps_its_pod_until_pause_is_removed);
    stories.with_the_operator(paused_agent_starts_and_records_no_work_until_pause_is_removed);
    stories.with_the_operator(town_created_paused_starts_after_pause_is_removed);
    stories.with_the_operator(paused_towns_and_agents_are_destroyed_when_deleted);
}

fn pause(is: bool) -> Value {
    let value = if is { json!("true") } else { Value::Null };
    json!({"metadata": {"annotations": {names::PAUSED: value}}})
}

fn paused(object: &impl Told) -> bool {
    object.is("Reconciling") && object.reason("Reconciling") == "Paused"
}

async fn paused_town_keeps_its_pod_until_pause_is_removed(story: Story) {
    story.create_town("hall", workshop()).await;
    let town = story.town("hall").until("is idle", idle).await;
    let pod = story.pod(&town.child()).get().await;
    story.town("hall").merge(pause(true)).await;
    let town = story.town("hall").until("is paused", paused).await;
    assert!(town.message("Reconciling").contains(names::PAUSED), "{}", town.message("Reconciling"));
    assert_eq!((town.phase(), town.is("Ready")), ("Idle", true), "whatever it was, it is still");

    let edit = json!({"spec": {"suspend": true, "template": template_of("own:2"), "sleepAfter": "10s"}});
    story.town("hall").merge(edit).await;
    story
        .pod(&town.child())
        .stays(Duration::from_secs(4), "is left alone", |now| {
            now.uid() == pod.uid() && now.metadata.deletion_timestamp.is_none()
        })
        .await;
    assert!(paused(&story.town("hall").get().await));

    story.town("hall").merge(pause(false)).await;
    story.town("hall").until("sleeps, as it was told meanwhile", |town| asleep(town) && !paused(town)).await;
    story.town("hall").merge(json!({"spec": {"suspend": false}})).await;
    story.pod(&town.child()).until("is made from the new template", |pod| image(pod) == "own:2").await;
}

async fn paused_agent_starts_and_records_no_work_until_pause_is_removed(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    story.create_agent("next", "shop", json!({"role": "Polecat", "rig": "core"})).await;
    let cat = story.agent("cat").until("works", works).await;
    story.agent("next").until("has nothing to do", |agent| agent.reason("Ready") == "NoHook").await;
    for name in ["cat", "next"] {
        story.agent(name).merge(pause(true)).await;
        story.agent(name).until("is paused", paused).await;
    }
    story.players.succeed(&cat.child(), "while you were away").await;
    story.agent("next").merge(json!({"spec": {"hook": {"bead": "b-2"}}})).await;
    story
        .pod(&cat.child())
        .stays(Duration::from_secs(4), "waits to be read", |pod| pod.metadata.deletion_timestamp.is_none())
        .await;
    assert_eq!(done(&story.agent("cat").get().await).len(), 0);
    let next = story.agent("next").get().await;
    assert_eq!(story.pods(names::AGENT_UID, &next.id()).await.len(), 0);

    for name in ["cat", "next"] {
        story.agent(name).merge(pause(false)).await;
    }
    story.agent("cat").until("is done", |agent| done(agent) == ["b-1"] && !paused(agent)).await;
    story.agent("next").until("works", |agent| works(agent) && !paused(agent)).await;
}

async fn town_created_paused_starts_after_pause_is_removed(story: Story) {
    let town = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Town",
        "metadata": {"name": "later", "annotations": {names::PAUSED: "true"}}, "spec": workshop(),
    });
    story.create_object::<town_operator::api::Town>(town).await;
    let town = story.town("later").until("is paused", paused).await;
    assert_eq!((town.phase(), town.is("Ready")), ("Pending", false));
    assert_eq!(town.finalizers(), [names::FINALIZER], "it must not go unseen");
    story
        .town("later")
        .stays(Duration::from_secs(2), "is left alone", |town| town.phase() == "Pending")
        .await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
    story.town("later").merge(pause(false)).await;
    story.town("later").until("is idle", idle).await;
}

async fn paused_towns_and_agents_are_destroyed_when_deleted(story: Story) {
    story.create_town("hall", workshop()).await;
    story.create_agent("cat", "hall", polecat("b-1")).await;
    story.create_agent("mayor", "hall", json!({"role": "Mayor"})).await;
    story.agent("cat").until("works", works).await;
    let mayor = story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    let town = story.town("hall").until("runs", |town| town.phase() == "Running").await;
    story.town("hall").merge(pause(true)).await;
    for agent in ["cat", "mayor"] {
        story.agent(agent).merge(pause(true)).await;
        story.agent(agent).until("is paused", paused).await;
    }
    story.town("hall").until("is paused", paused).await;

    story.agent("mayor").delete().await;
    story.agent("mayor").gone().await;
    assert_eq!(story.children(&mayor.id()).await, [""; 0]);
    story.town("hall").delete().await;
    story.town("hall").gone().await;
    story.agent("cat").gone().await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
}
