//! What a pod needs before it may run: its volume claim, and for an agent a pod template.

use k8s_openapi::jiff::Timestamp;

use super::conditions::Conditions;
use super::facts::{AgentSnapshot, ClaimFacts, TownFacts};
use super::plan::{Action, Plan};
use super::pods::end_pod;
use super::status::finish_agent;
use crate::api::condition::{self, reason};
use crate::api::{AgentStatus, StorageStatus};

/// The claim of an owner that is about to run: what to do about it, or why it cannot be used.
pub(super) fn claim(
    found: Option<&ClaimFacts>,
    record: &mut Option<StorageStatus>,
) -> Result<Option<Action>, String> {
    match found {
        None => Ok(Some(Action::CreateClaim)),
        Some(claim) if claim.deleting => Err(format!("volume claim {} is being deleted", claim.key.name)),
        Some(claim) => {
            *record =
                Some(StorageStatus { claim: claim.key.name.clone(), uid: Some(claim.uid.as_str().into()) });
            Ok(None)
        }
    }
}

/// The claim of an agent, where its spec asks for one.
pub(super) fn agent_claim(s: &AgentSnapshot, status: &mut AgentStatus) -> Result<Option<Action>, String> {
    match s.agent.spec.storage {
        Some(_) => claim(s.claim.as_ref(), &mut status.storage),
        None => Ok(None),
    }
}

/// Whether there is a pod template for the agent.
pub(super) fn has_template(s: &AgentSnapshot, town: &TownFacts) -> bool {
    s.agent.spec.template.is_some() || town.has_agent_template
}

/// Nothing to run: a person must say what.
pub(super) fn no_template(
    s: &AgentSnapshot,
    status: AgentStatus,
    mut c: Conditions,
    now: Timestamp,
) -> Plan<AgentStatus> {
    c.stalled(
        reason::NO_TEMPLATE,
        format!(
            "there is no pod template: set spec.template, or spec.agentTemplate of town {}",
            s.agent.spec.town
        ),
    );
    let stop = s.pod.iter().flat_map(end_pod).collect();
    finish_agent(s, status, c, "Blocked", now).with_actions(stop)
}

/// The volume claim cannot be used now.
pub(super) fn unusable_claim(
    s: &AgentSnapshot,
    status: AgentStatus,
    mut c: Conditions,
    text: String,
    now: Timestamp,
) -> Plan<AgentStatus> {
    c.reconciling(reason::CLAIM_UNUSABLE, text.clone());
    c.set(condition::DEGRADED, true, reason::CLAIM_UNUSABLE, text);
    finish_agent(s, status, c, "Starting", now)
}
