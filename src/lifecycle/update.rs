//! The replacement of pods after a change of their revision.
//!
//! Invariant kept here: a new template never disturbs a pod that was Ready before, unless a user requests it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::facts::{AgentSnapshot, PodFacts, TownFacts};
use crate::api::names;

/// The message about a pod that is older than its spec.
pub(super) const PENDING_TEXT: &str = "the pod was created from an older spec; the operator replaces it when the town \
                                       is idle; change the annotation gastown.dev/restart-at to replace it immediately";

/// Whether a present pod must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// The pod matches its spec.
    No,
    /// The pod is replaced as soon as this disturbs no agent.
    Pending,
    /// The pod is replaced now, for this reason.
    Now(&'static str),
}

/// The spec for a pod that is created now.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The digest of the pod.
    pub(super) revision: &'a str,
    /// The generations of the town and of the agent. 0 means that the object does not exist.
    pub(super) generations: (i64, i64),
}

impl<'a> Wanted<'a> {
    /// The spec for an agent's pod that is created now.
    pub(super) fn of_agent(s: &'a AgentSnapshot, town: &TownFacts) -> Self {
        let generations = (town.generation, s.agent.metadata.generation.unwrap_or_default());
        Self { revision: &s.revision, generations }
    }
}

/// Whether the pod of this object must be replaced. `idle`: a replacement disturbs no agent. `was_ready`: the pod was
/// Ready before and may work, even if it is not Ready for a moment.
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
        Update::Now("the spec of the pod changed")
    } else {
        Update::Pending
    }
}

/// Whether the pod has an older spec. A pod without a revision comes from an older operator and stays. A pod of a
/// newer generation has a spec that this reconcile has not read yet.
pub(super) fn outdated(pod: &PodFacts, wanted: Wanted<'_>) -> bool {
    let newer =
        pod.generations.is_some_and(|made| wanted.generations.0 < made.0 || wanted.generations.1 < made.1);
    !newer && pod.revision.as_deref().is_some_and(|made_from| made_from != wanted.revision)
}

/// Whether a user requests another pod.
pub(super) fn restart_asked(meta: &ObjectMeta, pod: &PodFacts) -> bool {
    let asked = meta.annotations.as_ref().and_then(|a| a.get(names::RESTART_AT));
    asked.is_some_and(|asked| pod.restart_at.as_ref() != Some(asked))
}

/// Whether the spec was edited after the last write of the status. An edit may reset the count of failures.
pub(super) fn edited(observed: Option<i64>, meta: &ObjectMeta) -> bool {
    observed.is_some_and(|generation| generation > 0) && observed != meta.generation
}
