//! The deletion of towns and agents: nothing remains, nothing returns, and the status names an object that blocks.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;
use town_operator::api::{BlockedBy, Town, names};

use crate::asking::Object;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::people;
use crate::remains::{busy_town, is_gone_whole, no_volume_is_left};
use crate::stage::Stories;
use crate::words::{Told, done, polecat, seconds, workshop, workshop_with};

/// A foreign finalizer.
pub const FOREIGN: &str = "example.com/hold";

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(deleted_town_leaves_no_agents_pods_or_volumes);
    stories.with_the_operator(deleted_sleeping_town_leaves_no_children);
    stories.with_the_operator(deleted_starting_town_leaves_no_children);
    stories.with_the_operator(destruction_names_and_awaits_a_terminating_pod);
    stories.with_the_operator(foreign_finalizers_are_named_and_not_removed);
    stories.with_the_operator(delete_right_after_a_create_leaves_no_pods);
    stories.with_the_operator(recreated_town_adopts_no_children_of_its_predecessor);
    stories.with_the_operator(town_name_is_free_only_after_the_destruction_completes);
    stories.with_the_operator(town_with_a_tombstone_annotation_creates_no_children);
    stories.with_the_operator(tombstone_annotation_stops_pods_and_keeps_claims);
    stories.with_the_operator(deleted_agent_finishes_its_bead_within_the_drain);
    stories.with_the_operator(deleted_town_lets_its_agents_finish_within_the_drain);
    stories.with_the_operator(drain_of_a_deleted_town_ends_at_its_timeout);
    stories.with_the_operator(deleted_claim_is_recreated_after_a_sleep);
    stories.with_the_operator(stray_pods_with_the_labels_of_a_town_are_deleted_with_the_town);
    stories.with_the_operator(agent_without_its_town_label_is_destroyed_with_its_town);
    stories.with_the_operator(forty_towns_start_and_are_destroyed_at_once);
    stories.with_the_operator(ephemeral_and_resource_claims_of_a_pod_are_recorded_and_awaited);
    stories.with_the_operator(restored_children_are_reported_and_a_finished_pod_is_released);
    stories.with_the_operator(spec_changes_during_a_destruction_have_no_effect);
}

async fn deleted_town_leaves_no_agents_pods_or_volumes(story: Story) {
    let town = busy_town(&story, "gas", &["ann", "bob", "eve"]).await;
    assert_eq!(story.children(&town.id()).await.len(), 3 + 4 + 4, "agents, pods and claims");
    story.kubectl(&["delete", "town", "gas", "--timeout=45s"]);
    is_gone_whole(&story, &town).await;
    assert_eq!(story.api::<Pod>().list(&ListParams::default()).await.unwrap().items.len(), 0);
    no_volume_is_left(&story).await;
    let events = story.kubectl(&[
        "get",
        "events",
        "-o",
        "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}",
    ]);
    assert!(events.contains("proven gone"), "an event says what is proven gone: {events}");
}

async fn deleted_sleeping_town_leaves_no_children(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    story.town("gas").merge(json!({"spec": {"suspend": true}})).await;
    story.town("gas").until("sleeps", |town| town.phase() == "Asleep").await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    no_volume_is_left(&story).await;
}

async fn deleted_starting_town_leaves_no_children(story: Story) {
    story.players.run_new_pods(false).await;
    story.create_town("gas", workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
    story.create_agent("ann", "gas", polecat("b-1")).await;
    let town = story.town("gas").until("is starting", |town| town.phase() == "Starting").await;
    story.pod(&town.child()).until("is there", |_| true).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    no_volume_is_left(&story).await;
}

async fn destruction_names_and_awaits_a_terminating_pod(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let pod = story.pod(&town.child()).get().await;
    story.players.hold(&town.child()).await;
    story.town("gas").delete().await;
    let blocked = story
        .town("gas")
        .until("names what it waits for", |town| blocked_by(town).iter().any(|item| item.kind == "Pod"))
        .await;
    let [named] = blocked_by(&blocked) else { panic!("one thing blocks: {:?}", blocked_by(&blocked)) };
    assert_eq!((named.kind.as_str(), &named.name), ("Pod", &town.child()));
    assert_eq!(Some(&named.uid), pod.uid().as_ref());
    assert_eq!(blocked.status.as_ref().unwrap().destroy.as_ref().unwrap().step.as_str(), "Compute");
    assert!(blocked.annotations()[names::TOMBSTONE].starts_with(&format!("{}@", town.id())));

    let blocked = story.town("gas").until("is blocked", |town| town.is("DeletionBlocked")).await;
    let began = &blocked.status.as_ref().unwrap().destroy.as_ref().unwrap().start_time;
    let said = blocked.conditions().iter().find(|c| c.type_ == "DeletionBlocked").unwrap();
    assert!(seconds(began, &said.last_transition_time) >= 10, "{blocked:?}: that is said later");
    assert!(
        blocked.message("DeletionBlocked").contains(&town.child()),
        "{}",
        blocked.message("DeletionBlocked")
    );
    let said = story.kubectl(&[
        "get",
        "events",
        "-o",
        "jsonpath={range .items[*]}{.reason} {.message}{\"\\n\"}{end}",
    ]);
    // The operator writes the event once, for the step that it waits for at that moment.
    assert!(said.contains("Blocked step "), "{said}");
    // The operator writes nothing while nothing changes, and the volume waits for the pod.
    let before = blocked.resource_version();
    story
        .town("gas")
        .stays(Duration::from_secs(4), "waits in silence", |town| town.resource_version() == before)
        .await;
    let claim = story.seen::<PersistentVolumeClaim>(&town.child()).get().await;
    assert_eq!(claim.metadata.deletion_timestamp, None);
    story.players.release(&town.child()).await;
    is_gone_whole(&story, &town).await;
}

async fn foreign_finalizers_are_named_and_not_removed(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let ann = story.agent("ann").get().await;
    let held = json!({"metadata": {"finalizers": [FOREIGN]}});
    let free = json!({"metadata": {"finalizers": null}});
    let agents_pod = json!({"metadata": {"finalizers": [names::RESULT_FINALIZER, FOREIGN]}});
    story.pod(&ann.child()).merge(agents_pod).await;
    story.pod(&town.child()).merge(held.clone()).await;
    story.seen::<PersistentVolumeClaim>(&town.child()).merge(held.clone()).await;
    let both = json!({"metadata": {"finalizers": [names::FINALIZER, FOREIGN]}});
    story.town("gas").merge(both).await;
    story.town("gas").delete().await;

    // The destruction waits for each object in turn. The status names it with its finalizer, and the holder releases
    // it.
    let names_it = |town: &Town, kind: &str| {
        blocked_by(town).iter().any(|item| item.kind == kind && item.finalizers.iter().any(|f| f == FOREIGN))
    };
    story
        .agent("ann")
        .until("names its pod", |agent| {
            let destroy = agent.status.as_ref().and_then(|status| status.destroy.as_ref());
            destroy.is_some_and(|destroy| {
                destroy.blocked_by.iter().any(|item| item.kind == "Pod" && item.finalizers == [FOREIGN])
            })
        })
        .await;
    let pod = story.pod(&ann.child()).get().await;
    assert_eq!(pod.finalizers(), [FOREIGN], "ours is off, theirs is not ours to take");
    story.pod(&ann.child()).merge(free.clone()).await;

    story.town("gas").until("names its pod", |town| names_it(town, "Pod")).await;
    story.pod(&town.child()).merge(free.clone()).await;
    let waiting =
        story.town("gas").until("names its claim", |town| names_it(town, "PersistentVolumeClaim")).await;
    assert_eq!(waiting.finalizers(), [names::FINALIZER, FOREIGN]);
    story.seen::<PersistentVolumeClaim>(&town.child()).merge(free.clone()).await;
    let last = story.town("gas").until("is let go by us", |town| town.finalizers() == [FOREIGN]).await;
    assert_eq!(story.children(&last.id()).await, [""; 0]);
    story.town("gas").merge(free).await;
    story.town("gas").gone().await;
}

async fn delete_right_after_a_create_leaves_no_pods(story: Story) {
    // The delete occurs at different moments between the create and the first pod.
    let mut towns = Vec::new();
    for delay in [0, 5, 10, 20, 40, 60, 80, 120, 160, 240] {
        let name = format!("brief-{delay}");
        let town = story.create_town(&name, workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
        let agent = story.create_agent(&format!("cat-{delay}"), &name, polecat("b-1")).await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        story.town(&name).delete().await;
        towns.push((town, agent));
    }
    for (town, agent) in &towns {
        let name = town.name_any();
        until(&format!("town {name} is gone"), PATIENCE, async || match story.town(&name).find().await {
            None => Ok(()),
            Some(found) => Err(crate::common::seen::show(&found)),
        })
        .await;
        let left = [story.children(&town.id()).await, story.children(&agent.id()).await].concat();
        if lets_go(&story, "Town", &name) {
            assert_eq!(left, [""; 0], "children of {name}");
        } else {
            // The API server accepted the delete before our finalizer, and executed it after: the town went without its
            // destruction. The garbage collector deletes its pod; the sweep of orphans deletes its volume; its agent is
            // stopped.
            let never_collected = |child: &&String| child.starts_with("Pers") || child.starts_with("Agent/");
            let stay = left.iter().filter(never_collected).count();
            assert!(stay <= 3, "children of {name}: {left:?}");
        }
    }
    until("every pod is gone", PATIENCE, async || {
        let pods =
            story.api::<Pod>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        if pods.items.is_empty() { Ok(()) } else { Err(format!("{} pods", pods.items.len())) }
    })
    .await;
}

// I-recreated.
async fn recreated_town_adopts_no_children_of_its_predecessor(story: Story) {
    let old = busy_town(&story, "gas", &["ann"]).await;
    let old_pod = story.pod(&old.child()).get().await;
    story.town("gas").delete().await;
    // A client creates a town of this name as soon as the name is free.
    let new: Town = until("the name is free", PATIENCE, async || {
        let town = json!({
            "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": "gas"},
            "spec": workshop_with(json!({"storage": {"size": "1Gi"}})),
        });
        let town: Town = serde_json::from_value(town).unwrap();
        story.api::<Town>().create(&PostParams::default(), &town).await.map_err(|error| error.to_string())
    })
    .await;
    assert_ne!(new.uid(), old.uid());
    let new = story.town("gas").until("is idle", |town| town.phase() == "Idle").await;
    assert_ne!(new.child(), old.child());
    assert!(
        new.status.as_ref().unwrap().destroy.is_none() && !new.annotations().contains_key(names::TOMBSTONE)
    );
    assert_eq!(story.children(&old.id()).await, [""; 0]);
    let pod = story.pod(&new.child()).get().await;
    assert_ne!(pod.uid(), old_pod.uid());
    assert_eq!(
        story.children(&new.id()).await,
        [format!("PersistentVolumeClaim/{}", new.child()), format!("Pod/{}", new.child()),]
    );
}

// I-recreated.
async fn town_name_is_free_only_after_the_destruction_completes(story: Story) {
    let old = busy_town(&story, "gas", &[]).await;
    story.players.hold(&old.child()).await;
    story.town("gas").delete().await;
    story.town("gas").until("is being destroyed", |town| town.phase() == "Destroying").await;
    let manifest = "{apiVersion: gastown.dev/v1alpha1, kind: Town, metadata: {name: gas}, spec: {}}";
    story.apply(manifest);
    let still = story.town("gas").get().await;
    assert_eq!(still.uid(), old.uid(), "applying to a town that goes does not bring it back");
    story.players.release(&old.child()).await;
    is_gone_whole(&story, &old).await;
    story.apply(manifest);
    let new = story.town("gas").until("lives", |town| town.phase() == "Idle").await;
    assert_ne!(new.uid(), old.uid());
}

async fn town_with_a_tombstone_annotation_creates_no_children(story: Story) {
    let buried: Town = story
        .create_object(json!({
            "apiVersion": "gastown.dev/v1alpha1", "kind": "Town",
            "metadata": {"name": "ghost", "annotations": {
                names::TOMBSTONE: "11111111-2222-3333-4444-555555555555@2026-01-01T00:00:00Z",
            }},
            "spec": workshop_with(json!({"storage": {"size": "1Gi"}})),
        }))
        .await;
    story.create_agent("cat", "ghost", polecat("b-1")).await;
    let ghost =
        story.town("ghost").until("says why it does not run", |town| town.phase() == "Tombstoned").await;
    assert!(ghost.is("Stalled") && !ghost.is("Ready"));
    assert_eq!(ghost.reason("Stalled"), "Tombstoned");
    let message = ghost.message("Stalled");
    assert!(message.contains(names::TOMBSTONE) && message.contains("remove the annotation"), "{message}");
    story.agent("cat").until("waits", |agent| agent.phase() == "Blocked").await;
    story
        .town("ghost")
        .stays(Duration::from_secs(4), "stays as it is", |town| {
            town.resource_version() == ghost.resource_version()
        })
        .await;
    assert_eq!(story.children(&buried.id()).await, [""; 0]);

    // A user can remove the tombstone annotation.
    story.town("ghost").merge(json!({"metadata": {"annotations": {names::TOMBSTONE: null}}})).await;
    story.town("ghost").until("runs", |town| town.phase() == "Running").await;
    story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
}

async fn tombstone_annotation_stops_pods_and_keeps_claims(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let claims =
        |children: Vec<String>| children.into_iter().filter(|child| child.starts_with("Pers")).collect();
    let before: Vec<String> = claims(story.children(&town.id()).await);
    // Any value is valid, even one that the operator cannot parse.
    story.town("gas").merge(json!({"metadata": {"annotations": {names::TOMBSTONE: ""}}})).await;
    story.town("gas").until("is tombstoned", |town| town.phase() == "Tombstoned").await;
    until("nothing of it runs", PATIENCE, async || {
        let pods = story.pods(names::TOWN_UID, &town.id()).await;
        if pods.is_empty() { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    })
    .await;
    let after: Vec<String> = claims(story.children(&town.id()).await);
    assert_eq!((after.len(), after), (2, before), "every volume is kept");
    assert_eq!(story.town("gas").get().await.metadata.deletion_timestamp, None, "only a real delete deletes");
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
}

async fn deleted_agent_finishes_its_bead_within_the_drain(story: Story) {
    story.create_town("kind", workshop_with(json!({"drain": {"timeout": "1h"}}))).await;
    story.create_agent("cat", "kind", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    story.agent("cat").delete().await;
    story
        .agent("cat")
        .until("says what it waits for", |agent| {
            let destroy = agent.status.as_ref().and_then(|status| status.destroy.as_ref());
            destroy.is_some_and(|destroy| destroy.step.as_str() == "Drain" && !destroy.blocked_by.is_empty())
        })
        .await;
    assert_eq!(story.pod(&cat.child()).get().await.metadata.deletion_timestamp, None);
    story.players.succeed(&cat.child(), "").await;
    story.agent("cat").gone().await;
    assert_eq!(story.children(&cat.id()).await, [""; 0]);
}

async fn deleted_town_lets_its_agents_finish_within_the_drain(story: Story) {
    story.create_town("kind", workshop_with(json!({"drain": {"timeout": "1h"}}))).await;
    story.create_agent("cat", "kind", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let town = story.town("kind").until("runs", |town| town.phase() == "Running").await;
    story.town("kind").delete().await;
    let waiting = story.town("kind").until("names the agent", |town| !blocked_by(town).is_empty()).await;
    let [named] = blocked_by(&waiting) else { panic!("{:?}", blocked_by(&waiting)) };
    assert_eq!((named.kind.as_str(), named.name.as_str()), ("Agent", "cat"));
    assert_eq!(waiting.status.as_ref().unwrap().destroy.as_ref().unwrap().step.as_str(), "Drain");
    assert_eq!(story.pod(&cat.child()).get().await.metadata.deletion_timestamp, None);
    assert_eq!(story.agent("cat").get().await.metadata.deletion_timestamp, None);
    story.players.succeed(&cat.child(), "").await;
    story.agent("cat").until("is done, or gone already", |_| true).await;
    is_gone_whole(&story, &town).await;
}

async fn drain_of_a_deleted_town_ends_at_its_timeout(story: Story) {
    story.create_town("firm", workshop_with(json!({"drain": {"timeout": "3s"}}))).await;
    story.create_agent("cat", "firm", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let town = story.town("firm").until("runs", |town| town.phase() == "Running").await;
    story.town("firm").delete().await;
    story.town("firm").until("is being destroyed", |town| town.phase() == "Destroying").await;
    story
        .pod(&cat.child())
        .stays(Duration::from_secs(2), "has its time", |pod| pod.metadata.deletion_timestamp.is_none())
        .await;
    is_gone_whole(&story, &town).await;
}

async fn spec_changes_during_a_destruction_have_no_effect(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let ann = story.agent("ann").get().await;
    story.players.hold(&ann.child()).await;
    story.players.hold(&town.child()).await;
    story.town("gas").delete().await;
    story.pod(&ann.child()).until("is asked to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    story.town("gas").merge(json!({"spec": {"alwaysOn": true, "wakeRequest": "come back"}})).await;
    story.agent("ann").merge(json!({"spec": {"hook": {"bead": "b-2"}}})).await;
    story.players.release(&ann.child()).await;
    story.players.release(&town.child()).await;
    is_gone_whole(&story, &town).await;
    assert!(done(&ann).is_empty());
}

async fn deleted_claim_is_recreated_after_a_sleep(story: Story) {
    let town = busy_town(&story, "gas", &[]).await;
    let claim = story.seen::<PersistentVolumeClaim>(&town.child());
    let old = claim.get().await;
    claim.delete().await;
    // The claim is in use and remains until the pod is removed.
    story.town("gas").until("says so", |town| town.is("Degraded")).await;
    story.town("gas").merge(json!({"spec": {"suspend": true}})).await;
    story.town("gas").until("sleeps", |town| town.phase() == "Asleep").await;
    claim.gone().await;
    story.town("gas").merge(json!({"spec": {"suspend": false}})).await;
    let town =
        story.town("gas").until("is idle", |town| town.phase() == "Idle" && !town.is("Degraded")).await;
    let new = claim.get().await;
    assert_ne!(new.uid(), old.uid());
    story
        .town("gas")
        .until("knows it", |t| t.status.as_ref().unwrap().storage.as_ref().unwrap().uid == new.uid())
        .await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
}

async fn stray_pods_with_the_labels_of_a_town_are_deleted_with_the_town(story: Story) {
    let town = busy_town(&story, "gas", &[]).await;
    let stray = async |name: &str, install: &str, uid: &str| -> Pod {
        let mut pod = crate::common::story::template();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"] = json!({"name": name, "labels": {names::TOWN_UID: uid, names::INSTALL: install}});
        story.create_object(pod).await
    };
    let install = story.cluster.install_label();
    stray("ours", install, &town.id()).await;
    let theirs = stray("theirs", "another-installation", &town.id()).await;
    let elsewhere = stray("elsewhere", install, "99999999-8888-7777-6666-555555555555").await;
    story.town("gas").delete().await;
    story.town("gas").gone().await;
    assert_eq!(
        story.children(&town.id()).await,
        ["Pod/theirs"],
        "another installation's is not ours to delete"
    );
    for pod in [theirs, elsewhere] {
        let left = story.pod(&pod.name_any()).get().await;
        assert_eq!((left.uid(), left.metadata.deletion_timestamp), (pod.uid(), None));
    }
}

async fn agent_without_its_town_label_is_destroyed_with_its_town(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let ann = story.agent("ann").get().await;
    let bare = json!({"metadata": {"labels": {names::TOWN_UID: null}}});
    Object::agent(&story, "ann").change(&people::operator(&story).await, bare).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    assert_eq!(story.children(&ann.id()).await, [""; 0]);
    // The agent was bound and destroyed with its town, or it was released before and has no children.
    if let Some(left) = story.agent("ann").find().await {
        panic!("it carries our finalizer and names the town: {}", crate::common::seen::show(&left));
    }
}

async fn forty_towns_start_and_are_destroyed_at_once(story: Story) {
    let names: Vec<String> = (0..40).map(|n| format!("town-{n}")).collect();
    let towns = names.iter().map(|name| story.create_town(name, workshop()));
    let towns: Vec<Town> = futures::future::join_all(towns).await;
    for name in &names {
        story.town(name).until_within(Duration::from_mins(1), "is idle", |town| town.phase() == "Idle").await;
    }
    let all = DeleteParams::default();
    story.api::<Town>().delete_collection(&all, &ListParams::default()).await.unwrap();
    for town in &towns {
        is_gone_whole(&story, town).await;
    }
    assert_eq!(story.api::<Pod>().list(&ListParams::default()).await.unwrap().items.len(), 0);
}

// decisions 1.7.
async fn ephemeral_and_resource_claims_of_a_pod_are_recorded_and_awaited(story: Story) {
    story.apply(
        "{apiVersion: resource.k8s.io/v1, kind: ResourceClaimTemplate, metadata: {name: gpus}, spec: {spec: {devices: \
         {requests: [{name: one, exactly: {deviceClassName: gpu.example.com}}]}}}}",
    );
    let size = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let mut spec = workshop();
    spec["template"]["spec"]["volumes"] =
        json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": size}}}]);
    spec["template"]["spec"]["resourceClaims"] =
        json!([{"name": "gpu", "resourceClaimTemplateName": "gpus"}]);
    story.create_town("gas", spec).await;
    let town = story.town("gas").until("has its pod", |town| town.pod_uid().is_some()).await;
    let device = |pod: &Pod| {
        let mut devices =
            pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
        devices.find_map(|claim| claim.resource_claim_name.clone())
    };
    let pod = story.pod(&town.child()).until("has its device", |pod| device(pod).is_some()).await;
    let device = device(&pod).unwrap();
    let scratch = story.seen::<PersistentVolumeClaim>(&format!("{}-scratch", town.child()));
    scratch.until("is there", |_| true).await;
    assert!(
        !story.children(&town.id()).await.iter().any(|child| child.contains("scratch")),
        "it has no label"
    );
    let held = format!(r#"--patch={{"metadata":{{"finalizers":["{FOREIGN}"]}}}}"#);
    let free = r#"--patch={"metadata":{"finalizers":null}}"#;
    let patch = |patch: &str| story.kubectl(&["patch", "resourceclaim", &device, "--type=merge", patch]);
    patch(&held);
    scratch.merge(json!({"metadata": {"finalizers": [FOREIGN]}})).await;

    story.town("gas").delete().await;
    let names = |town: &Town, kind: &str, name: &str| {
        blocked_by(town)
            .iter()
            .any(|item| item.kind == kind && item.name == name && item.finalizers == [FOREIGN])
    };
    story
        .town("gas")
        .until("names both claims", |town| {
            names(town, "PersistentVolumeClaim", scratch.name()) && names(town, "ResourceClaim", &device)
        })
        .await;
    story.pod(&town.child()).gone().await;
    let record = story.tombstone(&town).get().await;
    for (kind, name) in [("PersistentVolumeClaim", scratch.name()), ("ResourceClaim", &device)] {
        let is_listed = record.spec.children.iter().any(|child| child.kind == kind && child.name == name);
        assert!(is_listed, "{kind} {name}: {:?}", record.spec.children);
    }
    scratch.merge(json!({"metadata": {"finalizers": null}})).await;
    scratch.gone().await;
    let waits = story.town("gas").get().await;
    assert_eq!(waits.finalizers(), [names::FINALIZER], "the device is still claimed");
    patch(free);
    is_gone_whole(&story, &town).await;
}

// reports.md P4, security.md L10.
async fn restored_children_are_reported_and_a_finished_pod_is_released(story: Story) {
    let uid = "99999999-8888-7777-6666-444444444444";
    let labels =
        json!({names::TOWN_UID: uid, names::AGENT_UID: uid, names::INSTALL: story.cluster.install_label()});
    let mut pod = crate::common::story::template();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"] = json!({"name": "restored", "labels": labels, "finalizers": [names::RESULT_FINALIZER]});
    story.create_object::<Pod>(pod).await;
    let size = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": size,
        "metadata": {"name": "restored-data", "labels": labels}});
    story.create_object::<PersistentVolumeClaim>(claim).await;
    for (kind, name) in [("Pod", "restored"), ("PersistentVolumeClaim", "restored-data")] {
        until(&format!("an event names {kind} {name}"), PATIENCE, async || {
            let selector = format!("--field-selector=reason=OwnerGone,involvedObject.name={name}");
            let said = story.kubectl(&["get", "events", &selector, "-o", "jsonpath={.items[*].message}"]);
            if said.contains(uid) && said.contains("Delete it") { Ok(()) } else { Err(said) }
        })
        .await;
    }
    let there = story.pod("restored").get().await;
    assert_eq!(
        (there.metadata.deletion_timestamp.clone(), there.finalizers().len()),
        (None, 1),
        "it runs on"
    );

    story.players.succeed("restored", "").await;
    story.pod("restored").until("is released", |pod| pod.finalizers().is_empty()).await;
    story.pod("restored").delete().await;
    story.pod("restored").gone().await;
    assert_eq!(
        story.seen::<PersistentVolumeClaim>("restored-data").get().await.metadata.deletion_timestamp,
        None,
        "data is never deleted for that"
    );
}

/// Whether the log of the operator says that it released this object.
fn lets_go(story: &Story, kind: &str, name: &str) -> bool {
    let object = format!("\"{}/{name}\"", story.namespace);
    let said =
        |line: &&str| line.contains(&object) && line.contains(kind) && line.contains("remove finalizer");
    story.operator().log().lines().any(|line| said(&line))
}

fn blocked_by(town: &Town) -> &[BlockedBy] {
    let destroy = town.status.as_ref().and_then(|status| status.destroy.as_ref());
    destroy.map_or(&[], |destroy| &destroy.blocked_by)
}
