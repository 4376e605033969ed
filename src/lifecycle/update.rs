//! When a pod is replaced because what it was made from has changed.
//!
//! Invariant kept here: nobody is disturbed at work for a new template, unless a person asks for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::facts::PodFacts;
use crate::api::names;

/// Says that a pod is older than its spec.
pub(super) const PENDING_TEXT: &str = "the pod was made from an older spec and is replaced once the town is idle; \
     change the annotation gastown.dev/restart-at to replace it at once";

/// Whether a pod that is there is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// It is what its spec asks for.
    No,
    /// Once nobody is disturbed.
    Pending,
    /// Now, for this reason.
    Now(&'static str),
}

/// Whether the pod of this object is to be replaced; `idle`: nobody would be disturbed.
pub(super) fn update(meta: &ObjectMeta, pod: &PodFacts, revision: &str, idle: bool) -> Update {
    if restart_asked(meta, pod) {
        Update::Now("the annotation gastown.dev/restart-at changed")
    } else if !outdated(pod, revision) {
        Update::No
    } else if idle || !pod.ready {
        Update::Now("the spec it was made from changed")
    } else {
        Update::Pending
    }
}

/// Whether the pod was made from another spec. One that does not say was made by an older operator, and is
/// left alone.
pub(super) fn outdated(pod: &PodFacts, revision: &str) -> bool {
    pod.revision.as_deref().is_some_and(|made_from| made_from != revision)
}

/// Whether a person asks for another pod.
pub(super) fn restart_asked(meta: &ObjectMeta, pod: &PodFacts) -> bool {
    let asked = meta.annotations.as_ref().and_then(|a| a.get(names::RESTART_AT));
    asked.is_some_and(|asked| pod.restart_at.as_ref() != Some(asked))
}

/// Whether the spec was edited since the status was last written: what failed before gets a new chance.
pub(super) fn edited(observed: Option<i64>, meta: &ObjectMeta) -> bool {
    observed.is_some() && observed != meta.generation
}
