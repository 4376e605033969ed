//! The cost of a town for the API server: the number of requests in the audit log. A time would depend on the machine.

use std::time::Duration;

use serde_json::json;

use crate::common::requests::{Requests, in_words, settle};
use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, polecat, workshop_with};

/// The limit of writes for the life of a town with a volume and two polecats.
const A_LIFE: usize = 32;
/// The limit of writes from the create to Ready, for the town alone.
const TO_READY: usize = 5;
/// The limit of additional writes for one sleep and wake.
const A_NIGHT: usize = 6;
/// The limit of writes for a minute of a permanent failure, after the first attempts.
const REFUSED: usize = 6;
/// The limit of requests for two minutes of leadership: the operator renews the Lease every two seconds.
const RENEWALS: usize = 61;
/// The observation time for a town at rest.
const IN_PEACE: Duration = Duration::from_mins(2);

pub fn add(stories: &mut Stories) {
    stories.alone(life_of_a_town_stays_within_its_write_budget);
    stories.alone(idle_and_sleeping_towns_cause_no_requests);
}

async fn life_of_a_town_stays_within_its_write_budget(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    let start = Requests::until_now(&story);
    story.create_town("gas", workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
    let town = story.town("gas").until("is ready", |town| town.is("Ready") && town.phase() == "Idle").await;
    let to_ready = Requests::since(&story, start).writes();

    for cat in ["ann", "bob"] {
        story.create_agent(cat, "gas", polecat("b-1")).await;
    }
    for cat in ["ann", "bob"] {
        let cat = story.agent(cat).until("works", |agent| agent.phase() == "Working").await;
        story.players.succeed(&cat.child(), "").await;
    }
    for cat in ["ann", "bob"] {
        let cat = story.agent(cat).until("is done", |agent| agent.phase() == "Done").await;
        story.pod(&cat.child()).gone().await;
    }
    story.town("gas").until("is idle", |town| town.phase() == "Idle").await;
    story.town("gas").delete().await;
    story.town("gas").gone().await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
    let life = Requests::since(&story, start);
    println!("a life with a volume and two polecats: {} writes\n{}", life.writes().len(), life.named());

    // Another town sleeps and wakes, so that its writes can be counted separately.
    story.create_town("owl", workshop_with(json!({}))).await;
    story.town("owl").until("is ready", |town| town.is("Ready") && town.phase() == "Idle").await;
    settle(&story).await;
    let evening = Requests::until_now(&story);
    story.town("owl").merge(json!({"spec": {"suspend": true}})).await;
    story.town("owl").until("sleeps", |town| town.phase() == "Asleep").await;
    story.town("owl").merge(json!({"spec": {"suspend": false}})).await;
    story.town("owl").until("is ready", |town| town.is("Ready") && town.phase() == "Idle").await;
    let night = Requests::since(&story, evening);
    println!("a night: {} writes\n{}", night.writes().len(), night.named());

    // The API server refuses the pod of this town for a minute.
    let mut wrong = workshop_with(json!({}));
    wrong["template"]["spec"]["containers"][0]["name"] = "Not_A_Label".into();
    story.create_town("wrong", wrong).await;
    story.town("wrong").until("says what was refused", |town| town.is("Degraded")).await;
    settle(&story).await;
    let before = Requests::until_now(&story);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let minute = Requests::since(&story, before);
    println!("a minute of a pod that is refused: {} writes\n{}", minute.writes().len(), minute.named());

    assert!(to_ready.len() <= TO_READY, "create to Ready: {to_ready:#?}");
    assert!(life.writes().len() <= A_LIFE, "{} writes:\n{}", life.writes().len(), life.named());
    assert!(night.writes().len() <= A_NIGHT, "{} writes:\n{}", night.writes().len(), night.named());
    assert!(minute.writes().len() <= REFUSED, "{} writes:\n{}", minute.writes().len(), minute.named());
    for agent in life.0.iter().map(|request| request["userAgent"].as_str().unwrap_or_default()) {
        assert!(agent.starts_with("town-operator/"), "it says who it is: {agent:?}");
    }
    assert!(operator.runs());
}

async fn idle_and_sleeping_towns_cause_no_requests(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    let spec = json!({"storage": {"size": "1Gi"}});
    for name in ["awake", "asleep"] {
        story.create_town(name, workshop_with(spec.clone())).await;
        let cat = format!("{name}-cat");
        story.create_agent(&cat, name, polecat("b-1")).await;
        story.create_agent(&format!("{name}-mayor"), name, json!({"role": "Mayor"})).await;
        let cat = story.agent(&cat).until("works", |agent| agent.phase() == "Working").await;
        story.players.succeed(&cat.child(), "").await;
        story.agent(&format!("{name}-mayor")).until("is there", |agent| agent.is("Ready")).await;
        story.town(name).until("is idle", |town| town.phase() == "Idle").await;
    }
    // The time is long enough that this town would also sleep without `suspend`.
    story.town("asleep").merge(json!({"spec": {"suspend": true}})).await;
    story.town("asleep").until("sleeps", |town| town.phase() == "Asleep").await;
    story.agent("asleep-mayor").until("sleeps", |agent| agent.phase() == "Asleep").await;
    settle(&story).await;

    let start = Requests::until_now(&story);
    let before = Requests::of_the_lease(&story).0.len();
    tokio::time::sleep(IN_PEACE).await;
    let lease = Requests(Requests::of_the_lease(&story).0.split_off(before));
    let peace = Requests::since(&story, start);
    let asked: Vec<String> =
        peace.0.iter().filter(|request| request["verb"] != "watch").map(in_words).collect();
    println!("two minutes of an idle and a sleeping town: {} requests", asked.len());
    assert_eq!(asked, [""; 0]);
    // The leader receives no events and reads nothing: it only renews its Lease.
    assert!(lease.0.len() <= RENEWALS && lease.writes().len() == lease.0.len(), "{}", lease.named());
    assert!(operator.runs());
    assert_eq!(story.town("awake").get().await.phase(), "Idle");
}
