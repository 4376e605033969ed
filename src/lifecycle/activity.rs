//! Has the town work? Each agent with work alone keeps its town awake.
//!
//! Only work counts: being there, being probed, watched or connected to is never work.

use super::conditions::is_true;
use super::facts::{PodFacts, TownSnapshot};
use super::{facts::PodPhase, ids::Uid};
use crate::api::{Agent, AgentCounts, Hook, Mode, condition, condition::reason};

/// What an agent is doing, as its town sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentActivity {
    /// A pod exists for an unfinished bead.
    Working,
    /// An unfinished bead, and no pod (yet): it waits for its turn or its next attempt.
    Pending,
    /// Nothing to do.
    Idle,
    /// The bead on its hook is done.
    Done,
    /// Past its limit of retries.
    Failed,
    /// Cannot run until a person acts.
    Blocked,
}

/// The mode of an agent: as its spec says, else by role.
pub fn mode(agent: &Agent) -> Mode {
    agent.spec.mode.unwrap_or(match agent.spec.role {
        crate::api::Role::Polecat => Mode::Task,
        _ => Mode::Session,
    })
}

/// Whether the bead was recorded as done: it never starts a pod again.
pub(super) fn is_done(agent: &Agent, bead: &str) -> bool {
    agent.status.as_ref().and_then(|s| s.work.as_ref()).is_some_and(|w| w.done.iter().any(|d| d == bead))
}

/// The hook's bead, unless it is done.
pub(super) fn unfinished(agent: &Agent) -> Option<&Hook> {
    agent.spec.hook.as_ref().filter(|hook| !is_done(agent, &hook.bead))
}

/// What an agent is doing, from its own record and its pod.
pub fn agent_activity(agent: &Agent, pod: Option<&PodFacts>) -> AgentActivity {
    let conditions = agent.status.as_ref().map_or(&[][..], |s| s.conditions.as_slice());
    if mode(agent) == Mode::Session {
        // A Session agent without a probe is Idle however busy its container looks.
        return if is_true(conditions, condition::STALLED) {
            AgentActivity::Blocked
        } else {
            AgentActivity::Idle
        };
    }
    match unfinished(agent) {
        None if agent.spec.hook.is_some() => AgentActivity::Done,
        None => AgentActivity::Idle,
        Some(hook) => {
            let at_work = pod.is_some_and(|p| {
                !p.deleting()
                    && p.phase != PodPhase::Failed
                    && p.hook.as_ref().is_some_and(|h| h.bead == hook.bead)
            });
            if at_work {
                AgentActivity::Working
            } else if is_true(conditions, condition::STALLED) {
                AgentActivity::Blocked
            } else if has_failed(agent, &hook.bead) {
                AgentActivity::Failed
            } else {
                AgentActivity::Pending
            }
        }
    }
}

/// Whether the agent is recorded as past its limit for this bead.
fn has_failed(agent: &Agent, bead: &str) -> bool {
    agent.status.as_ref().is_some_and(|s| {
        s.work.as_ref().is_some_and(|w| w.bead == bead)
            && s.conditions.iter().any(|c| {
                c.type_ == condition::DEGRADED
                    && c.status == "True"
                    && c.reason == reason::RETRY_LIMIT_EXCEEDED
            })
    })
}

/// The agents of a town and what each is doing; those being deleted have no work.
pub(super) fn agents(s: &TownSnapshot) -> impl Iterator<Item = (&Agent, AgentActivity)> {
    s.agents
        .iter()
        .filter(|a| a.metadata.deletion_timestamp.is_none())
        .map(|a| (a.as_ref(), agent_activity(a, s.pod_of(a))))
}

/// Whether any agent has work: one is enough to keep the town awake.
pub(super) fn has_work(s: &TownSnapshot) -> bool {
    agents(s).any(|(_, activity)| matches!(activity, AgentActivity::Working | AgentActivity::Pending))
}

/// Whether an agent's pod is at work right now: what a drain waits for. Also those being deleted.
pub(super) fn anyone_working(s: &TownSnapshot) -> bool {
    s.agents.iter().any(|a| working(a, s.pod_of(a)))
}

/// Whether the agent's pod does its bead right now.
pub(super) fn working(agent: &Agent, pod: Option<&PodFacts>) -> bool {
    pod.is_some_and(|p| !p.ended()) && agent_activity(agent, pod) == AgentActivity::Working
}

/// The numbers for status.
pub(super) fn counts(s: &TownSnapshot) -> AgentCounts {
    let number = |wanted| i32::try_from(agents(s).filter(|(_, a)| *a == wanted).count()).unwrap_or(i32::MAX);
    let total = i32::try_from(s.agents.len()).unwrap_or(i32::MAX);
    // As for the condition Active: who has an unfinished bead has work, with a pod or before it.
    let working = number(AgentActivity::Working) + number(AgentActivity::Pending);
    AgentCounts {
        total,
        working,
        waiting: 0,
        stalled: 0,
        failed: number(AgentActivity::Failed),
        summary: format!("{working}/{total}"),
    }
}

/// The UID of the town that the agent is bound to.
pub(super) fn bound_to(agent: &Agent) -> Option<Uid> {
    super::label(&agent.metadata, crate::api::names::TOWN_UID).map(Uid::new)
}
