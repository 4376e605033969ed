//! Has the town work? Each of five kinds of work alone keeps it awake.
//!
//! Only work counts: being there, being probed, watched or connected to is never work. What cannot be found
//! out is neither work nor its absence.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::after;
use super::conditions::{gives, is_true};
use super::facts::{PodFacts, PodPhase, ProbeFacts, TownSnapshot};
use super::ids::Uid;
use super::{done, probe, roles};
use crate::api::{
    Agent, AgentCounts, Backlog, Hook, Mode, Outcome, ReportedAgent, ReportedState, condition,
    condition::reason,
};

/// An agent that does not get on counts as work for this long after it last did something.
const STALLED_COUNTS: SignedDuration = SignedDuration::from_mins(30);

/// What an agent is doing, as its town sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentActivity {
    /// It does its bead: a Task agent while its pod is there, others by their own word.
    Working,
    /// It reports that it does not get on; `true`: not for so long that it no longer counts as work.
    Stalled(bool),
    /// It waits for a person, which is not work.
    Waiting,
    /// An unfinished bead that it does not work on (yet): it waits for its turn or its next attempt.
    Pending,
    /// Nothing to do.
    Idle,
    /// The bead on its hook is done.
    Done,
    /// Past its limit of retries.
    Failed,
    /// Cannot run until a person acts, or others make room.
    Blocked,
    /// It is to be asked, and did not answer.
    Unknown,
}

impl AgentActivity {
    /// Whether it is work that keeps a town awake.
    fn is_work(self) -> bool {
        matches!(self, Self::Working | Self::Pending | Self::Stalled(true))
    }
}

/// Whether a town has work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TownActivity {
    /// It has: a condition reason, and a text that says what kind of work, not whose, so that it does not
    /// change with every agent that comes or goes.
    Work(&'static str, &'static str),
    /// It has none.
    None,
    /// Somebody is to be asked who has not been yet, or did not answer just now.
    NotYetKnown,
    /// Nobody can say, since this time and for this reason.
    Unknown(Timestamp, String),
}

/// Whether the town has work.
pub(super) fn of_town(s: &TownSnapshot, now: Timestamp) -> TownActivity {
    if agents(s, now).any(|(_, activity)| activity.is_work()) {
        return TownActivity::Work(reason::WORK, "an agent has work");
    }
    if let Some(text) = of_own_pod(s, now) {
        return TownActivity::Work(reason::WORK, text);
    }
    if let Some(text) = waiting_work(s) {
        return TownActivity::Work(reason::BACKLOG, text);
    }
    unknown(s)
}

/// What the town's own pod runs, whether there is an Agent for it or not.
pub(super) fn of_own_pod(s: &TownSnapshot, now: Timestamp) -> Option<&'static str> {
    let at_work = s.probe.report()?.agents.iter().any(|a| reported(a, None, now).is_work());
    at_work.then_some("the town's pod reports an agent at work")
}

/// Work that nobody does yet: the larger of what the spec says and what the town's pod reports counts.
pub(super) fn waiting_work(s: &TownSnapshot) -> Option<&'static str> {
    let reported = s.probe.report().map_or_else(Backlog::default, |r| r.backlog);
    let spec = s.town.spec.backlog;
    if spec.merge_requests.max(reported.merge_requests) > 0 {
        Some("merge requests wait")
    } else if spec.triage.max(reported.triage) > 0 {
        Some("reports wait to be looked through")
    } else if spec.unassigned.max(reported.unassigned) > 0 && !s.town.spec.rigs.is_empty() {
        Some("work waits that nobody has yet")
    } else {
        None
    }
}

/// Whether everybody who is to be asked has answered.
fn unknown(s: &TownSnapshot) -> TownActivity {
    let mut result = TownActivity::None;
    for facts in probe::answering(s) {
        match &facts.last {
            Some(Ok(_)) => {}
            Some(Err(why)) if facts.failures >= probe::FAILURES => {
                let since = facts.failing_since.unwrap_or(Timestamp::MAX);
                let earlier = match &result {
                    TownActivity::Unknown(known, _) => since < *known,
                    _ => true,
                };
                if earlier {
                    result = TownActivity::Unknown(since, why.clone());
                }
            }
            _ if matches!(result, TownActivity::Unknown(..)) => {}
            _ => result = TownActivity::NotYetKnown,
        }
    }
    result
}

/// The mode of an agent: as its spec says, else by role.
pub fn mode(agent: &Agent) -> Mode {
    agent.spec.mode.unwrap_or(match agent.spec.role {
        crate::api::Role::Polecat => Mode::Task,
        _ => Mode::Session,
    })
}

/// Whether the bead was recorded as done: it never starts a pod again.
pub(super) fn is_done(agent: &Agent, bead: &str) -> bool {
    agent.status.as_ref().and_then(|s| s.work.as_ref()).is_some_and(|work| done::is_done(work, bead))
}

/// The hook's bead, unless it is done.
pub(super) fn unfinished(agent: &Agent) -> Option<&Hook> {
    agent.spec.hook.as_ref().filter(|hook| !is_done(agent, &hook.bead))
}

/// What an agent is doing, from its own record, its pod, and what was reported of it.
pub(super) fn agent_activity(
    agent: &Agent,
    pod: Option<&PodFacts>,
    heard: Heard<'_>,
    now: Timestamp,
) -> AgentActivity {
    let conditions = agent.status.as_ref().map_or(&[][..], |s| s.conditions.as_slice());
    if is_true(conditions, condition::STALLED) || gives(conditions, condition::READY, reason::RIG_FULL) {
        let at_work = mode(agent) == Mode::Task && pod.is_some_and(|p| at_work(agent, p));
        return if at_work { AgentActivity::Working } else { AgentActivity::Blocked };
    }
    if mode(agent) == Mode::Session {
        return session_activity(agent, pod, heard, now);
    }
    match unfinished(agent) {
        None if agent.spec.hook.is_some() => AgentActivity::Done,
        None => AgentActivity::Idle,
        Some(_) if pod.is_some_and(|p| at_work(agent, p)) => AgentActivity::Working,
        Some(hook) if has_failed(agent, &hook.bead) => AgentActivity::Failed,
        Some(_) => AgentActivity::Pending,
    }
}

/// What is heard of an agent that is not to be judged by its pod.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heard<'a> {
    /// Nobody is asked: without a word a Session agent is idle, however busy its container looks.
    Nothing,
    /// It is to be asked, and has not answered.
    NoAnswer,
    /// What was answered to the question of that time; `None`: it was not mentioned.
    Answer(Option<&'a ReportedAgent>, Timestamp),
}

/// What the agent's own pod said, where it is to be asked, else what the town's said of it.
pub(super) fn heard<'a>(
    agent: &Agent,
    own: Option<&'a ProbeFacts>,
    town: Option<&'a ProbeFacts>,
) -> Heard<'a> {
    let uid = agent.metadata.uid.as_deref().unwrap_or_default();
    let find = |facts: &'a ProbeFacts| {
        let entry = facts.report()?.agents.iter().find(|a| a.uid == uid);
        Some((entry, facts.asked_at?))
    };
    if agent.spec.activity_probe.is_some() {
        own.and_then(find).map_or(Heard::NoAnswer, |(entry, asked_at)| Heard::Answer(entry, asked_at))
    } else {
        match town.and_then(find) {
            Some((Some(entry), asked_at)) => Heard::Answer(Some(entry), asked_at),
            _ => Heard::Nothing,
        }
    }
}

/// The bead that a pod can mean when it says that one is done or has failed: that on the hook, once it is on
/// record as delivered; and unless it says the name, only if it was asked after that.
fn meant<'a>(agent: &'a Agent, entry: &ReportedAgent, asked_at: Timestamp) -> Option<&'a Hook> {
    let hook = unfinished(agent)?;
    let work = agent.status.as_ref()?.work.as_ref().filter(|work| work.bead == hook.bead)?;
    let since = work.started_at.as_ref()?.0;
    // Stamps are whole seconds.
    (entry.bead.is_some() || asked_at >= after(since, SignedDuration::from_secs(1))).then_some(hook)
}

fn session_activity(
    agent: &Agent,
    pod: Option<&PodFacts>,
    heard: Heard<'_>,
    now: Timestamp,
) -> AgentActivity {
    let hook = unfinished(agent);
    if super::retry::is_past_limit(agent) {
        return AgentActivity::Failed;
    }
    if hook.is_some_and(|hook| gave_up(agent, &hook.bead)) {
        return AgentActivity::Failed;
    }
    let resting = |probed: bool| match hook {
        // Who can say what it does is expected to take up what hangs there.
        Some(_) if probed => AgentActivity::Pending,
        None if agent.spec.activity_probe.is_some() && agent.spec.hook.is_some() => AgentActivity::Done,
        _ => AgentActivity::Idle,
    };
    let asked_in_vain = agent.spec.activity_probe.is_some() && !pod.is_some_and(probe::answers);
    match heard {
        Heard::Nothing => resting(false),
        Heard::NoAnswer if !asked_in_vain => AgentActivity::Unknown,
        Heard::Answer(Some(entry), asked_at) if !asked_in_vain => {
            match reported(entry, meant(agent, entry, asked_at), now) {
                AgentActivity::Idle => resting(true),
                activity => activity,
            }
        }
        // Not mentioned, or there is nobody yet who could answer.
        Heard::NoAnswer | Heard::Answer(..) => resting(true),
    }
}

/// What a pod says that an agent does. Done and Failed speak of the bead on the hook, or of none.
pub(super) fn reported(entry: &ReportedAgent, hook: Option<&Hook>, now: Timestamp) -> AgentActivity {
    let of_hook = hook.is_some_and(|hook| entry.bead.as_ref().is_none_or(|bead| *bead == hook.bead));
    match entry.state {
        ReportedState::Working => AgentActivity::Working,
        ReportedState::Waiting => AgentActivity::Waiting,
        ReportedState::Stalled => {
            let recent = entry.last_activity_at.as_ref().is_some_and(|at| {
                // From either side: a clock that is ahead must not make it count for ever.
                now < after(at.0, STALLED_COUNTS) && at.0 < after(now, STALLED_COUNTS)
            });
            AgentActivity::Stalled(recent)
        }
        ReportedState::Done if of_hook => AgentActivity::Done,
        ReportedState::Failed if of_hook => AgentActivity::Failed,
        ReportedState::Idle | ReportedState::Done | ReportedState::Failed => AgentActivity::Idle,
    }
}

/// Whether the pod does the bead on the agent's hook.
fn at_work(agent: &Agent, pod: &PodFacts) -> bool {
    !pod.deleting()
        && pod.phase != PodPhase::Failed
        && unfinished(agent).is_some_and(|hook| pod.hook.as_ref().is_some_and(|h| h.bead == hook.bead))
}

/// Whether a Session agent is on record as having failed at this bead.
fn gave_up(agent: &Agent, bead: &str) -> bool {
    let work = agent.status.as_ref().and_then(|s| s.work.as_ref());
    work.is_some_and(|w| w.bead == bead && w.outcome == Some(Outcome::Failed))
}

/// Whether a Task agent is recorded as past its limit for this bead.
fn has_failed(agent: &Agent, bead: &str) -> bool {
    agent.status.as_ref().is_some_and(|s| {
        s.work.as_ref().is_some_and(|w| w.bead == bead)
            && is_true(&s.conditions, condition::DEGRADED)
            && gives(&s.conditions, condition::DEGRADED, reason::RETRY_LIMIT_EXCEEDED)
    })
}

/// What one agent of the town is doing.
pub(super) fn of_agent(s: &TownSnapshot, agent: &Agent, now: Timestamp) -> AgentActivity {
    agent_activity(agent, s.pod_of(agent), heard(agent, s.probe_of(agent), Some(&s.probe)), now)
}

/// The agents of a town and what each is doing; those being deleted have no work.
pub(super) fn agents(s: &TownSnapshot, now: Timestamp) -> impl Iterator<Item = (&Agent, AgentActivity)> {
    s.agents.iter().filter(|a| a.metadata.deletion_timestamp.is_none()).map(move |agent| {
        match of_agent(s, agent, now) {
            // A place that changes hands is work all the time.
            AgentActivity::Blocked if roles::takes_place(s, agent) => {
                (agent.as_ref(), AgentActivity::Pending)
            }
            activity => (agent.as_ref(), activity),
        }
    })
}

/// Whether an agent is at work right now: what a drain waits for. Also those being deleted.
pub(super) fn anyone_working(s: &TownSnapshot, now: Timestamp) -> bool {
    s.agents
        .iter()
        .any(|a| s.pod_of(a).is_some_and(|p| !p.ended()) && of_agent(s, a, now) == AgentActivity::Working)
        || s.pod().is_some_and(probe::answers)
            && s.probe.report().is_some_and(|r| r.agents.iter().any(|a| a.state == ReportedState::Working))
}

/// Whether the agent's pod does its bead right now.
pub(super) fn working(
    agent: &Agent,
    pod: Option<&PodFacts>,
    own: Option<&ProbeFacts>,
    now: Timestamp,
) -> bool {
    pod.is_some_and(|p| !p.ended())
        && agent_activity(agent, pod, heard(agent, own, None), now) == AgentActivity::Working
}

/// Until when the input of a person counts as work, from what the pods report: the last input, but no later
/// than `hold` after they were attached.
pub(super) fn last_input(s: &TownSnapshot, attached: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let last = asked(s).filter_map(|facts| facts.last_input).max()?;
    Some(last.min(now).min(after(attached, s.attach_max_hold)))
}

/// Whether a person is attached; `None`: nobody can say, as long as one who is asked does not answer.
pub(super) fn attached(s: &TownSnapshot) -> Option<bool> {
    let mut reports = asked(s).filter_map(ProbeFacts::report).peekable();
    let heard = reports.peek().is_some() && probe::answering(s).all(|facts| facts.report().is_some());
    let attached = reports.any(|r| r.attached && r.last_input_at.is_some());
    (attached || heard).then_some(attached)
}

/// What is known of the town's own pod and those of its agents.
fn asked(s: &TownSnapshot) -> impl Iterator<Item = &ProbeFacts> {
    std::iter::once(&s.probe).chain(s.agents.iter().filter_map(|agent| s.probe_of(agent)))
}

/// The numbers for status.
pub(super) fn counts(s: &TownSnapshot, now: Timestamp) -> AgentCounts {
    let mut counts =
        AgentCounts { total: i32::try_from(s.agents.len()).unwrap_or(i32::MAX), ..AgentCounts::default() };
    for (_, activity) in agents(s, now) {
        match activity {
            // As for the condition Active: who has an unfinished bead has work, with a pod or before it.
            AgentActivity::Working | AgentActivity::Pending => counts.working += 1,
            AgentActivity::Waiting => counts.waiting += 1,
            AgentActivity::Stalled(_) => counts.stalled += 1,
            AgentActivity::Failed => counts.failed += 1,
            AgentActivity::Idle | AgentActivity::Done | AgentActivity::Blocked | AgentActivity::Unknown => {}
        }
    }
    counts.summary = format!("{}/{}", counts.working, counts.total);
    counts
}

/// The UID of the town that the agent is bound to.
pub(super) fn bound_to(agent: &Agent) -> Option<Uid> {
    super::label(&agent.metadata, crate::api::names::TOWN_UID).map(Uid::new)
}
