//! Patches.

use http::Method;
use serde_json::json;

use super::{case, held_town, named, town};
use crate::script::Case;

pub fn cases() -> Vec<Case> {
    vec![
        case("a merge patch adds and takes away")
            .post("towns", json!({"metadata": {"name": "a", "labels": {"a": "b", "c": "d"}}, "spec": {}}))
            .merge("towns/a", json!({"metadata": {"labels": {"a": null, "e": "f"}, "annotations": {"g": "h"}}})),
        case("a patch of another object is refused")
            .post("towns", town("a"))
            .merge("towns/a", json!({"metadata": {"uid": "another", "labels": {"a": "b"}}}))
            .merge_with("towns/a", |seen| json!({"metadata": {"uid": seen[0].uid(), "labels": {"a": "b"}}}))
            .post("secrets", named("a"))
            .merge("secrets/a", json!({"metadata": {"uid": "another", "labels": {"a": "b"}}})),
        case("a patch of an old version is a conflict")
            .post("towns", town("a"))
            .merge("towns/a", json!({"metadata": {"labels": {"a": "b"}}}))
            .merge_with("towns/a", |seen| {
                json!({"metadata": {"resourceVersion": seen[0].version(), "labels": {"a": "c"}}})
            })
            .merge_with("towns/a/status", |seen| {
                json!({"metadata": {"resourceVersion": seen[0].version()}, "status": {"phase": "Idle"}})
            }),
        case("a patch of nothing")
            .merge("towns/a", json!({"metadata": {"labels": {"a": "b"}}}))
            .json("secrets/a", json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]))
            .merge("towns/a/status", json!({"status": {"phase": "Idle"}})),
        case("a patch keeps name and namespace")
            .post("secrets", named("a"))
            .merge("secrets/a", json!({"metadata": {"name": "b"}}))
            .merge("secrets/a", json!({"metadata": {"namespace": "elsewhere"}})),
        case("a test that fails refuses the patch")
            .post("towns", held_town("a"))
            .json_with("towns/a", |_| {
                json!([
                    {"op": "test", "path": "/metadata/uid", "value": "another"},
                    {"op": "remove", "path": "/metadata/finalizers/0"},
                ])
            })
            .get("towns/a"),
        case("a test that holds lets it through")
            .post("towns", held_town("a"))
            .json_with("towns/a", |seen| {
                json!([
                    {"op": "test", "path": "/metadata/uid", "value": seen[0].uid()},
                    {"op": "test", "path": "/metadata/finalizers/0", "value": "example.com/held"},
                    {"op": "remove", "path": "/metadata/finalizers/0"},
                ])
            }),
        case("a patch of a place that is not there")
            .post("towns", town("a"))
            .json("towns/a", json!([{"op": "remove", "path": "/metadata/finalizers/0"}]))
            .json("towns/a", json!([{"op": "test", "path": "/metadata/finalizers/0", "value": "x"}]))
            .json("towns/a", json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/x"}])),
        case("a patch that is none")
            .post("towns", town("a"))
            .send(Method::PATCH, "towns/a", "application/merge-patch+json", "{")
            .send(Method::PATCH, "towns/a", "application/json-patch+json", "{}"),
        case("a patch that the schema refuses")
            .post("towns", town("a"))
            .merge("towns/a", json!({"spec": {"suspend": "yes"}}))
            .merge("towns/a", json!({"spec": null})),
        case("owners are named once")
            .post("secrets", named("a"))
            .merge_with("secrets/a", |seen| {
                let owner = json!({"apiVersion": "v1", "kind": "Secret", "name": "a", "uid": seen[0].uid()});
                json!({"metadata": {"ownerReferences": [owner]}})
            }),
        case("a claim is let go by its labels")
            .post("persistentvolumeclaims", json!({
                "metadata": {"name": "a", "labels": {"gastown.dev/install": "i", "x": "y"}},
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "none-such",
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }))
            .merge_with("persistentvolumeclaims/a", |seen| {
                json!({"metadata": {
                    "uid": seen[0].uid(), "labels": {"gastown.dev/install": null},
                    "annotations": {"gastown.dev/retained-from": "Town/x/y"},
                }})
            }),
    ]
}
