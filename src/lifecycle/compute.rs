//! The children of an awake town: its volume, its Service, its pod.

use k8s_openapi::jiff::Timestamp;

use super::clock::{earlier, stamp};
use super::conditions::{Conditions, message_of};
use super::facts::TownSnapshot;
use super::ids::{OwnerRef, service_name};
use super::needs;
use super::plan::{Action, Notice};
use super::pods::{STARTING_TEXT, pod_conditions, show_back_off, show_leaving, why_ended};
use super::probe;
use super::restart::{self, Next, Starts};
use super::retry::{Limit, Revision};
use super::update::{self, Update};
use super::work::TownActivity;
use crate::api::condition::{self, reason};
use crate::api::{Port, TownStatus};

/// The required writes, and the state of the children.
#[derive(Default)]
pub(super) struct Compute {
    /// The writes, in order.
    pub(super) actions: Vec<Action>,
    /// The children match the spec, or the town has no pod to run.
    pub(super) running: bool,
    /// A user must act.
    pub(super) blocked: bool,
    /// The pod waits for its turn to start.
    pub(super) waits_to_start: bool,
    /// The time of the next reconcile.
    pub(super) look_again: Option<Timestamp>,
    /// The time of the next attempt.
    pub(super) retry: Option<Timestamp>,
    /// The announcement.
    pub(super) notice: Option<Notice>,
}

/// Decides about the volume, the Service and the pod of an awake town.
pub(super) fn compute(
    s: &TownSnapshot,
    status: &mut TownStatus,
    c: &mut Conditions,
    activity: &TownActivity,
    now: Timestamp,
) -> Compute {
    let mut result = Compute::default();
    if s.town.spec.template.is_none() {
        c.ready(reason::RUNNING, "the town has no pod of its own; its agents may start");
        result.actions.extend(
            s.pod().filter(|p| !p.deleting()).map(|p| Action::DeletePod(p.key.clone(), p.uid.clone())),
        );
        // Without a template there are no ports, so the Service is deleted too.
        result.actions.extend(service(s, status));
        status.pod = restart::gone(status.pod.as_ref());
        result.running = true;
        return result;
    }
    match needs::volume(s.town.spec.storage.as_ref(), s.claim.as_ref(), &mut status.storage, now) {
        Ok(volume) => {
            result.actions.extend(volume.actions);
            result.notice = volume.notice;
        }
        Err(why) if why.stalled || s.pod().is_none() => {
            result.blocked = why.stalled;
            needs::show_unusable(c, why);
            return result;
        }
        // The present pod continues while its claim is being deleted.
        Err(why) => c.degraded(why.reason, why.message),
    }
    result.actions.extend(service(s, status));
    let decided = starts(s, status).decide(now);
    status.restarts = decided.restarts;
    status.start_time = decided.began.map(stamp);
    result.look_again = decided.look_again;
    pod(s, status, c, (activity, decided.next), now, &mut result);
    result
}

/// Keeps the Service equal to `spec.ports`.
pub(super) fn service(s: &TownSnapshot, status: &mut TownStatus) -> Option<Action> {
    let ports = &s.town.spec.ports;
    status.service =
        OwnerRef::of(&s.town.metadata).filter(|_| !ports.is_empty()).map(|town| service_name(&town));
    match &s.service {
        None => (!ports.is_empty()).then_some(Action::CreateService),
        Some(there) if there.child.deleting => None,
        Some(there) if ports.is_empty() => {
            let child = &there.child;
            Some(Action::DeleteChild(child.kind, child.key.clone(), child.uid.clone()))
        }
        Some(there) if there.ports != ports.iter().map(Port::resolved).collect::<Vec<_>>() => {
            Some(Action::UpdateService(there.child.key.clone(), there.child.uid.clone()))
        }
        Some(_) => None,
    }
}

/// The input of the next step for the pod.
fn starts<'a>(s: &'a TownSnapshot, status: &'a TownStatus) -> Starts<'a> {
    let before = s.town.status.as_ref().map_or(&[][..], |b| b.conditions.as_slice());
    Starts {
        pod: s.pod(),
        record: status.pod.as_ref(),
        restarts: status.restarts.as_ref(),
        began: status.start_time.as_ref().map(|t| t.0),
        revision: Revision { starts: &s.revision, secrets: s.secrets.as_deref() },
        limit: Limit::OF_TOWN,
        wake_time: status.wake_time.as_ref().map(|t| t.0),
        refused: message_of(before, condition::DEGRADED),
    }
}

/// The revision and the generations for a pod that is created now.
pub(super) fn wanted(s: &TownSnapshot) -> update::Wanted<'_> {
    update::Wanted { revision: &s.revision, generations: (s.town.metadata.generation.unwrap_or_default(), 0) }
}

fn pod(
    s: &TownSnapshot,
    status: &mut TownStatus,
    c: &mut Conditions,
    (activity, next): (&TownActivity, Next),
    now: Timestamp,
    result: &mut Compute,
) {
    let delete = s.pod().map(|pod| Action::DeletePod(pod.key.clone(), pod.uid.clone()));
    match next {
        Next::Keep => {
            let Some(pod) = s.pod() else { return };
            let idle = *activity == TownActivity::None;
            let was_ready = status.start_time.is_none();
            let update = update::update(&s.town.metadata, pod, wanted(s), idle, was_ready);
            if let Update::Now(why) = update {
                status.restarts = None;
                status.start_time = None;
                status.pod = restart::gone(status.pod.as_ref());
                result.actions.extend(delete);
                c.reconciling(reason::STARTING, format!("replacing the pod: {why}"));
                return;
            }
            status.pod = Some(restart::pod_record(pod));
            let (ready, later) = pod_conditions(pod, c, now);
            if update == Update::Pending {
                c.set(condition::RECONCILING, true, reason::UPDATE_PENDING, update::PENDING_TEXT);
            }
            result.look_again = earlier(result.look_again, later);
            result.actions.extend(probe::own(s).lost_token());
            result.running = ready;
        }
        Next::Wait => {
            let before = s.town.status.as_ref().map_or(&[][..], |b| b.conditions.as_slice());
            // The failure of a pod stays in the conditions until the next pod starts.
            c.keep(condition::DEGRADED, before, &[reason::START_FAILED]);
            status.pod = restart::gone(status.pod.as_ref());
            result.look_again = earlier(result.look_again, show_leaving(s.pod(), c, now));
        }
        // The failed pod has an older spec, so the new start needs no pause.
        Next::BackOff(_) if s.pod().is_some_and(|pod| update::outdated(pod, wanted(s))) => {
            status.restarts = None;
            status.start_time = None;
            status.pod = restart::gone(status.pod.as_ref());
            result.actions.extend(delete);
            c.reconciling(reason::STARTING, "replacing a failed pod that was created from an older spec");
        }
        Next::BackOff(at) => {
            result.retry = Some(at);
            show_back_off(s.pod(), status.restarts.as_ref(), at, c);
            if s.pod().is_none() {
                status.pod = restart::gone(status.pod.as_ref());
            }
        }
        Next::Hold(until) => {
            result.retry = Some(until);
            status.pod = restart::gone(status.pod.as_ref());
            result.actions.extend(delete);
            let restarts = status.restarts.clone().unwrap_or_default();
            let text = format!(
                "{} starts of the town's pod failed in a row; the cause of the last failure: {}; the next start is at \
                 {}, or when the spec changes",
                restarts.count,
                restarts.message,
                stamp(until).0
            );
            c.reconciling(reason::START_FAILED, "the operator waits before the next start");
            c.degraded(reason::START_FAILED, text);
        }
        Next::Replace => {
            let Some(pod) = s.pod() else { return };
            status.pod = restart::gone(status.pod.as_ref());
            result.actions.extend(delete);
            let why = match &status.restarts {
                Some(restarts) if !pod.ended() => restarts.message.clone(),
                _ => why_ended(pod),
            };
            c.reconciling(reason::STARTING, format!("{why}; replacing the pod"));
            if !pod.ended() {
                c.degraded(reason::NOT_READY, format!("{why}; replacing the pod"));
            }
        }
        Next::Create if !s.may_start => {
            result.waits_to_start = true;
            result.look_again = None;
            // The start timeout excludes the time in the queue.
            status.start_time = s.town.status.as_ref().and_then(|before| before.start_time.clone());
            c.reconciling(
                reason::WAITING_FOR_TURN,
                "the town waits for a slot: the operator limits the number of towns that start at the same time",
            );
        }
        Next::Create => {
            result.actions.extend(probe::own_token(s.town.spec.activity_probe.as_ref()));
            result.actions.push(Action::CreatePod);
            status.pod = restart::gone(status.pod.as_ref());
            c.reconciling(reason::STARTING, STARTING_TEXT);
        }
    }
}

/// Whether the operator starts the pod of an awake town, or has started it without a known problem.
pub(super) fn starting(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> bool {
    let decided = starts(s, status).decide(now);
    match decided.next {
        Next::Create => true,
        Next::Keep => s.pod().is_some_and(|pod| {
            !pod.ready && pod.trouble.is_none() && pod.container_restarts == 0 && decided.began.is_some()
        }),
        _ => false,
    }
}
