//! Falling asleep and waking.
//!
//! Two phases, so that no wake is lost: the town is marked as draining, guarded against every create
//! under way; then, on facts read live, it is either put to sleep or let go on. A wake is state compared
//! with state, not an event: whenever it comes, the next look sees it.

use k8s_openapi::jiff::Timestamp;

use super::activity::{self, AgentActivity};
use super::clock::after;
use super::facts::TownSnapshot;
use crate::api::{AsleepReason, Mode, TownStatus};

/// The idle clock of a town that is awake and has no work.
pub(super) enum IdleClock {
    /// It never sleeps on its own.
    Off,
    /// A pod exists whose start is not known: nobody can say how long it has been idle.
    Unknown,
    /// It sleeps at this time if no work comes.
    SleepsAt(Timestamp),
}

/// Reads the idle clock. `last_active` is when work was last seen.
pub(super) fn idle_clock(s: &TownSnapshot, status: &TownStatus, last_active: Option<Timestamp>) -> IdleClock {
    if s.town.spec.always_on {
        return IdleClock::Off;
    }
    let pod_started = match s.pod() {
        Some(pod) => match pod.started {
            Some(started) => Some(started),
            None => return IdleClock::Unknown,
        },
        None => None,
    };
    let created = s.town.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let woke = status.woke_at.as_ref().map(|t| t.0);
    match [created, woke, pod_started, last_active].into_iter().flatten().max() {
        Some(since) => IdleClock::SleepsAt(after(since, s.town.spec.sleep_after.get())),
        None => IdleClock::Unknown,
    }
}

/// Why a sleeping town must wake, or the last look turns back from falling asleep; `None`: it sleeps on.
/// No work overrides a decree.
pub(super) fn wake(s: &TownSnapshot, status: &TownStatus) -> Option<String> {
    let spec = &s.town.spec;
    if spec.suspended {
        return None;
    }
    if status.asleep_reason == Some(AsleepReason::Suspended) {
        return Some("spec.suspended was lifted".into());
    }
    if spec.always_on {
        return Some("spec.alwaysOn is set".into());
    }
    if wake_requested(s, status) {
        return Some(format!("spec.wakeRequest changed to '{}'", spec.wake_request));
    }
    activity::agents(s).find_map(|(agent, activity)| {
        let name = agent.metadata.name.as_deref().unwrap_or_default();
        match activity {
            AgentActivity::Working | AgentActivity::Pending => {
                Some(format!("agent {name} has an unfinished bead"))
            }
            AgentActivity::Idle if activity::mode(agent) == Mode::Session => session_wake(agent, name),
            _ => None,
        }
    })
}

/// Whether somebody asked for a wake that was not answered yet.
pub(super) fn wake_requested(s: &TownSnapshot, status: &TownStatus) -> bool {
    let request = &s.town.spec.wake_request;
    !request.is_empty() && *request != status.handled_wake_request
}

/// A Session agent wakes its town to be started the first time, and to be given a new bead.
fn session_wake(agent: &crate::api::Agent, name: &str) -> Option<String> {
    let status = agent.status.as_ref();
    if status.and_then(|s| s.pod.as_ref()).and_then(|p| p.started_at.as_ref()).is_none() {
        return Some(format!("agent {name} was never started"));
    }
    let delivered = status.and_then(|s| s.work.as_ref()).map(|w| w.bead.as_str());
    let hook = agent.spec.hook.as_ref()?;
    (delivered != Some(hook.bead.as_str())).then(|| format!("agent {name} has a new bead"))
}
