//! What cannot be decoded is neither there nor gone.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{Agent, Town, names};

use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;
use crate::words::{Told, polecat, workshop};

/// What got no answer is asked again at least once a minute.
const A_MINUTE: Duration = Duration::from_secs(75);

pub fn add(stories: &mut Stories) {
    stories.alone(k33_d3_objects_that_cannot_be_decoded_do_not_stop_the_others);
}

async fn k33_d3_objects_that_cannot_be_decoded_do_not_stop_the_others(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    story.create_town("old", workshop()).await;
    story.create_agent("ann", "old", polecat("b-1")).await;
    let ann = story.agent("ann").until("works", |agent| agent.phase() == "Working").await;

    // As a newer version of the definitions might have it: what was a list is a word, and there is a new role.
    relax(&story, "towns.gastown.dev", "rigs", &json!({"x-kubernetes-preserve-unknown-fields": true}));
    relax(&story, "agents.gastown.dev", "role", &json!({"type": "string"}));
    plant(&story, "Town", json!({"rigs": "all of them"})).await;
    plant(&story, "Agent", json!({"town": "old", "role": "jester"})).await;
    // One that we looked after is changed into one that we cannot read.
    let unreadable = json!({"spec": {"role": "jester"}}).to_string();
    story.kubectl(&["patch", "agent", "ann", "--type=merge", "-p", &unreadable]);

    for (life, name) in ["first", "second"].into_iter().enumerate() {
        story.create_town(name, workshop()).await;
        story.create_agent(&format!("{name}-cat"), name, polecat("b-1")).await;
        story.agent(&format!("{name}-cat")).until("works", |agent| agent.phase() == "Working").await;
        story.town(name).until("runs", |town| town.phase() == "Running").await;
        let town = story.town(name).get().await;
        story.town(name).delete().await;
        story.town(name).gone().await;
        assert_eq!(story.children(&town.id()).await, [""; 0]);
        if life == 0 {
            // Its first list meets them, too.
            operator.restart().await;
        }
    }
    let log = operator.log();
    for name in ["unreadable-town", "unreadable-agent", "ann"] {
        let named = log.lines().any(|line| line.contains(name) && line.contains("cannot be "));
        assert!(named, "the log does not say that {name} cannot be read");
    }

    // Its town cannot be destroyed behind its back; readable again, it goes with it.
    let pod = story.pod(&ann.child()).get().await;
    let old = story.town("old").get().await;
    story.town("old").delete().await;
    story
        .town("old")
        .until("waits for its agent", |town| town.annotations().contains_key(names::TOMBSTONE))
        .await;
    assert_eq!(pod.metadata.deletion_timestamp, None);
    let readable = json!({"spec": {"role": "polecat"}}).to_string();
    story.kubectl(&["patch", "agent", "ann", "--type=merge", "-p", &readable]);
    story.town("old").gone_within(A_MINUTE).await;
    assert_eq!(story.children(&old.id()).await, [""; 0]);
    assert!(operator.runs());
}

/// Replaces the schema of one field of `spec`, which the API server takes up a little later.
fn relax(story: &Story, definition: &str, field: &str, schema: &Value) {
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}");
    let rules = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations";
    let change = json!([
        {"op": "replace", "path": path, "value": schema},
        {"op": "remove", "path": rules},
    ]);
    story.cluster.kubectl(&["patch", "crd", definition, "--type=json", "-p", &change.to_string()]);
}

/// Creates an object that our types cannot read, as soon as the API server takes it.
async fn plant(story: &Story, kind: &str, spec: Value) {
    let name = format!("unreadable-{}", kind.to_lowercase());
    let object = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    until("the relaxed definition is in force", PATIENCE, async || {
        story.try_apply(&object.to_string()).map(drop)
    })
    .await;
    let readable = match kind {
        "Town" => serde_json::from_value::<Town>(object).is_ok(),
        _ => serde_json::from_value::<Agent>(object).is_ok(),
    };
    assert!(!readable, "{name} can be read after all");
}
