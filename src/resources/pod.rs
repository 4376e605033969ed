//! The pod of a town or an agent: the user's template, and what we add to it.
//!
//! We add, and never clobber: labels, annotations, environment variables, volumes and mounts that the
//! template brings under our names stay the user's, except the labels that ownership rests on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EnvVar, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, Pod, PodSpec, PodTemplateSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::meta::{Install, of_agent, of_town, owner_reference};
use crate::api::{Agent, Hook, Mode, Town, names};

/// Where the town's volume is mounted.
const TOWN_PATH: &str = "/town";
/// Where an agent's volume is mounted.
const AGENT_PATH: &str = "/agent";
/// Where an agent finds `hook.json`.
const HOOK_PATH: &str = "/var/run/gastown";

/// The town's pod; `None` where its spec has no template.
pub fn town_pod(town: &Town, install: &Install) -> Option<Pod> {
    let mut metadata = of_town(town, install)?;
    metadata.owner_references = Some(vec![owner_reference(town)?]);
    let mut pod = from_template(town.spec.template.as_ref()?, metadata);
    let spec = pod.spec.get_or_insert_default();
    if town.spec.storage.is_some() {
        mount_claim(spec, "town-storage", &pod.metadata, TOWN_PATH);
    }
    set_env(spec, &[("GASTOWN_TOWN", &town.name_any())]);
    Some(pod)
}

/// The agent's pod, from its own template or the town's; `None` where there is none, or while it is not
/// bound.
pub fn agent_pod(agent: &Agent, mode: Mode, town: &Town, install: &Install) -> Option<Pod> {
    let mut metadata = of_agent(agent, install)?;
    metadata.owner_references = Some(vec![owner_reference(agent)?]);
    if let Some(hook) = &agent.spec.hook {
        metadata.annotations.get_or_insert_default().insert(names::HOOK.to_owned(), hook_annotation(hook));
    }
    let template = agent.spec.template.as_ref().or(town.spec.agent_template.as_ref())?;
    let mut pod = from_template(template, metadata);
    let spec = pod.spec.get_or_insert_default();
    let name = agent.name_any();
    let mut env = vec![
        ("GASTOWN_TOWN", agent.spec.town.as_str()),
        ("GASTOWN_AGENT", &name),
        ("GASTOWN_IDENTITY", agent.spec.identity.as_ref().unwrap_or(&name)),
        ("GASTOWN_ROLE", agent.spec.role.as_str()),
    ];
    if let Some(rig) = &agent.spec.rig {
        env.push(("GASTOWN_RIG", rig));
    }
    if mode == Mode::Task {
        spec.restart_policy = Some("Never".into());
        pod.metadata.finalizers = Some(vec![names::RESULT_FINALIZER.into()]);
        if let Some(hook) = &agent.spec.hook {
            env.push(("GASTOWN_BEAD", &hook.bead));
        }
    }
    set_env(spec, &env);
    mount_hook(spec);
    if agent.spec.storage.is_some() {
        mount_claim(spec, "agent-storage", &pod.metadata, AGENT_PATH);
    }
    Some(pod)
}

/// The hook as the pod's annotation holds it.
pub fn hook_annotation(hook: &Hook) -> String {
    // A Hook is three strings: it always has a JSON form.
    serde_json::to_string(hook).unwrap_or_default()
}

fn from_template(template: &PodTemplateSpec, mut metadata: ObjectMeta) -> Pod {
    if let Some(theirs) = &template.metadata {
        merge(&mut metadata.labels, theirs.labels.as_ref());
        merge(&mut metadata.annotations, theirs.annotations.as_ref());
    }
    let mut spec = template.spec.clone().unwrap_or_default();
    // Agents run code that nobody reviewed: no API token unless the user asks for one.
    spec.automount_service_account_token.get_or_insert(false);
    Pod { metadata, spec: Some(spec), status: None }
}

/// Adds the user's entries where we have none of that name, and none under our own prefix: by those,
/// objects are found and owned.
fn merge(ours: &mut Option<BTreeMap<String, String>>, theirs: Option<&BTreeMap<String, String>>) {
    let ours = ours.get_or_insert_default();
    for (key, value) in theirs.into_iter().flatten().filter(|(key, _)| !key.starts_with(names::PREFIX)) {
        ours.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

fn containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers.iter_mut().flatten().chain(spec.containers.iter_mut())
}

fn set_env(spec: &mut PodSpec, env: &[(&str, &str)]) {
    for container in containers(spec) {
        let theirs = container.env.get_or_insert_default();
        for (name, value) in env {
            if !theirs.iter().any(|e| e.name == *name) {
                theirs.push(EnvVar {
                    name: (*name).to_owned(),
                    value: Some((*value).to_owned()),
                    value_from: None,
                });
            }
        }
    }
}

fn mount(spec: &mut PodSpec, volume: Volume, path: &str, read_only: bool) {
    let name = volume.name.clone();
    let volumes = spec.volumes.get_or_insert_default();
    if !volumes.iter().any(|v| v.name == name) {
        volumes.push(volume);
    }
    for container in containers(spec) {
        let mounts = container.volume_mounts.get_or_insert_default();
        if !mounts.iter().any(|m| m.mount_path.trim_end_matches('/') == path) {
            mounts.push(VolumeMount {
                name: name.clone(),
                mount_path: path.to_owned(),
                read_only: read_only.then_some(true),
                ..VolumeMount::default()
            });
        }
    }
}

/// Claim and pod of an owner have the same name.
fn mount_claim(spec: &mut PodSpec, volume: &str, pod: &ObjectMeta, path: &str) {
    let source = PersistentVolumeClaimVolumeSource {
        claim_name: pod.name.clone().unwrap_or_default(),
        read_only: None,
    };
    let volume =
        Volume { name: volume.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() };
    mount(spec, volume, path, false);
}

/// `hook.json` follows the pod's annotation: a hook that changes reaches a running container.
fn mount_hook(spec: &mut PodSpec) {
    let file = DownwardAPIVolumeFile {
        path: "hook.json".into(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{}']", names::HOOK),
            api_version: None,
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let source = DownwardAPIVolumeSource { items: Some(vec![file]), default_mode: None };
    let volume = Volume { name: "gastown".into(), downward_api: Some(source), ..Volume::default() };
    mount(spec, volume, HOOK_PATH, true);
}
