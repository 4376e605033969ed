//! Obstacles to the start of a pod: a condition names each within seconds, and clears as soon as the obstacle is gone.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use town_operator::api::{Town, names};

use crate::common::story::{Story, template};
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;
use crate::words::{Told, asleep, attempts, idle, polecat, works, workshop, workshop_with};

/// The longest delay before the retry of a refused request, after a few refusals.
const AGAIN: Duration = Duration::from_mins(1);

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(town_and_agent_report_the_message_of_an_admission_policy);
    stories.with_the_operator(agent_waits_for_a_quota_without_a_counted_attempt);
    stories.with_the_operator(agent_reports_the_original_message_of_a_start_failure);
    stories.with_the_operator(town_reports_the_scheduler_message_about_an_unbound_claim);
    stories.with_the_operator(lost_volume_is_reported_and_not_replaced);
    stories.with_the_operator(town_waits_for_its_terminating_claim);
}

/// A policy that refuses every pod in the namespace of the story with this message.
struct Policy {
    name: String,
}

impl Policy {
    fn refuse(story: &Story, message: &str) -> Self {
        let name = format!("refuse-{}", story.namespace);
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": story.namespace}});
        let pods = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail", "matchConstraints": {"resourceRules": pods},
                "validations": [{"expression": "false", "message": message}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": here},
            },
        });
        for object in [policy, binding] {
            story.cluster.try_kubectl(&["apply", "-f", "-"], &object.to_string()).unwrap();
        }
        Self { name }
    }

    /// Waits until the policy is in force: the API server refuses a pod in a dry run.
    async fn holds(&self, story: &Story) {
        let mut pod = template();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"] = json!({"name": "probe"});
        until("the policy is in force", PATIENCE, async || {
            let arguments = ["create", "--dry-run=server", "-n", &story.namespace, "-f", "-"];
            match story.cluster.try_kubectl(&arguments, &pod.to_string()) {
                Ok(said) => Err(said),
                Err(_) => Ok(()),
            }
        })
        .await;
    }

    fn lift(&self, story: &Story) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            story.cluster.kubectl(&["delete", kind, &self.name, "--ignore-not-found"]);
        }
    }
}

async fn town_and_agent_report_the_message_of_an_admission_policy(story: Story) {
    let policy = Policy::refuse(&story, "no pods on a Sunday");
    policy.holds(&story).await;
    story.create_town("devout", workshop()).await;
    story.create_agent("cat", "devout", polecat("b-1")).await;
    let refused = |object: &Town| object.reason("Degraded") == "RequestRefused" && object.is("Degraded");
    let town = story.town("devout").until("says why", refused).await;
    let cat =
        story.agent("cat").until("says why", |agent| agent.reason("Degraded") == "RequestRefused").await;
    for message in [town.message("Degraded"), cat.message("Degraded")] {
        assert!(message.contains("no pods on a Sunday"), "{message}");
        assert!(!message.contains("Status {"), "words for people, not a data structure: {message}");
    }
    assert_eq!((town.phase(), cat.phase()), ("Starting", "Starting"));
    assert!(town.is("Reconciling") && !town.is("Stalled") && cat.is("Reconciling") && !cat.is("Stalled"));
    policy.lift(&story);
    story
        .town("devout")
        .until_within(AGAIN, "runs", |town| town.phase() == "Running" && !town.is("Degraded"))
        .await;
    let cat =
        story.agent("cat").until_within(AGAIN, "works", |agent| works(agent) && !agent.is("Degraded")).await;
    assert_eq!(attempts(&cat), 1);
}

async fn agent_waits_for_a_quota_without_a_counted_attempt(story: Story) {
    story.create_town("poor", workshop()).await;
    let town = story.town("poor").until("is idle", idle).await;
    story.kubectl(&["create", "quota", "tight", "--hard=pods=1"]);
    until("the quota counts", PATIENCE, async || {
        let used = story.kubectl(&["get", "quota", "tight", "-o=jsonpath={.status.used.pods}"]);
        if used == "1" { Ok(()) } else { Err(used) }
    })
    .await;
    let mut spec = polecat("b-1");
    spec["retry"] = json!({"limit": 1});
    story.create_agent("cat", "poor", spec).await;
    let cat = story
        .agent("cat")
        .until("names the quota", |agent| agent.reason("Degraded") == "QuotaExceeded")
        .await;
    assert!(cat.message("Degraded").contains("tight"), "{}", cat.message("Degraded"));
    assert!(cat.is("Reconciling") && !cat.is("Stalled"));
    let town_now = story.town("poor").get().await;
    assert!(town_now.is("Ready") && town_now.pod_uid() == town.pod_uid(), "its town goes on");
    story.kubectl(&["delete", "quota", "tight"]);
    let cat = story.agent("cat").until_within(AGAIN, "works", works).await;
    assert_eq!(attempts(&cat), 1, "what never started is no attempt used up");
}

async fn agent_reports_the_original_message_of_a_start_failure(story: Story) {
    story.create_town("shop", workshop()).await;
    story.town("shop").until("is idle", idle).await;
    story.players.run_new_pods(false).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    story.create_agent("mayor", "shop", json!({"role": "Mayor"})).await;
    for name in ["cat", "mayor"] {
        let agent = story.agent(name).until("is starting", |agent| agent.phase() == "Starting").await;
        story.players.refuse(&agent.child(), "0/3 nodes have wings").await;
        let said =
            story.agent(name).until("says why", |agent| agent.reason("Degraded") == "Unschedulable").await;
        assert!(said.message("Degraded").contains("0/3 nodes have wings"), "{}", said.message("Degraded"));
        assert!(said.is("Reconciling") && !said.is("PodScheduled") && said.phase() == "Starting");
        for (waiting, text, reason) in [
            ("ErrImagePull", "registry says no", "ImagePullFailed"),
            ("CreateContainerConfigError", "couldn't find key token", "ContainerFailed"),
        ] {
            story.players.keep_waiting(&agent.child(), waiting, text).await;
            let said = story.agent(name).until("says why", |agent| agent.reason("Degraded") == reason).await;
            assert!(said.message("Degraded").contains(text), "{}", said.message("Degraded"));
        }
        story.players.run(&agent.child()).await;
        story.agent(name).until("is there", |agent| agent.is("Ready") && !agent.is("Degraded")).await;
    }
}

async fn town_reports_the_scheduler_message_about_an_unbound_claim(story: Story) {
    story.players.run_new_pods(false).await;
    let storage = json!({"storage": {"size": "1Gi", "storageClassName": "nobody-provides-it"}});
    story.create_town("shop", workshop_with(storage)).await;
    let town = story.town("shop").until("is starting", |town| town.phase() == "Starting").await;
    let claim = story.seen::<PersistentVolumeClaim>(&town.child()).until("is there", |_| true).await;
    assert_eq!(claim.status.and_then(|status| status.phase).as_deref(), Some("Pending"));
    let said = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims";
    story.players.refuse(&town.child(), said).await;
    let town = story.town("shop").until("says why", |town| town.reason("Degraded") == "Unschedulable").await;
    assert!(town.message("Degraded").contains("unbound immediate PersistentVolumeClaims"));
    assert!(town.is("Reconciling") && town.phase() == "Starting");
}

/// Removes the volume of a claim, as after the loss of a disk.
async fn lose_the_volume_of(story: &Story, claim: &str) {
    let bound =
        |claim: &PersistentVolumeClaim| claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some());
    let claim = story.seen::<PersistentVolumeClaim>(claim).until("is bound", bound).await;
    let volumes: Api<PersistentVolume> = Api::all(story.client());
    let name = claim.spec.unwrap().volume_name.unwrap();
    let free = Patch::Merge(
        json!({"metadata": {"finalizers": null}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}}),
    );
    volumes.patch(&name, &PatchParams::default(), &free).await.unwrap();
    volumes.delete(&name, &DeleteParams::default()).await.unwrap();
    // The protection controller adds its finalizer again as long as it can.
    let unheld = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    until(&format!("volume {name} is gone"), PATIENCE, async || {
        match volumes.get_opt(&name).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(volume) => {
                let _ = volumes.patch(&name, &PatchParams::default(), &unheld).await;
                Err(format!("{volume:?}"))
            }
        }
    })
    .await;
    let lost = |claim: &PersistentVolumeClaim| {
        claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost")
    };
    story.seen::<PersistentVolumeClaim>(&claim.metadata.name.unwrap()).until("is lost", lost).await;
}

fn lost<T: Told>(object: &T) -> bool {
    object.is("Degraded") && object.reason("Degraded") == "StorageLost"
}

async fn lost_volume_is_reported_and_not_replaced(story: Story) {
    let storage = json!({"size": "1Gi"});
    story.create_town("awake", workshop_with(json!({"storage": storage}))).await;
    story.create_town("night", workshop_with(json!({"storage": storage}))).await;
    story.create_agent("crew", "night", json!({"role": "Crew", "storage": storage})).await;
    let awake = story.town("awake").until("is idle", idle).await;
    let night = story.town("night").until("is idle", idle).await;
    let crew = story.agent("crew").until("is there", |agent| agent.is("Ready")).await;
    story.town("night").merge(json!({"spec": {"suspend": true}})).await;
    story.town("night").until("sleeps", asleep).await;
    for claim in [awake.child(), night.child(), crew.child()] {
        lose_the_volume_of(&story, &claim).await;
    }
    let said = story.town("awake").until("says so", lost).await;
    assert!(said.message("Degraded").contains(&awake.child()), "{}", said.message("Degraded"));
    story.town("night").merge(json!({"spec": {"suspend": false}})).await;
    story.town("night").until("says so when it wakes", lost).await;
    story.agent("crew").until("says so", lost).await;
    for (claim, label, id) in
        [(night.child(), names::TOWN_UID, night.id()), (crew.child(), names::AGENT_UID, crew.id())]
    {
        let before = story.seen::<PersistentVolumeClaim>(&claim).get().await;
        story
            .seen::<PersistentVolumeClaim>(&claim)
            .stays(Duration::from_secs(1), "is left as it is", |now| now.uid() == before.uid())
            .await;
        assert_eq!(story.pods(label, &id).await.len(), 0, "nothing starts on what is not there");
    }
    // A user decides to continue with an empty volume.
    story.seen::<PersistentVolumeClaim>(&crew.child()).delete().await;
    story.seen::<PersistentVolumeClaim>(&night.child()).delete().await;
    story.town("night").until("is idle", |town| idle(town) && !town.is("Degraded")).await;
    story.agent("crew").until("is there", |agent| agent.is("Ready") && !agent.is("Degraded")).await;
}

// I-claim-terminating.
async fn town_waits_for_its_terminating_claim(story: Story) {
    story.create_town("shop", workshop_with(json!({"storage": {"size": "1Gi"}, "suspend": true}))).await;
    let town = story.town("shop").until("sleeps", asleep).await;
    story.town("shop").merge(json!({"spec": {"suspend": false}})).await;
    story.town("shop").until("is idle", idle).await;
    story.town("shop").merge(json!({"spec": {"suspend": true}})).await;
    story.town("shop").until("sleeps", asleep).await;
    let claim = story.seen::<PersistentVolumeClaim>(&town.child());
    let held: Value = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    let old = claim.merge(held).await;
    claim.delete().await;
    story.town("shop").merge(json!({"spec": {"suspend": false}})).await;
    let waiting =
        story.town("shop").until("waits for it", |town| town.reason("Degraded") == "ClaimUnusable").await;
    assert!(waiting.message("Degraded").contains("is being deleted"), "{}", waiting.message("Degraded"));
    assert!(waiting.is("Reconciling") && !waiting.is("Stalled"));
    assert_eq!(story.pods(names::TOWN_UID, &town.id()).await.len(), 0);
    claim.merge(json!({"metadata": {"finalizers": null}})).await;
    story.town("shop").until("is idle", |town| idle(town) && !town.is("Degraded")).await;
    assert_ne!(claim.get().await.uid(), old.uid());
    // An event reports the loss of the data.
    story.is_told("shop", "StorageRecreated").await;
}
