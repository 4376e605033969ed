//! The content of children.

// Specs are `json!` literals, which the helpers pass on unchanged.
#![allow(clippy::needless_pass_by_value)]

mod claim;
mod facts;
mod meta;
mod pod;
mod revision;
mod secret;
mod security;
mod service;
mod volumes;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use serde_json::{Value, json};

use super::{Install, VolumeGroup, agent_pod, town_pod};
use crate::api::{Agent, Town, names};
use crate::lifecycle::mode;

const TOWN: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const AGENT: &str = "bbbbbbbb-0000-4000-8000-000000000000";

fn here() -> Install {
    Install("here".into())
}

fn template(spec: Value) -> Value {
    let mut template = json!({"spec": {"containers": [{"name": "main", "image": "busybox"}]}});
    merge(&mut template["spec"], spec);
    template
}

fn merge(into: &mut Value, from: Value) {
    if let Value::Object(from) = from {
        for (key, value) in from {
            into[key] = value;
        }
    }
}

fn town(spec: Value) -> Town {
    let mut all = json!({"template": template(json!({})), "agentTemplate": template(json!({}))});
    merge(&mut all, spec);
    let metadata = json!({"name": "gas", "namespace": "ns", "uid": TOWN});
    let object =
        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": metadata, "spec": all});
    serde_json::from_value(object).unwrap()
}

fn agent(spec: Value) -> Agent {
    let mut all = json!({"townName": "gas", "role": "Polecat", "rig": "rig", "hook": {"bead": "b1"}});
    merge(&mut all, spec);
    let metadata =
        json!({"name": "toast", "namespace": "ns", "uid": AGENT, "labels": {names::TOWN_UID: TOWN}});
    let object =
        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "metadata": metadata, "spec": all});
    serde_json::from_value(object).unwrap()
}

fn pod_of_town(spec: Value) -> Pod {
    town_pod(&town(spec), None, &here(), VolumeGroup::default()).unwrap()
}

fn pod_of(agent: &Agent) -> Pod {
    pod_in(agent, &town(json!({})))
}

/// The pod of an agent in a town that is not bare.
fn pod_in(agent: &Agent, town: &Town) -> Pod {
    agent_pod(agent, mode(agent), town, None, &here(), VolumeGroup::default()).unwrap()
}

fn label<'a>(pod: &'a Pod, key: &str) -> &'a str {
    pod.metadata.labels.as_ref().and_then(|l| l.get(key)).map_or("", String::as_str)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> &'a str {
    pod.metadata.annotations.as_ref().and_then(|a| a.get(key)).map_or("", String::as_str)
}

fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap()
}

fn env<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.env.iter().flatten().find(|e| e.name == name).and_then(|e| e.value.as_deref())
}

/// The containers of a pod, including init containers.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = spec(pod);
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// The name of the volume that a container has at a path.
fn at<'a>(container: &'a Container, path: &str) -> Option<&'a str> {
    container.volume_mounts.iter().flatten().find(|m| m.mount_path == path).map(|m| m.name.as_str())
}

/// The volume that a container of this pod has at a path.
fn volume_at<'a>(pod: &'a Pod, container: &Container, path: &str) -> &'a Volume {
    let name = at(container, path).unwrap_or_else(|| panic!("{} has nothing at {path}", container.name));
    spec(pod).volumes.iter().flatten().find(|volume| volume.name == name).unwrap()
}

/// A template with an init container in addition to the main one.
fn with_init() -> Value {
    template(json!({"initContainers": [{"name": "init", "image": "busybox"}]}))
}
