//! What to do: the result of a decision.

use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::Timestamp;

use super::clock::earlier;
use super::ids::{ObjectKey, Uid};
use super::kinds::ChildKind;
use crate::api::{ActivityProbe, Copied, Hook, TombstoneChild, TombstoneSpec, TombstoneStatus};

/// What to do now, whom to ask, what to report, and when to look again.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// To be carried out in order.
    pub actions: Vec<Action>,
    /// The status to report afterwards; `None`: it stays as it is.
    pub status: Option<S>,
    /// Whether the writes must wait until no create of the town is under way: after them nothing may
    /// start (sleep, destroy).
    pub exclusive: bool,
    /// What led to this, for the event that reports it.
    pub note: Option<String>,
    /// Whom to ask for their activity.
    pub asks: Vec<Ask>,
    /// What to say in an event, once.
    pub notices: Vec<Notice>,
    /// When to look again if nothing happens before; `None`: never, watches carry everything.
    pub look_again: Option<Timestamp>,
    /// That need not be kept to the second: a little later is as good, and spreads what many would do at once.
    pub lenient: bool,
}

impl<S> Plan<S> {
    /// Nothing to do, nothing to say, no timer.
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

    /// Only actions.
    pub fn act(actions: Vec<Action>) -> Self {
        Self { actions, ..Self::nothing() }
    }

    /// Only a status.
    pub fn report(status: S) -> Self {
        Self { status: Some(status), ..Self::nothing() }
    }

    /// Asks to be called again at the earliest of the deadlines given so far.
    pub fn look_again_at(mut self, at: Option<Timestamp>) -> Self {
        let before = self.look_again;
        self.look_again = earlier(before, at);
        self.lenient &= self.look_again == before;
        self
    }

    /// As [`Self::look_again_at`], for what is tried or asked again and again.
    pub fn retry_at(mut self, at: Option<Timestamp>) -> Self {
        if at.is_some_and(|at| self.look_again.is_none_or(|before| at < before)) {
            self.look_again = at;
            self.lenient = true;
        }
        self
    }

    /// Asks pods for their activity, now or when their time comes.
    pub fn asking(mut self, questions: Questions) -> Self {
        self.asks.extend(questions.now);
        self.retry_at(questions.later)
    }

    /// Says what will happen.
    pub fn announcing(mut self, notice: Option<Notice>) -> Self {
        self.notices.extend(notice);
        self
    }

    /// Adds actions.
    pub fn with_actions(mut self, actions: Vec<Action>) -> Self {
        self.actions.extend(actions);
        self
    }

    /// Says what led to this.
    pub fn because(mut self, note: String) -> Self {
        self.note = Some(note);
        self
    }

    /// Leaves actions and questions for the next look: the status must stand first.
    pub fn without_actions(mut self) -> Self {
        self.actions.clear();
        self.asks.clear();
        self
    }

    /// Nothing may start after these writes.
    pub fn exclusively(mut self) -> Self {
        self.exclusive = true;
        self
    }
}

/// A question to a pod: what does it do? It goes past the API server and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The pod.
    pub pod: ObjectKey,
    /// Its UID: an answer is worth nothing for another.
    pub uid: Uid,
    /// Its address.
    pub address: String,
    /// Port and path.
    pub probe: ActivityProbe,
    /// The Secret whose key `token` opens the door.
    pub secret: String,
}

/// Whom to ask now, and when to ask next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Now.
    pub now: Vec<Ask>,
    /// The next one is due then.
    pub later: Option<Timestamp>,
}

impl Questions {
    /// These and others.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.now.extend(other.now);
        self.later = earlier(self.later, other.later);
        self
    }
}

/// Something that will happen, said once in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The event's reason.
    pub reason: &'static str,
    /// When it will happen: said again only if that changes.
    pub at: Timestamp,
    /// The event's note.
    pub note: String,
}

/// One write to the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put our finalizer and the install label on the object; on an Agent also the UID of its town.
    Adopt {
        /// The town that an agent is bound to.
        town_uid: Option<Uid>,
    },
    /// Create the record of the destruction: from now on nothing is created for the object.
    CreateTombstone(Box<TombstoneSpec>),
    /// Put the tombstone on the object, as an annotation: from now on nothing is created for it.
    WriteTombstone,
    /// Add volumes and claims to the record, before the claims or their pods go.
    AmendTombstone(Vec<TombstoneChild>),
    /// Say what became of each object, in the Tombstone of this name if one is kept.
    GiveReceipts(Option<String>, Box<TombstoneStatus>),
    /// Create the owner's volume claim.
    CreateClaim,
    /// Create the Service of the town's pod.
    CreateService,
    /// Give exactly this Service the ports of the spec.
    UpdateService(ObjectKey, Uid),
    /// Create the Secret with the token that the owner's pod is asked with.
    CreateToken,
    /// Create the owner's pod.
    CreatePod,
    /// Give a running pod another hook.
    DeliverHook {
        /// The pod.
        pod: ObjectKey,
        /// Its UID.
        uid: Uid,
        /// The hook; `None`: taken off.
        hook: Option<Hook>,
    },
    /// Delete exactly this pod.
    DeletePod(ObjectKey, Uid),
    /// Take our result finalizer off exactly this pod.
    ReleaseResult {
        /// The pod.
        pod: ObjectKey,
        /// Its UID.
        uid: Uid,
        /// Where the finalizer stands in its list.
        position: usize,
    },
    /// Ask for exactly this volume claim to grow to the size of the spec.
    GrowClaim {
        /// The claim.
        claim: ObjectKey,
        /// Its UID.
        uid: Uid,
        /// The size.
        size: Quantity,
    },
    /// Write on exactly this volume claim whether it outlives its owner, and the labels and annotations of the spec.
    MarkClaim {
        /// The claim.
        claim: ObjectKey,
        /// Its UID.
        uid: Uid,
        /// Whether it does.
        retain: bool,
        /// The labels and annotations.
        copied: Copied,
        /// What the claim says of those that were copied before.
        before: Option<String>,
    },
    /// Let exactly this volume claim go its own way: our labels go, it stays.
    RetainClaim(ObjectKey, Uid),
    /// Delete exactly this child.
    DeleteChild(ChildKind, ObjectKey, Uid),
    /// Delete the object itself, as it was decided on: its time is up.
    DeleteSelf,
    /// Delete exactly this agent; it runs its own destruction.
    DeleteAgent(ObjectKey, Uid),
    /// Take our finalizer off the object: everything of it is proven gone.
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
