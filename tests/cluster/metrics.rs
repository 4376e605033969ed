//! The Prometheus metrics of a town's life.

use serde_json::json;
use town_operator::api::Town;

use crate::common::operator::Operator;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;
use crate::words::{Told, workshop};

pub fn add(stories: &mut Stories) {
    stories.alone(metrics_follow_the_life_of_a_town);
}

async fn metrics_follow_the_life_of_a_town(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    let operator = &operator;
    shows(operator, r#"towns{phase="Idle"}"#, "0").await;

    story.create_town("gas", workshop()).await;
    story.create_agent("mayor", "gas", json!({"role": "Mayor"})).await;
    let mayor =
        story.agent("mayor").until("is there", |agent| agent.is("Ready") && agent.phase() == "Idle").await;
    story.town("gas").until("is idle", idle).await;
    shows(operator, r#"towns{phase="Idle"}"#, "1").await;
    shows(operator, r#"agents{phase="Idle",role="Mayor"}"#, "1").await;
    assert_eq!(shown(operator, "wake_latency_seconds_count"), "0", "a first start is no wake");

    story.players.fail(&mayor.child(), 1, "on purpose").await;
    shows(operator, r#"back_offs_total{kind="Agent"}"#, "1").await;
    shows(operator, r#"agents{phase="Starting",role="Mayor"}"#, "1").await;

    story.town("gas").merge(json!({"spec": {"suspend": true}})).await;
    story.town("gas").until("sleeps", |town| town.phase() == "Asleep").await;
    shows(operator, r#"sleeps_total{reason="Suspended"}"#, "1").await;
    shows(operator, r#"towns{phase="Asleep"}"#, "1").await;
    shows(operator, r#"towns{phase="Idle"}"#, "0").await;
    assert_eq!(shown(operator, "saved_pod_seconds_total"), "0.0");

    story.town("gas").merge(json!({"spec": {"suspend": false}})).await;
    story.town("gas").until("is awake again", idle).await;
    shows(operator, "wakes_total", "1").await;
    shows(operator, "wake_latency_seconds_count", "1").await;
    let latency = value(operator, "wake_latency_seconds_sum");
    assert!(latency > 0.0 && latency < PATIENCE.as_secs_f64(), "{latency}");
    let saved = value(operator, "saved_pod_seconds_total");
    assert!(saved > 0.0, "{saved}");

    // From now on the timer puts the town to sleep.
    story.town("gas").merge(json!({"spec": {"sleepAfter": "10s"}})).await;
    story.town("gas").until("sleeps", |town| town.phase() == "Asleep").await;
    shows(operator, r#"sleeps_total{reason="Idle"}"#, "1").await;
    assert!(value(operator, r#"alarm_lateness_seconds_count{kind="Town"}"#) >= 1.0);

    story.town("gas").delete().await;
    story.town("gas").gone().await;
    shows(operator, r#"destroyed_total{kind="Town"}"#, "1").await;
    shows(operator, r#"destroyed_total{kind="Agent"}"#, "1").await;
    shows(operator, r#"destroy_duration_seconds_count{kind="Town"}"#, "1").await;
    shows(operator, r#"towns{phase="Destroying"}"#, "0").await;
    assert_eq!(shown(operator, "wakes_total"), "1", "it was deleted in its sleep");
    assert!(value(operator, "saved_pod_seconds_total") > saved, "the second sleep counts too");
    assert_eq!(shown(operator, r#"back_offs_total{kind="Town"}"#), "0");
    assert!(value(operator, r#"events_total{outcome="Written"}"#) > 5.0);
    assert_eq!(shown(operator, r#"events_total{outcome="Failed"}"#), "0");
    let looks = value(operator, r#"reconciles_total{kind="Agent"}"#);
    assert!(looks > 5.0, "{looks}");
    let text = operator.metrics();
    assert!(text.ends_with("# EOF\n") && !text.contains("gas"), "no name of an object: {text}");
}

fn idle(town: &Town) -> bool {
    town.phase() == "Idle" && town.is("Ready")
}

/// The value of a series, whose name is given without its prefix.
fn shown(operator: &Operator, series: &str) -> String {
    let text = operator.metrics();
    let begin = format!("town_operator_{series} ");
    let found = text.lines().find_map(|line| line.strip_prefix(&begin));
    found.unwrap_or_else(|| panic!("{series} is not in:\n{text}")).to_owned()
}

fn value(operator: &Operator, series: &str) -> f64 {
    shown(operator, series).parse().unwrap()
}

/// Waits until a series has this value: metrics are updated after the write.
async fn shows(operator: &Operator, series: &str, wanted: &str) {
    until(series, PATIENCE, async || match shown(operator, series) {
        found if found == wanted => Ok(()),
        found => Err(found),
    })
    .await;
}
