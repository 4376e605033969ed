//! The labels of ownership: only the operator sets and changes them. No request, and no sequence of requests, creates
//! an object that the operator treats as its own.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use town_operator::api::{Town, names};
use town_operator::lifecycle::ChildKind;

use crate::asking::{Ask, Object};
use crate::common::account::{NAME, NAMESPACE};
use crate::common::chart::render;
use crate::common::operator::INSTALL_ID;
use crate::common::story::{Story, template};
use crate::people::People;
use crate::stage::Stories;
use crate::words::{Told, idle, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(labels_of_towns_and_agents_change_by_the_operator_alone);
    stories.with_the_operator(labels_of_children_change_by_the_operator_alone);
    stories.with_the_operator(foreign_label_cannot_be_given_up_for_ours_by_a_second_request);
    stories.with_the_operator(finalizer_of_another_cluster_is_removed_only_with_the_right_to_delete);
    stories.plain(policy_on_labels_covers_every_kind_of_child);
}

/// A UID without an object.
const SOME_UID: &str = "11111111-2222-3333-4444-555555555555";
const REFUSED: [&str; 2] = ["-ownership-labels'", "only the operator sets and changes the labels"];
const REFUSED_CHILD: [&str; 2] = ["-child-labels'", "only the operator sets and changes the labels"];

fn labelled(labels: Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

// S6 and decisions 1.9.
async fn labels_of_towns_and_agents_change_by_the_operator_alone(story: Story) {
    let people = People::of(&story).await;
    story.create_town("gas", workshop_with(json!({}))).await;
    story.create_agent("ann", "gas", json!({"role": "Crew"})).await;
    story.town("gas").until("is idle", idle).await;
    story.agent("ann").until("is ready", |agent| agent.is("Ready")).await;
    let spec = story.agent("ann").get().await.spec;
    for (object, spec) in [
        (Object::town(&story, "gas"), json!({})),
        (Object::agent(&story, "ann"), serde_json::to_value(spec).unwrap()),
    ] {
        for key in [names::INSTALL, names::TOWN_UID, names::AGENT_UID, "gastown.dev/owner-uid"] {
            let forge = labelled(json!({key: SOME_UID}));
            for ask in [Ask::Merge(forge.clone()), Ask::Apply(forge.clone()), Ask::Replace(forge.clone())] {
                object.refuses(&people.anybody, &ask, &REFUSED).await;
            }
            for who in [&people.tenant, &people.administrator, &people.add_on] {
                object.refuses(who, &Ask::Merge(forge.clone()), &REFUSED).await;
            }
            // An update of the status cannot change a label.
            object.lets(&people.anybody, &Ask::Status(forge.clone())).await;
            let after = object.api(&people.anybody).get(object.name()).await.unwrap();
            assert_ne!(after.labels().get(key).map(String::as_str), Some(SOME_UID));

            let copy = if object.kind() == "Town" {
                Object::town(&story, "copy")
            } else {
                Object::agent(&story, "copy")
            };
            let mut born = labelled(json!({key: SOME_UID}));
            born["spec"] = spec.clone();
            if key == names::INSTALL {
                born["metadata"]["labels"][key] = story.cluster.install_label().into();
            }
            copy.refuses(&people.anybody, &Ask::Create(born.clone()), &REFUSED).await;
            copy.refuses(&people.anybody, &Ask::Apply(born.clone()), &REFUSED).await;
            // A backup tool has the rights of an administrator.
            copy.lets(&people.administrator, &Ask::Create(born)).await;
        }
        for key in [names::INSTALL, names::TOWN_UID] {
            let bare = labelled(json!({key: null}));
            if key == names::INSTALL || object.kind() == "Agent" {
                object.refuses(&people.anybody, &Ask::Merge(bare.clone()), &REFUSED).await;
                object.lets(&people.operator, &Ask::Merge(bare)).await;
            }
        }
        object.lets(&people.anybody, &Ask::Merge(labelled(json!({"team": "blue"})))).await;
        object.lets(&people.anybody, &Ask::Apply(labelled(json!({"team": "blue"})))).await;
    }
    // The object and its status are the only endpoints.
    let gas = Object::town(&story, "gas").api(&people.anybody);
    let scale = Patch::Merge(json!({"spec": {"replicas": 0}}));
    match gas.patch_scale("gas", &PatchParams::default(), &scale).await {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 404, "{status:?}"),
        other => panic!("a town has no scale: {other:?}"),
    }
}

// S6 and decisions 1.9: a status, a Binding and a template can also set a label.
async fn labels_of_children_change_by_the_operator_alone(story: Story) {
    let people = People::of(&story).await;
    let spec = json!({
        "storage": {"size": "1Gi"}, "ports": [{"name": "web", "port": 8080}], "activityProbe": {"port": 8080},
    });
    story.create_town("gas", workshop_with(spec)).await;
    let town = story.town("gas").until("has its pod", |town| town.pod_uid().is_some()).await;
    let ours = story.cluster.install_label();
    let whole = |labels: Value, spec: Value| json!({"metadata": {"labels": labels}, "spec": spec});
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let ports = json!({"ports": [{"port": 80}]});
    let pod = template()["spec"].clone();
    let child = town.child();
    let service = town.status.as_ref().unwrap().service.clone().unwrap();
    for (object, forged, spec) in [
        (Object::of::<Pod>(&story, &child), Object::of::<Pod>(&story, "forged"), Some(pod)),
        (
            Object::of::<PersistentVolumeClaim>(&story, &child),
            Object::of::<PersistentVolumeClaim>(&story, "forged"),
            Some(claim),
        ),
        (Object::of::<Service>(&story, &service), Object::of::<Service>(&story, "forged"), Some(ports)),
        (Object::of::<Secret>(&story, &child), Object::of::<Secret>(&story, "forged"), None),
    ] {
        let spec = spec.unwrap_or(Value::Null);
        let forge = whole(json!({names::INSTALL: ours, names::TOWN_UID: SOME_UID}), spec.clone());
        for who in [&people.anybody, &people.tenant, &people.add_on] {
            forged.refuses(who, &Ask::Create(forge.clone()), &REFUSED_CHILD).await;
        }
        forged.refuses(&people.anybody, &Ask::Apply(forge.clone()), &REFUSED_CHILD).await;
        forged.lets(&people.administrator, &Ask::Create(forge.clone())).await;

        // Two requests: the first creates an object that no policy of this installation covers.
        let stranger = whole(json!({names::INSTALL: "another.00000000", names::TOWN_UID: town.id()}), spec);
        forged.create(&people.anybody, &stranger).await;
        let relabel = labelled(json!({names::INSTALL: ours}));
        for ask in [Ask::Merge(relabel.clone()), Ask::Apply(relabel.clone()), Ask::Replace(relabel.clone())] {
            forged.refuses(&people.anybody, &ask, &REFUSED_CHILD).await;
        }
        if object.kind() != "Secret" {
            forged.refuses(&people.anybody, &Ask::Status(relabel), &REFUSED_CHILD).await;
        }
        for change in [
            json!({names::INSTALL: null}),
            json!({names::INSTALL: "another.00000000"}),
            json!({names::TOWN_UID: SOME_UID}),
            json!({names::AGENT_UID: SOME_UID}),
        ] {
            for who in [&people.anybody, &people.administrator] {
                object.refuses(who, &Ask::Merge(labelled(change.clone())), &REFUSED_CHILD).await;
            }
        }
        object.lets(&people.anybody, &Ask::Merge(labelled(json!({"team": "blue"})))).await;
    }
    // The API server copies the labels of a Binding to the pod.
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "somewhere"},
        "metadata": {"name": "forged", "namespace": story.namespace, "labels": {names::INSTALL: ours}},
    });
    let path = format!("/api/v1/namespaces/{}/pods/forged/binding", story.namespace);
    let request = http::Request::post(path).body(serde_json::to_vec(&binding).unwrap()).unwrap();
    let said = people.anybody.request::<Value>(request).await.unwrap_err().to_string();
    assert!(REFUSED_CHILD.iter().all(|words| said.contains(words)), "{said}");
}

// S6: with the label of another installation and `abandon`, an object passes the policies. The next request would then
// set our label.
async fn foreign_label_cannot_be_given_up_for_ours_by_a_second_request(story: Story) {
    let people = People::of(&story).await;
    let ours = story.cluster.install_label();
    let town = Object::town(&story, "gas");
    let mut whole = labelled(json!({names::INSTALL: "another.00000000"}));
    whole["metadata"]["annotations"] = json!({names::ABANDON: "drain,credentials,agents,compute,storage"});
    whole["spec"] = json!({});
    town.create(&people.anybody, &whole).await;
    let bare = labelled(json!({names::INSTALL: null}));
    let relabel = labelled(json!({names::INSTALL: ours}));
    for ask in [
        Ask::Merge(bare.clone()),
        Ask::Merge(labelled(json!({names::INSTALL: ""}))),
        Ask::Merge(relabel.clone()),
        Ask::Apply(relabel.clone()),
        Ask::Replace(relabel.clone()),
        Ask::Json(json!([{"op": "remove", "path": "/metadata/labels"}])),
    ] {
        town.refuses(&people.anybody, &ask, &REFUSED).await;
    }
    let record = Object::tombstone(&format!("town-{}", story.town("gas").get().await.id()));
    let forged = json!({
        "metadata": {"labels": {names::INSTALL: "another.00000000"}},
        "spec": {
            "kind": "Town", "namespace": story.namespace, "name": "gas", "uid": SOME_UID, "cause": "Deleted",
            "deleteTime": "2026-01-01T00:00:00Z", "recreate": "Refuse", "expireTime": "2100-01-01T00:00:00Z",
            "children": [],
        },
    });
    record.create(&people.anybody, &forged).await;
    for ask in [Ask::Merge(bare), Ask::Merge(relabel)] {
        record.refuses(&people.anybody, &ask, &["-tombstones'", "the operator's record"]).await;
    }
    record.delete(&people.administrator).await;
}

// Decisions 5.1: the operator of this cluster does not know the object, and would never remove its finalizer.
async fn finalizer_of_another_cluster_is_removed_only_with_the_right_to_delete(story: Story) {
    let people = People::of(&story).await;
    let here = story.cluster.install_label();
    let there = format!("{INSTALL_ID}.{}", if here.ends_with(".00000000") { "11111111" } else { "00000000" });
    for (name, label, is_removable) in [("there", there.as_str(), true), ("here", here, false)] {
        let _: Town = story
            .create_object(json!({
                "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "spec": {"suspend": true},
                "metadata": {"name": name, "labels": {names::INSTALL: label}, "finalizers": [names::FINALIZER]},
            }))
            .await;
        let town = Object::town(&story, name);
        let strip = Ask::Merge(json!({"metadata": {"finalizers": null}}));
        let words = ["-cleanup-finalizer'", "the operator removes the finalizer"];
        town.refuses(&people.editor, &strip, &words).await;
        for who in [&people.anybody, &people.tenant] {
            if is_removable {
                town.lets(who, &strip).await;
            } else {
                town.refuses(who, &strip, &words).await;
            }
        }
    }
    let free = json!({"metadata": {"finalizers": null}});
    Object::town(&story, "there").change(&people.tenant, free).await;
}

async fn policy_on_labels_covers_every_kind_of_child() {
    let policies = render(NAME, NAMESPACE, &["admission-policies"], &[]);
    let policy = policies.split("\n---\n").find(|policy| policy.contains("-child-labels\n")).unwrap();
    for kind in ChildKind::MADE {
        let resource = format!("- {}s\n", kind.as_str().to_lowercase());
        assert!(policy.contains(&resource), "{resource}");
    }
}
