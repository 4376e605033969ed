//! The causes that wake a sleeping town, and the limit of concurrent starts.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{Town, names};

use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, asleep, idle, polecat, works, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.alone(longest_waiting_town_starts_next);
    stories.with_the_operator(each_kind_of_backlog_wakes_a_town_and_keeps_it_awake);
    stories.with_the_operator(idle_town_starts_a_new_bead_at_once);
    stories.with_the_operator(new_session_agent_wakes_its_town_once);
    stories.with_the_operator(blocked_agents_do_not_wake_their_town);
    stories.with_the_operator(wake_request_does_not_restart_a_town_during_its_destruction);
}

fn short() -> Value {
    workshop_with(json!({"sleepAfter": "10s"}))
}

async fn each_kind_of_backlog_wakes_a_town_and_keeps_it_awake(story: Story) {
    let kinds = ["mergeRequests", "triage", "unassigned"];
    let named = |kind: &str| kind.to_lowercase();
    for kind in kinds {
        story.create_town(&named(kind), short()).await;
    }
    let rigless = workshop_with(json!({"sleepAfter": "10s", "rigs": []}));
    story.create_town("rigless", rigless).await;
    for kind in kinds {
        story.town(&named(kind)).until("sleeps", asleep).await;
    }
    story.town("rigless").until("sleeps", asleep).await;

    for kind in kinds {
        story.town(&named(kind)).merge(json!({"spec": {"backlog": {kind: 1}}})).await;
    }
    story.town("rigless").merge(json!({"spec": {"backlog": {"unassigned": 1}}})).await;
    let awake =
        |town: &Town| town.phase() == "Running" && town.reason("Active") == "Backlog" && town.is("Active");
    for kind in kinds {
        let town = story.town(&named(kind)).until("runs", |town| awake(town) && town.is("Ready")).await;
        assert_eq!(town.status.unwrap().sleep_time, None, "{kind}: a town with work does not sleep");
    }
    story
        .town("mergerequests")
        .stays(Duration::from_secs(12), "stays awake past its sleepAfter", awake)
        .await;
    for kind in kinds {
        assert!(awake(&story.town(&named(kind)).get().await), "{kind}");
        story.town(&named(kind)).merge(json!({"spec": {"backlog": {kind: 0}}})).await;
    }
    assert!(asleep(&story.town("rigless").get().await), "nobody could take work without a rig");
    for kind in kinds {
        story.town(&named(kind)).until("sleeps again", asleep).await;
    }
}

async fn idle_town_starts_a_new_bead_at_once(story: Story) {
    // The next reconcile is hours away.
    let patient = workshop_with(json!({"sleepAfter": "5h", "alarm": {"idle": "1h"}}));
    story.create_town("slow", patient).await;
    story.create_agent("cat", "slow", json!({"role": "Polecat", "rig": "core"})).await;
    story.town("slow").until("is idle", idle).await;
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-1"}}})).await;
    story.agent("cat").until("works", works).await;
    story.town("slow").until("runs", |town| town.phase() == "Running").await;
}

async fn new_session_agent_wakes_its_town_once(story: Story) {
    story.create_town("hall", short()).await;
    story.town("hall").until("sleeps", asleep).await;
    story.create_agent("mayor", "hall", json!({"role": "Mayor"})).await;
    story.agent("mayor").until("is there", |agent| agent.phase() == "Idle" && agent.is("Ready")).await;
    let town = story.town("hall").until("sleeps again", asleep).await;
    assert!(town.status.as_ref().unwrap().wake_time.is_some());
    story.agent("mayor").until("sleeps with it", |agent| agent.phase() == "Asleep").await;
    story.town("hall").stays(Duration::from_secs(2), "sleeps on", asleep).await;
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
}

async fn blocked_agents_do_not_wake_their_town(story: Story) {
    let bare = workshop_with(json!({"suspend": true, "agentTemplate": null}));
    story.create_town("bare", bare).await;
    story
        .create_town(
            "full",
            workshop_with(json!({"sleepAfter": "10s", "rigs": [{"name": "core", "maxPolecats": 0}]})),
        )
        .await;
    story.create_agent("mayor", "full", json!({"role": "Mayor"})).await;
    story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    story.town("bare").until("sleeps", asleep).await;
    story.create_agent("naked", "bare", polecat("b-1")).await;
    story.agent("naked").until("is stalled", |agent| agent.reason("Stalled") == "NoTemplate").await;
    story.town("bare").merge(json!({"spec": {"suspend": false, "sleepAfter": "10s"}})).await;
    story.town("bare").until("is idle", idle).await;
    let sleepers = ["bare", "full"];
    for town in sleepers {
        story.town(town).until("sleeps", asleep).await;
    }

    // Three agents that cannot run: a polecat without a template, a second mayor, a polecat without room on its rig.
    story.agent("naked").merge(json!({"spec": {"hook": {"bead": "b-2"}}})).await;
    story.create_agent("second", "full", json!({"role": "Mayor", "hook": {"bead": "b-1"}})).await;
    story.create_agent("cat", "full", polecat("b-1")).await;
    story.agent("second").until("is refused", |agent| agent.reason("Stalled") == "RoleTaken").await;
    story.agent("cat").until("waits", |agent| agent.reason("Ready") == "RigFull").await;
    story.agent("naked").until("has seen it", Told::is_current).await;
    for town in sleepers {
        story.town(town).stays(Duration::from_secs(3), "sleeps on", asleep).await;
    }

    // An agent becomes able to run: the town wakes.
    story.town("bare").merge(json!({"spec": {"agentTemplate": crate::common::story::template()}})).await;
    story.town("full").merge(json!({"spec": {"rigs": [{"name": "core", "maxPolecats": 1}]}})).await;
    for agent in ["naked", "cat"] {
        story.agent(agent).until("works", works).await;
    }
}

async fn wake_request_does_not_restart_a_town_during_its_destruction(story: Story) {
    story.create_town("gone", workshop_with(json!({"suspend": true, "storage": {"size": "1Gi"}}))).await;
    let town = story.town("gone").until("sleeps", asleep).await;
    story.create_agent("cat", "gone", polecat("b-1")).await;
    story.agent("cat").until("sleeps", |agent| agent.phase() == "Asleep").await;
    // A foreign finalizer holds the agent, so that the test can observe the destruction.
    let held = json!({"metadata": {"finalizers": [names::FINALIZER, "example.com/hold"]}});
    story.agent("cat").merge(held).await;
    story.town("gone").delete().await;
    story.town("gone").until("is being destroyed", |town| town.phase() == "Destroying").await;
    story
        .town("gone")
        .merge(json!({"spec": {"suspend": false, "wakeRequest": "now", "alwaysOn": true}}))
        .await;
    story
        .town("gone")
        .stays(Duration::from_secs(3), "is destroyed on", |town| town.phase() == "Destroying")
        .await;
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
    story
        .agent("cat")
        .until("is held by nobody else", |agent| agent.finalizers() == ["example.com/hold"])
        .await;
    story.agent("cat").merge(json!({"metadata": {"finalizers": null}})).await;
    story.town("gone").gone().await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
}

async fn longest_waiting_town_starts_next(story: Story) {
    let _operator = story.cluster.operator(&["--max-concurrent-starts=1"]).await;
    story.players.run_new_pods(false).await;
    let waits = |town: &Town| {
        town.phase() == "Pending" && town.reason("Ready") == "WaitingForTurn" && town.is("Reconciling")
    };
    story.create_town("one", workshop()).await;
    let one = story.town("one").until("is starting", |town| town.phase() == "Starting").await;
    story.pod(&one.child()).until("is there", |_| true).await;
    let mut waiting = Vec::new();
    for name in ["two", "three"] {
        story.create_town(name, workshop()).await;
        waiting.push(story.town(name).until("waits for its turn", waits).await);
    }
    for town in &waiting {
        assert_eq!(story.children(&town.id()).await, [""; 0], "{}", town.name_any());
    }

    // A place is free: the town that has waited longest takes it.
    story.players.run(&one.child()).await;
    story.town("one").until("is idle", idle).await;
    let two = story.town("two").until("is starting", |town| town.phase() == "Starting").await;
    story.town("three").stays(Duration::from_secs(2), "waits on", waits).await;
    // A failed start gives up its place, and retries.
    story.players.refuse(&two.child(), "0/3 nodes have wings").await;
    story.town("two").until("says why", |town| town.reason("Degraded") == "Unschedulable").await;
    let three = story.town("three").until("is starting", |town| town.phase() == "Starting").await;
    story.players.run(&two.child()).await;
    story.players.run(&three.child()).await;
    for name in ["two", "three"] {
        story.town(name).until("is idle", idle).await;
    }

    // The limit also applies after a suspend: a waiting town continues to sleep.
    for name in ["two", "three"] {
        story.town(name).merge(json!({"spec": {"suspend": true}})).await;
        story.town(name).until("sleeps", asleep).await;
    }
    for name in ["two", "three"] {
        story.town(name).merge(json!({"spec": {"suspend": false}})).await;
        if name == "two" {
            story.town(name).until("is starting", |town| town.phase() == "Starting").await;
        }
    }
    story.town("three").until("has seen it", Told::is_current).await;
    story.town("three").stays(Duration::from_secs(2), "sleeps on", asleep).await;
    assert_eq!(story.pods(names::TOWN_UID, &three.id()).await.len(), 0);
    story.players.run(&two.child()).await;
    story.town("three").until("is starting", |town| town.phase() == "Starting").await;
    story.players.run(&three.child()).await;
    story.town("three").until("is idle", idle).await;
}
