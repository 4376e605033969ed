//! The fields that the server sets in pods, and the changes of pods that it permits.

use serde_json::{Map, Value, json};

use super::call::Call;
use super::kinds::{id, kinds};
use super::object::{self, Object};
use super::refusal::{Fault, Refusal};
use super::store::Key;
use super::world::{Answer, World};

/// Adds a container of this name, as the webhook of a service mesh does.
pub fn inject(pod: &mut Value, container: Option<&str>) {
    if let (Some(name), Some(containers)) = (container, pod["spec"]["containers"].as_array_mut()) {
        containers.push(json!({"name": name, "image": "mesh"}));
    }
}

/// Sets the defaults and the initial status of a new pod.
pub fn prepare(pod: &mut Value) {
    defaults(pod);
    pod["status"] = json!({"phase": "Pending", "qosClass": quality(pod)});
}

/// Sets the defaults of a pod spec.
pub fn defaults(pod: &mut Value) {
    let spec = &mut pod["spec"];
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
        ("priority", json!(0)),
        ("serviceAccountName", json!("default")),
    ] {
        default(spec, field, value);
    }
    let account = spec["serviceAccountName"].clone();
    default(spec, "serviceAccount", account);
    tolerate(spec);
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container_defaults(container);
        }
    }
    for volume in spec.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        for source in ["secret", "configMap", "projected", "downwardAPI"] {
            if let Some(source) = volume.get_mut(source) {
                default(source, "defaultMode", json!(420));
                field_versions(source);
            }
        }
        if let Some(path) = volume.get_mut("hostPath") {
            default(path, "type", json!(""));
        }
    }
}

fn container_defaults(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let moves = !image.contains('@') && last.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest");
    default(container, "terminationMessagePath", json!("/dev/termination-log"));
    default(container, "terminationMessagePolicy", json!("File"));
    default(container, "imagePullPolicy", json!(if moves { "Always" } else { "IfNotPresent" }));
    default(container, "resources", json!({}));
    if let Some(limits) = container["resources"].get("limits").and_then(Value::as_object).cloned() {
        for (name, limit) in limits {
            let requests = &mut container["resources"]["requests"];
            if requests.is_null() {
                *requests = json!({});
            }
            default(requests, &name, limit);
        }
    }
    for port in container.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default(port, "protocol", json!("TCP"));
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            for (field, value) in [
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ] {
                default(probe, field, json!(value));
            }
            if let Some(get) = probe.get_mut("httpGet") {
                default(get, "scheme", json!("HTTP"));
                default(get, "path", json!("/"));
            }
        }
    }
    field_versions(container);
}

/// Sets the default `apiVersion` of each field reference.
fn field_versions(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get_mut("fieldRef") {
                default(reference, "apiVersion", json!("v1"));
            }
            map.values_mut().for_each(field_versions);
        }
        Value::Array(items) => items.iter_mut().for_each(field_versions),
        _ => {}
    }
}

/// Adds the default tolerations: a pod tolerates a node without contact for five minutes.
fn tolerate(spec: &mut Value) {
    let list = &mut spec["tolerations"];
    if !list.is_array() {
        *list = json!([]);
    }
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = list.as_array_mut().expect("a list");
        if !tolerations.iter().any(|one| one["key"] == key) {
            tolerations.push(
                json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}),
            );
        }
    }
}

fn default(object: &mut Value, field: &str, value: Value) {
    if let Value::Object(map) = object
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.into(), value);
    }
}

/// The quality-of-service class of a pod.
fn quality(pod: &Value) -> &'static str {
    let containers = ["initContainers", "containers"];
    let containers: Vec<&Value> =
        containers.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten()).collect();
    let of = |container: &Value, what: &str| -> Map<String, Value> {
        let found = container["resources"][what].as_object().cloned().unwrap_or_default();
        found.into_iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")).collect()
    };
    let any = containers.iter().any(|c| !of(c, "requests").is_empty() || !of(c, "limits").is_empty());
    let all = containers.iter().all(|c| of(c, "limits").len() == 2 && of(c, "limits") == of(c, "requests"));
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Restores the metadata that a write of the status must not change.
pub fn prepare_status(new: &mut Value, old: &Object) {
    let owners = object::meta(old).get("ownerReferences").cloned();
    let meta = object::meta_mut(new);
    match owners {
        Some(owners) => meta.insert("ownerReferences".into(), owners),
        None => meta.remove("ownerReferences"),
    };
    if new["status"].get("qosClass").is_none() {
        new["status"]["qosClass"] = old["status"]["qosClass"].clone();
    }
}

/// The forbidden changes of a pod spec.
pub fn faults(new: &Value, old: &Value) -> Vec<Fault> {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for list in ["initContainers", "containers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                container.as_object_mut().map(|map| map.remove("image"));
            }
        }
        for field in ["activeDeadlineSeconds", "tolerations"] {
            spec.as_object_mut().map(|map| map.remove(field));
        }
        spec
    };
    if fixed(new) == fixed(old) {
        return Vec::new();
    }
    let why = "pod updates may not change fields other than `spec.containers[*].image`,\
               `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
               existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
               previously negative)";
    vec![Fault::forbidden("spec", why)]
}

impl World {
    /// Binds a pod to a node at the request of a scheduler.
    pub(super) fn bind(&mut self, call: &Call) -> Result<Answer, Refusal> {
        let pods = kinds().at(id::POD);
        let binding: Value = serde_json::from_slice(&call.body)
            .map_err(|error| Refusal::bad_request(format!("the object provided is unrecognized: {error}")))?;
        let node = binding["target"]["name"].as_str().unwrap_or_default();
        let uid = object::uid(&binding);
        self.bind_to(&Key::new(pods, &call.namespace, &call.name), uid, node)?;
        let status =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(Answer::object(201, status.into()))
    }

    /// Binds the pod with this UID to a node. An empty UID matches every pod of this name.
    pub fn bind_to(&mut self, key: &Key, uid: &str, node: &str) -> Result<(), Refusal> {
        let pods = kinds().at(id::POD);
        let old = self.store.get(key).cloned().ok_or_else(|| Refusal::not_found(pods, key.name()))?;
        if !uid.is_empty() && uid != object::uid(&old) {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                object::uid(&old)
            );
            return Err(Refusal::conflict(pods, key.name(), &why));
        }
        let mut refusal = None;
        if object::is_going(&old) {
            refusal = Some(format!("pod {} is being deleted, cannot be assigned to a host", key.name()));
        } else if let Some(there) = old["spec"]["nodeName"].as_str() {
            refusal = Some(format!("pod {} is already assigned to node \"{there}\"", key.name()));
        }
        if let Some(why) = refusal {
            let mut refusal = Refusal::conflict(pods, key.name(), &why);
            refusal.message = refusal.message.replacen("pods ", "pods/binding ", 1);
            refusal.details["kind"] = "pods/binding".into();
            return Err(refusal);
        }
        let mut pod = (*old).clone();
        pod["spec"]["nodeName"] = node.into();
        pod["status"]["conditions"] = json!([{"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": object::seconds(self.now)}]);
        self.put(key.clone(), pod);
        Ok(())
    }
}
