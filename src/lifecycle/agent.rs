//! The whole life of an agent: bound to a town once, run while the town lets it, gone with the town.

use k8s_openapi::jiff::Timestamp;

use super::activity::{bound_to, mode};
use super::clock::after;
use super::conditions::Conditions;
use super::facts::{AgentSnapshot, Freshness, TownFacts, TownView};
use super::plan::{Action, Plan};
use super::{destroy, has_finalizer, label, restart, session, task, tombstone};
use crate::api::condition::{self, reason};
use crate::api::{Agent, AgentStatus, Mode, StorageStatus, names};

/// Whether a decision about this agent needs its town read live: where the cached town would have it
/// stopped or destroyed, the cache is not proof enough.
pub fn needs_live_town(agent: &Agent, cached: Option<&TownFacts>) -> bool {
    if agent.metadata.deletion_timestamp.is_some() {
        return true;
    }
    let Some(bound) = bound_to(agent) else { return false };
    cached.is_none_or(|town| town.uid != bound || lost_rig(agent, town))
}

/// Whether the town does not list the rig that the agent names.
fn lost_rig(agent: &Agent, town: &TownFacts) -> bool {
    agent.spec.rig.as_ref().is_some_and(|rig| !town.rigs.contains(rig))
}

/// What should happen to an agent now.
pub fn decide_agent(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let meta = &s.agent.metadata;
    if label(meta, names::INSTALL).is_some_and(|install| install != s.install) {
        return Plan::nothing();
    }
    if meta.deletion_timestamp.is_some() {
        return destroy::agent(s, now);
    }
    if let Some(value) = tombstone(meta) {
        let text = format!(
            "the annotation {}={value} marks this agent as destroyed: nothing of it is run, its data is kept; \
             remove the annotation to run it, or delete the agent",
            names::TOMBSTONE
        );
        return stopped(s, "Tombstoned", reason::TOMBSTONED, text, now);
    }
    let Some(bound) = bound_to(&s.agent).filter(|_| has_finalizer(meta, names::FINALIZER)) else {
        return bind(s, now);
    };
    match &s.town {
        // Not known whether there is a town: leave everything as it is, and ask again.
        TownView::Unknown(_) | TownView::Absent(Freshness::Cached) => Plan::nothing(),
        TownView::Present(Freshness::Cached, town) if town.uid != bound => Plan::nothing(),
        TownView::Absent(Freshness::Live) => town_gone(s, now),
        TownView::Present(Freshness::Live, town) if town.uid != bound => town_gone(s, now),
        TownView::Present(freshness, town) if lost_rig(&s.agent, town) && !town.deleting => match freshness {
            Freshness::Live => {
                Plan::act(vec![Action::DeleteAgent(super::ObjectKey::of(meta), s.uid.clone())])
            }
            Freshness::Cached => Plan::nothing(),
        },
        TownView::Present(_, town) if town.tombstoned && !town.deleting => stopped(
            s,
            "Blocked",
            reason::TOMBSTONED,
            format!(
                "town {} carries the annotation {}: nothing of it is run",
                s.agent.spec.town,
                names::TOMBSTONE
            ),
            now,
        ),
        TownView::Present(_, town) => match mode(&s.agent) {
            Mode::Task => task::decide(s, town, now),
            Mode::Session => session::decide(s, town, now),
        },
    }
}

/// An agent that is not bound waits for a live town that lists its rig; it is never deleted by us.
fn bind(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let name = &s.agent.spec.town;
    let wait = |reason, text: String| {
        let mut c = Conditions::of_agent();
        c.reconciling(reason, text);
        finish(s, status(s), c, "Blocked", now)
    };
    match &s.town {
        TownView::Unknown(_) => Plan::nothing(),
        TownView::Absent(_) => {
            wait(reason::TOWN_NOT_FOUND, format!("town {name} does not exist in this namespace"))
        }
        TownView::Present(_, town) if town.foreign => Plan::nothing(),
        TownView::Present(_, town) if town.deleting => wait(
            reason::TOWN_TERMINATING,
            format!("town {name} is being deleted; the agent is bound to its successor, if one comes"),
        ),
        TownView::Present(_, town) if town.tombstoned => {
            wait(reason::TOMBSTONED, format!("town {name} carries the annotation {}", names::TOMBSTONE))
        }
        TownView::Present(_, town) if lost_rig(&s.agent, town) => {
            let mut c = Conditions::of_agent();
            let rig = s.agent.spec.rig.as_deref().unwrap_or_default();
            let known = if town.rigs.is_empty() { "none".to_owned() } else { town.rigs.join(", ") };
            c.stalled(
                reason::RIG_NOT_FOUND,
                format!("spec.rig {rig} is not among the rigs of town {name} ({known}); add it to the town's spec.rigs"),
            );
            finish(s, status(s), c, "Blocked", now)
        }
        // The town's own adoption comes first; it calls us when it is done.
        TownView::Present(_, town) if !town.adopted => Plan::nothing(),
        TownView::Present(_, town) => Plan::act(vec![Action::Adopt { town_uid: Some(town.uid.clone()) }]),
    }
}

/// Bound to a town that is gone, and nothing proves that it was destroyed (a restored backup): its pod is
/// stopped, its data kept, and it is never bound to a successor.
fn town_gone(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let text = format!(
        "the town {} that this agent was bound to is gone; delete the agent, or make a new one for the new town",
        s.agent.spec.town
    );
    stopped(s, "Blocked", reason::TOWN_GONE, text, now)
}

/// Nothing of it runs, its data is kept.
fn stopped(
    s: &AgentSnapshot,
    phase: &str,
    reason: &'static str,
    text: String,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let mut c = Conditions::of_agent();
    c.stalled(reason, text);
    let mut status = status(s);
    status.pod = restart::gone(status.pod.as_ref());
    finish(s, status, c, phase, now).with_actions(stop_pod(s))
}

/// What takes the agent's pod down, at its present state.
pub(super) fn stop_pod(s: &AgentSnapshot) -> Vec<Action> {
    s.pod.iter().flat_map(end_pod).collect()
}

/// Delete a pod that is not going yet; release one that nothing runs of any more.
pub(super) fn end_pod(pod: &super::PodFacts) -> Vec<Action> {
    let mut actions = Vec::new();
    let held = pod.finalizers.iter().position(|f| f == names::RESULT_FINALIZER);
    if let Some(position) = held.filter(|_| pod.ended()) {
        actions.push(Action::ReleaseResult { pod: pod.key.clone(), uid: pod.uid.clone(), position });
    }
    if !pod.deleting() {
        actions.push(Action::DeletePod(pod.key.clone(), pod.uid.clone()));
    }
    actions
}

/// The status to start from: what is recorded, with what the spec gives.
pub(super) fn status(s: &AgentSnapshot) -> AgentStatus {
    let mut status = s.agent.status.clone().unwrap_or_default();
    status.mode = Some(mode(&s.agent));
    status.identity = s.agent.spec.identity.clone().or_else(|| s.agent.metadata.name.clone());
    status
}

/// The claim of an agent that is about to run: what to do about it, or why it cannot be used.
pub(super) fn claim(s: &AgentSnapshot, status: &mut AgentStatus) -> Result<Option<Action>, String> {
    if s.agent.spec.storage.is_none() {
        return Ok(None);
    }
    match &s.claim {
        None => Ok(Some(Action::CreateClaim)),
        Some(claim) if claim.deleting => Err(format!("volume claim {} is being deleted", claim.key.name)),
        Some(claim) => {
            status.storage =
                Some(StorageStatus { claim: claim.key.name.clone(), uid: Some(claim.uid.as_str().into()) });
            Ok(None)
        }
    }
}

/// Whether there is a pod template for the agent.
pub(super) fn has_template(s: &AgentSnapshot, town: &TownFacts) -> bool {
    s.agent.spec.template.is_some() || town.has_agent_template
}

/// Shows what the agent's pod is up to.
pub(super) fn show_pod(s: &AgentSnapshot, c: &mut Conditions) {
    match s.pod.as_ref() {
        Some(pod) if pod.node.is_some() => c.set(condition::POD_SCHEDULED, true, reason::SCHEDULED, ""),
        Some(_) => c.set(condition::POD_SCHEDULED, false, reason::STARTING, "the pod is on no node yet"),
        None => {}
    }
}

/// The status to report. The pod's name and whether it is scheduled ride on other changes.
pub(super) fn finish(
    s: &AgentSnapshot,
    mut status: AgentStatus,
    c: Conditions,
    phase: &str,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let before = s.agent.status.as_ref();
    status.observed_generation = s.agent.metadata.generation;
    status.phase = Some(phase.to_owned());
    status.conditions =
        c.finish(before.map_or(&[][..], |b| b.conditions.as_slice()), s.agent.metadata.generation, now);
    if let Some(before) = before {
        let mut same = status.clone();
        same.pod.clone_from(&before.pod);
        for (slot, old) in same.conditions.iter_mut().zip(&before.conditions) {
            if slot.type_ == condition::POD_SCHEDULED && old.type_ == condition::POD_SCHEDULED {
                *slot = old.clone();
            }
        }
        if same == *before {
            return Plan::report(before.clone());
        }
    }
    Plan::report(status)
}

/// A deadline that is `span` after a stored time.
pub(super) fn due(
    since: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    span: k8s_openapi::jiff::SignedDuration,
    now: Timestamp,
) -> Timestamp {
    since.map_or(now, |t| after(t.0, span))
}
