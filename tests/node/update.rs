//! A new template replaces the old one when that disturbs no agent, or when a user requests it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::names;

use crate::common::wait::until;
use crate::scene::{Lives, PATIENCE, STAY, Scene, identities, runs};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add(node_replaces_the_pod_of_an_idle_town_when_its_template_changes);
    stories.add(new_template_waits_until_work_ends);
    stories.add(restart_at_replaces_the_pod_of_a_busy_town_at_once);
}

/// A template that writes its edition to the diary of the town.
fn edition(name: &str) -> Value {
    runs(&format!("echo {name} >> /town/diary; {STAY}"))
}

async fn node_replaces_the_pod_of_an_idle_town_when_its_template_changes(scene: Scene) {
    let town = json!({"storage": {"size": "16Mi"}, "template": edition("first")});
    let uid = scene.create_town("alpha", town).await.uid().unwrap();
    let first = scene.town_pod("alpha").await;
    scene.town("alpha").merge(json!({"spec": {"template": edition("second")}})).await;
    let second = other_town_pod(&scene, &first).await;
    assert_eq!(scene.exec(&second.name_any(), "cat /town/diary"), "first\nsecond\n");
    let town = scene.town("alpha").get().await;
    assert_eq!((town.phase(), town.reason("Reconciling")), ("Idle", "AsExpected"));
    assert_eq!(town.status.unwrap().restarts, None, "what we end did not fail");
    assert_eq!(scene.pods(&uid).await.len(), 1);
}

async fn new_template_waits_until_work_ends(scene: Scene) {
    let town = json!({"storage": {"size": "16Mi"}, "template": edition("first")});
    let uid = scene.create_town("alpha", town).await.uid().unwrap();
    scene.create_polecat("ada", "alpha", "a-1", "until [ -e /agent/enough ]; do sleep 0.1; done").await;
    let at_work = scene.ready_pod("ada", None).await;
    let town = scene.town("alpha");
    town.until_within(PATIENCE, "works", |town| town.phase() == "Running").await;
    let before = scene.pods(&uid).await;

    town.merge(json!({"spec": {"template": edition("second")}})).await;
    let waits = town.until_within(PATIENCE, "waits", |t| t.reason("Reconciling") == "UpdatePending").await;
    assert!(waits.is("Reconciling") && waits.phase() == "Running", "{waits:?}");
    town.stays(Duration::from_secs(3), "waits on", |t| t.reason("Reconciling") == "UpdatePending").await;
    assert_eq!(identities(&scene.pods(&uid).await), identities(&before));

    let first = before.into_iter().find(|pod| pod.uid() != at_work.uid()).unwrap();
    scene.exec(&at_work.name_any(), "touch /agent/enough");
    scene.done("ada", "a-1").await;
    let second = other_town_pod(&scene, &first).await;
    assert_eq!(scene.exec(&second.name_any(), "cat /town/diary"), "first\nsecond\n");
    assert!(!town.get().await.is("Reconciling"));
}

async fn restart_at_replaces_the_pod_of_a_busy_town_at_once(scene: Scene) {
    let busy = scene.create_busy_town("alpha", json!({"template": edition("first")})).await;
    let first = scene.town_pod("alpha").await;
    let mut others = scene.pods(&busy.uid).await;
    others.retain(|pod| pod.uid() != first.uid());
    let town = scene.town("alpha");
    town.merge(json!({"spec": {"template": edition("second")}})).await;
    town.until_within(PATIENCE, "waits", |t| t.reason("Reconciling") == "UpdatePending").await;

    let now = json!({"metadata": {"annotations": {names::RESTART_AT: "now"}}});
    town.merge(now).await;
    let second = other_town_pod(&scene, &first).await;
    assert_eq!(scene.exec(&second.name_any(), "cat /town/diary"), "first\nsecond\n");
    let mut now = scene.pods(&busy.uid).await;
    now.retain(|pod| pod.uid() != second.uid());
    assert_eq!(identities(&now), identities(&others), "its agents were not asked to start anew");
    scene.assert_runs(&now).await;
    let town = town.until_within(PATIENCE, "is as it should be", |town| !town.is("Reconciling")).await;
    assert_eq!(town.phase(), "Running");
    assert_eq!(town.status.unwrap().restarts, None, "what we end did not fail");
}

/// Waits for the ready pod of the town itself, other than this one.
async fn other_town_pod(scene: &Scene, but_not: &Pod) -> Pod {
    until("the town has another pod", PATIENCE, async || {
        let pod = scene.town_pod("alpha").await;
        if pod.uid() == but_not.uid() { Err(format!("{pod:?}")) } else { Ok(pod) }
    })
    .await
}
