//! The pod of a town or an agent: the template of the user with the additions of the operator.
//!
//! The operator adds and never replaces. Labels, annotations, environment variables, volumes and mounts of the
//! template keep the values of the user, even under our names. The exception is the prefix `gastown.dev/`, which
//! determines the ownership of objects.
//!
//! Added to every container, including init containers and sidecars:
//! - the environment variables `GASTOWN_TOWN` and `GASTOWN_TOWN_UID`; for agents `GASTOWN_AGENT`, `GASTOWN_AGENT_UID`
//!   (by which an activity answer names the agent), `GASTOWN_IDENTITY`, `GASTOWN_ROLE`, `GASTOWN_RIG`,
//!   `GASTOWN_RIG_URL` and `GASTOWN_RIG_BRANCH`; in a Task `GASTOWN_BEAD`; if the town has ports `GASTOWN_TOWN_HOST`,
//!   the name of its Service;
//! - the storage of the owner at `/town` or `/agent`;
//! - for agents the hook, `/var/run/gastown/hook.json`, and the credentials of their rig, `/var/run/gastown/git/`;
//! - the token of an `activityProbe`, `/var/run/gastown/token`;
//! - if the container has the storage of the owner, `safe.directory` of Git for it, unless the template sets
//!   `GIT_CONFIG_*`: the root of a volume belongs to root, and Git refuses a repository of another user;
//! - if the template sets the user of the container, a `HOME` that this user can write to, unless the template sets
//!   one.
//!
//! The variables come first, so that the variables of the template can refer to them. Their values reach the
//! container unchanged.
//!
//! Added to the pod: no API token, and no addresses of the Services of the namespace in the environment, unless the
//! user asks for them; and the defaults of [`security`](super::security).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::meta::{Install, not_in_backups, of_agent, of_town, owner_reference};
use super::revision::{AgentParts, TownParts, revision};
use super::security::{VolumeGroup, restrict};
use super::template::{containers, literal};
use super::volumes::{hook_file, mount_claim, mount_credentials, mount_files, mount_home, token_file};
use crate::api::{Agent, Hook, Mode, Storage, Town, names};

/// The mount path of the volume of the town.
const TOWN_PATH: &str = "/town";
/// The mount path of the volume of an agent.
const AGENT_PATH: &str = "/agent";
/// The prefix of the recommended labels and annotations.
const RECOMMENDED: &str = "app.kubernetes.io/";
/// The prefix of the variables that configure Git.
const GIT_CONFIG: &str = "GIT_CONFIG_";

/// The pod of the town, with its own claim of this name if one exists; `None`: the spec has no template.
pub fn town_pod(town: &Town, claim: Option<&str>, install: &Install, group: VolumeGroup) -> Option<Pod> {
    let parts = TownParts::of(town, claim)?;
    let mut metadata = marked(of_town(town, install)?, town, revision(&parts))?;
    note_origin(&mut metadata, parts.template.whole()?, town, None);
    let mut pod = from_template(parts.template.whole()?, metadata);
    let spec = pod.spec.get_or_insert_default();
    let storage = parts.claim.as_ref().map(|_| TOWN_PATH);
    let uid = town.uid().unwrap_or_default();
    set_env(spec, &[("GASTOWN_TOWN", &town.name_any()), ("GASTOWN_TOWN_UID", &uid)], storage);
    mount_files(spec, parts.token_secret.as_deref().map(token_file).into_iter().collect());
    if let Some(claim) = &parts.claim {
        mount_claim(spec, "town-storage", claim, TOWN_PATH);
    }
    mount_home(spec);
    restrict(spec, group.0.filter(|_| has_own_claim(town.spec.storage.as_ref())));
    Some(pod)
}

/// The pod of the agent, from its own template or the template of the town, with its own claim of this name if one
/// exists; `None`: there is no template, or the agent is not bound.
pub fn agent_pod(
    agent: &Agent,
    mode: Mode,
    town: &Town,
    claim: Option<&str>,
    install: &Install,
    group: VolumeGroup,
) -> Option<Pod> {
    let parts = AgentParts::of(agent, town, claim)?;
    let mut metadata = marked(of_agent(agent, install)?, agent, revision(&parts))?;
    if let Some(hook) = &agent.spec.hook {
        metadata.annotations.get_or_insert_default().insert(names::HOOK.to_owned(), hook_annotation(hook));
    }
    note_origin(&mut metadata, parts.template.whole()?, town, Some(agent));
    let mut pod = from_template(parts.template.whole()?, metadata);
    let spec = pod.spec.get_or_insert_default();
    let name = agent.name_any();
    let (town_uid, agent_uid) = (town.uid().unwrap_or_default(), agent.uid().unwrap_or_default());
    let mut env = vec![
        ("GASTOWN_TOWN", parts.town),
        ("GASTOWN_TOWN_UID", &town_uid),
        ("GASTOWN_AGENT", &name),
        ("GASTOWN_AGENT_UID", &agent_uid),
        ("GASTOWN_IDENTITY", &parts.identity),
        ("GASTOWN_ROLE", parts.role),
    ];
    let optional = [
        ("GASTOWN_RIG", parts.rig),
        ("GASTOWN_RIG_URL", parts.rig_url),
        ("GASTOWN_RIG_BRANCH", parts.rig_branch),
        ("GASTOWN_TOWN_HOST", parts.town_host.as_deref()),
    ];
    env.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    if mode == Mode::Task {
        spec.restart_policy = Some("Never".into());
        pod.metadata.finalizers = Some(vec![names::RESULT_FINALIZER.into()]);
        if let Some(hook) = &agent.spec.hook {
            env.push(("GASTOWN_BEAD", &hook.bead));
        }
    }
    set_env(spec, &env, parts.claim.as_ref().map(|_| AGENT_PATH));
    let token = parts.token_secret.as_deref().map(token_file);
    mount_files(spec, [hook_file()].into_iter().chain(token).collect());
    if let Some(secret) = parts.rig_credentials {
        mount_credentials(spec, secret);
    }
    if let Some(claim) = &parts.claim {
        mount_claim(spec, "agent-storage", claim, AGENT_PATH);
    }
    mount_home(spec);
    restrict(spec, group.0.filter(|_| has_own_claim(agent.spec.storage.as_ref())));
    Some(pod)
}

/// The hook in the form of the annotation of the pod.
pub fn hook_annotation(hook: &Hook) -> String {
    // A Hook has three strings, so it always has a JSON form.
    serde_json::to_string(hook).unwrap_or_default()
}

/// Adds the owner, the revision and the restart annotation to the metadata of a pod.
fn marked<K: Resource<DynamicType = ()>>(
    mut metadata: ObjectMeta,
    owner: &K,
    revision: String,
) -> Option<ObjectMeta> {
    metadata.owner_references = Some(vec![owner_reference(owner)?]);
    not_in_backups(&mut metadata);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(names::POD_REVISION.to_owned(), revision);
    if let Some(restart_at) = owner.annotations().get(names::RESTART_AT) {
        annotations.insert(names::RESTART_AT.to_owned(), restart_at.clone());
    }
    Some(metadata)
}

/// Records the containers of the template, so that an injected container does not count as one of them. Also records
/// the generations of the specs, so that a reconcile with an older spec does not replace the pod.
fn note_origin(metadata: &mut ObjectMeta, template: &PodTemplateSpec, town: &Town, agent: Option<&Agent>) {
    let annotations = metadata.annotations.get_or_insert_default();
    if let Some(spec) = &template.spec {
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let containers: Vec<_> = containers.map(|container| container.name.as_str()).collect();
        annotations.insert(names::POD_CONTAINERS.to_owned(), containers.join(","));
    }
    let agent = agent.and_then(|agent| agent.metadata.generation).unwrap_or_default();
    let generations = format!("{}.{agent}", town.metadata.generation.unwrap_or_default());
    annotations.insert(names::POD_GENERATION.to_owned(), generations);
}

/// Whether the owner has a claim that the operator created.
fn has_own_claim(storage: Option<&Storage>) -> bool {
    storage.is_some_and(|storage| storage.existing_claim_name.is_none())
}

fn from_template(template: &PodTemplateSpec, mut metadata: ObjectMeta) -> Pod {
    if let Some(theirs) = &template.metadata {
        merge(&mut metadata.labels, theirs.labels.as_ref());
        merge(&mut metadata.annotations, theirs.annotations.as_ref());
    }
    let mut spec = template.spec.clone().unwrap_or_default();
    // Agents run unreviewed code, so the pod has no API token unless the user asks for one.
    spec.automount_service_account_token.get_or_insert(false);
    // For the same reason the pod gets no addresses of the Services in its namespace.
    spec.enable_service_links.get_or_insert(false);
    Pod { metadata, spec: Some(spec), status: None }
}

/// Adds the entries of the user with names that the operator does not set. Entries with our own prefix are dropped,
/// because they determine the ownership of objects. The recommended labels describe the application of the user: for
/// these the value of the user stays.
fn merge(ours: &mut Option<BTreeMap<String, String>>, theirs: Option<&BTreeMap<String, String>>) {
    let ours = ours.get_or_insert_default();
    for (key, value) in theirs.into_iter().flatten().filter(|(key, _)| !key.starts_with(names::PREFIX)) {
        if key.starts_with(RECOMMENDED) {
            ours.insert(key.clone(), value.clone());
        } else {
            ours.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Puts our variables before the variables of each container. `storage` is the mount path of the volume of the owner.
fn set_env(spec: &mut PodSpec, env: &[(&str, &str)], storage: Option<&str>) {
    for container in containers(spec) {
        let theirs = container.env.get_or_insert_default();
        let git = storage.filter(|_| !theirs.iter().any(|e| e.name.starts_with(GIT_CONFIG))).map(|path| {
            [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", path)]
        });
        let ours = env.iter().copied().chain(git.into_iter().flatten());
        let ours = ours.filter(|(name, _)| !theirs.iter().any(|e| e.name == *name));
        let ours: Vec<_> = ours.map(|(name, value)| literal(name, value)).collect();
        theirs.splice(..0, ours);
    }
}
