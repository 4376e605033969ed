//! The activities of agents: from their records, their pods, and the reports about them.
//!
//! Invariant kept here: the existence of a pod, a probe, a watch or a connection is never work.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::agent_view::{mode, unfinished};
use super::clock::after;
use super::conditions::{gives, is_true};
use super::facts::{PodFacts, PodPhase, ProbeFacts, TownSnapshot, pods_by_agent};
use super::meta::is_paused;
use super::probe::{self, Known};
use super::roles;
use crate::api::{
    ActivityReport, Agent, AgentCounts, Hook, Mode, Outcome, ReportedAgent, ReportedState, condition,
    condition::reason,
};

/// A stuck agent counts as work for this time after its last activity.
const STALLED_COUNTS: SignedDuration = SignedDuration::from_mins(30);

/// The activity of an agent, from the view of its town.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentActivity {
    /// The agent works on its bead. The pod shows this for a Task agent; other agents report it.
    Working,
    /// The agent reports that it is stuck. `true`: its last activity is recent, so it counts as work.
    Stuck(bool),
    /// The agent waits for a user. Waiting is not work.
    Waiting,
    /// The bead is unfinished, and the agent does not work on it: it waits for room, or for its next attempt.
    Pending,
    /// The agent has nothing to do.
    Idle,
    /// The bead on the hook is done.
    Done,
    /// The agent is past its retry limit.
    Failed,
    /// The agent cannot run until a user acts, or until another agent makes room.
    Blocked,
    /// The agent has an activity probe, and the last probe has no answer.
    Unknown,
}

impl AgentActivity {
    /// Whether this activity keeps a town awake.
    pub(super) fn is_work(self) -> bool {
        matches!(self, Self::Working | Self::Pending | Self::Stuck(true))
    }
}

/// The answer of the town's own pod, while it is recent enough.
pub(super) fn town_report(s: &TownSnapshot, now: Timestamp) -> Option<&ActivityReport> {
    match probe::own(s).known(probe::cadence(s), now)? {
        Known::Answer(report, _) => Some(report),
        Known::NotYet(_) | Known::Silent(..) => None,
    }
}

/// The activity of an agent, from its record, its pod, and the reports about it.
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

/// The report about an agent whose activity does not depend on its pod.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heard<'a> {
    /// The agent has no probe, and the town's pod does not mention it. The agent is idle, even if its container is
    /// busy.
    Nothing,
    /// The agent's pod is probed, but was never Ready. No answer can be expected.
    NoPod,
    /// The agent's pod is probed, and its answer is missing, late or too old.
    NoAnswer,
    /// The answer to the probe of that time. `None`: the answer does not mention the agent.
    Answer(Option<&'a ReportedAgent>, Timestamp),
}

/// The report about the agent: from its own pod if that pod is probed, else from the town's pod.
#[allow(clippy::needless_pass_by_value)] // Each caller passes a temporary value.
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

/// The bead that an entry with the state done or failed can refer to: the bead on the hook, if its delivery is on
/// record. An entry without a bead may refer to the bead before. Such an entry counts only if the agent was in another
/// state after the delivery.
fn meant<'a>(
    agent: &'a Agent,
    entry: &ReportedAgent,
    asked_at: Timestamp,
    unfinished_at: Option<Timestamp>,
) -> Option<&'a Hook> {
    let hook = unfinished(agent)?;
    let status = agent.status.as_ref()?;
    let work = status.work.as_ref().filter(|work| work.bead == hook.bead)?;
    // Timestamps in status are whole seconds, so the delivery may be up to one second later than recorded.
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
        // A probed agent is expected to start the bead on its hook.
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

/// The activity of an entry. The states done and failed count only for the bead on the hook, or if the entry names no
/// bead.
pub(super) fn reported(entry: &ReportedAgent, hook: Option<&Hook>, now: Timestamp) -> AgentActivity {
    let of_hook = hook.is_some_and(|hook| entry.bead.as_ref().is_none_or(|bead| *bead == hook.bead));
    match entry.state {
        ReportedState::Working => AgentActivity::Working,
        ReportedState::Waiting => AgentActivity::Waiting,
        ReportedState::Stuck => {
            let recent = entry.last_activity_time.as_ref().is_some_and(|at| {
                // The function checks both directions: a pod clock that is ahead must not keep the town awake for
                // ever.
                now < after(at.0, STALLED_COUNTS) && at.0 < after(now, STALLED_COUNTS)
            });
            AgentActivity::Stuck(recent)
        }
        ReportedState::Done if of_hook => AgentActivity::Done,
        ReportedState::Failed if of_hook => AgentActivity::Failed,
        ReportedState::Idle | ReportedState::Done | ReportedState::Failed => AgentActivity::Idle,
    }
}

/// Whether the pod works on the bead on the agent's hook.
fn at_work(agent: &Agent, pod: &PodFacts) -> bool {
    !pod.deleting()
        && pod.phase != PodPhase::Failed
        && unfinished(agent).is_some_and(|hook| pod.hook.as_ref().is_some_and(|h| h.bead == hook.bead))
}

/// Whether the record says that a Session agent failed at this bead.
fn gave_up(agent: &Agent, bead: &str) -> bool {
    let work = agent.status.as_ref().and_then(|s| s.work.as_ref());
    work.is_some_and(|w| w.bead == bead && w.outcome == Some(Outcome::Failed))
}

/// Whether the record says that a Task agent is past its retry limit for this bead.
fn has_failed(agent: &Agent, bead: &str) -> bool {
    agent.status.as_ref().is_some_and(|s| {
        s.work.as_ref().is_some_and(|w| w.bead == bead)
            && is_true(&s.conditions, condition::DEGRADED)
            && gives(&s.conditions, condition::DEGRADED, reason::RETRY_LIMIT_EXCEEDED)
    })
}

/// The agents of a town, indexed once for one decision.
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

    /// Whether the agent works and its containers run. A drain waits only for such agents.
    fn works(&self, agent: &'a Agent) -> bool {
        self.pod_of(agent).is_some_and(runs) && self.activity(agent) == AgentActivity::Working
    }
}

/// Whether the node reports running containers of the pod.
fn runs(pod: &PodFacts) -> bool {
    matches!(pod.phase, PodPhase::Running | PodPhase::Unknown) && !pod.ended()
}

/// The agents of a town with their activities. An agent that is being deleted has no work. A paused agent is not work.
pub(super) fn agents(s: &TownSnapshot, now: Timestamp) -> impl Iterator<Item = (&Agent, AgentActivity)> {
    let members = Members::of(s, &s.pods, now);
    let with_room = roles::with_room(s);
    s.agents.iter().filter(|a| a.metadata.deletion_timestamp.is_none()).map(move |agent| {
        if is_paused(&agent.metadata) {
            return (agent.as_ref(), AgentActivity::Blocked);
        }
        match members.activity(agent) {
            // The agent takes over the place of another agent. The transfer counts as work, so that the town does not
            // fall asleep during it.
            AgentActivity::Blocked if roles::takes_place(agent, &with_room) => {
                (agent.as_ref(), AgentActivity::Pending)
            }
            activity => (agent.as_ref(), activity),
        }
    })
}

/// The agents that work now, including agents that are being deleted. A drain waits for them.
pub(super) fn working<'a>(
    s: &'a TownSnapshot,
    agents: &'a [Arc<Agent>],
    pods: &'a [PodFacts],
    now: Timestamp,
) -> Vec<&'a Agent> {
    let members = Members::of(s, pods, now);
    agents.iter().map(Arc::as_ref).filter(|agent| members.works(agent)).collect()
}

/// Whether the town's own pod reports a working agent.
pub(super) fn own_pod_works(s: &TownSnapshot, now: Timestamp) -> bool {
    s.pod().is_some_and(|pod| runs(pod) && !pod.deleting())
        && town_report(s, now)
            .is_some_and(|report| report.agents.iter().any(|a| a.state == ReportedState::Working))
}

/// Whether the pod of one agent works on its bead now.
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

/// The time of the last reported input of a user, but at most `hold` after the attach. The input counts as work until
/// this time.
pub(super) fn last_input(s: &TownSnapshot, attached: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let agents = s.agents.iter().filter_map(|agent| s.probe_of(agent));
    let last = std::iter::once(&s.probe).chain(agents).filter_map(|facts| facts.last_input).max()?;
    Some(last.min(now).min(after(attached, s.attach_max_hold)))
}

/// Whether a user is attached. `None`: unknown, because a probed pod does not answer.
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

/// The agent counts for the status.
pub(super) fn counts(s: &TownSnapshot, now: Timestamp) -> AgentCounts {
    let mut counts =
        AgentCounts { total: i32::try_from(s.agents.len()).unwrap_or(i32::MAX), ..AgentCounts::default() };
    for (_, activity) in agents(s, now) {
        match activity {
            // As in the condition Active: an agent with an unfinished bead has work, with or without a pod.
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
