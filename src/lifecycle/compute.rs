//! What a town has while it is awake: its volume, its Service, its pod.

use k8s_openapi::jiff::Timestamp;

use super::activity::TownActivity;
use super::clock::{earlier, stamp};
use super::conditions::Conditions;
use super::facts::TownSnapshot;
use super::ids::{OwnerRef, service_name};
use super::needs;
use super::plan::{Action, Notice};
use super::pods::{STARTING_TEXT, pod_conditions, show_back_off, show_leaving, slow_at, why_ended};
use super::probe;
use super::restart::{self, Next};
use super::update::{self, Update};
use crate::api::condition::{self, reason};
use crate::api::{RestartsStatus, TownStatus};

/// What is to be done about it, and how it stands.
#[derive(Default)]
pub(super) struct Compute {
    /// Writes, in order.
    pub(super) actions: Vec<Action>,
    /// Everything is as the spec asks, or there is nothing to run.
    pub(super) running: bool,
    /// A person must act.
    pub(super) blocked: bool,
    /// Its pod waits for its turn.
    pub(super) waits_to_start: bool,
    /// When to look again.
    pub(super) look_again: Option<Timestamp>,
    /// When to try again.
    pub(super) retry: Option<Timestamp>,
    /// What to say.
    pub(super) notice: Option<Notice>,
}

/// The volume, the Service and the pod of a town that is awake.
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
        status.pod = restart::gone(status.pod.as_ref());
        result.running = true;
        return result;
    }
    match needs::volume(s.town.spec.storage.as_ref(), s.claim.as_ref(), &mut status.storage, now) {
        Ok(volume) => {
            result.actions.extend(volume.actions);
            result.notice = volume.notice;
        }
        Err(why) => {
            result.blocked = why.1;
            needs::show_unusable(c, why);
            return result;
        }
    }
    result.actions.extend(service(s, status));
    let restarts = restarts(s, status, now);
    let crashed = restarts != status.restarts;
    status.restarts = restarts;
    let next = next(s, status, crashed, now);
    pod(s, status, c, (activity, next), now, &mut result);
    result
}

/// The Service follows `spec.ports`.
fn service(s: &TownSnapshot, status: &mut TownStatus) -> Option<Action> {
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
        Some(there) if there.ports != *ports => {
            Some(Action::UpdateService(there.child.key.clone(), there.child.uid.clone()))
        }
        Some(_) => None,
    }
}

/// The record of failed starts, with what the kubelet has started anew.
fn restarts(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<RestartsStatus> {
    match s.pod() {
        Some(pod) if pod.deleting() || pod.ended() => status.restarts.clone(),
        Some(pod) => restart::count_crashes(pod, status.pod.as_ref(), status.restarts.as_ref(), now),
        None => status.restarts.clone(),
    }
}

fn next(s: &TownSnapshot, status: &TownStatus, crashed: bool, now: Timestamp) -> Next {
    match s.pod() {
        // What failed was made from another spec.
        Some(pod) if pod.ended() && !pod.deleting() && update::outdated(pod, &s.revision) => {
            Next::Delete(None)
        }
        pod => restart::next_bounded(pod, status.pod.as_ref(), status.restarts.as_ref(), crashed, now),
    }
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
            let update = update::update(&s.town.metadata, pod, &s.revision, idle);
            if let Update::Now(why) = update {
                status.restarts = None;
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
            result.running = ready;
        }
        Next::Wait => {
            let before = s.town.status.as_ref().map_or(&[][..], |b| b.conditions.as_slice());
            // One that was given up says so until its successor starts.
            c.keep(condition::DEGRADED, before, &[reason::START_FAILED]);
            restart::excuse(s.pod(), &mut status.pod);
            result.look_again = show_leaving(s.pod(), c, now);
        }
        Next::BackOff(at) => {
            result.retry = Some(at);
            show_back_off(s.pod(), at, c);
        }
        Next::Hold(until) => {
            result.retry = Some(until);
            status.pod = restart::gone(status.pod.as_ref());
            result.actions.extend(delete);
            let text = format!(
                "the pod's last {} starts failed within 30 minutes{}; the next one is at {}, or when the spec changes",
                restart::LIMIT,
                s.pod().map_or_else(String::new, |pod| {
                    format!(", last: {}", pod.last_crash.clone().unwrap_or_else(|| why_ended(pod)))
                }),
                stamp(until).0
            );
            let before = s.town.status.as_ref().map_or(&[][..], |b| b.conditions.as_slice());
            c.reconciling(reason::START_FAILED, "waiting before the next start");
            c.degraded(reason::START_FAILED, text);
            // What the last one died of is known only while it is there.
            c.keep(condition::DEGRADED, before, &[reason::START_FAILED]);
        }
        Next::Delete(restarts) => {
            let Some(pod) = s.pod() else { return };
            status.restarts = restarts;
            status.pod = restart::gone(status.pod.as_ref());
            result.actions.extend(delete);
            c.reconciling(reason::STARTING, format!("{}; replacing it", why_ended(pod)));
        }
        Next::Create(_) if !s.may_start => {
            result.waits_to_start = true;
            c.reconciling(reason::WAITING_FOR_TURN, "waiting for its turn: only so many towns start at once");
        }
        Next::Create(restarts) => {
            result.actions.extend(probe::own_token(s.town.spec.activity_probe.as_ref()));
            result.actions.push(Action::CreatePod);
            status.restarts = restarts;
            status.pod = restart::gone(status.pod.as_ref());
            c.reconciling(reason::STARTING, STARTING_TEXT);
        }
    }
}

/// Whether the pod of a town that is awake is to be started, or has been and nothing is known to be wrong.
pub(super) fn starting(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> bool {
    match next(s, status, false, now) {
        Next::Create(_) => true,
        Next::Keep => s.pod().is_some_and(|pod| {
            !pod.ready
                && pod.trouble.is_none()
                && pod.container_restarts == 0
                && slow_at(pod).is_none_or(|at| now < at)
        }),
        _ => false,
    }
}
