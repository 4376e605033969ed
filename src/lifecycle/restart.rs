//! When a pod may be started again after it ended without our doing.
//!
//! Shared by the town's pod and those of Session agents. Starts are counted within a window, and the
//! wait grows with the count, so that a pod that keeps failing costs a bounded number of requests.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::{after, back_off, stamp};
use super::facts::PodFacts;
use crate::api::{PodStatus, RestartsStatus};

/// Restarts are counted within this time.
const WINDOW: SignedDuration = SignedDuration::from_mins(30);
/// So many failed starts of a town's pod within that time, and the next one waits for its end.
pub(super) const LIMIT: i32 = 5;

/// What to do about the one pod that an owner may have.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// There is one; leave it.
    Keep,
    /// It is on its way out; wait.
    Wait,
    /// It has failed; not before this time may it be replaced.
    BackOff(Timestamp),
    /// It has failed and its time is up: delete it, and record these restarts.
    Delete(Option<RestartsStatus>),
    /// There is none: create one, and record these restarts.
    Create(Option<RestartsStatus>),
    /// It has failed too often: it must not run, and none may be started before this time.
    Hold(Timestamp),
}

/// The next step for a town's pod. Unlike an agent's, it is given up for a while when it fails too often.
/// `crashed`: it has since it was last looked at, and was started anew so fast that it may look Ready.
pub(super) fn next_bounded(
    pod: Option<&PodFacts>,
    record: Option<&PodStatus>,
    restarts: Option<&RestartsStatus>,
    crashed: bool,
    now: Timestamp,
) -> Next {
    let until = restarts
        .filter(|r| r.count >= LIMIT)
        .and_then(|r| r.window_started_at.as_ref())
        .map(|t| after(t.0, WINDOW))
        .filter(|until| now < *until);
    match (until, pod) {
        (Some(_), Some(p)) if p.deleting() => Next::Wait,
        (Some(_), Some(p)) if p.ready && !crashed => Next::Keep,
        (Some(until), _) => Next::Hold(until),
        (None, _) => next(pod, record, restarts, now),
    }
}

/// Counts what the kubelet has started anew in the pod since that was last looked at: each is a start that
/// failed.
pub(super) fn count_crashes(
    pod: &PodFacts,
    record: Option<&PodStatus>,
    restarts: Option<&RestartsStatus>,
    now: Timestamp,
) -> Option<RestartsStatus> {
    let known =
        record.filter(|r| r.uid.as_deref() == Some(pod.uid.as_str())).map_or(0, |r| r.container_restarts);
    let more = pod.container_restarts.saturating_sub(known);
    if more <= 0 {
        return restarts.cloned();
    }
    let first = raised(restarts, in_window(restarts, now), now);
    Some(RestartsStatus { count: first.count.saturating_add(more - 1), ..first })
}

/// The next step for an owner whose pod should run.
pub(super) fn next(
    pod: Option<&PodFacts>,
    record: Option<&PodStatus>,
    restarts: Option<&RestartsStatus>,
    now: Timestamp,
) -> Next {
    let count = in_window(restarts, now);
    match pod {
        Some(p) if p.deleting() => Next::Wait,
        // Evicted, preempted, its node lost: not its own doing, and not counted.
        Some(p) if p.ended() && p.disrupted => {
            // One that is evicted as soon as it starts must still not be started hot.
            let due = p.created.map_or(now, |created| after(created, back_off(1)));
            if due > now { Next::BackOff(due) } else { Next::Delete(restarts.cloned()) }
        }
        Some(p) if p.ended() => {
            let ended = p.termination.as_ref().and_then(|t| t.at).or(p.created);
            let due = ended.map_or(now, |ended| after(ended, back_off(count.saturating_add(1))));
            if due > now { Next::BackOff(due) } else { Next::Delete(Some(raised(restarts, count, now))) }
        }
        Some(_) => Next::Keep,
        // A pod that was recorded and is gone ended without our doing: what we end, we take off the record.
        None if record.is_some_and(|r| r.uid.is_some()) => {
            let last = record.and_then(|r| r.started_at.as_ref()).map(|t| t.0);
            let due = last.map_or(now, |last| after(last, back_off(count)));
            if due > now { Next::BackOff(due) } else { Next::Create(Some(raised(restarts, count, now))) }
        }
        None => Next::Create(restarts.cloned()),
    }
}

fn in_window(restarts: Option<&RestartsStatus>, now: Timestamp) -> i32 {
    restarts
        .filter(|r| r.window_started_at.as_ref().is_some_and(|t| now < after(t.0, WINDOW)))
        .map_or(0, |r| r.count)
}

fn raised(restarts: Option<&RestartsStatus>, count: i32, now: Timestamp) -> RestartsStatus {
    let window = restarts.filter(|_| count > 0).and_then(|r| r.window_started_at.clone());
    RestartsStatus {
        count: count.saturating_add(1),
        window_started_at: Some(window.unwrap_or_else(|| stamp(now))),
    }
}

/// A pod that is evicted, preempted or lost with its node is taken off the record: its successor counts as no
/// restart.
pub(super) fn excuse(pod: Option<&PodFacts>, record: &mut Option<PodStatus>) {
    if pod.is_some_and(|pod| pod.disrupted) {
        *record = gone(record.as_ref());
    }
}

/// The record of a pod once it is gone or going: only when it was started stays.
pub(super) fn gone(record: Option<&PodStatus>) -> Option<PodStatus> {
    record.map(|r| PodStatus { started_at: r.started_at.clone(), ..PodStatus::default() })
}

/// The record of a pod that is there.
pub fn pod_record(pod: &PodFacts) -> PodStatus {
    PodStatus {
        name: Some(pod.key.name.clone()),
        uid: Some(pod.uid.as_str().to_owned()),
        node: pod.node.clone(),
        started_at: pod.created.map(stamp),
        container_restarts: pod.container_restarts,
    }
}
