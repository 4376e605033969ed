//! The deletion of definitions of our own kinds.

use serde_json::json;

use super::{case, held_town, town};
use crate::script::{Answer, Case};

const TOWNS: &str = "customresourcedefinitions/towns.gastown.dev";

pub fn cases() -> Vec<Case> {
    vec![
        case("a definition goes with all of its kind")
            .breaks()
            .post("towns", held_town("a"))
            .post("towns", town("b"))
            .delete_with(TOWNS, |_| json!({"propagationPolicy": "Background"}))
            .until("towns/a", |answer| answer.body["metadata"].get("deletionTimestamp").is_some())
            .gone("towns/b")
            .get("towns/a")
            .post("towns", town("c"))
            .merge("towns/a/status", json!({"status": {"phase": "Destroying"}}))
            .get("towns")
            .until(TOWNS, is_terminating)
            .merge("towns/a", json!({"metadata": {"finalizers": null}}))
            .gone(TOWNS)
            .until("towns", |answer| answer.code == 404)
            .get("towns")
            .get("towns/a")
            .get("agents")
            .get(TOWNS),
    ]
}

fn is_terminating(answer: &Answer) -> bool {
    let mut conditions = answer.body["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Terminating" && condition["status"] == "True")
}
