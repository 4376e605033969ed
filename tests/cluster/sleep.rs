//! Towns that fall asleep, sleep and wake.

use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::{AsleepReason, Town, names};

use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, asleep, done, polecat, seconds, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(idle_town_sleeps_and_keeps_its_volume);
    stories.with_the_operator(annotations_and_heartbeats_do_not_delay_sleep);
    stories.with_the_operator(unfinished_bead_keeps_a_town_awake);
    stories.with_the_operator(session_agent_does_not_keep_a_town_awake);
    stories.with_the_operator(woken_town_stays_awake_for_sleep_after);
    stories.with_the_operator(wake_request_is_handled_while_awake_and_does_not_wake_later);
    stories.with_the_operator(new_bead_wakes_the_town_of_a_polecat);
    stories.with_the_operator(new_bead_wakes_the_town_of_a_session_agent_once);
    stories.with_the_operator(bead_is_done_when_hooked_while_its_town_falls_asleep);
    stories.with_the_operator(waking_town_sleeps_when_suspended);
    stories.with_the_operator(suspended_town_ignores_new_work_and_wake_requests);
    stories.with_the_operator(suspended_town_drains_until_its_agents_finish);
    stories.with_the_operator(drain_ends_at_its_timeout);
    stories.with_the_operator(always_on_town_does_not_sleep);
    stories.with_the_operator(sleep_after_change_moves_the_sleep_time_and_wakes_no_town);
    stories.with_the_operator(pod_created_late_in_a_sleeping_town_is_deleted);
}

fn short() -> serde_json::Value {
    workshop_with(json!({"sleepAfter": "10s"}))
}

/// The time when a town fell asleep.
fn fell_asleep(town: &Town) -> Time {
    town.conditions().iter().find(|c| c.type_ == "Asleep").unwrap().last_transition_time.clone()
}

async fn idle_town_sleeps_and_keeps_its_volume(story: Story) {
    story.create_town("night", workshop_with(json!({"sleepAfter": "10s", "storage": {"size": "1Gi"}}))).await;
    story.create_agent("cat", "night", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    story.players.succeed(&cat.child(), "").await;
    // The town is idle after its work, not before it.
    let rests = |town: &Town| {
        town.phase() == "Idle" && town.status.as_ref().is_some_and(|s| s.last_active_time.is_some())
    };
    let idle = story.town("night").until("is idle", rests).await;
    let status = idle.status.clone().unwrap();
    let (sleeps, worked) = (status.sleep_time.unwrap(), status.last_active_time.unwrap());
    assert_eq!(seconds(&worked, &sleeps), 10);

    let town = story.town("night").until("sleeps", asleep).await;
    let status = town.status.clone().unwrap();
    assert_eq!(status.asleep_reason, Some(AsleepReason::Idle));
    assert_eq!((town.reason("Asleep"), status.sleep_time, status.drain_time), ("Idle", None, None));
    let fell = fell_asleep(&town);
    assert!(fell >= sleeps, "it slept at {}, and said that it would at {}", fell.0, sleeps.0);
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
    let claim = story.seen::<PersistentVolumeClaim>(&town.child()).get().await;
    assert_eq!(claim.metadata.deletion_timestamp, None);
    assert_eq!(story.agent("cat").get().await.phase(), "Done", "done is done, asleep or not");
    story.kubectl(&["wait", "--for=condition=Asleep", "--timeout=5s", "tw/night"]);
}

async fn annotations_and_heartbeats_do_not_delay_sleep(story: Story) {
    story.create_town("busy", short()).await;
    let idle = story.town("busy").until("is idle", |town| town.phase() == "Idle").await;
    let sleeps = idle.status.clone().unwrap().sleep_time.unwrap();
    let mut touched = 0;
    // Every second a client reads, labels, annotates or reports: none of it is work.
    let town = loop {
        touched += 1;
        story.town("busy").merge(json!({"metadata": {"annotations": {"seen": format!("{touched}")}}})).await;
        if let Some(pod) = story.pod(&idle.child()).find().await {
            let beat = json!({"status": {"message": format!("heartbeat {touched}")}});
            if pod.metadata.deletion_timestamp.is_none() {
                story.pod(&idle.child()).merge_status(beat).await;
            }
        }
        let town = story.town("busy").get().await;
        if town.phase() != "Idle" {
            break town;
        }
        // The tolerance is one second: the operator can see the start of the pod shortly after the town is idle.
        let moved = seconds(&sleeps, &town.status.unwrap().sleep_time.unwrap());
        assert!((0..=1).contains(&moved), "moved by {moved} s after {touched} touches");
        assert!(touched < 40, "it does not sleep while it is looked at");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert!(touched > 2, "it was looked at {touched} times only: {}", town.phase());
    story.town("busy").until("sleeps", asleep).await;
}

async fn unfinished_bead_keeps_a_town_awake(story: Story) {
    story.create_town("work", short()).await;
    story.create_agent("cat", "work", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let awake = |town: &Town| town.is("Active") && town.phase() == "Running";
    story.town("work").until("runs", awake).await;
    story.town("work").stays(Duration::from_secs(13), "stays awake past its sleepAfter", awake).await;
    story.players.succeed(&cat.child(), "").await;
    story.town("work").until("sleeps", asleep).await;
}

async fn session_agent_does_not_keep_a_town_awake(story: Story) {
    story.create_town("talk", short()).await;
    let hook = json!({"role": "Mayor", "hook": {"bead": "b-1"}});
    story.create_agent("mayor", "talk", hook).await;
    story.agent("mayor").until("is there", |agent| agent.is("Ready") && agent.phase() == "Idle").await;
    let town = story.town("talk").until("sleeps", asleep).await;
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
    let mayor = story.agent("mayor").until("sleeps with it", |agent| agent.phase() == "Asleep").await;
    assert!(mayor.is("Ready") && mayor.reason("Ready") == "Asleep");
}

async fn woken_town_stays_awake_for_sleep_after(story: Story) {
    story.create_town("nap", short()).await;
    story.town("nap").until("sleeps", asleep).await;
    story.town("nap").merge(json!({"spec": {"wakeRequest": "1"}})).await;
    let woken = story.town("nap").until("is idle", |town| town.phase() == "Idle").await;
    let status = woken.status.clone().unwrap();
    assert_eq!((status.handled_wake_request.as_str(), status.asleep_reason), ("1", None));
    let woke = status.wake_time.unwrap();
    story
        .town("nap")
        .stays(Duration::from_secs(6), "has its grace", |town| matches!(town.phase(), "Idle" | "Starting"))
        .await;
    let town = story.town("nap").until("sleeps again", asleep).await;
    let fell = fell_asleep(&town);
    assert!(seconds(&woke, &fell) >= 10, "woken at {}, asleep at {}", woke.0, fell.0);
    // The same wake request again has no effect.
    story.town("nap").stays(Duration::from_secs(2), "sleeps on", asleep).await;
}

async fn wake_request_is_handled_while_awake_and_does_not_wake_later(story: Story) {
    story.create_town("early", workshop_with(json!({"sleepAfter": "10s", "wakeRequest": "now"}))).await;
    let answered = |town: &Town| town.status.as_ref().is_some_and(|s| s.handled_wake_request == "now");
    story.town("early").until("has answered", answered).await;
    story.town("early").until("sleeps", asleep).await;
    story.town("early").stays(Duration::from_secs(3), "sleeps on", asleep).await;
}

async fn new_bead_wakes_the_town_of_a_polecat(story: Story) {
    story.create_town("dorm", short()).await;
    story.create_agent("cat", "dorm", json!({"role": "Polecat", "rig": "core"})).await;
    story.agent("cat").until("has nothing to do", |agent| agent.reason("Ready") == "NoHook").await;
    let town = story.town("dorm").until("sleeps", asleep).await;
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-1"}}})).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let awake = story.town("dorm").until("runs", |town| town.phase() == "Running").await;
    assert!(!awake.is("Asleep") && awake.status.clone().unwrap().wake_time.is_some());
    story.pod(&town.child()).until("is there again", |_| true).await;
    story.players.succeed(&cat.child(), "").await;
    story.agent("cat").until("is done", |agent| done(agent) == ["b-1"]).await;
    story.town("dorm").until("sleeps again", asleep).await;
}

async fn new_bead_wakes_the_town_of_a_session_agent_once(story: Story) {
    story.create_town("hall", short()).await;
    story.create_agent("mayor", "hall", json!({"role": "Mayor"})).await;
    story.agent("mayor").until("is there", |agent| agent.is("Ready") && agent.phase() == "Idle").await;
    story.town("hall").until("sleeps", asleep).await;
    story.town("hall").stays(Duration::from_secs(2), "is not woken by who was there before", asleep).await;
    story.agent("mayor").merge(json!({"spec": {"hook": {"bead": "b-1"}}})).await;
    story
        .agent("mayor")
        .until("has its bead", |agent| {
            agent.status.as_ref().unwrap().work.as_ref().is_some_and(|work| work.bead == "b-1")
        })
        .await;
    // The operator knows only that the bead was delivered. The town sleeps again, and the bead does not wake it again.
    story.town("hall").until("sleeps again", asleep).await;
    story.town("hall").stays(Duration::from_secs(3), "sleeps on", asleep).await;
}

async fn bead_is_done_when_hooked_while_its_town_falls_asleep(story: Story) {
    let town = story.create_town("edge", short()).await;
    // The pod ignores its deletion, so that the town is still falling asleep when the story continues.
    story.players.hold(&town.child()).await;
    story.create_agent("cat", "edge", json!({"role": "Polecat", "rig": "core"})).await;
    let first = story.pod(&town.child()).until("is there", |_| true).await;
    story.pod(&town.child()).until("is asked to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    assert_eq!(story.town("edge").get().await.phase(), "Draining");
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-1"}}})).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    story.players.release(&town.child()).await;
    story.pod(&town.child()).until("is another", |pod| pod.uid() != first.uid()).await;
    story.town("edge").until("runs", |town| town.phase() == "Running" && town.is("Ready")).await;
    story.players.succeed(&cat.child(), "").await;
    story.agent("cat").until("is done", |agent| done(agent) == ["b-1"]).await;
}

async fn waking_town_sleeps_when_suspended(story: Story) {
    story.create_town("fickle", workshop_with(json!({"suspend": true}))).await;
    story.town("fickle").until("sleeps", asleep).await;
    story.players.run_new_pods(false).await;
    story.town("fickle").merge(json!({"spec": {"suspend": false}})).await;
    let town = story.town("fickle").until("is starting", |town| town.phase() == "Starting").await;
    story.pod(&town.child()).until("is there", |_| true).await;
    story.town("fickle").merge(json!({"spec": {"suspend": true}})).await;
    let town = story.town("fickle").until("sleeps", asleep).await;
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
}

async fn suspended_town_ignores_new_work_and_wake_requests(story: Story) {
    story.create_town("decree", workshop()).await;
    story.create_agent("cat", "decree", polecat("b-1")).await;
    story.create_agent("mayor", "decree", json!({"role": "Mayor"})).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    story.town("decree").merge(json!({"spec": {"suspend": true}})).await;
    let town = story.town("decree").until("sleeps", asleep).await;
    assert_eq!(town.status.clone().unwrap().asleep_reason, Some(AsleepReason::Suspended));
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
    assert_eq!(story.pods(names::AGENT_UID, &cat.id()).await.len(), 0);
    story.town("decree").merge(json!({"spec": {"wakeRequest": "please"}})).await;
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-2"}}})).await;
    story.town("decree").stays(Duration::from_secs(4), "sleeps, whatever the work", asleep).await;
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);

    story.town("decree").merge(json!({"spec": {"suspend": false}})).await;
    let cat = story.agent("cat").until("works again", |agent| agent.phase() == "Working").await;
    let work = cat.status.unwrap().work.unwrap();
    assert_eq!((work.bead.as_str(), work.attempts), ("b-2", 1));
}

async fn suspended_town_drains_until_its_agents_finish(story: Story) {
    story.create_town("kind", workshop_with(json!({"drain": {"timeout": "1h"}}))).await;
    story.create_agent("cat", "kind", polecat("b-1")).await;
    story.create_agent("next", "kind", json!({"role": "Polecat", "rig": "core"})).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    story.town("kind").merge(json!({"spec": {"suspend": true}})).await;
    story.town("kind").until("drains", |town| town.phase() == "Draining").await;
    // Meanwhile no new agent starts, and working agents continue.
    story.agent("next").merge(json!({"spec": {"hook": {"bead": "b-9"}}})).await;
    story.town("kind").stays(Duration::from_secs(4), "drains", |town| town.phase() == "Draining").await;
    let next = story.agent("next").get().await;
    assert_eq!(story.pods(names::AGENT_UID, &next.id()).await.len(), 0);
    assert_eq!(story.pod(&cat.child()).get().await.metadata.deletion_timestamp, None);

    story.players.succeed(&cat.child(), "in time").await;
    story.town("kind").until("sleeps", asleep).await;
    let cat = story.agent("cat").get().await;
    assert_eq!((done(&cat), cat.phase()), (&["b-1".to_owned()][..], "Done"));
}

async fn drain_ends_at_its_timeout(story: Story) {
    story.create_town("firm", workshop_with(json!({"drain": {"timeout": "3s"}}))).await;
    story.create_agent("cat", "firm", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    story.town("firm").merge(json!({"spec": {"suspend": true}})).await;
    let draining = story.town("firm").until("drains", |town| town.phase() == "Draining").await;
    assert_eq!(story.pod(&cat.child()).get().await.metadata.deletion_timestamp, None, "it has its 3 seconds");
    let town = story.town("firm").until("sleeps", asleep).await;
    let began = draining.status.unwrap().drain_time.unwrap();
    let fell = fell_asleep(&town);
    assert!(seconds(&began, &fell) >= 3, "drained from {} to {}", began.0, fell.0);
    let cat = story.agent("cat").until("was interrupted", |agent| agent.phase() == "Asleep").await;
    assert_eq!(
        (done(&cat).len(), cat.status.unwrap().work.unwrap().attempts),
        (0, 0),
        "that start does not count"
    );
}

async fn always_on_town_does_not_sleep(story: Story) {
    story.create_town("lamp", workshop_with(json!({"sleepAfter": "10s", "alwaysOn": true}))).await;
    let town = story.town("lamp").until("is idle", |town| town.phase() == "Idle").await;
    assert_eq!(town.status.unwrap().sleep_time, None);
    story.town("lamp").stays(Duration::from_secs(13), "burns", |town| town.phase() == "Idle").await;
    story.town("lamp").merge(json!({"spec": {"alwaysOn": false}})).await;
    story.town("lamp").until("sleeps", asleep).await;
    story.town("lamp").merge(json!({"spec": {"alwaysOn": true}})).await;
    story.town("lamp").until("is awake again", |town| town.phase() == "Idle").await;
}

async fn sleep_after_change_moves_the_sleep_time_and_wakes_no_town(story: Story) {
    story.create_town("clock", workshop()).await;
    let long = story.town("clock").until("is idle", |town| town.phase() == "Idle").await;
    story.town("clock").merge(json!({"spec": {"sleepAfter": "10s"}})).await;
    let later = long.status.unwrap().sleep_time.unwrap();
    story
        .town("clock")
        .until("will sleep sooner, or does", |town| {
            town.phase() != "Idle"
                || town.status.as_ref().unwrap().sleep_time.as_ref().is_some_and(|at| *at < later)
        })
        .await;
    story.town("clock").until("sleeps", asleep).await;
    story.town("clock").merge(json!({"spec": {"sleepAfter": "720h"}})).await;
    story
        .town("clock")
        .until("has seen it", |town| {
            town.status.as_ref().unwrap().observed_generation == town.metadata.generation
        })
        .await;
    story.town("clock").stays(Duration::from_secs(2), "sleeps on", asleep).await;
}

async fn pod_created_late_in_a_sleeping_town_is_deleted(story: Story) {
    story.create_town("quiet", workshop()).await;
    let town = story.town("quiet").until("is idle", |town| town.phase() == "Idle").await;
    let mut late = serde_json::to_value(story.pod(&town.child()).get().await).unwrap();
    story.town("quiet").merge(json!({"spec": {"suspend": true}})).await;
    story.town("quiet").until("sleeps", asleep).await;
    // A create that commits late: the same pod as before, once more.
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
        late["metadata"].as_object_mut().unwrap().remove(field);
    }
    late["spec"].as_object_mut().unwrap().remove("nodeName");
    late.as_object_mut().unwrap().remove("status");
    let late: k8s_openapi::api::core::v1::Pod = story.create_object(late).await;
    story.pod(&late.name_any()).gone().await;
    assert!(asleep(&story.town("quiet").get().await));
}
