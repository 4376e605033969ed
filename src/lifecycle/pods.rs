//! Pods: the conditions that a pod gives its owner, and the deletion of pods.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::{after, earlier, stamp};
use super::conditions::Conditions;
use super::facts::{PodFacts, PodPhase};
use super::plan::Action;
use crate::api::condition::reason;
use crate::api::{RestartsStatus, names};

/// The text from the create until the pod is Ready. A constant text costs no writes.
pub(super) const STARTING_TEXT: &str = "the pod is not Ready yet";

/// A shorter problem is not reported, because some problems end on their own: a new pod is unschedulable until its
/// volume is bound.
const PATIENCE: SignedDuration = SignedDuration::from_secs(3);

/// A pod that is not Ready for this time is reported.
const SLOW: SignedDuration = SignedDuration::from_mins(10);

/// For a container that it cannot create, the kubelet reports the cause only in events. The operator reads the events
/// at these ages of the pod: the kubelet reports a missing Secret immediately, and a volume that is not attached after
/// two minutes.
const EVENTS_AFTER: [SignedDuration; 2] = [SignedDuration::from_mins(1), SignedDuration::from_mins(3)];

/// A pod without a watch is read again after this time.
const UNWATCHED_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// The tolerated time for the end of a pod after its grace period.
const OVERDUE: SignedDuration = SignedDuration::from_secs(30);

/// Sets the conditions from a present pod. Returns whether the pod is Ready, and the time of the next reconcile if a
/// problem is too recent to report.
pub(super) fn pod_conditions(
    pod: &PodFacts,
    c: &mut Conditions,
    now: Timestamp,
) -> (bool, Option<Timestamp>) {
    if pod.ready {
        c.ready(reason::RUNNING, format!("pod {} is Ready", pod.key.name));
        return (true, None);
    }
    let due = pod.trouble_since.map_or(now, |since| after(since, PATIENCE));
    let slow_at = slow_at(pod);
    match &pod.trouble {
        Some((why, text)) if due <= now => {
            c.reconciling(why, text.clone());
            c.degraded(why, text.clone());
            (false, None)
        }
        // The pod was Ready before. It may work, so this does not replace it.
        _ if slow_at.is_some_and(|at| at <= now) => {
            let text = format!("pod {} has not been Ready for 10 minutes", pod.key.name);
            c.reconciling(reason::NOT_READY, text.clone());
            c.degraded(reason::NOT_READY, text);
            (false, None)
        }
        young => {
            c.reconciling(reason::STARTING, STARTING_TEXT);
            let later = earlier(young.as_ref().map(|_| due), events_due_at(pod, now));
            (false, earlier(later, slow_at))
        }
    }
}

/// Whether the operator reads the events about a pod: the pod has a node, no container runs, and the status gives no
/// cause.
pub fn events_are_due(pod: &PodFacts, now: Timestamp) -> bool {
    awaits_kubelet(pod) && pod.created.is_some_and(|created| after(created, EVENTS_AFTER[0]) <= now)
}

/// The time of the next read of the events about a pod.
fn events_due_at(pod: &PodFacts, now: Timestamp) -> Option<Timestamp> {
    let created = pod.created.filter(|_| awaits_kubelet(pod))?;
    EVENTS_AFTER.into_iter().map(|age| after(created, age)).find(|at| now < *at)
}

fn awaits_kubelet(pod: &PodFacts) -> bool {
    pod.phase == PodPhase::Pending && pod.node.is_some() && pod.trouble.is_none() && !pod.deleting()
}

/// The time from which a pod that is not Ready is reported.
fn slow_at(pod: &PodFacts) -> Option<Timestamp> {
    pod.not_ready_since.max(pod.created).map(|since| after(since, SLOW))
}

/// Reports a pod that exceeds its deletion time. Returns the time of that report if it is not due yet.
pub(super) fn show_leaving(pod: Option<&PodFacts>, c: &mut Conditions, now: Timestamp) -> Option<Timestamp> {
    c.reconciling(reason::STARTING, "the operator waits for the deletion of the old pod");
    let pod = pod?;
    if !is_overdue(pod, now) {
        return overdue_at(pod);
    }
    let (why, text) = overdue(pod);
    c.reconciling(why, text.clone());
    c.degraded(why, text);
    None
}

/// Whether the deletion of a pod takes too long.
pub(super) fn is_overdue(pod: &PodFacts, now: Timestamp) -> bool {
    overdue_at(pod).is_some_and(|at| at <= now)
}

/// The time at which a deleted pod should be gone.
pub(super) fn overdue_at(pod: &PodFacts) -> Option<Timestamp> {
    pod.stops_by.map(|by| after(by, OVERDUE))
}

/// The reason why an overdue pod still exists, and the remedy.
pub(super) fn overdue(pod: &PodFacts) -> (&'static str, String) {
    let name = &pod.key.name;
    if pod.ended() && !pod.finalizers.is_empty() {
        let text = format!(
            "pod {name} has ended, and the finalizers {} block its deletion",
            pod.finalizers.join(", ")
        );
        return (reason::BLOCKED, text);
    }
    let node = pod.node.as_deref().unwrap_or("(none)");
    (
        reason::NODE_LOST,
        format!(
            "pod {name} should have ended, but node {node} does not confirm it: the pod may still run, so the operator \
             does not replace it; restore the node, or, if the node is certainly off, delete the Node object or taint \
             it with node.kubernetes.io/out-of-service"
        ),
    )
}

/// The end of a pod as a text for users.
pub(super) fn why_ended(pod: &PodFacts) -> String {
    match &pod.termination {
        Some(t) if t.message.is_empty() => {
            format!("pod {} ended with exit code {}", pod.key.name, t.exit_code)
        }
        Some(t) => format!("pod {} ended with exit code {}: {}", pod.key.name, t.exit_code, t.message),
        None => match &pod.trouble {
            Some((_, text)) => format!("pod {} ended: {text}", pod.key.name),
            None => format!("pod {} ended", pod.key.name),
        },
    }
}

/// Reports that the pod ended or was not created, and that the next start waits.
pub(super) fn show_back_off(
    pod: Option<&PodFacts>,
    restarts: Option<&RestartsStatus>,
    at: Timestamp,
    c: &mut Conditions,
) {
    let why = match (pod, restarts) {
        (Some(pod), _) => why_ended(pod),
        (None, Some(restarts)) if !restarts.message.is_empty() => restarts.message.clone(),
        (None, _) => "the pod was deleted".to_owned(),
    };
    let text = format!("{why}; the next start is at {}", stamp(at).0);
    c.reconciling(reason::BACK_OFF, text.clone());
    if pod.is_none() && restarts.is_none_or(|restarts| restarts.count == 0) {
        // A disruption is not a failure.
        return;
    }
    // The cause of the end is more useful than the end itself.
    let oom = pod.and_then(|p| p.trouble.as_ref()).is_some_and(|(why, _)| *why == reason::OOM_KILLED);
    let failed = restarts.is_some_and(|restarts| restarts.external && restarts.count > 0);
    let why = match (oom, failed && pod.is_none()) {
        (true, _) => reason::OOM_KILLED,
        (false, true) => reason::START_FAILED,
        (false, false) => reason::CONTAINER_FAILED,
    };
    c.degraded(why, text);
}

/// Deletes a pod that is not being deleted yet. Releases a pod without a running container.
pub(super) fn end_pod(pod: &PodFacts) -> Vec<Action> {
    let mut actions = Vec::new();
    let held = pod.finalizers.iter().position(|f| f == names::RESULT_FINALIZER);
    if let Some(position) = held.filter(|_| pod.ended()) {
        actions.push(Action::ReleaseResult { pod: pod.key.clone(), uid: pod.uid.clone(), position });
    }
    if !pod.deleting() {
        actions.push(Action::DeletePod(pod.key.clone(), pod.uid.clone()));
    }
    actions
}

/// Whether the pod belongs to this installation: the pod carries our install label, or no install label while a record
/// names the pod. In the second case another client removed the label, and the pod still runs.
pub(super) fn ours(pod: &PodFacts, install: &str) -> bool {
    pod.install.as_deref().is_none_or(|its| its == install)
}

/// The time of the next read of pods without an install label, because no watch event reports their changes.
pub(super) fn unwatched_at<'a>(
    pods: impl IntoIterator<Item = &'a PodFacts>,
    now: Timestamp,
) -> Option<Timestamp> {
    pods.into_iter().any(|pod| pod.install.is_none()).then(|| after(now, UNWATCHED_EVERY))
}

/// Deletes every pod of ours that is not being deleted yet.
pub(super) fn delete_pods<'a>(pods: impl IntoIterator<Item = &'a PodFacts>, install: &str) -> Vec<Action> {
    pods.into_iter()
        .filter(|p| ours(p, install) && !p.deleting())
        .map(|p| Action::DeletePod(p.key.clone(), p.uid.clone()))
        .collect()
}
