//! Objects that the operator cannot decode: they report this, block no other object, and can be destroyed.

use std::time::Duration;

use serde_json::{Value, json};
use town_operator::api::{Agent, Town};

use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;
use crate::words::{Told, idle, polecat, workshop};

/// The timeout of a destruction.
const A_MINUTE: Duration = Duration::from_secs(75);

pub fn add(stories: &mut Stories) {
    stories.alone(undecodable_objects_are_reported_and_do_not_block_others);
}

async fn undecodable_objects_are_reported_and_do_not_block_others(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    story.create_town("old", workshop()).await;
    story.create_agent("ann", "old", polecat("b-1")).await;
    let ann = story.agent("ann").until("works", |agent| agent.phase() == "Working").await;
    story.create_town("edited", workshop()).await;
    story.town("edited").until("is idle", idle).await;

    // A newer version of the definitions can have other types: a list becomes a string, and a role is new.
    relax(&story, "towns.gastown.dev", "rigs", &json!({"x-kubernetes-preserve-unknown-fields": true}));
    relax(&story, "agents.gastown.dev", "role", &json!({"type": "string"}));
    plant(&story, "Town", json!({"rigs": "all of them"})).await;
    plant(&story, "Agent", json!({"townName": "old", "role": "jester"})).await;
    // A managed object is changed so that the operator cannot decode it.
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
            // The first list after a restart includes them, too.
            operator.restart().await;
        }
    }
    // security.md S11: the status reports the problem.
    for object in ["tw/unreadable-town", "ta/unreadable-agent", "ta/ann"] {
        story.kubectl(&["wait", object, "--for=condition=Stalled", "--timeout=30s"]);
        let reason = "jsonpath={.status.conditions[?(@.type=='Stalled')].reason}";
        assert_eq!(story.kubectl(&["get", object, "-o", reason]), "Unreadable", "{object}");
    }
    let pod = story.pod(&ann.child()).get().await;
    assert_eq!(pod.metadata.deletion_timestamp, None, "an edit that cannot be read ends no work");

    // A town with such an edit falls asleep, and wakes when the edit is corrected.
    let edited = story.town("edited").get().await;
    let rigs = |rigs: Value| json!({"spec": {"rigs": rigs}}).to_string();
    story.kubectl(&["patch", "tw", "edited", "--type=merge", "-p", &rigs("all of them".into())]);
    story.kubectl(&["wait", "tw/edited", "--for=condition=Asleep", "--timeout=60s"]);
    story.kubectl(&["wait", "tw/edited", "--for=condition=Stalled", "--timeout=30s"]);
    assert!(story.pod(&edited.child()).find().await.is_none());
    story.kubectl(&["patch", "tw", "edited", "--type=merge", "-p", &rigs(json!([{"name": "core"}]))]);
    story.town("edited").until("is awake again", |town| town.is("Ready") && !town.is("Asleep")).await;
    assert!(!story.town("edited").get().await.is("Stalled"));

    // The objects are destroyed as all others, alone and with their town.
    story.kubectl(&["delete", "tw", "unreadable-town", "--timeout=60s"]);
    let old = story.town("old").get().await;
    story.town("old").delete().await;
    story.town("old").gone_within(A_MINUTE).await;
    assert_eq!(story.children(&old.id()).await, [""; 0]);
    story.agent("ann").gone().await;
    assert!(operator.runs());
}

/// Replaces the schema of one field of `spec`. The API server applies it with a delay.
fn relax(story: &Story, definition: &str, field: &str, schema: &Value) {
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}");
    let rules = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations";
    let change = json!([
        {"op": "replace", "path": path, "value": schema},
        {"op": "remove", "path": rules},
    ]);
    story.cluster.kubectl(&["patch", "crd", definition, "--type=json", "-p", &change.to_string()]);
}

/// Creates an object that our types cannot decode, as soon as the API server accepts it.
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
