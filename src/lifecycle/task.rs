//! An agent of mode Task: a pod exists only while the bead on its hook is unfinished.
//!
//! Invariants kept here: an attempt is recorded before its pod is created. The outcome of an attempt is recorded
//! before its pod is released. A bead that is recorded as done never starts a pod again.

use k8s_openapi::jiff::Timestamp;

use super::agent_view::{is_done, mode, open_attempt, unfinished};
use super::clock::{after, earlier, stamp};
use super::conditions::{Conditions, message_of};
use super::ending::Ending;
use super::facts::{AgentSnapshot, PodFacts, PodPhase, Standing, TownFacts};
use super::needs::{has_template, no_template, unusable_volume, volume};
use super::plan::{Action, Plan};
use super::pods::{STARTING_TEXT, end_pod, is_overdue, overdue_at, pod_conditions, show_leaving, why_ended};
use super::restart::not_ready_text;
use super::retry::{self, Limit, Revision, START_WITHIN, disrupted};
use super::roles::place;
use super::status::{agent_status, finish_agent, show_pod, show_town_sleeps};
use super::{done, needs, restart, update};
use crate::api::condition::{self, reason};
use crate::api::{Agent, AgentPhase, AgentStatus, Duration, Mode, Outcome, WorkStatus};

/// Decides about a bound Task agent of a live town.
pub(super) fn decide(s: &AgentSnapshot, town: &TownFacts, now: Timestamp) -> Plan<AgentStatus> {
    let status = agent_status(s);
    match &s.pod {
        Some(pod) if pod.work_is_over() => match unrecorded(s, &status, pod) {
            Some(bead) => record(s, status, town, &bead, end_of(pod, Some(town)), now),
            // The pod blocks its name, so an unanswered create has no effect while the pod exists. Without the pod,
            // such a create would start the bead again.
            None if pod.ended() && finished(s, pod) && s.creates_settle_at.is_some_and(|at| now < at) => {
                Plan::nothing().look_again_at(s.creates_settle_at)
            }
            // The outcome is recorded. The operator releases the pod, and deletes it if an injected container still
            // runs.
            None => Plan::act(end_pod(pod)),
        },
        Some(pod) if pod.deleting() => leaving(s, status, pod, now),
        Some(pod) if !wanted(s, pod) || is_superseded(&status, pod) => Plan::act(end_pod(pod)),
        // A new template replaces only a pod that does not run yet, because a replaced pod costs an attempt. A restart
        // request of a user always replaces the pod.
        Some(pod)
            if update::restart_asked(&s.agent.metadata, pod)
                || (pod.phase == PodPhase::Pending
                    && update::outdated(pod, update::Wanted::of_agent(s, town))) =>
        {
            Plan::act(end_pod(pod))
        }
        // The reconcile of the town deletes the pods of a town that falls asleep.
        Some(_) if !town.awake && !town.draining => Plan::nothing(),
        Some(pod) => match open_attempt(&status) {
            Some(work) if pod.phase == PodPhase::Pending && start_is_late(&status, work, now) => {
                let bead = work.bead.clone();
                record(s, status, town, &bead, End::late(not_ready_text(pod), !pod.ran), now)
            }
            _ => at_work(s, status, pod, now),
        },
        None => match open_attempt(&status) {
            Some(work) if status.pod.as_ref().is_some_and(|p| p.uid.is_some()) => {
                let bead = work.bead.clone();
                record(s, status, town, &bead, vanished(town), now)
            }
            Some(work) if !town.awake => {
                let bead = work.bead.clone();
                record(s, status, town, &bead, vanished(town), now)
            }
            Some(work) if start_is_late(&status, work, now) => {
                let bead = work.bead.clone();
                record(s, status, town, &bead, End::late(refused(s), true), now)
            }
            _ => resting(s, status, town, now),
        },
    }
}

/// Whether the attempt of the pod already has an outcome, because its start took too long. A pod that was created
/// after this outcome belongs to another attempt.
fn is_superseded(status: &AgentStatus, pod: &PodFacts) -> bool {
    let Some(work) = &status.work else { return false };
    let its_bead = pod.hook.as_ref().is_some_and(|hook| hook.bead == work.bead);
    its_bead && work.outcome == Some(Outcome::Failed) && !came_late(status, pod)
}

/// Whether the start of the attempt exceeds the start timeout. An interruption does not restart the timeout.
fn start_is_late(status: &AgentStatus, work: &WorkStatus, now: Timestamp) -> bool {
    let began = status.start_time.as_ref().or(work.start_time.as_ref());
    began.is_some_and(|began| after(began.0, START_WITHIN) <= now)
}

/// The cause that keeps the attempt without a pod. The API server wrote the text, if the cause is known.
fn refused(s: &AgentSnapshot) -> String {
    let before = s.agent.status.as_ref().map_or(&[][..], |before| before.conditions.as_slice());
    message_of(before, condition::DEGRADED).unwrap_or("no pod was created within 10 minutes").to_owned()
}

/// The pod is being deleted. The status reports a pod that is still there after its grace period.
fn leaving(s: &AgentSnapshot, status: AgentStatus, pod: &PodFacts, now: Timestamp) -> Plan<AgentStatus> {
    if !is_overdue(pod, now) {
        return Plan::nothing().look_again_at(overdue_at(pod));
    }
    let mut c = Conditions::of_agent();
    show_pod(s, &mut c);
    if let Some(hook) = &s.agent.spec.hook {
        c.set(condition::FINISHED, false, reason::UNFINISHED, unfinished_text(&hook.bead));
    }
    show_leaving(Some(pod), &mut c, now);
    finish_agent(s, status, c, AgentPhase::Starting, now)
}

fn wanted(s: &AgentSnapshot, pod: &PodFacts) -> bool {
    unfinished(&s.agent).is_some_and(|hook| pod.hook.as_ref().is_some_and(|h| h.bead == hook.bead))
}

fn finished(s: &AgentSnapshot, pod: &PodFacts) -> bool {
    pod.hook.as_ref().is_some_and(|hook| is_done(&s.agent, &hook.bead))
}

/// Whether a pod may be created for the agent in its current state on the API server. A Task pod is created only for
/// the bead of the open attempt, because the hook may have changed after the attempt was recorded. The error gives the
/// reason for a refusal.
pub fn may_begin(agent: &Agent) -> Result<(), String> {
    if mode(agent) != Mode::Task {
        return Ok(());
    }
    let attempt = agent.status.as_ref().and_then(open_attempt).map(|work| work.bead.as_str());
    let hook = agent.spec.hook.as_ref().map(|hook| hook.bead.as_str());
    match (attempt, hook) {
        (Some(attempt), Some(bead)) if attempt == bead && !is_done(agent, bead) => Ok(()),
        (_, None) => Err("its hook is empty".into()),
        (_, Some(bead)) => Err(format!("no attempt at bead {bead} is recorded")),
    }
}

/// The bead of an ended pod whose outcome is not recorded. An attempt with an outcome never gets another one. A pod
/// without any record (a restored status) counts only if its bead is done.
fn unrecorded(s: &AgentSnapshot, status: &AgentStatus, pod: &PodFacts) -> Option<String> {
    let bead = &pod.hook.as_ref()?.bead;
    let open = open_attempt(status).is_some_and(|w| w.bead == *bead);
    let on_record = status.work.as_ref().is_some_and(|w| w.bead == *bead) || is_done(&s.agent, bead);
    (open || (pod.done() && !on_record)).then(|| bead.clone())
}

/// The cause of the end of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EndedBy {
    /// The containers, or the start timeout.
    Itself,
    /// The cluster: eviction, preemption, or a lost node.
    Cluster,
    /// A user deleted the pod.
    User,
    /// The operator deleted the pod because the town sleeps. The next attempt starts without a back-off.
    Operator,
}

/// The end of an attempt.
pub(super) struct End {
    outcome: Outcome,
    message: String,
    ended_by: EndedBy,
    /// The cause lies outside of the container.
    external: bool,
    /// The start and the end of the run, if the pod ran.
    ran: Option<(Timestamp, Timestamp)>,
    /// The start is completed. The next attempt gets the full start timeout.
    started: bool,
}

impl End {
    /// An end that the agent itself reports.
    pub(super) fn reported(outcome: Outcome, message: String) -> Self {
        Self { outcome, message, ended_by: EndedBy::Itself, external: false, ran: None, started: true }
    }

    /// An end by the start timeout.
    fn late(message: String, external: bool) -> Self {
        Self { external, ..Self::reported(Outcome::Failed, message) }
    }
}

/// The end of a pod that has no more work, from the table of endings.
fn end_of(pod: &PodFacts, town: Option<&TownFacts>) -> End {
    let ending = pod.ending().unwrap_or(Ending::NeverRan);
    let row = ending.row();
    let message = match ending {
        Ending::Completed => pod.termination.as_ref().map(|t| t.message.clone()).unwrap_or_default(),
        _ => why_ended(pod),
    };
    let until = pod.stop_requested.or(pod.termination.as_ref().and_then(|t| t.at)).or(pod.not_ready_since);
    let ended_by = match ending {
        Ending::Deleted if town.is_some_and(|town| !town.awake) => EndedBy::Operator,
        Ending::Deleted => EndedBy::User,
        _ if row.outcome == Outcome::Interrupted => EndedBy::Cluster,
        _ => EndedBy::Itself,
    };
    End {
        outcome: row.outcome,
        message,
        ended_by,
        external: ending.is_external(),
        ran: pod.started.zip(until),
        started: pod.ran || row.counts,
    }
}

fn vanished(town: &TownFacts) -> End {
    if town.awake {
        End::reported(Outcome::Failed, "the pod disappeared, and the cause is not known".into())
    } else {
        let ended_by = EndedBy::Operator;
        End { ended_by, ..End::reported(Outcome::Interrupted, "the town fell asleep".into()) }
    }
}

/// Records the end of an attempt before any other write. The status shows the next state, but the next reconcile
/// executes it, because the outcome must be recorded first.
fn record(
    s: &AgentSnapshot,
    mut status: AgentStatus,
    town: &TownFacts,
    bead: &str,
    end: End,
    now: Timestamp,
) -> Plan<AgentStatus> {
    note_end(&mut status, bead, end, now);
    note_claim(s, &mut status);
    status.pod = restart::gone(status.pod.as_ref());
    resting(s, status, town, now).without_actions()
}

/// Records the claim if the earlier write of this record was lost or refused.
fn note_claim(s: &AgentSnapshot, status: &mut AgentStatus) {
    if status.storage.is_none() {
        status.storage = s.claim.as_ref().map(needs::claim_record);
    }
}

/// Records the end of the pod if it is not recorded, for an agent that must not run.
pub(super) fn note_unread_end(s: &AgentSnapshot, status: &mut AgentStatus, now: Timestamp) -> bool {
    let Some(pod) = s.pod.as_ref().filter(|p| p.ended()) else { return false };
    let Some(bead) = unrecorded(s, status, pod) else { return false };
    note_end(status, &bead, end_of(pod, None), now);
    status.pod = restart::gone(status.pod.as_ref());
    true
}

/// Writes the end of an attempt to the status.
pub(super) fn note_end(status: &mut AgentStatus, bead: &str, end: End, now: Timestamp) {
    let mut work = status.work.take().unwrap_or_default();
    if work.bead != bead {
        work = WorkStatus { attempts: 1, ..done::record_of(bead, Some(work)) };
    }
    work.finish_time = Some(stamp(now));
    work.outcome = Some(end.outcome);
    work.message = end.message;
    match end.outcome {
        Outcome::Done => {
            done::remember(&mut work, bead);
            work.disruptions = 0;
            work.external = false;
        }
        // The work did not cause the interruption. The attempt does not count, but the back-off grows.
        Outcome::Interrupted => {
            work.attempts = work.attempts.saturating_sub(1).max(0);
            if end.ended_by != EndedBy::Operator {
                work.disruptions = disrupted(work.disruptions, end.ran, end.ended_by == EndedBy::User);
            }
        }
        Outcome::Failed => work.external = end.external,
    }
    if end.started {
        status.start_time = None;
    }
    status.work = Some(work);
    status.last_activity_time = Some(stamp(now));
}

/// The status of an agent whose pod works or starts.
fn at_work(s: &AgentSnapshot, mut status: AgentStatus, pod: &PodFacts, now: Timestamp) -> Plan<AgentStatus> {
    let mut c = Conditions::of_agent();
    show_pod(s, &mut c);
    if let Some(hook) = &s.agent.spec.hook {
        c.set(condition::FINISHED, false, reason::UNFINISHED, unfinished_text(&hook.bead));
    }
    status.pod = Some(restart::pod_record(pod));
    if let Some(hook) = s.agent.spec.hook.as_ref().filter(|_| came_late(&status, pod)) {
        status.work = Some(next_attempt(s, status.work.take(), &hook.bead, now));
    }
    note_claim(s, &mut status);
    let mut later = None;
    let phase = if pod.phase == PodPhase::Running {
        status.start_time = None;
        c.ready(reason::WORKING_ON, format!("pod {} works", pod.key.name));
        c.set(condition::WORKING, true, reason::WORK, "");
        AgentPhase::Working
    } else {
        later = pod_conditions(pod, &mut c, now).1;
        let began = status.start_time.as_ref().or(status.work.as_ref().and_then(|w| w.start_time.as_ref()));
        later = earlier(later, began.map(|began| after(began.0, START_WITHIN)).filter(|at| now < *at));
        AgentPhase::Starting
    };
    finish_agent(s, status, c, phase, now).look_again_at(later)
}

/// Whether the pod was created after the end of the last attempt: its create took effect late. The pod works, so it
/// counts as an attempt.
fn came_late(status: &AgentStatus, pod: &PodFacts) -> bool {
    let ended = status.work.as_ref().and_then(|work| work.finish_time.as_ref());
    ended.zip(pod.created).is_some_and(|(ended, created)| ended.0 < created)
}

fn unfinished_text(bead: &str) -> String {
    format!("bead {bead} is not finished")
}

/// Without a pod the agent has no work, waits, or begins the next attempt.
fn resting(
    s: &AgentSnapshot,
    mut status: AgentStatus,
    town: &TownFacts,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let mut c = Conditions::of_agent();
    let Some(hook) = s.agent.spec.hook.as_ref() else {
        c.ready(reason::NO_HOOK, "the hook is empty");
        return finish_agent(s, status, c, AgentPhase::Idle, now);
    };
    if status.work.as_ref().is_some_and(|work| done::is_done(work, &hook.bead)) {
        c.ready(reason::DONE, format!("bead {} is done", hook.bead));
        c.set(condition::FINISHED, true, reason::DONE, format!("bead {} is done", hook.bead));
        return outlived(s, status, c, AgentPhase::Done, now);
    }
    c.set(condition::FINISHED, false, reason::UNFINISHED, unfinished_text(&hook.bead));
    let starts = retry::revision(&s.agent, &s.revision);
    let revision = Revision { starts: &starts, secrets: s.secrets.as_deref() };
    if let Some(work) = status.work.as_mut().filter(|w| w.finish_time.is_some()) {
        if revision.is_of(&work.revision) {
            work.revision = revision.seen(&work.revision);
        } else {
            // A change of the revision resets the count of failed attempts at any time, so that the bead gets a new
            // chance.
            let before = std::mem::take(work);
            let (bead, revision) = (before.bead.clone(), revision.after(&before.revision));
            *work = WorkStatus { revision, ..done::record_of(&bead, Some(before)) };
            status.start_time = None;
        }
    }
    if !has_template(s, town) {
        return no_template(s, status, c, now);
    }
    let work = status.work.clone().filter(|w| w.bead == hook.bead);
    if let Some(work) = &work
        && let Some(plan) = not_yet(s, &status, town, work, now)
    {
        return plan;
    }
    let begun = open_attempt(&status).is_some_and(|w| w.bead == hook.bead);
    if let Standing::RigFull { position, limit } = s.standing
        && !begun
    {
        let text = format!(
            "rig {} runs at most {limit} polecats at the same time (maxPolecats): {} of the agents that wait",
            s.agent.spec.rig.as_deref().unwrap_or_default(),
            place(position)
        );
        c.reconciling(reason::RIG_FULL, text);
        return finish_agent(s, status, c, AgentPhase::Blocked, now);
    }
    if !town.awake {
        if needs::still_blocked(s) {
            return Plan::nothing();
        }
        if let Some(lost) = needs::lost(s.claim.as_ref()) {
            return unusable_volume(s, status, c, lost, now);
        }
        let phase = show_town_sleeps(s, town, &mut c);
        return finish_agent(s, status, c, phase, now);
    }
    let volume = match volume(s.agent.spec.storage.as_ref(), s.claim.as_ref(), &mut status.storage, now) {
        Ok(volume) => volume,
        Err(why) => return unusable_volume(s, status, c, why, now),
    };
    let mut actions = volume.actions;
    if s.pod.is_some() {
        // The old pod must be gone before the new attempt is recorded. Otherwise the old pod looks like the pod of the
        // new attempt.
    } else if begun {
        actions.push(Action::CreatePod);
    } else {
        status.work = Some(next_attempt(s, status.work.take(), &hook.bead, now));
        status.start_time.get_or_insert_with(|| stamp(now));
        // The attempt must be recorded before its pod exists. The next reconcile creates the pod.
    }
    c.reconciling(reason::STARTING, STARTING_TEXT);
    let late_at = status.start_time.as_ref().map(|began| after(began.0, START_WITHIN)).filter(|at| now < *at);
    finish_agent(s, status, c, AgentPhase::Starting, now)
        .with_actions(actions)
        .announcing(volume.notice)
        .look_again_at(late_at)
}

/// The status of an agent that is done or failed. The agent deletes itself when its `ttlAfterFinished` has passed.
fn outlived(
    s: &AgentSnapshot,
    status: AgentStatus,
    c: Conditions,
    phase: AgentPhase,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let ttl = s.agent.spec.ttl_after_finished.as_ref().map(Duration::get);
    let finished = status.work.as_ref().and_then(|w| w.finish_time.as_ref());
    let ends_at = finished.and_then(|at| Some(after(at.0, ttl?)));
    // The outcome must be recorded in the status before the agent is deleted.
    let recorded =
        s.agent.status.as_ref().is_some_and(|before| before.phase.as_deref() == Some(phase.as_str()));
    match ends_at {
        Some(at) if at <= now && recorded => Plan::act(vec![Action::DeleteSelf]),
        at => finish_agent(s, status, c, phase, now).look_again_at(at.filter(|at| now < *at)),
    }
}

/// The status of an agent that is past its retry limit, or that waits after a failed attempt. `None`: the next attempt
/// may begin.
fn not_yet(
    s: &AgentSnapshot,
    status: &AgentStatus,
    town: &TownFacts,
    work: &WorkStatus,
    now: Timestamp,
) -> Option<Plan<AgentStatus>> {
    // A clock that was ahead must not stop the attempts for ever.
    let finished = work.finish_time.as_ref()?.0.min(now);
    let retry = &s.agent.spec.retry;
    let limit = Limit::of(&s.agent, town.wake_request_time);
    let at = limit.next_start(work.attempts, work.disruptions, finished);
    let mut c = Conditions::of_agent();
    if limit.is_past(work.attempts) {
        if now < at || !town.awake {
            let text = format!(
                "{} attempts at bead {} failed in a row (spec.retry.limit {}); the cause of the last failure: {}; the \
                 next attempt is at {}",
                work.attempts,
                work.bead,
                retry.limit,
                work.message,
                stamp(at).0
            );
            c.set(condition::READY, false, reason::RETRY_LIMIT_EXCEEDED, text.clone());
            c.degraded(reason::RETRY_LIMIT_EXCEEDED, text);
            c.set(condition::FINISHED, false, reason::UNFINISHED, unfinished_text(&work.bead));
            // The reconcile of a sleeping town decides when a failed agent wakes the town.
            let timer = town.awake.then_some(at);
            return Some(outlived(s, status.clone(), c, AgentPhase::Failed, now).retry_at(timer));
        }
        return None;
    }
    if !town.awake || now >= at {
        return None;
    }
    let text = format!("{}; the next attempt is at {}", work.message, stamp(at).0);
    c.reconciling(reason::BACK_OFF, text.clone());
    c.degraded(reason::CONTAINER_FAILED, text);
    c.set(condition::FINISHED, false, reason::UNFINISHED, unfinished_text(&work.bead));
    Some(finish_agent(s, status.clone(), c, AgentPhase::Starting, now).retry_at(Some(at)))
}

/// The record of the next attempt. The count of failed attempts continues. The count ends when a bead is done, when
/// the bead changes, or when the revision of the attempts changes.
fn next_attempt(s: &AgentSnapshot, before: Option<WorkStatus>, bead: &str, now: Timestamp) -> WorkStatus {
    let record = done::record_of(bead, before.clone());
    let starts = retry::revision(&s.agent, &s.revision);
    let revision = Revision { starts: &starts, secrets: s.secrets.as_deref() };
    let counted = before.filter(|w| w.bead == bead && revision.is_of(&w.revision));
    let recorded = counted.as_ref().map_or("", |w| w.revision.as_str());
    let revision = revision.after(recorded);
    WorkStatus {
        attempts: counted.as_ref().map_or(0, |w| w.attempts).saturating_add(1),
        window_start_time: counted
            .as_ref()
            .and_then(|w| w.window_start_time.clone())
            .or_else(|| Some(stamp(now))),
        start_time: Some(stamp(now)),
        disruptions: counted.as_ref().map_or(0, |w| w.disruptions),
        external: counted.is_some_and(|w| w.external),
        revision,
        ..record
    }
}
