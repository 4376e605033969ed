//! Our definitions are removed in different orders, and the operator restarts in between. The operator destroys the
//! deleted objects and creates nothing that it cannot record. After the definitions are back, it continues.

use kube::ResourceExt;
use serde_json::json;
use town_operator::api::{Agent, Town};

use crate::common::operator::Operator;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::crash::{OPERATOR, quick};
use crate::remains::{busy_town, is_gone_whole, is_on_record, no_volume_is_left};
use crate::stage::Stories;
use crate::words::{Told, idle, workshop, workshop_with};

/// The directory of all definitions.
const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), destruction_completes_after_a_kill_while_the_crds_are_deleted);
    stories.alone_on(quick(), towns_are_destroyed_and_not_started_without_the_tombstone_crd);
    stories.alone_on(quick(), towns_are_destroyed_and_not_started_without_the_agent_crd);
    stories.alone_on(quick(), agents_are_destroyed_without_the_town_crd);
}

async fn destruction_completes_after_a_kill_while_the_crds_are_deleted(story: Story) {
    let operator = story.cluster.operator(&[OPERATOR]).await;
    let town = busy_town(&story, "gas", &["ann"]).await;
    let sleeper = json!({"suspend": true, "storage": {"size": "1Gi"}});
    let sleeper = story.create_town("sleeps", workshop_with(sleeper)).await;
    story.town("sleeps").until("sleeps", |town| town.phase() == "Asleep").await;
    story.players.hold(&town.child()).await;
    story.cluster.kubectl(&["delete", "-f", CRDS, "--wait=false"]);
    // The first two definitions are gone; the definition of towns waits for its objects.
    until("agents are no kind any more", PATIENCE, async || {
        match story.cluster.kubectl(&["get", "-f", CRDS, "--ignore-not-found", "-o", "name"]).trim() {
            "customresourcedefinition.apiextensions.k8s.io/towns.gastown.dev" => Ok(()),
            left => Err(left.to_owned()),
        }
    })
    .await;
    operator.kill();
    story.players.release(&town.child()).await;
    operator.restart().await;
    until("no definition is left", PATIENCE, async || {
        match story.cluster.kubectl(&["get", "-f", CRDS, "--ignore-not-found", "-o", "name"]) {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        }
    })
    .await;
    for uid in [town.id(), sleeper.id()] {
        assert_eq!(children(&story, &uid), "");
    }
    no_volume_is_left(&story).await;
    says_what_is_missing(&operator, "agents.gastown.dev");
}

async fn towns_are_destroyed_and_not_started_without_the_tombstone_crd(story: Story) {
    let (operator, gas) = one_is_removed(&story, "tombstones.gastown.dev").await;
    Box::pin(nothing_starts(&story, &operator, "tombstones.gastown.dev")).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &gas).await;
    no_volume_is_left(&story).await;
    all_goes_on_with_the_definitions_back(&story).await;
}

async fn towns_are_destroyed_and_not_started_without_the_agent_crd(story: Story) {
    let (operator, gas) = one_is_removed(&story, "agents.gastown.dev").await;
    Box::pin(nothing_starts(&story, &operator, "agents.gastown.dev")).await;
    story.town("gas").delete().await;
    story.town("gas").gone().await;
    assert_eq!(children(&story, &gas.id()), "");
    is_on_record(&story, &gas).await;
    no_volume_is_left(&story).await;
    all_goes_on_with_the_definitions_back(&story).await;
}

async fn agents_are_destroyed_without_the_town_crd(story: Story) {
    let operator = story.cluster.operator(&[OPERATOR]).await;
    busy_town(&story, "gas", &["ann", "bob"]).await;
    let ann = story.agent("ann").get().await;
    operator.kill();
    // A town that is removed without its destruction leaves its agents.
    story.town("gas").merge(json!({"metadata": {"finalizers": null}})).await;
    story.cluster.kubectl(&["delete", "crd", "towns.gastown.dev"]);
    operator.restart().await;
    let alone = |agent: &Agent| agent.reason("Stalled") == "TownGone";
    story.agent("ann").until("says that its town is gone", alone).await;
    says_what_is_missing(&operator, "towns.gastown.dev");
    story.agent("ann").delete().await;
    story.agent("ann").gone().await;
    assert_eq!(story.children(&ann.id()).await, [""; 0]);
    story.cluster.install_crds().await;
    story.create_town("new", workshop()).await;
    story.town("new").until("is idle", idle).await;
    story.agent("bob").until("is nobody's still", alone).await;
}

/// Starts a town, removes one definition, and restarts the operator.
async fn one_is_removed(story: &Story, definition: &str) -> (Operator, Town) {
    let operator = story.cluster.operator(&[OPERATOR]).await;
    let gas = busy_town(story, "gas", &["ann"]).await;
    story.create_town("stays", workshop()).await;
    story.town("stays").until("is idle", idle).await;
    story.cluster.kubectl(&["delete", "crd", definition]);
    operator.kill();
    operator.restart().await;
    (operator, gas)
}

/// A new town is not started and reports the reason; a running one continues.
async fn nothing_starts(story: &Story, operator: &Operator, definition: &str) {
    let stays = story.pod(&story.town("stays").get().await.child()).get().await;
    let new = story.create_town("new", workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
    story
        .town("new")
        .until("says why it is not started", |town| {
            town.reason("Degraded") == "DefinitionMissing" && town.message("Degraded").contains(definition)
        })
        .await;
    assert_eq!(children(story, &new.id()), "");
    assert_eq!(story.pod(&stays.name_any()).get().await.uid(), stays.uid());
    says_what_is_missing(operator, definition);
}

fn says_what_is_missing(operator: &Operator, definition: &str) {
    let said = format!("{definition} is not installed: the operator creates nothing until it is installed");
    assert!(operator.log().contains(&said), "{}", operator.log());
}

async fn all_goes_on_with_the_definitions_back(story: &Story) {
    story.cluster.install_crds().await;
    story.town("new").until("is idle", idle).await;
    story.create_agent("cat", "new", json!({"role": "Mayor"})).await;
    story.agent("cat").until("is there", |agent| agent.is("Ready")).await;
}

/// The children of a town, of the built-in kinds.
fn children(story: &Story, uid: &str) -> String {
    let label = format!("gastown.dev/town-uid={uid}");
    let kinds = "pods,persistentvolumeclaims,secrets,services";
    story.kubectl(&["get", kinds, "-l", &label, "--ignore-not-found", "-o", "name"])
}
