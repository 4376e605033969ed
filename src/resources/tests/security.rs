//! The defaults of pod security, and their precedence.

use k8s_openapi::api::core::v1::{Container, PodSecurityContext, SecurityContext};
use serde_json::{Value, json};

use super::{agent, containers, pod_of, pod_of_town, spec, template, town};
use crate::resources::{VolumeGroup, town_pod};

/// The security contexts of the pod and of its first container.
fn contexts(template_spec: Value) -> (PodSecurityContext, SecurityContext) {
    let pod = pod_of_town(json!({"template": template(template_spec)}));
    let spec = spec(&pod);
    (spec.security_context.clone().unwrap(), own(&spec.containers[0]))
}

fn own(container: &Container) -> SecurityContext {
    container.security_context.clone().unwrap_or_default()
}

/// The same for a container with this security context.
fn of_container(said: Value) -> SecurityContext {
    let container = json!({"name": "main", "image": "busybox", "securityContext": said});
    contexts(json!({"containers": [container]})).1
}

fn dropped(context: &SecurityContext) -> Vec<String> {
    context.capabilities.as_ref().and_then(|c| c.drop.clone()).unwrap_or_default()
}

#[test]
fn pod_without_a_security_context_is_restricted_in_every_container() {
    let sidecar = json!({"name": "beside", "image": "busybox", "restartPolicy": "Always"});
    let template = template(json!({"initContainers": [sidecar]}));
    for pod in [pod_of_town(json!({"template": template})), pod_of(&agent(json!({"template": template})))] {
        let context = spec(&pod).security_context.as_ref().unwrap();
        assert_eq!(context.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        assert_eq!(containers(&pod).count(), 2);
        for container in containers(&pod) {
            let own = own(container);
            assert_eq!(own.allow_privilege_escalation, Some(false));
            assert_eq!(own.run_as_non_root, Some(true));
            assert_eq!(dropped(&own), ["ALL"]);
            assert_eq!((own.privileged, own.run_as_user, own.seccomp_profile), (None, None, None));
        }
    }
}

#[test]
fn security_context_of_a_template_is_kept() {
    let (pod, own) = contexts(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}));
    assert_eq!(pod.seccomp_profile.unwrap().type_, "Unconfined");
    assert_eq!(own.allow_privilege_escalation, Some(false), "one word does not undo the others");
    let own = of_container(json!({
        "seccompProfile": {"type": "Unconfined"}, "allowPrivilegeEscalation": true, "runAsNonRoot": false,
        "capabilities": {"add": ["NET_ADMIN"]},
    }));
    assert_eq!(own.seccomp_profile.as_ref().unwrap().type_, "Unconfined");
    assert_eq!((own.allow_privilege_escalation, own.run_as_non_root), (Some(true), Some(false)));
    assert_eq!(dropped(&own), [""; 0]);
    assert_eq!(own.capabilities.unwrap().add.unwrap(), ["NET_ADMIN"]);
}

#[test]
fn run_as_non_root_follows_the_container_and_then_the_pod() {
    let non_root = |pod: Value, container: Value| {
        let container = json!({"name": "main", "image": "busybox", "securityContext": container});
        contexts(json!({"securityContext": pod, "containers": [container]})).1.run_as_non_root
    };
    assert_eq!(non_root(json!({}), json!({})), Some(true), "neither");
    assert_eq!(non_root(json!({"runAsUser": 0}), json!({})), None);
    assert_eq!(non_root(json!({}), json!({"runAsUser": 0})), None);
    assert_eq!(non_root(json!({"runAsUser": 7}), json!({"runAsUser": 0})), None);
    assert_eq!(non_root(json!({"runAsUser": 0}), json!({"runAsUser": 7})), Some(true));
    assert_eq!(non_root(json!({"runAsUser": 7}), json!({})), Some(true), "it is so already");
    assert_eq!(non_root(json!({"runAsNonRoot": false}), json!({})), None);
    assert_eq!(non_root(json!({"runAsNonRoot": true}), json!({})), None, "it is inherited");
    assert_eq!(non_root(json!({"runAsNonRoot": true}), json!({"runAsNonRoot": false})), Some(false));
}

#[test]
fn security_defaults_are_left_out_when_the_api_server_would_refuse_them() {
    assert_eq!(
        of_container(json!({"privileged": true})),
        SecurityContext { privileged: Some(true), ..SecurityContext::default() }
    );
    for capability in ["SYS_ADMIN", "CAP_SYS_ADMIN"] {
        let own = of_container(json!({"capabilities": {"add": ["CHOWN", capability]}}));
        assert_eq!(own.allow_privilege_escalation, None, "{capability}");
    }
    let other = of_container(json!({"privileged": false, "capabilities": {"add": ["CHOWN"]}}));
    assert_eq!(other.allow_privilege_escalation, Some(false));
}

#[test]
fn pod_gets_the_volume_group_only_without_its_own_security_context() {
    let group = |spec: Value| {
        let pod = pod_of_town(spec);
        let context = self::spec(&pod).security_context.clone().unwrap();
        (context.fs_group, context.fs_group_change_policy)
    };
    let ours = json!({"size": "1Gi"});
    let (id, policy) = group(json!({"storage": ours}));
    assert!(id.is_some_and(|id| id > 0));
    assert_eq!(policy.as_deref(), Some("OnRootMismatch"));
    let of_agent = pod_of(&agent(json!({"storage": ours})));
    assert_eq!(spec(&of_agent).security_context.as_ref().unwrap().fs_group, id);

    let nobody = (None, None);
    assert_eq!(group(json!({})), nobody, "no volume");
    assert_eq!(group(json!({"storage": {"existingClaimName": "theirs"}})), nobody, "not ours to change");
    for said in [json!({}), json!({"runAsUser": 7})] {
        let template = template(json!({"securityContext": said}));
        assert_eq!(group(json!({"storage": ours, "template": template})), nobody, "{said}");
    }
    let template = template(json!({"securityContext": {"fsGroup": 7}}));
    assert_eq!(group(json!({"storage": ours, "template": template})), (Some(7), None));
}

// C3: OpenShift refuses a group outside of the range of the namespace.
#[test]
fn volume_gets_no_group_when_the_installation_has_none() {
    let town = town(json!({"storage": {"size": "1Gi"}}));
    let pod = town_pod(&town, None, &super::here(), VolumeGroup(None)).unwrap();
    let context = spec(&pod).security_context.as_ref().unwrap();
    assert_eq!((context.fs_group, context.fs_group_change_policy.as_deref()), (None, None));
    assert_eq!(context.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
    assert_eq!(own(&spec(&pod).containers[0]).run_as_non_root, Some(true));
}

#[test]
fn windows_pod_gets_no_security_context() {
    let windows = |name: &str| {
        let template = template(json!({"os": {"name": name}}));
        town_pod(
            &town(json!({"template": template, "storage": {"size": "1Gi"}})),
            None,
            &super::here(),
            VolumeGroup::default(),
        )
        .unwrap()
    };
    let pod = windows("windows");
    assert_eq!(spec(&pod).security_context, None);
    assert!(containers(&pod).all(|container| container.security_context.is_none()));
    assert!(spec(&windows("linux")).security_context.is_some());
}
