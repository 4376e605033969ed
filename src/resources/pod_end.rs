//! The end of the containers of a pod.

use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::names;
use crate::lifecycle::{PodPhase, Termination, annotation, cut, plain};

/// The length of a termination message that the kubelet keeps, in bytes. Other writers of the status can write more.
const TERMINATION_MESSAGE: usize = 4096;

/// The statuses of the init containers come first, because the other containers wait for them.
pub(super) fn container_statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
}

/// The containers of the template of the pod. A pod of an older operator does not name them; then every container
/// counts.
pub(super) struct Own<'a>(Option<Vec<&'a str>>);

impl<'a> Own<'a> {
    pub(super) fn of(meta: &'a ObjectMeta) -> Self {
        Self(annotation(meta, names::POD_CONTAINERS).map(|names| names.split(',').collect()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|own| own.contains(&name))
    }
}

pub(super) fn is_lost(end: &ContainerStateTerminated) -> bool {
    match end.reason.as_deref() {
        Some("ContainerStatusUnknown") => true,
        Some("Unknown") => end.exit_code == 255,
        _ => false,
    }
}

/// The result of the containers of the template, after all have ended and none is restarted. An injected container
/// may still run. An init container counts if it kept the others from running.
pub(super) fn termination(
    own: &Own<'_>,
    spec: &PodSpec,
    status: &PodStatus,
    phase: PodPhase,
) -> Option<Termination> {
    let over = matches!(phase, PodPhase::Succeeded | PodPhase::Failed);
    let ended = |all: &'_ Option<Vec<ContainerStatus>>| -> Vec<_> {
        let ended = |c: &ContainerStatus| Some((c.name.clone(), c.state.as_ref()?.terminated.clone()?));
        all.iter().flatten().filter(|c| own.has(&c.name)).filter_map(ended).collect()
    };
    let mains = ended(&status.container_statuses);
    if !over {
        let wanted = spec.containers.iter().filter(|c| own.has(&c.name)).count();
        let final_ = spec.restart_policy.as_deref() == Some("Never");
        if !final_ || wanted == 0 || mains.len() < wanted {
            return None;
        }
    }
    let inits = ended(&status.init_container_statuses);
    let failed = |(_, end): &&(String, ContainerStateTerminated)| end.exit_code != 0;
    let telling = mains
        .iter()
        .find(failed)
        .or_else(|| inits.iter().find(failed).filter(|_| phase == PodPhase::Failed && mains.is_empty()))
        .or(mains.first());
    let said = telling.and_then(|(name, end)| said_at_its_end(name, end, spec));
    let message = said.or_else(|| status.message.clone()).unwrap_or_default();
    Some(Termination {
        exit_code: telling.map_or_else(|| i32::from(phase == PodPhase::Failed), |(_, end)| end.exit_code),
        at: mains.iter().filter_map(|(_, end)| end.finished_at.as_ref().map(|t| t.0)).max(),
        message: cut(message.trim(), TERMINATION_MESSAGE).to_owned(),
        out_of_memory: telling.is_some_and(|(_, end)| is_oom(end)),
        lost: telling.is_some_and(|(_, end)| is_lost(end)),
    })
}

/// The termination message of the container, or else the reason from the kubelet. A container that was killed for its
/// memory could not write a message.
fn said_at_its_end(name: &str, end: &ContainerStateTerminated, spec: &PodSpec) -> Option<String> {
    let message = end.message.as_deref().map(plain).filter(|m| !m.trim().is_empty());
    if !is_oom(end) {
        return message.or_else(|| end.reason.clone());
    }
    let killed = format!("OOMKilled: container {name} {}", too_much_memory(name, spec));
    Some(match message {
        Some(message) => format!("{killed}: {}", message.trim()),
        None => killed,
    })
}

/// The cause of the last failed end of a container, whatever the container does now.
pub(super) fn last_crash(spec: &PodSpec, status: &PodStatus) -> Option<String> {
    let all = container_statuses(status).flat_map(|c| {
        let both = [&c.state, &c.last_state].into_iter().flatten();
        both.filter_map(|state| state.terminated.as_ref()).map(|end| (c.name.as_str(), end))
    });
    let (name, end) = all
        .filter(|(_, end)| end.exit_code != 0)
        .max_by_key(|(_, end)| end.finished_at.as_ref().map(|at| at.0))?;
    let said =
        said_at_its_end(name, end, spec).map(|said| format!(": {}", cut(said.trim(), TERMINATION_MESSAGE)));
    Some(format!("container {name} ended with exit code {}{}", end.exit_code, said.unwrap_or_default()))
}

pub(super) fn is_oom(end: &ContainerStateTerminated) -> bool {
    end.reason.as_deref() == Some("OOMKilled")
}

/// The text for a container that was killed for its memory, with its memory limit if its spec has one.
pub(super) fn too_much_memory(name: &str, spec: &PodSpec) -> String {
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let limit = |c: &Container| c.resources.as_ref()?.limits.as_ref()?.get("memory").cloned();
    match all.filter(|c| c.name == name).find_map(limit) {
        Some(limit) => format!("used more memory than its limit of {}", limit.0),
        None => "used more memory than its pod or its node has".to_owned(),
    }
}
