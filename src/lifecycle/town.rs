//! The complete life of a town.

use k8s_openapi::jiff::Timestamp;

use super::clock::{after, stamp};
use super::compute::{self, compute};
use super::conditions::{Conditions, is_true};
use super::destroy;
use super::expiry::{self, Expiry};
use super::facts::{Freshness, TownSnapshot};
use super::idle;
use super::meta::{has_finalizer, is_held, is_paused, label, tombstone};
use super::needs;
use super::plan::{Action, Plan};
use super::pods::{delete_pods, end_pod, is_overdue, ours, overdue, overdue_at, unwatched_at};
use super::probe::{self, LastLook};
use super::restart;
use super::sleep::{self, SleepDecision};
use super::stamps;
use super::status::{finish_town, paused_town};
use super::update;
use super::wake;
use super::work::{self, TownActivity};
use crate::api::condition::{self, reason};
use crate::api::{AsleepReason, ExpiryPolicy, Tombstone, Town, TownPhase, TownStatus, names};

/// Whether a decision about this town may lead to an irreversible action, so that it needs facts read live. This holds
/// during the destruction of the town, and for the final check before sleep.
pub fn needs_live(town: &Town) -> bool {
    town.metadata.deletion_timestamp.is_some() || town.status.as_ref().is_some_and(|s| s.drain_time.is_some())
}

/// Whether the operator has never created an object for the town. Such a town needs a check first: the Tombstone of a
/// destroyed town may forbid it.
pub fn is_new(town: &Town) -> bool {
    let phase = town.status.as_ref().and_then(|s| s.phase.as_deref());
    let forbidden = town.status.as_ref().is_some_and(|s| {
        s.conditions.iter().any(|c| c.type_ == condition::STALLED && c.reason == reason::TOMBSTONE_EXISTS)
    });
    forbidden || phase.is_none() || !is_held(&town.metadata)
}

/// Decides about a town.
pub fn decide_town(s: &TownSnapshot, now: Timestamp) -> Plan<TownStatus> {
    let s = &*stamps::of_town(s, now);
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
    if let Some(record) = &s.forbidden_by {
        return forbidden(s, record, now);
    }
    if !has_finalizer(meta, names::FINALIZER) || label(meta, names::INSTALL).is_none() {
        return Plan::act(vec![Action::Adopt { town_uid: None }]);
    }
    if is_paused(meta) {
        return paused_town(s, now);
    }
    let mut status = s.town.status.clone().unwrap_or_default();
    let expiry = expiry::expiry(s, &status, now);
    match expiry {
        Expiry::InPast => return expired_before_birth(s, status, now),
        Expiry::Due(ExpiryPolicy::Destroy) => return Plan::act(vec![Action::DeleteSelf]),
        _ => {}
    }
    status.accepted_time.get_or_insert_with(|| stamp(now));
    let plan = if status.drain_time.is_some() {
        draining(s, status, now)
    } else if is_true(&status.conditions, condition::ASLEEP) {
        asleep(s, status, now)
    } else {
        awake(s, status, now)
    };
    let (notice, later) = expiry::coming(s, expiry, now);
    let mark = needs::mark_claim(s.town.spec.storage.as_ref(), s.claim.as_ref());
    plan.with_actions(mark.into_iter().chain(s.ownerless.iter().flat_map(end_pod)).collect())
        .announcing(notice)
        .look_again_at(later)
}

/// A live town with a tombstone annotation runs no pod and keeps its data. Such a town comes from a backup, or from a
/// manifest of a destroyed town that was applied again.
fn tombstoned(s: &TownSnapshot, value: &str, now: Timestamp) -> Plan<TownStatus> {
    let text = format!(
        "the annotation {}={value} marks this town as destroyed: the operator does not run it and keeps its data; \
         remove the annotation to run it, or delete the town",
        names::TOMBSTONE
    );
    not_run(s, TownPhase::Tombstoned, reason::TOMBSTONED, text, now)
}

/// A town with the name of a town that was destroyed with `recreate: Refuse`. The rule stops tools that create again
/// what a user has just destroyed.
fn forbidden(s: &TownSnapshot, record: &Tombstone, now: Timestamp) -> Plan<TownStatus> {
    let name = record.metadata.name.as_deref().unwrap_or_default();
    let text = format!(
        "a town of this name was destroyed, and its Tombstone blocks a new one (spec.tombstone.recreate: Refuse) until \
         {}: wait, or delete tombstone {name}, or use another name",
        record.spec.expire_time.0
    );
    not_run(s, TownPhase::Blocked, reason::TOMBSTONE_EXISTS, text, now)
}

/// No pod of the town runs, and its data is kept.
fn not_run(
    s: &TownSnapshot,
    phase: TownPhase,
    why: &'static str,
    text: String,
    now: Timestamp,
) -> Plan<TownStatus> {
    let mut status = s.town.status.clone().unwrap_or_default();
    let mut c = Conditions::of_town();
    c.stalled(why, text);
    // The condition Asleep keeps its status, so that the town continues from there.
    c.set(condition::ASLEEP, is_true(&status.conditions, condition::ASLEEP), why, "");
    status.sleep_time = None;
    status.drain_time = None;
    status.pod = restart::gone(status.pod.as_ref());
    finish_town(s, status, c, phase, now).with_actions(delete_pods(s.all_pods(), &s.install))
}

/// The operator starts nothing for the town and destroys nothing, because an expiry before the creation is an error.
fn expired_before_birth(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    let mut c = Conditions::of_town();
    let at = s.town.spec.expiry.as_ref().map(|e| e.time.0.to_string()).unwrap_or_default();
    c.stalled(
        reason::EXPIRY_IN_PAST,
        format!(
            "spec.expiry.time {at} is not after the town's creation: the operator does not run the town; set a time in \
             the future, or remove the field"
        ),
    );
    c.set(condition::ASLEEP, true, reason::EXPIRED, "");
    status.asleep_reason = Some(AsleepReason::Expired);
    status.sleep_time = None;
    finish_town(s, status, c, TownPhase::Blocked, now)
}

/// An awake town has its pod, until [`sleep::sleep_decision`] ends its time.
fn awake(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    let activity = work::of_town(s, now);
    if sleep::forced_sleep_reason(s, &status, now).is_none() {
        record_wake(s, &mut status, now);
        idle::record_activity(s, &mut status, &activity, now);
    }
    let until = match sleep::sleep_decision(s, &status, &activity, now) {
        SleepDecision::StayAwake { until } => until,
        SleepDecision::Sleep(why) => return drain(s, status, why, now),
    };
    let mut c = Conditions::of_town();
    let was_active = idle::was_active(s);
    let coming = idle::show_awake(s, &mut status, &mut c, (&activity, until), now);
    status.asleep_reason = None;
    c.set(condition::ASLEEP, false, reason::AWAKE, "");
    let compute = compute(s, &mut status, &mut c, &activity, now);
    let replaced = s.pod().is_some_and(|pod| {
        pod.ready
            && (update::outdated(pod, compute::wanted(s)) || update::restart_asked(&s.town.metadata, pod))
            && compute.actions.contains(&Action::DeletePod(pod.key.clone(), pod.uid.clone()))
    });
    if replaced {
        // The new pod restarts the idle clock, because the operator replaced the old pod on purpose.
        status.pod_mark_time = None;
    }
    if compute.actions.contains(&Action::CreatePod) {
        idle::record_start(&mut status, now);
    }
    if !compute.running && status.pod_mark_time.as_ref().is_none_or(|mark| now < mark.0) {
        // The start of the pod may still move the clock. The deadline is shown after that.
        status.sleep_time = None;
    }
    let work = match activity {
        TownActivity::Work(_) => true,
        // A probe without an answer does not change the activity yet.
        TownActivity::NotYetKnown(_) => was_active,
        TownActivity::None | TownActivity::Unknown(..) => false,
    };
    let phase = match (compute.running, work) {
        _ if compute.blocked => TownPhase::Blocked,
        _ if compute.waits_to_start
            && status.phase.as_deref().is_none_or(|p| p == TownPhase::Pending.as_str()) =>
        {
            TownPhase::Pending
        }
        (false, _) => TownPhase::Starting,
        (true, true) => TownPhase::Running,
        (true, false) => TownPhase::Idle,
    };
    let alarm = &s.town.spec.alarm;
    let cadence = match activity {
        TownActivity::Work(_) | TownActivity::Unknown(..) => alarm.active.get(),
        TownActivity::NotYetKnown(_) => probe::cadence(s),
        TownActivity::None => alarm.idle.get(),
    };
    let plan = finish_town(s, status, c, phase, now)
        .with_actions(compute.actions)
        .announcing(compute.notice)
        .announcing(coming.notice)
        .look_again_at(until)
        .look_again_at(coming.at)
        .look_again_at(compute.look_again)
        .retry_at(compute.retry)
        .asking(probe::ask_town(s, cadence, now));
    match (was_active, activity) {
        (true, TownActivity::None) => plan.because("no agent has work any more".into()),
        (false, TownActivity::Work(work)) => plan.because(work.text.into()),
        _ => plan,
    }
}

/// Records a wake request, and the wake of a town whose tombstone was removed.
fn record_wake(s: &TownSnapshot, status: &mut TownStatus, now: Timestamp) {
    if status.phase.as_deref() == Some(TownPhase::Tombstoned.as_str()) {
        // The idle clock dates from the time before the tombstone, and the agents have not reported their work yet.
        status.wake_time = Some(stamp(now));
    }
    if sleep::wake_requested(s, status) {
        status.handled_wake_request.clone_from(&s.town.spec.wake_request);
        status.wake_time = Some(stamp(now));
        status.wake_request_time = Some(stamp(now));
    }
}

/// The first phase of sleep: from here on no pod starts.
fn drain(s: &TownSnapshot, mut status: TownStatus, why: AsleepReason, now: Timestamp) -> Plan<TownStatus> {
    status.asleep_reason = Some(why);
    status.drain_time = Some(stamp(now));
    status.sleep_time = None;
    draining_status(s, status, now).exclusively()
}

fn draining_status(s: &TownSnapshot, status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    let mut c = Conditions::of_town();
    match work::of_town(s, now) {
        TownActivity::Work(work) => c.set(condition::ACTIVE, true, work.reason, work.text),
        // With "no work" on record, an answer that was too old would count again and stop the drain.
        _ if status.asleep_reason == Some(AsleepReason::ActivityUnknown) => {
            c.unknown(condition::ACTIVE, reason::ACTIVITY_UNKNOWN, "");
        }
        _ => {}
    }
    idle::show_unknown_activity(&status, &mut c);
    expiry::show_protected(s, &status, &mut c, now);
    if let Some((why, text)) = s.all_pods().find(|p| is_overdue(p, now)).map(overdue) {
        c.degraded(why, text);
    }
    c.reconciling(reason::DRAINING, format!("falling asleep: {}", sleep::why_text(status.asleep_reason)));
    finish_town(s, status, c, TownPhase::Draining, now)
}

/// The second phase of sleep, on facts read live: the town continues, or the drain waits for working agents, or the
/// operator deletes the pods.
fn draining(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    if s.freshness != Freshness::Live {
        return Plan::nothing();
    }
    let began = status.drain_time.as_ref().map_or(now, |t| t.0);
    let mut turn_back = sleep::wake_reason(s, &status, now);
    if turn_back.is_none() && sleep::forced_sleep_reason(s, &status, now).is_none() {
        match probe::last_look(s, began, now) {
            LastLook::Ask(questions) => return draining_status(s, status, now).asking(questions),
            LastLook::NoAnswer(why) if status.asleep_reason != Some(AsleepReason::ActivityUnknown) => {
                turn_back =
                    Some(format!("the operator could not determine whether the town has work: {why}"));
            }
            _ => {}
        }
    }
    if let Some(why) = turn_back {
        status.drain_time = None;
        status.asleep_reason = None;
        // The idle clock restarts, because the reason may be no work, for example a wake request or a lifted
        // suspension.
        status.wake_time = Some(stamp(now));
        return awake(s, status, now).without_actions().because(format!("the town stays awake: {why}"));
    }
    let bound = after(began, s.town.spec.drain.timeout.get());
    if work::holds_drain(s, now) && now < bound {
        // The probed agents are probed again, because the drain ends as soon as they report that they no longer work.
        let questions = probe::ask_all(s, s.town.spec.alarm.active.get(), now);
        return draining_status(s, status, now).look_again_at(Some(bound)).asking(questions);
    }
    if s.all_pods().any(|p| ours(p, &s.install)) {
        let overdue_at = s.all_pods().filter_map(overdue_at).filter(|at| now < *at).min();
        return draining_status(s, status, now)
            .with_actions(delete_pods(s.all_pods(), &s.install))
            .look_again_at(overdue_at)
            .look_again_at(unwatched_at(s.all_pods(), now));
    }
    fall_asleep(s, status, now)
}

/// No pod of the town remains, so the town is asleep.
fn fall_asleep(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    status.drain_time = None;
    status.pod = restart::gone(status.pod.as_ref());
    status.restarts = None;
    status.start_time = None;
    idle::clear_awake_fields(&mut status);
    let wakes_at =
        wake::wakes_at(s).filter(|at| now < *at && sleep::forced_sleep_reason(s, &status, now).is_none());
    asleep_status(s, status, now).retry_at(wakes_at)
}

fn asleep_status(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    let why = match status.asleep_reason {
        Some(AsleepReason::Suspended) => reason::SUSPENDED,
        Some(AsleepReason::Expired) => reason::EXPIRED,
        Some(AsleepReason::ActivityUnknown) => reason::ACTIVITY_UNKNOWN,
        _ => reason::IDLE,
    };
    let mut c = Conditions::of_town();
    idle::show_unknown_activity(&status, &mut c);
    expiry::show_protected(s, &status, &mut c, now);
    c.ready(reason::ASLEEP, format!("asleep: {}", sleep::why_text(status.asleep_reason)));
    c.set(condition::ASLEEP, true, why, "");
    status.sleep_time = None;
    finish_town(s, status, c, TownPhase::Asleep, now)
}

/// An asleep town has no pods and no timer. The town wakes when the reason to sleep ends or when it gets work.
fn asleep(s: &TownSnapshot, mut status: TownStatus, now: Timestamp) -> Plan<TownStatus> {
    // A town that waits for its turn stays asleep. The reason to wake is state, so it is still there later.
    if let Some(why) = sleep::wake_reason(s, &status, now).filter(|_| s.may_start) {
        status.wake_time = Some(stamp(now));
        status.asleep_reason = None;
        return awake(s, status, now).without_actions().because(format!("woken: {why}"));
    }
    if let Some(reason) = sleep::forced_sleep_reason(s, &status, now) {
        status.asleep_reason = Some(reason);
    }
    // Without ports the Service is deleted immediately. The Service for added ports waits for the pod.
    let surplus = if s.town.spec.ports.is_empty() { compute::service(s, &mut status) } else { None };
    // A late create may have created a pod of a sleeping town. The operator deletes it.
    let strays = delete_pods(s.all_pods(), &s.install);
    let wakes_at =
        wake::wakes_at(s).filter(|at| now < *at && sleep::forced_sleep_reason(s, &status, now).is_none());
    asleep_status(s, status, now)
        .with_actions(strays)
        .with_actions(surplus.into_iter().collect())
        .retry_at(wakes_at)
}

/// Whether the operator starts the town's own pod, or has started it without a known problem. The number of such towns
/// is limited. After the first failed start another town may start.
pub fn starting(s: &TownSnapshot, now: Timestamp) -> bool {
    let s = &*stamps::of_town(s, now);
    let meta = &s.town.metadata;
    let dead = meta.deletion_timestamp.is_some()
        || tombstone(meta).is_some()
        || s.forbidden_by.is_some()
        || is_paused(meta);
    if dead || s.town.spec.template.is_none() || !has_finalizer(meta, names::FINALIZER) {
        return false;
    }
    let fresh = TownStatus::default();
    let status = s.town.status.as_ref().unwrap_or(&fresh);
    if sleep::forced_sleep_reason(s, status, now).is_some()
        || status.drain_time.is_some()
        || expiry::expiry(s, status, now) == Expiry::InPast
    {
        return false;
    }
    if is_true(&status.conditions, condition::ASLEEP) {
        return sleep::wake_reason(s, status, now).is_some();
    }
    compute::starting(s, status, now)
}
