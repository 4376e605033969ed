//! Permanent failures cost little (I11): the audit log counts the operator's requests for each kind of failure.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::common::requests::{Requests, settle};
use crate::common::story::{Story, template};
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;
use crate::words::{Told, polecat, template_of, workshop, workshop_with};

/// The observation time of each failure.
const WATCHED: Duration = Duration::from_mins(1);
/// The limit of requests for one object in that time, with reads: four attempts, each with a proof of life, a create,
/// and a read of the object in its place.
const A_MINUTE: usize = 12;
/// The limit of attempts in the first hour, in which the delay between two attempts still grows.
const AN_HOUR: usize = 150;

pub fn add(stories: &mut Stories) {
    stories.alone(permanent_failures_stay_within_the_request_limits);
}

/// A failure in a namespace of its own.
struct Failing {
    story: Story,
    what: &'static str,
}

impl Failing {
    async fn of(story: &Story, what: &'static str) -> Self {
        let story = Story::begin(what, story.cluster.clone(), None).await;
        Self { story, what }
    }
}

async fn permanent_failures_stay_within_the_request_limits(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    let mut all = Vec::new();

    let f = Failing::of(&story, "quota").await;
    f.story.kubectl(&["create", "quota", "tight", "--hard=pods=0"]);
    until("the quota counts", PATIENCE, async || {
        let said = f.story.kubectl(&["get", "quota", "tight", "-o=jsonpath={.status.hard.pods}"]);
        if said == "0" { Ok(()) } else { Err(said) }
    })
    .await;
    f.story.create_town("gas", workshop()).await;
    all.push((f, "QuotaExceeded"));

    let f = Failing::of(&story, "refused").await;
    let mut wrong = workshop();
    wrong["template"]["spec"]["containers"][0]["name"] = "Not_A_Label".into();
    f.story.create_town("gas", wrong).await;
    all.push((f, "RequestRefused"));

    let f = Failing::of(&story, "secret").await;
    f.story
        .create_town("gas", workshop_with(json!({"activityProbe": {"port": 80, "tokenSecretName": "none"}})))
        .await;
    all.push((f, "SecretNotFound"));

    let f = Failing::of(&story, "image").await;
    f.story.players.run_new_pods(false).await;
    f.story.create_town("gas", workshop_with(json!({"template": template_of("own:tpyo")}))).await;
    let town = f.story.town("gas").until("is starting", |town| town.phase() == "Starting").await;
    f.story.players.keep_waiting(&town.child(), "ImagePullBackOff", "no such tag").await;
    all.push((f, "ImagePullFailed"));

    let f = Failing::of(&story, "unschedulable").await;
    f.story.players.run_new_pods(false).await;
    f.story.create_town("gas", workshop()).await;
    let town = f.story.town("gas").until("is starting", |town| town.phase() == "Starting").await;
    f.story.players.refuse(&town.child(), "0/3 nodes have wings").await;
    all.push((f, "Unschedulable"));

    let f = Failing::of(&story, "crashing").await;
    f.story.create_town("gas", workshop()).await;
    let town = f.story.town("gas").until("is ready", |town| town.is("Ready")).await;
    f.story.players.crash(&town.child(), 5, 1, "Error").await;
    all.push((f, "StartFailed"));

    let f = Failing::of(&story, "taken").await;
    f.story.create_town("gas", workshop_with(json!({"suspend": true}))).await;
    let town = f.story.town("gas").until("sleeps", |town| town.phase() == "Asleep").await;
    let mut foreign = template();
    foreign["apiVersion"] = "v1".into();
    foreign["kind"] = "Pod".into();
    foreign["metadata"] = json!({"name": town.child()});
    f.story.create_object::<Pod>(foreign).await;
    f.story.town("gas").merge(json!({"spec": {"suspend": false}})).await;
    all.push((f, "NameTaken"));

    let f = Failing::of(&story, "polecat").await;
    f.story.create_town("gas", workshop()).await;
    let mut spec = polecat("b-1");
    spec["retry"] = json!({"limit": 1});
    f.story.create_agent("cat", "gas", spec).await;
    let cat = f.story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    f.story.players.fail(&cat.child(), 1, "no").await;
    f.story.agent("cat").until("is failed", |agent| agent.phase() == "Failed").await;
    all.push((f, ""));

    for (failing, reason) in all.iter().filter(|(_, reason)| !reason.is_empty()) {
        let said = |town: &town_operator::api::Town| {
            town.reason("Degraded") == *reason || town.reason("Stalled") == *reason
        };
        failing.story.town("gas").until(&format!("says {reason}"), said).await;
    }
    settle(&story).await;
    let start = Requests::until_now(&story);
    tokio::time::sleep(WATCHED).await;
    let minute = Requests::since(&story, start);
    for (failing, _) in &all {
        let asked = minute.within(&failing.story.namespace);
        let (requests, writes, attempts) = (asked.0.len(), asked.writes().len(), bursts(&asked));
        let hour = requests.div_ceil(attempts.max(1)) * attempts_an_hour();
        println!(
            "{}: {requests} requests, {writes} of them writes, in a minute; at most {hour} an hour",
            failing.what
        );
        assert!(requests <= A_MINUTE && hour <= AN_HOUR, "{}: {}", failing.what, asked.named());
    }
    assert!(operator.runs());
}

/// The number of attempts: requests with less than a second between them belong to one attempt.
fn bursts(requests: &Requests) -> usize {
    let at = |request: &Value| request["requestReceivedTimestamp"].as_str()?.parse::<Timestamp>().ok();
    let mut times: Vec<Timestamp> = requests.0.iter().filter_map(at).collect();
    times.sort();
    let gaps = times.windows(2).filter(|pair| pair[1].duration_since(pair[0]).as_secs() >= 1).count();
    if times.is_empty() { 0 } else { gaps + 1 }
}

/// The attempts of the first hour by the schedule of the queue: 0.25 s, doubled up to 5 min, minus the jitter of at
/// most a quarter.
fn attempts_an_hour() -> usize {
    let (mut spent, mut wait, mut attempts) = (0.0, 0.25, 0);
    while spent < 3600.0 {
        spent += 0.75 * f64::min(wait, 300.0);
        wait *= 2.0;
        attempts += 1;
    }
    attempts
}
