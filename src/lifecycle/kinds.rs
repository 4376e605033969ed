//! The table of kinds: every kind that the operator creates for a town or an agent, or that Kubernetes creates for a
//! pod, with the step of the destruction that deletes it.
//!
//! Invariant kept here: every created kind has a row. Create, destruction and the search for remains use this table,
//! so that no kind is created without a step that deletes it.

use crate::api::DestroyStep;

/// A kind of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// The Secret with the token for the activity probes of a pod.
    Secret,
    /// The pod of a town or an agent.
    Pod,
    /// The volume of a town or an agent.
    PersistentVolumeClaim,
    /// The Service of a town's pod.
    Service,
    /// A device claim that Kubernetes creates for a pod, from a template that the pod names. The garbage collector
    /// deletes the claim with the pod, and the operator waits for that.
    ResourceClaim,
}

impl ChildKind {
    /// The complete table, in the order of destruction.
    pub const ALL: [Self; 5] =
        [Self::Secret, Self::Pod, Self::PersistentVolumeClaim, Self::Service, Self::ResourceClaim];

    /// The kinds that the operator itself creates.
    pub const MADE: [Self; 4] = [Self::Secret, Self::Pod, Self::PersistentVolumeClaim, Self::Service];

    /// The name of the kind, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::Pod => "Pod",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::ResourceClaim => "ResourceClaim",
        }
    }

    /// Whether the operator watches the kind. The operator does not watch Secrets, because their content is
    /// confidential.
    pub fn is_watched(self) -> bool {
        !matches!(self, Self::Secret | Self::ResourceClaim)
    }

    /// The step of the destruction that deletes the kind.
    pub fn step(self) -> DestroyStep {
        match self {
            Self::Secret => DestroyStep::Credentials,
            Self::Pod => DestroyStep::Compute,
            Self::PersistentVolumeClaim | Self::Service | Self::ResourceClaim => DestroyStep::Storage,
        }
    }
}
