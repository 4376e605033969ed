//! The expiry of a town: it sleeps or is destroyed at that time, and never by mistake.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::json;
use town_operator::api::{AsleepReason, Town, names};

use crate::common::clock::in_seconds;
use crate::common::story::Story;
use crate::remains::is_gone_whole;
use crate::stage::Stories;
use crate::words::{Told, asleep, attempts, idle, polecat, works, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(expired_town_sleeps_regardless_of_its_work);
    stories.with_the_operator(expiry_policy_destroy_removes_a_town_and_all_children);
    stories.with_the_operator(protected_town_sleeps_at_its_expiry_until_its_protection_is_removed);
    stories.with_the_operator(town_is_stalled_when_its_expiry_is_past_at_creation);
    stories.with_the_operator(expiry_moved_into_the_past_takes_effect_at_once);
}

async fn expired_town_sleeps_regardless_of_its_work(story: Story) {
    story.create_town("fair", workshop_with(json!({"expiry": {"time": in_seconds(3600)}}))).await;
    story.create_agent("cat", "fair", polecat("b-1")).await;
    story.agent("cat").until("works", works).await;
    let at = in_seconds(3);
    story.town("fair").merge(json!({"spec": {"expiry": {"time": at}}})).await;
    let town = story.town("fair").until("sleeps", asleep).await;
    let fell = town.conditions().iter().find(|c| c.type_ == "Asleep").unwrap().last_transition_time.clone();
    assert!(fell >= town.spec.expiry.as_ref().unwrap().time, "asleep at {}, not before {at}", fell.0);
    assert_eq!(town.status.as_ref().unwrap().asleep_reason, Some(AsleepReason::Expired));
    assert_eq!(town.reason("Asleep"), "Expired");
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);

    // Work does not override the expiry.
    story.town("fair").merge(json!({"spec": {"wakeRequest": "please", "backlog": {"triage": 1}}})).await;
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-2"}}})).await;
    story.town("fair").stays(Duration::from_secs(3), "sleeps, whatever the work", asleep).await;

    story.town("fair").merge(json!({"spec": {"expiry": {"time": in_seconds(3600)}}})).await;
    let cat = story.agent("cat").until("works again", works).await;
    assert_eq!(attempts(&cat), 1, "the attempt that the expiry ended does not count");
    story.town("fair").until("runs", |town| town.phase() == "Running").await;
}

async fn expiry_policy_destroy_removes_a_town_and_all_children(story: Story) {
    let later = json!({"time": in_seconds(3600), "policy": "Destroy"});
    story.create_town("camp", workshop_with(json!({"storage": {"size": "1Gi"}, "expiry": later}))).await;
    story.create_town("tent", workshop_with(json!({"suspend": true, "expiry": later}))).await;
    let mut spec = polecat("b-1");
    spec["storage"] = json!({"size": "1Gi"});
    story.create_agent("cat", "camp", spec).await;
    story.create_agent("sleeper", "tent", polecat("b-1")).await;
    story.agent("cat").until("works", works).await;
    let towns = [story.town("camp").get().await, story.town("tent").until("sleeps", asleep).await];
    assert_eq!(story.children(&towns[0].id()).await.len(), 5, "agent, two pods, two claims");
    let soon = in_seconds(3);
    for town in &towns {
        story.town(&town.name_any()).merge(json!({"spec": {"expiry": {"time": soon}}})).await;
    }
    for town in &towns {
        is_gone_whole(&story, town).await;
    }
    for agent in ["cat", "sleeper"] {
        story.agent(agent).gone().await;
    }
}

async fn protected_town_sleeps_at_its_expiry_until_its_protection_is_removed(story: Story) {
    // The expiry is set first: the policies refuse an expiry with `Destroy` while the town is protected.
    let spec = json!({"storage": {"size": "1Gi"}, "expiry": {"time": in_seconds(3600), "policy": "Destroy"}});
    story.create_town("fort", workshop_with(spec)).await;
    story.town("fort").until("is idle", idle).await;
    story.town("fort").merge(json!({"spec": {"expiry": {"time": in_seconds(10)}}})).await;
    story.town("fort").merge(json!({"spec": {"deletionProtection": true}})).await;
    let fort = story.town("fort").until("sleeps instead", asleep).await;
    assert_eq!(fort.status.as_ref().unwrap().asleep_reason, Some(AsleepReason::Expired));
    assert_eq!((fort.is("Degraded"), fort.reason("Degraded")), (true, "DeletionProtected"));
    assert!(fort.message("Degraded").contains("spec.deletionProtection"), "{}", fort.message("Degraded"));
    assert_eq!(story.children(&fort.id()).await, [format!("PersistentVolumeClaim/{}", fort.child())]);
    story.town("fort").merge(json!({"spec": {"deletionProtection": false}})).await;
    story.town("fort").gone().await;
    assert_eq!(story.children(&fort.id()).await, [""; 0]);
}

async fn town_is_stalled_when_its_expiry_is_past_at_creation(story: Story) {
    let past = json!({"time": "2020-01-01T00:00:00Z", "policy": "Destroy"});
    story.create_town("late", workshop_with(json!({"storage": {"size": "1Gi"}, "expiry": past}))).await;
    story.create_agent("cat", "late", polecat("b-1")).await;
    let stalled = |town: &Town| {
        town.is("Stalled") && town.reason("Stalled") == "ExpiryInPast" && town.phase() == "Blocked"
    };
    let town = story.town("late").until("says so", stalled).await;
    let message = town.message("Stalled");
    assert!(
        message.contains("spec.expiry.time 2020-01-01") && message.contains("set a time in the future"),
        "{message}"
    );
    assert!(!town.is("Ready") && !town.is("Reconciling"));
    story
        .town("late")
        .stays(Duration::from_secs(3), "is left alone", |town| {
            stalled(town) && town.metadata.deletion_timestamp.is_none()
        })
        .await;
    let nothing: Vec<String> =
        story.children(&town.id()).await.into_iter().filter(|child| child != "Agent/cat").collect();
    assert_eq!(nothing, [""; 0]);

    story.town("late").merge(json!({"spec": {"expiry": {"time": in_seconds(3600)}}})).await;
    story.agent("cat").until("works", works).await;
    let town = story.town("late").until("runs", |town| town.phase() == "Running" && town.is("Ready")).await;
    assert!(!town.is("Stalled") && !town.is("Asleep"));
}

async fn expiry_moved_into_the_past_takes_effect_at_once(story: Story) {
    for name in ["nap", "end"] {
        story.create_town(name, workshop()).await;
    }
    let end = story.town("end").until("is idle", idle).await;
    story.town("nap").until("is idle", idle).await;
    let past = "2020-01-01T00:00:00Z";
    story.town("nap").merge(json!({"spec": {"expiry": {"time": past}}})).await;
    story.town("end").merge(json!({"spec": {"expiry": {"time": past, "policy": "Destroy"}}})).await;
    story.town("nap").until("sleeps", asleep).await;
    story.town("end").gone().await;
    assert_eq!(story.children(&end.id()).await, [""; 0]);
    story.town("nap").merge(json!({"spec": {"expiry": null}})).await;
    story.town("nap").until("is awake again", idle).await;
}
