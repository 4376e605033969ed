//! The operator is killed at any moment, or the API server is not available at times. The final state is the same.

use std::time::Duration;

use bed::{Component, Options};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::{Agent, Town, names};

use crate::common::story::Story;
use crate::common::wait::{CREATES_SETTLE, until};
use crate::remains::is_gone_whole;
use crate::stage::Stories;
use crate::words::{Told, attempts, done, polecat, seconds, workshop_with};

/// The two timeouts are equal: after them, a create without an answer can no longer take effect.
const API_SERVER: &str = "--request-timeout=5s";
pub const OPERATOR: &str = "--apiserver-request-timeout=5s";

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), destruction_completes_after_a_kill_at_each_step);
    stories.alone_on(quick(), towns_start_and_end_when_the_operator_is_killed_at_any_moment);
    stories.alone(changes_are_handled_after_the_operator_restarts);
    stories.alone_on(quick(), deleting_town_keeps_its_finalizer_during_an_api_server_outage);
}

/// A control plane with a short request timeout.
pub fn quick() -> Options {
    Options { api_server_args: vec![API_SERVER.into()], ..Options::default() }
}

/// A town with a volume and one working polecat, which also has a volume.
async fn busy_town(story: &Story, name: &str) -> Town {
    story.create_town(name, workshop_with(json!({"storage": {"size": "1Gi"}}))).await;
    let mut spec = polecat("b-1");
    spec["storage"] = json!({"size": "1Gi"});
    story.create_agent(&format!("{name}-cat"), name, spec).await;
    story.agent(&format!("{name}-cat")).until("works", |agent| agent.phase() == "Working").await;
    story.town(name).until("has its pod", |town| town.is("Ready") && town.pod_uid().is_some()).await
}

async fn destruction_completes_after_a_kill_at_each_step(story: Story) {
    let operator = story.cluster.operator(&[OPERATOR]).await;
    let mut towns = Vec::new();
    for name in ["down", "tombstone", "agents", "compute", "rest", "verify"] {
        towns.push(busy_town(&story, name).await);
    }
    let [down, _, agents, compute, rest, verify] = &towns[..] else { unreachable!() };
    let child = |town: &Town| town.child();
    let cat = async |town: &Town| story.agent(&format!("{}-cat", town.name_any())).get().await.child();
    let asked_to_end = |pod: &k8s_openapi::api::core::v1::Pod| pod.metadata.deletion_timestamp.is_some();

    // The delete occurs while no operator runs (K3).
    operator.kill();
    story.town(&down.name_any()).delete().await;
    operator.restart().await;

    // The tombstone exists, and the destruction has done nothing else.
    story.town("tombstone").delete().await;
    story
        .town("tombstone")
        .until("has its tombstone", |t| t.annotations().contains_key(names::TOMBSTONE))
        .await;
    operator.kill();
    operator.restart().await;

    // The agent is being deleted; its pod ends while no operator runs.
    let pod = cat(agents).await;
    story.players.hold(&pod).await;
    story.town("agents").delete().await;
    story.pod(&pod).until("is asked to end", asked_to_end).await;
    operator.kill();
    story.players.release(&pod).await;
    operator.restart().await;

    // The pod of the town is being deleted. Its removal needs another reconcile.
    story.players.hold(&child(compute)).await;
    story.town("compute").delete().await;
    story.pod(&child(compute)).until("is asked to end", asked_to_end).await;
    operator.kill();
    operator.restart().await;
    story.players.release(&child(compute)).await;

    // The volume is being deleted.
    let claim = story.seen::<PersistentVolumeClaim>(&child(rest));
    claim.merge(json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    story.town("rest").delete().await;
    claim.until("is asked to go", |claim| claim.metadata.deletion_timestamp.is_some()).await;
    operator.kill();
    claim.merge(json!({"metadata": {"finalizers": null}})).await;
    operator.restart().await;

    // Only the town itself is left.
    story.town("verify").delete().await;
    story.seen::<PersistentVolumeClaim>(&child(verify)).gone().await;
    operator.kill();
    operator.restart().await;

    for town in &towns {
        is_gone_whole(&story, town).await;
    }
}

async fn towns_start_and_end_when_the_operator_is_killed_at_any_moment(story: Story) {
    let operator = story.cluster.operator(&[OPERATOR]).await;
    // The operator is killed at moments between the first write and the last.
    let mut towns = Vec::new();
    for (turn, delay) in [10, 40, 80, 130, 200, 300].into_iter().enumerate() {
        let name = format!("born-{turn}");
        towns.push(story.create_town(&name, workshop_with(json!({"storage": {"size": "1Gi"}}))).await);
        story.create_agent(&format!("{name}-cat"), &name, polecat("b-1")).await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        operator.kill();
        operator.restart().await;
    }
    for town in &towns {
        let name = town.name_any();
        let town =
            story.town(&name).until("runs", |town| town.phase() == "Running" && town.is("Ready")).await;
        let cat = story.agent(&format!("{name}-cat")).until("works", |cat| cat.phase() == "Working").await;
        assert_eq!(attempts(&cat), 1, "{name}: a start that was interrupted is the same start");
        assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 2, "{name}");
    }
    for (town, delay) in towns.iter().zip([10, 40, 80, 130, 200, 300]) {
        story.town(&town.name_any()).delete().await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        operator.kill();
        operator.restart().await;
    }
    for town in &towns {
        is_gone_whole(&story, town).await;
    }
}

async fn changes_are_handled_after_the_operator_restarts(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    let killed = busy_town(&story, "killed").await;
    let finished = busy_town(&story, "finished").await;
    busy_town(&story, "stopped").await;
    busy_town(&story, "vanished").await;
    let stripped = busy_town(&story, "stripped").await;
    story.create_town("idle", workshop_with(json!({"sleepAfter": "40s"}))).await;
    let idle = story.town("idle").until("is idle", |town| town.phase() == "Idle").await;
    story.create_town("asleep", workshop_with(json!({"sleepAfter": "10s"}))).await;
    story.create_agent("sleeper", "asleep", json!({"role": "Polecat", "rig": "core"})).await;
    story.town("asleep").until("sleeps", |town| town.phase() == "Asleep").await;

    operator.kill();
    // The pod of this town is deleted by force.
    let old = story.pod(&killed.child()).get().await;
    story.pod(&killed.child()).delete_now(&old.uid().unwrap()).await;
    // The polecat of this town finishes (T18).
    let cat = story.agent("finished-cat").get().await;
    story.players.succeed(&cat.child(), "all by myself").await;
    // The polecat of this town is stopped and exits with 0. The operator must not count this as finished.
    let stopped = story.agent("stopped-cat").get().await;
    story.players.hold(&stopped.child()).await;
    let pod = story.pod(&stopped.child()).get().await;
    story.pod(&stopped.child()).delete().await;
    story.players.obey(&stopped.child()).await;
    story.pod(&stopped.child()).delete_now(&pod.uid().unwrap()).await;
    story.players.release(&stopped.child()).await;
    // The pod of this polecat vanishes without a result: a user removed our finalizer, too.
    let lost = story.agent("vanished-cat").get().await;
    let pod = story.pod(&lost.child()).get().await;
    story.pod(&lost.child()).merge(json!({"metadata": {"finalizers": null}})).await;
    story.pod(&lost.child()).delete_now(&pod.uid().unwrap()).await;
    // A user removes the finalizer of this town, so that it is removed without a destruction.
    story.town("stripped").merge(json!({"metadata": {"finalizers": null}})).await;
    story.town("stripped").delete().await;
    story.town("stripped").gone().await;
    // Work arrives for a town that sleeps.
    story.agent("sleeper").merge(json!({"spec": {"hook": {"bead": "b-1"}}})).await;
    operator.restart().await;
    let back = Time(Timestamp::now());

    story.pod(&killed.child()).until("is replaced", |pod| pod.uid() != old.uid()).await;
    let cat = story.agent("finished-cat").until("is done", |agent| agent.phase() == "Done").await;
    let finished_cat = cat.child();
    assert_eq!((done(&cat), attempts(&cat)), (&["b-1".to_owned()][..], 1));
    assert_eq!(cat.status.unwrap().work.unwrap().message, "all by myself");
    story.town("finished").until("is idle", |town| town.phase() == "Idle").await;
    story.pod(&finished_cat).gone_within(CREATES_SETTLE).await;
    assert_eq!(finished.id(), story.town("finished").get().await.id());
    story.agent("sleeper").until("works", |agent| agent.phase() == "Working").await;
    story
        .pod(&stopped.child())
        .until_within(Duration::from_mins(1), "is tried again", |again| {
            again.uid().is_some_and(|uid| Some(uid.as_str()) != stopped.pod_uid())
        })
        .await;
    let stopped = story.agent("stopped-cat").until("works", |agent| agent.phase() == "Working").await;
    assert_eq!((done(&stopped).len(), attempts(&stopped)), (0, 1), "a start that was stopped does not count");
    story
        .pod(&lost.child())
        .until_within(Duration::from_mins(1), "is tried again", |again| again.uid() != pod.uid())
        .await;
    let lost = story.agent("vanished-cat").until("works", |agent| agent.phase() == "Working").await;
    assert_eq!(
        (done(&lost).len(), attempts(&lost)),
        (0, 2),
        "a pod that is gone is not one that has finished"
    );

    // The garbage collector deletes the pod by its ownerReference. An agent whose town is gone stops.
    story.pod(&stripped.child()).gone().await;
    let gone = |agent: &Agent| agent.reason("Stalled") == "TownGone" && agent.phase() == "Blocked";
    let cat = story.agent("stripped-cat").until("says that its town is gone", gone).await;
    story.pod(&cat.child()).gone().await;
    story.agent("stripped-cat").delete().await;
    story.agent("stripped-cat").gone().await;
    assert_eq!(story.children(&cat.id()).await, [""; 0]);

    // The idle time continued during the outage: it was neither reset nor forgotten.
    let said = idle.status.unwrap().sleep_time.unwrap();
    let slept = story.town("idle").until("sleeps", |town| town.phase() == "Asleep").await;
    let fell = slept.conditions().iter().find(|c| c.type_ == "Asleep").unwrap().last_transition_time.clone();
    assert!(fell >= said, "asleep at {}, due at {}", fell.0, said.0);
    // An idle time that is reset at the restart would end `sleepAfter` after it, and not earlier.
    assert!(seconds(&back, &fell) < 40, "asleep at {}, restart at {}: the clock began anew", fell.0, back.0);
}

async fn deleting_town_keeps_its_finalizer_during_an_api_server_outage(story: Story) {
    // The durations are longer than any step of this story. By default a leader that cannot renew its Lease for ten
    // seconds ends.
    let patient = ["--lease-duration=60s", "--lease-renew-deadline=50s"];
    let operator = story.cluster.operator(&[&[OPERATOR][..], &patient].concat()).await;
    let plane = story.cluster.plane();
    let live = busy_town(&story, "live").await;
    let goes = busy_town(&story, "goes").await;
    let pod = story.pod(&live.child()).get().await;
    story.players.hold(&goes.child()).await;
    story.town("goes").delete().await;
    let ends = |pod: &k8s_openapi::api::core::v1::Pod| pod.metadata.deletion_timestamp.is_some();
    story.pod(&goes.child()).until("is asked to end", ends).await;

    // Every request times out now.
    plane.freeze(Component::Etcd).unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await;
    plane.thaw(Component::Etcd).unwrap();
    until("the API answers again", Duration::from_secs(30), async || {
        let town = story.api::<Town>().get("goes").await.map_err(|error| error.to_string())?;
        if town.finalizers().iter().any(|name| name == names::FINALIZER) {
            Ok(())
        } else {
            Err("let go".into())
        }
    })
    .await;
    story.pod(&goes.child()).stays(Duration::from_secs(1), "is still there", ends).await;

    plane.kill(Component::ApiServer).unwrap();
    plane.restart(Component::ApiServer).unwrap();
    until("the API answers again", Duration::from_secs(30), async || {
        story.api::<Town>().get("goes").await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    story.players.release(&goes.child()).await;
    is_gone_whole(&story, &goes).await;

    assert!(operator.runs(), "it lives through all of it");
    assert_eq!(story.pod(&live.child()).get().await.uid(), pod.uid(), "what lives was left alone");
    let new = busy_town(&story, "new").await;
    story.town("new").delete().await;
    is_gone_whole(&story, &new).await;
}
