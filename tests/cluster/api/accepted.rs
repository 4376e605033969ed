//! Specs that the API server accepts, with their defaults and removed fields.

use std::collections::BTreeSet;

use kube::Resource;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use town_operator::api::{Agent, Town};

use super::{condition, merged, read, try_create};
use crate::common::story::{Story, template};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.on_the_api(good_towns_and_agents_are_accepted);
    stories.on_the_api(defaults_show_on_read);
    stories.on_the_api(null_fields_are_treated_as_absent);
    stories.on_the_api(accepted_objects_can_be_decoded_by_the_operator);
    stories.on_the_api(unknown_fields_are_not_stored_by_client_or_server_side_apply);
    stories.on_the_api(status_sent_with_a_create_is_dropped);
    stories.on_the_api(crds_apply_twice_without_changes_or_warnings);
    stories.on_the_api_without_operator(new_object_has_every_condition_with_status_unknown);
    stories.on_the_api(two_managers_of_a_template_do_not_undo_each_other);
    stories.on_the_api_without_operator(two_writers_of_conditions_do_not_undo_each_other);
}

async fn good_towns_and_agents_are_accepted(story: Story) {
    let stored = |storage: Value| json!({"template": template(), "storage": storage});
    let town = |spec: Value| (Town::kind(&()).into_owned(), spec);
    let agent = |more: Value| {
        (Agent::kind(&()).into_owned(), merged(json!({"townName": "t", "role": "Mayor"}), more))
    };
    let templated = |more: Value| merged(json!({"template": template()}), more);
    let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "monday"});
    let ports: Vec<Value> = (1..33).map(|n| json!({"name": format!("p{n}"), "port": n})).collect();
    let urls = [
        "https://git.test/a",
        "https://git.test:8443/a:b@c",
        "ssh://git@git.test:22/a",
        "git@git.test:a",
        "/srv/a",
    ];
    let rig = |(n, url)| json!({"name": format!("r{n}"), "gitUrl": url});
    let rigs: Vec<Value> = urls.iter().enumerate().map(rig).collect();
    let mut restarting = template();
    restarting["spec"]["restartPolicy"] = "Always".into();
    let good = [
        town(json!({})),
        town(json!({"sleepAfter": "10s"})),
        town(json!({"sleepAfter": "10000ms"})),
        town(json!({"sleepAfter": "720h"})),
        town(json!({"sleepAfter": "1h30m"})),
        town(json!({"sleepAfter": "0.5h"})),
        town(json!({"drain": {"timeout": "0s"}})),
        town(json!({"drain": {"timeout": "1h"}})),
        town(json!({"drain": {}})),
        town(json!({"template": template(), "agentTemplate": template()})),
        town(stored(json!({"size": "1Gi"}))),
        town(stored(json!({"size": 1}))),
        town(stored(json!({"size": "0.5", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]}))),
        town(stored(json!({"size": "1Gi", "retainPolicy": "Retain"}))),
        town(stored(json!({"size": "1Gi", "dataSource": {"kind": "PersistentVolumeClaim", "name": "old"}}))),
        town(stored(json!({"size": "1Gi", "dataSource": snapshot}))),
        town(stored(json!({"existingClaimName": "theirs"}))),
        town(templated(json!({"ports": [{"name": "http", "port": 1}, {"name": "1", "port": 65535}]}))),
        town(templated(json!({"ports": ports}))),
        town(templated(
            json!({"activityProbe": {"port": 65535, "path": "/a?b=c", "tokenSecretName": "mine.too"}}),
        )),
        town(json!({"rigs": rigs})),
        town(json!({"rigs": [{"name": "a", "maxPolecats": 0, "branch": "feature/ünïcode"}]})),
        town(json!({"rigs": [{"name": "a", "maxPolecats": 1000, "credentialsSecretName": "deploy.key"}]})),
        town(json!({"backlog": {"mergeRequests": 0, "triage": 2_147_483_647, "unassigned": 1}})),
        town(json!({"alarm": {"active": "1s", "idle": "5s"}})),
        town(json!({"alarm": {"active": "10m", "idle": "1h"}})),
        town(json!({"expiry": {"time": "2001-01-01T00:00:00Z"}})),
        town(json!({"expiry": {"time": "2030-02-03T04:05:06.789+05:30", "policy": "Destroy"}})),
        town(json!({"rigs": (0..200).map(|n| json!({"name": format!("r{n}")})).collect::<Vec<_>>()})),
        town(json!({"rigs": [{"name": "a".repeat(63)}], "wakeRequest": "x".repeat(253)})),
        town(json!({"suspend": true, "alwaysOn": true})),
        agent(json!({})),
        agent(json!({"role": "Crew", "rig": "core"})),
        agent(json!({"role": "Polecat", "rig": "core"})),
        agent(json!({"role": "Refinery", "rig": "core", "mode": "Session"})),
        agent(json!({"townName": "with.dots", "identity": "Ada Lovelace"})),
        agent(json!({"mode": "Session", "template": restarting})),
        agent(json!({"hook": {"bead": "b", "title": "é".repeat(1024), "instructions": "i".repeat(65536)}})),
        agent(json!({"hook": {"bead": "b", "title": "修复构建 🛠", "instructions": "𝕏".repeat(16384)}})),
        agent(json!({"hook": {"bead": "b", "instructions": "one\ttwo\r\nthree\u{7f}"}})),
        agent(json!({"activityProbe": {"port": 1}})),
        agent(json!({"role": "Polecat", "rig": "core", "mode": "Session", "activityProbe": {"port": 80}})),
        agent(json!({"role": "Polecat", "rig": "core", "ttlAfterFinished": "0s"})),
        agent(json!({"mode": "Task", "ttlAfterFinished": "8760h"})),
        agent(json!({"storage": {"existingClaimName": "theirs"}})),
        agent(json!({"retry": {"limit": 1, "window": "1m"}})),
        agent(json!({"retry": {"limit": 100, "window": "24h"}})),
        agent(json!({"storage": {"size": "10Gi", "accessModes": ["ReadWriteOncePod"]}})),
    ];
    let mut refused = Vec::new();
    for (kind, spec) in good {
        let outcome = if kind == "Town" {
            try_create::<Town>(&story, &spec).await
        } else {
            try_create::<Agent>(&story, &spec).await
        };
        if let Err(message) = outcome {
            refused.push(format!("{kind} {spec}: {message}"));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// The spec of a town without optional fields.
fn bare_town() -> Value {
    json!({
        "sleepAfter": "30m",
        "suspend": false,
        "alwaysOn": false,
        "deletionProtection": false,
        "tombstone": {"retention": "168h", "recreate": "Allow"},
        "drain": {"timeout": "2m"},
        "alarm": {"active": "5s", "idle": "60s"},
        "backlog": {"mergeRequests": 0, "triage": 0, "unassigned": 0},
    })
}

async fn defaults_show_on_read(story: Story) {
    story.apply("{apiVersion: gastown.dev/v1alpha1, kind: Town, metadata: {name: bare}, spec: {}}");
    assert_eq!(read::<Town>(&story, "bare").await["spec"], bare_town());

    let manifest = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": "half"},
        "spec": {
            "template": template(), "storage": {"size": "1Gi"}, "rigs": [{"name": "core"}],
            "activityProbe": {"port": 80}, "alarm": {"active": "7s"}, "backlog": {"triage": 1},
            "expiry": {"time": "2100-01-01T00:00:00Z"},
        },
    });
    story.apply(&manifest.to_string());
    let half = &read::<Town>(&story, "half").await["spec"];
    assert_eq!(
        half["rigs"],
        json!([{"name": "core"}]),
        "a default inside a list is a difference to some tools"
    );
    assert_eq!(half["activityProbe"], json!({"port": 80, "path": "/activity"}));
    assert_eq!(half["alarm"], json!({"active": "7s", "idle": "60s"}));
    assert_eq!(half["backlog"], json!({"mergeRequests": 0, "triage": 1, "unassigned": 0}));
    assert_eq!(half["expiry"], json!({"time": "2100-01-01T00:00:00Z", "policy": "Sleep"}));
    assert_eq!(half["storage"], json!({"size": "1Gi"}), "what is absent of storage is absent for good");

    story.create_agent("bare", "bare", json!({"role": "Mayor"})).await;
    let agent = read::<Agent>(&story, "bare").await;
    assert_eq!(
        agent["spec"],
        json!({"townName": "bare", "role": "Mayor", "retry": {"limit": 5, "window": "30m"}}),
        "defaults that depend on the role belong to the status"
    );
    let half = story.create_agent("half", "bare", json!({"role": "Crew", "retry": {"limit": 2}})).await;
    assert_eq!((half.spec.retry.limit, half.spec.retry.window.to_string().as_str()), (2, "30m"));
}

async fn null_fields_are_treated_as_absent(story: Story) {
    story.apply(
        "{apiVersion: gastown.dev/v1alpha1, kind: Town, metadata: {name: nulls},
          spec: {sleepAfter: null, suspended: null, template: null, storage: null, rigs: null, drain: null,
                 ports: null, backlog: null, alarm: {active: null}, activityProbe: null, expiry: null}}",
    );
    assert_eq!(read::<Town>(&story, "nulls").await["spec"], bare_town());
}

/// An operator that cannot decode an object cannot reconcile it. An accepted object must therefore be decodable.
async fn accepted_objects_can_be_decoded_by_the_operator(story: Story) {
    let expiries = [
        "2030-01-01t00:00:00z",
        "2030-01-01T00:00:00.123456789Z",
        "2030-01-01T00:00:00.1234567891Z",
        "2030-01-01T00:00:00,5Z",
        "2030-01-01T00:00:00x5Z",
        "2030-01-01T00:00:00Ztail",
        "2030-01-01T00:00:00+24:00",
        "2030-01-01T00:00:00+25:00",
        "2030-01-01T00:00:00-99:99",
        "2030-01-01T23:59:60Z",
        "2030-01-01T24:00:00Z",
        "2030-02-29T00:00:00Z",
        "0000-01-01T00:00:00+23:00",
        "9998-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
    ];
    let numbers = [i64::from(i32::MAX), i64::from(i32::MAX) + 1, i64::MAX];
    let sizes =
        [json!("1e3"), json!("1E"), json!("999999999999Ei"), json!(i64::MAX), json!("1n"), json!(1.5)];
    let grace =
        |seconds: i64| merged(template(), json!({"spec": {"terminationGracePeriodSeconds": seconds}}));
    let specs = (expiries.iter().map(|at| json!({"expiry": {"time": at}})))
        .chain(numbers.iter().map(|n| json!({"backlog": {"triage": n}})))
        .chain(numbers.iter().map(|n| json!({"rigs": [{"name": "core", "maxPolecats": n}]})))
        .chain(numbers.iter().map(|n| json!({"template": grace(*n)})))
        .chain(sizes.iter().map(|size| json!({"template": template(), "storage": {"size": size}})));
    let mut unread = Vec::new();
    for spec in specs {
        if try_create::<Town>(&story, &spec).await.is_ok() {
            let object = json!({
                "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": "x"},
                "spec": merged(bare_town(), spec.clone()),
            });
            if let Err(error) = serde_json::from_value::<Town>(object) {
                unread.push(format!("{spec}: {error}"));
            }
        }
    }
    assert!(unread.is_empty(), "accepted, and cannot be read:\n{}", unread.join("\n"));
}

async fn unknown_fields_are_not_stored_by_client_or_server_side_apply(story: Story) {
    let manifest = "---
        {apiVersion: gastown.dev/v1alpha1, kind: Town, metadata: {name: newer},
         spec: {sleepAfter: 1h, weather: fine, rigs: [{name: core, color: red}]}}";
    let apply = |side: &str, validate: &str| {
        let arguments = ["apply", side, validate, "-n", &story.namespace, "-f", "-"];
        story.cluster.try_kubectl(&arguments, manifest)
    };
    // Server-side apply has no mere warnings: a field outside of the schema cannot have an owner.
    for validate in ["--validate=strict", "--validate=warn", "--validate=ignore"] {
        let refused = apply("--server-side", validate).unwrap_err();
        assert!(refused.contains("spec.weather: field not declared"), "{validate}: {refused}");
    }
    assert_eq!(story.town("newer").find().await, None);

    apply("--server-side=false", "--validate=warn").unwrap();
    let spec = &read::<Town>(&story, "newer").await["spec"];
    let rigs = json!([{"name": "core"}]);
    assert_eq!(*spec, merged(bare_town(), json!({"sleepAfter": "1h", "rigs": rigs})));
}

async fn status_sent_with_a_create_is_dropped(story: Story) {
    let spec = json!({"sleepAfter": "1h"});
    let forged = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": "forged"},
        "spec": spec, "status": {"phase": "Asleep", "handledWakeRequest": "x"},
    });
    let town: Town = story.create_object(forged).await;
    let status = town.status.unwrap();
    assert_eq!((status.phase, status.handled_wake_request.as_str()), (None, ""));
    story.town("forged").merge(json!({"status": {"phase": "Asleep"}})).await;
    let town = read::<Town>(&story, "forged").await;
    assert_ne!(town["status"]["phase"], "Asleep");
}

async fn crds_apply_twice_without_changes_or_warnings(story: Story) {
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    for _ in 0..2 {
        let said = story.cluster.kubectl(&["apply", "--warnings-as-errors", "-f", crds]);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 3, "one line for each definition: {said}");
        assert!(lines.iter().all(|line| line.ends_with("unchanged")), "{said}");
    }
    for crd in ["towns.gastown.dev", "agents.gastown.dev", "tombstones.gastown.dev"] {
        let conditions = "-o=jsonpath={range .status.conditions[*]}{.type}={.status} {end}";
        let said = story.cluster.kubectl(&["get", "crd", crd, conditions]);
        let said: BTreeSet<&str> = said.split_whitespace().collect();
        assert!(said.contains("Established=True") && !said.contains("NonStructuralSchema=True"), "{said:?}");
    }
}

// P19: kstatus, Helm and Flux take an object without a status for ready.
async fn new_object_has_every_condition_with_status_unknown(story: Story) {
    story.create_town("new", json!({})).await;
    story.create_agent("new", "new", json!({"role": "Crew"})).await;
    for (status, types) in [
        (read::<Town>(&story, "new").await["status"].take(), &town_operator::api::condition::OF_TOWN[..]),
        (read::<Agent>(&story, "new").await["status"].take(), &town_operator::api::condition::OF_AGENT[..]),
    ] {
        assert_eq!(status["observedGeneration"], -1);
        let conditions = status["conditions"].as_array().unwrap();
        let shown: Vec<_> = conditions.iter().map(|c| c["type"].as_str().unwrap()).collect();
        assert_eq!(shown, types);
        assert!(conditions.iter().all(|c| c["status"] == "Unknown"), "{conditions:?}");
    }
}

// A1 of the review of the API.
async fn two_managers_of_a_template_do_not_undo_each_other(story: Story) {
    let apply = |manager: &str, spec: Value| {
        let town = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": "shared"},
            "spec": {"template": {"spec": spec}}});
        let manager = format!("--field-manager={manager}");
        let arguments =
            ["apply", "--server-side", "--force-conflicts", &manager, "-n", &story.namespace, "-f", "-"];
        story.cluster.try_kubectl(&arguments, &town.to_string()).unwrap();
    };
    let env = |name: &str| json!([{"name": name, "value": "1"}]);
    let main = json!({"name": "main", "image": "one", "env": env("A"), "ports": [{"containerPort": 80}]});
    apply("person", json!({"containers": [main], "volumes": [{"name": "a", "emptyDir": {}}]}));
    apply("updater", json!({"containers": [{"name": "main", "image": "two"}]}));
    let more = json!({"name": "main", "env": env("B"), "ports": [{"containerPort": 80, "protocol": "UDP"}]});
    let side = json!({"name": "side", "image": "three"});
    apply("policy", json!({"containers": [more, side], "volumes": [{"name": "b", "emptyDir": {}}]}));
    let spec = &read::<Town>(&story, "shared").await["spec"]["template"]["spec"];
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&spec["containers"]), ["main", "side"]);
    assert_eq!(names(&spec["volumes"]), ["a", "b"]);
    let main = &spec["containers"][0];
    assert_eq!((main["image"].as_str(), names(&main["env"])), (Some("two"), vec!["A".into(), "B".into()]));
    let ports: Vec<_> =
        main["ports"].as_array().unwrap().iter().map(|port| port["protocol"].clone()).collect();
    assert_eq!(ports, ["TCP", "UDP"]);
}

async fn two_writers_of_conditions_do_not_undo_each_other(story: Story) {
    story.create_town("alpha", json!({})).await;
    for kind in ["Ready", "Weather"] {
        let status = json!({
            "apiVersion": "gastown.dev/v1alpha1", "kind": "Town",
            "status": {"conditions": [condition(kind, "True", "Said")]},
        });
        let params = PatchParams::apply(&format!("writer-of-{kind}"));
        story.api::<Town>().patch_status("alpha", &params, &Patch::Apply(status)).await.unwrap();
    }
    let town = story.town("alpha").get().await;
    let said = town.status.unwrap().conditions.into_iter().filter(|c| c.reason == "Said");
    let kinds: Vec<String> = said.map(|c| c.type_).collect();
    assert_eq!(kinds, ["Ready", "Weather"]);
}
