//! The whole life of a town on one page.

use k8s_openapi::jiff::Timestamp;

use super::activity;
use super::clock::{after, earlier, stamp};
use super::conditions::{Conditions, is_true};
use super::destroy;
use super::facts::{Freshness, TownSnapshot};
use super::needs;
use super::plan::{Action, Plan};
use super::pods::{STARTING_TEXT, delete_pods, ours, pod_conditions, show_back_off, why_ended};
use super::restart::{self, Next};
use super::sleep::{self, IdleClock};
use super::status::finish_town;
use super::{has_finalizer, label, tombstone};
use crate::api::condition::{self, reason};
use crate::api::{AsleepReason, Town, TownStatus, names};

/// Says that there is work, not whose: it must not change with every agent that comes or goes.
const WORK_TEXT: &str = "an agent has an unfinished bead";

/// The phase of a live town that carries a tombstone.
const TOMBSTONED: &str = "Tombstoned";

/// Whether a decision about this town may end in what cannot be undone, so that it must rest on facts
/// read live: while it is being destroyed, and for the last look before it sleeps.
pub fn needs_live(town: &Town) -> bool {
    town.metadata.deletion_timestamp.is_some()
        || town.status.as_ref().is_some_and(|s| s.draining_since.is_some())
}

/// What should happen to a town now.
pub fn decide_town(s: &TownSnapshot, now: Timestamp) -> Plan<TownStatus> {
    let meta = &s.town.metadata;
    if label(meta, names::INSTALL).is_some_and(|install| install != s.install) {
        return Plan::nothing();
    }
    if meta.deletion_timestamp.is_some() {
        return destroy::town(s, now);
    }
    if let Some(value) = tombstone(meta) {
        return tombstoned(s, value, now);
    }
    if !has_finalizer(meta, names::FINALIZER) || label(meta, names::INSTALL).is_none() {
        return Plan::act(vec![Action::Adopt { town_uid: None }]);
    }
    let status = s.town.status.clone().unwrap_or_default();
    if status.draining_since.is_some() {
        draining(s, status, now)
    } else if is_true(&status.conditions, condition::ASLEEP) {
        asleep(s, status, now)
    } else {
        awake(s, status, now)
    }
}

/// A live town that carries a tombstone runs nothing and keeps its data: a restored backup, or a
/// manifest of a destroyed town that was applied again.
fn tombstoned(s: &TownSnapshot, value: &str, now: Timestamp) -> Plan<TownStatus> {
    let mut status = s.town.status.clone().unwrap_or_default();
    let mut c = Conditions::of_town();
    c.stalled(
        reason::TOMBSTONED,
        format!(
            "the annotation {}={value} marks this town as destroyed: nothing of it is run, its data is kept; \
             remove the annotation to run it, or delete the town",
            names::TOMBSTONE
        ),
    );
    // Whether it slept stays on record: without the tombstone it goes on from there.
    c.set(condition::ASLEEP, is_true(&status.conditions, condition::ASLEEP), reason::TOMBSTONED, "");
    status.sleep_at = None;
    status.draining_since = None;
    status.pod = restart::gone(status.pod.as_ref());
    finish_town(s, status, c, TOMBSTONED, now).with_actions(delete_pods(&s.pods, &s.install))
}

/// Awake: it has its pod, and sleeps once it has had no work for `sleepAfter`.
fn awake(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    if s.town.spec.suspended {
        return drain(s, status, AsleepReason::Suspended, now);
    }
    let mut c = Conditions::of_town();
    let was_active = is_true(&status.conditions, condition::ACTIVE);
    let work = activity::has_work(s);
    if status.phase.as_deref() == Some(TOMBSTONED) {
        // The idle clock is as old as the tombstone, and its agents have not said yet what they have to do.
        status.woke_at = Some(stamp(now));
    }
    if sleep::wake_requested(s, &status) {
        status.handled_wake_request.clone_from(&s.town.spec.wake_request);
        status.woke_at = Some(stamp(now));
    }
    let mut look_again = None;
    if work {
        if !was_active {
            status.last_active_at = Some(stamp(now));
        }
        status.sleep_at = None;
        c.set(condition::ACTIVE, true, reason::WORK, WORK_TEXT);
    } else {
        if was_active {
            status.last_active_at = Some(stamp(now));
        }
        match sleep::idle_clock(s, &status, status.last_active_at.as_ref().map(|t| t.0)) {
            IdleClock::SleepsAt(at) if at <= now => return drain(s, status, AsleepReason::Idle, now),
            IdleClock::SleepsAt(at) => {
                status.sleep_at = Some(stamp(at));
                look_again = Some(at);
            }
            IdleClock::Off | IdleClock::Unknown => status.sleep_at = None,
        }
        c.set(condition::ACTIVE, false, reason::NO_WORK, "no agent has work");
    }
    status.asleep_reason = None;
    c.set(condition::ASLEEP, false, reason::AWAKE, "");
    let (actions, running) = compute(s, &mut status, &mut c, now, &mut look_again);
    if !running {
        // The clock may yet move with the start of the pod: it is shown once it is settled.
        status.sleep_at = None;
    }
    let phase = match (running, work) {
        (false, _) => "Starting",
        (true, true) => "Running",
        (true, false) => "Idle",
    };
    let plan = finish_town(s, status, c, phase, now).with_actions(actions).look_again_at(look_again);
    match (was_active, work) {
        (true, false) => plan.because("no agent has work any more".into()),
        (false, true) => plan.because(WORK_TEXT.into()),
        _ => plan,
    }
}

/// The claim and the pod of a town that is awake; whether they are as its spec asks.
fn compute(
    s: &TownSnapshot,
    status: &mut TownStatus,
    c: &mut Conditions,
    now: Timestamp,
    look_again: &mut Option<Timestamp>,
) -> (Vec<Action>, bool) {
    if s.town.spec.template.is_none() {
        c.ready(reason::RUNNING, "the town has no pod of its own; its agents may start");
        let stray =
            s.pod().filter(|p| !p.deleting()).map(|p| Action::DeletePod(p.key.clone(), p.uid.clone()));
        status.pod = restart::gone(status.pod.as_ref());
        return (stray.into_iter().collect(), true);
    }
    let mut actions = Vec::new();
    if s.town.spec.storage.is_some() {
        match needs::claim(s.claim.as_ref(), &mut status.storage) {
            Ok(action) => actions.extend(action),
            Err(text) => {
                c.reconciling(reason::CLAIM_UNUSABLE, text);
                c.set(
                    condition::DEGRADED,
                    true,
                    reason::CLAIM_UNUSABLE,
                    "the town's volume claim is being deleted",
                );
                return (actions, false);
            }
        }
    }
    match restart::next(s.pod(), status.pod.as_ref(), status.restarts.as_ref(), now) {
        Next::Keep => {
            if let Some(pod) = s.pod() {
                status.pod = Some(restart::pod_record(pod));
                let (ready, later) = pod_conditions(pod, c, now);
                *look_again = earlier(*look_again, later);
                return (actions, ready);
            }
        }
        Next::Wait => c.reconciling(reason::STARTING, "waiting for the old pod to go"),
        Next::BackOff(at) => {
            *look_again = earlier(*look_again, Some(at));
            show_back_off(s.pod(), at, c);
        }
        Next::Delete(restarts) => {
            if let Some(pod) = s.pod() {
                status.restarts = restarts;
                status.pod = restart::gone(status.pod.as_ref());
                actions.push(Action::DeletePod(pod.key.clone(), pod.uid.clone()));
                c.reconciling(reason::STARTING, format!("{}; replacing it", why_ended(pod)));
            }
        }
        Next::Create(restarts) => {
            actions.push(Action::CreatePod);
            status.restarts = restarts;
            status.pod = restart::gone(status.pod.as_ref());
            c.reconciling(reason::STARTING, STARTING_TEXT);
        }
    }
    (actions, false)
}

/// First phase of falling asleep: from here on nothing starts.
fn drain(s: &TownSnapshot, mut status: TownStatus, why: AsleepReason, now: Timestamp) -> Plan<TownStatus> {
    status.asleep_reason = Some(why);
    status.draining_since = Some(stamp(now));
    status.sleep_at = None;
    draining_status(s, status, now).exclusively()
}

fn draining_status(s: &TownSnapshot, status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    let mut c = Conditions::of_town();
    if activity::has_work(s) {
        c.set(condition::ACTIVE, true, reason::WORK, WORK_TEXT);
    }
    let why = match status.asleep_reason {
        Some(AsleepReason::Suspended) => "spec.suspended is set",
        _ => "no work for spec.sleepAfter",
    };
    c.reconciling(reason::DRAINING, format!("falling asleep: {why}"));
    finish_town(s, status, c, "Draining", now)
}

/// Second phase, on live facts: back to work, or wait for those who work, or delete the pods.
fn draining(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    if s.freshness != Freshness::Live {
        return Plan::nothing();
    }
    if let Some(why) = sleep::wake(s, &status) {
        status.draining_since = None;
        status.asleep_reason = None;
        // The idle clock starts anew: what turned it back may be no work (a request, a decree lifted).
        status.woke_at = Some(stamp(now));
        return awake(s, status, now).without_actions().because(format!("not asleep after all: {why}"));
    }
    let began = status.draining_since.as_ref().map_or(now, |t| t.0);
    let bound = after(began, s.town.spec.drain.timeout.get());
    if activity::anyone_working(s) && now < bound {
        return draining_status(s, status, now).look_again_at(Some(bound));
    }
    if s.pods.iter().any(|p| ours(p, &s.install)) {
        return draining_status(s, status, now).with_actions(delete_pods(&s.pods, &s.install));
    }
    fall_asleep(s, status, now)
}

/// No pod of the town is left: it is asleep.
fn fall_asleep(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    status.draining_since = None;
    status.pod = restart::gone(status.pod.as_ref());
    status.restarts = None;
    asleep_status(s, status, now)
}

fn asleep_status(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    let (why, text) = match status.asleep_reason {
        Some(AsleepReason::Suspended) => (reason::SUSPENDED, "asleep: spec.suspended is set".to_owned()),
        _ => (reason::IDLE, "asleep: no work for spec.sleepAfter".to_owned()),
    };
    let mut c = Conditions::of_town();
    c.ready(reason::ASLEEP, text);
    c.set(condition::ASLEEP, true, why, "");
    status.sleep_at = None;
    finish_town(s, status, c, "Asleep", now)
}

/// Asleep: no pods, no timer; it wakes when the reason no longer holds or work is there.
fn asleep(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    if let Some(why) = sleep::wake(s, &status) {
        status.woke_at = Some(stamp(now));
        status.asleep_reason = None;
        return awake(s, status, now).without_actions().because(format!("woken: {why}"));
    }
    if s.town.spec.suspended {
        status.asleep_reason = Some(AsleepReason::Suspended);
    }
    // Whoever made a pod of a sleeping town (a create that came late) did not make it for long.
    let strays = delete_pods(&s.pods, &s.install);
    asleep_status(s, status, now).with_actions(strays)
}
