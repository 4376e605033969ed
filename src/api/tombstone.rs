//! The `Tombstone`: the record of a destroyed town or agent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// Tombstone is the record of a destroyed town or agent. It contains the result for each of its objects, and can
/// block a new town of the same name. Only the operator writes it, before it destroys anything.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gastown.dev",
    version = "v1alpha1",
    kind = "Tombstone",
    status = "TombstoneStatus",
    derive = "PartialEq",
    selectable = ".spec.namespace",
    selectable = ".spec.name",
    selectable = ".spec.uid",
    doc = "Tombstone is the record of a destroyed town or agent. It contains the result for each of its objects, and can block a new town of the same name. Only the operator writes it.",
    printcolumn(
        name = "Kind",
        type_ = "string",
        json_path = ".spec.kind",
        description = "Kind of the destroyed object"
    ),
    printcolumn(
        name = "Namespace",
        type_ = "string",
        json_path = ".spec.namespace",
        description = "Namespace of the destroyed object"
    ),
    printcolumn(
        name = "Object",
        type_ = "string",
        json_path = ".spec.name",
        description = "Name of the destroyed object"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Destroying, Destroyed, or Leaked if an administrator abandoned a step"
    ),
    printcolumn(
        name = "Deleted",
        type_ = "date",
        json_path = ".spec.deleteTime",
        description = "Time since the destruction began"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Cause",
        type_ = "string",
        json_path = ".spec.cause",
        priority = 1,
        description = "Cause of the destruction"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".spec.expireTime",
        priority = 1,
        description = "Time at which the operator deletes this Tombstone if nothing is left"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TombstoneSpec {
    /// kind is the kind of the destroyed object. Town: a town. Agent: an agent that was deleted alone.
    pub kind: TombstoneKind,
    /// namespace is the namespace of the destroyed object.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// namespaceUID is the UID of the namespace. The Tombstone has no effect in a later namespace of the same name. The
    /// field is absent in Tombstones of older versions, and if the namespace was already gone. Such a Tombstone has an
    /// effect in every namespace of this name.
    #[serde(default, rename = "namespaceUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub namespace_uid: Option<String>,
    /// name is the name of the destroyed object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// uid is the UID of the destroyed object.
    #[schemars(length(min = 1, max = 128))]
    pub uid: String,
    /// deleteTime is the time at which the destruction began.
    pub delete_time: Time,
    /// cause is the cause of the destruction. Deleted: a user or a tool deleted the object; the audit log of the API
    /// server shows who. Expiry: spec.expiry with policy Destroy was past. RigRemoved: the town no longer lists the
    /// agent's rig. TTL: spec.ttlAfterFinished was over. Namespace: the namespace was deleted.
    pub cause: Cause,
    /// recreate controls a new town of the same namespace and name while this Tombstone exists. Allow: the operator runs
    /// the new town, which adopts nothing of the old one. Refuse: the operator does not run the new town. Defaults to
    /// Allow.
    #[serde(default)]
    pub recreate: Recreate,
    /// expireTime is the time at which the operator deletes this Tombstone if nothing of the object is left.
    pub expire_time: Time,
    /// children lists the objects of the town or agent when its destruction began: at most 3,500 claims and volumes, and
    /// at most 500 other objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4000))]
    pub children: Vec<TombstoneChild>,
    /// moreChildren is the number of further objects of each kind that are not in children.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub more_children: Vec<KindCount>,
}

/// kind is the kind of a destroyed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TombstoneKind {
    /// A town.
    Town,
    /// An agent that was deleted alone.
    Agent,
}

/// cause is the cause of a destruction. The audit log of the API server shows the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cause {
    /// A user or a tool deleted the object.
    Deleted,
    /// `spec.expiry` with the policy Destroy was past.
    Expiry,
    /// The town no longer lists the agent's rig.
    RigRemoved,
    /// `spec.ttlAfterFinished` was over.
    TTL,
    /// The namespace was deleted.
    Namespace,
}

/// recreate controls a new town of the same namespace and name while a Tombstone exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Recreate {
    /// The operator runs the new town, which adopts nothing of the old one.
    #[default]
    Allow,
    /// The operator does not run the new town. This stops tools that create a town again right after its deletion.
    Refuse,
}

/// TombstoneChild is an object of a town or agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TombstoneChild {
    /// kind is the kind of the object.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// name is the name of the object. The object is in the namespace of its owner; a volume has no namespace.
    #[schemars(length(max = 253))]
    pub name: String,
    /// uid is the UID of the object.
    #[schemars(length(max = 128))]
    pub uid: String,
}

/// KindCount is a number of objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KindCount {
    /// kind is the kind of the objects.
    pub kind: String,
    /// count is the number of objects of this kind.
    #[schemars(range(min = 0))]
    pub count: i32,
}

/// TombstoneStatus is the progress and the result of a destruction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TombstoneStatus {
    /// phase is the state of the destruction. Destroying: the destruction is not finished. Destroyed: every object is
    /// proven gone, or retained by its retainPolicy. Leaked: an administrator abandoned a step, so objects may still
    /// exist. Defaults to Destroying.
    #[serde(default)]
    pub phase: TombstonePhase,
    /// receipts lists the result for each object, at most 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub receipts: Vec<Receipt>,
    /// moreReceipts is the number of further receipts of each kind. It contains no abandoned object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub more_receipts: Vec<KindCount>,
}

/// phase is the state of a destruction.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TombstonePhase {
    /// The destruction is not finished.
    #[default]
    Destroying,
    /// Every object is proven gone, or retained by its retainPolicy.
    Destroyed,
    /// An administrator abandoned a step, so objects may still exist.
    Leaked,
}

impl TombstoneKind {
    /// The name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Town => "Town",
            Self::Agent => "Agent",
        }
    }
}

impl TombstonePhase {
    /// The name of the phase in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Destroying => "Destroying",
            Self::Destroyed => "Destroyed",
            Self::Leaked => "Leaked",
        }
    }
}

impl ReceiptOutcome {
    /// The name of the outcome in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "Gone",
            Self::NeverExisted => "NeverExisted",
            Self::Retained => "Retained",
            Self::Abandoned => "Abandoned",
        }
    }
}

/// Receipt is the result for one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// object is the object. It has no name and no UID if the receipt is for a whole kind.
    #[serde(flatten)]
    pub object: TombstoneChild,
    /// outcome is the result for the object. Gone: the object is proven gone. NeverExisted: the cluster does not have
    /// its kind. Retained: the object was kept by its retainPolicy, and the operator no longer manages it. Abandoned: an
    /// administrator abandoned the object, and it may still exist.
    pub outcome: ReceiptOutcome,
    /// time is the time at which the operator knew the result.
    pub time: Time,
}

/// outcome is the result for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReceiptOutcome {
    /// The object is proven gone.
    Gone,
    /// The cluster does not have the kind of the object.
    NeverExisted,
    /// The object was kept by its retainPolicy. The operator no longer manages it.
    Retained,
    /// An administrator abandoned the object. It may still exist.
    Abandoned,
}

/// TombstonePolicy configures the Tombstone of a town.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TombstonePolicy {
    /// retention is the time for which the Tombstone outlives the town, from 0s to 8760h. The operator shortens it to
    /// its flag --tombstone-max-retention, by default 168h, and then reports the reason RetentionClamped. Defaults to
    /// 168h.
    #[serde(default = "retention")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('8760h')").message("spec.tombstone.retention must be from 0s to 8760h, written like 30m or 168h"))]
    pub retention: Duration,
    /// recreate controls a new town of the same namespace and name while the Tombstone exists. Allow: the operator runs
    /// the new town, which adopts nothing of the old one. Refuse: the operator does not run the new town. Defaults to
    /// Allow.
    #[serde(default)]
    pub recreate: Recreate,
}

impl Default for TombstonePolicy {
    fn default() -> Self {
        Self { retention: retention(), recreate: Recreate::default() }
    }
}

fn retention() -> Duration {
    Duration::new("168h")
}
