//! Sleep and wake.
//!
//! Invariant kept here: no wake is lost. Sleep has two phases. First the operator marks the town as draining, after
//! every create in progress has its answer. Then the operator decides on facts read live: the town sleeps or
//! continues. A wake is a comparison of state with state, not an event, so the next reconcile finds every wake.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::activity::{self, AgentActivity};
use super::agent_view::mode;
use super::clock::after;
use super::expiry::{Expiry, expiry};
use super::facts::TownSnapshot;
use super::meta::is_paused;
use super::{probe, retry};
use crate::api::{Agent, AsleepReason, ExpiryPolicy, Mode, TownStatus};

/// A town with unknown activity sleeps after this multiple of `sleepAfter`.
const UNKNOWN_TIMES: i32 = 3;

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

/// The end of the tolerance for unknown activity that began at this time.
pub(super) fn unknown_until(s: &TownSnapshot, since: Timestamp) -> Timestamp {
    let bound = s.town.spec.sleep_after.get().checked_mul(UNKNOWN_TIMES).unwrap_or(SignedDuration::MAX);
    after(since, bound)
}

/// The reason why a town must sleep regardless of its work, if any. A town with an unreadable spec sleeps like a
/// suspended town: its agents finish within `drain.timeout`, and the town costs nothing until a user corrects the
/// spec.
pub(super) fn decree(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<AsleepReason> {
    if s.town.spec.suspend || s.town.spec.unreadable.is_some() {
        return Some(AsleepReason::Suspended);
    }
    match expiry(s, status, now) {
        Expiry::Due(ExpiryPolicy::Sleep) => Some(AsleepReason::Expired),
        _ => None,
    }
}

/// The reason why a sleeping town must wake, or why a draining town continues. `None`: the town sleeps. Work never
/// overrides a decree.
pub(super) fn wake(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<String> {
    let spec = &s.town.spec;
    if decree(s, status, now).is_some() {
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
    // An agent without a status does not wake the town: the operator has not checked yet whether the agent can run.
    // Its first status shows that.
    let sleeps = status.drain_time.is_none();
    let heard_of = |agent: &Agent| agent.status.as_ref().is_some_and(|s| !s.conditions.is_empty());
    let mut agents = activity::agents(s, now).filter(|(agent, _)| !sleeps || heard_of(agent));
    let agent = agents.find_map(|(agent, activity)| {
        let name = agent.metadata.name.as_deref().unwrap_or_default();
        let session = mode(agent) == Mode::Session;
        // A probed pod can still answer. Without such a pod only a new bead or a first start counts. Otherwise an
        // agent that waits for a user would wake the town again and again.
        let asleep = !s.pod_of(agent).is_some_and(probe::answers);
        match activity {
            _ if failed_to_start(agent) => tries_again(s, status, agent, now),
            AgentActivity::Failed => tries_again(s, status, agent, now),
            AgentActivity::Pending if session && asleep => session_wake(agent, name),
            AgentActivity::Working | AgentActivity::Pending | AgentActivity::Stuck(true) => {
                Some(format!("agent {name} has an unfinished bead"))
            }
            AgentActivity::Idle if session => session_wake(agent, name),
            _ => None,
        }
    });
    let others =
        || activity::of_own_pod(s, now).or_else(|| activity::waiting_work(s, now)).map(str::to_owned);
    agent.or_else(others)
}

/// Whether the spec has a wake request that the operator has not handled.
pub(super) fn wake_requested(s: &TownSnapshot, status: &TownStatus) -> bool {
    let request = &s.town.spec.wake_request;
    !request.is_empty() && *request != status.handled_wake_request
}

/// Whether the last starts of a Session agent failed without a later change. The agent's reconcile clears the record
/// when the spec, the hook or `restart-at` changes.
fn failed_to_start(agent: &Agent) -> bool {
    mode(agent) == Mode::Session
        && agent.status.as_ref().and_then(|s| s.restarts.as_ref()).is_some_and(|r| r.count > 0)
}

/// The reason why a failed agent wakes its sleeping town: its next attempt is due. The attempt does not stop a drain.
fn tries_again(s: &TownSnapshot, status: &TownStatus, agent: &Agent, now: Timestamp) -> Option<String> {
    let due = status.drain_time.is_none() && next_attempt(s, agent).is_some_and(|at| at <= now);
    let name = agent.metadata.name.as_deref().unwrap_or_default();
    due.then(|| {
        format!("agent {name} failed for a cause outside of its container, and its next attempt is due")
    })
}

/// The time of the next attempt of an agent that failed for a cause outside of its container. A wake of the town
/// counts as an attempt, and the next attempt follows one window later. Otherwise a town that sleeps before the start
/// has failed would wake again immediately.
fn next_attempt(s: &TownSnapshot, agent: &Agent) -> Option<Timestamp> {
    let at = retry::next_attempt_of_failed(agent).filter(|_| !is_paused(&agent.metadata))?;
    let wake_time = s.town.status.as_ref().and_then(|status| status.wake_time.as_ref()).map(|t| t.0);
    match wake_time {
        Some(wake_time) if at <= wake_time => Some(after(wake_time, agent.spec.retry.window.get())),
        _ => Some(at),
    }
}

/// The time at which a sleeping town wakes for the next attempt of a failed agent. `None`: no agent wakes it.
pub(super) fn wakes_at(s: &TownSnapshot) -> Option<Timestamp> {
    let living = s.agents.iter().filter(|agent| agent.metadata.deletion_timestamp.is_none());
    living.filter_map(|agent| next_attempt(s, agent)).min()
}

/// A Session agent wakes its town for its first start, and for a new bead.
fn session_wake(agent: &Agent, name: &str) -> Option<String> {
    let status = agent.status.as_ref();
    if status.and_then(|s| s.pod.as_ref()).and_then(|p| p.start_time.as_ref()).is_none() {
        return Some(format!("agent {name} was never started"));
    }
    let delivered = status.and_then(|s| s.work.as_ref()).map(|w| w.bead.as_str());
    let hook = agent.spec.hook.as_ref()?;
    (delivered != Some(hook.bead.as_str())).then(|| format!("agent {name} has a new bead"))
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
