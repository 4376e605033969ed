//! When a town is gone, nothing of it remains: no object of any kind, no volume, no process.

use kube::ResourceExt;
use serde_json::json;

use crate::common::wait::until;
use crate::scene::{PATIENCE, STAY, Scene, identities, runs, runs_with_grace};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add(background_delete_of_a_town_leaves_no_objects_or_processes);
    stories.add(foreground_delete_of_a_town_leaves_no_objects_or_processes);
    stories.add(orphaning_delete_of_a_town_leaves_no_objects_or_processes);
    stories.add(delete_of_a_sleeping_town_leaves_no_objects_or_processes);
    stories.add(delete_of_a_namespace_leaves_no_objects_or_processes_of_an_awake_town);
    stories.add(deleted_town_stays_until_its_containers_end);
    stories.add(detached_processes_end_with_their_pod);
    stories.add(delete_of_a_town_removes_its_service_and_token_secrets);
    stories.add(delete_of_an_agent_leaves_no_objects_and_keeps_other_agents);
}

async fn background_delete_of_a_town_leaves_no_objects_or_processes(scene: Scene) {
    leaves_nothing(scene, "background").await;
}

async fn foreground_delete_of_a_town_leaves_no_objects_or_processes(scene: Scene) {
    leaves_nothing(scene, "foreground").await;
}

async fn orphaning_delete_of_a_town_leaves_no_objects_or_processes(scene: Scene) {
    leaves_nothing(scene, "orphan").await;
}

async fn leaves_nothing(scene: Scene, cascade: &str) {
    let town = scene.create_busy_town("alpha", json!({})).await;
    scene.assert_runs(&scene.pods(&town.uid).await).await;
    let volumes = scene.volumes(&town.uid).await;
    assert_eq!(volumes.len(), 3);
    // A town, two agents, three pods, three claims. The town itself does not carry a label with its own UID.
    let before = scene.everything_of(&town.uid).await;
    assert_eq!(before.len(), 8, "{before:?}");

    // The command returns when the town is gone.
    scene.kubectl(&["delete", "town", "alpha", &format!("--cascade={cascade}"), "--timeout=120s"]);
    assert_eq!(scene.everything_of(&town.uid).await, [""; 0]);
    scene.assert_nothing_runs();
    scene.await_volumes_gone(&volumes).await;
}

async fn delete_of_a_sleeping_town_leaves_no_objects_or_processes(scene: Scene) {
    let town = scene.create_busy_town("alpha", json!({})).await;
    let volumes = scene.volumes(&town.uid).await;
    scene.suspend("alpha", true).await;
    scene.asleep("alpha").await;
    scene.kubectl(&["delete", "town", "alpha", "--timeout=120s"]);
    assert_eq!(scene.everything_of(&town.uid).await, [""; 0]);
    scene.assert_nothing_runs();
    scene.await_volumes_gone(&volumes).await;
}

async fn delete_of_a_namespace_leaves_no_objects_or_processes_of_an_awake_town(scene: Scene) {
    let town = scene.create_busy_town("alpha", json!({})).await;
    scene.assert_runs(&scene.pods(&town.uid).await).await;
    let volumes = scene.volumes(&town.uid).await;
    scene.kubectl(&["delete", "namespace", &scene.namespace, "--timeout=180s"]);
    assert_eq!(scene.everything_of(&town.uid).await, [""; 0]);
    scene.assert_nothing_runs();
    scene.await_volumes_gone(&volumes).await;
}

async fn deleted_town_stays_until_its_containers_end(scene: Scene) {
    let deaf = runs_with_grace("trap '' TERM; while :; do sleep 1; done", 6);
    let town = scene.create_busy_town("alpha", json!({"template": deaf})).await;
    let pod = scene.town_pod("alpha").await;
    scene.kubectl(&["delete", "town", "alpha", "--wait=false"]);
    let seen = scene.seen::<k8s_openapi::api::core::v1::Pod>(&pod.name_any());
    seen.until_within(PATIENCE, "is told to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    scene.assert_runs(&[pod]).await;
    assert!(scene.town("alpha").find().await.is_some(), "a town is there as long as its pod");
    scene.town("alpha").gone_within(PATIENCE).await;
    assert_eq!(scene.everything_of(&town.uid).await, [""; 0]);
    scene.assert_nothing_runs();
}

async fn detached_processes_end_with_their_pod(scene: Scene) {
    // The process has no parent, its own session, and ignores signals.
    let stray = "(setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 86399; done' &)";
    let town = scene.create_busy_town("alpha", json!({"template": runs(&format!("{stray}; {STAY}"))})).await;
    let uid = scene.town_pod("alpha").await.uid().unwrap();
    until("the stray process runs", PATIENCE, async || {
        let processes = scene.processes();
        let runs = processes.iter().any(|one| one.starts_with(&uid) && one.contains("sleep 86399"));
        if runs || scene.stage.node().is_none() { Ok(()) } else { Err(format!("{processes:?}")) }
    })
    .await;
    scene.kubectl(&["delete", "town", "alpha", "--timeout=120s"]);
    assert_eq!(scene.everything_of(&town.uid).await, [""; 0]);
    scene.assert_nothing_runs();
}

async fn delete_of_an_agent_leaves_no_objects_and_keeps_other_agents(scene: Scene) {
    let town = scene.create_busy_town("alpha", json!({})).await;
    scene.create_polecat("other", "alpha", "other-1", STAY).await;
    let pod = scene.ready_pod("other", None).await;
    let claim = scene.agent("other").get().await.status.unwrap().storage.unwrap().claim;
    let mut others = scene.pods(&town.uid).await;
    others.retain(|one| one.uid() != pod.uid());
    let volumes_before = scene.volumes(&town.uid).await;

    scene.kubectl(&["delete", "agent", "other", "--timeout=120s"]);
    let left = scene.everything_of(&town.uid).await;
    assert_eq!(left.len(), 8, "{left:?}");
    assert!(!left.iter().any(|object| object.ends_with(&format!("/{claim}"))), "{left:?}");
    let processes = scene.processes();
    let uid = pod.uid().unwrap();
    assert!(!processes.iter().any(|process| process.starts_with(&uid)), "{processes:?}");
    scene.assert_runs(&others).await;
    assert_eq!(identities(&scene.pods(&town.uid).await), identities(&others));
    let volumes = scene.volumes(&town.uid).await;
    let gone: Vec<String> = volumes_before.into_iter().filter(|volume| !volumes.contains(volume)).collect();
    assert_eq!(gone.len(), 1);
    scene.await_volumes_gone(&gone).await;
}

async fn delete_of_a_town_removes_its_service_and_token_secrets(scene: Scene) {
    let offers = json!({"ports": [{"name": "web", "port": 8000}], "activityProbe": {"port": 8000}});
    let town = scene.create_busy_town("alpha", offers).await;
    let kinds = |objects: &[String]| -> Vec<String> {
        let mut kinds: Vec<_> = objects.iter().map(|o| o.split(' ').next().unwrap().to_owned()).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    };
    let mut before = kinds(&scene.everything_of(&town.uid).await);
    // The cluster removes the objects that it created for a Service.
    before.retain(|kind| !kind.starts_with("Endpoint"));
    assert_eq!(before, ["Agent", "PersistentVolumeClaim", "Pod", "Secret", "Service"]);
    scene.kubectl(&["delete", "town", "alpha", "--timeout=120s"]);
    // The garbage collector deletes these objects with a delay.
    until("nothing is left", PATIENCE, async || match scene.everything_of(&town.uid).await {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await;
    scene.assert_nothing_runs();
}
