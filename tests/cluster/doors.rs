//! A town can be deleted in several ways: nothing of it remains. The admission policies of the chart are in force,
//! except where a story removes them.

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::{Client, ResourceExt};
use serde_json::json;
use town_operator::api::{Town, names};

use crate::common::seen::Kind;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::crash::{OPERATOR, quick};
use crate::people::People;
use crate::remains::{
    busy_town, delete_namespace, is_gone_whole, is_on_record, namespace_is_gone, no_volume_is_left,
};
use crate::stage::Stories;
use crate::words::{Told, idle, polecat, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), deletions_during_an_outage_complete_after_the_operator_restarts);
    stories.alone(towns_are_destroyed_when_their_crds_are_deleted);
    stories.alone(removal_of_the_finalizer_leaves_only_the_claim_without_the_policies);
    stories.with_the_operator(background_deletion_removes_a_town_and_all_children);
    stories.with_the_operator(foreground_deletion_removes_a_town_and_all_children);
    stories.with_the_operator(orphaning_deletion_removes_a_town_and_all_children);
    stories.with_the_operator(rig_removal_destroys_its_agents_and_their_volumes);
    stories.with_the_operator(rig_removal_destroys_agents_without_waking_their_town);
    stories.with_the_operator(agent_deletion_removes_its_children_and_keeps_other_agents);
    stories.with_the_operator(namespace_deletion_destroys_its_towns);
    stories.with_the_operator(namespace_deletion_completes_with_towns_in_every_state);
}

/// Deletes a town as this client.
async fn delete(story: &Story, who: &Client, town: &str, propagation: PropagationPolicy) {
    let how = DeleteParams { propagation_policy: Some(propagation), ..DeleteParams::default() };
    let towns: Api<Town> = Api::namespaced(who.clone(), &story.namespace);
    towns.delete(town, &how).await.unwrap_or_else(|error| panic!("{town}: {error}"));
}

async fn background_deletion_removes_a_town_and_all_children(story: Story) {
    takes_a_town_whole(story, PropagationPolicy::Background).await;
}

// I-block-owner-deletion.
async fn foreground_deletion_removes_a_town_and_all_children(story: Story) {
    takes_a_town_whole(story, PropagationPolicy::Foreground).await;
}

// I-orphan.
async fn orphaning_deletion_removes_a_town_and_all_children(story: Story) {
    takes_a_town_whole(story, PropagationPolicy::Orphan).await;
}

async fn takes_a_town_whole(story: Story, propagation: PropagationPolicy) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    story.create_agent("mayor", "gas", json!({"role": "Mayor"})).await;
    story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    delete(&story, &People::of(&story).await.anybody, "gas", propagation).await;
    is_gone_whole(&story, &town).await;
    is_on_record(&story, &town).await;
    no_volume_is_left(&story).await;
    assert_eq!(story.api::<Pod>().list(&ListParams::default()).await.unwrap().items.len(), 0);
}

async fn rig_removal_destroys_its_agents_and_their_volumes(story: Story) {
    let rigs = json!({"rigs": [{"name": "core"}, {"name": "docs"}]});
    story.create_town("shop", workshop_with(rigs)).await;
    for (cat, rig) in [("stays", "core"), ("goes", "docs"), ("rests", "docs")] {
        let mut spec = polecat("b-1");
        spec["rig"] = rig.into();
        spec["storage"] = json!({"size": "1Gi"});
        if cat == "rests" {
            spec["hook"] = json!(null);
        }
        story.create_agent(cat, "shop", spec).await;
    }
    let goes = story.agent("goes").until("works", |agent| agent.phase() == "Working").await;
    let rests = story.agent("rests").until("rests", |agent| agent.phase() == "Idle").await;
    let stays = story.agent("stays").until("works", |agent| agent.phase() == "Working").await;
    let pod = story.pod(&stays.child()).get().await;
    story.town("shop").merge(json!({"spec": {"rigs": [{"name": "core"}]}})).await;
    story.agent("goes").gone().await;
    story.agent("rests").gone().await;
    assert_eq!(story.children(&goes.id()).await, [""; 0]);
    assert_eq!(story.children(&rests.id()).await, [""; 0]);
    assert_eq!(story.pod(&stays.child()).get().await.uid(), pod.uid());
    assert_eq!(story.agent("stays").get().await.phase(), "Working");
}

async fn rig_removal_destroys_agents_without_waking_their_town(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let ann = story.agent("ann").get().await;
    story.town("gas").merge(json!({"spec": {"suspend": true}})).await;
    story.town("gas").until("sleeps", |town| town.phase() == "Asleep").await;
    assert!(story.seen::<PersistentVolumeClaim>(&ann.child()).find().await.is_some());
    story.town("gas").merge(json!({"spec": {"rigs": null}})).await;
    story.agent("ann").gone().await;
    assert_eq!(story.children(&ann.id()).await, [""; 0]);
    assert_eq!(story.town("gas").get().await.phase(), "Asleep", "that wakes nobody");
    assert_eq!(story.children(&town.id()).await, [format!("PersistentVolumeClaim/{}", town.child())]);
}

async fn agent_deletion_removes_its_children_and_keeps_other_agents(story: Story) {
    let town = busy_town(&story, "gas", &["ann", "bob"]).await;
    let ann = story.agent("ann").get().await;
    let others: Vec<String> =
        story.children(&town.id()).await.into_iter().filter(|child| !child.contains("/ann")).collect();
    story.players.hold(&ann.child()).await;
    story.agent("ann").delete().await;
    let going = story
        .agent("ann")
        .until("has a tombstone", |agent| agent.annotations().contains_key(names::TOMBSTONE))
        .await;
    assert!(going.annotations()[names::TOMBSTONE].starts_with(&ann.id()));
    story.players.release(&ann.child()).await;
    story.agent("ann").gone().await;
    assert_eq!(story.children(&ann.id()).await, [""; 0]);
    assert_eq!(story.children(&town.id()).await, others);
    assert_eq!(story.agent("bob").get().await.phase(), "Working");
}

async fn namespace_deletion_destroys_its_towns(story: Story) {
    let town = busy_town(&story, "gas", &["ann", "bob"]).await;
    delete_namespace(&story).await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
    is_on_record(&story, &town).await;
    no_volume_is_left(&story).await;
}

// I-namespace.
async fn namespace_deletion_completes_with_towns_in_every_state(story: Story) {
    busy_town(&story, "works", &["ann"]).await;
    story.create_town("sleeps", workshop_with(json!({"suspend": true, "storage": {"size": "1Gi"}}))).await;
    story.town("sleeps").until("sleeps", |town| town.phase() == "Asleep").await;
    let going = busy_town(&story, "goes", &["bob"]).await;
    story.players.hold(&going.child()).await;
    story.town("goes").delete().await;
    story.town("goes").until("is being destroyed", |town| town.phase() == "Destroying").await;
    story.players.run_new_pods(false).await;
    story.create_town("starts", workshop()).await;
    story.town("starts").until("is starting", |town| town.phase() == "Starting").await;
    story.create_town("fort", workshop_with(json!({"deletionProtection": true}))).await;
    let marked = story.create_town("marked", workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
    let mark = format!("{}@2026-01-01T00:00:00Z", marked.id());
    story.town("marked").merge(json!({"metadata": {"annotations": {names::TOMBSTONE: mark}}})).await;
    story.town("marked").until("is marked", |town| town.phase() == "Tombstoned").await;
    story.create_agent("unbound", "nowhere", polecat("b-1")).await;
    story.create_town("new", workshop()).await;
    story.players.release(&going.child()).await;
    delete_namespace(&story).await;
    no_volume_is_left(&story).await;
}

// I-restart.
async fn deletions_during_an_outage_complete_after_the_operator_restarts(story: Story) {
    let operator = story.cluster.operator(&[OPERATOR]).await;
    let anybody = People::of(&story).await.anybody;
    let ways = [
        ("background", PropagationPolicy::Background),
        ("foreground", PropagationPolicy::Foreground),
        ("orphan", PropagationPolicy::Orphan),
    ];
    let mut towns = Vec::new();
    for (name, _) in &ways {
        towns.push(busy_town(&story, name, &[&format!("{name}-cat")]).await);
    }
    let stays = busy_town(&story, "stays", &["alone", "kept"]).await;
    let alone = story.agent("alone").get().await;
    let shrinks = busy_town(&story, "shrinks", &["rigger"]).await;

    operator.kill();
    for (name, propagation) in ways {
        delete(&story, &anybody, name, propagation).await;
    }
    story.agent("alone").delete().await;
    story.town("shrinks").merge(json!({"spec": {"rigs": null}})).await;
    operator.restart().await;

    for town in &towns {
        is_gone_whole(&story, town).await;
        is_on_record(&story, town).await;
    }
    story.agent("alone").gone().await;
    assert_eq!(story.children(&alone.id()).await, [""; 0]);
    story.agent("rigger").gone().await;
    let own =
        |town: &Town| [format!("PersistentVolumeClaim/{}", town.child()), format!("Pod/{}", town.child())];
    assert_eq!(story.children(&shrinks.id()).await, own(&shrinks));
    assert_eq!(story.agent("kept").get().await.phase(), "Working");
    let children = story.children(&stays.id()).await;
    assert!(own(&stays).iter().all(|child| children.contains(child)), "{children:?}");

    // The namespace is deleted, too.
    operator.kill();
    let namespaces: Api<Namespace> = Api::all(story.client());
    namespaces.delete(&story.namespace, &DeleteParams::default()).await.unwrap();
    // The namespace controller deletes the pods first. They wait for the record of their results; then the towns end.
    let asked_to_end = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
    story.pod(&story.agent("kept").get().await.child()).until("is asked to end", asked_to_end).await;
    operator.restart().await;
    namespace_is_gone(&story).await;
    no_volume_is_left(&story).await;
}

async fn towns_are_destroyed_when_their_crds_are_deleted(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    busy_town(&story, "works", &["ann"]).await;
    story.create_town("sleeps", workshop_with(json!({"suspend": true, "storage": {"size": "1Gi"}}))).await;
    story.town("sleeps").until("sleeps", |town| town.phase() == "Asleep").await;
    story.create_town("fort", workshop_with(json!({"deletionProtection": true}))).await;
    story.town("fort").until("is idle", idle).await;
    let going = busy_town(&story, "goes", &["bob"]).await;
    story.players.hold(&going.child()).await;
    story.town("goes").delete().await;
    story.pod(&going.child()).until("is asked to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;

    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    story.cluster.kubectl(&["delete", "-f", crds, "--wait=false"]);
    story.players.release(&going.child()).await;
    until("the definitions are gone", PATIENCE, async || {
        match story.cluster.kubectl(&["get", "-f", crds, "--ignore-not-found", "-o", "name"]) {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        }
    })
    .await;
    assert_eq!(left(&story).await, [""; 0]);
    no_volume_is_left(&story).await;

    // After the definitions are back, towns run again.
    assert!(operator.runs(), "{}", operator.log());
    story.cluster.install_crds().await;
    story.create_town("new", workshop()).await;
    story.town("new").until("is idle", idle).await;
}

async fn removal_of_the_finalizer_leaves_only_the_claim_without_the_policies(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    story.cluster.kubectl(&[
        "delete",
        "validatingadmissionpolicies,validatingadmissionpolicybindings",
        "--all",
    ]);
    let anybody = People::of(&story).await.anybody;
    let town = busy_town(&story, "gas", &["ann"]).await;
    story.town("gas").merge(json!({"spec": {"ports": [{"name": "ssh", "port": 22}]}})).await;
    let service = story
        .town("gas")
        .until("has a service", |town| town.status.as_ref().unwrap().service.is_some())
        .await;
    let service = service.status.unwrap().service.unwrap();
    story.players.hold(&town.child()).await;
    delete(&story, &anybody, "gas", PropagationPolicy::Background).await;
    story.pod(&town.child()).until("is asked to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    assert!(story.seen::<Service>(&service).find().await.is_some());
    operator.kill();

    let towns: Api<Town> = Api::namespaced(anybody, &story.namespace);
    let stripped = json!({"metadata": {"finalizers": null}});
    until("nothing keeps the finalizer", PATIENCE, async || {
        let patch = Patch::Merge(&stripped);
        towns.patch("gas", &PatchParams::default(), &patch).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    story.town("gas").gone().await;
    story.players.release(&town.child()).await;
    // The garbage collector follows ownerReferences. A volume has none, so that it can be retained.
    until("nothing of it runs", PATIENCE, async || match &left(&story).await[..] {
        [claim] if *claim == format!("PersistentVolumeClaim/{}", town.child()) => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
}

/// The objects that the operator can create in the namespace of the story: `Kind/name`.
async fn left(story: &Story) -> Vec<String> {
    async fn all<K: Kind>(story: &Story) -> Vec<String> {
        let mine = ListParams::default().labels(names::INSTALL);
        let found = story.api::<K>().list(&mine).await.unwrap_or_else(|error| panic!("list: {error}"));
        found.iter().map(|object| format!("{}/{}", K::kind(&()), object.name_any())).collect()
    }
    [
        all::<Pod>(story).await,
        all::<PersistentVolumeClaim>(story).await,
        all::<Secret>(story).await,
        all::<Service>(story).await,
    ]
    .concat()
}
