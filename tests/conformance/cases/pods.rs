//! Pods. No kubelet manages them: the case writes the status in place of the node.

use serde_json::{Value, json};

use super::case;
use crate::script::Case;

/// A pod that no scheduler binds.
pub fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "schedulerName": "nobody", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "example.com/c:1"}],
        },
    })
}

fn with(mut pod: Value, fields: Value) -> Value {
    for (field, value) in fields.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

pub fn cases() -> Vec<Case> {
    vec![
        case("a pod is filled in").post("pods", pod("a")),
        case("a pod is filled in down to its probes").post("pods", with(pod("a"), json!({
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
            "initContainers": [{"name": "i", "image": "example.com/i"}],
            "containers": [{
                "name": "c", "image": "example.com/c:latest", "ports": [{"containerPort": 80}],
                "readinessProbe": {"httpGet": {"port": 80}},
                "resources": {"limits": {"cpu": "1", "memory": "64Mi"}},
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }],
            "volumes": [
                {"name": "v", "emptyDir": {}},
                {"name": "s", "secret": {"secretName": "s"}},
                {"name": "d", "downwardAPI": {"items": [
                    {"path": "hook", "fieldRef": {"fieldPath": "metadata.annotations['gastown.dev/hook']"}},
                ]}},
            ],
        }))),
        case("a pod needs a container").post("pods", with(pod("a"), json!({"containers": []}))),
        case("a pod that was never bound is gone at once").post("pods", pod("a")).delete("pods/a").get("pods/a"),
        case("a bound pod ends in its grace")
            .post("pods", pod("a"))
            .bind("a")
            .get("pods/a")
            .delete("pods/a")
            .delete("pods/a"),
        case("a grace is given and shortened, never made longer")
            .post("pods", pod("a"))
            .bind("a")
            .delete_with("pods/a", |_| json!({"gracePeriodSeconds": 600}))
            .delete_with("pods/a", |_| json!({"gracePeriodSeconds": 900}))
            .delete_with("pods/a", |_| json!({"gracePeriodSeconds": 300}))
            .delete_with("pods/a", |_| json!({"gracePeriodSeconds": 0}))
            .get("pods/a"),
        case("a pod that has ended is gone at once")
            .post("pods", pod("a"))
            .bind("a")
            .merge("pods/a/status", json!({"status": {"phase": "Succeeded"}}))
            .delete("pods/a")
            .get("pods/a"),
        case("a pod that has ended and is held")
            .post("pods", held("a"))
            .bind("a")
            .merge("pods/a/status", json!({"status": {"phase": "Failed"}}))
            .delete("pods/a")
            .merge("pods/a", json!({"metadata": {"finalizers": null}}))
            .get("pods/a"),
        case("a pod is held beyond its grace")
            .post("pods", held("a"))
            .bind("a")
            .delete_with("pods/a", |_| json!({"gracePeriodSeconds": 20}))
            .delete_with("pods/a", |_| json!({"gracePeriodSeconds": 0}))
            .merge("pods/a", json!({"metadata": {"finalizers": null}}))
            .get("pods/a"),
        case("a pod that loses its finalizer in its grace stays")
            .post("pods", held("a"))
            .bind("a")
            .delete_with("pods/a", |_| json!({"gracePeriodSeconds": 600}))
            .merge("pods/a", json!({"metadata": {"finalizers": null}}))
            .delete_with("pods/a", |_| json!({"gracePeriodSeconds": 0})),
        case("a pod is bound once")
            .post("pods", pod("a"))
            .bind("a")
            .bind("a"),
        case("the spec of a pod stays")
            .post("pods", pod("a"))
            .merge("pods/a", json!({"spec": {"restartPolicy": "Never"}}))
            .merge("pods/a", json!({"spec": {"terminationGracePeriodSeconds": 5}}))
            .json("pods/a", json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "example.com/c:2"}])),
        case("annotations of a pod change")
            .post("pods", pod("a"))
            .merge("pods/a", json!({"metadata": {"annotations": {"gastown.dev/hook": "{}"}}})),
        case("a status of a pod leaves its spec and its owners")
            .post("pods", pod("a"))
            .merge("pods/a/status", json!({
                "metadata": {
                    "labels": {"a": "b"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}],
                },
                "spec": {"schedulerName": "another"}, "status": {"phase": "Running"},
            })),
        case("a pod of another UID is not deleted")
            .post("pods", pod("a"))
            .delete_with("pods/a", |_| json!({"preconditions": {"uid": "another"}}))
            .bind("a")
            .delete_with("pods/a", |seen| json!({"preconditions": {"uid": seen[0].uid()}})),
        case("pods chosen by their node and phase")
            .post("pods", pod("a"))
            .post("pods", pod("b"))
            .bind("b")
            .get("pods?fieldSelector=spec.nodeName%3Dlent")
            .get("pods?fieldSelector=spec.nodeName%3D")
            .get("pods?fieldSelector=status.phase%21%3DPending"),
    ]
}

fn held(name: &str) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["finalizers"] = json!(["example.com/held"]);
    pod
}
