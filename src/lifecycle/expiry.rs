//! The expiry of a town.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::conditions::Conditions;
use super::facts::TownSnapshot;
use super::plan::Notice;
use crate::api::condition::reason;
use crate::api::{ExpiryPolicy, TownStatus};

/// An announcement precedes the change by this time, if enough time remains.
pub(super) const SAID_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// The state of `spec.expiry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// The town has no expiry.
    Never,
    /// The expiry is in the future.
    At(Timestamp),
    /// The expiry was past at the creation of the town. The operator treats this as an error.
    InPast,
    /// The expiry is past, and this policy applies.
    Due(ExpiryPolicy),
}

pub(super) fn expiry(s: &TownSnapshot, status: &TownStatus, now: Timestamp) -> Expiry {
    let Some(expiry) = &s.town.spec.expiry else { return Expiry::Never };
    let at = expiry.time.0;
    let created = s.town.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let lived = status.accepted_time.is_some();
    if !lived && created.is_none_or(|created| at <= created) {
        Expiry::InPast
    } else if at <= now {
        Expiry::Due(policy(s))
    } else {
        Expiry::At(at)
    }
}

/// The effective policy. The operator never deletes a protected town.
fn policy(s: &TownSnapshot) -> ExpiryPolicy {
    let asked = s.town.spec.expiry.as_ref().map(|e| e.policy).unwrap_or_default();
    if s.town.spec.deletion_protection { ExpiryPolicy::Sleep } else { asked }
}

/// Reports that a town sleeps because deletion protection forbids its destruction.
pub(super) fn show_protected(s: &TownSnapshot, status: &TownStatus, c: &mut Conditions, now: Timestamp) {
    let destroy = s.town.spec.expiry.as_ref().is_some_and(|e| e.policy == ExpiryPolicy::Destroy);
    if destroy && expiry(s, status, now) == Expiry::Due(ExpiryPolicy::Sleep) {
        c.degraded(
            reason::DELETION_PROTECTED,
            "spec.expiry is past and its policy is Destroy, but spec.deletionProtection is true: the town sleeps and \
             keeps all its objects; set spec.deletionProtection to false to destroy it, or change spec.expiry",
        );
    }
}

/// Reports a protected town without an admission policy that refuses its deletion. Another problem of the town has
/// precedence.
pub(super) fn show_unguarded(s: &TownSnapshot, c: &mut Conditions) {
    let deleting = s.town.metadata.deletion_timestamp.is_some();
    if s.town.spec.deletion_protection && !s.admission_policies && !deleting && !c.is_degraded() {
        c.degraded(
            reason::DELETION_UNPROTECTED,
            "spec.deletionProtection is true, but the admission policies of the chart are not installed (the operator \
             runs without --admission-policies): no policy rejects a delete of the town; ask an administrator to \
             install them, or set spec.deletionProtection to false",
        );
    }
}

/// The announcement of a near expiry, and the time of the next reconcile for it.
pub(super) fn coming(
    s: &TownSnapshot,
    expiry: Expiry,
    now: Timestamp,
) -> (Option<Notice>, Option<Timestamp>) {
    let Expiry::At(at) = expiry else { return (None, None) };
    // Each policy has its own reason, because Kubernetes merges events with the same reason and keeps the first text.
    let (reason, what) = match policy(s) {
        ExpiryPolicy::Destroy => (reason::DESTROYS_SOON, "is destroyed"),
        ExpiryPolicy::Sleep => (reason::EXPIRES_SOON, "sleeps, even if it has work,"),
    };
    soon(reason, at, format!("the town {what} within 5 minutes (spec.expiry)"), now)
}

/// The announcement if its time is near, and the time of the next reconcile: first the time of the announcement, then
/// the time of the change. Kubernetes merges events with the same reason and keeps the text of the first event, so the
/// text must contain no value that can change.
pub(super) fn soon(
    reason: &'static str,
    at: Timestamp,
    note: String,
    now: Timestamp,
) -> (Option<Notice>, Option<Timestamp>) {
    let say_at = at.checked_sub(SAID_BEFORE).unwrap_or(at);
    if now < say_at { (None, Some(say_at)) } else { (Some(Notice { reason, at, note }), Some(at)) }
}
