//! Replacements of objects and of their status.

use serde_json::{Value, json};

use super::{again, case, named, town};
use crate::script::Case;

#[allow(clippy::too_many_lines)] // The function is one list.
pub fn cases() -> Vec<Case> {
    vec![
        case("a change of the spec is a generation")
            .post("towns", town("a"))
            .put("towns/a", |seen| again(seen, 0, |town| town["spec"]["suspend"] = true.into()))
            .put("towns/a", |seen| again(seen, 1, |town| town["metadata"]["labels"] = json!({"a": "b"}))),
        case("what changes nothing writes nothing") // The first write stores the default status.
            .post("towns", town("a"))
            .merge("towns/a/status", json!({"status": {"phase": "Idle"}}))
            .put("towns/a", |seen| seen[1].body.clone())
            .merge("towns/a", json!({"spec": {"suspend": false}})),
        case("a replacement of an old version is a conflict")
            .post("towns", town("a"))
            .merge("towns/a", json!({"metadata": {"labels": {"a": "b"}}}))
            .put("towns/a", |seen| seen[0].body.clone())
            .put("towns/a/status", |seen| seen[0].body.clone()),
        case("a replacement of ours says what it replaces")
            .post("towns", town("a"))
            .put("towns/a", |_| town("a"))
            .put("towns/a/status", |_| town("a")),
        case("some kinds are replaced whatever they are")
            .post("secrets", named("a"))
            .put("secrets/a", |_| json!({"metadata": {"name": "a", "labels": {"a": "b"}}}))
            .post("leases", named("a"))
            .put("leases/a", |_| json!({"metadata": {"name": "a", "labels": {"a": "b"}}})),
        case("a replacement of another object is a conflict")
            .post("towns", town("a"))
            .put("towns/a", |seen| again(seen, 0, |town| town["metadata"]["uid"] = "another".into()))
            .post("secrets", named("a"))
            .put("secrets/a", |_| json!({"metadata": {"name": "a", "uid": "another"}})),
        case("a replacement of nothing")
            .put("towns/a", |_| town("a"))
            .put("secrets/a", |_| named("a"))
            .put("towns/a/status", |_| town("a")),
        case("a replacement has the name of its path")
            .post("secrets", named("a"))
            .put("secrets/a", |_| named("b"))
            .put("secrets/a", |_| json!({"metadata": {}})),
        case("the status is no part of the rest")
            .post("towns", json!({"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "Idle"}}))
            .merge("towns/a/status", json!({"status": {"phase": "Running"}}))
            .merge("towns/a", json!({"status": {"phase": "Idle"}}))
            .get("towns/a"),
        case("the rest is no part of the status")
            .post("towns", town("a"))
            .put("towns/a/status", |seen| {
                again(seen, 0, |town| {
                    town["spec"]["suspend"] = true.into();
                    town["metadata"]["labels"] = json!({"a": "b"});
                    town["metadata"]["finalizers"] = json!(["example.com/late"]);
                    town["status"] = json!({"phase": "Idle", "unknown": 1});
                })
            })
            .merge("towns/a/status", json!({"spec": {"suspend": true}, "status": {"phase": "Active"}}))
            .get("towns/a/status"),
        case("a status can be taken away")
            .post("towns", town("a"))
            .merge("towns/a/status", json!({"status": {"phase": "Idle"}}))
            .put("towns/a/status", |seen| {
                again(seen, 1, |town| {
                    town.as_object_mut().unwrap().remove("status");
                })
            }),
        case("a status keeps to the schema")
            .post("towns", town("a"))
            .merge("towns/a/status", json!({"status": {"phase": 5}}))
            .merge("towns/a/status", json!({"status": {"sleepTime": "tomorrow"}})),
        case("conditions are one of a type").post("towns", town("a")).merge(
            "towns/a/status",
            json!({"status": {"conditions": [condition("Ready"), condition("Ready")]}}),
        ),
        case("what the server set stays")
            .post("towns", town("a"))
            .put("towns/a", |seen| {
                again(seen, 0, |town| {
                    town["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
                    town["metadata"]["generation"] = 9.into();
                    town["metadata"]["labels"] = json!({"a": "b"});
                })
            })
            .put("towns/a", |seen| {
                again(seen, 1, |town| town["metadata"]["deletionTimestamp"] = "2001-01-01T00:00:00Z".into())
            }),
        case("a lease is held by versions")
            .post("leases", json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "one"}}))
            .put("leases/a", |seen| again(seen, 0, |lease| lease["spec"]["holderIdentity"] = "two".into()))
            .put("leases/a", |seen| again(seen, 0, |lease| lease["spec"]["holderIdentity"] = "three".into())),
        case("a secret that is immutable stays as it is")
            .post("secrets", json!({"metadata": {"name": "a"}, "immutable": true, "data": {"a": "YQ=="}}))
            .merge("secrets/a", json!({"data": {"a": "Yg=="}}))
            .merge("secrets/a", json!({"metadata": {"labels": {"a": "b"}}})),
        case("a service keeps its address")
            .post(
                "services",
                json!({
                    "metadata": {"name": "a"},
                    "spec": {"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"port": 80}]},
                }),
            )
            .merge("services/a", json!({"spec": {"ports": [{"port": 81}]}}))
            .merge("services/a", json!({"spec": {"clusterIP": "10.1.1.1"}})),
    ]
}

fn condition(kind: &str) -> Value {
    json!({
        "type": kind, "status": "True", "reason": "R", "message": "",
        "lastTransitionTime": "2030-01-01T00:00:00Z",
    })
}
