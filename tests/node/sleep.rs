//! A sleeping town has no pod and no process. After its wake it is as before.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use town_operator::api::{AsleepReason, Outcome};

use crate::common::wait::{always, until};
use crate::life::TAKES_TWO;
use crate::scene::{Lives, PATIENCE, STAY, Scene, Works, runs, runs_with_grace};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add(idle_town_sleeps_without_processes_and_wakes_with_its_files);
    stories.add(containers_get_exactly_their_grace_period_when_a_town_sleeps);
    stories.add(suspended_town_interrupts_work_and_does_not_count_the_attempt);
    stories.add(drain_lets_an_agent_finish_its_bead);
    stories.add(town_wakes_for_a_wake_request_or_backlog_and_stays_awake_for_sleep_after);
    stories.add(bead_is_done_when_hooked_while_pods_terminate);
}

async fn idle_town_sleeps_without_processes_and_wakes_with_its_files(scene: Scene) {
    let town = json!({
        "sleepAfter": "10s", "storage": {"size": "16Mi"},
        "template": runs(&format!("echo awake >> /town/diary; {STAY}")),
    });
    let uid = scene.create_town("alpha", town).await.uid().unwrap();
    scene.create_mayor("mayor", "alpha", STAY).await;
    let ledger = "echo $GASTOWN_BEAD >> /agent/ledger; cat /agent/ledger > /dev/termination-log";
    scene.create_polecat("ada", "alpha", "a-1", ledger).await;
    scene.done("ada", "a-1").await;
    let volumes = scene.volumes(&uid).await;
    assert_eq!(volumes.len(), 3);

    let asleep = scene.asleep("alpha").await;
    let pods = scene.pods(&uid).await;
    assert!(pods.is_empty(), "{pods:?}");
    scene.assert_nothing_runs();
    assert!(asleep.is("Asleep") && asleep.is("Ready"), "{asleep:?}");
    assert_eq!(asleep.status.unwrap().asleep_reason, Some(AsleepReason::Idle));
    assert_eq!(scene.volumes(&uid).await, volumes, "storage stays");
    scene.town("alpha").stays(Duration::from_secs(2), "sleeps on", |town| town.phase() == "Asleep").await;

    scene.hook("ada", "a-2").await;
    assert_eq!(scene.done("ada", "a-2").await.message, "a-1 a-2");
    let square = scene.town_pod("alpha").await;
    assert_eq!(scene.exec(&square.name_any(), "cat /town/diary"), "awake\nawake\n");
    scene.ready_pod("mayor", None).await;
    assert_eq!(scene.volumes(&uid).await, volumes);
}

async fn containers_get_exactly_their_grace_period_when_a_town_sleeps(scene: Scene) {
    // The first pod cleans up at SIGTERM, and the second ignores SIGTERM.
    let tidy = "trap 'sleep 1; echo tidied >> /town/marks; exit 0' TERM; echo up >> /town/marks; sleep infinity & wait";
    let mut tidy = runs_with_grace(tidy, 20);
    tidy["spec"]["containers"][0]["lifecycle"] =
        json!({"preStop": {"exec": {"command": ["sh", "-c", "echo asked >> /town/marks"]}}});
    let uid = scene
        .create_town("alpha", json!({"storage": {"size": "16Mi"}, "template": tidy}))
        .await
        .uid()
        .unwrap();
    let deaf = runs_with_grace("trap '' TERM; while :; do sleep 1; done", 5);
    let mayor = json!({"townName": "alpha", "role": "Mayor", "template": deaf});
    scene.create::<town_operator::api::Agent>("mayor", mayor).await;
    let (square, office) = (scene.town_pod("alpha").await, scene.ready_pod("mayor", None).await);
    scene.assert_runs(&[square.clone(), office.clone()]).await;

    scene.suspend("alpha", true).await;
    let pod = scene.seen::<Pod>(&office.name_any());
    let told =
        pod.until_within(PATIENCE, "is told to end", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    scene.assert_runs(std::slice::from_ref(&told)).await;
    pod.gone_within(PATIENCE).await;
    let late = Timestamp::now().duration_since(told.metadata.deletion_timestamp.unwrap().0).as_secs_f64();
    // Timestamps have whole seconds.
    assert!(late > -1.5, "killed {late} s before the end of its grace period");
    assert!(late < 20.0, "still there {late} s after its grace period");

    scene.asleep("alpha").await;
    assert!(scene.pods(&uid).await.is_empty());
    scene.assert_nothing_runs();

    scene.suspend("alpha", false).await;
    let square = scene.town_pod("alpha").await;
    assert_eq!(scene.exec(&square.name_any(), "cat /town/marks"), "up\nasked\ntidied\nup\n");
}

async fn suspended_town_interrupts_work_and_does_not_count_the_attempt(scene: Scene) {
    let uid = scene.create_town("alpha", json!({"drain": {"timeout": "1s"}})).await.uid().unwrap();
    scene.create_polecat("ada", "alpha", "a-1", TAKES_TWO).await;
    let pod = scene.ready_pod("ada", None).await;
    scene.await_file(&pod, "/agent/begun").await;
    let ada = scene.agent("ada").until_within(PATIENCE, "works", |ada| ada.phase() == "Working").await;
    assert_eq!(ada.work().attempts, 1);

    scene.suspend("alpha", true).await;
    let asleep = scene.asleep("alpha").await;
    assert_eq!(asleep.status.unwrap().asleep_reason, Some(AsleepReason::Suspended));
    assert!(scene.pods(&uid).await.is_empty());
    scene.assert_nothing_runs();
    let ada = scene.agent("ada").until_within(PATIENCE, "sleeps", |ada| ada.phase() == "Asleep").await;
    let work = ada.work();
    assert_eq!((work.outcome, work.attempts), (Some(Outcome::Interrupted), 0), "{work:?}");
    assert!(work.done.is_empty(), "exit 0 when it was told to end is not done: {work:?}");
    scene
        .town("alpha")
        .stays(Duration::from_secs(2), "work does not wake it", |t| t.phase() == "Asleep")
        .await;

    scene.suspend("alpha", false).await;
    let work = scene.done("ada", "a-1").await;
    assert_eq!((work.attempts, work.done), (1, vec!["a-1".into()]));
    assert_eq!(work.message, "again", "done is what the second pod did");
}

async fn drain_lets_an_agent_finish_its_bead(scene: Scene) {
    let uid = scene.create_town("alpha", json!({"drain": {"timeout": "2m"}})).await.uid().unwrap();
    scene.create_polecat("ada", "alpha", "a-1", "until [ -e /agent/enough ]; do sleep 0.1; done").await;
    let pod = scene.ready_pod("ada", None).await;
    scene.suspend("alpha", true).await;
    let town = scene.town("alpha");
    town.until_within(PATIENCE, "drains", |town| town.phase() == "Draining").await;
    always("the agent works on", Duration::from_secs(3), async || match &scene.pods(&uid).await[..] {
        [pod] if pod.metadata.deletion_timestamp.is_none() => Ok(()),
        pods => Err(format!("{pods:?}")),
    })
    .await;
    assert_eq!(town.get().await.phase(), "Draining");
    scene.exec(&pod.name_any(), "touch /agent/enough");
    scene.asleep("alpha").await;
    scene.assert_nothing_runs();
    let done = async || {
        let work = scene.agent("ada").get().await.work();
        if work.done == ["a-1"] && work.outcome == Some(Outcome::Done) {
            Ok(work)
        } else {
            Err(format!("{work:?}"))
        }
    };
    assert_eq!(until("its work is done", PATIENCE, done).await.attempts, 1);
}

async fn town_wakes_for_a_wake_request_or_backlog_and_stays_awake_for_sleep_after(scene: Scene) {
    let awake = format!("echo awake >> /town/diary; {STAY}");
    let town = json!({
        "backlog": {"triage": 1}, "sleepAfter": "10s", "storage": {"size": "16Mi"}, "template": runs(&awake),
    });
    let uid = scene.create_town("alpha", town).await.uid().unwrap();
    let first = scene.town_pod("alpha").await;
    let volumes = scene.volumes(&uid).await;
    let town = scene.town("alpha");
    town.merge(json!({"spec": {"backlog": {"triage": 0}}})).await;
    scene.asleep("alpha").await;
    scene.assert_nothing_runs();

    // With this value the town is still awake at the checks, even after a slow start.
    town.merge(json!({"spec": {"wakeRequest": "for the visitors", "sleepAfter": "1h"}})).await;
    let second = scene.town_pod("alpha").await;
    assert_ne!(second.uid(), first.uid());
    assert_eq!(scene.exec(&second.name_any(), "cat /town/diary"), "awake\nawake\n");
    let woken = town.get().await;
    assert_eq!((woken.phase(), woken.is("Active")), ("Idle", false), "a request is no work");
    town.merge(json!({"spec": {"sleepAfter": "10s"}})).await;
    // The time of `sleepAfter` starts with the pod; timestamps have whole seconds.
    let asleep = scene.asleep("alpha").await;
    let started = second.status.unwrap().start_time.unwrap().0;
    let slept = asleep.condition("Asleep").unwrap().last_transition_time.0;
    let idle = slept.duration_since(started).as_secs();
    assert!(idle >= 9, "{idle} s between its start and its sleep");
    town.stays(Duration::from_secs(2), "one request wakes it once", |town| town.phase() == "Asleep").await;

    town.merge(json!({"spec": {"backlog": {"mergeRequests": 1}}})).await;
    let third = scene.town_pod("alpha").await;
    assert_eq!(scene.exec(&third.name_any(), "cat /town/diary"), "awake\nawake\nawake\n");
    let what = "works on, longer than sleepAfter";
    town.stays(Duration::from_secs(12), what, |town| town.phase() == "Running" && town.is("Active")).await;
    town.merge(json!({"spec": {"backlog": {"mergeRequests": 0}}})).await;
    let idle = town.until_within(PATIENCE, "is idle", |town| town.phase() == "Idle").await;
    assert!(idle.status.unwrap().sleep_time.is_some(), "when it sleeps is shown");
    assert_eq!(scene.volumes(&uid).await, volumes);
}

async fn bead_is_done_when_hooked_while_pods_terminate(scene: Scene) {
    let slow = runs_with_grace("trap '' TERM; while :; do sleep 1; done", 4);
    let town = json!({"sleepAfter": "10s", "template": slow});
    let uid = scene.create_town("alpha", town).await.uid().unwrap();
    scene.create_polecat("ada", "alpha", "a-1", "exit 0").await;
    scene.done("ada", "a-1").await;
    let square = scene.seen::<Pod>(&scene.town_pod("alpha").await.name_any());
    let told = square
        .until_within(PATIENCE, "is told to end", |pod| pod.metadata.deletion_timestamp.is_some())
        .await;

    scene.hook("ada", "a-2").await;
    scene.town("alpha").merge(json!({"spec": {"backlog": {"triage": 1}}})).await;
    assert_eq!(scene.done("ada", "a-2").await.done, ["a-1", "a-2"]);
    let next = scene.town_pod("alpha").await;
    assert_ne!(next.uid(), told.uid());
    until("only the new pod is there", PATIENCE, async || match &scene.pods(&uid).await[..] {
        [pod] if pod.uid() == next.uid() => Ok(()),
        pods => Err(format!("{pods:?}")),
    })
    .await;
    scene.assert_runs(&[next]).await;
}
