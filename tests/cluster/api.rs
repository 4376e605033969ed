//! The API that users meet: what is refused and with which words, what is filled in, how kubectl shows it.

use std::collections::BTreeSet;

use kube::Resource;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use town_operator::api::{Agent, Town, condition};

use crate::common::seen::Kind;
use crate::common::story::{Story, template};
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.on_the_api(bad_towns_are_refused);
    stories.on_the_api(bad_agents_are_refused);
    stories.on_the_api(good_towns_and_agents_are_accepted);
    stories.on_the_api(what_is_set_for_good_can_be_neither_changed_nor_removed);
    stories.on_the_api(what_may_change_can_be_changed);
    stories.on_the_api(defaults_show_on_read);
    stories.on_the_api(a_null_is_as_if_it_were_not_there);
    stories.on_the_api(unknown_fields_are_refused_by_name);
    stories.on_the_api(a_status_sent_with_a_create_is_dropped);
    stories.on_the_api(the_definitions_apply_plainly_twice_and_without_warnings);
    stories.on_the_api(kubectl_get_has_the_columns);
    stories.on_the_api(kubectl_explain_reads_well);
    stories.on_the_api_without_operator(kubectl_get_and_describe_show_the_status);
    stories.on_the_api_without_operator(field_selectors_find_towns_and_agents);
    stories.on_the_api_without_operator(kubectl_wait_knows_every_condition);
    stories.on_the_api_without_operator(two_writers_of_conditions_do_not_undo_each_other);
}

/// What everybody is told who writes a duration that is none.
const HOW: &str = "written like 90s or 1h30m";

/// What a bad spec must be told: fragments of the message, which name the field and what is allowed.
type Refusals<'a> = Vec<(Value, &'a [&'a str])>;

async fn bad_towns_are_refused(story: Story) {
    let stored = |storage: Value| json!({"template": template(), "storage": storage});
    let templated = |spec: Value| json!({"template": {"spec": spec}});
    let long = "x".repeat(254);
    let table: Refusals = vec![
        (json!({"sleepAfter": "9s"}), &["spec.sleepAfter", "\"9s\"", "from 10s to 720h", HOW]),
        (json!({"sleepAfter": "9999ms"}), &["spec.sleepAfter", "\"9999ms\"", "from 10s to 720h"]),
        (json!({"sleepAfter": "721h"}), &["spec.sleepAfter", "\"721h\"", "from 10s to 720h"]),
        (json!({"sleepAfter": "720h0.001s"}), &["spec.sleepAfter", "from 10s to 720h"]),
        (json!({"sleepAfter": "1 day"}), &["spec.sleepAfter", "\"1 day\"", "from 10s to 720h", HOW]),
        (json!({"sleepAfter": "1d"}), &["spec.sleepAfter", "\"1d\"", HOW]),
        (json!({"sleepAfter": "5"}), &["spec.sleepAfter", "\"5\"", HOW]),
        (json!({"sleepAfter": 600}), &["spec.sleepAfter", "must be of type string", "integer"]),
        (json!({"sleepAfter": ""}), &["spec.sleepAfter", HOW]),
        (json!({"sleepAfter": "-5m"}), &["spec.sleepAfter", "\"-5m\"", HOW]),
        (json!({"sleepAfter": "9999999999999999999999h"}), &["spec.sleepAfter", "from 10s to 720h"]),
        (json!({"sleepAfter": format!("{}s", "9".repeat(32))}), &["spec.sleepAfter", "not be more than 32"]),
        (json!({"drain": {"timeout": "61m"}}), &["spec.drain.timeout", "\"61m\"", "from 0s to 1h", HOW]),
        (json!({"drain": {"timeout": "0"}}), &["spec.drain.timeout", "\"0\"", "ms|s|m|h"]),
        (json!({"storage": {"size": "1Gi"}}), &["spec.storage needs spec.template"]),
        (stored(json!({"size": "0"})), &["spec.storage.size", "greater than 0, for example 1Gi"]),
        (stored(json!({"size": 0})), &["spec.storage.size", "greater than 0, for example 1Gi"]),
        (stored(json!({"size": "-1Gi"})), &["spec.storage.size", "-1Gi", "greater than 0, for example 1Gi"]),
        (stored(json!({"size": "big"})), &["spec.storage.size", "for example 1Gi"]),
        (stored(json!({})), &["spec.storage.size", "Required value"]),
        (
            stored(json!({"size": "1Gi", "accessModes": ["ReadOnlyMany"]})),
            &[
                "spec.storage.accessModes[0]",
                "ReadOnlyMany",
                "ReadWriteOnce",
                "ReadWriteOncePod",
                "ReadWriteMany",
            ],
        ),
        (stored(json!({"size": "1Gi", "accessModes": []})), &["spec.storage.accessModes", "at least 1"]),
        (
            stored(json!({"size": "1Gi", "storageClassName": ""})),
            &["spec.storage.storageClassName", "at least 1"],
        ),
        (json!({"rigs": [{"name": "Core"}]}), &["spec.rigs[0].name", "\"Core\"", "[a-z0-9]"]),
        (json!({"rigs": [{"name": "a".repeat(64)}]}), &["spec.rigs[0].name", "63"]),
        (json!({"rigs": [{}]}), &["spec.rigs[0].name", "Required value"]),
        (json!({"rigs": [{"name": "a"}, {"name": "a"}]}), &["spec.rigs[1]", "Duplicate value", "\"a\""]),
        (
            json!({"rigs": (0..201).map(|n| json!({"name": format!("r{n}")})).collect::<Vec<_>>()}),
            &["spec.rigs", "200"],
        ),
        (json!({"wakeRequest": long}), &["spec.wakeRequest", "253"]),
        (json!({"suspended": "yes"}), &["spec.suspended", "boolean"]),
        (json!({"alwaysOn": 1}), &["spec.alwaysOn", "boolean"]),
        (json!({"template": {}}), &["spec.template.spec", "Required value"]),
        (templated(json!({})), &["spec.template.spec.containers", "Required value"]),
        (templated(json!({"containers": []})), &["spec.template.spec.containers", "at least 1"]),
        (
            templated(json!({"containers": [{"image": "i"}]})),
            &["spec.template.spec.containers[0].name", "Required"],
        ),
        (
            templated(json!({"containers": [{"name": "m"}], "restartPolicy": "Sometimes"})),
            &["spec.template.spec.restartPolicy", "Sometimes", "Always", "OnFailure", "Never"],
        ),
        (json!({"agentTemplate": {"spec": {}}}), &["spec.agentTemplate.spec.containers", "Required value"]),
    ];
    all_are_refused::<Town>(&story, table).await;
}

async fn bad_agents_are_refused(story: Story) {
    let agent = |more: Value| merged(json!({"town": "t", "role": "mayor"}), more);
    let polecat = |more: Value| merged(json!({"town": "t", "role": "polecat", "rig": "r"}), more);
    let restarting = |policy: &str| {
        let mut template = template();
        template["spec"]["restartPolicy"] = policy.into();
        json!({"template": template})
    };
    let task = restarting("Always");
    let never = &["spec.template.spec.restartPolicy must be Never, or absent", "mode Task"];
    let needs_rig = &["spec.rig is required for the roles refinery and polecat", "one of the town's rigs"];
    let table: Refusals = vec![
        (json!({"role": "mayor"}), &["spec.town", "Required value"]),
        (json!({"town": "t"}), &["spec.role", "Required value"]),
        (agent(json!({"town": ""})), &["spec.town", "at least 1"]),
        (agent(json!({"town": "My_Town"})), &["spec.town", "\"My_Town\"", "[a-z0-9]"]),
        (agent(json!({"town": "t".repeat(254)})), &["spec.town", "253"]),
        (agent(json!({"role": "boss"})), &["spec.role", "\"boss\"", "mayor", "refinery", "polecat", "crew"]),
        (agent(json!({"role": "polecat"})), needs_rig),
        (agent(json!({"role": "refinery"})), needs_rig),
        (agent(json!({"rig": "Core"})), &["spec.rig", "\"Core\"", "[a-z0-9]"]),
        (agent(json!({"rig": "r".repeat(64)})), &["spec.rig", "63"]),
        (agent(json!({"identity": ""})), &["spec.identity", "at least 1"]),
        (agent(json!({"identity": "i".repeat(254)})), &["spec.identity", "253"]),
        (agent(json!({"mode": "Batch"})), &["spec.mode", "\"Batch\"", "Task", "Session"]),
        (agent(json!({"hook": {}})), &["spec.hook.bead", "Required value"]),
        (agent(json!({"hook": {"bead": ""}})), &["spec.hook.bead", "at least 1"]),
        (agent(json!({"hook": {"bead": "b".repeat(254)}})), &["spec.hook.bead", "253"]),
        (agent(json!({"hook": {"bead": "b", "title": "t".repeat(1025)}})), &["spec.hook.title", "1024"]),
        (
            agent(json!({"hook": {"bead": "b", "instructions": "i".repeat(65537)}})),
            &["spec.hook.instructions", "65536"],
        ),
        (agent(json!({"retry": {"limit": 0}})), &["spec.retry.limit", "greater than or equal to 1"]),
        (agent(json!({"retry": {"limit": 101}})), &["spec.retry.limit", "less than or equal to 100"]),
        (agent(json!({"retry": {"window": "59s"}})), &["spec.retry.window", "\"59s\"", "from 1m to 24h"]),
        (agent(json!({"retry": {"window": "25h"}})), &["spec.retry.window", "\"25h\"", "from 1m to 24h"]),
        (agent(json!({"retry": {"window": "1 day"}})), &["spec.retry.window", "\"1 day\"", "1h30m"]),
        (agent(json!({"storage": {"size": "0"}})), &["spec.storage.size", "greater than 0"]),
        (agent(json!({"template": {}})), &["spec.template.spec", "Required value"]),
        (agent(merged(json!({"mode": "Task"}), task)), never),
        (polecat(restarting("OnFailure")), never),
    ];
    all_are_refused::<Agent>(&story, table).await;
}

async fn good_towns_and_agents_are_accepted(story: Story) {
    let stored = |storage: Value| json!({"template": template(), "storage": storage});
    let town = |spec: Value| (Town::kind(&()).into_owned(), spec);
    let agent =
        |more: Value| (Agent::kind(&()).into_owned(), merged(json!({"town": "t", "role": "mayor"}), more));
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
        town(json!({"rigs": (0..200).map(|n| json!({"name": format!("r{n}")})).collect::<Vec<_>>()})),
        town(json!({"rigs": [{"name": "a".repeat(63)}], "wakeRequest": "x".repeat(253)})),
        town(json!({"suspended": true, "alwaysOn": true})),
        agent(json!({})),
        agent(json!({"role": "crew", "rig": "core"})),
        agent(json!({"role": "polecat", "rig": "core"})),
        agent(json!({"role": "refinery", "rig": "core", "mode": "Session"})),
        agent(json!({"town": "with.dots", "identity": "Ada Lovelace"})),
        agent(json!({"mode": "Session", "template": restarting})),
        agent(json!({"hook": {"bead": "b", "title": "é".repeat(1024), "instructions": "i".repeat(65536)}})),
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

async fn what_is_set_for_good_can_be_neither_changed_nor_removed(story: Story) {
    let storage = json!({"size": "1Gi"});
    story.create_town("stored", json!({"template": template(), "storage": storage})).await;
    let whole = json!({"role": "crew", "identity": "ada", "storage": storage, "mode": "Session"});
    story.create_agent("whole", "stored", whole).await;
    story.create_agent("by-role", "stored", json!({"role": "polecat", "rig": "r"})).await;

    let town = |spec: Value| patch::<Town>(&story, "stored", json!({"spec": spec}));
    let agent = |spec: Value| patch::<Agent>(&story, "whole", json!({"spec": spec}));
    let by_role = |spec: Value| patch::<Agent>(&story, "by-role", json!({"spec": spec}));
    let stays = "cannot be changed or removed once it is set";
    let mode = &["spec.mode cannot be changed", "make a new agent"];
    let table: [(Result<(), String>, &[&str]); 12] = [
        (town(json!({"storage": {"size": "2Gi"}})).await, &["spec.storage", stays, "make a new town"]),
        (town(json!({"storage": {"storageClassName": "x"}})).await, &["spec.storage", stays]),
        (town(json!({"storage": null})).await, &["spec.storage", stays]),
        (town(json!({"template": null})).await, &["spec.storage needs spec.template"]),
        (agent(json!({"town": "other"})).await, &["spec.town cannot be changed", "make a new agent"]),
        (agent(json!({"identity": "bob"})).await, &["spec.identity", stays]),
        (agent(json!({"identity": null})).await, &["spec.identity", stays]),
        (agent(json!({"storage": null})).await, &["spec.storage", stays, "make a new agent"]),
        (agent(json!({"storage": {"size": "3Gi"}})).await, &["spec.storage", stays]),
        (agent(json!({"mode": "Task"})).await, mode),
        (by_role(json!({"mode": "Session"})).await, mode),
        (by_role(json!({"role": "crew"})).await, mode),
    ];
    let wrong = table.into_iter().filter_map(|(outcome, wanted)| lacks(outcome, wanted)).collect::<Vec<_>>();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn what_may_change_can_be_changed(story: Story) {
    story.create_town("free", json!({})).await;
    story.create_agent("free", "free", json!({"role": "crew"})).await;
    let outcomes = [
        patch::<Town>(&story, "free", json!({"spec": {"sleepAfter": "1h", "suspended": true}})).await,
        patch::<Town>(&story, "free", json!({"spec": {"template": template(), "alwaysOn": true}})).await,
        patch::<Town>(&story, "free", json!({"spec": {"rigs": [{"name": "core"}], "wakeRequest": "1"}}))
            .await,
        // What was not set may be set later, and then stays.
        patch::<Town>(&story, "free", json!({"spec": {"template": template(), "storage": {"size": "1Gi"}}}))
            .await,
        patch::<Agent>(&story, "free", json!({"spec": {"identity": "ada", "storage": {"size": "1Gi"}}}))
            .await,
        patch::<Agent>(&story, "free", json!({"spec": {"mode": "Session", "role": "mayor"}})).await,
        patch::<Agent>(&story, "free", json!({"spec": {"hook": {"bead": "b"}, "retry": {"limit": 1}}})).await,
    ];
    assert_eq!(outcomes, [const { Ok(()) }; 7]);
}

async fn defaults_show_on_read(story: Story) {
    story.apply("{apiVersion: gastown.dev/v1alpha1, kind: Town, metadata: {name: bare}, spec: {}}");
    let town = read::<Town>(&story, "bare").await;
    assert_eq!(
        town["spec"],
        json!({"sleepAfter": "30m", "suspended": false, "alwaysOn": false, "drain": {"timeout": "2m"}})
    );

    story.create_town("stored", json!({"template": template(), "storage": {"size": "1Gi"}})).await;
    let town = read::<Town>(&story, "stored").await;
    assert_eq!(town["spec"]["storage"], json!({"size": "1Gi", "accessModes": ["ReadWriteOnce"]}));

    story.create_agent("bare", "bare", json!({"role": "mayor"})).await;
    let agent = read::<Agent>(&story, "bare").await;
    assert_eq!(
        agent["spec"],
        json!({"town": "bare", "role": "mayor", "retry": {"limit": 5, "window": "30m"}}),
        "defaults that depend on the role belong to the status"
    );
    let half = story.create_agent("half", "bare", json!({"role": "crew", "retry": {"limit": 2}})).await;
    assert_eq!((half.spec.retry.limit, half.spec.retry.window.to_string().as_str()), (2, "30m"));
}

async fn a_null_is_as_if_it_were_not_there(story: Story) {
    story.apply(
        "{apiVersion: gastown.dev/v1alpha1, kind: Town, metadata: {name: nulls},
          spec: {sleepAfter: null, suspended: null, template: null, storage: null, rigs: null, drain: null}}",
    );
    let town = read::<Town>(&story, "nulls").await;
    assert_eq!(
        town["spec"],
        json!({"sleepAfter": "30m", "suspended": false, "alwaysOn": false, "drain": {"timeout": "2m"}})
    );
}

async fn unknown_fields_are_refused_by_name(story: Story) {
    let town = |spec: &str| {
        format!("{{apiVersion: gastown.dev/v1alpha1, kind: Town, metadata: {{name: x}}, spec: {spec}}}")
    };
    let agent = |spec: &str| {
        format!("{{apiVersion: gastown.dev/v1alpha1, kind: Agent, metadata: {{name: x}}, spec: {spec}}}")
    };
    let table = [
        (town("{sleepafter: 1h}"), "unknown field \"spec.sleepafter\""),
        (town("{drain: {time: 1h}}"), "unknown field \"spec.drain.time\""),
        (town("{rigs: [{name: a, url: x}]}"), "unknown field \"spec.rigs[0].url\""),
        (
            town("{template: {spec: {containers: [{name: m, img: i}]}}}"),
            "unknown field \"spec.template.spec.containers[0].img\"",
        ),
        (
            town("{template: {metadata: {name: x}, spec: {containers: [{name: m}]}}}"),
            "spec.template.metadata.name",
        ),
        // Fields of which nothing would come yet are not there: what is accepted works.
        (town("{expiry: {at: '2030-01-01T00:00:00Z'}}"), "unknown field \"spec.expiry\""),
        (agent("{town: t, role: mayor, placement: OwnPod}"), "unknown field \"spec.placement\""),
        (
            agent("{town: t, role: mayor, hook: {bead: b, priority: 1}}"),
            "unknown field \"spec.hook.priority\"",
        ),
    ];
    for (manifest, wanted) in table {
        let said = story.try_apply(&manifest).expect_err(&manifest);
        assert!(said.contains(wanted), "{manifest}: {said}");
    }
    assert_eq!(
        story.kubectl(&["get", "gastown"]).trim(),
        format!("No resources found in {} namespace.", story.namespace)
    );
}

async fn a_status_sent_with_a_create_is_dropped(story: Story) {
    let spec = json!({"sleepAfter": "1h"});
    let forged = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": "forged"},
        "spec": spec, "status": {"phase": "Asleep", "handledWakeRequest": "x"},
    });
    let town: Town = story.create_object(forged).await;
    assert_eq!(town.status, None);
    let town = patch_for_real::<Town>(&story, "forged", json!({"status": {"phase": "Asleep"}})).await;
    assert_ne!(town["status"]["phase"], "Asleep");
}

async fn the_definitions_apply_plainly_twice_and_without_warnings(story: Story) {
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    for _ in 0..2 {
        let said = story.cluster.kubectl(&["apply", "-f", crds]);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "one line for each definition, and no warning: {said}");
        assert!(lines.iter().all(|line| line.ends_with("unchanged")), "{said}");
    }
    for crd in ["towns.gastown.dev", "agents.gastown.dev"] {
        let conditions = "-o=jsonpath={range .status.conditions[*]}{.type}={.status} {end}";
        let said = story.cluster.kubectl(&["get", "crd", crd, conditions]);
        let said: BTreeSet<&str> = said.split_whitespace().collect();
        assert!(said.contains("Established=True") && !said.contains("NonStructuralSchema=True"), "{said:?}");
    }
}

async fn kubectl_get_has_the_columns(story: Story) {
    story.create_town("alpha", json!({})).await;
    story.create_agent("ada", "alpha", json!({"role": "crew", "hook": {"bead": "b-1"}})).await;
    let columns = |arguments: &[&str]| {
        let said = story.kubectl(arguments);
        said.lines().next().unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    let town = "NAME PHASE READY AGENTS SLEEPS-AT AGE";
    let agent = "NAME TOWN ROLE PHASE BEAD POD AGE";
    for name in ["towns", "town", "tw", "towns.gastown.dev"] {
        assert_eq!(columns(&["get", name]), town);
    }
    for name in ["agents", "agent", "ta"] {
        assert_eq!(columns(&["get", name]), agent);
    }
    assert_eq!(columns(&["get", "towns", "-o", "wide"]), format!("{town} NODE REASON"));
    assert_eq!(columns(&["get", "agents", "-o", "wide"]), format!("{agent} NODE REASON ATTEMPTS"));

    let both = story.kubectl(&["get", "gastown"]);
    assert!(both.contains("town.gastown.dev/alpha") && both.contains("agent.gastown.dev/ada"), "{both}");
    let row = story.kubectl(&["get", "ta", "ada", "--no-headers"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..3], ["ada", "alpha", "crew"]);
    assert!(row.contains(&"b-1"), "{row:?}");
}

async fn kubectl_explain_reads_well(story: Story) {
    until("the documentation of new kinds is published", PATIENCE, async || {
        let kinds = ["town", "agent"];
        kinds.iter().try_for_each(|kind| story.cluster.try_kubectl(&["explain", kind], "").map(drop))
    })
    .await;
    let table = [
        ("town", "A town: a workspace in which several AI coding agents work"),
        (
            "town.spec.sleepAfter",
            "FIELD: sleepAfter <string> DESCRIPTION: Time without work after which the town sleeps; from 10s to 720h.",
        ),
        ("town.spec.template", "one pod while the town is awake"),
        ("town.spec.template.spec.containers", "FIELD: containers <[]Object>"),
        ("town.spec.drain.timeout", "from 0s (at once) to 1h"),
        ("town.spec.storage.accessModes", "FIELD: accessModes <[]string>"),
        (
            "town.status.phase",
            "Pending, Starting, Running, Idle, Draining, Asleep, Blocked, Tombstoned or Destroying",
        ),
        ("agent", "One who works in a town"),
        ("agent.spec.role", "ENUM: mayor refinery polecat crew"),
        ("agent.spec.mode", "Session: while the town is awake"),
        ("agent.spec.retry.limit", "Starts of one bead within the window, from 1 to 100"),
        ("agent.status.work.done", "The last 32 beads that were done"),
    ];
    for (path, wanted) in table {
        let said = story.cluster.kubectl(&["explain", path]);
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(wanted), "{path}: {said}");
    }
    // Every field of ours is described; those of the embedded pod templates are Kubernetes' own.
    for kind in ["town", "agent"] {
        for part in ["spec", "status"] {
            let said = story.cluster.kubectl(&["explain", &format!("{kind}.{part}")]);
            assert!(!said.contains("<no description>"), "{kind}.{part}: {said}");
        }
    }
}

async fn kubectl_get_and_describe_show_the_status(story: Story) {
    story.create_town("alpha", json!({})).await;
    story
        .town("alpha")
        .merge_status(json!({"status": {
            "phase": "Running", "agents": counts("1/2"), "sleepAt": "2040-01-02T03:04:05Z",
            "pod": {"node": "n-1"}, "conditions": [condition("Ready", "True", "Running")],
        }}))
        .await;
    let row = story.kubectl(&["get", "tw", "alpha", "-o", "wide", "--no-headers"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..5], ["alpha", "Running", "True", "1/2", "2040-01-02T03:04:05Z"]);
    assert_eq!(row[6..], ["n-1", "Running"], "an instant to come is printed as it is");

    story.create_agent("ada", "alpha", json!({"role": "polecat", "rig": "r", "hook": {"bead": "b-7"}})).await;
    story
        .agent("ada")
        .merge_status(json!({"status": {
            "phase": "Working", "pod": {"name": "ada-1", "node": "n-2"},
            "work": {"bead": "b-7", "attempts": 2}, "conditions": [condition("Ready", "False", "Starting")],
        }}))
        .await;
    let row = story.kubectl(&["get", "ta", "ada", "-o", "wide", "--no-headers"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..6], ["ada", "alpha", "polecat", "Working", "b-7", "ada-1"]);
    assert_eq!(row[7..], ["n-2", "Starting", "2"]);

    let said = story.kubectl(&["describe", "town", "alpha"]);
    for wanted in
        ["Sleep After:  30m", "Phase:     Running", "Reason:                Running", "Summary:  1/2"]
    {
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat(&said).contains(&flat(wanted)), "{wanted}: {said}");
    }
}

async fn field_selectors_find_towns_and_agents(story: Story) {
    for (name, phase) in [("one", "Asleep"), ("two", "Running")] {
        story.create_town(name, json!({})).await;
        story.town(name).merge_status(json!({"status": {"phase": phase}})).await;
        story.create_agent(&format!("of-{name}"), name, json!({"role": "crew"})).await;
    }
    story.agent("of-two").merge_status(json!({"status": {"phase": "Working"}})).await;
    let names = |kind: &str, selector: &str| {
        story.kubectl(&["get", kind, "-o", "name", "--field-selector", selector]).trim().to_owned()
    };
    assert_eq!(names("towns", "status.phase=Asleep"), "town.gastown.dev/one");
    assert_eq!(names("towns", "status.phase!=Asleep"), "town.gastown.dev/two");
    assert_eq!(names("agents", "spec.town=one"), "agent.gastown.dev/of-one");
    assert_eq!(names("agents", "status.phase=Working"), "agent.gastown.dev/of-two");
    assert_eq!(names("agents", "spec.town=one,status.phase=Working"), "");
}

async fn kubectl_wait_knows_every_condition(story: Story) {
    story.create_town("alpha", json!({})).await;
    story.create_agent("ada", "alpha", json!({"role": "crew"})).await;
    let all = |kinds: &[&str]| {
        let conditions: Vec<Value> =
            kinds.iter().map(|kind| condition(kind, "False", "AsExpected")).collect();
        json!({"status": {"conditions": conditions}})
    };
    story.town("alpha").merge_status(all(&condition::OF_TOWN)).await;
    story.agent("ada").merge_status(all(&condition::OF_AGENT)).await;
    for kind in condition::OF_TOWN {
        story.kubectl(&["wait", "--timeout=10s", &format!("--for=condition={kind}=False"), "tw/alpha"]);
    }
    for kind in condition::OF_AGENT {
        story.kubectl(&["wait", "--timeout=10s", &format!("--for=condition={kind}=False"), "ta/ada"]);
    }
    let impatient = ["wait", "--timeout=1s", "--for=condition=Asleep", "tw/alpha"];
    assert!(story.try_kubectl(&impatient).unwrap_err().contains("timed out"));
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
    let kinds: Vec<String> = town.status.unwrap().conditions.into_iter().map(|c| c.type_).collect();
    assert_eq!(kinds, ["Ready", "Weather"]);
}

/// Sends each spec to the API server and compares what it says with what it must say.
async fn all_are_refused<K: Kind>(story: &Story, table: Refusals<'_>) {
    let mut wrong = Vec::new();
    for (spec, wanted) in table {
        if let Some(what) = lacks(try_create::<K>(story, &spec).await, wanted) {
            let mut spec = spec.to_string();
            spec.truncate(200);
            wrong.push(format!("{spec}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with an answer that should be a refusal with these fragments.
fn lacks(outcome: Result<(), String>, wanted: &[&str]) -> Option<String> {
    let Err(message) = outcome else { return Some(format!("accepted, should be refused with {wanted:?}")) };
    let missing: Vec<&&str> = wanted.iter().filter(|fragment| !message.contains(**fragment)).collect();
    (!missing.is_empty()).then(|| format!("refused, but without {missing:?}: {message}"))
}

/// Creates an object in a dry run: schema, defaults and rules are all applied, and nothing is stored.
async fn try_create<K: Kind>(story: &Story, spec: &Value) -> Result<(), String> {
    let dynamic = Api::<DynamicObject>::namespaced_with(
        story.client(),
        &story.namespace,
        &ApiResource::erase::<K>(&()),
    );
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": "dry"}, "spec": spec,
    });
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    dynamic.create(&params, &object).await.map(drop).map_err(said)
}

/// Patches an object in a dry run.
async fn patch<K: Kind>(story: &Story, name: &str, patch: Value) -> Result<(), String> {
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    story.api::<K>().patch(name, &params, &Patch::Merge(patch)).await.map(drop).map_err(said)
}

/// Patches an object and gives it as the API server then has it.
async fn patch_for_real<K: Kind>(story: &Story, name: &str, patch: Value) -> Value {
    story.seen::<K>(name).merge(patch).await;
    read::<K>(story, name).await
}

/// An object as the API server has it, not as our types read it.
async fn read<K: Kind>(story: &Story, name: &str) -> Value {
    let resource = ApiResource::erase::<K>(&());
    let dynamic = Api::<DynamicObject>::namespaced_with(story.client(), &story.namespace, &resource);
    serde_json::to_value(dynamic.get(name).await.unwrap()).unwrap()
}

fn said(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => panic!("no answer of the API server: {other}"),
    }
}

fn merged(mut one: Value, other: Value) -> Value {
    json_patch::merge(&mut one, &other);
    one
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    })
}

fn counts(summary: &str) -> Value {
    json!({"total": 2, "working": 1, "waiting": 0, "stalled": 0, "failed": 0, "summary": summary})
}
