//! Objects that another version of the operator left.

// Specs are `json!` literals, handed on as they are written.
#![allow(clippy::needless_pass_by_value)]

use serde_json::{Value, json};

use super::{Agent, DestroyStep, ExpiryPolicy, Mode, Retry, Town, crds};

fn town(spec: Value, status: Value) -> Town {
    let object = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": "old", "namespace": "ns"},
        "spec": spec, "status": status,
    });
    serde_json::from_value(object).unwrap()
}

fn agent(spec: Value, status: Value) -> Agent {
    let object = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "old", "namespace": "ns"},
        "spec": spec, "status": status,
    });
    serde_json::from_value(object).unwrap()
}

/// A town as schema revision 1 stored it, with every field that it knew.
fn town_of_revision_1() -> Town {
    let template = json!({"spec": {"containers": [{"name": "main", "image": "busybox"}]}});
    let spec = json!({
        "template": template, "agentTemplate": template,
        "storage": {"size": "1Gi", "storageClassName": "fast", "accessModes": ["ReadWriteOnce"]},
        "rigs": [{"name": "core"}], "suspend": true, "sleepAfter": "10m", "alwaysOn": true,
        "drain": {"timeout": "1m"}, "wakeRequest": "now",
    });
    let status = json!({
        "observedGeneration": 3, "phase": "Idle", "conditions": [], "asleepReason": "Suspended",
        "pod": {"name": "old-1", "uid": "u", "node": "n", "startTime": "2026-01-01T00:00:00Z"},
        "agents": {"total": 0, "working": 0, "waiting": 0, "stuck": 0, "failed": 0, "summary": "0/0"},
        "lastActiveTime": "2026-01-01T00:00:00Z", "wakeTime": "2026-01-01T00:00:00Z",
        "sleepTime": "2026-01-01T00:00:00Z", "drainTime": "2026-01-01T00:00:00Z",
        "handledWakeRequest": "now", "storage": {"claim": "old-1", "uid": "u"},
        "restarts": {"count": 1, "windowStartTime": "2026-01-01T00:00:00Z"},
        "destroy": {"startTime": "2026-01-01T00:00:00Z", "step": "Drain"},
    });
    town(spec, status)
}

#[test]
fn town_of_an_older_version_has_defaults_for_newer_fields() {
    let old = town_of_revision_1();
    let (spec, status) = (old.spec, old.status.unwrap());
    assert_eq!((spec.alarm.active.to_string(), spec.alarm.idle.to_string()), ("5s".into(), "60s".into()));
    assert_eq!((spec.backlog.merge_requests, spec.backlog.triage, spec.backlog.unassigned), (0, 0, 0));
    assert_eq!((spec.ports, spec.activity_probe, spec.expiry), (vec![], None, None));
    let rig = &spec.rigs[0];
    assert_eq!((rig.branch(), rig.max_polecats(), &rig.git_url), ("main", 8, &None));
    assert_eq!(rig.credentials_secret_name, None);
    let storage = spec.storage.unwrap();
    assert!(!storage.is_retained() && storage.existing_claim_name.is_none() && storage.data_source.is_none());
    assert_eq!((status.idle_time, status.attach_time, status.usage), (None, None, None));
    assert_eq!((status.activity_unknown_time, status.service), (None, None));
    assert_eq!(status.pod.unwrap().container_restarts, 0);
}

#[test]
fn agent_of_an_older_version_has_defaults_for_newer_fields() {
    let spec = json!({
        "townName": "old", "role": "Polecat", "rig": "core", "identity": "ada", "mode": "Task",
        "hook": {"bead": "b", "title": "t", "instructions": "i"}, "storage": {"size": "1Gi"},
        "retry": {"limit": 3, "window": "10m"},
    });
    let status = json!({
        "observedGeneration": 1, "phase": "Failed", "mode": "Task", "identity": "ada", "conditions": [],
        "pod": {"startTime": "2026-01-01T00:00:00Z"},
        "work": {"bead": "b", "attempts": 3, "outcome": "Failed", "message": "m", "done": ["a"]},
        "storage": {"claim": "old-2"},
    });
    let old = agent(spec, status);
    assert_eq!((old.spec.activity_probe, old.spec.ttl_after_finished), (None, None));
    let status = old.status.unwrap();
    assert_eq!((status.last_activity_time, status.restarts, status.destroy), (None, None, None));
    assert_eq!(status.work.unwrap().window_start_time, None);
}

#[test]
fn object_with_few_fields_has_the_defaults_of_the_schema() {
    let bare = town(json!({}), json!({}));
    assert_eq!(
        (bare.spec.sleep_after.to_string(), bare.spec.drain.timeout.to_string()),
        ("30m".into(), "2m".into())
    );
    assert!(!bare.spec.suspend && !bare.spec.always_on && bare.spec.rigs.is_empty());
    assert!(!bare.spec.deletion_protection);
    let half =
        town(json!({"alarm": {"active": "7s"}, "expiry": {"time": "2030-01-01T00:00:00Z"}}), json!({}));
    assert_eq!(half.spec.alarm.idle.to_string(), "60s");
    assert_eq!(half.spec.expiry.unwrap().policy, ExpiryPolicy::Sleep);
    let bare = agent(json!({"townName": "t", "role": "Mayor", "activityProbe": {"port": 80}}), json!({}));
    assert_eq!(bare.spec.retry, Retry::default());
    assert_eq!((bare.spec.mode, bare.spec.activity_probe.unwrap().path.as_str()), (None, "/activity"));
}

#[test]
fn fields_of_a_newer_version_are_ignored() {
    let town =
        town(json!({"weather": "fine", "rigs": [{"name": "core", "color": "red"}]}), json!({"mood": 1}));
    assert_eq!(town.spec.rigs[0].name, "core");
    let agent =
        agent(json!({"townName": "t", "role": "Crew", "mode": "Task", "placement": "OwnPod"}), json!({}));
    assert_eq!(agent.spec.mode, Some(Mode::Task));
}

#[test]
fn town_is_equal_after_it_is_written_and_read_again() {
    let old = town_of_revision_1();
    let again: Town = serde_json::from_value(serde_json::to_value(&old).unwrap()).unwrap();
    assert_eq!(again, old);
}

// A4 of the review of the API: an older operator reads what a newer one wrote.
#[test]
fn object_with_unknown_words_in_its_status_can_be_read() {
    let destroy = json!({"startTime": "2026-01-01T00:00:00Z", "step": "Bury"});
    let town =
        town(json!({}), json!({"asleepReason": "OwnerSuspended", "phase": "Dreaming", "destroy": destroy}));
    let status = town.status.unwrap();
    assert_eq!((status.asleep_reason, status.phase.as_deref()), (None, Some("Dreaming")));
    assert_eq!(status.destroy.unwrap().step, DestroyStep::Tombstone);
    let work = json!({"bead": "b", "attempts": 1, "outcome": "Postponed"});
    let agent = agent(json!({"townName": "t", "role": "Crew"}), json!({"mode": "Batch", "work": work}));
    let status = agent.status.unwrap();
    assert_eq!((status.mode, status.work.unwrap().outcome), (None, None));
}

/// Visits each node of the schemas of all kinds, with its path.
fn visit(each: &mut dyn FnMut(&str, &Value)) {
    fn walk(path: &str, schema: &Value, each: &mut dyn FnMut(&str, &Value)) {
        each(path, schema);
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), inner, each);
        }
        for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if schema[key].is_object() {
                walk(&format!("{path}{mark}"), &schema[key], each);
            }
        }
    }
    for crd in crds().unwrap() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        walk(&crd.spec.names.kind, &schema["openAPIV3Schema"], each);
    }
}

// A4: the schema of a status must not refuse what a newer operator wrote.
#[test]
fn status_schema_of_towns_and_agents_has_no_enum() {
    visit(&mut |path, schema| {
        let of_core = path.contains(".conditions[]");
        let ours = path.starts_with("Town.status") || path.starts_with("Agent.status");
        assert!(!ours || of_core || schema["enum"].is_null(), "{path}");
    });
}

// A2 of the review of the API: a tool that compares a list as a whole sees each default in it as a difference.
#[test]
fn schema_has_no_default_inside_a_list_except_the_protocol_of_ports() {
    let mut protocols = 0;
    visit(&mut |path, schema| {
        // In a template it is a key of the list, which a list map must default.
        if path.ends_with("[].ports[].protocol") {
            protocols += 1;
            assert_eq!(schema["default"], "TCP", "{path}");
        } else {
            assert!(!path.contains("[]") || schema["default"].is_null(), "{path}");
        }
    });
    assert_eq!(protocols, 6, "containers and init containers of three templates");
}

// A1 of the review of the API.
#[test]
fn template_lists_have_a_merge_type_and_list_map_keys_have_a_value() {
    visit(&mut |path, schema| {
        if schema["type"] != "array" || path.starts_with("Tombstone") {
            return;
        }
        let kind = schema["x-kubernetes-list-type"].as_str();
        if path.contains("emplate.spec") {
            assert!(kind.is_some(), "{path}");
            assert!(schema["maxItems"].is_number(), "{path} has no bound");
        }
        for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
            let item = &schema["items"];
            let required = item["required"].as_array().into_iter().flatten().any(|name| name == key);
            let default = &item["properties"][key.as_str().unwrap()]["default"];
            assert!(required || !default.is_null(), "{path}: {key}");
        }
    });
}

#[test]
fn default_status_of_a_new_object_counts_as_no_status() {
    for crd in crds().unwrap().iter().take(2) {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let default = schema["openAPIV3Schema"]["properties"]["status"]["default"].clone();
        assert_eq!(default["observedGeneration"], -1);
        assert!(default["conditions"].as_array().unwrap().iter().all(|c| c["status"] == "Unknown"));
        if crd.spec.names.kind == "Town" {
            assert_eq!(town(json!({}), default).observed().status, None);
        } else {
            assert_eq!(agent(json!({"townName": "t", "role": "Crew"}), default).observed().status, None);
        }
    }
    let seen = town(json!({}), json!({"observedGeneration": 1}));
    assert_eq!(seen.clone().observed(), seen);
}

/// Whether a path is inside of an embedded pod template, or of a condition: those descriptions are Kubernetes' own.
fn is_of_core(path: &str) -> bool {
    let names: Vec<_> = path.split('.').collect();
    let template = names.iter().position(|name| matches!(*name, "template" | "agentTemplate"));
    template.is_some_and(|at| at + 1 < names.len()) || path.contains(".conditions[]")
}

// Decisions, section 2: `kubectl explain` is documentation.
#[test]
fn field_description_names_its_values_default_and_bounds() {
    let mut faults = Vec::new();
    visit(&mut |path, schema| {
        let name = path.rsplit('.').next().unwrap().trim_end_matches("[]").trim_end_matches("{}");
        let is_field = path.matches('.').count() >= 1 && !path.ends_with("[]") && !path.ends_with("{}");
        let own = ["apiVersion", "kind", "metadata"].contains(&name) && path.matches('.').count() == 1;
        if !is_field || own || is_of_core(path) {
            return;
        }
        let text = schema["description"].as_str().unwrap_or_default();
        let mut fault = |what: String| faults.push(format!("{path}: {what}: {text:?}"));
        // The description of spec and status is that of the type.
        let of_type = matches!(name, "spec" | "status") && path.matches('.').count() == 1;
        if !of_type && !text.starts_with(&format!("{name} ")) {
            fault("it does not start with the name of the field".into());
        }
        if !text.ends_with('.') {
            fault("it is no full sentence".into());
        }
        for value in schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !text.contains(value) {
                fault(format!("the value {value} is missing"));
            }
        }
        let default = &schema["default"];
        let trivial = default.is_null() || default.is_object() || path.contains(".status");
        if !trivial && !text.to_lowercase().contains("default") {
            fault("the default is missing".into());
        }
        for bound in ["minimum", "maximum"] {
            if let Some(bound) = schema[bound].as_f64().filter(|bound| *bound > 1.0)
                && !text.replace(',', "").contains(&format!("{bound}"))
            {
                fault(format!("the bound {bound} is missing"));
            }
        }
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
