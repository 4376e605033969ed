//! What a pod is made from, and the digest of it that the pod carries.
//!
//! Invariant kept here: a pod is built from these parts and from nothing else that can change while it runs,
//! but for the hook, which is delivered, and the annotation `restart-at`, which is compared by itself. So
//! specs with the same revision give the same pod, and another revision another pod. The digest is taken of
//! what users wrote, never of what we add to it, and a part that is absent leaves no trace in it: a new
//! version of the operator restarts no pod.

use kube::ResourceExt;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::claim::claim_name;
use super::service::town_host;
use crate::api::{Agent, PodTemplate, Rig, Town};
use crate::lifecycle::{OwnerRef, token_secret_name};

/// The revision of a pod that would be made for the town now, on its own claim of this name if one is there. Where none
/// would be, it is that of nothing.
pub fn town_revision(town: &Town, claim: Option<&str>) -> String {
    revision(&TownParts::of(town, claim))
}

/// The revision of a pod that would be made for the agent now, on its own claim of this name if one is there. Where none
/// would be, it is that of nothing.
pub fn agent_revision(agent: &Agent, town: &Town, claim: Option<&str>) -> String {
    revision(&AgentParts::of(agent, town, claim))
}

/// What a town's pod is made from.
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
    /// The parts; `None` without a template.
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

/// What an agent's pod is made from.
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
    /// The parts; `None` without a template of the agent's own or the town's.
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

/// The rig that the agent works on, if the town has it.
pub(super) fn rig_of<'a>(agent: &Agent, town: &'a Town) -> Option<&'a Rig> {
    let name = agent.spec.rig.as_ref()?;
    town.spec.rigs.iter().find(|rig| rig.name == *name)
}

/// The template as its digest. A template that is kept whole and one of which the digest is kept are the same.
pub fn digest(template: &PodTemplate) -> String {
    match template {
        PodTemplate::Whole(template) => revision(template),
        PodTemplate::Digest(digest) => digest.clone(),
    }
}

fn digested<S: Serializer>(template: &PodTemplate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&digest(template))
}

/// 16 hex digits of the SHA-256 of the parts' JSON, its keys in order.
pub fn revision(parts: &impl Serialize) -> String {
    // Strings and a pod template: they always have a JSON form.
    let json = serde_json::to_value(parts).unwrap_or_default().to_string();
    Sha256::digest(json).iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
