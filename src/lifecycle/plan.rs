//! Plans: the results of decisions.

use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;

use super::clock::earlier;
use super::ids::{ObjectKey, Uid};
use super::kinds::ChildKind;
use crate::api::{ActivityProbe, Copied, Hook, TombstoneChild, TombstoneSpec, TombstoneStatus};

/// The result of a decision: actions, probes, a status, events, and the time of the next reconcile.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// The actions, in the order of their execution.
    pub actions: Vec<Action>,
    /// The status to write after the actions. `None`: the status stays unchanged.
    pub status: Option<S>,
    /// Whether the writes must wait until no create of the town is in progress. After such writes no pod may start
    /// (sleep, destruction).
    pub exclusive: bool,
    /// The cause of the plan, for the event about it.
    pub note: Option<String>,
    /// The pods to probe.
    pub asks: Vec<Ask>,
    /// Announcements. Each leads to one event.
    pub notices: Vec<Notice>,
    /// The time of the next reconcile if no watch event comes before. `None`: watch events alone are sufficient.
    pub look_again: Option<Timestamp>,
    /// The next reconcile may be a little late. The operator spreads such reconciles so that many objects do not
    /// reconcile at the same moment.
    pub lenient: bool,
}

impl<S> Plan<S> {
    /// A plan without actions, status, events and timer.
    pub fn nothing() -> Self {
        Self {
            actions: Vec::new(),
            status: None,
            exclusive: false,
            note: None,
            asks: Vec::new(),
            notices: Vec::new(),
            look_again: None,
            lenient: false,
        }
    }

    /// A plan with these actions only.
    pub fn act(actions: Vec<Action>) -> Self {
        Self { actions, ..Self::nothing() }
    }

    /// A plan with this status only.
    pub fn report(status: S) -> Self {
        Self { status: Some(status), ..Self::nothing() }
    }

    /// Requeues at this time, unless an earlier time is already set.
    pub fn look_again_at(mut self, at: Option<Timestamp>) -> Self {
        let before = self.look_again;
        self.look_again = earlier(before, at);
        self.lenient &= self.look_again == before;
        self
    }

    /// As [`Self::look_again_at`], for repeated attempts and probes, which may be a little late.
    pub fn retry_at(mut self, at: Option<Timestamp>) -> Self {
        if at.is_some_and(|at| self.look_again.is_none_or(|before| at < before)) {
            self.look_again = at;
            self.lenient = true;
        }
        self
    }

    /// Adds the due probes, and requeues at the time of the next probe.
    pub fn asking(mut self, questions: Questions) -> Self {
        self.asks.extend(questions.now);
        self.retry_at(questions.later)
    }

    /// Adds an announcement.
    pub fn announcing(mut self, notice: Option<Notice>) -> Self {
        self.notices.extend(notice);
        self
    }

    /// Adds actions.
    pub fn with_actions(mut self, actions: Vec<Action>) -> Self {
        self.actions.extend(actions);
        self
    }

    /// Sets the cause of the plan.
    pub fn because(mut self, note: String) -> Self {
        self.note = Some(note);
        self
    }

    /// Removes the actions and probes. The next reconcile executes them, because the status must be written first.
    pub fn without_actions(mut self) -> Self {
        self.actions.clear();
        self.asks.clear();
        self
    }

    /// Marks the writes as exclusive: no create may start after them.
    pub fn exclusively(mut self) -> Self {
        self.exclusive = true;
        self
    }
}

/// An activity probe of a pod. The request goes to the pod directly, not through the API server, and changes no state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The pod.
    pub pod: ObjectKey,
    /// The UID of the pod. The answer of another pod is invalid.
    pub uid: Uid,
    /// The address of the pod.
    pub address: String,
    /// The port and the path.
    pub probe: ActivityProbe,
    /// The Secret. The pod accepts the value of its key `token`.
    pub secret: String,
}

/// The due probes, and the time of the next probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// The probes that are due now.
    pub now: Vec<Ask>,
    /// The time of the next probe.
    pub later: Option<Timestamp>,
}

impl Questions {
    /// Combines two sets of probes.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.now.extend(other.now);
        self.later = earlier(self.later, other.later);
        self
    }
}

/// An announcement of a future change, for one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The reason of the event.
    pub reason: &'static str,
    /// The time of the change. The operator sends another event only if this time changes.
    pub at: Timestamp,
    /// The note of the event.
    pub note: String,
}

/// A write to the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Add our finalizer and the install label to the object, and the UID of the town to an Agent.
    Adopt {
        /// The town that an agent is bound to.
        town_uid: Option<Uid>,
    },
    /// Create the Tombstone. From this time on the operator creates no child for the object.
    CreateTombstone(Box<TombstoneSpec>),
    /// Write the tombstone annotation on the object. From this time on the operator creates no child for the object.
    WriteTombstone,
    /// Add volumes and claims to the Tombstone, before the operator deletes the claims or their pods.
    AmendTombstone(Vec<TombstoneChild>),
    /// Write the fate of each object to the Tombstone of this name, if the operator keeps a Tombstone.
    GiveReceipts(Option<String>, Box<TombstoneStatus>),
    /// Create the owner's volume claim.
    CreateClaim,
    /// Create the Service of the town's pod.
    CreateService,
    /// Write the ports of the spec to exactly this Service.
    UpdateService(ObjectKey, Uid),
    /// Create the Secret with the token for the activity probes of the owner's pod.
    CreateToken,
    /// Create the owner's pod.
    CreatePod,
    /// Write another hook to a running pod.
    DeliverHook {
        /// The pod.
        pod: ObjectKey,
        /// The UID of the pod.
        uid: Uid,
        /// The hook. `None`: remove the hook.
        hook: Option<Hook>,
    },
    /// Delete exactly this pod.
    DeletePod(ObjectKey, Uid),
    /// Remove our result finalizer from exactly this pod.
    ReleaseResult {
        /// The pod.
        pod: ObjectKey,
        /// The UID of the pod.
        uid: Uid,
        /// The index of the finalizer in the list.
        position: usize,
    },
    /// Request the size of the spec for exactly this volume claim.
    GrowClaim {
        /// The claim.
        claim: ObjectKey,
        /// The UID of the claim.
        uid: Uid,
        /// The size.
        size: Quantity,
    },
    /// Write the mark and the copied labels and annotations of the spec to exactly this volume claim. The mark states
    /// whether the claim outlives its owner.
    MarkClaim {
        /// The claim.
        claim: ObjectKey,
        /// The UID of the claim.
        uid: Uid,
        /// Whether the claim outlives its owner.
        retain: bool,
        /// The labels and annotations to copy.
        copied: Copied,
        /// The record on the claim of the labels and annotations that were copied before.
        before: Option<String>,
    },
    /// Release exactly this volume claim: the operator removes our labels, and the claim stays.
    RetainClaim(ObjectKey, Uid),
    /// Delete exactly this child.
    DeleteChild(ChildKind, ObjectKey, Uid),
    /// Delete the object itself, at the version that the decision read: its `spec.expiry` or its `ttlAfterFinished`
    /// has passed.
    DeleteSelf,
    /// Delete exactly this agent. The agent executes its own destruction.
    DeleteAgent(ObjectKey, Uid),
    /// Remove our finalizer from the object. Every child of the object is proven gone.
    RemoveFinalizer,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt { town_uid: None } => f.write_str("adopt"),
            Self::Adopt { town_uid: Some(uid) } => write!(f, "bind to town {uid}"),
            Self::CreateTombstone(_) => f.write_str("create tombstone"),
            Self::WriteTombstone => f.write_str("write tombstone"),
            Self::AmendTombstone(_) => f.write_str("amend tombstone"),
            Self::GiveReceipts(..) => f.write_str("give receipts"),
            Self::CreateClaim => f.write_str("create claim"),
            Self::CreateService => f.write_str("create service"),
            Self::UpdateService(key, _) => write!(f, "update service {key}"),
            Self::CreateToken => f.write_str("create token"),
            Self::CreatePod => f.write_str("create pod"),
            Self::DeliverHook { pod, .. } => write!(f, "deliver hook to pod {pod}"),
            Self::DeletePod(key, _) => write!(f, "delete pod {key}"),
            Self::ReleaseResult { pod, .. } => write!(f, "release pod {pod}"),
            Self::GrowClaim { claim, size, .. } => write!(f, "grow claim {claim} to {}", size.0),
            Self::MarkClaim { claim, retain: true, .. } => write!(f, "mark claim {claim} as retained"),
            Self::MarkClaim { claim, retain: false, .. } => write!(f, "mark claim {claim} as not retained"),
            Self::RetainClaim(key, _) => write!(f, "retain claim {key}"),
            Self::DeleteChild(ChildKind::PersistentVolumeClaim, key, _) => write!(f, "delete claim {key}"),
            Self::DeleteChild(kind, key, _) => write!(f, "delete {} {key}", kind.as_str().to_lowercase()),
            Self::DeleteSelf => f.write_str("delete itself"),
            Self::DeleteAgent(key, _) => write!(f, "delete agent {key}"),
            Self::RemoveFinalizer => f.write_str("remove finalizer"),
        }
    }
}
