//! Pods: what one shows of its owner, and how they are taken down.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::{after, earlier, stamp};
use super::conditions::Conditions;
use super::facts::{PodFacts, PodPhase};
use super::plan::Action;
use crate::api::condition::reason;
use crate::api::{RestartsStatus, names};

/// One text from the create until the pod is Ready: what does not change is not written.
pub(super) const STARTING_TEXT: &str = "waiting for the pod to be Ready";

/// Trouble that ends by itself within this time is not worth a word: a new pod is unschedulable until
/// its volume is bound.
const PATIENCE: SignedDuration = SignedDuration::from_secs(3);

/// A pod that is not Ready for this long is worth a word.
const SLOW: SignedDuration = SignedDuration::from_mins(10);

/// The kubelet names the cause of a container that it cannot create in events alone. They are read when the pod is this
/// old: a missing Secret is reported at once, a volume that is not attached after two minutes.
const EVENTS_AFTER: [SignedDuration; 2] = [SignedDuration::from_mins(1), SignedDuration::from_mins(3)];

/// A pod that no watch tells of is read again after this time.
const UNWATCHED_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// A pod may take this much longer to go than its grace period.
const OVERDUE: SignedDuration = SignedDuration::from_secs(30);

/// Conditions from a pod that is there; whether it is Ready, and when to look again if it is in trouble
/// too young to report.
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
        // The pod was Ready before: it may be at work, and is not replaced for this.
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

/// Whether the events about a pod are read: a node has it, no container runs, and its status gives no cause.
pub fn events_are_due(pod: &PodFacts, now: Timestamp) -> bool {
    awaits_kubelet(pod) && pod.created.is_some_and(|created| after(created, EVENTS_AFTER[0]) <= now)
}

/// When the events about a pod are read next.
fn events_due_at(pod: &PodFacts, now: Timestamp) -> Option<Timestamp> {
    let created = pod.created.filter(|_| awaits_kubelet(pod))?;
    EVENTS_AFTER.into_iter().map(|age| after(created, age)).find(|at| now < *at)
}

fn awaits_kubelet(pod: &PodFacts) -> bool {
    pod.phase == PodPhase::Pending && pod.node.is_some() && pod.trouble.is_none() && !pod.deleting()
}

/// When a pod that is not Ready has not been for too long to go without a word.
fn slow_at(pod: &PodFacts) -> Option<Timestamp> {
    pod.not_ready_since.max(pod.created).map(|since| after(since, SLOW))
}

/// Says that a pod on its way out does not go; when to look again for that, if it is not time to say so yet.
pub(super) fn show_leaving(pod: Option<&PodFacts>, c: &mut Conditions, now: Timestamp) -> Option<Timestamp> {
    c.reconciling(reason::STARTING, "waiting for the old pod to go");
    let pod = pod?;
    if !is_overdue(pod, now) {
        return overdue_at(pod);
    }
    let (why, text) = overdue(pod);
    c.reconciling(why, text.clone());
    c.degraded(why, text);
    None
}

/// Whether a pod should be gone by now.
pub(super) fn is_overdue(pod: &PodFacts, now: Timestamp) -> bool {
    overdue_at(pod).is_some_and(|at| at <= now)
}

/// When a pod that was told to stop should be gone.
pub(super) fn overdue_at(pod: &PodFacts) -> Option<Timestamp> {
    pod.stops_by.map(|by| after(by, OVERDUE))
}

/// Why a pod that should be gone is still there, and what to do about it.
pub(super) fn overdue(pod: &PodFacts) -> (&'static str, String) {
    let name = &pod.key.name;
    if pod.ended() && !pod.finalizers.is_empty() {
        let text =
            format!("pod {name} has ended and is held by the finalizers {}", pod.finalizers.join(", "));
        return (reason::BLOCKED, text);
    }
    let node = pod.node.as_deref().unwrap_or("(none)");
    (
        reason::NODE_LOST,
        format!(
            "pod {name} should have ended and node {node} does not confirm it: it may still run, so nothing takes \
             its place; bring the node back, or, when it is certain that it is off, delete the Node object or \
             taint it with node.kubernetes.io/out-of-service"
        ),
    )
}

/// How a pod ended, for people.
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

/// The pod ended, or did not come, and the next start waits.
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
        // A disruption is no failure.
        return;
    }
    // The cause of the end is more useful than the end.
    let oom = pod.and_then(|p| p.trouble.as_ref()).is_some_and(|(why, _)| *why == reason::OOM_KILLED);
    let failed = restarts.is_some_and(|restarts| restarts.external && restarts.count > 0);
    let why = match (oom, failed && pod.is_none()) {
        (true, _) => reason::OOM_KILLED,
        (false, true) => reason::START_FAILED,
        (false, false) => reason::CONTAINER_FAILED,
    };
    c.degraded(why, text);
}

/// Delete a pod that is not going yet; release one that nothing runs of any more.
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

/// Pods that carry our install label, and those without any that a record names: somebody removed the label, and
/// they run on. A pod of another installation is not ours.
pub(super) fn ours(pod: &PodFacts, install: &str) -> bool {
    pod.install.as_deref().is_none_or(|its| its == install)
}

/// When to look again at pods that carry no install label: the watch does not tell of them.
pub(super) fn unwatched_at<'a>(
    pods: impl IntoIterator<Item = &'a PodFacts>,
    now: Timestamp,
) -> Option<Timestamp> {
    pods.into_iter().any(|pod| pod.install.is_none()).then(|| after(now, UNWATCHED_EVERY))
}

/// Takes down every pod of ours that is not going yet.
pub(super) fn delete_pods<'a>(pods: impl IntoIterator<Item = &'a PodFacts>, install: &str) -> Vec<Action> {
    pods.into_iter()
        .filter(|p| ours(p, install) && !p.deleting())
        .map(|p| Action::DeletePod(p.key.clone(), p.uid.clone()))
        .collect()
}
