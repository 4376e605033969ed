//! The retries of failed starts, for the pods of Towns, Session agents and Task agents.
//!
//! Invariant kept here: the pause before the next start grows with consecutive failures and with consecutive
//! disruptions. Past the limit there is one attempt per window. A permanent cause therefore costs a limited number of
//! requests per hour.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::agent_view::mode;
use super::clock::{after, back_off};
use super::meta::annotation;
use super::text::short_digest;
use super::update::edited;
use crate::api::{Agent, Mode, RestartsStatus, Town, WorkStatus, names};

/// The start timeout: a longer start has failed.
pub(super) const START_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// A pod that ran for this time before a disruption resets the count of disruptions.
const STEADY: SignedDuration = SignedDuration::from_mins(10);
/// The longest pause between two attempts of a Failed agent.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// The limit of consecutive failed starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// The number of consecutive failed starts.
    pub(super) starts: i32,
    /// The pause between two attempts past the limit. A pod that was Ready for this time resets the count.
    pub(super) window: SignedDuration,
    /// The upper bound of the pause.
    longest: SignedDuration,
    /// The time of the last request for an immediate attempt.
    asked: Option<Timestamp>,
}

impl Limit {
    /// A Town has no `retry`: 5 failed starts, then one attempt every 30 minutes.
    pub(super) const OF_TOWN: Self = Self {
        starts: 5,
        window: SignedDuration::from_mins(30),
        longest: SignedDuration::from_mins(30),
        asked: None,
    };

    /// The limit from the agent's `spec.retry`. A wake request gives a Failed agent one attempt.
    pub(super) fn of(agent: &Agent, asked: Option<Timestamp>) -> Self {
        let retry = &agent.spec.retry;
        Self { starts: retry.limit, window: retry.window.get(), longest: LONGEST_WINDOW, asked }
    }

    /// Whether this number of consecutive failures reaches the limit.
    pub(super) fn is_past(self, failures: i32) -> bool {
        failures >= self.starts
    }

    /// The earliest time of the next start, after these numbers of consecutive failures and disruptions. `last` is the
    /// time of the last one.
    pub(super) fn next_start(self, failures: i32, disruptions: i32, last: Timestamp) -> Timestamp {
        if !self.is_past(failures) {
            return after(last, back_off(failures.max(disruptions)));
        }
        // Timestamps in status are whole seconds. A request in the second of the failure counts as the request that
        // led to the failed start. Otherwise a start that fails immediately is repeated without a pause.
        if let Some(asked) = self.asked.filter(|asked| last < *asked) {
            return asked;
        }
        after(last, self.pause(failures))
    }

    /// The pause past the limit: the window, doubled with each further failure.
    fn pause(self, failures: i32) -> SignedDuration {
        let beyond = failures.saturating_sub(self.starts).clamp(0, 12);
        let factor = 1_i32.checked_shl(u32::try_from(beyond).unwrap_or(0)).unwrap_or(1);
        self.window.checked_mul(factor).unwrap_or(self.longest).min(self.longest)
    }
}

/// The number of consecutive disruptions after another disruption. `ran` has the start and the end of the pod. A pod
/// that ran for long resets the count.
pub(super) fn disrupted(before: i32, ran: Option<(Timestamp, Timestamp)>, deleted: bool) -> i32 {
    let steady = ran.is_some_and(|(from, until)| STEADY <= until.duration_since(from));
    match (steady, deleted) {
        // A user who deletes a steady pod wants a new pod without a pause.
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => before.saturating_add(1),
    }
}

/// Whether a Session agent is past its limit of failed starts. Such an agent does not keep its town awake. If a user
/// edited the agent after the failures, its next reconcile decides whether the edit concerns the pod and resets the
/// count.
pub(super) fn is_past_limit(agent: &Agent) -> bool {
    mode(agent) == Mode::Session
        && agent.status.as_ref().is_some_and(|status| {
            !edited(status.observed_generation, &agent.metadata)
                && status.restarts.as_ref().is_some_and(|r| Limit::of(agent, None).is_past(r.count))
        })
}

/// The time of the next attempt that a town gives a failed agent on its own, asleep or awake: one attempt per window
/// if the cause lies outside of the container. `None`: only a change of the agent or a wake request leads to another
/// attempt.
pub(super) fn next_attempt_of_failed(agent: &Agent) -> Option<Timestamp> {
    let status = agent.status.as_ref()?;
    let limit = Limit::of(agent, None);
    match mode(agent) {
        Mode::Session => {
            let RestartsStatus { count, disruptions, failure_time, external, .. } =
                status.restarts.as_ref()?;
            let last = failure_time.as_ref().filter(|_| *external && *count > 0)?;
            // The window also applies below the limit, so that the agent wakes a sleeping town at most once per
            // window.
            Some(limit.next_start((*count).max(limit.starts), *disruptions, last.0))
        }
        Mode::Task => {
            let work = status.work.as_ref()?;
            let last = work.finish_time.as_ref().filter(|_| work.external && limit.is_past(work.attempts))?;
            Some(limit.next_start(work.attempts, work.disruptions, last.0))
        }
    }
}

/// The time of the next attempt for an agent that is past its retry limit for the bead on its hook. `None`: the agent
/// is not past the limit.
pub(super) fn tried_again_at(agent: &Agent) -> Option<Timestamp> {
    let edited = edited(agent.status.as_ref().and_then(|s| s.observed_generation), &agent.metadata);
    let hook = agent.spec.hook.as_ref().filter(|_| !edited)?;
    let work = agent.status.as_ref()?.work.as_ref().filter(|work| work.bead == hook.bead)?;
    failed_until(Limit::of(agent, None), work)
}

/// The end of the phase Failed for an agent whose attempts reached the limit. `None`: the attempts did not reach the
/// limit.
fn failed_until(limit: Limit, work: &WorkStatus) -> Option<Timestamp> {
    let finished = work.finish_time.as_ref().filter(|_| limit.is_past(work.attempts))?;
    Some(limit.next_start(work.attempts, work.disruptions, finished.0))
}

/// The revision of an owner's starts, as the status records it: `<digest>`, or `<digest>.<digest of the Secrets>`. The
/// operator reads the Secrets only past the limit, so that an owner without failures costs no reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revision<'a> {
    /// A digest of the pod. For an agent also of its hook and `restart-at`.
    pub(super) starts: &'a str,
    /// A digest of the Secrets that the spec names. `None`: the Secrets were not read.
    pub(super) secrets: Option<&'a str>,
}

impl Revision<'_> {
    /// Whether failures with this record still count. Unread Secrets count as unchanged.
    pub(super) fn is_of(self, recorded: &str) -> bool {
        let (starts, secrets) = parts(recorded);
        let same = secrets.zip(self.secrets).is_none_or(|(then, now)| then == now);
        starts.is_empty() || (starts == self.starts && same)
    }

    /// The record of failures that still count, including the Secrets if they were read.
    pub(super) fn seen(self, recorded: &str) -> String {
        if self.secrets.is_some() { self.after(recorded) } else { recorded.to_owned() }
    }

    /// The record of a new failure. It replaces the record of the previous failure.
    pub(super) fn after(self, recorded: &str) -> String {
        let (starts, secrets) = parts(recorded);
        match self.secrets.or(secrets.filter(|_| starts == self.starts)) {
            Some(secrets) => format!("{}.{secrets}", self.starts),
            None => self.starts.to_owned(),
        }
    }
}

fn parts(recorded: &str) -> (&str, Option<&str>) {
    recorded.split_once('.').map_or((recorded, None), |(starts, secrets)| (starts, Some(secrets)))
}

/// Whether the operator reads the Secrets that the town's spec names. The starts must be past the limit. In addition,
/// the next start is due, the spec has changed, or the record has no digest of the Secrets.
pub fn reads_secrets_of_town(town: &Town, has_pod: bool, now: Timestamp) -> bool {
    let Some(status) = &town.status else { return false };
    let edited = edited(status.observed_generation, &town.metadata);
    status.restarts.as_ref().is_some_and(|r| reads_secrets(Limit::OF_TOWN, &r.into(), edited, has_pod, now))
}

/// Whether the operator reads the Secrets that the agent's spec names. The rule is the same as for a town.
pub fn reads_secrets_of_agent(agent: &Agent, has_pod: bool, now: Timestamp) -> bool {
    let Some(status) = &agent.status else { return false };
    let edited = edited(status.observed_generation, &agent.metadata);
    let failures = match mode(agent) {
        Mode::Session => status.restarts.as_ref().map(Failures::from),
        Mode::Task => status.work.as_ref().filter(|work| work.finish_time.is_some()).map(Failures::from),
    };
    failures.is_some_and(|f| reads_secrets(Limit::of(agent, None), &f, edited, has_pod, now))
}

struct Failures<'a> {
    count: i32,
    disruptions: i32,
    last: Option<Timestamp>,
    revision: &'a str,
}

impl<'a> From<&'a RestartsStatus> for Failures<'a> {
    fn from(r: &'a RestartsStatus) -> Self {
        let last = r.failure_time.as_ref().map(|t| t.0);
        Self { count: r.count, disruptions: r.disruptions, last, revision: &r.revision }
    }
}

impl<'a> From<&'a WorkStatus> for Failures<'a> {
    fn from(w: &'a WorkStatus) -> Self {
        let last = w.finish_time.as_ref().map(|t| t.0);
        Self { count: w.attempts, disruptions: w.disruptions, last, revision: &w.revision }
    }
}

fn reads_secrets(limit: Limit, failures: &Failures<'_>, edited: bool, has_pod: bool, now: Timestamp) -> bool {
    let due = || {
        failures.last.is_some_and(|last| limit.next_start(failures.count, failures.disruptions, last) <= now)
    };
    limit.is_past(failures.count) && (parts(failures.revision).1.is_none() || edited || (!has_pod && due()))
}

/// A digest of the input of an agent's starts: its pod, its hook, and `restart-at`. A change of the digest resets the
/// count of failures. Other edits do not.
pub(super) fn revision(agent: &Agent, pod: &str) -> String {
    // A Hook has three string fields, so the conversion to JSON cannot fail.
    let hook = agent.spec.hook.as_ref().map(|hook| serde_json::to_string(hook).unwrap_or_default());
    let hook = hook.unwrap_or_default();
    let restart_at = annotation(&agent.metadata, names::RESTART_AT).unwrap_or_default();
    short_digest(&format!("{pod}\n{restart_at}\n{hook}"))
}
