//! The operator loses a right during a destruction: the destruction stops, reports the error of the API server and
//! releases nothing. The destruction continues when the right is back.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::names::FINALIZER;
use town_operator::api::{Agent, Town};

use crate::common::account::{NAME, NAMESPACE};
use crate::common::records::proven_gone;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::crash::{OPERATOR, quick};
use crate::remains::is_gone_whole;
use crate::scale::PATIENT;
use crate::stage::Stories;
use crate::words::{Told, polecat, works, workshop_with};

/// The operator retries a failed request at least once a minute.
const A_MINUTE: Duration = Duration::from_secs(75);

pub fn add(stories: &mut Stories) {
    stories.alone_on(quick(), destruction_waits_while_a_write_right_is_missing);
    stories.alone_on(quick(), destruction_waits_while_a_read_right_is_missing);
}

/// A right, and the children that remain without it.
struct Right {
    verbs: &'static [&'static str],
    resource: &'static str,
    /// If true, the operator loses the right during the deletion of the town's pod; otherwise before the deletion of
    /// the town.
    in_the_middle: bool,
    left: &'static [&'static str],
}

const EVERYTHING: [&str; 7] =
    ["Agent", "PersistentVolumeClaim", "PersistentVolumeClaim", "Pod", "Pod", "Secret", "Service"];

/// The operator deletes Secrets first.
const BUT_SECRETS: [&str; 6] =
    ["Agent", "PersistentVolumeClaim", "PersistentVolumeClaim", "Pod", "Pod", "Service"];

/// The rights to write.
const WRITES: [Right; 7] = [
    Right { verbs: &["create"], resource: "tombstones", in_the_middle: false, left: &EVERYTHING },
    Right { verbs: &["delete"], resource: "secrets", in_the_middle: false, left: &EVERYTHING },
    Right { verbs: &["delete"], resource: "agents", in_the_middle: false, left: &BUT_SECRETS },
    Right { verbs: &["delete"], resource: "pods", in_the_middle: false, left: &BUT_SECRETS },
    Right {
        verbs: &["delete"],
        resource: "persistentvolumeclaims",
        in_the_middle: true,
        left: &["PersistentVolumeClaim"],
    },
    Right { verbs: &["update"], resource: "tombstones/status", in_the_middle: true, left: &[] },
    Right { verbs: &["patch"], resource: "towns", in_the_middle: true, left: &[] },
];

/// The rights to read. Without the right to read Towns the operator cannot write a town's status.
const READS: [Right; 8] = [
    Right { verbs: READ, resource: "tombstones", in_the_middle: false, left: &EVERYTHING },
    Right { verbs: READ, resource: "secrets", in_the_middle: false, left: &EVERYTHING },
    Right { verbs: READ, resource: "agents", in_the_middle: false, left: &BUT_SECRETS },
    Right { verbs: READ, resource: "pods", in_the_middle: false, left: &BUT_SECRETS },
    Right {
        verbs: READ,
        resource: "persistentvolumeclaims",
        in_the_middle: false,
        left: &["Agent", "PersistentVolumeClaim", "PersistentVolumeClaim", "Pod", "Service"],
    },
    // A record names the UID of its namespace.
    Right { verbs: READ, resource: "namespaces", in_the_middle: false, left: &EVERYTHING },
    // The other work of a step continues: the agent's claim is deleted.
    Right {
        verbs: READ,
        resource: "services",
        in_the_middle: false,
        left: &["Agent", "PersistentVolumeClaim", "Pod", "Service"],
    },
    // The operator must know the reclaim policy of the volume before it deletes the claim.
    Right {
        verbs: READ,
        resource: "persistentvolumes",
        in_the_middle: false,
        left: &["Agent", "PersistentVolumeClaim", "PersistentVolumeClaim", "Pod", "Service"],
    },
];
const READ: &[&str] = &["get", "list"];

async fn destruction_waits_while_a_write_right_is_missing(story: Story) {
    Box::pin(each_is_missed(&story, &WRITES)).await;
}

async fn destruction_waits_while_a_read_right_is_missing(story: Story) {
    Box::pin(each_is_missed(&story, &READS)).await;
}

/// Removes each of these rights in turn. The destruction stops, and completes when the right is back.
async fn each_is_missed(story: &Story, rights: &[Right]) {
    let flags = [OPERATOR, PATIENT[0], PATIENT[1], "--deletion-blocked-after=6s"];
    let operator = story.cluster.operator(&flags).await;
    let rules = story.cluster.kubectl(&["get", "clusterrole", NAME, "-o", "json"]);
    let role: Value = serde_json::from_str(&rules).unwrap();
    for (number, right) in rights.iter().enumerate() {
        let (name, cat) = (format!("gas-{number}"), format!("ann-{number}"));
        let town = awake(story, &name, &cat).await;
        let ends = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        if right.in_the_middle {
            story.players.hold(&town.child()).await;
            story.town(&name).delete().await;
            story.pod(&town.child()).until("is asked to end", ends).await;
            take(story, &role, right).await;
            story.players.release(&town.child()).await;
        } else {
            take(story, &role, right).await;
            story.town(&name).delete().await;
        }

        let said = until(&format!("{name} says that it may not {}", right.what()), A_MINUTE, async || {
            let town = story.town(&name).get().await;
            let agent = story.agent(&cat).find().await;
            let said = [town.message("DeletionBlocked").to_owned(), awaited(agent.as_ref())].join("; ");
            let forbidden = |verb| said.contains(&format!("cannot {verb} resource \"{}\"", right.resource));
            let forbidden = right.verbs.iter().any(forbidden);
            if town.is("DeletionBlocked") && forbidden { Ok(said) } else { Err(said) }
        })
        .await;
        println!("without the right to {}: {said}", right.what());
        assert!(!said.contains("Status {"), "words for people, not a data structure: {said}");
        let blocked = story.town(&name).get().await;
        assert_eq!(blocked.finalizers(), [FINALIZER]);
        let left = story.children(&town.id()).await;
        let kinds: Vec<&str> = left.iter().map(|child| child.split('/').next().unwrap_or_default()).collect();
        assert_eq!(kinds, right.left, "without the right to {}: {left:?}", right.what());

        set_rules(story, &role["rules"]);
        until("the right is back", PATIENCE, async || may(story, right).map(drop)).await;
        // The operator would retry within a minute. A change of the objects triggers the retry immediately.
        story.town(&name).touch().await;
        story.agent(&cat).touch().await;
        is_gone_whole(story, &town).await;
        proven_gone(&story.tombstone(&town).get().await);
    }
    assert!(operator.runs());
}

impl Right {
    fn what(&self) -> String {
        format!("{} {}", self.verbs.join(" and "), self.resource)
    }
}

/// The object that an agent waits for, as its status names it.
fn awaited(agent: Option<&Agent>) -> String {
    let destroy = agent.and_then(|agent| agent.status.as_ref()?.destroy.as_ref());
    let awaited = destroy.into_iter().flat_map(|destroy| &destroy.blocked_by);
    awaited.map(|item| item.message.clone()).collect::<Vec<_>>().join("; ")
}

/// Removes one right from the operator, and waits until the removal is in force.
async fn take(story: &Story, role: &Value, right: &Right) {
    let mut narrowed = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        let mut others = rule.clone();
        let resources = others["resources"].as_array_mut().unwrap();
        let all = resources.len();
        resources.retain(|resource| *resource != right.resource);
        if resources.len() < all {
            let mut without = rule.clone();
            without["resources"] = json!([right.resource]);
            let verbs = without["verbs"].as_array_mut().unwrap();
            verbs.retain(|verb| !right.verbs.iter().any(|taken| verb == taken));
            narrowed.push(without);
        }
        if !others["resources"].as_array().unwrap().is_empty() {
            narrowed.push(others);
        }
    }
    // A rule without a verb is not valid.
    narrowed.retain(|rule| rule["verbs"] != json!([]));
    set_rules(story, &narrowed.into());
    until("the right is gone", PATIENCE, async || match may(story, right) {
        Ok(said) => Err(said),
        Err(_) => Ok(()),
    })
    .await;
}

/// Whether the operator has the first of these rights, according to the API server.
fn may(story: &Story, right: &Right) -> Result<String, String> {
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:{NAME}");
    let (resource, subresource) = right.resource.split_once('/').unwrap_or((right.resource, ""));
    let subresource = format!("--subresource={subresource}");
    story.cluster.try_kubectl(&["auth", "can-i", right.verbs[0], resource, &subresource, &account, "-A"], "")
}

fn set_rules(story: &Story, rules: &Value) {
    let patch = json!({"rules": rules}).to_string();
    story.cluster.kubectl(&["patch", "clusterrole", NAME, "--type=merge", "-p", &patch]);
}

/// A town with a volume, a Service, a token, and a working polecat with a volume.
async fn awake(story: &Story, name: &str, cat: &str) -> Town {
    let spec = workshop_with(json!({
        "storage": {"size": "1Gi"}, "ports": [{"name": "web", "port": 8080}],
        // The address has no server, and the interval is longer than the story.
        "activityProbe": {"port": 8080}, "alarm": {"active": "10m", "idle": "1h"},
    }));
    story.create_town(name, spec).await;
    let mut spec = polecat("b-1");
    spec["storage"] = json!({"size": "1Gi"});
    story.create_agent(cat, name, spec).await;
    story.agent(cat).until("works", works).await;
    story.town(name).until("has its pod", |town| town.is("Ready") && town.pod_uid().is_some()).await
}
