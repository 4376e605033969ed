//! The scheduler and the single node. Pods start, become ready and end as their objects require. The driver of the
//! world requests all other events of a pod.

use serde_json::{Value, json};

use super::super::delete::Deletion;
use super::super::kinds::{id, kinds};
use super::super::object;
use super::super::store::Key;
use super::super::update::Part;
use super::super::world::World;
use super::Step;

pub const NODE: &str = "node";

/// An address without a route (RFC 5737).
const ADDRESS: &str = "203.0.113.1";

/// An image that no registry has.
pub const ABSENT: &str = "nowhere.invalid/absent:1";

/// An image whose process exits with code 0 when it receives SIGTERM.
pub const OBEDIENT: &str = "obedient";

/// Creates the node.
pub fn join(world: &mut World) {
    let node = json!({"metadata": {"name": NODE}, "spec": {}});
    let made = world.create(id::NODE, "", node);
    made.expect("there is one node, and it joins once");
}

pub(super) fn steps(world: &World, steps: &mut Vec<Step>) {
    let there = |name: &str| world.get(id::NODE, "", name).is_some();
    for (key, pod) in world.store().of_kind(id::POD) {
        let node = pod["spec"]["nodeName"].as_str();
        let phase = pod["status"]["phase"].as_str().unwrap_or_default();
        let ended = matches!(phase, "Succeeded" | "Failed");
        if node.is_some_and(|node| !there(node)) {
            if object::grace(pod) != Some(0) {
                steps.push(Step::Forget(key.clone()));
            }
        } else if node.is_some_and(|node| node != NODE) {
            // The pod belongs to another node.
        } else if object::is_going(pod) {
            // With a grace period of 0 the work of the node is done; a finalizer of another controller holds the pod.
            if object::grace(pod).is_some_and(|grace| grace > 0) {
                steps.push(if ended || phase == "Pending" {
                    Step::LetGo(key.clone())
                } else {
                    Step::End(key.clone())
                });
            }
        } else if node.is_none() && scheduled(pod) && there(NODE) && !ended && has_volumes(world, key, pod) {
            steps.push(Step::Bind(key.clone()));
        } else if node.is_some() && phase == "Pending" && pod["status"]["containerStatuses"].is_null() {
            steps.push(Step::Start(key.clone()));
        }
    }
}

/// Whether the pod waits for this scheduler.
fn scheduled(pod: &Value) -> bool {
    pod["spec"]["schedulerName"] == "default-scheduler"
}

/// Whether every claim of a pod is bound and not being deleted.
fn has_volumes(world: &World, key: &Key, pod: &Value) -> bool {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let mut claims = volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str());
    claims.all(|claim| {
        let found = world.get(id::CLAIM, key.namespace(), claim);
        found.is_some_and(|claim| claim["status"]["phase"] == "Bound" && !object::is_going(claim))
    })
}

pub fn bind(world: &mut World, key: &Key) {
    // The bind fails only for a pod that is removed or already bound.
    let _ = world.bind_to(key, "", NODE);
}

/// Starts a pod. The pod runs and is ready immediately. A pod with an absent image waits for the image.
pub fn start(world: &mut World, key: &Key) {
    report(world, key, |pod, now| {
        if has_image(pod, ABSENT) {
            let message = format!("Back-off pulling image \"{ABSENT}\"");
            let state = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
            return json!({
                "phase": "Pending", "startTime": now,
                "conditions": conditions(false, "ContainersNotReady", now),
                "containerStatuses": containers(pod, false, &state),
            });
        }
        let state = json!({"running": {"startedAt": now}});
        json!({
            "phase": "Running", "startTime": now, "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}],
            "conditions": conditions(true, "", now), "containerStatuses": containers(pod, true, &state),
        })
    });
}

/// Ends the containers of a pod without a delete, with this exit code and termination message. An injected container
/// continues to run.
pub fn exit(world: &mut World, key: &Key, code: i32, message: &str) {
    let injected = world.injects;
    report(world, key, |pod, now| {
        let mut status = ended(pod, code, message, now);
        let mut containers = status["containerStatuses"].as_array_mut().into_iter().flatten();
        if let Some(injected) =
            containers.find(|container| injected.is_some_and(|name| container["name"] == name))
        {
            injected["state"] = json!({"running": {"startedAt": now}});
            status["phase"] = "Running".into();
            status["conditions"] = conditions(false, "ContainersNotReady", now);
        }
        status
    });
}

/// Reboots the node of a pod: each container and init container has restarted once, and is not ready yet.
pub fn reboot(world: &mut World, key: &Key) {
    report(world, key, |pod, now| {
        let last = json!({"terminated": {"exitCode": 255, "reason": "Unknown", "startedAt": now, "finishedAt": now}});
        let restarted = |list: &str| -> Value {
            let containers = pod["spec"][list].as_array().into_iter().flatten();
            let told = containers.map(|container| {
                json!({
                    "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 1,
                    "ready": false, "started": false, "state": {"running": {"startedAt": now}}, "lastState": last,
                })
            });
            told.collect()
        };
        json!({
            "conditions": conditions(false, "ContainersNotReady", now),
            "containerStatuses": restarted("containers"), "initContainerStatuses": restarted("initContainers"),
        })
    });
}

/// Sets the containers of a pod to ready after a reboot.
pub fn recover(world: &mut World, key: &Key) {
    report(world, key, |pod, now| {
        let mut containers = pod["status"]["containerStatuses"].clone();
        for container in containers.as_array_mut().into_iter().flatten() {
            (container["ready"], container["started"]) = (true.into(), true.into());
        }
        json!({"conditions": conditions(true, "", now), "containerStatuses": containers})
    });
}

/// Evicts a pod by the eviction API, as an autoscaler does: the API server marks the pod and deletes it.
pub fn evict_by_api(world: &mut World, key: &Key) {
    report(world, key, |pod, now| {
        let mut conditions = pod["status"]["conditions"].clone();
        if let Some(conditions) = conditions.as_array_mut() {
            conditions.push(json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting", "lastTransitionTime": now,
            }));
        }
        json!({"conditions": conditions})
    });
    let _ = world.delete(key, &Deletion::default());
}

/// Evicts a pod, as a node under resource pressure does.
pub fn evict(world: &mut World, key: &Key) {
    report(world, key, |pod, now| {
        let mut status = ended(pod, if has_image(pod, OBEDIENT) { 0 } else { 137 }, "", now);
        status["reason"] = "Evicted".into();
        status["message"] = "The node was low on resource: memory.".into();
        status["conditions"].as_array_mut().expect("a list").push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet",
            "message": "The node was low on resource: memory.", "lastTransitionTime": now,
        }));
        status
    });
}

/// Ends the containers of a pod that is being deleted.
pub fn end(world: &mut World, key: &Key) {
    report(world, key, |pod, now| ended(pod, if has_image(pod, OBEDIENT) { 0 } else { 143 }, "", now));
}

/// Removes a pod whose containers have ended.
pub fn let_go(world: &mut World, key: &Key) {
    let Some(pod) = world.store().get(key) else { return };
    let uid = Some(object::uid(pod).to_owned());
    let _ = world.delete(key, &Deletion { grace: Some(0), uid, ..Deletion::default() });
}

/// Removes a pod whose node is gone.
pub fn forget(world: &mut World, key: &Key) {
    let_go(world, key);
}

fn report(world: &mut World, key: &Key, status: impl FnOnce(&Value, &Value) -> Value) {
    let now = object::seconds(world.now);
    // The node reports nothing about a removed pod.
    let _ = world.change(key, Part::Status, |pod| {
        let told = status(pod, &now);
        if let (Some(old), Value::Object(told)) = (pod["status"].as_object_mut(), told) {
            old.extend(told);
        }
        pod["status"]["observedGeneration"] = pod["metadata"]["generation"].clone();
    });
}

fn ended(pod: &Value, code: i32, message: &str, now: &Value) -> Value {
    let reason = if code == 0 { "Completed" } else { "Error" };
    let state = json!({"terminated": {
        "exitCode": code, "reason": reason, "message": message, "startedAt": now, "finishedAt": now,
    }});
    json!({
        "phase": if code == 0 { "Succeeded" } else { "Failed" },
        "conditions": conditions(false, if code == 0 { "PodCompleted" } else { "PodFailed" }, now),
        "containerStatuses": containers(pod, false, &state),
    })
}

fn has_image(pod: &Value, image: &str) -> bool {
    let mut containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers.any(|container| container["image"] == image)
}

fn containers(pod: &Value, ready: bool, state: &Value) -> Value {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let told = containers.map(|container| {
        json!({
            "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0,
            "ready": ready, "started": ready, "state": state,
        })
    });
    told.collect()
}

fn conditions(ready: bool, why_not: &str, now: &Value) -> Value {
    let condition = |kind: &str, is: bool| {
        let (status, reason) = if is { ("True", "") } else { ("False", why_not) };
        json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": now})
    };
    json!([
        condition("PodScheduled", true),
        condition("Initialized", true),
        condition("ContainersReady", ready),
        condition("Ready", ready),
    ])
}

/// The key of a pod.
pub fn pod(namespace: &str, name: &str) -> Key {
    Key::new(kinds().at(id::POD), namespace, name)
}
