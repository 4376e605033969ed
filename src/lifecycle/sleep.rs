//! Falling asleep and waking.
//!
//! Two phases, so that no wake is lost: the town is marked as draining, guarded against every create
//! under way; then, on facts read live, it is either put to sleep or let go on. A wake is state compared
//! with state, not an event: whenever it comes, the next look sees it.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::activity::{self, AgentActivity};
use super::clock::after;
use super::expiry::{Expiry, expiry};
use super::facts::TownSnapshot;
use super::{is_paused, probe, retry};
use crate::api::{Agent, AsleepReason, ExpiryPolicy, Mode, TownStatus};

/// A town of which nobody can say whether it has work sleeps after so many times `sleepAfter`.
const UNKNOWN_TIMES: i32 = 3;

/// The idle clock of a town that is awake and has no work.
pub(super) enum IdleClock {
    /// The town never sleeps on its own.
    Off,
    /// No stamp says when it began.
    Unknown,
    /// It runs since this time; the town sleeps at the other time if no work comes.
    Runs { since: Timestamp, sleeps_at: Timestamp },
}

/// Reads the idle clock. `last_active` is when work was last seen.
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
    // A mark that is not reached yet holds the clock only while there is a pod that may reach it.
    let mark = status.pod_mark_time.as_ref().filter(|mark| s.pod().is_some() || mark.0 <= now);
    let stamps = [status.wake_time.as_ref(), status.idle_time.as_ref(), created, mark];
    match stamps.into_iter().flatten().map(|stamp| stamp.0).chain(last_active).max() {
        Some(since) => IdleClock::Runs { since, sleeps_at: after(since, s.town.spec.sleep_after.get()) },
        None => IdleClock::Unknown,
    }
}

/// Until when unknown activity is borne, where it is not known since this time.
pub(super) fn unknown_until(s: &TownSnapshot, since: Timestamp) -> Timestamp {
    let bound = s.town.spec.sleep_after.get().checked_mul(UNKNOWN_TIMES).unwrap_or(SignedDuration::MAX);
    after(since, bound)
}

/// Why a town sleeps whatever its work, if it does. A town of which the spec cannot be read sleeps as if it were
/// suspended: its agents finish within `drain.timeout`, and it costs nothing until the spec is corrected.
pub(super) fn decree(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<AsleepReason> {
    if s.town.spec.suspend || s.town.spec.unreadable.is_some() {
        return Some(AsleepReason::Suspended);
    }
    match expiry(s, status, now) {
        Expiry::Due(ExpiryPolicy::Sleep) => Some(AsleepReason::Expired),
        _ => None,
    }
}

/// Why a sleeping town must wake, or the last look turns back from falling asleep; `None`: it sleeps on.
/// No work overrides a decree.
pub(super) fn wake(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<String> {
    let spec = &s.town.spec;
    if decree(s, status, now).is_some() {
        return None;
    }
    match status.asleep_reason {
        Some(AsleepReason::Suspended) => return Some("spec.suspend was lifted".into()),
        Some(AsleepReason::Expired) => return Some("spec.expiry was moved or removed".into()),
        _ => {}
    }
    if spec.always_on {
        return Some("spec.alwaysOn is set".into());
    }
    if wake_requested(s, status) {
        return Some(format!("spec.wakeRequest changed to '{}'", spec.wake_request));
    }
    // Nobody is woken for one of whom nobody has looked yet whether it can do anything: its first status says so.
    let sleeps = status.drain_time.is_none();
    let heard_of = |agent: &Agent| agent.status.as_ref().is_some_and(|s| !s.conditions.is_empty());
    let mut agents = activity::agents(s, now).filter(|(agent, _)| !sleeps || heard_of(agent));
    let agent = agents.find_map(|(agent, activity)| {
        let name = agent.metadata.name.as_deref().unwrap_or_default();
        let session = activity::mode(agent) == Mode::Session;
        // Whoever has a pod can still be asked what it does; without one only what it was never given counts, or a
        // town would wake again and again for one who waits for a person.
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

/// Whether somebody asked for a wake that was not answered yet.
pub(super) fn wake_requested(s: &TownSnapshot, status: &TownStatus) -> bool {
    let request = &s.town.spec.wake_request;
    !request.is_empty() && *request != status.handled_wake_request
}

/// Whether the last starts of a Session agent failed and nothing of them has changed since: the agent reconciles its
/// record away when its spec, its hook or `restart-at` changes.
fn failed_to_start(agent: &Agent) -> bool {
    activity::mode(agent) == Mode::Session
        && agent.status.as_ref().and_then(|s| s.restarts.as_ref()).is_some_and(|r| r.count > 0)
}

/// Why an agent that failed wakes its sleeping town: its next attempt is due. A town that falls asleep does not turn back
/// for that.
fn tries_again(s: &TownSnapshot, status: &TownStatus, agent: &Agent, now: Timestamp) -> Option<String> {
    let due = status.drain_time.is_none() && next_attempt(s, agent).is_some_and(|at| at <= now);
    let name = agent.metadata.name.as_deref().unwrap_or_default();
    due.then(|| {
        format!("agent {name} failed for a cause outside of its container, and its next attempt is due")
    })
}

/// The next attempt of an agent that failed for a cause outside of its container. A wake of the town is an attempt: the
/// next one follows a window later, so that a town that sleeps before the start has failed is not woken again at once.
fn next_attempt(s: &TownSnapshot, agent: &Agent) -> Option<Timestamp> {
    let at = retry::next_attempt_of_failed(agent).filter(|_| !is_paused(&agent.metadata))?;
    let wake_time = s.town.status.as_ref().and_then(|status| status.wake_time.as_ref()).map(|t| t.0);
    match wake_time {
        Some(wake_time) if at <= wake_time => Some(after(wake_time, agent.spec.retry.window.get())),
        _ => Some(at),
    }
}

/// When a sleeping town wakes for the next attempt of an agent that failed; `None`: no agent does that.
pub(super) fn wakes_at(s: &TownSnapshot) -> Option<Timestamp> {
    let living = s.agents.iter().filter(|agent| agent.metadata.deletion_timestamp.is_none());
    living.filter_map(|agent| next_attempt(s, agent)).min()
}

/// A Session agent wakes its town to be started the first time, and to be given a new bead.
fn session_wake(agent: &Agent, name: &str) -> Option<String> {
    let status = agent.status.as_ref();
    if status.and_then(|s| s.pod.as_ref()).and_then(|p| p.start_time.as_ref()).is_none() {
        return Some(format!("agent {name} was never started"));
    }
    let delivered = status.and_then(|s| s.work.as_ref()).map(|w| w.bead.as_str());
    let hook = agent.spec.hook.as_ref()?;
    (delivered != Some(hook.bead.as_str())).then(|| format!("agent {name} has a new bead"))
}

/// What a reason to sleep says to people.
pub(super) fn why_text(reason: Option<AsleepReason>) -> &'static str {
    match reason {
        Some(AsleepReason::Suspended) => "spec.suspend is set",
        Some(AsleepReason::Expired) => "spec.expiry is past",
        Some(AsleepReason::ActivityUnknown) => {
            "for 3 times spec.sleepAfter nobody could say whether it has work"
        }
        _ => "no work for spec.sleepAfter",
    }
}
