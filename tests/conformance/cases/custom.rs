//! Our own kinds: schema, defaults and rules.

use serde_json::{Value, json};

use super::{case, town};
use crate::script::Case;

pub fn cases() -> Vec<Case> {
    vec![
        case("defaults are filled in")
            .post("agents", agent(json!({"role": "Crew"})))
            .post("towns", json!({"metadata": {"name": "a"}, "spec": {"drain": {}}})),
        case("what the schema does not know is dropped")
            .post("towns", json!({
                "metadata": {"name": "a"}, "spec": {"unknown": 1, "drain": {"unknown": 2}}, "unknown": 3,
            })),
        case("a null is nothing").post("agents", agent(json!({"role": "Crew", "retry": null, "mode": null}))),
        case("a field that is required")
            .post("agents", json!({"metadata": {"name": "a"}, "spec": {"role": "Crew"}}))
            .post("agents", json!({"metadata": {"name": "a"}})),
        case("a value of those that there are").post("agents", agent(json!({"role": "jester"}))),
        case("a number in its range")
            .post("agents", agent(json!({"role": "Crew", "retry": {"limit": 0}})))
            .post("agents", agent(json!({"role": "Crew", "retry": {"limit": 101}})))
            .post("agents", agent(json!({"role": "Crew", "retry": {"limit": 100}}))),
        case("a value of the wrong type")
            .post("towns", json!({"metadata": {"name": "a"}, "spec": {"suspend": "no"}}))
            .post("agents", agent(json!({"role": "Crew", "retry": {"limit": "5"}})))
            .post("agents", agent(json!({"role": "Crew", "retry": 5}))),
        case("a text that fits its pattern")
            .post("agents", json!({"metadata": {"name": "a"}, "spec": {"townName": "Not Plain", "role": "Crew"}}))
            .post("towns", json!({"metadata": {"name": "a"}, "spec": {"sleepAfter": "soon"}})),
        case("a text that is too long")
            .post("agents", json!({"metadata": {"name": "a"}, "spec": {"townName": "x".repeat(254), "role": "Crew"}})),
        case("a rule about one field")
            .post("towns", json!({"metadata": {"name": "a"}, "spec": {"sleepAfter": "1s"}}))
            .post("towns", json!({"metadata": {"name": "a"}, "spec": {"sleepAfter": "10s"}})),
        case("a rule about two fields")
            .post("agents", agent(json!({"role": "Polecat"})))
            .post("agents", agent(json!({"role": "Polecat", "rig": "core"})))
            .post("towns", json!({"metadata": {"name": "a"}, "spec": {"storage": {"size": "1Gi"}}})),
        case("a field that never changes")
            .post("agents", agent(json!({"role": "Crew"})))
            // The real server stores the default status with the first write.
            .merge("agents/a/status", json!({"status": {"phase": "Idle"}}))
            .merge("agents/a", json!({"spec": {"townName": "other"}}))
            .merge("agents/a", json!({"spec": {"role": "witness"}}))
            .merge("agents/a", json!({"spec": {"townName": "gas"}})),
        case("a quantity is one")
            .post("towns", storage("0"))
            .post("towns", storage("much"))
            .post("towns", storage("1Gi")),
        case("two rules at once")
            .post("towns", json!({
                "metadata": {"name": "a"}, "spec": {"storage": {"size": "1Gi"}, "ports": [{"name": "a", "port": 80}]},
            })),
        case("a template is kept as it was written").post("towns", json!({
            "metadata": {"name": "a"},
            "spec": {"template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{
                    "name": "c", "image": "i", "env": [{"name": "A", "value": "b"}],
                    "resources": {"limits": {"cpu": 1, "memory": "64Mi"}},
                    "ports": [{"containerPort": 80}],
                }]},
            }},
        })),
        case("a definition can be read")
            .get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/none.gastown.dev"),
        case("a tombstone lies in no namespace")
            .post("tombstones", tombstone())
            .get("tombstones/{ns}")
            .get("tombstones?fieldSelector=spec.uid%3Done%2Cspec.namespace%3D{ns}")
            .merge("tombstones/{ns}/status", json!({"status": {"phase": "Destroyed"}}))
            .merge("tombstones/{ns}", json!({"spec": {"recreate": "Allow"}}))
            .put("tombstones/{ns}/status", |seen| {
                super::again(seen, 4, |tombstone| _ = tombstone.as_object_mut().unwrap().remove("status"))
            })
            .follow(2, |seen| {
                format!("tombstones?watch=true&fieldSelector=metadata.name%3D{{ns}}&resourceVersion={}", seen[0].version())
            })
            .delete("tombstones/{ns}"),
        case("a tombstone says whose it is").post("tombstones", json!({"metadata": {"name": "{ns}"}, "spec": {"kind": "Village"}})),
        case("a town that slept and was not asked for")
            .post("towns", town("a"))
            .merge("towns/a/status", json!({"status": {"phase": "Asleep", "conditions": []}}))
            .get("towns/a"),
    ]
}

fn agent(mut spec: Value) -> Value {
    spec["townName"] = "gas".into();
    json!({"metadata": {"name": "a"}, "spec": spec})
}

fn tombstone() -> Value {
    json!({"metadata": {"name": "{ns}"}, "spec": {
        "kind": "Town", "namespace": "{ns}", "name": "gas", "uid": "one", "cause": "Deleted",
        "deleteTime": "2030-01-01T00:00:00Z", "expireTime": "2030-01-02T00:00:00Z",
    }})
}

fn storage(size: &str) -> Value {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    json!({"metadata": {"name": "a"}, "spec": {"storage": {"size": size}, "template": template}})
}
