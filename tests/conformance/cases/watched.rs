//! Watches.

use serde_json::json;

use super::{case, held_town, town};
use crate::script::{Case, Seen};

fn since(seen: &Seen, place: usize) -> String {
    format!("towns?watch=true&resourceVersion={}", seen[place].version())
}

pub fn cases() -> Vec<Case> {
    vec![
        case("everything since a version")
            .post("towns", town("a"))
            .post("towns", town("b"))
            .merge("towns/b", json!({"metadata": {"labels": {"a": "b"}}}))
            .delete("towns/b")
            .follow(3, |seen| since(seen, 0)),
        case("what goes is seen going and gone")
            .post("towns", held_town("a"))
            .delete("towns/a")
            .merge("towns/a", json!({"metadata": {"finalizers": null}}))
            .follow(2, |seen| since(seen, 0)),
        case("what is there already comes first")
            .post("towns", town("b"))
            .post("towns", town("a"))
            .follow(2, |_| "towns?watch=true".into())
            .follow(2, |_| "towns?watch=true&resourceVersion=0".into()),
        case("what enters and leaves a selection")
            .post("towns", town("a"))
            .merge("towns/a", json!({"metadata": {"labels": {"x": "1"}}}))
            .merge("towns/a", json!({"metadata": {"annotations": {"y": "1"}}}))
            .merge("towns/a", json!({"metadata": {"labels": {"x": "2"}}}))
            .merge("towns/a", json!({"metadata": {"annotations": {"y": "2"}}}))
            .merge("towns/a", json!({"metadata": {"labels": {"x": "1"}}}))
            .delete("towns/a")
            .follow(5, |seen| format!("{}&labelSelector=x%3D1", since(seen, 0))),
        case("one object alone")
            .post("towns", town("a"))
            .post("towns", town("b"))
            .merge("towns/b", json!({"metadata": {"labels": {"a": "b"}}}))
            .merge("towns/a", json!({"metadata": {"labels": {"a": "b"}}}))
            .follow(1, |seen| format!("{}&fieldSelector=metadata.name%3Da", since(seen, 0))),
        case("a phase that comes and goes")
            .post("towns", town("a"))
            .merge("towns/a/status", json!({"status": {"phase": "Idle"}}))
            .merge("towns/a/status", json!({"status": {"phase": "Active"}}))
            .follow(2, |seen| format!("{}&fieldSelector=status.phase%3DIdle", since(seen, 0))),
        case("a pod that ends in its grace")
            .post("pods", super::pods::pod("a"))
            .bind("a")
            .delete("pods/a")
            .delete_with("pods/a", |_| json!({"gracePeriodSeconds": 0}))
            .follow(4, |seen| format!("pods?watch=true&resourceVersion={}", seen[0].version())),
    ]
}
