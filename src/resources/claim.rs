//! The volume claim of a town or an agent.
//!
//! It carries no ownerReference: the garbage collector knows nothing of the order in which a town is
//! destroyed. It goes by our own hand, and its absence is proven.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta::{Install, of_agent, of_town};
use crate::api::{AccessMode, Agent, Storage, Town};

/// The town's claim; `None` where its spec asks for none.
pub fn town_claim(town: &Town, install: &Install) -> Option<PersistentVolumeClaim> {
    Some(claim(of_town(town, install)?, town.spec.storage.as_ref()?))
}

/// The agent's claim; `None` where its spec asks for none, or while it is not bound.
pub fn agent_claim(agent: &Agent, install: &Install) -> Option<PersistentVolumeClaim> {
    Some(claim(of_agent(agent, install)?, agent.spec.storage.as_ref()?))
}

fn claim(metadata: ObjectMeta, storage: &Storage) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(
                storage
                    .access_modes
                    .iter()
                    .flatten()
                    .copied()
                    .map(AccessMode::as_str)
                    .map(str::to_owned)
                    .collect(),
            ),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: storage.size.clone().map(|size| BTreeMap::from([("storage".to_owned(), size)])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
