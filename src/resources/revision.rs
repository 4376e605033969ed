//! The parts of a pod, and their digest, which the pod carries.
//!
//! Invariant kept here: the operator builds a pod only from these parts. The exceptions are the hook, which is
//! delivered to the running pod, and the annotation `restart-at`, which is compared separately. So specs with the
//! same revision result in the same pod, and specs with another revision in another pod. The digest covers only the
//! input of users, never our additions, and an absent part does not change it: a new version of the operator restarts
//! no pod.

use kube::ResourceExt;
use serde::{Serialize, Serializer};

use super::claim::claim_name;
use super::service::town_host;
use crate::api::{Agent, PodTemplate, Rig, Town};
use crate::lifecycle::{OwnerRef, short_digest, token_secret_name};

/// The revision of the pod that the operator would create for the town now, with its own claim of this name if one
/// exists. Without a template the revision is the digest of an absent value.
pub fn town_revision(town: &Town, claim: Option<&str>) -> String {
    revision(&TownParts::of(town, claim))
}

/// The revision of the pod that the operator would create for the agent now, with its own claim of this name if one
/// exists. Without a template the revision is the digest of an absent value.
pub fn agent_revision(agent: &Agent, town: &Town, claim: Option<&str>) -> String {
    revision(&AgentParts::of(agent, town, claim))
}

/// The parts of the pod of a town.
#[derive(Serialize)]
pub(super) struct TownParts<'a> {
    #[serde(serialize_with = "digested")]
    pub template: &'a PodTemplate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<String>,
}

impl<'a> TownParts<'a> {
    /// The parts; `None`: the town has no template.
    pub fn of(town: &'a Town, claim: Option<&str>) -> Option<Self> {
        let owner = OwnerRef::of(&town.metadata)?;
        Some(Self {
            template: town.spec.template.as_ref()?,
            claim: town.spec.storage.as_ref().map(|storage| claim_name(storage, &owner, claim)),
            token_secret: town
                .spec
                .activity_probe
                .as_ref()
                .map(|probe| token_secret_name(probe, &owner.key, &owner.uid)),
        })
    }
}

/// The parts of the pod of an agent.
#[derive(Serialize)]
pub(super) struct AgentParts<'a> {
    #[serde(serialize_with = "digested")]
    pub template: &'a PodTemplate,
    pub town: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub town_host: Option<String>,
    pub identity: String,
    pub role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rig: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rig_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rig_branch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rig_credentials: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<String>,
}

impl<'a> AgentParts<'a> {
    /// The parts; `None`: neither the agent nor the town has a template.
    pub fn of(agent: &'a Agent, town: &'a Town, claim: Option<&str>) -> Option<Self> {
        let owner = OwnerRef::of(&agent.metadata)?;
        let spec = &agent.spec;
        let rig = rig_of(agent, town);
        Some(Self {
            template: spec.template.as_ref().or(town.spec.agent_template.as_ref())?,
            town: &spec.town_name,
            town_host: town_host(town),
            identity: spec.identity.clone().unwrap_or_else(|| agent.name_any()),
            role: spec.role.env_value(),
            rig: spec.rig.as_deref(),
            rig_url: rig.and_then(|rig| rig.git_url.as_deref()),
            rig_branch: rig.map(Rig::branch),
            rig_credentials: rig.and_then(|rig| rig.credentials_secret_name.as_deref()),
            claim: spec.storage.as_ref().map(|storage| claim_name(storage, &owner, claim)),
            token_secret: spec
                .activity_probe
                .as_ref()
                .map(|probe| token_secret_name(probe, &owner.key, &owner.uid)),
        })
    }
}

/// The rig of the agent, if the town has it.
pub(super) fn rig_of<'a>(agent: &Agent, town: &'a Town) -> Option<&'a Rig> {
    let name = agent.spec.rig.as_ref()?;
    town.spec.rigs.iter().find(|rig| rig.name == *name)
}

/// The digest of the template. A whole template and its stored digest have the same value.
pub fn digest(template: &PodTemplate) -> String {
    match template {
        PodTemplate::Whole(template) => revision(template),
        PodTemplate::Digest(digest) => digest.clone(),
    }
}

fn digested<S: Serializer>(template: &PodTemplate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&digest(template))
}

/// The first 16 hex digits of the SHA-256 of the JSON of the parts, with sorted keys.
pub fn revision(parts: &impl Serialize) -> String {
    // The parts are strings and a pod template, which always have a JSON form.
    short_digest(&serde_json::to_value(parts).unwrap_or_default().to_string())
}
