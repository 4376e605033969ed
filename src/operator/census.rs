//! Counts the towns and agents in the watches.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};

use crate::api::{Agent, AgentPhase, Town, TownPhase, condition, names};
use crate::lifecycle::{PodFacts, TombstoneFacts, Uid, label};
use crate::telemetry::Metrics;

/// Counts the objects of this installation, and those without an installation.
pub(super) fn take(metrics: &Metrics, install: &str, mut towns: Vec<Arc<Town>>, mut agents: Vec<Arc<Agent>>) {
    towns.retain(|town| ours(&town.metadata, install));
    agents.retain(|agent| ours(&agent.metadata, install));
    metrics.count_towns(towns.iter().map(|town| {
        let phase = town.status.as_ref().and_then(|status| status.phase.as_deref());
        phase.unwrap_or(TownPhase::Pending.as_str())
    }));
    metrics.count_agents(agents.iter().map(|agent| {
        let phase = agent.status.as_ref().and_then(|status| status.phase.as_deref());
        [phase.unwrap_or(AgentPhase::Pending.as_str()), agent.spec.role.as_str()]
    }));
    let blocked_towns = towns.iter().filter(|t| t.status.as_ref().is_some_and(|s| blocked(&s.conditions)));
    let blocked_agents = agents.iter().filter(|a| a.status.as_ref().is_some_and(|s| blocked(&s.conditions)));
    metrics.count_deletions_blocked(blocked_towns.map(|_| "Town").chain(blocked_agents.map(|_| "Agent")));
    let unreadable_towns = towns.iter().filter(|town| town.spec.unreadable.is_some());
    let unreadable_agents = agents.iter().filter(|agent| agent.spec.unreadable.is_some());
    metrics.count_unreadable(unreadable_towns.map(|_| "Town").chain(unreadable_agents.map(|_| "Agent")));
}

/// Counts the records of destructions. The watch contains only those of this installation.
pub(super) fn take_tombstones(metrics: &Metrics, tombstones: &[Arc<TombstoneFacts>]) {
    metrics.count_tombstones(tombstones.iter().map(|tombstone| tombstone.phase.as_str()));
}

/// Counts the pods whose town and agent are both gone, or have another UID.
pub(super) fn take_pods(
    metrics: &Metrics,
    install: &str,
    pods: &[Arc<PodFacts>],
    towns: &[Arc<Town>],
    agents: &[Arc<Agent>],
) {
    let towns: HashSet<_> = towns.iter().filter_map(|town| Uid::of(&town.metadata)).collect();
    let agents: HashSet<_> = agents.iter().filter_map(|agent| Uid::of(&agent.metadata)).collect();
    let ours = pods.iter().filter(|pod| pod.install.as_deref() == Some(install));
    metrics.count_pods_without_owner(ours.filter_map(|pod| match &pod.agent_uid {
        Some(agent) => (!agents.contains(agent)).then_some("Agent"),
        None => pod.town_uid.as_ref().is_some_and(|town| !towns.contains(town)).then_some("Town"),
    }));
}

fn ours(meta: &ObjectMeta, install: &str) -> bool {
    label(meta, names::INSTALL).is_none_or(|other| other == install)
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
            "spec": {"townName": "t", "role": "Polecat", "rig": "r"}, "status": status,
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn census_counts_all_objects_except_those_of_other_installations() {
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
            (r#"agents{phase="Done",role="Polecat"}"#, 1.0),
            (r#"deletions_blocked{kind="Agent"}"#, 1.0),
            (r#"deletions_blocked{kind="Town"}"#, 0.0),
        ] {
            assert_eq!(metrics.value(series), Some(count), "{series}");
        }
    }

    // O2, P4.
    #[test]
    fn pod_is_counted_when_its_owner_does_not_exist() {
        let pod = |town: &str, agent: Option<&str>, install: &str| {
            let labels = json!({names::TOWN_UID: town, names::AGENT_UID: agent, names::INSTALL: install});
            let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p", "labels": labels}, "spec": {"containers": []}});
            let mut pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(strip_nulls(pod)).unwrap();
            pod.metadata.resource_version = Some("1".into());
            Arc::new(crate::cluster::Followed::kept(pod).unwrap())
        };
        let with_uid = |mut town: Arc<Town>| {
            Arc::make_mut(&mut town).metadata.uid = Some("t".into());
            town
        };
        let metrics = Metrics::default();
        let pods = [
            pod("t", None, "ours"),
            pod("gone", None, "ours"),
            pod("t", Some("gone"), "ours"),
            pod("gone", Some("gone"), "theirs"),
        ];
        take_pods(&metrics, "ours", &pods, &[with_uid(town(Some("Idle"), Some("ours")))], &[]);
        assert_eq!(metrics.value(r#"pods_without_owner{kind="Town"}"#), Some(1.0));
        assert_eq!(metrics.value(r#"pods_without_owner{kind="Agent"}"#), Some(1.0));
    }

    fn strip_nulls(mut pod: Value) -> Value {
        let labels = pod["metadata"]["labels"].as_object_mut().unwrap();
        labels.retain(|_, value| !value.is_null());
        pod
    }

    /// The possible values of a metric label, without `Other`.
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
    fn metric_labels_match_the_phases_and_roles_of_the_api() {
        let phases = [("Town", "towns", TownPhase::WORDS), ("Agent", "agents", AgentPhase::WORDS)];
        for (kind, metric, phases) in phases {
            assert_eq!(
                words(metric, "phase"),
                phases.iter().map(|phase| (*phase).to_owned()).collect(),
                "{kind}"
            );
            let schema = schema(kind);
            let description = schema["status"]["properties"]["phase"]["description"].as_str().unwrap();
            for phase in phases {
                assert!(description.contains(&format!("{phase}: ")), "{kind}: {phase}: {description}");
            }
        }
        let roles = &schema("Agent")["spec"]["properties"]["role"]["enum"];
        let roles = roles.as_array().unwrap().iter().map(|role| role.as_str().unwrap().to_owned());
        assert_eq!(words("agents", "role"), roles.collect());
    }
}
