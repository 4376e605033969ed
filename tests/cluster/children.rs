//! The children of a town besides pods: its Service, its token, its volume; and the Secrets that its spec names.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use town_operator::api::{Town, names};

use crate::common::story::Story;
use crate::common::wait::{PATIENCE, until};
use crate::stage::Stories;
use crate::words::{Told, polecat, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.alone(claim_grows_when_its_class_allows_and_reports_the_refusal_otherwise);
    stories.alone(concurrent_starts_stay_within_the_limit);
    stories.with_the_operator(service_is_created_changed_and_deleted_with_the_ports_of_the_spec);
    stories.with_the_operator(service_offers_each_port_as_the_spec_says);
    stories.with_the_operator(claim_follows_the_labels_and_annotations_of_the_spec);
    stories.with_the_operator(service_is_deleted_with_its_town);
    stories.with_the_operator(foreign_service_with_the_name_of_a_child_is_reported_and_kept);
    stories.with_the_operator(activity_token_is_created_once_and_deleted_with_its_town);
    stories.with_the_operator(agent_token_differs_from_the_town_token_and_is_deleted_with_its_agent);
    stories.with_the_operator(condition_names_a_missing_secret_and_the_pod_waits_for_it);
    stories.with_the_operator(agent_waits_for_the_credentials_secret_of_its_rig);
    stories.with_the_operator(retained_claims_outlive_their_town_without_an_owner);
}

/// A town with an activity probe and without a server that answers.
fn asked() -> Value {
    workshop_with(json!({"activityProbe": {"port": 8080}}))
}

fn ports(service: &Service) -> Vec<(String, i32)> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.map(|port| (port.name.clone().unwrap_or_default(), port.port)).collect()
}

async fn service_is_created_changed_and_deleted_with_the_ports_of_the_spec(story: Story) {
    story.create_town("hall", workshop_with(json!({"ports": [{"name": "web", "port": 8080}]}))).await;
    let town = story.town("hall").until("is idle", |town| town.phase() == "Idle").await;
    let service = story.seen::<Service>(&town.child()).get().await;
    assert_eq!(ports(&service), [("web".into(), 8080)]);
    assert_eq!(town.status.as_ref().unwrap().service.as_deref(), Some(town.child().as_str()));
    assert_eq!(service.labels()[names::INSTALL], story.cluster.install_label());
    assert_eq!(service.owner_references()[0].uid, town.id());
    // The pods of its agents also carry the town's UID.
    story.create_agent("cat", "hall", polecat("b-1")).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let selector = service.spec.as_ref().unwrap().selector.clone().unwrap();
    let selected = |labels: &std::collections::BTreeMap<String, String>| {
        selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    assert!(selected(story.pod(&town.child()).get().await.labels()));
    assert!(!selected(story.pod(&cat.child()).get().await.labels()));

    let more = json!([{"name": "web", "port": 8080}, {"name": "chat", "port": 9090}]);
    story.town("hall").merge(json!({"spec": {"ports": more}})).await;
    let wider = story.seen::<Service>(&town.child()).until("offers both", |s| ports(s).len() == 2).await;
    assert_eq!(wider.uid(), service.uid(), "it is changed, not replaced: its address stays");

    story.town("hall").merge(json!({"spec": {"ports": null}})).await;
    story.seen::<Service>(&town.child()).gone().await;
    story.town("hall").until("names none", |town| town.status.as_ref().unwrap().service.is_none()).await;
}

async fn service_offers_each_port_as_the_spec_says(story: Story) {
    let dns = |target: Value| {
        json!([
            {"name": "dns", "port": 53, "targetPort": target, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "targetPort": 5353, "appProtocol": "example.com/dns"},
        ])
    };
    story.create_town("hall", workshop_with(json!({"ports": dns(json!("query"))}))).await;
    let town = story.town("hall").until("is idle", |town| town.phase() == "Idle").await;
    let service = story.seen::<Service>(&town.child());
    let offers = |service: &Service| -> Vec<(i32, String, String, Option<String>)> {
        let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        ports
            .map(|port| {
                let target = match port.target_port.clone().unwrap() {
                    IntOrString::Int(number) => number.to_string(),
                    IntOrString::String(name) => name,
                };
                (port.port, target, port.protocol.clone().unwrap(), port.app_protocol.clone())
            })
            .collect()
    };
    let tcp = || (53, "5353".to_owned(), "TCP".to_owned(), Some("example.com/dns".to_owned()));
    assert_eq!(offers(&service.get().await), [(53, "query".into(), "UDP".into(), None), tcp()]);
    story.town("hall").merge(json!({"spec": {"ports": dns(json!(1053))}})).await;
    service
        .until("has the new target", |s| offers(s) == [(53, "1053".into(), "UDP".into(), None), tcp()])
        .await;
}

async fn claim_follows_the_labels_and_annotations_of_the_spec(story: Story) {
    let storage =
        json!({"size": "1Gi", "labels": {"team": "ours", "tier": "gold"}, "annotations": {"cost": "1"}});
    let town = story.create_town("hall", workshop_with(json!({"storage": storage}))).await;
    story.town("hall").until("is idle", |town| town.phase() == "Idle").await;
    let claim = story.seen::<PersistentVolumeClaim>(&town.child());
    let made = claim.get().await;
    let label = |claim: &PersistentVolumeClaim, key: &str| claim.labels().get(key).cloned();
    assert_eq!([label(&made, "team"), label(&made, "tier")], [Some("ours".into()), Some("gold".into())]);
    assert_eq!(made.annotations().get("cost").map(String::as_str), Some("1"));

    let storage = json!({"labels": {"team": "theirs", "tier": null}, "annotations": null});
    story.town("hall").merge(json!({"spec": {"storage": storage}})).await;
    let changed =
        claim.until("has the new labels", |claim| label(claim, "team") == Some("theirs".into())).await;
    assert_eq!((label(&changed, "tier"), changed.annotations().get("cost")), (None, None));
    assert_eq!(label(&changed, names::TOWN_UID), town.uid(), "the operator's own labels stay");
}

async fn service_is_deleted_with_its_town(story: Story) {
    story.create_town("hall", workshop_with(json!({"ports": [{"name": "web", "port": 8080}]}))).await;
    let town = story.town("hall").until("is idle", |town| town.phase() == "Idle").await;
    let service = story.seen::<Service>(&town.child());
    service.get().await;
    // The Service remains during sleep, because its purpose is a stable name.
    story.town("hall").merge(json!({"spec": {"suspend": true}})).await;
    story.town("hall").until("sleeps", |town| town.phase() == "Asleep").await;
    service.get().await;
    story.town("hall").delete().await;
    story.town("hall").gone().await;
    assert_eq!(story.children(&town.id()).await, [""; 0], "nothing is left for the garbage collector");
}

async fn foreign_service_with_the_name_of_a_child_is_reported_and_kept(story: Story) {
    let town = story.create_town("hall", workshop_with(json!({"suspend": true}))).await;
    let theirs = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": town.child()},
        "spec": {"ports": [{"port": 1}]},
    });
    let theirs: Service = story.create_object(theirs).await;
    let wanted = json!({"ports": [{"name": "web", "port": 8080}], "suspend": false});
    story.town("hall").merge(json!({"spec": wanted})).await;
    let town = story.town("hall").until("says so", |town| town.reason("Stalled") == "NameTaken").await;
    assert!(town.message("Stalled").contains(&town.child()), "{}", town.message("Stalled"));
    story.town("hall").delete().await;
    story.town("hall").gone().await;
    let left = story.seen::<Service>(&town.child()).get().await;
    assert_eq!((left.uid(), left.resource_version()), (theirs.uid(), theirs.resource_version()));
}

async fn activity_token_is_created_once_and_deleted_with_its_town(story: Story) {
    story.create_town("hall", asked()).await;
    let town = story.town("hall").until("has its pod", |town| town.pod_uid().is_some()).await;
    let secret = story.seen::<Secret>(&town.child());
    let made = secret.get().await;
    let token = &made.data.as_ref().unwrap()["token"].0;
    assert_eq!(token.len(), 64, "256 bits in hexadecimal digits");
    assert_eq!(made.owner_references()[0].uid, town.id());

    story.town("hall").merge(json!({"spec": {"suspend": true}})).await;
    story.town("hall").until("sleeps", |town| town.phase() == "Asleep").await;
    story.town("hall").merge(json!({"spec": {"suspend": false}})).await;
    story.pod(&town.child()).until("comes back", |_| true).await;
    let again = secret.get().await;
    assert_eq!((again.uid(), again.resource_version()), (made.uid(), made.resource_version()));

    story.town("hall").delete().await;
    story.town("hall").gone().await;
    assert_eq!(story.children(&town.id()).await, [""; 0]);
}

async fn agent_token_differs_from_the_town_token_and_is_deleted_with_its_agent(story: Story) {
    story.create_town("hall", asked()).await;
    let town = story.town("hall").until("has its pod", |town| town.pod_uid().is_some()).await;
    story.create_agent("mayor", "hall", json!({"role": "Mayor", "activityProbe": {"port": 8080}})).await;
    let mayor = story.agent("mayor").until("has its pod", |agent| agent.pod_uid().is_some()).await;
    let token = async |name: &str| story.seen::<Secret>(name).get().await.data.unwrap()["token"].0.clone();
    assert_ne!(token(&town.child()).await, token(&mayor.child()).await);
    story.agent("mayor").delete().await;
    story.agent("mayor").gone().await;
    assert_eq!(story.children(&mayor.id()).await, [""; 0]);
    story.seen::<Secret>(&town.child()).get().await;
}

async fn condition_names_a_missing_secret_and_the_pod_waits_for_it(story: Story) {
    let probe = json!({"port": 8080, "tokenSecretName": "theirs"});
    let town = story.create_town("hall", workshop_with(json!({"activityProbe": probe}))).await;
    let named = |town: &Town| town.reason("Degraded") == "SecretNotFound";
    let waiting = story.town("hall").until("names what is missing", named).await;
    let message = waiting.message("Degraded");
    let secret = format!("{}/theirs", story.namespace);
    for word in [secret.as_str(), "token", "spec.activityProbe.tokenSecretName"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(!waiting.is("Stalled"), "it goes on by itself once the Secret is there");
    assert!(story.pod(&town.child()).find().await.is_none(), "a pod could not start");

    // A Secret without the key is not sufficient.
    let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs"}});
    let theirs: Secret = story.create_object(theirs).await;
    story
        .town("hall")
        .stays(Duration::from_secs(3), "waits for the key", |town| {
            named(town) && town.resource_version() == waiting.resource_version()
        })
        .await;
    story.seen::<Secret>("theirs").merge(json!({"stringData": {"token": "open"}})).await;
    story.pod(&town.child()).until("is made", |_| true).await;
    story.town("hall").until("is well", |town| town.reason("Degraded") != "SecretNotFound").await;

    story.town("hall").delete().await;
    story.town("hall").gone().await;
    let left = story.seen::<Secret>("theirs").get().await;
    assert_eq!(left.uid(), theirs.uid(), "what the user named is never touched");
}

async fn agent_waits_for_the_credentials_secret_of_its_rig(story: Story) {
    let rigs = json!([{"name": "core", "credentialsSecretName": "deploy-key"}]);
    story.create_town("shop", workshop_with(json!({"rigs": rigs}))).await;
    story.create_agent("cat", "shop", polecat("b-1")).await;
    let cat = story
        .agent("cat")
        .until("names what is missing", |agent| agent.reason("Degraded") == "SecretNotFound")
        .await;
    assert!(cat.message("Degraded").contains("deploy-key"), "{}", cat.message("Degraded"));
    assert!(story.pod(&cat.child()).find().await.is_none());
    let key = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "deploy-key"}});
    let _: Secret = story.create_object(key).await;
    story.agent("cat").until("works", |agent| agent.phase() == "Working" && !agent.is("Degraded")).await;
}

async fn retained_claims_outlive_their_town_without_an_owner(story: Story) {
    let storage = json!({"size": "1Gi", "retainPolicy": "Retain"});
    story.create_town("gas", workshop_with(json!({"storage": storage}))).await;
    let mut spec = polecat("b-1");
    spec["storage"] = storage;
    story.create_agent("cat", "gas", spec).await;
    let cat = story.agent("cat").until("works", |agent| agent.phase() == "Working").await;
    let town = story.town("gas").until("has its pod", |town| town.is("Ready")).await;
    let claim = story.seen::<PersistentVolumeClaim>(&town.child());
    let before = claim.get().await;
    story.town("gas").delete().await;
    story.town("gas").gone().await;

    for (kind, name, child) in [("Town", "gas", town.child()), ("Agent", "cat", cat.child())] {
        let kept = story.seen::<PersistentVolumeClaim>(&child).get().await;
        assert_eq!(kept.metadata.deletion_timestamp, None);
        for label in [names::TOWN_UID, names::AGENT_UID, names::INSTALL, names::APP_MANAGED_BY] {
            assert!(!kept.labels().contains_key(label), "{label}");
        }
        let from = format!("{kind}/{}/{name}", story.namespace);
        assert_eq!(kept.annotations().get(names::RETAINED_FROM), Some(&from));
        assert!(!kept.annotations().contains_key(names::OWNER));
    }
    assert_eq!(story.children(&town.id()).await, [""; 0]);
    let events = story.kubectl(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
    let told = format!("PersistentVolumeClaim {}", town.child());
    assert!(events.contains("; retained: ") && events.contains(&told), "{events}");

    // Another town can use the claim, which still has no owner.
    let used = json!({"storage": {"existingClaimName": town.child()}});
    story.create_town("oil", workshop_with(used)).await;
    story.town("oil").until("is idle", |town| town.phase() == "Idle").await;
    story.town("oil").delete().await;
    story.town("oil").gone().await;
    let after = claim.get().await;
    assert_eq!((after.uid(), after.metadata.deletion_timestamp), (before.uid(), None));
}

async fn claim_grows_when_its_class_allows_and_reports_the_refusal_otherwise(story: Story) {
    let _operator = story.cluster.operator(&[]).await;
    let classes: Api<StorageClass> = Api::all(story.client());
    for (name, grows) in [("elastic", true), ("rigid", false)] {
        let class = json!({
            "metadata": {"name": name}, "provisioner": "kubernetes.io/host-path",
            "allowVolumeExpansion": grows,
        });
        let class: StorageClass = serde_json::from_value(class).unwrap();
        classes.create(&PostParams::default(), &class).await.unwrap();
        let storage = json!({"size": "1Gi", "storageClassName": name});
        story.create_town(name, workshop_with(json!({"storage": storage}))).await;
    }
    for name in ["elastic", "rigid"] {
        let town = story.town(name).until("is idle", |town| town.phase() == "Idle").await;
        let bound = |claim: &PersistentVolumeClaim| {
            claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
        };
        story.seen::<PersistentVolumeClaim>(&town.child()).until("is bound", bound).await;
        story.town(name).merge(json!({"spec": {"storage": {"size": "2Gi"}}})).await;
    }
    let asks = |claim: &PersistentVolumeClaim| {
        let spec = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
        spec.and_then(|requests| requests.get("storage")).map(|size| size.0.clone())
    };
    let elastic = story.town("elastic").get().await;
    story
        .seen::<PersistentVolumeClaim>(&elastic.child())
        .until("asks for more", |claim| asks(claim).as_deref() == Some("2Gi"))
        .await;

    let refused = |town: &Town| town.message("Degraded").contains("must support resize");
    let rigid = story.town("rigid").until("says what was refused", refused).await;
    let claim = story.seen::<PersistentVolumeClaim>(&rigid.child()).get().await;
    assert_eq!(asks(&claim).as_deref(), Some("1Gi"));
    story.town("rigid").delete().await;
    story.town("rigid").gone().await;
}

async fn concurrent_starts_stay_within_the_limit(story: Story) {
    let operator =
        story.cluster.operator(&["--max-concurrent-starts=1", "--apiserver-request-timeout=5s"]).await;
    story.players.run_new_pods(false).await;
    let has_pod = async |town: &Town| story.pod(&town.child()).find().await.is_some();
    let first = story.create_town("first", workshop()).await;
    story.pod(&first.child()).until("is there", |_| true).await;
    let second = story.create_town("second", workshop()).await;
    story.town("second").until("waits", |town| town.reason("Ready") == "WaitingForTurn").await;
    let third = story.create_town("third", workshop()).await;
    story.town("third").until("waits", |town| town.reason("Ready") == "WaitingForTurn").await;
    assert!(!has_pod(&second).await && !has_pod(&third).await);

    // A starting town keeps its place over a restart of the operator.
    operator.restart().await;
    story
        .town("second")
        .stays(Duration::from_secs(3), "waits", |town| town.reason("Ready") == "WaitingForTurn")
        .await;
    assert!(!has_pod(&second).await && !has_pod(&third).await);

    // The start of the first town fails: the next town takes its place.
    story.players.bind(&first.child()).await;
    let pulling = json!({"status": {"phase": "Pending", "containerStatuses": [{
        "name": "main", "image": "nothing:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
    }]}});
    story.pod(&first.child()).merge_status(pulling).await;
    until("one of those who waited starts", PATIENCE, async || {
        if has_pod(&second).await || has_pod(&third).await { Ok(()) } else { Err("both wait".into()) }
    })
    .await;
    assert!(!(has_pod(&second).await && has_pod(&third).await), "one at a time");

    // A deleted town gives up its place, and towns that start successfully free theirs.
    story.town("first").delete().await;
    story.town("first").gone().await;
    story.players.run_new_pods(true).await;
    for name in ["second", "third"] {
        story.town(name).until("is idle", |town| town.phase() == "Idle").await;
    }
}
