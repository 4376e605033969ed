//! The idle clock of an awake town. The status records the begin and the end of work, so that the clock survives every
//! restart of the operator.
//!
//! Invariant kept here: unknown activity is neither work nor its absence. The clock stops meanwhile, for a limited
//! time, and the status reports it.

use k8s_openapi::jiff::Timestamp;

use super::activity::{self, TownActivity};
use super::clock::{after, earlier, stamp};
use super::conditions::{Conditions, is_true};
use super::expiry::{SAID_BEFORE, soon};
use super::facts::TownSnapshot;
use super::plan::Notice;
use super::retry::START_WITHIN;
use super::sleep::{IdleClock, idle_clock, unknown_until, why_text};
use crate::api::condition::{self, reason};
use crate::api::{AsleepReason, TownStatus};

/// The reasons of the condition Active that are kept.
const KNOWN: [&str; 4] = [reason::WORK, reason::BACKLOG, reason::NO_WORK, reason::ACTIVITY_UNKNOWN];

/// The result of the clock.
#[derive(Default)]
pub(super) struct Kept {
    /// The time of the next reconcile for the clock.
    pub(super) look_again: Option<Timestamp>,
    /// The announcement of the coming sleep.
    pub(super) notice: Option<Notice>,
}

/// Updates the clock. `Err`: the time of the town is over, and it sleeps for this reason.
pub(super) fn keep(
    s: &TownSnapshot,
    status: &mut TownStatus,
    c: &mut Conditions,
    activity: &TownActivity,
    now: Timestamp,
) -> Result<Kept, AsleepReason> {
    let before = s.town.status.as_ref().map_or(&[][..], |b| b.conditions.as_slice());
    let was_active = is_true(before, condition::ACTIVE);
    note_person(s, status, now);
    note_pod(s, status, now);
    match activity {
        TownActivity::Work(why, text) => {
            if !was_active {
                status.last_active_time = Some(stamp(now));
            }
            status.activity_unknown_time = None;
            status.idle_time = None;
            status.sleep_time = None;
            c.set(condition::ACTIVE, true, why, *text);
            Ok(Kept::default())
        }
        TownActivity::None => {
            if was_active {
                status.last_active_time = Some(stamp(now));
            }
            if let Some(since) = status.activity_unknown_time.take() {
                resume(s, status, since.0, now);
            }
            c.set(condition::ACTIVE, false, reason::NO_WORK, "no agent has work");
            run(s, status, now)
        }
        TownActivity::NotYetKnown(until) => {
            c.keep(condition::ACTIVE, before, &KNOWN);
            c.keep(condition::DEGRADED, before, &[reason::ACTIVITY_UNKNOWN]);
            if !was_active && status.sleep_time.is_none() {
                // The deadline is shown immediately, because most probes confirm it. This saves a second write.
                let recorded = status.last_active_time.as_ref().map(|t| t.0);
                status.sleep_time = match idle_clock(s, status, recorded, now) {
                    IdleClock::Runs { sleeps_at, .. } if now < sleeps_at => Some(stamp(sleeps_at)),
                    _ => None,
                };
            }
            Ok(Kept { look_again: *until, notice: None })
        }
        TownActivity::Unknown(since, why) => {
            if was_active {
                status.last_active_time = Some(stamp(now));
            }
            let since = status.activity_unknown_time.get_or_insert_with(|| stamp(*since)).0;
            let text = format!(
                "the operator cannot determine whether the town has work, so the idle clock is paused: {why}"
            );
            c.unknown(condition::ACTIVE, reason::ACTIVITY_UNKNOWN, "");
            c.degraded(reason::ACTIVITY_UNKNOWN, text);
            // The message stays the same for a period of unknown activity, even if the failures differ.
            c.keep(condition::DEGRADED, before, &[reason::ACTIVITY_UNKNOWN]);
            if s.town.spec.always_on {
                status.sleep_time = None;
                return Ok(Kept::default());
            }
            let until = unknown_until(s, since);
            if until <= now {
                return Err(AsleepReason::ActivityUnknown);
            }
            status.sleep_time = Some(stamp(until));
            Ok(Kept { look_again: Some(until), notice: None })
        }
    }
}

/// Keeps the pod mark: the first time Ready of the pod, or the end of the start timeout after its creation, whichever
/// comes first. After the mark is reached, no later pod of this time awake moves it. A pod that is replaced again and
/// again therefore does not keep the town awake. The function also reads a timestamp of the API server that lies in
/// the future as now.
fn note_pod(s: &TownSnapshot, status: &mut TownStatus, now: Timestamp) {
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
pub(super) fn note_start(status: &mut TownStatus, now: Timestamp) {
    status.pod_mark_time.get_or_insert_with(|| stamp(after(now, START_WITHIN)));
}

/// Records that a user attaches or detaches. After a detach the time of the last input stays.
fn note_person(s: &TownSnapshot, status: &mut TownStatus, now: Timestamp) {
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

/// Runs the clock. The input of an attached user moves the clock continuously; the status records it only when the
/// shown deadline is no longer safe.
fn run(s: &TownSnapshot, status: &mut TownStatus, now: Timestamp) -> Result<Kept, AsleepReason> {
    let recorded = status.last_active_time.as_ref().map(|t| t.0);
    let attached = status.attach_time.as_ref().map(|t| t.0);
    let input = attached
        .and_then(|attached| activity::last_input(s, attached, now))
        .filter(|at| recorded.is_none_or(|known| *at > known));
    let sleeps_at = match idle_clock(s, status, input.or(recorded), now) {
        IdleClock::Runs { sleeps_at, .. } if sleeps_at <= now => return Err(AsleepReason::Idle),
        IdleClock::Runs { sleeps_at, .. } => sleeps_at,
        IdleClock::Off | IdleClock::Unknown => {
            status.sleep_time = None;
            return Ok(Kept::default());
        }
    };
    let early = status.sleep_time.as_ref().is_some_and(|shown| now < shown.0 && shown.0 <= sleeps_at);
    if input.is_none() || !early {
        status.last_active_time = input.map(stamp).or(status.last_active_time.take());
        status.sleep_time = Some(stamp(sleeps_at));
    }
    let (notice, say_at) = if s.town.spec.sleep_after.get() > SAID_BEFORE {
        let note = "the town sleeps within 5 minutes unless it gets work: it has had none for most of spec.sleepAfter";
        soon(reason::SLEEPS_SOON, sleeps_at, note.to_owned(), now)
    } else {
        (None, None)
    };
    Ok(Kept { look_again: earlier(say_at, Some(sleeps_at)), notice })
}

/// Reports that a town sleeps because its activity is unknown.
pub(super) fn show_why(status: &TownStatus, c: &mut Conditions) {
    if status.asleep_reason == Some(AsleepReason::ActivityUnknown) {
        c.degraded(reason::ACTIVITY_UNKNOWN, why_text(status.asleep_reason));
    }
}

/// Clears the fields about the time awake.
pub(super) fn forget(status: &mut TownStatus) {
    status.activity_unknown_time = None;
    status.idle_time = None;
    status.attach_time = None;
    status.pod_mark_time = None;
}
