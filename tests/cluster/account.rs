//! The operator's service account: the damage that a thief of its token can do.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{Agent, Town, names};

use crate::asking::{Ask, Object};
use crate::common::story::{Story, template};
use crate::people::People;
use crate::stage::Stories;
use crate::words::{Told, idle, workshop};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(account_of_the_operator_creates_only_what_a_town_owns);
    stories.with_the_operator(account_of_the_operator_touches_nothing_of_others);
    stories.with_the_operator(account_of_the_operator_changes_no_spec);
}

fn refused(words: &str) -> [&str; 2] {
    ["-operator'", words]
}

// S13 and decisions 1.9.
async fn account_of_the_operator_creates_only_what_a_town_owns(story: Story) {
    let operator = People::of(&story).await.operator;
    let town = story.create_town("gas", workshop()).await;
    let owner = json!([{
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "name": "gas", "uid": town.uid(), "controller": true,
        "blockOwnerDeletion": false,
    }]);
    let labels = json!({names::INSTALL: story.cluster.install_label(), names::TOWN_UID: town.uid()});
    let stranger = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": town.uid(), "controller": true,
    }]);
    let pod = json!({"spec": template()["spec"]});
    let service = json!({"spec": {"ports": [{"port": 80}]}});
    let token = json!({"type": "Opaque", "data": {"token": "dA=="}});
    let claim =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    for (object, whole, has_owner) in [
        (Object::of::<Pod>(&story, "new"), pod, true),
        (Object::of::<Service>(&story, "new"), service, true),
        (Object::of::<Secret>(&story, "new"), token, true),
        (Object::of::<PersistentVolumeClaim>(&story, "new"), claim, false),
    ] {
        let with = |metadata: Value| {
            let mut whole = whole.clone();
            whole["metadata"] = metadata;
            Ask::Create(whole)
        };
        let right = with(json!({"labels": labels, "ownerReferences": owner}));
        object.lets(&operator, &right).await;
        let bare = with(json!({"ownerReferences": owner}));
        object.refuses(&operator, &bare, &refused("only objects with the label")).await;
        let theirs = json!({names::INSTALL: "another.00000000", names::TOWN_UID: town.uid()});
        let theirs = with(json!({"labels": theirs, "ownerReferences": owner}));
        object.refuses(&operator, &theirs, &refused("only objects with the label")).await;
        for unowned in
            [with(json!({"labels": labels})), with(json!({"labels": labels, "ownerReferences": stranger}))]
        {
            if has_owner {
                object.refuses(&operator, &unowned, &refused("with an ownerReference")).await;
            } else {
                object.lets(&operator, &unowned).await;
            }
        }
    }
    for (kind, data) in [
        ("Opaque", json!({"token": "dA==", "more": "dA=="})),
        ("Opaque", json!({"password": "dA=="})),
        ("Opaque", Value::Null),
        ("example.com/other", json!({"token": "dA=="})),
    ] {
        let mut secret = json!({"type": kind, "metadata": {"labels": labels, "ownerReferences": owner}});
        if !data.is_null() {
            secret["data"] = data;
        }
        let object = Object::of::<Secret>(&story, "new");
        object.refuses(&operator, &Ask::Create(secret), &refused("with the single key token")).await;
    }
}

// S13: no foreign object is changed or deleted.
async fn account_of_the_operator_touches_nothing_of_others(story: Story) {
    let operator = People::of(&story).await.operator;
    for labels in [json!({}), json!({names::INSTALL: "another.00000000"})] {
        let name = format!("theirs-{}", labels.as_object().unwrap().len());
        let metadata = json!({"name": name, "labels": labels});
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template()["spec"]});
        story.create_object::<Pod>(pod).await;
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}});
        story.create_object::<Service>(service).await;
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"token": "dA=="}});
        story.create_object::<Secret>(secret).await;
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata,
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        story.create_object::<PersistentVolumeClaim>(claim).await;
        let take = json!({"metadata": {"labels": {names::INSTALL: story.cluster.install_label()}}});
        for object in [
            Object::of::<Pod>(&story, &name),
            Object::of::<Service>(&story, &name),
            Object::of::<PersistentVolumeClaim>(&story, &name),
        ] {
            object.refuses(&operator, &Ask::Delete, &refused("only objects with the label")).await;
            object
                .refuses(&operator, &Ask::Merge(take.clone()), &refused("only objects with the label"))
                .await;
        }
        let secret = Object::of::<Secret>(&story, &name);
        secret.refuses(&operator, &Ask::Delete, &refused("only objects with the label")).await;
    }
    // A Secret with our label that is not an activity token is foreign.
    let labels = json!({names::INSTALL: story.cluster.install_label()});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "labels": labels},
        "data": {"tls.key": "dA=="},
    });
    story.create_object::<Secret>(secret).await;
    let keys = Object::of::<Secret>(&story, "keys");
    keys.refuses(&operator, &Ask::Delete, &refused("with the single key token")).await;
}

// S13: only users write the spec of a Town, an Agent or a pod.
async fn account_of_the_operator_changes_no_spec(story: Story) {
    let operator = People::of(&story).await.operator;
    story.create_town("gas", workshop()).await;
    story.create_agent("ann", "gas", json!({"role": "Crew"})).await;
    let town = story.town("gas").until("is idle", idle).await;
    story.agent("ann").until("is ready", |agent| agent.is("Ready")).await;
    for (object, change) in [
        (Object::of::<Town>(&story, "gas"), json!({"spec": {"deletionProtection": true}})),
        (Object::of::<Agent>(&story, "ann"), json!({"spec": {"hook": {"bead": "b-1"}}})),
        (Object::of::<Pod>(&story, &town.child()), json!({"spec": {"activeDeadlineSeconds": 60}})),
    ] {
        object.refuses(&operator, &Ask::Merge(change), &refused("may not change the spec")).await;
        object
            .lets(&operator, &Ask::Merge(json!({"metadata": {"annotations": {"example.com/note": "seen"}}})))
            .await;
    }
    let gas = Object::of::<Town>(&story, "gas");
    gas.refuses(&operator, &Ask::Delete, &refused("only at the spec.expiry")).await;
    story
        .town("gas")
        .merge(json!({"spec": {"expiry": {"time": "2100-01-01T00:00:00Z", "policy": "Destroy"}}}))
        .await;
    gas.lets(&operator, &Ask::Delete).await;
}
