//! Deletions.

use serde_json::json;

use super::{case, held, held_town, named, town};
use crate::script::Case;

pub fn cases() -> Vec<Case> {
    vec![
        case("what nothing holds is gone at once")
            .post("towns", town("a"))
            .delete("towns/a")
            .get("towns/a")
            .post("secrets", named("a"))
            .delete("secrets/a")
            .post("services", json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}))
            .delete("services/a")
            .post("leases", named("a"))
            .delete("leases/a"),
        case("a delete of nothing").delete("towns/a").delete("secrets/a"),
        case("a town that is held is marked once")
            .post("towns", held_town("a"))
            .delete("towns/a")
            .delete("towns/a")
            .merge("towns/a", json!({"spec": {"suspend": true}})),
        case("a secret that is held is marked").post("secrets", held("a")).delete("secrets/a"),
        case("the last finalizer is off and it is gone")
            .post("towns", held_town("a"))
            .delete("towns/a")
            .json("towns/a", json!([{"op": "remove", "path": "/metadata/finalizers/0"}]))
            .get("towns/a"),
        case("one of two finalizers is off")
            .post(
                "secrets",
                json!({"metadata": {"name": "a", "finalizers": ["example.com/a", "example.com/b"]}}),
            )
            .delete("secrets/a")
            .merge("secrets/a", json!({"metadata": {"finalizers": ["example.com/b"]}}))
            .put("secrets/a", |seen| {
                super::again(seen, 2, |secret| secret["metadata"]["finalizers"] = json!([]))
            })
            .get("secrets/a"),
        case("what is going takes no new finalizer")
            .post("towns", held_town("a"))
            .delete("towns/a")
            .merge("towns/a", json!({"metadata": {"finalizers": ["example.com/held", "example.com/late"]}}))
            .merge("towns/a", json!({"metadata": {"finalizers": ["example.com/late"]}})),
        case("what is going stays so")
            .post("towns", held_town("a"))
            .delete("towns/a")
            .merge("towns/a", json!({"metadata": {"deletionTimestamp": null, "labels": {"a": "b"}}}))
            .merge("towns/a", json!({"metadata": {"deletionGracePeriodSeconds": 5}})),
        case("a status is written while it goes")
            .post("towns", held_town("a"))
            .delete("towns/a")
            .merge("towns/a/status", json!({"status": {"phase": "Destroying"}}))
            .merge("towns/a", json!({"metadata": {"finalizers": null}}))
            .merge("towns/a/status", json!({"status": {"phase": "Destroyed"}})),
        case("a delete of another object is a conflict")
            .post("towns", town("a"))
            .delete_with("towns/a", |_| json!({"preconditions": {"uid": "another"}}))
            .delete_with("towns/a", |seen| json!({"preconditions": {"uid": seen[0].uid()}}))
            .post("secrets", named("a"))
            .delete_with("secrets/a", |_| json!({"preconditions": {"uid": "another"}})),
        case("a delete of an old version is a conflict")
            .post("towns", held_town("a"))
            .merge("towns/a", json!({"metadata": {"labels": {"a": "b"}}}))
            .delete_with("towns/a", |seen| json!({"preconditions": {"resourceVersion": seen[0].version()}}))
            .delete_with("towns/a", |seen| json!({"preconditions": {"resourceVersion": seen[1].version()}})),
        case("a delete of what was made anew is a conflict")
            .post("secrets", named("a"))
            .delete("secrets/a")
            .post("secrets", named("a"))
            .delete_with("secrets/a", |seen| json!({"preconditions": {"uid": seen[0].uid()}}))
            .get("secrets/a"),
        case("a delete says how it spreads in words that exist")
            .post("secrets", named("a"))
            .delete_with("secrets/a", |_| json!({"propagationPolicy": "Sideways"})),
        case("what is held changes how it spreads")
            .post("towns", held_town("a"))
            .delete_with("towns/a", |_| json!({"propagationPolicy": "Background"}))
            .delete_with("towns/a", |_| json!({"propagationPolicy": "Background"})),
        case("all of a kind are deleted by their labels")
            .post("secrets", json!({"metadata": {"name": "a", "labels": {"x": "y"}}}))
            .post("secrets", json!({"metadata": {"name": "b", "labels": {"x": "z"}}}))
            .delete("secrets?labelSelector=x%3Dy")
            .get("secrets/a")
            .get("secrets/b"),
    ]
}
