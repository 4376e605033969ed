//! The files in the file systems of containers.

use k8s_openapi::api::core::v1::{Pod, VolumeProjection};
use serde_json::{Value, json};

use super::{
    agent, annotation, at, containers, pod_in, pod_of, pod_of_town, spec, template, town, volume_at,
    with_init,
};
use crate::api::{Hook, names};
use crate::resources::{hook_annotation, token_secret_of};

/// The files at `/var/run/gastown`, the same in every container, as `path: source`.
fn files(pod: &Pod) -> Vec<String> {
    let mut seen: Vec<Vec<String>> = containers(pod)
        .map(|container| {
            let volume = volume_at(pod, container, "/var/run/gastown").projected.as_ref().unwrap();
            volume.sources.iter().flatten().flat_map(files_of).collect()
        })
        .collect();
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.swap_remove(0)
}

fn files_of(source: &VolumeProjection) -> Vec<String> {
    if let Some(secret) = &source.secret {
        assert_eq!(secret.optional, None, "without its token a pod would not be understood");
        let keys = secret.items.iter().flatten();
        return keys.map(|key| format!("{}: {}/{}", key.path, secret.name, key.key)).collect();
    }
    let fields = source.downward_api.iter().flat_map(|source| source.items.iter().flatten());
    fields.map(|file| format!("{}: {}", file.path, file.field_ref.as_ref().unwrap().field_path)).collect()
}

const HOOK_FILE: &str = "hook.json: metadata.annotations['gastown.dev/hook']";

#[test]
fn hook_file_follows_the_hook_annotation_of_the_pod() {
    let hook = json!({"bead": "b1", "title": "a \"title\"", "instructions": "do\nit"});
    let toast = agent(json!({"template": with_init(), "hook": hook}));
    let pod = pod_of(&toast);
    let annotated: Hook = serde_json::from_str(annotation(&pod, names::HOOK)).unwrap();
    assert_eq!(Some(&annotated), toast.spec.hook.as_ref(), "the whole hook");
    assert_eq!(annotation(&pod, names::HOOK), hook_annotation(&annotated));
    assert_eq!(files(&pod), [HOOK_FILE]);
    for container in containers(&pod) {
        let mount = &container.volume_mounts.as_ref().unwrap()[0];
        assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/var/run/gastown", Some(true)));
    }
    let idle = pod_of(&agent(json!({"role": "Crew", "hook": null})));
    assert_eq!(annotation(&idle, names::HOOK), "", "nothing on the hook, nothing annotated");
    assert_eq!(files(&idle), [HOOK_FILE], "but it may come");
}

#[test]
fn probed_pod_has_a_file_with_its_token() {
    let probe = |more: Value| {
        let mut probe = json!({"port": 80});
        super::merge(&mut probe, more);
        json!({"template": with_init(), "role": "Crew", "activityProbe": probe})
    };
    let own = probe(json!({}));
    assert_eq!(files(&pod_of_town(own.clone())), ["token: gas-aaaaaaaa/token"]);
    assert_eq!(files(&pod_of(&agent(own.clone()))), [HOOK_FILE, "token: toast-bbbbbbbb/token"]);
    let named = probe(json!({"tokenSecretName": "theirs"}));
    assert_eq!(files(&pod_of_town(named.clone())), ["token: theirs/token"]);
    assert_eq!(files(&pod_of(&agent(named.clone()))), [HOOK_FILE, "token: theirs/token"]);
    let unasked = pod_of_town(json!({}));
    // The pod shows which Secret that is.
    for (pod, secret) in [
        (pod_of_town(named), Some("theirs")),
        (pod_of(&agent(own)), Some("toast-bbbbbbbb")),
        (pod_of(&agent(json!({}))), None),
        (pod_of_town(json!({})), None),
    ] {
        assert_eq!(token_secret_of(spec(&pod)), secret);
    }
    assert_eq!(at(&spec(&unasked).containers[0], "/var/run/gastown"), None);
}

#[test]
fn agent_has_read_only_credentials_of_its_rig() {
    let rigs = json!([
        {"name": "rig", "credentialsSecretName": "deploy-key"},
        {"name": "other", "credentialsSecretName": "not-for-you"},
    ]);
    let town = town(json!({"rigs": rigs}));
    let pod = pod_in(&agent(json!({"template": with_init()})), &town);
    for container in containers(&pod) {
        let secret = volume_at(&pod, container, "/var/run/gastown/git").secret.as_ref().unwrap();
        assert_eq!(secret.secret_name.as_deref(), Some("deploy-key"));
        assert_eq!((&secret.items, secret.optional), (&None, None), "every key, and it must be there");
        let paths: Vec<&str> =
            container.volume_mounts.iter().flatten().map(|mount| mount.mount_path.as_str()).collect();
        assert_eq!(paths, ["/var/run/gastown", "/var/run/gastown/git"], "what holds a mount comes first");
        assert!(container.volume_mounts.iter().flatten().all(|mount| mount.read_only == Some(true)));
    }
    let other = pod_in(&agent(json!({"rig": "unlisted"})), &town);
    assert_eq!(at(&spec(&other).containers[0], "/var/run/gastown/git"), None);
}

#[test]
fn containers_mount_the_volume_of_their_owner() {
    for (storage, name_of_agents, name_of_towns) in [
        (json!({"size": "1Gi"}), "toast-bbbbbbbb", "gas-aaaaaaaa"),
        (json!({"existingClaimName": "theirs"}), "theirs", "theirs"),
    ] {
        let spec = json!({"template": with_init(), "storage": storage});
        for (pod, path, name) in [
            (pod_of_town(spec.clone()), "/town", name_of_towns),
            (pod_of(&agent(spec)), "/agent", name_of_agents),
        ] {
            for container in containers(&pod) {
                let claim = volume_at(&pod, container, path).persistent_volume_claim.as_ref().unwrap();
                assert_eq!((claim.claim_name.as_str(), claim.read_only), (name, None));
                let mount = container.volume_mounts.iter().flatten().find(|m| m.mount_path == path).unwrap();
                assert_eq!(mount.read_only, None);
            }
        }
    }
    let bare = pod_of_town(json!({"template": template(json!({}))}));
    assert_eq!(spec(&bare).volumes, None);
    assert_eq!(at(&spec(&bare).containers[0], "/town"), None);
}
