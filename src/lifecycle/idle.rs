//! The idle clock of an awake town. The status records the begin and the end of work, so that the clock survives every
//! restart of the operator.
//!
//! Invariant kept here: unknown activity is neither work nor its absence. The clock stops meanwhile, for a limited
//! time, and the status reports it.

use k8s_openapi::jiff::Timestamp;

use super::activity;
use super::clock::{after, stamp};
use super::conditions::{Conditions, is_true};
use super::expiry::{SAID_BEFORE, soon};
use super::facts::TownSnapshot;
use super::plan::Notice;
use super::retry::START_WITHIN;
use super::sleep::{IdleClock, idle_clock, unrecorded_input, why_text};
use super::work::TownActivity;
use crate::api::condition::{self, reason};
use crate::api::{AsleepReason, TownStatus};

/// The reasons of the condition Active that are kept.
const KNOWN: [&str; 4] = [reason::WORK, reason::BACKLOG, reason::NO_WORK, reason::ACTIVITY_UNKNOWN];

/// Records the begin and the end of work and of unknown activity, before the decision about sleep.
pub(super) fn record_activity(
    s: &TownSnapshot,
    status: &mut TownStatus,
    activity: &TownActivity,
    now: Timestamp,
) {
    let was_active = was_active(s);
    record_attached_user(s, status, now);
    record_pod(s, status, now);
    match activity {
        TownActivity::Work(_) => {
            if !was_active {
                status.last_active_time = Some(stamp(now));
            }
            status.activity_unknown_time = None;
            status.idle_time = None;
        }
        TownActivity::None => {
            if was_active {
                status.last_active_time = Some(stamp(now));
            }
            if let Some(since) = status.activity_unknown_time.take() {
                resume(s, status, since.0, now);
            }
        }
        TownActivity::NotYetKnown(_) => {}
        TownActivity::Unknown(since, _) => {
            if was_active {
                status.last_active_time = Some(stamp(now));
            }
            status.activity_unknown_time.get_or_insert_with(|| stamp(*since));
        }
    }
}

/// Shows the activity and the time of the coming sleep of a town that stays awake until this time.
pub(super) fn show_awake(
    s: &TownSnapshot,
    status: &mut TownStatus,
    c: &mut Conditions,
    (activity, until): (&TownActivity, Option<Timestamp>),
    now: Timestamp,
) -> Announcement {
    let before = s.town.status.as_ref().map_or(&[][..], |b| b.conditions.as_slice());
    match activity {
        TownActivity::Work(work) => {
            status.sleep_time = None;
            c.set(condition::ACTIVE, true, work.reason, work.text);
        }
        TownActivity::None => {
            c.set(condition::ACTIVE, false, reason::NO_WORK, "no agent has work");
            return show_idle(s, status, until, now);
        }
        TownActivity::NotYetKnown(_) => {
            c.keep(condition::ACTIVE, before, &KNOWN);
            c.keep(condition::DEGRADED, before, &[reason::ACTIVITY_UNKNOWN]);
            if !was_active(s) && status.sleep_time.is_none() {
                // The deadline is shown immediately, because most probes confirm it. This saves a second write.
                let recorded = status.last_active_time.as_ref().map(|t| t.0);
                status.sleep_time = match idle_clock(s, status, recorded, now) {
                    IdleClock::Runs { sleeps_at, .. } if now < sleeps_at => Some(stamp(sleeps_at)),
                    _ => None,
                };
            }
        }
        TownActivity::Unknown(_, why) => {
            let text = format!(
                "the operator cannot determine whether the town has work, so the idle clock is paused: {why}"
            );
            c.unknown(condition::ACTIVE, reason::ACTIVITY_UNKNOWN, "");
            c.degraded(reason::ACTIVITY_UNKNOWN, text);
            // The message stays the same for a period of unknown activity, even if the failures differ.
            c.keep(condition::DEGRADED, before, &[reason::ACTIVITY_UNKNOWN]);
            status.sleep_time = until.map(stamp);
        }
    }
    Announcement::default()
}

/// Whether the stored status says that the town has work.
pub(super) fn was_active(s: &TownSnapshot) -> bool {
    s.town.status.as_ref().is_some_and(|before| is_true(&before.conditions, condition::ACTIVE))
}

/// Keeps the pod mark: the first time Ready of the pod, or the end of the start timeout after its creation, whichever
/// comes first. After the mark is reached, no later pod of this time awake moves it. A pod that is replaced again and
/// again therefore does not keep the town awake. The function also reads a timestamp of the API server that lies in
/// the future as now.
fn record_pod(s: &TownSnapshot, status: &mut TownStatus, now: Timestamp) {
    if let Some(pod) = s.pod() {
        let created = pod.created.unwrap_or(now).min(now);
        let mark = status.pod_mark_time.as_ref().map_or_else(|| after(created, START_WITHIN), |mark| mark.0);
        let ready = pod.ready.then(|| pod.ready_since.unwrap_or(created).min(now));
        status.pod_mark_time = Some(stamp(ready.map_or(mark, |ready| ready.min(mark))));
    }
    let created = s.town.metadata.creation_timestamp.as_ref();
    if created.is_some_and(|created| now < created.0) && status.idle_time.is_none() {
        status.idle_time = Some(stamp(now));
    }
}

/// Sets the mark before the first pod of a start is created. The mark does not depend on that pod.
pub(super) fn record_start(status: &mut TownStatus, now: Timestamp) {
    status.pod_mark_time.get_or_insert_with(|| stamp(after(now, START_WITHIN)));
}

/// Records that a user attaches or detaches. After a detach the time of the last input stays.
fn record_attached_user(s: &TownSnapshot, status: &mut TownStatus, now: Timestamp) {
    match activity::attached(s, now) {
        Some(true) => status.attach_time = status.attach_time.take().or_else(|| Some(stamp(now))),
        Some(false) => {
            if let Some(since) = status.attach_time.take()
                && let Some(input) = activity::last_input(s, since.0, now)
                && status.last_active_time.as_ref().is_none_or(|known| known.0 < input)
            {
                status.last_active_time = Some(stamp(input));
            }
        }
        None => {}
    }
}

/// Resumes the clock. The time of unknown activity does not count.
fn resume(s: &TownSnapshot, status: &mut TownStatus, since: Timestamp, now: Timestamp) {
    let last = status.last_active_time.as_ref().map(|t| t.0);
    if let IdleClock::Runs { since: idle, .. } = idle_clock(s, status, last, now) {
        let shifted = after(idle, now.duration_since(since));
        status.idle_time = Some(stamp(shifted.min(now)));
    }
}

/// The announcement of the coming sleep.
#[derive(Default)]
pub(super) struct Announcement {
    /// The announcement, if it is due.
    pub(super) notice: Option<Notice>,
    /// The time of the announcement, if it is still to come.
    pub(super) at: Option<Timestamp>,
}

/// Shows the time at which a town without work sleeps. The input of an attached user moves this time continuously; the
/// status records it only when the shown time is no longer safe.
fn show_idle(
    s: &TownSnapshot,
    status: &mut TownStatus,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Announcement {
    let Some(sleeps_at) = until else {
        status.sleep_time = None;
        return Announcement::default();
    };
    let input = unrecorded_input(s, status, now);
    let early = status.sleep_time.as_ref().is_some_and(|shown| now < shown.0 && shown.0 <= sleeps_at);
    if input.is_none() || !early {
        status.last_active_time = input.map(stamp).or(status.last_active_time.take());
        status.sleep_time = Some(stamp(sleeps_at));
    }
    if s.town.spec.sleep_after.get() <= SAID_BEFORE {
        return Announcement::default();
    }
    let note =
        "the town sleeps within 5 minutes unless it gets work: it has had none for most of spec.sleepAfter";
    let (notice, at) = soon(reason::SLEEPS_SOON, sleeps_at, note.to_owned(), now);
    Announcement { notice, at }
}

/// Reports that a town sleeps because its activity is unknown.
pub(super) fn show_unknown_activity(status: &TownStatus, c: &mut Conditions) {
    if status.asleep_reason == Some(AsleepReason::ActivityUnknown) {
        c.degraded(reason::ACTIVITY_UNKNOWN, why_text(status.asleep_reason));
    }
}

/// Clears the fields about the time awake.
pub(super) fn clear_awake_fields(status: &mut TownStatus) {
    status.activity_unknown_time = None;
    status.idle_time = None;
    status.attach_time = None;
    status.pod_mark_time = None;
}
