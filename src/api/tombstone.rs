//! The `Tombstone`: what remains of a destroyed town or agent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// What remains of a destroyed town or agent: the proof of what became of each of its objects, and the guard
/// that nothing brings it back. The operator writes it before anything is destroyed; nobody else needs to.
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
    doc = "What remains of a destroyed town or agent: the proof of what became of each of its objects, and the guard that nothing brings it back.",
    printcolumn(
        name = "Kind",
        type_ = "string",
        json_path = ".spec.kind",
        description = "What was destroyed"
    ),
    printcolumn(
        name = "Namespace",
        type_ = "string",
        json_path = ".spec.namespace",
        description = "Namespace of what was destroyed"
    ),
    printcolumn(
        name = "Object",
        type_ = "string",
        json_path = ".spec.name",
        description = "Name of what was destroyed"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Destroying, Destroyed, or Leaked if an administrator gave something up"
    ),
    printcolumn(
        name = "Deleted",
        type_ = "date",
        json_path = ".spec.deleteTime",
        description = "Since when it is being destroyed"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Cause",
        type_ = "string",
        json_path = ".spec.cause",
        priority = 1,
        description = "Why it was destroyed"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".spec.expireTime",
        priority = 1,
        description = "When this record goes, if nothing is left by then"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TombstoneSpec {
    /// What was destroyed.
    pub kind: TombstoneKind,
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// namespaceUID is the UID of its namespace. The record forbids nothing in another namespace that has this name
    /// later. Absent in records of older versions, and where the namespace was gone already: such a record concerns
    /// every namespace of this name.
    #[serde(default, rename = "namespaceUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub namespace_uid: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(min = 1, max = 128))]
    pub uid: String,
    /// When its destruction began.
    pub delete_time: Time,
    /// Why.
    pub cause: Cause,
    /// Whether a new town may take its namespace and name while this record is there.
    #[serde(default)]
    pub recreate: Recreate,
    /// When this record goes, if nothing is left by then.
    pub expire_time: Time,
    /// What it had when its destruction began: at most 3,500 claims and volumes, and at most 500 other objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4000))]
    pub children: Vec<TombstoneChild>,
    /// How many more there were of each kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub more_children: Vec<KindCount>,
}

/// What can have a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TombstoneKind {
    /// A town.
    Town,
    /// An agent that was deleted alone.
    Agent,
}

/// Why something was destroyed. Who did it, the audit log of the API server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Cause {
    /// Somebody deleted it.
    Deleted,
    /// Its `spec.expiry` was past, with the policy Destroy.
    Expiry,
    /// The town does not list the agent's rig any more.
    RigRemoved,
    /// Its `spec.ttlAfterFinished` was over.
    TTL,
    /// Its namespace was deleted.
    Namespace,
}

/// Whether the name of a destroyed town may be taken again while its record is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Recreate {
    /// A new town may have it. It adopts nothing of the old one.
    #[default]
    Allow,
    /// A new town of that name is not run: for tools that bring back what a person has just destroyed.
    Refuse,
}

/// An object that a town or agent had.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TombstoneChild {
    /// Its kind.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its name. Its namespace is that of its owner; a volume has none.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 128))]
    pub uid: String,
}

/// A number of objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KindCount {
    /// The kind.
    pub kind: String,
    /// How many.
    #[schemars(range(min = 0))]
    pub count: i32,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TombstoneStatus {
    /// Where its destruction stands.
    #[serde(default)]
    pub phase: TombstonePhase,
    /// What became of each object; at most 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub receipts: Vec<Receipt>,
    /// How many more receipts there are of each kind. None of those was given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub more_receipts: Vec<KindCount>,
}

/// Where a destruction stands.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TombstonePhase {
    /// It is under way.
    #[default]
    Destroying,
    /// Everything is proven gone, or was retained as its spec asks.
    Destroyed,
    /// An administrator gave something up: it may still be there.
    Leaked,
}

impl TombstoneKind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Town => "Town",
            Self::Agent => "Agent",
        }
    }
}

impl TombstonePhase {
    /// The phase's name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Destroying => "Destroying",
            Self::Destroyed => "Destroyed",
            Self::Leaked => "Leaked",
        }
    }
}

impl ReceiptOutcome {
    /// The outcome's name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "Gone",
            Self::NeverExisted => "NeverExisted",
            Self::Retained => "Retained",
            Self::Abandoned => "Abandoned",
        }
    }
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The object; without a name and a UID where a whole kind is meant.
    #[serde(flatten)]
    pub object: TombstoneChild,
    /// What became of it.
    pub outcome: ReceiptOutcome,
    /// When that was known.
    pub time: Time,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReceiptOutcome {
    /// It is proven gone.
    Gone,
    /// Its kind does not exist in this cluster.
    NeverExisted,
    /// It was let go on purpose, and is nobody's now.
    Retained,
    /// An administrator gave it up: it may still be there.
    Abandoned,
}

/// How long the record of a town outlives it, and what it forbids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TombstonePolicy {
    /// How long the Tombstone outlives the town, from 0s to 8760h. The operator keeps it no longer than its own bound
    /// (--tombstone-max-retention, 168h if it was not changed), and a town that asks for more says RetentionClamped.
    #[serde(default = "retention")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('8760h')").message("spec.tombstone.retention must be from 0s to 8760h, written like 30m or 168h"))]
    pub retention: Duration,
    /// Whether a new town may take the namespace and name of this one while its Tombstone is there.
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
