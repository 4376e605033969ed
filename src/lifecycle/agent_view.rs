//! The facts that an agent's spec, labels and record contain. The functions decide nothing.

use super::done;
use super::facts::TownFacts;
use super::ids::{ObjectKey, Uid};
use super::meta::label;
use crate::api::{Agent, AgentStatus, Hook, Mode, Role, WorkStatus, names};

/// The mode of an agent: from its spec, else from its role.
pub fn mode(agent: &Agent) -> Mode {
    agent.spec.mode.unwrap_or(match agent.spec.role {
        Role::Polecat => Mode::Task,
        _ => Mode::Session,
    })
}

/// The key of the town that the agent names.
pub fn town_key(agent: &Agent) -> ObjectKey {
    let namespace = agent.metadata.namespace.clone().unwrap_or_default();
    ObjectKey { namespace, name: agent.spec.town_name.clone() }
}

/// Whether the record says that the bead is done. Such a bead never starts a pod again.
pub(super) fn is_done(agent: &Agent, bead: &str) -> bool {
    agent.status.as_ref().and_then(|s| s.work.as_ref()).is_some_and(|work| done::is_done(work, bead))
}

/// The hook, unless its bead is done.
pub(super) fn unfinished(agent: &Agent) -> Option<&Hook> {
    agent.spec.hook.as_ref().filter(|hook| !is_done(agent, &hook.bead))
}

/// The attempt that has a start and no outcome.
pub(super) fn open_attempt(status: &AgentStatus) -> Option<&WorkStatus> {
    status.work.as_ref().filter(|w| w.start_time.is_some() && w.finish_time.is_none())
}

/// The UID of the town that the agent is bound to.
pub(super) fn bound_to(agent: &Agent) -> Option<Uid> {
    label(&agent.metadata, names::TOWN_UID).map(Uid::new)
}

/// Whether the town listed the agent's rig before and does not list it now. If the town never listed the rig, the
/// agent waits for it, because a tool may apply the agent before the town.
pub(super) fn rig_removed(agent: &Agent, town: &TownFacts) -> bool {
    let listed = agent.status.as_ref().and_then(|status| status.rig.as_ref());
    listed.is_some() && listed == agent.spec.rig.as_ref() && lost_rig(agent, town)
}

/// Whether the town does not list the rig that the agent names. False while the town's spec is unreadable, because the
/// rigs are unknown then.
pub(super) fn lost_rig(agent: &Agent, town: &TownFacts) -> bool {
    !town.unreadable && agent.spec.rig.as_ref().is_some_and(|rig| !town.rigs.iter().any(|r| r.name == *rig))
}
