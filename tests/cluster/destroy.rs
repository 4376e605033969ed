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
    stories.with_the_operator(nothing_of_a_deleted_town_is_left);
    stories.with_the_operator(a_sleeping_town_goes_the_same_way);
    stories.with_the_operator(a_town_that_is_starting_goes_the_same_way);
    stories.with_the_operator(a_pod_that_does_not_go_is_named_and_waited_for);
    stories.with_the_operator(foreign_finalizers_are_named_and_never_touched);
    stories.with_the_operator(a_delete_right_behind_a_create_leaves_nothing);
    stories.with_the_operator(a_successor_of_the_same_name_adopts_nothing);
    stories.with_the_operator(a_successor_can_come_only_when_all_is_gone);
    stories.with_the_operator(a_live_town_with_a_tombstone_runs_nothing);
    stories.with_the_operator(a_tombstone_stops_what_runs_and_keeps_the_data);
    stories.with_the_operator(an_agent_deleted_alone_may_finish_first);
    stories.with_the_operator(a_town_lets_its_agents_finish_before_it_goes);
    stories.with_the_operator(the_drain_of_a_deletion_ends_at_its_bound);
    stories.with_the_operator(a_claim_that_is_deleted_by_hand_comes_back_after_a_sleep);
    stories.with_the_operator(strays_with_the_towns_mark_go_and_those_of_others_stay);
    stories.with_the_operator(an_agent_whose_mark_was_taken_off_goes_all_the_same);
    stories.with_the_operator(many_towns_come_and_go_at_once);
    stories.with_the_operator(claims_that_kubernetes_made_for_a_pod_are_recorded_and_waited_for);
    stories.with_the_operator(restored_children_are_named_and_an_ended_pod_is_released);
    stories.with_the_operator(a_spec_that_changes_during_destruction_changes_nothing);
}

async fn nothing_of_a_deleted_town_is_left(story: Story) {
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

async fn a_sleeping_town_goes_the_same_way(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    story.town("gas").merge(json!({"spec": {"suspend": true}})).await;
    story.town("gas").until("sleeps", |town| town.phase() == "Asleep").await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    no_volume_is_left(&story).await;
}

async fn a_town_that_is_starting_goes_the_same_way(story: Story) {
    story.players.run_new_pods(false).await;
    story.create_town("gas", workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
    story.create_agent("ann", "gas", polecat("b-1")).await;
    let town = story.town("gas").until("is starting", |town| town.phase() == "Starting").await;
    story.pod(&town.child()).until("is there", |_| true).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    no_volume_is_left(&story).await;
}

async fn a_pod_that_does_not_go_is_named_and_waited_for(story: Story) {
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

async fn foreign_finalizers_are_named_and_never_touched(story: Story) {
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

async fn a_delete_right_behind_a_create_leaves_nothing(story: Story) {
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
async fn a_successor_of_the_same_name_adopts_nothing(story: Story) {
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
async fn a_successor_can_come_only_when_all_is_gone(story: Story) {
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

async fn a_live_town_with_a_tombstone_runs_nothing(story: Story) {
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

async fn a_tombstone_stops_what_runs_and_keeps_the_data(story: Story) {
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

async fn an_agent_deleted_alone_may_finish_first(story: Story) {
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

async fn a_town_lets_its_agents_finish_before_it_goes(story: Story) {
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

async fn the_drain_of_a_deletion_ends_at_its_bound(story: Story) {
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

async fn a_spec_that_changes_during_destruction_changes_nothing(story: Story) {
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

async fn a_claim_that_is_deleted_by_hand_comes_back_after_a_sleep(story: Story) {
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

async fn strays_with_the_towns_mark_go_and_those_of_others_stay(story: Story) {
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

async fn an_agent_whose_mark_was_taken_off_goes_all_the_same(story: Story) {
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

async fn many_towns_come_and_go_at_once(story: Story) {
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
async fn claims_that_kubernetes_made_for_a_pod_are_recorded_and_waited_for(story: Story) {
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
async fn restored_children_are_named_and_an_ended_pod_is_released(story: Story) {
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
