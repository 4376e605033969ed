//! Obstacles to containers: the status reports each with the original message. The operator retries within limits, and
//! recovers when the cause is gone.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{Agent, Outcome, Town};

use crate::scene::{Lives, PATIENCE, STAY, Scene, Works, restarts, runs, runs_within};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.add(crash_looping_town_pauses_and_restarts_at_once_after_an_edit);
    stories.add(town_with_repeated_liveness_failures_pauses_until_its_template_is_fixed);
    stories.add(container_restarts_after_liveness_failures_are_counted);
    stories.add(oom_killed_town_reports_its_memory_limit_and_recovers);
    stories.add(oom_killed_attempt_fails_and_reports_its_memory_limit);
    stories.add(town_reports_an_image_pull_failure_and_recovers_with_another_image);
    stories.add(town_is_unschedulable_when_its_claim_gets_no_volume);
    stories.add(town_names_a_quota_and_starts_when_it_is_raised);
    stories.add(town_names_the_missing_secret_of_a_volume_when_the_kubelet_waits_for_it);
    stories.add(town_names_a_missing_secret_and_starts_when_it_exists);
    stories.add(terminating_claim_is_reported_and_recreated_after_its_removal);
}

/// Uses more memory than the limit of these containers.
const FEAST: &str = "exec dd if=/dev/zero of=/dev/null bs=256M count=1";
const LIMIT: &str = "32Mi";

/// The kubelet waits 10, 20, 40, 80 and 160 s before it restarts a container.
const FIVE_STARTS: Duration = Duration::from_mins(8);

async fn crash_looping_town_pauses_and_restarts_at_once_after_an_edit(scene: Scene) {
    let crashing = thrice(runs("exit 3"));
    let uid = scene.create_town("alpha", json!({"template": crashing})).await.uid().unwrap();

    let town = scene.town("alpha");
    let rests = town
        .until_within(FIVE_STARTS, "has failed to start", |town| town.is_degraded_by("StartFailed"))
        .await;
    let said = rests.message("Degraded").to_owned();
    assert!(said.contains("exit code 3") && said.contains("the next start is at"), "{said}");
    assert_eq!((rests.phase(), rests.is("Reconciling"), rests.is("Stalled")), ("Starting", true, false));
    scene.await_no_pods(&uid).await;
    scene.assert_nothing_runs();
    let is_told = |town: &Town| town.message("Degraded") == said && town.reason("Ready") == "StartFailed";
    let rests = town.until_within(PATIENCE, "still says why, though its pod is gone", is_told).await;
    let starts = failed_starts(&rests);
    assert!((5..=8).contains(&starts), "each start is counted once: {starts}");
    let rests_on = |town: &Town| is_told(town) && failed_starts(town) == starts;
    town.stays(Duration::from_secs(3), "rests", rests_on).await;
    assert!(scene.pods(&uid).await.is_empty());

    // The next automatic start is half an hour away.
    town.merge(json!({"spec": {"template": runs(STAY)}})).await;
    let square = scene.town_pod("alpha").await;
    scene.assert_runs(&[square]).await;
    let well = town.get().await;
    assert!(!well.is("Degraded"), "{well:?}");
    assert_eq!(failed_starts(&well), 0, "what failed was another template");
}

/// A container that runs until its liveness probe fails; the file makes the probe fail.
fn wedges(script: &str) -> Value {
    let mut template = runs(&format!("{script}; {STAY}"));
    template["spec"]["containers"][0]["livenessProbe"] = json!({
        "exec": {"command": ["sh", "-c", "! test -e /town/wedged"]}, "periodSeconds": 1, "failureThreshold": 2,
        "timeoutSeconds": 5,
    });
    template
}

async fn container_restarts_after_liveness_failures_are_counted(scene: Scene) {
    // The third start removes the file.
    let script = "echo up >> /town/starts; [ $(wc -l < /town/starts) -lt 3 ] || rm -f /town/wedged";
    scene.create_town("alpha", json!({"storage": {"size": "16Mi"}, "template": wedges(script)})).await;
    let square = scene.town_pod("alpha").await;
    scene.exec(&square.name_any(), "touch /town/wedged");
    let is_back = |town: &Town| failed_starts(town) == 2 && town.is("Ready") && !town.is("Degraded");
    let town = scene.town("alpha").until_within(PATIENCE, "is well again", is_back).await;
    assert_eq!(town.phase(), "Idle");
    let pod = scene.seen::<Pod>(&square.name_any()).get().await;
    assert_eq!((pod.uid(), restarts(&pod)), (square.uid(), 2));
    assert_eq!(scene.exec(&pod.name_any(), "cat /town/starts"), "up\nup\nup\n");
}

async fn town_with_repeated_liveness_failures_pauses_until_its_template_is_fixed(scene: Scene) {
    let template = thrice(wedges("true"));
    let town = json!({"storage": {"size": "16Mi"}, "template": template});
    let uid = scene.create_town("alpha", town).await.uid().unwrap();
    let square = scene.town_pod("alpha").await;
    scene.exec(&square.name_any(), "touch /town/wedged");
    let town = scene.town("alpha");
    town.until_within(FIVE_STARTS, "is given a rest", |town| town.is_degraded_by("StartFailed")).await;
    scene.await_no_pods(&uid).await;
    scene.assert_nothing_runs();

    town.merge(json!({"spec": {"template": wedges("rm -f /town/wedged")}})).await;
    scene.assert_runs(&[scene.town_pod("alpha").await]).await;
    let well = town.get().await;
    assert_eq!((well.is("Degraded"), failed_starts(&well)), (false, 0));
}

async fn oom_killed_town_reports_its_memory_limit_and_recovers(scene: Scene) {
    // The first two runs use too much memory.
    let script = format!("echo up >> /town/starts; [ $(wc -l < /town/starts) -gt 2 ] || {FEAST}; {STAY}");
    let town = json!({"storage": {"size": "16Mi"}, "template": runs_within(&script, LIMIT)});
    scene.create_town("alpha", town).await;
    let town = scene.town("alpha");
    let killed = town.until_within(PATIENCE, "says why", |town| town.is_degraded_by("OOMKilled")).await;
    let said = killed.message("Degraded");
    assert!(said.contains("container main") && said.contains(LIMIT) && said.contains("OOMKilled"), "{said}");
    assert_eq!((killed.phase(), killed.reason("Ready")), ("Starting", "OOMKilled"));

    let is_back = |town: &Town| failed_starts(town) == 2 && town.is("Ready") && !town.is("Degraded");
    town.until_within(PATIENCE, "is well again", is_back).await;
    assert_eq!(restarts(&scene.town_pod("alpha").await), 2);
}

async fn oom_killed_attempt_fails_and_reports_its_memory_limit(scene: Scene) {
    let uid = scene.create_town("alpha", json!({})).await.uid().unwrap();
    let polecat = json!({
        "townName": "alpha", "role": "Polecat", "rig": "orchard", "hook": {"bead": "a-1"}, "retry": {"limit": 1},
        "template": runs_within(FEAST, LIMIT),
    });
    scene.create::<Agent>("ada", polecat).await;
    let failed = scene.agent("ada").until_within(PATIENCE, "is Failed", |ada| ada.phase() == "Failed").await;
    let work = failed.work();
    assert_eq!((work.outcome, work.attempts), (Some(Outcome::Failed), 1));
    let why = format!("exit code 137: OOMKilled: container main used more memory than its limit of {LIMIT}");
    assert!(work.message.ends_with(&why), "{}", work.message);
    assert!(failed.message("Degraded").contains(&why), "{}", failed.message("Degraded"));
    scene.await_no_pods(&uid).await;
    scene.assert_nothing_runs();
}

async fn town_reports_an_image_pull_failure_and_recovers_with_another_image(scene: Scene) {
    const NOWHERE: &str = "localhost/nowhere/to-be-found:1";
    let mut template = runs(STAY);
    template["spec"]["containers"][0]["image"] = NOWHERE.into();
    scene.create_town("alpha", json!({"template": template})).await;
    let town = scene.town("alpha");
    // The start timeout, after which a town without a known cause also reports a problem, is ten minutes.
    let what = "names the image";
    let named = town.until_within(PATIENCE, what, |town| town.is_degraded_by("ImagePullFailed")).await;
    let said = named.message("Degraded");
    let begins = format!("container main: image {NOWHERE} cannot be pulled: ");
    assert!(said.strip_prefix(&begins).is_some_and(|why| why.contains("localhost")), "{said}");
    assert_eq!((named.phase(), named.is("Reconciling"), named.is("Stalled")), ("Starting", true, false));
    let what = "says it once, however the kubelet puts it";
    town.stays(Duration::from_secs(5), what, |town| town.resource_version() == named.resource_version())
        .await;

    // The pod does not run: the operator applies the correct image immediately.
    town.merge(json!({"spec": {"template": runs(STAY)}})).await;
    scene.assert_runs(&[scene.town_pod("alpha").await]).await;
    assert!(!town.get().await.is("Degraded"));
}

async fn town_is_unschedulable_when_its_claim_gets_no_volume(scene: Scene) {
    let storage = json!({"size": "16Mi", "storageClassName": "nobodys"});
    scene.create_town("alpha", json!({"storage": storage, "template": runs(STAY)})).await;
    let town = scene.town("alpha");
    let what = "names the volume";
    let waits = town.until_within(PATIENCE, what, |town| town.is_degraded_by("Unschedulable")).await;
    let said = waits.message("Degraded");
    assert!(said.contains("PersistentVolumeClaim"), "{said}");
    assert_eq!((waits.phase(), waits.is("Reconciling"), waits.is("Stalled")), ("Starting", true, false));
    scene.kubectl(&["delete", "town", "alpha", "--timeout=60s"]);
}

async fn town_names_a_quota_and_starts_when_it_is_raised(scene: Scene) {
    scene.create::<ResourceQuota>("few", json!({"hard": {"pods": "0"}})).await;
    let quota = scene.seen::<ResourceQuota>("few");
    let in_force = |quota: &ResourceQuota| quota.status.as_ref().is_some_and(|status| status.used.is_some());
    quota.until_within(PATIENCE, "is in force", in_force).await;
    let uid = scene.create_town("alpha", json!({"template": runs(STAY)})).await.uid().unwrap();
    let town = scene.town("alpha");
    let what = "names the quota";
    let waits = town.until_within(PATIENCE, what, |town| town.is_degraded_by("QuotaExceeded")).await;
    let said = waits.message("Degraded");
    assert!(said.contains("exceeded quota: few"), "{said}");
    assert_eq!((waits.phase(), waits.is("Reconciling"), waits.is("Stalled")), ("Starting", true, false));
    assert!(scene.pods(&uid).await.is_empty());

    quota.merge(json!({"spec": {"hard": {"pods": "3"}}})).await;
    scene.assert_runs(&[scene.town_pod("alpha").await]).await;
    assert!(!town.get().await.is("Degraded"));
}

// reports.md P11: the status of the pod contains only ContainerCreating.
async fn town_names_the_missing_secret_of_a_volume_when_the_kubelet_waits_for_it(scene: Scene) {
    let mut template = runs(STAY);
    template["spec"]["volumes"] = json!([{"name": "key", "secret": {"secretName": "absent-key"}}]);
    template["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "key", "mountPath": "/key"}]);
    scene.create_town("alpha", json!({"template": template})).await;
    let town = scene.town("alpha");
    let what = "names the Secret";
    let named = town.until_within(PATIENCE, what, |town| town.is_degraded_by("ContainerCreating")).await;
    let said = named.message("Degraded");
    assert!(said.contains("FailedMount") && said.contains("absent-key"), "{said}");
    scene.create_secret("absent-key", "key", "xyzzy").await;
    // The kubelet retries the mount after two minutes at most.
    let is_well = |town: &Town| town.is("Ready") && !town.is("Degraded");
    town.until_within(2 * PATIENCE, "is Ready", is_well).await;
}

async fn town_names_a_missing_secret_and_starts_when_it_exists(scene: Scene) {
    let rigs = json!([{"name": "orchard", "credentialsSecretName": "deploy-key"}]);
    let uid = scene.create_town("alpha", json!({"rigs": rigs})).await.uid().unwrap();
    let read = "cat /var/run/gastown/git/password > /dev/termination-log";
    scene.create_polecat("ada", "alpha", "a-1", read).await;
    let ada = scene.agent("ada");
    let what = "names the Secret";
    let waits = ada.until_within(PATIENCE, what, |ada| ada.is_degraded_by("SecretNotFound")).await;
    let said = waits.message("Degraded");
    assert!(said.contains("deploy-key") && said.contains("credentialsSecretName"), "{said}");
    assert_eq!((waits.phase(), waits.is("Reconciling"), waits.is("Stalled")), ("Starting", true, false));
    assert!(scene.pods(&uid).await.is_empty(), "no pod that could not start");
    assert!(scene.town("alpha").get().await.is("Active"), "the bead is still work");

    scene.create_secret("deploy-key", "password", "xyzzy").await;
    let work = scene.done("ada", "a-1").await;
    assert_eq!((work.message.as_str(), work.attempts), ("xyzzy", 1), "what never began is no attempt");
}

async fn terminating_claim_is_reported_and_recreated_after_its_removal(scene: Scene) {
    let town = json!({"storage": {"size": "16Mi"}, "template": runs(STAY)});
    let uid = scene.create_town("alpha", town).await.uid().unwrap();
    let square = scene.town_pod("alpha").await;
    scene.exec(&square.name_any(), "touch /town/old");
    let claim = scene.claims(&uid).await.pop().unwrap();

    // While the pod runs, the deleted claim remains.
    scene.kubectl(&["delete", "pvc", &claim.name_any(), "--wait=false"]);
    let town = scene.town("alpha");
    let what = "names the claim";
    let named = town.until_within(PATIENCE, what, |town| town.is_degraded_by("ClaimUnusable")).await;
    assert!(named.message("Degraded").contains(&claim.name_any()), "{}", named.message("Degraded"));

    scene.suspend("alpha", true).await;
    scene.asleep("alpha").await;
    scene.suspend("alpha", false).await;
    let square = scene.town_pod("alpha").await;
    assert_eq!(scene.exec(&square.name_any(), "ls /town"), "", "an empty volume, and not in silence");
    let now = scene.claims(&uid).await.pop().unwrap();
    assert_ne!(now.uid(), claim.uid());
    let events = scene.kubectl(&["get", "events", "--field-selector=reason=StorageRecreated", "-o", "name"]);
    assert_eq!(events.lines().count(), 1, "{events}");
}

/// The number of failed starts of the town's pod and its containers.
fn failed_starts(town: &Town) -> i32 {
    town.status.as_ref().and_then(|status| status.restarts.as_ref()).map_or(0, |restarts| restarts.count)
}

/// Three copies of a container, which reach the limit of failures sooner: the kubelet increases the delay of each
/// container separately.
fn thrice(mut template: Value) -> Value {
    let named = |name: &str| {
        let mut container = template["spec"]["containers"][0].clone();
        container["name"] = name.into();
        container
    };
    let containers = ["first", "second", "third"].map(named);
    template["spec"]["containers"] = json!(containers);
    template
}
