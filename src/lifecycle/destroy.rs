//! Destruction: a fixed order of steps. A step begins only after the previous step is proven done.
//!
//! Invariants kept here: no object is deleted before the tombstone is durable. The finalizer is removed only when
//! every kind, read live by UID, is empty and no create can still take effect. A read without an answer keeps
//! everything as it is. No timeout ever removes the finalizer. The receipts record a step that an administrator
//! abandons as abandoned, never as gone.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::activity;
use super::agent_view::bound_to;
use super::clock::{after, stamp};
use super::conditions::{Conditions, gives};
use super::facts::{AgentSnapshot, ChildFacts, Record, Remains, TownSnapshot, TownView};
use super::guard::Guard;
use super::ids::Uid;
use super::kinds::ChildKind;
use super::meta::{annotation, has_own_tombstone, is_held};
use super::plan::{Action, Plan, Questions};
use super::status::{agent_status, finish_agent, finish_town};
use super::steps::{self, Progress, awaited_agent};
use super::{probe, record, session};
use crate::api::condition::{self, reason};
use crate::api::{
    Agent, AgentPhase, AgentStatus, BlockedBy, DestroyStatus, DestroyStep, Storage, TombstoneKind,
    TombstoneSpec, TownPhase, TownStatus, names,
};

/// The status reports the awaited objects after this time. A step cannot be abandoned before.
const REPORT_AFTER: SignedDuration = SignedDuration::from_secs(5);
/// A waiting destruction is reconciled at this interval even without watch events, because a missed event must not
/// stop it.
const AT_LEAST_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// The status names at most this many blocking objects.
const NAMED: usize = 20;

/// Decides about a town that is being deleted.
pub(super) fn town(s: &TownSnapshot, now: Timestamp) -> Plan<TownStatus> {
    let meta = &s.town.metadata;
    if !is_held(meta) {
        return Plan::nothing();
    }
    let Some(remains) = &s.remains else { return Plan::nothing() };
    let mut status = s.town.status.clone().unwrap_or_default();
    let destroy = status.destroy.take().unwrap_or_else(|| begin(now));
    let abandoned = abandoned(meta, destroy.start_time.0, now);
    match town_progress(s, remains, &destroy, &abandoned, now) {
        None => {
            let (progress, summary) = end(remains, TombstoneKind::Town, meta, &abandoned, now);
            let (destroy, blocked, _) = awaiting(destroy, &progress, s.blocked_after, now);
            // The status is written only if the last actions fail. It then shows the objects that the town still waits
            // for.
            let plan = if destroy.blocked_by.is_empty() {
                Plan::nothing()
            } else {
                let c = conditions(Conditions::of_town(), meta, &status.conditions, &destroy, blocked);
                status.destroy = Some(destroy);
                finish_town(s, status, c, TownPhase::Destroying, now)
            };
            plan.with_actions(progress.actions).because(summary)
        }
        Some(progress) => {
            let unanswered = ask_again(&progress, destroy.start_time.0, s.blocked_after, now);
            let questions = match progress.step {
                // A working agent is probed again, because the drain ends as soon as the agent reports that it no
                // longer works.
                DestroyStep::Drain => probe::ask_all(s, s.town.spec.alarm.active.get(), now),
                _ => Questions::default(),
            };
            let (destroy, blocked, look_again) = awaiting(destroy, &progress, s.blocked_after, now);
            let c = conditions(Conditions::of_town(), meta, &status.conditions, &destroy, blocked);
            status.destroy = Some(destroy);
            status.sleep_time = None;
            status.drain_time = None;
            let plan = finish_town(s, status, c, TownPhase::Destroying, now)
                .with_actions(progress.actions)
                .look_again_at(progress.look_again)
                .look_again_at(look_again)
                .look_again_at(unanswered)
                .asking(questions);
            if progress.exclusive { plan.exclusively() } else { plan }
        }
    }
}

/// Decides about an agent that is being deleted.
pub(super) fn agent(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let meta = &s.agent.metadata;
    if !is_held(meta) {
        return Plan::nothing();
    }
    let Some(remains) = &s.remains else { return Plan::nothing() };
    let mut status = agent_status(s);
    let recorded = status.destroy.take();
    let began = meta.deletion_timestamp.as_ref().map_or(now, |t| t.0);
    let destroy =
        recorded.clone().unwrap_or_else(|| DestroyStatus { start_time: stamp(began), ..begin(now) });
    let abandoned = abandoned(meta, began, now);
    // A quick deletion of an agent writes no status. This saves one write per agent.
    let say = |destroy: DestroyStatus, blocked| {
        if destroy.blocked_by.is_empty() && recorded.is_none() {
            return Plan::nothing();
        }
        let c = conditions(Conditions::of_agent(), meta, &status.conditions, &destroy, blocked);
        status.destroy = Some(destroy);
        finish_agent(s, status, c, AgentPhase::Destroying, now)
    };
    match agent_progress(s, remains, began, &abandoned, now) {
        None => {
            let (progress, summary) = end(remains, TombstoneKind::Agent, meta, &abandoned, now);
            let (destroy, blocked, _) = awaiting(destroy, &progress, s.blocked_after, now);
            say(destroy, blocked).with_actions(progress.actions).because(summary)
        }
        Some(progress) => {
            let unanswered = ask_again(&progress, began, s.blocked_after, now);
            let questions = match (&s.town, progress.step) {
                (TownView::Present(_, town), DestroyStep::Drain) => {
                    session::asked(s).every(town.alarm.active, now)
                }
                _ => Questions::default(),
            };
            let (destroy, blocked, look_again) = awaiting(destroy, &progress, s.blocked_after, now);
            say(destroy, blocked)
                .with_actions(progress.actions)
                .look_again_at(progress.look_again)
                .look_again_at(look_again)
                .look_again_at(unanswered)
                .asking(questions)
        }
    }
}

/// Every step is proven done or abandoned. The last actions are the receipts and then the finalizer. Also returns the
/// receipts as text.
fn end(
    remains: &Remains,
    kind: TombstoneKind,
    meta: &ObjectMeta,
    abandoned: &BTreeSet<DestroyStep>,
    now: Timestamp,
) -> (Progress, String) {
    let status = record::closed(remains, abandoned, now);
    let summary = record::summary(&status);
    let name = Uid::of(meta).map(|uid| record::tombstone_name(kind, &uid)).unwrap_or_default();
    let mut actions = Vec::new();
    if !record::stands(remains, &status) {
        let kept = matches!(remains.record, Record::There(_));
        actions.push(Action::GiveReceipts(kept.then(|| name.clone()), Box::new(status)));
    }
    actions.push(Action::RemoveFinalizer);
    let awaited = BlockedBy {
        kind: "Tombstone".into(),
        name,
        message: "the Tombstone has its receipts, and the operator removes the finalizer".into(),
        ..BlockedBy::default()
    };
    (Progress { actions, ..Progress::waiting(DestroyStep::Verify, vec![awaited], None) }, summary)
}

/// Whether the agent's town is being destroyed. The tombstone of the town then covers the agent.
pub fn goes_with_town(agent: &Agent, town: &TownView) -> bool {
    match town {
        TownView::Present(_, town) => {
            town.deleting && town.own_tombstone && bound_to(agent).as_ref() == Some(&town.uid)
        }
        _ => false,
    }
}

fn begin(now: Timestamp) -> DestroyStatus {
    DestroyStatus { start_time: stamp(now), step: DestroyStep::Tombstone, blocked_by: Vec::new() }
}

/// The steps that an administrator can abandon, with their names in the annotation.
const STEPS: [(&str, DestroyStep); 5] = [
    ("drain", DestroyStep::Drain),
    ("credentials", DestroyStep::Credentials),
    ("agents", DestroyStep::Agents),
    ("compute", DestroyStep::Compute),
    ("storage", DestroyStep::Storage),
];

/// The abandoned steps. A step counts as abandoned only after the status had time to show the awaited objects.
fn abandoned(meta: &ObjectMeta, began: Timestamp, now: Timestamp) -> BTreeSet<DestroyStep> {
    if now < after(began, REPORT_AFTER) {
        return BTreeSet::new();
    }
    let named = annotation(meta, names::ABANDON).unwrap_or_default().split(',').map(str::trim);
    named.filter_map(|name| STEPS.iter().find(|(word, _)| *word == name)).map(|(_, step)| *step).collect()
}

/// A text about the words in the annotation that are no step.
fn no_steps(meta: &ObjectMeta) -> Option<String> {
    let named = annotation(meta, names::ABANDON)?.split(',').map(str::trim);
    let odd: Vec<_> = named.filter(|name| !STEPS.iter().any(|(word, _)| word == name)).collect();
    (!odd.is_empty()).then(|| {
        let known = STEPS.map(|(word, _)| word).join(", ");
        format!(
            "; the annotation {} names '{}', which is not one of {known}",
            names::ABANDON,
            odd.join("', '")
        )
    })
}

/// Step 1: the Tombstone exists, and the object carries the annotation. No other step begins before.
fn marked(
    meta: &ObjectMeta,
    kind: TombstoneKind,
    remains: &Remains,
    spec: impl FnOnce() -> TombstoneSpec,
) -> Option<Progress> {
    if !Guard::TombstoneFirst.holds() {
        return None;
    }
    let mut actions = Vec::new();
    match &remains.record {
        Record::Unknown(unknown) => return Some(Progress::unanswered(DestroyStep::Tombstone, unknown)),
        // A Tombstone that disappears during the destruction is also written again.
        Record::Missing => match &remains.namespace {
            // The Tombstone needs the UID of the namespace. Without it, the Tombstone would forbid names in a later
            // namespace of the same name, and the tenant could not undo that.
            Err(unknown) => return Some(Progress::unanswered(DestroyStep::Tombstone, unknown)),
            Ok(_) => actions.push(Action::CreateTombstone(Box::new(spec()))),
        },
        Record::There(_) | Record::NotKept => {}
    }
    if !has_own_tombstone(meta) {
        actions.push(Action::WriteTombstone);
    }
    if actions.is_empty() {
        return None;
    }
    let awaited = BlockedBy {
        kind: "Tombstone".into(),
        name: Uid::of(meta).map(|uid| record::tombstone_name(kind, &uid)).unwrap_or_default(),
        message: "the operator writes it before it destroys anything".into(),
        ..BlockedBy::default()
    };
    // Exclusive: each create in progress gets its answer first, and no create follows.
    let waiting = Progress::waiting(DestroyStep::Tombstone, vec![awaited], None);
    Some(Progress { actions, exclusive: true, ..waiting })
}

/// The first step that is not proven done. `None`: every step is done or abandoned.
fn town_progress(
    s: &TownSnapshot,
    remains: &Remains,
    destroy: &DestroyStatus,
    abandoned: &BTreeSet<DestroyStep>,
    now: Timestamp,
) -> Option<Progress> {
    let spec = || record::of_town(s, remains, now);
    if let Some(unmarked) = marked(&s.town.metadata, TombstoneKind::Town, remains, spec) {
        return Some(unmarked);
    }
    let retain = s.town.spec.storage.as_ref().is_some_and(Storage::is_retained);
    let held = |progress: &Progress| !abandoned.contains(&progress.step);
    drain(s, remains, destroy, now)
        .filter(held)
        .or_else(|| steps::children(DestroyStep::Credentials, remains, |_| false).filter(held))
        .or_else(|| steps::agents(remains).filter(held))
        .or_else(|| compute_and_rest(remains, |claim| outlives(claim, retain, remains), held, now))
}

/// Whether a claim outlives the town. The spec of the owner decides while the owner exists. If an agent disappeared
/// without its destruction, the mark on the claim decides.
fn outlives(claim: &ChildFacts, retained_by_town: bool, remains: &Remains) -> bool {
    let Some(agent) = &claim.agent_uid else { return retained_by_town };
    let agents = remains.agents.iter().flatten();
    let mut owner = agents.filter(|owner| owner.metadata.uid.as_deref() == Some(agent.as_str()));
    match owner.next() {
        Some(owner) => owner.spec.storage.as_ref().is_some_and(Storage::is_retained),
        None => claim.retain,
    }
}

/// Lets working agents finish, for a limited time.
fn drain(s: &TownSnapshot, remains: &Remains, destroy: &DestroyStatus, now: Timestamp) -> Option<Progress> {
    let bound = after(destroy.start_time.0, s.town.spec.drain.timeout.get());
    let unknown = remains.agents.as_ref().err().or(remains.pods.as_ref().err());
    if let Some(unknown) = unknown.filter(|_| now < bound) {
        // The working agents are unknown. The drain continues, because the operator must not interrupt an agent that
        // may work.
        return Some(Progress {
            look_again: Some(bound),
            ..Progress::unanswered(DestroyStep::Drain, unknown)
        });
    }
    let (Ok(agents), Ok(pods)) = (&remains.agents, &remains.pods) else { return None };
    let busy = activity::working(s, agents, pods, now);
    let mut awaited: Vec<_> =
        busy.into_iter().map(|a| awaited_agent(a, "it works; the drain waits for it")).collect();
    // As in the drain before sleep: the town's pod may report agents that have no pod of their own.
    if awaited.is_empty()
        && let Some(pod) = s.pod().filter(|_| activity::own_pod_works(s, now))
    {
        awaited.push(BlockedBy {
            kind: ChildKind::Pod.as_str().into(),
            name: pod.key.name.clone(),
            uid: pod.uid.to_string(),
            message: "it reports an agent at work; the drain waits for it".into(),
            ..BlockedBy::default()
        });
    }
    (!awaited.is_empty() && now < bound).then(|| Progress::waiting(DestroyStep::Drain, awaited, Some(bound)))
}

fn agent_progress(
    s: &AgentSnapshot,
    remains: &Remains,
    began: Timestamp,
    abandoned: &BTreeSet<DestroyStep>,
    now: Timestamp,
) -> Option<Progress> {
    let with_town = goes_with_town(&s.agent, &s.town);
    let bound = match &s.town {
        // An unknown town does not count as absent: the town may be draining this agent.
        TownView::Unknown(unknown) => {
            return Some(Progress::unanswered(DestroyStep::Tombstone, unknown));
        }
        TownView::Present(_, town) if !with_town && bound_to(&s.agent).as_ref() == Some(&town.uid) => {
            after(began, town.drain_timeout)
        }
        // The town is already drained, or is gone.
        _ => began,
    };
    let spec = || record::of_agent(s, remains, now);
    if !with_town && let Some(unmarked) = marked(&s.agent.metadata, TombstoneKind::Agent, remains, spec) {
        return Some(unmarked);
    }
    let held = |progress: &Progress| !abandoned.contains(&progress.step);
    let busy = || {
        let pods = remains.pods.as_ref().ok()?;
        let asked = probe::Asked { pod: pods.first(), ..session::asked(s) };
        let cadence = match &s.town {
            TownView::Present(_, town) => town.cadence(),
            TownView::Absent(_) | TownView::Unknown(_) => SignedDuration::ZERO,
        };
        let works = now < bound && activity::works(&s.agent, &asked, cadence, now);
        let awaited = || vec![awaited_agent(&s.agent, "it works; the drain waits for it")];
        works.then(|| Progress::waiting(DestroyStep::Drain, awaited(), Some(bound)))
    };
    let retain = s.agent.spec.storage.as_ref().is_some_and(Storage::is_retained);
    busy()
        .filter(held)
        .or_else(|| steps::children(DestroyStep::Credentials, remains, |_| false).filter(held))
        .or_else(|| compute_and_rest(remains, |_| retain, held, now))
}

/// The common steps of a town and an agent, from the pods on.
fn compute_and_rest(
    remains: &Remains,
    retain: impl Fn(&ChildFacts) -> bool,
    held: impl Fn(&Progress) -> bool,
    now: Timestamp,
) -> Option<Progress> {
    steps::made_for_pods(remains)
        .filter(&held)
        .or_else(|| steps::pods(remains, now).filter(&held))
        .or_else(|| steps::volumes(remains).filter(&held))
        .or_else(|| steps::children(DestroyStep::Storage, remains, retain).filter(&held))
        .or_else(|| steps::reclaimed(remains).filter(&held))
        .or_else(|| steps::settle(remains, now))
}

/// The time of the next read if no watch triggers one. After a failed read the wait doubles, up to one minute. For
/// objects without a watch the wait is short until the deletion counts as blocked.
fn ask_again(
    progress: &Progress,
    began: Timestamp,
    blocked_after: SignedDuration,
    now: Timestamp,
) -> Option<Timestamp> {
    let longest = match (progress.unread, progress.unwatched) {
        (false, false) => return None,
        (false, true) if now < after(began, blocked_after) => SignedDuration::from_secs(5),
        _ => SignedDuration::from_mins(1),
    };
    Some(after(now, now.duration_since(began).clamp(SignedDuration::from_secs(1), longest)))
}

/// Reports the awaited objects in the status, from 5 seconds on. To limit the writes for a large town, the list
/// changes only in three cases: none of the listed objects is awaited any more, the step changes, or an agent of a
/// blocked town reports another awaited object.
fn awaiting(
    mut destroy: DestroyStatus,
    progress: &Progress,
    blocked_after: SignedDuration,
    now: Timestamp,
) -> (DestroyStatus, bool, Option<Timestamp>) {
    let report_at = after(destroy.start_time.0, REPORT_AFTER);
    let blocked_at = after(destroy.start_time.0, blocked_after);
    if now < report_at {
        return (destroy, false, Some(report_at));
    }
    let blocked = now >= blocked_at;
    // A read without an answer has neither name nor UID. The text identifies it.
    let text = |b: &BlockedBy| (b.name.is_empty() && b.uid.is_empty()).then(|| b.message.clone());
    let same = |a: &BlockedBy, b: &BlockedBy| (&a.kind, &a.uid, text(a)) == (&b.kind, &b.uid, text(b));
    let stale = !destroy.blocked_by.iter().any(|old| progress.awaited.iter().any(|new| same(old, new)));
    // A blocked town shows the objects that its agents report as awaited.
    let told = |old: &BlockedBy, new: &BlockedBy| {
        same(old, new)
            && old.kind == "Agent"
            && new.message != steps::BEING_DESTROYED
            && new.message != old.message
    };
    let told =
        blocked && destroy.blocked_by.iter().any(|old| progress.awaited.iter().any(|new| told(old, new)));
    if stale || told || destroy.step != progress.step {
        destroy.step = progress.step;
        destroy.blocked_by = progress.awaited.iter().take(NAMED).cloned().collect();
    }
    let later = after(now, AT_LEAST_EVERY);
    (destroy, blocked, Some(if blocked { later } else { blocked_at.min(later) }))
}

fn conditions(
    mut c: Conditions,
    meta: &ObjectMeta,
    before: &[Condition],
    destroy: &DestroyStatus,
    blocked: bool,
) -> Conditions {
    c.reconciling(reason::DESTROYING, "being destroyed");
    if blocked {
        let refused = gives(before, condition::DEGRADED, reason::REQUEST_REFUSED);
        c.set(condition::DELETION_BLOCKED, true, reason::BLOCKED, blocked_text(meta, destroy, refused));
    }
    c
}

/// The text about the blocking objects and the remedy. While the API server refuses a write of ours, the text does not
/// offer to abandon the step: the refused object exists, and the administrator can change the component that refuses
/// the write.
fn blocked_text(meta: &ObjectMeta, destroy: &DestroyStatus, refused: bool) -> String {
    let names: Vec<String> = destroy
        .blocked_by
        .iter()
        .map(|b| {
            let held = if b.finalizers.is_empty() {
                String::new()
            } else {
                format!(", held by the finalizers {}", b.finalizers.join(", "))
            };
            let object = if b.name.is_empty() { b.kind.clone() } else { format!("{} {}", b.kind, b.name) };
            format!("{object}: {}{held}", b.message)
        })
        .collect();
    let give_up = STEPS.iter().filter(|_| !refused).find(|(_, step)| *step == destroy.step).map(|(word, _)| {
        format!(
            "; an administrator can abandon this step with the annotation {}={word}: the remaining objects then count \
             as leaked",
            names::ABANDON
        )
    });
    format!(
        "step {} waits for {}; the operator skips nothing and tries again at least once a minute{}{}",
        destroy.step.as_str(),
        names.join("; "),
        give_up.unwrap_or_default(),
        no_steps(meta).unwrap_or_default()
    )
}
