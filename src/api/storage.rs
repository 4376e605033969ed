//! What a town or an agent asks of its volume.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A PersistentVolumeClaim: one that the operator makes and that goes with its owner (`size`), or one that
/// exists and is never deleted (`existingClaim`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.size) != has(self.existingClaim)").message("storage needs either size (a claim is made) or existingClaim (one that exists is used)"),
    validation = Rule::new("!has(self.existingClaim) || !(has(self.storageClassName) || has(self.accessModes) || has(self.dataSource) || has(self.retainPolicy))").message("storage with existingClaim takes no storageClassName, accessModes, dataSource or retainPolicy: the claim is used as it is, and never deleted"),
    validation = Rule::new("has(self.size) == has(oldSelf.size) && (!has(self.size) || quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0)").message("storage.size can only grow, and stay where it is set"),
    validation = Rule::new("has(self.existingClaim) == has(oldSelf.existingClaim) && (!has(self.existingClaim) || self.existingClaim == oldSelf.existingClaim)").message("storage.existingClaim cannot be changed once it is set"),
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("storage.storageClassName cannot be changed once storage is set"),
    validation = Rule::new("has(self.accessModes) == has(oldSelf.accessModes) && (!has(self.accessModes) || self.accessModes == oldSelf.accessModes)").message("storage.accessModes cannot be changed once storage is set"),
    validation = Rule::new("has(self.dataSource) == has(oldSelf.dataSource) && (!has(self.dataSource) || self.dataSource == oldSelf.dataSource)").message("storage.dataSource cannot be changed once storage is set"),
)]
pub struct Storage {
    /// Size of the volume, for example `1Gi`; greater than zero. It can grow, where the StorageClass allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("quantity(string(self)).isGreaterThan(quantity('0'))").message("size must be a quantity greater than 0, for example 1Gi"))]
    pub size: Option<Quantity>,
    /// StorageClass of the volume; the cluster's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Access modes of the volume; ReadWriteOnce where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Option<Vec<AccessMode>>,
    /// What becomes of the claim when its owner is destroyed; Delete where absent. Retain: it stays, no longer
    /// marked as the owner's, and can be used again by `existingClaim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_policy: Option<RetainPolicy>,
    /// A VolumeSnapshot or another claim of the namespace that the volume starts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source: Option<DataSource>,
    /// Name of a claim of the namespace that is used instead of one of our own. It is never deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub existing_claim: Option<String>,
}

impl Storage {
    /// Whether the claim outlives its owner.
    pub fn is_retained(&self) -> bool {
        self.retain_policy == Some(RetainPolicy::Retain)
    }
}

/// What becomes of a claim when its owner is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RetainPolicy {
    /// It goes too.
    Delete,
    /// It stays.
    Retain,
}

/// What a volume starts from, as in a PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataSource {
    /// API group of the kind, for example `snapshot.storage.k8s.io`; absent for a PersistentVolumeClaim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub api_group: Option<String>,
    /// Kind, for example `VolumeSnapshot`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// How a volume may be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// By the pods of one node.
    ReadWriteOnce,
    /// By one pod alone.
    ReadWriteOncePod,
    /// By pods of many nodes.
    ReadWriteMany,
}

impl AccessMode {
    /// The mode's name in the core API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
            Self::ReadWriteMany => "ReadWriteMany",
        }
    }
}
