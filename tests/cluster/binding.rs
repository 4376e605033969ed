//! The binding of agents to towns, and objects that belong to other owners.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::{Agent, Town, names};

use crate::common::story::{Story, template};
use crate::stage::Stories;
use crate::words::{Told, polecat, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(agent_waits_for_its_town);
    stories.with_the_operator(agent_waits_for_its_rig);
    stories.with_the_operator(agent_created_during_a_destruction_is_bound_to_the_next_town);
    stories.with_the_operator(agent_of_a_missing_town_is_kept_without_a_pod);
    stories.with_the_operator(agent_is_stalled_until_it_has_a_template);
    stories.with_the_operator(foreign_pod_with_the_name_of_a_child_is_reported_and_kept);
    stories.with_the_operator(foreign_claim_with_the_name_of_a_child_is_reported_and_kept);
    stories.with_the_operator(objects_of_another_installation_are_ignored);
    stories.with_the_operator(template_cannot_override_the_ownership_labels);
}

async fn agent_waits_for_its_town(story: Story) {
    story.create_agent("early", "later", polecat("b-1")).await;
    let agent = story.agent("early").until("waits", |agent| agent.reason("Ready") == "TownNotFound").await;
    assert_eq!(agent.phase(), "Blocked");
    assert!(agent.is("Reconciling") && !agent.is("Stalled"), "a wait that ends by itself");
    assert!(agent.finalizers().is_empty() && !agent.labels().contains_key(names::TOWN_UID));

    story.create_town("later", workshop()).await;
    let agent = story.agent("early").until("works", |agent| agent.phase() == "Working").await;
    assert_eq!(agent.labels()[names::TOWN_UID], story.town("later").get().await.id());
}

async fn agent_waits_for_its_rig(story: Story) {
    story.create_town("shop", workshop()).await;
    let mut spec = polecat("b-1");
    spec["rig"] = "other".into();
    story.create_agent("cat", "shop", spec).await;
    let cat = story.agent("cat").until("is stalled", |agent| agent.is("Stalled")).await;
    assert_eq!((cat.phase(), cat.reason("Stalled")), ("Blocked", "RigNotFound"));
    assert!(cat.message("Stalled").contains("other") && cat.message("Stalled").contains("core"));
    assert!(!cat.labels().contains_key(names::TOWN_UID), "it is not bound");

    story.town("shop").merge(json!({"spec": {"rigs": [{"name": "core"}, {"name": "other"}]}})).await;
    story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
}

async fn agent_created_during_a_destruction_is_bound_to_the_next_town(story: Story) {
    story.create_town("phoenix", workshop()).await;
    let old = story.town("phoenix").until("is idle", |town| town.phase() == "Idle").await;
    story.players.hold(&old.child()).await;
    story.town("phoenix").delete().await;
    story.town("phoenix").until("is being destroyed", |town| town.phase() == "Destroying").await;

    story.create_agent("late", "phoenix", polecat("b-1")).await;
    let late = story.agent("late").until("waits", |agent| agent.reason("Ready") == "TownTerminating").await;
    assert!(late.is("Reconciling") && late.finalizers().is_empty(), "it is not bound");
    story.players.release(&old.child()).await;
    story.town("phoenix").gone().await;
    let late = story.agent("late").until("waits on", |agent| agent.reason("Ready") == "TownNotFound").await;
    assert_eq!(late.metadata.deletion_timestamp, None, "what was never bound is never deleted by us");

    let new = story.create_town("phoenix", workshop()).await;
    let late = story.agent("late").until("works", |agent| agent.phase() == "Working").await;
    assert_eq!(late.labels()[names::TOWN_UID], new.id());
}

async fn agent_of_a_missing_town_is_kept_without_a_pod(story: Story) {
    // The state after a restore from a backup: bound, with a volume, to a town that the operator never destroyed.
    let gone = "00000000-1111-2222-3333-444444444444";
    let agent: Agent = story
        .create_object(json!({
            "apiVersion": "gastown.dev/v1alpha1", "kind": "Agent",
            "metadata": {
                "name": "orphan", "finalizers": [names::FINALIZER],
                "labels": {names::TOWN_UID: gone, names::INSTALL: story.cluster.install_label()},
            },
            "spec": {"townName": "lost", "role": "Crew", "template": template(), "storage": {"size": "1Gi"}},
        }))
        .await;
    let said = |agent: &Agent| agent.reason("Stalled") == "TownGone" && agent.phase() == "Blocked";
    story.agent("orphan").until("says that its town is gone", said).await;

    // A new town of the same name changes nothing.
    let successor = story.create_town("lost", workshop()).await;
    story.town("lost").until("is idle", |town| town.phase() == "Idle").await;
    story.create_agent("witness", "lost", polecat("b-1")).await;
    story.agent("witness").until("works", |agent| agent.phase() == "Working").await;
    let orphan = story.agent("orphan").get().await;
    assert!(said(&orphan) && orphan.labels()[names::TOWN_UID] == gone);
    assert_eq!(story.pods(names::AGENT_UID, &agent.id()).await.len(), 0);
    assert_eq!(
        story.children(&successor.id()).await.iter().filter(|child| child.contains("orphan")).count(),
        0
    );

    story.agent("orphan").delete().await;
    story.agent("orphan").gone().await;
}

async fn agent_is_stalled_until_it_has_a_template(story: Story) {
    story.create_town("bare", workshop_with(json!({"agentTemplate": null}))).await;
    story.create_agent("cat", "bare", polecat("b-1")).await;
    let cat = story.agent("cat").until("is stalled", |agent| agent.reason("Stalled") == "NoTemplate").await;
    assert_eq!(cat.phase(), "Blocked");
    let message = cat.message("Stalled");
    assert!(message.contains("spec.template") && message.contains("spec.agentTemplate"), "{message}");
    let town = story.town("bare").until("is idle", |town| town.phase() == "Idle").await;
    assert!(!town.is("Active"), "an agent that cannot run is not work");

    story.agent("cat").merge(json!({"spec": {"template": template()}})).await;
    story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
}

async fn foreign_pod_with_the_name_of_a_child_is_reported_and_kept(story: Story) {
    story.create_town("taken", workshop_with(json!({"suspend": true}))).await;
    let town = story.town("taken").until("sleeps", |town| town.phase() == "Asleep").await;
    let mut foreign = template();
    foreign["apiVersion"] = "v1".into();
    foreign["kind"] = "Pod".into();
    foreign["metadata"] = json!({"name": town.child()});
    let foreign: Pod = story.create_object(foreign).await;

    story.town("taken").merge(json!({"spec": {"suspend": false}})).await;
    let stalled = story.town("taken").until("is stalled", |town| town.reason("Stalled") == "NameTaken").await;
    assert!(stalled.is("Stalled") && !stalled.is("Ready"));
    assert_eq!(stalled.phase(), "Blocked");
    assert!(stalled.message("Stalled").contains(&town.child()), "{}", stalled.message("Stalled"));
    let untouched = story.pod(&town.child()).get().await;
    assert_eq!((untouched.uid(), untouched.labels().len()), (foreign.uid(), 0));

    story.pod(&town.child()).delete().await;
    story.town("taken").until("is idle", |town| town.phase() == "Idle" && town.is("Ready")).await;
    assert_ne!(story.pod(&town.child()).get().await.uid(), foreign.uid());
}

async fn foreign_claim_with_the_name_of_a_child_is_reported_and_kept(story: Story) {
    story.create_town("taken", workshop_with(json!({"suspend": true, "storage": {"size": "1Gi"}}))).await;
    let town = story.town("taken").until("sleeps", |town| town.phase() == "Asleep").await;
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let foreign: PersistentVolumeClaim = story.create(&town.child(), claim).await;
    story.town("taken").merge(json!({"spec": {"suspend": false}})).await;
    story.town("taken").until("is stalled", |town| town.reason("Stalled") == "NameTaken").await;
    assert_eq!(
        story.pods(names::TOWN_UID, &town.id()).await.len(),
        0,
        "no pod runs on somebody else's volume"
    );

    // The deletion of the town does not delete foreign objects.
    story.town("taken").delete().await;
    story.town("taken").gone().await;
    let untouched = story.seen::<PersistentVolumeClaim>(&town.child()).get().await;
    assert_eq!((untouched.uid(), untouched.metadata.deletion_timestamp), (foreign.uid(), None));
}

async fn objects_of_another_installation_are_ignored(story: Story) {
    let theirs: Town = story
        .create_object(json!({
            "apiVersion": "gastown.dev/v1alpha1", "kind": "Town",
            "metadata": {"name": "theirs", "labels": {names::INSTALL: "another-installation"}},
            "spec": workshop(),
        }))
        .await;
    story.create_agent("undecided", "theirs", polecat("b-1")).await;
    // The operator reconciles our town, which is created later. It has therefore seen the other one by then.
    story.create_town("ours", workshop()).await;
    story.town("ours").until("is idle", |town| town.phase() == "Idle").await;
    story.create_agent("ours", "ours", polecat("b-1")).await;
    story.agent("ours").until("works", |agent| agent.phase() == "Working").await;

    let untouched = story.town("theirs").get().await;
    assert_eq!(untouched.resource_version(), theirs.resource_version());
    let agent = story.agent("undecided").get().await;
    assert!(agent.finalizers().is_empty() && !agent.labels().contains_key(names::TOWN_UID));
    story.town("theirs").delete().await;
    story.town("theirs").gone().await;
}

async fn template_cannot_override_the_ownership_labels(story: Story) {
    story.create_town("honest", workshop()).await;
    story.create_agent("victim", "honest", polecat("b-1")).await;
    let victim = story.agent("victim").until("works", |agent| agent.phase() == "Working").await;
    let victims_pod = story.pod(&victim.child()).get().await;

    let mut forged = template();
    forged["metadata"] = json!({
        "labels": {
            names::AGENT_UID: victim.id(), names::TOWN_UID: victim.labels()[names::TOWN_UID],
            names::INSTALL: "another-installation", "team": "blue",
        },
        "annotations": {names::OWNER: "Town/elsewhere/other", "note": "kept"},
    });
    story.create_town("liar", workshop_with(json!({"template": forged}))).await;
    let liar = story.town("liar").until("is idle", |town| town.phase() == "Idle").await;
    let pod = story.pod(&liar.child()).get().await;
    assert_eq!(pod.labels()[names::TOWN_UID], liar.id());
    assert_eq!(pod.labels()[names::INSTALL], story.cluster.install_label());
    assert!(!pod.labels().contains_key(names::AGENT_UID), "a town's pod is no agent's: {:?}", pod.labels());
    assert_eq!(pod.annotations()[names::OWNER], format!("Town/{}/liar", story.namespace));
    assert_eq!((pod.labels()["team"].as_str(), pod.annotations()["note"].as_str()), ("blue", "kept"));

    story.players.succeed(&victim.child(), "").await;
    story.agent("victim").until("is done", |agent| agent.phase() == "Done").await;
    assert_ne!(story.pod(&liar.child()).get().await.uid(), victims_pod.uid());
    story.agent("victim").delete().await;
    story.agent("victim").gone().await;
    let still = story.pod(&liar.child()).get().await;
    assert_eq!((still.uid(), still.metadata.deletion_timestamp), (pod.uid(), None));
}
