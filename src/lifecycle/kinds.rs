//! The table of kinds: everything that is ever made for a town or an agent, by the operator or by Kubernetes for a pod,
//! and the step of destruction that takes it away.
//!
//! Invariant kept here: what is created has a row. Creating, destroying and looking for what is left all go by
//! this table, so that no kind can be made that nobody takes away.

use crate::api::DestroyStep;

/// A kind of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// The token that a pod is asked with.
    Secret,
    /// What runs.
    Pod,
    /// The volume of a town or an agent.
    PersistentVolumeClaim,
    /// The Service of a town's pod.
    Service,
    /// A device that Kubernetes claims for a pod, from a template that the pod names. The garbage collector takes the
    /// claim away with the pod; the operator waits for that.
    ResourceClaim,
}

impl ChildKind {
    /// The whole table, in the order of destruction.
    pub const ALL: [Self; 5] =
        [Self::Secret, Self::Pod, Self::PersistentVolumeClaim, Self::Service, Self::ResourceClaim];

    /// The kinds that the operator itself makes.
    pub const MADE: [Self; 4] = [Self::Secret, Self::Pod, Self::PersistentVolumeClaim, Self::Service];

    /// The kind's name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::Pod => "Pod",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::Service => "Service",
            Self::ResourceClaim => "ResourceClaim",
        }
    }

    /// Whether a watch tells of it. Of Secrets none does: what is in them is nobody's business.
    pub fn is_watched(self) -> bool {
        !matches!(self, Self::Secret | Self::ResourceClaim)
    }

    /// The step of destruction that takes it away.
    pub fn step(self) -> DestroyStep {
        match self {
            Self::Secret => DestroyStep::Credentials,
            Self::Pod => DestroyStep::Compute,
            Self::PersistentVolumeClaim | Self::Service | Self::ResourceClaim => DestroyStep::Storage,
        }
    }
}
