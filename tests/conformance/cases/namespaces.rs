//! The creation and the deletion of namespaces.

use serde_json::{Value, json};

use super::{case, named};
use crate::script::{Answer, Case};

/// A path in the second namespace of a case.
fn second(rest: &str) -> String {
    format!("/api/v1/namespaces/{{ns}}-b/{rest}")
}

fn towns(rest: &str) -> String {
    format!("/apis/gastown.dev/v1alpha1/namespaces/{{ns}}-b/towns{rest}")
}

fn secret(metadata: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
}

fn town() -> Value {
    json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "spec": {},
        "metadata": {"name": "a", "finalizers": ["example.com/held"]},
    })
}

fn going(answer: &Answer) -> bool {
    answer.body["metadata"].get("deletionTimestamp").is_some()
}

/// A namespace that is held by a finalizer on a Secret in it.
fn held(case: Case) -> Case {
    case.post("namespaces", named("{ns}-b"))
        .post(&second("secrets"), secret(json!({"name": "s", "finalizers": ["example.com/held"]})))
        .delete("namespaces/{ns}-b")
}

pub fn cases() -> Vec<Case> {
    vec![
        case("a namespace")
            .post("namespaces", named("{ns}-b"))
            .delete("namespaces/{ns}-b")
            .gone("namespaces/{ns}-b"),
        held(case("nothing is made in a namespace that goes"))
            .post(&second("secrets"), secret(json!({"name": "t"})))
            .post(&towns(""), town())
            .merge(&second("secrets/s"), json!({"metadata": {"labels": {"a": "b"}}}))
            .merge(&second("secrets/s"), json!({"metadata": {"finalizers": null}}))
            .gone("namespaces/{ns}-b"),
        case("everything in a namespace goes with it")
            .post("namespaces", named("{ns}-b"))
            .post(&second("secrets"), secret(json!({"name": "s"})))
            .post(&towns(""), town())
            .delete("namespaces/{ns}-b")
            .until(&towns("/a"), going)
            .until(&second("secrets/s"), |answer| answer.code == 404)
            .get(&towns("/a"))
            .merge(&towns("/a"), json!({"metadata": {"finalizers": null}}))
            .gone("namespaces/{ns}-b")
            .get(&towns("/a")),
        case("pods go before anything else")
            .post("namespaces", named("{ns}-b"))
            .made(&second("serviceaccounts/default"))
            .post(&towns(""), town())
            .post(&second("pods"), {
                let mut pod = super::pods::pod("p");
                pod["apiVersion"] = "v1".into();
                pod["kind"] = "Pod".into();
                pod["metadata"]["finalizers"] = json!(["example.com/held"]);
                pod["spec"]["serviceAccountName"] = "default".into();
                pod
            })
            .delete("namespaces/{ns}-b")
            .until(&second("pods/p"), going)
            .get(&towns("/a"))
            .merge(&second("pods/p"), json!({"metadata": {"finalizers": null}}))
            .until(&towns("/a"), going)
            .merge(&towns("/a"), json!({"metadata": {"finalizers": null}}))
            .gone("namespaces/{ns}-b"),
        held(case("a namespace of another UID is not deleted"))
            .delete_with("namespaces/{ns}-b", |_| json!({"preconditions": {"uid": "another"}}))
            .delete("namespaces/{ns}-b")
            .merge(&second("secrets/s"), json!({"metadata": {"finalizers": null}}))
            .gone("namespaces/{ns}-b"),
    ]
}
