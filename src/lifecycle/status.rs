//! The step from decided conditions to the reported status.
//!
//! Invariant kept here: the operator writes the status on transitions only. Changes that are no transition (counts,
//! the name of a pod, its scheduling) wait for the next transition.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::activity;
use super::agent_view::{bound_to, lost_rig, mode};
use super::clock::{after, stamp};
use super::conditions::Conditions;
use super::expiry;
use super::facts::{AgentSnapshot, PodFacts, TownFacts, TownSnapshot, TownView};
use super::plan::Plan;
use super::{record, restored, usage};
use crate::api::condition::{self, reason};
use crate::api::{AgentPhase, AgentStatus, PodStatus, StorageStatus, TownPhase, TownStatus};

/// A change of the agent counts alone is written this long after the last write.
const COUNTS_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// The status to report. A change of the agent counts alone waits for its interval.
pub(super) fn finish_town(
    s: &TownSnapshot,
    mut status: TownStatus,
    mut c: Conditions,
    phase: TownPhase,
    now: Timestamp,
) -> Plan<TownStatus> {
    expiry::show_unguarded(s, &mut c);
    record::show_clamped(s, &mut c);
    let before = s.town.status.as_ref();
    note_ready(&mut status.pod, before.and_then(|before| before.pod.as_ref()), s.pod(), now);
    let lives = s.town.metadata.deletion_timestamp.is_none();
    if let Some(error) = s.town.spec.unreadable.as_deref().filter(|_| lives) {
        c.unreadable(error);
    }
    status.observed_generation = s.town.metadata.generation;
    status.phase = Some(phase.to_string());
    status.conditions =
        c.finish(before.map_or(&[][..], |b| b.conditions.as_slice()), s.town.metadata.generation, now);
    let counts = activity::counts(s, now);
    let unchanged = before.is_some_and(|b| {
        let mut same = status.clone();
        same.agents.clone_from(&b.agents);
        same.pod.clone_from(&b.pod);
        keep_capacity(same.storage.as_mut(), b.storage.as_ref());
        same.pod_mark_time.clone_from(&b.pod_mark_time);
        same == *b
    });
    if !unchanged {
        status.agents = Some(counts);
        status.usage = Some(usage::until_now(status.usage.as_ref(), &s.pods, &s.gone_pods, now));
        return Plan::report(status);
    }
    // The status differs only in counts or in the name of the pod.
    let Some(before) = before.cloned() else { return Plan::report(status) };
    if before.agents.as_ref() == Some(&counts) {
        return Plan::report(before);
    }
    let due = s.reported_at.map_or(now, |at| after(at, COUNTS_EVERY));
    if due <= now {
        status.agents = Some(counts);
        status.usage = Some(usage::until_now(status.usage.as_ref(), &s.pods, &s.gone_pods, now));
        Plan::report(status)
    } else {
        Plan::report(before).look_again_at(Some(due))
    }
}

/// A change of the capacity alone is not written.
fn keep_capacity(now: Option<&mut StorageStatus>, before: Option<&StorageStatus>) {
    if let (Some(now), Some(before)) = (now, before) {
        now.capacity.clone_from(&before.capacity);
    }
}

/// A pause stops all actions. The status reports the pause, and its other fields stay.
pub(super) fn paused_town(s: &TownSnapshot, now: Timestamp) -> Plan<TownStatus> {
    let mut status = s.town.status.clone().unwrap_or_default();
    status.phase.get_or_insert_with(|| TownPhase::Pending.to_string());
    status.conditions = Conditions::of_town().paused(&status.conditions, s.town.metadata.generation, now);
    Plan::report(status)
}

/// As [`paused_town`], for an agent.
pub(super) fn paused_agent(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let mut status = agent_status(s);
    status.phase.get_or_insert_with(|| AgentPhase::Pending.to_string());
    status.conditions = Conditions::of_agent().paused(&status.conditions, s.agent.metadata.generation, now);
    Plan::report(status)
}

/// The initial status: the record, plus the fields that follow from the spec.
pub(super) fn agent_status(s: &AgentSnapshot) -> AgentStatus {
    let mut status = s.agent.status.clone().unwrap_or_default();
    status.mode = Some(mode(&s.agent));
    status.identity = s.agent.spec.identity.clone().or_else(|| s.agent.metadata.name.clone());
    if let TownView::Present(_, town) = &s.town
        && bound_to(&s.agent).as_ref() == Some(&town.uid)
        && !lost_rig(&s.agent, town)
    {
        status.rig.clone_from(&s.agent.spec.rig);
    }
    restored::keep(&s.agent, &mut status);
    status
}

/// Reports that the town runs no pod, and returns the phase. An agent without an earlier status does not report Asleep
/// if the town is not asleep.
pub(super) fn show_town_sleeps(s: &AgentSnapshot, town: &TownFacts, c: &mut Conditions) -> AgentPhase {
    let phase = s.agent.status.as_ref().and_then(|status| status.phase.as_deref());
    if town.asleep || phase.is_some_and(|phase| phase != AgentPhase::Pending.as_str()) {
        c.ready(reason::ASLEEP, "the town is asleep");
        return AgentPhase::Asleep;
    }
    c.reconciling(reason::TOWN_NOT_STARTED, format!("town {} has not started", s.agent.spec.town_name));
    AgentPhase::Pending
}

/// Adds the time at which the pod was first Ready to the record of the pod.
fn note_ready(
    record: &mut Option<PodStatus>,
    before: Option<&PodStatus>,
    pod: Option<&PodFacts>,
    now: Timestamp,
) {
    let Some(record) = record.as_mut().filter(|record| record.uid.is_some()) else { return };
    let known = before.filter(|before| before.uid == record.uid).and_then(|before| before.ready_time.clone());
    let ready = pod.filter(|pod| pod.ready && record.uid.as_deref() == Some(pod.uid.as_str()));
    record.ready_time =
        known.or_else(|| ready.map(|pod| stamp(pod.ready_since.map_or(now, |since| since.min(now)))));
}

/// Reports whether the agent's pod is scheduled.
pub(super) fn show_pod(s: &AgentSnapshot, c: &mut Conditions) {
    match s.pod.as_ref() {
        Some(pod) if pod.node.is_some() => c.set(condition::POD_SCHEDULED, true, reason::SCHEDULED, ""),
        Some(_) => c.set(condition::POD_SCHEDULED, false, reason::STARTING, "the pod has no node yet"),
        None => {}
    }
}

/// The status to report. A change of the pod's name or of its scheduling alone is not written.
pub(super) fn finish_agent(
    s: &AgentSnapshot,
    mut status: AgentStatus,
    mut c: Conditions,
    phase: AgentPhase,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let before = s.agent.status.as_ref();
    note_ready(&mut status.pod, before.and_then(|before| before.pod.as_ref()), s.pod.as_ref(), now);
    let lives = s.agent.metadata.deletion_timestamp.is_none();
    if let Some(error) = s.agent.spec.unreadable.as_deref().filter(|_| lives) {
        c.unreadable(error);
    }
    status.observed_generation = s.agent.metadata.generation;
    status.phase = Some(phase.to_string());
    status.conditions =
        c.finish(before.map_or(&[][..], |b| b.conditions.as_slice()), s.agent.metadata.generation, now);
    if let Some(before) = before {
        let mut same = status.clone();
        same.pod.clone_from(&before.pod);
        keep_capacity(same.storage.as_mut(), before.storage.as_ref());
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
