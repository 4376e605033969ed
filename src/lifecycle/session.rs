//! An agent of mode Session: its pod lives while the town is awake.

use k8s_openapi::jiff::Timestamp;

use super::activity::{AgentActivity, Heard, agent_activity, heard};
use super::clock::stamp;
use super::conditions::{Conditions, message_of};
use super::done;
use super::facts::{AgentSnapshot, TownFacts};
use super::needs::{self, Volume, has_template, no_template, unusable_volume, volume};
use super::plan::{Action, Plan, Questions};
use super::pods::{STARTING_TEXT, end_pod, pod_conditions, show_back_off, show_leaving};
use super::probe;
use super::restart::{self, Next, Starts};
use super::retry::{self, Limit, Revision};
use super::status::{agent_status, finish_agent, show_pod, show_town_sleeps};
use super::task::{End, note_end};
use super::text::{cut, plain};
use super::update::{self, Update, Wanted};
use crate::api::condition::{self, reason};
use crate::api::{AgentPhase, AgentStatus, Outcome, ReportedAgent, RestartsStatus, WorkStatus};

/// The longest stored message of a pod, in bytes.
const MESSAGE: usize = 1024;

/// Decides about a bound Session agent of a live town.
pub(super) fn decide(s: &AgentSnapshot, town: &TownFacts, now: Timestamp) -> Plan<AgentStatus> {
    let mut status = agent_status(s);
    let mut c = Conditions::of_agent();
    show_hook(s, &mut c, &status);
    show_pod(s, &mut c);
    if !has_template(s, town) {
        return no_template(s, status, c, now);
    }
    let starts = retry::revision(&s.agent, &s.revision);
    let revision = Revision { starts: &starts, secrets: s.secrets.as_deref() };
    if !town.awake {
        // The reconcile of the town deletes the pods of a town that falls asleep.
        if s.pod.is_some() || needs::still_blocked(s) {
            return Plan::nothing();
        }
        if let Some(lost) = needs::lost(s.claim.as_ref()) {
            return unusable_volume(s, status, c, lost, now);
        }
        status.pod = restart::gone(status.pod.as_ref());
        status.start_time = None;
        // The failures stay on record, so that an agent that cannot start does not wake its town again and again.
        status.restarts = status.restarts.and_then(|before| kept_asleep(before, revision));
        if let Some(restarts) = status.restarts.clone().filter(|r| limit(s, town).is_past(r.count)) {
            return failed(s, status, c, &restarts, None, now);
        }
        let phase = show_town_sleeps(s, town, &mut c);
        return finish(s, status, c, phase, now);
    }
    let volume = match volume(s.agent.spec.storage.as_ref(), s.claim.as_ref(), &mut status.storage, now) {
        Ok(volume) => volume,
        // A present pod is probed, even if its claim is unusable.
        Err(why) if why.stalled => return unusable_volume(s, status, c, why, now).asking(ask(s, town, now)),
        Err(why) => {
            c.degraded(why.reason, why.message.clone());
            Volume { actions: Vec::new(), notice: None, unusable: Some(why) }
        }
    };
    let mut actions = volume.actions;
    let before = s.agent.status.as_ref().map_or(&[][..], |before| before.conditions.as_slice());
    let refused = volume
        .unusable
        .as_ref()
        .map(|why| why.message.as_str())
        .or_else(|| message_of(before, condition::DEGRADED));
    let decided = Starts {
        pod: s.pod.as_ref(),
        record: status.pod.as_ref(),
        restarts: status.restarts.as_ref(),
        began: status.start_time.as_ref().map(|t| t.0),
        revision,
        limit: limit(s, town),
        wake_time: town.wake_time,
        refused,
    }
    .decide(now);
    status.restarts = decided.restarts;
    status.start_time = decided.began.map(stamp);
    let plan = match decided.next {
        Next::Keep => keep(s, town, status, c, actions, now),
        Next::Wait => {
            status.pod = restart::gone(status.pod.as_ref());
            let overdue_at = show_leaving(s.pod.as_ref(), &mut c, now);
            finish(s, status, c, AgentPhase::Starting, now).look_again_at(overdue_at)
        }
        Next::BackOff(_)
            if s.pod.as_ref().is_some_and(|pod| update::outdated(pod, Wanted::of_agent(s, town))) =>
        {
            status.restarts = None;
            replace(s, status, c, "replacing a failed pod that was created from an older spec", now)
        }
        Next::BackOff(at) => {
            show_back_off(s.pod.as_ref(), status.restarts.as_ref(), at, &mut c);
            if s.pod.is_none() {
                status.pod = restart::gone(status.pod.as_ref());
            }
            finish(s, status, c, AgentPhase::Starting, now).retry_at(Some(at))
        }
        Next::Hold(at) => {
            let restarts = status.restarts.clone().unwrap_or_default();
            status.pod = restart::gone(status.pod.as_ref());
            let end = s.pod.iter().flat_map(end_pod).collect();
            failed(s, status, c, &restarts, Some(at), now).with_actions(end).retry_at(Some(at))
        }
        Next::Replace => {
            let why = status.restarts.as_ref().map(|r| r.message.clone()).filter(|why| !why.is_empty());
            let why = why.unwrap_or_else(|| "the pod ended".to_owned());
            replace(s, status, c, format!("{why}; replacing the pod"), now)
        }
        // The start has begun, and waits for its volume.
        Next::Create => {
            if let Some(why) = volume.unusable {
                c.reconciling(why.reason, why.message);
                return finish(s, status, c, AgentPhase::Starting, now)
                    .announcing(volume.notice)
                    .look_again_at(decided.look_again);
            }
            actions.extend(probe::own_token(s.agent.spec.activity_probe.as_ref()));
            actions.push(Action::CreatePod);
            status.pod = restart::gone(status.pod.as_ref());
            c.reconciling(reason::STARTING, STARTING_TEXT);
            finish(s, status, c, AgentPhase::Starting, now).with_actions(actions)
        }
    };
    plan.announcing(volume.notice).look_again_at(decided.look_again)
}

/// The failures that a sleeping town keeps on record.
fn kept_asleep(before: RestartsStatus, revision: Revision<'_>) -> Option<RestartsStatus> {
    let counts = before.count > 0 && !before.revision.is_empty() && revision.is_of(&before.revision);
    counts.then(|| RestartsStatus { revision: revision.seen(&before.revision), ..before })
}

/// The status to report. The phase of an ended bead has precedence over the phase of the agent, its pod or its town.
fn finish(
    s: &AgentSnapshot,
    status: AgentStatus,
    c: Conditions,
    phase: AgentPhase,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let work = status.work.as_ref();
    let ended = s.agent.spec.hook.as_ref().and_then(|hook| {
        let failed = work.is_some_and(|w| w.bead == hook.bead && w.outcome == Some(Outcome::Failed));
        let done = work.is_some_and(|w| done::is_done(w, &hook.bead));
        if done { Some(AgentPhase::Done) } else { failed.then_some(AgentPhase::Failed) }
    });
    finish_agent(s, status, c, ended.unwrap_or(phase), now)
}

/// The activity probe of the agent's pod.
fn ask(s: &AgentSnapshot, town: &TownFacts, now: Timestamp) -> Questions {
    asked(s).every(town.cadence(), now)
}

/// The input for the activity probe of the agent's pod.
pub(super) fn asked(s: &AgentSnapshot) -> probe::Asked<'_> {
    probe::Asked {
        owner: &s.agent.metadata,
        probe: s.agent.spec.activity_probe.as_ref(),
        pod: s.pod.as_ref(),
        record: s.agent.status.as_ref().and_then(|status| status.pod.as_ref()),
        facts: &s.probe,
    }
}

/// The limit of failed starts of the agent.
fn limit(s: &AgentSnapshot, town: &TownFacts) -> Limit {
    Limit::of(&s.agent, town.wake_request_time)
}

/// The status of an agent past the limit of failed starts. The agent does not count as work, and is started once per
/// window.
fn failed(
    s: &AgentSnapshot,
    status: AgentStatus,
    mut c: Conditions,
    restarts: &RestartsStatus,
    next: Option<Timestamp>,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let next = match next {
        Some(at) => format!("the next start is at {}, or when the agent changes", stamp(at).0),
        None => "the next start follows when the town is awake, or when the agent changes".to_owned(),
    };
    let text = format!(
        "{} starts failed in a row (spec.retry.limit {}); the cause of the last failure: {}; {next}",
        restarts.count, s.agent.spec.retry.limit, restarts.message
    );
    c.set(condition::READY, false, reason::RETRY_LIMIT_EXCEEDED, text.clone());
    c.degraded(reason::RETRY_LIMIT_EXCEEDED, text);
    finish_agent(s, status, c, AgentPhase::Failed, now)
}

/// Replaces the pod.
fn replace(
    s: &AgentSnapshot,
    mut status: AgentStatus,
    mut c: Conditions,
    text: impl Into<String>,
    now: Timestamp,
) -> Plan<AgentStatus> {
    status.pod = restart::gone(status.pod.as_ref());
    status.start_time = None;
    c.reconciling(reason::STARTING, text);
    let end = s.pod.iter().flat_map(end_pod).collect();
    finish(s, status, c, AgentPhase::Starting, now).with_actions(end)
}

/// Keeps the pod: delivers the hook of the spec, records the delivered hook, and probes the activity.
fn keep(
    s: &AgentSnapshot,
    town: &TownFacts,
    mut status: AgentStatus,
    mut c: Conditions,
    mut actions: Vec<Action>,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let Some(pod) = &s.pod else { return Plan::nothing() };
    let said = heard(&s.agent, asked(s).known(town.cadence(), now), None);
    let activity = agent_activity(&s.agent, Some(pod), (said, &s.probe), now);
    let busy =
        matches!(activity, AgentActivity::Working | AgentActivity::Stuck(true) | AgentActivity::Unknown);
    let idle = !town.active && !busy;
    let was_ready = status.start_time.is_none();
    let update = update::update(&s.agent.metadata, pod, Wanted::of_agent(s, town), idle, was_ready);
    if let Update::Now(why) = update {
        status.restarts = None;
        return replace(s, status, c, format!("replacing the pod: {why}"), now);
    }
    status.pod = Some(restart::pod_record(pod));
    let (ready, later) = pod_conditions(pod, &mut c, now);
    let hook = s.agent.spec.hook.as_ref();
    if pod.hook.as_ref() != hook {
        actions.push(Action::DeliverHook { pod: pod.key.clone(), uid: pod.uid.clone(), hook: hook.cloned() });
    } else if ready
        && let Some(hook) = hook
        && status.work.as_ref().is_none_or(|w| w.bead != hook.bead)
    {
        let record = done::record_of(&hook.bead, status.work.take());
        status.work = Some(WorkStatus { start_time: Some(stamp(now)), ..record });
        show_hook(s, &mut c, &status);
    }
    if update == Update::Pending {
        c.set(condition::RECONCILING, true, reason::UPDATE_PENDING, update::PENDING_TEXT);
    }
    let phase =
        if ready { show_activity(s, &mut status, &mut c, said, activity, now) } else { AgentPhase::Starting };
    finish(s, status, c, phase, now).with_actions(actions).look_again_at(later).asking(ask(s, town, now))
}

/// Reports the activity of the agent from its Ready pod, and returns the phase.
fn show_activity(
    s: &AgentSnapshot,
    status: &mut AgentStatus,
    c: &mut Conditions,
    said: Heard<'_>,
    activity: AgentActivity,
    now: Timestamp,
) -> AgentPhase {
    let before = s.agent.status.as_ref();
    let old = before.map_or(&[][..], |b| b.conditions.as_slice());
    let entry = match said {
        Heard::Answer(entry, _) => entry,
        Heard::NoAnswer | Heard::NoPod | Heard::Nothing => None,
    };
    let bead = s.agent.spec.hook.as_ref().map(|h| h.bead.as_str());
    // The pod can refer to a bead only after the delivery of the bead.
    let delivered = status.work.as_ref().filter(|w| Some(w.bead.as_str()) == bead && w.finish_time.is_none());
    if let (Some(work), AgentActivity::Done | AgentActivity::Failed) = (delivered, activity) {
        let outcome = if activity == AgentActivity::Done { Outcome::Done } else { Outcome::Failed };
        let bead = work.bead.clone();
        note_end(status, &bead, End::reported(outcome, message(entry)), now);
    }
    let was = before.and_then(|b| b.phase.as_deref());
    let phase = match activity {
        AgentActivity::Working => AgentPhase::Working,
        AgentActivity::Waiting => AgentPhase::Waiting,
        AgentActivity::Stuck(_) => AgentPhase::Stuck,
        AgentActivity::Done => AgentPhase::Done,
        AgentActivity::Failed => AgentPhase::Failed,
        // The pod was not probed yet, or one of its last probes failed: the phase stays.
        AgentActivity::Unknown => [AgentPhase::Working, AgentPhase::Waiting, AgentPhase::Stuck]
            .into_iter()
            .find(|known| s.probe.failures < probe::FAILURES && was == Some(known.as_str()))
            .unwrap_or(AgentPhase::Idle),
        AgentActivity::Pending | AgentActivity::Idle | AgentActivity::Blocked => AgentPhase::Idle,
    };
    // The status records the begin and the end of work only. Otherwise each probe would cost a write.
    if (phase == AgentPhase::Working) != (was == Some(AgentPhase::Working.as_str())) {
        status.last_activity_time = Some(stamp(now));
    }
    match phase {
        AgentPhase::Working => c.set(condition::WORKING, true, reason::WORK, ""),
        // The status keeps the first message, because the message may change with each probe.
        AgentPhase::Waiting => {
            c.set(condition::WORKING, false, reason::WAITING, message(entry));
            c.keep(condition::WORKING, old, &[reason::WAITING]);
        }
        AgentPhase::Stuck => {
            status.last_activity_time = entry.and_then(|e| e.last_activity_time.as_ref()).map(|t| stamp(t.0));
            c.set(condition::WORKING, false, reason::REPORTED_STUCK, message(entry));
            c.keep(condition::WORKING, old, &[reason::REPORTED_STUCK]);
            if was == Some(AgentPhase::Stuck.as_str()) {
                status.last_activity_time = before.and_then(|b| b.last_activity_time.clone());
            }
        }
        AgentPhase::Done => {
            show_hook(s, c, status);
        }
        AgentPhase::Failed => show_failed(c, bead.unwrap_or_default(), status),
        _ => {}
    }
    if let (Some(Err(why)), true) = (&s.probe.last, s.probe.failures >= probe::FAILURES) {
        c.degraded(
            reason::ACTIVITY_UNKNOWN,
            format!("the operator cannot determine the activity of the agent: {why}"),
        );
        c.keep(condition::DEGRADED, old, &[reason::ACTIVITY_UNKNOWN]);
    }
    phase
}

/// The message of a pod about an agent, cut to its maximal length and without control characters.
fn message(entry: Option<&ReportedAgent>) -> String {
    cut(&plain(entry.and_then(|e| e.message.as_deref()).unwrap_or_default()), MESSAGE).to_owned()
}

/// Reports the state of the bead on the hook. Done is final: neither sleep nor a missing answer reverts it.
fn show_hook(s: &AgentSnapshot, c: &mut Conditions, status: &AgentStatus) {
    let Some(hook) = &s.agent.spec.hook else { return };
    let work = status.work.as_ref();
    if work.is_some_and(|w| done::is_done(w, &hook.bead)) {
        c.set(condition::FINISHED, true, reason::DONE, format!("bead {} is done", hook.bead));
        return;
    }
    let delivered = work.is_some_and(|w| w.bead == hook.bead);
    let text = if delivered { "delivered" } else { "not delivered yet" };
    c.set(condition::FINISHED, false, reason::UNFINISHED, format!("bead {} is {text}", hook.bead));
}

/// Reports that the agent failed at the bead.
fn show_failed(c: &mut Conditions, bead: &str, status: &AgentStatus) {
    let said = status.work.as_ref().map(|w| w.message.clone()).unwrap_or_default();
    let text = format!("the agent reports that bead {bead} has failed: {said}");
    c.set(condition::READY, false, reason::REPORTED_FAILED, text.clone());
    c.degraded(reason::REPORTED_FAILED, text);
}
