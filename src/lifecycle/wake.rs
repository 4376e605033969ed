//! The agents that wake a sleeping town.
//!
//! Invariant kept here: an agent wakes its town only for work that it can do. Otherwise the town would wake again and
//! again.

use k8s_openapi::jiff::Timestamp;

use super::activity::{self, AgentActivity};
use super::agent_view::mode;
use super::clock::after;
use super::facts::TownSnapshot;
use super::meta::is_paused;
use super::{probe, retry};
use crate::api::{Agent, Mode, TownStatus};

/// The reason why an agent wakes a sleeping town, or stops the drain of a town.
pub(super) fn wake_reason_of_agents(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Option<String> {
    // An agent without a status does not wake the town: the operator has not checked yet whether the agent can run.
    // Its first status shows that.
    let sleeps = status.drain_time.is_none();
    let heard_of = |agent: &Agent| agent.status.as_ref().is_some_and(|s| !s.conditions.is_empty());
    let mut agents = activity::agents(s, now).filter(|(agent, _)| !sleeps || heard_of(agent));
    agents.find_map(|(agent, activity)| {
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
    })
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
