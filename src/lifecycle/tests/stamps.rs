//! Timestamps of a clock that was ahead are read as now, in every field.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::build::{Read, minute, polecat, running_town, sleep_time, town};
use crate::api::{Agent, AgentStatus, AsleepReason, Outcome, Town, TownStatus};
use crate::lifecycle::stamps::{clamp_agent, clamp_town};

const FAR: &str = "2999-01-01T00:00:00Z";

/// A status with every field of the schema. Each time is far in the future.
fn full<T: CustomResourceExt>() -> Value {
    let crd = serde_json::to_value(T::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    value_of(schema)
}

fn value_of(schema: &Value) -> Value {
    if let Some(choices) = schema["enum"].as_array() {
        return choices[0].clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let fields = schema["properties"].as_object().cloned().unwrap_or_default();
            let of = |(name, schema): (&String, &Value)| (name.clone(), value_of(schema));
            Value::Object(fields.iter().map(of).collect::<Map<_, _>>())
        }
        Some("array") => json!([]),
        Some("integer") => json!(1),
        Some("boolean") => json!(true),
        _ if schema["format"] == "date-time" => json!(FAR),
        _ => json!("x"),
    }
}

/// The paths of the fields with a time after `now`.
fn ahead(value: &Value, path: &str, now: Timestamp, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| ahead(value, &format!("{path}.{name}"), now, found));
        }
        Value::String(text) if text.parse::<Timestamp>().is_ok_and(|at| at > now) => {
            found.push(path.to_owned());
        }
        _ => {}
    }
}

// Review code:A23. The test covers new time fields of a status automatically.
#[test]
fn status_timestamps_in_the_future_are_clamped() {
    let now = minute(0);
    let mut status: TownStatus = serde_json::from_value(full::<Town>()).unwrap();
    clamp_town(&mut status, now);
    let mut found = Vec::new();
    ahead(&serde_json::to_value(&status).unwrap(), "town", now, &mut found);
    // The first is a deadline; the second may be later by the start timeout.
    assert_eq!(found, ["town.podMarkTime", "town.sleepTime"]);
    assert_eq!(status.pod_mark_time.unwrap().0, minute(10));

    let mut status: AgentStatus = serde_json::from_value(full::<Agent>()).unwrap();
    clamp_agent(&mut status, now);
    let mut found = Vec::new();
    ahead(&serde_json::to_value(&status).unwrap(), "agent", now, &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn town_sleeps_in_time_when_its_clock_was_ahead_for_a_while() {
    let ahead = running_town().last_active(minute(100_000)).woke(minute(90_000));
    let plan = ahead.decide(minute(40));
    assert_eq!((plan.phase(), sleep_time(&plan)), ("Idle", Some(minute(70))), "the clock runs from now");
    let settled = ahead.after(&plan);
    assert_eq!(settled.decide(minute(69)).status, settled.0.town.status, "and is corrected once");
    assert_eq!(settled.decide(minute(70)).phase(), "Draining");
}

#[test]
fn drain_ends_in_time_when_the_clock_was_ahead_for_a_while() {
    let at_work = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running();
    let town = running_town().suspended().drain("2m").draining(AsleepReason::Suspended, minute(100_000));
    let town = town.with(at_work);
    let marked = town.settled(minute(30));
    assert_eq!(marked.decide(minute(31)).does(), "");
    assert!(marked.decide(minute(32)).does().contains("delete pod gas-pod"));
}

#[test]
fn agent_is_retried_in_time_when_the_clock_was_ahead_for_a_while() {
    let failed =
        polecat("toast").hook("b1").attempt("b1", 1, minute(0)).ended(Outcome::Failed, minute(100_000));
    let settled = failed.settled(minute(30));
    let plan = settled.decide(minute(31));
    assert_ne!(plan.status, settled.0.agent.status, "the next attempt begins");
    assert!(plan.status.unwrap().work.unwrap().finish_time.is_none());
}

#[test]
fn small_clock_difference_causes_no_status_write() {
    let now = minute(10);
    let settled = running_town().settled(now);
    let skewed = settled.status(|s| {
        s.wake_time =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now + SignedDuration::from_secs(3)));
    });
    let plan = skewed.decide(now);
    assert_eq!(plan.status.unwrap().wake_time, skewed.0.town.status.as_ref().unwrap().wake_time.clone());
    assert_eq!(town().decide(now).phase(), "Starting");
}
