//! The operator under the admission policies of others.

use std::time::Duration;

use bed::Options;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use town_operator::api::Town;

use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::remains::{busy_town, is_gone_whole, is_on_record, no_volume_is_left};
use crate::stage::Stories;
use crate::words::{Told, workshop_with};

/// The message of a policy that forbids the deletion of pods.
const SAID: &str = "no pod of this namespace goes before the audit is over";

pub fn add(stories: &mut Stories) {
    let plugin = "--enable-admission-plugins=OwnerReferencesPermissionEnforcement";
    let guarded = Options { api_server_args: vec![plugin.into()], ..Options::default() };
    stories.alone_on(guarded, owner_references_need_no_more_rights_than_the_operator_has);
    stories.with_the_operator(destruction_reports_a_refused_delete_and_resumes_when_allowed);
}

// A12, I-refused-deletion.
async fn destruction_reports_a_refused_delete_and_resumes_when_allowed(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let name = format!("audit-{}", story.namespace);
    let pods =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["pods"]}]);
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": story.namespace}});
    for (kind, spec) in [
        (
            "ValidatingAdmissionPolicy",
            json!({
                "failurePolicy": "Fail", "matchConstraints": {"resourceRules": pods},
                "validations": [{"expression": "false", "message": SAID}],
            }),
        ),
        (
            "ValidatingAdmissionPolicyBinding",
            json!({
                "policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here},
            }),
        ),
    ] {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        story.cluster.try_kubectl(&["apply", "-f", "-"], &object.to_string()).unwrap();
    }
    until("the policy is in force", PATIENCE, async || {
        let on_trial = DeleteParams { dry_run: true, ..DeleteParams::default() };
        match story.api::<Pod>().delete(&town.child(), &on_trial).await {
            Ok(_) => Err("not yet".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    story.town("gas").delete().await;
    let refused = |agent: &town_operator::api::Agent| {
        let destroy = agent.status.as_ref().and_then(|status| status.destroy.as_ref());
        destroy.is_some_and(|destroy| destroy.blocked_by.iter().any(|item| item.message.contains(SAID)))
    };
    let ann = story.agent("ann").until("says in whose words it is refused", refused).await;
    let blocked = |town: &Town| town.is("DeletionBlocked") && town.message("DeletionBlocked").contains("ann");
    story.town("gas").until("is blocked", blocked).await;
    assert!(story.pod(&ann.child()).get().await.metadata.deletion_timestamp.is_none());
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        story.cluster.kubectl(&["delete", kind, &name]);
    }
    // The operator retries with a back-off, but at least once a minute.
    story.agent("ann").gone_within(Duration::from_mins(2)).await;
    is_gone_whole(&story, &town).await;
    is_on_record(&story, &town).await;
    no_volume_is_left(&story).await;
}

// I-owner-permission: a client that sets an ownerReference with `blockOwnerDeletion` needs a permission on the owner.
async fn owner_references_need_no_more_rights_than_the_operator_has(story: Story) {
    let operator = story.cluster.operator(&[]).await;
    let town = busy_town(&story, "gas", &["ann"]).await;
    let more = json!({"ports": [{"name": "ssh", "port": 22}], "activityProbe": {"port": 8080}});
    let offers = story.create_town("offers", workshop_with(more)).await;
    story.town("offers").until("has its pod", |town| town.pod_uid().is_some()).await;
    let owned = ListParams::default().labels(&format!("gastown.dev/town-uid={}", offers.id()));
    assert_eq!(story.api::<Secret>().list(&owned).await.unwrap().items.len(), 1);
    for service in story.api::<Service>().list(&owned).await.unwrap() {
        assert_eq!(service.owner_references()[0].uid, offers.id());
    }
    for town in [town, offers] {
        story.town(&town.name_any()).delete().await;
        is_gone_whole(&story, &town).await;
    }
    no_volume_is_left(&story).await;
    assert!(!operator.log().contains("blockOwnerDeletion"), "{}", operator.log());
}
