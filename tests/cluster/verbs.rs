//! Rights that the admission policies check with the authorizer: `delete` for an update that would delete, `dispatch`
//! for work and nothing else, `administer` in the whole cluster.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use town_operator::api::{Agent, Town, names};

use crate::asking::{Ask, Object};
use crate::common::account::{NAME, NAMESPACE};
use crate::common::chart::render;
use crate::common::operator::INSTALL_ID;
use crate::common::players::Players;
use crate::common::story::{Story, template};
use crate::common::wait::{PATIENCE, until};
use crate::people::{People, bound, every_verb, role};
use crate::stage::Stories;
use crate::words::{Told, asleep, idle, template_of, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(update_deletes_nothing_without_the_verb_delete);
    stories.with_the_operator(protected_town_keeps_its_rigs_and_expires_into_sleep);
    stories.with_the_operator(dispatcher_hands_out_work_and_changes_nothing_else);
    stories.with_the_operator(namespace_with_a_protected_town_is_deleted_under_all_policies);
    stories.alone(administrators_are_the_users_that_may_administer_towns_everywhere);
    stories.alone(addresses_of_pods_are_written_by_nodes_and_administrators);
    stories.plain(fields_of_a_dispatcher_are_fields_of_the_spec);
}

fn spec(fields: Value) -> Value {
    json!({"spec": fields})
}

/// The same change in each form of the API.
fn in_every_form(change: &Value) -> [Ask; 3] {
    [Ask::Merge(change.clone()), Ask::Apply(change.clone()), Ask::Replace(change.clone())]
}

// S7 and decisions 1.9, 5.4.
async fn update_deletes_nothing_without_the_verb_delete(story: Story) {
    let people = People::of(&story).await;
    let two = json!({"rigs": [{"name": "core"}, {"name": "spare"}]});
    story.create_town("gas", workshop_with(two)).await;
    story.create_agent("ann", "gas", json!({"role": "Polecat", "rig": "core"})).await;
    story.town("gas").until("is idle", idle).await;
    story.agent("ann").until("is bound", |agent| !agent.finalizers().is_empty()).await;
    let (town, agent) = (Object::town(&story, "gas"), Object::agent(&story, "ann"));
    let references = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "11111111-2222-3333-4444-555555555555",
    }]);
    let destroy = json!({"time": "2030-01-01T00:00:00Z", "policy": "Destroy"});
    let (past, owned) = ("2020-01-01T00:00:00Z", json!({"metadata": {"ownerReferences": references}}));
    for (object, change, words) in [
        (&town, spec(json!({"expiry": destroy})), "needs the verb delete on the town"),
        (
            &town,
            spec(json!({"expiry": {"time": past, "policy": "Destroy"}})),
            "needs the verb delete on the town",
        ),
        (&town, spec(json!({"rigs": [{"name": "core"}]})), "the removal of a rig needs the verb delete"),
        (&town, spec(json!({"rigs": [{"name": "core"}, {"name": "other"}]})), "the removal of a rig"),
        (&town, owned.clone(), "the garbage collector deletes an object"),
        (&agent, spec(json!({"ttlAfterFinished": "0s"})), "spec.ttlAfterFinished"),
        (&agent, owned, "the garbage collector deletes an object"),
    ] {
        for ask in in_every_form(&change) {
            // Server-side apply adds the fields of another manager, and so cannot remove a rig.
            if !(matches!(ask, Ask::Apply(_)) && words.contains("rig")) {
                object.refuses(&people.editor, &ask, &["-deletion-by-update'", words]).await;
            }
            object.lets(&people.anybody, &ask).await;
            object.lets(&people.tenant, &ask).await;
        }
    }
    let rest = Ask::Json(json!([{"op": "remove", "path": "/spec/rigs"}]));
    town.refuses(&people.editor, &rest, &["-deletion-by-update'", "the removal of a rig"]).await;
    for fine in [
        spec(json!({"expiry": {"time": "2030-01-01T00:00:00Z"}})),
        spec(json!({"expiry": {"time": "2030-01-01T00:00:00Z", "policy": "Sleep"}})),
        spec(json!({"rigs": [{"name": "core", "maxPolecats": 7}, {"name": "spare"}, {"name": "third"}]})),
        spec(json!({"wakeRequest": "monday"})),
    ] {
        town.lets(&people.editor, &Ask::Merge(fine)).await;
    }
    // A collective delete is refused, too.
    let all = town.api(&people.editor);
    let all = all.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    assert!(all.unwrap_err().to_string().contains("cannot deletecollection"));

    // The user cannot change the setting of a user with the right, and cannot remove its guard.
    let armed = town.change(&people.anybody, spec(json!({"expiry": destroy}))).await;
    assert_eq!(armed.data["spec"]["expiry"]["policy"], "Destroy");
    let words = ["-deletion-by-update'", "needs the verb delete on the town"];
    town.refuses(&people.editor, &Ask::Merge(spec(json!({"expiry": {"time": past}}))), &words).await;
    town.lets(&people.editor, &Ask::Merge(spec(json!({"wakeRequest": "tuesday"})))).await;
    town.lets(&people.editor, &Ask::Merge(spec(json!({"expiry": null})))).await;
    town.change(&people.editor, spec(json!({"deletionProtection": true}))).await;
    town.refuses(&people.editor, &Ask::Merge(spec(json!({"deletionProtection": false}))), &words).await;
    town.lets(&people.anybody, &Ask::Merge(spec(json!({"deletionProtection": false})))).await;
    agent.change(&people.anybody, spec(json!({"ttlAfterFinished": "1h"}))).await;
    agent.lets(&people.editor, &Ask::Merge(spec(json!({"ttlAfterFinished": null})))).await;
}

// Decisions 1.6.
async fn protected_town_keeps_its_rigs_and_expires_into_sleep(story: Story) {
    let people = People::of(&story).await;
    story.create_town("fort", workshop_with(json!({"deletionProtection": true}))).await;
    story.town("fort").until("is idle", idle).await;
    let fort = Object::town(&story, "fort");
    let rigs = ["-deletion-protection'", "no user may remove a rig"];
    let expiry = ["-deletion-protection'", "contradicts spec.deletionProtection"];
    let destroy = json!({"time": "2030-01-01T00:00:00Z", "policy": "Destroy"});
    for who in [&people.anybody, &people.administrator, &people.tenant] {
        fort.refuses(who, &Ask::Merge(spec(json!({"rigs": []}))), &rigs).await;
        fort.refuses(who, &Ask::Replace(spec(json!({"rigs": [{"name": "other"}]}))), &rigs).await;
        // The two changes need two requests.
        let at_once = spec(json!({"rigs": [], "deletionProtection": false}));
        fort.refuses(who, &Ask::Merge(at_once), &rigs).await;
        fort.refuses(who, &Ask::Merge(spec(json!({"expiry": destroy}))), &expiry).await;
        fort.lets(who, &Ask::Merge(spec(json!({"expiry": {"time": "2030-01-01T00:00:00Z"}})))).await;
        let born = spec(json!({"deletionProtection": true, "expiry": destroy}));
        Object::town(&story, "born").refuses(who, &Ask::Create(born), &expiry).await;
    }
    fort.change(&people.anybody, spec(json!({"deletionProtection": false}))).await;
    fort.lets(&people.anybody, &Ask::Merge(spec(json!({"rigs": []})))).await;
}

// Decisions 5.4.
async fn dispatcher_hands_out_work_and_changes_nothing_else(story: Story) {
    let dispatcher = format!("{NAME}-dispatcher");
    let tracker = format!("tracker-{}", story.namespace);
    let tracker = bound(&story, &tracker, &[&dispatcher], false, &[]).await;
    story.create_town("gas", workshop_with(json!({"suspend": true}))).await;
    story.create_agent("ann", "gas", json!({"role": "Polecat", "rig": "core"})).await;
    let (town, agent) = (Object::town(&story, "gas"), Object::agent(&story, "ann"));
    story.town("gas").until("sleeps", asleep).await;
    for (object, fine) in [
        (&town, spec(json!({"backlog": {"mergeRequests": 3}}))),
        (&town, spec(json!({"backlog": null}))),
        (&town, spec(json!({"wakeRequest": "monday"}))),
        (&town, spec(json!({"suspend": false}))),
        (&agent, spec(json!({"hook": {"bead": "b-1", "title": "Oil"}}))),
        (&agent, spec(json!({"hook": null}))),
    ] {
        object.lets(&tracker, &Ask::Merge(fine.clone())).await;
        object.lets(&tracker, &Ask::Apply(fine)).await;
    }
    let words = ["-dispatch'", "may change only these fields", "hook, backlog, wakeRequest, suspend"];
    for (object, change) in [
        (&town, spec(json!({"template": template_of("other")}))),
        (&town, spec(json!({"agentTemplate": null}))),
        (&town, spec(json!({"sleepAfter": "1m"}))),
        (&town, spec(json!({"deletionProtection": true}))),
        (&town, spec(json!({"wakeRequest": "monday", "alwaysOn": true}))),
        (&agent, spec(json!({"template": template_of("other")}))),
        (&agent, spec(json!({"hook": {"bead": "b-1"}, "template": template_of("other")}))),
        (&agent, spec(json!({"ttlAfterFinished": "1h"}))),
        (&town, json!({"metadata": {"labels": {"team": "blue"}}})),
        (&town, json!({"metadata": {"annotations": {names::RESTART_AT: "now"}}})),
        (&agent, json!({"metadata": {"annotations": {names::PAUSED: "true"}}})),
        (&agent, json!({"metadata": {"finalizers": [names::FINALIZER, "example.com/hold"]}})),
        (
            &town,
            json!({"metadata": {"ownerReferences": [{
                "apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "11111111-2222-3333-4444-555555555555",
            }]}}),
        ),
    ] {
        object.refuses(&tracker, &Ask::Merge(change.clone()), &["denied request"]).await;
        if change["metadata"].is_null() && !change.to_string().contains("ttl") {
            object.refuses(&tracker, &Ask::Merge(change), &words).await;
        }
    }
    let replaced =
        town.may(&tracker, &Ask::Replace(spec(json!({"wakeRequest": "monday"})))).await.unwrap_err();
    assert!(replaced.contains("cannot update resource"), "{replaced}");
    for ask in [Ask::Delete, Ask::Status(json!({"status": {"phase": "Idle"}}))] {
        let said = town.may(&tracker, &ask).await.unwrap_err();
        assert!(said.contains("cannot"), "{said}");
    }
    // The limits do not apply to a user with the verb `update`.
    let rules =
        json!([{"apiGroups": ["gastown.dev"], "resources": ["towns", "agents"], "verbs": ["update"]}]);
    let update = role(&story, "update", rules).await;
    let chief = format!("chief-{}", story.namespace);
    let chief = bound(&story, &chief, &[&dispatcher, &update], false, &[]).await;
    town.lets(&chief, &Ask::Merge(spec(json!({"sleepAfter": "1m"})))).await;
}

// S8 and decisions 5.4.
async fn administrators_are_the_users_that_may_administer_towns_everywhere(story: Story) {
    story.cluster.create_namespace(NAMESPACE).await;
    let templates = ["rbac", "serviceaccount", "admission-policies", "user-roles"];
    let values = [
        &format!("installId={INSTALL_ID}"),
        "admissionPolicies.administrators.users={ada@example.com}",
        "admissionPolicies.administrators.groups={town admins,O=x&y}",
        "admissionPolicies.administrators.serviceAccounts[0].namespace=velero",
        "admissionPolicies.administrators.serviceAccounts[0].name=velero",
    ];
    let manifests = render(NAME, NAMESPACE, &templates, &values);
    story.cluster.try_kubectl(&["apply", "-f", "-"], &manifests).unwrap();
    let _: Town = story.create_town("gas", json!({})).await;
    let town = Object::town(&story, "gas");
    let abandon = Ask::Merge(json!({"metadata": {"annotations": {names::ABANDON: "storage"}}}));
    let people = People::of(&story).await;
    let words = ["-abandon-annotation'", "the verb administer on towns.gastown.dev"];
    for who in [&people.anybody, &people.tenant, &people.editor, &people.add_on] {
        town.refuses(who, &abandon, &words).await;
    }
    // The role of administrators is valid only in the whole cluster.
    let role = format!("{NAME}-administrator");
    let local = bound(&story, "local", &[&role], false, &[]).await;
    town.refuses(&local, &abandon, &words).await;
    town.lets(&people.administrator, &abandon).await;
    town.lets(&story.client(), &abandon).await;
    for (user, groups) in [
        ("ada@example.com", &[][..]),
        ("bob", &["town admins"]),
        ("eve", &["O=x&y"]),
        ("system:serviceaccount:velero:velero", &[]),
    ] {
        let client = story.cluster.client_as(user, groups).await;
        town.lets(&client, &abandon).await;
    }
    let other = every_verb(&story, "system:serviceaccount:velero:default", &["others"]).await;
    town.refuses(&other, &abandon, &words).await;
}

// S9 and decisions 5.6.
async fn addresses_of_pods_are_written_by_nodes_and_administrators(story: Story) {
    story.cluster.create_namespace(NAMESPACE).await;
    let values = [&format!("installId={INSTALL_ID}"), "admissionPolicies.podAddresses=true"];
    let manifests = render(NAME, NAMESPACE, &["rbac", "serviceaccount", "admission-policies"], &values);
    story.cluster.try_kubectl(&["apply", "-f", "-"], &manifests).unwrap();
    let people = People::of(&story).await;
    let node = every_verb(&story, "a-node", &["system:nodes"]).await;
    let pod = |name: &str, labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": template()["spec"],
        })
    };
    let ours = json!({names::INSTALL: story.cluster.install_label()});
    story.create_object::<Pod>(pod("ours", ours)).await;
    story.create_object::<Pod>(pod("theirs", json!({}))).await;
    let (ours, theirs) = (Object::of::<Pod>(&story, "ours"), Object::of::<Pod>(&story, "theirs"));
    let words = ["-pod-addresses'", "Only nodes and administrators"];
    for status in [
        json!({"podIP": "10.96.0.1"}),
        json!({"podIP": "10.96.0.1", "podIPs": [{"ip": "10.96.0.1"}, {"ip": "fd00::1"}]}),
    ] {
        let ask = Ask::Status(json!({"status": status}));
        for who in [&people.anybody, &people.tenant] {
            ours.refuses(who, &ask, &words).await;
            theirs.lets(who, &ask).await;
        }
        ours.lets(&node, &ask).await;
        ours.lets(&people.administrator, &ask).await;
    }
    ours.lets(&people.tenant, &Ask::Status(json!({"status": {"message": "held"}}))).await;
}

// Decisions 1.7 and 1.9: no object blocks the deletion.
async fn namespace_with_a_protected_town_is_deleted_under_all_policies(story: Story) {
    let namespace = story.cluster.namespace("doomed").await;
    let towns: Api<Town> = Api::namespaced(story.client(), &namespace);
    let agents: Api<Agent> = Api::namespaced(story.client(), &namespace);
    let mut town = workshop_with(json!({
        "deletionProtection": true, "storage": {"size": "1Gi"}, "ports": [{"name": "web", "port": 8080}],
        "activityProbe": {"port": 8080},
    }));
    town["drain"] = json!({"timeout": "0s"});
    let players = Players::call(story.client(), &namespace).await;
    for (name, spec) in [("fort", town.clone()), ("hut", town)] {
        let town = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": name}, "spec": spec});
        towns.create(&PostParams::default(), &serde_json::from_value(town).unwrap()).await.unwrap();
    }
    let agent = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "ann"},
        "spec": {"townName": "fort", "role": "Polecat", "rig": "core", "hook": {"bead": "b-1"}, "storage": {"size": "1Gi"}},
    });
    agents.create(&PostParams::default(), &serde_json::from_value(agent).unwrap()).await.unwrap();
    until("the agent works", PATIENCE, async || {
        let agent = agents.get("ann").await.map_err(|error| error.to_string())?;
        if agent.phase() == "Working" { Ok(()) } else { Err(agent.phase().to_owned()) }
    })
    .await;
    drop(players);
    story.cluster.remove_namespace(&namespace).await;
}

async fn fields_of_a_dispatcher_are_fields_of_the_spec() {
    let policies = render(NAME, NAMESPACE, &["admission-policies"], &[]);
    let policy = policies.split("\n---\n").find(|policy| policy.contains("-dispatch\n")).unwrap();
    let list = policy.split_once("field in [").unwrap().1.split_once(']').unwrap().0;
    let fields: Vec<&str> = list.split(", ").map(|field| field.trim_matches('"')).collect();
    let crds = town_operator::api::crds().unwrap();
    let known: Vec<String> = crds
        .iter()
        .filter(|crd| crd.spec.names.kind != "Tombstone")
        .flat_map(|crd| {
            let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            let spec = &schema.properties.as_ref().unwrap()["spec"];
            spec.properties.as_ref().unwrap().keys().cloned().collect::<Vec<_>>()
        })
        .collect();
    assert!(
        fields.len() == 4 && fields.iter().all(|field| known.iter().any(|known| known == field)),
        "{fields:?}"
    );
}
