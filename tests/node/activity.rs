//! Activity probes over the network of the pods: only the report of a pod counts as work.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{Agent, AsleepReason, Town};

use crate::scene::{Lives, PATIENCE, STAY, Scene, runs};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add(town_sleeps_after_three_times_sleep_after_when_its_probe_fails);
    stories.add(reported_work_keeps_a_town_awake_and_probes_do_not);
    stories.add(session_phase_follows_the_report_of_its_pod);
}

/// A container that answers with the file `report` of the volume to a client with its token, and with the reason to
/// other clients. `killall httpd` stops its server.
fn answers(volume: &str) -> Value {
    let script = format!(
        r#"
        mkdir -p {volume}/www/cgi-bin
        cat > {volume}/www/cgi-bin/activity <<'END'
#!/bin/sh
if [ "$HTTP_AUTHORIZATION" != "Bearer $(cat /var/run/gastown/token)" ]; then
    printf 'Status: 401 Unauthorized\r\n\r\n'
    exit
fi
printf 'Content-Type: application/json\r\n\r\n'
cat {volume}/report
END
        chmod +x {volume}/www/cgi-bin/activity
        [ -e {volume}/report ] || echo '{{"agents": []}}' > {volume}/report
        httpd -p 8000 -h {volume}/www
        {STAY}
        "#
    );
    runs(&script)
}

/// The probe of such a container.
fn probe() -> Value {
    json!({"port": 8000, "path": "/cgi-bin/activity"})
}

/// Whether the town's own pod reports work.
fn is_told(town: &Town) -> bool {
    town.is("Active") && town.message("Active").contains("the town's pod reports")
}

/// Replaces the report of a pod's container in one step, so that no probe reads a part of it.
fn report(scene: &Scene, pod: &str, volume: &str, says: &Value) {
    let write = format!("echo '{says}' > {volume}/next && mv {volume}/next {volume}/report");
    scene.exec(pod, &write);
}

/// A town with such a container and the shortest probe interval. Work keeps it awake until the story begins.
fn asked() -> Value {
    json!({
        "backlog": {"triage": 1}, "sleepAfter": "10s", "storage": {"size": "16Mi"},
        "template": answers("/town"), "activityProbe": probe(),
        "alarm": {"active": "1s", "idle": "5s"},
    })
}

async fn reported_work_keeps_a_town_awake_and_probes_do_not(scene: Scene) {
    scene.create_town("alpha", asked()).await;
    let square = scene.town_pod("alpha").await.name_any();
    let works = json!({"agents": [{"uid": "whoever", "state": "working"}]});
    report(&scene, &square, "/town", &works);
    let town = scene.town("alpha");
    town.merge(json!({"spec": {"backlog": {"triage": 0}}})).await;
    town.until_within(PATIENCE, "is told of work", is_told).await;
    let what = "works on, longer than sleepAfter";
    town.stays(Duration::from_secs(12), what, |town| town.phase() == "Running").await;

    // The idle agent and the agent that waits for a user do not work, and a probe is not work.
    let waits = json!({
        "agents": [{"uid": "whoever", "state": "waiting"}],
        "attached": true, "lastInputTime": "2001-02-03T04:05:06Z",
    });
    report(&scene, &square, "/town", &waits);
    let idle = town.until_within(PATIENCE, "has none any more", |town| !town.is("Active")).await;
    assert!(!idle.is("Degraded"), "{idle:?}");
    let asleep = scene.asleep("alpha").await;
    assert_eq!(asleep.status.unwrap().asleep_reason, Some(AsleepReason::Idle));
    scene.assert_nothing_runs();
}

async fn town_sleeps_after_three_times_sleep_after_when_its_probe_fails(scene: Scene) {
    scene.create_town("alpha", asked()).await;
    let square = scene.town_pod("alpha").await.name_any();
    let works = json!({"agents": [{"uid": "whoever", "state": "working"}]});
    report(&scene, &square, "/town", &works);
    let town = scene.town("alpha");
    town.merge(json!({"spec": {"backlog": {"triage": 0}}})).await;
    town.until_within(PATIENCE, "is told of work", is_told).await;

    scene.exec(&square, "killall httpd");
    let unknown = |town: &Town| town.reason("Active") == "ActivityUnknown";
    let deaf = town.until_within(PATIENCE, "cannot be asked", unknown).await;
    assert_eq!(deaf.condition("Active").unwrap().status, "Unknown");
    assert!(deaf.is_degraded_by("ActivityUnknown") && deaf.message("Degraded").contains("cannot be reached"));
    let since = deaf.status.unwrap().activity_unknown_time.unwrap().0;

    let asleep = scene.asleep("alpha").await;
    assert!(asleep.is_degraded_by("ActivityUnknown"), "never in silence: {asleep:?}");
    let slept = asleep.condition("Asleep").unwrap().last_transition_time.0.duration_since(since).as_secs();
    assert_eq!(asleep.status.unwrap().asleep_reason, Some(AsleepReason::ActivityUnknown));
    assert!((29..60).contains(&slept), "3 times sleepAfter, not {slept} s");
    scene.assert_nothing_runs();
    town.stays(Duration::from_secs(2), "sleeps on", |town| town.phase() == "Asleep").await;

    // Work wakes the town, and the operator probes its new pod.
    town.merge(json!({"spec": {"backlog": {"triage": 1}}})).await;
    scene.town_pod("alpha").await;
    let well = town.until_within(PATIENCE, "is well", |t| t.phase() == "Running" && !t.is("Degraded")).await;
    assert!(well.status.unwrap().activity_unknown_time.is_none());
}

async fn session_phase_follows_the_report_of_its_pod(scene: Scene) {
    scene.create_town("alpha", json!({"alarm": {"active": "1s", "idle": "5s"}})).await;
    let mayor = json!({
        "townName": "alpha", "role": "Mayor", "storage": {"size": "16Mi"}, "template": answers("/agent"),
        "activityProbe": probe(), "hook": {"bead": "m-1"},
    });
    let uid = scene.create::<Agent>("mayor", mayor).await.uid().unwrap();
    let office = scene.ready_pod("mayor", None).await.name_any();
    let (town, mayor) = (scene.town("alpha"), scene.agent("mayor"));
    let says = |state: &str| {
        let own = json!({"uid": uid, "state": state, "bead": "m-1", "message": format!("I am {state}")});
        report(&scene, &office, "/agent", &json!({"agents": [own]}));
    };

    says("working");
    mayor.until_within(PATIENCE, "works", |mayor| mayor.phase() == "Working" && mayor.is("Working")).await;
    town.until_within(PATIENCE, "has work", |town| town.is("Active") && town.phase() == "Running").await;
    says("waiting");
    let waits = mayor.until_within(PATIENCE, "waits", |mayor| mayor.phase() == "Waiting").await;
    assert_eq!((waits.reason("Working"), waits.message("Working")), ("Waiting", "I am waiting"));
    let what = "has none: who waits for a person does not work";
    town.until_within(PATIENCE, what, |town| !town.is("Active") && town.phase() == "Idle").await;
    says("done");
    let done = scene.done("mayor", "m-1").await;
    assert_eq!((done.message.as_str(), done.done.as_slice()), ("I am done", &["m-1".to_owned()][..]));
    assert!(mayor.get().await.is("Finished"));
}
