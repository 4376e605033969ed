//! Tokens, and the Secrets that a pod needs.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{agent, here, pod_of, pod_of_town, town};
use crate::lifecycle::{ObjectKey, Uid, token_secret};
use crate::resources::{
    NeededSecret, agent_token, needed_secrets_of_agent, needed_secrets_of_town, town_token,
};

fn probed(probe: Value) -> Value {
    json!({"role": "crew", "activityProbe": probe})
}

#[test]
fn a_token_is_made_for_whom_the_spec_names_none() {
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
        let named = token_secret(&probe, &ObjectKey::of(&meta), &Uid::of(&meta).unwrap());
        assert_eq!(secret.metadata.name, Some(named), "where the pod and the operator look for it");
        assert_eq!(secret.metadata.labels, pod.metadata.labels);
        assert_eq!(secret.metadata.owner_references, pod.metadata.owner_references);
    }
}

#[test]
fn f4_a_secret_of_the_user_is_not_written() {
    let named = probed(json!({"port": 80, "tokenSecret": "theirs"}));
    assert_eq!(town_token(&town(named.clone()), &here(), "x"), None);
    assert_eq!(agent_token(&agent(named), &here(), "x"), None);
    let unasked = json!({"role": "crew"});
    assert_eq!(town_token(&town(unasked.clone()), &here(), "x"), None);
    assert_eq!(agent_token(&agent(unasked), &here(), "x"), None);
    let mut unbound = agent(probed(json!({"port": 80})));
    unbound.metadata.labels = None;
    assert_eq!(agent_token(&unbound, &here(), "x"), None);
}

#[test]
fn f5_secrets_that_a_spec_names_are_needed_before_the_pod() {
    let token = || NeededSecret {
        name: "theirs".into(),
        key: Some("token"),
        field: "spec.activityProbe.tokenSecret",
    };
    let credentials = || NeededSecret {
        name: "deploy-key".into(),
        key: None,
        field: "spec.rigs[].credentialsSecretName of its town",
    };
    let named = probed(json!({"port": 80, "tokenSecret": "theirs"}));
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
    let rigless = agent(json!({"role": "mayor", "rig": null}));
    assert_eq!(needed_secrets_of_agent(&rigless, &gas), []);
}
