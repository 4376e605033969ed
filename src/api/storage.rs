//! The storage of a town or an agent.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Storage configures a PersistentVolumeClaim. With `size` the operator creates a claim, and deletes it with its owner.
/// With `existingClaimName` the operator uses an existing claim, and never deletes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.size) != has(self.existingClaimName)").message("storage needs either size (the operator creates a claim) or existingClaimName (the operator uses an existing claim)"),
    validation = Rule::new("!has(self.existingClaimName) || !(has(self.storageClassName) || has(self.accessModes) || has(self.dataSource) || has(self.retainPolicy) || has(self.labels) || has(self.annotations))").message("storage with existingClaimName takes no storageClassName, accessModes, dataSource, retainPolicy, labels or annotations: the operator does not change or delete the claim"),
    validation = Rule::new("!has(self.accessModes) || self.accessModes.size() == 1 || !('ReadWriteOncePod' in self.accessModes)").message("storage.accessModes must name ReadWriteOncePod alone, or not at all"),
)]
pub struct Storage {
    /// size is the size of the volume, for example `1Gi`, greater than zero. It can be increased if the StorageClass
    /// allows it, and lowered to the capacity of the volume. Exactly one of size and existingClaimName is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))").message("size must be a quantity greater than 0, for example 1Gi"))]
    pub size: Option<Quantity>,
    /// storageClassName is the StorageClass of the volume. Defaults to the default class of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub storage_class_name: Option<String>,
    /// accessModes are the access modes of the volume. ReadWriteOnce: the pods of one node. ReadWriteOncePod: one single
    /// pod; no other mode may be set with it. ReadWriteMany: the pods of many nodes. Defaults to ReadWriteOnce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Option<Vec<AccessMode>>,
    /// retainPolicy is the action on the claim when its owner is destroyed. Delete: the operator deletes the claim.
    /// Retain: the claim stays without the labels of its owner, and another object can use it by `existingClaimName`.
    /// Defaults to Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_policy: Option<RetainPolicy>,
    /// dataSource is a VolumeSnapshot or another claim of the namespace with the initial content of the volume. Without
    /// it the volume starts empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source: Option<DataSource>,
    /// labels are copied to the claim, for example for tools that back up volumes or bill for them; at most 32. A later
    /// change is copied too. Keys under gastown.dev/ are not allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "copied_labels")]
    pub labels: Option<BTreeMap<String, String>>,
    /// annotations are copied to the claim as labels are; at most 32, each value at most 4096 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "copied_annotations")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// existingClaimName is the name of an existing claim in the namespace. The operator uses this claim, and never
    /// deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub existing_claim_name: Option<String>,
}

fn copied_labels(_: &mut SchemaGenerator) -> Schema {
    copied("labels", 63, r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
}

fn copied_annotations(_: &mut SchemaGenerator) -> Schema {
    copied("annotations", 4096, "")
}

/// A bounded map. The operator's own keys are no part of it: by those, claims are found and owned.
fn copied(field: &str, longest: u32, pattern: &str) -> Schema {
    let mut value = json!({"type": "string", "maxLength": longest});
    if !pattern.is_empty() {
        value["pattern"] = pattern.into();
    }
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": value,
        "x-kubernetes-validations": [{
            "rule": "self.all(key, !key.startsWith('gastown.dev/'))",
            "message": format!("storage.{field} must not have keys under gastown.dev/: the operator reserves them"),
        }],
    })
}

/// A rule for the change from an old object to a new one. The rule is at the root of the schema, because it needs the
/// status and the spec.
struct Transition {
    rule: &'static str,
    message: &'static str,
}

/// True after the operator has created a claim for the storage of the old spec. Before that a user can correct mistakes.
const CLAIM_IS_MADE: &str = "has(oldSelf.spec.storage) && has(oldSelf.spec.storage.size) && has(oldSelf.status) && \
     has(oldSelf.status.storage) && has(oldSelf.status.storage.uid)";

/// The parts of `spec.storage` that cannot be changed after the creation of the claim.
const ONCE_MADE: [Transition; 5] = [
    Transition {
        rule: "has(self.spec.storage) && has(self.spec.storage.size)",
        message: "spec.storage cannot be removed, or changed to existingClaimName, after the operator created its claim",
    },
    Transition {
        rule: "!has(self.spec.storage) || !has(self.spec.storage.size) || \
               quantity(string(self.spec.storage.size)).compareTo(quantity(string(oldSelf.spec.storage.size))) >= 0 || \
               (has(oldSelf.status.storage.capacity) && quantity(string(self.spec.storage.size)).compareTo(quantity(string(oldSelf.status.storage.capacity))) >= 0)",
        message: "storage.size can only be increased, or lowered to the capacity of the volume (status.storage.capacity), \
                  after the operator created its claim",
    },
    Transition {
        rule: "!has(self.spec.storage) || (has(self.spec.storage.storageClassName) == has(oldSelf.spec.storage.storageClassName) && \
               (!has(self.spec.storage.storageClassName) || self.spec.storage.storageClassName == oldSelf.spec.storage.storageClassName))",
        message: "storage.storageClassName cannot be changed after the operator created its claim",
    },
    Transition {
        rule: "!has(self.spec.storage) || (has(self.spec.storage.accessModes) ? self.spec.storage.accessModes : ['ReadWriteOnce']) == \
               (has(oldSelf.spec.storage.accessModes) ? oldSelf.spec.storage.accessModes : ['ReadWriteOnce'])",
        message: "storage.accessModes cannot be changed after the operator created its claim",
    },
    Transition {
        rule: "!has(self.spec.storage) || (has(self.spec.storage.dataSource) == has(oldSelf.spec.storage.dataSource) && \
               (!has(self.spec.storage.dataSource) || self.spec.storage.dataSource == oldSelf.spec.storage.dataSource))",
        message: "storage.dataSource cannot be changed after the operator created its claim",
    },
];

/// The rules of `spec.storage` of a Town or Agent.
pub(super) fn transitions() -> impl Iterator<Item = Value> {
    ONCE_MADE.iter().map(|Transition { rule, message }| {
        json!({"rule": format!("!({CLAIM_IS_MADE}) || ({rule})"), "message": message, "fieldPath": ".spec.storage"})
    })
}

impl Storage {
    /// The labels and annotations that the claim gets.
    pub fn copied(&self) -> Copied {
        Copied {
            labels: self.labels.clone().unwrap_or_default(),
            annotations: self.annotations.clone().unwrap_or_default(),
        }
    }

    /// True if the claim stays after the destruction of its owner.
    pub fn is_retained(&self) -> bool {
        self.retain_policy == Some(RetainPolicy::Retain)
    }
}

/// Labels and annotations of a claim that come from a spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// retainPolicy is the action on the claim when its owner is destroyed. Delete: the operator deletes the claim. Retain:
/// the claim stays without the labels of its owner, and another object can use it by `existingClaimName`. Defaults to
/// Delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetainPolicy {
    /// The operator deletes the claim.
    Delete,
    /// The claim stays.
    Retain,
}

/// DataSource is the source of a volume's initial content, as in a PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataSource {
    /// apiGroup is the API group of the kind, for example `snapshot.storage.k8s.io`. It is absent for a
    /// PersistentVolumeClaim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub api_group: Option<String>,
    /// kind is the kind of the source, for example `VolumeSnapshot`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// name is the name of the source.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An access mode of a volume: ReadWriteOnce, ReadWriteOncePod or ReadWriteMany.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// The pods of one node may mount the volume.
    ReadWriteOnce,
    /// A single pod may mount the volume.
    ReadWriteOncePod,
    /// The pods of many nodes may mount the volume.
    ReadWriteMany,
}

impl AccessMode {
    /// The name of the mode in the core API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}
