//! Pods: what one shows of its owner, and how they are taken down.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::{after, stamp};
use super::conditions::Conditions;
use super::facts::PodFacts;
use super::plan::Action;
use crate::api::condition::{self, reason};
use crate::api::names;

/// One text from the create until the pod is Ready: what does not change is not written.
pub(super) const STARTING_TEXT: &str = "waiting for the pod to be Ready";

/// Trouble that ends by itself within this time is not worth a word: a new pod is unschedulable until
/// its volume is bound.
const PATIENCE: SignedDuration = SignedDuration::from_secs(3);

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
    match &pod.trouble {
        Some((why, text)) if due <= now => {
            c.reconciling(why, text.clone());
            c.set(condition::DEGRADED, true, why, text.clone());
            (false, None)
        }
        young => {
            c.reconciling(reason::STARTING, STARTING_TEXT);
            (false, young.as_ref().map(|_| due))
        }
    }
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

/// A pod that ended, or went, is replaced after a while.
pub(super) fn show_back_off(pod: Option<&PodFacts>, at: Timestamp, c: &mut Conditions) {
    let why = pod.map_or_else(|| "the pod is gone".to_owned(), why_ended);
    let text = format!("{why}; the next start is at {}", stamp(at).0);
    c.reconciling(reason::BACK_OFF, text.clone());
    c.set(condition::DEGRADED, true, reason::CONTAINER_FAILED, text);
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

/// Pods that carry our install label; others with the town's UID are not ours.
pub(super) fn ours(pod: &PodFacts, install: &str) -> bool {
    pod.install.as_deref() == Some(install)
}

/// Takes down every pod of ours that is not going yet.
pub(super) fn delete_pods(pods: &[PodFacts], install: &str) -> Vec<Action> {
    pods.iter()
        .filter(|p| ours(p, install) && !p.deleting())
        .map(|p| Action::DeletePod(p.key.clone(), p.uid.clone()))
        .collect()
}
