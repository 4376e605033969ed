//! Invariant kept here: the operator reads a timestamp of a status that lies in the future as now. Only this module
//! does this.
//!
//! An operator whose clock was ahead leaves such timestamps. Without this rule a town does not sleep, a held pod does
//! not start, and a Failed agent gets no attempt before that time has come. The decided status carries the corrected
//! timestamp, so the clock continues from it.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::{after, stamp};
use super::facts::{AgentSnapshot, TownSnapshot};
use super::retry::START_WITHIN;
use crate::api::{AgentStatus, DestroyStatus, PodStatus, RestartsStatus, TownStatus, WorkStatus};

/// The tolerated difference between the clocks of the API server and of two operators. A smaller difference leaves the
/// timestamp unchanged, so that it costs no write.
const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// The snapshot of a town without timestamps in the future.
pub(super) fn of_town(s: &TownSnapshot, now: Timestamp) -> Cow<'_, TownSnapshot> {
    let Some(status) = s.town.status.as_ref() else { return Cow::Borrowed(s) };
    let mut read = status.clone();
    clamp_town(&mut read, now);
    if read == *status {
        return Cow::Borrowed(s);
    }
    let mut s = s.clone();
    Arc::make_mut(&mut s.town).status = Some(read);
    Cow::Owned(s)
}

/// The snapshot of an agent without timestamps in the future.
pub(super) fn of_agent(s: &AgentSnapshot, now: Timestamp) -> Cow<'_, AgentSnapshot> {
    let Some(status) = s.agent.status.as_ref() else { return Cow::Borrowed(s) };
    let mut read = status.clone();
    clamp_agent(&mut read, now);
    if read == *status {
        return Cow::Borrowed(s);
    }
    let mut s = s.clone();
    Arc::make_mut(&mut s.agent).status = Some(read);
    Cow::Owned(s)
}

/// The field `sleepTime` is a deadline, so it stays. The pod mark may lie in the future by the start timeout.
pub(super) fn clamp_town(status: &mut TownStatus, now: Timestamp) {
    for slot in [
        &mut status.last_active_time,
        &mut status.wake_time,
        &mut status.idle_time,
        &mut status.activity_unknown_time,
        &mut status.attach_time,
        &mut status.drain_time,
        &mut status.accepted_time,
        &mut status.start_time,
        &mut status.wake_request_time,
    ] {
        clamp(slot.as_mut(), now);
    }
    clamp(status.pod_mark_time.as_mut(), after(now, START_WITHIN));
    clamp(status.usage.as_mut().map(|usage| &mut usage.count_time), now);
    clamp_shared(status.pod.as_mut(), status.restarts.as_mut(), status.destroy.as_mut(), now);
}

pub(super) fn clamp_agent(status: &mut AgentStatus, now: Timestamp) {
    clamp(status.last_activity_time.as_mut(), now);
    clamp(status.start_time.as_mut(), now);
    if let Some(WorkStatus { window_start_time, start_time, finish_time, .. }) = status.work.as_mut() {
        for slot in [window_start_time, start_time, finish_time] {
            clamp(slot.as_mut(), now);
        }
    }
    clamp_shared(status.pod.as_mut(), status.restarts.as_mut(), status.destroy.as_mut(), now);
}

fn clamp_shared(
    pod: Option<&mut PodStatus>,
    restarts: Option<&mut RestartsStatus>,
    destroy: Option<&mut DestroyStatus>,
    now: Timestamp,
) {
    if let Some(pod) = pod {
        clamp(pod.start_time.as_mut(), now);
        clamp(pod.ready_time.as_mut(), now);
    }
    if let Some(restarts) = restarts {
        clamp(restarts.window_start_time.as_mut(), now);
        clamp(restarts.failure_time.as_mut(), now);
    }
    clamp(destroy.map(|destroy| &mut destroy.start_time), now);
}

fn clamp(slot: Option<&mut Time>, now: Timestamp) {
    if let Some(slot) = slot.filter(|slot| slot.0 > after(now, SKEW)) {
        *slot = stamp(now);
    }
}
