//! Every field has an effect (T21, K35): for each field of the definitions a test shows the effect. The test fails for
//! a new field without a test, and for a removed test.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::common::story::Story;
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.on_the_api(every_field_of_a_town_has_a_story);
    stories.on_the_api(every_field_of_an_agent_has_a_story);
}

/// Each field of the storage of a town or an agent, and the test that shows its effect.
const OF_STORAGE: &[(&str, &str)] = &[
    ("storage.accessModes", "claim_has_the_size_class_and_access_modes_of_the_spec"),
    ("storage.dataSource", "claims_of_towns_have_the_data_source_of_the_spec"),
    ("storage.dataSource.apiGroup", "claims_of_towns_have_the_data_source_of_the_spec"),
    ("storage.dataSource.kind", "claims_of_towns_have_the_data_source_of_the_spec"),
    ("storage.dataSource.name", "claims_of_towns_have_the_data_source_of_the_spec"),
    ("storage.annotations", "claim_follows_the_labels_and_annotations_of_the_spec"),
    ("storage.labels", "claim_follows_the_labels_and_annotations_of_the_spec"),
    ("storage.existingClaimName", "existing_claim_is_used_and_not_deleted"),
    ("storage.retainPolicy", "retained_claims_outlive_their_town_without_an_owner"),
    ("storage.size", "claim_has_the_size_class_and_access_modes_of_the_spec"),
    ("storage.storageClassName", "claim_has_the_size_class_and_access_modes_of_the_spec"),
];

/// Each field of a town, and the test of its effect.
const OF_TOWN: &[(&str, &str)] = &[
    ("activityProbe", "activity_token_is_created_once_and_deleted_with_its_town"),
    ("activityProbe.path", "reported_work_and_reported_backlog_keep_a_town_awake"),
    ("activityProbe.port", "reported_work_and_reported_backlog_keep_a_town_awake"),
    ("activityProbe.tokenSecretName", "condition_names_a_missing_secret_and_the_pod_waits_for_it"),
    ("agentTemplate", "agent_is_stalled_until_it_has_a_template"),
    ("alarm", "probe_interval_follows_the_alarm_of_the_spec"),
    ("alarm.active", "probe_interval_follows_the_alarm_of_the_spec"),
    ("alarm.idle", "probe_interval_follows_the_alarm_of_the_spec"),
    ("alwaysOn", "always_on_town_does_not_sleep"),
    ("backlog", "each_kind_of_backlog_wakes_a_town_and_keeps_it_awake"),
    ("backlog.mergeRequests", "each_kind_of_backlog_wakes_a_town_and_keeps_it_awake"),
    ("backlog.triage", "each_kind_of_backlog_wakes_a_town_and_keeps_it_awake"),
    ("backlog.unassigned", "each_kind_of_backlog_wakes_a_town_and_keeps_it_awake"),
    ("deletionProtection", "protected_town_sleeps_at_its_expiry_until_its_protection_is_removed"),
    ("drain", "suspended_town_drains_until_its_agents_finish"),
    ("drain.timeout", "drain_ends_at_its_timeout"),
    ("expiry", "expired_town_sleeps_regardless_of_its_work"),
    ("expiry.time", "expired_town_sleeps_regardless_of_its_work"),
    ("expiry.policy", "expiry_policy_destroy_removes_a_town_and_all_children"),
    ("ports", "service_is_created_changed_and_deleted_with_the_ports_of_the_spec"),
    ("ports[].appProtocol", "service_offers_each_port_as_the_spec_says"),
    ("ports[].name", "service_is_created_changed_and_deleted_with_the_ports_of_the_spec"),
    ("ports[].port", "service_is_created_changed_and_deleted_with_the_ports_of_the_spec"),
    ("ports[].protocol", "service_offers_each_port_as_the_spec_says"),
    ("ports[].targetPort", "service_offers_each_port_as_the_spec_says"),
    ("rigs", "agent_waits_for_its_rig"),
    ("rigs[].branch", "town_accepts_200_rigs_and_no_more"),
    ("rigs[].credentialsSecretName", "agent_waits_for_the_credentials_secret_of_its_rig"),
    ("rigs[].gitUrl", "town_accepts_200_rigs_and_no_more"),
    ("rigs[].maxPolecats", "max_polecats_may_be_raised_and_lowered"),
    ("rigs[].name", "agent_waits_for_its_rig"),
    ("sleepAfter", "sleep_after_change_moves_the_sleep_time_and_wakes_no_town"),
    ("storage", "town_gets_a_pod_and_a_claim"),
    ("suspend", "suspended_town_ignores_new_work_and_wake_requests"),
    ("template", "changed_template_replaces_the_pods_of_an_idle_town_at_once"),
    ("tombstone", "tombstone_expires_unless_a_child_still_exists"),
    ("tombstone.recreate", "town_is_refused_until_the_tombstone_of_its_name_is_removed"),
    ("tombstone.retention", "tombstone_expires_unless_a_child_still_exists"),
    ("wakeRequest", "woken_town_stays_awake_for_sleep_after"),
];

/// Each field of an agent, and the test of its effect.
const OF_AGENT: &[(&str, &str)] = &[
    ("activityProbe", "agent_token_differs_from_the_town_token_and_is_deleted_with_its_agent"),
    ("activityProbe.path", "session_agent_phase_follows_its_own_report"),
    ("activityProbe.port", "session_agent_phase_follows_its_own_report"),
    ("activityProbe.tokenSecretName", "session_agent_phase_follows_its_own_report"),
    ("hook", "polecat_without_a_bead_has_no_pod"),
    ("hook.bead", "polecat_works_on_its_bead_and_is_done"),
    ("hook.instructions", "hook_of_64_kib_reaches_the_pod_unchanged"),
    ("hook.title", "hook_of_64_kib_reaches_the_pod_unchanged"),
    ("identity", "session_agent_receives_new_hooks_in_its_running_pod"),
    ("mode", "mode_overrides_the_default_of_the_role"),
    ("retry", "agent_past_its_retry_limit_fails_and_does_not_wake_its_town"),
    ("retry.limit", "agent_past_its_retry_limit_fails_and_does_not_wake_its_town"),
    ("retry.window", "failed_agent_is_retried_after_its_retry_window"),
    ("rig", "rig_has_at_most_one_refinery"),
    ("role", "town_has_at_most_one_mayor"),
    ("storage", "polecat_works_on_its_bead_and_is_done"),
    ("template", "fixed_image_replaces_an_unpullable_image_at_once"),
    ("townName", "agent_waits_for_its_town"),
    ("ttlAfterFinished", "ttl_after_finished_deletes_done_and_failed_agents"),
];

async fn every_field_of_a_town_has_a_story(story: Story) {
    have_stories(&story, "towns.gastown.dev", OF_TOWN);
}

async fn every_field_of_an_agent_has_a_story(story: Story) {
    have_stories(&story, "agents.gastown.dev", OF_AGENT);
}

fn have_stories(story: &Story, definition: &str, told: &[(&str, &str)]) {
    let text = story.cluster.kubectl(&["get", "crd", definition, "-o", "json"]);
    let crd: Value = serde_json::from_str(&text).unwrap();
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = BTreeSet::new();
    walk(spec, "", &mut fields);
    assert!(fields.len() > 20, "the definition was read: {fields:?}");

    let told: Vec<_> = told.iter().chain(OF_STORAGE).collect();
    let listed: BTreeSet<String> = told.iter().map(|(field, _)| (*field).to_owned()).collect();
    let untold: Vec<_> = fields.difference(&listed).collect();
    assert!(untold.is_empty(), "{definition}: no story shows what these fields do: {untold:#?}");
    let gone: Vec<_> = listed.difference(&fields).collect();
    assert!(gone.is_empty(), "{definition}: there are no such fields any more: {gone:#?}");

    let tests = sources();
    for (field, name) in told {
        assert!(tests.contains(&format!("fn {name}(")), "{field}: there is no test {name}");
    }
}

/// The paths of the fields below a schema, without the fields of Kubernetes' own types: `rigs[].name`.
fn walk(schema: &Value, path: &str, fields: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, field) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            fields.insert(path.clone());
            // The fields of a pod template belong to Kubernetes.
            if !name.to_lowercase().ends_with("template") {
                walk(field, &path, fields);
            }
        }
    }
    if let Some(items) = schema["items"].as_object() {
        walk(&Value::Object(items.clone()), &format!("{path}[]"), fields);
    }
}

/// The code of all tests.
fn sources() -> String {
    fn read(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for directory in ["tests", "src"] {
        read(&root.join(directory), &mut text);
    }
    text
}
