//! Access rules.

use serde_json::json;

use super::{case, named, town};
use crate::script::{Case, NOBODY};

pub fn cases() -> Vec<Case> {
    vec![
        case("nobody may read")
            .by(NOBODY)
            .get("towns/a")
            .get("towns")
            .get("/apis/gastown.dev/v1alpha1/towns"),
        case("nobody may write")
            .by(NOBODY)
            .post("towns", town("a"))
            .put("towns/a", |_| town("a"))
            .merge("towns/a", json!({"metadata": {"labels": {"a": "b"}}}))
            .merge("towns/a/status", json!({"status": {"phase": "Idle"}}))
            .delete("towns/a")
            .delete("towns"),
        case("nobody may watch").by(NOBODY).get("pods?watch=true"),
        case("whether there is one is no business of nobody")
            .post("secrets", named("a"))
            .by(NOBODY)
            .get("secrets/a")
            .get("namespaces/{ns}")
            .delete_with("secrets/a", |_| json!({"preconditions": {"uid": "another"}})),
    ]
}
