//! Activity that pods report: its effect on sleep, the agent that probes, the time and the token.

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use town_operator::api::{AsleepReason, Town};

use crate::common::answers::{Answers, own_address};
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;
use crate::words::{Told, asleep, done, idle, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(reported_work_and_reported_backlog_keep_a_town_awake);
    stories.with_the_operator(probe_interval_follows_the_alarm_of_the_spec);
    stories.with_the_operator(failed_probe_makes_the_activity_unknown_and_delays_sleep);
    stories.with_the_operator(session_agent_phase_follows_its_own_report);
}

/// A town with an activity probe, which sleeps soon.
fn probed(answers: &Answers, more: Value) -> Value {
    let mut spec = workshop_with(json!({
        "sleepAfter": "10s", "alarm": {"active": "1s", "idle": "5s"},
        "activityProbe": {"port": answers.port(), "path": "/what/are/you/at"},
    }));
    json_patch::merge(&mut spec, &more);
    spec
}

fn agent_that(state: &str) -> Value {
    json!({"agents": [{"uid": "nobody-we-know", "state": state}]})
}

/// The address of the played pods; `None`, with a message, on a machine without a network.
async fn somewhere(story: &Story) -> Option<IpAddr> {
    let address = own_address();
    match address {
        Some(address) => story.players.live_at(address).await,
        None => println!("nobody can be asked on a machine without a network: the story is not told"),
    }
    address
}

fn has_work(town: &Town) -> bool {
    town.is("Active") && town.phase() == "Running"
}

async fn reported_work_and_reported_backlog_keep_a_town_awake(story: Story) {
    let Some(address) = somewhere(&story).await else { return };
    let answers = Answers::with(address, agent_that("working")).await;
    story.create_town("busy", probed(&answers, json!({}))).await;
    let town = story.town("busy").until("runs", |town| has_work(town) && town.is("Ready")).await;
    assert_eq!(town.reason("Active"), "Work");
    story.town("busy").stays(Duration::from_secs(12), "stays awake past its sleepAfter", has_work).await;
    let token = story.seen::<Secret>(&town.child()).get().await.data.unwrap()["token"].0.clone();
    let asked = answers.asked();
    assert!(asked.iter().all(|question| question.path == "/what/are/you/at"), "{asked:?}");
    assert!(asked.iter().all(|question| question.token.as_bytes() == token), "with the token of its Secret");

    // Open work counts as activity, even if no agent works on it.
    answers.say(json!({"backlog": {"mergeRequests": 2}}));
    story
        .town("busy")
        .until("has a backlog", |town| has_work(town) && town.reason("Active") == "Backlog")
        .await;
    // An agent that waits for a user does not work, and a heartbeat is not work.
    answers.say(agent_that("waiting"));
    story.town("busy").until("is idle", idle).await;
    story.town("busy").until("sleeps", asleep).await;
    let asked = answers.asked().len();
    story.town("busy").stays(Duration::from_secs(3), "sleeps on", asleep).await;
    assert_eq!(answers.asked().len(), asked, "who sleeps is not asked");
}

async fn probe_interval_follows_the_alarm_of_the_spec(story: Story) {
    let Some(address) = somewhere(&story).await else { return };
    let answers = Answers::with(address, agent_that("working")).await;
    story.create_town("busy", probed(&answers, json!({"alwaysOn": true}))).await;
    story.town("busy").until("runs", has_work).await;
    let gaps = async |wanted: usize| {
        let start = answers.asked().len();
        until(&format!("it is asked {wanted} times"), PATIENCE, async || {
            match answers.asked().len() - start {
                asked if asked >= wanted => Ok(()),
                asked => Err(asked.to_string()),
            }
        })
        .await;
        let asked = answers.asked().split_off(start);
        asked.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at)).collect::<Vec<_>>()
    };
    let busy = gaps(5).await;
    assert!(busy.iter().all(|gap| *gap >= Duration::from_millis(900)), "every second, not more: {busy:?}");
    assert!(busy.iter().any(|gap| *gap < Duration::from_secs(4)), "while there is work: {busy:?}");
    answers.say(agent_that("idle"));
    story.town("busy").until("is idle", idle).await;
    let calm = gaps(3).await;
    assert!(calm.iter().all(|gap| *gap >= Duration::from_millis(4900)), "every five seconds: {calm:?}");
}

async fn failed_probe_makes_the_activity_unknown_and_delays_sleep(story: Story) {
    let Some(address) = somewhere(&story).await else { return };
    let answers = Answers::with(address, agent_that("idle")).await;
    story.create_town("mute", probed(&answers, json!({"alarm": {"idle": "5s"}}))).await;
    story.town("mute").until("is idle", idle).await;
    answers.refuse(500);
    let unknown = |town: &Town| {
        town.reason("Active") == "ActivityUnknown"
            && !town.is("Active")
            && town.reason("Degraded") == "ActivityUnknown"
    };
    let town = story.town("mute").until("says so", |town| unknown(town) || asleep(town)).await;
    assert!(unknown(&town), "it is not put to sleep in the dark: {}", town.phase());
    assert!(town.message("Degraded").contains("500"), "{}", town.message("Degraded"));
    assert!(town.status.unwrap().activity_unknown_time.is_some());
    // After an answer, the town is as before.
    answers.say(agent_that("working"));
    let town = story.town("mute").until("runs", has_work).await;
    assert!(!town.is("Degraded") && town.status.unwrap().activity_unknown_time.is_none());

    // The operator tolerates failures for three times `sleepAfter`.
    answers.refuse(500);
    let long = Duration::from_secs(75);
    let town = story.town("mute").until_within(long, "sleeps all the same", asleep).await;
    assert_eq!(town.status.as_ref().unwrap().asleep_reason, Some(AsleepReason::ActivityUnknown));
    assert_eq!((town.reason("Asleep"), town.reason("Degraded")), ("ActivityUnknown", "ActivityUnknown"));
    assert!(town.is("Degraded"), "never without a word");
}

async fn session_agent_phase_follows_its_own_report(story: Story) {
    let Some(address) = somewhere(&story).await else { return };
    let answers = Answers::with(address, json!({"agents": []})).await;
    let token = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"token": "open"}});
    story.create_object::<Secret>(token).await;
    story.create_town("hall", workshop_with(json!({"alarm": {"active": "1s", "idle": "5s"}}))).await;
    let probe = json!({"port": answers.port(), "path": "/mayor", "tokenSecretName": "mine"});
    let spec = json!({"role": "Mayor", "activityProbe": probe, "hook": {"bead": "b-1"}});
    let mayor = story.create_agent("mayor", "hall", spec).await;
    let says = |state: &str, message: &str| {
        let now = crate::common::clock::now();
        let entry = json!({"uid": mayor.id(), "state": state, "bead": "b-1", "message": message, "lastActivityTime": now});
        answers.say(json!({"agents": [entry]}));
    };
    story
        .agent("mayor")
        .until("has its bead", |agent| {
            agent.is("Ready")
                && agent.status.as_ref().unwrap().work.as_ref().is_some_and(|work| work.bead == "b-1")
        })
        .await;
    for (state, phase, work) in
        [("working", "Working", true), ("waiting", "Waiting", false), ("stuck", "Stuck", true)]
    {
        says(state, "a word");
        story.agent("mayor").until(&format!("is {phase}"), |agent| agent.phase() == phase).await;
        story.town("hall").until("says whether that is work", |town| town.is("Active") == work).await;
    }
    says("done", "all is said");
    let mayor = story.agent("mayor").until("is done", |agent| agent.phase() == "Done").await;
    assert_eq!(done(&mayor), ["b-1"]);
    assert_eq!(mayor.status.as_ref().unwrap().work.as_ref().unwrap().message, "all is said");
    story.town("hall").until("is idle", idle).await;
    let asked = answers.asked();
    assert!(asked.iter().all(|question| question.path == "/mayor" && question.token == "open"), "{asked:?}");
}
