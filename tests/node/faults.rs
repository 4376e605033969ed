//! Failures of the node and of the operator: the proofs of a destruction remain necessary, and the final state is
//! correct.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bed::Component;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::{DestroyStatus, Town, names};

use crate::common::records::proven_gone;
use crate::common::seen::Seen;
use crate::common::wait::always;
use crate::scene::{Lives, PATIENCE, STAY, Scene, identities, is_ready, restarts, runs, runs_with_grace};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add_on_our_node(deleted_town_waits_for_its_pods_while_the_kubelet_is_down);
    stories.add_on_our_node(pod_on_a_frozen_node_is_reported_lost_and_not_replaced);
    stories.add_on_our_node(containerd_restart_keeps_every_container);
    stories.add(destruction_completes_after_the_operator_pod_is_replaced);
    stories.add_on_our_node(destruction_completes_after_the_operator_is_killed_twice);
}

async fn deleted_town_waits_for_its_pods_while_the_kubelet_is_down(mut scene: Scene) {
    // The first town has agents, which are removed first; the second is only its own pod.
    let busy = scene.create_busy_town("busy", json!({})).await;
    let single = scene.create_town("single", json!({"template": runs(STAY)})).await.uid().unwrap();
    let (square, office) = (scene.town_pod("single").await, scene.ready_pod(&busy.mayor, None).await);
    scene.alone().await;
    let node = scene.stage.node().expect("a node of our own");
    let processes = scene.processes();
    node.kill(Component::Kubelet).unwrap();
    scene.kubectl(&["delete", "town", "busy", "single", "--wait=false"]);

    let names_pod = |destroy: Option<&DestroyStatus>, pod: &Pod| {
        destroy.is_some_and(|destroy| {
            destroy.blocked_by.iter().any(|by| {
                by.kind == "Pod" && by.uid == pod.uid().unwrap() && by.message.contains(node.node())
            })
        })
    };
    let town = scene.town("single");
    let what = "names its pod and where it is";
    town.until_within(PATIENCE, what, |t| names_pod(t.destroy(), &square)).await;
    let mayor = scene.agent(&busy.mayor);
    mayor.until_within(PATIENCE, what, |agent| names_pod(agent.destroy(), &office)).await;
    let waits_for_agents = |town: &Town| {
        let awaited = town
            .destroy()
            .into_iter()
            .flat_map(|destroy| &destroy.blocked_by)
            .filter(|by| by.kind == "Agent");
        awaited.count() == 2
    };
    scene.town("busy").until_within(PATIENCE, "names its agents", waits_for_agents).await;

    let stays = async || {
        let pods = scene.pods(&busy.uid).await.len() + scene.pods(&single).await.len();
        let towns = scene.try_kubectl(&["get", "towns", "-o", "name"])?;
        if (pods, towns.lines().count()) == (4, 2) { Ok(()) } else { Err(format!("{pods} pods, {towns}")) }
    };
    always("towns and pods are there", Duration::from_secs(3), stays).await;
    assert_eq!(scene.processes(), processes, "nobody ended them");

    node.restart(Component::Kubelet).unwrap();
    for (name, uid) in [("busy", &busy.uid), ("single", &single)] {
        scene.town(name).gone_within(PATIENCE).await;
        assert_eq!(scene.everything_of(uid).await, [""; 0]);
    }
    scene.assert_nothing_runs();
}

async fn pod_on_a_frozen_node_is_reported_lost_and_not_replaced(mut scene: Scene) {
    let script = format!("echo awake >> /town/diary; {STAY}");
    let town = json!({"storage": {"size": "16Mi"}, "template": runs_with_grace(&script, 1)});
    let uid = scene.create_town("alpha", town).await.uid().unwrap();
    let square = scene.town_pod("alpha").await;
    scene.alone().await;
    let node = scene.stage.node().expect("a node of our own");
    let processes = scene.processes();
    node.freeze(Component::Kubelet).unwrap();
    let began = Instant::now();
    let town = scene.town("alpha");
    town.merge(json!({"metadata": {"annotations": {names::RESTART_AT: "now"}}})).await;

    // The pod has a grace period of 1 s, and its node 30 s more to report its end.
    let lost = town.until_within(PATIENCE, "names the node", |town| town.is_degraded_by("NodeLost")).await;
    let after = began.elapsed().as_secs();
    assert!((30..45).contains(&after), "after {after} s");
    let said = lost.message("Degraded");
    assert!(said.contains(&square.name_any()) && said.contains(node.node()), "{said}");
    assert_eq!((lost.phase(), lost.is("Ready"), lost.is("Reconciling")), ("Starting", false, true));
    let alone = async || match &scene.pods(&uid).await[..] {
        [pod] if pod.uid() == square.uid() => Ok(()),
        pods => Err(format!("{pods:?}")),
    };
    always("nothing takes its place", Duration::from_secs(3), alone).await;
    assert_eq!(scene.processes(), processes, "it runs on, as one had to fear");

    node.thaw(Component::Kubelet).unwrap();
    let is_well = |town: &Town| town.is("Ready") && !town.is("Degraded") && town.phase() == "Idle";
    town.until_within(PATIENCE, "goes on", is_well).await;
    let next = scene.town_pod("alpha").await;
    assert_ne!(next.uid(), square.uid());
    assert_eq!(scene.exec(&next.name_any(), "cat /town/diary"), "awake\nawake\n");
    assert_eq!(scene.pods(&uid).await.len(), 1);
}

async fn containerd_restart_keeps_every_container(mut scene: Scene) {
    let town = scene.create_busy_town("alpha", json!({})).await;
    scene.alone().await;
    let (pods, processes) = (scene.pods(&town.uid).await, scene.processes());
    assert!(processes.len() >= 6, "{processes:?}");
    let node = scene.stage.node().expect("a node of our own");
    node.restart(Component::Containerd).unwrap();

    assert_eq!(scene.processes(), processes);
    // The kubelet works with the new containerd: another pod starts and ends.
    scene.create_polecat("other", "alpha", "other-1", "exit 0").await;
    scene.done("other", "other-1").await;
    let mut now = scene.pods(&town.uid).await;
    now.retain(|pod| pods.iter().any(|before| before.uid() == pod.uid()));
    assert_eq!(identities(&now), identities(&pods));
    assert_eq!(scene.agent(&town.polecat).get().await.phase(), "Working");
    scene.kubectl(&["delete", "town", "alpha", "--timeout=120s"]);
    scene.assert_nothing_runs();
}

async fn destruction_completes_after_the_operator_pod_is_replaced(mut scene: Scene) {
    // The pod ends slowly, so that the test can act in the middle.
    let slow = runs_with_grace("trap '' TERM; while :; do sleep 1; done", 8);
    let town = scene.create_busy_town("alpha", json!({"template": slow})).await;
    let square = scene.seen::<Pod>(&scene.town_pod("alpha").await.name_any());
    scene.alone().await;
    let operator = scene.stage.operator().await;
    scene.kubectl(&["delete", "town", "alpha", "--wait=false"]);
    square.until_within(PATIENCE, "is told to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    let operators = crate::release::NAMESPACE;
    scene.kubectl(&["delete", "pod", "-n", operators, &operator.name_any(), "--timeout=120s"]);
    let next = scene.stage.operator().await;
    assert_ne!(next.uid(), operator.uid());
    scene.town("alpha").gone_within(PATIENCE * 2).await;
    assert_eq!(scene.everything_of(&town.uid).await, [""; 0]);
    scene.assert_nothing_runs();
}

async fn destruction_completes_after_the_operator_is_killed_twice(mut scene: Scene) {
    // The pod ends slowly, so that the test can act in the middle.
    let slow = runs_with_grace("trap '' TERM; while :; do sleep 1; done", 8);
    let town = scene.create_busy_town("alpha", json!({"template": slow})).await;
    let (pods, volumes) = (scene.pods(&town.uid).await, scene.volumes(&town.uid).await);
    let in_words = |object: &String| object.replace(&format!(" {}/", scene.namespace), "/");
    let mut had: BTreeSet<String> = scene.everything_of(&town.uid).await.iter().map(in_words).collect();
    had.extend(volumes.iter().map(|volume| format!("PersistentVolume/{volume}")));
    let square = scene.seen::<Pod>(&scene.town_pod("alpha").await.name_any());
    scene.alone().await;
    scene.assert_runs(&pods).await;
    let (operator, processes) = (scene.stage.operator().await, scene.processes());

    scene.kubectl(&["delete", "town", "alpha", "--wait=false"]);
    scene.stage.kill_operator().await;
    let going = square
        .until_within(PATIENCE, "is told to end", |pod| pod.metadata.deletion_timestamp.is_some())
        .await;
    scene.stage.kill_operator().await;
    // The operator is down and the container continues: nothing has reported its end.
    scene.assert_runs(&[going]).await;
    assert!(scene.processes().len() < processes.len(), "its agents have gone before it");
    assert!(scene.town("alpha").find().await.is_some(), "a town is there as long as its pod");

    scene.town("alpha").gone_within(PATIENCE * 2).await;
    assert_eq!(scene.everything_of(&town.uid).await, [""; 0]);
    scene.assert_nothing_runs();
    scene.await_volumes_gone(&volumes).await;
    let gone = proven_gone(&scene.tombstone(&town.uid).get().await);
    assert!(had.is_subset(&gone), "a receipt for each of {had:?}: {gone:?}");
    // The kubelet restarted the container in the same pod, each time.
    let pod = Seen::<Pod>::new(scene.client(), crate::release::NAMESPACE, &operator.name_any());
    let twice = |pod: &Pod| is_ready(pod) && restarts(pod) == restarts(&operator) + 2;
    let pod = pod.until_within(PATIENCE, "was started again twice", twice).await;
    assert_eq!(pod.uid(), operator.uid());
}
