//! Pods that crash repeatedly, and nodes that do not report the end of their pods.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::{Town, names};

use crate::common::story::{Story, template};
use crate::stage::Stories;
use crate::words::{Told, idle, seconds, template_of, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(pod_on_a_lost_node_is_not_replaced_until_its_removal);
    stories.with_the_operator(town_pauses_its_starts_after_five_failures);
    stories.with_the_operator(fixed_template_resets_the_failed_starts);
    stories.with_the_operator(degraded_condition_names_the_cause_of_a_container_failure);
    stories.with_the_operator(evicted_town_pod_is_replaced_and_not_counted);
}

fn start_failed(town: &Town) -> bool {
    town.reason("Degraded") == "StartFailed" && town.is("Degraded")
}

async fn town_pauses_its_starts_after_five_failures(story: Story) {
    story.create_town("shaky", workshop_with(json!({"sleepAfter": "20s"}))).await;
    let town = story.town("shaky").until("is idle", idle).await;
    let pod = story.pod(&town.child()).get().await;
    for restarts in 1..=4 {
        story.players.crash(&town.child(), restarts, 3, "Error").await;
        story
            .town("shaky")
            .until(&format!("counts {restarts}"), |town| {
                let restarted = town.status.as_ref().and_then(|status| status.restarts.clone());
                restarted.is_some_and(|restarts_now| restarts_now.count == restarts)
            })
            .await;
    }
    let crashing = story.town("shaky").get().await;
    assert!(crashing.message("Degraded").contains("exit code 3"), "{}", crashing.message("Degraded"));
    assert_eq!(story.pod(&town.child()).get().await.uid(), pod.uid(), "four are borne");

    story.players.crash(&town.child(), 5, 3, "Error").await;
    let given_up = story.town("shaky").until("is given up for a while", start_failed).await;
    story.pod(&town.child()).gone().await;
    let message = given_up.message("Degraded");
    let failed = given_up.status.clone().unwrap().restarts.unwrap().failure_time.unwrap();
    let next = failed.0 + SignedDuration::from_mins(30);
    assert!(message.contains("5 starts of the town's pod failed in a row"), "{message}");
    assert!(message.contains("exit code 3"), "{message}");
    assert!(message.contains(&format!("the next start is at {next}")), "{message}");
    assert!(given_up.is("Reconciling") && !given_up.is("Stalled"), "it goes on by itself");

    // The town has no work and sleeps. Its next wake resets the crash history.
    story
        .town("shaky")
        .until("sleeps all the same", |town| town.phase() == "Asleep" && !town.is("Degraded"))
        .await;
    story.town("shaky").merge(json!({"spec": {"wakeRequest": "now"}})).await;
    story.town("shaky").until("is idle", idle).await;
}

async fn fixed_template_resets_the_failed_starts(story: Story) {
    story.create_town("shaky", workshop()).await;
    let town = story.town("shaky").until("is idle", idle).await;
    story.players.crash(&town.child(), 6, 1, "Error").await;
    story.town("shaky").until("is given up for a while", start_failed).await;
    story.pod(&town.child()).gone().await;
    story.town("shaky").stays(Duration::from_secs(3), "is not started", start_failed).await;
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
    story.town("shaky").merge(json!({"spec": {"template": template_of("own:2")}})).await;
    let mended = story.town("shaky").until("is idle", |town| idle(town) && !town.is("Degraded")).await;
    assert_eq!(mended.status.unwrap().restarts, None, "it begins at the beginning");
}

async fn degraded_condition_names_the_cause_of_a_container_failure(story: Story) {
    let mut limited = template();
    limited["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "64Mi"}});
    story.create_town("hungry", workshop_with(json!({"template": limited}))).await;
    story.create_town("plain", workshop()).await;
    story.create_agent("mayor", "plain", json!({"role": "Mayor"})).await;
    let hungry = story.town("hungry").until("is idle", idle).await;
    let mayor = story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    story.players.crash(&hungry.child(), 1, 137, "OOMKilled").await;
    let said = story.town("hungry").until("says so", |town| town.reason("Degraded") == "OOMKilled").await;
    let message = said.message("Degraded");
    assert!(message.contains("64Mi") && message.contains("exit code 137"), "{message}");
    assert_eq!(said.phase(), "Starting", "it is not Ready, and gets there by itself");
    story.players.crash(&mayor.child(), 1, 42, "Error").await;
    let said =
        story.agent("mayor").until("says so", |agent| agent.reason("Degraded") == "ContainerFailed").await;
    assert!(said.message("Degraded").contains("42"), "{}", said.message("Degraded"));
    // The pod runs again.
    story.players.run(&hungry.child()).await;
    story.town("hungry").until("is idle", |town| idle(town) && !town.is("Degraded")).await;
}

async fn evicted_town_pod_is_replaced_and_not_counted(story: Story) {
    story.create_town("hall", workshop()).await;
    let town = story.town("hall").until("is idle", idle).await;
    let first = story.pod(&town.child()).get().await;
    story.players.evict(&town.child()).await;
    let second = story
        .pod(&town.child())
        .until_within(Duration::from_mins(1), "is replaced", |pod| pod.uid() != first.uid())
        .await;
    let waited = seconds(&first.creation_timestamp().unwrap(), &second.creation_timestamp().unwrap());
    assert!(waited >= 29, "one that is evicted as soon as it starts is not started hot: {waited} s");
    let town = story
        .town("hall")
        .until("is idle", |town| idle(town) && town.pod_uid() == second.uid().as_deref())
        .await;
    let counted = town.status.unwrap().restarts.map_or(0, |restarts| restarts.count);
    assert_eq!(counted, 0, "not its own doing");
}

// I-lost-node.
async fn pod_on_a_lost_node_is_not_replaced_until_its_removal(story: Story) {
    let mut brief = template();
    brief["spec"]["terminationGracePeriodSeconds"] = 1.into();
    story.create_town("lost", workshop_with(json!({"template": brief, "agentTemplate": brief}))).await;
    story.create_agent("mayor", "lost", json!({"role": "Mayor"})).await;
    let town = story.town("lost").until("is idle", idle).await;
    let mayor = story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    let pods = [story.pod(&town.child()).get().await, story.pod(&mayor.child()).get().await];
    for pod in &pods {
        story.players.hold(&pod.name_any()).await;
        story.pod(&pod.name_any()).delete().await;
    }
    let long = Duration::from_secs(75);
    let said =
        story.town("lost").until_within(long, "says so", |town| town.reason("Degraded") == "NodeLost").await;
    let mayors = story
        .agent("mayor")
        .until_within(long, "says so", |agent| agent.reason("Degraded") == "NodeLost")
        .await;
    for message in [said.message("Degraded"), mayors.message("Degraded")] {
        let node = crate::common::players::NODE;
        for word in [node, "may still run", "out-of-service"] {
            assert!(message.contains(word), "{word} is not in: {message}");
        }
    }
    assert!(said.is("Degraded") && said.is("Reconciling") && !said.is("Stalled"));
    for pod in &pods {
        let there = story.pod(&pod.name_any()).get().await;
        assert_eq!(there.uid(), pod.uid(), "nothing takes the place of what may still run");
    }
    // The node is back and removes the pods.
    for pod in &pods {
        story.players.release(&pod.name_any()).await;
    }
    for pod in &pods {
        story.pod(&pod.name_any()).until_within(long, "is another", |now| now.uid() != pod.uid()).await;
    }
    story.town("lost").until("is idle", |town| idle(town) && !town.is("Degraded")).await;
}
