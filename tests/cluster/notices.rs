//! Events about the future and the past: once each, and only if useful.

use std::time::Duration;

use serde_json::json;

use crate::common::clock::in_seconds;
use crate::common::story::Story;
use crate::common::wait::always;
use crate::stage::Stories;
use crate::words::{asleep, idle, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(sleeps_soon_event_is_written_once);
    stories.with_the_operator(expires_soon_and_destroys_soon_events_are_written_once);
    stories.with_the_operator(asleep_event_is_written_once);
}

/// Waits for the event. No second event may follow.
async fn told_once(story: &Story, name: &str, reason: &str) -> String {
    let note = story.is_told(name, reason).await;
    // A change of the annotations must not repeat the event.
    for touch in 0..5 {
        story.town(name).merge(json!({"metadata": {"annotations": {"seen": touch.to_string()}}})).await;
    }
    always(&format!("{reason} about {name} is told once"), Duration::from_secs(3), async || {
        let told = story.told(name, reason).await;
        if told.len() == 1 { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    note
}

async fn sleeps_soon_event_is_written_once(story: Story) {
    // The town sleeps five minutes and two seconds after its last work: the warning is due two seconds after it.
    story.create_town("calm", workshop_with(json!({"sleepAfter": "302s"}))).await;
    story.create_town("brisk", workshop_with(json!({"sleepAfter": "30s"}))).await;
    story.create_town("lamp", workshop_with(json!({"sleepAfter": "302s", "alwaysOn": true}))).await;
    for name in ["calm", "brisk", "lamp"] {
        story.town(name).until("is idle", idle).await;
    }
    let note = told_once(&story, "calm", "SleepsSoon").await;
    assert!(note.contains("within 5 minutes") && note.contains("spec.sleepAfter"), "{note}");
    for name in ["brisk", "lamp"] {
        assert_eq!(story.told(name, "SleepsSoon").await, [""; 0], "{name}");
    }
}

async fn expires_soon_and_destroys_soon_events_are_written_once(story: Story) {
    let soon = in_seconds(305);
    for (name, policy) in [("fair", "Sleep"), ("camp", "Destroy")] {
        story.create_town(name, workshop_with(json!({"expiry": {"time": soon, "policy": policy}}))).await;
    }
    story.create_town("far", workshop_with(json!({"expiry": {"time": in_seconds(3600)}}))).await;
    let note = told_once(&story, "fair", "ExpiresSoon").await;
    assert!(note.contains("sleeps") && note.contains("spec.expiry"), "{note}");
    let note = told_once(&story, "camp", "DestroysSoon").await;
    assert!(note.contains("is destroyed") && note.contains("spec.expiry"), "{note}");
    assert_eq!(story.told("far", "ExpiresSoon").await, [""; 0]);
}

async fn asleep_event_is_written_once(story: Story) {
    story.create_town("gas", workshop()).await;
    story.town("gas").until("is idle", idle).await;
    story.town("gas").merge(json!({"spec": {"suspend": true}})).await;
    story.town("gas").until("sleeps", asleep).await;
    told_once(&story, "gas", "Asleep").await;
    let described = story.kubectl(&["describe", "town", "gas"]);
    let told = described.split("Events:").nth(1).unwrap_or_default();
    assert!(told.contains("Asleep"), "kubectl describe tells the story: {described}");
}
