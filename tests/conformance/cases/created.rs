//! Creates.

use http::Method;
use serde_json::json;

use super::{case, held, named, town};
use crate::script::Case;

pub fn cases() -> Vec<Case> {
    vec![
        case("a new object has its first generation").post("towns", town("a")).get("towns/a"),
        case("a name is taken once").post("secrets", named("a")).post("secrets", named("a")),
        case("a name is taken while its holder goes")
            .post("secrets", held("a"))
            .delete("secrets/a")
            .post("secrets", named("a"))
            .merge("secrets/a", json!({"metadata": {"finalizers": null}})),
        case("what the server sets cannot be given").post(
            "towns",
            json!({
                "metadata": {
                    "name": "a", "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7,
                    "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5,
                    "labels": {}, "annotations": {}, "finalizers": [], "unknown": "x",
                },
                "spec": {},
            }),
        ),
        case("a new object has no version yet")
            .post("secrets", json!({"metadata": {"name": "a", "resourceVersion": "1"}})),
        case("an object needs a name").post("secrets", json!({"metadata": {}})).post("towns", json!({"spec": {}})),
        case("names are lower case").post("towns", town("Gas")).post("secrets", named("under_score")),
        case("names of namespaces and services are labels")
            .post("namespaces", named("a.b"))
            .post("services", json!({"metadata": {"name": "a.b"}, "spec": {"ports": [{"port": 80}]}})),
        case("labels are short and plain")
            .post("secrets", json!({"metadata": {"name": "a", "labels": {"l": "x".repeat(64)}}}))
            .post("secrets", json!({"metadata": {"name": "a", "labels": {"l": "no blanks"}}})),
        case("finalizers have a domain")
            .post("secrets", json!({"metadata": {"name": "a", "finalizers": ["mine"]}}))
            .post("secrets", json!({"metadata": {"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}})),
        case("an owner is fully named").post(
            "secrets",
            json!({"metadata": {"name": "a", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Secret", "name": "", "uid": ""},
            ]}}),
        ),
        case("one owner at most is the controller").post(
            "secrets",
            json!({"metadata": {"name": "a", "ownerReferences": [
                {"apiVersion": "v1", "kind": "Secret", "name": "b", "uid": "b", "controller": true},
                {"apiVersion": "v1", "kind": "Secret", "name": "c", "uid": "c", "controller": true},
            ]}}),
        ),
        case("an object is made where it says that it is")
            .post("secrets", json!({"metadata": {"name": "a", "namespace": "elsewhere"}})),
        case("nothing is made in a namespace that is not there")
            .post("/api/v1/namespaces/{ns}-none/secrets", json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
            })),
        case("a body that is no JSON").send(Method::POST, "towns", "application/json", "{"),
        case("a body of another kind")
            .post("towns", json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}))
            .post("secrets", json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": "a"}})),
        case("a body of the wrong shape").post("secrets", json!({"metadata": {"name": "a"}, "type": 5})),
        case("a kind that nobody knows")
            .get("/apis/gastown.dev/v1alpha1/namespaces/{ns}/villages")
            .get("/apis/gastown.dev/v1alpha1/namespaces/{ns}/villages/a")
            .get("/apis/example.com/v1/things")
            .get("/api/v1/namespaces/{ns}/things/a"),
        case("a secret has a type and its data").post(
            "secrets",
            json!({"metadata": {"name": "a", "labels": {"a": "b"}}, "data": {"token": "dG9rZW4="}}),
        ),
        case("a service has an address and full ports")
            .post("services", json!({
                "metadata": {"name": "a"},
                "spec": {"selector": {"a": "b"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
            }))
            .post("services", json!({
                "metadata": {"name": "b"},
                "spec": {"clusterIP": "None", "selector": {"a": "b"}, "ports": [{"port": 8080}]},
            })),
        case("a lease").post("leases", json!({
            "metadata": {"name": "a", "annotations": {"a": "b"}},
            "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 0},
        })),
        case("an event").post("events", json!({
            "metadata": {"name": "a"}, "eventTime": "2030-01-01T00:00:00.000000Z", "reason": "Slept",
            "action": "Sleep", "type": "Normal", "note": "well", "reportingController": "town-operator",
            "reportingInstance": "one", "regarding": {
                "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "name": "a", "namespace": "{ns}",
            },
        })),
    ]
}
