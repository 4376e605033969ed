//! When a pod is replaced because what it was made from has changed.
//!
//! Invariant kept here: a new template never disturbs a pod that was Ready before, unless a person asks for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::facts::{AgentSnapshot, PodFacts, TownFacts};
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

/// What a pod would be made from now.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The digest of it.
    pub(super) revision: &'a str,
    /// The generations of the town and of the agent, 0 where there is none.
    pub(super) generations: (i64, i64),
}

impl<'a> Wanted<'a> {
    /// What the agent's pod would be made from now.
    pub(super) fn of_agent(s: &'a AgentSnapshot, town: &TownFacts) -> Self {
        let generations = (town.generation, s.agent.metadata.generation.unwrap_or_default());
        Self { revision: &s.revision, generations }
    }
}

/// Whether the pod of this object is to be replaced. `idle`: nobody would be disturbed. `was_ready`: the pod was Ready
/// before, so that it may be at work; a moment in which it is not Ready changes nothing of that.
pub(super) fn update(
    meta: &ObjectMeta,
    pod: &PodFacts,
    wanted: Wanted<'_>,
    idle: bool,
    was_ready: bool,
) -> Update {
    if restart_asked(meta, pod) {
        Update::Now("the annotation gastown.dev/restart-at changed")
    } else if !outdated(pod, wanted) {
        Update::No
    } else if idle || !was_ready {
        Update::Now("the spec it was made from changed")
    } else {
        Update::Pending
    }
}

/// Whether the pod was made from an older spec. A pod without a revision was made by an older operator and is left alone.
/// A pod of a newer generation was made from a spec that this reconcile has not seen yet.
pub(super) fn outdated(pod: &PodFacts, wanted: Wanted<'_>) -> bool {
    let newer =
        pod.generations.is_some_and(|made| wanted.generations.0 < made.0 || wanted.generations.1 < made.1);
    !newer && pod.revision.as_deref().is_some_and(|made_from| made_from != wanted.revision)
}

/// Whether a person asks for another pod.
pub(super) fn restart_asked(meta: &ObjectMeta, pod: &PodFacts) -> bool {
    let asked = meta.annotations.as_ref().and_then(|a| a.get(names::RESTART_AT));
    asked.is_some_and(|asked| pod.restart_at.as_ref() != Some(asked))
}

/// Whether the spec was edited since the status was last written: what failed before gets a new chance.
pub(super) fn edited(observed: Option<i64>, meta: &ObjectMeta) -> bool {
    observed.is_some_and(|generation| generation > 0) && observed != meta.generation
}
