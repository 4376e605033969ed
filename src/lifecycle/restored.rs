//! An agent that a backup tool created from a backup.
//!
//! Invariants kept here: an agent that was restored without its status does not begin the restored bead, because no
//! record says whether that bead is done. An agent that is younger than the destruction of its town is not a part of
//! the destroyed town.

use super::facts::AgentSnapshot;
use super::meta::{annotation, is_held};
use crate::api::{Agent, AgentStatus, RestoredStatus, Tombstone, names};

/// Whether the object is a copy: the operator adopted another object of this name, with another UID.
fn is_copy(agent: &Agent) -> bool {
    let adopted = annotation(&agent.metadata, names::ADOPTED_UID);
    adopted.is_some() && adopted != agent.metadata.uid.as_deref()
}

/// Whether the agent is a copy at its first reconcile.
pub(super) fn is_new_copy(agent: &Agent) -> bool {
    agent.status.is_none() && is_copy(agent) && is_held(&agent.metadata)
}

/// The restored bead, while the agent must not begin it.
pub(super) fn held_bead(status: &AgentStatus) -> Option<&str> {
    status.restored.as_ref().map(|came_with| came_with.bead.as_str())
}

/// Records the hook and `restart-at` of a new copy. The record is deleted after a user has changed the hook or
/// `restart-at`.
pub(super) fn keep(agent: &Agent, status: &mut AgentStatus) {
    let now = agent.spec.hook.as_ref().map(|hook| RestoredStatus {
        bead: hook.bead.clone(),
        restart_at: annotation(&agent.metadata, names::RESTART_AT).unwrap_or_default().to_owned(),
    });
    if is_new_copy(agent) {
        status.restored = now;
    } else if status.restored != now {
        status.restored = None;
    }
}

/// Whether the agent is a part of the destruction that the Tombstone records. A younger agent that the Tombstone does
/// not list is a copy from a backup.
pub(super) fn went_with(s: &AgentSnapshot, record: &Tombstone) -> bool {
    let named = record.spec.children.iter().any(|child| child.uid == s.uid.as_str());
    let created = s.agent.metadata.creation_timestamp.as_ref();
    named || created.is_some_and(|created| created.0 <= record.spec.delete_time.0)
}
