//! Volume claims.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::json;

use super::{agent, here, pod_of, pod_of_town, town};
use crate::api::{Copied, Mode, names};
use crate::resources::{
    VolumeGroup, agent_claim, agent_pod, agent_revision, claim_marks, town_claim, town_pod, town_revision,
};

fn claims() -> [PersistentVolumeClaim; 2] {
    let storage =
        json!({"storage": {"size": "2Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]}});
    let town = town_claim(&town(storage.clone()), &here()).unwrap();
    [town, agent_claim(&agent(storage), &here()).unwrap()]
}

#[test]
fn claim_has_the_storage_of_the_spec_and_no_owner_reference() {
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
fn claim_has_the_name_and_the_labels_of_the_pod_that_mounts_it() {
    let pods = [pod_of_town(json!({})), pod_of(&agent(json!({})))];
    for (claim, pod) in claims().into_iter().zip(pods) {
        assert_eq!(claim.metadata.name, pod.metadata.name);
        let mut labels = pod.metadata.labels.unwrap();
        labels.remove(names::EXCLUDE_FROM_BACKUP);
        assert_eq!(claim.metadata.labels, Some(labels));
    }
}

#[test]
fn claim_gets_the_labels_and_annotations_of_the_spec_beside_the_operators_own() {
    let storage = json!({"storage": {"size": "1Gi", "labels": {"team": "ours", "app.kubernetes.io/managed-by": "x"},
        "annotations": {"cost": "1"}}});
    let spec = town(storage);
    let claim = town_claim(&spec, &here()).unwrap();
    let (labels, annotations) = (claim.metadata.labels.unwrap(), claim.metadata.annotations.unwrap());
    assert_eq!((labels["team"].as_str(), annotations["cost"].as_str()), ("ours", "1"));
    assert_eq!(labels[names::APP_MANAGED_BY], names::MANAGER, "the operator's own label stays");
    let mark = annotations[names::COPIED].clone();

    // The copied label has another value, and a key has left the spec. The mark can contain any text from its author.
    let copied = Copied { labels: [("team".to_owned(), "theirs".to_owned())].into(), ..Copied::default() };
    let forged = format!("{mark},l:{},a:{}", names::TOWN_UID, names::RETAIN);
    let change = claim_marks(true, &copied, Some(&forged));
    assert_eq!(change["labels"], json!({"team": "theirs"}));
    let annotations = change["annotations"].as_object().unwrap();
    assert_eq!((&annotations["cost"], &annotations[names::RETAIN]), (&json!(null), &json!("true")));
    assert_ne!(annotations[names::COPIED], json!(mark));
    let none = claim_marks(false, &Copied::default(), annotations[names::COPIED].as_str());
    assert_eq!(
        (&none["labels"], &none["annotations"][names::COPIED]),
        (&json!({"team": null}), &json!(null))
    );
}

// code.md B1: another version of the operator may have given the claim a name by another rule.
#[test]
fn pod_mounts_the_recorded_claim_when_the_default_name_differs() {
    let storage = json!({"storage": {"size": "1Gi"}});
    let (gas, toast) = (town(storage.clone()), agent(storage));
    let group = VolumeGroup::default();
    let mounted = |pod: &Pod| -> Vec<String> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        volumes
            .filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone()))
            .collect()
    };
    let older = Some("older-name");
    let pods = [
        town_pod(&gas, older, &here(), group).unwrap(),
        agent_pod(&toast, Mode::Task, &gas, older, &here(), group).unwrap(),
    ];
    for pod in &pods {
        assert_eq!(mounted(pod), ["older-name"]);
        let security = pod.spec.as_ref().unwrap().security_context.as_ref().unwrap();
        assert_eq!(security.fs_group, group.0, "the volume is ours under whatever name");
    }
    let revision = |pod: &Pod| pod.metadata.annotations.as_ref().unwrap()[names::POD_REVISION].clone();
    assert_eq!(revision(&pods[0]), town_revision(&gas, older));
    assert_eq!(revision(&pods[1]), agent_revision(&toast, &gas, older));
    let named = town(json!({"storage": {"existingClaimName": "data"}}));
    assert_eq!(mounted(&town_pod(&named, older, &here(), group).unwrap()), ["data"]);
    let rule = town_claim(&gas, &here()).unwrap().metadata.name.unwrap();
    let revisions = [None, Some(rule.as_str())].map(|claim| town_revision(&gas, claim));
    assert_eq!(revisions[0], revisions[1], "a claim that is made changes no revision");
}

// code.md A35.
#[test]
fn claim_has_the_retain_annotation_when_the_spec_retains_it() {
    for (policy, said) in [(json!("Retain"), Some("true")), (json!("Delete"), None), (json!(null), None)] {
        let storage = json!({"storage": {"size": "1Gi", "retainPolicy": policy}});
        for claim in [town_claim(&town(storage.clone()), &here()), agent_claim(&agent(storage), &here())] {
            let annotations = claim.unwrap().metadata.annotations.unwrap();
            assert_eq!(annotations.get(names::RETAIN).map(String::as_str), said, "{policy}");
        }
    }
}

#[test]
fn built_claim_has_the_data_source_of_the_spec() {
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
fn claim_is_not_built_when_the_spec_names_an_existing_one() {
    let storage = json!({"storage": {"existingClaimName": "theirs"}});
    assert_eq!(town_claim(&town(storage.clone()), &here()), None);
    assert_eq!(agent_claim(&agent(storage), &here()), None);
}
