//! The requirements of a pod before it may run: its volume claim, and for an agent a pod template.

use k8s_openapi::jiff::Timestamp;

use super::conditions::{Conditions, gives, is_true};
use super::facts::{AgentSnapshot, ClaimFacts, TownFacts};
use super::plan::{Action, Notice, Plan};
use super::pods::end_pod;
use super::quantity::larger;
use super::status::finish_agent;
use super::text::short_digest;
use super::update::edited;
use crate::api::condition::{self, reason};
use crate::api::{AgentPhase, AgentStatus, Copied, Storage, StorageStatus};

/// The requirements of an owner's volume.
#[derive(Default)]
pub(super) struct Volume {
    /// The writes before the create of the pod.
    pub(super) actions: Vec<Action>,
    /// The announcement that a claim is gone and the operator creates a new one.
    pub(super) notice: Option<Notice>,
    /// The obstacle, if a start waits for the volume.
    pub(super) unusable: Option<Unusable>,
}

/// The cause that makes a volume unusable now.
pub(super) struct Unusable {
    /// The condition reason.
    pub(super) reason: &'static str,
    /// Whether a user must act.
    pub(super) stalled: bool,
    /// The text for users.
    pub(super) message: String,
}

/// Decides about the volume of an owner that runs or is about to run: the required writes, or the reason why the
/// volume is unusable.
pub(super) fn volume(
    wanted: Option<&Storage>,
    found: Option<&ClaimFacts>,
    record: &mut Option<StorageStatus>,
    now: Timestamp,
) -> Result<Volume, Unusable> {
    let Some(wanted) = wanted else { return Ok(Volume::default()) };
    if let Some(name) = &wanted.existing_claim_name {
        *record = Some(StorageStatus { claim: name.clone(), ..StorageStatus::default() });
        return Ok(Volume::default());
    }
    let Some(claim) = found else {
        let lost = record.take().and_then(|r| Some((r.claim, r.uid?)));
        let notice = lost.map(|(name, uid)| Notice {
            reason: reason::STORAGE_RECREATED,
            at: now,
            note: format!(
                "volume claim {name} ({uid}) and its data do not exist any more; the operator creates an empty claim"
            ),
        });
        return Ok(Volume { actions: vec![Action::CreateClaim], notice, unusable: None });
    };
    let name = &claim.child.key.name;
    if claim.child.deleting {
        return Err(Unusable {
            reason: reason::CLAIM_UNUSABLE,
            stalled: false,
            message: format!("volume claim {name} is being deleted"),
        });
    }
    if let Some(lost) = lost(found) {
        return Err(lost);
    }
    *record = Some(claim_record(claim));
    let grow =
        wanted.size.as_ref().filter(|size| claim.requested.as_ref().is_some_and(|now| larger(size, now)));
    let actions = grow.map(|size| Action::GrowClaim {
        claim: claim.child.key.clone(),
        uid: claim.child.uid.clone(),
        size: size.clone(),
    });
    Ok(Volume { actions: actions.into_iter().collect(), notice: None, unusable: None })
}

/// Writes the policy of the spec to the claim, so that it is known after the owner is gone: a user may remove the
/// finalizer by hand. While the owner exists, its spec decides.
pub(super) fn mark_claim(wanted: Option<&Storage>, found: Option<&ClaimFacts>) -> Option<Action> {
    let wanted = wanted.filter(|storage| storage.existing_claim_name.is_none())?;
    let child = &found.filter(|claim| !claim.child.deleting)?.child;
    let (retain, copied) = (wanted.is_retained(), wanted.copied());
    let same = child.retain == retain && child.copied == copied_mark(&copied);
    let (claim, uid, before) = (child.key.clone(), child.uid.clone(), child.copied.clone());
    (!same).then_some(Action::MarkClaim { claim, uid, retain, copied, before })
}

/// The mark on a claim about the copied labels and annotations: a digest of them, and their keys. With the keys the
/// operator can remove from the claim what the spec no longer contains. `None`: the spec contains no labels and
/// annotations.
pub fn copied_mark(copied: &Copied) -> Option<String> {
    let Copied { labels, annotations } = copied;
    let keys =
        labels.keys().map(|key| format!("l:{key}")).chain(annotations.keys().map(|key| format!("a:{key}")));
    let keys: Vec<_> = keys.collect();
    // The conversion of string maps to JSON cannot fail.
    let digest = short_digest(&serde_json::to_string(&(labels, annotations)).unwrap_or_default());
    (!keys.is_empty()).then(|| format!("{digest},{}", keys.join(",")))
}

/// The keys of the labels and of the annotations in such a mark.
pub fn copied_keys(mark: &str) -> (Vec<&str>, Vec<&str>) {
    let keys = |prefix: &str| mark.split(',').skip(1).filter_map(|key| key.strip_prefix(prefix)).collect();
    (keys("l:"), keys("a:"))
}

/// The record of a claim in the status.
pub fn claim_record(claim: &ClaimFacts) -> StorageStatus {
    StorageStatus {
        claim: claim.child.key.name.clone(),
        uid: Some(claim.child.uid.to_string()),
        capacity: claim.capacity.clone(),
    }
}

/// The volume behind a claim is gone. A user must act, whether the town is awake or not.
pub(super) fn lost(found: Option<&ClaimFacts>) -> Option<Unusable> {
    let name = &found.filter(|claim| claim.lost)?.child.key.name;
    let message = format!(
        "the volume of claim {name} does not exist any more; the operator does not replace it: restore the volume, or \
         delete the claim to continue with an empty one"
    );
    Some(Unusable { reason: reason::STORAGE_LOST, stalled: true, message })
}

/// Whether the agent of a sleeping town was unable to run when the town was last awake, without a later edit. The
/// agent continues to report this. Otherwise the agent would wake its town again and again.
pub(super) fn still_blocked(s: &AgentSnapshot) -> bool {
    s.agent.status.as_ref().is_some_and(|status| {
        gives(&status.conditions, condition::STALLED, reason::NAME_TAKEN)
            && is_true(&status.conditions, condition::STALLED)
            && !edited(status.observed_generation, &s.agent.metadata)
    })
}

/// Reports that the volume is unusable.
pub(super) fn show_unusable(c: &mut Conditions, why: Unusable) {
    if why.stalled {
        c.stalled(why.reason, why.message.clone());
    } else {
        c.reconciling(why.reason, why.message.clone());
    }
    c.degraded(why.reason, why.message);
}

pub(super) fn has_template(s: &AgentSnapshot, town: &TownFacts) -> bool {
    s.agent.spec.template.is_some() || town.has_agent_template
}

/// Reports that the agent has no pod template. A user must provide one.
pub(super) fn no_template(
    s: &AgentSnapshot,
    status: AgentStatus,
    mut c: Conditions,
    now: Timestamp,
) -> Plan<AgentStatus> {
    c.stalled(
        reason::NO_TEMPLATE,
        format!(
            "the agent has no pod template: set spec.template, or spec.agentTemplate of town {}",
            s.agent.spec.town_name
        ),
    );
    let stop = s.pod.iter().flat_map(end_pod).collect();
    finish_agent(s, status, c, AgentPhase::Blocked, now).with_actions(stop)
}

/// Reports that the volume of the agent is unusable now.
pub(super) fn unusable_volume(
    s: &AgentSnapshot,
    status: AgentStatus,
    mut c: Conditions,
    why: Unusable,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let phase = if why.stalled { AgentPhase::Blocked } else { AgentPhase::Starting };
    show_unusable(&mut c, why);
    finish_agent(s, status, c, phase, now)
}
