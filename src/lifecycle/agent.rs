//! The complete life of an agent: it is bound to a town once, runs while the town allows it, and is deleted with the
//! town.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::agent_view::{bound_to, lost_rig, mode, rig_removed};
use super::conditions::Conditions;
use super::facts::{AgentSnapshot, Freshness, Standing, TownFacts, TownView};
use super::ids::ObjectKey;
use super::meta::{has_finalizer, is_paused, label, tombstone};
use super::plan::{Action, Plan};
use super::pods::end_pod;
use super::status::{agent_status, finish_agent, paused_agent};
use super::{destroy, needs, restart, restored, session, stamps, task};
use crate::api::condition::reason;
use crate::api::{Agent, AgentPhase, AgentStatus, Mode, Role, Tombstone, names};

/// Whether a decision about this agent needs its town read live. If the cached town leads to the stop or the
/// destruction of the agent, the cache is not sufficient proof.
pub fn needs_live_town(agent: &Agent, cached: Option<&TownFacts>) -> bool {
    if agent.metadata.deletion_timestamp.is_some() {
        return true;
    }
    let Some(bound) = bound_to(agent) else { return false };
    cached.is_none_or(|town| town.uid != bound || rig_removed(agent, town))
}

/// Decides about an agent.
pub fn decide_agent(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let s = &*stamps::of_agent(s, now);
    let meta = &s.agent.metadata;
    if label(meta, names::INSTALL).is_some_and(|install| install != s.install) {
        return Plan::nothing();
    }
    if meta.deletion_timestamp.is_some() {
        return destroy::agent(s, now);
    }
    if let Some(value) = tombstone(meta) {
        let text = format!(
            "the annotation {}={value} marks this agent as destroyed: the operator does not run it and keeps its data; \
             remove the annotation to run it, or delete the agent",
            names::TOMBSTONE
        );
        return stopped(s, AgentPhase::Tombstoned, reason::TOMBSTONED, text, now);
    }
    if restored::is_new_copy(&s.agent) && s.agent.spec.hook.is_some() {
        // The operator records the copy before it binds the agent again. After that, the agent no longer counts as a
        // copy.
        return restored_without_status(s, now);
    }
    if let Some(record) = &s.forbidden_by {
        return forbidden(s, record, now);
    }
    let Some(bound) = bound_to(&s.agent) else { return bind(s, now) };
    match &s.town {
        // The town is unknown, so nothing changes. The agent reconciles again later.
        TownView::Unknown(_) | TownView::Absent(Freshness::Cached) => Plan::nothing(),
        TownView::Present(Freshness::Cached, town) if town.uid != bound => Plan::nothing(),
        TownView::Absent(Freshness::Live) => town_gone(s, now),
        TownView::Present(Freshness::Live, town) if town.uid != bound => town_gone(s, now),
        TownView::Present(_, town) if town.tombstoned && !town.deleting => stopped(
            s,
            AgentPhase::Blocked,
            reason::TOMBSTONED,
            format!(
                "town {} carries the annotation {}: the operator does not run its agents",
                s.agent.spec.town_name,
                names::TOMBSTONE
            ),
            now,
        ),
        TownView::Present(freshness, town) if rig_removed(&s.agent, town) && !town.deleting => {
            match freshness {
                Freshness::Live => Plan::act(vec![Action::DeleteAgent(ObjectKey::of(meta), s.uid.clone())]),
                Freshness::Cached => Plan::nothing(),
            }
        }
        // A client removed our finalizer or label from a bound agent. The operator restores them before it creates a
        // child.
        TownView::Present(_, town)
            if !has_finalizer(meta, names::FINALIZER) || label(meta, names::INSTALL).is_none() =>
        {
            bind_to(town)
        }
        TownView::Present(_, town) if town.paused => paused_agent(s, now),
        TownView::Present(..) if is_paused(meta) => paused(s, now),
        // The pod stays. The reconcile of the town deletes it for sleep.
        TownView::Present(..) if s.agent.spec.unreadable.is_some() => {
            finish_agent(s, agent_status(s), Conditions::of_agent(), AgentPhase::Blocked, now)
        }
        TownView::Present(_, town) if lost_rig(&s.agent, town) && !town.deleting => {
            stopped(s, AgentPhase::Blocked, reason::RIG_NOT_FOUND, rig_not_found(s, town), now)
        }
        TownView::Present(..) if restored::held_bead(&agent_status(s)).is_some() => {
            restored_without_status(s, now)
        }
        TownView::Present(_, town) => {
            let plan = match mode(&s.agent) {
                _ if matches!(s.standing, Standing::RoleTaken { .. }) => role_taken(s, now),
                Mode::Task => task::decide(s, town, now),
                Mode::Session => session::decide(s, town, now),
            };
            let mark = needs::mark_claim(s.agent.spec.storage.as_ref(), s.claim.as_ref());
            let token = session::asked(s).lost_token().filter(|_| town.awake);
            plan.with_actions(mark.into_iter().chain(token).collect())
        }
    }
}

/// A paused agent. The operator releases only a pod that is being deleted and has ended, and records its outcome
/// first. Otherwise the town could not fall asleep.
fn paused(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let Some(pod) = s.pod.as_ref().filter(|pod| pod.ended() && pod.deleting()) else {
        return paused_agent(s, now);
    };
    let mut status = agent_status(s);
    if !task::note_unread_end(s, &mut status, now) {
        return paused_agent(s, now).with_actions(end_pod(pod));
    }
    let mut read = s.clone();
    Arc::make_mut(&mut read.agent).status = Some(status);
    paused_agent(&read, now)
}

/// An agent that is not bound waits for a live town that lists its rig. The operator never deletes such an agent.
fn bind(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let name = &s.agent.spec.town_name;
    let wait = |reason, text: String| {
        let mut c = Conditions::of_agent();
        c.reconciling(reason, text);
        finish_agent(s, agent_status(s), c, AgentPhase::Blocked, now)
    };
    match &s.town {
        TownView::Unknown(_) => Plan::nothing(),
        TownView::Absent(_) => {
            wait(reason::TOWN_NOT_FOUND, format!("town {name} does not exist in this namespace"))
        }
        TownView::Present(_, town) if town.foreign => Plan::nothing(),
        TownView::Present(_, town) if town.deleting => wait(
            reason::TOWN_TERMINATING,
            format!(
                "town {name} is being deleted; the operator binds the agent to the next town of this name, if a user \
                 creates one"
            ),
        ),
        TownView::Present(_, town) if town.tombstoned => {
            wait(reason::TOMBSTONED, format!("town {name} carries the annotation {}", names::TOMBSTONE))
        }
        TownView::Present(_, town) if lost_rig(&s.agent, town) => {
            let mut c = Conditions::of_agent();
            c.stalled(reason::RIG_NOT_FOUND, rig_not_found(s, town));
            finish_agent(s, agent_status(s), c, AgentPhase::Blocked, now)
        }
        TownView::Present(_, town) => bind_to(town),
    }
}

fn rig_not_found(s: &AgentSnapshot, town: &TownFacts) -> String {
    let rig = s.agent.spec.rig.as_deref().unwrap_or_default();
    let known: Vec<_> = town.rigs.iter().map(|r| r.name.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!(
        "spec.rig {rig} is not among the rigs of town {} ({known}); add it to the town's spec.rigs",
        s.agent.spec.town_name
    )
}

/// Adds our finalizer and the town's UID in one patch. The adoption of the town comes first; its watch event triggers
/// the next reconcile of the agent.
fn bind_to(town: &TownFacts) -> Plan<AgentStatus> {
    if town.adopted && !town.deleting {
        Plan::act(vec![Action::Adopt { town_uid: Some(town.uid.clone()) }])
    } else {
        Plan::nothing()
    }
}

/// The agent was restored without its status, so its bead may already be done.
fn restored_without_status(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let status = agent_status(s);
    let bead = restored::held_bead(&status).unwrap_or_default();
    let text = format!(
        "this agent was restored from a backup without its status, so the operator does not know whether bead {bead} \
         is done and starts no pod for it; change spec.hook, or change the annotation {} to run the bead again",
        names::RESTART_AT
    );
    stopped(s, AgentPhase::Blocked, reason::RESTORED_WITHOUT_STATUS, text, now)
}

/// The Tombstone of a destroyed agent of this name forbids a new agent.
fn forbidden(s: &AgentSnapshot, record: &Tombstone, now: Timestamp) -> Plan<AgentStatus> {
    let text = format!(
        "an agent of this name was destroyed, and its Tombstone blocks a new one (spec.tombstone.recreate: Refuse of \
         its town) until {}: wait, or delete tombstone {}, or use another name",
        record.spec.expire_time.0,
        record.metadata.name.as_deref().unwrap_or_default()
    );
    stopped(s, AgentPhase::Blocked, reason::TOMBSTONE_EXISTS, text, now)
}

/// The agent is bound to a town that is gone. The operator deletes an agent that the Tombstone of the town lists, or
/// that is not younger than the destruction of the town. Any other agent (a copy from a backup) keeps its data, runs
/// no pod, and is never bound to a successor.
fn town_gone(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    if s.town_record.as_ref().is_some_and(|record| restored::went_with(s, record)) {
        let key = ObjectKey::of(&s.agent.metadata);
        return Plan::act(vec![Action::DeleteAgent(key, s.uid.clone())]);
    }
    let text = format!(
        "the town {} that this agent was bound to ({}) does not exist any more: the operator runs no pod of the agent \
         and keeps its data; delete the agent, or create it again without its labels of gastown.dev to bind it to the \
         town that has this name now",
        s.agent.spec.town_name,
        label(&s.agent.metadata, names::TOWN_UID).unwrap_or_default(),
    );
    stopped(s, AgentPhase::Blocked, reason::TOWN_GONE, text, now)
}

/// Another agent has the role. This agent runs no pod until the other agent is gone.
fn role_taken(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let Standing::RoleTaken { holder } = &s.standing else { return Plan::nothing() };
    let role = s.agent.spec.role.as_str();
    let of = match s.agent.spec.rig.as_ref().filter(|_| s.agent.spec.role == Role::Refinery) {
        Some(rig) => format!("rig {rig} of town {}", s.agent.spec.town_name),
        None => format!("town {}", s.agent.spec.town_name),
    };
    let text = format!(
        "agent {holder} is the {role} of {of}, which can have only one; delete one of the two agents"
    );
    stopped(s, AgentPhase::Blocked, reason::ROLE_TAKEN, text, now)
}

/// No pod of the agent runs, and its data is kept.
fn stopped(
    s: &AgentSnapshot,
    phase: AgentPhase,
    reason: &'static str,
    text: String,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let mut c = Conditions::of_agent();
    c.stalled(reason, text);
    let mut status = agent_status(s);
    if task::note_unread_end(s, &mut status, now) {
        // The outcome is recorded before the pod is released.
        return finish_agent(s, status, c, phase, now);
    }
    status.pod = restart::gone(status.pod.as_ref());
    finish_agent(s, status, c, phase, now).with_actions(s.pod.iter().flat_map(end_pod).collect())
}
