//! A readable status: the output of each state for users, for `kubectl wait`, and for tools that know only Ready,
//! Reconciling and Stalled.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{Agent, Town, names};

use crate::common::seen::Kind;
use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, asleep, idle, polecat, works, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(kstatus_result_matches_each_phase_of_towns_and_agents);
    stories.with_the_operator(town_status_counts_agents_by_state);
    stories.with_the_operator(usage_counts_only_the_seconds_of_running_pods);
    stories.with_the_operator(printer_columns_show_phase_readiness_and_sleep_time);
}

/// The result that a tool with kstatus derives from an object.
fn kstatus<K: Kind + Told>(object: &K) -> &'static str {
    if object.meta().deletion_timestamp.is_some() {
        "Terminating"
    } else if !object.is_current() || object.is("Reconciling") {
        "InProgress"
    } else if object.is("Stalled") {
        "Failed"
    } else if object.is("Ready") {
        "Current"
    } else {
        "InProgress"
    }
}

/// The expectation for an object: its phase, the reason of Ready, and the result of tools.
type Expected = (&'static str, &'static str, &'static str, &'static str);

async fn reads<K: Kind + Told>(story: &Story, (name, phase, reason, tools): Expected) {
    story
        .seen::<K>(name)
        .until(&format!("is {phase}, Ready for {reason}, and {tools} for tools"), |object| {
            object.phase() == phase && object.reason("Ready") == reason && kstatus(object) == tools
        })
        .await;
}

fn agent(role: &str, more: Value) -> Value {
    let mut spec = json!({"role": role});
    json_patch::merge(&mut spec, &more);
    spec
}

async fn kstatus_result_matches_each_phase_of_towns_and_agents(story: Story) {
    // Towns in every state, with agents in every state.
    let rigs = json!([{"name": "core"}, {"name": "full", "maxPolecats": 0}]);
    story.create_town("shop", workshop_with(json!({"rigs": rigs}))).await;
    story.create_town("bare", workshop_with(json!({"agentTemplate": null}))).await;
    story.create_town("night", workshop_with(json!({"suspend": true}))).await;
    let past = json!({"expiry": {"time": "2020-01-01T00:00:00Z"}});
    story.create_town("late", workshop_with(past)).await;
    for town in ["paused", "marked", "ending", "draining"] {
        story.create_town(town, workshop_with(json!({"drain": {"timeout": "1h"}}))).await;
    }
    story.create_agent("cat", "shop", polecat("b-1")).await;
    story.create_agent("done", "shop", polecat("b-1")).await;
    let once = json!({"rig": "core", "hook": {"bead": "b-1"}, "retry": {"limit": 1}});
    story.create_agent("failed", "shop", agent("Polecat", once)).await;
    story
        .create_agent("waits", "shop", agent("Polecat", json!({"rig": "full", "hook": {"bead": "b-1"}})))
        .await;
    story.create_agent("lost", "shop", agent("Polecat", json!({"rig": "nowhere"}))).await;
    story.create_agent("hookless", "shop", agent("Polecat", json!({"rig": "core"}))).await;
    story.create_agent("mayor", "shop", agent("Mayor", json!({}))).await;
    story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    story.create_agent("second", "shop", agent("Mayor", json!({}))).await;
    story.create_agent("naked", "bare", polecat("b-1")).await;
    story.create_agent("sleeper", "night", polecat("b-1")).await;
    story.create_agent("early", "nobody", polecat("b-1")).await;
    story.create_agent("kept", "draining", polecat("b-1")).await;
    for name in ["done", "failed"] {
        let cat = story.agent(name).until("works", works).await;
        if name == "done" {
            story.players.succeed(&cat.child(), "").await;
        } else {
            story.players.fail(&cat.child(), 1, "no").await;
        }
    }
    story.agent("kept").until("works", works).await;
    story.town("draining").merge(json!({"spec": {"suspend": true}})).await;
    for town in ["paused", "marked", "ending"] {
        story.town(town).until("is idle", idle).await;
    }
    story.town("paused").merge(json!({"metadata": {"annotations": {names::PAUSED: "true"}}})).await;
    story.town("marked").merge(json!({"metadata": {"annotations": {names::TOMBSTONE: "by-a-backup"}}})).await;
    let ending = story.town("ending").get().await;
    story.players.hold(&ending.child()).await;
    story.town("ending").delete().await;
    story.town("ending").until("is being destroyed", |town| town.phase() == "Destroying").await;
    story.create_agent("after", "ending", polecat("b-1")).await;
    let mut stuck = workshop();
    stuck["template"]["spec"]["containers"][0]["image"] = "town.test/never:1".into();
    story.players.run_new_pods(false).await;
    story.create_town("dawn", stuck).await;
    story.create_agent("young", "shop", agent("Crew", json!({}))).await;

    let towns: [Expected; 9] = [
        ("shop", "Running", "Running", "Current"),
        ("bare", "Idle", "Running", "Current"),
        ("night", "Asleep", "Asleep", "Current"),
        ("late", "Blocked", "ExpiryInPast", "Failed"),
        ("paused", "Idle", "Running", "InProgress"),
        ("marked", "Tombstoned", "Tombstoned", "Failed"),
        ("draining", "Draining", "Draining", "InProgress"),
        ("dawn", "Starting", "Starting", "InProgress"),
        ("ending", "Destroying", "Destroying", "Terminating"),
    ];
    for expected in towns {
        reads::<Town>(&story, expected).await;
    }
    let agents: [Expected; 13] = [
        ("cat", "Working", "Working", "Current"),
        ("done", "Done", "Done", "Current"),
        ("failed", "Failed", "RetryLimitExceeded", "InProgress"),
        ("waits", "Blocked", "RigFull", "InProgress"),
        ("lost", "Blocked", "RigNotFound", "Failed"),
        ("hookless", "Idle", "NoHook", "Current"),
        ("mayor", "Idle", "Running", "Current"),
        ("second", "Blocked", "RoleTaken", "Failed"),
        ("naked", "Blocked", "NoTemplate", "Failed"),
        ("sleeper", "Asleep", "Asleep", "Current"),
        ("early", "Blocked", "TownNotFound", "InProgress"),
        ("after", "Blocked", "TownTerminating", "InProgress"),
        ("young", "Starting", "Starting", "InProgress"),
    ];
    for expected in agents {
        reads::<Agent>(&story, expected).await;
    }
    // If Ready is not True, exactly one of the other conditions gives the reason. A failed agent is the exception.
    for town in story.api::<Town>().list(&kube::api::ListParams::default()).await.unwrap() {
        let (ready, busy, stalled) = (town.is("Ready"), town.is("Reconciling"), town.is("Stalled"));
        assert!(!(busy && stalled) && (ready || busy || stalled), "{}", town.name_any());
    }
    story.kubectl(&["wait", "--for=condition=Ready", "--timeout=5s", "tw/night", "ta/sleeper", "ta/done"]);
    story.kubectl(&["wait", "--for=condition=Stalled", "--timeout=5s", "tw/late", "ta/second"]);
    story.players.release(&ending.child()).await;
    story.town("ending").gone().await;
}

async fn town_status_counts_agents_by_state(story: Story) {
    story.create_town("shop", workshop()).await;
    for name in ["works", "fails"] {
        let mut spec = polecat("b-1");
        spec["retry"] = json!({"limit": 1});
        story.create_agent(name, "shop", spec).await;
    }
    story.create_agent("mayor", "shop", json!({"role": "Mayor"})).await;
    story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    let fails = story.agent("fails").until("works", works).await;
    story.agent("works").until("works", works).await;
    story.players.fail(&fails.child(), 1, "no").await;
    story.agent("fails").until("is failed", |agent| agent.phase() == "Failed").await;
    // The operator updates counts with the next change, or within a minute.
    story.town("shop").merge(json!({"spec": {"sleepAfter": "1h"}})).await;
    let counted = |town: &Town| {
        let Some(agents) = town.status.as_ref().and_then(|status| status.agents.clone()) else {
            return false;
        };
        (agents.total, agents.working, agents.failed, agents.waiting, agents.stuck) == (3, 1, 1, 0, 0)
            && agents.summary == "1/3"
    };
    story.town("shop").until_within(Duration::from_secs(75), "counts them", counted).await;
}

async fn usage_counts_only_the_seconds_of_running_pods(story: Story) {
    story.create_town("meter", workshop()).await;
    let town = story.town("meter").until("is idle", idle).await;
    let pod = story.pod(&town.child()).get().await;
    let began = pod.status.unwrap().start_time.unwrap();
    // The pod runs for a few seconds. The operator adds them to the usage at its next write.
    story
        .pod(&town.child())
        .stays(Duration::from_secs(4), "runs", |pod| pod.metadata.deletion_timestamp.is_none())
        .await;
    story.town("meter").merge(json!({"spec": {"suspend": true}})).await;
    let town = story.town("meter").until("sleeps", asleep).await;
    let usage = town.status.clone().unwrap().usage.unwrap();
    let ran = usage.count_time.0.as_second() - began.0.as_second();
    assert!(usage.pod_seconds >= 4 && usage.pod_seconds <= ran, "{usage:?}, started at {}", began.0);
    assert_eq!(usage.month, usage.count_time.0.strftime("%Y-%m").to_string());
    story.town("meter").merge(json!({"spec": {"sleepAfter": "2h"}})).await;
    let later = story.town("meter").until("has seen it", Told::is_current).await;
    assert_eq!(later.status.unwrap().usage.unwrap().pod_seconds, usage.pod_seconds, "sleep costs nothing");
}

async fn printer_columns_show_phase_readiness_and_sleep_time(story: Story) {
    story.create_town("calm", workshop()).await;
    story.create_agent("mayor", "calm", json!({"role": "Mayor", "hook": {"bead": "b-1"}})).await;
    story.agent("mayor").until("is there", |agent| agent.phase() == "Idle" && agent.is("Ready")).await;
    let town = story.town("calm").until("is idle", idle).await;
    let row = |kind: &str, wide: bool| {
        let wide: &[&str] = if wide { &["-o", "wide"] } else { &[] };
        let table = story.kubectl(&[&["get", kind][..], wide].concat());
        let lines: Vec<Vec<String>> =
            table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        assert_eq!(lines.len(), 2, "{table}");
        assert_eq!(lines[0].len(), lines[1].len(), "no column is empty: {table}");
        lines[1].clone()
    };
    let sleeps = town.status.unwrap().sleep_time.unwrap().0.to_string();
    let shown = row("tw", true);
    assert_eq!(shown[..3], ["calm", "Idle", "True"], "{shown:?}");
    assert_eq!(shown[4], sleeps, "{shown:?}");
    assert!(shown.contains(&"Running".to_owned()), "the reason: {shown:?}");
    assert_eq!(row("ta", false)[..4], ["mayor", "calm", "Mayor", "Idle"]);
}
