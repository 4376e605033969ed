//! The output of kubectl for towns and agents.

use serde_json::{Value, json};
use town_operator::api::condition;

use super::condition;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    stories.on_the_api(kubectl_get_has_the_columns);
    stories.on_the_api(kubectl_explain_describes_every_field);
    stories.on_the_api_without_operator(kubectl_get_and_describe_show_the_status);
    stories.on_the_api_without_operator(field_selectors_find_towns_and_agents);
    stories.on_the_api_without_operator(kubectl_wait_knows_every_condition);
}

async fn kubectl_get_has_the_columns(story: Story) {
    story.create_town("alpha", json!({})).await;
    story.create_agent("ada", "alpha", json!({"role": "Crew", "hook": {"bead": "b-1"}})).await;
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
    assert_eq!(row[..3], ["ada", "alpha", "Crew"]);
    assert!(row.contains(&"b-1"), "{row:?}");
}

async fn kubectl_explain_describes_every_field(story: Story) {
    until("the documentation of new kinds is published", PATIENCE, async || {
        let kinds = ["town", "agent"];
        kinds.iter().try_for_each(|kind| story.cluster.try_kubectl(&["explain", kind], "").map(drop))
    })
    .await;
    let table = [
        ("town", "Town is a workspace for several AI coding agents"),
        (
            "town.spec.sleepAfter",
            "FIELD: sleepAfter <string> DESCRIPTION: sleepAfter is the time without work after which the town falls asleep, from 10s to 720h. Defaults to 30m.",
        ),
        ("town.spec.template", "which exists while the town is awake"),
        ("town.spec.template.spec.containers", "FIELD: containers <[]Object>"),
        ("town.spec.drain.timeout", "from 0s (no wait) to 1h"),
        ("town.spec.storage.accessModes", "FIELD: accessModes <[]string>"),
        (
            "town.status.phase",
            "Asleep: the town sleeps and has no pods. Blocked: the town does not run until a user acts.",
        ),
        ("agent", "Agent is a worker in a town, with its own pod"),
        ("agent.spec.role", "ENUM: Mayor Refinery Polecat Crew"),
        ("agent.spec.mode", "Session: the pod exists while the town is awake"),
        (
            "agent.spec.retry.limit",
            "limit is the number of failed starts and failed attempts in a row, from 1 to 100",
        ),
        ("agent.status.work.done", "done lists the last 32 finished beads"),
    ];
    for (path, wanted) in table {
        let said = story.cluster.kubectl(&["explain", path]);
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(wanted), "{path}: {said}");
    }
    // Every field of ours has a description. The fields of embedded pod templates are those of Kubernetes.
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
            "phase": "Running", "agents": counts("1/2"), "sleepTime": "2040-01-02T03:04:05Z",
            "pod": {"nodeName": "n-1"}, "conditions": [condition("Ready", "True", "Running")],
        }}))
        .await;
    let row = story.kubectl(&["get", "tw", "alpha", "-o", "wide", "--no-headers"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..5], ["alpha", "Running", "True", "1/2", "2040-01-02T03:04:05Z"]);
    assert_eq!(row[6..], ["n-1", "Running"], "an instant to come is printed as it is");

    story.create_agent("ada", "alpha", json!({"role": "Polecat", "rig": "r", "hook": {"bead": "b-7"}})).await;
    story
        .agent("ada")
        .merge_status(json!({"status": {
            "phase": "Working", "pod": {"name": "ada-1", "nodeName": "n-2"},
            "work": {"bead": "b-7", "attempts": 2}, "conditions": [condition("Ready", "False", "Starting")],
        }}))
        .await;
    let row = story.kubectl(&["get", "ta", "ada", "-o", "wide", "--no-headers"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..6], ["ada", "alpha", "Polecat", "Working", "b-7", "ada-1"]);
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
        story.create_agent(&format!("of-{name}"), name, json!({"role": "Crew"})).await;
    }
    story.agent("of-two").merge_status(json!({"status": {"phase": "Working"}})).await;
    let names = |kind: &str, selector: &str| {
        story.kubectl(&["get", kind, "-o", "name", "--field-selector", selector]).trim().to_owned()
    };
    assert_eq!(names("towns", "status.phase=Asleep"), "town.gastown.dev/one");
    assert_eq!(names("towns", "status.phase!=Asleep"), "town.gastown.dev/two");
    assert_eq!(names("agents", "spec.townName=one"), "agent.gastown.dev/of-one");
    assert_eq!(names("agents", "status.phase=Working"), "agent.gastown.dev/of-two");
    assert_eq!(names("agents", "spec.townName=one,status.phase=Working"), "");
}

async fn kubectl_wait_knows_every_condition(story: Story) {
    story.create_town("alpha", json!({})).await;
    story.create_agent("ada", "alpha", json!({"role": "Crew"})).await;
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

fn counts(summary: &str) -> Value {
    json!({"total": 2, "working": 1, "waiting": 0, "stuck": 0, "failed": 0, "summary": summary})
}
