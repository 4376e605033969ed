//! What children look like.

use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, Pod, PodSpec};
use serde_json::{Value, json};

use super::{Install, agent_claim, agent_pod, hook_annotation, town_claim, town_pod};
use crate::api::{Agent, Hook, Mode, Town, names};
use crate::lifecycle::mode;

const TOWN: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const AGENT: &str = "bbbbbbbb-0000-4000-8000-000000000000";

fn here() -> Install {
    Install("here".into())
}

fn template(spec: Value) -> Value {
    let mut template = json!({"spec": {"containers": [{"name": "main", "image": "busybox"}]}});
    merge(&mut template["spec"], spec);
    template
}

fn merge(into: &mut Value, from: Value) {
    if let Value::Object(from) = from {
        for (key, value) in from {
            into[key] = value;
        }
    }
}

fn town(spec: Value) -> Town {
    let mut all = json!({"template": template(json!({})), "agentTemplate": template(json!({}))});
    merge(&mut all, spec);
    let metadata = json!({"name": "gas", "namespace": "ns", "uid": TOWN});
    let object =
        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": metadata, "spec": all});
    serde_json::from_value(object).unwrap()
}

fn agent(spec: Value) -> Agent {
    let mut all = json!({"town": "gas", "role": "polecat", "rig": "rig", "hook": {"bead": "b1"}});
    merge(&mut all, spec);
    let metadata =
        json!({"name": "toast", "namespace": "ns", "uid": AGENT, "labels": {names::TOWN_UID: TOWN}});
    let object =
        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": all});
    serde_json::from_value(object).unwrap()
}

fn pod_of_town(spec: Value) -> Pod {
    town_pod(&town(spec), &here()).unwrap()
}

fn pod_of(agent: &Agent) -> Pod {
    agent_pod(agent, mode(agent), &town(json!({})), &here()).unwrap()
}

fn label<'a>(pod: &'a Pod, key: &str) -> &'a str {
    pod.metadata.labels.as_ref().and_then(|l| l.get(key)).map_or("", String::as_str)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> &'a str {
    pod.metadata.annotations.as_ref().and_then(|a| a.get(key)).map_or("", String::as_str)
}

fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap()
}

fn env<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.env.iter().flatten().find(|e| e.name == name).and_then(|e| e.value.as_deref())
}

/// The volume that a container finds at a path.
fn at<'a>(container: &'a Container, path: &str) -> Option<&'a str> {
    container.volume_mounts.iter().flatten().find(|m| m.mount_path == path).map(|m| m.name.as_str())
}

#[test]
fn every_child_can_be_found_by_the_uids_of_its_owners_and_by_who_made_it() {
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
    assert_eq!((label(&town, names::APP_INSTANCE), label(&town, names::APP_COMPONENT)), ("gas", "town"));
    assert_eq!((label(&agent, names::APP_INSTANCE), label(&agent, names::APP_COMPONENT)), ("toast", "agent"));
    assert_eq!(annotation(&town, names::OWNER), "Town/ns/gas");
    assert_eq!(annotation(&agent, names::OWNER), "Agent/ns/toast");
}

#[test]
fn names_are_made_of_the_owners_name_and_uid() {
    assert_eq!(pod_of_town(json!({})).metadata.name.as_deref(), Some("gas-aaaaaaaa"));
    assert_eq!(pod_of(&agent(json!({}))).metadata.name.as_deref(), Some("toast-bbbbbbbb"));
}

#[test]
fn a_long_name_is_cut_to_what_a_label_holds() {
    let mut long = town(json!({}));
    long.metadata.name = Some(format!("{}.{}", "x".repeat(62), "y".repeat(100)));
    let pod = town_pod(&long, &here()).unwrap();
    assert_eq!(label(&pod, names::APP_INSTANCE), "x".repeat(62), "and does not end in a dot");
}

#[test]
fn a_pod_is_collected_with_its_owner_and_does_not_hold_it() {
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
        assert_eq!(claim.metadata.labels, pod.metadata.labels);
    }
}

#[test]
fn nothing_is_built_that_was_not_asked_for_or_has_no_owner() {
    let bare = town(json!({"template": null, "agentTemplate": null}));
    assert_eq!(town_pod(&bare, &here()), None);
    assert_eq!(town_claim(&bare, &here()), None);
    let toast = agent(json!({}));
    assert_eq!(agent_pod(&toast, Mode::Task, &bare, &here()), None, "no template");
    assert_eq!(agent_claim(&toast, &here()), None);
    let mut unbound = agent(json!({"storage": {"size": "1Gi"}}));
    unbound.metadata.labels = None;
    assert_eq!(agent_pod(&unbound, Mode::Task, &town(json!({})), &here()), None);
    assert_eq!(agent_claim(&unbound, &here()), None);
}

#[test]
fn an_agents_own_template_comes_before_the_towns() {
    let own = json!({"spec": {"containers": [{"name": "own", "image": "own"}]}});
    assert_eq!(spec(&pod_of(&agent(json!({"template": own})))).containers[0].name, "own");
    assert_eq!(spec(&pod_of(&agent(json!({})))).containers[0].name, "main");
}

#[test]
fn containers_learn_who_they_are_and_what_to_do() {
    let init = json!({"initContainers": [{"name": "init", "image": "busybox"}]});
    let toast = agent(json!({"template": template(init), "identity": "toast-the-first"}));
    let pod = pod_of(&toast);
    let spec = spec(&pod);
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        for (name, value) in [
            ("GASTOWN_TOWN", "gas"),
            ("GASTOWN_AGENT", "toast"),
            ("GASTOWN_IDENTITY", "toast-the-first"),
            ("GASTOWN_ROLE", "polecat"),
            ("GASTOWN_RIG", "rig"),
            ("GASTOWN_BEAD", "b1"),
        ] {
            assert_eq!(env(container, name), Some(value), "{name} in {}", container.name);
        }
    }
    let mayor = pod_of(&agent(json!({"role": "mayor", "rig": null})));
    let container = &self::spec(&mayor).containers[0];
    assert_eq!(env(container, "GASTOWN_IDENTITY"), Some("toast"), "the name, where no identity is given");
    assert_eq!(env(container, "GASTOWN_RIG"), None);
    assert_eq!(env(container, "GASTOWN_BEAD"), None, "it changes while a Session pod runs: see hook.json");
    assert_eq!(env(&self::spec(&pod_of_town(json!({}))).containers[0], "GASTOWN_TOWN"), Some("gas"));
}

#[test]
fn a_task_pod_runs_once_and_does_not_vanish_unread() {
    let pod = pod_of(&agent(json!({})));
    assert_eq!(spec(&pod).restart_policy.as_deref(), Some("Never"));
    assert_eq!(pod.metadata.finalizers.as_deref(), Some(&[names::RESULT_FINALIZER.to_owned()][..]));
    for pod in [pod_of(&agent(json!({"role": "crew"}))), pod_of_town(json!({}))] {
        assert_eq!(spec(&pod).restart_policy, None);
        assert_eq!(pod.metadata.finalizers, None);
    }
}

#[test]
fn the_hook_is_a_file_that_follows_the_pods_annotation() {
    let init = json!({"initContainers": [{"name": "init", "image": "busybox"}]});
    let hook = json!({"bead": "b1", "title": "a \"title\"", "instructions": "do\nit"});
    let toast = agent(json!({"template": template(init), "hook": hook}));
    let pod = pod_of(&toast);
    let annotated: Hook = serde_json::from_str(annotation(&pod, names::HOOK)).unwrap();
    assert_eq!(Some(&annotated), toast.spec.hook.as_ref(), "the whole hook");
    assert_eq!(annotation(&pod, names::HOOK), hook_annotation(&annotated));
    let spec = spec(&pod);
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let mount = &container.volume_mounts.as_ref().unwrap()[0];
        assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/var/run/gastown", Some(true)));
        let volume = spec.volumes.iter().flatten().find(|v| v.name == mount.name).unwrap();
        let file = &volume.downward_api.as_ref().unwrap().items.as_ref().unwrap()[0];
        assert_eq!(file.path, "hook.json");
        assert_eq!(file.field_ref.as_ref().unwrap().field_path, "metadata.annotations['gastown.dev/hook']");
    }
    let idle = pod_of(&agent(json!({"role": "crew", "hook": null})));
    assert_eq!(annotation(&idle, names::HOOK), "", "nothing on the hook, nothing annotated");
    assert_eq!(at(&self::spec(&idle).containers[0], "/var/run/gastown"), Some("gastown"), "but it may come");
}

#[test]
fn every_container_finds_its_owners_volume() {
    let storage = json!({"size": "1Gi"});
    let init = || template(json!({"initContainers": [{"name": "init", "image": "busybox"}]}));
    for (pod, path) in [
        (pod_of_town(json!({"template": init(), "storage": storage})), "/town"),
        (pod_of(&agent(json!({"template": init(), "storage": storage}))), "/agent"),
    ] {
        let spec = spec(&pod);
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let volume = at(container, path).unwrap();
            let volume = spec.volumes.iter().flatten().find(|v| v.name == volume).unwrap();
            assert_eq!(
                Some(&volume.persistent_volume_claim.as_ref().unwrap().claim_name),
                pod.metadata.name.as_ref()
            );
        }
    }
    let bare = pod_of_town(json!({}));
    assert_eq!(spec(&bare).volumes, None);
    assert_eq!(at(&spec(&bare).containers[0], "/town"), None);
}

#[test]
fn no_api_token_unless_somebody_asks_for_one() {
    for pod in [pod_of_town(json!({})), pod_of(&agent(json!({})))] {
        assert_eq!(spec(&pod).automount_service_account_token, Some(false));
    }
    let asked = json!({"template": template(json!({"automountServiceAccountToken": true}))});
    assert_eq!(spec(&pod_of_town(asked)).automount_service_account_token, Some(true));
}

/// A template in which a person has used every name that we would.
fn crowded() -> Value {
    json!({
        "metadata": {"labels": {"app": "theirs"}, "annotations": {"note": "theirs"}},
        "spec": {
            "containers": [{
                "name": "main",
                "image": "busybox",
                "env": [{"name": "GASTOWN_ROLE", "value": "theirs"}, {"name": "MINE", "value": "1"}],
                "volumeMounts": [
                    {"name": "mine", "mountPath": "/agent/"},
                    {"name": "mine", "mountPath": "/var/run/gastown"},
                ],
            }],
            "volumes": [
                {"name": "mine", "emptyDir": {}},
                {"name": "gastown", "emptyDir": {}},
                {"name": "agent-storage", "emptyDir": {}},
            ],
            "terminationGracePeriodSeconds": 7,
            "nodeSelector": {"disk": "fast"},
        },
    })
}

#[test]
fn what_a_person_wrote_into_the_template_stays() {
    let pod = pod_of(&agent(json!({"template": crowded(), "storage": {"size": "1Gi"}})));
    let spec = spec(&pod);
    let container = &spec.containers[0];
    assert_eq!((label(&pod, "app"), annotation(&pod, "note")), ("theirs", "theirs"));
    assert_eq!(env(container, "GASTOWN_ROLE"), Some("theirs"));
    assert_eq!((env(container, "MINE"), env(container, "GASTOWN_TOWN")), (Some("1"), Some("gas")));
    assert_eq!((at(container, "/agent/"), at(container, "/agent")), (Some("mine"), None));
    assert_eq!(at(container, "/var/run/gastown"), Some("mine"));
    assert_eq!(container.volume_mounts.as_ref().unwrap().len(), 2);
    let volumes = spec.volumes.as_ref().unwrap();
    assert_eq!(volumes.len(), 3);
    assert!(volumes.iter().all(|v| v.empty_dir.is_some()), "{volumes:?}");
    assert_eq!(spec.termination_grace_period_seconds, Some(7));
    assert_eq!(spec.node_selector.as_ref().unwrap()["disk"], "fast");
}

#[test]
fn nobody_can_claim_another_owner_by_a_template() {
    let mut theirs = template(json!({}));
    theirs["metadata"] = json!({
        "labels": {names::TOWN_UID: "x", names::AGENT_UID: "x", names::INSTALL: "x", names::APP_MANAGED_BY: "x"},
        "annotations": {names::OWNER: "x", names::HOOK: "x", names::TOMBSTONE: "x"},
        "finalizers": ["x/x"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "x"}],
        "name": "x",
        "namespace": "x",
    });
    let town = pod_of_town(json!({"template": theirs}));
    assert_eq!((label(&town, names::TOWN_UID), label(&town, names::INSTALL)), (TOWN, "here"));
    assert_eq!(label(&town, names::AGENT_UID), "", "a town's pod is nobody's else");
    assert_eq!(label(&town, names::APP_MANAGED_BY), names::MANAGER);
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
