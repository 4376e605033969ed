//! Volume claims.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;

use super::{agent, here, pod_of, pod_of_town, town};
use crate::api::names;
use crate::resources::{agent_claim, town_claim};

fn claims() -> [PersistentVolumeClaim; 2] {
    let storage =
        json!({"storage": {"size": "2Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]}});
    let town = town_claim(&town(storage.clone()), &here()).unwrap();
    [town, agent_claim(&agent(storage), &here()).unwrap()]
}

#[test]
fn a_claim_is_what_was_asked_for_and_nobody_collects_it() {
    for claim in claims() {
        assert_eq!(claim.metadata.owner_references, None, "it goes by our own hand");
        assert_eq!(claim.metadata.finalizers, None);
        let spec = claim.spec.unwrap();
        assert_eq!(spec.storage_class_name.as_deref(), Some("fast"));
        assert_eq!(spec.access_modes.unwrap(), ["ReadWriteMany"]);
        assert_eq!(spec.resources.unwrap().requests.unwrap()["storage"].0, "2Gi");
    }
    let plain = town_claim(&town(json!({"storage": {"size": "1Gi"}})), &here()).unwrap().spec.unwrap();
    assert_eq!(
        (plain.storage_class_name, plain.access_modes.unwrap()),
        (None, vec!["ReadWriteOnce".to_owned()])
    );
}

#[test]
fn a_claim_has_the_name_and_the_labels_of_the_pod_that_mounts_it() {
    let pods = [pod_of_town(json!({})), pod_of(&agent(json!({})))];
    for (claim, pod) in claims().into_iter().zip(pods) {
        assert_eq!(claim.metadata.name, pod.metadata.name);
        let mut labels = pod.metadata.labels.unwrap();
        labels.remove(names::EXCLUDE_FROM_BACKUP);
        assert_eq!(claim.metadata.labels, Some(labels));
    }
}

#[test]
fn a_volume_starts_from_what_the_spec_names() {
    let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "monday"});
    let storage = json!({"storage": {"size": "1Gi", "dataSource": snapshot}});
    let claims = [town_claim(&town(storage.clone()), &here()), agent_claim(&agent(storage), &here())];
    for claim in claims {
        let source = claim.unwrap().spec.unwrap().data_source.unwrap();
        assert_eq!(source.api_group.as_deref(), Some("snapshot.storage.k8s.io"));
        assert_eq!((source.kind.as_str(), source.name.as_str()), ("VolumeSnapshot", "monday"));
    }
    let plain = town_claim(&town(json!({"storage": {"size": "1Gi"}})), &here()).unwrap();
    assert_eq!(plain.spec.unwrap().data_source, None);
}

#[test]
fn no_claim_is_made_beside_one_that_exists() {
    let storage = json!({"storage": {"existingClaimName": "theirs"}});
    assert_eq!(town_claim(&town(storage.clone()), &here()), None);
    assert_eq!(agent_claim(&agent(storage), &here()), None);
}
