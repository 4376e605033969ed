//! The facts of a pod. Only these facts stay in memory.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::pod_end::{Own, container_statuses, is_lost, last_crash, termination};
use super::pod_trouble::{trouble, unschedulable};
use super::token_secret_of;
use crate::api::{Hook, names};
use crate::lifecycle::{ChildKind, ObjectKey, PodClaim, PodFacts, PodPhase, Uid, annotation, label};

/// The begin of the message of the kubelet when it does not admit a pod (`pkg/kubelet/kubelet.go`, `rejectPod`).
const REJECTED: &str = "Pod was rejected";

/// The facts of a pod; `None`: the pod was never stored.
pub fn pod_facts(pod: &Pod) -> Option<PodFacts> {
    let meta = &pod.metadata;
    let (no_spec, no_status) = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&no_spec);
    let status = pod.status.as_ref().unwrap_or(&no_status);
    let phase = match status.phase.as_deref() {
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some("Unknown") => PodPhase::Unknown,
        _ => PodPhase::Pending,
    };
    let own = Own::of(meta);
    Some(PodFacts {
        key: ObjectKey::of(meta),
        uid: Uid::of(meta)?,
        town_uid: label(meta, names::TOWN_UID).map(Uid::new),
        agent_uid: label(meta, names::AGENT_UID).map(Uid::new),
        install: label(meta, names::INSTALL).map(str::to_owned),
        phase,
        ready: condition_is(status, "Ready", "True"),
        node: spec.node_name.clone(),
        created: meta.creation_timestamp.as_ref().map(|t| t.0),
        started: status.start_time.as_ref().map(|t| t.0),
        ready_since: ready_since(status),
        host_ips: host_ips(status),
        stop_requested: stop_requested(meta),
        released_by_kubelet: meta.deletion_timestamp.is_some()
            && meta.deletion_grace_period_seconds == Some(0),
        stops_by: meta.deletion_timestamp.as_ref().map(|t| t.0),
        grace_period: spec.termination_grace_period_seconds,
        address: address(spec, status),
        not_ready_since: not_ready_since(status),
        container_restarts: most_restarted(&own, spec, status).map_or(0, |c| c.restart_count.max(0)),
        restarted_by_node: most_restarted(&own, spec, status).is_some_and(was_lost),
        reason: status.reason.clone(),
        rejected: phase == PodPhase::Failed
            && status.message.as_deref().is_some_and(|message| message.starts_with(REJECTED)),
        ran: matches!(phase, PodPhase::Running | PodPhase::Succeeded)
            || container_statuses(status).filter(|c| own.has(&c.name)).any(has_run),
        generations: annotation(meta, names::POD_GENERATION).and_then(generations),
        revision: annotation(meta, names::POD_REVISION).map(str::to_owned),
        restart_at: annotation(meta, names::RESTART_AT).map(str::to_owned),
        finalizers: meta.finalizers.clone().unwrap_or_default(),
        hook: annotation(meta, names::HOOK).and_then(|text| serde_json::from_str::<Hook>(text).ok()),
        termination: termination(&own, spec, status, phase),
        disrupted: condition_is(status, "DisruptionTarget", "True"),
        reported_untouched: status.observed_generation == Some(1),
        last_crash: last_crash(spec, status),
        token_secret_name: token_secret_of(spec).map(str::to_owned),
        trouble: trouble(spec, status),
        trouble_since: unschedulable(status).and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0),
        claims: pod_claims(meta, spec, status),
    })
}

/// The claims that Kubernetes creates for a pod. Each ephemeral volume has one claim, with a name that follows from
/// the name of the pod. Device claims have the names in the status. A device claim that the spec names belongs to the
/// user.
fn pod_claims(meta: &ObjectMeta, spec: &PodSpec, status: &PodStatus) -> Vec<PodClaim> {
    let pod = meta.name.as_deref().unwrap_or_default();
    let volumes = spec.volumes.iter().flatten().filter(|volume| volume.ephemeral.is_some());
    let volumes = volumes.map(|volume| (ChildKind::PersistentVolumeClaim, format!("{pod}-{}", volume.name)));
    let from_template = |name: &str| {
        let mut devices = spec.resource_claims.iter().flatten();
        devices.any(|claim| claim.name == name && claim.resource_claim_template_name.is_some())
    };
    let devices = status.resource_claim_statuses.iter().flatten().filter(|claim| from_template(&claim.name));
    let devices = devices.filter_map(|claim| claim.resource_claim_name.clone());
    let extended =
        status.extended_resource_claim_status.iter().map(|claim| claim.resource_claim_name.clone());
    let devices = devices.chain(extended).map(|name| (ChildKind::ResourceClaim, name));
    volumes.chain(devices).map(|(kind, name)| PodClaim { kind, name }).collect()
}

/// The own address of the pod. The address of its node does not count, because other processes answer there too.
fn address(spec: &PodSpec, status: &PodStatus) -> Option<String> {
    status.pod_ip.clone().filter(|ip| !ip.is_empty() && spec.host_network != Some(true))
}

/// The addresses of the node of the pod.
fn host_ips(status: &PodStatus) -> Vec<String> {
    let all = status.host_ips.iter().flatten().map(|host| host.ip.clone());
    let mut ips: Vec<_> = status.host_ip.clone().into_iter().chain(all).filter(|ip| !ip.is_empty()).collect();
    ips.dedup();
    ips
}

fn ready_since(status: &PodStatus) -> Option<Timestamp> {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready" && c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| t.0)
}

fn not_ready_since(status: &PodStatus) -> Option<Timestamp> {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready")?;
    ready.last_transition_time.as_ref().filter(|_| ready.status != "True").map(|t| t.0)
}

/// The container of the template that the kubelet restarted most often. A sidecar (an init container that is always
/// restarted) does not count: its crash is not the crash of the agent.
fn most_restarted<'a>(own: &Own<'_>, spec: &PodSpec, status: &'a PodStatus) -> Option<&'a ContainerStatus> {
    let sidecar = |name: &str| {
        spec.init_containers
            .iter()
            .flatten()
            .any(|c| c.name == name && c.restart_policy.as_deref() == Some("Always"))
    };
    container_statuses(status)
        .filter(|c| own.has(&c.name) && !sidecar(&c.name))
        .max_by_key(|c| c.restart_count)
}

/// Whether the kubelet lost the container that ended last, and does not know its exit code: its node rebooted.
fn was_lost(container: &ContainerStatus) -> bool {
    container.last_state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(is_lost)
}

/// Whether the container runs, or has run before.
fn has_run(container: &ContainerStatus) -> bool {
    [&container.state, &container.last_state]
        .into_iter()
        .flatten()
        .any(|state| state.running.is_some() || state.terminated.is_some())
        || container.restart_count > 0
}

/// The generations of the town and of the agent, from `<town>.<agent>`.
fn generations(text: &str) -> Option<(i64, i64)> {
    let (town, agent) = text.split_once('.')?;
    Some((town.parse().ok()?, agent.parse().ok()?))
}

fn condition_is(status: &PodStatus, type_: &str, value: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == type_ && c.status == value)
}

/// The time at which the API server requested the stop. The deletionTimestamp is the end of the grace period.
fn stop_requested(meta: &ObjectMeta) -> Option<Timestamp> {
    let end = meta.deletion_timestamp.as_ref()?.0;
    let grace = SignedDuration::from_secs(meta.deletion_grace_period_seconds.unwrap_or(0));
    Some(end.checked_sub(grace).unwrap_or(end))
}
