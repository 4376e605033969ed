//! Pods: the use of the template.

use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    agent, annotation, at, containers, env, here, label, pod_in, pod_of, pod_of_town, spec, template, town,
    with_init,
};
use crate::api::{Agent, Mode, Town, names};
use crate::resources::{
    VolumeGroup, agent_claim, agent_pod, agent_revision, town_claim, town_pod, town_revision, town_service,
};

#[test]
fn pod_and_claim_are_not_built_without_a_spec_or_an_owner() {
    let bare = town(json!({"template": null, "agentTemplate": null}));
    assert_eq!(town_pod(&bare, None, &here(), VolumeGroup::default()), None);
    assert_eq!(town_claim(&bare, &here()), None);
    let toast = agent(json!({}));
    assert_eq!(
        agent_pod(&toast, Mode::Task, &bare, None, &here(), VolumeGroup::default()),
        None,
        "no template"
    );
    assert_eq!(agent_claim(&toast, &here()), None);
    let mut unbound = agent(json!({"storage": {"size": "1Gi"}}));
    unbound.metadata.labels = None;
    assert_eq!(
        agent_pod(&unbound, Mode::Task, &town(json!({})), None, &here(), VolumeGroup::default()),
        None
    );
    assert_eq!(agent_claim(&unbound, &here()), None);
}

#[test]
fn agent_template_overrides_the_agent_template_of_the_town() {
    let own = json!({"spec": {"containers": [{"name": "own", "image": "own"}]}});
    assert_eq!(spec(&pod_of(&agent(json!({"template": own})))).containers[0].name, "own");
    assert_eq!(spec(&pod_of(&agent(json!({})))).containers[0].name, "main");
}

#[test]
fn containers_have_variables_with_identity_and_bead() {
    let toast = agent(json!({"template": with_init(), "identity": "toast-the-first"}));
    let pod = pod_of(&toast);
    let uid = toast.metadata.uid.clone().unwrap();
    for container in containers(&pod) {
        // Issue 11, item 10: an activity answer names the agent by its UID.
        assert_eq!(env(container, "GASTOWN_AGENT_UID"), Some(uid.as_str()));
        assert_eq!(
            env(container, "GASTOWN_TOWN_UID"),
            pod.metadata.labels.as_ref().unwrap().get(names::TOWN_UID).map(String::as_str)
        );
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
    let mayor = pod_of(&agent(json!({"role": "Mayor", "rig": null})));
    let container = &spec(&mayor).containers[0];
    assert_eq!(env(container, "GASTOWN_IDENTITY"), Some("toast"), "the name, where no identity is given");
    for unset in ["GASTOWN_RIG", "GASTOWN_RIG_URL", "GASTOWN_RIG_BRANCH", "GASTOWN_TOWN_HOST"] {
        assert_eq!(env(container, unset), None);
    }
    assert_eq!(env(container, "GASTOWN_BEAD"), None, "it changes while a Session pod runs: see hook.json");
    assert_eq!(env(&spec(&pod_of_town(json!({}))).containers[0], "GASTOWN_TOWN"), Some("gas"));
}

#[test]
fn agent_has_variables_with_its_rig_and_the_host_of_its_town() {
    let rigs = json!([
        {"name": "other", "gitUrl": "https://git.test/other", "branch": "x"},
        {"name": "rig", "gitUrl": "https://git.test/rig", "branch": "trunk"},
    ]);
    let town = town(json!({"rigs": rigs, "ports": [{"name": "http", "port": 80}]}));
    let pod = pod_in(&agent(json!({"template": with_init()})), &town);
    for container in containers(&pod) {
        assert_eq!(env(container, "GASTOWN_RIG_URL"), Some("https://git.test/rig"));
        assert_eq!(env(container, "GASTOWN_RIG_BRANCH"), Some("trunk"));
        let service = town_service(&town, &here()).unwrap().metadata;
        let host = format!("{}.{}.svc", service.name.unwrap(), service.namespace.unwrap());
        assert_eq!(env(container, "GASTOWN_TOWN_HOST"), Some(host.as_str()));
    }
}

#[test]
fn pod_has_annotations_with_its_revision_and_restart_request() {
    let mut gas = town(json!({}));
    let mut toast = agent(json!({}));
    let pods = |gas: &Town, toast: &Agent| {
        [town_pod(gas, None, &here(), VolumeGroup::default()).unwrap(), pod_in(toast, gas)]
    };
    let [of_town, of_agent] = pods(&gas, &toast);
    assert_eq!(annotation(&of_town, names::POD_REVISION), town_revision(&gas, None));
    assert_eq!(annotation(&of_agent, names::POD_REVISION), agent_revision(&toast, &gas, None));
    for pod in [of_town, of_agent] {
        assert!(!pod.metadata.annotations.unwrap().contains_key(names::RESTART_AT), "nobody asked for it");
    }

    gas.annotations_mut().insert(names::RESTART_AT.into(), "noon".into());
    toast.annotations_mut().insert(names::RESTART_AT.into(), "night".into());
    let [of_town, of_agent] = pods(&gas, &toast);
    assert_eq!(annotation(&of_town, names::RESTART_AT), "noon");
    assert_eq!(annotation(&of_agent, names::RESTART_AT), "night");
}

#[test]
fn task_pod_runs_once_and_has_the_result_finalizer() {
    let pod = pod_of(&agent(json!({})));
    assert_eq!(spec(&pod).restart_policy.as_deref(), Some("Never"));
    assert_eq!(pod.metadata.finalizers.as_deref(), Some(&[names::RESULT_FINALIZER.to_owned()][..]));
    for pod in [pod_of(&agent(json!({"role": "Crew"}))), pod_of_town(json!({}))] {
        assert_eq!(spec(&pod).restart_policy, None);
        assert_eq!(pod.metadata.finalizers, None);
    }
}

#[test]
fn pod_has_no_api_token_and_no_service_links_unless_the_template_asks() {
    for pod in [pod_of_town(json!({})), pod_of(&agent(json!({})))] {
        assert_eq!(spec(&pod).automount_service_account_token, Some(false));
        assert_eq!(spec(&pod).enable_service_links, Some(false));
    }
    let asked = template(json!({"automountServiceAccountToken": true, "enableServiceLinks": true}));
    let pod = pod_of_town(json!({"template": asked}));
    assert_eq!(spec(&pod).automount_service_account_token, Some(true));
    assert_eq!(spec(&pod).enable_service_links, Some(true));
}

/// A template in which the user has used each of our names.
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
fn template_fields_of_a_user_are_kept() {
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

/// The names of a container's variables, in order.
fn order(container: &Container) -> Vec<&str> {
    container.env.iter().flatten().map(|variable| variable.name.as_str()).collect()
}

// A27, P6.
#[test]
fn operator_variables_precede_template_variables_and_arrive_unchanged() {
    let mine = json!([{"name": "MINE", "value": "$(GASTOWN_BEAD)"}]);
    let template = json!({"spec": {"containers": [{"name": "main", "env": mine}]}});
    let hook = json!({"bead": "fix-$$-$(GASTOWN_TOWN)"});
    let pod = pod_of(&agent(json!({"template": template, "hook": hook, "identity": "a$$b"})));
    let container = &spec(&pod).containers[0];
    assert_eq!(order(container).last(), Some(&"MINE"), "{:?}", order(container));
    assert_eq!(env(container, "MINE"), Some("$(GASTOWN_BEAD)"), "a template may refer to our variables");
    // The kubelet converts `$$` to `$`.
    assert_eq!(env(container, "GASTOWN_BEAD"), Some("fix-$$$$-$$(GASTOWN_TOWN)"));
    assert_eq!(env(container, "GASTOWN_IDENTITY"), Some("a$$$$b"));
}

// P17.
#[test]
fn git_trusts_the_root_of_the_volume_unless_the_template_configures_git() {
    let git = |container: &Container| {
        ["GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"]
            .map(|name| env(container, name).map(str::to_owned))
    };
    let safe = |path: &str| ["1", "safe.directory", path].map(|text| Some(text.to_owned()));
    let storage = json!({"size": "1Gi"});
    let town = pod_of_town(json!({"storage": storage}));
    assert_eq!(git(&spec(&town).containers[0]), safe("/town"));
    let agent_pod = pod_of(&agent(json!({"storage": storage})));
    assert_eq!(git(&spec(&agent_pod).containers[0]), safe("/agent"));
    assert_eq!(git(&spec(&pod_of_town(json!({}))).containers[0]), [None, None, None], "no volume");
    let own = json!([{"name": "GIT_CONFIG_GLOBAL", "value": "/etc/git"}]);
    let template = json!({"spec": {"containers": [{"name": "main", "env": own}]}});
    let pod = pod_of_town(json!({"storage": storage, "template": template}));
    assert_eq!(git(&spec(&pod).containers[0]), [None, None, None]);
}

// P17.
#[test]
fn pod_has_a_writable_home_when_its_template_sets_a_user() {
    let user = |id: i64| json!({"runAsUser": id});
    let with = |pod: Value, container: Value| {
        let container = merged(json!({"name": "main"}), container);
        pod_of_town(json!({"template": {"spec": merged(json!({"containers": [container]}), pod)}}))
    };
    for (pod, container) in [
        (json!({"securityContext": user(1000)}), json!({})),
        (json!({}), json!({"securityContext": user(1000)})),
    ] {
        let pod = with(pod, container);
        let container = &spec(&pod).containers[0];
        assert_eq!(
            (env(container, "HOME"), at(container, "/home/gastown")),
            (Some("/home/gastown"), Some("gastown-home"))
        );
        let home = spec(&pod).volumes.iter().flatten().find(|volume| volume.name == "gastown-home").unwrap();
        assert!(home.empty_dir.is_some());
    }
    let own = json!({"env": [{"name": "HOME", "value": "/mine"}], "securityContext": user(1000)});
    for (case, pod) in [
        ("the user of the image has the home of the image", with(json!({}), json!({}))),
        ("root has its own", with(json!({"securityContext": user(0)}), json!({}))),
        ("the template sets one", with(json!({}), own)),
    ] {
        assert_eq!(at(&spec(&pod).containers[0], "/home/gastown"), None, "{case}");
        assert_ne!(env(&spec(&pod).containers[0], "HOME"), Some("/home/gastown"), "{case}");
    }
}

fn merged(mut one: Value, other: Value) -> Value {
    json_patch::merge(&mut one, &other);
    one
}
