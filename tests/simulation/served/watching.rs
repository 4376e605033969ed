//! Watches, through kube's own watcher.

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use town_operator::api::Town;

use super::{Stage, town};
use crate::server::kinds::kinds;

/// A summary of the next event.
async fn next(events: &mut (impl StreamExt<Item = watcher::Result<Event<Town>>> + Unpin)) -> String {
    match events.next().await.unwrap() {
        Ok(Event::Init) => "init".into(),
        Ok(Event::InitApply(town)) => format!("there is {}", town.name_any()),
        Ok(Event::InitDone) => "that is all".into(),
        Ok(Event::Apply(town)) => format!("{} changed", town.name_any()),
        Ok(Event::Delete(town)) => format!("{} is gone", town.name_any()),
        Err(error) => format!("error: {error}"),
    }
}

#[tokio::test]
async fn watcher_receives_each_change_once_over_a_reconnect() {
    let stage = Stage::new();
    let towns: Api<Town> = Api::default_namespaced(stage.client.clone());
    towns.create(&PostParams::default(), &town("a")).await.unwrap();
    let mut events = Box::pin(watcher(towns.clone(), watcher::Config::default()));
    for said in ["init", "there is a", "that is all"] {
        assert_eq!(next(&mut events).await, said);
    }
    towns.create(&PostParams::default(), &town("b")).await.unwrap();
    assert_eq!(next(&mut events).await, "b changed");
    // The watch ends and resumes from its last version.
    stage.world().hang_up();
    towns.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(next(&mut events).await, "a is gone");
}

#[tokio::test]
async fn watcher_relists_after_a_compaction() {
    let stage = Stage::new();
    let towns: Api<Town> = Api::default_namespaced(stage.client.clone());
    let mut events = Box::pin(watcher(towns.clone(), watcher::Config::default()));
    assert_eq!(next(&mut events).await, "init");
    assert_eq!(next(&mut events).await, "that is all");
    towns.create(&PostParams::default(), &town("a")).await.unwrap();
    stage.world().compact();
    let error = next(&mut events).await;
    assert!(error.contains("too old resource version"), "{error}");
    assert_eq!(next(&mut events).await, "init");
    assert_eq!(next(&mut events).await, "there is a");
}

#[tokio::test]
async fn watcher_receives_a_delete_when_an_object_leaves_its_selector() {
    let stage = Stage::new();
    let towns: Api<Town> = Api::default_namespaced(stage.client.clone());
    let mut events = Box::pin(watcher(towns.clone(), watcher::Config::default().labels("a=b")));
    assert_eq!(next(&mut events).await, "init");
    assert_eq!(next(&mut events).await, "that is all");
    towns.create(&PostParams::default(), &town("x")).await.unwrap();
    for (value, said) in [(json!("b"), "x changed"), (json!("c"), "x is gone"), (json!("b"), "x changed")] {
        let label = json!({"metadata": {"labels": {"a": value}}});
        towns.patch("x", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
        assert_eq!(next(&mut events).await, said);
    }
}

#[tokio::test]
async fn held_back_events_arrive_one_by_one_after_their_release() {
    let stage = Stage::new();
    let towns: Api<Town> = Api::default_namespaced(stage.client.clone());
    let mut events = Box::pin(watcher(towns.clone(), watcher::Config::default()));
    assert_eq!(next(&mut events).await, "init");
    assert_eq!(next(&mut events).await, "that is all");
    let kind = kinds().of_path("gastown.dev", "v1alpha1", "towns").unwrap().id;
    stage.world().hold_back(kind);
    towns.create(&PostParams::default(), &town("a")).await.unwrap();
    towns.create(&PostParams::default(), &town("b")).await.unwrap();
    assert!(futures::poll!(Box::pin(next(&mut events))).is_pending());
    assert!(stage.world().let_one_through(kind));
    assert_eq!(next(&mut events).await, "a changed");
    assert!(futures::poll!(Box::pin(next(&mut events))).is_pending());
    stage.world().let_through(kind);
    assert_eq!(next(&mut events).await, "b changed");
}
