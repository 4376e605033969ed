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
    ("storage.accessModes", "a_claim_is_what_storage_asks_for"),
    ("storage.dataSource", "a_volume_may_start_from_another"),
    ("storage.dataSource.apiGroup", "a_volume_may_start_from_another"),
    ("storage.dataSource.kind", "a_volume_may_start_from_another"),
    ("storage.dataSource.name", "a_volume_may_start_from_another"),
    ("storage.annotations", "claim_follows_the_labels_and_annotations_of_the_spec"),
    ("storage.labels", "claim_follows_the_labels_and_annotations_of_the_spec"),
    ("storage.existingClaimName", "a_claim_that_exists_is_used_and_never_deleted"),
    ("storage.retainPolicy", "a_retained_volume_stays_and_is_nobodys"),
    ("storage.size", "a_claim_is_what_storage_asks_for"),
    ("storage.storageClassName", "a_claim_is_what_storage_asks_for"),
];

/// Each field of a town, and the test of its effect.
const OF_TOWN: &[(&str, &str)] = &[
    ("activityProbe", "the_token_is_made_once_and_goes_with_its_town"),
    ("activityProbe.path", "what_a_pod_reports_keeps_its_town_awake"),
    ("activityProbe.port", "what_a_pod_reports_keeps_its_town_awake"),
    ("activityProbe.tokenSecretName", "a_secret_that_is_missing_is_named_and_waited_for"),
    ("agentTemplate", "an_agent_without_a_template_says_so"),
    ("alarm", "alarm_is_how_often_a_pod_is_asked"),
    ("alarm.active", "alarm_is_how_often_a_pod_is_asked"),
    ("alarm.idle", "alarm_is_how_often_a_pod_is_asked"),
    ("alwaysOn", "an_always_on_town_never_sleeps"),
    ("backlog", "each_kind_of_backlog_wakes_a_town_and_keeps_it_awake"),
    ("backlog.mergeRequests", "each_kind_of_backlog_wakes_a_town_and_keeps_it_awake"),
    ("backlog.triage", "each_kind_of_backlog_wakes_a_town_and_keeps_it_awake"),
    ("backlog.unassigned", "each_kind_of_backlog_wakes_a_town_and_keeps_it_awake"),
    ("deletionProtection", "a_protected_town_sleeps_at_its_expiry_and_goes_once_nothing_protects_it"),
    ("drain", "suspending_lets_agents_finish"),
    ("drain.timeout", "drain_ends_at_its_bound"),
    ("expiry", "expiry_at_puts_a_town_to_sleep_whatever_its_work"),
    ("expiry.time", "expiry_at_puts_a_town_to_sleep_whatever_its_work"),
    ("expiry.policy", "expiry_policy_destroy_leaves_nothing"),
    ("ports", "ports_are_offered_by_a_service_that_follows_them"),
    ("ports[].appProtocol", "service_offers_each_port_as_the_spec_says"),
    ("ports[].name", "ports_are_offered_by_a_service_that_follows_them"),
    ("ports[].port", "ports_are_offered_by_a_service_that_follows_them"),
    ("ports[].protocol", "service_offers_each_port_as_the_spec_says"),
    ("ports[].targetPort", "service_offers_each_port_as_the_spec_says"),
    ("rigs", "an_agent_waits_for_its_rig"),
    ("rigs[].branch", "a_town_may_have_two_hundred_rigs"),
    ("rigs[].credentialsSecretName", "the_credentials_of_a_rig_are_waited_for"),
    ("rigs[].gitUrl", "a_town_may_have_two_hundred_rigs"),
    ("rigs[].maxPolecats", "max_polecats_may_be_raised_and_lowered"),
    ("rigs[].name", "an_agent_waits_for_its_rig"),
    ("sleepAfter", "sleep_after_may_change_and_wakes_nobody"),
    ("storage", "a_town_gets_a_pod_and_a_volume"),
    ("suspend", "a_suspended_town_sleeps_whatever_the_work"),
    ("template", "a_template_that_changes_while_a_town_is_idle_is_used_at_once"),
    ("tombstone", "a_record_goes_when_its_time_has_come_and_nothing_is_left"),
    ("tombstone.recreate", "a_name_that_was_destroyed_may_be_refused_and_says_until_when"),
    ("tombstone.retention", "a_record_goes_when_its_time_has_come_and_nothing_is_left"),
    ("wakeRequest", "a_town_that_is_woken_is_not_put_back_to_sleep_at_once"),
];

/// Each field of an agent, and the test of its effect.
const OF_AGENT: &[(&str, &str)] = &[
    ("activityProbe", "an_agent_has_a_token_of_its_own_that_goes_with_it"),
    ("activityProbe.path", "a_session_agent_speaks_for_itself"),
    ("activityProbe.port", "a_session_agent_speaks_for_itself"),
    ("activityProbe.tokenSecretName", "a_session_agent_speaks_for_itself"),
    ("hook", "a_polecat_without_a_bead_has_no_pod"),
    ("hook.bead", "a_polecat_works_and_is_done"),
    ("hook.instructions", "what_is_to_be_done_arrives_whole"),
    ("hook.title", "what_is_to_be_done_arrives_whole"),
    ("identity", "a_session_agent_lives_with_its_town_and_gets_its_hook"),
    ("mode", "mode_wins_over_role"),
    ("retry", "past_its_limit_an_agent_is_failed_and_wakes_nobody"),
    ("retry.limit", "past_its_limit_an_agent_is_failed_and_wakes_nobody"),
    ("retry.window", "retry_window_is_when_a_failed_agent_is_tried_again"),
    ("rig", "a_rig_has_one_refinery"),
    ("role", "a_town_has_one_mayor"),
    ("storage", "a_polecat_works_and_is_done"),
    ("template", "a_broken_image_that_is_mended_is_used_at_once"),
    ("townName", "an_agent_waits_for_its_town"),
    ("ttlAfterFinished", "ttl_after_finished_ends_an_agent_that_is_done_or_has_failed"),
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
