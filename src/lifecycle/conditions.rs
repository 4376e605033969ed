//! Invariant kept here: an object always has every condition of its kind. Only this module changes conditions, and a
//! condition keeps its transition time while its status stays.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use super::clock::stamp;
use super::text::{CONDITION_MESSAGE, cut};
use crate::api::condition::{self, reason};

const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";

fn word(status: bool) -> &'static str {
    if status { TRUE } else { FALSE }
}

/// A condition during a decision.
struct Entry {
    type_: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// The conditions of one object during a decision.
pub(super) struct Conditions(Vec<Entry>);

impl Conditions {
    /// The initial conditions of a town.
    pub(super) fn of_town() -> Self {
        Self::all(&condition::OF_TOWN)
    }

    /// The initial conditions of an agent.
    pub(super) fn of_agent() -> Self {
        Self::all(&condition::OF_AGENT)
    }

    fn all(types: &[&'static str]) -> Self {
        let initial = |type_| match type_ {
            condition::ASLEEP => reason::AWAKE,
            condition::ACTIVE | condition::WORKING => reason::NO_WORK,
            condition::FINISHED => reason::NO_HOOK,
            condition::POD_SCHEDULED => reason::NO_POD,
            condition::DELETION_BLOCKED => reason::NOT_DELETING,
            _ => reason::AS_EXPECTED,
        };
        let entry = |&type_| Entry { type_, status: FALSE, reason: initial(type_), message: String::new() };
        Self(types.iter().map(entry).collect())
    }

    pub(super) fn set(
        &mut self,
        type_: &str,
        status: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.put(type_, word(status), reason, message.into());
    }

    /// Sets one condition to Unknown.
    pub(super) fn unknown(&mut self, type_: &str, reason: &'static str, message: impl Into<String>) {
        self.put(type_, UNKNOWN, reason, message.into());
    }

    /// Keeps a stored condition if it has one of these reasons.
    pub(super) fn keep(&mut self, type_: &str, before: &[Condition], reasons: &[&'static str]) {
        let Some(old) = before.iter().find(|c| c.type_ == type_) else { return };
        let status = [TRUE, FALSE, UNKNOWN].into_iter().find(|known| *known == old.status);
        let reason = reasons.iter().find(|known| **known == old.reason);
        if let (Some(status), Some(reason)) = (status, reason) {
            self.put(type_, status, reason, old.message.clone());
        }
    }

    fn put(&mut self, type_: &str, status: &'static str, reason: &'static str, message: String) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.type_ == type_) {
            *entry = Entry { type_: entry.type_, status, reason, message };
        }
    }

    /// Whether a problem is already reported.
    pub(super) fn is_degraded(&self) -> bool {
        self.0.iter().any(|entry| entry.type_ == condition::DEGRADED && entry.status == TRUE)
    }

    /// Reports a problem that the operator handles on its own.
    pub(super) fn degraded(&mut self, reason: &'static str, message: impl Into<String>) {
        self.set(condition::DEGRADED, true, reason, message);
    }

    /// Reports that the object matches its spec.
    pub(super) fn ready(&mut self, reason: &'static str, message: impl Into<String>) {
        self.set(condition::READY, true, reason, message);
    }

    /// Reports that the object does not match its spec yet, and that no user has to act.
    pub(super) fn reconciling(&mut self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.set(condition::READY, false, reason, message.clone());
        self.set(condition::RECONCILING, true, reason, message);
    }

    /// Reports that the object cannot match its spec until a user acts.
    pub(super) fn stalled(&mut self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.set(condition::READY, false, reason, message.clone());
        self.set(condition::STALLED, true, reason, message);
    }

    /// Reports that parts of the spec cannot be decoded. Regardless of the decision, the operator creates nothing
    /// until a user corrects them.
    pub(super) fn unreadable(&mut self, error: &str) {
        self.set(condition::RECONCILING, false, reason::AS_EXPECTED, "");
        self.stalled(
            reason::UNREADABLE,
            format!(
                "the operator cannot read the spec: {error}; the operator starts nothing until the spec is corrected; \
                 deletion still works"
            ),
        );
    }

    /// The stored conditions, plus the report that reconciliation is paused.
    pub(super) fn paused(
        mut self,
        before: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let text = "the annotation gastown.dev/paused is set on this object or on its town: the operator does nothing \
                    except deletion until the annotation is removed";
        self.set(condition::RECONCILING, true, reason::PAUSED, text);
        let mut all = self.finish(before, generation, now);
        let said = gives(before, condition::RECONCILING, reason::PAUSED);
        for slot in all.iter_mut().filter(|slot| said || slot.type_ != condition::RECONCILING) {
            if let Some(old) = before.iter().find(|old| old.type_ == slot.type_) {
                slot.clone_from(old);
            }
        }
        all
    }

    /// The conditions for the status. A condition keeps its transition time while its status stays.
    pub(super) fn finish(
        self,
        before: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let shown = |entry: Entry| {
            let Entry { type_, status, reason, message } = entry;
            condition(type_, status, reason, &message, before, generation, now)
        };
        self.0.into_iter().map(shown).collect()
    }
}

fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let since = before
        .iter()
        .find(|old| old.type_ == type_ && old.status == status)
        .map_or_else(|| stamp(now), |old| old.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: cut(message, CONDITION_MESSAGE).to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    }
}

pub(super) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == TRUE)
}

/// Whether a condition has this status. Unknown and absent conditions have neither.
pub(super) fn says(conditions: &[Condition], type_: &str, is: bool) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == word(is))
}

pub(super) fn message_of<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a str> {
    conditions.iter().find(|c| c.type_ == type_ && c.status == TRUE).map(|c| c.message.as_str())
}

/// Whether a condition has this reason.
pub(super) fn gives(conditions: &[Condition], type_: &str, reason: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.reason == reason)
}

/// Whether the recorded activity of a town is work or unknown.
pub(super) fn has_short_interval(conditions: &[Condition]) -> bool {
    is_true(conditions, condition::ACTIVE) || gives(conditions, condition::ACTIVE, reason::ACTIVITY_UNKNOWN)
}

/// A failed action, as a condition reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether a user must act.
    pub stalled: bool,
    /// The condition reason.
    pub reason: &'static str,
    /// The text of the API server.
    pub message: String,
}

/// Adds a failed action to the decided conditions.
pub fn overlay(conditions: &mut [Condition], before: &[Condition], failure: &Failure, now: Timestamp) {
    let abnormal = if failure.stalled { condition::STALLED } else { condition::RECONCILING };
    let mut touched = vec![(condition::READY, false), (abnormal, true)];
    if !failure.stalled {
        touched.push((condition::DEGRADED, true));
    }
    for (type_, status) in touched {
        if let Some(slot) = conditions.iter_mut().find(|c| c.type_ == type_) {
            let generation = slot.observed_generation;
            *slot = condition(type_, word(status), failure.reason, &failure.message, before, generation, now);
        }
    }
}
