//! Conditions: all of a kind always present, changed in one place, never a flapping time.

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

/// The conditions of one object while they are being decided.
pub(super) struct Conditions(Vec<(&'static str, &'static str, &'static str, String)>);

impl Conditions {
    /// A town's, before anything was decided.
    pub(super) fn of_town() -> Self {
        Self::all(&condition::OF_TOWN)
    }

    /// An agent's, before anything was decided.
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
        Self(types.iter().map(|&t| (t, FALSE, initial(t), String::new())).collect())
    }

    /// Sets one condition.
    pub(super) fn set(
        &mut self,
        type_: &str,
        status: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.put(type_, word(status), reason, message.into());
    }

    /// Sets one condition of which nobody can say whether it holds.
    pub(super) fn unknown(&mut self, type_: &str, reason: &'static str, message: impl Into<String>) {
        self.put(type_, UNKNOWN, reason, message.into());
    }

    /// Keeps one condition as it is stored, as far as the reason is one that stands for itself.
    pub(super) fn keep(&mut self, type_: &str, before: &[Condition], reasons: &[&'static str]) {
        let Some(old) = before.iter().find(|c| c.type_ == type_) else { return };
        let status = [TRUE, FALSE, UNKNOWN].into_iter().find(|known| *known == old.status);
        let reason = reasons.iter().find(|known| **known == old.reason);
        if let (Some(status), Some(reason)) = (status, reason) {
            self.put(type_, status, reason, old.message.clone());
        }
    }

    fn put(&mut self, type_: &str, status: &'static str, reason: &'static str, message: String) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.0 == type_) {
            *entry = (entry.0, status, reason, message);
        }
    }

    /// Whether something is wrong already.
    pub(super) fn is_degraded(&self) -> bool {
        self.0.iter().any(|(type_, status, ..)| *type_ == condition::DEGRADED && *status == TRUE)
    }

    /// Something went wrong that the operator goes on about by itself.
    pub(super) fn degraded(&mut self, reason: &'static str, message: impl Into<String>) {
        self.set(condition::DEGRADED, true, reason, message);
    }

    /// The object is what its spec asks for.
    pub(super) fn ready(&mut self, reason: &'static str, message: impl Into<String>) {
        self.set(condition::READY, true, reason, message);
    }

    /// Not yet, and it ends by itself.
    pub(super) fn reconciling(&mut self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.set(condition::READY, false, reason, message.clone());
        self.set(condition::RECONCILING, true, reason, message);
    }

    /// Not, until a person acts.
    pub(super) fn stalled(&mut self, reason: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.set(condition::READY, false, reason, message.clone());
        self.set(condition::STALLED, true, reason, message);
    }

    /// Parts of the spec cannot be decoded: whatever was decided, nothing is created until a person corrects them.
    pub(super) fn unreadable(&mut self, error: &str) {
        self.set(condition::RECONCILING, false, reason::AS_EXPECTED, "");
        self.stalled(
            reason::UNREADABLE,
            format!(
                "the operator cannot read the spec: {error}; nothing is started until the spec is corrected, and the \
                 object can be deleted"
            ),
        );
    }

    /// The conditions as they stand, and that reconciliation is paused.
    pub(super) fn paused(
        mut self,
        before: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let text = "the annotation gastown.dev/paused is set, here or on its town: nothing is done until it is removed, \
                    except deletion";
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

    /// The conditions as they are stored: a condition keeps its time while its status stays.
    pub(super) fn finish(
        self,
        before: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        self.0
            .into_iter()
            .map(|(type_, status, reason, message)| {
                condition(type_, status, reason, message, before, generation, now)
            })
            .collect()
    }
}

fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
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
        message: cut(&message, CONDITION_MESSAGE).to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// Whether a condition is True.
pub(super) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == TRUE)
}

/// Whether a condition is True, or False; one that is Unknown or absent is neither.
pub(super) fn says(conditions: &[Condition], type_: &str, is: bool) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == word(is))
}

/// The message of a condition that is True.
pub(super) fn message_of<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a str> {
    conditions.iter().find(|c| c.type_ == type_ && c.status == TRUE).map(|c| c.message.as_str())
}

/// Whether a condition gives this reason.
pub(super) fn gives(conditions: &[Condition], type_: &str, reason: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.reason == reason)
}

/// Something that went wrong while acting, as a condition shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether a person must act.
    pub stalled: bool,
    /// The condition reason.
    pub reason: &'static str,
    /// The API server's own text.
    pub message: String,
}

/// Lays what went wrong while acting over the conditions that were decided.
pub fn overlay(conditions: &mut [Condition], before: &[Condition], failure: &Failure, now: Timestamp) {
    let abnormal = if failure.stalled { condition::STALLED } else { condition::RECONCILING };
    let mut touched = vec![(condition::READY, false), (abnormal, true)];
    if !failure.stalled {
        touched.push((condition::DEGRADED, true));
    }
    for (type_, status) in touched {
        if let Some(slot) = conditions.iter_mut().find(|c| c.type_ == type_) {
            let generation = slot.observed_generation;
            *slot = condition(
                type_,
                word(status),
                failure.reason,
                failure.message.clone(),
                before,
                generation,
                now,
            );
        }
    }
}
