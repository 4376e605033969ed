//! Destruction: steps in order, each begun only when the one before it is proven done.
//!
//! Invariants kept here: nothing is deleted before the tombstone is durable; the finalizer goes only
//! when every kind, read live by UID, is empty and no create can still take effect; a question without
//! an answer keeps everything as it is, and no time-out ever releases the finalizer.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::activity::{bound_to, working};
use super::clock::{after, stamp};
use super::conditions::Conditions;
use super::facts::{
    AgentSnapshot, ChildFacts, ClaimFacts, PodFacts, Remains, TownSnapshot, TownView, Unknown,
};
use super::plan::{Action, Plan};
use super::pods::{end_pod, is_overdue, overdue};
use super::status::{agent_status, finish_agent, finish_town};
use super::{has_finalizer, has_own_tombstone};
use crate::api::condition::{self, reason};
use crate::api::{Agent, AgentStatus, BlockedBy, DestroyStatus, DestroyStep, Storage, TownStatus, names};

/// What is awaited is reported once destruction has taken this long.
const REPORT_AFTER: SignedDuration = SignedDuration::from_secs(5);
/// A destruction that waits is looked at this often, whatever the watches say: it must end.
const AT_LEAST_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// At most this many blocking objects are named.
const NAMED: usize = 20;

/// Where destruction stands.
struct Progress {
    step: DestroyStep,
    actions: Vec<Action>,
    awaited: Vec<BlockedBy>,
    look_again: Option<Timestamp>,
    /// It waits for an answer that no watch will bring.
    unread: bool,
}

impl Progress {
    /// Nothing to do but to wait.
    fn waiting(step: DestroyStep, awaited: Vec<BlockedBy>, look_again: Option<Timestamp>) -> Self {
        Self { step, actions: Vec::new(), awaited, look_again, unread: false }
    }

    /// Waits for an answer.
    fn unanswered(step: DestroyStep, unknown: &Unknown) -> Self {
        Self { unread: true, ..Self::waiting(step, vec![unread(unknown)], None) }
    }
}

/// What should happen to a town that is being deleted.
pub(super) fn town(s: &TownSnapshot, now: Timestamp) -> Plan<TownStatus> {
    let meta = &s.town.metadata;
    if !has_finalizer(meta, names::FINALIZER) {
        return Plan::nothing();
    }
    let mut status = s.town.status.clone().unwrap_or_default();
    let destroy = status.destroy.take().unwrap_or_else(|| begin(now));
    if !has_own_tombstone(meta) {
        // Step 1. Exclusively: whatever create is under way has its answer first, and none comes after.
        return town_report(s, status, destroy, false, now)
            .with_actions(vec![Action::WriteTombstone])
            .exclusively();
    }
    let Some(remains) = &s.remains else { return Plan::nothing() };
    match town_progress(s, remains, &destroy, now) {
        None => Plan::act(vec![Action::RemoveFinalizer]),
        Some(progress) => {
            let unanswered = progress.unread.then(|| ask_again(destroy.started_at.0, now));
            let (destroy, blocked, look_again) = awaiting(destroy, &progress, s.blocked_after, now);
            town_report(s, status, destroy, blocked, now)
                .with_actions(progress.actions)
                .look_again_at(progress.look_again)
                .look_again_at(look_again)
                .look_again_at(unanswered)
        }
    }
}

/// What should happen to an agent that is being deleted.
pub(super) fn agent(s: &AgentSnapshot, now: Timestamp) -> Plan<AgentStatus> {
    let meta = &s.agent.metadata;
    if !has_finalizer(meta, names::FINALIZER) {
        return Plan::nothing();
    }
    let with_town = goes_with_town(s);
    // A town that cannot be read may be letting this agent finish: it is not taken for absent, see below.
    let town_unread = matches!(s.town, TownView::Unknown(_));
    if !with_town && !town_unread && !has_own_tombstone(meta) {
        return Plan::act(vec![Action::WriteTombstone]);
    }
    let Some(remains) = &s.remains else { return Plan::nothing() };
    let mut status = agent_status(s);
    let recorded = status.destroy.take();
    let began = meta.deletion_timestamp.as_ref().map_or(now, |t| t.0);
    let destroy =
        recorded.clone().unwrap_or_else(|| DestroyStatus { started_at: stamp(began), ..begin(now) });
    match agent_progress(s, remains, began, with_town, now) {
        None => Plan::act(vec![Action::RemoveFinalizer]),
        Some(progress) => {
            let unanswered = progress.unread.then(|| ask_again(began, now));
            let (destroy, blocked, look_again) = awaiting(destroy, &progress, s.blocked_after, now);
            // An agent that goes quickly goes without a word: one write less for each.
            let plan = if destroy.blocked_by.is_empty() && recorded.is_none() {
                Plan::nothing()
            } else {
                let c = conditions(Conditions::of_agent(), &destroy, blocked);
                status.destroy = Some(destroy);
                finish_agent(s, status, c, "Destroying", now)
            };
            plan.with_actions(progress.actions)
                .look_again_at(progress.look_again)
                .look_again_at(look_again)
                .look_again_at(unanswered)
        }
    }
}

/// Whether the agent's town is being destroyed, so that the town's tombstone stands for the agent too.
fn goes_with_town(s: &AgentSnapshot) -> bool {
    match &s.town {
        TownView::Present(_, town) => {
            town.deleting && town.own_tombstone && bound_to(&s.agent).as_ref() == Some(&town.uid)
        }
        _ => false,
    }
}

fn begin(now: Timestamp) -> DestroyStatus {
    DestroyStatus { started_at: stamp(now), step: DestroyStep::Tombstone, blocked_by: Vec::new() }
}

/// The first step that is not proven done; `None`: all are.
fn town_progress(
    s: &TownSnapshot,
    remains: &Remains,
    destroy: &DestroyStatus,
    now: Timestamp,
) -> Option<Progress> {
    let bound = after(destroy.started_at.0, s.town.spec.drain.timeout.get());
    let unknown = remains.agents.as_ref().err().or(remains.pods.as_ref().err());
    if let Some(unknown) = unknown.filter(|_| now < bound) {
        // Who works is not known: nobody is cut short for that.
        return Some(Progress {
            look_again: Some(bound),
            ..Progress::unanswered(DestroyStep::Drain, unknown)
        });
    }
    if let (Ok(agents), Ok(pods)) = (&remains.agents, &remains.pods) {
        let busy = |a: &&std::sync::Arc<Agent>| {
            working(a, pods.iter().find(|p| p.agent_uid == super::Uid::of(&a.metadata)), s.probe_of(a), now)
        };
        let awaited: Vec<_> =
            agents.iter().filter(busy).map(|a| awaited_agent(a, "it works; drain")).collect();
        if !awaited.is_empty() && now < bound {
            return Some(Progress::waiting(DestroyStep::Drain, awaited, Some(bound)));
        }
    }
    let retain = s.town.spec.storage.as_ref().is_some_and(Storage::is_retained);
    agents_step(&remains.agents)
        .or_else(|| pods_step(&remains.pods, now))
        .or_else(|| claims_step(&remains.claims, |claim| retain && claim.agent_uid.is_none()))
        .or_else(|| others_step(&remains.others))
        .or_else(|| settle_step(remains, now))
}

fn agent_progress(
    s: &AgentSnapshot,
    remains: &Remains,
    began: Timestamp,
    with_town: bool,
    now: Timestamp,
) -> Option<Progress> {
    let bound = match &s.town {
        TownView::Unknown(unknown) => {
            return Some(Progress::unanswered(DestroyStep::Tombstone, unknown));
        }
        TownView::Present(_, town) if !with_town && bound_to(&s.agent).as_ref() == Some(&town.uid) => {
            after(began, town.drain_timeout)
        }
        // The town has drained already, or is gone.
        _ => began,
    };
    if let Ok(pods) = &remains.pods
        && now < bound
        && working(&s.agent, pods.first(), Some(&s.probe), now)
    {
        let awaited = vec![awaited_agent(&s.agent, "it works; drain")];
        return Some(Progress::waiting(DestroyStep::Drain, awaited, Some(bound)));
    }
    let retain = s.agent.spec.storage.as_ref().is_some_and(Storage::is_retained);
    pods_step(&remains.pods, now)
        .or_else(|| claims_step(&remains.claims, |_| retain))
        .or_else(|| others_step(&remains.others))
        .or_else(|| settle_step(remains, now))
}

fn agents_step(agents: &Result<Vec<std::sync::Arc<Agent>>, Unknown>) -> Option<Progress> {
    step(
        DestroyStep::Agents,
        agents,
        |a| awaited_agent(a, "being destroyed"),
        |a| {
            let uid = super::Uid::of(&a.metadata)?;
            a.metadata
                .deletion_timestamp
                .is_none()
                .then(|| Action::DeleteAgent(super::ObjectKey::of(&a.metadata), uid))
        },
    )
}

fn pods_step(pods: &Result<Vec<PodFacts>, Unknown>, now: Timestamp) -> Option<Progress> {
    let awaited = |p: &PodFacts| BlockedBy {
        kind: "Pod".into(),
        name: p.key.name.clone(),
        uid: p.uid.to_string(),
        finalizers: p.finalizers.clone(),
        message: match (&p.node, is_overdue(p, now)) {
            (_, true) => overdue(p).1,
            (Some(node), _) => format!("terminating on node {node}"),
            (None, _) => "terminating".into(),
        },
    };
    step(DestroyStep::Compute, pods, awaited, end_pod)
}

/// A claim that is to outlive its owner is let go: it carries nothing of ours any more.
fn claims_step(
    claims: &Result<Vec<ClaimFacts>, Unknown>,
    retain: impl Fn(&ClaimFacts) -> bool,
) -> Option<Progress> {
    let awaited = |c: &ClaimFacts| awaited_child("PersistentVolumeClaim", &c.key, &c.uid, &c.finalizers);
    step(DestroyStep::Rest, claims, awaited, |c| match (retain(c), c.deleting) {
        (true, false) => Some(Action::RetainClaim(c.key.clone(), c.uid.clone())),
        (_, true) => None,
        (false, false) => Some(Action::DeleteClaim(c.key.clone(), c.uid.clone())),
    })
}

/// Services, and the tokens that pods were asked with.
fn others_step(others: &Result<Vec<ChildFacts>, Unknown>) -> Option<Progress> {
    let awaited = |c: &ChildFacts| awaited_child(c.kind.as_str(), &c.key, &c.uid, &c.finalizers);
    step(DestroyStep::Rest, others, awaited, |child| {
        (!child.deleting).then(|| Action::DeleteChild(child.kind, child.key.clone(), child.uid.clone()))
    })
}

/// Asks again for what could not be read: nothing else would. The wait doubles, up to a minute.
fn ask_again(began: Timestamp, now: Timestamp) -> Timestamp {
    let wait = now.duration_since(began).clamp(SignedDuration::from_secs(1), SignedDuration::from_mins(1));
    after(now, wait)
}

/// What is awaited of a question that got no answer.
fn unread(unknown: &Unknown) -> BlockedBy {
    BlockedBy { kind: unknown.kind.into(), message: unknown.message.clone(), ..BlockedBy::default() }
}

/// One step over the objects of one kind: an unread list blocks, an empty one is done.
fn step<T, I: IntoIterator<Item = Action>>(
    step: DestroyStep,
    items: &Result<Vec<T>, Unknown>,
    awaited: impl Fn(&T) -> BlockedBy,
    act: impl Fn(&T) -> I,
) -> Option<Progress> {
    match items {
        Err(unknown) => Some(Progress::unanswered(step, unknown)),
        Ok(items) if items.is_empty() => None,
        Ok(items) => Some(Progress {
            actions: items.iter().flat_map(act).collect(),
            ..Progress::waiting(step, items.iter().map(awaited).collect(), None)
        }),
    }
}

/// Nothing is left; but a create whose answer was lost may still take effect.
fn settle_step(remains: &Remains, now: Timestamp) -> Option<Progress> {
    let at = remains.settled_at.filter(|at| now < *at)?;
    let awaited = vec![BlockedBy {
        kind: "Request".into(),
        message: format!("a create sent before destruction may take effect until {}", stamp(at).0),
        ..BlockedBy::default()
    }];
    Some(Progress::waiting(DestroyStep::Verify, awaited, Some(at)))
}

fn awaited_child(kind: &str, key: &super::ObjectKey, uid: &super::Uid, finalizers: &[String]) -> BlockedBy {
    BlockedBy {
        kind: kind.into(),
        name: key.name.clone(),
        uid: uid.to_string(),
        finalizers: finalizers.to_vec(),
        message: "terminating".into(),
    }
}

fn awaited_agent(agent: &Agent, message: &str) -> BlockedBy {
    BlockedBy {
        kind: "Agent".into(),
        name: agent.metadata.name.clone().unwrap_or_default(),
        uid: agent.metadata.uid.clone().unwrap_or_default(),
        finalizers: agent.metadata.finalizers.clone().unwrap_or_default(),
        message: message.into(),
    }
}

/// What is awaited, in status from 5 s on. It is written again only when nothing of what stands there is
/// awaited any more, or when deletion becomes blocked, so that a large town costs few writes.
fn awaiting(
    mut destroy: DestroyStatus,
    progress: &Progress,
    blocked_after: SignedDuration,
    now: Timestamp,
) -> (DestroyStatus, bool, Option<Timestamp>) {
    let report_at = after(destroy.started_at.0, REPORT_AFTER);
    let blocked_at = after(destroy.started_at.0, blocked_after);
    if now < report_at {
        return (destroy, false, Some(report_at));
    }
    let blocked = now >= blocked_at;
    // An unanswered question has no UID: there the text is what it is about.
    let text = |b: &BlockedBy| b.uid.is_empty().then(|| b.message.clone());
    let same = |a: &BlockedBy, b: &BlockedBy| (&a.kind, &a.uid, text(a)) == (&b.kind, &b.uid, text(b));
    let stale = !destroy.blocked_by.iter().any(|old| progress.awaited.iter().any(|new| same(old, new)));
    if stale || destroy.step != progress.step {
        destroy.step = progress.step;
        destroy.blocked_by = progress.awaited.iter().take(NAMED).cloned().collect();
    }
    let later = after(now, AT_LEAST_EVERY);
    (destroy, blocked, Some(if blocked { later } else { blocked_at.min(later) }))
}

fn town_report(
    s: &TownSnapshot,
    mut status: TownStatus,
    destroy: DestroyStatus,
    blocked: bool,
    now: Timestamp,
) -> Plan<TownStatus> {
    let c = conditions(Conditions::of_town(), &destroy, blocked);
    status.destroy = Some(destroy);
    status.sleep_at = None;
    status.draining_since = None;
    finish_town(s, status, c, "Destroying", now)
}

fn conditions(mut c: Conditions, destroy: &DestroyStatus, blocked: bool) -> Conditions {
    c.reconciling(reason::DESTROYING, "being destroyed");
    if blocked {
        c.set(condition::DELETION_BLOCKED, true, reason::BLOCKED, blocked_text(destroy));
    }
    c
}

/// What blocks, and what to do about it.
fn blocked_text(destroy: &DestroyStatus) -> String {
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
    format!(
        "step {} waits for {}; see to it that whoever holds these lets them go: nothing is given up meanwhile",
        destroy.step.as_str(),
        names.join("; ")
    )
}

/// The time at which a tombstone was written, from its value `<uid>@<RFC 3339>`.
pub fn tombstone_time(value: &str) -> Option<Timestamp> {
    value.split_once('@').and_then(|(_, at)| at.parse().ok())
}
