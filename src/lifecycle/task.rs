//! An agent of mode Task: a pod exists only while the bead on its hook is unfinished.
//!
//! Invariants kept here: an attempt is recorded before its pod is created, and its outcome before the
//! pod is let go; a bead recorded as done never starts a pod again.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::activity::{is_done, unfinished};
use super::clock::{after, back_off, due, stamp};
use super::conditions::Conditions;
use super::facts::{AgentSnapshot, PodFacts, PodPhase, Standing, TownFacts};
use super::needs::{has_template, no_template, unusable_volume, volume};
use super::plan::{Action, Plan};
use super::pods::{STARTING_TEXT, end_pod, is_overdue, overdue_at, pod_conditions, show_leaving, why_ended};
use super::roles::place;
use super::status::{agent_status, finish_agent, show_pod};
use super::{needs, restart, update};
use crate::api::condition::{self, reason};
use crate::api::{Agent, AgentStatus, Duration, Outcome, Retry, WorkStatus};

/// How many done beads are remembered.
const REMEMBERED: usize = 32;
/// A Failed agent is tried at least this often while its town is awake.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// What should happen to a bound Task agent of a live town.
pub(super) fn decide(s: &AgentSnapshot, town: &TownFacts, now: Timestamp) -> Plan<AgentStatus> {
    let status = agent_status(s);
    match &s.pod {
        Some(pod) if pod.ended() => match unrecorded(s, &status, pod) {
            Some(bead) => record(s, status, town, &bead, outcome(pod), now),
            // While it is there, a create of its name that comes late has no effect: the bead is not begun again.
            None if finished(s, pod) && s.creates_settle_at.is_some_and(|at| now < at) => {
                Plan::nothing().look_again_at(s.creates_settle_at)
            }
            // What it did is recorded: let it go.
            None => Plan::act(end_pod(pod)),
        },
        Some(pod) if pod.deleting() => leaving(s, status, pod, now),
        Some(pod) if !wanted(s, pod) => Plan::act(end_pod(pod)),
        // Only while nothing of it runs yet is a new template worth an attempt; a person's word always is.
        Some(pod)
            if update::restart_asked(&s.agent.metadata, pod)
                || (pod.phase == PodPhase::Pending && update::outdated(pod, &s.revision)) =>
        {
            Plan::act(end_pod(pod))
        }
        // While the town falls asleep its pods are the town's to delete.
        Some(_) if !town.awake && !town.draining => Plan::nothing(),
        Some(pod) => at_work(s, status, pod, now),
        None => match open_attempt(&status) {
            Some(work) if status.pod.as_ref().is_some_and(|p| p.uid.is_some()) => {
                let bead = work.bead.clone();
                record(s, status, town, &bead, vanished(town), now)
            }
            Some(work) if !town.awake => {
                let bead = work.bead.clone();
                record(s, status, town, &bead, vanished(town), now)
            }
            _ => resting(s, status, town, now),
        },
    }
}

/// The pod was told to stop; if it does not, that is said.
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
    finish_agent(s, status, c, "Starting", now)
}

/// Whether the pod works on the bead that is on the hook.
fn wanted(s: &AgentSnapshot, pod: &PodFacts) -> bool {
    unfinished(&s.agent).is_some_and(|hook| pod.hook.as_ref().is_some_and(|h| h.bead == hook.bead))
}

/// Whether the pod worked on a bead that is done.
fn finished(s: &AgentSnapshot, pod: &PodFacts) -> bool {
    pod.hook.as_ref().is_some_and(|hook| is_done(&s.agent, &hook.bead))
}

/// The attempt that was begun and has no outcome yet.
fn open_attempt(status: &AgentStatus) -> Option<&WorkStatus> {
    status.work.as_ref().filter(|w| w.started_at.is_some() && w.finished_at.is_none())
}

/// The bead of an ended pod whose outcome is not recorded yet. An attempt that has an outcome is not given
/// another; a pod of which there is no record at all (a restored status) counts only if it is done.
fn unrecorded(s: &AgentSnapshot, status: &AgentStatus, pod: &PodFacts) -> Option<String> {
    let bead = &pod.hook.as_ref()?.bead;
    let open = open_attempt(status).is_some_and(|w| w.bead == *bead);
    let on_record = status.work.as_ref().is_some_and(|w| w.bead == *bead) || is_done(&s.agent, bead);
    (open || (pod.done() && !on_record)).then(|| bead.clone())
}

/// How an attempt ended, and the text for people.
type End = (Outcome, String);

/// Whoever was told to stop and had not finished was interrupted, whoever told it.
fn outcome(pod: &PodFacts) -> End {
    if pod.done() {
        return (Outcome::Done, pod.termination.as_ref().map(|t| t.message.clone()).unwrap_or_default());
    }
    let outcome = if pod.deleting() || pod.disrupted { Outcome::Interrupted } else { Outcome::Failed };
    (outcome, why_ended(pod))
}

fn vanished(town: &TownFacts) -> End {
    if town.awake {
        (Outcome::Failed, "the pod vanished without an outcome".into())
    } else {
        (Outcome::Interrupted, "the town fell asleep".into())
    }
}

/// Records how an attempt ended, before anything else happens. What comes next is decided with the outcome
/// on record; no write but that one now.
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

/// Records the claim if the write that was to say so was lost, or refused.
fn note_claim(s: &AgentSnapshot, status: &mut AgentStatus) {
    if status.storage.is_none() {
        status.storage = s.claim.as_ref().map(needs::claim_record);
    }
}

/// Records how the pod of an agent that must not run ended, if that is not on record yet.
pub(super) fn note_unread_end(s: &AgentSnapshot, status: &mut AgentStatus, now: Timestamp) -> bool {
    let Some(pod) = s.pod.as_ref().filter(|p| p.ended()) else { return false };
    let Some(bead) = unrecorded(s, status, pod) else { return false };
    note_end(status, &bead, outcome(pod), now);
    status.pod = restart::gone(status.pod.as_ref());
    true
}

pub(super) fn note_end(status: &mut AgentStatus, bead: &str, (outcome, message): End, now: Timestamp) {
    let mut work = status.work.take().unwrap_or_default();
    if work.bead != bead {
        work = WorkStatus { bead: bead.to_owned(), attempts: 1, done: work.done, ..WorkStatus::default() };
    }
    work.finished_at = Some(stamp(now));
    work.outcome = Some(outcome);
    work.message = message;
    match outcome {
        Outcome::Done => {
            work.done.push(bead.to_owned());
            let surplus = work.done.len().saturating_sub(REMEMBERED);
            work.done.drain(..surplus);
        }
        // Not the work's fault: this start does not count.
        Outcome::Interrupted => work.attempts = work.attempts.saturating_sub(1).max(0),
        Outcome::Failed => {}
    }
    status.work = Some(work);
    status.last_activity_at = Some(stamp(now));
}

/// The pod does its work.
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
        c.ready(reason::WORKING_ON, format!("pod {} works", pod.key.name));
        c.set(condition::WORKING, true, reason::WORK, "");
        "Working"
    } else {
        later = pod_conditions(pod, &mut c, now).1;
        "Starting"
    };
    finish_agent(s, status, c, phase, now).look_again_at(later)
}

/// Whether the pod was made after the last attempt had ended: its create took effect when it was no longer
/// expected. It works, so it is an attempt.
fn came_late(status: &AgentStatus, pod: &PodFacts) -> bool {
    let ended = status.work.as_ref().and_then(|work| work.finished_at.as_ref());
    ended.zip(pod.created).is_some_and(|(ended, created)| ended.0 < created)
}

fn unfinished_text(bead: &str) -> String {
    format!("bead {bead} is not finished")
}

/// There is no pod: nothing to do, or not yet, or the next attempt.
fn resting(
    s: &AgentSnapshot,
    mut status: AgentStatus,
    town: &TownFacts,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let mut c = Conditions::of_agent();
    let Some(hook) = s.agent.spec.hook.as_ref() else {
        c.ready(reason::NO_HOOK, "nothing is on the hook");
        return finish_agent(s, status, c, "Idle", now);
    };
    if status.work.as_ref().is_some_and(|w| w.done.contains(&hook.bead)) {
        c.ready(reason::DONE, format!("bead {} is done", hook.bead));
        c.set(condition::FINISHED, true, reason::DONE, format!("bead {} is done", hook.bead));
        return outlived(s, status, c, "Done", now);
    }
    c.set(condition::FINISHED, false, reason::UNFINISHED, unfinished_text(&hook.bead));
    if let Some(work) = status.work.as_mut().filter(|w| edited(&s.agent) && w.finished_at.is_some()) {
        // What failed before gets a new chance, whenever its turn comes.
        work.attempts = 0;
        work.window_started_at = None;
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
            "rig {} takes {limit} polecats at once (maxPolecats): {} of those who wait",
            s.agent.spec.rig.as_deref().unwrap_or_default(),
            place(position)
        );
        c.reconciling(reason::RIG_FULL, text);
        return finish_agent(s, status, c, "Blocked", now);
    }
    if !town.awake {
        if needs::still_blocked(s) {
            return Plan::nothing();
        }
        if let Some(lost) = needs::lost(s.claim.as_ref()) {
            return unusable_volume(s, status, c, lost, now);
        }
        c.ready(reason::ASLEEP, "the town is asleep");
        return finish_agent(s, status, c, "Asleep", now);
    }
    let volume = match volume(s.agent.spec.storage.as_ref(), s.claim.as_ref(), &mut status.storage, now) {
        Ok(volume) => volume,
        Err(why) => return unusable_volume(s, status, c, why, now),
    };
    let mut actions = volume.actions;
    if s.pod.is_some() {
        // The old pod must be gone first: with a new attempt on record it would look like that one's.
    } else if begun {
        actions.push(Action::CreatePod);
    } else {
        status.work = Some(next_attempt(s, status.work.take(), &hook.bead, now));
        // The attempt must be on record before its pod exists; the next look creates it.
    }
    c.reconciling(reason::STARTING, STARTING_TEXT);
    finish_agent(s, status, c, "Starting", now).with_actions(actions).announcing(volume.notice)
}

/// Whether the spec was edited since the agent was last looked at.
fn edited(agent: &Agent) -> bool {
    update::edited(agent.status.as_ref().and_then(|before| before.observed_generation), &agent.metadata)
}

/// When an agent that is past its limit for the bead on its hook is tried again; `None`: it is not past it.
pub(super) fn tried_again_at(agent: &Agent) -> Option<Timestamp> {
    let hook = agent.spec.hook.as_ref().filter(|_| !edited(agent))?;
    let work = agent.status.as_ref()?.work.as_ref().filter(|work| work.bead == hook.bead)?;
    window_ends_at(&agent.spec.retry, work)
}

/// When the window ends that begins with the last attempt, where that reached the limit.
fn window_ends_at(retry: &Retry, work: &WorkStatus) -> Option<Timestamp> {
    let beyond = work.attempts - retry.limit;
    let finished = work.finished_at.as_ref().filter(|_| beyond >= 0)?;
    Some(after(finished.0, doubled(retry.window.get(), beyond)))
}

/// Done, or failed for good: an agent whose `ttlAfterFinished` is over deletes itself.
fn outlived(
    s: &AgentSnapshot,
    status: AgentStatus,
    c: Conditions,
    phase: &str,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let ttl = s.agent.spec.ttl_after_finished.as_ref().map(Duration::get);
    let finished = status.work.as_ref().and_then(|w| w.finished_at.as_ref());
    let ends_at = finished.and_then(|at| Some(after(at.0, ttl?)));
    // The outcome must be on record before its record goes.
    let recorded = s.agent.status.as_ref().is_some_and(|before| before.phase.as_deref() == Some(phase));
    match ends_at {
        Some(at) if at <= now && recorded => Plan::act(vec![Action::DeleteSelf]),
        at => finish_agent(s, status, c, phase, now).look_again_at(at.filter(|at| now < *at)),
    }
}

/// Past its limit, or waiting after a failed attempt: what to show, and until when.
fn not_yet(
    s: &AgentSnapshot,
    status: &AgentStatus,
    town: &TownFacts,
    work: &WorkStatus,
    now: Timestamp,
) -> Option<Plan<AgentStatus>> {
    work.finished_at.as_ref()?;
    if edited(&s.agent) {
        return None;
    }
    let retry = &s.agent.spec.retry;
    let mut c = Conditions::of_agent();
    if let Some(at) = window_ends_at(retry, work) {
        if now < at || !town.awake {
            let text = format!(
                "bead {} was started {} times (spec.retry.limit {}), last: {}; the next attempt is at {}",
                work.bead,
                work.attempts,
                retry.limit,
                work.message,
                stamp(at).0
            );
            c.set(condition::READY, false, reason::RETRY_LIMIT_EXCEEDED, text.clone());
            c.degraded(reason::RETRY_LIMIT_EXCEEDED, text);
            c.set(condition::FINISHED, false, reason::UNFINISHED, unfinished_text(&work.bead));
            // A sleeping town has no timers for attempts; Failed never wakes one.
            let timer = town.awake.then_some(at);
            return Some(outlived(s, status.clone(), c, "Failed", now).retry_at(timer));
        }
        return None;
    }
    let at = due(work.finished_at.as_ref(), back_off(work.attempts.max(1)), now);
    if !town.awake || now >= at {
        return None;
    }
    let text = format!("{}; the next attempt is at {}", work.message, stamp(at).0);
    c.reconciling(reason::BACK_OFF, text.clone());
    c.degraded(reason::CONTAINER_FAILED, text);
    c.set(condition::FINISHED, false, reason::UNFINISHED, unfinished_text(&work.bead));
    Some(finish_agent(s, status.clone(), c, "Starting", now).retry_at(Some(at)))
}

/// The window after `beyond` failed attempts past the limit: doubled each time, at most a day.
fn doubled(window: SignedDuration, beyond: i32) -> SignedDuration {
    let factor = 1_i32.checked_shl(u32::try_from(beyond.clamp(0, 12)).unwrap_or(0)).unwrap_or(1);
    window.checked_mul(factor).unwrap_or(LONGEST_WINDOW).min(LONGEST_WINDOW)
}

/// The record of the attempt that is about to begin.
fn next_attempt(s: &AgentSnapshot, before: Option<WorkStatus>, bead: &str, now: Timestamp) -> WorkStatus {
    let retry = &s.agent.spec.retry;
    let done = before.as_ref().map(|w| w.done.clone()).unwrap_or_default();
    let counted = before.filter(|w| w.bead == bead).filter(|w| {
        // Past the limit the count goes on, so that the window doubles; below it a new window starts anew.
        w.attempts >= retry.limit
            || w.window_started_at.as_ref().is_some_and(|t| now < after(t.0, retry.window.get()))
    });
    WorkStatus {
        bead: bead.to_owned(),
        attempts: counted.as_ref().map_or(0, |w| w.attempts).saturating_add(1),
        window_started_at: counted.and_then(|w| w.window_started_at).or_else(|| Some(stamp(now))),
        started_at: Some(stamp(now)),
        finished_at: None,
        outcome: None,
        message: String::new(),
        done,
    }
}
