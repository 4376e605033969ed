//! The object whose plan is executed, and the result.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{Agent, TombstoneKind, Town};
use crate::cluster::error::Error;
use crate::cluster::kinds::known::Known;
use crate::lifecycle::{ClaimFacts, ObjectKey, OwnerRef, PodFacts, Uid, town_key};

/// The object whose plan is executed.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// A town.
    Town(&'a Town),
    /// An agent.
    Agent(&'a Agent),
}

impl Subject<'_> {
    pub(crate) fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Town(town) => &town.metadata,
            Self::Agent(agent) => &agent.metadata,
        }
    }

    pub(crate) fn owner(&self) -> Option<OwnerRef> {
        OwnerRef::of(self.meta())
    }

    pub(crate) fn tombstone(&self) -> TombstoneKind {
        match self {
            Self::Town(_) => TombstoneKind::Town,
            Self::Agent(_) => TombstoneKind::Agent,
        }
    }

    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Self::Town(_) => Town::NAME,
            Self::Agent(_) => Agent::NAME,
        }
    }

    /// The town that the subject belongs to or is, with the UID that it must have.
    pub(crate) fn town_ref(&self, uid: &Uid) -> OwnerRef {
        let key = match self {
            Self::Town(town) => ObjectKey::of(&town.metadata),
            Self::Agent(agent) => town_key(agent),
        };
        OwnerRef { key, uid: uid.clone() }
    }
}

/// The result of the actions.
#[derive(Default)]
pub struct Outcome {
    /// The pod that was created.
    pub pod: Option<PodFacts>,
    /// The claim that was created.
    pub claim: Option<ClaimFacts>,
    /// The resource version of the object after our own changes to it.
    pub resource_version: Option<String>,
    /// The first error.
    pub error: Option<Error>,
    /// The finalizer is removed: for the operator the object is gone.
    pub finished: bool,
    /// A write that removes something, or prepares a removal, failed.
    pub removal_failed: bool,
}
