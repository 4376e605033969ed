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
