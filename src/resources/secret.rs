//! Secrets: the tokens that the operator creates, and the Secrets of the user without which a pod cannot start.
//!
//! Invariant kept here: a Secret that the spec names belongs to the user, and the operator never writes it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use super::meta::{Install, not_in_backups, of_agent, of_town, owner_reference};
use super::revision::rig_of;
use crate::api::{ActivityProbe, Agent, PodTemplate, Town};

/// The key of the probe token in a Secret.
pub const TOKEN_KEY: &str = "token";

/// The Secret with the probe token of the pod of the town; `None`: the town has no probe, or the spec names a Secret.
pub fn town_token(town: &Town, install: &Install, token: &str) -> Option<Secret> {
    secret(of_town(town, install)?, town, town.spec.activity_probe.as_ref()?, token)
}

/// The Secret with the probe token of the pod of the agent; `None`: the agent has no probe, or the spec names a
/// Secret, or the agent is not bound.
pub fn agent_token(agent: &Agent, install: &Install, token: &str) -> Option<Secret> {
    secret(of_agent(agent, install)?, agent, agent.spec.activity_probe.as_ref()?, token)
}

fn secret<K: Resource<DynamicType = ()>>(
    mut metadata: ObjectMeta,
    owner: &K,
    probe: &ActivityProbe,
    token: &str,
) -> Option<Secret> {
    if probe.token_secret_name.is_some() {
        return None;
    }
    metadata.owner_references = Some(vec![owner_reference(owner)?]);
    not_in_backups(&mut metadata);
    Some(Secret {
        metadata,
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(TOKEN_KEY.to_owned(), ByteString(token.into()))])),
        ..Secret::default()
    })
}

/// A Secret that a spec names. Without the Secret, or without its key, the kubelet would never create the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededSecret {
    /// Name of the Secret, in the namespace of the owner.
    pub name: String,
    /// The required key; `None`: any key is enough.
    pub key: Option<&'static str>,
    /// The field that names the Secret.
    pub field: &'static str,
}

/// The Secrets that the pod of the town needs, by the spec of the town.
pub fn needed_secrets_of_town(town: &Town) -> Vec<NeededSecret> {
    named_token(town.spec.activity_probe.as_ref()).into_iter().collect()
}

/// The Secrets that the pod of the agent needs, by the specs of the agent and of its rig.
pub fn needed_secrets_of_agent(agent: &Agent, town: &Town) -> Vec<NeededSecret> {
    let credentials = rig_of(agent, town).and_then(|rig| rig.credentials_secret_name.clone());
    let token = named_token(agent.spec.activity_probe.as_ref());
    let field = "spec.rigs[].credentialsSecretName of its town";
    token.into_iter().chain(credentials.map(|name| NeededSecret { name, key: None, field })).collect()
}

/// The names of all Secrets in the spec of the town and in its template; `None`: the template is unknown.
pub fn named_secrets_of_town(town: &Town) -> Option<BTreeSet<String>> {
    named_secrets(town.spec.template.as_ref(), needed_secrets_of_town(town))
}

/// The names of all Secrets in the specs of the agent and of its rig, and in its template; `None`: the template is
/// unknown.
pub fn named_secrets_of_agent(agent: &Agent, town: &Town) -> Option<BTreeSet<String>> {
    let template = agent.spec.template.as_ref().or(town.spec.agent_template.as_ref());
    named_secrets(template, needed_secrets_of_agent(agent, town))
}

fn named_secrets(template: Option<&PodTemplate>, needed: Vec<NeededSecret>) -> Option<BTreeSet<String>> {
    let template = match template {
        Some(template) => template.whole()?.spec.as_ref(),
        None => None,
    };
    let mut names: BTreeSet<_> = needed.into_iter().map(|secret| secret.name).collect();
    if let Some(spec) = template {
        names.extend(spec.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone()));
        for volume in spec.volumes.iter().flatten() {
            names.extend(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()));
            let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
            names.extend(sources.filter_map(|source| Some(source.secret.as_ref()?.name.clone())));
        }
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let whole = container.env_from.iter().flatten();
            names.extend(whole.filter_map(|from| Some(from.secret_ref.as_ref()?.name.clone())));
            let keys = container.env.iter().flatten().filter_map(|env| env.value_from.as_ref());
            names.extend(keys.filter_map(|from| Some(from.secret_key_ref.as_ref()?.name.clone())));
        }
    }
    names.remove("");
    Some(names)
}

fn named_token(probe: Option<&ActivityProbe>) -> Option<NeededSecret> {
    let field = "spec.activityProbe.tokenSecretName";
    Some(NeededSecret { name: probe?.token_secret_name.clone()?, key: Some(TOKEN_KEY), field })
}
