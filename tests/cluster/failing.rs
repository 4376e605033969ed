//! Pods that fail, vanish, are evicted or do not start: the retries, their times, and the messages.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use town_operator::api::{Agent, Outcome, Town, names};

use crate::common::story::Story;
use crate::stage::Stories;
use crate::words::{Told, attempts, done, polecat, seconds, workshop, workshop_with};

/// The first back-off is 30 seconds.
const BACK_OFF: Duration = Duration::from_mins(1);

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(failed_attempt_is_retried_after_a_back_off);
    stories.with_the_operator(evicted_attempt_is_not_counted);
    stories.with_the_operator(deleted_town_pod_is_replaced);
    stories.with_the_operator(failed_town_pod_is_replaced);
    stories.with_the_operator(deleted_session_pod_is_replaced_with_its_hook);
    stories.with_the_operator(agent_past_its_retry_limit_fails_and_does_not_wake_its_town);
    stories.with_the_operator(finished_pod_keeps_its_result_finalizer_until_the_outcome_is_recorded);
    stories.with_the_operator(done_bead_does_not_start_again);
    stories.with_the_operator(town_reports_the_original_message_of_a_start_failure);
    stories.with_the_operator(condition_names_a_quota_and_the_operator_waits_for_it);
    stories.with_the_operator(refused_pod_is_retried_without_repeated_status_writes);
    stories.with_the_operator(refused_service_does_not_delay_the_pod);
}

async fn failed_attempt_is_retried_after_a_back_off(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let first = story.pod(&cat.child()).get().await;
    story.players.fail(&cat.child(), 3, "out of coffee").await;
    let failed = story
        .agent("cat")
        .until("waits for its next attempt", |agent| {
            agent.is("Degraded") && outcome(agent) == Some(Outcome::Failed)
        })
        .await;
    assert!(failed.message("Degraded").contains("out of coffee"), "{}", failed.message("Degraded"));
    assert_eq!(attempts(&failed), 1);
    story.pod(&cat.child()).gone().await;

    let town = story.town("shop").get().await;
    assert!(town.is("Active"), "an unfinished bead keeps the town awake");
    let second = story
        .pod(&cat.child())
        .until_within(BACK_OFF, "is tried again", |pod| pod.uid() != first.uid())
        .await;
    let created = |pod: &Pod| pod.metadata.creation_timestamp.clone().unwrap();
    let waited = seconds(&created(&first), &created(&second));
    assert!(waited >= 25, "half a minute lies between two attempts, not {waited} s");
    story.agent("cat").until("works again", |agent| attempts(agent) == 2 && agent.phase() == "Working").await;
    story.players.succeed(&cat.child(), "").await;
    story.agent("cat").until("is done", |agent| agent.phase() == "Done" && !agent.is("Degraded")).await;
}

async fn evicted_attempt_is_not_counted(story: Story) {
    story.create_town("shop", workshop()).await;
    let mut spec = polecat("b-1");
    // The limit is one attempt: an eviction must not count as one.
    spec["retry"] = json!({"limit": 1});
    story.create_agent("cat", "shop", spec).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let first = story.pod(&cat.child()).get().await;
    story.players.evict(&cat.child()).await;
    story.pod(&cat.child()).until_within(BACK_OFF, "is tried again", |pod| pod.uid() != first.uid()).await;
    let cat = story.agent("cat").until("works again", |agent| agent.phase() == "Working").await;
    assert_eq!(attempts(&cat), 1);
}

async fn deleted_town_pod_is_replaced(story: Story) {
    story.create_town("hall", workshop()).await;
    let town = story.town("hall").until("is idle", |town| town.phase() == "Idle").await;
    let first = story.pod(&town.child()).get().await;
    story.pod(&town.child()).delete_now(&first.uid().unwrap()).await;
    let second =
        story.pod(&town.child()).until_within(BACK_OFF, "is replaced", |pod| pod.uid() != first.uid()).await;
    let town = story
        .town("hall")
        .until("is idle again", |town| town.phase() == "Idle" && town.pod_uid() == second.uid().as_deref())
        .await;
    let restarts = town.status.unwrap().restarts.unwrap();
    // The operator sees the pod either being deleted or already gone.
    assert_eq!(restarts.count + restarts.disruptions, 1, "{restarts:?}");
}

async fn failed_town_pod_is_replaced(story: Story) {
    story.create_town("hall", workshop()).await;
    let town = story.town("hall").until("is idle", |town| town.phase() == "Idle").await;
    let first = story.pod(&town.child()).get().await;
    story.players.evict(&town.child()).await;
    story.pod(&town.child()).until_within(BACK_OFF, "is replaced", |pod| pod.uid() != first.uid()).await;
    story.town("hall").until("is idle again", |town| town.phase() == "Idle" && town.is("Ready")).await;
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 1);
}

async fn deleted_session_pod_is_replaced_with_its_hook(story: Story) {
    story.create_town("hall", workshop()).await;
    story.create_agent("mayor", "hall", json!({"role": "Mayor", "hook": {"bead": "b-1"}})).await;
    let mayor = story.agent("mayor").until("is there", |agent| agent.phase() == "Idle").await;
    let first = story.pod(&mayor.child()).get().await;
    story.pod(&mayor.child()).delete_now(&first.uid().unwrap()).await;
    let second =
        story.pod(&mayor.child()).until_within(BACK_OFF, "is replaced", |pod| pod.uid() != first.uid()).await;
    assert!(second.annotations()[names::HOOK].contains("b-1"), "it is told its work again");
    story
        .agent("mayor")
        .until("is there again", |agent| {
            agent.phase() == "Idle" && agent.pod_uid() == second.uid().as_deref()
        })
        .await;
}

async fn agent_past_its_retry_limit_fails_and_does_not_wake_its_town(story: Story) {
    story.create_town("shop", workshop_with(json!({"sleepAfter": "10s"}))).await;
    let mut spec = polecat("b-1");
    spec["retry"] = json!({"limit": 1});
    story.create_agent("cat", "shop", spec).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    story.players.fail(&cat.child(), 1, "no").await;
    let cat = story.agent("cat").until("is failed", |agent| agent.phase() == "Failed").await;
    assert!(!cat.is("Ready") && !cat.is("Finished"), "failed is not finished");
    assert_eq!(cat.reason("Degraded"), "RetryLimitExceeded");
    let town = story.town("shop").until("sleeps all the same", |town| town.phase() == "Asleep").await;
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
    story.town("shop").stays(Duration::from_secs(3), "sleeps on", |town| town.phase() == "Asleep").await;

    // Another bead resets the attempts.
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-2"}}})).await;
    story.agent("cat").until("works again", |agent| agent.phase() == "Working").await;
}

async fn finished_pod_keeps_its_result_finalizer_until_the_outcome_is_recorded(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    // A foreign finalizer holds the pod, so that the test can read it after the operator's work.
    let held = json!({"metadata": {"finalizers": [names::RESULT_FINALIZER, "example.com/hold"]}});
    let pod = story.pod(&cat.child()).merge(held).await;
    story.players.succeed(&cat.child(), "done and dusted").await;
    let read = story
        .pod(&cat.child())
        .until("was read", |pod| !pod.finalizers().iter().any(|name| name == names::RESULT_FINALIZER))
        .await;
    assert_eq!(read.uid(), pod.uid());
    let cat = story.agent("cat").get().await;
    assert_eq!(
        (done(&cat), attempts(&cat)),
        (&["b-1".to_owned()][..], 1),
        "first the outcome, then the finalizer"
    );

    story.pod(&cat.child()).until("is deleted", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    story.pod(&cat.child()).merge(json!({"metadata": {"finalizers": null}})).await;
    story.pod(&cat.child()).gone().await;
    story.agent("cat").stays(Duration::from_secs(3), "stays done", |agent| agent.phase() == "Done").await;
    assert_eq!(story.pods(names::AGENT_UID, &cat.id()).await.len(), 0);
}

// I-finished-pod.
async fn done_bead_does_not_start_again(story: Story) {
    story.create_town("shop", workshop_with(json!({"sleepAfter": "10s"}))).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    story.players.succeed(&cat.child(), "").await;
    story.agent("cat").until("is done", |agent| agent.phase() == "Done").await;
    story.pod(&cat.child()).gone().await;

    // The bead leaves the hook, the agent does another one, and the first returns: it is still done.
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-2"}}})).await;
    story.agent("cat").until("works on the next", |agent| agent.phase() == "Working").await;
    story.players.succeed(&cat.child(), "").await;
    story.agent("cat").until("is done", |agent| agent.phase() == "Done" && done(agent).len() == 2).await;
    story.pod(&cat.child()).gone().await;
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-1"}}})).await;
    story
        .agent("cat")
        .until("has seen it", |agent| {
            agent.status.as_ref().unwrap().observed_generation == agent.metadata.generation
                && agent.phase() == "Done"
        })
        .await;
    story.town("shop").until("sleeps", |town| town.phase() == "Asleep").await;
    assert_eq!(story.pods(names::AGENT_UID, &cat.id()).await.len(), 0);
    assert_eq!(done(&story.agent("cat").get().await), ["b-1", "b-2"]);
}

async fn town_reports_the_original_message_of_a_start_failure(story: Story) {
    story.players.run_new_pods(false).await;
    story.create_town("slow", workshop()).await;
    let town = story.town("slow").until("is starting", |town| town.phase() == "Starting").await;
    let unscheduled = json!({"status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes have wings",
    }]}});
    set_pod_status(&story, &town.child(), unscheduled).await;
    let said = story.town("slow").until("says why", |town| town.reason("Degraded") == "Unschedulable").await;
    assert!(said.message("Degraded").contains("0/3 nodes have wings"), "{}", said.message("Degraded"));
    assert_eq!(said.phase(), "Starting");
    assert!(said.is("Degraded") && said.is("Reconciling") && !said.is("Stalled"));

    story.players.bind(&town.child()).await;
    let waiting = json!({"reason": "ImagePullBackOff", "message": "no such image: town.test/nothing:1"});
    let pulling = json!({"status": {
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{
            "name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": waiting},
        }],
    }});
    set_pod_status(&story, &town.child(), pulling).await;
    let said =
        story.town("slow").until("says why", |town| town.reason("Degraded") == "ImagePullFailed").await;
    assert!(said.message("Degraded").contains("no such image"), "{}", said.message("Degraded"));

    story.players.run(&town.child()).await;
    let town = story.town("slow").until("is idle", |town| town.phase() == "Idle").await;
    assert!(!town.is("Degraded") && town.is("Ready"));
}

async fn condition_names_a_quota_and_the_operator_waits_for_it(story: Story) {
    story.kubectl(&["create", "quota", "tight", "--hard=pods=0"]);
    let hard = "-o=jsonpath={.status.hard.pods}";
    crate::common::wait::until("the quota counts", crate::common::wait::PATIENCE, async || {
        let said = story.kubectl(&["get", "quota", "tight", hard]);
        if said == "0" { Ok(()) } else { Err(said) }
    })
    .await;
    story.create_town("poor", workshop()).await;
    let town =
        story.town("poor").until("names the quota", |town| town.reason("Degraded") == "QuotaExceeded").await;
    assert!(town.message("Degraded").contains("tight"), "{}", town.message("Degraded"));
    assert_eq!(town.phase(), "Starting");
    assert!(town.is("Reconciling") && !town.is("Stalled"));
    story.kubectl(&["delete", "quota", "tight"]);
    story
        .town("poor")
        .until_within(BACK_OFF, "is idle", |town| town.phase() == "Idle" && !town.is("Degraded"))
        .await;
}

// code.md A36.
async fn refused_service_does_not_delay_the_pod(story: Story) {
    story.kubectl(&["create", "quota", "no-services", "--hard=services=0"]);
    let hard = "-o=jsonpath={.status.hard.services}";
    crate::common::wait::until("the quota counts", crate::common::wait::PATIENCE, async || {
        let said = story.kubectl(&["get", "quota", "no-services", hard]);
        if said == "0" { Ok(()) } else { Err(said) }
    })
    .await;
    let ports = json!({"ports": [{"name": "web", "port": 8080}]});
    story.create_town("open", workshop_with(ports)).await;
    let refused = |town: &Town| town.pod_uid().is_some() && town.reason("Degraded") == "QuotaExceeded";
    let town = story.town("open").until("has its pod, and names the quota", refused).await;
    assert!(town.message("Degraded").contains("no-services"), "{}", town.message("Degraded"));
    story.pod(&town.child()).until("runs", |pod| pod.metadata.deletion_timestamp.is_none()).await;
    story.kubectl(&["delete", "quota", "no-services"]);
    story
        .town("open")
        .until_within(BACK_OFF, "is idle", |town| town.phase() == "Idle" && !town.is("Degraded"))
        .await;
}

async fn refused_pod_is_retried_without_repeated_status_writes(story: Story) {
    let mut bad = workshop();
    bad["template"]["spec"]["containers"][0]["name"] = "Not_A_Label".into();
    story.create_town("wrong", bad).await;
    let said = |town: &Town| town.is("Degraded") && town.message("Degraded").contains("is invalid");
    let town = story.town("wrong").until("says what was refused", said).await;
    let message = town.message("Degraded");
    assert!(message.contains("spec.containers[0].name: Invalid value: \"Not_A_Label\""), "{message}");
    assert!(!message.contains("Status {"), "words for people, not a data structure: {message}");
    let before = town.resource_version();
    story
        .town("wrong")
        .stays(Duration::from_secs(5), "is not written again for every attempt", |town| {
            town.resource_version() == before
        })
        .await;
    story.town("wrong").merge(json!({"spec": workshop()})).await;
    story.town("wrong").until("is idle", |town| town.phase() == "Idle" && !town.is("Degraded")).await;
}

async fn set_pod_status(story: &Story, name: &str, status: Value) {
    let api = story.api::<Pod>();
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

fn outcome(agent: &Agent) -> Option<Outcome> {
    agent.status.as_ref()?.work.as_ref()?.outcome
}
