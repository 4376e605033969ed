//! How often a start that fails is tried again, for the pods of Towns, Session agents and Task agents alike.
//!
//! Invariant kept here: the pause before the next start grows with failures and with disruptions in a row, and past the
//! limit there is one attempt a window, so that a permanent cause costs a bounded number of requests an hour.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use sha2::{Digest, Sha256};

use super::annotation;
use super::clock::{after, back_off};
use super::update::edited;
use crate::api::{Agent, Mode, RestartsStatus, Town, WorkStatus, names};

/// A start that takes longer than this has failed.
pub(super) const START_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// A pod that ran this long before a disruption starts a new row of disruptions.
const STEADY: SignedDuration = SignedDuration::from_mins(10);
/// The longest pause between two attempts of a Failed agent.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// The bound on failed starts in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Failed starts in a row.
    pub(super) starts: i32,
    /// The pause between two attempts past the limit. A pod that was Ready for this time ends the row.
    pub(super) window: SignedDuration,
    /// The longest that the pause grows to.
    longest: SignedDuration,
    /// The time of the last request for one more attempt, whatever the pause.
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

    /// The agent's `spec.retry`; a wake request gives a Failed agent one attempt.
    pub(super) fn of(agent: &Agent, asked: Option<Timestamp>) -> Self {
        let retry = &agent.spec.retry;
        Self { starts: retry.limit, window: retry.window.get(), longest: LONGEST_WINDOW, asked }
    }

    /// Whether so many failures in a row are past the limit.
    pub(super) fn is_past(self, failures: i32) -> bool {
        failures >= self.starts
    }

    /// When the next start may begin, after so many failures and disruptions in a row, the last at this time.
    pub(super) fn next_start(self, failures: i32, disruptions: i32, last: Timestamp) -> Timestamp {
        if !self.is_past(failures) {
            return after(last, back_off(failures.max(disruptions)));
        }
        // Stamps are whole seconds. A request in the second of the failure is taken for the one that led to it: otherwise
        // a start that fails at once would be tried again without a pause.
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

/// The number of disruptions in a row after one more, of a pod that ran from one time to the other. A pod that ran for
/// long before starts a new row.
pub(super) fn disrupted(before: i32, ran: Option<(Timestamp, Timestamp)>, deleted: bool) -> i32 {
    let steady = ran.is_some_and(|(from, until)| STEADY <= until.duration_since(from));
    match (steady, deleted) {
        // A user who deletes a pod that ran well wants another one now.
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => before.saturating_add(1),
    }
}

/// Whether a Session agent is past its limit of failed starts: it keeps no town awake. An agent that was edited since
/// gets a new chance if the edit concerns its pod, and its next reconcile decides that.
pub(super) fn is_past_limit(agent: &Agent) -> bool {
    super::activity::mode(agent) == Mode::Session
        && agent.status.as_ref().is_some_and(|status| {
            !edited(status.observed_generation, &agent.metadata)
                && status.restarts.as_ref().is_some_and(|r| Limit::of(agent, None).is_past(r.count))
        })
}

/// When a sleeping or awake town gives an agent that failed its next attempt by itself: one a window where the cause
/// lies outside of the container. `None`: only a change of the agent, or a wake request, does.
pub(super) fn next_attempt_of_failed(agent: &Agent) -> Option<Timestamp> {
    let status = agent.status.as_ref()?;
    let limit = Limit::of(agent, None);
    match super::activity::mode(agent) {
        Mode::Session => {
            let RestartsStatus { count, disruptions, failure_time, external, .. } =
                status.restarts.as_ref()?;
            let last = failure_time.as_ref().filter(|_| *external && *count > 0)?;
            // Also below the limit: a sleeping town is woken once a window at most.
            Some(limit.next_start((*count).max(limit.starts), *disruptions, last.0))
        }
        Mode::Task => {
            let work = status.work.as_ref()?;
            let last = work.finish_time.as_ref().filter(|_| work.external && limit.is_past(work.attempts))?;
            Some(limit.next_start(work.attempts, work.disruptions, last.0))
        }
    }
}

/// What the starts of an owner are made from, as status records it: `<digest>`, or `<digest>.<digest of the Secrets>`. The
/// Secrets are read only past the limit, so that an owner that starts well costs no reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revision<'a> {
    /// A digest of the pod, and for an agent of its hook and `restart-at`.
    pub(super) starts: &'a str,
    /// A digest of the Secrets that the spec names; `None`: they were not read.
    pub(super) secrets: Option<&'a str>,
}

impl Revision<'_> {
    /// Whether failures with this record still count. Secrets that were not read have not changed.
    pub(super) fn is_of(self, recorded: &str) -> bool {
        let (starts, secrets) = parts(recorded);
        let same = secrets.zip(self.secrets).is_none_or(|(then, now)| then == now);
        starts.is_empty() || (starts == self.starts && same)
    }

    /// The record of failures that still count, with the Secrets if they were read.
    pub(super) fn seen(self, recorded: &str) -> String {
        if self.secrets.is_some() { self.after(recorded) } else { recorded.to_owned() }
    }

    /// The record of a failure, in place of the record of the one before.
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

/// Whether the Secrets that the town's spec names are read: its starts are past the limit, and the next one is due, the
/// spec has changed, or the record has no digest of them yet.
pub fn reads_secrets_of_town(town: &Town, has_pod: bool, now: Timestamp) -> bool {
    let Some(status) = &town.status else { return false };
    let edited = edited(status.observed_generation, &town.metadata);
    status.restarts.as_ref().is_some_and(|r| reads_secrets(Limit::OF_TOWN, r.into(), edited, has_pod, now))
}

/// Whether the Secrets that the agent's spec names are read, by the same rule.
pub fn reads_secrets_of_agent(agent: &Agent, has_pod: bool, now: Timestamp) -> bool {
    let Some(status) = &agent.status else { return false };
    let edited = edited(status.observed_generation, &agent.metadata);
    let failures = match super::activity::mode(agent) {
        Mode::Session => status.restarts.as_ref().map(Failures::from),
        Mode::Task => status.work.as_ref().filter(|work| work.finish_time.is_some()).map(Failures::from),
    };
    failures.is_some_and(|f| reads_secrets(Limit::of(agent, None), f, edited, has_pod, now))
}

/// Failures on record.
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

fn reads_secrets(limit: Limit, failures: Failures<'_>, edited: bool, has_pod: bool, now: Timestamp) -> bool {
    let due = || {
        failures.last.is_some_and(|last| limit.next_start(failures.count, failures.disruptions, last) <= now)
    };
    limit.is_past(failures.count) && (parts(failures.revision).1.is_none() || edited || (!has_pod && due()))
}

/// A digest of what the starts of an agent are made from: its pod, its hook, and `restart-at`. A change of it is a new
/// chance; an edit of anything else is none.
pub(super) fn revision(agent: &Agent, pod: &str) -> String {
    // A Hook is three strings: it always has a JSON form.
    let hook = agent.spec.hook.as_ref().map(|hook| serde_json::to_string(hook).unwrap_or_default());
    let hook = hook.unwrap_or_default();
    let restart_at = annotation(&agent.metadata, names::RESTART_AT).unwrap_or_default();
    let parts = Sha256::digest(format!("{pod}\n{restart_at}\n{hook}"));
    parts.iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
