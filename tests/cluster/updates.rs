//! The reaction of pods to a change of their spec.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::names;

use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{
    Told, asleep, attempts, idle, image, polecat, template_of, works, workshop, workshop_with,
};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(changed_template_replaces_the_pods_of_an_idle_town_at_once);
    stories.with_the_operator(changed_template_waits_while_a_town_works);
    stories.with_the_operator(fixed_image_replaces_an_unpullable_image_at_once);
    stories.with_the_operator(restart_at_replaces_each_pod_at_once_and_only_once);
    stories.with_the_operator(changed_template_applies_while_a_town_starts_and_at_its_next_wake);
    stories.with_the_operator(spec_change_during_a_drain_applies_at_the_next_wake);
    stories.with_the_operator(agent_can_be_deleted_while_its_town_wakes);
    stories.with_the_operator(reverted_template_replaces_no_pod);
}

/// Waits for a pod of this name and image that is not being deleted.
async fn runs(story: &Story, name: &str, wanted: &str) -> Pod {
    story
        .pod(name)
        .until(&format!("runs {wanted}"), |pod| {
            image(pod) == wanted && pod.metadata.deletion_timestamp.is_none()
        })
        .await
}

async fn changed_template_replaces_the_pods_of_an_idle_town_at_once(story: Story) {
    story.create_town("hall", workshop()).await;
    story.create_agent("mayor", "hall", json!({"role": "Mayor"})).await;
    let mayor = story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    let town = story.town("hall").until("is idle", idle).await;
    story.town("hall").merge(json!({"spec": {"template": template_of("own:2")}})).await;
    let pod = runs(&story, &town.child(), "own:2").await;
    story
        .town("hall")
        .until("is idle again", |town| idle(town) && town.pod_uid() == pod.uid().as_deref())
        .await;

    story.town("hall").merge(json!({"spec": {"agentTemplate": template_of("agents:2")}})).await;
    let agents_pod = runs(&story, &mayor.child(), "agents:2").await;
    story
        .agent("mayor")
        .until("is there again", |agent| agent.is("Ready") && agent.pod_uid() == agents_pod.uid().as_deref())
        .await;
    let town = story.town("hall").get().await;
    assert_eq!(town.pod_uid(), pod.uid().as_deref(), "the agents' template is not the town's");
    assert!(!town.is("Degraded") && !town.is("Reconciling"));
    assert_eq!(town.status.unwrap().restarts, None, "what we replace has not failed");
}

async fn changed_template_waits_while_a_town_works(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    story.create_agent("mayor", "shop", json!({"role": "Mayor"})).await;
    let cat = story.agent("cat").until("works", works).await;
    let mayor = story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    let town = story.town("shop").until("runs", |town| town.phase() == "Running" && town.is("Ready")).await;
    let children = [town.child(), cat.child(), mayor.child()];
    let mut before = Vec::new();
    for child in &children {
        before.push(story.pod(child).get().await.uid());
    }

    let new = json!({"template": template_of("own:2"), "agentTemplate": template_of("agents:2")});
    story.town("shop").merge(json!({"spec": new})).await;
    let pending = story
        .town("shop")
        .until("says that an update waits", |town| town.reason("Reconciling") == "UpdatePending")
        .await;
    assert!(pending.is("Ready") && pending.is("Reconciling"), "it runs, and more is to come");
    assert!(pending.message("Reconciling").contains("restart-at"), "{}", pending.message("Reconciling"));
    let pending = story
        .agent("mayor")
        .until("says so too", |agent| agent.reason("Reconciling") == "UpdatePending")
        .await;
    assert!(pending.is("Ready"));
    story.agent("cat").stays(Duration::from_secs(2), "works on", works).await;
    for (child, uid) in children.iter().zip(&before) {
        assert_eq!(story.pod(child).get().await.uid(), *uid, "{child}: who works is not disturbed");
    }

    story.players.succeed(&cat.child(), "").await;
    runs(&story, &town.child(), "own:2").await;
    runs(&story, &mayor.child(), "agents:2").await;
    story.town("shop").until("is idle", |town| idle(town) && !town.is("Reconciling")).await;
    story.agent("mayor").until("is there", |agent| agent.is("Ready") && !agent.is("Reconciling")).await;
    assert_eq!(attempts(&story.agent("cat").get().await), 1);
}

async fn fixed_image_replaces_an_unpullable_image_at_once(story: Story) {
    story.players.run_new_pods(false).await;
    story.create_town("shop", workshop_with(json!({"template": template_of("own:tpyo")}))).await;
    let mut spec = polecat("b-1");
    spec["template"] = template_of("cat:tpyo");
    spec["retry"] = json!({"limit": 1});
    story.create_agent("cat", "shop", spec).await;
    let town = story.town("shop").until("is starting", |town| town.phase() == "Starting").await;
    let cat = story.agent("cat").until("is starting", |agent| agent.phase() == "Starting").await;
    for child in [town.child(), cat.child()] {
        story.players.keep_waiting(&child, "ImagePullBackOff", "no such tag: tpyo").await;
    }
    let town =
        story.town("shop").until("says why", |town| town.reason("Degraded") == "ImagePullFailed").await;
    let cat =
        story.agent("cat").until("says why", |agent| agent.reason("Degraded") == "ImagePullFailed").await;
    for message in [town.message("Degraded"), cat.message("Degraded")] {
        assert!(message.contains("tpyo") && message.contains("cannot be pulled"), "{message}");
    }

    story.town("shop").merge(json!({"spec": {"template": template_of("own:2")}})).await;
    story.agent("cat").merge(json!({"spec": {"template": template_of("cat:2")}})).await;
    for (child, wanted) in [(town.child(), "own:2"), (cat.child(), "cat:2")] {
        runs(&story, &child, wanted).await;
        story.players.run(&child).await;
    }
    let town = story
        .town("shop")
        .until("runs", |town| town.phase() == "Running" && town.is("Ready") && !town.is("Degraded"))
        .await;
    let cat = story.agent("cat").until("works", |agent| works(agent) && !agent.is("Degraded")).await;
    assert_eq!(
        (town.status.unwrap().restarts, attempts(&cat)),
        (None, 1),
        "a start that the operator ended does not count"
    );
}

async fn restart_at_replaces_each_pod_at_once_and_only_once(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    story.create_agent("mayor", "shop", json!({"role": "Mayor"})).await;
    let cat = story.agent("cat").until("works", works).await;
    let mayor = story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    let town = story.town("shop").until("runs", |town| town.phase() == "Running" && town.is("Ready")).await;
    let asked = json!({"metadata": {"annotations": {names::RESTART_AT: "now"}}});
    let mut pods = Vec::new();
    for child in [town.child(), cat.child(), mayor.child()] {
        pods.push(story.pod(&child).get().await);
    }
    story.town("shop").merge(asked.clone()).await;
    for agent in ["cat", "mayor"] {
        story.agent(agent).merge(asked.clone()).await;
    }
    let mut replaced = Vec::new();
    for pod in &pods {
        let another = |found: &Pod| found.uid() != pod.uid() && found.metadata.deletion_timestamp.is_none();
        replaced.push(story.pod(&pod.name_any()).until("is replaced", another).await.uid());
    }
    let town = story
        .town("shop")
        .until("runs", |town| town.phase() == "Running" && town.pod_uid() == replaced[0].as_deref())
        .await;
    let cat =
        story.agent("cat").until("works", |cat| works(cat) && cat.pod_uid() == replaced[1].as_deref()).await;
    story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    assert_eq!(
        (town.status.unwrap().restarts, attempts(&cat)),
        (None, 1),
        "what a person asks for is no failure"
    );
    for (pod, uid) in pods.iter().zip(&replaced) {
        story
            .pod(&pod.name_any())
            .stays(Duration::from_secs(1), "is not replaced again", |p| p.uid() == *uid)
            .await;
    }
}

async fn changed_template_applies_while_a_town_starts_and_at_its_next_wake(story: Story) {
    story.create_town("night", workshop_with(json!({"suspend": true}))).await;
    let night = story.town("night").until("sleeps", asleep).await;
    story.players.run_new_pods(false).await;
    story.create_town("dawn", workshop()).await;
    let dawn = story.town("dawn").until("is starting", |town| town.phase() == "Starting").await;
    story.pod(&dawn.child()).until("is there", |_| true).await;

    for name in ["night", "dawn"] {
        story.town(name).merge(json!({"spec": {"template": template_of("own:2")}})).await;
    }
    runs(&story, &dawn.child(), "own:2").await;
    story.players.run_new_pods(true).await;
    story.town("dawn").until("is idle", idle).await;
    story.town("night").until("has seen it", |town| town.is_current() && asleep(town)).await;
    assert_eq!(story.pods(names::TOWN_UID, &night.id()).await.len(), 0, "a new template wakes nobody");
    story.town("night").merge(json!({"spec": {"suspend": false}})).await;
    runs(&story, &night.child(), "own:2").await;
    story.town("night").until("is idle", idle).await;
}

async fn spec_change_during_a_drain_applies_at_the_next_wake(story: Story) {
    story.create_town("dusk", workshop()).await;
    let town = story.town("dusk").until("is idle", idle).await;
    story.players.hold(&town.child()).await;
    story.town("dusk").merge(json!({"spec": {"suspend": true}})).await;
    story.pod(&town.child()).until("is asked to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    let changed =
        json!({"template": template_of("own:2"), "sleepAfter": "1h", "ports": [{"name": "web", "port": 80}]});
    story.town("dusk").merge(json!({"spec": changed})).await;
    let draining = story.town("dusk").until("has seen it", Told::is_current).await;
    assert_eq!(draining.phase(), "Draining");
    story.players.release(&town.child()).await;
    story.town("dusk").until("sleeps", asleep).await;
    story.town("dusk").merge(json!({"spec": {"suspend": false}})).await;
    runs(&story, &town.child(), "own:2").await;
    let town = story.town("dusk").until("is idle", idle).await;
    assert!(town.status.unwrap().service.is_some());
}

async fn agent_can_be_deleted_while_its_town_wakes(story: Story) {
    story.create_town("dorm", workshop_with(json!({"suspend": true}))).await;
    for name in ["ann", "bob"] {
        story.create_agent(name, "dorm", polecat("b-1")).await;
        story.agent(name).until("sleeps", |agent| agent.phase() == "Asleep").await;
    }
    let ann = story.agent("ann").get().await;
    story.town("dorm").merge(json!({"spec": {"suspend": false}})).await;
    story.agent("ann").delete().await;
    story.agent("ann").gone().await;
    assert_eq!(story.children(&ann.id()).await, [""; 0]);
    let bob = story.agent("bob").until("works", works).await;
    story.players.succeed(&bob.child(), "").await;
    story.town("dorm").until("is idle", idle).await;
}

async fn reverted_template_replaces_no_pod(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", works).await;
    let town = story.town("shop").until("runs", |town| town.phase() == "Running" && town.is("Ready")).await;
    let old = story.pod(&town.child()).get().await;
    let before = town.spec.template.clone();
    story.town("shop").merge(json!({"spec": {"template": template_of("own:2")}})).await;
    story.town("shop").until("has it pending", |town| town.reason("Reconciling") == "UpdatePending").await;
    story.town("shop").merge(json!({"spec": {"template": before}})).await;
    story
        .town("shop")
        .until("has nothing pending", |town| town.is_current() && !town.is("Reconciling"))
        .await;
    story.players.succeed(&cat.child(), "").await;
    story.town("shop").until("is idle", idle).await;
    story.pod(&town.child()).stays(Duration::from_secs(2), "stays", |pod| pod.uid() == old.uid()).await;
}
