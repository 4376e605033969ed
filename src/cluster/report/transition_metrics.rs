//! Derives metrics from changes of status.
//!
//! Each value comes from the previous status and the status that was just written. Therefore a restart of the
//! operator counts no change twice.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;

use crate::api::condition::{self, reason};
use crate::api::{Agent, AgentStatus, Mode, Town, TownPhase, TownStatus};
use crate::cluster::cache::children::bound_agents;
use crate::cluster::context::Cluster;
use crate::cluster::kinds::known::Known;
use crate::lifecycle::{ObjectKey, OwnerRef, Uid, mode};
use crate::telemetry::Metrics;

/// The phase of a start. It is the same for both kinds.
const STARTING: &str = TownPhase::Starting.as_str();

/// Records a change of the status of a town.
pub(crate) fn town(cluster: &Cluster, town: &Town, uid: &Uid, status: &TownStatus, now: Timestamp) {
    starts(&cluster.metrics, Town::NAME, of_town(town.status.as_ref()), of_town(Some(status)));
    if let Some(usage) = &status.usage {
        cluster.runs.counted(uid, usage.count_time.0);
    }
    let owner = OwnerRef { key: ObjectKey::of(&town.metadata), uid: uid.clone() };
    sleep(&cluster.metrics, town, &bound_agents(&cluster.caches, &cluster.install, &owner), status, now);
}

/// Records a change of the status of an agent.
pub(crate) fn agent(cluster: &Cluster, agent: &Agent, _: &Uid, status: &AgentStatus, _: Timestamp) {
    starts(&cluster.metrics, Agent::NAME, of_agent(agent.status.as_ref()), of_agent(Some(status)));
}

fn of_town(status: Option<&TownStatus>) -> State<'_> {
    (status.and_then(|s| s.phase.as_deref()), status.map_or(&[], |s| &s.conditions))
}

fn of_agent(status: Option<&AgentStatus>) -> State<'_> {
    (status.and_then(|s| s.phase.as_deref()), status.map_or(&[], |s| &s.conditions))
}

/// Records the end of a destruction.
pub(crate) fn destroyed<K: Resource<DynamicType = ()>>(metrics: &Metrics, object: &K, now: Timestamp) {
    let since = object.meta().deletion_timestamp.as_ref().map_or(now, |at| at.0);
    metrics.destroyed(&K::kind(&()), between(since, now));
}

/// The phase and the conditions of a status.
type State<'a> = (Option<&'a str>, &'a [Condition]);

/// Records delayed starts and failed starts.
fn starts(metrics: &Metrics, kind: &str, before: State<'_>, after: State<'_>) {
    let backs_off = |(_, conditions): State<'_>| {
        find(conditions, condition::READY).is_some_and(|ready| ready.reason == reason::BACK_OFF)
    };
    if backs_off(after) {
        if !backs_off(before) {
            metrics.backed_off(kind);
        }
        return;
    }
    let starting = before.0.is_none_or(|phase| phase == STARTING) && after.0 == Some(STARTING);
    if starting
        && let Some(degraded) = holds(after.1, condition::DEGRADED)
        && holds(before.1, condition::DEGRADED).is_none_or(|old| old.reason != degraded.reason)
    {
        metrics.start_failed(kind, &degraded.reason);
    }
}

/// Records that a town falls asleep, wakes up, or is Ready after it woke up.
fn sleep(metrics: &Metrics, town: &Town, agents: &[Arc<Agent>], status: &TownStatus, now: Timestamp) {
    let before = town.status.clone().unwrap_or_default();
    let slept = holds(&before.conditions, condition::ASLEEP);
    match (slept, holds(&status.conditions, condition::ASLEEP)) {
        (None, Some(asleep)) => metrics.slept(&asleep.reason),
        (Some(slept), None) => {
            metrics.saved(pod_time(town, agents, slept.last_transition_time.0, now));
            // A town that is deleted in its sleep is not woken.
            if status.wake_time != before.wake_time {
                metrics.woke();
            }
        }
        (None, None) => {
            if let Some(woke) = ready_at_last(&before, status) {
                metrics.ready_after_wake(between(woke, now));
            }
        }
        (Some(_), Some(_)) => {}
    }
}

/// The time at which the town was woken, if it is Ready now for the first time since then.
fn ready_at_last(before: &TownStatus, after: &TownStatus) -> Option<Timestamp> {
    let was = find(&before.conditions, condition::READY).filter(|ready| ready.status != "True")?;
    holds(&after.conditions, condition::READY)?;
    let asleep = find(&before.conditions, condition::ASLEEP)?;
    let woke = after.wake_time.as_ref()?;
    let since_then = was.last_transition_time == *woke && asleep.last_transition_time == *woke;
    since_then.then_some(woke.0)
}

/// The time that the pods of a sleeping town would have run: its own pod, and one pod for each Session agent.
fn pod_time(town: &Town, agents: &[Arc<Agent>], asleep_since: Timestamp, now: Timestamp) -> Duration {
    let own = town.spec.template.iter().map(|_| asleep_since);
    let sessions = agents.iter().filter(|agent| mode(agent) == Mode::Session).map(|agent| {
        let created = agent.metadata.creation_timestamp.as_ref().map_or(asleep_since, |at| at.0);
        created.max(asleep_since)
    });
    own.chain(sessions).map(|since| between(since, now)).sum()
}

/// The time from one moment to a later one; zero if the clocks disagree.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// The condition, if it is True.
fn holds<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    find(conditions, type_).filter(|condition| condition.status == "True")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::api::Role;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    /// A condition with its status, its reason, and the second since which it has that status.
    fn shown(type_: &str, status: bool, reason: &str, since: i64) -> Condition {
        Condition {
            type_: type_.into(),
            status: if status { "True" } else { "False" }.into(),
            reason: reason.into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: at(since),
        }
    }

    fn status(phase: &str, conditions: &[Condition]) -> TownStatus {
        TownStatus { phase: Some(phase.into()), conditions: conditions.to_vec(), ..TownStatus::default() }
    }

    fn woken(at_second: i64, status: TownStatus) -> TownStatus {
        TownStatus { wake_time: Some(at(at_second)), ..status }
    }

    fn a_town(before: Option<TownStatus>) -> Town {
        let spec = json!({"template": {"spec": {"containers": []}}});
        let mut town = Town::new("t", serde_json::from_value(spec).unwrap());
        town.status = before;
        town
    }

    fn an_agent(role: Role, created: i64) -> Arc<Agent> {
        let mut agent =
            Agent::new("a", serde_json::from_value(json!({"townName": "t", "role": role})).unwrap());
        agent.metadata.creation_timestamp = Some(at(created));
        Arc::new(agent)
    }

    /// The series that a status change of a town adds at this second, without those that are 0.
    fn added(before: Option<TownStatus>, after: &TownStatus, now: i64) -> Vec<String> {
        let metrics = Metrics::default();
        let town = a_town(before);
        starts(&metrics, Town::NAME, of_town(town.status.as_ref()), of_town(Some(after)));
        sleep(&metrics, &town, &[], after, at(now).0);
        let text = metrics.encode().unwrap();
        let counted = text.lines().filter(|line| !line.contains("_bucket{") && !line.contains("build_info"));
        let mut counted: Vec<String> = counted
            .filter_map(|line| line.strip_prefix("town_operator_"))
            .filter(|line| !line.ends_with(" 0") && !line.ends_with(" 0.0"))
            .map(ToOwned::to_owned)
            .collect();
        counted.sort();
        counted
    }

    fn asleep(since: i64, why: &str) -> TownStatus {
        status(
            "Asleep",
            &[
                shown(condition::READY, true, reason::ASLEEP, since),
                shown(condition::ASLEEP, true, why, since),
            ],
        )
    }

    /// The status of a town that woke up at the first second and has not been Ready since the second one.
    fn starting(awake_since: i64, unready_since: i64) -> TownStatus {
        status(
            STARTING,
            &[
                shown(condition::READY, false, reason::STARTING, unready_since),
                shown(condition::ASLEEP, false, reason::AWAKE, awake_since),
            ],
        )
    }

    fn ready(awake_since: i64, ready_since: i64) -> TownStatus {
        status(
            "Idle",
            &[
                shown(condition::READY, true, reason::RUNNING, ready_since),
                shown(condition::ASLEEP, false, reason::AWAKE, awake_since),
            ],
        )
    }

    #[test]
    fn sleep_is_counted_once_with_its_reason() {
        for why in [reason::IDLE, reason::SUSPENDED] {
            let draining = status("Draining", &[shown(condition::ASLEEP, false, reason::AWAKE, 10)]);
            let counted = format!("sleeps_total{{reason=\"{why}\"}} 1");
            assert_eq!(added(Some(draining), &asleep(100, why), 100), [counted]);
        }
        assert_eq!(
            added(Some(asleep(100, reason::IDLE)), &asleep(100, reason::SUSPENDED), 200),
            [""; 0],
            "it sleeps on for another reason"
        );
    }

    #[test]
    fn wake_is_counted_together_with_the_saved_pod_time() {
        let woken = woken(160, starting(160, 160));
        assert_eq!(
            added(Some(asleep(100, reason::IDLE)), &woken, 160),
            ["saved_pod_seconds_total 60.0", "wakes_total 1"]
        );
    }

    #[test]
    fn sleeping_town_counts_saved_time_but_no_wake_when_it_is_deleted() {
        let destroying = status("Destroying", &[shown(condition::ASLEEP, false, reason::AWAKE, 160)]);
        assert_eq!(
            added(Some(asleep(100, reason::IDLE)), &destroying, 160),
            ["saved_pod_seconds_total 60.0"]
        );
    }

    #[test]
    fn saved_time_counts_the_pods_of_the_town_and_of_its_session_agents() {
        let agents = [
            an_agent(Role::Mayor, 10),
            // The agent was created after the town had slept for 40 of the 60 seconds.
            an_agent(Role::Crew, 140),
            // The agent has a pod only while it works.
            an_agent(Role::Polecat, 10),
        ];
        let time = |town: &Town, now| pod_time(town, &agents, at(100).0, at(now).0).as_secs();
        assert_eq!(time(&a_town(None), 160), 60 + 60 + 20);
        assert_eq!(time(&a_town(None), 90), 0, "a clock that went back saves nothing");
        let mut without = a_town(None);
        without.spec.template = None;
        assert_eq!(time(&without, 160), 60 + 20);
    }

    #[test]
    fn wake_latency_is_measured_from_the_wake_to_ready() {
        let before = woken(100, starting(100, 100));
        let after = woken(100, ready(100, 112));
        assert_eq!(
            added(Some(before.clone()), &after, 112),
            ["wake_latency_seconds_count 1", "wake_latency_seconds_sum 12.0"]
        );
        assert_eq!(added(Some(before.clone()), &before, 105), [""; 0], "not there yet");
        assert_eq!(added(Some(after.clone()), &after, 200), [""; 0], "there already");
    }

    #[test]
    fn only_wakes_record_wake_latency() {
        let cases = [
            ("a first start", starting(100, 100)),
            ("a pod that crashed later", woken(100, starting(100, 130))),
            ("a town that turned back while it drained", woken(130, starting(100, 130))),
            ("a town without a pod, which was Ready all the time", woken(100, ready(100, 100))),
            ("a request while it started", woken(130, starting(100, 100))),
        ];
        for (what, before) in cases {
            let after = TownStatus { wake_time: before.wake_time.clone(), ..ready(100, 140) };
            assert_eq!(added(Some(before), &after, 140), [""; 0], "{what}");
        }
    }

    #[test]
    fn back_off_is_counted_once_when_it_begins() {
        let waits = status(
            STARTING,
            &[
                shown(condition::READY, false, reason::BACK_OFF, 1),
                shown(condition::DEGRADED, true, reason::CONTAINER_FAILED, 1),
            ],
        );
        let counted = [r#"back_offs_total{kind="Town"} 1"#];
        assert_eq!(added(None, &waits, 1), counted);
        assert_eq!(added(Some(ready(1, 1)), &waits, 1), counted);
        assert_eq!(added(Some(starting(1, 1)), &waits, 1), counted, "and is no failed start besides");
        assert_eq!(added(Some(waits.clone()), &waits, 2), [""; 0]);
    }

    #[test]
    fn failed_start_is_counted_once_for_each_reason() {
        let degraded = |phase, why| {
            status(phase, &[shown(condition::READY, false, why, 1), shown(condition::DEGRADED, true, why, 1)])
        };
        for why in [
            reason::IMAGE_PULL,
            reason::UNSCHEDULABLE,
            reason::CONTAINER_FAILED,
            reason::CLAIM_UNUSABLE,
            reason::QUOTA_EXCEEDED,
            reason::REQUEST_REFUSED,
            reason::API_ERROR,
        ] {
            let failed = degraded(STARTING, why);
            let counted = [format!("failed_starts_total{{kind=\"Town\",reason=\"{why}\"}} 1")];
            assert_eq!(added(None, &failed, 1), counted);
            assert_eq!(added(Some(starting(1, 1)), &failed, 1), counted);
            assert_eq!(added(Some(degraded(STARTING, "Another")), &failed, 1), counted);
            assert_eq!(added(Some(failed.clone()), &failed, 2), [""; 0]);
            assert_eq!(added(Some(ready(1, 1)), &failed, 2), [""; 0], "it had started");
            assert_eq!(added(Some(starting(1, 1)), &degraded("Failed", why), 2), [""; 0]);
        }
    }

    #[test]
    fn agent_back_off_is_counted_with_the_kind_agent() {
        let metrics = Metrics::default();
        let agent = an_agent(Role::Mayor, 1);
        let conditions = vec![shown(condition::READY, false, reason::BACK_OFF, 1)];
        let after = AgentStatus { conditions, ..AgentStatus::default() };
        starts(&metrics, Agent::NAME, of_agent(agent.status.as_ref()), of_agent(Some(&after)));
        assert_eq!(metrics.value(r#"back_offs_total{kind="Agent"}"#), Some(1.0));
    }

    #[test]
    fn destroy_duration_is_measured_from_the_deletion_timestamp() {
        let metrics = Metrics::default();
        let mut town = a_town(None);
        town.metadata.deletion_timestamp = Some(at(100));
        destroyed(&metrics, &town, at(130).0);
        assert_eq!(metrics.value(r#"destroyed_total{kind="Town"}"#), Some(1.0));
        assert_eq!(metrics.value(r#"destroy_duration_seconds_sum{kind="Town"}"#), Some(30.0));
    }
}
