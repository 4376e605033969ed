//! Secrets: the tokens that we make, and those of the user that a pod cannot start without.
//!
//! Invariant kept here: a Secret that the spec names is the user's, and never written by us.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use super::meta::{Install, not_in_backups, of_agent, of_town, owner_reference};
use super::revision::rig_of;
use crate::api::{ActivityProbe, Agent, PodTemplate, Town};

/// The key under which a Secret holds the token that a pod is asked with.
pub const TOKEN_KEY: &str = "token";

/// The Secret with the token that the town's pod is asked with; `None` where it is not asked, or the spec
/// names a Secret.
pub fn town_token(town: &Town, install: &Install, token: &str) -> Option<Secret> {
    secret(of_town(town, install)?, town, town.spec.activity_probe.as_ref()?, token)
}

/// The Secret with the token that the agent's pod is asked with; `None` where it is not asked, or the spec
/// names a Secret, or while the agent is not bound.
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

/// A Secret that a spec names. Without it, or without its key, the pod's containers would never be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededSecret {
    /// Its name, in the namespace of the owner.
    pub name: String,
    /// The key that it must have; `None`: any will do.
    pub key: Option<&'static str>,
    /// The field that names it.
    pub field: &'static str,
}

/// The Secrets that the town's pod needs by the town's spec.
pub fn needed_secrets_of_town(town: &Town) -> Vec<NeededSecret> {
    named_token(town.spec.activity_probe.as_ref()).into_iter().collect()
}

/// The Secrets that the agent's pod needs by the agent's spec and its rig's.
pub fn needed_secrets_of_agent(agent: &Agent, town: &Town) -> Vec<NeededSecret> {
    let credentials = rig_of(agent, town).and_then(|rig| rig.credentials_secret_name.clone());
    let token = named_token(agent.spec.activity_probe.as_ref());
    let field = "spec.rigs[].credentialsSecretName of its town";
    token.into_iter().chain(credentials.map(|name| NeededSecret { name, key: None, field })).collect()
}

/// The names of all Secrets that the town's spec and its template name; `None`: the template is not known.
pub fn named_secrets_of_town(town: &Town) -> Option<BTreeSet<String>> {
    named_secrets(town.spec.template.as_ref(), needed_secrets_of_town(town))
}

/// The names of all Secrets that the specs of the agent and its rig, and its template, name; `None`: the template is not
/// known.
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
