//! The cause that keeps a pod from running.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};

use super::pod_end::{container_statuses, is_oom, too_much_memory};
use crate::api::condition::reason;

/// The reason of the scheduler why the pod has no node: no node fits, a scheduling gate holds the pod, or the
/// scheduler failed.
pub(super) fn unschedulable(status: &PodStatus) -> Option<&PodCondition> {
    status.conditions.iter().flatten().find(|c| {
        c.type_ == "PodScheduled"
            && c.status == "False"
            && matches!(c.reason.as_deref(), Some("Unschedulable" | "SchedulingGated" | "SchedulerError"))
    })
}

/// The cause that keeps the pod from running. The scheduler or the kubelet wrote the text.
pub(super) fn trouble(spec: &PodSpec, status: &PodStatus) -> Option<(&'static str, String)> {
    let unscheduled =
        unschedulable(status).map(|c| (reason::UNSCHEDULABLE, c.message.clone().unwrap_or_default()));
    unscheduled.or_else(|| container_statuses(status).find_map(|c| container_trouble(c, spec))).or_else(
        || {
            (status.reason.as_deref() == Some("Evicted")).then(|| {
                (reason::CONTAINER_FAILED, format!("evicted: {}", status.message.clone().unwrap_or_default()))
            })
        },
    )
}

fn container_trouble(container: &ContainerStatus, spec: &PodSpec) -> Option<(&'static str, String)> {
    let name = &container.name;
    let states = [&container.state, &container.last_state];
    let last = states.into_iter().flatten().find_map(|state| state.terminated.as_ref());
    // The text stays the same from the kill until the container is ready again, whatever the kubelet does meanwhile:
    // the memory is the cause.
    if let Some(end) = last.filter(|end| is_oom(end) && !container.ready) {
        let why = too_much_memory(name, spec);
        let text = format!("container {name} {why} and was killed (OOMKilled, exit code {})", end.exit_code);
        return Some((reason::OOM_KILLED, text));
    }
    let waiting = container.state.as_ref().and_then(|s| s.waiting.as_ref())?;
    let why = waiting.reason.as_deref()?;
    let message = waiting.message.clone().unwrap_or_default();
    match why {
        "ContainerCreating" | "PodInitializing" => None,
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            // The two reasons alternate while the kubelet waits, and one quotes the other. One text for both keeps
            // the status stable.
            let said = message.rsplit_once("ErrImagePull: ").map_or(message.as_str(), |(_, said)| said);
            Some((
                reason::IMAGE_PULL,
                format!("container {name}: image {} cannot be pulled: {said}", container.image),
            ))
        }
        "CrashLoopBackOff" => {
            let text = last.map_or_else(String::new, |t| {
                format!(", last exit code {} ({})", t.exit_code, t.reason.as_deref().unwrap_or("no reason"))
            });
            Some((reason::CONTAINER_FAILED, format!("container {name} ends again and again{text}")))
        }
        "CreateContainerConfigError" if message.contains("runAsNonRoot") => Some((
            reason::CONTAINER_FAILED,
            format!(
                "container {name}: {message}; set securityContext.runAsUser to a number other than 0, or \
                 securityContext.runAsNonRoot to false, in the spec of the pod template"
            ),
        )),
        other => Some((reason::CONTAINER_FAILED, format!("container {name}: {other}: {message}"))),
    }
}
