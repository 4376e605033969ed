//! The changes of a town or an agent that the API server accepts or refuses.

use serde_json::{Value, json};
use town_operator::api::{Agent, Town};

use super::{Words, lacks, patch};
use crate::common::story::{Story, template};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.on_the_api_without_operator(immutable_fields_cannot_be_changed_or_removed);
    stories.on_the_api_without_operator(storage_with_a_claim_accepts_only_size_and_retain_policy_changes);
    stories.on_the_api(mutable_fields_can_be_changed);
}

async fn immutable_fields_cannot_be_changed_or_removed(story: Story) {
    let storage = json!({"size": "1Gi"});
    story.create_town("stored", json!({"template": template(), "storage": storage})).await;
    let whole =
        json!({"role": "Crew", "rig": "core", "identity": "ada", "storage": storage, "mode": "Session"});
    story.create_agent("whole", "stored", whole).await;
    story.create_agent("nameless", "stored", json!({"role": "Crew"})).await;
    claims_are_made(&story, "stored", "whole", "1Gi").await;
    story.create_agent("by-role", "stored", json!({"role": "Polecat", "rig": "r"})).await;

    let town = |spec: Value| patch::<Town>(&story, "stored", json!({"spec": spec}));
    let agent = |spec: Value| patch::<Agent>(&story, "whole", json!({"spec": spec}));
    let by_role = |spec: Value| patch::<Agent>(&story, "by-role", json!({"spec": spec}));
    let nameless = |spec: Value| patch::<Agent>(&story, "nameless", json!({"spec": spec}));
    let stays = "cannot be changed or removed";
    let mode: Words = &["spec.mode cannot be changed", "create a new agent"];
    all_were_refused(vec![
        (
            town(json!({"storage": null})).await,
            &["spec.storage cannot be removed", "after the operator created its claim"],
        ),
        (town(json!({"template": null})).await, &["spec.storage needs spec.template"]),
        (
            agent(json!({"townName": "other"})).await,
            &["spec.townName cannot be changed", "create a new agent"],
        ),
        (agent(json!({"identity": "bob"})).await, &["spec.identity", stays]),
        (agent(json!({"identity": null})).await, &["spec.identity", stays]),
        // A28: the default of the identity is the name.
        (nameless(json!({"identity": "bob"})).await, &["spec.identity", stays]),
        // A1: a rig that the town does not list would destroy the agent and its volume.
        (agent(json!({"rig": "orchrad"})).await, &["spec.rig", stays, "new agent"]),
        (agent(json!({"rig": null})).await, &["spec.rig", stays]),
        (
            agent(json!({"storage": null})).await,
            &["spec.storage cannot be removed", "after the operator created its claim"],
        ),
        (agent(json!({"mode": "Task"})).await, mode),
        (by_role(json!({"mode": "Session"})).await, mode),
        (by_role(json!({"role": "Crew"})).await, mode),
    ]);
}

async fn storage_with_a_claim_accepts_only_size_and_retain_policy_changes(story: Story) {
    let snapshot = json!({"kind": "VolumeSnapshot", "name": "monday"});
    let whole = json!({
        "size": "2Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"], "dataSource": snapshot,
    });
    for (name, storage) in
        [("whole", whole), ("plain", json!({"size": "2Gi"})), ("theirs", json!({"existingClaimName": "c"}))]
    {
        story.create_town(name, json!({"template": template(), "storage": storage})).await;
        story.create_agent(name, name, json!({"role": "Crew", "storage": storage})).await;
        if name != "theirs" {
            claims_are_made(&story, name, name, "1500Mi").await;
        }
    }
    let grows: Words = &["spec.storage", "storage.size can only be increased"];
    let form: Words = &["spec.storage cannot be removed, or changed to existingClaimName"];
    let class: Words = &["spec.storage", "storage.storageClassName cannot be changed"];
    let modes: Words = &["spec.storage", "storage.accessModes cannot be changed"];
    let source: Words = &["spec.storage", "storage.dataSource cannot be changed"];
    let mut outcomes = Vec::new();
    for (name, change, wanted) in [
        ("plain", json!({"size": "1Gi"}), grows),
        ("plain", json!({"size": "1499Mi"}), grows),
        ("plain", json!({"size": null, "existingClaimName": "c"}), form),
        ("plain", json!({"storageClassName": "fast"}), class),
        ("plain", json!({"accessModes": ["ReadWriteMany"]}), modes),
        ("plain", json!({"dataSource": snapshot}), source),
        ("whole", json!({"storageClassName": "slow"}), class),
        ("whole", json!({"storageClassName": null}), class),
        ("whole", json!({"accessModes": ["ReadWriteOnce"]}), modes),
        ("whole", json!({"accessModes": null}), modes),
        ("whole", json!({"dataSource": {"name": "tuesday"}}), source),
        ("whole", json!({"dataSource": null}), source),
    ] {
        let change = json!({"spec": {"storage": change}});
        outcomes.push((patch::<Town>(&story, name, change.clone()).await, wanted));
        outcomes.push((patch::<Agent>(&story, name, change).await, wanted));
    }
    all_were_refused(outcomes);

    for (name, change) in [
        ("plain", json!({"size": "2Gi"})),
        ("plain", json!({"size": "2048Mi"})),
        ("plain", json!({"size": "3Gi"})),
        // A29: after the StorageClass refuses a size, a user can lower the size to the capacity of the volume.
        ("plain", json!({"size": "1500Mi"})),
        ("plain", json!({"accessModes": ["ReadWriteOnce"]})),
        ("plain", json!({"retainPolicy": "Retain"})),
        // The operator neither creates nor deletes this claim.
        ("theirs", json!({"existingClaimName": "d"})),
        ("whole", json!({"size": "1Ti", "retainPolicy": "Delete"})),
        ("theirs", json!({"existingClaimName": "c"})),
    ] {
        let change = json!({"spec": {"storage": change}});
        assert_eq!(patch::<Town>(&story, name, change.clone()).await, Ok(()), "{name}: {change}");
        assert_eq!(patch::<Agent>(&story, name, change.clone()).await, Ok(()), "{name}: {change}");
    }
}

async fn mutable_fields_can_be_changed(story: Story) {
    story.create_town("free", json!({})).await;
    story.create_agent("free", "free", json!({"role": "Crew"})).await;
    let mistaken = json!({"size": "1Gi", "storageClassName": "fsat"});
    story.create_town("mistaken", json!({"template": template(), "storage": mistaken})).await;
    let outcomes = [
        patch::<Town>(&story, "free", json!({"spec": {"sleepAfter": "1h", "suspend": true}})).await,
        patch::<Town>(&story, "free", json!({"spec": {"template": template(), "alwaysOn": true}})).await,
        patch::<Town>(&story, "free", json!({"spec": {"rigs": [{"name": "core"}], "wakeRequest": "1"}}))
            .await,
        // An absent value can be set later, and then stays.
        patch::<Town>(&story, "free", json!({"spec": {"template": template(), "storage": {"size": "1Gi"}}}))
            .await,
        patch::<Town>(&story, "free", json!({"spec": {"backlog": {"triage": 1}, "alarm": {"idle": "5s"}}}))
            .await,
        patch::<Town>(&story, "free", json!({"spec": {"expiry": {"time": "2001-01-01T00:00:00Z"}}})).await,
        patch::<Agent>(&story, "free", json!({"spec": {"activityProbe": {"port": 80}}})).await,
        patch::<Agent>(&story, "free", json!({"spec": {"identity": "free", "storage": {"size": "1Gi"}}}))
            .await,
        patch::<Agent>(&story, "free", json!({"spec": {"rig": "core"}})).await,
        // A29: no claim exists yet.
        patch::<Town>(
            &story,
            "mistaken",
            json!({"spec": {"storage": {"storageClassName": "fast", "size": "1Mi"}}}),
        )
        .await,
        patch::<Town>(&story, "mistaken", json!({"spec": {"storage": null}})).await,
        patch::<Agent>(&story, "free", json!({"spec": {"mode": "Session", "role": "Mayor"}})).await,
        patch::<Agent>(&story, "free", json!({"spec": {"hook": {"bead": "b"}, "retry": {"limit": 1}}})).await,
    ];
    assert_eq!(outcomes, [const { Ok(()) }; 13]);
}

/// Writes the status that the operator writes after it created the claims of a town and of an agent.
async fn claims_are_made(story: &Story, town: &str, agent: &str, capacity: &str) {
    let status = json!({"status": {"storage": {"claim": "c", "uid": "u", "capacity": capacity}}});
    story.town(town).merge_status(status.clone()).await;
    story.agent(agent).merge_status(status).await;
}

/// Compares the answer to each change with the expected refusal.
fn all_were_refused(changes: Vec<(Result<(), String>, Words)>) {
    let changes = changes.into_iter().enumerate();
    let wrong: Vec<String> = changes
        .filter_map(|(n, (outcome, wanted))| Some(format!("change {n}: {}", lacks(outcome, wanted)?)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
