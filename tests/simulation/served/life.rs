//! The life of objects from creation to removal.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::jiff::SignedDuration;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use town_operator::api::{Agent, Town};

use super::{Stage, agent, refused, town};

#[tokio::test]
async fn deleted_town_stays_until_its_last_finalizer_is_removed() {
    let stage = Stage::new();
    let towns: Api<Town> = Api::default_namespaced(stage.client.clone());
    let made = towns.create(&PostParams::default(), &town("gas")).await.unwrap();
    assert_eq!((made.metadata.generation, made.uid().unwrap().len()), (Some(1), 36));
    assert_eq!(made.metadata.creation_timestamp.as_ref().unwrap().0.to_string(), "2030-01-01T00:00:00Z");
    assert_eq!(
        refused(towns.create(&PostParams::default(), &town("gas")).await),
        (409, "AlreadyExists".into())
    );

    let finalizer = json!({"metadata": {"finalizers": ["gastown.dev/cleanup"]}});
    let held = towns.patch("gas", &PatchParams::default(), &Patch::Merge(&finalizer)).await.unwrap();
    let again = towns.patch("gas", &PatchParams::default(), &Patch::Merge(&finalizer)).await.unwrap();
    assert_eq!(held.resource_version(), again.resource_version(), "what changes nothing writes nothing");
    assert_ne!(held.resource_version(), made.resource_version());
    assert_eq!(held.metadata.generation, Some(1), "a finalizer is not of the spec");

    stage.world().now += SignedDuration::from_secs(5);
    let going = towns.delete("gas", &DeleteParams::background()).await.unwrap().left().unwrap();
    assert_eq!(going.metadata.generation, Some(2));
    assert_eq!(going.metadata.deletion_timestamp.as_ref().unwrap().0.to_string(), "2030-01-01T00:00:05Z");
    assert_eq!(going.metadata.deletion_grace_period_seconds, Some(0));
    let more = json!({"metadata": {"finalizers": ["gastown.dev/cleanup", "example.com/late"]}});
    let late = towns.patch("gas", &PatchParams::default(), &Patch::Merge(&more)).await;
    assert_eq!(refused(late), (422, "Invalid".into()), "no new finalizer on what is going");

    let off: json_patch::Patch = serde_json::from_value(json!([
        {"op": "test", "path": "/metadata/uid", "value": made.uid()},
        {"op": "remove", "path": "/metadata/finalizers/0"},
    ]))
    .unwrap();
    towns.patch("gas", &PatchParams::default(), &Patch::Json::<()>(off)).await.unwrap();
    assert_eq!(towns.get_opt("gas").await.unwrap(), None);
}

#[tokio::test]
async fn status_and_spec_are_written_separately() {
    let stage = Stage::new();
    let towns: Api<Town> = Api::default_namespaced(stage.client.clone());
    let mut gas = towns.create(&PostParams::default(), &town("gas")).await.unwrap();
    gas.spec.suspend = true;
    gas.status = serde_json::from_value(json!({"phase": "Idle"})).unwrap();
    let told = towns.replace_status("gas", &PostParams::default(), &gas).await.unwrap();
    assert_eq!(told.status.as_ref().unwrap().phase.as_deref(), Some("Idle"));
    assert!(!told.spec.suspend, "a write of the status leaves the spec");
    assert_eq!(told.metadata.generation, Some(1));
    let outdated = towns.replace_status("gas", &PostParams::default(), &gas).await;
    assert_eq!(refused(outdated), (409, "Conflict".into()));

    gas.metadata.resource_version = told.resource_version();
    gas.status = None;
    let told = towns.replace("gas", &PostParams::default(), &gas).await.unwrap();
    assert!(told.spec.suspend && told.status.is_some(), "a write of the rest leaves the status");
    assert_eq!(told.metadata.generation, Some(2));
}

#[tokio::test]
async fn delete_with_another_uid_is_a_conflict() {
    let stage = Stage::new();
    let secrets: Api<Secret> = Api::default_namespaced(stage.client.clone());
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "s"}})).unwrap();
    let made = secrets.create(&PostParams::default(), &secret).await.unwrap();
    let exactly = |uid: &str| DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.into()), resource_version: None }),
        ..DeleteParams::default()
    };
    assert_eq!(refused(secrets.delete("s", &exactly("another")).await), (409, "Conflict".into()));
    secrets.delete("s", &exactly(&made.uid().unwrap())).await.unwrap();
    assert_eq!(refused(secrets.delete("s", &DeleteParams::default()).await), (404, "NotFound".into()));
}

#[tokio::test]
async fn patch_with_another_uid_or_version_is_refused() {
    let stage = Stage::new();
    let towns: Api<Town> = Api::default_namespaced(stage.client.clone());
    towns.create(&PostParams::default(), &town("gas")).await.unwrap();
    for metadata in [json!({"uid": "another"}), json!({"resourceVersion": "1"})] {
        let patch = json!({"metadata": metadata});
        let (code, _) = refused(towns.patch("gas", &PatchParams::default(), &Patch::Merge(&patch)).await);
        assert!(matches!(code, 409 | 422), "{code}");
    }
}

#[tokio::test]
async fn schema_defaults_and_rules_are_enforced() {
    let stage = Stage::new();
    let agents: Api<Agent> = Api::default_namespaced(stage.client.clone());
    let made =
        agents.create(&PostParams::default(), &agent("a", json!({"townName": "gas", "role": "Crew"}))).await;
    assert_eq!(made.unwrap().spec.retry.limit, 5, "the default of the schema");
    let patch = json!({"spec": {"townName": "other"}});
    let moved = agents.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await;
    assert_eq!(refused(moved), (422, "Invalid".into()), "the town of an agent is for ever");
    let raw: Api<kube::core::DynamicObject> =
        Api::default_namespaced_with(stage.client.clone(), &kube::core::ApiResource::erase::<Agent>(&()));
    let patch = json!({"spec": {"retry": {"limit": 1000}, "unknown": 1}});
    let much = raw.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await;
    assert_eq!(refused(much), (422, "Invalid".into()), "at most 100");
    let patch = json!({"spec": {"unknown": 1}});
    let kept = raw.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(kept.data["spec"].get("unknown"), None, "what the schema does not know is dropped");
}

#[tokio::test]
async fn lists_are_filtered_and_their_pages_share_one_version() {
    let stage = Stage::new();
    let agents: Api<Agent> = Api::default_namespaced(stage.client.clone());
    for number in 0..5 {
        let mut one = agent(
            &format!("a{number}"),
            json!({"townName": if number == 3 { "b" } else { "a" }, "role": "Crew"}),
        );
        one.metadata.labels = Some([("n".to_owned(), number.to_string())].into());
        agents.create(&PostParams::default(), &one).await.unwrap();
    }
    let names = |list: &kube::core::ObjectList<Agent>| -> Vec<String> {
        list.items.iter().map(ResourceExt::name_any).collect()
    };
    let first = agents.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(
        (names(&first), first.metadata.remaining_item_count),
        (vec!["a0".into(), "a1".into()], Some(3))
    );
    agents.delete("a3", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    let rest = agents.list(&ListParams::default().limit(9).continue_token(&token)).await.unwrap();
    assert_eq!(names(&rest), ["a2", "a3", "a4"], "the next page shows what was there at the first");
    assert_eq!(rest.metadata.resource_version, first.metadata.resource_version);
    stage.world().compact();
    let late = agents.list(&ListParams::default().continue_token(&token)).await;
    assert_eq!(refused(late), (410, "Expired".into()));

    let some = agents.list(&ListParams::default().labels("n in (1,4),n!=4")).await.unwrap();
    assert_eq!(names(&some), ["a1"]);
    let some = agents.list(&ListParams::default().fields("spec.townName=a,metadata.name!=a0")).await.unwrap();
    assert_eq!(names(&some), ["a1", "a2", "a4"]);
    let none = agents.list(&ListParams::default().fields("spec.role=crew")).await;
    assert_eq!(refused(none), (400, "BadRequest".into()));
    let metadata = agents.list_metadata(&ListParams::default().limit(1)).await.unwrap();
    assert_eq!(metadata.items[0].name_any(), "a0");
}

#[tokio::test]
async fn server_stores_every_kind_of_the_operator() {
    async fn keep<K>(stage: &Stage, object: Value)
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::default_namespaced(stage.client.clone());
        let object: K = serde_json::from_value(object).unwrap();
        let made = api.create(&PostParams::default(), &object).await.unwrap();
        let labels = json!({"metadata": {"labels": {"a": "b"}, "uid": made.uid()}});
        api.patch("x", &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
        assert_eq!(api.get("x").await.unwrap().labels().get("a").map(String::as_str), Some("b"));
        assert_eq!(api.list(&ListParams::default().labels("a=b")).await.unwrap().items.len(), 1);
        api.delete("x", &DeleteParams::default()).await.unwrap();
    }
    let stage = Stage::new();
    let container = json!({"name": "c", "image": "i"});
    keep::<Pod>(&stage, json!({"metadata": {"name": "x"}, "spec": {"containers": [container]}})).await;
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    keep::<PersistentVolumeClaim>(&stage, json!({"metadata": {"name": "x"}, "spec": claim})).await;
    keep::<Service>(&stage, json!({"metadata": {"name": "x"}, "spec": {"ports": [{"port": 80}]}})).await;
    keep::<Secret>(&stage, json!({"metadata": {"name": "x"}, "stringData": {"token": "t"}})).await;
    keep::<Lease>(&stage, json!({"metadata": {"name": "x"}})).await;
    let event = json!({"metadata": {"name": "x"}, "eventTime": "2030-01-01T00:00:00.000000Z", "reason": "R"});
    keep::<k8s_openapi::api::events::v1::Event>(&stage, event).await;
    assert!(stage.client.apiserver_version().await.unwrap().minor.parse::<u32>().unwrap() >= 32);
}
