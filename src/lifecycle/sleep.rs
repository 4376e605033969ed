//! Sleep and wake: [`sleep_decision`] decides about an awake town, and [`wake_reason`] about a sleeping one.
//!
//! Invariant kept here: no wake is lost. Sleep has two phases. First the operator marks the town as draining, after
//! every create in progress has its answer. Then the operator decides on facts read live: the town sleeps or
//! continues. A wake is a comparison of state with state, not an event, so the next reconcile finds every wake.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::activity;
use super::clock::after;
use super::expiry::{Expiry, expiry};
use super::facts::TownSnapshot;
use super::work::{self, TownActivity};
use crate::api::{AsleepReason, ExpiryPolicy, TownStatus};

/// A town with unknown activity sleeps after this multiple of `sleepAfter`.
const UNKNOWN_TIMES: i32 = 3;

/// The decision about an awake town.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SleepDecision {
    /// The town stays awake, at least until this time. `None`: until something changes.
    StayAwake { until: Option<Timestamp> },
    /// The town sleeps.
    Sleep(AsleepReason),
}

/// Decides whether an awake town sleeps. Every sleep begins here.
pub(super) fn sleep_decision(
    s: &TownSnapshot,
    status: &TownStatus,
    activity: &TownActivity,
    now: Timestamp,
) -> SleepDecision {
    if let Some(reason) = forced_sleep_reason(s, status, now) {
        return SleepDecision::Sleep(reason);
    }
    let (reason, sleeps_at) = match activity {
        TownActivity::Work(_) => return SleepDecision::StayAwake { until: None },
        TownActivity::NotYetKnown(until) => return SleepDecision::StayAwake { until: *until },
        TownActivity::None => (AsleepReason::Idle, idle_clock(s, status, last_active(s, status, now), now)),
        TownActivity::Unknown(since, _) => {
            let since = status.activity_unknown_time.as_ref().map_or(*since, |since| since.0);
            (AsleepReason::ActivityUnknown, unknown_clock(s, since))
        }
    };
    match sleeps_at {
        IdleClock::Runs { sleeps_at, .. } if sleeps_at <= now => SleepDecision::Sleep(reason),
        IdleClock::Runs { sleeps_at, .. } => SleepDecision::StayAwake { until: Some(sleeps_at) },
        IdleClock::Off | IdleClock::Unknown => SleepDecision::StayAwake { until: None },
    }
}

/// The time of the last work or input of a user.
pub(super) fn last_active(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<Timestamp> {
    let recorded = status.last_active_time.as_ref().map(|t| t.0);
    unrecorded_input(s, status, now).or(recorded)
}

/// The input of an attached user that is later than the recorded activity.
pub(super) fn unrecorded_input(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<Timestamp> {
    let recorded = status.last_active_time.as_ref().map(|t| t.0);
    let input = activity::last_input(s, status.attach_time.as_ref()?.0, now)?;
    Some(input).filter(|at| recorded.is_none_or(|known| *at > known))
}

/// The idle clock of an awake town without work.
pub(super) enum IdleClock {
    /// The town never sleeps on its own.
    Off,
    /// No recorded time marks the start of the clock.
    Unknown,
    /// The clock runs since this time. The town sleeps at `sleeps_at` if it gets no work.
    Runs { since: Timestamp, sleeps_at: Timestamp },
}

/// Reads the idle clock. `last_active` is the time of the last observed work.
pub(super) fn idle_clock(
    s: &TownSnapshot,
    status: &TownStatus,
    last_active: Option<Timestamp>,
    now: Timestamp,
) -> IdleClock {
    if s.town.spec.always_on {
        return IdleClock::Off;
    }
    let created = s.town.metadata.creation_timestamp.as_ref().filter(|created| created.0 <= now);
    // A mark in the future holds the clock only while a pod exists that may reach the mark.
    let mark = status.pod_mark_time.as_ref().filter(|mark| s.pod().is_some() || mark.0 <= now);
    let stamps = [status.wake_time.as_ref(), status.idle_time.as_ref(), created, mark];
    match stamps.into_iter().flatten().map(|stamp| stamp.0).chain(last_active).max() {
        Some(since) => IdleClock::Runs { since, sleeps_at: after(since, s.town.spec.sleep_after.get()) },
        None => IdleClock::Unknown,
    }
}

/// The clock of unknown activity that began at this time: the tolerance is limited.
fn unknown_clock(s: &TownSnapshot, since: Timestamp) -> IdleClock {
    if s.town.spec.always_on {
        return IdleClock::Off;
    }
    let bound = s.town.spec.sleep_after.get().checked_mul(UNKNOWN_TIMES).unwrap_or(SignedDuration::MAX);
    IdleClock::Runs { since, sleeps_at: after(since, bound) }
}

/// The reason why a town must sleep regardless of its work, if any. A town with an unreadable spec sleeps like a
/// suspended town: its agents finish within `drain.timeout`, and the town costs nothing until a user corrects the
/// spec.
pub(super) fn forced_sleep_reason(
    s: &TownSnapshot,
    status: &TownStatus,
    now: Timestamp,
) -> Option<AsleepReason> {
    if s.town.spec.suspend || s.town.spec.unreadable.is_some() {
        return Some(AsleepReason::Suspended);
    }
    match expiry(s, status, now) {
        Expiry::Due(ExpiryPolicy::Sleep) => Some(AsleepReason::Expired),
        _ => None,
    }
}

/// The reason why a sleeping town must wake, or why a draining town continues. `None`: the town sleeps. Work never
/// overrides a forced sleep.
pub(super) fn wake_reason(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<String> {
    let spec = &s.town.spec;
    if forced_sleep_reason(s, status, now).is_some() {
        return None;
    }
    match status.asleep_reason {
        Some(AsleepReason::Suspended) => return Some("spec.suspend is no longer true".into()),
        Some(AsleepReason::Expired) => return Some("spec.expiry was moved or removed".into()),
        _ => {}
    }
    if spec.always_on {
        return Some("spec.alwaysOn is set".into());
    }
    if wake_requested(s, status) {
        return Some(format!("spec.wakeRequest changed to '{}'", spec.wake_request));
    }
    work::wakes(s, status, now)
}

/// Whether the spec has a wake request that the operator has not handled.
pub(super) fn wake_requested(s: &TownSnapshot, status: &TownStatus) -> bool {
    let request = &s.town.spec.wake_request;
    !request.is_empty() && *request != status.handled_wake_request
}

/// The text of a reason to sleep.
pub(super) fn why_text(reason: Option<AsleepReason>) -> &'static str {
    match reason {
        Some(AsleepReason::Suspended) => "spec.suspend is set",
        Some(AsleepReason::Expired) => "spec.expiry is past",
        Some(AsleepReason::ActivityUnknown) => {
            "the operator could not determine for 3 times spec.sleepAfter whether the town has work"
        }
        _ => "no work for spec.sleepAfter",
    }
}
