//! Two tenants, each with every right in its own namespace and none elsewhere.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use town_operator::api::{Agent, Tombstone, Town, names};

use crate::common::players::Players;
use crate::common::seen::Seen;
use crate::common::story::{Story, template};
use crate::common::wait::{PATIENCE, until};
use crate::remains::{busy_town, is_gone_whole, is_on_record};
use crate::stage::Stories;
use crate::words::{Told, asleep, done, polecat, works, workshop, workshop_with};

pub fn add(stories: &mut Stories) {
    stories.with_the_operator(tenant_cannot_change_the_town_of_another_tenant);
    stories.with_the_operator(forged_children_in_other_namespaces_have_no_effect);
}

async fn tenant_cannot_change_the_town_of_another_tenant(story: Story) {
    let town = busy_town(&story, "gas", &["ann"]).await;
    let before = shown(&story, &town).await;
    let theirs = story.cluster.namespace("bob").await;
    let bob = tenant(&story, &theirs).await;

    // The API server refuses each request of Bob.
    let towns: Api<Town> = Api::namespaced(bob.clone(), &story.namespace);
    let agents: Api<Agent> = Api::namespaced(bob.clone(), &story.namespace);
    let records: Api<Tombstone> = Api::all(bob.clone());
    let (at_once, as_merge) = (DeleteParams::default(), PatchParams::default());
    let mark = format!("{}@2026-01-01T00:00:00Z", town.id());
    let marked =
        Patch::Merge(json!({"metadata": {"annotations": {names::TOMBSTONE: mark}, "finalizers": null}}));
    let sleeps = Patch::Merge(json!({"spec": {"suspend": true}}));
    let record = json!({
        "apiVersion": "gastown.dev/v1alpha1", "kind": "Tombstone",
        "metadata": {"name": format!("town-{}", town.id()), "labels": {names::INSTALL: story.cluster.install_label()}},
        "spec": {
            "kind": "Town", "namespace": story.namespace, "name": "gas", "uid": town.id(), "children": [],
            "deleteTime": "2026-01-01T00:00:00Z", "cause": "Deleted", "recreate": "Refuse",
            "expireTime": "2100-01-01T00:00:00Z",
        },
    });
    let record: Tombstone = serde_json::from_value(record).unwrap();
    for (what, refused) in [
        ("delete the town", towns.delete("gas", &at_once).await.map(drop)),
        ("delete all towns", towns.delete_collection(&at_once, &ListParams::default()).await.map(drop)),
        ("mark it", towns.patch("gas", &as_merge, &marked).await.map(drop)),
        ("suspend it", towns.patch("gas", &as_merge, &sleeps).await.map(drop)),
        ("delete its agent", agents.delete("ann", &at_once).await.map(drop)),
        ("read it", towns.get("gas").await.map(drop)),
        ("write its record", records.create(&PostParams::default(), &record).await.map(drop)),
    ] {
        match refused {
            Err(kube::Error::Api(status)) if status.code == 403 => {}
            other => panic!("{what}: {other:?}"),
        }
    }

    // The policies also refuse objects in his own namespace that claim to belong to that town. Without the policies the
    // API server allows them: an administrator creates one for him, and he deletes it again.
    let labels = json!({names::TOWN_UID: town.id(), names::INSTALL: story.cluster.install_label()});
    let forged = |kind: &str, name: &str, spec: Value| {
        let version = if kind == "Pod" { "v1" } else { "gastown.dev/v1alpha1" };
        json!({
            "apiVersion": version, "kind": kind, "spec": spec,
            "metadata": {"name": name, "labels": labels, "finalizers": [names::FINALIZER]},
        })
    };
    let mut spec = polecat("b-1");
    spec["townName"] = "gas".into();
    let mut pod = forged("Pod", "ann", template()["spec"].clone());
    pod["metadata"]["finalizers"] = Value::Null;
    forge::<Pod>(&story, &bob, &theirs, pod).await;
    forge::<Town>(&story, &bob, &theirs, forged("Town", "gas", workshop())).await;
    forge::<Agent>(&story, &bob, &theirs, forged("Agent", "ann", spec)).await;
    for propagation in [DeleteParams::background(), DeleteParams::foreground()] {
        Api::<Agent>::namespaced(bob.clone(), &theirs).delete("ann", &propagation).await.ok();
        Api::<Town>::namespaced(bob.clone(), &theirs).delete("gas", &propagation).await.ok();
    }
    story.cluster.remove_namespace(&theirs).await;

    assert_eq!(shown(&story, &town).await, before);
    assert!(story.tombstone(&town).find().await.is_none());
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    is_on_record(&story, &town).await;
}

/// An attacker with every right in its own namespace.
struct Attacker {
    namespace: String,
    client: Client,
    players: Players,
}

impl Attacker {
    async fn of(story: &Story, name: &str) -> Self {
        let namespace = story.cluster.namespace(name).await;
        let client = tenant(story, &namespace).await;
        let players = Players::call(story.client(), &namespace).await;
        Self { namespace, client, players }
    }

    /// Creates an object with the labels of a child of this town and of this agent.
    async fn forges<K: crate::common::seen::Kind>(
        &self,
        story: &Story,
        name: &str,
        (town, agent): (&Town, Option<&Agent>),
        more: Value,
    ) -> Seen<K> {
        let mut labels = json!({names::TOWN_UID: town.id(), names::INSTALL: story.cluster.install_label()});
        if let Some(agent) = agent {
            labels[names::AGENT_UID] = agent.id().into();
        }
        let mut object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name, "labels": labels},
        });
        json_patch::merge(&mut object, &more);
        forge::<K>(story, &self.client, &self.namespace, object).await;
        self.sees(name)
    }

    async fn creates<K: crate::common::seen::Kind>(&self, name: &str, spec: Value) -> Seen<K> {
        let object = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name},
            "spec": spec});
        let object: K = serde_json::from_value(object).unwrap();
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        api.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        self.sees(name)
    }

    fn sees<K: crate::common::seen::Kind>(&self, name: &str) -> Seen<K> {
        Seen::new(self.client.clone(), &self.namespace, name)
    }
}

// security.md S1: the five sequences, from a namespace that sorts before the victim's and one that sorts after it.
async fn forged_children_in_other_namespaces_have_no_effect(story: Story) {
    let attackers = [Attacker::of(&story, "0").await, Attacker::of(&story, "zz").await];
    assert!(attackers[0].namespace < story.namespace && story.namespace < attackers[1].namespace);

    let town = busy_town(&story, "gas", &["ann"]).await;
    // Each attacker has a mayor with the label of the victim's town that is older than the victim's mayor.
    for attacker in &attackers {
        let own: Seen<Town> = attacker.creates("own", workshop()).await;
        own.until("is there", |town| town.is("Ready")).await;
        let mayor = json!({"spec": {"role": "Mayor", "townName": "own"}});
        let _: Seen<Agent> = attacker.forges(&story, "am", (&town, None), mayor).await;
    }
    let ann = story.agent("ann").get().await;
    story.create_agent("mayor", "gas", json!({"role": "Mayor"})).await;
    let mayor = story.agent("mayor").until("is there", |agent| agent.is("Ready")).await;
    // The second town has not started yet.
    let spec = workshop_with(json!({
        "suspend": true, "storage": {"size": "1Gi"}, "ports": [{"name": "web", "port": 8080}],
    }));
    story.create_town("late", spec).await;
    let late = story.town("late").until("sleeps", asleep).await;

    let mut forged = Vec::new();
    for attacker in &attackers {
        // A pod of the agent that appears finished.
        let hook = json!({"metadata": {"annotations": {names::HOOK: r#"{"bead":"b-1"}"#}}, "spec": template()["spec"]});
        let pod: Seen<Pod> = attacker.forges(&story, "a-done", (&town, Some(&ann)), hook).await;
        pod.until("runs", |pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"))
            .await;
        attacker.players.succeed("a-done", "").await;
        forged.push(pod);
        // A pod of each town, a claim and a Service, under other names and under the names of the naming scheme.
        let pod_spec = json!({"spec": template()["spec"]});
        for (name, of) in [("a-town", &town), ("a-late", &late), (late.child().as_str(), &late)] {
            forged.push(attacker.forges(&story, name, (of, None), pod_spec.clone()).await);
        }
        let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "none",
            "resources": {"requests": {"storage": "1Gi"}}}});
        let _: Seen<PersistentVolumeClaim> = attacker.forges(&story, "a-claim", (&late, None), claim).await;
        let service = json!({"spec": {"ports": [{"name": "theirs", "port": 1}]}});
        let _: Seen<Service> = attacker.forges(&story, "a-service", (&late, None), service).await;
    }
    let forged_pods = async || {
        let mut pods = Vec::new();
        for pod in &forged {
            let pod = pod.get().await;
            assert!(pod.metadata.deletion_timestamp.is_none(), "{}", pod.name_any());
            pods.push(pod.metadata.uid);
        }
        pods
    };
    let theirs = forged_pods().await;
    for attacker in &attackers {
        let events: Api<Event> = Api::namespaced(attacker.client.clone(), &attacker.namespace);
        until("the forged pod is named in an event", PATIENCE, async || {
            let named = |event: &Event| {
                event.reason.as_deref() == Some("OwnerElsewhere")
                    && event.regarding.as_ref().is_some_and(|object| object.name.as_deref() == Some("a-done"))
            };
            let events = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            events.items.iter().any(named).then_some(()).ok_or_else(|| "no event".into())
        })
        .await;
    }

    // The operator reconciles the towns again, with all forged objects present.
    story.town("gas").merge(json!({"spec": {"sleepAfter": "2h"}})).await;
    let seen = story.town("gas").until("was looked at again", Told::is_current).await;
    assert_eq!((seen.phase(), seen.pod_uid()), ("Running", town.pod_uid()));
    story.agent("ann").touch().await;
    let is_well = |agent: &Agent| works(agent) && done(agent).is_empty();
    story.agent("ann").stays(Duration::from_secs(3), "works on, nothing done", is_well).await;
    assert!(story.pod(&ann.child()).get().await.metadata.deletion_timestamp.is_none());
    let now = story.agent("mayor").get().await;
    assert_eq!((now.phase(), now.reason("Ready")), (mayor.phase(), "Running"), "the mayor keeps its role");
    story.town("late").merge(json!({"spec": {"suspend": false}})).await;
    let late = story
        .town("late")
        .until("starts with a pod of its own", |town| town.is("Ready") && !town.is("Asleep"))
        .await;
    let pod = story.pod(&late.child()).get().await;
    assert_eq!(late.pod_uid(), pod.metadata.uid.as_deref());
    let service = story.seen::<Service>(&late.child()).get().await;
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 8080);
    story.seen::<PersistentVolumeClaim>(&late.child()).get().await;

    // A town sleeps and a town is destroyed; the forged pods change nothing.
    story.town("late").merge(json!({"spec": {"suspend": true}})).await;
    story.town("late").until("sleeps", asleep).await;
    story.town("gas").delete().await;
    is_gone_whole(&story, &town).await;
    assert_eq!(forged_pods().await, theirs);
    for attacker in attackers {
        let service = attacker.sees::<Service>("a-service").get().await;
        assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 1);
        drop(attacker.players);
        story.cluster.remove_namespace(&attacker.namespace).await;
    }
}

/// The state of the town, its agent and its pods that an attacker could change.
async fn shown(story: &Story, town: &Town) -> Vec<Value> {
    let mut pods = story.pods(names::TOWN_UID, &town.id()).await;
    pods.sort_by_key(ResourceExt::name_any);
    let (town, ann) = (story.town("gas").get().await, story.agent("ann").get().await);
    assert_eq!((town.phase(), ann.phase()), ("Running", "Working"));
    let meant = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        json!([
            meta.uid,
            meta.generation,
            meta.labels,
            meta.annotations,
            meta.finalizers,
            meta.deletion_timestamp
        ])
    };
    [&town.metadata, &ann.metadata]
        .into_iter()
        .chain(pods.iter().map(|pod| &pod.metadata))
        .map(meant)
        .collect()
}

/// A client with every right in this namespace.
async fn tenant(story: &Story, namespace: &str) -> Client {
    let user = format!("tenant-of-{namespace}");
    let user_flag = format!("--user={user}");
    let rights =
        ["create", "rolebinding", "tenant", "--clusterrole=cluster-admin", &user_flag, "-n", namespace];
    story.cluster.kubectl(&rights);
    let client = story.cluster.client_as(&user, &[]).await;
    let towns: Api<Town> = Api::namespaced(client.clone(), namespace);
    until("the tenant has rights", PATIENCE, async || {
        towns.list(&ListParams::default()).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    client
}

/// Creates an object that the policies refuse to this tenant.
async fn forge<K: crate::common::seen::Kind>(story: &Story, who: &Client, namespace: &str, object: Value) {
    let object: K = serde_json::from_value(object).unwrap();
    let refused = Api::<K>::namespaced(who.clone(), namespace).create(&PostParams::default(), &object).await;
    let refused = refused.map(drop).unwrap_err().to_string();
    assert!(refused.contains("only the operator sets and changes the labels"), "{refused}");
    let created =
        Api::<K>::namespaced(story.client(), namespace).create(&PostParams::default(), &object).await;
    created.unwrap_or_else(|error| panic!("{}: {error}", object.name_any()));
}
