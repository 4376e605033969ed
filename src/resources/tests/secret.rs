//! Tokens, and the Secrets that a pod needs.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{agent, here, pod_of, pod_of_town, town};
use crate::api::PodTemplate;
use crate::lifecycle::{ObjectKey, Uid, token_secret_name};
use crate::resources::{
    NeededSecret, agent_token, named_secrets_of_agent, named_secrets_of_town, needed_secrets_of_agent,
    needed_secrets_of_town, town_token,
};

fn probed(probe: Value) -> Value {
    json!({"role": "Crew", "activityProbe": probe})
}

#[test]
fn token_secret_is_built_when_the_spec_names_none() {
    let (gas, toast) = (town(probed(json!({"port": 80}))), agent(probed(json!({"port": 80}))));
    let secrets = [town_token(&gas, &here(), "s3cr3t"), agent_token(&toast, &here(), "s3cr3t")];
    let probes = [gas.spec.activity_probe.unwrap(), toast.spec.activity_probe.unwrap()];
    let pods = [pod_of_town(json!({})), pod_of(&agent(json!({})))];
    for (((secret, probe), meta), pod) in
        secrets.into_iter().zip(probes).zip([gas.metadata, toast.metadata]).zip(pods)
    {
        let secret = secret.unwrap();
        let data: Vec<_> = secret.data.unwrap().into_iter().collect();
        assert_eq!(data, [("token".to_owned(), ByteString(b"s3cr3t".to_vec()))]);
        assert_eq!((secret.type_.as_deref(), secret.immutable), (Some("Opaque"), None));
        let named = token_secret_name(&probe, &ObjectKey::of(&meta), &Uid::of(&meta).unwrap());
        assert_eq!(secret.metadata.name, Some(named), "where the pod and the operator look for it");
        assert_eq!(secret.metadata.labels, pod.metadata.labels);
        assert_eq!(secret.metadata.owner_references, pod.metadata.owner_references);
    }
}

#[test]
fn named_secrets_include_every_secret_of_a_template() {
    let spec = json!({
        "imagePullSecrets": [{"name": "pull"}],
        "volumes": [
            {"name": "a", "secret": {"secretName": "volume"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "x"}}]}},
        ],
        "initContainers": [{"name": "init", "envFrom": [{"secretRef": {"name": "whole"}}]}],
        "containers": [
            {"name": "main", "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "k"}}}]},
        ],
    });
    let rigs = json!([{"name": "rig", "credentialsSecretName": "deploy-key"}]);
    let gas = town(json!({
        "rigs": rigs, "template": {"spec": spec}, "agentTemplate": {"spec": spec},
        "activityProbe": {"port": 80, "tokenSecretName": "token"},
    }));
    let all = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    let of_template = ["pull", "volume", "projected", "whole", "key"];
    assert_eq!(named_secrets_of_town(&gas), all(&[&of_template[..], &["token"]].concat()));
    assert_eq!(
        named_secrets_of_agent(&agent(json!({})), &gas),
        all(&[&of_template[..], &["deploy-key"]].concat())
    );
    let mut cached = gas;
    cached.spec.template = Some(PodTemplate::Digest("d".into()));
    assert_eq!(named_secrets_of_town(&cached), None, "a digest names nothing");
}

#[test]
fn token_secret_is_not_built_when_the_spec_names_one_or_has_no_probe() {
    let named = probed(json!({"port": 80, "tokenSecretName": "theirs"}));
    assert_eq!(town_token(&town(named.clone()), &here(), "x"), None);
    assert_eq!(agent_token(&agent(named), &here(), "x"), None);
    let unasked = json!({"role": "Crew"});
    assert_eq!(town_token(&town(unasked.clone()), &here(), "x"), None);
    assert_eq!(agent_token(&agent(unasked), &here(), "x"), None);
    let mut unbound = agent(probed(json!({"port": 80})));
    unbound.metadata.labels = None;
    assert_eq!(agent_token(&unbound, &here(), "x"), None);
}

#[test]
fn secrets_that_a_spec_names_are_needed_before_the_pod() {
    let token = || NeededSecret {
        name: "theirs".into(),
        key: Some("token"),
        field: "spec.activityProbe.tokenSecretName",
    };
    let credentials = || NeededSecret {
        name: "deploy-key".into(),
        key: None,
        field: "spec.rigs[].credentialsSecretName of its town",
    };
    let named = probed(json!({"port": 80, "tokenSecretName": "theirs"}));
    let gas = town(named.clone());
    assert_eq!(needed_secrets_of_town(&gas), [token()]);
    assert_eq!(needed_secrets_of_agent(&agent(json!({})), &gas), [], "the town's is not the agent's");
    assert_eq!(needed_secrets_of_town(&town(probed(json!({"port": 80})))), [], "we make it");

    let rigs = json!([
        {"name": "other", "credentialsSecretName": "other"},
        {"name": "rig", "credentialsSecretName": "deploy-key"},
    ]);
    let gas = town(json!({"rigs": rigs}));
    assert_eq!(needed_secrets_of_agent(&agent(json!({})), &gas), [credentials()]);
    let both = needed_secrets_of_agent(&agent(named), &gas);
    assert_eq!(both, [token(), credentials()]);
    let rigless = agent(json!({"role": "Mayor", "rig": null}));
    assert_eq!(needed_secrets_of_agent(&rigless, &gas), []);
}
