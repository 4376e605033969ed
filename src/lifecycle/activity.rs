//! Has the town work? Each of five kinds of work alone keeps it awake.
//!
//! Only work counts: being there, being probed, watched or connected to is never work. What cannot be found
//! out is neither work nor its absence.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::clock::{after, earlier};
use super::conditions::{gives, is_true};
use super::facts::{PodFacts, PodPhase, ProbeFacts, TownSnapshot, pods_by_agent};
use super::ids::Uid;
use super::probe::{self, Known};
use super::{done, is_paused, roles};
use crate::api::{
    ActivityReport, Agent, AgentCounts, Backlog, Hook, Mode, Outcome, ReportedAgent, ReportedState,
    condition, condition::reason,
};

/// An agent that does not get on counts as work for this long after it last did something.
const STALLED_COUNTS: SignedDuration = SignedDuration::from_mins(30);

/// What an agent is doing, as its town sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentActivity {
    /// It does its bead: a Task agent while its pod is there, others by their own word.
    Working,
    /// It reports that it does not get on; `true`: not for so long that it no longer counts as work.
    Stuck(bool),
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
        matches!(self, Self::Working | Self::Pending | Self::Stuck(true))
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
    /// A pod has not been asked yet, or did not answer just now. At this time it becomes unknown.
    NotYetKnown(Option<Timestamp>),
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
    if let Some(text) = waiting_work(s, now) {
        return TownActivity::Work(reason::BACKLOG, text);
    }
    unknown(s, now)
}

/// The answer of the town's own pod, as long as it counts.
fn town_report(s: &TownSnapshot, now: Timestamp) -> Option<&ActivityReport> {
    match probe::own(s).known(probe::cadence(s), now)? {
        Known::Answer(report, _) => Some(report),
        Known::NotYet(_) | Known::Silent(..) => None,
    }
}

/// What the town's own pod runs, whether there is an Agent for it or not.
pub(super) fn of_own_pod(s: &TownSnapshot, now: Timestamp) -> Option<&'static str> {
    let at_work = town_report(s, now)?.agents.iter().any(|a| reported(a, None, now).is_work());
    at_work.then_some("the town's pod reports an agent at work")
}

/// Work that nobody does yet: the larger of what the spec says and what the town's pod reports counts.
pub(super) fn waiting_work(s: &TownSnapshot, now: Timestamp) -> Option<&'static str> {
    let reported = town_report(s, now).map_or_else(Backlog::default, |r| r.backlog);
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

/// Whether every probed pod has answered.
fn unknown(s: &TownSnapshot, now: Timestamp) -> TownActivity {
    let cadence = probe::cadence(s);
    let (mut silent, mut open) = (None::<(Timestamp, String)>, None::<Option<Timestamp>>);
    for known in probe::every_pod(s).iter().filter_map(|asked| asked.known(cadence, now)) {
        match known {
            Known::Answer(..) => {}
            Known::Silent(since, why) => {
                if silent.as_ref().is_none_or(|(earliest, _)| since < *earliest) {
                    silent = Some((since, why));
                }
            }
            Known::NotYet(until) => open = Some(earlier(open.flatten(), until)),
        }
    }
    match (silent, open) {
        (Some((since, why)), _) => TownActivity::Unknown(since, why),
        (None, Some(until)) => TownActivity::NotYetKnown(until),
        (None, None) => TownActivity::None,
    }
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
    (heard, facts): (Heard<'_>, &ProbeFacts),
    now: Timestamp,
) -> AgentActivity {
    let conditions = agent.status.as_ref().map_or(&[][..], |s| s.conditions.as_slice());
    if is_true(conditions, condition::STALLED) || gives(conditions, condition::READY, reason::RIG_FULL) {
        let at_work = mode(agent) == Mode::Task && pod.is_some_and(|p| at_work(agent, p));
        return if at_work { AgentActivity::Working } else { AgentActivity::Blocked };
    }
    if mode(agent) == Mode::Session {
        return session_activity(agent, heard, facts, now);
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
    /// The agent has no probe, and the town's pod does not mention it: it is idle, however busy its container looks.
    Nothing,
    /// The agent's pod is probed, and was never Ready: there is no answer to expect.
    NoPod,
    /// The agent's pod is probed, and its answer is missing, late or too old.
    NoAnswer,
    /// The answer to the question of that time; `None`: it does not mention the agent.
    Answer(Option<&'a ReportedAgent>, Timestamp),
}

/// What the agent's own pod said, where it is probed, else what the town's pod said of it.
#[allow(clippy::needless_pass_by_value)] // Each caller has just made it.
pub(super) fn heard<'a>(
    agent: &Agent,
    own: Option<Known<'a>>,
    town: Option<(&'a ActivityReport, Timestamp)>,
) -> Heard<'a> {
    let uid = agent.metadata.uid.as_deref().unwrap_or_default();
    let find = |report: &'a ActivityReport| report.agents.iter().find(|a| a.uid == uid);
    if agent.spec.activity_probe.is_some() {
        return match own {
            None => Heard::NoPod,
            Some(Known::NotYet(_) | Known::Silent(..)) => Heard::NoAnswer,
            Some(Known::Answer(report, asked_at)) => Heard::Answer(find(report), asked_at),
        };
    }
    match town.map(|(report, asked_at)| (find(report), asked_at)) {
        Some((Some(entry), asked_at)) => Heard::Answer(Some(entry), asked_at),
        _ => Heard::Nothing,
    }
}

/// The bead that a pod can mean when it says that one is done or has failed: that on the hook, once its delivery is on
/// record. An answer that names no bead may still mean the bead before: it counts only if the agent was seen in
/// another state since the delivery.
fn meant<'a>(
    agent: &'a Agent,
    entry: &ReportedAgent,
    asked_at: Timestamp,
    unfinished_at: Option<Timestamp>,
) -> Option<&'a Hook> {
    let hook = unfinished(agent)?;
    let status = agent.status.as_ref()?;
    let work = status.work.as_ref().filter(|work| work.bead == hook.bead)?;
    // Stamps are whole seconds.
    let delivered = after(work.start_time.as_ref()?.0, SignedDuration::from_secs(1));
    let worked_at = status.last_activity_time.as_ref().map(|at| at.0);
    let seen = unfinished_at.into_iter().chain(worked_at).any(|at| delivered <= at);
    (entry.bead.is_some() || (seen && delivered <= asked_at)).then_some(hook)
}

fn session_activity(agent: &Agent, heard: Heard<'_>, facts: &ProbeFacts, now: Timestamp) -> AgentActivity {
    let hook = unfinished(agent);
    if super::retry::is_past_limit(agent) {
        return AgentActivity::Failed;
    }
    if hook.is_some_and(|hook| gave_up(agent, &hook.bead)) {
        return AgentActivity::Failed;
    }
    let resting = |probed: bool| match hook {
        // An agent that can say what it does is expected to take up what hangs there.
        Some(_) if probed => AgentActivity::Pending,
        None if agent.spec.activity_probe.is_some() && agent.spec.hook.is_some() => AgentActivity::Done,
        _ => AgentActivity::Idle,
    };
    match heard {
        Heard::Nothing => resting(false),
        Heard::NoAnswer => AgentActivity::Unknown,
        Heard::Answer(Some(entry), asked_at) => {
            match reported(entry, meant(agent, entry, asked_at, facts.unfinished_at), now) {
                AgentActivity::Idle => resting(true),
                activity => activity,
            }
        }
        Heard::NoPod | Heard::Answer(None, _) => resting(true),
    }
}

/// What a pod says that an agent does. Done and Failed speak of the bead on the hook, or of none.
pub(super) fn reported(entry: &ReportedAgent, hook: Option<&Hook>, now: Timestamp) -> AgentActivity {
    let of_hook = hook.is_some_and(|hook| entry.bead.as_ref().is_none_or(|bead| *bead == hook.bead));
    match entry.state {
        ReportedState::Working => AgentActivity::Working,
        ReportedState::Waiting => AgentActivity::Waiting,
        ReportedState::Stuck => {
            let recent = entry.last_activity_time.as_ref().is_some_and(|at| {
                // From either side: a clock that is ahead must not make it count for ever.
                now < after(at.0, STALLED_COUNTS) && at.0 < after(now, STALLED_COUNTS)
            });
            AgentActivity::Stuck(recent)
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

/// The agents of a town as one decision sees them, indexed once.
struct Members<'a> {
    s: &'a TownSnapshot,
    pods: HashMap<&'a str, &'a PodFacts>,
    report: Option<(&'a ActivityReport, Timestamp)>,
    cadence: SignedDuration,
    now: Timestamp,
}

impl<'a> Members<'a> {
    fn of(s: &'a TownSnapshot, pods: &'a [PodFacts], now: Timestamp) -> Self {
        let cadence = probe::cadence(s);
        let report = match probe::own(s).known(cadence, now) {
            Some(Known::Answer(report, asked_at)) => Some((report, asked_at)),
            _ => None,
        };
        Self { s, pods: pods_by_agent(pods), report, cadence, now }
    }

    fn pod_of(&self, agent: &Agent) -> Option<&'a PodFacts> {
        self.pods.get(agent.metadata.uid.as_deref()?).copied()
    }

    fn activity(&self, agent: &'a Agent) -> AgentActivity {
        let pod = self.pod_of(agent);
        let asked = probe::of_agent(self.s, agent, pod);
        let heard = heard(agent, asked.known(self.cadence, self.now), self.report);
        agent_activity(agent, pod, (heard, asked.facts), self.now)
    }

    /// Whether the agent is at work in containers that run: a drain waits for nothing else.
    fn works(&self, agent: &'a Agent) -> bool {
        self.pod_of(agent).is_some_and(runs) && self.activity(agent) == AgentActivity::Working
    }
}

/// Whether containers of the pod run, as far as its node says.
fn runs(pod: &PodFacts) -> bool {
    matches!(pod.phase, PodPhase::Running | PodPhase::Unknown) && !pod.ended()
}

/// The agents of a town and what each is doing. Agents that are being deleted have no work, and paused agents are not
/// work.
pub(super) fn agents(s: &TownSnapshot, now: Timestamp) -> impl Iterator<Item = (&Agent, AgentActivity)> {
    let members = Members::of(s, &s.pods, now);
    let with_room = roles::with_room(s);
    s.agents.iter().filter(|a| a.metadata.deletion_timestamp.is_none()).map(move |agent| {
        if is_paused(&agent.metadata) {
            return (agent.as_ref(), AgentActivity::Blocked);
        }
        match members.activity(agent) {
            // A place that changes hands is work all the time.
            AgentActivity::Blocked if roles::takes_place(agent, &with_room) => {
                (agent.as_ref(), AgentActivity::Pending)
            }
            activity => (agent.as_ref(), activity),
        }
    })
}

/// The agents that are at work right now, also those that are being deleted: what a drain waits for.
pub(super) fn working<'a>(
    s: &'a TownSnapshot,
    agents: &'a [Arc<Agent>],
    pods: &'a [PodFacts],
    now: Timestamp,
) -> Vec<&'a Agent> {
    let members = Members::of(s, pods, now);
    agents.iter().map(Arc::as_ref).filter(|agent| members.works(agent)).collect()
}

/// Whether the town's own pod reports an agent at work right now.
pub(super) fn own_pod_works(s: &TownSnapshot, now: Timestamp) -> bool {
    s.pod().is_some_and(|pod| runs(pod) && !pod.deleting())
        && town_report(s, now)
            .is_some_and(|report| report.agents.iter().any(|a| a.state == ReportedState::Working))
}

/// Whether an agent is at work right now: what the drain before sleep waits for.
pub(super) fn anyone_working(s: &TownSnapshot, now: Timestamp) -> bool {
    own_pod_works(s, now) || !working(s, &s.agents, &s.pods, now).is_empty()
}

/// Whether the pod of one agent does its bead right now.
pub(super) fn works(
    agent: &Agent,
    asked: &probe::Asked<'_>,
    cadence: SignedDuration,
    now: Timestamp,
) -> bool {
    let heard = heard(agent, asked.known(cadence, now), None);
    asked.pod.is_some_and(runs)
        && agent_activity(agent, asked.pod, (heard, asked.facts), now) == AgentActivity::Working
}

/// Until when the input of a person counts as work, from what the pods report: the last input, but no later
/// than `hold` after they were attached.
pub(super) fn last_input(s: &TownSnapshot, attached: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let agents = s.agents.iter().filter_map(|agent| s.probe_of(agent));
    let last = std::iter::once(&s.probe).chain(agents).filter_map(|facts| facts.last_input).max()?;
    Some(last.min(now).min(after(attached, s.attach_max_hold)))
}

/// Whether a person is attached; `None`: unknown, as long as a probed pod does not answer.
pub(super) fn attached(s: &TownSnapshot, now: Timestamp) -> Option<bool> {
    let cadence = probe::cadence(s);
    let (mut heard, mut silent) = (false, false);
    for known in probe::every_pod(s).iter().filter_map(|asked| asked.known(cadence, now)) {
        match known {
            Known::Answer(report, _) if report.attached && report.last_input_time.is_some() => {
                return Some(true);
            }
            Known::Answer(..) => heard = true,
            Known::NotYet(_) | Known::Silent(..) => silent = true,
        }
    }
    (heard && !silent).then_some(false)
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
            AgentActivity::Stuck(_) => counts.stuck += 1,
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
