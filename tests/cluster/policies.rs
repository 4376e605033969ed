//! The admission policies of the chart: the refusals, their messages, and the exempt users. All stories with the
//! operator run under the policies.

use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use town_operator::api::{Town, names};

use crate::asking::{Ask, Object};
use crate::common::account::{Account, NAMESPACE};
use crate::common::chart::render;
use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::people::{People, every_verb};
use crate::stage::Stories;
use crate::words::{Told, idle, workshop};

/// The text with which a refusal names the exempt users.
const ADMINISTRATORS: &str = "administrators (users with the verb administer on towns.gastown.dev) may";

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(tombstone_annotation_is_removed_only_by_administrators_and_the_operator);
    stories.with_the_operator(tombstone_annotation_of_another_uid_is_removed_by_any_editor);
    stories.with_the_operator(finalizer_is_removed_only_by_the_operator_and_administrators);
    stories.with_the_operator(abandon_annotation_is_set_only_by_administrators);
    stories.with_the_operator(protected_town_is_deleted_only_by_kubernetes_controllers);
    stories.alone(tombstones_are_written_only_by_the_operator_and_administrators);
    stories.alone(installations_guard_their_own_objects_side_by_side);
}

fn annotate(key: &str, value: impl Into<Value>) -> Value {
    json!({"metadata": {"annotations": {key: value.into()}}})
}

fn finalizers(list: impl Into<Value>) -> Value {
    json!({"metadata": {"finalizers": list.into()}})
}

/// A town and its agent, under the control of the operator.
async fn a_town_and_its_agent(story: &Story) -> [Object; 2] {
    story.create_town("gas", workshop()).await;
    story.create_agent("ann", "gas", json!({"role": "Crew"})).await;
    story.town("gas").until("is idle", idle).await;
    story.agent("ann").until("is ready", |agent| agent.is("Ready")).await;
    [Object::town(story, "gas"), Object::agent(story, "ann")]
}

async fn tombstone_annotation_is_removed_only_by_administrators_and_the_operator(story: Story) {
    let people = People::of(&story).await;
    let words = ["-deleted-annotation'", "names this very object", ADMINISTRATORS, "create a new object"];
    for object in a_town_and_its_agent(&story).await {
        let uid = object.api(&people.anybody).get(object.name()).await.unwrap().uid().unwrap();
        let mark = format!("{uid}@2026-01-01T00:00:00Z");
        // Any user with the verb `update` may set the mark.
        let marked = annotate(names::TOMBSTONE, mark.clone());
        let manifest = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": object.kind(), "metadata": marked["metadata"]});
        let gitops = PatchParams::apply("gitops");
        object.api(&people.anybody).patch(object.name(), &gitops, &Patch::Apply(manifest)).await.unwrap();

        let undo = [
            Ask::Merge(annotate(names::TOMBSTONE, Value::Null)),
            Ask::Merge(annotate(names::TOMBSTONE, "")),
            Ask::Merge(annotate(names::TOMBSTONE, format!("{uid}@2026-01-01T00:00:01Z"))),
            Ask::Merge(json!({"metadata": {"annotations": null}})),
            Ask::Json(json!([{"op": "remove", "path": "/metadata/annotations"}])),
            // The manifest lacks the mark, or has another value.
            Ask::Apply(json!({"metadata": {}})),
            Ask::Apply(annotate(names::TOMBSTONE, "x")),
            Ask::Replace(json!({"metadata": {"annotations": null}})),
        ];
        for ask in &undo {
            object.refuses(&people.anybody, ask, &words).await;
        }
        object.lets(&people.administrator, &undo[0]).await;
        object.lets(&people.administrator, &undo[3]).await;
        object.lets(&people.operator, &undo[0]).await;
        // An update of the status cannot change an annotation.
        let by_status = undo_by_status(&object, &people.anybody).await;
        assert_eq!(by_status.annotations().get(names::TOMBSTONE), Some(&mark));

        for ask in [
            Ask::Merge(annotate("example.com/note", "seen")),
            Ask::Merge(marked.clone()),
            Ask::Replace(json!({"metadata": {"labels": {"team": "blue"}}})),
            Ask::Delete,
        ] {
            object.lets(&people.anybody, &ask).await;
        }
        object.lets(&people.namespace_controller, &Ask::Delete).await;
        let orphaned = finalizers(json!([names::FINALIZER, "orphan"]));
        object.lets(&people.garbage_collector, &Ask::Merge(orphaned)).await;
    }
}

async fn undo_by_status(object: &Object, who: &Client) -> DynamicObject {
    let patch = annotate(names::TOMBSTONE, Value::Null);
    object.api(who).patch_status(object.name(), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
}

// I-restored.
async fn tombstone_annotation_of_another_uid_is_removed_by_any_editor(story: Story) {
    let people = People::of(&story).await;
    for object in a_town_and_its_agent(&story).await {
        for mark in ["11111111-2222-3333-4444-555555555555@2026-01-01T00:00:00Z", ""] {
            object.change(&people.anybody, annotate(names::TOMBSTONE, mark)).await;
            object.lets(&people.anybody, &Ask::Merge(annotate(names::TOMBSTONE, Value::Null))).await;
        }
        // The object has no annotations at all.
        object.change(&people.anybody, json!({"metadata": {"annotations": null}})).await;
        object.lets(&people.anybody, &Ask::Merge(json!({"metadata": {"labels": {"team": "blue"}}}))).await;
    }
}

async fn finalizer_is_removed_only_by_the_operator_and_administrators(story: Story) {
    let people = People::of(&story).await;
    let ours = [
        "-cleanup-finalizer'",
        "the operator removes the finalizer",
        ADMINISTRATORS,
        "status.destroy.blockedBy",
    ];
    let label = ["-ownership-labels'", "only the operator", "gastown.dev/install", "leave them as they are"];
    let mut objects = a_town_and_its_agent(&story).await;
    objects.reverse();
    // The deleted objects wait for their pods.
    let pods = [story.town("gas").get().await.child(), story.agent("ann").get().await.child()];
    for pod in &pods {
        story.players.hold(pod).await;
    }
    for object in objects {
        // An older version used another name for the finalizer (K37).
        let [older] = names::OLDER_FINALIZERS;
        object
            .change(&people.anybody, finalizers(json!([names::FINALIZER, older, "example.com/hold"])))
            .await;
        let strip = [
            Ask::Merge(finalizers(Value::Null)),
            Ask::Merge(finalizers(json!(["example.com/hold"]))),
            Ask::Json(json!([{"op": "remove", "path": "/metadata/finalizers/0"}])),
            Ask::Replace(finalizers(Value::Null)),
            Ask::Merge(finalizers(json!([names::FINALIZER, "example.com/hold"]))),
            Ask::Merge(finalizers(json!([older, "example.com/hold"]))),
        ];
        let disown = [
            Ask::Merge(json!({"metadata": {"labels": {names::INSTALL: "another"}}})),
            Ask::Merge(json!({"metadata": {"labels": {names::INSTALL: null}}})),
            Ask::Merge(json!({"metadata": {"labels": null}})),
        ];
        // The rule is the same for an object that is being deleted.
        for deleting in [false, true] {
            if deleting {
                object.api(&people.anybody).delete(object.name(), &DeleteParams::default()).await.unwrap();
            }
            for ask in &strip {
                object.refuses(&people.anybody, ask, &ours).await;
            }
            for ask in &disown {
                object.refuses(&people.anybody, ask, &label).await;
            }
            object.refuses(&people.tenant, &strip[1], &ours).await;
            object.lets(&people.administrator, &strip[1]).await;
            object.refuses(&people.administrator, &disown[1], &label).await;
            for ask in [&strip[1], &disown[1]] {
                object.lets(&people.operator, ask).await;
            }
            // Other finalizers belong to their own controllers.
            let without = finalizers(json!([names::FINALIZER, older]));
            object.lets(&people.anybody, &Ask::Merge(without.clone())).await;
            object.lets(&people.garbage_collector, &Ask::Merge(without)).await;
            if !deleting {
                let settled =
                    finalizers(json!([names::FINALIZER, older, "example.com/hold", "foregroundDeletion"]));
                object.lets(&people.garbage_collector, &Ask::Merge(settled)).await;
            }
        }
        object.change(&people.administrator, finalizers(Value::Null)).await;
    }
    for pod in &pods {
        story.players.release(pod).await;
        story.pod(pod).gone().await;
    }
}

async fn abandon_annotation_is_set_only_by_administrators(story: Story) {
    let people = People::of(&story).await;
    let words = ["-abandon-annotation'", "gives up a step", ADMINISTRATORS, "status.destroy.blockedBy"];
    for object in a_town_and_its_agent(&story).await {
        let set = |step: &str| Ask::Merge(annotate(names::ABANDON, step));
        // The operator may not abandon objects on its own.
        for who in [&people.anybody, &people.tenant, &people.operator, &people.garbage_collector] {
            object.refuses(who, &set("storage"), &words).await;
        }
        object.lets(&people.administrator, &set("storage")).await;
        object.change(&people.administrator, annotate(names::ABANDON, "storage")).await;
        object.refuses(&people.anybody, &set("compute"), &words).await;
        for ask in [
            set("storage"),
            Ask::Merge(annotate("example.com/note", "seen")),
            Ask::Merge(annotate(names::ABANDON, Value::Null)),
        ] {
            object.lets(&people.anybody, &ask).await;
        }
        object.lets(&people.operator, &Ask::Merge(annotate("example.com/note", "seen"))).await;
    }
    // A create with the annotation is also refused.
    let born = Object::town(&story, "born");
    let mut whole = annotate(names::ABANDON, "storage");
    whole["spec"] = json!({});
    born.refuses(&people.anybody, &Ask::Create(whole.clone()), &words).await;
    born.lets(&people.administrator, &Ask::Create(whole)).await;
}

async fn tombstones_are_written_only_by_the_operator_and_administrators(story: Story) {
    Account::create(&story.cluster).await;
    let people = People::of(&story).await;
    let spec = json!({
        "kind": "Town", "namespace": story.namespace, "name": "gone", "uid": "11111111-2222-3333-4444-555555555555",
        "deleteTime": "2026-01-01T00:00:00Z", "cause": "Deleted", "recreate": "Refuse",
        "expireTime": "2100-01-01T00:00:00Z", "children": [],
    });
    let whole =
        json!({"metadata": {"labels": {names::INSTALL: story.cluster.install_label()}}, "spec": spec});
    let tombstone = Object::tombstone("town-11111111-2222-3333-4444-555555555555");
    let forged = ["-tombstones'", "the operator's record of what it destroyed", ADMINISTRATORS];
    let unfinished = ["-tombstones'", "is not finished", "status.phase is Destroyed or Leaked"];
    // The rule covers every label except that of another installation, which has its own policies.
    tombstone.refuses(&people.anybody, &Ask::Create(whole.clone()), &forged).await;
    tombstone.refuses(&people.anybody, &Ask::Create(json!({"spec": spec})), &forged).await;
    tombstone.lets(&people.administrator, &Ask::Create(whole.clone())).await;
    tombstone.lets(&people.operator, &Ask::Create(whole.clone())).await;
    tombstone.create(&people.operator, &whole).await;

    let writes = [
        Ask::Merge(json!({"spec": {"recreate": "Allow"}})),
        Ask::Merge(json!({"metadata": {"labels": null}})),
        Ask::Merge(json!({"metadata": {"labels": {names::INSTALL: "another"}}})),
        Ask::Status(json!({"status": {"phase": "Destroyed"}})),
    ];
    for phase in ["Destroying", "Destroyed", "Leaked"] {
        tombstone.change_status(&people.administrator, json!({"status": {"phase": phase}})).await;
        for ask in &writes {
            tombstone.refuses(&people.anybody, ask, &forged).await;
            tombstone.lets(&people.administrator, ask).await;
        }
        if phase == "Destroying" {
            tombstone.refuses(&people.anybody, &Ask::Delete, &unfinished).await;
            // S8: not every account in `kube-system` is a controller of Kubernetes.
            tombstone.refuses(&people.add_on, &Ask::Delete, &unfinished).await;
            let all = tombstone.api(&people.anybody);
            let all = all.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
            let said = all.unwrap_err().to_string();
            assert!(unfinished.iter().all(|words| said.contains(words)), "{said}");
        } else {
            tombstone.lets(&people.anybody, &Ask::Delete).await;
        }
        for who in [&people.administrator, &people.operator, &people.garbage_collector] {
            tombstone.lets(who, &Ask::Delete).await;
        }
    }
    // After a foreground deletion the garbage collector removes the last finalizer.
    let foreground =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    let tombstones = tombstone.api(&people.anybody);
    tombstones.delete(tombstone.name(), &foreground).await.unwrap();
    until("the Tombstone is gone", PATIENCE, async || {
        match tombstones.get_opt(tombstone.name()).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(left) => Err(format!("{:?}", left.metadata)),
        }
    })
    .await;
}

async fn protected_town_is_deleted_only_by_kubernetes_controllers(story: Story) {
    let people = People::of(&story).await;
    for (name, protected) in [("fort", true), ("hut", false)] {
        let mut spec = workshop();
        spec["deletionProtection"] = protected.into();
        story.create_town(name, spec).await;
        story.town(name).until("is idle", idle).await;
    }
    let fort = Object::town(&story, "fort");
    let words = [
        "-deletion-protection'",
        "the town is protected",
        "spec.deletionProtection is true",
        "Set it to false first",
    ];
    for who in [&people.anybody, &people.administrator, &people.add_on] {
        fort.refuses(who, &Ask::Delete, &words).await;
    }
    fort.refuses(&people.operator, &Ask::Delete, &["denied request"]).await;
    for who in [&people.namespace_controller, &people.garbage_collector, &people.controller_manager] {
        fort.lets(who, &Ask::Delete).await;
    }
    // A collective delete is refused, too.
    let towns = fort.api(&people.administrator);
    let all = towns.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    let said = all.unwrap_err().to_string();
    assert!(words.iter().all(|words| said.contains(words)), "{said}");
    let said = story.try_kubectl(&["delete", "towns", "--all", "--timeout=45s"]).unwrap_err();
    assert!(words.iter().all(|words| said.contains(words)), "{said}");
    story.town("hut").gone().await;
    assert_eq!(story.town("fort").get().await.metadata.deletion_timestamp, None);

    // The message names this way.
    let town = fort.change(&people.anybody, json!({"spec": {"deletionProtection": false}})).await;
    let town: Town = town.try_parse().unwrap();
    story.players.hold(&town.child()).await;
    fort.api(&people.anybody).delete("fort", &DeleteParams::default()).await.unwrap();
    // The town is already being deleted: a second delete is harmless with any spec.
    fort.change(&people.anybody, json!({"spec": {"deletionProtection": true}})).await;
    fort.lets(&people.anybody, &Ask::Delete).await;
    story.players.release(&town.child()).await;
    story.town("fort").gone().await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
}

async fn installations_guard_their_own_objects_side_by_side(story: Story) {
    story.cluster.create_namespace(NAMESPACE).await;
    for (release, values) in
        [("one", &["admissionPolicies.administrators.groups={town admins}"][..]), ("two", &[])]
    {
        let templates = ["rbac", "serviceaccount", "admission-policies", "user-roles"];
        let id = format!("installId={release}");
        let values = [values, &[id.as_str()]].concat();
        let manifests = render(release, NAMESPACE, &templates, &values);
        story.cluster.try_kubectl(&["apply", "-f", "-"], &manifests).unwrap();
    }
    let operator = async |release: &str| {
        let account = format!("system:serviceaccount:{NAMESPACE}:{release}-town-operator");
        story.cluster.client_as(&account, &[]).await
    };
    let ada = every_verb(&story, "ada", &["town admins"]).await;
    let bob = every_verb(&story, "bob", &["others"]).await;
    let (_, cluster) = story.cluster.install_label().split_once('.').unwrap();
    for (mine, other) in [("one", "two"), ("two", "one")] {
        let town: Town = story
            .create_object(json!({
                "apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "spec": {},
                "metadata": {
                    "name": mine, "labels": {names::INSTALL: format!("{mine}.{cluster}")},
                    "finalizers": [names::FINALIZER],
                },
            }))
            .await;
        let object = Object::town(&story, mine);
        object.change(&ada, annotate(names::TOMBSTONE, format!("{}@2026-01-01T00:00:00Z", town.id()))).await;
        let policy = format!("'{mine}-town-operator-");
        let abandon = Ask::Merge(annotate(names::ABANDON, "storage"));
        for ask in [Ask::Merge(finalizers(Value::Null)), Ask::Merge(annotate(names::TOMBSTONE, Value::Null))]
        {
            // The policy of the other operator refuses the request, too.
            object.refuses(&operator(other).await, &ask, &["town-operator-", "denied request"]).await;
            object.refuses(&bob, &ask, &[&policy]).await;
            object.lets(&operator(mine).await, &ask).await;
            object.lets(&ada, &ask).await;
        }
        object.refuses(&bob, &abandon, &[&policy, ADMINISTRATORS]).await;
        object.lets(&ada, &abandon).await;
    }
}
