//! Specs that the API server refuses, with the messages: the field and the allowed values.

use serde_json::{Value, json};
use town_operator::api::{Agent, Town};

use super::{Words, lacks, merged, try_create};
use crate::common::seen::Kind;
use crate::common::story::{Story, template};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.on_the_api(bad_towns_are_refused);
    stories.on_the_api(bad_storage_is_refused);
    stories.on_the_api(bad_ports_and_probes_are_refused);
    stories.on_the_api(bad_rigs_are_refused);
    stories.on_the_api(bad_agents_are_refused);
    stories.on_the_api(bad_hooks_are_refused);
    stories.on_the_api(bad_pod_templates_are_refused);
    stories.on_the_api(unknown_fields_are_refused_by_name);
}

/// The message for an invalid duration.
const HOW: &str = "written like 90s or 1h30m";

/// The message for a number below 0.
const FROM_0: &str = "greater than or equal to 0";

/// Invalid specs, and the expected message for each.
type Refusals<'a> = Vec<(Value, Words<'a>)>;

async fn bad_towns_are_refused(story: Story) {
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
        (json!({"backlog": {"mergeRequests": -1}}), &["spec.backlog.mergeRequests", "-1", FROM_0]),
        (json!({"backlog": {"triage": -1}}), &["spec.backlog.triage", "-1", FROM_0]),
        (json!({"backlog": {"unassigned": -1}}), &["spec.backlog.unassigned", "-1", FROM_0]),
        (json!({"backlog": {"triage": "many"}}), &["spec.backlog.triage", "integer"]),
        (json!({"alarm": {"active": "999ms"}}), &["spec.alarm.active", "\"999ms\"", "from 1s to 10m", "5s"]),
        (json!({"alarm": {"active": "601s"}}), &["spec.alarm.active", "\"601s\"", "from 1s to 10m"]),
        (json!({"alarm": {"active": "often"}}), &["spec.alarm.active", "\"often\"", "from 1s to 10m"]),
        (json!({"alarm": {"idle": "4s"}}), &["spec.alarm.idle", "\"4s\"", "from 5s to 1h", "60s"]),
        (json!({"alarm": {"idle": "61m"}}), &["spec.alarm.idle", "\"61m\"", "from 5s to 1h"]),
        (json!({"expiry": {}}), &["spec.expiry.time", "Required value"]),
        (json!({"expiry": {"time": "tomorrow"}}), &["spec.expiry.time", "tomorrow", "date-time"]),
        (json!({"expiry": {"time": "2030-01-01"}}), &["spec.expiry.time", "2030-01-01", "date-time"]),
        (json!({"expiry": {"time": 1_893_456_000}}), &["spec.expiry.time", "date-time", "int64"]),
        (
            json!({"expiry": {"time": "9999-12-31T23:59:59Z"}}),
            &["spec.expiry.time must be a time before the year 9999", "2030-12-31T18:00:00Z"],
        ),
        (
            json!({"expiry": {"time": "2030-01-01T00:00:00Z", "policy": "Explode"}}),
            &["spec.expiry.policy", "\"Explode\"", "Destroy", "Sleep"],
        ),
        (json!({"wakeRequest": long}), &["spec.wakeRequest", "253"]),
        (json!({"suspend": "yes"}), &["spec.suspend", "boolean"]),
        (json!({"alwaysOn": 1}), &["spec.alwaysOn", "boolean"]),
        (json!({"deletionProtection": "yes"}), &["spec.deletionProtection", "boolean"]),
        (
            json!({"tombstone": {"retention": "8761h"}}),
            &["spec.tombstone.retention must be from 0s to 8760h"],
        ),
        (json!({"tombstone": {"recreate": "Never"}}), &["spec.tombstone.recreate", "Allow", "Refuse"]),
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

async fn bad_storage_is_refused(story: Story) {
    let size = &["spec.storage.size", "greater than 0, for example 1Gi"];
    let either = &["spec.storage", "either size", "or existingClaimName"];
    let as_it_is = &[
        "spec.storage",
        "existingClaimName takes no storageClassName, accessModes, dataSource, retainPolicy, labels or annotations",
    ];
    let existing = |more: Value| merged(json!({"existingClaimName": "theirs"}), more);
    let source = |source: Value| json!({"size": "1Gi", "dataSource": source});
    let table: Refusals = vec![
        (json!({"size": "0"}), size),
        (json!({"size": 0}), size),
        (json!({"size": "-1Gi"}), size),
        (json!({"size": "big"}), size),
        (json!({}), either),
        (existing(json!({"size": "1Gi"})), either),
        (existing(json!({"storageClassName": "fast"})), as_it_is),
        (existing(json!({"accessModes": ["ReadWriteOnce"]})), as_it_is),
        (existing(json!({"dataSource": {"kind": "VolumeSnapshot", "name": "x"}})), as_it_is),
        (existing(json!({"retainPolicy": "Delete"})), as_it_is),
        (existing(json!({"labels": {"team": "ours"}})), as_it_is),
        (existing(json!({"annotations": {"cost": "1"}})), as_it_is),
        (
            json!({"size": "1Gi", "labels": {"gastown.dev/install": "other"}}),
            &["storage.labels must not have keys under gastown.dev/"],
        ),
        (
            json!({"size": "1Gi", "annotations": {"gastown.dev/retain": "true"}}),
            &["storage.annotations must not have keys under gastown.dev/"],
        ),
        (json!({"size": "1Gi", "labels": {"team": "a b"}}), &["spec.storage.labels.team", "\"a b\""]),
        (
            json!({"existingClaimName": "My_Claim"}),
            &["spec.storage.existingClaimName", "\"My_Claim\"", "[a-z0-9]"],
        ),
        (json!({"existingClaimName": "c".repeat(254)}), &["spec.storage.existingClaimName", "253"]),
        (
            json!({"size": "1Gi", "accessModes": ["ReadOnlyMany"]}),
            &[
                "spec.storage.accessModes[0]",
                "ReadOnlyMany",
                "ReadWriteOnce",
                "ReadWriteOncePod",
                "ReadWriteMany",
            ],
        ),
        (json!({"size": "1Gi", "accessModes": []}), &["spec.storage.accessModes", "at least 1"]),
        (
            json!({"size": "1Gi", "accessModes": ["ReadWriteOnce", "ReadWriteOncePod"]}),
            &["storage.accessModes must name ReadWriteOncePod alone"],
        ),
        (json!({"size": "1Gi", "storageClassName": ""}), &["spec.storage.storageClassName", "at least 1"]),
        (
            json!({"size": "1Gi", "retainPolicy": "Keep"}),
            &["spec.storage.retainPolicy", "\"Keep\"", "Delete", "Retain"],
        ),
        (source(json!({"name": "x"})), &["spec.storage.dataSource.kind", "Required value"]),
        (source(json!({"kind": "VolumeSnapshot"})), &["spec.storage.dataSource.name", "Required value"]),
        (source(json!({"kind": "", "name": "x"})), &["spec.storage.dataSource.kind", "at least 1"]),
        (source(json!({"kind": "k", "name": "n".repeat(254)})), &["spec.storage.dataSource.name", "253"]),
    ];
    let of_towns =
        table.iter().map(|(storage, wanted)| (json!({"template": template(), "storage": storage}), *wanted));
    all_are_refused::<Town>(&story, of_towns.collect()).await;
    let of_agents = table
        .iter()
        .map(|(storage, wanted)| (json!({"townName": "t", "role": "Crew", "storage": storage}), *wanted));
    all_are_refused::<Agent>(&story, of_agents.collect()).await;
    let alone: Refusals = vec![(json!({"storage": {"size": "1Gi"}}), &["spec.storage needs spec.template"])];
    all_are_refused::<Town>(&story, alone).await;
}

async fn bad_ports_and_probes_are_refused(story: Story) {
    let templated = |more: Value| merged(json!({"template": template()}), more);
    let ports = |ports: Value| templated(json!({"ports": ports}));
    let port = |name: &str, port: i32| json!([{"name": name, "port": port}]);
    let probe = |probe: Value| templated(json!({"activityProbe": probe}));
    let agent = |more: Value| merged(json!({"townName": "t", "role": "Crew"}), more);
    let many: Vec<Value> = (1..34).map(|n| json!({"name": format!("p{n}"), "port": n})).collect();
    let table: Refusals = vec![
        (ports(json!([{"port": 80}])), &["spec.ports[0].name", "Required value"]),
        (ports(json!([{"name": "http"}])), &["spec.ports[0].port", "Required value"]),
        (ports(port("HTTP", 80)), &["spec.ports[0].name", "\"HTTP\"", "[a-z0-9]"]),
        (ports(port("", 80)), &["spec.ports[0].name", "at least 1"]),
        (ports(port(&"p".repeat(64), 80)), &["spec.ports[0].name", "63"]),
        (ports(port("http", 0)), &["spec.ports[0].port", "0", "greater than or equal to 1"]),
        (
            ports(json!([{"name": "a", "port": 53}, {"name": "b", "port": 53, "protocol": "TCP"}])),
            &["spec.ports must not name a port number twice for one protocol"],
        ),
        (
            ports(json!([{"name": "a", "port": 53, "targetPort": 0}])),
            &["spec.ports[0].targetPort", "0", "greater than or equal to 1"],
        ),
        (
            ports(json!([{"name": "a", "port": 53, "targetPort": "Not A Name"}])),
            &["spec.ports[0].targetPort", "\"Not A Name\"", "[a-z0-9]"],
        ),
        (
            ports(json!([{"name": "a", "port": 53, "protocol": "tcp"}])),
            &["spec.ports[0].protocol", "\"tcp\"", "UDP"],
        ),
        (
            ports(json!([{"name": "a", "port": 53, "appProtocol": "a b"}])),
            &["spec.ports[0].appProtocol", "\"a b\""],
        ),
        (ports(port("http", 65536)), &["spec.ports[0].port", "65536", "less than or equal to 65535"]),
        (ports(json!([{"name": "http", "port": "80"}])), &["spec.ports[0].port", "integer", "string"]),
        (
            ports(json!([{"name": "http", "port": 80}, {"name": "http", "port": 81}])),
            &["spec.ports[1]", "Duplicate value", "http"],
        ),
        (
            ports(json!([{"name": "http", "port": 80}, {"name": "web", "port": 80}])),
            &["spec.ports must not name a port number twice"],
        ),
        (ports(json!(many)), &["spec.ports", "33", "at most 32 items"]),
        (ports(json!([])), &["spec.ports", "at least 1 item"]),
        (json!({"ports": port("http", 80)}), &["spec.ports needs spec.template"]),
        (json!({"activityProbe": {"port": 80}}), &["spec.activityProbe needs spec.template"]),
        (probe(json!({})), &["spec.activityProbe.port", "Required value"]),
        (probe(json!({"port": 0})), &["spec.activityProbe.port", "0", "greater than or equal to 1"]),
        (probe(json!({"port": 65536})), &["spec.activityProbe.port", "65536", "less than or equal to 65535"]),
        (probe(json!({"port": 80, "path": "activity"})), &["spec.activityProbe.path", "\"activity\"", "^/"]),
        (probe(json!({"port": 80, "path": ""})), &["spec.activityProbe.path", "at least 1"]),
        (probe(json!({"port": 80, "path": "/a b"})), &["spec.activityProbe.path", "\"/a b\""]),
        (
            probe(json!({"port": 80, "path": format!("/{}", "a".repeat(1024))})),
            &["spec.activityProbe.path", "1024"],
        ),
        (
            probe(json!({"port": 80, "tokenSecretName": "My_Secret"})),
            &["spec.activityProbe.tokenSecretName", "\"My_Secret\"", "[a-z0-9]"],
        ),
        (
            probe(json!({"port": 80, "tokenSecretName": "s".repeat(254)})),
            &["spec.activityProbe.tokenSecretName", "253"],
        ),
    ];
    all_are_refused::<Town>(&story, table).await;

    let session = &["spec.activityProbe is for agents of mode Session"];
    let table: Refusals = vec![
        (
            agent(json!({"activityProbe": {"port": 0}})),
            &["spec.activityProbe.port", "greater than or equal to 1"],
        ),
        (agent(json!({"activityProbe": {"port": 80, "path": "x"}})), &["spec.activityProbe.path", "\"x\""]),
        (agent(json!({"mode": "Task", "activityProbe": {"port": 80}})), session),
        (agent(json!({"role": "Polecat", "rig": "r", "activityProbe": {"port": 80}})), session),
    ];
    all_are_refused::<Agent>(&story, table).await;
}

async fn bad_rigs_are_refused(story: Story) {
    let rigs = |rigs: Value| json!({"rigs": rigs});
    let rig = |more: Value| json!({"rigs": [merged(json!({"name": "core"}), more)]});
    let password: Words = &["spec.rigs[0].gitUrl", "must not hold a password", "credentialsSecretName"];
    let table: Refusals = vec![
        (rigs(json!([{"name": "Core"}])), &["spec.rigs[0].name", "\"Core\"", "[a-z0-9]"]),
        (rigs(json!([{"name": "a".repeat(64)}])), &["spec.rigs[0].name", "63"]),
        (rigs(json!([{}])), &["spec.rigs[0].name", "Required value"]),
        (rigs(json!([{"name": "a"}, {"name": "a"}])), &["spec.rigs[1]", "Duplicate value", "\"a\""]),
        (
            rigs((0..201).map(|n| json!({"name": format!("r{n}")})).collect()),
            &["spec.rigs", "201", "at most 200 items"],
        ),
        (rig(json!({"gitUrl": ""})), &["spec.rigs[0].gitUrl", "at least 1"]),
        (rig(json!({"gitUrl": "https://git.test/a b"})), &["spec.rigs[0].gitUrl", "a b", "should match"]),
        (rig(json!({"gitUrl": "https://git.test/a\n"})), &["spec.rigs[0].gitUrl", "should match"]),
        (rig(json!({"gitUrl": "u".repeat(2049)})), &["spec.rigs[0].gitUrl", "2048"]),
        (rig(json!({"gitUrl": "https://ada:secret@git.test/a"})), password),
        // L1: the form in which GitHub takes a token.
        (rig(json!({"gitUrl": "https://ghp_token@git.test/a"})), password),
        (rig(json!({"gitUrl": "HTTP://token@git.test/a"})), password),
        (rig(json!({"gitUrl": "https://git.test/\u{7}"})), &["spec.rigs[0].gitUrl", "should match"]),
        (rig(json!({"branch": "\u{1b}[2J"})), &["spec.rigs[0].branch", "should match"]),
        (rig(json!({"gitUrl": "h2.x-y://ada:secret@git.test/a"})), password),
        (rig(json!({"gitUrl": "https://:token@git.test/a"})), password),
        (rig(json!({"gitUrl": "svn+ssh://ada:se@cret@git.test/a"})), password),
        (rig(json!({"branch": ""})), &["spec.rigs[0].branch", "at least 1"]),
        (rig(json!({"branch": "my branch"})), &["spec.rigs[0].branch", "\"my branch\"", "should match"]),
        (rig(json!({"branch": "b".repeat(256)})), &["spec.rigs[0].branch", "255"]),
        (
            rig(json!({"credentialsSecretName": "My_Secret"})),
            &["spec.rigs[0].credentialsSecretName", "\"My_Secret\"", "[a-z0-9]"],
        ),
        (
            rig(json!({"credentialsSecretName": "s".repeat(254)})),
            &["spec.rigs[0].credentialsSecretName", "253"],
        ),
        (rig(json!({"maxPolecats": -1})), &["spec.rigs[0].maxPolecats", "-1", FROM_0]),
        (
            rig(json!({"maxPolecats": 1001})),
            &["spec.rigs[0].maxPolecats", "1001", "less than or equal to 1000"],
        ),
    ];
    all_are_refused::<Town>(&story, table).await;
}

async fn bad_agents_are_refused(story: Story) {
    let agent = |more: Value| merged(json!({"townName": "t", "role": "Mayor"}), more);
    let polecat = |more: Value| merged(json!({"townName": "t", "role": "Polecat", "rig": "r"}), more);
    let restarting = |policy: &str| {
        let mut template = template();
        template["spec"]["restartPolicy"] = policy.into();
        json!({"template": template})
    };
    let task = restarting("Always");
    let never = &["spec.template.spec.restartPolicy must be Never, or absent", "mode Task"];
    let needs_rig = &["spec.rig is required for the roles Refinery and Polecat", "one of the town's rigs"];
    let table: Refusals = vec![
        (json!({"role": "Mayor"}), &["spec.townName", "Required value"]),
        (json!({"townName": "t"}), &["spec.role", "Required value"]),
        (agent(json!({"townName": ""})), &["spec.townName", "at least 1"]),
        (agent(json!({"townName": "My_Town"})), &["spec.townName", "\"My_Town\"", "[a-z0-9]"]),
        (agent(json!({"townName": "t".repeat(254)})), &["spec.townName", "253"]),
        (agent(json!({"role": "boss"})), &["spec.role", "\"boss\"", "Mayor", "Refinery", "Polecat", "Crew"]),
        (agent(json!({"role": "Polecat"})), needs_rig),
        (agent(json!({"role": "Refinery"})), needs_rig),
        (agent(json!({"rig": "Core"})), &["spec.rig", "\"Core\"", "[a-z0-9]"]),
        (agent(json!({"rig": "r".repeat(64)})), &["spec.rig", "63"]),
        (agent(json!({"identity": ""})), &["spec.identity", "at least 1"]),
        (agent(json!({"identity": "a\u{1b}[2J"})), &["spec.identity", "should match"]),
        (agent(json!({"identity": "i".repeat(254)})), &["spec.identity", "253"]),
        (agent(json!({"mode": "Batch"})), &["spec.mode", "\"Batch\"", "Task", "Session"]),
        (agent(json!({"retry": {"limit": 0}})), &["spec.retry.limit", "greater than or equal to 1"]),
        (agent(json!({"retry": {"limit": 101}})), &["spec.retry.limit", "less than or equal to 100"]),
        (agent(json!({"retry": {"window": "59s"}})), &["spec.retry.window", "\"59s\"", "from 1m to 24h"]),
        (agent(json!({"retry": {"window": "25h"}})), &["spec.retry.window", "\"25h\"", "from 1m to 24h"]),
        (agent(json!({"retry": {"window": "1 day"}})), &["spec.retry.window", "\"1 day\"", "1h30m"]),
        (
            polecat(json!({"ttlAfterFinished": "8761h"})),
            &["spec.ttlAfterFinished", "\"8761h\"", "from 0s to 8760h", HOW],
        ),
        (polecat(json!({"ttlAfterFinished": "-1s"})), &["spec.ttlAfterFinished", "\"-1s\"", HOW]),
        (polecat(json!({"ttlAfterFinished": "soon"})), &["spec.ttlAfterFinished", "\"soon\"", HOW]),
        (agent(json!({"ttlAfterFinished": "1h"})), &["spec.ttlAfterFinished is for agents of mode Task"]),
        (
            polecat(json!({"mode": "Session", "ttlAfterFinished": "1h"})),
            &["spec.ttlAfterFinished is for agents of mode Task"],
        ),
        (agent(json!({"template": {}})), &["spec.template.spec", "Required value"]),
        (agent(merged(json!({"mode": "Task"}), task)), never),
        (polecat(restarting("OnFailure")), never),
    ];
    all_are_refused::<Agent>(&story, table).await;
}

// A2, P9, S3, S11.
async fn bad_pod_templates_are_refused(story: Story) {
    let pod =
        |spec: Value| json!({"template": {"spec": merged(json!({"containers": [{"name": "main"}]}), spec)}});
    let container =
        |more: Value| json!({"template": {"spec": {"containers": [merged(json!({"name": "main"}), more)]}}});
    let numbered = |n: usize| -> Vec<Value> { (0..n).map(|n| json!({"name": format!("n{n}")})).collect() };
    let grace = "terminationGracePeriodSeconds";
    let table: Refusals = vec![
        (
            pod(json!({grace: 0})),
            &["spec.template.spec.terminationGracePeriodSeconds", "greater than or equal to 1"],
        ),
        (pod(json!({"containers": numbered(33)})), &["spec.template.spec.containers", "at most 32 items"]),
        (container(json!({"env": numbered(257)})), &["env", "at most 256 items"]),
        (container(json!({"args": vec!["a"; 257]})), &["args", "at most 256 items"]),
        (container(json!({"env": [{"name": "A", "value": "v".repeat(32769)}]})), &["env[0].value", "32768"]),
        (container(json!({"env": [{"name": "A"}, {"name": "A"}]})), &["env[1]", "Duplicate value"]),
        (
            container(json!({"livenessProbe": {"httpGet": {"port": 3_000_000_000_i64}}})),
            &["livenessProbe.httpGet.port", "less than or equal to 65535"],
        ),
        (
            container(json!({"resources": {"limits": {"memory": "lots"}}})),
            &["resources.limits", "should match"],
        ),
    ];
    all_are_refused::<Town>(&story, table).await;
}

async fn bad_hooks_are_refused(story: Story) {
    let hook = |hook: Value| json!({"townName": "t", "role": "Crew", "hook": hook});
    let instructions = |text: &str| hook(json!({"bead": "b", "instructions": text}));
    let long = &["spec.hook.instructions must be at most 65536 bytes", "in a place that the agent can read"];
    let mut table: Refusals = vec![
        (hook(json!({})), &["spec.hook.bead", "Required value"]),
        (hook(json!({"bead": ""})), &["spec.hook.bead", "at least 1"]),
        // A34: no runtime takes a NUL in an environment variable.
        (hook(json!({"bead": "b\0"})), &["spec.hook.bead", "should match"]),
        (hook(json!({"bead": "b", "title": "two\nlines"})), &["spec.hook.title", "should match"]),
        (hook(json!({"bead": "b".repeat(254)})), &["spec.hook.bead", "253"]),
        (hook(json!({"bead": "b", "title": "é".repeat(1025)})), &["spec.hook.title", "1024"]),
        (instructions(&"i".repeat(65537)), &["spec.hook.instructions", "65536"]),
        // The limit counts bytes, not characters: this text has 16,385 characters.
        (instructions(&format!("{}x", "𝕏".repeat(16384))), long),
    ];
    for control in ["\0", "\u{7}", "\u{b}", "\u{c}", "\u{1b}", "\u{1f}"] {
        table.push((instructions(&format!("ring {control}")), &["spec.hook.instructions", "\\x00-\\x08"]));
    }
    all_are_refused::<Agent>(&story, table).await;
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
        (town("{rigs: [{name: a, gitURL: x}]}"), "unknown field \"spec.rigs[0].gitURL\""),
        (town("{expiry: {at: '2030-01-01T00:00:00Z', in: 1h}}"), "unknown field \"spec.expiry.in\""),
        // Fields that have no effect yet do not exist: every accepted field has an effect.
        (town("{tombstone: {forever: true}}"), "unknown field \"spec.tombstone.forever\""),
        (agent("{town: t, role: Mayor, placement: OwnPod}"), "unknown field \"spec.placement\""),
        (
            agent("{town: t, role: Mayor, hook: {bead: b, priority: 1}}"),
            "unknown field \"spec.hook.priority\"",
        ),
    ];
    for (manifest, wanted) in table {
        let said = story.try_apply(&manifest).expect_err(&manifest);
        assert!(said.contains(wanted), "{manifest}: {said}");
    }
    assert_eq!(story.kubectl(&["get", "towns,agents", "-o", "name"]), "");
}

/// Sends each spec to the API server and compares the message with the expected one.
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
