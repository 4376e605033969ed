//! Counts the towns and agents that there are, as the watches have seen them.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

use crate::api::{Agent, Town, condition, names};
use crate::lifecycle::{TombstoneFacts, label};
use crate::telemetry::Metrics;

/// The phase of an object that has no status yet.
const NO_STATUS: &str = "Pending";

/// Counts what belongs to this installation, or to none yet.
pub(super) fn take(metrics: &Metrics, install: &str, mut towns: Vec<Arc<Town>>, mut agents: Vec<Arc<Agent>>) {
    towns.retain(|town| ours(&town.metadata, install));
    agents.retain(|agent| ours(&agent.metadata, install));
    metrics
        .count_towns(towns.iter().map(|town| phase(town.status.as_ref().and_then(|s| s.phase.as_deref()))));
    metrics.count_agents(agents.iter().map(|agent| {
        [phase(agent.status.as_ref().and_then(|s| s.phase.as_deref())), agent.spec.role.as_str()]
    }));
    let blocked_towns = towns.iter().filter(|t| t.status.as_ref().is_some_and(|s| blocked(&s.conditions)));
    let blocked_agents = agents.iter().filter(|a| a.status.as_ref().is_some_and(|s| blocked(&s.conditions)));
    metrics.count_deletions_blocked(blocked_towns.map(|_| "Town").chain(blocked_agents.map(|_| "Agent")));
}

/// Counts the records of destructions; the watch brings only ours.
pub(super) fn take_tombstones(metrics: &Metrics, tombstones: &[Arc<TombstoneFacts>]) {
    metrics.count_tombstones(tombstones.iter().map(|tombstone| tombstone.phase.as_str()));
}

fn ours(meta: &ObjectMeta, install: &str) -> bool {
    label(meta, names::INSTALL).is_none_or(|other| other == install)
}

fn phase(shown: Option<&str>) -> &str {
    shown.unwrap_or(NO_STATUS)
}

fn blocked(conditions: &[Condition]) -> bool {
    conditions.iter().any(|c| c.type_ == condition::DELETION_BLOCKED && c.status == "True")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::api;

    fn town(phase: Option<&str>, install: Option<&str>) -> Arc<Town> {
        let object = json!({
            "apiVersion": "gastown.dev/v1alpha1", "kind": "Town",
            "metadata": {"name": "t", "labels": install.map(|id| json!({names::INSTALL: id}))},
            "spec": {}, "status": phase.map(|phase| json!({"phase": phase})),
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn agent(status: &Value) -> Arc<Agent> {
        let object = json!({
            "apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "a"},
            "spec": {"town": "t", "role": "polecat", "rig": "r"}, "status": status,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn everything_is_counted_that_is_not_another_installations() {
        let metrics = Metrics::default();
        let towns = vec![
            town(Some("Idle"), Some("ours")),
            town(Some("Asleep"), Some("ours")),
            town(Some("Asleep"), Some("ours")),
            town(Some("Idle"), Some("theirs")),
            town(None, None),
        ];
        let blocked = json!([{
            "type": "DeletionBlocked", "status": "True", "reason": "Blocked", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]);
        let agents = vec![
            agent(&json!({"phase": "Destroying", "conditions": blocked})),
            agent(&json!({"phase": "Done"})),
        ];
        take(&metrics, "ours", towns, agents);
        for (series, count) in [
            (r#"towns{phase="Idle"}"#, 1.0),
            (r#"towns{phase="Asleep"}"#, 2.0),
            (r#"towns{phase="Pending"}"#, 1.0),
            (r#"towns{phase="Running"}"#, 0.0),
            (r#"agents{phase="Done",role="polecat"}"#, 1.0),
            (r#"deletions_blocked{kind="Agent"}"#, 1.0),
            (r#"deletions_blocked{kind="Town"}"#, 0.0),
        ] {
            assert_eq!(metrics.value(series), Some(count), "{series}");
        }
    }

    /// The words that a label of a metric may say, `Other` left out.
    fn words(metric: &str, label: &str) -> BTreeSet<String> {
        let metrics = Metrics::default();
        take(&metrics, "ours", Vec::new(), Vec::new());
        let text = metrics.encode().unwrap();
        let series = text.lines().filter(|line| line.starts_with(&format!("town_operator_{metric}{{")));
        let word = |line: &str| line.split(&format!("{label}=\"")).nth(1)?.split('"').next().map(Into::into);
        series.filter_map(word).filter(|word| word != "Other").collect()
    }

    /// The schema of a kind.
    fn schema(kind: &str) -> Value {
        let crd = api::crds().unwrap().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        serde_json::to_value(&crd.spec.versions[0].schema).unwrap()["openAPIV3Schema"]["properties"].take()
    }

    #[test]
    fn labels_say_the_words_of_the_api() {
        for (kind, metric) in [("Town", "towns"), ("Agent", "agents")] {
            let schema = schema(kind);
            let phase = &schema["status"]["properties"]["phase"]["description"];
            let list = phase.as_str().unwrap().split_once(": ").unwrap().1;
            let listed = list.split(|c: char| !c.is_alphabetic()).filter(|word| !matches!(*word, "" | "or"));
            assert_eq!(words(metric, "phase"), listed.map(ToOwned::to_owned).collect(), "{kind}");
        }
        let roles = &schema("Agent")["spec"]["properties"]["role"]["enum"];
        let roles = roles.as_array().unwrap().iter().map(|role| role.as_str().unwrap().to_owned());
        assert_eq!(words("agents", "role"), roles.collect());
    }
}
