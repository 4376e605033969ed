//! The owner of a child.

use serde_json::json;

use super::{AGENT, TOWN, agent, annotation, here, label, pod_of, pod_of_town, template, town};
use crate::api::names;
use crate::lifecycle::Uid;
use crate::resources::{Install, VolumeGroup, town_claim, town_pod, town_service, town_token};

#[test]
fn pod_has_labels_for_its_owners_and_its_installation() {
    let town = pod_of_town(json!({}));
    let agent = pod_of(&agent(json!({})));
    assert_eq!((label(&town, names::TOWN_UID), label(&town, names::AGENT_UID)), (TOWN, ""));
    assert_eq!((label(&agent, names::TOWN_UID), label(&agent, names::AGENT_UID)), (TOWN, AGENT));
    for pod in [&town, &agent] {
        assert_eq!(label(pod, names::INSTALL), "here");
        assert_eq!(label(pod, names::APP_MANAGED_BY), names::MANAGER);
        assert_eq!(label(pod, names::APP_NAME), "town");
        assert_eq!(pod.metadata.namespace.as_deref(), Some("ns"));
    }
    assert_eq!((label(&town, names::COMPONENT), label(&town, names::APP_COMPONENT)), ("town", "town"));
    assert_eq!((label(&agent, names::COMPONENT), label(&agent, names::APP_COMPONENT)), ("agent", "agent"));
    assert_eq!(annotation(&town, names::OWNER), "Town/ns/gas");
    assert_eq!(annotation(&agent, names::OWNER), "Agent/ns/toast");
}

#[test]
fn pod_name_consists_of_the_name_and_uid_of_its_owner() {
    assert_eq!(pod_of_town(json!({})).metadata.name.as_deref(), Some("gas-aaaaaaaa"));
    assert_eq!(pod_of(&agent(json!({}))).metadata.name.as_deref(), Some("toast-bbbbbbbb"));
}

// O1, P3: Argo CD prunes an object without an owner that has the name of its application in this label.
#[test]
fn child_has_no_instance_label() {
    let town = town(json!({"storage": {"size": "1Gi"}, "template": template(json!({}))}));
    let claim = town_claim(&town, &here()).unwrap().metadata;
    for labels in [claim.labels, pod_of_town(json!({})).metadata.labels] {
        assert!(!labels.unwrap().contains_key("app.kubernetes.io/instance"));
    }
}

// O2, P4: Velero restores the content of a backup; a restored pod would run beside the pod that the operator creates.
#[test]
fn backup_excludes_recreated_children_and_includes_claims() {
    let parts = json!({"template": template(json!({})), "storage": {"size": "1Gi"}, "activityProbe": {"port": 80},
        "ports": [{"name": "http", "port": 80}]});
    let town = town(parts);
    let pod = town_pod(&town, None, &here(), VolumeGroup::default()).unwrap().metadata;
    let service = town_service(&town, &here()).unwrap().metadata;
    let token = town_token(&town, &here(), "t").unwrap().metadata;
    for metadata in [pod, service, token] {
        assert_eq!(metadata.labels.unwrap()[names::EXCLUDE_FROM_BACKUP], "true");
    }
    let claim = town_claim(&town, &here()).unwrap().metadata;
    assert!(!claim.labels.unwrap().contains_key(names::EXCLUDE_FROM_BACKUP));
}

// A26.
#[test]
fn recommended_labels_of_a_template_are_kept() {
    let mut theirs = template(json!({}));
    theirs["metadata"] = json!({"labels": {
        "app.kubernetes.io/name": "shop", "app.kubernetes.io/component": "web", "app.kubernetes.io/instance": "one",
    }});
    let pod = pod_of_town(json!({"template": theirs}));
    assert_eq!(label(&pod, names::APP_NAME), "shop");
    assert_eq!(label(&pod, names::APP_COMPONENT), "web");
    assert_eq!(label(&pod, "app.kubernetes.io/instance"), "one");
    assert_eq!((label(&pod, names::COMPONENT), label(&pod, names::TOWN_UID)), ("town", TOWN));
}

// I-cross-namespace, I-block-owner-deletion: an ownerReference names an owner in the same namespace, and does not
// block its deletion.
#[test]
fn pod_owner_reference_is_the_controller_and_blocks_no_deletion() {
    for (pod, kind, name, uid) in
        [(pod_of_town(json!({})), "Town", "gas", TOWN), (pod_of(&agent(json!({}))), "Agent", "toast", AGENT)]
    {
        let owners = pod.metadata.owner_references.unwrap();
        let [owner] = &owners[..] else { panic!("{owners:?}") };
        assert_eq!((owner.kind.as_str(), owner.name.as_str(), owner.uid.as_str()), (kind, name, uid));
        assert_eq!(owner.api_version, "gastown.dev/v1alpha1");
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(false)));
    }
}

#[test]
fn template_cannot_set_another_owner() {
    let mut theirs = template(json!({}));
    theirs["metadata"] = json!({
        "labels": {names::TOWN_UID: "x", names::AGENT_UID: "x", names::INSTALL: "x", names::COMPONENT: "agent"},
        "annotations": {names::OWNER: "x", names::HOOK: "x", names::TOMBSTONE: "x"},
        "finalizers": ["x/x"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "x"}],
        "name": "x",
        "namespace": "x",
    });
    let town = pod_of_town(json!({"template": theirs}));
    assert_eq!((label(&town, names::TOWN_UID), label(&town, names::INSTALL)), (TOWN, "here"));
    assert_eq!(label(&town, names::AGENT_UID), "", "a town's pod is nobody's else");
    assert_eq!(label(&town, names::COMPONENT), "town");
    assert_eq!(annotation(&town, names::OWNER), "Town/ns/gas");
    assert_eq!((annotation(&town, names::HOOK), annotation(&town, names::TOMBSTONE)), ("", ""));
    let agent = pod_of(&agent(json!({"template": theirs, "hook": {"bead": "b1"}})));
    assert_eq!((label(&agent, names::TOWN_UID), label(&agent, names::AGENT_UID)), (TOWN, AGENT));
    assert!(annotation(&agent, names::HOOK).contains("b1"));
    for pod in [town, agent] {
        assert_eq!(pod.metadata.namespace.as_deref(), Some("ns"));
        assert_ne!(pod.metadata.name.as_deref(), Some("x"));
        assert_eq!(pod.metadata.owner_references.unwrap().len(), 1);
        assert!(!pod.metadata.finalizers.unwrap_or_default().contains(&"x/x".to_owned()));
    }
}

#[test]
fn install_label_has_its_id_and_eight_digits_of_the_cluster_uid() {
    let of = |uid: &str| Install::of("team-a", &Uid::new(uid)).map(|install| install.0);
    assert_eq!(of("0F1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0").as_deref(), Some("team-a.0f1e2d3c"));
    assert_eq!(of("0f1e2-d3c4").as_deref(), Some("team-a.0f1e2d3c"), "a hyphen is no digit");
    assert_eq!(of("0f1e2d3"), None, "seven digits do not tell clusters apart");
    let longest = "x".repeat(Install::LONGEST_ID);
    let label = Install::of(&longest, &Uid::new(TOWN)).unwrap().0;
    assert!(label.len() <= 63, "a label value holds 63 characters: {label}");
}

#[test]
fn install_id_has_no_dot_and_at_most_45_characters() {
    for id in ["a", "team-a", "0-9", &"x".repeat(45)] {
        assert_eq!(Install::id_error(id), None, "{id}");
    }
    for id in ["", "-a", "a-", "a.b", "a_b", "Team", "a b", "ä", &"x".repeat(46)] {
        let error = Install::id_error(id).expect(id);
        assert!(error.contains(&format!("'{id}'")) && error.contains("at most 45"), "{error}");
    }
}
