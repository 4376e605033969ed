//! From what the API server stores to the facts that decisions need; nothing else is kept in memory.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStatus, PersistentVolumeClaim, Pod, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::condition::reason;
use crate::api::{Hook, names};
use crate::lifecycle::{ClaimFacts, ObjectKey, PodFacts, PodPhase, Termination, Uid, label};

/// The facts of a pod; `None` for one that was never stored.
pub fn pod_facts(pod: &Pod) -> Option<PodFacts> {
    let meta = &pod.metadata;
    let empty = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&empty);
    let phase = match status.phase.as_deref() {
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some("Unknown") => PodPhase::Unknown,
        _ => PodPhase::Pending,
    };
    Some(PodFacts {
        key: ObjectKey::of(meta),
        uid: Uid::of(meta)?,
        town_uid: label(meta, names::TOWN_UID).map(Uid::new),
        agent_uid: label(meta, names::AGENT_UID).map(Uid::new),
        install: label(meta, names::INSTALL).map(str::to_owned),
        phase,
        ready: condition_is(status, "Ready", "True"),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        created: meta.creation_timestamp.as_ref().map(|t| t.0),
        started: status.start_time.as_ref().map(|t| t.0),
        stop_requested: stop_requested(meta),
        released_by_kubelet: meta.deletion_timestamp.is_some()
            && meta.deletion_grace_period_seconds == Some(0),
        stops_by: meta.deletion_timestamp.as_ref().map(|t| t.0),
        address: None,
        not_ready_since: None,
        container_restarts: 0,
        revision: None,
        restart_at: None,
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        hook: meta
            .annotations
            .as_ref()
            .and_then(|a| a.get(names::HOOK))
            .and_then(|text| serde_json::from_str::<Hook>(text).ok()),
        termination: termination(status, phase),
        disrupted: condition_is(status, "DisruptionTarget", "True")
            || matches!(
                status.reason.as_deref(),
                Some("Evicted" | "Preempting" | "NodeLost" | "NodeShutdown")
            ),
        trouble: trouble(status),
        trouble_since: unschedulable(status).and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0),
    })
}

/// The facts of a volume claim; `None` for one that was never stored.
pub fn claim_facts(claim: &PersistentVolumeClaim) -> Option<ClaimFacts> {
    let meta = &claim.metadata;
    Some(ClaimFacts {
        key: ObjectKey::of(meta),
        uid: Uid::of(meta)?,
        town_uid: label(meta, names::TOWN_UID).map(Uid::new),
        agent_uid: label(meta, names::AGENT_UID).map(Uid::new),
        install: label(meta, names::INSTALL).map(str::to_owned),
        deleting: meta.deletion_timestamp.is_some(),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        lost: false,
        requested: None,
    })
}

fn condition_is(status: &PodStatus, type_: &str, value: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == type_ && c.status == value)
}

/// The deletionTimestamp is when the grace period ends; it was asked to stop that much earlier.
fn stop_requested(meta: &ObjectMeta) -> Option<Timestamp> {
    let end = meta.deletion_timestamp.as_ref()?.0;
    let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds.unwrap_or(0));
    Some(end.checked_sub(grace).unwrap_or(end))
}

/// How the containers ended, once the pod has.
fn termination(status: &PodStatus, phase: PodPhase) -> Option<Termination> {
    if !matches!(phase, PodPhase::Succeeded | PodPhase::Failed) {
        return None;
    }
    let ended: Vec<_> = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|c| c.state.as_ref()?.terminated.as_ref())
        .collect();
    let telling = ended.iter().find(|t| t.exit_code != 0).or(ended.first());
    let message = telling
        .and_then(|t| t.message.clone().filter(|m| !m.is_empty()).or_else(|| t.reason.clone()))
        .or_else(|| status.message.clone())
        .unwrap_or_default();
    Some(Termination {
        exit_code: telling.map_or_else(|| i32::from(phase == PodPhase::Failed), |t| t.exit_code),
        at: ended.iter().filter_map(|t| t.finished_at.as_ref().map(|t| t.0)).max(),
        message: message.trim().to_owned(),
    })
}

/// The scheduler's word that no node takes the pod.
fn unschedulable(status: &PodStatus) -> Option<&PodCondition> {
    status.conditions.iter().flatten().find(|c| {
        c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable")
    })
}

/// What keeps the pod from running, in the words of the scheduler or the kubelet.
fn trouble(status: &PodStatus) -> Option<(&'static str, String)> {
    let unscheduled =
        unschedulable(status).map(|c| (reason::UNSCHEDULABLE, c.message.clone().unwrap_or_default()));
    let mut containers =
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    unscheduled.or_else(|| containers.find_map(container_trouble)).or_else(|| {
        (status.reason.as_deref() == Some("Evicted")).then(|| {
            (reason::CONTAINER_FAILED, format!("evicted: {}", status.message.clone().unwrap_or_default()))
        })
    })
}

fn container_trouble(container: &ContainerStatus) -> Option<(&'static str, String)> {
    let waiting = container.state.as_ref().and_then(|s: &ContainerState| s.waiting.as_ref())?;
    let why = waiting.reason.as_deref()?;
    let name = &container.name;
    let message = waiting.message.clone().unwrap_or_default();
    match why {
        "ContainerCreating" | "PodInitializing" => None,
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            // The two alternate while the kubelet waits, one quoting the other: one text for both keeps the
            // status still.
            let said = message.rsplit_once("ErrImagePull: ").map_or(message.as_str(), |(_, said)| said);
            Some((
                reason::IMAGE_PULL,
                format!("container {name}: image {} cannot be pulled: {said}", container.image),
            ))
        }
        "CrashLoopBackOff" => {
            let last = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
            let text = last.map_or_else(String::new, |t| {
                format!(", last exit code {} ({})", t.exit_code, t.reason.as_deref().unwrap_or("no reason"))
            });
            Some((reason::CONTAINER_FAILED, format!("container {name} keeps ending{text}")))
        }
        other => Some((reason::CONTAINER_FAILED, format!("container {name}: {other}: {message}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A pod as the API server stores it, of the town with UID t and the agent with UID a.
    fn facts(metadata: &Value, status: Value) -> PodFacts {
        let mut pod = json!({
            "metadata": {
                "name": "toast-1",
                "namespace": "ns",
                "uid": "p",
                "creationTimestamp": "2030-01-01T00:00:00Z",
                "labels": {names::TOWN_UID: "t", names::AGENT_UID: "a", names::INSTALL: "here"},
                "annotations": {names::HOOK: r#"{"bead":"b1","title":"one"}"#},
                "finalizers": [names::RESULT_FINALIZER],
            },
            "spec": {"containers": [], "nodeName": "node-1"},
        });
        for (key, value) in metadata.as_object().unwrap() {
            pod["metadata"][key] = value.clone();
        }
        pod["status"] = status;
        pod_facts(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    fn with_status(status: Value) -> PodFacts {
        facts(&json!({}), status)
    }

    /// The status of a container that ended.
    fn terminated(name: &str, exit_code: i32, at: &str) -> Value {
        let reason = if exit_code == 0 { "Completed" } else { "Error" };
        let state =
            json!({"exitCode": exit_code, "reason": reason, "finishedAt": format!("2030-01-01T{at}Z")});
        json!({"name": name, "image": "busybox", "imageID": "", "ready": false, "restartCount": 0,
               "state": {"terminated": state}})
    }

    /// The status of a container that waits.
    fn waiting(reason: &str, message: &str) -> Value {
        json!({"name": "main", "image": "registry/main:1", "imageID": "", "ready": false, "restartCount": 0,
               "state": {"waiting": {"reason": reason, "message": message}}})
    }

    fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": message,
               "lastTransitionTime": "2030-01-01T00:00:30Z"})
    }

    fn time(at: &str) -> Timestamp {
        format!("2030-01-01T{at}Z").parse().unwrap()
    }

    #[test]
    fn who_a_pod_is_and_whose() {
        let pod = with_status(json!({"phase": "Running", "startTime": "2030-01-01T00:00:05Z"}));
        assert_eq!((pod.key.to_string().as_str(), pod.uid.as_str()), ("ns/toast-1", "p"));
        assert_eq!((pod.town_uid, pod.agent_uid), (Some(Uid::new("t")), Some(Uid::new("a"))));
        assert_eq!((pod.install.as_deref(), pod.node.as_deref()), (Some("here"), Some("node-1")));
        assert_eq!((pod.created, pod.started), (Some(time("00:00:00")), Some(time("00:00:05"))));
        assert_eq!(pod.finalizers, [names::RESULT_FINALIZER]);
        assert_eq!(pod.hook.map(|h| (h.bead, h.title)), Some(("b1".into(), Some("one".into()))));
    }

    #[test]
    fn a_pod_that_was_just_created_is_nothing_but_pending() {
        let bare = json!({"metadata": {"name": "x", "uid": "p"}});
        let pod = pod_facts(&serde_json::from_value(bare).unwrap()).unwrap();
        assert_eq!(
            (pod.phase, pod.ready, pod.started, pod.trouble.clone()),
            (PodPhase::Pending, false, None, None)
        );
        assert!(!pod.deleting() && !pod.ended() && !pod.done());
        assert_eq!(pod_facts(&Pod::default()), None, "one that was never stored is no pod");
    }

    #[test]
    fn a_hook_that_cannot_be_read_is_none() {
        let odd = facts(&json!({"annotations": {names::HOOK: "{"}}), json!({}));
        assert_eq!(odd.hook, None);
    }

    #[test]
    fn phases_and_readiness() {
        for (text, phase, ended) in [
            ("Pending", PodPhase::Pending, false),
            ("Running", PodPhase::Running, false),
            ("Succeeded", PodPhase::Succeeded, true),
            ("Failed", PodPhase::Failed, true),
            ("Unknown", PodPhase::Unknown, false),
            ("", PodPhase::Pending, false),
        ] {
            let pod = with_status(json!({"phase": text}));
            assert_eq!((pod.phase, pod.ended()), (phase, ended), "{text}");
        }
        let ready = |status: &str| {
            with_status(json!({"phase": "Running", "conditions": [condition("Ready", status, "", "")]})).ready
        };
        assert!(ready("True") && !ready("False") && !ready("Unknown"));
    }

    #[test]
    fn told_to_stop_is_when_the_grace_period_began() {
        let deleted = |grace: Value| {
            let meta =
                json!({"deletionTimestamp": "2030-01-01T00:01:30Z", "deletionGracePeriodSeconds": grace});
            facts(&meta, json!({"phase": "Running"}))
        };
        let pod = deleted(json!(30));
        assert_eq!((pod.stop_requested, pod.ended()), (Some(time("00:01:00")), false));
        let pod = deleted(json!(0));
        assert_eq!(
            (pod.stop_requested, pod.ended()),
            (Some(time("00:01:30")), true),
            "nothing of it is left to stop"
        );
        let pod = deleted(Value::Null);
        assert_eq!((pod.stop_requested, pod.ended()), (Some(time("00:01:30")), false));
        assert!(!with_status(json!({"phase": "Running"})).deleting());
    }

    #[test]
    fn done_is_exit_0_before_it_was_told_to_stop() {
        let told_at_a_minute =
            json!({"deletionTimestamp": "2030-01-01T00:01:30Z", "deletionGracePeriodSeconds": 30});
        let ended = |meta: &Value, phase: &str, statuses: Vec<Value>| {
            facts(meta, json!({"phase": phase, "containerStatuses": statuses})).done()
        };
        let zero = |at: &str| terminated("main", 0, at);
        for (case, done, is) in [
            ("by itself", ended(&json!({}), "Succeeded", vec![zero("00:00:50")]), true),
            ("before it was told", ended(&told_at_a_minute, "Succeeded", vec![zero("00:00:59")]), true),
            ("in the same second", ended(&told_at_a_minute, "Succeeded", vec![zero("00:01:00")]), false),
            ("after it was told", ended(&told_at_a_minute, "Succeeded", vec![zero("00:01:10")]), false),
            ("nobody knows when", ended(&told_at_a_minute, "Succeeded", vec![]), false),
            ("with an error", ended(&json!({}), "Failed", vec![terminated("main", 1, "00:00:50")]), false),
            ("not at all", ended(&json!({}), "Running", vec![zero("00:00:50")]), false),
        ] {
            assert_eq!(done, is, "{case}");
        }
        let two = vec![zero("00:00:10"), terminated("side", 0, "00:01:05")];
        assert!(!ended(&told_at_a_minute, "Succeeded", two), "the last container counts");
    }

    #[test]
    fn how_the_containers_ended() {
        let end = |phase: &str, statuses: Value| {
            with_status(json!({"phase": phase, "containerStatuses": statuses})).termination
        };
        let plain = end("Succeeded", json!([terminated("main", 0, "00:00:10")])).unwrap();
        assert_eq!(
            (plain.exit_code, plain.at, plain.message.as_str()),
            (0, Some(time("00:00:10")), "Completed")
        );
        let two =
            end("Failed", json!([terminated("a", 0, "00:00:20"), terminated("b", 3, "00:00:10")])).unwrap();
        assert_eq!((two.exit_code, two.at, two.message.as_str()), (3, Some(time("00:00:20")), "Error"));
        let mut telling = terminated("main", 2, "00:00:10");
        telling["state"]["terminated"]["message"] = json!(" out of memory\n");
        assert_eq!(end("Failed", json!([telling])).unwrap().message, "out of memory");
        assert_eq!(end("Failed", json!([])).unwrap().exit_code, 1, "failed before a container could say so");
        assert_eq!(end("Running", json!([terminated("a", 1, "00:00:10")])), None, "others still run");
    }

    #[test]
    fn who_was_thrown_out_did_not_fail_by_itself() {
        for reason in ["Evicted", "Preempting", "NodeLost", "NodeShutdown"] {
            assert!(with_status(json!({"phase": "Failed", "reason": reason})).disrupted, "{reason}");
        }
        let drained = condition("DisruptionTarget", "True", "EvictionByEvictionAPI", "");
        assert!(with_status(json!({"phase": "Failed", "conditions": [drained]})).disrupted);
        let spared = condition("DisruptionTarget", "False", "", "");
        assert!(!with_status(json!({"phase": "Failed", "conditions": [spared]})).disrupted);
        assert!(!with_status(json!({"phase": "Failed", "reason": "DeadlineExceeded"})).disrupted);
        let evicted = with_status(
            json!({"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}),
        );
        let (_, text) = evicted.trouble.unwrap();
        assert!(text.contains("low on memory"), "{text}");
        assert_eq!(evicted.termination.unwrap().message, "the node was low on memory");
    }

    #[test]
    fn a_pod_that_no_node_takes() {
        let unscheduled = condition("PodScheduled", "False", "Unschedulable", "0/1 nodes are available");
        let pod = with_status(json!({"phase": "Pending", "conditions": [unscheduled]}));
        assert_eq!(pod.trouble, Some((reason::UNSCHEDULABLE, "0/1 nodes are available".into())));
        assert_eq!(pod.trouble_since, Some(time("00:00:30")));
        for (status, why) in [("True", "Unschedulable"), ("False", "SchedulingGated")] {
            let other = condition("PodScheduled", status, why, "");
            assert_eq!(
                with_status(json!({"phase": "Pending", "conditions": [other]})).trouble,
                None,
                "{status} {why}"
            );
        }
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_one_trouble_whatever_the_kubelet_is_at() {
        let trouble = |why: &str, message: &str| {
            with_status(json!({"phase": "Pending", "containerStatuses": [waiting(why, message)]}))
                .trouble
                .unwrap()
        };
        let pulling = trouble("ErrImagePull", "no such host");
        let waits = trouble(
            "ImagePullBackOff",
            "Back-off pulling image \"registry/main:1\": ErrImagePull: no such host",
        );
        assert_eq!(pulling, waits, "the two alternate: status would never rest");
        assert_eq!(pulling.0, reason::IMAGE_PULL);
        for word in ["main", "registry/main:1", "no such host"] {
            assert!(pulling.1.contains(word), "{}", pulling.1);
        }
        for why in ["InvalidImageName", "ErrImageNeverPull"] {
            assert_eq!(trouble(why, "").0, reason::IMAGE_PULL, "{why}");
        }
    }

    #[test]
    fn a_container_that_keeps_ending_or_cannot_be_made() {
        let mut crashing = waiting("CrashLoopBackOff", "back-off 10s restarting failed container");
        crashing["lastState"] = terminated("main", 137, "00:00:10")["state"].clone();
        let statuses = |status: Value| json!({"phase": "Running", "containerStatuses": [status]});
        let (why, text) = with_status(statuses(crashing)).trouble.unwrap();
        assert_eq!(why, reason::CONTAINER_FAILED);
        assert!(text.contains("137") && !text.contains("10s"), "{text}: the wait grows, the text must not");
        let unmade = waiting("CreateContainerConfigError", "secret \"x\" not found");
        let (why, text) = with_status(statuses(unmade)).trouble.unwrap();
        assert_eq!(why, reason::CONTAINER_FAILED);
        assert!(text.contains("secret \"x\" not found"), "{text}");
        for fine in ["ContainerCreating", "PodInitializing"] {
            assert_eq!(with_status(statuses(waiting(fine, ""))).trouble, None, "{fine}");
        }
        let init = json!({"phase": "Pending", "initContainerStatuses": [waiting("ErrImagePull", "gone")]});
        assert_eq!(with_status(init).trouble.unwrap().0, reason::IMAGE_PULL, "init containers too");
    }

    #[test]
    fn who_a_claim_is_and_whose() {
        let claim = |meta: Value| {
            let mut all = json!({"name": "gas-1", "namespace": "ns", "uid": "c", "finalizers": ["kubernetes.io/pvc-protection"],
                "labels": {names::TOWN_UID: "t", names::INSTALL: "here"}});
            for (key, value) in meta.as_object().unwrap() {
                all[key] = value.clone();
            }
            claim_facts(&serde_json::from_value(json!({"metadata": all})).unwrap()).unwrap()
        };
        let there = claim(json!({}));
        assert_eq!((there.key.name.as_str(), there.uid.as_str(), there.deleting), ("gas-1", "c", false));
        assert_eq!((there.town_uid, there.agent_uid), (Some(Uid::new("t")), None));
        assert_eq!((there.install.as_deref(), there.finalizers.len()), (Some("here"), 1));
        assert!(claim(json!({"deletionTimestamp": "2030-01-01T00:00:00Z"})).deleting);
        assert_eq!(claim_facts(&PersistentVolumeClaim::default()), None);
    }
}
