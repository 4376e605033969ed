//! The garbage collector.

use serde_json::{Value, json};

use super::{SECRET, TOWN, case, held, held_town, named, owned, owner, town};
use crate::script::{Case, Seen};

fn pod_of(seen: &Seen) -> Value {
    let mut pod = super::pods::pod("p");
    pod["metadata"]["ownerReferences"] = json!([owner(seen, 0, TOWN, true)]);
    pod
}

pub fn cases() -> Vec<Case> {
    vec![
        case("in the background the owner goes first")
            .post("towns", town("a"))
            .post_with("pods", pod_of)
            .post_with("secrets", |seen| owned("s", seen, TOWN, true))
            .delete_with("towns/a", |_| json!({"propagationPolicy": "Background"}))
            .get("towns/a")
            .gone("secrets/s")
            .gone("pods/p"),
        case("in the foreground it goes last")
            .post("towns", town("a"))
            .post_with("secrets", |seen| {
                let mut secret = owned("s", seen, TOWN, true);
                secret["metadata"]["finalizers"] = json!(["example.com/held"]);
                secret
            })
            .delete_with("towns/a", |_| json!({"propagationPolicy": "Foreground"}))
            .until("secrets/s", |answer| answer.body["metadata"].get("deletionTimestamp").is_some())
            .get("towns/a")
            .merge("secrets/s", json!({"metadata": {"finalizers": null}}))
            .gone("towns/a")
            .get("secrets/s"),
        case("in the foreground what does not block is not waited for")
            .post("towns", town("a"))
            .post_with("secrets", |seen| {
                let mut secret = owned("s", seen, TOWN, false);
                secret["metadata"]["finalizers"] = json!(["example.com/held"]);
                secret
            })
            .delete_with("towns/a", |_| json!({"propagationPolicy": "Foreground"}))
            .gone("towns/a")
            .until("secrets/s", |answer| answer.body["metadata"].get("deletionTimestamp").is_some())
            .merge("secrets/s", json!({"metadata": {"finalizers": null}})),
        case("in the foreground a whole chain goes from its end")
            .post("secrets", named("a"))
            .post_with("secrets", |seen| owned("b", seen, SECRET, true))
            .post_with("secrets", |seen| {
                let mut last = held("c");
                last["metadata"]["ownerReferences"] = json!([owner(seen, 1, SECRET, true)]);
                last
            })
            .delete_with("secrets/a", |_| json!({"propagationPolicy": "Foreground"}))
            .until("secrets/c", |answer| answer.body["metadata"].get("deletionTimestamp").is_some())
            .get("secrets/b")
            .get("secrets/c")
            .merge("secrets/c", json!({"metadata": {"finalizers": null}}))
            .gone("secrets/a")
            .get("secrets/b"),
        case("orphans stay and name nobody")
            .post("towns", town("a"))
            .post_with("secrets", |seen| owned("s", seen, TOWN, true))
            .delete_with("towns/a", |_| json!({"propagationPolicy": "Orphan"}))
            .gone("towns/a")
            .get("secrets/s"),
        case("a held owner that goes in the background keeps what it owns")
            .post("towns", held_town("a"))
            .post_with("secrets", |seen| owned("s", seen, TOWN, true))
            .delete_with("towns/a", |_| json!({"propagationPolicy": "Background"}))
            .get("secrets/s")
            .merge("towns/a", json!({"metadata": {"finalizers": null}}))
            .gone("secrets/s"),
        case("an owner of the same name and another UID is none")
            .post("secrets", named("a"))
            .delete("secrets/a")
            .post("secrets", named("a"))
            .post_with("secrets", |seen| owned("s", seen, SECRET, true))
            .gone("secrets/s")
            .get("secrets/a"),
        case("one of two owners is enough")
            .post("secrets", named("a"))
            .post("secrets", named("b"))
            .post_with("secrets", |seen| {
                json!({"metadata": {"name": "s", "ownerReferences": [
                    owner(seen, 0, SECRET, true), owner(seen, 1, SECRET, true),
                ]}})
            })
            .delete("secrets/a")
            .until("secrets/s", |answer| {
                answer.body["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.len() == 1)
            })
            .get("secrets/s")
            .delete("secrets/b")
            .gone("secrets/s"),
        case("how it spreads can be changed while it goes")
            .post("towns", held_town("a"))
            .post_with("secrets", |seen| owned("s", seen, TOWN, true))
            .delete_with("towns/a", |_| json!({"propagationPolicy": "Orphan"}))
            .until("towns/a", |answer| {
                answer.body["metadata"]["finalizers"].as_array().is_some_and(|all| all.len() == 1)
            })
            .get("secrets/s")
            .merge("towns/a", json!({"metadata": {"finalizers": null}}))
            .gone("towns/a")
            .get("secrets/s"),
    ]
}
