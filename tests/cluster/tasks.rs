//! Agents of mode Task: one pod at a time for one bead. The outcome is kept after the end of the pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use town_operator::api::{Agent, Outcome, WorkStatus, names};

use crate::common::story::Story;
use crate::common::wait::{CREATES_SETTLE, PATIENCE, until};
use crate::stage::Stories;
use crate::words::{Told, attempts, done, idle, polecat, works, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(termination_message_is_kept_in_the_agent_status);
    stories.with_the_operator(new_bead_waits_until_the_old_pod_is_gone);
    stories.with_the_operator(ttl_after_finished_deletes_done_and_failed_agents);
    stories.with_the_operator(failed_agent_is_retried_after_an_edit_of_its_hook);
    stories.with_the_operator(change_of_a_named_secret_gives_a_failed_agent_a_new_chance);
    stories.with_the_operator(failed_agent_is_retried_after_its_retry_window);
    stories.with_the_operator(exit_0_of_a_stopped_polecat_does_not_finish_the_bead);
    stories.with_the_operator(polecat_without_a_bead_has_no_pod);
    stories.on_the_api(deletion_time_moves_when_the_grace_period_is_cut_to_zero);
    stories.alone(finished_pod_deleted_while_the_operator_is_down_counts_as_done);
    stories.alone(failed_agent_stays_failed_after_an_operator_restart);
}

fn work(agent: &Agent) -> WorkStatus {
    agent.status.as_ref().and_then(|status| status.work.clone()).unwrap_or_default()
}

/// A polecat with this limit of attempts.
fn tried(bead: &str, limit: i32) -> Value {
    let mut spec = polecat(bead);
    spec["retry"] = json!({"limit": limit});
    spec
}

// decisions 5.2: the operator watches no Secrets. It compares them after an edit of the agent, and when an attempt is
// due.
async fn change_of_a_named_secret_gives_a_failed_agent_a_new_chance(story: Story) {
    let secrets = story.api::<Secret>();
    let key = |value: &str| json!({"metadata": {"name": "api-key"}, "stringData": {"key": value}});
    let secret: Secret = serde_json::from_value(key("wrong")).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    story.create_town("shop", workshop()).await;
    let mut spec = tried("b-1", 1);
    spec["template"] = workshop()["agentTemplate"].clone();
    spec["template"]["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "api-key"}}]);
    story.create_agent("ann", "shop", spec).await;
    let ann = story.agent("ann").until("works", works).await;
    story.players.fail(&ann.child(), 1, "wrong key").await;
    let compared = |agent: &Agent| agent.phase() == "Failed" && work(agent).revision.contains('.');
    let failed = story.agent("ann").until("has failed", compared).await;

    // An edit alone does not reset the attempts.
    story.agent("ann").merge(json!({"spec": {"ttlAfterFinished": "2h"}})).await;
    let edited = failed.metadata.generation.map(|generation| generation + 1);
    let seen = |agent: &Agent| agent.status.as_ref().unwrap().observed_generation == edited;
    assert_eq!(story.agent("ann").until("was seen", seen).await.phase(), "Failed");

    secrets.patch("api-key", &PatchParams::default(), &Patch::Merge(key("right"))).await.unwrap();
    story.agent("ann").merge(json!({"spec": {"ttlAfterFinished": "3h"}})).await;
    let ann = story.agent("ann").until("works again", works).await;
    assert_eq!(attempts(&ann), 1);
}

async fn termination_message_is_kept_in_the_agent_status(story: Story) {
    story.create_town("shop", workshop()).await;
    for (name, code) in [("ann", 0), ("bob", 3)] {
        story.create_agent(name, "shop", tried("b-1", 1)).await;
        let cat = story.agent(name).until("works", works).await;
        // The message has the maximal length of the kubelet, several lines, and letters of several bytes.
        let said = format!("für {name}:\n{}", "é".repeat(2000));
        if code == 0 {
            story.players.succeed(&cat.child(), &said).await;
        } else {
            story.players.fail(&cat.child(), code, &said).await;
        }
        let cat = story.agent(name).until("has ended", |agent| work(agent).finish_time.is_some()).await;
        let kept = work(&cat);
        let expected = if code == 0 { Outcome::Done } else { Outcome::Failed };
        assert_eq!(kept.outcome, Some(expected));
        // A condition and an event show the message on one line.
        assert!(kept.message.ends_with(&said.replace('\n', " ")), "{}", kept.message);
        if code != 0 {
            assert!(kept.message.contains("exit code 3"), "{}", kept.message);
        }
    }
}

async fn new_bead_waits_until_the_old_pod_is_gone(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", works).await;
    let first = story.pod(&cat.child()).get().await;
    story.players.hold(&cat.child()).await;
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-2"}}})).await;
    story.pod(&cat.child()).until("is asked to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    story
        .pod(&cat.child())
        .stays(Duration::from_secs(3), "is the only one", |pod| pod.uid() == first.uid())
        .await;
    assert_eq!(story.pods(names::AGENT_UID, &cat.id()).await.len(), 1);
    let waiting = story.agent("cat").get().await;
    assert_eq!(done(&waiting).len(), 0, "taken off the hook is not done");

    story.players.release(&cat.child()).await;
    let second = story.pod(&cat.child()).until("is another", |pod| pod.uid() != first.uid()).await;
    let spec = serde_json::to_value(&second.spec).unwrap();
    let env = spec["containers"][0]["env"].as_array().unwrap();
    assert!(env.contains(&json!({"name": "GASTOWN_BEAD", "value": "b-2"})), "{env:?}");
    let cat = story
        .agent("cat")
        .until("works on the other", |agent| works(agent) && work(agent).bead == "b-2")
        .await;
    assert_eq!(attempts(&cat), 1);
}

async fn ttl_after_finished_deletes_done_and_failed_agents(story: Story) {
    story.create_town("shop", workshop()).await;
    for (name, ttl) in [("done", "2s"), ("failed", "2s"), ("kept", "1h")] {
        let mut spec = tried("b-1", 1);
        spec["ttlAfterFinished"] = ttl.into();
        spec["storage"] = json!({"size": "1Gi"});
        story.create_agent(name, "shop", spec).await;
    }
    let mut ids = Vec::new();
    for name in ["done", "failed", "kept"] {
        let cat = story.agent(name).until("works", works).await;
        ids.push(cat.id());
        if name == "failed" {
            story.players.fail(&cat.child(), 1, "no").await;
        } else {
            story.players.succeed(&cat.child(), "").await;
        }
    }
    for (name, id) in ["done", "failed"].into_iter().zip(&ids) {
        story.agent(name).gone().await;
        assert_eq!(story.children(id).await, [""; 0], "of {name}");
    }
    let kept = story.agent("kept").until("is done", |agent| agent.phase() == "Done").await;
    story.agent("kept").stays(Duration::from_secs(3), "stays", |agent| agent.phase() == "Done").await;
    assert_eq!(kept.metadata.deletion_timestamp, None);
    // With the shorter TTL, the agent has already expired.
    story.agent("kept").merge(json!({"spec": {"ttlAfterFinished": "1s"}})).await;
    story.agent("kept").gone().await;
    story
        .town("shop")
        // A change of a count alone is written within a minute.
        .until_within(Duration::from_secs(75), "counts nobody any more", |town| {
            town.status.as_ref().unwrap().agents.as_ref().is_some_and(|agents| agents.total == 0)
        })
        .await;
}

async fn failed_agent_is_retried_after_an_edit_of_its_hook(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", tried("b-1", 1)).await;
    let cat = story.agent("cat").until("works", works).await;
    story.players.fail(&cat.child(), 7, "the plan was wrong").await;
    let failed = story.agent("cat").until("is failed", |agent| agent.phase() == "Failed").await;
    let message = failed.message("Degraded");
    assert!(message.contains("exit code 7: the plan was wrong"), "the last reason is named: {message}");
    assert!(message.contains("the next attempt is at"), "{message}");
    assert!(
        !failed.is("Reconciling") && !failed.is("Stalled"),
        "it is neither busy nor waiting for a person"
    );
    story.town("shop").until("is idle: Failed is no work", idle).await;
    story
        .agent("cat")
        .stays(Duration::from_secs(3), "is not tried again", |agent| agent.phase() == "Failed")
        .await;

    story.agent("cat").merge(json!({"spec": {"hook": {"instructions": "another plan"}}})).await;
    let cat = story.agent("cat").until("works again", works).await;
    assert_eq!(attempts(&cat), 1, "a new chance begins at the beginning");
    story.players.succeed(&cat.child(), "").await;
    story.agent("cat").until("is done", |agent| done(agent) == ["b-1"] && !agent.is("Degraded")).await;
}

async fn failed_agent_is_retried_after_its_retry_window(story: Story) {
    story.create_town("shop", workshop()).await;
    let mut spec = tried("b-1", 1);
    spec["retry"]["window"] = "1m".into();
    story.create_agent("cat", "shop", spec).await;
    let cat = story.agent("cat").until("works", works).await;
    let first = story.pod(&cat.child()).get().await;
    story.players.fail(&cat.child(), 1, "no").await;
    let failed = story.agent("cat").until("is failed", |agent| agent.phase() == "Failed").await;
    let ended = work(&failed).finish_time.unwrap();
    let next = ended.0 + SignedDuration::from_mins(1);
    assert!(failed.message("Degraded").contains(&next.to_string()), "{}", failed.message("Degraded"));

    // Half-open: one attempt, and twice the delay before the next one.
    let second = story
        .pod(&cat.child())
        .until_within(Duration::from_secs(80), "is tried again", |pod| pod.uid() != first.uid())
        .await;
    assert!(second.creation_timestamp().unwrap().0 >= next, "not before its window is over");
    let cat = story.agent("cat").until("works again", works).await;
    assert_eq!(attempts(&cat), 2, "a start alone is no progress");
    story.players.fail(&cat.child(), 1, "no").await;
    let failed = story.agent("cat").until("is failed", |agent| agent.phase() == "Failed").await;
    let next = work(&failed).finish_time.unwrap().0 + SignedDuration::from_mins(2);
    assert!(failed.message("Degraded").contains(&next.to_string()), "{}", failed.message("Degraded"));
}

async fn exit_0_of_a_stopped_polecat_does_not_finish_the_bead(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", tried("b-1", 1)).await;
    let cat = story.agent("cat").until("works", works).await;
    let first = story.pod(&cat.child()).get().await;
    story.players.hold(&cat.child()).await;
    story.pod(&cat.child()).delete().await;
    story.players.obey(&cat.child()).await;
    story.players.release(&cat.child()).await;
    story.pod(&cat.child()).until("is another", |pod| pod.uid() != first.uid()).await;
    let cat = story.agent("cat").until("works again", works).await;
    assert_eq!(
        (done(&cat).len(), attempts(&cat)),
        (0, 1),
        "exit 0 on demand is no work done, and no failure"
    );
}

async fn polecat_without_a_bead_has_no_pod(story: Story) {
    story.create_town("shop", workshop()).await;
    story.create_agent("cat", "shop", json!({"role": "Polecat", "rig": "core"})).await;
    let cat = story.agent("cat").until("has nothing to do", |agent| agent.reason("Ready") == "NoHook").await;
    assert_eq!((cat.phase(), story.pods(names::AGENT_UID, &cat.id()).await.len()), ("Idle", 0));
    story.agent("cat").merge(json!({"spec": {"hook": {"bead": "b-1"}}})).await;
    story.agent("cat").until("works", works).await;
    // The bead leaves the hook: no agent works on a missing bead.
    story.agent("cat").merge(json!({"spec": {"hook": null}})).await;
    story.pod(&cat.child()).gone().await;
    let cat = story.agent("cat").until("has nothing to do", |agent| agent.reason("Ready") == "NoHook").await;
    assert_eq!(done(&cat).len(), 0);
    let town = story.town("shop").until("is idle", idle).await;
    assert!(!town.is("Active"));
}

async fn finished_pod_deleted_while_the_operator_is_down_counts_as_done(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    story.create_town("shop", workshop()).await;
    for name in ["ann", "bob"] {
        story.create_agent(name, "shop", polecat("b-1")).await;
    }
    let ann = story.agent("ann").until("works", works).await;
    let bob = story.agent("bob").until("works", works).await;
    operator.kill();
    story.players.succeed(&ann.child(), "all mended").await;
    story.players.succeed(&bob.child(), "all painted").await;
    // A user deletes one pod, the collector of finished pods the other.
    story.pod(&ann.child()).delete().await;
    let pod = story.pod(&bob.child()).get().await;
    story.pod(&bob.child()).delete_now(&pod.uid().unwrap()).await;
    for cat in [&ann, &bob] {
        let pod = story.pod(&cat.child()).get().await;
        assert_eq!(pod.finalizers(), [names::RESULT_FINALIZER], "it is kept for whoever reads it");
    }
    operator.restart().await;
    for (name, said) in [("ann", "all mended"), ("bob", "all painted")] {
        let cat = story.agent(name).until("is done", |agent| agent.phase() == "Done").await;
        assert_eq!((done(&cat), work(&cat).message.as_str()), (&["b-1".to_owned()][..], said));
        story.pod(&cat.child()).gone_within(CREATES_SETTLE).await;
        story.agent(name).stays(Duration::from_secs(2), "stays done", |agent| agent.phase() == "Done").await;
        assert_eq!(story.pods(names::AGENT_UID, &cat.id()).await.len(), 0);
    }
}

async fn failed_agent_stays_failed_after_an_operator_restart(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    story.create_town("shop", workshop_with(json!({"sleepAfter": "1h"}))).await;
    story.create_agent("cat", "shop", tried("b-1", 1)).await;
    let cat = story.agent("cat").until("works", works).await;
    story.players.fail(&cat.child(), 1, "no").await;
    // The digest of its Secrets is the last write.
    let settled = |agent: &Agent| agent.phase() == "Failed" && work(agent).revision.contains('.');
    let failed = story.agent("cat").until("is failed", settled).await;
    story.pod(&cat.child()).gone().await;
    story.town("shop").until("is idle", idle).await;
    operator.restart().await;
    // The operator reconciles another town. It has therefore reconciled this one by then.
    story.create_town("other", workshop()).await;
    story.town("other").until("is idle", idle).await;
    until("the agent was looked at again", PATIENCE, async || {
        let looks = operator.metrics();
        let line =
            looks.lines().find(|line| line.starts_with(r#"town_operator_reconciles_total{kind="Agent"}"#));
        match line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()) {
            Some(looks) if looks >= 1.0 => Ok(()),
            _ => Err(format!("{line:?}")),
        }
    })
    .await;
    let after = story.agent("cat").get().await;
    assert_eq!(
        after.resource_version(),
        failed.resource_version(),
        "what is Failed is not even written again"
    );
    assert_eq!(story.pods(names::AGENT_UID, &cat.id()).await.len(), 0);
}

/// The time of a deletion can move. The generation therefore tells whether a pod ended before it was stopped.
async fn deletion_time_moves_when_the_grace_period_is_cut_to_zero(story: Story) {
    let mut pod = crate::common::story::template();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["spec"]["terminationGracePeriodSeconds"] = 60.into();
    pod["metadata"] = json!({"name": "old", "finalizers": ["example.com/hold"]});
    let made: Pod = story.create_object(pod).await;
    story.players.run("old").await;
    story.players.hold("old").await;
    let told = |pod: &Pod| {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap();
        pod.metadata.deletion_timestamp.as_ref().unwrap().0.as_second() - grace
    };
    assert_eq!(
        story.pod("old").get().await.metadata.generation,
        Some(1),
        "to be bound and started changes nothing"
    );
    story.pod("old").delete().await;
    let deleted = story.pod("old").get().await;
    assert_eq!(deleted.metadata.generation, Some(2));
    let first = told(&deleted);
    story.pod("old").stays(Duration::from_millis(2500), "stays", |pod| pod.uid() == made.uid()).await;
    story.pod("old").delete_now(&made.uid().unwrap()).await;
    let last = story.pod("old").get().await;
    assert_eq!(last.metadata.deletion_grace_period_seconds, Some(0));
    assert!(told(&last) > first, "{} and {first}", told(&last));

    // A finished pod is deleted without a grace period.
    let mut pod = serde_json::to_value(&made).unwrap();
    pod["metadata"] = json!({"name": "ended", "finalizers": ["example.com/hold"]});
    story.create_object::<Pod>(pod).await;
    story.players.succeed("ended", "").await;
    story.pod("ended").delete().await;
    assert_eq!(story.pod("ended").get().await.metadata.deletion_grace_period_seconds, Some(0));
    for name in ["old", "ended"] {
        story.pod(name).merge(json!({"metadata": {"finalizers": null}})).await;
        story.pod(name).gone().await;
    }
}
