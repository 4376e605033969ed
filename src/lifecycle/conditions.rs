//! Conditions: all of a kind always present, changed in one place, never a flapping time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;

use super::clock::stamp;
use crate::api::condition::{self, reason};

/// The conditions of one object while they are being decided.
pub(super) struct Conditions(Vec<(&'static str, bool, &'static str, String)>);

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
        Self(types.iter().map(|&t| (t, false, initial(t), String::new())).collect())
    }

    /// Sets one condition.
    pub(super) fn set(
        &mut self,
        type_: &str,
        status: bool,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.0 == type_) {
            *entry = (entry.0, status, reason, message.into());
        }
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
    status: bool,
    reason: &str,
    message: String,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if status { "True" } else { "False" };
    let since = before
        .iter()
        .find(|old| old.type_ == type_ && old.status == status)
        .map_or_else(|| stamp(now), |old| old.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since,
    }
}

/// Whether a condition is True.
pub(super) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
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
            *slot =
                condition(type_, status, failure.reason, failure.message.clone(), before, generation, now);
        }
    }
}
